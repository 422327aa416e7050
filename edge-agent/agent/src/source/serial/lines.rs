//! Lines out of bytes as they come from a port: cut anywhere, and begun in the middle. No I/O.

use tideline_profiles::nmea::{SENTENCE_BYTES_MAX, SentenceError};

/// Takes bytes, gives lines.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    // Bytes of this line, those among them that are not kept.
    length: usize,
    // Whether the beginning of a line has been seen.
    is_begun: bool,
}

impl Lines {
    /// The lines that end with these bytes, without their ends. Empty ones are left out, and so is what came before the
    /// first end of a line, unless it begins as a sentence does.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Result<Vec<u8>, SentenceError>> {
        let mut out = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => out.extend(self.end()),
                // A sentence that was cut off by the next one ends here.
                b'$' | b'!' => {
                    out.extend(self.end());
                    self.is_begun = true;
                    self.keep(*byte);
                }
                _ => self.keep(*byte),
            }
        }
        out
    }

    fn keep(&mut self, byte: u8) {
        self.length = self.length.saturating_add(1);
        if self.line.len() < SENTENCE_BYTES_MAX {
            self.line.push(byte);
        }
    }

    fn end(&mut self) -> Option<Result<Vec<u8>, SentenceError>> {
        let (line, length) = (std::mem::take(&mut self.line), std::mem::take(&mut self.length));
        let was_begun = std::mem::replace(&mut self.is_begun, true);
        if line.is_empty() || !was_begun {
            return None;
        }
        Some(if length > SENTENCE_BYTES_MAX { Err(SentenceError::TooLong(length)) } else { Ok(line) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(parts: &[&str]) -> Vec<Result<String, SentenceError>> {
        let mut lines = Lines::default();
        let all = parts.iter().flat_map(|part| lines.push(part.as_bytes()));
        all.map(|line| line.map(|line| String::from_utf8(line).unwrap())).collect()
    }

    #[test]
    fn lines_may_be_cut_anywhere_and_begun_in_the_middle() {
        let wanted = [Ok("$GPGGA,1*00".to_owned()), Ok("!AIVDM,2*00".to_owned())];
        assert_eq!(lines(&["7,M*4F\r\n$GPG", "GA,1*00\r", "\n\n!AIVDM,2*00\r\n$GP"]), wanted);
        assert_eq!(lines(&["$GPGGA,1*00\n!AIVDM,2*00\n"]), wanted);
        assert_eq!(lines(&["$GPGGA,1*00!AIVDM,2*00\n"]), wanted);
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_the_next_is_read() {
        let long = format!("$GP{}\r\n$GPGGA,1*00\r\n", "x".repeat(5000));
        assert_eq!(lines(&[&long]), [Err(SentenceError::TooLong(5003)), Ok("$GPGGA,1*00".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_grow(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..8)) {
            let mut lines = Lines::default();
            for part in &parts {
                for line in lines.push(part).into_iter().flatten() {
                    prop_assert!(!line.is_empty() && line.len() <= SENTENCE_BYTES_MAX);
                }
                prop_assert!(lines.line.len() <= SENTENCE_BYTES_MAX);
            }
        }
    }
}
