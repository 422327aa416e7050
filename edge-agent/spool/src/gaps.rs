//! Gap records: what was given up, kept until the hub has confirmed it.

use std::collections::BTreeSet;

use redb::{ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tideline_protocol::model::{DropCause, Gap, RowCounts, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::GAP_SEQS_MAX;

use crate::blob::Header;
use crate::spool::{GAPS, Spool, SpoolError};
use crate::sums::{numbered, summed};

/// Most run-length pairs in one record: bounds what each drop writes again.
const RUNS_PER_GAP_MAX: usize = 512;

/// Ranges of confirmed seqs that wait for a commit, at most. A crash forgets them: the hub is told of
/// their gaps again, and confirms them again.
const CONFIRMED_MAX: usize = 1024;

/// A batch that was given up.
#[derive(Debug, Clone, Copy)]
pub struct Dropped {
    pub seq: u64,
    pub rows: u32,
    pub t_min: i64,
    pub t_max: i64,
}

impl Dropped {
    pub const fn from_header(seq: u64, header: &Header) -> Self {
        Self { seq, rows: header.rows, t_min: header.t_min, t_max: header.t_max }
    }
}

/// What is remembered of gap records between calls; the records themselves are in the table.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    /// The record that still grows. One that was shown to a session must not, as the hub may
    /// confirm what it saw.
    open: Option<u64>,
    /// Records that no session has seen.
    fresh: BTreeSet<u64>,
    /// Seqs that the hub has confirmed and that are still in records: they go with the next commit.
    confirmed: RangeSet,
}

type GapTable<'txn> = Table<'txn, u64, &'static [u8]>;

impl Gaps {
    /// Records drops in seq order.
    pub fn record(
        &mut self,
        tx: &WriteTransaction,
        dropped: &[Dropped],
        cause: DropCause,
    ) -> Result<(), SpoolError> {
        if dropped.is_empty() {
            return Ok(());
        }
        let mut table = tx.open_table(GAPS).map_err(SpoolError::storage)?;
        let mut gap = match self.open {
            Some(first) => load(&table, first)?,
            None => None,
        };
        for drop in dropped {
            match &mut gap {
                Some(gap) if fits(gap, drop, cause) => {
                    gap.rows.push(drop.rows);
                    gap.from_ns = gap.from_ns.min(drop.t_min);
                    gap.to_ns = gap.to_ns.max(drop.t_max);
                }
                _ => {
                    if let Some(full) = &gap {
                        store(&mut table, full)?;
                    }
                    gap = Some(Gap {
                        first: Seq::new(drop.seq),
                        rows: RowCounts::one(drop.rows),
                        from_ns: drop.t_min,
                        to_ns: drop.t_max,
                        cause,
                    });
                    self.open = Some(drop.seq);
                    self.fresh.insert(drop.seq);
                }
            }
        }
        gap.map_or(Ok(()), |gap| store(&mut table, &gap))
    }

    /// As [`Gaps::record`], each drop with its own cause.
    pub fn record_each(
        &mut self,
        tx: &WriteTransaction,
        dropped: &[(Dropped, DropCause)],
    ) -> Result<(), SpoolError> {
        for part in dropped.chunk_by(|(_, one), (_, other)| one == other) {
            let Some((_, cause)) = part.first() else { continue };
            let drops: Vec<Dropped> = part.iter().map(|(drop, _)| *drop).collect();
            self.record(tx, &drops, *cause)?;
        }
        Ok(())
    }

    /// The hub has confirmed these seqs; says whether so many wait that they should be written.
    pub fn confirm(&mut self, seqs: &RangeSet) -> bool {
        self.confirmed.insert_set(seqs);
        self.confirmed.range_count() >= CONFIRMED_MAX
    }

    /// Takes what was confirmed out of the records.
    pub fn forget_confirmed(&mut self, tx: &WriteTransaction) -> Result<(), SpoolError> {
        let confirmed = std::mem::take(&mut self.confirmed);
        confirmed.iter().try_for_each(|(lo, hi)| take(tx, lo, hi).map(drop))
    }

    fn seal(&mut self) -> BTreeSet<u64> {
        self.open = None;
        std::mem::take(&mut self.fresh)
    }
}

fn fits(gap: &Gap, drop: &Dropped, cause: DropCause) -> bool {
    gap.cause == cause
        && gap.last().next().get() == drop.seq
        && gap.rows.runs().len() < RUNS_PER_GAP_MAX
        && gap.rows.seqs() < GAP_SEQS_MAX
}

fn load(table: &GapTable<'_>, first: u64) -> Result<Option<Gap>, SpoolError> {
    let found = table.get(first).map_err(SpoolError::storage)?;
    found.map(|value| decode(first, value.value())).transpose()
}

fn decode(first: u64, value: &[u8]) -> Result<Gap, SpoolError> {
    let bytes = numbered("the record of the gap at", first, value)?;
    minicbor::decode(&bytes).map_err(|error| SpoolError::Corrupt(format!("gap record: {error}")))
}

fn store(table: &mut GapTable<'_>, gap: &Gap) -> Result<(), SpoolError> {
    let bytes = minicbor::to_vec(gap).map_err(SpoolError::failed)?;
    let value = summed(gap.first.get().to_le_bytes(), &bytes);
    table.insert(gap.first.get(), value.as_slice()).map_err(SpoolError::storage)?;
    Ok(())
}

/// The part of `gap` that begins `skip` seqs in and is `count` long.
fn part(gap: &Gap, skip: u64, count: u64) -> Gap {
    let first = Seq::new(gap.first.get().saturating_add(skip));
    Gap { first, rows: gap.rows.part(skip, count), ..gap.clone() }
}

/// Takes `lo..=hi` out of the records; gives each stretch taken as (first, last, rows, cause).
pub fn take(tx: &WriteTransaction, lo: u64, hi: u64) -> Result<Vec<(u64, u64, u64, DropCause)>, SpoolError> {
    let mut table = tx.open_table(GAPS).map_err(SpoolError::storage)?;
    let mut hits = Vec::new();
    for entry in table.range(..=hi).map_err(SpoolError::storage)?.rev() {
        let (first, value) = entry.map_err(SpoolError::storage)?;
        let gap = decode(first.value(), value.value())?;
        if gap.last().get() < lo {
            break;
        }
        hits.push(gap);
    }
    let mut taken = Vec::new();
    for gap in hits {
        let (first, last) = (gap.first.get(), gap.last().get());
        let (from, to) = (first.max(lo), last.min(hi));
        let rows = part(&gap, from - first, to - from + 1).rows.total();
        table.remove(first).map_err(SpoolError::storage)?;
        if from > first {
            store(&mut table, &part(&gap, 0, from - first))?;
        }
        if to < last {
            store(&mut table, &part(&gap, to - first + 1, last - to))?;
        }
        taken.push((from, to, rows, gap.cause));
    }
    Ok(taken)
}

/// The first seq in a record.
pub fn first(tx: &WriteTransaction) -> Result<Option<u64>, SpoolError> {
    let table = tx.open_table(GAPS).map_err(SpoolError::storage)?;
    let first = table.first().map_err(SpoolError::storage)?;
    Ok(first.map(|(seq, _)| seq.value()))
}

impl Spool {
    /// All gaps that the hub has not confirmed, in seq order; none of them grows from now on.
    ///
    /// # Errors
    /// The storage failed.
    pub fn gaps_unconfirmed(&mut self) -> Result<Vec<Gap>, SpoolError> {
        if !self.gaps.confirmed.is_empty() {
            self.commit(|_, _, _, _| Ok(()))?;
        }
        self.write_refused()?;
        self.gaps.seal();
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        let table = tx.open_table(GAPS).map_err(SpoolError::storage)?;
        let mut out = Vec::new();
        for entry in table.iter().map_err(SpoolError::storage)? {
            let (first, value) = entry.map_err(SpoolError::storage)?;
            out.push(decode(first.value(), value.value())?);
        }
        Ok(out)
    }

    /// The gaps made since the last call of this or of [`Spool::gaps_unconfirmed`].
    ///
    /// # Errors
    /// The storage failed.
    pub fn fresh_gaps(&mut self) -> Result<Vec<Gap>, SpoolError> {
        self.write_refused()?;
        let fresh = self.gaps.seal();
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        let table = tx.open_table(GAPS).map_err(SpoolError::storage)?;
        let mut out = Vec::new();
        for first in fresh {
            if let Some(value) = table.get(first).map_err(SpoolError::storage)? {
                out.push(decode(first, value.value())?);
            }
        }
        Ok(out)
    }

    /// The gaps of what was refused room stand in the journal at first.
    fn write_refused(&mut self) -> Result<(), SpoolError> {
        if self.tail.refused.is_empty() { Ok(()) } else { self.commit(|_, _, _, _| Ok(())) }
    }

    /// Gives up a batch that cannot be read back: a gap when it is pending, else just freed.
    pub(crate) fn give_up_damaged(&mut self, seq: u64) -> Result<(), SpoolError> {
        tracing::error!(seq, "a stored batch is damaged and left out");
        self.commit(|spool, tx, books, gaps| spool.give_up_in(tx, books, gaps, seq))?;
        self.check();
        Ok(())
    }
}
