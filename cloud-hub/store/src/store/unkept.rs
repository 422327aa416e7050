//! Dead letters that could not be written yet. Their refusals wait with them: what is told to be kept is
//! on disk. Until then the run counts as stored, and the log keeps it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::StoreError;
use crate::decode::{Refusal, Undecodable};
use crate::log::lock;
use crate::tables::{Shared, Unwritten};

/// How soon a letter that could not be written is tried again.
pub const LETTER_RETRY: Duration = Duration::from_secs(1);
/// With so many letters in memory the decoder waits.
const LETTERS_MAX: usize = 1024;
/// With so many bytes of blocks in memory it waits, too.
const LETTER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The letters, the oldest first.
#[derive(Debug, Default)]
pub struct Unkept {
    letters: VecDeque<Box<Undecodable>>,
    bytes: usize,
}

impl Unkept {
    /// Takes a letter that is to be written.
    pub fn add(&mut self, letter: Box<Undecodable>) {
        self.bytes += letter.bytes();
        self.letters.push_back(letter);
    }

    /// Whether all are on disk.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Whether nothing more may be taken in, or memory would have no bound.
    pub fn is_full(&self) -> bool {
        self.letters.len() >= LETTERS_MAX || self.bytes >= LETTER_BYTES_MAX
    }

    /// Writes the letters; the refusals of those that are on disk come to `refusals`.
    ///
    /// # Errors
    /// The disk failed; those that are left are to be tried again.
    pub fn keep(&mut self, shared: &Shared, refusals: &mut Vec<Refusal>) -> Result<(), StoreError> {
        while let Some(letter) = self.letters.front() {
            match letter.keep(shared) {
                Ok(refusal) => refusals.push(refusal),
                Err(error) => {
                    let (letters, holds) = (self.letters.len(), self.is_full());
                    let told = Unwritten { letters, error: error.to_string(), holds };
                    let before = lock(&shared.unwritten).replace(told);
                    if before.is_none_or(|before| before.holds != holds) {
                        tracing::error!(%error, letters, holds, "dead letters cannot be written; it is tried again");
                    }
                    return Err(StoreError::io("writing a dead letter")(error));
                }
            }
            self.bytes = self.bytes.saturating_sub(letter.bytes());
            self.letters.pop_front();
        }
        if lock(&shared.unwritten).take().is_some() {
            tracing::info!("all dead letters are written at last");
        }
        Ok(())
    }
}
