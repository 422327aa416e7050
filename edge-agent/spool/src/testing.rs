//! A disk in memory that can lose its power: for tests and the simulation, never for production.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::backend::Files;

#[derive(Debug, Default)]
struct Disk {
    files: [File; 2],
    power_cycles: u64,
    failing: bool,
    // The next sync fails, and what it was to make durable never is.
    loses_sync: bool,
    // Most bytes that both files may take of the disk together.
    room: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct File {
    data: Vec<u8>,
    // What unsynced calls overwrote, newest last.
    undo: Vec<Undo>,
    // Sectors and the length as they are on the disk, where reads show what a failed sync had lost.
    lost: BTreeMap<usize, Vec<u8>>,
    lost_len: Option<usize>,
    bytes_read: usize,
    // The blocks that are more than holes.
    backed: BTreeSet<usize>,
}

impl File {
    /// What was written stays to be read, but is not on the disk and will not be by any later sync.
    fn lose(&mut self) {
        let mut platter = Self { data: self.data.clone(), undo: self.undo.clone(), ..Self::default() };
        platter.undo_all();
        self.lost_len.get_or_insert(platter.data.len());
        for sector in self.undo.drain(..).flat_map(|undo| undo.sectors()) {
            let (from, to) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
            let end = platter.data.len();
            let there = platter.data.get(from.min(end)..to.min(end)).unwrap_or_default();
            self.lost.entry(sector).or_insert_with(|| there.to_vec());
        }
    }

    fn sync(&mut self) {
        for sector in self.undo.drain(..).flat_map(|undo| undo.sectors()) {
            self.lost.remove(&sector);
        }
        self.lost_len = None;
    }

    /// Undoes what was not synced.
    fn roll_back(&mut self) {
        self.undo_all();
        if let Some(len) = self.lost_len.take() {
            self.data.resize(len, 0);
        }
        self.backed.split_off(&self.data.len().div_ceil(BLOCK_BYTES));
        for (sector, bytes) in std::mem::take(&mut self.lost) {
            let place = self.data.get_mut(sector * SECTOR_BYTES..).unwrap_or_default();
            place.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
    }

    fn undo_all(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Write { offset, before } => {
                    if let Some(place) = self.data.get_mut(offset..offset + before.len()) {
                        place.copy_from_slice(&before);
                    }
                }
                Undo::Len { before, cut } => {
                    self.data.truncate(before.saturating_sub(cut.len()));
                    self.data.extend_from_slice(&cut);
                    self.data.resize(before, 0);
                }
            }
        }
    }

    /// Undoes what was not synced, but for some sectors that had reached the disk all the same.
    fn tear(&mut self, seed: u64) {
        let range = |sector: usize| sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        let written: BTreeSet<usize> = self.undo.iter().flat_map(Undo::sectors).collect();
        let kept = written.into_iter().filter(|sector| splitmix(seed ^ *sector as u64) & 1 == 0);
        let kept: Vec<(usize, Vec<u8>)> = kept
            .filter_map(|sector| self.data.get(range(sector)).map(|bytes| (sector, bytes.to_vec())))
            .collect();
        self.roll_back();
        for (sector, bytes) in kept {
            if let Some(to) = self.data.get_mut(range(sector)) {
                to.copy_from_slice(&bytes);
            }
        }
    }
}

/// What a file system gives to a file at a time, when something is first written there.
const BLOCK_BYTES: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Clone)]
enum Undo {
    Write { offset: usize, before: Vec<u8> },
    Len { before: usize, cut: Vec<u8> },
}

impl Undo {
    fn sectors(&self) -> std::ops::Range<usize> {
        match self {
            Self::Write { offset, before } => {
                offset / SECTOR_BYTES..(offset + before.len()).div_ceil(SECTOR_BYTES)
            }
            Self::Len { .. } => 0..0,
        }
    }
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Undo")
    }
}

/// A storage backend whose unsynced writes are lost at [`CrashBackend::crash`]. Clones share the disk,
/// which has two files: this one and [`CrashBackend::journal`].
#[derive(Debug, Clone, Default)]
pub struct CrashBackend {
    disk: Arc<Mutex<Disk>>,
    power_cycle: u64,
    file: usize,
    // Whether syncs make nothing durable.
    lies: bool,
}

impl From<CrashBackend> for Files {
    fn from(tables: CrashBackend) -> Self {
        let journal = tables.journal();
        Self::new(tables, journal)
    }
}

impl CrashBackend {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these two files.
    #[must_use]
    pub fn holding(files: [Vec<u8>; 2]) -> Self {
        let disk = Disk { files: files.map(|data| File { data, ..File::default() }), ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)), ..Self::default() }
    }

    /// Its two files as they are now, unsynced writes included.
    #[must_use]
    pub fn contents(&self) -> [Vec<u8>; 2] {
        self.disk().files.each_ref().map(|file| file.data.clone())
    }

    /// The other file of the disk.
    #[must_use]
    pub fn journal(&self) -> Self {
        Self { file: 1, ..self.clone() }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: what was not synced is gone, and every handle from before is dead. Gives a
    /// handle to the disk after the restart.
    #[must_use]
    pub fn crash(&self) -> Self {
        self.restart(File::roll_back)
    }

    /// As [`CrashBackend::crash`], but some sectors of what was not synced had reached the disk.
    #[must_use]
    pub fn crash_torn(&self, seed: u64) -> Self {
        self.restart(|file| file.tear(seed))
    }

    fn restart(&self, lose: impl Fn(&mut File)) -> Self {
        let mut disk = self.disk();
        disk.files.iter_mut().for_each(lose);
        disk.power_cycles += 1;
        disk.failing = false;
        Self { disk: Arc::clone(&self.disk), power_cycle: disk.power_cycles, file: self.file, lies: false }
    }

    /// Kills the process but not the machine: every write so far survives.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.restart(|file| file.undo.clear())
    }

    /// A copy of the disk as it would be found after a power cut: an image that is put back later,
    /// or into another device.
    #[must_use]
    pub fn image(&self) -> Self {
        let mut files: [File; 2] = Default::default();
        for (copy, file) in files.iter_mut().zip(&self.disk().files) {
            *copy = file.clone();
            copy.roll_back();
        }
        let disk = Disk { files, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)), file: self.file, ..Self::default() }
    }

    /// From now on writes fail, as on a full or dying disk, until the next crash.
    pub fn fail_writes(&self) {
        self.disk().failing = true;
    }

    /// A handle whose syncs make nothing durable.
    #[cfg(test)]
    pub(crate) fn unsynced(&self) -> Self {
        Self { lies: true, ..self.clone() }
    }

    /// The next sync of either file fails, and what it was to make durable is lost: it stays to be read
    /// until the power is cut, and no later sync writes it, as systems do.
    pub fn lose_next_sync(&self) {
        self.disk().loses_sync = true;
    }

    /// Whether reads show what a failed sync has lost.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.disk().files.iter().any(|file| file.lost_len.is_some() || !file.lost.is_empty())
    }

    /// From now on the files take at most so many bytes together, as on a disk that others fill; growth
    /// beyond them fails. `None`: as much as there may be.
    pub fn set_room(&self, bytes: Option<usize>) {
        self.disk().room = bytes;
    }

    /// Bytes that both files take of the disk together; holes take none.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.disk().files.iter().map(|file| file.backed.len() * BLOCK_BYTES).sum()
    }

    /// Bytes of this file.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.disk().files.get(self.file).map_or(0, |file| file.data.len())
    }

    /// Bytes read of this file so far.
    #[must_use]
    pub fn bytes_read(&self) -> usize {
        self.disk().files.get(self.file).map_or(0, |file| file.bytes_read)
    }

    /// Flips one bit of the byte at `offset`, as a worn cell does.
    pub fn flip(&self, offset: usize) {
        let mut disk = self.disk();
        if let Some(byte) = disk.files.get_mut(self.file).and_then(|file| file.data.get_mut(offset)) {
            *byte ^= 1;
        }
    }

    /// Where `needle` stands on the disk.
    #[must_use]
    pub fn find(&self, needle: &[u8]) -> Vec<usize> {
        let disk = self.disk();
        let data = disk.files.get(self.file).map_or(&[][..], |file| &file.data);
        let hits = data.windows(needle.len().max(1)).enumerate();
        hits.filter(|(_, window)| *window == needle).map(|(at, _)| at).collect()
    }

    fn with<T>(&self, writes: bool, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk();
        if disk.power_cycles != self.power_cycle {
            return Err(io::Error::other("the power was cut"));
        }
        if writes && disk.failing {
            return Err(io::Error::other("the disk fails writes"));
        }
        work(disk.files.get_mut(self.file).ok_or_else(|| io::Error::other("no such file"))?)
    }
}

fn end_of(offset: u64, len: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start.checked_add(len).ok_or_else(|| io::Error::other("offset overflows"))?;
    Ok((start, end))
}

impl StorageBackend for CrashBackend {
    fn len(&self) -> io::Result<u64> {
        self.with(false, |file| Ok(file.data.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, out.len())?;
        self.with(false, |file| {
            let bytes = file.data.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            file.bytes_read += out.len();
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (len, _) = end_of(len, 0)?;
        self.with(true, |file| {
            file.backed.split_off(&len.div_ceil(BLOCK_BYTES));
            let before = file.data.len();
            let cut = file.data.get(len..).unwrap_or_default().to_vec();
            file.undo.push(Undo::Len { before, cut });
            file.data.resize(len, 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        if std::mem::take(&mut self.disk().loses_sync) {
            return self.with(true, |file| {
                file.lose();
                Err(io::Error::other("the disk failed a sync"))
            });
        }
        self.with(true, |file| {
            if !self.lies {
                file.sync();
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, data.len())?;
        let (all, room) = (self.bytes(), self.disk().room);
        self.with(true, |file| {
            let blocks = start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
            let fresh = blocks.clone().filter(|block| !file.backed.contains(block)).count();
            if fresh > 0 && room.is_some_and(|room| all + fresh * BLOCK_BYTES > room) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.backed.extend(blocks);
            let place = file.data.get_mut(start..end);
            let place = place.ok_or_else(|| io::Error::other("write beyond the end"))?;
            let before = place.to_vec();
            place.copy_from_slice(data);
            file.undo.push(Undo::Write { offset: start, before });
            Ok(())
        })
    }
}
