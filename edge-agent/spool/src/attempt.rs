//! Openings that ended their process.
//!
//! redb does not promise to live on a file that was changed behind its back. Most of its panics are caught,
//! see [`crate::sound`]; one that meets another on its way out ends the process, and so would each later
//! start. A file beside the spool has a byte for each opening that has begun and not come to an end.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::open::files;
use crate::spool::{Spool, SpoolError};

/// Whether nobody has the spool at `path` open.
fn is_free(path: &Path) -> Result<(), SpoolError> {
    let tables = files(path, false)?.tables;
    match tables.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(false) => Err(SpoolError::InUse),
        Ok(true) => tables
            .unlock_range(Bound::Unbounded, Bound::Unbounded)
            .map_err(|error| SpoolError::Storage(format!("{error:?}"))),
        // Where there are no locks nobody can have one.
        Err(_) => Ok(()),
    }
}

/// An opening under way.
#[derive(Debug)]
pub struct Attempt {
    mark: PathBuf,
    before: u64,
}

impl Attempt {
    /// Begins to open the spool at `path`.
    pub fn begin(path: &Path) -> Self {
        let mark = path.with_extension("opening");
        let before = fs::metadata(&mark).map_or(0, |found| found.len());
        // Where the disk takes no byte more the opening has to do without.
        let noted = OpenOptions::new().create(true).append(true).open(&mark);
        if let Err(error) = noted.and_then(|mut file| file.write_all(&[1])) {
            tracing::debug!(mark = %mark.display(), %error, "that the spool is being opened cannot be noted");
        }
        Self { mark, before }
    }

    /// Whether the spool may be opened: after an opening that ended its process all pages are looked at
    /// first, and after one more nothing is.
    ///
    /// # Errors
    /// It may not, and is to be put aside; or somebody else has it open.
    pub fn check(&self, path: &Path) -> Result<(), SpoolError> {
        let there = fs::metadata(path).is_ok_and(|found| found.len() > 0);
        match self.before {
            _ if !there => Ok(()),
            0 => Ok(()),
            1 if Spool::look(path, |spool, _| spool.pages_are_sound())? => Ok(()),
            _ => self.check_repair(path),
        }
    }

    /// Whether the spool may be repaired in place.
    ///
    /// # Errors
    /// As [`Attempt::check`].
    pub fn check_repair(&self, path: &Path) -> Result<(), SpoolError> {
        if self.before == 0 {
            return Ok(());
        }
        is_free(path)?;
        Err(SpoolError::Corrupt(format!("{} openings in a row ended their process", self.before)))
    }

    /// It came to an end, good or bad.
    pub fn end(self) {
        if let Err(error) = fs::remove_file(&self.mark) {
            tracing::debug!(mark = %self.mark.display(), %error, "the mark of an opening cannot be removed");
        }
    }
}
