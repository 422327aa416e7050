//! The spool's files are their owner's alone: readings may tell what nobody else is to know.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tideline_spool::{SpoolError, journal_path};

const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;

fn files(path: &Path) -> [PathBuf; 2] {
    [path.to_owned(), journal_path(path)]
}

fn failed(path: &Path, error: &io::Error) -> SpoolError {
    SpoolError::Storage(format!("{}: {error}", path.display()))
}

/// Makes the missing ones of the spool's files, empty: opened later, they would be made for all to read.
///
/// # Errors
/// The disk failed.
pub fn prepare(path: &Path) -> Result<(), SpoolError> {
    for file in files(path) {
        let made = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&file);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&file, &error)),
            _ => {}
        }
    }
    Ok(())
}

/// Narrows those of the spool's files that others may open.
///
/// # Errors
/// The disk failed.
pub fn keep(path: &Path) -> Result<(), SpoolError> {
    files(path).iter().try_for_each(|file| narrow(file).map_err(|error| failed(file, &error)))
}

/// Takes the rights of all others from a file that is to be its owner's alone, and tells it. A file
/// that is somebody else's stays as it is, but for being told.
///
/// # Errors
/// The file cannot be looked at.
pub fn narrow(file: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(file)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let (path, mode) = (file.display(), format!("{:o}", mode & 0o777));
    match std::fs::set_permissions(file, Permissions::from_mode(OWNER_ONLY)) {
        Ok(()) => tracing::warn!(%path, mode, "others could open this file; now its owner alone can"),
        Err(error) => tracing::error!(%path, mode, %error, "others can open this file, and it stays so"),
    }
    Ok(())
}
