//! The spool's age: for how long it has been open in all. Readings expire by it and not by the
//! clock: a wrong clock that is set right would otherwise empty the spool.

use redb::{ReadableDatabase as _, ReadableTable as _};
use tideline_protocol::model::DropCause;

use crate::blob::{Header, cost};
use crate::room::Room;
use crate::spool::{BATCHES, Spool, SpoolError};
use crate::streams::StreamNo;
use crate::tail::Held;

/// Readings expire this part of their time late, so that not every moment has its commit.
const SLACK_DIVISOR: u64 = 64;

impl Spool {
    /// The spool's age in seconds. After a crash it is that of the newest batch.
    #[must_use]
    pub const fn age_s(&self) -> u64 {
        self.books.age_s
    }

    /// The spool was open for `seconds` more: what has outlived its stream's limit is freed when it is
    /// settled, and given up when not.
    ///
    /// # Errors
    /// The storage failed.
    pub fn grow_older(&mut self, seconds: u64) -> Result<(), SpoolError> {
        self.books.age_s = self.books.age_s.saturating_add(seconds);
        self.begin_day();
        if self.cramped.is_some_and(|cramped| cramped.is_due(self.books.age_s)) {
            self.look_for_room()?;
        }
        for no in (0..).take(self.streams.all.len()) {
            let keep_s = self.streams.policy(no).keep_s;
            let due = self.books.age_s.checked_sub(keep_s.saturating_add(keep_s / SLACK_DIVISOR));
            let Some(due) = due.filter(|_| keep_s > 0) else { continue };
            if self.oldest_at(no)?.is_some_and(|at_s| at_s <= due) {
                self.expire(no, self.books.age_s.saturating_sub(keep_s))?;
            }
        }
        self.check();
        Ok(())
    }

    /// The age at which the oldest held batch of a stream was appended.
    fn oldest_at(&self, no: StreamNo) -> Result<Option<u64>, SpoolError> {
        let seq = self.books.held.iter().find_map(|(lo, hi)| self.streams.map.next_of(no, lo, hi));
        let Some(seq) = seq else { return Ok(None) };
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        let table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        let header = Held { tail: &self.tail, table: &table }.header(seq)?;
        Ok(header.map(|header| u64::from(header.at_s)))
    }

    fn expire(&mut self, no: StreamNo, before_s: u64) -> Result<(), SpoolError> {
        self.commit(|spool, tx, books, gaps| {
            let mut room = Room::new(spool, tx, books, gaps)?;
            let mut held = Vec::new();
            spool.streams.map.each_of(no, &room.books.held, |seq| held.push(seq));
            for seq in held {
                let found = room.batches.get(seq).map_err(SpoolError::storage)?;
                let (header, bytes) =
                    found.map_or((None, 0), |value| (Header::read(value.value()), cost(value.value().len())));
                if header.is_some_and(|header| u64::from(header.at_s) > before_s) {
                    break;
                }
                if room.books.pending.contains(seq) {
                    room.give_up(seq, DropCause::Expired)?;
                } else {
                    room.batches.remove(seq).map_err(SpoolError::storage)?;
                    room.books.free(seq, no, bytes);
                }
            }
            room.finish()
        })
    }
}
