//! A disk that others fill: the spool does with what it has until there is room again.
//!
//! When the disk has no room for a commit, the journal's reserve is given back to it, and the spool is
//! opened again. With that room the commit goes through, and from then on the spool holds less than
//! it did: the room that this leaves within the tables' file is what later commits use. What has to
//! make way is for the streams' policies, as under a quota; a stream that blocks waits. Once the reserve
//! can be had again, the disk has room.

use tideline_protocol::model::DropCause;

use crate::journal::JOURNAL_BYTES;
use crate::spool::{Spool, SpoolError};

/// Room that is made within the tables' file: what the journal adds to them, and as much again, as what a
/// commit frees is free for the next one only.
const ROOM_BYTES: u64 = 2 * JOURNAL_BYTES;
/// Between two looks whether there is room again, at first and at most: each writes what room there is.
const LOOK_INTERVAL_MIN_S: u64 = 10;
const LOOK_INTERVAL_MAX_S: u64 = 640;

/// How a spool lives on a full disk.
#[derive(Debug, Clone, Copy)]
pub struct Cramped {
    /// Most bytes of held batches.
    limit_bytes: u64,
    look_at_s: u64,
    look_interval_s: u64,
}

impl Cramped {
    pub const fn is_due(&self, age_s: u64) -> bool {
        age_s >= self.look_at_s
    }
}

impl Spool {
    /// The most that may be held, and why no more.
    pub(crate) fn limit(&self) -> (u64, DropCause) {
        let quota = self.config.quota_bytes;
        match self.cramped {
            Some(cramped) if cramped.limit_bytes < quota => (cramped.limit_bytes, DropCause::DiskFull),
            _ => (quota, DropCause::Quota),
        }
    }

    /// After a failed write: on a full disk the reserve is what lets the spool be opened again.
    pub(crate) fn give_way(&self) {
        if !self.meter.is_full() {
            return;
        }
        match self.journal.spend_reserve() {
            Ok(()) => tracing::warn!("the disk is full; the spool gives its reserve back"),
            Err(error) => {
                tracing::error!(%error, "the disk is full, and the spool cannot give its reserve back")
            }
        }
    }

    /// Takes the reserve again when there is room for it; until then no more is held than is now.
    pub(crate) fn look_for_room(&mut self) -> Result<(), SpoolError> {
        let taken = self
            .journal
            .has_reserve()
            .and_then(|there| if there { Ok(true) } else { self.journal.take_reserve() });
        let taken = taken.map_err(|error| self.meter.explain(SpoolError::failed(error)));
        self.poisoned |= taken.is_err();
        if taken? {
            if self.cramped.take().is_some() {
                tracing::info!("the disk has room again");
            }
            return Ok(());
        }
        let held = self.books.held_cost();
        let fresh = (held - ROOM_BYTES.min(held / 2)).max(self.journal.bytes() / 2);
        let (limit_bytes, look_interval_s) = self.cramped.map_or((fresh, LOOK_INTERVAL_MIN_S), |cramped| {
            (cramped.limit_bytes, (2 * cramped.look_interval_s).min(LOOK_INTERVAL_MAX_S))
        });
        let look_at_s = self.books.age_s.saturating_add(look_interval_s);
        self.cramped = Some(Cramped { limit_bytes, look_at_s, look_interval_s });
        tracing::warn!(limit_bytes, "the disk is full; the spool makes do with what it has");
        Ok(())
    }
}
