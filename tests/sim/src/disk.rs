//! The hub's disk: segments in memory that lose at a crash what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use tideline_store::LogDisk;

#[derive(Debug, Default)]
struct Segment {
    data: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Default)]
struct Platter {
    segments: BTreeMap<u64, Segment>,
    current: u64,
    fail_next_sync: bool,
    fail_next_remove: bool,
}

/// A [`LogDisk`] in memory. Clones share the platter, so that it outlives the process it served.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    lies: bool,
}

impl SimDisk {
    /// A disk; one that `lies` answers a sync before anything is durable, as the canary does.
    #[must_use]
    pub fn new(lies: bool) -> Self {
        Self { platter: Arc::default(), lies }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power. Of what was not synced some prefix may survive, its last byte torn.
    pub fn crash(&self, rng: &mut StdRng) {
        let mut platter = self.platter();
        platter.fail_next_sync = false;
        platter.fail_next_remove = false;
        for segment in platter.segments.values_mut() {
            let unsynced = segment.data.len() - segment.synced;
            let kept = if unsynced > 0 { rng.random_range(0..=unsynced) } else { 0 };
            segment.data.truncate(segment.synced + kept);
            let torn = kept > 0 && rng.random_bool(0.5);
            if let (true, Some(last)) = (torn, segment.data.last_mut()) {
                *last ^= 1 << (rng.next_u32() % 8);
            }
            segment.synced = segment.data.len();
        }
    }

    /// The oldest segment.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.platter().segments.keys().next().copied()
    }

    /// The next sync fails, and what it should have made durable is not.
    pub fn fail_next_sync(&self) {
        self.platter().fail_next_sync = true;
    }

    /// The next segment that is to be removed stays.
    pub fn fail_next_remove(&self) {
        self.platter().fail_next_remove = true;
    }
}

fn no_segment() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl LogDisk for SimDisk {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.platter().segments.keys().copied().collect())
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        self.platter().segments.get(&segment).map(|s| s.data.clone()).ok_or_else(no_segment)
    }

    fn create(&mut self, segment: u64) -> io::Result<()> {
        let mut platter = self.platter();
        platter.segments.insert(segment, Segment::default());
        platter.current = segment;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        let current = platter.current;
        let segment = platter.segments.get_mut(&current).ok_or_else(no_segment)?;
        segment.data.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let lies = self.lies;
        let mut platter = self.platter();
        if std::mem::take(&mut platter.fail_next_sync) {
            return Err(io::Error::other("the disk failed a sync"));
        }
        let current = platter.current;
        let segment = platter.segments.get_mut(&current).ok_or_else(no_segment)?;
        if !lies {
            segment.synced = segment.data.len();
        }
        Ok(())
    }

    fn truncate(&mut self, segment: u64, len: u64) -> io::Result<()> {
        let mut platter = self.platter();
        let segment = platter.segments.get_mut(&segment).ok_or_else(no_segment)?;
        segment.data.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        segment.synced = segment.data.len();
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        let mut platter = self.platter();
        if std::mem::take(&mut platter.fail_next_remove) {
            return Err(io::Error::other("the disk failed to remove a file"));
        }
        platter.segments.remove(&segment);
        Ok(())
    }
}
