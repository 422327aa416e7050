//! Aggregates over groups of series, against rows in a list; and when an answer still holds.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::rig::*;
use crate::buckets::{Aggregate, DAY_NS, HOUR_NS, MINUTE_NS};
use crate::calendar::{Calendar, Width};
use crate::query::{Figures, GroupQuestion, Parts};
use crate::store::Store;
use crate::{SeriesId, StoreError};

const AGENTS: [&str; 3] = ["a", "b", "c"];
const BEGIN: i64 = 1_763_719_200_000_000_000;

/// Series here, time, value, in order of arrival.
type Rows = Vec<(SeriesId, i64, f64)>;

fn wanted(rows: &Rows, question: &GroupQuestion) -> Vec<Vec<(i64, Aggregate)>> {
    let of = |group: &Vec<SeriesId>| {
        let mut out: std::collections::BTreeMap<i64, Aggregate> = Default::default();
        for id in group {
            let mut own: Vec<_> = rows.iter().filter(|row| row.0 == *id).collect();
            own.retain(|(_, time, _)| {
                *time >= question.from_ns && (*time < question.to_ns || question.to_ns == i64::MAX)
            });
            own.retain(|(_, _, value)| !value.is_nan());
            own.sort_by_key(|row| row.1);
            for (_, time, value) in own {
                let start = question.width.as_ref().map_or(question.from_ns, |width| width.start(*time));
                let one = Aggregate::of(*time, *value);
                out.entry(start).and_modify(|part| part.merge(&one)).or_insert(one);
            }
        }
        out.into_iter().collect()
    };
    question.groups.iter().map(of).collect()
}

fn ids(store: &Store) -> Vec<Vec<SeriesId>> {
    let of = |name: &&str| {
        let states = store.states(|text| text.device == *name);
        states.iter().map(|state| state.id).collect()
    };
    AGENTS.iter().map(of).collect()
}

/// Appends a run of whole numbers at random times, some of them late and some equal.
fn append_some(store: &Store, random: &mut StdRng, seqs: &mut [u64; 3], rows: &mut Rows) {
    let at = random.random_range(0..AGENTS.len());
    let ids = ids(store);
    let mut run = Vec::new();
    for _ in 0..random.random_range(1..4) {
        let mut seq: Vec<Row> = Vec::new();
        for _ in 0..random.random_range(1..200) {
            let no = random.random_range(0..SERIES);
            let time = BEGIN + random.random_range(0..40_000_i64) * 10_000_000_000;
            // One of a hundred is no number.
            let value = random.random_range(-1000_i32..1000);
            let value = if value % 100 == 99 { f64::NAN } else { f64::from(value) };
            seq.push((no, time, value));
            rows.push((ids[at][no as usize], time, value));
        }
        run.push(seq);
    }
    wait(store.append(batch(&agent(AGENTS[at]), seqs[at], &run))).unwrap();
    seqs[at] += run.len() as u64;
}

fn ask(store: &Store, question: &GroupQuestion) -> Vec<Vec<(i64, Aggregate)>> {
    let answer = store.query_groups(question, &|| false).unwrap();
    answer.groups.into_iter().map(|group| group.buckets).collect()
}

/// The buckets of a calendar are those that a group of one series has.
fn alone(store: &Store, rows: &Rows, question: &GroupQuestion) {
    let (Some(Width::Calendar(calendar)), Some(id)) = (&question.width, question.groups[0].first()) else {
        return;
    };
    let (range, parts) = ((question.from_ns, question.to_ns), Parts::Calendar(calendar.clone()));
    match store.query_parts(&[*id], range, (&parts, &Figures::default()), &|| false) {
        Ok(found) => {
            let found = &found.series[0];
            let question = GroupQuestion { groups: vec![vec![*id]], ..question.clone() };
            let wanted = &wanted(rows, &question)[0];
            assert_eq!(found.t_ns, wanted.iter().map(|bucket| bucket.0).collect::<Vec<_>>(), "{question:?}");
            assert_eq!(found.count, wanted.iter().map(|bucket| bucket.1.count).collect::<Vec<_>>());
        }
        Err(error) => assert!(range.0 == i64::MIN && error.to_string().contains("10000"), "{error}"),
    }
}

#[test]
fn groups_hold_what_their_rows_make_wherever_these_are() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let store = open(config(dir.path())).0;
        AGENTS.iter().for_each(|name| define(&store, &agent(name)));
        let (mut seqs, mut rows) = ([1; 3], Rows::new());
        for turn in 0..30 {
            append_some(&store, &mut random, &mut seqs, &mut rows);
            store.settle().unwrap();
            match turn % 5 {
                2 => store.flush().unwrap(),
                4 => store.compact().unwrap(),
                _ => {}
            }
            let all = ids(&store);
            let groups = match turn % 3 {
                0 => vec![all.concat()],
                1 => all,
                _ => vec![vec![all[2][0], all[0][1]], vec![], vec![all[1][0]]],
            };
            let from_ns = BEGIN + random.random_range(-5_000..20_000_i64) * 10_000_000_000;
            let len = random.random_range(0..60_000_i64) * 7_000_000_000;
            let widths = [7 * MINUTE_NS / 2, 5 * MINUTE_NS, HOUR_NS, 7 * HOUR_NS, DAY_NS];
            let width = match random.random_range(0..8) {
                at @ 0..5 => Some(Width::Fixed(widths[at])),
                7 => None,
                _ => {
                    let zone =
                        ["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"][random.random_range(0..3)];
                    let period = ["1d", "1w", "1mo"][random.random_range(0..3)];
                    Some(Width::Calendar(Calendar::parse(period, zone).unwrap()))
                }
            };
            for (width, raw) in [(width.clone(), false), (width, true), (None, false)] {
                for (from_ns, to_ns) in [(from_ns, from_ns + len), (i64::MIN, i64::MAX)] {
                    let (groups, width) = (groups.clone(), width.clone());
                    let question =
                        GroupQuestion { groups, from_ns, to_ns, width, raw, figures: Figures::default() };
                    let (found, wanted) = (ask(&store, &question), wanted(&rows, &question));
                    alone(&store, &rows, &question);
                    let differs = found.iter().flatten().zip(wanted.iter().flatten()).find(|(a, b)| a != b);
                    assert!(found == wanted, "seed {seed}: {question:?}: {differs:?}");
                }
            }
        }
    }
}

#[test]
fn long_blocks_count_alike_whether_or_not_they_become_rows() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new([]);
    let store = open_with(config(dir.path()), Arc::clone(&gate) as _).0;
    define(&store, &agent("a"));
    let len = 3 * crate::segment::BLOCK_ROWS as i64;
    let value = |n: i64| f64::from(i32::try_from(n * 7919 % 2003 - 1000).unwrap()) / 4.0;
    let run: Vec<Vec<Row>> = (0..3)
        .map(|part| (0..len / 3).map(|n| part * len / 3 + n).map(|n| (0, n, value(n))).collect())
        .collect();
    append(&store, 1, &run);
    store.flush().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    for turn in 0..40 {
        let (a, b) = (random.random_range(-9..len), random.random_range(0..len + 9));
        let (from_ns, to_ns) = if turn == 0 { (i64::MIN, i64::MAX) } else { (a.min(b), a.max(b)) };
        let question = GroupQuestion {
            groups: vec![vec![0]],
            from_ns,
            to_ns,
            width: None,
            raw: true,
            figures: Figures::default(),
        };
        let rows: Rows = (0..len).map(|n| (0, n, value(n))).collect();
        assert_eq!(ask(&store, &question), wanted(&rows, &question), "{from_ns} to {to_ns}");
        if turn == 0 {
            assert_eq!((gate.reads().0, gate.narrowed()), (0, 3));
            // Their values are kept.
            ask(&store, &question);
            assert_eq!((gate.reads().0, gate.narrowed()), (0, 3));
        }
    }
    assert!(gate.reads().0 > 0, "cut blocks become rows");
    store.close().unwrap();
}

#[test]
fn what_cannot_be_answered_is_refused_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    append(&store, 1, &[vec![(0, 0, 1.0), (1, DAY_NS * 10, 2.0)]]);
    store.settle().unwrap();
    let question = GroupQuestion {
        groups: vec![vec![0, 1]],
        from_ns: 0,
        to_ns: i64::MAX,
        width: None,
        raw: false,
        figures: Figures::default(),
    };
    let refused = |question: &GroupQuestion, why: &str| {
        let error = store.query_groups(question, &|| false).unwrap_err();
        assert!(matches!(&error, StoreError::Query(_)) && error.to_string().contains(why), "{error}");
    };
    refused(&GroupQuestion { groups: vec![vec![0], vec![99]], ..question.clone() }, "no series 99");
    refused(
        &GroupQuestion { width: Some(Width::Fixed(1_000_000_000)), ..question.clone() },
        "allowed are 500000",
    );
    refused(&GroupQuestion { width: Some(Width::Fixed(0)), ..question.clone() }, "no width");
    let canceled = store.query_groups(&question, &|| true).unwrap_err();
    assert!(canceled.to_string().contains("canceled"), "{canceled}");
    assert_eq!(ask(&store, &question)[0][0].1.count, 2);
}

#[test]
fn an_answer_stands_until_its_readings_change_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    append(&store, 1, &[vec![(0, BEGIN, 1.0)]]);
    store.settle().unwrap();
    let before = store.version();
    let hour = (BEGIN, BEGIN + HOUR_NS - 1);
    append(&store, 2, &[vec![(1, BEGIN + 5 * HOUR_NS, 1.0)]]);
    store.settle().unwrap();
    assert!(store.stands(before, hour.0, hour.1), "another hour");
    store.flush().unwrap();
    assert!(store.stands(before, hour.0, hour.1), "they have moved and are the same");
    assert!(!store.stands(before, hour.0, hour.1 + 5 * HOUR_NS), "what came is in this one");
    append(&store, 3, &[vec![(1, BEGIN + 1, 1.0)]]);
    store.settle().unwrap();
    assert!(!store.stands(before, hour.0, hour.1), "a late one of another series");
    // A file that is lost takes its readings with it.
    store.flush().unwrap();
    let before = store.version();
    let sealed = std::fs::read_dir(dir.path().join("sealed")).unwrap().flatten().map(|entry| entry.path());
    let raw = sealed.filter(|path| path.extension().is_some_and(|kind| kind == "seg")).min().unwrap();
    std::fs::remove_file(raw).unwrap();
    let page = store.query_raw(&[0], i64::MIN, i64::MAX, None, 10).unwrap();
    assert!(page.series.is_empty(), "the readings are gone");
    assert!(!store.stands(before, hour.0, hour.1), "they have gone");
}

#[test]
fn states_are_found_by_name_and_by_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    append(&store, 1, &[vec![(1, 5, 1.5), (1, 4, 2.5)]]);
    store.settle().unwrap();
    let states = store.states(|text| text.point != "point-2");
    let seen: Vec<_> = states.iter().map(|s| (s.meta.point.to_string(), s.count, s.last.clone())).collect();
    assert_eq!(seen[0], ("point-0".to_owned(), 0, None));
    assert_eq!((seen[1].1, seen[1].2.as_ref().map(|last| (last.time_ns, last.word))), (2, Some((5, 1.5))));
    let meta = &states[1].meta;
    assert_eq!(store.state(&meta.device, &meta.point), Some(states[1].clone()));
    let unknown = tideline_protocol::model::PointId::parse("none").unwrap();
    assert_eq!(store.state(&meta.device, &unknown), None);
}
