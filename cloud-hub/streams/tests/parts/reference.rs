//! What jobs mean, in the plainest way: all readings are kept for ever, and all windows are computed anew after
//! each event from those that were accepted.

use std::collections::{BTreeMap, BTreeSet};

use tideline_streams::spec::{
    Aggregate, Combine, Comparison, Direction, Group, JobSpec, Later, Stage, Window,
};

use super::rig::{MS, Series, Step};

/// A reading as it was accepted: time in ns, value, and its number among all that arrived.
type Row = (i64, f64, u64);

/// What is expected to come out of a step, in no order.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Said {
    Result { key: String, start: i64, end: i64, late: bool, values: Vec<f64> },
    Withdrawn { key: String, start: i64, end: i64 },
    Side { series: String, time: i64, value: f64, cause: &'static str },
}

#[derive(Debug, Default, Clone)]
struct Device {
    newest: Option<i64>,
    watermark: i64,
    heard: i64,
    left: Vec<Row>,
    right: Vec<Row>,
    paired: BTreeSet<u64>,
    paired_to: i64,
    keys: BTreeMap<String, Key>,
}

#[derive(Debug, Default, Clone)]
struct Key {
    rows: Vec<Row>,
    /// Sessions that are kept; what is not kept any more is out of reach.
    sessions: Vec<Vec<Row>>,
    /// What each window was last computed from, and when it ended.
    given: BTreeMap<i64, (Vec<Row>, Option<Row>, i64)>,
}

/// The interpreter.
#[derive(Debug, Clone)]
pub struct Reference {
    spec: JobSpec,
    now: i64,
    arrivals: u64,
    devices: BTreeMap<&'static str, Device>,
    /// Readings that came too late for a window, by key and start.
    pub wanted: BTreeMap<(String, i64), u64>,
    /// All usable readings after the stages, by key.
    pub history: BTreeMap<String, Vec<Row>>,
    /// Whether a device was forgotten, so that it began anew.
    pub forgotten: bool,
}

fn ns(ms: u64) -> i64 {
    i64::try_from(ms).unwrap() * MS
}

fn floor(time: i64, hop: i64) -> i64 {
    time.div_euclid(hop) * hop
}

impl Reference {
    pub fn new(spec: &JobSpec) -> Self {
        Self {
            spec: spec.clone(),
            now: i64::MIN,
            arrivals: 0,
            devices: BTreeMap::new(),
            wanted: BTreeMap::new(),
            history: BTreeMap::new(),
            forgotten: false,
        }
    }

    pub fn step(&mut self, step: &Step) -> Vec<Said> {
        let (Step::Readings(now, _)
        | Step::Tick(now)
        | Step::Resumed(now)
        | Step::Forget(now, _)
        | Step::Drain(now)) = step;
        self.now = self.now.max(now * MS);
        let mut said = Vec::new();
        match step {
            Step::Readings(_, series) => self.readings(series, &mut said),
            Step::Tick(_) => {
                if let Some(idle) = self.spec.time.idle_timeout_ms.map(ns) {
                    let to = self.now - idle - ns(self.spec.time.out_of_orderness_ms);
                    let silent = |device: &Device| self.now - device.heard >= idle;
                    let ids: Vec<_> =
                        self.devices.iter().filter(|(_, d)| silent(d)).map(|(id, _)| *id).collect();
                    ids.into_iter().for_each(|id| self.advance(id, to, &mut said));
                }
            }
            Step::Resumed(_) => self.devices.values_mut().for_each(|device| device.heard = self.now),
            Step::Forget(_, id) => {
                if self.devices.contains_key(id) {
                    self.advance(id, i64::MAX, &mut said);
                    self.devices.remove(id);
                    self.forgotten = true;
                    self.wanted.retain(|(key, _), _| key.split('/').next() != Some(id));
                }
            }
            Step::Drain(_) => {
                let ids: Vec<_> = self.devices.keys().copied().collect();
                ids.into_iter().for_each(|id| self.advance(id, i64::MAX, &mut said));
            }
        }
        said
    }

    fn staged(&self, point: &str, value: f64) -> Option<f64> {
        let mut value = value;
        for stage in &self.spec.stages {
            match stage {
                Stage::Scale { points, factor, offset } => {
                    if points.as_deref().is_none_or(|only| only == point) {
                        value = value * factor + offset;
                    }
                }
                Stage::Filter { points, compare, value: other } => {
                    assert_eq!(*compare, Comparison::Ge);
                    if points.as_deref().is_none_or(|only| only == point) && value < *other {
                        return None;
                    }
                }
            }
        }
        // One zero only.
        Some(value + 0.0)
    }

    fn readings(&mut self, series: &[Series], said: &mut Vec<Said>) {
        let joined = self.spec.join.clone();
        for (id, point, rows) in series {
            let taken =
                joined.as_ref().is_none_or(|join| [&join.left, &join.right].contains(&&(*point).to_owned()));
            if rows.is_empty() || !taken {
                continue;
            }
            let fresh = Device { watermark: i64::MIN, paired_to: i64::MIN, ..Device::default() };
            self.devices.entry(*id).or_insert(fresh).heard = self.now;
            for (ms, raw) in rows {
                let time = ms * MS;
                self.arrivals += 1;
                let mut aside = |cause| {
                    said.push(Said::Side { series: format!("{id}/{point}"), time, value: *raw, cause });
                };
                if !raw.is_finite() {
                    aside("unusable");
                    continue;
                }
                if time > self.now + ns(self.spec.time.ahead_max_ms) {
                    aside("ahead");
                    continue;
                }
                let value = self.staged(point, *raw);
                let device = self.devices.get_mut(id).unwrap();
                device.newest = device.newest.max(Some(time));
                let Some(value) = value else { continue };
                let row = (time, value, self.arrivals);
                if let Some(join) = &joined {
                    if time < device.watermark {
                        aside("late");
                    } else if *point == join.left {
                        device.left.push(row);
                    } else {
                        device.right.push(row);
                    }
                } else {
                    let key = if self.spec.group == Group::Device {
                        (*id).to_owned()
                    } else {
                        format!("{id}/{point}")
                    };
                    self.history.entry(key.clone()).or_default().push(row);
                    let watermark = device.watermark;
                    if self.spec.window == Window::Each {
                        said.push(each(&key, row, vec![value]));
                    } else if !self.accept(id, &key, row, watermark) {
                        aside("late");
                    }
                }
            }
        }
        let ids: BTreeSet<&'static str> = series.iter().map(|(id, _, _)| *id).collect();
        for id in ids {
            if let Some(newest) = self.devices.get(id).and_then(|device| device.newest) {
                self.advance(id, newest - ns(self.spec.time.out_of_orderness_ms), said);
            } else if self.devices.contains_key(id) {
                self.advance(id, i64::MIN, said);
            }
        }
    }

    /// Takes a reading where a window that is kept has it; false if it goes aside.
    fn accept(&mut self, id: &'static str, key: &str, row: Row, watermark: i64) -> bool {
        let allowed = ns(self.spec.late.allowed_ms);
        let is_kept = |end: i64| end.saturating_add(allowed) > watermark;
        let state = self.devices.get_mut(id).unwrap().keys.entry(key.to_owned()).or_default();
        let ends: Vec<(i64, i64)> = match self.spec.window {
            Window::Tumbling { .. } | Window::Hopping { .. } => starts(&self.spec.window, row.0),
            Window::Sliding { .. } => vec![(row.0, row.0 + 1)],
            Window::Session { gap_ms } => {
                let gap = ns(gap_ms);
                let near = |session: &Vec<Row>| {
                    session.iter().any(|other| other.0.abs_diff(row.0) < gap.unsigned_abs())
                };
                let end = |session: &[Row]| session.iter().map(|row| row.0).max().unwrap() + gap;
                let (joined, others): (Vec<_>, Vec<_>) = state.sessions.iter().cloned().partition(near);
                let mut merged: Vec<Row> = joined.into_iter().flatten().chain([row]).collect();
                if !is_kept(end(&merged)) {
                    return false;
                }
                merged.sort_by_key(|row| (row.0, row.2));
                state.sessions = others.into_iter().chain([merged]).collect();
                return true;
            }
            Window::Each => unreachable!(),
        };
        if self.spec.late.then == Later::Update {
            for (start, _) in ends.iter().filter(|(_, end)| !is_kept(*end)) {
                *self.wanted.entry((key.to_owned(), *start)).or_default() += 1;
            }
        }
        let taken = ends.iter().any(|(_, end)| is_kept(*end));
        if taken {
            state.rows.push(row);
            state.rows.sort_by_key(|row| (row.0, row.2));
        }
        taken || self.spec.late.then == Later::Update
    }

    fn advance(&mut self, id: &'static str, to: i64, said: &mut Vec<Said>) {
        let device = self.devices.get_mut(id).unwrap();
        let from = device.watermark;
        device.watermark = to.max(from);
        let mut from_to = (from, device.watermark);
        if let Some(join) = self.spec.join.clone() {
            let tolerance = ns(join.tolerance_ms);
            let nearest = join.direction == Direction::Nearest;
            let hold = if nearest { tolerance } else { 0 };
            from_to = (device.paired_to, device.watermark.saturating_sub(hold).max(device.paired_to));
            device.paired_to = from_to.1;
            let mut ready: Vec<Row> = device.left.iter().copied().filter(|row| row.0 < from_to.1).collect();
            ready.retain(|row| device.paired.insert(row.2));
            ready.sort_by_key(|row| (row.0, row.2));
            let right = device.right.clone();
            for left in ready {
                let fits = |row: &&Row| (row.0 - left.0).abs() <= tolerance && (nearest || row.0 <= left.0);
                // The nearest; of two as near the earlier; of one time the last to arrive.
                let best = right
                    .iter()
                    .filter(fits)
                    .min_by_key(|row| ((row.0 - left.0).abs(), row.0, u64::MAX - row.2));
                let Some(right) = best else { continue };
                let value = match join.combine {
                    Combine::Left => left.1,
                    Combine::Right => right.1,
                    Combine::Sum => left.1 + right.1,
                    Combine::Difference => left.1 - right.1,
                    Combine::Product => left.1 * right.1,
                    Combine::Ratio => left.1 / right.1,
                } + 0.0;
                let key = format!("{id}/{}", join.left);
                if !value.is_finite() {
                    said.push(Said::Side { series: key, time: left.0, value: left.1, cause: "unusable" });
                } else if self.spec.window == Window::Each {
                    said.push(each(&key, left, vec![left.1, right.1, value]));
                } else {
                    assert!(self.accept(id, &key, (left.0, value, left.2), from_to.0));
                }
            }
        }
        let device = self.devices.get_mut(id).unwrap();
        for (name, key) in &mut device.keys {
            key.advance(&self.spec, name, from_to, said);
        }
    }

    /// What a window is by all readings of the history.
    pub fn by_history(&self, key: &str, start: i64, end: i64) -> Vec<f64> {
        let mut rows: Vec<Row> =
            self.history[key].iter().copied().filter(|row| (start..end).contains(&row.0)).collect();
        rows.sort_by_key(|row| (row.0, row.2));
        values(&self.spec, &rows, None, (start, end))
    }
}

fn each(key: &str, row: Row, values: Vec<f64>) -> Said {
    Said::Result { key: key.to_owned(), start: row.0, end: row.0 + 1, late: false, values }
}

/// The windows of a time: start and end.
pub fn starts(window: &Window, time: i64) -> Vec<(i64, i64)> {
    let (length, hop) = match window {
        Window::Tumbling { length_ms } => (ns(*length_ms), ns(*length_ms)),
        Window::Hopping { length_ms, hop_ms } => (ns(*length_ms), ns(*hop_ms)),
        _ => unreachable!(),
    };
    let mut found = Vec::new();
    let mut start = floor(time, hop);
    while start + length > time {
        found.push((start, start + length));
        start -= hop;
    }
    found
}

impl Key {
    /// Start, end, and readings of each window that has readings.
    fn windows(&self, spec: &JobSpec) -> BTreeMap<i64, (i64, Vec<Row>)> {
        let mut windows: BTreeMap<i64, (i64, Vec<Row>)> = BTreeMap::new();
        match &spec.window {
            Window::Session { gap_ms } => {
                for session in &self.sessions {
                    let (first, last) = (session.first().unwrap().0, session.last().unwrap().0);
                    windows.insert(first, (last + ns(*gap_ms), session.clone()));
                }
            }
            Window::Sliding { length_ms } => {
                for row in &self.rows {
                    let start = row.0 - ns(*length_ms);
                    let inside = self.rows.iter().copied().filter(|other| (start..=row.0).contains(&other.0));
                    windows.insert(start, (row.0 + 1, inside.collect()));
                }
            }
            window => {
                for row in &self.rows {
                    for (start, end) in starts(window, row.0) {
                        windows.entry(start).or_insert((end, Vec::new())).1.push(*row);
                    }
                }
            }
        }
        windows
    }

    fn advance(&mut self, spec: &JobSpec, name: &str, (from, to): (i64, i64), said: &mut Vec<Said>) {
        let allowed = ns(spec.late.allowed_ms);
        let timed = spec.aggregates.contains(&Aggregate::TimeWeightedMean);
        let session = matches!(spec.window, Window::Session { .. });
        let windows = self.windows(spec);
        if session {
            // What was given and is neither a session now nor gone with its time.
            let gone: Vec<i64> =
                self.given.keys().copied().filter(|start| !windows.contains_key(start)).collect();
            for start in gone {
                let (_, _, end) = self.given.remove(&start).unwrap();
                said.push(Said::Withdrawn { key: name.to_owned(), start, end });
            }
        }
        for (start, (end, rows)) in windows {
            let before =
                self.rows.iter().rev().find(|row| row.0 < start).filter(|_| timed && !session).copied();
            let now = (rows.clone(), before, end);
            let given = self.given.get(&start);
            let was_closed = end <= from;
            let is_kept = end.saturating_add(allowed) > from;
            if end > to || given == Some(&now) || (was_closed && !is_kept) {
                continue;
            }
            let late = given.is_some() || was_closed;
            let values = values(spec, &rows, before, (start, end));
            said.push(Said::Result { key: name.to_owned(), start, end, late, values });
            self.given.insert(start, now);
        }
        if let Window::Session { gap_ms } = spec.window {
            let end = |session: &Vec<Row>| session.last().unwrap().0 + ns(gap_ms);
            self.sessions.retain(|session| end(session).saturating_add(allowed) > to);
            let kept: BTreeSet<i64> = self.sessions.iter().map(|session| session[0].0).collect();
            self.given.retain(|start, _| kept.contains(start));
        }
    }
}

fn values(spec: &JobSpec, rows: &[Row], before: Option<Row>, (start, end): (i64, i64)) -> Vec<f64> {
    let all: Vec<f64> = rows.iter().map(|row| row.1).collect();
    let sum: f64 = all.iter().sum::<f64>() + 0.0;
    let value = |aggregate: &Aggregate| match aggregate {
        Aggregate::Count => all.len() as f64,
        Aggregate::Min => all.iter().copied().fold(f64::INFINITY, f64::min),
        Aggregate::Max => all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregate::Sum => sum,
        Aggregate::First => all[0],
        Aggregate::Last => all[all.len() - 1],
        Aggregate::Mean => sum / all.len() as f64,
        Aggregate::TimeWeightedMean => {
            let last = rows[rows.len() - 1].0;
            let (from, to) = match spec.window {
                Window::Session { .. } | Window::Sliding { .. } => (start, last),
                _ => (start, end),
            };
            let from = if before.is_some() { from } else { rows[0].0 };
            if from == to {
                return all[all.len() - 1];
            }
            // In every ms the value of the last reading at or before it.
            let mut integral = 0.0;
            for ms in from / MS..to / MS {
                let held = before.iter().chain(rows).rfind(|row| row.0 <= ms * MS).unwrap();
                integral += held.1 * MS as f64;
            }
            integral / (to - from) as f64
        }
    };
    spec.aggregates.iter().map(value).collect()
}
