//! Reading batches back as a run to send.

use std::collections::BTreeMap;

use redb::ReadableDatabase;
use tideline_protocol::block::{self, CELLS_MAX};
use tideline_protocol::clocks::{Boots, Correction};
use tideline_protocol::model::{RowCounts, Seq, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::HOLE_SEQS_MAX;
use tideline_protocol::wire::{RESTAMPS_PER_RUN_MAX, RUN_BYTES_MAX, RUN_ROWS_MAX, RUN_SEQS_MAX, Restamp};

use crate::blob::{self, Header};
use crate::journal::News;
use crate::spool::{BATCHES, Spool, SpoolError};

/// Batches as one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedRun {
    /// The first seq.
    pub first: Seq,
    /// Rows of each seq from `first` on; one without rows is not in it.
    pub rows: RowCounts,
    /// One more than the highest series number.
    pub series_end: SeriesNo,
    /// The columnar block.
    pub block: Vec<u8>,
    /// What is wrong with the times, as far as it is known now.
    pub restamps: Vec<Restamp>,
}

/// How far ahead of what is sent it is noted that it may have been, so that this is seldom written.
const SENT_AHEAD: u64 = 4096;

enum Gathered {
    Parts(Vec<(Header, Vec<u8>)>),
    Damaged(u64),
}

impl Spool {
    /// As [`Spool::load_seqs`], for the seqs from `first` to at most `last`.
    ///
    /// # Errors
    /// As [`Spool::load_seqs`].
    pub fn load_run(
        &mut self,
        first: Seq,
        last: Seq,
        bytes_max: usize,
        rows_max: u64,
    ) -> Result<Option<LoadedRun>, SpoolError> {
        self.load_seqs(&RangeSet::of(first.get(), last.get()), bytes_max, rows_max)
    }

    /// Batches of `seqs`, from the first of them on, as one run: at least one, no more than come to
    /// `bytes_max` stored bytes and `rows_max` rows, and none behind one that is not held or behind a
    /// long hole. `None` when the first is not held. A single batch comes as it is stored, several are
    /// re-packed by series. A damaged batch ends the run and becomes a gap, see [`Spool::fresh_gaps`].
    ///
    /// # Errors
    /// The storage failed.
    pub fn load_seqs(
        &mut self,
        seqs: &RangeSet,
        bytes_max: usize,
        rows_max: u64,
    ) -> Result<Option<LoadedRun>, SpoolError> {
        let (bytes_max, rows_max) = (bytes_max.min(RUN_BYTES_MAX), rows_max.min(RUN_ROWS_MAX));
        let Some((first, _)) = seqs.iter().next() else { return Ok(None) };
        let mut wanted = seqs.clone();
        loop {
            // Up to the first one that is not held.
            let mut gone = wanted.clone();
            gone.remove_set(&self.books.held);
            if let Some((end, _)) = gone.iter().next() {
                wanted.remove(end, u64::MAX);
            }
            if wanted.is_empty() {
                return Ok(None);
            }
            let damaged = match self.gather(&wanted, bytes_max, rows_max)? {
                Gathered::Damaged(seq) => seq,
                Gathered::Parts(parts) => match pack(Seq::new(first), parts, &self.boots) {
                    Ok(run) => return Ok(Some(run)),
                    // The checksum was right, so it was written wrong; one such batch must not
                    // hold up the others.
                    Err(seq) => seq,
                },
            };
            self.give_up_damaged(damaged)?;
        }
    }

    /// As [`Spool::load_seqs`], for batches that are then sent: until a hub has said what it has, no policy
    /// makes others of them. It may have stored them, and would store their readings twice.
    ///
    /// # Errors
    /// As [`Spool::load_seqs`].
    pub fn load_to_send(
        &mut self,
        seqs: &RangeSet,
        bytes_max: usize,
        rows_max: u64,
    ) -> Result<Option<LoadedRun>, SpoolError> {
        let Some(run) = self.load_seqs(seqs, bytes_max, rows_max)? else { return Ok(None) };
        let sent = run.rows.present(run.first);
        let last = sent.last().unwrap_or(0);
        // Before it is sent: the next start has to know. On a full disk a commit may fail, and nothing would
        // be sent that makes room; the journal has its own.
        if last > self.books.sent_until {
            let until = last.saturating_add(SENT_AHEAD);
            let news = News { first: self.books.head + 1, sent_until: until, ..News::default() };
            if self.cramped.is_some() && self.note(&news, &[])? {
                self.books.sent_until = until;
            } else {
                self.commit(|_, _, books, _| {
                    books.sent_until = until;
                    Ok(())
                })?;
            }
        }
        self.sent.insert_set(&sent);
        Ok(Some(run))
    }

    /// What a hub has of what was sent is settled, and nothing else is on its way there: it has welcomed
    /// the agent, and nothing was sent since.
    pub fn forget_sent(&mut self) {
        self.sent = RangeSet::new();
    }

    /// The last seq of the stretch from `first` to at most `last` that is not held.
    #[must_use]
    pub fn gone_through(&self, first: Seq, last: Seq) -> Seq {
        let next_held = self.books.held.within(first.get(), last.get()).iter().next();
        next_held.map_or(last, |(lo, _)| Seq::new(lo.saturating_sub(1)).max(first))
    }

    /// Of `seqs`, those before the first that is held.
    #[must_use]
    pub fn gone(&self, seqs: &RangeSet) -> RangeSet {
        let mut gone = seqs.clone();
        if let Some((held, _)) = seqs.intersect(&self.books.held).iter().next() {
            gone.remove(held, u64::MAX);
        }
        gone
    }

    fn gather(&self, seqs: &RangeSet, bytes_max: usize, rows_max: u64) -> Result<Gathered, SpoolError> {
        let first = seqs.iter().next().map_or(0, |(lo, _)| lo);
        let mut gathering = Gathering {
            parts: Vec::new(),
            next: first,
            bytes: 0,
            rows: 0,
            series_end: 0,
            bytes_max,
            rows_max,
            corrections: BTreeMap::new(),
            boots: &self.boots,
        };
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        let table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        for (lo, hi) in seqs.iter() {
            let mut next = lo;
            if self.tail.get(lo).is_none() {
                for entry in table.range(lo..=hi).map_err(SpoolError::storage)? {
                    let (seq, value) = entry.map_err(SpoolError::storage)?;
                    if !gathering.take(seq.value(), value.value()) {
                        return Ok(gathering.done(seq.value()));
                    }
                    next = seq.value() + 1;
                }
            }
            while next <= hi {
                match self.tail.get(next) {
                    Some(value) if gathering.take(next, value) => next += 1,
                    _ => return Ok(gathering.done(next)),
                }
            }
        }
        Ok(gathering.done(first))
    }
}

/// Batches on their way into one run.
struct Gathering<'s> {
    parts: Vec<(Header, Vec<u8>)>,
    next: u64,
    bytes: usize,
    rows: u64,
    series_end: u32,
    bytes_max: usize,
    rows_max: u64,
    // Of how many kinds; a run lists only so many.
    corrections: BTreeMap<(u32, Option<i64>), ()>,
    boots: &'s Boots,
}

impl Gathering<'_> {
    /// Takes the next batch; `false` when it is damaged or does not fit any more.
    fn take(&mut self, seq: u64, value: &[u8]) -> bool {
        let Some((header, block)) = blob::split(seq, value) else { return false };
        let hole = seq.saturating_sub(self.next);
        self.bytes = self.bytes.saturating_add(block.len());
        self.rows = self.rows.saturating_add(u64::from(header.rows));
        self.series_end = self.series_end.max(header.series_end);
        let parts = self.parts.len().saturating_add(usize::try_from(hole).unwrap_or(usize::MAX)) + 1;
        let full = self.bytes > self.bytes_max
            || self.rows > self.rows_max
            || parts.saturating_mul(self.series_end as usize) > CELLS_MAX
            || parts as u64 > RUN_SEQS_MAX
            || hole > HOLE_SEQS_MAX;
        let correction = correction(self.boots, &header);
        let full = full
            || correction.is_some_and(|key| {
                self.corrections.len() >= RESTAMPS_PER_RUN_MAX && !self.corrections.contains_key(&key)
            });
        if full && !self.parts.is_empty() {
            return false;
        }
        self.corrections.extend(correction.map(|key| (key, ())));
        self.parts.extend((0..hole).map(|_| (Header::HOLE, Vec::new())));
        self.parts.push((header, block.to_vec()));
        self.next = seq + 1;
        true
    }

    /// What was gathered; without any batch, `seq` is the damaged one.
    fn done(self, seq: u64) -> Gathered {
        if self.parts.is_empty() { Gathered::Damaged(seq) } else { Gathered::Parts(self.parts) }
    }
}

/// Boot and shift of a batch whose times are wrong; without a shift nobody knows by how much.
fn correction(boots: &Boots, header: &Header) -> Option<(u32, Option<i64>)> {
    let stamp = header.stamp?;
    match boots.correct(stamp) {
        Correction::None => None,
        Correction::Shift(shift_ns) => Some((stamp.boot, Some(shift_ns))),
        Correction::Uncertain => Some((stamp.boot, None)),
    }
}

fn restamps(first: Seq, parts: &[(Header, Vec<u8>)], boots: &Boots) -> Vec<Restamp> {
    let mut found: BTreeMap<(u32, Option<i64>), Restamp> = BTreeMap::new();
    for ((header, _), seq) in parts.iter().zip(first.get()..) {
        let Some((number, shift_ns)) = correction(boots, header) else { continue };
        let shifted = |time: i64| time.saturating_add(shift_ns.unwrap_or(0));
        let (from_ns, to_ns) = (shifted(header.t_min), shifted(header.t_max));
        let restamp = found.entry((number, shift_ns)).or_insert_with(|| Restamp {
            seqs: RangeSet::new(),
            boot: boots.id(number).unwrap_or_default(),
            shift_ns,
            from_ns,
            to_ns,
        });
        restamp.seqs.insert(seq, seq);
        restamp.from_ns = restamp.from_ns.min(from_ns);
        restamp.to_ns = restamp.to_ns.max(to_ns);
    }
    found.into_values().collect()
}

/// Packs the parts; fails with the seq of the first that cannot be decoded.
fn pack(first: Seq, parts: Vec<(Header, Vec<u8>)>, boots: &Boots) -> Result<LoadedRun, u64> {
    let mut rows = RowCounts::default();
    parts.iter().for_each(|(header, _)| rows.push(header.rows));
    let restamps = restamps(first, &parts, boots);
    if let [(header, block)] = parts.as_slice() {
        return Ok(LoadedRun { first, rows, series_end: header.series_end, block: block.clone(), restamps });
    }
    let packed = block::repack(parts.iter().map(|(header, block)| (block.as_slice(), header.rows)));
    match packed {
        Ok(block) => {
            let (rows, series_end) = (block.rows, block.series_end);
            Ok(LoadedRun { first, rows, series_end, block: block.bytes, restamps })
        }
        Err(_) => {
            let mut seqs = (first.get()..).zip(&parts);
            let bad = seqs.find(|(_, (header, block))| {
                header.rows > 0 && block::decode(block, &RowCounts::one(header.rows), Seq::FIRST).is_err()
            });
            Err(bad.map_or(first.get(), |(seq, _)| seq))
        }
    }
}
