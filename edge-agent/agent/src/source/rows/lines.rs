//! Lines of a file with their numbers, and the place where a reader is. A line that is too long or
//! no UTF-8 is one bad line, whatever its length; memory stays bounded.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
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
    // Whether the last line had an end.
    has_end: bool,
    // Whether it was too long, and its end was not there either.
    is_cut: bool,
}

impl Lines {
    /// Opens the file at its beginning. It may block, as on a disk that hangs.
    ///
    /// # Errors
    /// There is none, or it is no file: a pipe would be waited for, and a device may have no end.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            let what = "it is no file; what comes through a pipe is read with kind \"stdin\"";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let file = BufReader::new(File::open(path)?);
        Ok(Self { file, place: Place::default(), has_end: true, is_cut: false })
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
        self.has_end = bytes.last() == Some(&b'\n');
        if read > LINE_BYTES_MAX && !self.has_end {
            self.skip_rest()?;
            return Ok(Some(Err(format!("it has more than {LINE_BYTES_MAX} bytes"))));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(Some(Err("it is no UTF-8".into()))) };
        let text = if self.place.offset == read { text.trim_start_matches(BYTE_ORDER_MARK) } else { text };
        Ok(Some(Ok(text.trim().to_owned())))
    }

    /// As [`Lines::next_line`], and nothing as long as the line has no end: somebody may still write it.
    pub fn next_whole(&mut self) -> io::Result<Option<Result<String, String>>> {
        if std::mem::take(&mut self.is_cut) {
            self.skip_rest()?;
            if self.is_cut {
                return Ok(None);
            }
        }
        let before = self.place;
        let Some(line) = self.next_line()? else { return Ok(None) };
        if self.has_end || self.is_cut {
            return Ok(Some(line));
        }
        self.place = before;
        self.file.seek(SeekFrom::Start(before.offset))?;
        Ok(None)
    }

    /// Goes on behind the last byte.
    pub fn skip_to_end(&mut self) -> io::Result<()> {
        self.place.offset = self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// The first bytes of the file, as many as there are.
    pub fn first_bytes(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut read = 0;
        while let Some(room) = bytes.get_mut(read..).filter(|room| !room.is_empty()) {
            match self.file.get_ref().read_at(room, read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.file.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let skipped = end.map_or(buffer.len(), |at| at + 1);
            self.file.consume(skipped);
            self.place.offset += skipped as u64;
            if end.is_some() || skipped == 0 {
                (self.has_end, self.is_cut) = (end.is_some(), end.is_none());
                return Ok(());
            }
        }
    }
}
