//! Room that the journal's file keeps behind its records, for a disk that others fill: given back, it is
//! what the tables need to take in what is durable already, and to make room by the streams' policies.

use std::io;

use redb::StorageBackend;

use super::Journal;

/// The reserve in journals: what one adds to the tables, and the space that a commit frees only for the
/// next one.
const JOURNALS: u64 = 3;
/// A smaller one would not hold the pages of a commit, however small the journal.
const BYTES_MIN: u64 = 256 * 1024;
/// Bytes that are written together.
const BLOCK_BYTES: u64 = 64 * 1024;

impl<B: StorageBackend> Journal<B> {
    const fn bytes_with_reserve(&self) -> u64 {
        let reserve = self.bytes.saturating_mul(JOURNALS);
        self.bytes.saturating_add(if reserve < BYTES_MIN { BYTES_MIN } else { reserve })
    }

    /// Whether the reserve is there; it is spent when the disk was full.
    ///
    /// # Errors
    /// The disk failed.
    pub fn has_reserve(&self) -> io::Result<bool> {
        Ok(self.disk.len()? >= self.bytes_with_reserve())
    }

    /// Gives the reserve back to the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn spend_reserve(&self) -> io::Result<()> {
        spend(&self.disk, self.bytes)
    }

    /// Takes the reserve again; `false` when there is no room for it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn take_reserve(&self) -> io::Result<bool> {
        match self.extend() {
            Err(error) if is_full(&error) => self.spend_reserve().map(|()| false),
            taken => taken.map(|()| true),
        }
    }

    fn extend(&self) -> io::Result<()> {
        let end = self.bytes_with_reserve();
        self.disk.set_len(end)?;
        let zeros = vec![0; usize::try_from(BLOCK_BYTES).map_err(io::Error::other)?];
        let mut at = self.bytes;
        while at < end {
            let len = usize::try_from((end - at).min(BLOCK_BYTES)).map_err(io::Error::other)?;
            self.disk.write(at, zeros.get(..len).unwrap_or_default())?;
            at += len as u64;
        }
        self.disk.sync_data()
    }
}

/// Cuts what is behind the `bytes` of a journal.
pub fn spend(disk: &impl StorageBackend, bytes: u64) -> io::Result<()> {
    if disk.len()? > bytes {
        disk.set_len(bytes)?;
    }
    Ok(())
}

/// Whether it says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
