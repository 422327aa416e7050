//! Reading a log without changing it.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{LogDisk, segments};
use super::replay::{Replay, replay};
use super::{Checkpoint, Ledgers, LogError};
use crate::files::FileSystem;

/// Segments that are only read: what a start would cut off or remove stays.
struct ReadOnly<'a>(&'a dyn FileSystem, PathBuf);

impl LogDisk for ReadOnly<'_> {
    fn list(&self) -> io::Result<Vec<u64>> {
        segments(self.0, &self.1)
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        self.0.read(&self.1.join(format!("{segment:08}.log")))
    }

    fn settle(&mut self, _segment: u64) -> io::Result<()> {
        Ok(())
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
pub fn look(files: &dyn FileSystem, dir: &Path, from: Checkpoint) -> Result<(Ledgers, Replay), LogError> {
    let (ledgers, found, _) = replay(&mut ReadOnly(files, dir.to_owned()), from, u64::MAX)?;
    Ok((ledgers, found))
}
