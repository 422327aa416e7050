//! The token of the local page: who knows it may write there.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::spooler::narrow;

/// Random bytes of a token.
const BYTES: usize = 16;

/// The token of a data folder; a new one is made where none is. The file is its owner's alone.
///
/// # Errors
/// The file cannot be read or made, or there is no randomness.
pub fn load(data: &Path) -> io::Result<Arc<str>> {
    let path = data.join("page.token");
    match std::fs::read_to_string(&path) {
        Ok(text) if is_token(text.trim()) => {
            narrow(&path)?;
            return Ok(text.trim().into());
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // Cut off by a crash, or empty.
        _ => {}
    }
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    narrow(&path)?;
    file.write_all(token.as_bytes())?;
    file.sync_all()?;
    Ok(token.into())
}

fn is_token(text: &str) -> bool {
    text.len() == 2 * BYTES && text.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_stays_and_its_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.token");
        let token = load(folder.path()).unwrap();
        assert!(is_token(&token));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(folder.path()).unwrap(), token);
        std::fs::write(&path, "abc").unwrap();
        assert_ne!(load(folder.path()).unwrap(), token);
    }
}
