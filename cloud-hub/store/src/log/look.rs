//! Reading a log without changing it.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{LogDisk, segments};
use super::replay::{Replay, replay};
use super::{Checkpoint, Ledgers, LogError};

/// Segments that are only read: what a start would cut off or remove stays.
struct ReadOnly(PathBuf);

impl LogDisk for ReadOnly {
    fn list(&self) -> io::Result<Vec<u64>> {
        segments(&self.0)
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        std::fs::read(self.0.join(format!("{segment:08}.log")))
    }

    fn create(&mut self, _segment: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&mut self, _segment: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _segment: u64) -> io::Result<()> {
        Ok(())
    }
}

/// What a start would make of the log in `dir`.
///
/// # Errors
/// The folder cannot be read.
pub fn look(dir: &Path, from: Checkpoint) -> Result<(Ledgers, Replay), LogError> {
    let (ledgers, found, _) = replay(&mut ReadOnly(dir.to_owned()), from, u64::MAX)?;
    Ok((ledgers, found))
}
