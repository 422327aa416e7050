//! Repairing a spool's file: batches that cannot be read back become gaps; a file that as a whole
//! cannot be read is put aside and a new epoch begun. No seq may ever be given out twice, so redb's
//! own way out of a damaged page, going back to an older state, is never taken here.

use std::path::{Path, PathBuf};

use redb::{ReadableDatabase, ReadableTable};

use crate::aside::quarantine;
use crate::attempt::attempt;
use crate::backend::Meter;
use crate::open::{files, open_database, open_path, sound};
use crate::spool::{BATCHES, Spool, SpoolConfig, SpoolError};

/// What a repair found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Whether the file had been closed in order; `None` when it could not be read.
    pub closed_cleanly: Option<bool>,
    /// Batches that could not be read back and were given up; those not settled are gaps now.
    pub given_up: Vec<u64>,
    /// Why the whole file could not be kept.
    pub unreadable: Option<String>,
    /// Where it was put aside.
    pub quarantined: Option<PathBuf>,
    /// Whether a new epoch was begun.
    pub created: bool,
}

impl Spool {
    /// Puts the file at `path` in order, as far as it can be, and opens it.
    ///
    /// # Errors
    /// There is no such file, it is in use, of a newer format, or the disk fails.
    pub fn repair(path: &Path, config: SpoolConfig) -> Result<(Self, RepairReport), SpoolError> {
        let mut report = RepairReport::default();
        let mended = attempt(path, || sound(|| mend(path, config, &mut report))).and_then(|()| {
            if Self::look(path, |spool, _| spool.pages_are_sound())? {
                return Ok(());
            }
            Err(SpoolError::Corrupt("pages are not as their checksums say".into()))
        });
        match mended {
            Ok(()) => {}
            Err(SpoolError::Corrupt(reason)) => {
                let aside = quarantine(path)?;
                tracing::error!(path = %path.display(), aside = %aside.display(), reason, "spool file cannot be repaired; put aside");
                report.unreadable = Some(reason);
                report.quarantined = Some(aside);
                report.created = true;
            }
            Err(error) => return Err(error),
        }
        let (spool, _) = open_path(path, config, false)?;
        Ok((spool, report))
    }

    /// The stored batches that cannot be read back.
    fn damaged(&self) -> Result<Vec<u64>, SpoolError> {
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        let table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        let mut seqs = Vec::new();
        for entry in table.iter().map_err(SpoolError::storage)? {
            let (seq, value) = entry.map_err(SpoolError::storage)?;
            if self.verify_batch(seq.value(), value.value()).is_err() {
                seqs.push(seq.value());
            }
        }
        Ok(seqs)
    }
}

fn mend(path: &Path, config: SpoolConfig, report: &mut RepairReport) -> Result<(), SpoolError> {
    let found = std::fs::metadata(path);
    let found = found.map_err(|error| SpoolError::Storage(format!("{}: {error}", path.display())))?;
    if found.len() == 0 {
        return Err(SpoolError::Corrupt("the file is empty".into()));
    }
    let meter = Meter::default();
    let opened = open_database(files(path, false)?, &meter)?;
    report.closed_cleanly = Some(opened.closed_cleanly);
    let mut spool = Spool::load(opened, config, None)?;
    report.given_up = spool.damaged()?;
    for seq in &report.given_up {
        spool.give_up_damaged(*seq)?;
    }
    Ok(())
}
