//! How sources and their devices do under a layer of the hub, and what of that is the layer's fault. Pure: nothing here reads a
//! clock, asks a device or opens a file.
//!
//! Judged is what the layer touches: sources and devices whose options differ from those under the last good layer. One that
//! worked before has to work again within the trial. One that did not is no fault of the layer, nor is one beside it that fails
//! by itself: a device that is switched off must not keep configurations from its agent.
//!
//! One that is new took nothing away that worked, and is often configured before its device is there; taken back, the layer would not
//! be tried again when it is. So it gets the time of the trial to show itself, and is told by its name where it did not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::SourceConfig;
use crate::status::{DeviceStatus, SourceState, SourceStatus, Status};

/// What is said of a source that gave readings before and does not now.
const IDLE: &str = "gives no reading, and did before";
/// Most that a text names one by one.
const NAMED_MAX: usize = 5;

/// A source, or a device behind one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The source's name.
    pub source: String,
    /// The device's id; empty for the source itself.
    #[serde(default)]
    pub device: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, device } = self;
        if device.is_empty() {
            write!(f, "source {source}")
        } else {
            write!(f, "device {device} of source {source}")
        }
    }
}

/// How one did before the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Was {
    /// It was not there.
    New,
    /// It did not work, or nobody knew.
    Unwell,
    /// It answered, and refused some of what it is asked, or said what its profile rules out.
    Partly,
    /// It answered, and had said nothing for longer than a trial: its silence proves nothing.
    Quiet,
    /// It worked.
    Well,
}

/// What a trial measures one by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of whom.
    #[serde(flatten)]
    pub subject: Subject,
    /// How it did.
    pub was: Was,
}

/// How one does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Well,
    /// A source that names no devices runs, and has given no reading since it began.
    Idle,
    Partly(String),
    Nothing,
    Fails(String),
}

/// One that does not do, and why.
pub type Complaint = (Subject, String);

/// What became of those that a trial measures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Those that worked before and do not now.
    pub broken: Vec<Complaint>,
    /// Those of which it cannot be said yet.
    pub pending: Vec<Complaint>,
    /// Those that did not work before, and do not now.
    pub unwell: Vec<Complaint>,
}

/// What devices had said at some moments: the readings that came of them, and those that were ruled out.
#[derive(Debug, Clone, Default)]
pub struct Tallies {
    older: BTreeMap<Subject, (u64, u64)>,
    newer: BTreeMap<Subject, (u64, u64)>,
    turned_ms: Option<u64>,
}

impl Tallies {
    /// Notes how it is now, a `span_ms` after the last time: what came later than one to two spans ago is known then.
    pub fn note(&mut self, status: &Status, span_ms: u64, now_ms: u64) {
        if self.turned_ms.is_none_or(|turned_ms| now_ms.saturating_sub(turned_ms) >= span_ms) {
            self.older = std::mem::replace(&mut self.newer, tally(status));
            self.turned_ms = Some(now_ms);
        }
    }

    /// A trial begins: from now on it counts what comes.
    pub fn begin(&mut self, status: &Status, now_ms: u64) {
        *self = Self { older: tally(status), newer: tally(status), turned_ms: Some(now_ms) };
    }

    /// What came of a device lately, and how much of it was ruled out.
    fn lately(&self, subject: &Subject, device: &DeviceStatus) -> (u64, u64) {
        let (readings, bad) = self.older.get(subject).copied().unwrap_or_default();
        (device.readings.saturating_sub(readings), device.bad_values.saturating_sub(bad))
    }
}

/// Readings of a source, also those that its devices' profiles held back.
const fn said(source: &SourceStatus) -> u64 {
    source.accepted.saturating_add(source.unchanged)
}

fn tally(status: &Status) -> BTreeMap<Subject, (u64, u64)> {
    let of_source = |source: &SourceStatus| {
        let name = source.name.clone();
        let whole =
            (Subject { source: name.clone(), device: String::new() }, (said(source), source.rejected));
        let of = move |device: &DeviceStatus| {
            let subject = Subject { source: name.clone(), device: device.id.clone() };
            (subject, (device.readings, device.bad_values))
        };
        source.devices.iter().map(of).chain([whole]).collect::<Vec<_>>()
    };
    status.sources.values().flat_map(of_source).collect()
}

/// By what a trial is measured that changes these sources: who is touched by it, and how each did before. Of those that an unproven
/// layer has touched before, `known` says how they did.
#[must_use]
pub fn measure(
    (good, wanted): (&[SourceConfig], &[SourceConfig]),
    known: &[Mark],
    status: &Status,
    tallies: &Tallies,
) -> Vec<Mark> {
    let mut marks = Vec::new();
    for source in wanted.iter().filter(|source| !good.contains(source)) {
        let before = good.iter().find(|before| before.name == source.name);
        let whole = Subject { source: source.name.clone(), device: String::new() };
        let was = before.map_or(Was::New, |_| before_it(&whole, status, tallies));
        marks.push(Mark { subject: whole, was });
        let is_same_line = before.is_some_and(|before| {
            before.kind == source.kind
                && before.stream == source.stream
                && before.patience_s == source.patience_s
        });
        for device in &source.devices {
            let there = |source: &&SourceConfig| source.devices.iter().any(|other| other.id == device.id);
            if is_same_line && before.is_some_and(|before| before.devices.contains(device)) {
                continue;
            }
            let id = device.id.as_str().to_owned();
            // It may have been behind another source.
            let was = good.iter().find(there).map_or(Was::New, |before| {
                before_it(&Subject { source: before.name.clone(), device: id.clone() }, status, tallies)
            });
            marks.push(Mark { subject: Subject { source: source.name.clone(), device: id }, was });
        }
    }
    for mark in &mut marks {
        let before = known.iter().find(|before| before.subject == mark.subject);
        mark.was = before.map_or(mark.was, |before| before.was);
    }
    marks
}

fn before_it(subject: &Subject, status: &Status, tallies: &Tallies) -> Was {
    let has_said = |device: &DeviceStatus| tallies.lately(subject, device).0 > 0;
    match doing(subject, status, tallies) {
        Doing::Partly(_) => Was::Partly,
        Doing::Nothing | Doing::Fails(_) => Was::Unwell,
        Doing::Well if find(subject, status).is_some_and(|device| !has_said(device)) => Was::Quiet,
        Doing::Well | Doing::Idle if is_quiet(subject, status, tallies) => Was::Quiet,
        Doing::Well | Doing::Idle => Was::Well,
    }
}

/// Whether it is a source that names no devices, and has given no reading lately.
fn is_quiet(subject: &Subject, status: &Status, tallies: &Tallies) -> bool {
    let (before, _) = tallies.older.get(subject).copied().unwrap_or_default();
    let whole = status.sources.get(&subject.source).filter(|_| subject.device.is_empty());
    whole.is_some_and(|source| source.devices.is_empty() && said(source) <= before)
}

fn find<'s>(subject: &Subject, status: &'s Status) -> Option<&'s DeviceStatus> {
    let source = status.sources.get(&subject.source)?;
    source.devices.iter().find(|device| device.id == subject.device)
}

fn doing(subject: &Subject, status: &Status, tallies: &Tallies) -> Doing {
    let Some(source) = status.sources.get(&subject.source) else { return Doing::Nothing };
    if subject.device.is_empty() {
        use SourceState::{Degraded, Retrying, Running, Stalled, Starting, Waiting};
        return match source.state {
            Starting => Doing::Nothing,
            Retrying | Degraded | Stalled => Doing::Fails(source.last_error.clone().unwrap_or_default()),
            Running | Waiting if source.devices.is_empty() && !source.spoke => Doing::Idle,
            _ => Doing::Well,
        };
    }
    let Some(device) = find(subject, status) else { return Doing::Nothing };
    let error = device.last_error.clone().unwrap_or_default();
    match (device.state.as_str(), tallies.lately(subject, device)) {
        ("silent", _) => Doing::Fails(error),
        ("refuses", _) => Doing::Partly(error),
        ("answers", (1.., bad)) if bad >= tallies.lately(subject, device).0 => {
            Doing::Partly(format!("its profile rules out all that it says: {error}"))
        }
        ("answers", _) => Doing::Well,
        _ => Doing::Nothing,
    }
}

/// What has become of those that are measured. Devices that have shown once that they work are noted in `proven`: what happens
/// to them afterwards is no fault of the layer.
#[must_use]
pub fn judge(marks: &[Mark], status: &Status, tallies: &Tallies, proven: &mut BTreeSet<Subject>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut failing = BTreeSet::new();
    for Mark { subject, was } in marks {
        let doing = doing(subject, status, tallies);
        let is_device = !subject.device.is_empty();
        if doing == Doing::Well && is_device {
            proven.insert(subject.clone());
        }
        // Where the whole source fails, it does not say more of each device.
        if doing == Doing::Well
            || proven.contains(subject)
            || (is_device && failing.contains(&subject.source))
        {
            continue;
        }
        let worked = matches!(was, Was::Well | Was::Quiet | Was::Partly);
        let (is_broken, is_pending, why) = match doing {
            Doing::Idle if *was == Was::Well => (true, false, IDLE.to_owned()),
            // Nobody may have anything to say to it.
            Doing::Well | Doing::Idle => continue,
            Doing::Partly(why) => (matches!(was, Was::Well | Was::Quiet), *was == Was::New, why),
            Doing::Fails(why) => (worked, *was == Was::New, why),
            Doing::Nothing => {
                let why = "nothing was heard of it".to_owned();
                (*was == Was::Well, matches!(was, Was::New | Was::Quiet | Was::Partly), why)
            }
        };
        if !is_device {
            failing.insert(subject.source.clone());
        }
        let list = match (is_broken, is_pending) {
            (true, _) => &mut verdict.broken,
            (false, true) => &mut verdict.pending,
            (false, false) => &mut verdict.unwell,
        };
        list.push((subject.clone(), why));
    }
    verdict
}

/// Whether one does not do.
#[must_use]
pub fn is_unwell(subject: &Subject, status: &Status, tallies: &Tallies) -> bool {
    // What was taken out of the configuration is no longer told.
    status.sources.contains_key(&subject.source)
        && !matches!(doing(subject, status, tallies), Doing::Well | Doing::Idle)
}

/// All of them in a text: `source meter does not run: …`.
#[must_use]
pub fn told(broken: &[Complaint]) -> String {
    let one = |(subject, why): &Complaint| {
        if why == IDLE {
            return format!("{subject} {why}");
        }
        let what =
            if subject.device.is_empty() { "does not run" } else { "answered before and does not do now" };
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        format!("{subject} {what}{why}")
    };
    let mut texts: Vec<String> = broken.iter().take(NAMED_MAX).map(one).collect();
    if let Some(more @ 1..) = broken.len().checked_sub(NAMED_MAX) {
        texts.push(format!("and {more} more"));
    }
    texts.join("; ")
}

#[cfg(test)]
mod tests;
