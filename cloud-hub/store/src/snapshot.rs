//! A store as it is at one moment, put beside it for a backup or a check while it goes on.
//!
//! Sealed files and finished log segments are never changed, so that hard links hold them as they
//! are; of the segment that is written only the bytes count that were durable at that moment. It
//! must never hold up a flush for longer than the links take.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cold::{self, ColdEntry};
use crate::config::StoreError;
use crate::files::{FileSystem, OpenMode, RealFiles};
use crate::log::disk::segment_number;
use crate::manifest::{Contents, Manifest};
use crate::tables::sealed_paths;

/// Bytes that are in memory while a file is copied.
const COPY_BYTES: usize = 256 * 1024;

/// Where the log of a running store was durable: the segment that is written, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    /// The segment that is written.
    pub segment: u64,
    /// Its bytes that would survive a power cut.
    pub bytes: u64,
}

/// Puts the store in `dir`, which nobody has open, as it is into the new folder `to`.
///
/// # Errors
/// There is no store, it is open elsewhere, its manifest is damaged, or the disk failed.
pub fn snapshot(dir: &Path, to: &Path) -> Result<(), StoreError> {
    let (manifest, contents) = Manifest::open_existing(&RealFiles, dir)?;
    take((&RealFiles, dir), to, &manifest, &contents, None)
}

/// As [`snapshot`], of a store that is open: no flush may run meanwhile.
pub fn take(
    (files, dir): (&dyn FileSystem, &Path),
    to: &Path,
    manifest: &Manifest,
    contents: &Contents,
    end: Option<LogEnd>,
) -> Result<(), StoreError> {
    let made = || -> io::Result<()> {
        for sub in ["", "log", "sealed", "dead"] {
            files.create_private_dir(&to.join(sub))?;
        }
        Ok(())
    };
    made().map_err(StoreError::io(format!("making {}", to.display())))?;
    manifest.copy_to(files, &to.join("manifest.redb"))?;
    for file in &contents.files {
        let ((raw, rollup), (raw_to, rollup_to)) =
            (sealed_paths(dir, file.number), sealed_paths(to, file.number));
        let readings = file.is_whole().then_some((raw, raw_to));
        for (from, to) in readings.into_iter().chain([(rollup, rollup_to)]) {
            link(files, &from, &to).map_err(StoreError::io(format!("taking {}", from.display())))?;
        }
    }
    take_cold((files, dir), to, &contents.cold)?;
    log((files, dir), to, contents.checkpoint.oldest_segment, end)?;
    dead((files, dir), to).map_err(StoreError::io("taking the dead letters"))
}

fn take_cold(
    (files, dir): (&dyn FileSystem, &Path),
    to: &Path,
    cold: &[ColdEntry],
) -> Result<(), StoreError> {
    let days: BTreeSet<PathBuf> = cold.iter().map(|entry| cold::folder(entry.day)).collect();
    let root = days.first().map(|_| PathBuf::from(cold::FOLDER));
    for folder in root.iter().chain(&days).map(|folder| to.join(folder)) {
        let made = files.create_private_dir(&folder);
        made.map_err(StoreError::io(format!("making {}", folder.display())))?;
    }
    for entry in cold {
        let from = entry.path(dir);
        let taken = link(files, &from, &entry.path(to));
        taken.map_err(StoreError::io(format!("taking {}", from.display())))?;
    }
    Ok(())
}

fn log(
    (files, dir): (&dyn FileSystem, &Path),
    to: &Path,
    oldest: u64,
    end: Option<LogEnd>,
) -> Result<(), StoreError> {
    for path in files.list(&dir.join("log")).map_err(StoreError::io("listing the log"))? {
        let (Some(number), Some(name)) = (segment_number(&path), path.file_name()) else { continue };
        let newer = end.is_some_and(|end| number > end.segment);
        if number < oldest || newer {
            continue;
        }
        let target = to.join("log").join(name);
        let taken = match end.filter(|end| end.segment == number) {
            // What is behind them may be half a record.
            Some(end) => copy(files, &path, &target, Some(end.bytes)),
            None => link(files, &path, &target),
        };
        taken.map_err(StoreError::io(format!("taking {}", path.display())))?;
    }
    Ok(())
}

/// The dead letters, but for those that are removed meanwhile.
fn dead((files, dir): (&dyn FileSystem, &Path), to: &Path) -> io::Result<()> {
    let entries = match files.list(&dir.join("dead")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for path in entries {
        let Some(name) = path.file_name() else { continue };
        match link(files, &path, &to.join("dead").join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Links a file that is never changed, or copies it where links cannot be made.
fn link(files: &dyn FileSystem, from: &Path, to: &Path) -> io::Result<()> {
    match files.link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => copy(files, from, to, None),
        linked => linked,
    }
}

fn copy(files: &dyn FileSystem, from: &Path, to: &Path, bytes: Option<u64>) -> io::Result<()> {
    let source = files.open(from, OpenMode::Read)?;
    let mut target = files.open(to, OpenMode::CreatePrivate)?;
    let end = match bytes {
        Some(bytes) => bytes,
        None => source.stat()?.len,
    };
    let (mut at, mut part) = (0, vec![0; COPY_BYTES]);
    while at < end {
        let len = usize::try_from(end - at).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
        let part = part.get_mut(..len).unwrap_or_default();
        source.read_exact_at(part, at)?;
        target.write_all(part)?;
        at += len as u64;
    }
    Ok(())
}
