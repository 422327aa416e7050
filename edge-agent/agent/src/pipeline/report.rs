//! What a trial of pipelines came to.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value as Json, json};
use tideline_pipeline::{Action, DeadLetter, Event, Outcome, Pipelines, StageStatus};

use super::{judged, time_text};

/// Most kinds of dead letters that are told apart, and most events and actions that are told each; the others are counted.
const TOLD_MAX: usize = 1_000;

/// What a trial came to.
#[derive(Default)]
pub struct Report {
    /// Readings of the file.
    pub readings: u64,
    results: u64,
    letters: BTreeMap<(String, String, String, String, String), DeadLetter>,
    letters_more: u64,
    events: Vec<Event>,
    events_more: u64,
    actions: Vec<Action>,
    actions_more: u64,
    stages: Vec<(String, StageStatus)>,
    rejected: u64,
    reasons: Vec<String>,
}

impl Report {
    /// Adds what came of a part.
    pub fn add(&mut self, outcome: Outcome) {
        self.results += outcome.count();
        self.letters_more += outcome.letters_more;
        for letter in outcome.letters {
            let name = |text: &dyn fmt::Display| text.to_string();
            let DeadLetter { pipeline, stage, device, point, reason, .. } = &letter;
            let key = (name(pipeline), name(stage), name(device), name(point), reason.clone());
            let is_full = self.letters.len() >= TOLD_MAX;
            match self.letters.get_mut(&key) {
                Some(known) => known.count += letter.count,
                None if is_full => self.letters_more += letter.count,
                None => drop(self.letters.insert(key, letter)),
            }
        }
        self.events_more += keep(&mut self.events, outcome.events);
        self.actions_more += keep(&mut self.actions, outcome.actions);
    }

    /// Adds what is known at the end.
    pub fn end(&mut self, pipelines: &Pipelines, (rejected, reasons): (u64, Vec<String>)) {
        self.stages = pipelines.status().map(|(name, status)| (name.to_string(), status)).collect();
        (self.rejected, self.reasons) = (rejected, reasons);
    }

    /// The same for programs.
    pub fn json(&self) -> Json {
        let stage = |(pipeline, status): &(String, StageStatus)| {
            let mut stage = serde_json::to_value(status).unwrap_or_default();
            stage.as_object_mut().map(|keys| keys.insert("pipeline".into(), json!(pipeline)));
            stage
        };
        let letter = |of: &DeadLetter| {
            json!({
                "pipeline": &*of.pipeline, "stage": &*of.stage, "device": of.device, "point": of.point,
                "reason": of.reason, "count": of.count, "first_ns": of.first_ns,
                "value": judged(&of.value, of.quality, ""),
            })
        };
        let event = |of: &Event| {
            json!({
                "pipeline": &*of.pipeline, "rule": &*of.rule, "device": of.device, "point": of.point,
                "change": of.change, "time_ns": of.time_ns, "value": judged(&of.value, Default::default(), ""),
                "severity": of.severity, "message": &*of.message,
            })
        };
        let action = |of: &Action| {
            json!({
                "pipeline": &*of.pipeline, "stage": &*of.stage, "device": of.device, "point": of.point,
                "value": judged(&of.value, Default::default(), ""), "time_ns": of.time_ns,
            })
        };
        json!({
            "readings": self.readings, "results": self.results,
            "rejected": self.rejected, "rejections": self.reasons,
            "stages": self.stages.iter().map(stage).collect::<Vec<_>>(),
            "dead_letters": self.letters.values().map(letter).collect::<Vec<_>>(),
            "dead_letters_more": self.letters_more,
            "events": self.events.iter().map(event).collect::<Vec<_>>(), "events_more": self.events_more,
            "actions": self.actions.iter().map(action).collect::<Vec<_>>(), "actions_more": self.actions_more,
        })
    }
}

/// Keeps as many as are told; gives how many are not.
fn keep<T>(kept: &mut Vec<T>, more: Vec<T>) -> u64 {
    let room = TOLD_MAX.saturating_sub(kept.len());
    let left_out = more.len().saturating_sub(room) as u64;
    kept.extend(more.into_iter().take(room));
    left_out
}

fn write_more(f: &mut fmt::Formatter<'_>, what: &str, more: u64) -> fmt::Result {
    if more > 0 { writeln!(f, "{what} {more} more") } else { Ok(()) }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            let Event { pipeline, rule, device, point, change, severity, message, .. } = event;
            let (time, value) = (time_text(event.time_ns), judged(&event.value, Default::default(), ""));
            let message = if message.is_empty() { String::new() } else { format!(": {message}") };
            let (change, severity) = (change.as_str(), severity.as_str());
            writeln!(
                f,
                "event    {time} {pipeline}.{rule} {change} ({severity}) {device}/{point} = {value}{message}"
            )?;
        }
        write_more(f, "event   ", self.events_more)?;
        for Action { pipeline, stage, device, point, value, time_ns, .. } in &self.actions {
            let (time, value) = (time_text(*time_ns), judged(value, Default::default(), ""));
            writeln!(f, "write    {time} {pipeline}.{stage} {device}/{point} = {value}")?;
        }
        write_more(f, "write   ", self.actions_more)?;
        for letter in self.letters.values() {
            let DeadLetter { pipeline, stage, device, point, reason, count, .. } = letter;
            let (first, value) = (time_text(letter.first_ns), judged(&letter.value, letter.quality, ""));
            writeln!(
                f,
                "dead     {count} of {device}/{point} at {pipeline}.{stage}: {reason}; the first at {first}: {value}"
            )?;
        }
        write_more(f, "dead    ", self.letters_more)?;
        for reason in &self.reasons {
            writeln!(f, "rejected {reason}")?;
        }
        write_more(f, "rejected", self.rejected.saturating_sub(self.reasons.len() as u64))?;
        for (pipeline, StageStatus { stage, kind, counts, series, open_windows }) in &self.stages {
            write!(f, "stage    {pipeline}.{stage} ({kind}): {} in, {} out", counts.taken, counts.given)?;
            for (count, what) in [
                (counts.dropped, "dropped"),
                (counts.dead_letters, "dead letters"),
                (counts.events, "events"),
                (counts.actions, "writes"),
                (counts.skipped, "not judged"),
                (counts.cut, "windows cut off"),
                (*series, "series kept"),
                (*open_windows, "windows open"),
            ] {
                if count > 0 {
                    write!(f, ", {count} {what}")?;
                }
            }
            writeln!(f)?;
        }
        writeln!(f, "readings {} in, {} out", self.readings, self.results)
    }
}
