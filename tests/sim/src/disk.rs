//! The hub's disk: segments in memory that lose at a crash what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use tideline_store::LogDisk;

#[derive(Debug, Clone, Default)]
struct Segment {
    data: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Clone, Default)]
struct Platter {
    segments: BTreeMap<u64, Segment>,
    current: u64,
    fail_next_sync: bool,
    fail_next_remove: bool,
    full: bool,
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

    /// A copy of the disk as it would be found after a power cut.
    #[must_use]
    pub fn image(&self) -> Self {
        let mut segments = self.platter().segments.clone();
        segments.values_mut().for_each(|segment| segment.data.truncate(segment.synced));
        let platter = Platter { segments, ..Platter::default() };
        Self { platter: Arc::new(Mutex::new(platter)), lies: self.lies }
    }

    /// Flips a bit of what is durable, as a worn cell does.
    pub fn flip(&self, rng: &mut StdRng) {
        let mut platter = self.platter();
        let bytes: usize = platter.segments.values().map(|segment| segment.data.len()).sum();
        if bytes == 0 {
            return;
        }
        let mut at = rng.random_range(0..bytes);
        for segment in platter.segments.values_mut() {
            match segment.data.get_mut(at) {
                Some(byte) => return *byte ^= 1 << rng.random_range(0..8),
                None => at -= segment.data.len(),
            }
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

    /// From now on it takes no more, or has room again.
    pub fn fill(&self, full: bool) {
        self.platter().full = full;
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

    fn settle(&mut self, segment: u64) -> io::Result<()> {
        let mut platter = self.platter();
        let segment = platter.segments.get_mut(&segment).ok_or_else(no_segment)?;
        segment.synced = segment.data.len();
        Ok(())
    }

    fn create(&mut self, segment: u64) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.segments.insert(segment, Segment::default());
        platter.current = segment;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        let (current, full) = (platter.current, platter.full);
        let segment = platter.segments.get_mut(&current).ok_or_else(no_segment)?;
        // The last block still had room for some of it.
        let fits = if full { bytes.len() / 2 } else { bytes.len() };
        segment.data.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
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
