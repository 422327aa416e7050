//! Putting aside what cannot be read, beside the spool: it may tell more than this version can read.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::open::journal_path;
use crate::spool::SpoolError;

/// Most quarantined files that are kept beside the spool; beyond them the oldest name is reused.
const QUARANTINED_MAX: u32 = 8;

/// Where a spool's tables and its journal can be put aside.
fn places_aside(path: &Path) -> (PathBuf, PathBuf) {
    let with = |end: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let places = |n: u32| (with(format!(".quarantined-{n}")), with(format!(".quarantined-{n}.journal")));
    let free =
        (1..QUARANTINED_MAX).map(places).find(|(tables, journal)| !tables.exists() && !journal.exists());
    free.unwrap_or_else(|| places(QUARANTINED_MAX))
}

/// Keeps the bytes of a journal that cannot be read, which is then overwritten. Where there is no room
/// for them the agent works on all the same.
pub fn put_journal_aside(path: Option<&Path>, bytes: &[u8]) {
    let Some((_, aside)) = path.map(places_aside) else { return };
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
    let written = written.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => tracing::error!(aside = %aside.display(), "the spool's journal is unreadable; put aside"),
        Err(error) => tracing::error!(%error, "the spool's journal is unreadable and cannot be put aside"),
    }
}

/// Puts both files aside under the same number; the answer is where the tables are now.
pub fn quarantine(path: &Path) -> Result<PathBuf, SpoolError> {
    let (aside, journal_aside) = places_aside(path);
    std::fs::rename(path, &aside).map_err(SpoolError::failed)?;
    match std::fs::rename(journal_path(path), journal_aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(SpoolError::failed(error)),
        _ => Ok(aside),
    }
}
