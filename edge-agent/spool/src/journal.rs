//! The journal in front of the tables: where an append becomes durable with one small write.
//!
//! A commit of redb rewrites a path of its tree, about ten pages for one batch. A record here is the
//! batch's own bytes, written over space that was allocated before, so that the sync has nothing but
//! data to wait for. When the journal is full its batches go into the tables in one commit, which
//! also raises the generation: with it every record in the file is void, and the next one is
//! written over the first.
//!
//! ```text
//! file:   4 "TLJ1" | 16 epoch | 4 CRC-32C of both | zeros up to 64 | records
//! record: 4 "TLJR" | 8 first bytes of the epoch | 8 generation | 4 length of the body
//!         | 4 CRC-32C of all before and of the body | body                    (little-endian)
//! body:   4 length of the news | news, CBOR | batches, each 4 length | bytes
//! ```
//! A record is written and synced before the next one is begun, and opening voids what it read. So
//! only the last record can be torn by a crash; one that is unreadable with good ones behind it was
//! damaged after it had been made durable, and its seqs are missed by the good ones' running totals.
//! What cannot be told from a torn record is damage to the very last one between a crash and the
//! next start.

use std::io;

use minicbor::{Decode, Encode};
use redb::StorageBackend;
use tideline_protocol::model::Epoch;

/// Bytes of the file unless told otherwise, allocated at once: what a spool costs at least, and what
/// opening reads.
pub const JOURNAL_BYTES: u64 = 1024 * 1024;
/// More seqs than a full journal can hold: no record is shorter than 52 bytes a batch.
pub const SEQS_MAX: u64 = 32_768;
const FILE_MAGIC: [u8; 4] = *b"TLJ1";
/// Where the records begin.
const FIRST_RECORD: u32 = 64;
const MAGIC: [u8; 4] = *b"TLJR";
const HEAD_BYTES: usize = 28;
/// The part of the head that the checksum covers beside the body.
const SUMMED_BYTES: usize = 24;

/// What an append says beside its batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct News {
    /// The seq of the first batch.
    #[n(0)]
    pub first: u64,
    /// Positions of sources by name.
    #[n(1)]
    pub cursors: Vec<(String, minicbor::bytes::ByteVec)>,
}

/// One durable append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// What came with the batches.
    pub news: News,
    /// Stored values as the tables take them, in seq order.
    pub batches: Vec<Vec<u8>>,
}

/// What the file held.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The readable records in the order written.
    pub records: Vec<Record>,
    /// Whether there was anything at all, damaged or torn records too: then the generation must be
    /// raised before the next write.
    pub used: bool,
    /// Whether the file was made for this epoch; if not, what it held is lost.
    pub present: bool,
    /// Whether it has records that are newer than the tables know: those went back in time.
    pub newer: bool,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal<B> {
    disk: B,
    bytes: u64,
    epoch: Epoch,
    generation: u64,
    end: u64,
}

impl<B: StorageBackend> Journal<B> {
    /// Opens the journal of `size` bytes and reads the records of `generation`.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(disk: B, size: u64, epoch: Epoch, generation: u64) -> io::Result<(Self, Recovered)> {
        let len = disk.len()?;
        let mut bytes = vec![0; usize::try_from(len.min(size)).map_err(io::Error::other)?];
        disk.read(0, &mut bytes)?;
        let journal = Self { disk, bytes: size, epoch, generation, end: u64::from(FIRST_RECORD) };
        if len < size || !bytes.starts_with(&file_head(epoch)) {
            journal.allocate()?;
            return Ok((journal, Recovered::default()));
        }
        let records = bytes.get(FIRST_RECORD as usize..).unwrap_or_default();
        let recovered = journal.recover(records);
        Ok((journal, recovered))
    }

    /// Zeros are written rather than left as a hole: a write into a hole would have to allocate.
    fn allocate(&self) -> io::Result<()> {
        self.disk.set_len(self.bytes)?;
        let mut bytes = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        let head = file_head(self.epoch);
        bytes.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        self.disk.write(0, &bytes)?;
        self.disk.sync_data()
    }

    fn recover(&self, bytes: &[u8]) -> Recovered {
        let mut found = Recovered { present: true, ..Recovered::default() };
        let own = mark(self.epoch, self.generation);
        let (same, first) = (bytes.starts_with(own.get(..12).unwrap_or_default()), bytes.get(12..20));
        let first = first.and_then(|bytes| bytes.first_chunk::<8>()).map(|bytes| u64::from_le_bytes(*bytes));
        // Only a readable record counts: a damaged one may name any generation.
        found.newer = same
            && first.is_some_and(|first| {
                first > self.generation && Self::read_as(bytes, &mark(self.epoch, first)).is_some()
            });
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            found.used |= rest.starts_with(&mark(self.epoch, self.generation));
            match self.read(rest) {
                Some((record, len)) => {
                    found.records.push(record);
                    at += len;
                }
                // Torn, damaged, or never written: what begins later may still be good.
                None => match memchr::memmem::find(rest.get(1..).unwrap_or_default(), &MAGIC) {
                    Some(skip) => at += skip + 1,
                    None => break,
                },
            }
        }
        found
    }

    fn read(&self, bytes: &[u8]) -> Option<(Record, usize)> {
        Self::read_as(bytes, &mark(self.epoch, self.generation))
    }

    fn read_as(bytes: &[u8], mark: &[u8]) -> Option<(Record, usize)> {
        if !bytes.starts_with(mark) {
            return None;
        }
        let len = usize::try_from(u32_at(bytes, 20)?).ok()?;
        let body = bytes.get(HEAD_BYTES..HEAD_BYTES.checked_add(len)?)?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(bytes.get(..SUMMED_BYTES)?), body);
        if sum != u32_at(bytes, SUMMED_BYTES)? {
            return None;
        }
        Some((parse(body)?, HEAD_BYTES + len))
    }

    /// Makes a record durable. `false` when it does not fit behind the ones before: then the
    /// batches must go into the tables and the journal be restarted first.
    ///
    /// # Errors
    /// The disk failed, and nobody knows how much of the record is on it.
    pub fn append(&mut self, news: &News, batches: &[Vec<u8>]) -> io::Result<bool> {
        let body = body(news, batches)?;
        let Ok(len) = u32::try_from(body.len()) else { return Ok(false) };
        let end = self.end + (HEAD_BYTES + body.len()) as u64;
        if end > self.bytes {
            return Ok(false);
        }
        let mut record = Vec::with_capacity(HEAD_BYTES + body.len());
        record.extend_from_slice(&mark(self.epoch, self.generation));
        record.extend_from_slice(&len.to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&record), &body);
        record.extend_from_slice(&sum.to_le_bytes());
        record.extend_from_slice(&body);
        self.disk.write(self.end, &record)?;
        self.disk.sync_data()?;
        self.end = end;
        Ok(true)
    }

    /// Starts over; the tables must durably name `generation` before.
    pub const fn restart(&mut self, generation: u64) {
        self.generation = generation;
        self.end = FIRST_RECORD as u64;
    }

    /// Makes the file one of another epoch, without records.
    ///
    /// # Errors
    /// The disk failed.
    pub fn begin_epoch(&mut self, epoch: Epoch) -> io::Result<()> {
        self.epoch = epoch;
        self.restart(0);
        self.allocate()
    }

    /// The generation of the records that count.
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

fn file_head(epoch: Epoch) -> Vec<u8> {
    let mut head = [FILE_MAGIC.as_slice(), epoch.as_bytes()].concat();
    head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
    head
}

fn mark(epoch: Epoch, generation: u64) -> [u8; 20] {
    let mut mark = [0; 20];
    let parts = MAGIC.into_iter().chain(epoch.as_bytes().iter().copied().take(8));
    let parts = parts.chain(generation.to_le_bytes());
    mark.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    mark
}

fn body(news: &News, batches: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    let length = |len: usize| u32::try_from(len).map(u32::to_le_bytes).map_err(io::Error::other);
    let news = minicbor::to_vec(news).map_err(io::Error::other)?;
    let bytes: usize = batches.iter().map(|batch| batch.len() + 4).sum();
    let mut body = Vec::with_capacity(news.len() + bytes + 4);
    body.extend_from_slice(&length(news.len())?);
    body.extend_from_slice(&news);
    for batch in batches {
        body.extend_from_slice(&length(batch.len())?);
        body.extend_from_slice(batch);
    }
    Ok(body)
}

fn parse(body: &[u8]) -> Option<Record> {
    let (news, mut rest) = sized(body)?;
    let mut record = Record { news: minicbor::decode(news).ok()?, batches: Vec::new() };
    while !rest.is_empty() {
        let (batch, after) = sized(rest)?;
        record.batches.push(batch.to_vec());
        rest = after;
    }
    Some(record)
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    bytes.get(4..)?.split_at_checked(len)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CrashBackend;

    const EPOCH: Epoch = Epoch::from_bytes([9; 16]);

    fn open(disk: &CrashBackend, generation: u64) -> (Journal<CrashBackend>, Recovered) {
        Journal::open(disk.clone(), JOURNAL_BYTES, EPOCH, generation).unwrap()
    }

    fn news(first: u64) -> News {
        News { first, cursors: vec![("source".into(), vec![7].into())] }
    }

    fn append(journal: &mut Journal<CrashBackend>, first: u64, batches: &[&[u8]]) -> bool {
        let batches: Vec<Vec<u8>> = batches.iter().map(|bytes| bytes.to_vec()).collect();
        journal.append(&news(first), &batches).unwrap()
    }

    fn batches(found: &Recovered) -> Vec<Vec<u8>> {
        found.records.iter().flat_map(|record| record.batches.clone()).collect()
    }

    #[test]
    fn records_come_back_after_a_power_cut_and_a_restart_voids_them() {
        let disk = CrashBackend::new();
        let (mut journal, found) = open(&disk, 1);
        assert!(!found.used && !found.present);
        assert!(append(&mut journal, 1, &[b"one", b"two"]));
        assert!(append(&mut journal, 3, &[b"three"]));
        let disk = disk.crash();
        let (mut journal, found) = open(&disk, 1);
        assert!(found.used && found.present);
        assert_eq!(batches(&found), [&b"one"[..], b"two", b"three"]);
        assert_eq!(found.records[1].news, news(3));
        journal.restart(2);
        assert!(append(&mut journal, 4, &[b"four"]));
        let disk = disk.crash();
        assert_eq!(batches(&open(&disk, 2).1), [b"four"]);
        assert!(!open(&disk, 3).1.used);
        assert!(open(&disk, 1).1.newer, "tables of generation 1 went back in time");
    }

    #[test]
    fn a_torn_record_is_no_record_and_a_damaged_one_does_not_hide_the_next() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        for (first, text) in (1..).zip([&b"first batch"[..], b"second batch", b"third batch"]) {
            assert!(append(&mut journal, first, &[text]));
        }
        let at = disk.find(b"third batch")[0];
        disk.flip(at);
        let found = open(&disk, 1).1;
        assert_eq!(batches(&found), [&b"first batch"[..], b"second batch"]);
        assert!(found.used);
        disk.flip(at);
        disk.flip(disk.find(b"second batch")[0]);
        assert_eq!(batches(&open(&disk, 1).1), [&b"first batch"[..], b"third batch"]);
    }

    #[test]
    fn any_flipped_bit_costs_its_record_and_no_other() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        for (first, text) in [(1, &b"first batch"[..]), (2, b"second batch")] {
            assert!(append(&mut journal, first, &[text]));
        }
        let second = disk.find(&MAGIC)[1];
        for at in FIRST_RECORD as usize..second {
            disk.flip(at);
            assert_eq!(batches(&open(&disk, 1).1), [b"second batch"], "byte {at}");
            disk.flip(at);
        }
    }

    #[test]
    fn a_file_of_another_epoch_is_not_taken() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        assert!(append(&mut journal, 1, &[b"batch"]));
        let (_, found) = Journal::open(disk, JOURNAL_BYTES, Epoch::from_bytes([8; 16]), 1).unwrap();
        assert!(found.records.is_empty() && !found.present);
    }

    #[test]
    fn a_record_that_does_not_fit_is_refused_whole() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        let half = vec![7; 600_000];
        assert!(append(&mut journal, 1, &[&half]));
        assert!(!append(&mut journal, 2, &[&half]));
        assert_eq!(batches(&open(&disk.crash(), 1).1), [half]);
    }

    #[test]
    fn a_full_journal_holds_fewer_seqs_than_its_limit_says() {
        let smallest = crate::blob::BLOB_HEADER_LEN as u64 + 4;
        assert!(JOURNAL_BYTES / smallest < SEQS_MAX);
    }
}
