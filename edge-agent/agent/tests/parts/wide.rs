//! More than fits: wide files on a disk that dies under them, full dictionaries, small quotas.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edge_agent::cards::Cards;
use edge_agent::config::{Format, Rows, SourceConfig, SourceKind};
use edge_agent::intake::{self, Batching, Chunk, QUEUE_MAX};
use edge_agent::source::{Shared, Sources};
use edge_agent::spooler::{Occasion, SpoolHandle};
use edge_agent::status::{Board, Status};
use redb::StorageBackend;
use tideline_protocol::block;
use tideline_protocol::model::{DeviceId, PointId, SERIES_PER_EPOCH_MAX, Sample, Seq, SeriesDef};
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Files, Spool, SpoolConfig, SpoolError};
use tokio::sync::{mpsc, watch};

use crate::until_shown;

const COLUMNS: u64 = 100;
const ROWS: u64 = 600;

/// A disk that dies after so many writes and syncs.
#[derive(Debug, Clone)]
struct Dying {
    disk: CrashBackend,
    left: Arc<AtomicU64>,
}

impl Dying {
    fn files(disk: &CrashBackend, left: u64) -> Files {
        let left = Arc::new(AtomicU64::new(left));
        let tables = Self { disk: disk.clone(), left: Arc::clone(&left) };
        Files::new(tables, Self { disk: disk.journal(), left })
    }

    fn live(&self) -> std::io::Result<()> {
        let less = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        less.map(|_| ()).map_err(|_| std::io::Error::other("the disk has died"))
    }
}

impl StorageBackend for Dying {
    fn len(&self) -> std::io::Result<u64> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.live().and_then(|()| self.disk.set_len(len))
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.live().and_then(|()| self.disk.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.live().and_then(|()| self.disk.write(offset, data))
    }
}

/// Each reading has a value of its own.
fn wide_file(folder: &Path) -> PathBuf {
    let names: Vec<_> = (0..COLUMNS).map(|column| format!("p{column}")).collect();
    let mut text = format!("timestamp,{}\n", names.join(","));
    for row in 0..ROWS {
        write!(text, "{row}").unwrap();
        (0..COLUMNS).for_each(|column| write!(text, ",{}", row * COLUMNS + column).unwrap());
        text.push('\n');
    }
    let path = folder.join("wide.csv");
    std::fs::write(&path, text).unwrap();
    path
}

/// One life of an agent that replays the file, until it is done or its disk fails.
async fn live(disk: &CrashBackend, path: &Path, writes: u64) -> Status {
    let board = Board::default();
    let mut files = Some(Dying::files(disk, writes));
    let open = move |_: Occasion| {
        let files = files.take().ok_or_else(|| SpoolError::Storage("the disk is away".into()))?;
        Spool::open(files, SpoolConfig::default(), [7; 16])
    };
    let Ok((spool, thread)) = SpoolHandle::start_with(open, board.clone()) else { return board.read() };
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (_batching, now) =
        watch::channel(Batching { flush_interval: Duration::from_millis(1), rows_max: 3_000 });
    let intake = tokio::spawn(intake::run(inbox, spool.clone(), now, board.clone()));
    let own_device = DeviceId::parse("pump-7").unwrap();
    let cards = Cards::default();
    let shared = Shared {
        own_device,
        out: out.into(),
        board: board.clone(),
        spool,
        cards,
        writes: Default::default(),
    };
    let mut sources = Sources::new(shared);
    let kind = SourceKind::Replay { path: path.to_owned(), rate: 0, rows: Rows::plain(Format::Csv) };
    sources.apply(&[SourceConfig::plain("wide", kind)]).await;
    let status = until_shown(&board, |status| {
        let failed = |error: &Option<String>| error.is_some();
        status.sources.values().any(|source| source.done || failed(&source.last_error))
            || failed(&status.last_error)
    })
    .await;
    sources.stop();
    intake.abort();
    let _ = intake.await;
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
    status
}

/// Rows in the spool, and lines of the file that its position is beyond.
fn found(spool: &Spool) -> (u64, u64) {
    let position = spool.cursor("replay/wide").unwrap();
    let line = position.map_or(0, |bytes| u64::from_le_bytes(bytes[8..16].try_into().unwrap()));
    (spool.account().produced, line.saturating_sub(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_file_is_whole_and_once_in_the_spool_wherever_the_disk_dies() {
    let folder = tempfile::tempdir().unwrap();
    let path = wide_file(folder.path());
    let (mut disk, mut deaths_between, mut writes) = (CrashBackend::new(), 0, 10);
    loop {
        let done = live(&disk, &path, writes).await.sources.values().any(|source| source.done);
        disk = match writes % 3 {
            0 => disk.crash(),
            1 => disk.kill(),
            _ => disk.crash_torn(writes),
        };
        let spool = Spool::open(disk.clone(), SpoolConfig::default(), [7; 16]).unwrap();
        let (rows, lines) = found(&spool);
        assert_eq!(rows, lines * COLUMNS, "after {writes} writes: no part of a chunk without its position");
        deaths_between += u32::from(!done && (1..ROWS).contains(&lines));
        drop(spool);
        if done {
            break;
        }
        writes += 1;
    }
    assert!(deaths_between > 0, "it must have died on its way");
    let mut spool = Spool::open(disk, SpoolConfig::default(), [7; 16]).unwrap();
    let (mut values, mut next) = (Vec::new(), Seq::FIRST);
    while next <= spool.head() {
        let run = spool.load_run(next, next, 1 << 20, 10_000).unwrap().unwrap();
        assert!(run.rows.total() <= 3_000);
        let columns = block::decode(&run.block, &run.rows, next).unwrap().columns;
        values.extend(columns.into_iter().flat_map(|column| column.values));
        next = next.next();
    }
    values.sort_by(f64::total_cmp);
    let expected: Vec<f64> = (0..u32::try_from(COLUMNS * ROWS).unwrap()).map(f64::from).collect();
    assert!(values == expected, "{} of {} readings", values.len(), expected.len());
}

fn chunk(points: impl Iterator<Item = u32>, rows: u32, position: u8) -> Chunk {
    let device = DeviceId::parse("pump-7").unwrap();
    let def = |point: u32| {
        let point = PointId::parse(&format!("p{point}")).unwrap();
        SeriesDef::new(device.clone(), point, String::new())
    };
    // Nothing packs them.
    let value = |row: u32| f64::from(row.wrapping_mul(2_654_435_761)).sin();
    let sample = |row| Sample { time_ns: i64::from(row), value: value(row + 10_000 * u32::from(position)) };
    let rows = points.map(|point| (def(point), (0..rows).map(sample).collect())).collect();
    let position = Some(("a".into(), vec![position]));
    Chunk { source: "a".into(), rows, position, ..Chunk::default() }
}

/// Has the intake take chunks, all at once or each by itself, until all are dealt with.
async fn take(quota_bytes: u64, rows_max: u64, chunks: Vec<Chunk>) -> (Status, Option<Vec<u8>>) {
    let (disk, board) = (CrashBackend::new(), Board::default());
    let open =
        move |_| Spool::open(disk.clone(), SpoolConfig { quota_bytes, ..SpoolConfig::default() }, [7; 16]);
    let (spool, _) = SpoolHandle::start_with(open, board.clone()).unwrap();
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (_batching, now) = watch::channel(Batching { flush_interval: Duration::from_secs(3600), rows_max });
    board.source("a", |_| {});
    let task = tokio::spawn(intake::run(inbox, spool.clone(), now, board.clone()));
    for chunk in chunks {
        out.send(chunk).await.unwrap();
    }
    drop(out);
    task.await.unwrap();
    (board.read(), spool.cursor("a").await.unwrap())
}

#[tokio::test]
async fn what_alone_is_over_quota_is_rejected_and_told_and_the_source_goes_on() {
    let chunks = vec![chunk(0..1, 10, 1), chunk(0..1, 10_000, 2), chunk(0..1, 20, 3)];
    let (status, position) = take(20_000, 1, chunks).await;
    let source = &status.sources["a"];
    assert_eq!((source.accepted, source.rejected), (30, 10_000));
    assert!(source.last_error.as_ref().unwrap().contains("quota of 20000"), "{:?}", source.last_error);
    assert_eq!((status.account.produced, position), (30, Some(vec![3])));
}

#[tokio::test]
async fn what_is_over_quota_only_together_is_taken_in_turn_and_the_oldest_given_up() {
    let chunks = (1..=8).map(|n| chunk(0..1, 1_500, n)).collect();
    let (status, position) = take(40_000, 12_000, chunks).await;
    let source = &status.sources["a"];
    assert_eq!((source.accepted, source.rejected), (12_000, 0));
    assert_eq!((status.account.produced, position), (12_000, Some(vec![8])));
    assert!((1..12_000).contains(&status.account.dropped), "{:?}", status.account);
    assert_eq!(status.drops, [("quota".to_owned(), status.account.dropped)].into());
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn when_the_dictionary_is_full_new_series_are_rejected_and_known_ones_kept() {
    let room = SERIES_PER_EPOCH_MAX;
    let (fill, more) = (chunk(0..room - 1, 1, 1), chunk(room - 2..room + 3, 2, 2));
    let (status, position) = take(1 << 28, 1, vec![fill, more]).await;
    let source = &status.sources["a"];
    assert_eq!((source.accepted, source.rejected), (u64::from(room) - 1 + 4, 6));
    assert!(source.last_error.as_ref().unwrap().contains("100000 series"), "{:?}", source.last_error);
    assert_eq!((status.account.produced, position), (u64::from(room) + 3, Some(vec![2])));
}

#[tokio::test(start_paused = true)]
async fn what_a_failing_disk_kept_all_the_same_is_not_written_again() {
    let (mut failures, mut writes) = (0, 1);
    loop {
        let (disk, board) = (CrashBackend::new(), Board::default());
        let (mut dying, later) = (Some(Dying::files(&disk, writes)), disk.clone());
        // Opened again, the file holds all that was written before the failure.
        let open = move |_| {
            let files = dying.take().unwrap_or_else(|| later.kill().into());
            Spool::open(files, SpoolConfig::default(), [7; 16])
        };
        writes += 1;
        let Ok((spool, _)) = SpoolHandle::start_with(open, board.clone()) else { continue };
        let (out, inbox) = mpsc::channel(QUEUE_MAX);
        let (_batching, now) = watch::channel(Batching { flush_interval: Duration::ZERO, rows_max: 1 });
        board.source("a", |_| {});
        let task = tokio::spawn(intake::run(inbox, spool.clone(), now, board.clone()));
        for n in 1..=4 {
            // A source that measures has no position.
            out.send(Chunk { position: None, ..chunk(0..1, 10, n) }).await.unwrap();
        }
        drop(out);
        task.await.unwrap();
        let status = board.read();
        assert_eq!(status.account.produced, 40, "a failure after {writes} writes");
        assert_eq!(status.sources["a"].accepted, 40, "a failure after {writes} writes");
        if status.last_error.is_none() {
            break;
        }
        failures += 1;
    }
    assert!(failures > 10, "{failures}");
}
