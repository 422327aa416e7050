//! The inputs kept in the repository.

use std::io;
use std::path::{Path, PathBuf};

/// What libFuzzer found beyond the seeds, minimised.
pub const CORPUS: &str = "corpus";
/// What once broke something.
pub const CRASHERS: &str = "crashers";

/// The folder of `kind` of a target.
#[must_use]
pub fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

/// All inputs of a kind with their names, in the order of these.
///
/// # Errors
/// A file cannot be read. A folder that does not exist holds nothing.
pub fn inputs(kind: &str, target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let entries = match std::fs::read_dir(folder(kind, target)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
    }
    found.sort();
    Ok(found)
}
