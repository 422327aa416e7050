//! Settling: the hub's word on seqs moves rows between the books' columns.

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use tideline_protocol::model::DropCause;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Settlement;

use crate::blob::{Header, cost};
use crate::books::{Books, Fate};
use crate::gaps::{self, Dropped, Gaps};
use crate::spool::{BATCHES, Spool, SpoolError};
use crate::tail::Held;

/// Why the rows of a range are not known.
pub enum RowsError {
    Damaged(u64),
    Spool(SpoolError),
}

/// The rows of held seqs `lo..=hi`, from the running totals at its ends.
pub fn rows_in<T>(held: &Held<'_, T>, lo: u64, hi: u64) -> Result<u64, RowsError>
where
    T: ReadableTable<u64, &'static [u8]>,
{
    let header = |seq: u64| held.header(seq).map_err(RowsError::Spool)?.ok_or(RowsError::Damaged(seq));
    let through = header(hi)?.rows_through;
    Ok(through.saturating_sub(header(lo)?.rows_before()))
}

/// The rows of a pending seq whose header is damaged: what is left when all others are counted.
pub fn rows_of_damaged<T>(held: &Held<'_, T>, books: &Books, seq: u64) -> Result<u32, SpoolError>
where
    T: ReadableTable<u64, &'static [u8]>,
{
    let mut others = books.pending.clone();
    others.remove(seq, seq);
    let mut sum = 0_u64;
    for (lo, hi) in others.iter() {
        match rows_in(held, lo, hi) {
            Ok(rows) => sum += rows,
            Err(RowsError::Spool(error)) => return Err(error),
            // More than one is damaged: the first given up takes the rows of all.
            Err(RowsError::Damaged(_)) => {
                for one in lo..=hi {
                    sum += rows_in(held, one, one).unwrap_or(0);
                }
            }
        }
    }
    Ok(u32::try_from(books.account.pending.saturating_sub(sum)).unwrap_or(u32::MAX))
}

impl Spool {
    /// Takes over what the hub says of seqs, from an ack or a welcome; repeating is harmless. The
    /// hub is the authority: seqs that were counted as dropped but reached it become stored.
    ///
    /// # Errors
    /// The storage failed.
    pub fn settle(&mut self, settlement: &Settlement) -> Result<(), SpoolError> {
        let before = self.books.settled.clone();
        for (set, fate) in [(&settlement.stored, Fate::Stored), (&settlement.refused, Fate::Refused)] {
            self.leave_dropped(set, fate)?;
            self.leave_pending(set, fate)?;
        }
        self.confirm_dropped(&settlement.dropped)?;
        self.leave_pending(&settlement.dropped, Fate::Dropped)?;
        self.sent.remove_set(&settlement.all());
        self.check();
        if before == self.books.settled {
            return Ok(());
        }
        // Written with the next commit: the hub's welcome repeats what a crash loses.
        self.unsaved_settlements += 1;
        Ok(())
    }

    fn leave_pending(&mut self, set: &RangeSet, fate: Fate) -> Result<(), SpoolError> {
        let pending = self.books.pending.intersect(set);
        for (lo, hi) in pending.iter() {
            match self.rows_held(lo, hi) {
                Ok(rows) => self.books.leave_pending(lo, hi, rows, fate),
                Err(RowsError::Spool(error)) => return Err(error),
                Err(RowsError::Damaged(seq)) => {
                    // As a gap it has a known row count, and what is at the hub takes it back.
                    self.give_up_damaged(seq)?;
                    return match fate {
                        Fate::Dropped => self.confirm_dropped(set),
                        Fate::Stored | Fate::Refused => self.leave_dropped(set, fate),
                    }
                    .and_then(|()| self.leave_pending(set, fate));
                }
            }
        }
        Ok(())
    }

    fn rows_held(&self, lo: u64, hi: u64) -> Result<u64, RowsError> {
        let fail = |error: SpoolError| RowsError::Spool(error);
        let tx = self.db.begin_read().map_err(|error| fail(SpoolError::storage(error)))?;
        let table = tx.open_table(BATCHES).map_err(|error| fail(SpoolError::storage(error)))?;
        rows_in(&Held { tail: &self.tail, table: &table }, lo, hi)
    }

    /// Seqs counted as dropped are at the hub after all. One whose gap the hub had confirmed stays
    /// dropped: its rows are no longer known.
    fn leave_dropped(&mut self, set: &RangeSet, fate: Fate) -> Result<(), SpoolError> {
        let dropped = self.books.settled.dropped.intersect(set);
        if dropped.is_empty() {
            return Ok(());
        }
        self.commit(|_, tx, books, _| {
            for (lo, hi) in dropped.iter() {
                for (first, last, rows, cause) in gaps::take(tx, lo, hi)? {
                    books.leave_dropped(first, last, rows, cause, fate);
                    if rows == 0 && cause == DropCause::Damaged {
                        books.uncounted = books.uncounted.saturating_sub(last - first + 1);
                    }
                }
            }
            Ok(())
        })
    }

    fn confirm_dropped(&mut self, set: &RangeSet) -> Result<(), SpoolError> {
        let dropped = self.books.settled.dropped.intersect(set);
        if dropped.is_empty() || self.gaps_held()? == 0 {
            return Ok(());
        }
        // A commit for each would cost the flash and the sources more than the readings do.
        if self.gaps.confirm(&dropped) {
            return self.commit(|_, _, _, _| Ok(()));
        }
        self.unsaved_settlements += 1;
        Ok(())
    }

    fn gaps_held(&self) -> Result<u64, SpoolError> {
        use redb::ReadableTableMetadata;
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        let table = tx.open_table(crate::spool::GAPS).map_err(SpoolError::storage)?;
        table.len().map_err(SpoolError::storage)
    }

    pub(crate) fn give_up_in(
        &self,
        tx: &WriteTransaction,
        books: &mut Books,
        gaps: &mut Gaps,
        seq: u64,
    ) -> Result<(), SpoolError> {
        let mut batches = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        let held = Held { tail: &self.tail, table: &batches };
        let found = held.read(seq, |value| (Header::read(value), cost(value.len())))?;
        let (header, freed) = found.unwrap_or((None, 0));
        let rows = match header {
            None if books.pending.contains(seq) => rows_of_damaged(&held, books, seq)?,
            _ => 0,
        };
        batches.remove(seq).map_err(SpoolError::storage)?;
        drop(batches);
        if books.pending.contains(seq) {
            let drop = match header {
                Some(header) => Dropped::from_header(seq, &header),
                None => Dropped { seq, rows, t_min: 0, t_max: 0 },
            };
            books.give_up(seq, u64::from(drop.rows), DropCause::Damaged);
            gaps.record(tx, &[drop], DropCause::Damaged)?;
        }
        books.free(seq, self.streams.map.of(seq), freed);
        Ok(())
    }
}
