//! What the spool remembers of the clocks that gave its readings their times.

use redb::ReadTransaction;
use tideline_protocol::clocks::{Boots, Stamp};

use crate::spool::{META, Spool, SpoolError};
use crate::sums::{summed, without_sum};

/// What a new spool knows.
pub fn none() -> Result<Vec<u8>, SpoolError> {
    to_bytes(&Boots::default())
}

fn to_bytes(boots: &Boots) -> Result<Vec<u8>, SpoolError> {
    Ok(summed("boots", &minicbor::to_vec(boots).map_err(SpoolError::failed)?))
}

pub fn read(tx: &ReadTransaction) -> Result<Boots, SpoolError> {
    let meta = tx.open_table(META).map_err(SpoolError::storage)?;
    let Some(bytes) = meta.get("boots").map_err(SpoolError::storage)? else {
        return Err(SpoolError::Corrupt("it names no boots".into()));
    };
    let bytes = without_sum("boots", bytes.value());
    let bytes = bytes.ok_or_else(|| SpoolError::Corrupt("its boots are damaged".into()))?;
    minicbor::decode(bytes).map_err(|error| SpoolError::Corrupt(format!("its boots: {error}")))
}

impl Spool {
    /// The readings from now on are of this start of the machine, durably.
    ///
    /// # Errors
    /// The storage failed.
    pub fn begin_boot(&mut self, id: [u8; 16]) -> Result<(), SpoolError> {
        let known = self.boots.clone();
        self.boot = self.boots.begin(id);
        // Before any batch has its number: after a crash another boot would get it.
        if self.boots == known { Ok(()) } else { self.keep_boots() }
    }

    /// What a batch is to remember of a clock that is so far ahead of the monotonic one; none before
    /// [`Spool::begin_boot`].
    #[must_use]
    pub const fn stamp(&self, offset_ns: i64, believed: bool) -> Option<Stamp> {
        if self.boot == 0 { None } else { Some(Stamp { boot: self.boot, offset_ns, believed }) }
    }

    /// As [`Spool::stamp`], of the start of the machine with this id; none where it is not remembered, as such times are
    /// corrected no more.
    #[must_use]
    pub fn stamp_of(&self, id: [u8; 16], offset_ns: i64, believed: bool) -> Option<Stamp> {
        self.boots.number(id).map(|boot| Stamp { boot, offset_ns, believed })
    }

    /// A hub has said how far ahead the clock should be of the monotonic one, which is at `mono_ns`.
    /// What is sent from now on is corrected by it, also after a restart.
    ///
    /// # Errors
    /// The storage failed.
    pub fn learn_time(&mut self, mono_ns: u64, offset_ns: i64) -> Result<(), SpoolError> {
        if self.boots.learn(self.boot, mono_ns, offset_ns) { self.keep_boots() } else { Ok(()) }
    }

    /// Whether a hub has told the time since the machine started.
    #[must_use]
    pub fn knows_time(&self) -> bool {
        self.boots.is_known(self.boot)
    }

    /// The latest time that a hub has ever told, ns since 1970.
    #[must_use]
    pub const fn time_floor_ns(&self) -> i64 {
        self.boots.floor_ns()
    }

    fn keep_boots(&mut self) -> Result<(), SpoolError> {
        self.commit(|spool, tx, _, _| {
            let bytes = to_bytes(&spool.boots)?;
            let mut meta = tx.open_table(META).map_err(SpoolError::storage)?;
            meta.insert("boots", bytes.as_slice()).map_err(SpoolError::storage)?;
            Ok(())
        })
    }
}
