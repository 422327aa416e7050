//! Appending: batches and their news become durable in one write of the journal; what does not fit
//! there, new series and whatever needs room, in one commit of the tables.

use std::collections::BTreeMap;

use redb::WriteTransaction;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::clocks::Stamp;
use tideline_protocol::model::{Class, DropCause, Sample, Seq, SeriesNo};
use tideline_protocol::value::Boxes;
use tideline_protocol::wire::{RUN_BYTES_MAX, RUN_ROWS_MAX};

use crate::blob::{BLOB_HEADER_LEN, Header, block_crc, cost};
use crate::books::Totals;
use crate::cursors;
use crate::gaps::Dropped;
use crate::journal::News;
use crate::room::{Room, Verdict};
use crate::spool::{SERIES, Spool, SpoolError};
use crate::streams::{Overflow, StreamNo};
use crate::sums::summed;

/// A batch that is ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    pub(crate) stream: StreamNo,
    pub(crate) thinned: bool,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) rows: u32,
    pub(crate) t_min: i64,
    pub(crate) t_max: i64,
    pub(crate) series_end: SeriesNo,
    pub(crate) block: Vec<u8>,
}

impl EncodedBatch {
    /// Readings in it.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// The same batch as one of `stream`; without this it is of the default stream.
    #[must_use]
    pub fn on(self, stream: StreamNo) -> Self {
        Self { stream, ..self }
    }

    /// The same batch with the clock that gave its times; without this they are the source's own.
    #[must_use]
    pub fn stamped(self, stamp: Option<Stamp>) -> Self {
        Self { stamp, ..self }
    }

    pub(crate) fn cost(&self) -> u64 {
        cost(BLOB_HEADER_LEN + self.block.len())
    }

    /// Bytes of its block.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block.len()
    }
}

/// Encodes the readings of one batch, of plain numbers; a series may come several times.
///
/// # Errors
/// They are more than fit into one run.
pub fn encode_batch(items: &[(SeriesNo, &[Sample])]) -> Result<EncodedBatch, SpoolError> {
    encode_boxed(items, &Boxes::new())
}

/// As [`encode_batch`], with values of all kinds: words of `boxes`.
///
/// # Errors
/// They are more than fit into one run, in rows or in bytes, texts among them.
pub fn encode_boxed(items: &[(SeriesNo, &[Sample])], boxes: &Boxes) -> Result<EncodedBatch, SpoolError> {
    let samples = || items.iter().flat_map(|(_, samples)| samples.iter());
    let found = samples().count() as u64;
    let too_many = || SpoolError::TooLarge { what: "rows", found, max: RUN_ROWS_MAX };
    if found > RUN_ROWS_MAX {
        return Err(too_many());
    }
    let rows = u32::try_from(found).map_err(|_| too_many())?;
    let mut builder = BlockBuilder::new();
    builder.push_boxed(items, boxes);
    let block = builder.finish();
    if block.bytes.len() > RUN_BYTES_MAX {
        let (found, max) = (block.bytes.len() as u64, RUN_BYTES_MAX as u64);
        return Err(SpoolError::TooLarge { what: "bytes", found, max });
    }
    Ok(EncodedBatch {
        stream: 0,
        thinned: false,
        stamp: None,
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
    /// answer is the newest seq. When a quota is full, the oldest settled batches are freed first;
    /// then the streams' policies say what is given up and recorded as a gap, in the same commit.
    ///
    /// # Errors
    /// Nothing of the batch is in the spool: it has no room and its stream blocks, or after [`SpoolError::Storage`] open the spool again.
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
    /// seq; a batch without readings takes none. One that a policy refuses takes one, and is a gap.
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
        self.check_group(&batches)?;
        let known = self.dictionary.durable == self.dictionary.defs.len()
            && self.streams.durable == self.streams.all.len();
        let verdicts = if known { self.verdicts(&batches)? } else { None };
        let journaled = match verdicts {
            Some(verdicts) => self.append_to_journal(&batches, &verdicts, cursors)?,
            None => false,
        };
        if !journaled {
            self.append_to_tables(&batches, cursors)?;
        }
        if batches.iter().any(|batch| self.streams.class(batch.stream) != Class::Live) {
            self.streams.urgent_appends += 1;
        }
        self.check();
        Ok(self.head())
    }

    /// Whether the batches may be appended at all.
    fn check_group(&self, batches: &[&EncodedBatch]) -> Result<(), SpoolError> {
        let quota_of = |stream| match self.streams.policy(stream).quota_bytes {
            0 => self.config.quota_bytes,
            own => own.min(self.config.quota_bytes),
        };
        let mut bytes = 0;
        for batch in batches {
            if batch.series_end > self.dictionary.count() {
                let series = batch.series_end.saturating_sub(1);
                return Err(SpoolError::UnknownSeries { series, known: self.dictionary.count() });
            }
            bytes += batch.cost();
            let quota_bytes = quota_of(batch.stream);
            if batch.cost() > quota_bytes {
                return Err(SpoolError::OverQuota { bytes: batch.cost(), quota_bytes });
            }
        }
        if bytes > self.config.quota_bytes {
            return Err(SpoolError::OverQuota { bytes, quota_bytes: self.config.quota_bytes });
        }
        Ok(())
    }

    /// What comes of each batch, when that can be said without making room.
    fn verdicts(&self, batches: &[&EncodedBatch]) -> Result<Option<Vec<Verdict>>, SpoolError> {
        let (quota, cause) = self.limit();
        let (mut held, mut by_stream) = (self.books.held_cost(), BTreeMap::new());
        let mut verdicts = Vec::with_capacity(batches.len());
        for batch in batches {
            if let Some(refused) = self.spare_flash(batch.stream)? {
                verdicts.push(refused);
                continue;
            }
            let policy = self.streams.policy(batch.stream);
            let own = by_stream.entry(batch.stream).or_insert_with(|| self.books.held_cost_of(batch.stream));
            let fits_own = policy.quota_bytes == 0 || *own + batch.cost() <= policy.quota_bytes;
            if fits_own && held + batch.cost() <= quota {
                held += batch.cost();
                *own += batch.cost();
                verdicts.push(Verdict::Accepted);
                continue;
            }
            if policy.overflow.drops_older() || self.could_make_room(batch.stream, fits_own) {
                return Ok(None);
            }
            let cause = if fits_own { cause } else { DropCause::Quota };
            if policy.overflow == Overflow::Block {
                return Err(self.full(batch.stream, cause));
            }
            verdicts.push(Verdict::Refused(cause));
        }
        Ok(Some(verdicts))
    }

    /// Whether anything may go for a batch of `stream`: of its own, or of the whole spool.
    fn could_make_room(&self, stream: StreamNo, fits_own: bool) -> bool {
        // Which of the settled are of the stream is for the commit to find out.
        let settled = self.books.held.len() > self.books.pending.len();
        settled || (fits_own && !self.payers(stream).is_empty())
    }

    /// A batch as it is stored; its header continues the running totals.
    pub(crate) fn value_of(&self, totals: &mut Totals, batch: &EncodedBatch, verdict: Verdict) -> Vec<u8> {
        let (refused, block) = match verdict {
            Verdict::Accepted => (None, batch.block.as_slice()),
            Verdict::Refused(cause) => (Some(cause), &[][..]),
        };
        totals.seq += 1;
        totals.rows += u64::from(batch.rows);
        totals.cost += if refused.is_some() { 0 } else { batch.cost() };
        let header = Header {
            stream: batch.stream,
            class: self.streams.class(batch.stream),
            thinned: batch.thinned,
            refused,
            rows: batch.rows,
            t_min: batch.t_min,
            t_max: batch.t_max,
            rows_through: totals.rows,
            cost_through: totals.cost,
            series_end: batch.series_end,
            at_s: u32::try_from(self.books.age_s).unwrap_or(u32::MAX),
            stamp: batch.stamp,
            block_crc: block_crc(totals.seq, block),
        };
        let mut value = Vec::with_capacity(BLOB_HEADER_LEN + block.len());
        header.write(&mut value);
        value.extend_from_slice(block);
        value
    }

    /// `false` when the journal has no room for them.
    fn append_to_journal(
        &mut self,
        batches: &[&EncodedBatch],
        verdicts: &[Verdict],
        cursors: &[(&str, &[u8])],
    ) -> Result<bool, SpoolError> {
        let mut totals = self.books.totals();
        let both = batches.iter().zip(verdicts);
        let values: Vec<_> =
            both.map(|(batch, verdict)| (batch.rows, self.value_of(&mut totals, batch, *verdict))).collect();
        let named = cursors.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec().into()));
        let news = News { first: self.books.head + 1, cursors: named.collect(), sent_until: 0 };
        if !self.note(&news, &values)? {
            return Ok(false);
        }
        for (name, bytes) in cursors {
            self.tail.cursors.insert((*name).to_owned(), bytes.to_vec());
        }
        for (_, value) in values {
            self.take_in(value);
        }
        Ok(true)
    }

    /// Writes a record to the journal; `false` when there is no room in it.
    pub(crate) fn note(&mut self, news: &News, values: &[(u32, Vec<u8>)]) -> Result<bool, SpoolError> {
        if self.poisoned {
            return Err(SpoolError::Poisoned);
        }
        let written = self.journal.append(news, values);
        if written.is_err() {
            self.poisoned = true;
            self.give_way();
        }
        written.map_err(|error| self.meter.explain(SpoolError::failed(error)))
    }

    /// Books a value that the journal holds.
    pub(crate) fn take_in(&mut self, value: Vec<u8>) {
        let Some(header) = Header::read(&value) else { return };
        match header.refused {
            Some(cause) => {
                let drop = Dropped::from_header(self.books.head + 1, &header);
                self.books.refuse(header.stream, u64::from(header.rows), cause);
                self.tail.refused.push((drop, cause));
            }
            None => {
                self.books.append(header.stream, u64::from(header.rows), cost(value.len()));
                self.tail.push(self.books.head, value);
            }
        }
        self.streams.map.set(self.books.head, header.stream);
    }

    fn append_to_tables(
        &mut self,
        batches: &[&EncodedBatch],
        cursors: &[(&str, &[u8])],
    ) -> Result<(), SpoolError> {
        self.commit(|spool, tx, books, gaps| {
            spool.write_new_series(tx)?;
            cursors::write(tx, cursors.iter().copied())?;
            let mut room = Room::new(spool, tx, books, gaps)?;
            for batch in batches {
                let verdict = match spool.spare_flash(batch.stream)? {
                    Some(refused) => refused,
                    None => room.make(batch.stream, batch.cost())?,
                };
                room.place(batch, verdict)?;
            }
            room.finish()
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
            let value = summed(u64::from(number).to_le_bytes(), &bytes);
            table.insert(number, value.as_slice()).map_err(SpoolError::storage)?;
        }
        Ok(())
    }
}
