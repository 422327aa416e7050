//! Replay against files as they come: with bad lines, cut, marked, and left in the middle.

use std::collections::BTreeMap;
use std::sync::Arc;

use tideline_protocol::model::{DeviceId, Sample};
use tideline_protocol::time::{ManualClock, NS_PER_MS};
use tideline_protocol::value::{Quality, Value, ValueKind};
use tideline_spool::SpoolConfig;
use tokio::sync::mpsc;

use super::*;
use crate::config::Format;
use crate::intake::Chunk;
use crate::source::rows::lines::LINE_BYTES_MAX;
use crate::source::rows::time_of;
use crate::spooler::{Portion, SpoolHandle};
use crate::status::{Board, SourceStatus};

const NOW_NS: i64 = 5_000_000_000;

/// Point, kind, time, value and quality.
type Seen = (String, ValueKind, i64, Value, Quality);

struct Bench {
    dir: tempfile::TempDir,
    types: BTreeMap<String, ValueKind>,
    quality: String,
    spool: SpoolHandle,
    board: Board,
}

impl Bench {
    fn new(file: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rows"), file).unwrap();
        let board = Board::default();
        let path = dir.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        Self { dir, types: BTreeMap::new(), quality: String::new(), spool, board }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rows")
    }

    /// As [`Bench::seen`], of numbers: (time, value).
    async fn replay(&self, format: Format, timestamps: Timestamps, chunks: usize) -> Vec<(i64, f64)> {
        let number = |value| match value {
            Value::Float(number) => number,
            other => panic!("{other:?}"),
        };
        let seen = self.seen(format, timestamps, chunks).await;
        seen.into_iter().map(|(_, _, time_ns, value, _)| (time_ns, number(value))).collect()
    }

    /// Replays, makes the first `chunks` durable and drops what comes after, as a kill does. Gives what came in the
    /// order of points and lines.
    async fn seen(&self, format: Format, timestamps: Timestamps, chunks: usize) -> Vec<Seen> {
        let (out, mut inbox) = mpsc::channel(chunks.max(1));
        let own_device = DeviceId::parse("pump-7").unwrap();
        let (context, _stop) = Context::alone("a", own_device, &out, self.board.clone(), self.spool.clone());
        let mut context = context.with_clock(Arc::new(ManualClock::at(NOW_NS))).with_position_key("replay/a");
        let (types, quality) = (self.types.clone(), self.quality.clone());
        let rows = Rows { timestamps, types, quality, ..Rows::plain(format) };
        let mut source = ReplaySource { path: self.path(), rate: 0, rows };
        let task = tokio::spawn(async move {
            let ended = source.run(&mut context).await;
            drop(out);
            ended
        });
        let mut seen = Vec::new();
        for _ in 0..chunks {
            let Some(chunk) = inbox.recv().await else { break };
            let Chunk { rows, boxes, position, .. } = chunk;
            for (def, samples) in &rows {
                let of = |sample: &Sample| {
                    let (value, quality) = boxes.value(sample.value, def.kind());
                    (def.point.to_string(), def.kind(), sample.time_ns, value, quality)
                };
                seen.extend(samples.iter().map(of));
            }
            let positions = position.into_iter().collect();
            let portion = Portion { rows, boxes, positions, ..Portion::default() };
            let accepted = portion.count();
            self.spool.append_portions(vec![Arc::new(portion)], u64::MAX).await.unwrap();
            self.board.accepted("a", accepted);
            chunk.durable.into_iter().for_each(|durable| durable.send(()).unwrap());
        }
        drop(inbox);
        let ended = task.await.unwrap();
        self.board.source("a", |source| match &ended {
            Ok(()) => source.done = true,
            Err(SourceError::Stopped) => {}
            Err(error) => source.last_error = Some(error.to_string()),
        });
        seen
    }

    async fn ndjson(&self) -> Vec<(i64, f64)> {
        self.replay(Format::Ndjson, Timestamps::Keep, usize::from(u16::MAX)).await
    }

    fn status(&self) -> SourceStatus {
        self.board.read().sources.get("a").cloned().unwrap_or_default()
    }
}

fn row(second: i64) -> String {
    format!("{{\"timestamp\":\"1970-01-01T00:00:{second:02}Z\",\"flow\":{second}.5}}\n")
}

fn value(second: i64) -> (i64, f64) {
    (second * 1_000_000_000, second as f64 + 0.5)
}

#[test]
fn times_are_read_in_all_forms() {
    assert_eq!(time_of("1970-01-01 00:00:01").unwrap(), 1_000_000_000);
    assert_eq!(time_of("1970-01-01T01:00:01+01:00").unwrap(), 1_000_000_000);
    assert_eq!(time_of("1500").unwrap(), 1_500_000_000);
    assert!(time_of("yesterday").unwrap_err().contains("RFC 3339"));
    assert!(time_of("9223372036854775807").is_err());
}

#[tokio::test]
async fn good_lines_become_readings_at_their_times() {
    let bench = Bench::new(
        row(1) + &row(2) + "\n" + "{\"timestamp\":3000,\"flow\":3.5,\"of\":{\"a\":1},\"note\":[2]}\n",
    );
    assert_eq!(bench.ndjson().await, [value(1), value(2), value(3)]);
    let status = bench.status();
    assert_eq!((status.accepted, status.rejected, status.done), (3, 0, true));
}

#[tokio::test]
async fn a_bad_line_is_told_with_file_and_line_and_the_rest_goes_on() {
    for (bad, said) in [
        ("{\"timestamp\":", "it is no JSON object"),
        ("[1, 2]", "it is no JSON object"),
        ("{\"timestamp\":\"noon\",\"flow\":1}", "time \"noon\" is none of RFC 3339"),
        ("{\"flow\":1}", "it has no \"timestamp\""),
        ("{\"timestamp\":1,\"of\":[1],\"new\":null}", "it has no value"),
        ("{\"timestamp\":1,\"flow\":true}", "flow is \"true\", of type bool; profile rows allows numbers"),
        ("{\"timestamp\":1,\"flow\":\"fast\"}", "flow is \"fast\", and its type is float: a number"),
        ("{\"timestamp\":1,\"flow\":1e999}", "it is no JSON object: number out of range"),
        ("{\"timestamp\":1,\"flow\":\"NaN\"}", "flow"),
        ("{\"timestamp\":1,\"\":1}", "makes no name of a point"),
    ] {
        let bench = Bench::new(format!("{}{bad}\n{}", row(1), row(2)));
        assert_eq!(bench.ndjson().await, [value(1), value(2)], "{bad}");
        let status = bench.status();
        assert_eq!((status.accepted, status.rejected, status.done), (2, 1, true), "{bad}");
        let told = status.last_error.unwrap();
        let place = format!("{}:2: ", bench.path().display());
        assert!(told.starts_with(&place) && told.contains(said), "{bad}: {told}");
        assert!(told.contains("allowed is one JSON object a line"), "{bad}: {told}");
    }
}

#[tokio::test]
async fn line_ends_byte_order_mark_and_a_missing_last_newline_do_not_matter() {
    let whole = row(1) + &row(2);
    for file in [
        whole.replace('\n', "\r\n"),
        format!("\u{feff}{whole}"),
        whole.trim_end().to_owned(),
        format!("\n\r\n{whole}\n\n"),
    ] {
        let bench = Bench::new(&file);
        assert_eq!(bench.ndjson().await, [value(1), value(2)], "{file:?}");
        assert_eq!(bench.status().rejected, 0, "{file:?}");
    }
}

#[tokio::test]
async fn an_empty_file_is_done_at_once_but_a_csv_has_a_header() {
    let bench = Bench::new("");
    assert_eq!(bench.ndjson().await, []);
    assert!(bench.status().done && bench.status().last_error.is_none());
    assert_eq!(bench.replay(Format::Csv, Timestamps::Keep, 9).await, []);
    assert!(bench.status().last_error.unwrap().contains("a CSV begins with its header"));
}

#[tokio::test]
async fn what_is_no_file_is_told_and_not_waited_for() {
    let bench = Bench::new("");
    std::fs::remove_file(bench.path()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(bench.path()).status().unwrap();
    assert!(made.success());
    assert_eq!(bench.ndjson().await, []);
    assert!(bench.status().last_error.unwrap().contains("it is no file; what comes through a pipe"));
    std::fs::remove_file(bench.path()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", bench.path()).unwrap();
    assert_eq!(bench.ndjson().await, []);
    assert!(bench.status().last_error.unwrap().contains("it is no file"));
}

#[tokio::test]
async fn a_very_long_line_is_one_bad_line() {
    let filler = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() * 2);
    // What follows the limit must not be taken for a line of its own.
    let long = format!("{{\"note\":\"{filler}\",\"timestamp\":9,\"flow\":9}}");
    let bench = Bench::new(format!("{}{long}\n{}", row(1), row(2)));
    assert_eq!(bench.ndjson().await, [value(1), value(2)]);
    assert_eq!(bench.status().rejected, 1);
    let told = bench.status().last_error.unwrap();
    assert!(told.contains(":2: it has more than 1048576 bytes"), "{told}");
    let bench = Bench::new(format!("{}{long}", row(1)));
    assert_eq!(bench.ndjson().await, [value(1)]);
    assert!(bench.status().done);
}

#[tokio::test]
async fn a_line_of_just_the_limit_is_read() {
    let frame = "{\"timestamp\":1,\"flow\":1,\"note\":\"\"}";
    let filler = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() - frame.len());
    let bench = Bench::new(format!("{}\n{}", frame.replace("\"\"", &format!("\"{filler}\"")), row(2)));
    assert_eq!(bench.ndjson().await, [(1_000_000, 1.0), value(2)]);
}

#[tokio::test]
async fn a_line_that_is_no_utf8_is_told() {
    let mut file = row(1).into_bytes();
    file.extend_from_slice(b"{\"timestamp\":1,\"fl\xff\":1}\n");
    file.extend_from_slice(row(2).as_bytes());
    let bench = Bench::new(file);
    assert_eq!(bench.ndjson().await, [value(1), value(2)]);
    assert!(bench.status().last_error.unwrap().contains(":2: it is no UTF-8"));
}

#[tokio::test]
async fn times_are_the_clocks_when_so_configured() {
    let bench = Bench::new("{\"flow\":1}\n{\"timestamp\":\"noon\",\"flow\":2}\n");
    let seen = bench.replay(Format::Ndjson, Timestamps::Now, 9).await;
    assert_eq!(seen, [(NOW_NS, 1.0), (NOW_NS, 2.0)]);
}

#[tokio::test]
async fn after_a_kill_it_goes_on_in_the_middle_of_the_file() {
    let rows = 2 * i64::try_from(ROWS_PER_CHUNK).unwrap() + 7;
    let lines = (0..rows).map(|n| format!("{{\"timestamp\":{n},\"flow\":{n}}}\n"));
    let bench = Bench::new(lines.collect::<String>() + "broken\n");
    let mut seen = bench.replay(Format::Ndjson, Timestamps::Keep, 1).await;
    assert_eq!(seen.len() as u64, ROWS_PER_CHUNK);
    seen.extend(bench.replay(Format::Ndjson, Timestamps::Keep, 1).await);
    seen.extend(bench.ndjson().await);
    let expected: Vec<_> = (0..rows).map(|n| (n * NS_PER_MS, n as f64)).collect();
    assert!(seen == expected, "each line once, in order");
    let told = bench.status().last_error.unwrap();
    assert!(told.contains(&format!(":{}: ", rows + 1)), "lines are counted over the restarts: {told}");
    assert_eq!(bench.ndjson().await, [], "at its end it stays done");
    assert!(bench.status().done);
}

#[tokio::test]
async fn a_csv_line_with_other_fields_than_the_header_is_told() {
    let bench = Bench::new("\u{feff}timestamp,flow\r\n1000,1.5\r\n2000\r\n3000,3.5,9\r\n4000,4.5");
    let seen = bench.replay(Format::Csv, Timestamps::Keep, 9).await;
    assert_eq!(seen, [value(1), value(4)]);
    assert_eq!(bench.status().rejected, 2);
    assert!(bench.status().last_error.unwrap().contains(":4: it has 3 fields, the header 2"));
}

#[tokio::test]
async fn a_wide_file_is_handed_on_in_chunks_of_few_lines() {
    let columns = 600;
    let names: Vec<_> = (0..columns).map(|column| format!("p{column}")).collect();
    let mut file = format!("timestamp,{}\n", names.join(","));
    (0..50).for_each(|row| file.push_str(&format!("{row}{}\n", ",7".repeat(columns))));
    let bench = Bench::new(file);
    let first = bench.replay(Format::Csv, Timestamps::Keep, 1).await;
    // The line that reaches the limit is whole.
    assert_eq!(first.len(), 17 * columns);
    let rest = bench.replay(Format::Csv, Timestamps::Keep, 99).await;
    assert_eq!(first.len() + rest.len(), 50 * columns);
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[tokio::test]
async fn values_of_json_keep_their_types_and_are_as_good_as_the_line_says() {
    let mut bench = Bench::new(
        "{\"timestamp\":1,\"flow\":1,\"on\":true,\"state\":\"idle\",\"serial\":9007199254740993}\n\
         {\"timestamp\":2,\"flow\":2.5,\"on\":null,\"state\":\"run\",\"ok\":\"uncertain\"}\n\
         {\"timestamp\":3,\"flow\":\"3.5\",\"on\":0,\"state\":null,\"ok\":\"bad\"}\n\
         {\"timestamp\":4,\"flow\":4,\"ok\":\"fine\"}\n\
         {\"timestamp\":5,\"flow\":5,\"state\":5,\"ok\":null}\n",
    );
    bench.quality = "ok".into();
    bench.types = [("serial".to_owned(), ValueKind::Int)].into();
    let flow = |time, value, quality| {
        ("flow".to_owned(), ValueKind::Float, time * NS_PER_MS, Value::Float(value), quality)
    };
    let on = |time, value, quality| ("on".to_owned(), ValueKind::Bool, time * NS_PER_MS, value, quality);
    let state =
        |time, value, quality| ("state".to_owned(), ValueKind::Text, time * NS_PER_MS, value, quality);
    let wanted = [
        flow(1, 1.0, Quality::Good),
        flow(2, 2.5, Quality::Uncertain),
        flow(3, 3.5, Quality::Bad),
        flow(5, 5.0, Quality::Good),
        on(1, Value::Bool(true), Quality::Good),
        on(2, Value::Null, Quality::Uncertain),
        on(3, Value::Bool(false), Quality::Bad),
        ("serial".to_owned(), ValueKind::Int, NS_PER_MS, Value::Int(9_007_199_254_740_993), Quality::Good),
        state(1, text("idle"), Quality::Good),
        state(2, text("run"), Quality::Uncertain),
        state(3, Value::Null, Quality::Bad),
    ];
    assert_eq!(bench.seen(Format::Ndjson, Timestamps::Keep, 9).await, wanted);
    let status = bench.status();
    assert_eq!((status.accepted, status.rejected), (11, 2), "the line with ok = fine, and state = 5");
    assert!(
        status.last_error.unwrap().contains(":5: state is \"5\", of type int; profile rows allows texts")
    );
}

#[tokio::test]
async fn what_a_point_was_before_a_restart_it_stays() {
    let bench = Bench::new("{\"timestamp\":1,\"state\":\"idle\"}\n");
    assert_eq!(bench.seen(Format::Ndjson, Timestamps::Keep, 9).await.len(), 1);
    let mut rows = std::fs::read(bench.path()).unwrap();
    rows.extend_from_slice(b"{\"timestamp\":2,\"state\":7}\n{\"timestamp\":3,\"state\":null}\n");
    std::fs::write(bench.path(), rows).unwrap();
    let wanted = ("state".to_owned(), ValueKind::Text, 3 * NS_PER_MS, Value::Null, Quality::Good);
    assert_eq!(bench.seen(Format::Ndjson, Timestamps::Keep, 9).await, [wanted]);
    assert!(bench.status().last_error.unwrap().contains("state is \"7\", of type int"));
}

#[tokio::test]
async fn columns_of_a_csv_have_the_types_that_are_given_and_are_numbers_otherwise() {
    let mut bench = Bench::new(
        "timestamp,flow,on,state,starts,note,ok\n\
         1,1.5,TRUE,\"idle, cold\",7,a,good\n\
         2,,0,,8.0,b,\n\
         3,x,maybe,run,8.5,c,bad\n",
    );
    bench.quality = "ok".into();
    let types = [("on", ValueKind::Bool), ("state", ValueKind::Text), ("starts", ValueKind::Int)];
    bench.types = types.map(|(column, kind)| (column.to_owned(), kind)).into();
    let of =
        |point: &str, kind, time, value, quality| (point.to_owned(), kind, time * NS_PER_MS, value, quality);
    let wanted = [
        of("flow", ValueKind::Float, 1, Value::Float(1.5), Quality::Good),
        of("on", ValueKind::Bool, 1, Value::Bool(true), Quality::Good),
        of("on", ValueKind::Bool, 2, Value::Bool(false), Quality::Good),
        of("starts", ValueKind::Int, 1, Value::Int(7), Quality::Good),
        of("starts", ValueKind::Int, 2, Value::Int(8), Quality::Good),
        of("state", ValueKind::Text, 1, text("idle, cold"), Quality::Good),
        of("state", ValueKind::Text, 3, text("run"), Quality::Bad),
    ];
    assert_eq!(bench.seen(Format::Csv, Timestamps::Keep, 9).await, wanted);
    assert_eq!(bench.status().rejected, 2, "maybe and 8.5; x is no number, and nobody said that it is one");
    assert!(bench.status().last_error.unwrap().contains(":4: starts is \"8.5\", of type float"));
}

#[tokio::test]
async fn many_texts_are_handed_on_in_chunks_of_few_lines() {
    let lines = (0..600).map(|n| format!("{{\"timestamp\":{n},\"state\":\"{n:04000}\"}}\n"));
    let bench = Bench::new(lines.collect::<String>());
    let first = bench.seen(Format::Ndjson, Timestamps::Keep, 1).await;
    assert!(first.len() > 50 && first.len() < 300, "{}", first.len());
    let rest = bench.seen(Format::Ndjson, Timestamps::Keep, 99).await;
    assert_eq!(first.len() + rest.len(), 600);
    assert_eq!(rest.last().unwrap().3, text(&format!("{:04000}", 599)));
}
