//! Lines of a file with their numbers, and the place where a reader is. A line that is too long or
//! no UTF-8 is one bad line, whatever its length; memory stays bounded.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Longest line in bytes without its end: far more than rows have, and little to hold.
pub const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Some editors put it before the first line.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// How far a file has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes.
    pub offset: u64,
    /// Lines: the number of the last one.
    pub line: u64,
}

impl Place {
    /// Both numbers, little-endian.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.offset.to_le_bytes(), self.line.to_le_bytes()].concat()
    }

    /// Reads what [`Place::to_bytes`] wrote. A place without a line still says where to go on;
    /// lines are then counted from there.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let line = rest.first_chunk::<8>().map_or(0, |line| u64::from_le_bytes(*line));
        Some(Self { offset: u64::from_le_bytes(*offset), line })
    }
}

/// Reads a file line by line.
#[derive(Debug)]
pub struct Lines {
    file: BufReader<File>,
    place: Place,
}

impl Lines {
    /// Opens the file at its beginning.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), place: Place::default() })
    }

    /// How far it was read.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Goes on at `place`, never back.
    pub fn skip_to(&mut self, place: Place) -> io::Result<()> {
        if place.offset > self.place.offset {
            self.file.seek(SeekFrom::Start(place.offset))?;
            self.place = place;
        }
        Ok(())
    }

    /// The next line without white space at its ends, or what is wrong with it; `None` at the end
    /// of the file.
    pub fn next_line(&mut self) -> io::Result<Option<Result<String, String>>> {
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.place.offset += read;
        self.place.line += 1;
        if read > LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
            self.skip_rest()?;
            return Ok(Some(Err(format!("it has more than {LINE_BYTES_MAX} bytes"))));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(Some(Err("it is no UTF-8".into()))) };
        let text = if self.place.offset == read { text.trim_start_matches(BYTE_ORDER_MARK) } else { text };
        Ok(Some(Ok(text.trim().to_owned())))
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.file.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let skipped = end.map_or(buffer.len(), |at| at + 1);
            self.file.consume(skipped);
            self.place.offset += skipped as u64;
            if end.is_some() || skipped == 0 {
                return Ok(());
            }
        }
    }
}
