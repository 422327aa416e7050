//! Appending: one batch, its news and the room it needs, in one durable commit.

use redb::{Durability, ReadableTable, WriteTransaction};
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::model::{DropCause, Sample, Seq, SeriesNo};
use tideline_protocol::wire::{RUN_BYTES_MAX, RUN_ROWS_MAX};

use crate::blob::{BLOB_HEADER_LEN, Header, cost};
use crate::books::{Books, Fate};
use crate::gaps::{Dropped, Gaps};
use crate::settle::rows_of_damaged;
use crate::spool::{BATCHES, CURSORS, SERIES, Spool, SpoolError};

/// Settled batches are freed this part of the quota ahead, so that not every append frees some.
const SLACK_DIVISOR: u64 = 32;
/// The books are written at least every so many appends: bounds what opening reads again.
const BOOKS_EVERY: u64 = 256;

/// A batch that is ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    rows: u32,
    t_min: i64,
    t_max: i64,
    series_end: SeriesNo,
    block: Vec<u8>,
}

impl EncodedBatch {
    /// Readings in it.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes of its block.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block.len()
    }
}

/// Encodes the readings of one batch; a series may come several times.
///
/// # Errors
/// They are more than fit into one run.
pub fn encode_batch(items: &[(SeriesNo, &[Sample])]) -> Result<EncodedBatch, SpoolError> {
    let samples = || items.iter().flat_map(|(_, samples)| samples.iter());
    let found = samples().count() as u64;
    let too_many = || SpoolError::TooLarge { what: "rows", found, max: RUN_ROWS_MAX };
    if found > RUN_ROWS_MAX {
        return Err(too_many());
    }
    let rows = u32::try_from(found).map_err(|_| too_many())?;
    let mut builder = BlockBuilder::new();
    builder.push_batch(items);
    let block = builder.finish();
    if block.bytes.len() > RUN_BYTES_MAX {
        let (found, max) = (block.bytes.len() as u64, RUN_BYTES_MAX as u64);
        return Err(SpoolError::TooLarge { what: "bytes", found, max });
    }
    Ok(EncodedBatch {
        rows,
        t_min: samples().map(|s| s.time_ns).min().unwrap_or(0),
        t_max: samples().map(|s| s.time_ns).max().unwrap_or(0),
        series_end: block.series_end,
        block: block.bytes,
    })
}

/// What an append changes beside the batch itself.
struct Outcome {
    books: Option<Books>,
    gaps: Option<Gaps>,
    books_written: bool,
}

impl Spool {
    /// Makes one batch durable, with new series and the sources' positions. Only after it returns
    /// may a source be acknowledged. Without readings only the positions are written, and the
    /// answer is the newest seq. When the quota is full, the oldest settled batches are freed
    /// first; then the oldest unsettled are given up and recorded as a gap, in the same commit.
    ///
    /// # Errors
    /// Nothing of the batch is in the spool; after [`SpoolError::Storage`] open the spool again.
    pub fn append(
        &mut self,
        items: &[(SeriesNo, &[Sample])],
        cursors: &[(&str, &[u8])],
    ) -> Result<Seq, SpoolError> {
        self.append_encoded(&encode_batch(items)?, cursors)
    }

    /// As [`Spool::append`], with the encoding done before.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn append_encoded(
        &mut self,
        batch: &EncodedBatch,
        cursors: &[(&str, &[u8])],
    ) -> Result<Seq, SpoolError> {
        if batch.rows == 0 {
            if !cursors.is_empty() {
                self.write(Durability::Immediate, |_, tx| write_cursors(tx, cursors))?;
            }
            return Ok(self.head());
        }
        if batch.series_end > self.dictionary.count() {
            let series = batch.series_end.saturating_sub(1);
            return Err(SpoolError::UnknownSeries { series, known: self.dictionary.count() });
        }
        let bytes = cost(BLOB_HEADER_LEN + batch.block.len());
        if bytes > self.config.quota_bytes {
            return Err(SpoolError::OverQuota { bytes, quota_bytes: self.config.quota_bytes });
        }
        let outcome =
            self.write(Durability::Immediate, |spool, tx| spool.append_in(tx, batch, bytes, cursors))?;
        match outcome.books {
            Some(books) => self.books = books,
            None => self.books.append(u64::from(batch.rows), bytes),
        }
        if let Some(gaps) = outcome.gaps {
            self.gaps = gaps;
        }
        if outcome.books_written {
            self.unsaved_settlements = 0;
        }
        self.dictionary.durable = self.dictionary.defs.len();
        self.check();
        Ok(self.head())
    }

    fn append_in(
        &self,
        tx: &WriteTransaction,
        batch: &EncodedBatch,
        bytes: u64,
        cursors: &[(&str, &[u8])],
    ) -> Result<Outcome, SpoolError> {
        let seq = self.books.head + 1;
        let header = Header {
            rows: batch.rows,
            t_min: batch.t_min,
            t_max: batch.t_max,
            rows_through: self.books.account.produced + u64::from(batch.rows),
            cost_through: self.books.cost_in + bytes,
            series_end: batch.series_end,
            block_crc: crc32c::crc32c(&batch.block),
        };
        let mut value = Vec::with_capacity(BLOB_HEADER_LEN + batch.block.len());
        header.write(&mut value);
        value.extend_from_slice(&batch.block);
        {
            let mut batches = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
            batches.insert(seq, value.as_slice()).map_err(SpoolError::storage)?;
        }
        self.write_new_series(tx)?;
        write_cursors(tx, cursors)?;
        let mut outcome = Outcome { books: None, gaps: None, books_written: false };
        if self.books.held_cost() + bytes > self.config.quota_bytes {
            let (mut books, mut gaps) = (self.books.clone(), self.gaps.clone());
            self.make_room(tx, &mut books, &mut gaps, bytes)?;
            (outcome.books, outcome.gaps) = (Some(books), Some(gaps));
        } else if seq.is_multiple_of(BOOKS_EVERY) {
            outcome.books = Some(self.books.clone());
        }
        if let Some(books) = &mut outcome.books {
            books.append(u64::from(batch.rows), bytes);
            self.write_books(tx, books)?;
            outcome.books_written = true;
        }
        Ok(outcome)
    }

    fn write_new_series(&self, tx: &WriteTransaction) -> Result<(), SpoolError> {
        if self.dictionary.durable == self.dictionary.defs.len() {
            return Ok(());
        }
        let mut table = tx.open_table(SERIES).map_err(SpoolError::storage)?;
        for (number, def) in (0_u32..).zip(&self.dictionary.defs).skip(self.dictionary.durable) {
            let bytes = minicbor::to_vec(def).map_err(SpoolError::storage)?;
            table.insert(number, bytes.as_slice()).map_err(SpoolError::storage)?;
        }
        Ok(())
    }

    /// Frees settled batches, oldest first, then gives up unsettled ones, oldest first.
    fn make_room(
        &self,
        tx: &WriteTransaction,
        books: &mut Books,
        gaps: &mut Gaps,
        bytes: u64,
    ) -> Result<(), SpoolError> {
        let quota = self.config.quota_bytes;
        let relaxed = quota.saturating_sub(quota / SLACK_DIVISOR).max(bytes);
        let mut batches = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        'settled: for (lo, hi) in books.evictable().iter() {
            for seq in lo..=hi {
                if books.held_cost() + bytes <= relaxed {
                    break 'settled;
                }
                let removed = batches.remove(seq).map_err(SpoolError::storage)?;
                books.free(seq, removed.map_or(0, |value| cost(value.value().len())));
            }
        }
        let mut dropped = Vec::new();
        while books.held_cost() + bytes > quota {
            let Some((seq, _)) = books.pending.iter().next() else { break };
            let (header, freed) = {
                let value = batches.get(seq).map_err(SpoolError::storage)?;
                value.map_or((None, 0), |value| (Header::read(value.value()), cost(value.value().len())))
            };
            let drop = match header {
                Some(header) => Dropped::from_header(seq, &header),
                None => Dropped { seq, rows: rows_of_damaged(&batches, books, seq)?, t_min: 0, t_max: 0 },
            };
            batches.remove(seq).map_err(SpoolError::storage)?;
            books.leave_pending(seq, seq, u64::from(drop.rows), Fate::Dropped);
            books.free(seq, freed);
            dropped.push(drop);
        }
        gaps.record(tx, &dropped, DropCause::Quota)
    }
}

fn write_cursors(tx: &WriteTransaction, cursors: &[(&str, &[u8])]) -> Result<(), SpoolError> {
    if cursors.is_empty() {
        return Ok(());
    }
    let mut table = tx.open_table(CURSORS).map_err(SpoolError::storage)?;
    for (name, bytes) in cursors {
        table.insert(*name, *bytes).map_err(SpoolError::storage)?;
    }
    Ok(())
}
