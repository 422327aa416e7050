//! Reading batches back as a run to send.

use redb::ReadableDatabase;
use tideline_protocol::block::{self, CELLS_MAX};
use tideline_protocol::model::{RowCounts, Seq, SeriesNo};
use tideline_protocol::wire::{RUN_BYTES_MAX, RUN_ROWS_MAX, RUN_SEQS_MAX};

use crate::blob::{self, Header};
use crate::spool::{BATCHES, Spool, SpoolError};

/// Consecutive batches as one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedRun {
    /// The first seq.
    pub first: Seq,
    /// Rows of each seq from `first` on.
    pub rows: RowCounts,
    /// One more than the highest series number.
    pub series_end: SeriesNo,
    /// The columnar block.
    pub block: Vec<u8>,
}

enum Gathered {
    Parts(Vec<(Header, Vec<u8>)>),
    Damaged(u64),
}

impl Spool {
    /// The batches from `first` to at most `last` as one run: at least one, and no more than come
    /// to `bytes_max` stored bytes and `rows_max` rows. `None` when `first` is not held. A single
    /// batch comes as it is stored, several are re-packed by series. A damaged batch ends the run
    /// and becomes a gap, see [`Spool::fresh_gaps`].
    ///
    /// # Errors
    /// The storage failed.
    pub fn load_run(
        &mut self,
        first: Seq,
        last: Seq,
        bytes_max: usize,
        rows_max: u64,
    ) -> Result<Option<LoadedRun>, SpoolError> {
        let (mut end, bytes_max) = (last.get(), bytes_max.min(RUN_BYTES_MAX));
        let rows_max = rows_max.min(RUN_ROWS_MAX);
        loop {
            let held = self.books.held.first_missing_from(first.get()).saturating_sub(1);
            if first.get() > end.min(held) {
                return Ok(None);
            }
            match self.gather(first.get(), end.min(held), bytes_max, rows_max)? {
                Gathered::Damaged(seq) => {
                    self.give_up_damaged(seq)?;
                    end = seq.saturating_sub(1);
                }
                Gathered::Parts(parts) => match pack(first, parts) {
                    Ok(run) => return Ok(Some(run)),
                    // The checksum was right, so it was written wrong; one such batch must not
                    // hold up the others.
                    Err(seq) => {
                        self.give_up_damaged(seq)?;
                        end = seq.saturating_sub(1);
                    }
                },
            }
        }
    }

    /// The last seq of the stretch from `first` to at most `last` that is not held.
    #[must_use]
    pub fn gone_through(&self, first: Seq, last: Seq) -> Seq {
        let next_held = self.books.held.within(first.get(), last.get()).iter().next();
        next_held.map_or(last, |(lo, _)| Seq::new(lo.saturating_sub(1)).max(first))
    }

    fn gather(&self, first: u64, end: u64, bytes_max: usize, rows_max: u64) -> Result<Gathered, SpoolError> {
        let mut gathering =
            Gathering { parts: Vec::new(), bytes: 0, rows: 0, series_end: 0, bytes_max, rows_max };
        let mut next = first;
        if self.tail.get(first).is_none() {
            let tx = self.db.begin_read().map_err(SpoolError::storage)?;
            let table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
            for entry in table.range(first..=end).map_err(SpoolError::storage)? {
                let (seq, value) = entry.map_err(SpoolError::storage)?;
                if !gathering.take(value.value()) {
                    return Ok(gathering.done(seq.value()));
                }
                next = seq.value() + 1;
            }
        }
        while next <= end {
            let Some(value) = self.tail.get(next) else { break };
            if !gathering.take(value) {
                break;
            }
            next += 1;
        }
        Ok(gathering.done(next))
    }
}

/// Batches on their way into one run.
struct Gathering {
    parts: Vec<(Header, Vec<u8>)>,
    bytes: usize,
    rows: u64,
    series_end: u32,
    bytes_max: usize,
    rows_max: u64,
}

impl Gathering {
    /// Takes the next batch; `false` when it is damaged or does not fit any more.
    fn take(&mut self, value: &[u8]) -> bool {
        let Some((header, block)) = blob::split(value) else { return false };
        self.bytes = self.bytes.saturating_add(block.len());
        self.rows = self.rows.saturating_add(u64::from(header.rows));
        self.series_end = self.series_end.max(header.series_end);
        let cells = (self.parts.len() + 1).saturating_mul(self.series_end as usize);
        let full = self.bytes > self.bytes_max
            || self.rows > self.rows_max
            || cells > CELLS_MAX
            || self.parts.len() as u64 >= RUN_SEQS_MAX;
        if full && !self.parts.is_empty() {
            return false;
        }
        self.parts.push((header, block.to_vec()));
        true
    }

    /// What was gathered; without any batch, `seq` is the damaged one.
    fn done(self, seq: u64) -> Gathered {
        if self.parts.is_empty() { Gathered::Damaged(seq) } else { Gathered::Parts(self.parts) }
    }
}

/// Packs the parts; fails with the seq of the first that cannot be decoded.
fn pack(first: Seq, parts: Vec<(Header, Vec<u8>)>) -> Result<LoadedRun, u64> {
    let mut rows = RowCounts::default();
    parts.iter().for_each(|(header, _)| rows.push(header.rows));
    if let [(header, block)] = parts.as_slice() {
        return Ok(LoadedRun { first, rows, series_end: header.series_end, block: block.clone() });
    }
    let packed = block::repack(parts.iter().map(|(header, block)| (block.as_slice(), header.rows)));
    match packed {
        Ok(block) => {
            Ok(LoadedRun { first, rows: block.rows, series_end: block.series_end, block: block.bytes })
        }
        Err(_) => {
            let mut seqs = (first.get()..).zip(&parts);
            let bad = seqs.find(|(_, (header, block))| {
                block::decode(block, &RowCounts::one(header.rows), Seq::FIRST).is_err()
            });
            Err(bad.map_or(first.get(), |(seq, _)| seq))
        }
    }
}
