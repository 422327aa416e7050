//! A store as it is at one moment, put beside it for a backup or a check while it goes on.
//!
//! Sealed files and finished log segments are never changed, so that hard links hold them as they
//! are; of the segment that is written only the bytes count that were durable at that moment. It
//! must never hold up a flush for longer than the links take.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::StoreError;
use crate::manifest::{Contents, Manifest};
use crate::tables::sealed_paths;

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
    let path = dir.join("manifest.redb");
    // An empty file would be made a manifest, of which the next start would think no more.
    if !fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
        return Err(StoreError::Manifest(format!("{} holds no store", dir.display())));
    }
    let (manifest, contents) = Manifest::open(&path)?;
    take(dir, to, &manifest, &contents, None)
}

/// As [`snapshot`], of a store that is open: no flush may run meanwhile.
pub fn take(
    dir: &Path,
    to: &Path,
    manifest: &Manifest,
    contents: &Contents,
    end: Option<LogEnd>,
) -> Result<(), StoreError> {
    let made = || -> io::Result<()> {
        for sub in ["", "log", "sealed", "dead"] {
            DirBuilder::new().mode(0o700).create(to.join(sub))?;
        }
        Ok(())
    };
    made().map_err(StoreError::io(format!("making {}", to.display())))?;
    manifest.copy_to(&to.join("manifest.redb"))?;
    for file in &contents.files {
        let ((raw, rollup), (raw_to, rollup_to)) =
            (sealed_paths(dir, file.number), sealed_paths(to, file.number));
        let readings = file.is_whole().then_some((raw, raw_to));
        for (from, to) in readings.into_iter().chain([(rollup, rollup_to)]) {
            link(&from, &to).map_err(StoreError::io(format!("taking {}", from.display())))?;
        }
    }
    log(dir, to, contents.checkpoint.oldest_segment, end)?;
    dead(dir, to).map_err(StoreError::io("taking the dead letters"))
}

fn log(dir: &Path, to: &Path, oldest: u64, end: Option<LogEnd>) -> Result<(), StoreError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir.join("log"))?.map(|entry| Ok(entry?.path())).collect()
    };
    for path in list().map_err(StoreError::io("listing the log"))? {
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        let (Some(number), Some(name)) = (number, path.file_name()) else { continue };
        let newer = end.is_some_and(|end| number > end.segment);
        if number < oldest || newer {
            continue;
        }
        let target = to.join("log").join(name);
        let taken = match end.filter(|end| end.segment == number) {
            // What is behind them may be half a record.
            Some(end) => copy(&path, &target, Some(end.bytes)),
            None => link(&path, &target),
        };
        taken.map_err(StoreError::io(format!("taking {}", path.display())))?;
    }
    Ok(())
}

/// The dead letters, but for those that are removed meanwhile.
fn dead(dir: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir.join("dead")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        match link(&entry.path(), &to.join("dead").join(entry.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Links a file that is never changed, or copies it where links cannot be made.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => copy(from, to, None),
        linked => linked,
    }
}

fn copy(from: &Path, to: &Path, bytes: Option<u64>) -> io::Result<()> {
    let mut source = File::open(from)?.take(bytes.unwrap_or(u64::MAX));
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let copied = io::copy(&mut source, &mut target)?;
    match bytes {
        Some(bytes) if copied != bytes => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
