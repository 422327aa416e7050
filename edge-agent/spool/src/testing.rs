//! A disk in memory that can lose its power: for tests and the simulation, never for production.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

#[derive(Debug, Default)]
struct Disk {
    data: Vec<u8>,
    // What unsynced calls overwrote, newest last.
    undo: Vec<Undo>,
    power_cycles: u64,
    failing: bool,
}

enum Undo {
    Write { offset: usize, before: Vec<u8> },
    Len { before: usize, cut: Vec<u8> },
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Undo")
    }
}

/// A storage backend whose unsynced writes are lost at [`CrashBackend::crash`]. Clones share the disk.
#[derive(Debug, Clone, Default)]
pub struct CrashBackend {
    disk: Arc<Mutex<Disk>>,
    power_cycle: u64,
}

impl CrashBackend {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: what was not synced is gone, and every handle from before is dead. Gives a
    /// handle to the disk after the restart.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut disk = self.disk();
        while let Some(undo) = disk.undo.pop() {
            match undo {
                Undo::Write { offset, before } => {
                    if let Some(place) = disk.data.get_mut(offset..offset + before.len()) {
                        place.copy_from_slice(&before);
                    }
                }
                Undo::Len { before, cut } => {
                    disk.data.truncate(before.saturating_sub(cut.len()));
                    disk.data.extend_from_slice(&cut);
                    disk.data.resize(before, 0);
                }
            }
        }
        disk.power_cycles += 1;
        disk.failing = false;
        Self { disk: Arc::clone(&self.disk), power_cycle: disk.power_cycles }
    }

    /// Kills the process but not the machine: every write so far survives.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut disk = self.disk();
        disk.undo.clear();
        disk.power_cycles += 1;
        Self { disk: Arc::clone(&self.disk), power_cycle: disk.power_cycles }
    }

    /// From now on writes fail, as on a full or dying disk, until the next crash.
    pub fn fail_writes(&self) {
        self.disk().failing = true;
    }

    /// Flips one bit of the byte at `offset`, as a worn cell does.
    pub fn flip(&self, offset: usize) {
        if let Some(byte) = self.disk().data.get_mut(offset) {
            *byte ^= 1;
        }
    }

    /// Where `needle` stands on the disk.
    #[must_use]
    pub fn find(&self, needle: &[u8]) -> Vec<usize> {
        let disk = self.disk();
        let hits = disk.data.windows(needle.len().max(1)).enumerate();
        hits.filter(|(_, window)| *window == needle).map(|(at, _)| at).collect()
    }

    fn live(&self, writes: bool) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if disk.power_cycles != self.power_cycle {
            return Err(io::Error::other("the power was cut"));
        }
        if writes && disk.failing {
            return Err(io::Error::other("the disk fails writes"));
        }
        Ok(disk)
    }
}

fn end_of(offset: u64, len: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start.checked_add(len).ok_or_else(|| io::Error::other("offset overflows"))?;
    Ok((start, end))
}

impl StorageBackend for CrashBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.live(false)?.data.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, out.len())?;
        let disk = self.live(false)?;
        let bytes = disk.data.get(start..end).ok_or_else(|| io::Error::other("read beyond the end"))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (len, _) = end_of(len, 0)?;
        let mut disk = self.live(true)?;
        let before = disk.data.len();
        let cut = disk.data.get(len..).unwrap_or_default().to_vec();
        disk.undo.push(Undo::Len { before, cut });
        disk.data.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.live(true)?.undo.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, data.len())?;
        let mut disk = self.live(true)?;
        let place = disk.data.get_mut(start..end).ok_or_else(|| io::Error::other("write beyond the end"))?;
        let before = place.to_vec();
        place.copy_from_slice(data);
        disk.undo.push(Undo::Write { offset: start, before });
        Ok(())
    }
}
