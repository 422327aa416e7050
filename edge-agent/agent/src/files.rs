//! Small files that a configuration names: certificates, authorities, passwords.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Longest of them: the authorities of a whole system have a quarter of it.
const BYTES_MAX: u64 = 1024 * 1024;

/// The text of a file. The hub may name it: a pipe would be waited for, and a device be read for ever.
///
/// # Errors
/// There is none, it is no file, too long, or no text.
pub fn text(path: &Path) -> io::Result<String> {
    let refused = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()));
    if !std::fs::metadata(path)?.is_file() {
        return refused("it is no file");
    }
    let mut text = String::new();
    let read = File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > BYTES_MAX {
        return refused(&format!("it has more than {BYTES_MAX} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, long) = (folder.path().join("a"), usize::try_from(BYTES_MAX).unwrap());
        std::fs::write(&path, "é").unwrap();
        assert_eq!(text(&path).unwrap(), "é");
        std::fs::write(&path, "a".repeat(long)).unwrap();
        assert_eq!(text(&path).unwrap().len(), long);
        std::fs::write(&path, "a".repeat(long + 1)).unwrap();
        assert!(text(&path).unwrap_err().to_string().contains("more than 1048576 bytes"));
        for path in [Path::new("/dev/zero"), folder.path()] {
            assert!(text(path).unwrap_err().to_string().contains("no file"), "{}", path.display());
        }
    }
}
