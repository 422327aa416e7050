//! Openings that end their process.
//!
//! redb does not promise to live on a file that was changed behind its back. Most of its panics are caught,
//! see [`crate::sound`]; one that meets another on its way out ends the process, and so would each later
//! start. So the first panic of an opening is noted beside the spool, a byte each, and the note is removed
//! once it was caught: what is left over tells of openings that ended their process. A kill leaves none.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::Bound;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Once;

use crate::open::files;
use crate::spool::{Spool, SpoolError};

thread_local! {
    // Where a panic of the opening that is under way is to be noted.
    static MARK: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Has panics noted before whoever else is told of them.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(mark) = MARK.try_with(|mark| mark.try_borrow_mut().ok()?.take()).ok().flatten() {
                let noted = OpenOptions::new().create(true).append(true).open(mark);
                let _best_effort = noted.and_then(|mut file| file.write_all(&[1]));
            }
            others(info);
        }));
    });
}

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

/// Whether the spool at `path` may be opened, after so many openings that ended their process: after one all
/// pages are looked at first, and after two it is put aside unseen.
fn check(path: &Path, ended: u64) -> Result<(), SpoolError> {
    let there = fs::metadata(path).is_ok_and(|found| found.len() > 0);
    if !there || ended == 0 {
        return Ok(());
    }
    tracing::error!(path = %path.display(), ended, "opening the spool ended the process; it is looked at first");
    if ended == 1 && Spool::look(path, |spool, _| spool.pages_are_sound())? {
        return Ok(());
    }
    is_free(path)?;
    Err(SpoolError::Corrupt("opening it ends the process".into()))
}

/// Opens the spool at `path` by `work`, unless that has ended the process before.
///
/// # Errors
/// As `work`; or the spool is to be put aside.
pub fn attempt<T>(path: &Path, work: impl FnOnce() -> Result<T, SpoolError>) -> Result<T, SpoolError> {
    note_panics();
    let mark = path.with_extension("opening");
    let ended = fs::metadata(&mark).map_or(0, |found| found.len());
    MARK.set(Some(mark.clone()));
    let done = check(path, ended).and_then(|()| work());
    // Somebody else may have it open, and be ended by it.
    if MARK.take().is_none() || (ended > 0 && !matches!(done, Err(SpoolError::InUse))) {
        let _gone = fs::remove_file(&mark);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::sound;

    #[test]
    fn the_first_panic_is_noted_until_it_was_caught() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mark) = (dir.path().join("spool.redb"), dir.path().join("spool.opening"));
        let done: Result<(), _> = attempt(&path, || {
            assert!(!mark.exists(), "a kill leaves no note");
            let caught: Result<(), SpoolError> = sound(|| panic!("a page is not what it seems"));
            assert_eq!(fs::read(&mark).unwrap(), [1], "what ends the process leaves one");
            caught
        });
        assert!(matches!(done, Err(SpoolError::Corrupt(_))) && !mark.exists(), "{done:?}");
        assert!(std::panic::catch_unwind(|| panic!("of somebody else")).is_err());
        assert!(!mark.exists());
    }
}
