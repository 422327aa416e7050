//! What an export writes is what Parquet readers find.

use std::io::{self, Write};

use polars::prelude::*;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::model::Sample;
use tideline_protocol::value::{Boxes, Quality, Value};

use super::rig::*;
use crate::ExportFormat::{Arrow, Csv, Parquet};
use crate::StoreError;

fn rows_of(seq: u64) -> Vec<Row> {
    let time = |n: i64| (40 - seq as i64) * 1_000 + n;
    (0..6).map(|n| (n % SERIES, time(i64::from(n)), seq as f64 + f64::from(n) / 8.0)).collect()
}

fn read(bytes: Vec<u8>) -> Vec<(String, i64, u64)> {
    seen(&ParquetReader::new(io::Cursor::new(bytes)).finish().unwrap())
}

fn seen(frame: &DataFrame) -> Vec<(String, i64, u64)> {
    let texts = |name: &str| {
        let column = frame.column(name).unwrap().str().unwrap();
        column.iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(texts("unit").iter().all(|unit| unit == "Cel"));
    let times = frame.column("time").unwrap();
    assert_eq!(times.dtype(), &DataType::Datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC)));
    let times = times.datetime().unwrap().physical().iter().map(Option::unwrap);
    let values = frame.column("value").unwrap().f64().unwrap().iter().map(|value| value.unwrap().to_bits());
    let names =
        texts("device").into_iter().zip(texts("point")).map(|(device, point)| format!("{device}/{point}"));
    names.zip(times).zip(values).map(|((name, time), value)| (name, time, value)).collect()
}

fn lines(csv: &[u8]) -> Vec<(String, i64, u64)> {
    let text = std::str::from_utf8(csv).unwrap();
    let mut lines = text.strip_suffix("\r\n").unwrap().split("\r\n");
    assert_eq!(lines.next(), Some("device,point,unit,type,time,value,int,text,quality,doubtful"));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let time: jiff::Timestamp = fields[4].parse().unwrap();
        let value: f64 = fields[5].parse().unwrap();
        let name = format!("{}/{}", fields[0], fields[1]);
        (name, i64::try_from(time.as_nanosecond()).unwrap(), value.to_bits())
    };
    lines.map(row).collect()
}

#[test]
fn an_export_has_all_rows_of_files_and_memory_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    for seq in 1..=30 {
        append(&store, seq, &[rows_of(seq)]);
        if seq % 7 == 0 {
            store.flush().unwrap();
        }
    }
    store.settle().unwrap();
    let mut out = Vec::new();
    assert_eq!(store.export(Parquet, &[0, 1, 2], i64::MIN, i64::MAX, &mut out).unwrap(), 180);
    assert_eq!(read(out), expected(&(1..=30).flat_map(rows_of).collect::<Vec<_>>()));
    let mut out = Vec::new();
    assert_eq!(store.export(Parquet, &[1], 20_000, 30_000, &mut out).unwrap(), 20);
    let within = (1..=30).flat_map(rows_of).filter(|row| row.0 == 1 && (20_000..30_000).contains(&row.1));
    assert_eq!(read(out), expected(&within.clone().collect::<Vec<_>>()));
    let mut out = Vec::new();
    assert_eq!(store.export(Arrow, &[0, 1, 2], i64::MIN, i64::MAX, &mut out).unwrap(), 180);
    let frame = IpcStreamReader::new(io::Cursor::new(out)).finish().unwrap();
    assert_eq!(seen(&frame), expected(&(1..=30).flat_map(rows_of).collect::<Vec<_>>()));
    let mut out = Vec::new();
    assert_eq!(store.export(Csv, &[1], 20_000, 30_000, &mut out).unwrap(), 20);
    assert_eq!(lines(&out), expected(&within.clone().collect::<Vec<_>>()));
    let mut none = Vec::new();
    assert_eq!(store.export(Parquet, &[0], 0, 1, &mut none).unwrap(), 0);
    assert_eq!(read(none), []);
    assert!(matches!(store.export(Parquet, &[9], 0, 1, &mut Vec::new()), Err(StoreError::Query(_))));
    store.close().unwrap();
}

/// Takes so many bytes.
struct Short(usize);

impl Write for Short {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_export_ends_when_nobody_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    append(&store, 1, &[rows_of(1)]);
    store.settle().unwrap();
    let export = |out: Short| store.export(Parquet, &[0, 1, 2], i64::MIN, i64::MAX, out);
    assert!(export(Short(1 << 20)).is_ok());
    for bytes in [0, 4, 100, 500] {
        assert!(matches!(export(Short(bytes)), Err(StoreError::Query(_))), "{bytes} bytes");
    }
    for format in [Arrow, Csv] {
        let export = |out: Short| store.export(format, &[0, 1, 2], i64::MIN, i64::MAX, out);
        assert!(export(Short(1 << 20)).is_ok());
        assert!(matches!(export(Short(100)), Err(StoreError::Query(_))), "{format:?}");
    }
    store.close().unwrap();
}

#[test]
fn values_of_all_kinds_are_exported_with_their_quality() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let given = [
        (Value::Float(1.5), Quality::Good),
        (Value::Float(2.5), Quality::Bad),
        (Value::Int(i64::MAX), Quality::Good),
        (Value::Text("a, \"b\"".into()), Quality::Uncertain),
        (Value::Null, Quality::Good),
        (Value::Null, Quality::Bad),
    ];
    let mut boxes = Boxes::new();
    let samples: Vec<Sample> = given
        .iter()
        .zip(0..)
        .map(|((value, quality), time_ns)| Sample { time_ns, value: boxes.word(value.clone(), *quality) })
        .collect();
    let mut builder = BlockBuilder::new();
    builder.push_boxed(&[(0, &samples)], &boxes);
    wait(store.append(of_block(&agent("a"), 1, builder.finish()))).unwrap();
    store.settle().unwrap();
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        let mut out = Vec::new();
        assert_eq!(store.export(Csv, &[0], i64::MIN, i64::MAX, &mut out).unwrap(), 6);
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let part = store.export_part(Csv, &[0, 1], (i64::MIN, i64::MAX), (after, 4), &mut parts).unwrap();
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(String::from_utf8_lossy(&parts), String::from_utf8_lossy(&out), "in parts");
        let text = String::from_utf8(out).unwrap();
        let cells: Vec<&str> = text.lines().skip(1).map(|line| line.splitn(6, ',').nth(5).unwrap()).collect();
        let expected = [
            "1.5,,,good,",
            ",,,bad,2.5",
            "9223372036854775807,9223372036854775807,,good,",
            ",,\"a, \"\"b\"\"\",uncertain,",
            ",,,good,",
            ",,,bad,",
        ];
        assert_eq!(cells[0], expected[0]);
        assert_eq!(cells[1], expected[1]);
        assert_eq!(&cells[3..], &expected[3..]);
        assert!(cells[2].ends_with(",9223372036854775807,,good,"), "{}", cells[2]);
        let mut out = Vec::new();
        assert_eq!(store.export(Parquet, &[0], i64::MIN, i64::MAX, &mut out).unwrap(), 6);
        let frame = ParquetReader::new(io::Cursor::new(out)).finish().unwrap();
        let strings = |name: &str| {
            let column = frame.column(name).unwrap().str().unwrap();
            column.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(strings("text"), [None, None, None, text("a, \"b\""), None, None]);
        assert_eq!(strings("quality"), ["good", "bad", "good", "uncertain", "good", "bad"].map(text));
        let ints: Vec<_> = frame.column("int").unwrap().i64().unwrap().iter().collect();
        assert_eq!(ints, [None, None, Some(i64::MAX), None, None, None]);
        let numbers: Vec<_> = frame.column("value").unwrap().f64().unwrap().iter().collect();
        assert_eq!(numbers, [Some(1.5), None, Some(i64::MAX as f64), None, None, None]);
        let doubtful: Vec<_> = frame.column("doubtful").unwrap().f64().unwrap().iter().collect();
        assert_eq!(doubtful, [None, Some(2.5), None, None, None, None]);
    }
}
