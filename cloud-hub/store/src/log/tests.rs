//! The log over a disk that fails.

use std::collections::BTreeMap;

use tideline_protocol::model::{Account, DeviceId, DropCause, PointId, RowCounts, Seq, SeriesDef};
use tideline_protocol::wire::{Lane, Report, RunEnvelope};

use super::*;

#[derive(Debug, Default)]
struct MemoryDisk {
    segments: BTreeMap<u64, Vec<u8>>,
    current: u64,
    failing: bool,
    unreadable: bool,
}

impl LogDisk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.segments.keys().copied().collect())
    }
    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        if self.unreadable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.segments.get(&segment).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
    fn settle(&mut self, _segment: u64) -> io::Result<()> {
        Ok(())
    }
    fn create(&mut self, segment: u64) -> io::Result<()> {
        self.current = segment;
        self.segments.insert(segment, Vec::new());
        Ok(())
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.segments.entry(self.current).or_default().extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn truncate(&mut self, segment: u64, len: u64) -> io::Result<()> {
        self.segments.entry(segment).or_default().truncate(usize::try_from(len).unwrap());
        Ok(())
    }
    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.segments.remove(&segment);
        Ok(())
    }
}

/// A disk that is still there after the log could not be opened.
#[derive(Debug)]
struct Borrowed<'a>(&'a std::cell::RefCell<MemoryDisk>);

impl LogDisk for Borrowed<'_> {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.0.borrow().list()
    }
    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        self.0.borrow().read(segment)
    }
    fn settle(&mut self, segment: u64) -> io::Result<()> {
        self.0.borrow_mut().settle(segment)
    }
    fn create(&mut self, segment: u64) -> io::Result<()> {
        self.0.borrow_mut().create(segment)
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.borrow_mut().sync()
    }
    fn truncate(&mut self, segment: u64, len: u64) -> io::Result<()> {
        self.0.borrow_mut().truncate(segment, len)
    }
    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.0.borrow_mut().remove(segment)
    }
}

fn dictionary() -> Series {
    let device = DeviceId::parse("d").unwrap();
    Series { first: 0, defs: vec![SeriesDef::new(device, PointId::parse("p").unwrap(), String::new())] }
}

#[test]
fn after_a_failed_sync_nothing_more_is_taken_until_it_is_opened_again() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let (mut log, _) = LogCore::open(MemoryDisk::default(), Checkpoint::default()).unwrap();
    log.disk_mut().failing = true;
    assert!(matches!(log.define_series(&agent, epoch, &dictionary()), Err(LogError::Io { .. })));
    log.disk_mut().failing = false;
    assert!(matches!(log.define_series(&agent, epoch, &dictionary()), Err(LogError::Poisoned)));
    assert_eq!(log.state(&agent, epoch).series_known, 0);
    let (mut log, replay) = LogCore::open(log.into_disk(), Checkpoint::default()).unwrap();
    assert_eq!(replay.problems, vec![]);
    assert_eq!(log.define_series(&agent, epoch, &dictionary()).unwrap(), 1);
}

#[test]
fn a_segment_that_cannot_be_read_is_neither_skipped_nor_removed() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let (mut log, _) = LogCore::open(MemoryDisk::default(), Checkpoint::default()).unwrap();
    log.define_series(&agent, epoch, &dictionary()).unwrap();
    let mut disk = log.into_disk();
    disk.unreadable = true;
    let segments = disk.segments.clone();
    let disk = std::cell::RefCell::new(disk);
    let error = LogCore::open(Borrowed(&disk), Checkpoint::default()).unwrap_err();
    assert!(error.to_string().contains("reading a log segment"), "{error}");
    let mut disk = disk.into_inner();
    assert_eq!(disk.segments, segments, "all is as it was");
    disk.unreadable = false;
    let (log, _) = LogCore::open(disk, Checkpoint::default()).unwrap();
    assert_eq!(log.state(&agent, epoch).series_known, 1);
}

#[test]
fn a_flipped_bit_costs_the_rest_of_its_segment_only() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let (mut log, _) = LogCore::open(MemoryDisk::default(), Checkpoint::default()).unwrap();
    log.define_series(&agent, epoch, &dictionary()).unwrap();
    let mut disk = log.into_disk();
    *disk.segments.get_mut(&1).unwrap().last_mut().unwrap() ^= 1;
    let (mut log, replay) = LogCore::open(disk, Checkpoint::default()).unwrap();
    assert_eq!(replay.problems.len(), 1);
    assert_eq!(log.define_series(&agent, epoch, &dictionary()).unwrap(), 1);
    let (log, replay) = LogCore::open(log.into_disk(), Checkpoint::default()).unwrap();
    assert_eq!((replay.problems.len(), log.state(&agent, epoch).series_known), (0, 1));
}

#[test]
fn reopening_cuts_off_what_the_failed_write_left_and_goes_on() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let (mut log, _) = LogCore::open(MemoryDisk::default(), Checkpoint::default()).unwrap();
    assert_eq!(log.define_series(&agent, epoch, &dictionary()).unwrap(), 1);
    let good = log.disk_mut().segments[&1].clone();
    let more = Series { first: 1, defs: dictionary().defs };
    log.disk_mut().failing = true;
    assert!(log.define_series(&agent, epoch, &more).is_err());
    assert!(log.disk_mut().segments[&1].len() > good.len());
    // It still fails, and leaves a segment that never began.
    assert!(log.reopen().is_err() && log.is_poisoned());
    assert!(log.reopen().is_err() && log.is_poisoned());
    log.disk_mut().failing = false;
    log.reopen().unwrap();
    assert_eq!(log.disk_mut().segments[&1], good);
    assert_eq!(log.state(&agent, epoch).series_known, 1);
    assert_eq!(log.define_series(&agent, epoch, &more).unwrap(), 2);
    let (log, replay) = LogCore::open(log.into_disk(), Checkpoint::default()).unwrap();
    assert_eq!((replay.problems.len(), log.state(&agent, epoch).series_known), (0, 2));
}

fn lives(list: &[(u64, u64)]) -> Vec<Life> {
    list.iter().map(|(id, first)| Life { id: *id, first: Seq::new(*first) }).collect()
}

fn gap(first: u64, rows: &[u32]) -> Gap {
    let mut counts = RowCounts::default();
    rows.iter().for_each(|rows| counts.push(*rows));
    Gap { first: Seq::new(first), rows: counts, from_ns: 0, to_ns: 0, cause: DropCause::Quota }
}

#[test]
fn an_honest_spool_is_no_copy_of_itself_after_a_segment_was_damaged() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let (mut log, _) = LogCore::open(MemoryDisk::default(), Checkpoint::default()).unwrap();
    log.open_epoch(&agent, epoch, &lives(&[(1, 1)]), None).unwrap();
    log.record_gap(&agent, epoch, &gap(1, &[1; 50])).unwrap();
    let (checkpoint, _) = log.cut().unwrap();
    log.open_epoch(&agent, epoch, &lives(&[(1, 1), (2, 51)]), None).unwrap();
    log.cut().unwrap();
    log.record_gap(&agent, epoch, &gap(60, &[1; 21])).unwrap();
    let mut disk = log.into_disk();
    *disk.segments.get_mut(&checkpoint.oldest_segment).unwrap().last_mut().unwrap() ^= 1;
    let (log, replay) = LogCore::open(disk, checkpoint.clone()).unwrap();
    assert_eq!(replay.problems.len(), 1);
    // What was damaged is cut off: a second start sees nothing wrong.
    let (mut log, replay) = LogCore::open(log.into_disk(), checkpoint).unwrap();
    assert_eq!(replay.problems, vec![]);
    let opening = log.open_epoch(&agent, epoch, &lives(&[(1, 1), (2, 51)]), None).unwrap();
    assert!(matches!(opening, Opening::Known(_)), "{opening:?}");
    let copy = log.open_epoch(&agent, epoch, &lives(&[(1, 1), (3, 51)]), None).unwrap();
    assert!(matches!(copy, Opening::Parted { at, .. } if at.get() == 51), "{copy:?}");
}

#[test]
fn what_an_epoch_left_pending_is_lost_but_for_what_went_along() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let mut ledgers = Ledgers::default();
    ledgers.go_on(&agent, epoch, &lives(&[(1, 1)]), None);
    let account = Account { produced: 50, pending: 50, ..Account::default() };
    ledgers.report(&agent, epoch, Report { account, head: Seq::new(50), known: Seq::default() });
    let of = |ledgers: &Ledgers| {
        let all = ledgers.ledger(&agent);
        let old = all.iter().find(|ledger| ledger.epoch == epoch).unwrap().clone();
        assert!(old.balanced);
        (old.produced, old.pending, old.lost)
    };
    assert_eq!(of(&ledgers), (50, 50, 0));
    // Another copy took along rows of its own, which this life never reported.
    let other = Some(Moved { epoch, rows: 50 });
    ledgers.go_on(&agent, Epoch::from_bytes([2; 16]), &lives(&[(9, 101)]), other);
    assert_eq!(of(&ledgers), (50, 0, 50));
    let own = Some(Moved { epoch, rows: 20 });
    ledgers.go_on(&agent, Epoch::from_bytes([3; 16]), &lives(&[(1, 31)]), own);
    assert_eq!(of(&ledgers), (30, 0, 30));
}

#[test]
fn listed_gaps_and_ranges_of_an_epoch_stay_bounded() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let (mut log, _) = LogCore::open(MemoryDisk::default(), Checkpoint::default()).unwrap();
    log.open_epoch(&agent, epoch, &lives(&[(1, 1)]), None).unwrap();
    for message in 0..20 {
        let rows: Vec<u32> = (0..200).map(|n| n % 2 + 1).collect();
        log.record_gap(&agent, epoch, &gap(1 + message * 200, &rows)).unwrap();
    }
    let ledger = log.ledger(&agent).remove(0);
    assert_eq!((ledger.dropped, ledger.dropped_by), (6_000, vec![(DropCause::Quota, 6_000)]));
    assert!(ledger.gaps.iter().all(|gap| gap.rows.runs().len() <= gaps::RUNS_PER_GAP_MAX));
    // Each of a size that the wire allows, and none like the one before it.
    for message in 0..40 {
        let rows: Vec<u32> = (0..4096).map(|n| n % 2 + 1).collect();
        log.record_gap(&agent, epoch, &gap(100_000 + message * 5_000, &rows)).unwrap();
    }
    let pairs = |log: &LogCore<MemoryDisk>| {
        let gaps = &log.ledger(&agent)[0].gaps;
        assert!(gaps.iter().all(|gap| gap.rows.runs().len() <= gaps::RUNS_PER_GAP_MAX));
        gaps.iter().map(|gap| gap.rows.runs().len()).sum::<usize>()
    };
    assert_eq!(log.ledger(&agent)[0].dropped, 6_000 + 40 * 6_144, "all are counted");
    assert!((gaps::PAIRS_PER_EPOCH_MAX / 2..=gaps::PAIRS_PER_EPOCH_MAX).contains(&pairs(&log)));
    // Of an epoch that was left few are listed: an agent may have a thousand.
    log.open_epoch(&agent, Epoch::from_bytes([2; 16]), &lives(&[(2, 1)]), None).unwrap();
    assert!(pairs(&log) <= gaps::PAIRS_PER_LEFT_EPOCH_MAX);
    let ranges = u64::try_from(super::limits::RANGES_PER_EPOCH_MAX).unwrap();
    {
        let ledgers = log.ledgers();
        let mut ledgers = lock(&ledgers);
        let dropped = &mut ledgers.epoch_mut(&agent, epoch).settled.dropped;
        (0..ranges).for_each(|n| dropped.insert(10_000 + n * 2, 10_000 + n * 2));
    }
    let joins = log.record_gap(&agent, epoch, &gap(10_001, &[1]));
    assert!(joins.is_ok(), "it makes no range more: {joins:?}");
    let refused = log.record_gap(&agent, epoch, &gap(20_000 + ranges * 2, &[1])).err();
    assert!(matches!(refused, Some(LogError::Limit(_))), "{refused:?}");
}

#[test]
fn where_drops_and_readings_take_turns_the_ranges_are_folded_once_their_agent_knows() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let (mut log, _) = LogCore::open(MemoryDisk::default(), Checkpoint::default()).unwrap();
    log.open_epoch(&agent, epoch, &lives(&[(1, 1)]), None).unwrap();
    let seqs = 4 * u64::try_from(super::limits::RANGES_PER_EPOCH_MAX).unwrap();
    for seq in (1..=seqs).step_by(2) {
        log.record_gap(&agent, epoch, &gap(seq, &[2])).unwrap();
        let ledgers = log.ledgers();
        let mut ledgers = lock(&ledgers);
        ledgers.epoch_mut(&agent, epoch).settled.stored.insert(seq + 1, seq + 1);
        ledgers.epoch_mut(&agent, epoch).stored_rows += 1;
        if seq % 1_000 == 1 {
            // What it does not know of yet is still told apart.
            let known = Seq::new(seq.saturating_sub(10));
            ledgers.report(
                &agent,
                epoch,
                Report { account: Account::default(), head: Seq::new(seqs), known },
            );
        }
    }
    let state = log.state(&agent, epoch).settled;
    assert!(state.stored.range_count() < 1_000 && state.dropped.range_count() < 1_000, "they stay few");
    assert_eq!(state.all(), RangeSet::of(1, seqs));
    assert!(state.dropped.contains(seqs - 1) && !state.dropped.contains(1));
    let ledger = log.ledger(&agent).remove(0);
    assert_eq!((ledger.dropped, ledger.stored), (seqs, seqs / 2), "all are counted");
    // Again, the gap is no news.
    let again = log.record_gap(&agent, epoch, &gap(1, &[2])).unwrap();
    assert_eq!((again.stored, again.dropped), (RangeSet::of(1, 1), RangeSet::new()));
}

#[test]
fn what_nobody_sends_any_more_is_folded_but_not_what_the_hub_lost_meanwhile_nor_beyond_the_head() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let mut ledgers = Ledgers::default();
    ledgers.go_on(&agent, epoch, &lives(&[(1, 1)]), None);
    let state = ledgers.epoch_mut(&agent, epoch);
    for seq in (2..=40).step_by(2) {
        state.settled.stored.insert(seq, seq);
    }
    state.lose(&RangeSet::of(10, 12), 0);
    let report = Report { account: Account::default(), head: Seq::new(40), known: Seq::new(u64::MAX) };
    ledgers.report(&agent, epoch, report);
    let state = ledgers.epoch(&agent, epoch).unwrap();
    let all = state.settled().all();
    assert_eq!(all.iter().collect::<Vec<_>>(), [(1, 9), (11, 11), (13, 40)], "10 and 12 are wanted again");
    assert_eq!((state.folded(), state.stored_rows()), (Seq::new(40), 0));
}

#[test]
fn what_a_restored_hub_lacks_is_lost_until_it_comes_again_and_what_was_given_up_stays_dropped() {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let mut ledgers = Ledgers::default();
    ledgers.go_on(&agent, epoch, &lives(&[(1, 1)]), None);
    // The agent was told that 80 rows are stored, of which 30 are in the backup, and gave 15 up.
    let account = Account { produced: 100, pending: 5, stored: 80, dropped: 15, refused: 0 };
    ledgers.report(&agent, epoch, Report { account, head: Seq::new(100), known: Seq::default() });
    let mut rows = RowCounts::default();
    (0..80).for_each(|_| rows.push(1));
    let (lane, first) = (Lane::Live, Seq::FIRST);
    let run = RunEnvelope { epoch, lane, first, rows, series_end: 1, restamps: vec![] };
    for (from, to, lost) in [(1, 30, 50), (31, 70, 10), (71, 80, 0)] {
        ledgers.epoch_mut(&agent, epoch).store(&run, &RangeSet::of(from, to));
        let ledger = ledgers.ledger(&agent).remove(0);
        let found = (ledger.produced, ledger.stored, ledger.pending, ledger.dropped, ledger.lost);
        assert_eq!((found, ledger.balanced), ((100, to, 5, 15, lost), true));
    }
    // Rows that nobody can explain are no loss of a restore: the account does not add up.
    let account = Account { produced: 101, ..account };
    ledgers.report(&agent, epoch, Report { account, head: Seq::new(100), known: Seq::default() });
    let ledger = ledgers.ledger(&agent).remove(0);
    assert_eq!((ledger.lost, ledger.balanced), (0, false));
}
