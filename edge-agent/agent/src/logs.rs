//! The newest lines of the log, in memory, for who cannot get at the machine.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Most lines that are kept, and most bytes of them.
const LINES_MAX: usize = 2_000;
const BYTES_MAX: usize = 192 * 1024;
/// Longest line that is kept; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 4 * 1024;

#[derive(Debug, Default)]
struct Lines {
    bytes: usize,
    lines: VecDeque<String>,
}

/// Where a layer of the log writes; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<Lines>>);

impl Recent {
    /// The newest lines, at most so many, the oldest of them first.
    #[must_use]
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = held.lines.len().saturating_sub(lines);
        held.lines.iter().skip(skipped).cloned().collect()
    }
}

impl io::Write for Recent {
    /// Takes one event, which the layer writes at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let cut = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
        let line = String::from_utf8_lossy(cut).trim_end().to_owned();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes += line.len();
        held.lines.push_back(line);
        while held.lines.len() > LINES_MAX || held.bytes > BYTES_MAX {
            let Some(gone) = held.lines.pop_front() else { break };
            held.bytes -= gone.len();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Recent {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_bounded() {
        let mut recent = Recent::default();
        (0..LINES_MAX + 5).for_each(|n| recent.write_all(format!("line {n}\n").as_bytes()).unwrap());
        assert_eq!(recent.tail(2), [format!("line {}", LINES_MAX + 3), format!("line {}", LINES_MAX + 4)]);
        assert!(recent.tail(usize::MAX).len() <= LINES_MAX);
        (0..100).for_each(|_| recent.write_all(&[b'x'; 10_000]).unwrap());
        let bytes: usize = recent.tail(usize::MAX).iter().map(String::len).sum();
        assert!(bytes <= BYTES_MAX && recent.tail(1) == ["x".repeat(LINE_BYTES_MAX)]);
    }
}
