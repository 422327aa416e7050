//! What the store must answer: a list of what was accepted, in order of arrival.

use std::collections::BTreeMap;

use tideline_protocol::keep::{Keep, KeepRule, Rollups};
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::{Quality, Value, ValueKind};
use tideline_store::buckets::{DAY_NS, HOUR_NS, MINUTE_NS};
use tideline_store::{
    Aggregate, Figures, GroupQuestion, Limit, Parts, Quantile, Retention, SeriesId, SeriesInfo, Store, Tier,
    Width,
};

use crate::batches::agent;

/// Number of the series in its agent's dictionary, time, and what [`given`] makes a value of.
pub type Row = (u32, i64, i32);

/// What the series of a point are of.
pub fn kind_of(point: &str) -> ValueKind {
    match point {
        "level" => ValueKind::Text,
        "heat" => ValueKind::Int,
        _ => ValueKind::Float,
    }
}

/// Some readings are no numbers, some integers no doubles, and some of doubtful quality.
pub fn given(point: &str, n: i32) -> (Value, Quality) {
    let quality = match n {
        n if n % 7 == 6 => Quality::Uncertain,
        n if n % 9 == 8 => Quality::Bad,
        _ => Quality::Good,
    };
    let value = match kind_of(point) {
        _ if n % 13 == 12 => Value::Null,
        ValueKind::Text => Value::Text(format!("step {}", n % 5).into()),
        ValueKind::Int if quality == Quality::Uncertain => Value::Int(i64::MAX - i64::from(n)),
        ValueKind::Int => Value::Int(i64::from(n)),
        _ => Value::Float(f64::from(n) / 4.0),
    };
    (value, quality)
}

/// What it is to who calculates.
fn number(point: &str, n: i32) -> Option<f64> {
    match given(point, n) {
        (Value::Float(number), Quality::Good) => Some(number),
        (Value::Int(_), Quality::Good) => Some(f64::from(n)),
        _ => None,
    }
}

fn shown((value, quality): &(Value, Quality)) -> String {
    format!("{quality} {value:?}")
}

/// What one seq brought.
#[derive(Debug, Clone)]
pub enum What {
    Rows(Vec<Row>),
    /// So many rows that no code can read.
    Letter(u32),
    /// So many rows that the agent gave up.
    Gap(u32),
}

#[derive(Debug, Clone)]
pub struct Item {
    pub agent: usize,
    pub seq: u64,
    pub what: What,
    /// Whether [`ASIDE`] was in the place of its own when it was sent.
    pub aside: bool,
}

impl Item {
    pub fn rows(&self) -> u64 {
        match &self.what {
            What::Rows(rows) => rows.len() as u64,
            What::Letter(rows) | What::Gap(rows) => u64::from(*rows),
        }
    }
}

/// Device and point of each series of each agent; one series has two writers.
pub const SERIES: [[(&str, &str); 3]; 2] = [
    [("pump", "flow"), ("pump", "level"), ("pump", "heat")],
    [("gate", "flow"), ("gate", "level"), ("pump", "flow")],
];

/// Which of the second agent's series may be another, and which one.
pub const ASIDE: (u32, (&str, &str)) = (2, ("gate", "aside/pump/flow"));

/// Device and point of a series.
pub fn series_of(agent: usize, no: u32, aside: bool) -> (&'static str, &'static str) {
    if aside && (agent, no) == (1, ASIDE.0) { ASIDE.1 } else { SERIES[agent][no as usize] }
}

/// A seed of a history in which profiles say how long some readings are kept, as are those four apart from it.
pub const PROFILED: u64 = 2;
/// The same of one in which the readings of the second agent take the place of older ones of their times.
pub const REVISED: u64 = 1;
/// The same of one whose store is not told so.
pub const UNTOLD: u64 = 4_001;

/// What sets a history apart.
#[derive(Debug, Clone, Copy)]
pub struct Ways {
    /// Profiles say how long some readings are kept.
    pub profiled: bool,
    /// The series of the second agent are revised.
    revised: bool,
    untold: bool,
}

impl Ways {
    pub const fn of(seed: u64) -> Self {
        Self { profiled: seed % 4 == PROFILED, revised: seed % 4 == REVISED, untold: seed == UNTOLD }
    }

    /// What the store is told of it.
    pub fn revised_by(self) -> Option<String> {
        (self.revised && !self.untold).then(|| agent(1).to_string())
    }

    /// Whether of each time of a series the newest reading counts.
    fn revises(self, name: (&str, &str)) -> bool {
        self.revised && (SERIES[1].contains(&name) || name == ASIDE.1)
    }
}

pub const RAW_DAYS: i64 = 2;
/// Width of a tier's buckets, and how many days it is kept.
const TIERS: [(Tier, i64, i64); 3] =
    [(Tier::Minute, MINUTE_NS, 4), (Tier::Hour, HOUR_NS, 8), (Tier::Day, DAY_NS, 16)];

/// How many days something is known of a reading.
const DAYS: i64 = TIERS[2].2;

/// How many days a reading is in the cold tier.
const COLD_DAYS: i64 = 30;

/// What the profiles of devices say of retention.
pub fn rules() -> [(DeviceId, Vec<KeepRule>); 2] {
    let keep = |days, rollups| Keep { days, rollups };
    let rule = |point: &str, keep| KeepRule { points: vec![point.to_owned()], keep };
    let hours = Some(Rollups::HOUR.with(Rollups::DAY));
    let gate = vec![rule("flow", keep(Some(1), None)), rule("level", keep(None, hours))];
    let pump = vec![rule("heat", keep(Some(1), hours))];
    [("gate", gate), ("pump", pump)].map(|(device, rules)| (DeviceId::parse(device).unwrap(), rules))
}

/// How many days the readings of a series are kept, and whether what is known of their minutes is afterwards.
fn kept(device: &str, point: &str, profiled: bool) -> (i64, bool) {
    match (device, point) {
        ("gate", "flow") if profiled => (1, true),
        ("pump", "heat") if profiled => (1, false),
        ("gate", "level") if profiled => (RAW_DAYS, false),
        _ => (RAW_DAYS, true),
    }
}

pub fn retention(freezes: bool, by_profile: bool) -> Retention {
    let days = |days: i64| Limit { age_ns: Some(days * DAY_NS), bytes: None };
    let [(_, _, minute), (_, _, hour), (_, _, day)] = TIERS;
    Retention {
        raw: days(RAW_DAYS),
        minute: days(minute),
        hour: days(hour),
        day: days(day),
        freezes,
        cold: days(COLD_DAYS),
        by_profile,
    }
}

type Series = Vec<(i64, i32)>;
type Numbers = Vec<(i64, f64)>;

fn numbers(point: &str, rows: &[(i64, i32)]) -> Numbers {
    rows.iter().filter_map(|(time, n)| Some((*time, number(point, *n)?))).collect()
}

/// The readings of each series by time; among equal times in order of arrival.
fn reference(items: &[Item]) -> BTreeMap<(&'static str, &'static str), Series> {
    let mut out: BTreeMap<_, Series> = BTreeMap::new();
    for item in items {
        if let What::Rows(rows) = &item.what {
            for (no, time, n) in rows {
                out.entry(series_of(item.agent, *no, item.aside)).or_default().push((*time, *n));
            }
        }
    }
    out.values_mut().for_each(|rows| rows.sort_by_key(|row| row.0));
    out
}

/// The last of equal times.
fn newest(rows: &[(i64, i32)]) -> Series {
    let runs = rows.chunk_by(|a, b| a.0 == b.0);
    runs.filter_map(|run| run.last().copied()).collect()
}

/// What counts of them.
fn counting(rows: &Series, name: (&str, &str), ways: Ways) -> Series {
    if ways.revises(name) { newest(rows) } else { rows.clone() }
}

/// Count, smallest, largest, sum, first and last value, first and last time.
type Known = (u64, f64, f64, f64, f64, f64, i64, i64);

fn aggregates(rows: &[(i64, f64)], width_ns: i64) -> BTreeMap<i64, Known> {
    let mut out: BTreeMap<i64, Known> = BTreeMap::new();
    for (time, value) in rows {
        let none = (0, *value, *value, 0.0, *value, *value, *time, *time);
        let known = out.entry(time.div_euclid(width_ns) * width_ns).or_insert(none);
        let (count, min, max, sum, first, _, first_ns, _) = *known;
        *known = (count + 1, min.min(*value), max.max(*value), sum + value, first, *value, first_ns, *time);
    }
    out
}

fn known(of: &Aggregate) -> Known {
    (of.count, of.min, of.max, of.sum, of.first, of.last, of.first_ns, of.last_ns)
}

/// Every answer of the store is that of the reference; of what retention may have taken, what it may not have.
pub fn check(store: &Store, items: &[Item], now: i64, (retained, ways): (bool, Ways)) {
    let all = reference(items);
    for ((device, point), rows) in &all {
        let kept = kept(device, point, ways.profiled);
        let newest = counting(rows, (device, point), ways);
        let doubled = newest.len() < rows.len();
        let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
        let info = store.info(&device, &point).unwrap_or_else(|| panic!("{device}/{point} is unknown"));
        let name = format!("{device}/{point}");
        if !retained {
            assert_eq!(info.count, rows.len() as u64, "the count of {name}");
            assert_eq!(
                (info.first_ns, info.last_ns),
                (Some(rows[0].0), rows.last().map(|row| row.0)),
                "{name}"
            );
            let last = store.state(&device, &point).and_then(|state| state.last);
            let found = last.map(|last| (last.time_ns, shown(&last.value(info.kind))));
            let expected = rows.last().map(|row| (row.0, shown(&given(point.as_str(), row.1))));
            assert_eq!(found, expected, "the last of {name}");
        }
        let from = if retained { now - kept.0 * DAY_NS } else { i64::MIN };
        raw(store, &info, &name, after(&newest, from), from);
        let numbers = numbers(point.as_str(), &newest);
        charts(store, info.id, &name, &numbers, (now, retained, kept.0, doubled));
        rollups(store, info.id, &name, &numbers, (now, retained, kept, doubled));
    }
    let all = all.into_iter().map(|(name, rows)| (name, counting(&rows, name, ways)));
    groups(store, &all.collect(), now);
}

/// Each reading is once among the readings or in the cold tier, but for those that may have gone there, too; and nothing
/// else is.
pub fn check_cold(store: &Store, items: &[Item], now: i64, ways: Ways) {
    for ((device, point), rows) in reference(items) {
        let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
        let info = store.info(&device, &point).unwrap();
        let raw = store.query_raw(&[info.id], i64::MIN, i64::MAX, None, usize::MAX).unwrap();
        let mut columns = raw.series;
        let mut cold = store.cold_rows(&[info.id], (i64::MIN, i64::MAX));
        while let Some(found) = cold.next_columns().unwrap() {
            columns.extend(found);
        }
        let mut left: BTreeMap<(i64, String), i64> = BTreeMap::new();
        for (time, n) in &rows {
            *left.entry((*time, shown(&given(point.as_str(), *n)))).or_default() += 1;
        }
        for column in &columns {
            for (time, word) in column.times.iter().zip(&column.values) {
                let reading = (*time, shown(&column.boxes.value(*word, info.kind)));
                let count = left.entry(reading.clone()).or_default();
                *count -= 1;
                assert!(*count >= 0, "{device}/{point} has too many of {reading:?}");
            }
        }
        pages_with_cold(store, &info, &rows, now, ways);
        if ways.revises((device.as_str(), point.as_str())) {
            // Of what others have replaced it is not seen where it is.
            continue;
        }
        // What a profile says of days goes for good.
        let days =
            Some(kept(device.as_str(), point.as_str(), ways.profiled).0).filter(|days| *days < RAW_DAYS);
        let from = now - days.unwrap_or(COLD_DAYS) * DAY_NS;
        left.retain(|(time, _), count| *count > 0 && *time >= from);
        assert!(left.is_empty(), "{device}/{point} lacks {left:?}");
    }
}

/// By pages that have what is cold, each reading stands once and in its place; what comes of one that was cold and is gone is of
/// the list.
fn pages_with_cold(store: &Store, info: &SeriesInfo, rows: &Series, now: i64, ways: Ways) {
    let name = (&*info.device.to_string(), &*info.point.to_string());
    let days = Some(kept(name.0, name.1, ways.profiled).0).filter(|days| *days < RAW_DAYS);
    let from = now - days.unwrap_or(COLD_DAYS) * DAY_NS;
    let expected = counting(rows, name, ways);
    let value = |row: &(i64, i32)| (row.0, shown(&given(name.1, row.1)));
    let expected: Vec<_> = after(&expected, from).iter().map(value).collect();
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.query_page(&[info.id], (from, i64::MAX), (cursor, 199), &|| false).unwrap();
        for column in page.series {
            let value = |word: &f64| shown(&column.boxes.value(*word, info.kind));
            found.extend(column.times.iter().copied().zip(column.values.iter().map(value)));
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, expected, "the readings of {name:?} with those that are cold");
}

fn after<T>(rows: &[(i64, T)], from: i64) -> &[(i64, T)] {
    &rows[rows.partition_point(|row| row.0 < from)..]
}

fn raw(store: &Store, info: &SeriesInfo, name: &str, rows: &[(i64, i32)], from: i64) {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.query_raw(&[info.id], from, i64::MAX, cursor, 199).unwrap();
        assert_eq!(page.thinned_to_ns, None, "nothing young of {name} is thinned");
        for column in page.series {
            let value = |word: &f64| shown(&column.boxes.value(*word, info.kind));
            found.extend(column.times.iter().copied().zip(column.values.iter().map(value)));
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let value = |row: &(i64, i32)| (row.0, shown(&given(info.point.as_str(), row.1)));
    assert_eq!(found, rows.iter().map(value).collect::<Vec<_>>(), "the readings of {name}");
}

/// The first multiple of a width that is not before a time.
fn multiple_from(time: i64, width: i64) -> i64 {
    (time + width - 1).div_euclid(width) * width
}

/// Buckets of several widths.
fn charts(
    store: &Store,
    id: SeriesId,
    name: &str,
    rows: &[(i64, f64)],
    (now, retained, raw, doubled): (i64, bool, i64, bool),
) {
    let spans = [(raw, 7), (raw, 300), (4, 4 * 24 + 1), (8, 9)];
    // Past their retention it is not known which readings came for a time that had one.
    let known = spans.into_iter().filter(|(days, _)| !retained || !doubled || *days == raw);
    for (days, most) in known {
        let from = multiple_from(now - days * DAY_NS, DAY_NS);
        let answer = store.query_buckets(&[id], from, now + 1, most).unwrap();
        let width = answer.width_ns.unwrap();
        // Where minutes are no more known only buckets of whole hours are those of the readings.
        if retained && days > raw && width % HOUR_NS != 0 {
            continue;
        }
        let column = &answer.series[0];
        assert!(column.t_ns.len() <= most);
        let expected = aggregates(after(rows, from), width);
        let expected: Vec<_> = expected.into_iter().filter(|(start, _)| *start <= now).collect();
        assert_eq!(column.t_ns, expected.iter().map(|(start, _)| *start).collect::<Vec<_>>(), "{name}");
        for (at, (start, (count, min, max, sum, _, last, ..))) in expected.into_iter().enumerate() {
            let found = (column.count[at], column.min[at], column.max[at], column.last[at], column.mean[at]);
            assert_eq!(found, (count, min, max, last, sum / count as f64), "{name} at {start} by {width} ns");
        }
        if width % HOUR_NS == 0 {
            medians(store, id, name, rows, (from, now + 1, most));
        }
    }
}

/// From what is stored as from readings: medians as near as they say to be, and means that are among the values.
fn medians(
    store: &Store,
    id: SeriesId,
    name: &str,
    rows: &[(i64, f64)],
    (from, to, most): (i64, i64, usize),
) {
    for readings_max in [0, u64::MAX] {
        let quantiles = vec![Quantile::parse("p50").unwrap()];
        let figures = Figures { time_weighted: true, quantiles, readings_max };
        let answer = store.query_parts(&[id], (from, to), (&Parts::Most(most), &figures), &|| false).unwrap();
        let (column, found, width) = (&answer.series[0], &answer.figures[0], answer.width_ns.unwrap());
        for (at, start) in column.t_ns.iter().enumerate() {
            let own =
                after(rows, (*start).max(from)).iter().take_while(|row| row.0 < (start + width).min(to));
            let mut own: Vec<f64> = own.map(|row| row.1).collect();
            own.sort_by(f64::total_cmp);
            let (below, above) = (own[(own.len() - 1) / 2], own[own.len() / 2]);
            let median = found.quantiles[0][at].unwrap_or_else(|| panic!("{name} has no median at {start}"));
            let bound = 1e-9 + found.errors[at] * below.abs().max(above.abs());
            assert!((median - (below + above) / 2.0).abs() <= bound, "{name} at {start} by {width} ns");
            assert!(found.time_weighted[at].is_some_and(f64::is_finite), "{name} at {start} by {width} ns");
        }
    }
}

/// Every rollup is the aggregate of the readings (INV-9), and within its tier's age there. Past it one that may lack readings
/// is not there, until all that was known of the time is gone.
fn rollups(
    store: &Store,
    id: SeriesId,
    name: &str,
    rows: &[(i64, f64)],
    (now, retained, (raw, has_minutes), doubled): (i64, bool, (i64, bool), bool),
) {
    let kept = multiple_from(now - if retained { DAYS } else { 400 } * DAY_NS, DAY_NS);
    // Nothing stands for readings that are there.
    let mut stands = store.query_stands(id, (kept, now + 1)).unwrap();
    assert!(retained || stands.is_empty(), "{name}: {stands:?}");
    // As for charts: what is known of readings that are there.
    let kept = if retained && doubled { multiple_from(now - raw * DAY_NS, DAY_NS) } else { kept };
    stands.retain(|stand| stand.start_ns >= kept);
    for (tier, width, days) in TIERS {
        // Without rollups of minutes these go with the readings.
        let days = if width == MINUTE_NS && !has_minutes { raw } else { days };
        let young = if retained { multiple_from(now - days * DAY_NS, width).max(kept) } else { kept };
        let found = store.query_rollups(id, tier, kept.min(young), now + width).unwrap();
        let found: BTreeMap<i64, Known> = found.iter().map(|(start, part)| (*start, known(part))).collect();
        let mut expected = aggregates(after(rows, kept.min(young)), width);
        for stand in stands.extract_if(.., |stand| stand.tier == tier) {
            assert_eq!(expected.get(&stand.start_ns), Some(&known(&stand.part)), "{name}: {stand:?}");
        }
        expected.retain(|start, _| *start >= young || found.contains_key(start));
        assert_eq!(found, expected, "{name} by {}", tier.as_str());
    }
}

/// All series of a device as one group, of what no retention takes.
fn groups(store: &Store, all: &BTreeMap<(&str, &str), Series>, now: i64) {
    let from = multiple_from(now - RAW_DAYS * DAY_NS, HOUR_NS);
    let mut series: BTreeMap<String, (Vec<SeriesId>, Numbers)> = BTreeMap::new();
    for info in store.series(None) {
        let rows =
            all.get(&(info.device.as_str(), info.point.as_str())).map_or(&[][..], |rows| after(rows, from));
        let group = series.entry(info.device.to_string()).or_default();
        group.0.push(info.id);
        group.1.extend(numbers(info.point.as_str(), rows));
    }
    let ids: Vec<Vec<SeriesId>> = series.values().map(|(ids, _)| ids.clone()).collect();
    let question = GroupQuestion {
        groups: ids,
        from_ns: from,
        to_ns: now + 1,
        width: Some(Width::Fixed(HOUR_NS)),
        raw: false,
        figures: Figures::default(),
    };
    let answer = store.query_groups(&question, &|| false).unwrap();
    for (column, (device, (_, rows))) in answer.groups.iter().zip(&mut series) {
        rows.sort_by_key(|row| row.0);
        let brief = |known: Known| (known.0, known.1, known.2, known.3, known.6, known.7);
        let found: Vec<_> = column.buckets.iter().map(|(start, part)| (*start, brief(known(part)))).collect();
        let expected: Vec<_> =
            aggregates(rows, HOUR_NS).into_iter().map(|(start, known)| (start, brief(known))).collect();
        assert_eq!(found, expected, "all of {device} by hours");
    }
}
