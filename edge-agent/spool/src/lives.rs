//! The branch of a spool that turned out to be a copy. See `tideline_protocol::lives` for why.

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use tideline_protocol::lives::{self, Moved};
use tideline_protocol::model::{Account, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Settlement;

use crate::blob::{BLOB_HEADER_LEN, Header, cost};
use crate::books::Books;
use crate::gaps::Gaps;
use crate::spool::{BATCHES, META, Spool, SpoolError, begin_write};
use crate::sums::summed;

impl Spool {
    /// Begins a life without an opening: what is given out from here on is told from what a hub may
    /// hold of it already.
    ///
    /// # Errors
    /// The storage failed; open the spool again.
    pub fn begin_life(&mut self, id: u64) -> Result<(), SpoolError> {
        self.commit(|_, _, books, _| {
            lives::begin(&mut books.lives, id, Seq::new(books.head + 1));
            Ok(())
        })
    }

    /// Goes on in the branch that parted at `at`: everything that is still pending, and the gaps that
    /// the hub has not confirmed, keep their seqs in a new epoch. What was settled is freed: it is of
    /// the old epoch. The sources' positions and the dictionary stay.
    ///
    /// # Errors
    /// The storage failed; open the spool again.
    pub fn branch(&mut self, at: Seq) -> Result<(), SpoolError> {
        // The tail and the positions go into the tables, where the headers are written again.
        self.commit(|_, _, _, _| Ok(()))?;
        self.give_up_unreadable()?;
        let old = self.epoch;
        let done = self.branch_at(at);
        self.poisoned = done.is_err();
        done.map_err(|error| self.meter.explain(error))?;
        // From here on the journal could be lost.
        self.commit(|_, _, _, _| Ok(()))?;
        tracing::warn!(%old, new = %self.epoch, at = at.get(), rows = self.books.account.produced,
            "this spool is a copy of another; it goes on under a new epoch");
        self.check();
        Ok(())
    }

    /// A batch without a readable header has no row count of its own; as a gap it has one.
    fn give_up_unreadable(&mut self) -> Result<(), SpoolError> {
        let mut unreadable = Vec::new();
        {
            let tx = self.db.begin_read().map_err(SpoolError::storage)?;
            let table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
            for entry in table.iter().map_err(SpoolError::storage)? {
                let (seq, value) = entry.map_err(SpoolError::storage)?;
                if Header::read(value.value()).is_none() {
                    unreadable.push(seq.value());
                }
            }
        }
        unreadable.into_iter().try_for_each(|seq| self.give_up_damaged(seq))
    }

    fn branch_at(&mut self, at: Seq) -> Result<(), SpoolError> {
        let gaps = self.gaps_unconfirmed()?;
        let tx = begin_write(&self.db)?;
        let (epoch, lives) = lives::branch(self.epoch, &self.books.lives, at);
        let (age_s, wear_day, worn) = (self.books.age_s, self.books.wear_day, self.books.worn);
        let (head, sent_until) = (self.books.head, self.books.sent_until);
        let mut books = Books { head, sent_until, lives, age_s, wear_day, worn, ..Books::default() };
        for gap in &gaps {
            books.count_drops(gap.cause, gap.rows.total());
            books.uncounted += gap
                .rows
                .runs()
                .iter()
                .filter(|(_, rows)| *rows == 0)
                .map(|(seqs, _)| u64::from(*seqs))
                .sum::<u64>();
            books.settled.dropped.insert(gap.first.get(), gap.last().get());
            books.account.dropped += gap.rows.total();
        }
        self.rewrite(&tx, &mut books)?;
        let mut elsewhere = RangeSet::of(1, books.head);
        elsewhere.remove_set(&books.settled.dropped);
        elsewhere.remove_set(&books.pending);
        // Without rows: they are counted in the old epoch.
        books.settled = Settlement { stored: elsewhere, ..books.settled };
        let Account { pending, dropped, .. } = books.account;
        books.account.produced = pending + dropped;
        books.moved = Some(Moved { epoch: self.epoch, rows: pending });
        {
            let mut meta = tx.open_table(META).map_err(SpoolError::storage)?;
            // The journal as a new spool's: it cannot have been lost yet.
            for (key, value) in [
                ("epoch", summed("epoch", epoch.as_bytes())),
                ("books", books.to_bytes()),
                ("journal", summed("journal", &0_u64.to_le_bytes())),
            ] {
                meta.insert(key, value.as_slice()).map_err(SpoolError::storage)?;
            }
        }
        tx.commit().map_err(SpoolError::storage)?;
        self.journal.begin_epoch(epoch).map_err(SpoolError::failed)?;
        (self.books, self.gaps, self.epoch) = (books, Gaps::default(), epoch);
        self.unsaved_settlements = 0;
        Ok(())
    }

    /// Writes the header of each pending batch again, with the totals of the new epoch, and frees the
    /// others. The dropped rows come first in those totals.
    fn rewrite(&self, tx: &WriteTransaction, books: &mut Books) -> Result<(), SpoolError> {
        let mut table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        let mut rows_through = books.account.dropped;
        for seq in self.books.held.iter().flat_map(|(lo, hi)| lo..=hi) {
            let value = table.remove(seq).map_err(SpoolError::storage)?.map(|value| value.value().to_vec());
            let header = value.as_deref().and_then(Header::read);
            let (Some(value), Some(header), true) = (value, header, self.books.pending.contains(seq)) else {
                continue;
            };
            rows_through += u64::from(header.rows);
            books.account.pending += u64::from(header.rows);
            books.cost_in += cost(value.len());
            books.cost_of(header.stream, |all| all + cost(value.len()));
            books.held.insert(seq, seq);
            books.pending.insert(seq, seq);
            let mut renewed = Vec::with_capacity(value.len());
            Header { rows_through, cost_through: books.cost_in, ..header }.write(&mut renewed);
            renewed.extend_from_slice(value.get(BLOB_HEADER_LEN..).unwrap_or_default());
            table.insert(seq, renewed.as_slice()).map_err(SpoolError::storage)?;
        }
        Ok(())
    }
}
