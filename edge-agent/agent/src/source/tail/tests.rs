//! Files that grow, are rotated, truncated and replaced, while somebody reads them and while nobody does.

use std::io::Write as _;
use std::path::Path;

use tideline_protocol::model::DeviceId;
use tideline_protocol::time::NS_PER_MS;
use tideline_spool::SpoolConfig;
use tokio::sync::mpsc;

use super::*;
use crate::config::Format;
use crate::spooler::SpoolHandle;
use crate::status::Board;

/// What reads a file now and then, as a source does, and remembers its position only.
struct Tail {
    folder: tempfile::TempDir,
    rows: Rows,
    position: Option<Vec<u8>>,
    from_end: bool,
}

/// Times in ms and rejections.
type Found = (Vec<i64>, u64);

impl Tail {
    fn new(format: Format) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, rows: Rows::plain(format), position: None, from_end: false }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> (Follower, RowReader) {
        let follower = Follower::new(self.at("log"), self.position.as_deref(), self.from_end);
        (follower, RowReader::new(self.rows.clone(), DeviceId::parse("pump-7").unwrap()))
    }

    /// Reads all there is in a life of its own.
    fn live(&mut self) -> Found {
        let (mut follower, mut reader) = self.start();
        let found = self.look(&mut follower, &mut reader);
        self.position = follower.position();
        found
    }

    /// Reads all there is.
    fn look(&self, follower: &mut Follower, reader: &mut RowReader) -> Found {
        let (mut times, mut rejected) = (Vec::new(), 0);
        // A file that was replaced is found at its end by one look and the next one is opened by another.
        for _ in 0..20 {
            let mut gathered = Gathered::into(Readings::of_own_times());
            follower.read(reader, 0, &mut gathered).unwrap();
            let readings = reader.finish(gathered);
            rejected += readings.rejected;
            times.extend(
                readings.rows.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.time_ns / NS_PER_MS)),
            );
        }
        (times, rejected)
    }
}

fn row(time_ms: i64) -> String {
    format!("{{\"timestamp\":{time_ms},\"flow\":{time_ms}.5}}\n")
}

fn rows(times: impl Iterator<Item = i64>) -> String {
    times.map(row).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn found(times: impl IntoIterator<Item = i64>) -> Found {
    (times.into_iter().collect(), 0)
}

#[test]
fn lines_come_once_as_they_are_written_and_a_part_of_one_waits_for_its_end() {
    let mut tail = Tail::new(Format::Ndjson);
    assert_eq!(tail.live(), found([]), "there is no file yet");
    append(&tail.at("log"), &rows(1..4));
    assert_eq!(tail.live(), found(1..4));
    let (mut follower, mut reader) = tail.start();
    let (head, rest) = (row(4)[..9].to_owned(), row(4)[9..].to_owned());
    append(&tail.at("log"), &head);
    assert_eq!(tail.look(&mut follower, &mut reader), found([]));
    append(&tail.at("log"), &rest);
    assert_eq!(tail.look(&mut follower, &mut reader), found([4]));
    tail.position = follower.position();
    assert_eq!(tail.live(), found([]), "a restart reads nothing twice");
}

#[test]
fn a_file_that_is_moved_aside_is_read_to_its_end_before_the_next() {
    for is_running in [true, false] {
        let mut tail = Tail::new(Format::Ndjson);
        append(&tail.at("log"), &rows(1..4));
        let (mut follower, mut reader) = tail.start();
        assert_eq!(tail.look(&mut follower, &mut reader), found(1..4));
        tail.position = follower.position();
        append(&tail.at("log"), &rows(4..6));
        std::fs::rename(tail.at("log"), tail.at("log.1")).unwrap();
        if is_running {
            assert_eq!(tail.look(&mut follower, &mut reader), found(4..6));
        }
        // Whoever writes it has not noticed yet; and its last line never gets an end.
        append(&tail.at("log.1"), row(6).trim_end());
        append(&tail.at("log"), &rows(7..9));
        let wanted = if is_running { found(6..9) } else { found(4..9) };
        let seen = if is_running { tail.look(&mut follower, &mut reader) } else { tail.live() };
        assert_eq!(seen, wanted, "{is_running}");
        if is_running {
            tail.position = follower.position();
        }
        append(&tail.at("log"), &row(9));
        assert_eq!(tail.live(), found([9]), "{is_running}");
    }
}

#[test]
fn a_file_that_is_truncated_or_written_anew_begins_at_its_start() {
    for is_running in [true, false] {
        let mut tail = Tail::new(Format::Ndjson);
        append(&tail.at("log"), &rows(100..110));
        let (mut follower, mut reader) = tail.start();
        assert_eq!(tail.look(&mut follower, &mut reader), found(100..110));
        tail.position = follower.position();
        // Once shorter, and once longer than before.
        for times in [200..203, 300..330] {
            std::fs::write(tail.at("log"), rows(times.clone())).unwrap();
            let seen = if is_running { tail.look(&mut follower, &mut reader) } else { tail.live() };
            assert_eq!(seen, found(times), "{is_running}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_anew_up_to_the_same_place_is_handed_on_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (path, board) = (folder.path().join("log"), Board::default());
    let spool = folder.path().join("spool.redb");
    let (spool, _) = SpoolHandle::start(spool, SpoolConfig::default(), board.clone()).unwrap();
    let (out, mut inbox) = mpsc::channel(4);
    let own = DeviceId::parse("pump-7").unwrap();
    let (mut context, stop) = Context::alone("log", own, &out, board.clone(), spool);
    let (interval, rows) = (Duration::from_secs(60), Rows::plain(Format::Ndjson));
    let mut source = TailSource { path: path.clone(), interval, from_end: false, rows };
    std::fs::write(&path, row(1)).unwrap();
    let task = tokio::spawn(async move { source.run(&mut context).await });
    // One look from its beginning to its end.
    let look = async || {
        board.source("log", |source| source.last_poll_ms = None);
        tokio::time::advance(interval).await;
        while board.read().sources.get("log").is_some_and(|source| source.last_poll_ms.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    for time_ms in 1..4 {
        let chunk = inbox.recv().await.unwrap();
        let times: Vec<i64> = chunk.rows.iter().flat_map(|(_, rows)| rows).map(|row| row.time_ns).collect();
        assert_eq!(times, [time_ms * NS_PER_MS]);
        look().await;
        std::fs::write(&path, "").unwrap();
        look().await;
        std::fs::write(&path, row(time_ms + 1)).unwrap();
    }
    stop.send_replace(true);
    assert!(task.await.unwrap().is_err());
}

#[test]
fn a_file_that_is_gone_for_good_is_told() {
    let mut tail = Tail::new(Format::Ndjson);
    append(&tail.at("log"), &rows(1..4));
    tail.live();
    // Another one keeps the first from having the same inode.
    append(&tail.at("other"), "x");
    std::fs::rename(tail.at("other"), tail.at("log")).unwrap();
    std::fs::write(tail.at("log"), rows(5..9)).unwrap();
    let (mut follower, mut reader) = tail.start();
    let mut gathered = Gathered::into(Readings::of_own_times());
    let turned = follower.read(&mut reader, 0, &mut gathered).unwrap();
    assert!(matches!(turned, Turned::Lost(what) if what.contains("the last one is gone")));
    assert_eq!(tail.look(&mut follower, &mut reader), found(5..9));
}

#[test]
fn a_csv_has_its_header_after_a_restart_and_the_next_file_its_own() {
    let mut tail = Tail::new(Format::Csv);
    append(&tail.at("log"), "timestamp,flow\n1,1.5\n");
    assert_eq!(tail.live(), found([1]));
    append(&tail.at("log"), "2,2.5\n3\n");
    assert_eq!(tail.live(), (vec![2], 1));
    std::fs::rename(tail.at("log"), tail.at("log.1")).unwrap();
    append(&tail.at("log"), "flow,timestamp\n4.5,4\n");
    assert_eq!(tail.live(), found([4]));
}

#[test]
fn a_header_that_cannot_be_read_is_told_and_no_line_of_data_takes_its_place() {
    let refused = |tail: &Tail| {
        let (mut follower, mut reader) = tail.start();
        let mut gathered = Gathered::into(Readings::of_own_times());
        let told = follower.read(&mut reader, 0, &mut gathered).unwrap_err().to_string();
        assert!(told.starts_with("line 2: header: it is no UTF-8; allowed are names"), "{told}");
        assert!(gathered.is_empty() && reader.needs_header());
    };
    let bad = b"\ntimestamp,fl\xfcss\n1,1.5\n";
    let mut tail = Tail::new(Format::Csv);
    std::fs::write(tail.at("log"), bad).unwrap();
    refused(&tail);
    tail.from_end = true;
    refused(&tail);
    tail.from_end = false;
    // Also where it is gone on behind it, as with another format before.
    tail.rows = Rows::plain(Format::Ndjson);
    assert_eq!(tail.live(), (vec![], 2));
    tail.rows = Rows::plain(Format::Csv);
    refused(&tail);
    // It is mended by writing the file anew.
    std::fs::write(tail.at("log"), "\ntimestamp,flow\n1,1.5\n2,2.5\n").unwrap();
    assert_eq!(tail.live(), found(1..3));
}

#[test]
fn what_stood_there_before_can_be_left_out_once() {
    let mut tail = Tail::new(Format::Csv);
    tail.from_end = true;
    append(&tail.at("log"), "timestamp,flow\n1,1.5\n");
    assert_eq!(tail.live(), found([]));
    append(&tail.at("log"), "2,2.5\n");
    assert_eq!(tail.live(), found([2]));
    std::fs::rename(tail.at("log"), tail.at("log.1")).unwrap();
    append(&tail.at("log"), "timestamp,flow\n3,3.5\n");
    assert_eq!(tail.live(), found([3]), "the next file is new");
}

#[test]
fn a_line_without_end_costs_no_more_than_itself() {
    let mut tail = Tail::new(Format::Ndjson);
    let half = "x".repeat(3 << 19);
    append(&tail.at("log"), &row(1));
    append(&tail.at("log"), &half);
    let (mut follower, mut reader) = tail.start();
    assert_eq!(tail.look(&mut follower, &mut reader), (vec![1], 1));
    append(&tail.at("log"), &half);
    assert_eq!(tail.look(&mut follower, &mut reader), found([]));
    append(&tail.at("log"), &format!("{half}\n{}", row(2)));
    assert_eq!(tail.look(&mut follower, &mut reader), found([2]));
    tail.position = follower.position();
    assert_eq!(tail.live(), found([]));
}

proptest::proptest! {
    #[test]
    fn any_position_and_any_bytes_are_read_without_a_panic(
        position in proptest::option::of(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)),
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
    ) {
        let mut tail = Tail::new(Format::Csv);
        std::fs::write(tail.at("log"), bytes).unwrap();
        tail.position = position;
        let (mut follower, mut reader) = tail.start();
        for _ in 0..20 {
            let mut gathered = Gathered::into(Readings::of_own_times());
            if follower.read(&mut reader, 0, &mut gathered).is_err() {
                break;
            }
        }
    }
}
