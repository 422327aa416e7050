//! Records of CSV from any reader, with bounds on what one may take.

use std::io::{self, Read};

use super::cell::Cell;

/// Longest record.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Most columns.
pub const COLUMNS_MAX: usize = 4_096;
/// Bytes that are read together.
const BUFFER_BYTES: usize = 256 * 1024;

/// What stands next.
#[derive(Debug, PartialEq)]
pub enum Record<'a> {
    /// Its line, and its fields.
    Fields(u64, Vec<Cell<'a>>),
    /// What is longer or wider than may be; it was passed over.
    Refused(u64, String),
}

/// Reads record after record. Quotes and ends of lines are those of RFC 4180; blank lines are passed over.
pub struct CsvRecords<R> {
    input: R,
    parser: csv_core::Reader,
    buffer: Vec<u8>,
    // What of the buffer is not parsed yet.
    at: usize,
    end: usize,
    ended: bool,
    text: Vec<u8>,
    ends: Vec<usize>,
    line: u64,
    bytes: u64,
}

/// What became of a record.
enum Parsed {
    Whole(usize),
    TooLong,
    TooWide,
    None,
}

impl<R: Read> CsvRecords<R> {
    /// Reads `input`, whose fields this byte parts.
    pub fn new(input: R, delimiter: u8) -> Self {
        Self {
            input,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            buffer: vec![0; BUFFER_BYTES],
            at: 0,
            end: 0,
            ended: false,
            text: vec![0; LINE_BYTES_MAX],
            ends: vec![0; COLUMNS_MAX],
            line: 1,
            bytes: 0,
        }
    }

    /// How many bytes were parsed.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next record; none at the end.
    ///
    /// # Errors
    /// The input cannot be read, or is nothing that could be CSV.
    pub fn next_record(&mut self) -> io::Result<Option<Record<'_>>> {
        self.blank_lines()?;
        let line = self.line;
        match self.parse()? {
            Parsed::None => Ok(None),
            Parsed::TooLong => {
                let reason = format!("it has more than {LINE_BYTES_MAX} bytes; is a quote not closed?");
                Ok(Some(Record::Refused(line, reason)))
            }
            Parsed::TooWide => {
                Ok(Some(Record::Refused(line, format!("it has more than {COLUMNS_MAX} fields"))))
            }
            Parsed::Whole(fields) => {
                let mut cells = Vec::with_capacity(fields);
                let mut begin = 0;
                for end in self.ends.iter().take(fields) {
                    cells.push(Cell::Text(self.text.get(begin..*end).unwrap_or_default()));
                    begin = *end;
                }
                Ok(Some(Record::Fields(line, cells)))
            }
        }
    }

    /// Passes over what is between records, so that the line of the next one is known.
    fn blank_lines(&mut self) -> io::Result<()> {
        if self.bytes == 0 && self.fill()? {
            self.look_at_the_beginning()?;
        }
        while self.fill()? {
            let rest = self.buffer.get(self.at..self.end).unwrap_or_default();
            let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let more = blank == rest.len();
            self.pass(blank);
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn look_at_the_beginning(&mut self) -> io::Result<()> {
        // However little comes at once.
        while self.end < 4 {
            let rest = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.input.read(rest)? {
                0 => break,
                read => self.end += read,
            }
        }
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()));
        match self.buffer.get(..self.end).unwrap_or_default() {
            [0xef, 0xbb, 0xbf, ..] => self.pass(3),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return wrong("the file is UTF-16; allowed is UTF-8: iconv -f UTF-16 -t UTF-8 makes it that");
            }
            [0x1f, 0x8b, ..] => return wrong("the file is gzip; unpack it first"),
            [b'P', b'A', b'R', b'1', ..] => return wrong("the file is Parquet: --format parquet"),
            _ => {}
        }
        Ok(())
    }

    fn pass(&mut self, bytes: usize) {
        let passed = self.buffer.get(self.at..self.at + bytes).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.at += bytes;
        self.bytes += bytes as u64;
    }

    /// Whether there is anything to parse.
    fn fill(&mut self) -> io::Result<bool> {
        while self.at == self.end && !self.ended {
            self.at = 0;
            self.end = match self.input.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                read => {
                    let read = read?;
                    self.ended = read == 0;
                    read
                }
            };
        }
        Ok(self.at < self.end)
    }

    fn parse(&mut self) -> io::Result<Parsed> {
        use csv_core::ReadRecordResult as Found;
        let (mut text_at, mut ends_at) = (0, 0);
        let mut parsed = None;
        loop {
            self.fill()?;
            let input = self.buffer.get(self.at..self.end).unwrap_or_default();
            let text = self.text.get_mut(text_at..).unwrap_or_default();
            let ends = self.ends.get_mut(ends_at..).unwrap_or_default();
            let (found, read, wrote, ended) = self.parser.read_record(input, text, ends);
            self.pass(read);
            (text_at, ends_at) = (text_at + wrote, ends_at + ended);
            match found {
                Found::InputEmpty => {}
                // What is left of it is written over itself.
                Found::OutputFull => (text_at, parsed) = (0, Some(parsed.unwrap_or(Parsed::TooLong))),
                Found::OutputEndsFull => (ends_at, parsed) = (0, Some(parsed.unwrap_or(Parsed::TooWide))),
                Found::Record => return Ok(parsed.unwrap_or(Parsed::Whole(ends_at))),
                Found::End => return Ok(Parsed::None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: impl Read) -> Vec<(u64, Result<Vec<String>, String>)> {
        let mut records = CsvRecords::new(input, b',');
        let mut out = Vec::new();
        while let Some(record) = records.next_record().unwrap() {
            out.push(match record {
                Record::Fields(line, cells) => {
                    let text = |cell: &Cell<'_>| match cell {
                        Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        other => panic!("{other:?}"),
                    };
                    (line, Ok(cells.iter().map(text).collect()))
                }
                Record::Refused(line, reason) => (line, Err(reason)),
            });
        }
        out
    }

    fn fields(line: u64, fields: &[&str]) -> (u64, Result<Vec<String>, String>) {
        (line, Ok(fields.iter().map(|field| (*field).to_owned()).collect()))
    }

    /// Gives a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(1);
            self.0.read(&mut into[..most])
        }
    }

    #[test]
    fn records_have_their_lines_and_fields_however_they_come() {
        let text = "\u{feff}a,b\r\n\r\n1,\"x\"\"y\nz\"\n\n3,\n4".as_bytes();
        let want = vec![
            fields(1, &["a", "b"]),
            fields(3, &["1", "x\"y\nz"]),
            fields(6, &["3", ""]),
            fields(7, &["4"]),
        ];
        assert_eq!(all(text), want);
        assert_eq!(all(Slow(text)), want);
        assert!(all(&b""[..]).is_empty() && all(&b"\n\r\n"[..]).is_empty());
    }

    #[test]
    fn what_is_too_long_or_too_wide_is_passed_over() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let wide = ",".repeat(2 * COLUMNS_MAX);
        let text = format!("a,b\n{long},1\n{wide}\nc,d\n\"{long}");
        let found = all(text.as_bytes());
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(found[1].1.as_ref().unwrap_err().contains("1048576 bytes"));
        assert!(found[2].1.as_ref().unwrap_err().contains("4096 fields"));
        assert_eq!(found[3], fields(4, &["c", "d"]));
        assert!(found[4].1.is_err());
    }

    #[test]
    fn what_is_no_csv_is_told() {
        for (bytes, word) in
            [(&b"\xff\xfea\0"[..], "UTF-16"), (b"\x1f\x8b\x08", "gzip"), (b"PAR1\x15", "Parquet")]
        {
            let mut records = CsvRecords::new(bytes, b',');
            assert!(records.next_record().unwrap_err().to_string().contains(word), "{word}");
        }
    }
}
