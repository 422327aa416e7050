//! The manifest on a disk whose power is cut at every single call.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, SeriesDef};
use tideline_protocol::ranges::RangeSet;

use super::*;
use crate::hot::SeriesStats;
use crate::log::lock;
use crate::segment::Level;
use crate::series::SeriesText;

/// A disk that stops after so many calls that write. What was not synced may be there or not, write
/// by write, and the last one in part.
#[derive(Debug, Default)]
struct Disk {
    durable: Vec<u8>,
    data: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    calls_left: usize,
}

#[derive(Debug, Clone, Default)]
struct Cut(Arc<Mutex<Disk>>);

impl Cut {
    /// A disk with these bytes that allows this many calls.
    fn after(bytes: &[u8], calls: usize) -> Self {
        let (durable, data) = (bytes.to_vec(), bytes.to_vec());
        Self(Arc::new(Mutex::new(Disk { durable, data, unsynced: vec![], calls_left: calls })))
    }

    fn call(&self) -> io::Result<std::sync::MutexGuard<'_, Disk>> {
        let mut disk = lock(&self.0);
        disk.calls_left = disk.calls_left.checked_sub(1).ok_or_else(|| io::Error::other("no power"))?;
        Ok(disk)
    }

    fn is_cut(&self) -> bool {
        lock(&self.0).calls_left == 0
    }

    /// The bytes after the cut; which writes survived is drawn from `pattern`.
    fn bytes(&self, pattern: u64) -> Vec<u8> {
        let disk = lock(&self.0);
        let mut bytes = disk.durable.clone();
        // A file grows before anything is written to it.
        bytes.resize(disk.data.len().max(bytes.len()), 0);
        for (no, (at, data)) in disk.unsynced.iter().enumerate() {
            let kept = match (pattern >> (no % 32 * 2)) & 3 {
                0 => 0,
                1 => data.len() / 2,
                _ => data.len(),
            };
            bytes[*at..*at + kept].copy_from_slice(&data[..kept]);
        }
        bytes
    }
}

impl StorageBackend for Cut {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).data.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let disk = lock(&self.0);
        out.copy_from_slice(disk.data.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call()?.data.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.call()?;
        disk.durable = disk.data.clone();
        disk.unsynced.clear();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let mut disk = self.call()?;
        disk.data[at..at + data.len()].copy_from_slice(data);
        disk.unsynced.push((at, data.to_vec()));
        Ok(())
    }
}

fn open(disk: &Cut) -> Result<(Manifest, Contents), OpenError> {
    Manifest::open_with(|builder| builder.create_with_backend(disk.clone()))
}

/// The flush with this number: one more file, one more seq, one more series.
fn flush(manifest: &Manifest, number: u64) -> Result<(), StoreError> {
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let mut checkpoint = Checkpoint { oldest_segment: number, ..Checkpoint::default() };
    let state = checkpoint.ledgers.epoch_mut(&agent, epoch);
    state.settled.stored = RangeSet::of(1, number);
    state.stored_rows = number;
    let def = |no: u64| {
        SeriesDef::new(
            DeviceId::parse("d").unwrap(),
            PointId::parse(&format!("p{no}")).unwrap(),
            String::new(),
        )
    };
    let defs: Vec<SeriesDef> = (1..=number).map(def).collect();
    state.dictionary.extend(&defs);
    let ids: Vec<SeriesId> = (0..).zip(&defs).map(|(id, _)| id).collect();
    let write = |id: SeriesId, out: &mut Vec<u8>| {
        write_series(&SeriesText::of(&defs[id as usize]), (&SeriesStats::default(), false), out)
    };
    let series = SeriesRows { ids: &ids, write: &write };
    let holdings = vec![HoldingEntry::new(agent, epoch, &RangeSet::of(number, number), 1)];
    let file = FileEntry {
        number,
        raw: (number, 1),
        rollup: (number, 2),
        rows: 1,
        order: number,
        first_ns: 0,
        last_ns: 0,
        holdings,
        finest: Level::Raw,
        sealed_ns: None,
        keep: None,
    };
    let (checkpoint, series, added) = (Some(&checkpoint), Some(&series), &[file][..]);
    manifest.commit(&Change { checkpoint, series, added, ..Change::default() })
}

/// Which flush the contents are of, all parts alike.
fn flush_of(contents: &Contents) -> u64 {
    let number = contents.checkpoint.oldest_segment;
    let (agent, epoch) = (AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
    let stored = contents.checkpoint.ledgers.state(&agent, epoch);
    assert_eq!(stored.settled.stored.len(), number);
    assert_eq!((u64::from(stored.series_known), contents.names.len() as u64), (number, number));
    assert_eq!(
        contents.files.iter().map(|file| file.number).collect::<Vec<_>>(),
        (1..=number).collect::<Vec<_>>()
    );
    number
}

#[test]
fn a_flush_is_committed_as_a_whole_or_not_at_all_wherever_the_power_is_cut() {
    let disk = Cut::after(&[], usize::MAX);
    let (manifest, contents) = open(&disk).unwrap();
    assert!(manifest.is_new());
    assert_eq!(flush_of(&contents), 0);
    flush(&manifest, 1).unwrap();
    // Killed and not closed: the bytes are taken while it is open.
    let killed = disk.bytes(u64::MAX);
    drop(manifest);
    let closed = disk.bytes(u64::MAX);
    let (mut whole, mut nothing) = (0, 0);
    for bytes in [&killed, &closed] {
        for calls in 0.. {
            let disk = Cut::after(bytes, calls);
            let committed = open(&disk).is_ok_and(|(manifest, _)| flush(&manifest, 2).is_ok());
            for pattern in [0, u64::MAX, 0x5555_5555_5555_5555, 0x9c63_1b4e_d872_30f5, 0x3a5c_c5a3_0ff0_1234]
            {
                let after = Cut::after(&disk.bytes(pattern), usize::MAX);
                let (manifest, contents) = open(&after).unwrap();
                assert!(!manifest.is_new());
                match flush_of(&contents) {
                    2 => whole += 1,
                    1 if !committed => nothing += 1,
                    other => panic!("flush {other} after {calls} calls, committed: {committed}"),
                }
                flush(&manifest, flush_of(&contents) + 1).unwrap();
            }
            if !disk.is_cut() {
                break;
            }
        }
    }
    assert!(whole > 5 && nothing > 5, "{whole} flushes were there, {nothing} were not");
}

#[test]
fn a_full_disk_or_another_version_is_no_reason_to_put_a_manifest_aside() {
    let disk = Cut::after(&[], usize::MAX);
    let (manifest, _) = open(&disk).unwrap();
    flush(&manifest, 1).unwrap();
    let killed = Cut::after(&disk.bytes(u64::MAX), 0);
    assert!(matches!(open(&killed), Ok(_) | Err(OpenError::Refused(_))));
    let held = lock(&manifest.held);
    let txn = held.db.as_ref().unwrap().begin_write().unwrap();
    txn.open_table(META).unwrap().insert("version", VERSION + 1).unwrap();
    txn.commit().unwrap();
    drop(held);
    drop(manifest);
    assert!(
        matches!(open(&disk), Err(OpenError::Refused(reason)) if reason.contains(&format!("version {}", VERSION + 1)))
    );
}

#[test]
fn an_empty_file_is_a_new_manifest_and_half_a_one_is_damaged() {
    let disk = Cut::after(&[], usize::MAX);
    let (manifest, _) = open(&disk).unwrap();
    flush(&manifest, 1).unwrap();
    drop(manifest);
    let bytes = disk.bytes(u64::MAX);
    assert!(open(&Cut::after(&[], usize::MAX)).unwrap().0.is_new());
    let half = Cut::after(&bytes[..bytes.len() / 2], usize::MAX);
    assert!(matches!(open(&half), Err(OpenError::Damaged(_))));
}
