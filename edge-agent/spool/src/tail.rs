//! The newest batches, which are durable in the journal and not yet in the tables.

use std::collections::BTreeMap;

use redb::ReadableTable;
use tideline_protocol::model::DropCause;

use crate::blob::Header;
use crate::gaps::Dropped;
use crate::spool::SpoolError;

/// The batches of the journal, in memory as well: they are what is sent next.
#[derive(Debug, Default)]
pub struct Tail {
    // By seq; only a damaged journal leaves holes between them.
    batches: BTreeMap<u64, Vec<u8>>,
    /// Positions of sources that are newer than the tables'.
    pub cursors: BTreeMap<String, Vec<u8>>,
    /// Batches that were refused room, whose gaps the tables lack.
    pub refused: Vec<(Dropped, DropCause)>,
}

impl Tail {
    /// Adds the batch of `seq`.
    pub fn push(&mut self, seq: u64, value: Vec<u8>) {
        self.batches.insert(seq, value);
    }

    /// Whether there is nothing that the tables lack.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.cursors.is_empty() && self.refused.is_empty()
    }

    /// The stored value of `seq`.
    pub fn get(&self, seq: u64) -> Option<&[u8]> {
        self.batches.get(&seq).map(Vec::as_slice)
    }

    /// Every batch with its seq, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.batches.iter().map(|(seq, value)| (*seq, value.as_slice()))
    }

    /// Everything is in the tables.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.cursors.clear();
        self.refused.clear();
    }
}

/// All held batches: those of the tables and those of the tail.
pub struct Held<'a, T> {
    pub tail: &'a Tail,
    pub table: &'a T,
}

impl<T: ReadableTable<u64, &'static [u8]>> Held<'_, T> {
    /// What `read` makes of the stored value of `seq`, or `None` when it is not held.
    pub fn read<R>(&self, seq: u64, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, SpoolError> {
        if let Some(value) = self.tail.get(seq) {
            return Ok(Some(read(value)));
        }
        let value = self.table.get(seq).map_err(SpoolError::storage)?;
        Ok(value.map(|value| read(value.value())))
    }

    /// The header of `seq`, or `None` when it is damaged or not held.
    pub fn header(&self, seq: u64) -> Result<Option<Header>, SpoolError> {
        Ok(self.read(seq, Header::read)?.flatten())
    }
}
