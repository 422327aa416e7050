//! Small files that a configuration names: certificates, authorities, passwords; and texts that people write.

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

/// A text that people write, as a profile: what is no UTF-8 is told with its line.
///
/// # Errors
/// There is none, or where it is no text.
pub fn written(path: &Path) -> io::Result<String> {
    String::from_utf8(std::fs::read(path)?).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..good).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        let column = before.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len) + 1;
        let byte = error.as_bytes().get(good).copied().unwrap_or_default();
        let what = format!(
            "line {line}: byte {column} of it, 0x{byte:02x}, is no UTF-8; allowed are texts in UTF-8"
        );
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf8_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"a = 1\n# \xc3\xa9\n\xc3\xa9 \xb0C\n").unwrap();
        assert_eq!(
            written(&path).unwrap_err().to_string(),
            "line 3: byte 4 of it, 0xb0, is no UTF-8; allowed are texts in UTF-8"
        );
        std::fs::write(&path, b"\xff").unwrap();
        assert!(written(&path).unwrap_err().to_string().starts_with("line 1: byte 1 of it, 0xff"));
        std::fs::write(&path, "é").unwrap();
        assert_eq!(written(&path).unwrap(), "é");
    }

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
