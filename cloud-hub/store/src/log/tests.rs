//! The log over a disk that fails.

use std::collections::BTreeMap;

use tideline_protocol::model::{DeviceId, PointId, SeriesDef};

use super::*;

#[derive(Debug, Default)]
struct MemoryDisk {
    segments: BTreeMap<u64, Vec<u8>>,
    current: u64,
    failing: bool,
}

impl LogDisk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.segments.keys().copied().collect())
    }
    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        self.segments.get(&segment).cloned().ok_or(io::ErrorKind::NotFound.into())
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

fn dictionary() -> Series {
    let device = DeviceId::parse("d").unwrap();
    Series {
        first: 0,
        defs: vec![SeriesDef { device, point: PointId::parse("p").unwrap(), unit: String::new() }],
    }
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
