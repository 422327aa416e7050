//! The journal in front of the tables: where an append becomes durable with one small write.
//!
//! A commit of redb rewrites a path of its tree, about ten pages for one batch. A record here is the
//! batch's own bytes, written over space that was allocated before, so that the sync has nothing but
//! data to wait for. When the journal is full its batches go into the tables in one commit, which
//! also raises the generation: with it every record in the file is void, and the next one is
//! written over the first.
//!
//! ```text
//! file: 4 "TLJ2" | 16 epoch | 4 CRC-32C of both | zeros up to 64 | records (see `journal/record.rs`)
//! ```
//! A record is written and synced before the next one is begun, and opening voids what it read. So
//! only the last record can be torn by a crash, and it is then left out; one that was damaged is told
//! from it, and its seqs are missed. What was in them is gone, but not how much: each record says twice
//! how many readings its batches have, and once more how many those before it had. The last one is lost
//! without a word only when both its summaries are damaged.

use std::io;

use redb::StorageBackend;
use tideline_protocol::model::{Epoch, RowCounts};

mod record;
mod reserve;

pub use self::record::{News, Record, Stored};
pub use self::reserve::{is_full, spend as spend_reserve};

/// Bytes of the file unless told otherwise, allocated at once: what a spool costs at least, and what
/// opening reads.
pub const JOURNAL_BYTES: u64 = 1024 * 1024;
/// More seqs than a full journal can hold.
pub const SEQS_MAX: u64 = 32_768;
const FILE_MAGIC: [u8; 4] = *b"TLJ2";
/// Where the records begin.
const FIRST_RECORD: usize = 64;
/// Most pairs of seqs and rows that a record repeats of those before it; more than a page of them has
/// to be damaged before a count is lost.
const RUNS_BEFORE_MAX: usize = 32;

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
    /// How far the readable records reach: bytes that the tables' books have not counted as written.
    pub bytes: u64,
    /// Whether its end was cut off where records may have been: how many, nobody knows.
    pub cut: bool,
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
    end: usize,
    // The rows of the seqs in it, as far as the next record repeats them.
    rows: RowCounts,
    unready: Unready,
}

/// What has to be done before the next record can be written.
#[derive(Debug, Default)]
enum Unready {
    #[default]
    No,
    /// The file is to be made anew.
    Void,
    /// Its head is damaged, or no more than `len` bytes are there.
    Damaged { len: usize },
}

impl<B: StorageBackend> Journal<B> {
    /// Opens the journal of `size` bytes and reads the records of `generation`. What cannot be read as
    /// such a journal goes to `put_aside`. Before it is written to it has to be made ready.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(
        disk: B,
        size: u64,
        epoch: Epoch,
        generation: u64,
        put_aside: impl FnOnce(&[u8]),
    ) -> io::Result<(Self, Recovered)> {
        let mut bytes = vec![0; usize::try_from(disk.len()?.min(size)).map_err(io::Error::other)?];
        disk.read(0, &mut bytes)?;
        let (len, size) = (bytes.len(), usize::try_from(size).map_err(io::Error::other)?);
        let (rows, end, head) = (RowCounts::default(), FIRST_RECORD, file_head(epoch));
        let is_whole = len == size && bytes.starts_with(&head);
        let is_ours = bytes.get(..head.len()).is_some_and(|found| record::alike(found, &head));
        let mut journal =
            Self { disk, bytes: size as u64, epoch, generation, end, rows, unready: Unready::No };
        // What was cut off reads as zeros: nothing of it is taken for a record.
        bytes.resize(size, 0);
        let recovered = journal.recover(&bytes, len);
        // Each record says by itself of which epoch it is.
        if is_ours || recovered.used {
            journal.unready = if is_whole { Unready::No } else { Unready::Damaged { len } };
            return Ok((journal, recovered));
        }
        bytes.truncate(len);
        journal.unready = Unready::Void;
        // Without a commit of the tables there was nothing to be lost.
        if generation == 0 {
            journal.make_ready()?;
        } else if bytes.iter().any(|byte| *byte != 0) {
            put_aside(&bytes);
        }
        Ok((journal, Recovered::default()))
    }

    /// Makes a damaged file whole for the records to come. Only after a commit of the tables with what was
    /// recovered, and with what was not: after it nothing tells what was lost.
    ///
    /// # Errors
    /// The disk failed.
    pub fn make_ready(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.unready) {
            Unready::No => Ok(()),
            Unready::Void => self.allocate(),
            Unready::Damaged { len } => {
                let missing = self.bytes.saturating_sub(len as u64);
                if missing > 0 {
                    let zeros = vec![0; usize::try_from(missing).map_err(io::Error::other)?];
                    self.disk.set_len(self.bytes)?;
                    self.disk.write(len as u64, &zeros)?;
                }
                // A flipped bit in it must not add up with the next.
                self.disk.write(0, &file_head(self.epoch))?;
                self.disk.sync_data()
            }
        }
    }

    /// Zeros are written rather than left as a hole: a write into a hole would have to allocate.
    fn allocate(&self) -> io::Result<()> {
        self.disk.set_len(self.bytes)?;
        let mut bytes = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        let head = file_head(self.epoch);
        bytes.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        self.disk.write(0, &bytes)?;
        self.disk.sync_data()?;
        // A disk without room for it has room for the journal, at least.
        self.take_reserve().map(drop)
    }

    /// Reads the records of `file`, of which `len` bytes were there.
    fn recover(&self, file: &[u8], len: usize) -> Recovered {
        let mut found = Recovered { present: true, ..Recovered::default() };
        let own = record::mark(self.epoch, self.generation);
        // Only a readable record counts: a damaged one may name any generation.
        let first = record::generation_at(file, FIRST_RECORD).filter(|first| *first > self.generation);
        found.newer = first.is_some_and(|first| {
            record::read(file, FIRST_RECORD, &record::mark(self.epoch, first)).is_some()
        });
        let (mut at, mut last_is_whole, mut next) = (FIRST_RECORD, true, FIRST_RECORD);
        while at < file.len() {
            let begun = record::is_begun(file, at, &own);
            found.used |= begun;
            // Nobody knows how long one is that cannot be read.
            next = if begun { file.len() } else { next };
            // It was durable before another one was begun.
            last_is_whole |= begun;
            match record::read(file, at, &own) {
                Some(record) => {
                    found.records.push(record.record);
                    last_is_whole = record.whole;
                    at = record::begin(record.end);
                    found.bytes = record.end as u64;
                    next = at;
                }
                // Torn, damaged, or never written: what begins later may still be good.
                None => {
                    let rest = file.get(at + 1..).unwrap_or_default();
                    match memchr::memmem::find(rest, &record::MAGIC) {
                        Some(skip) => at += skip + 1,
                        None => break,
                    }
                }
            }
        }
        // The next one's head would have to be there to be missed.
        found.cut = len < file.len() && next.saturating_add(record::HEAD_BYTES) > len;
        // Nothing came after it, so nobody was told that it was durable.
        if !last_is_whole && !found.cut {
            found.records.pop();
        }
        found
    }

    /// Makes a record of batches, each with its rows, durable. `false` when it does not fit behind the
    /// ones before: then the batches must go into the tables and the journal be restarted first.
    ///
    /// # Errors
    /// The disk failed, and nobody knows how much of the record is on it.
    pub fn append(&mut self, news: &News, batches: &[(u32, Vec<u8>)]) -> io::Result<bool> {
        let mark = record::mark(self.epoch, self.generation);
        let record = record::encode(&mark, news, &self.rows, batches, self.end)?;
        let end = self.end + record.len();
        if end as u64 > self.bytes {
            return Ok(false);
        }
        self.disk.write(self.end as u64, &record)?;
        self.disk.sync_data()?;
        self.end = record::begin(end);
        batches.iter().for_each(|(rows, _)| self.rows.push(*rows));
        self.forget_rows();
        Ok(true)
    }

    fn forget_rows(&mut self) {
        let runs = self.rows.runs();
        // Not one by one: it takes time.
        if runs.len() > 2 * RUNS_BEFORE_MAX {
            let kept = runs.iter().rev().take(RUNS_BEFORE_MAX).map(|(seqs, _)| u64::from(*seqs)).sum();
            self.rows = self.rows.part(self.rows.seqs().saturating_sub(kept), kept);
        }
    }

    /// Starts over; the tables must durably name `generation` before.
    pub fn restart(&mut self, generation: u64) {
        self.generation = generation;
        self.end = FIRST_RECORD;
        self.rows = RowCounts::default();
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

    /// Bytes of the file without the reserve.
    pub const fn bytes(&self) -> u64 {
        self.bytes
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CrashBackend;

    const EPOCH: Epoch = Epoch::from_bytes([9; 16]);

    fn open(disk: &CrashBackend, generation: u64) -> (Journal<CrashBackend>, Recovered) {
        let (mut journal, found) =
            Journal::open(disk.clone(), JOURNAL_BYTES, EPOCH, generation, |_| ()).unwrap();
        journal.make_ready().unwrap();
        (journal, found)
    }

    fn news(first: u64) -> News {
        News { first, cursors: vec![("source".into(), vec![7].into())], sent_until: 0 }
    }

    fn append(journal: &mut Journal<CrashBackend>, first: u64, batches: &[&[u8]]) -> bool {
        let batches: Vec<(u32, Vec<u8>)> =
            batches.iter().map(|bytes| (rows(bytes), bytes.to_vec())).collect();
        journal.append(&news(first), &batches).unwrap()
    }

    fn rows(batch: &[u8]) -> u32 {
        u32::try_from(batch.len()).unwrap() % 7
    }

    fn batches(found: &Recovered) -> Vec<Vec<u8>> {
        let batches = found.records.iter().flat_map(|record| record.batches.clone());
        batches.filter_map(|batch| batch.value).collect()
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
    fn any_flipped_bits_of_a_record_cost_a_batch_and_no_count() {
        for last in [false, true] {
            let disk = CrashBackend::new();
            let (mut journal, _) = open(&disk, 1);
            let long = [&b"a long batch "[..], &[7; 1_500]].concat();
            assert!(append(&mut journal, 1, &[b"batch one", b"two"]));
            let from = journal.end;
            assert!(append(&mut journal, 3, &[b"batch three", &long, b"five"]));
            let to = journal.end;
            if !last {
                assert!(append(&mut journal, 6, &[b"batch six"]));
            }
            let all = batches(&open(&disk, 1).1);
            for at in from..to {
                disk.flip(at);
                let found = open(&disk, 1).1;
                let kept = batches(&found);
                assert!(found.records.len() == if last { 2 } else { 3 }, "byte {at}");
                let lost: Vec<_> = all.iter().filter(|batch| !kept.contains(batch)).collect();
                assert!(lost.len() <= 1, "byte {at}");
                let counts: Vec<u32> = found.records[1].batches.iter().map(|batch| batch.rows).collect();
                assert_eq!(counts, [rows(b"batch three"), rows(&long), rows(b"five")], "byte {at}");
                assert_eq!(found.records[1].news, news(3), "byte {at}");
                disk.flip(at);
            }
        }
    }

    #[test]
    fn a_torn_record_is_none_however_it_was_torn() {
        for seed in 0..200 {
            let disk = CrashBackend::new();
            let (mut journal, _) = open(&disk, 1);
            assert!(append(&mut journal, 1, &[b"batch one"]));
            journal.restart(2);
            // What stands there is of the generation before.
            assert!(append(&mut journal, 2, &[&[7; 2_000], b"three"]));
            journal.restart(3);
            assert!(append(&mut journal, 4, &[b"batch four"]));
            let torn = disk.unsynced();
            let mut journal = Journal { disk: torn.clone(), ..journal };
            assert!(append(&mut journal, 5, &[&[9; 3_000]]));
            let found = open(&torn.crash_torn(seed), 3).1;
            let kept = batches(&found);
            assert!(kept == [b"batch four"] || kept == [&b"batch four"[..], &[9; 3_000]], "seed {seed}");
            assert!(found.records.len() == kept.len(), "seed {seed}: no gap for what was not durable");
        }
    }

    #[test]
    fn two_lost_records_in_a_row_are_counted_by_the_next() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        for (first, text) in
            (1..).zip([&b"first batch"[..], b"second batch", b"third batch!!", b"fourth batch.."])
        {
            assert!(append(&mut journal, first, &[text]));
        }
        let heads = disk.find(&record::MAGIC);
        let lost = &heads[1..3];
        // Nothing of them is left, as when a page of the flash has gone.
        (lost[0]..heads[3]).for_each(|at| disk.flip(at));
        let found = open(&disk, 1).1;
        assert_eq!(batches(&found), [&b"first batch"[..], b"fourth batch.."]);
        let before: Vec<u32> = found.records[1].before.iter().collect();
        assert_eq!(before, [rows(b"first batch"), rows(b"second batch"), rows(b"third batch!!")]);
    }

    #[test]
    fn what_a_record_repeats_of_others_is_bounded() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        for rows in 1..1_000_u32 {
            let first = u64::from(rows);
            assert!(journal.append(&News { first, ..News::default() }, &[(rows, vec![1])]).unwrap());
            assert!(journal.rows.runs().len() <= 2 * RUNS_BEFORE_MAX);
        }
        assert_eq!(journal.rows.iter().last(), Some(999));
    }

    #[test]
    fn a_file_of_another_epoch_is_not_taken() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        assert!(append(&mut journal, 1, &[b"batch"]));
        let (mut aside, other) = (Vec::new(), Epoch::from_bytes([8; 16]));
        let put_aside = |bytes: &[u8]| aside = bytes.to_vec();
        let (mut journal, found) = Journal::open(disk.clone(), JOURNAL_BYTES, other, 1, put_aside).unwrap();
        journal.make_ready().unwrap();
        assert!(found.records.is_empty() && !found.present);
        let kept = CrashBackend::new();
        kept.set_len(aside.len() as u64).unwrap();
        kept.write(0, &aside).unwrap();
        assert_eq!(batches(&open(&kept, 1).1), [b"batch"], "what was overwritten is kept whole");
        assert!(!open(&disk, 1).1.used);
    }

    #[test]
    fn a_file_that_was_cut_short_keeps_what_is_there_and_says_what_may_be_missing() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        let long = vec![7; 2_000];
        assert!(append(&mut journal, 1, &[b"batch one"]));
        let first_end = journal.end;
        assert!(append(&mut journal, 2, &[&long, b"three"]));
        let end = journal.end;
        let all = batches(&open(&disk, 1).1);
        let whole = usize::try_from(JOURNAL_BYTES).unwrap();
        for len in (64..end).step_by(13).chain([end, end + 31, end + 32, 4_096, whole - 1]) {
            let cut = disk.image();
            cut.set_len(len as u64).unwrap();
            let (mut journal, found) = Journal::open(cut.clone(), JOURNAL_BYTES, EPOCH, 1, |_| ()).unwrap();
            assert_eq!((found.present, found.cut), (true, len < end + 32), "{len} bytes");
            let kept = batches(&found);
            assert!(all.starts_with(&kept) && kept.len() >= usize::from(len >= first_end), "{len} bytes");
            assert!(len < end || kept == all, "{len} bytes");
            assert_eq!(cut.len().unwrap(), len as u64, "what tells of the loss stays until it is noted");
            journal.make_ready().unwrap();
            assert_eq!(cut.len().unwrap(), JOURNAL_BYTES);
        }
    }

    #[test]
    fn a_destroyed_head_of_the_file_costs_no_record() {
        let disk = CrashBackend::new();
        let (mut journal, _) = open(&disk, 1);
        assert!(append(&mut journal, 1, &[b"batch"]));
        disk.write(0, &[0xff; 24]).unwrap();
        assert_eq!(batches(&open(&disk, 1).1), [b"batch"]);
        assert!(open(&disk, 1).1.present);
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
        let smallest = crate::blob::BLOB_HEADER_LEN as u64;
        assert!(JOURNAL_BYTES / smallest < SEQS_MAX);
    }
}
