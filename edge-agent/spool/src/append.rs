//! Appending: batches and their news become durable in one write of the journal; what does not fit
//! there, new series and whatever needs room, in one commit of the tables.

use redb::{ReadableTable, WriteTransaction};
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::model::{DropCause, Sample, Seq, SeriesNo};
use tideline_protocol::wire::{RUN_BYTES_MAX, RUN_ROWS_MAX};

use crate::blob::{BLOB_HEADER_LEN, Header, cost};
use crate::books::{Books, Fate};
use crate::gaps::{Dropped, Gaps};
use crate::journal::News;
use crate::settle::rows_of_damaged;
use crate::spool::{BATCHES, CURSORS, SERIES, Spool, SpoolError};
use crate::tail::Held;

/// Settled batches are freed this part of the quota ahead, so that not every append frees some.
const SLACK_DIVISOR: u64 = 32;

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
        self.append_group(std::slice::from_ref(batch), cursors)
    }

    /// Makes several batches durable with one sync: all of them or none. The answer is the newest
    /// seq; a batch without readings takes none.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn append_group(
        &mut self,
        batches: &[EncodedBatch],
        cursors: &[(&str, &[u8])],
    ) -> Result<Seq, SpoolError> {
        if self.poisoned {
            return Err(SpoolError::Poisoned);
        }
        let batches: Vec<&EncodedBatch> = batches.iter().filter(|batch| batch.rows > 0).collect();
        if batches.is_empty() && cursors.is_empty() {
            return Ok(self.head());
        }
        let bytes = self.cost_of(&batches)?;
        let values = self.values_of(&batches);
        let calm = self.dictionary.durable == self.dictionary.defs.len()
            && self.books.held_cost() + bytes <= self.config.quota_bytes;
        if !(calm && self.append_to_journal(&values, cursors)?) {
            self.append_to_tables(&values, cursors, bytes)?;
        }
        self.check();
        Ok(self.head())
    }

    /// What the batches cost together, when they may be appended at all.
    fn cost_of(&self, batches: &[&EncodedBatch]) -> Result<u64, SpoolError> {
        let mut bytes = 0;
        for batch in batches {
            if batch.series_end > self.dictionary.count() {
                let series = batch.series_end.saturating_sub(1);
                return Err(SpoolError::UnknownSeries { series, known: self.dictionary.count() });
            }
            bytes += cost(BLOB_HEADER_LEN + batch.block.len());
        }
        if bytes > self.config.quota_bytes {
            return Err(SpoolError::OverQuota { bytes, quota_bytes: self.config.quota_bytes });
        }
        Ok(bytes)
    }

    /// The batches as they are stored; each header continues the running totals of the one before.
    fn values_of(&self, batches: &[&EncodedBatch]) -> Vec<Vec<u8>> {
        let (mut rows_through, mut cost_through) = (self.books.account.produced, self.books.cost_in);
        let value = |batch: &&EncodedBatch| {
            rows_through += u64::from(batch.rows);
            cost_through += cost(BLOB_HEADER_LEN + batch.block.len());
            let header = Header {
                rows: batch.rows,
                t_min: batch.t_min,
                t_max: batch.t_max,
                rows_through,
                cost_through,
                series_end: batch.series_end,
                block_crc: crc32c::crc32c(&batch.block),
            };
            let mut value = Vec::with_capacity(BLOB_HEADER_LEN + batch.block.len());
            header.write(&mut value);
            value.extend_from_slice(&batch.block);
            value
        };
        batches.iter().map(value).collect()
    }

    /// `false` when the journal has no room for them.
    fn append_to_journal(
        &mut self,
        values: &[Vec<u8>],
        cursors: &[(&str, &[u8])],
    ) -> Result<bool, SpoolError> {
        let named = cursors.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec().into()));
        let news = News { first: self.books.head + 1, cursors: named.collect() };
        let written = self.journal.append(&news, values);
        self.poisoned |= written.is_err();
        if !written.map_err(SpoolError::failed)? {
            return Ok(false);
        }
        for (name, bytes) in cursors {
            self.tail.cursors.insert((*name).to_owned(), bytes.to_vec());
        }
        for value in values {
            self.books.append(rows_of(value), cost(value.len()));
            self.tail.push(self.books.head, value.clone());
        }
        Ok(true)
    }

    fn append_to_tables(
        &mut self,
        values: &[Vec<u8>],
        cursors: &[(&str, &[u8])],
        bytes: u64,
    ) -> Result<(), SpoolError> {
        self.commit(|spool, tx, books, gaps| {
            spool.write_new_series(tx)?;
            write_cursors(tx, cursors.iter().copied())?;
            if books.held_cost() + bytes > spool.config.quota_bytes {
                spool.make_room(tx, books, gaps, bytes)?;
            }
            let mut table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
            for value in values {
                books.append(rows_of(value), cost(value.len()));
                table.insert(books.head, value.as_slice()).map_err(SpoolError::storage)?;
            }
            Ok(())
        })?;
        self.dictionary.durable = self.dictionary.defs.len();
        Ok(())
    }

    fn write_new_series(&self, tx: &WriteTransaction) -> Result<(), SpoolError> {
        if self.dictionary.durable == self.dictionary.defs.len() {
            return Ok(());
        }
        let mut table = tx.open_table(SERIES).map_err(SpoolError::storage)?;
        for (number, def) in (0_u32..).zip(&self.dictionary.defs).skip(self.dictionary.durable) {
            let bytes = minicbor::to_vec(def).map_err(SpoolError::failed)?;
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
                None => {
                    let held = Held { tail: &self.tail, table: &batches };
                    Dropped { seq, rows: rows_of_damaged(&held, books, seq)?, t_min: 0, t_max: 0 }
                }
            };
            batches.remove(seq).map_err(SpoolError::storage)?;
            books.leave_pending(seq, seq, u64::from(drop.rows), Fate::Dropped);
            books.free(seq, freed);
            dropped.push(drop);
        }
        gaps.record(tx, &dropped, DropCause::Quota)
    }
}

fn rows_of(value: &[u8]) -> u64 {
    Header::read(value).map_or(0, |header| u64::from(header.rows))
}

pub fn write_cursors<'a>(
    tx: &WriteTransaction,
    cursors: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<(), SpoolError> {
    let mut cursors = cursors.peekable();
    if cursors.peek().is_none() {
        return Ok(());
    }
    let mut table = tx.open_table(CURSORS).map_err(SpoolError::storage)?;
    for (name, bytes) in cursors {
        table.insert(name, bytes).map_err(SpoolError::storage)?;
    }
    Ok(())
}
