//! Readings that retention gives up are in the cold tier as they were, for the store and for whoever reads Parquet.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::*;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::model::Sample;
use tideline_protocol::time::ManualClock;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};

use super::rig::*;
use crate::buckets::{DAY_NS, HOUR_NS, MINUTE_NS};
use crate::cold::{ColdUse, day_of};
use crate::hot::SeriesId;
use crate::retention::{EARLIEST_NS, Limit, Retention};
use crate::sealed::SegmentFormat;
use crate::store::{ColdRows, OpenReport, Store, open};
use crate::{StoreConfig, inspect, snapshot, verify};

/// Noon of 2026-04-11.
const T0: i64 = EARLIEST_NS + 100 * DAY_NS + 12 * HOUR_NS;
const ALL: (i64, i64) = (i64::MIN, i64::MAX);

fn days(days: i64) -> Limit {
    Limit { age_ns: Some(days * DAY_NS), bytes: None }
}

/// Readings for ten days, what is known of them for twenty, and themselves in the cold tier as long as `cold` says.
fn keeping(dir: &Path, cold: Limit) -> StoreConfig {
    let (raw, rest) = (days(10), days(20));
    let retention =
        Retention { raw, minute: rest, hour: rest, day: rest, freezes: true, cold, by_profile: false };
    StoreConfig { retention, ..config(dir) }
}

/// Opens it when the hub's clock shows so many days since the first reading.
fn open_at(config: StoreConfig, day: i64) -> (Store, OpenReport) {
    let clock = Arc::new(ManualClock::at(T0 + day * DAY_NS));
    open::open(config, clock, Arc::new(SegmentFormat::default())).unwrap()
}

/// Three series, a reading a quarter of an hour each over two days.
fn rows_of(seq: u64) -> Vec<Row> {
    let base = T0 + (seq as i64 - 1) * 2 * DAY_NS;
    let row = |n: u32| {
        (n % SERIES, base + i64::from(n / 3) * 15 * MINUTE_NS, f64::from(n).mul_add(0.25, seq as f64))
    };
    (0..576).map(row).collect()
}

/// A sealed file for each seq.
fn filled(config: StoreConfig, last: u64) -> Store {
    let store = open_at(config, 1).0;
    define(&store, &agent("a"));
    for seq in 1..=last {
        append(&store, seq, &[rows_of(seq)]);
        store.flush().unwrap();
    }
    store
}

/// Series, time and bits of the value.
type Cold = Vec<(SeriesId, i64, u64)>;

fn read(mut cold: ColdRows) -> Cold {
    let mut out = Vec::new();
    while let Some(columns) = cold.next_columns().unwrap() {
        for column in columns {
            let rows = column.times.iter().zip(&column.values);
            out.extend(rows.map(|(time, value)| (column.id, *time, value.to_bits())));
        }
    }
    out
}

fn cold(store: &Store) -> Cold {
    let mut out = read(store.cold_rows(&[0, 1, 2], ALL));
    out.sort_unstable();
    out
}

fn of(rows: &[Row]) -> Cold {
    let mut out: Cold = rows.iter().map(|(no, time, value)| (*no, *time, value.to_bits())).collect();
    out.sort_unstable();
    out
}

/// The files of the cold tier, from its folder on.
fn on_disk(dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(dir.join("cold")).unwrap().map(|entry| entry.unwrap().path());
    let mut out: Vec<PathBuf> = folders
        .flat_map(|folder| {
            let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            if files.is_empty() { vec![folder] } else { files }
        })
        .map(|path| path.strip_prefix(dir.join("cold")).unwrap().to_owned())
        .collect();
    out.sort();
    out
}

#[test]
fn what_is_given_up_is_cold_by_days_and_no_reading_changes() {
    let dir = tempfile::tempdir().unwrap();
    filled(keeping(dir.path(), Limit::default()), 2).close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), Limit::default()), 13);
    assert_eq!(store.cold(), ColdUse::default());
    store.retain().unwrap();
    assert_eq!(cold(&store), of(&rows_of(1)));
    assert_eq!((store.metrics().expired_rows, store.metrics().frozen_rows), (576, 576));
    assert_eq!(store.metrics().cold_rows, 576);
    let folders: Vec<String> =
        on_disk(dir.path()).iter().map(|path| path.parent().unwrap().display().to_string()).collect();
    assert_eq!(folders, ["day=2026-04-11", "day=2026-04-12", "day=2026-04-13"]);
    // As others see it: sorted by series and time, and of one day.
    for path in on_disk(dir.path()) {
        let bytes = fs::read(dir.path().join("cold").join(&path)).unwrap();
        let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish().unwrap();
        let names: Vec<String> = frame.get_column_names().iter().map(ToString::to_string).collect();
        let expected =
            ["device", "point", "unit", "type", "time", "value", "int", "text", "quality", "doubtful"];
        assert_eq!(names, expected);
        let times = frame.column("time").unwrap();
        assert_eq!(times.dtype(), &DataType::Datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC)));
        let times: Vec<i64> = times.datetime().unwrap().physical().iter().map(Option::unwrap).collect();
        let points =
            frame.column("point").unwrap().str().unwrap().iter().map(|point| point.unwrap().to_owned());
        let rows: Vec<(String, i64)> = points.zip(times.iter().copied()).collect();
        assert!(rows.is_sorted() && times.iter().all(|time| day_of(*time) == day_of(times[0])), "{path:?}");
    }
    // A range and a series, and nothing of what is not cold.
    let range = (T0 + DAY_NS, T0 + DAY_NS + HOUR_NS);
    let part: Vec<Row> =
        rows_of(1).into_iter().filter(|row| row.0 == 1 && row.1 >= range.0 && row.1 < range.1).collect();
    assert_eq!(part.len(), 4);
    assert_eq!(read(store.cold_rows(&[1], range)), of(&part));
    assert_eq!(store.cold_rows(&[7], ALL).most() + store.cold_rows(&[], ALL).most(), 0);
    store.close().unwrap();
    let found = verify(dir.path()).unwrap();
    assert_eq!((found.problems, found.notes, found.cold_files, found.cold_rows), (vec![], vec![], 3, 576));
    let inspected = inspect(dir.path()).unwrap();
    assert_eq!(inspected.cold.len(), 3);
    assert!(inspected.to_string().contains("cold/day=2026-04-12/"), "{inspected}");
    // It is there when the store is opened again, and when all that was known of it elsewhere is gone.
    let (store, report) = open_at(keeping(dir.path(), Limit::default()), 60);
    assert_eq!((report.quarantined, cold(&store)), (vec![], of(&rows_of(1))));
    store.retain().unwrap();
    assert_eq!(store.metrics().sealed_files, 0);
    assert_eq!(cold(&store), of(&[rows_of(1), rows_of(2)].concat()));
}

#[test]
fn values_of_all_kinds_become_cold_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_at(keeping(dir.path(), Limit::default()), 1).0;
    define(&store, &agent("a"));
    let given = [
        (Value::Float(21.5), Quality::Good),
        (Value::Float(-0.0), Quality::Good),
        (Value::Float(f64::INFINITY), Quality::Good),
        (Value::Float(7.25), Quality::Uncertain),
        (Value::Int(i64::MAX - 1), Quality::Good),
        (Value::Int(i64::MIN + 3), Quality::Bad),
        (Value::Text("läuft".into()), Quality::Good),
        (Value::Text("".into()), Quality::Uncertain),
        (Value::Null, Quality::Good),
        (Value::Null, Quality::Bad),
    ];
    let mut boxes = Boxes::new();
    let samples: Vec<Sample> = (0..)
        .zip(&given)
        .map(|(n, (value, quality))| Sample { time_ns: T0 + n, value: boxes.word(value.clone(), *quality) })
        .collect();
    let mut builder = BlockBuilder::new();
    builder.push_boxed(&[(0, &samples)], &boxes);
    wait(store.append(of_block(&agent("a"), 1, builder.finish()))).unwrap();
    store.flush().unwrap();
    let all = |columns: Vec<crate::RawColumn>| -> Vec<(i64, Value, Quality)> {
        let rows = columns.into_iter().flat_map(|column| {
            let boxes = column.boxes;
            column.times.into_iter().zip(column.values).map(move |(time, word)| {
                let (value, quality) = boxes.value(word, ValueKind::Float);
                (time, value, quality)
            })
        });
        rows.collect()
    };
    let before = all(store.query_raw(&[0], ALL.0, ALL.1, None, 99).unwrap().series);
    assert_eq!(before.len(), given.len());
    store.close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), Limit::default()), 13);
    store.retain().unwrap();
    assert!(store.query_raw(&[0], ALL.0, ALL.1, None, 99).unwrap().series.is_empty());
    let mut found = store.cold_rows(&[0], ALL);
    assert_eq!(all(found.next_columns().unwrap().unwrap()), before);
    assert_eq!(found.next_columns().unwrap(), None);
}

#[test]
fn what_comes_late_for_a_cold_day_is_a_second_file_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = || keeping(dir.path(), Limit::default());
    filled(config(), 1).close().unwrap();
    let (store, _) = open_at(config(), 13);
    store.retain().unwrap();
    let late: Vec<Row> = vec![(2, T0 + 5, 99.0), (0, T0 + 3, 98.0)];
    assert_eq!(append(&store, 1, &[rows_of(1)]), 0, "what is cold is not taken again");
    assert_eq!(append(&store, 2, std::slice::from_ref(&late)), 1);
    store.settle().unwrap();
    assert_eq!(store.query_raw(&[0, 2], ALL.0, ALL.1, None, 99).unwrap().series.len(), 2);
    store.flush().unwrap();
    store.retain().unwrap();
    assert_eq!(cold(&store), of(&[rows_of(1), late].concat()));
    assert_eq!(on_disk(dir.path()).iter().filter(|path| path.starts_with("day=2026-04-11")).count(), 2);
}

#[test]
fn the_cold_tier_has_limits_of_its_own_and_no_empty_folders() {
    let dir = tempfile::tempdir().unwrap();
    filled(keeping(dir.path(), days(30)), 2).close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), days(30)), 20);
    store.retain().unwrap();
    assert_eq!(store.cold().rows, 2 * 576);
    store.close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), days(30)), 32);
    let begun = store.cold_rows(&[0, 1, 2], ALL);
    store.retain().unwrap();
    assert_eq!((cold(&store), store.metrics().melted_rows), (of(&rows_of(2)), 576));
    // Who began before goes on, and afterwards it goes.
    assert!(on_disk(dir.path()).iter().any(|path| path.starts_with("day=2026-04-11")));
    assert_eq!(read(begun).len(), 1152);
    store.retain().unwrap();
    assert!(!dir.path().join("cold/day=2026-04-11").exists());
    let bytes = store.cold().bytes;
    store.close().unwrap();
    let room = Limit { age_ns: None, bytes: Some(bytes - 1) };
    let (store, _) = open_at(keeping(dir.path(), room), 32);
    let files = store.cold().files;
    store.retain().unwrap();
    assert_eq!(store.cold().files, files - 1);
    store.close().unwrap();
    // Without a cold tier nothing becomes cold, and what is there has its limits all the same.
    let mut off = keeping(dir.path(), Limit { age_ns: None, bytes: Some(0) });
    off.retention.freezes = false;
    let (store, _) = open_at(off, 32);
    store.retain().unwrap();
    assert_eq!((store.cold(), on_disk(dir.path())), (ColdUse::default(), vec![]));
}

#[test]
fn a_start_removes_what_is_not_listed_and_nothing_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = || keeping(dir.path(), Limit::default());
    filled(config(), 1).close().unwrap();
    let (store, _) = open_at(config(), 13);
    store.retain().unwrap();
    let before = on_disk(dir.path());
    store.close().unwrap();
    let day = dir.path().join("cold/day=2026-04-11");
    let own = dir.path().join("cold/notes");
    for name in ["00000777.parquet", "00000778.parquet.tmp", "mine.parquet"] {
        fs::write(day.join(name), b"PAR1").unwrap();
    }
    fs::write(&own, b"of the operator").unwrap();
    fs::create_dir(dir.path().join("cold/day=2020-01-01")).unwrap();
    let notes = verify(dir.path()).unwrap().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    let (store, report) = open_at(config(), 13);
    assert_eq!((report.quarantined, cold(&store)), (vec![], of(&rows_of(1))));
    assert!(own.exists() && day.join("mine.parquet").exists());
    fs::remove_file(own).unwrap();
    fs::remove_file(day.join("mine.parquet")).unwrap();
    assert_eq!(on_disk(dir.path()), before);
}

#[test]
fn a_damaged_cold_file_is_told_and_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let config = || keeping(dir.path(), Limit::default());
    filled(config(), 1).close().unwrap();
    let (store, _) = open_at(config(), 13);
    store.retain().unwrap();
    let victim = dir.path().join("cold").join(&on_disk(dir.path())[1]);
    let whole = fs::read(&victim).unwrap();
    for damage in [
        |bytes: &mut Vec<u8>| bytes[40] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(90),
        |bytes: &mut Vec<u8>| bytes.clear(),
    ] {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&victim, bytes).unwrap();
        let told = |store: &Store, range: (i64, i64)| {
            let mut cold = store.cold_rows(&[0], range);
            std::iter::from_fn(|| cold.next_columns().transpose()).collect::<Result<Vec<_>, _>>()
        };
        let error = told(&store, ALL).unwrap_err().to_string();
        assert!(error.contains("cold/day=2026-04-12") && error.contains("damaged"), "{error}");
        assert!(told(&store, (T0, T0 + HOUR_NS)).is_ok());
    }
    store.close().unwrap();
    let problems = verify(dir.path()).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("cold/day=2026-04-12")), "{problems:?}");
    let (store, _) = open_at(config(), 13);
    assert_eq!(store.metrics().damaged_files, 1);
    store.close().unwrap();
    fs::write(&victim, whole).unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_backup_has_the_cold_tier_and_a_lost_manifest_loses_no_cold_file() {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("store");
    let config = || keeping(&store_dir, Limit::default());
    filled(config(), 1).close().unwrap();
    let (store, _) = open_at(config(), 13);
    store.retain().unwrap();
    let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
    store.snapshot(&open).unwrap();
    store.close().unwrap();
    snapshot(&store_dir, &closed).unwrap();
    for backup in [&open, &closed] {
        assert_eq!(on_disk(backup), on_disk(&store_dir));
        let found = verify(backup).unwrap();
        assert_eq!((found.problems, found.notes, found.cold_rows), (vec![], vec![], 576));
        let (store, _) = open_at(keeping(backup, Limit::default()), 13);
        assert_eq!(cold(&store), of(&rows_of(1)));
    }
    let files = on_disk(&store_dir).len();
    fs::write(store_dir.join("manifest.redb"), b"no manifest").unwrap();
    let (_store, report) = open_at(config(), 13);
    let aside = report.quarantined.iter().filter(|aside| aside.path.starts_with(store_dir.join("cold")));
    assert_eq!(aside.count(), files);
    let kept = fs::read_dir(store_dir.join("quarantine")).unwrap();
    let kept =
        kept.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "parquet"));
    assert_eq!(kept.count(), files);
}

/// All rows by pages of so many, and what is done after each of them.
fn pages(store: &Store, id: SeriesId, most: usize, mut after: impl FnMut(usize)) -> Vec<(i64, u64)> {
    let (mut out, mut cursor, mut turn) = (Vec::new(), None, 0);
    loop {
        let page = store.query_page(&[id], ALL, (cursor, most), &|| false).unwrap();
        for column in page.series {
            out.extend(column.times.iter().copied().zip(column.values.iter().map(|value| value.to_bits())));
        }
        cursor = page.next;
        if cursor.is_none() {
            return out;
        }
        after(turn);
        turn += 1;
    }
}

#[test]
fn an_export_has_each_reading_once_while_they_become_cold() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(keeping(dir.path(), Limit::default()), 3);
    // Equal times in three files, in an order that is not that of their values.
    for (seq, value) in [(4, 7.0), (5, 9.0), (6, 8.0)] {
        let (first, last) = ((0, T0 + HOUR_NS, value), (0, T0 + (3 - (seq as i64 - 4)) * DAY_NS, value));
        append(&store, seq, &[vec![first, first, last]]);
        store.flush().unwrap();
    }
    let before = pages(&store, 0, usize::MAX, |_| {});
    assert_eq!(before.len(), 3 * 192 + 9);
    let exported = |store: &Store| {
        let mut bytes = Vec::new();
        let rows = store.export(crate::ExportFormat::Csv, &[0, 1], i64::MIN, i64::MAX, &mut bytes).unwrap();
        (rows, bytes)
    };
    let whole = exported(&store);
    store.close().unwrap();
    for most in [1, 2, 50] {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), &copied.path().join("store"));
        let store = open_at(keeping(&copied.path().join("store"), Limit::default()), 12).0;
        // The files go one after the other while the pages are read, the later of equal times first.
        let clock_at = |turn: usize| turn == 4 || turn == 9;
        let found = pages(&store, 0, most, |turn| {
            if clock_at(turn) {
                store.retain().unwrap();
            }
        });
        assert!(store.cold().rows > 0, "pages of {most}");
        assert_eq!(found, before, "pages of {most}");
        assert_eq!(exported(&store), whole);
        store.close().unwrap();
        let store = open_at(keeping(&copied.path().join("store"), Limit::default()), 16).0;
        store.retain().unwrap();
        assert_eq!(store.query_raw(&[0], i64::MIN, i64::MAX, None, usize::MAX).unwrap().series, vec![]);
        assert_eq!(pages(&store, 0, most, |_| {}), before, "all is cold");
        assert_eq!(exported(&store), whole);
        store.close().unwrap();
    }
}

#[test]
fn what_was_made_cold_before_its_place_was_kept_comes_first() {
    let entry = |order| {
        let (day, print, sealed_ns, groups) = (None, (0, 0), None, vec![]);
        let (first_ns, last_ns) = (0, 0);
        crate::cold::ColdEntry { number: 9, day, print, rows: 0, first_ns, last_ns, sealed_ns, groups, order }
    };
    let decoded = |bytes: &[u8]| minicbor::decode::<crate::cold::ColdEntry>(bytes).unwrap();
    let (old, new) = (minicbor::to_vec(entry(None)).unwrap(), minicbor::to_vec(entry(Some(5))).unwrap());
    assert!(old.len() < new.len(), "an entry of before has no such field");
    assert_eq!((decoded(&old).order(), decoded(&new).order()), (0, 5));
}

#[test]
fn a_damaged_cold_file_fails_the_export_that_needs_it_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    filled(keeping(dir.path(), Limit::default()), 2).close().unwrap();
    let store = open_at(keeping(dir.path(), Limit::default()), 13).0;
    store.retain().unwrap();
    let path = dir.path().join("cold").join(&on_disk(dir.path())[0]);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = store.query_page(&[0], ALL, (None, 10), &|| false).unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert!(store.query_page(&[0], (T0 + 2 * DAY_NS, i64::MAX), (None, 10), &|| false).is_ok());
    let stopped = store.query_page(&[0], ALL, (None, 10), &|| true).unwrap_err();
    assert!(stopped.to_string().contains("canceled"), "{stopped}");
    store.close().unwrap();
}
