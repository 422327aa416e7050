//! What is shown of pipelines.

use serde::{Deserialize, Serialize};
use tideline_pipeline::{Counts, StageStatus};

use super::{Board, Status};

/// Most dead letters that are shown, the last ones; all are counted at their stages.
pub const LETTERS_MAX: usize = 100;

/// State of a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// Its stages, in the order in which they run.
    pub stages: Vec<StageFigures>,
}

/// What a stage did since the agent's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFigures {
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// Readings that came.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Readings that went on, to however many stages.
    #[serde(rename = "out")]
    pub given: u64,
    /// Readings that were left out, as the definition says.
    pub dropped: u64,
    /// Readings that it could not take, and what it asked for that could not be done.
    pub dead_letters: u64,
    /// Times that a rule fired or cleared.
    pub events: u64,
    /// Values that were to be written.
    pub actions: u64,
    /// Readings that went on without being judged, as they are older than those of their series that were.
    #[serde(default)]
    pub skipped: u64,
    /// Windows that were closed before their end, as the clock was set.
    #[serde(default)]
    pub cut: u64,
    /// Series for which it keeps a state.
    pub series: u64,
    /// Windows that are open.
    pub open_windows: u64,
}

impl StageFigures {
    /// Of a stage that did `before` what its counters do not have.
    #[must_use]
    pub fn of(status: &StageStatus, before: Counts) -> Self {
        let StageStatus { stage, kind, counts, series, open_windows } = status;
        let mut figures = Self { stage: stage.clone(), kind: (*kind).to_owned(), ..Self::default() };
        figures.add(*counts);
        figures.add(before);
        (figures.series, figures.open_windows) = (*series, *open_windows);
        figures
    }

    fn add(&mut self, counts: Counts) {
        self.taken += counts.taken;
        self.given += counts.given;
        self.dropped += counts.dropped;
        self.dead_letters += counts.dead_letters;
        self.events += counts.events;
        self.actions += counts.actions;
        self.skipped += counts.skipped;
        self.cut += counts.cut;
    }

    /// Its counters.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        Counts {
            taken: self.taken,
            given: self.given,
            dropped: self.dropped,
            dead_letters: self.dead_letters,
            events: self.events,
            actions: self.actions,
            skipped: self.skipped,
            cut: self.cut,
        }
    }
}

/// Readings that a stage could not take, or something that it asked for and that could not be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterStatus {
    /// The pipeline.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
    /// The device.
    pub device: String,
    /// The point.
    pub point: String,
    /// Why.
    pub reason: String,
    /// How many that came one after the other.
    pub count: u64,
    /// The time of the first, in ms since 1970.
    pub time_ms: i64,
    /// The value of the first.
    pub value: Option<String>,
}

impl DeadLetterStatus {
    fn is_like(&self, other: &Self) -> bool {
        (&self.pipeline, &self.stage, &self.reason) == (&other.pipeline, &other.stage, &other.reason)
            && (&self.device, &self.point) == (&other.device, &other.point)
    }
}

impl Board {
    /// Shows the pipelines of a flow; several flows may run the same ones.
    pub fn flow(&self, flow: &str, pipelines: Vec<PipelineStatus>) {
        self.update(|status| {
            status.flows.insert(flow.to_owned(), pipelines);
            status.sum_flows();
        });
    }

    /// Shows a dead letter.
    pub fn dead_letter(&self, letter: DeadLetterStatus) {
        self.update(|status| {
            if let Some(last) = status.dead_letters.iter_mut().rev().find(|known| known.is_like(&letter)) {
                last.count = last.count.saturating_add(letter.count);
                return;
            }
            if status.dead_letters.len() >= LETTERS_MAX {
                status.dead_letters.remove(0);
            }
            status.dead_letters.push(letter);
        });
    }
}

impl Status {
    /// Puts together what all flows say.
    fn sum_flows(&mut self) {
        let mut all: Vec<PipelineStatus> = Vec::new();
        for pipeline in self.flows.values().flatten() {
            let Some(known) = all.iter_mut().find(|known| known.name == pipeline.name) else {
                all.push(pipeline.clone());
                continue;
            };
            for stage in &pipeline.stages {
                match known.stages.iter_mut().find(|known| known.stage == stage.stage) {
                    Some(known) => {
                        known.add(stage.counts());
                        known.series += stage.series;
                        known.open_windows += stage.open_windows;
                    }
                    None => known.stages.push(stage.clone()),
                }
            }
        }
        self.pipelines = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(taken: u64, open_windows: u64) -> PipelineStatus {
        let stage = StageFigures { stage: "s".into(), taken, open_windows, ..StageFigures::default() };
        PipelineStatus { name: "p".into(), stages: vec![stage] }
    }

    #[test]
    fn a_pipeline_of_several_flows_is_shown_once() {
        let board = Board::default();
        board.flow("a", vec![pipeline(2, 1)]);
        board.flow("b", vec![pipeline(3, 4)]);
        assert_eq!(board.read().pipelines, [pipeline(5, 5)]);
        board.flow("a", vec![pipeline(7, 0)]);
        assert_eq!(board.read().pipelines, [pipeline(10, 4)]);
        board.flow("b", Vec::new());
        assert_eq!(board.read().pipelines, [pipeline(7, 0)]);
    }

    #[test]
    fn the_last_dead_letters_are_shown_and_like_ones_are_one() {
        let board = Board::default();
        for n in 0..LETTERS_MAX + 5 {
            let letter =
                |count| DeadLetterStatus { reason: n.to_string(), count, ..DeadLetterStatus::default() };
            board.dead_letter(letter(1));
            board.dead_letter(letter(2));
        }
        let letters = board.read().dead_letters;
        assert_eq!(letters.len(), LETTERS_MAX);
        assert!(letters.iter().all(|letter| letter.count == 3));
        assert_eq!(letters.first().map(|letter| letter.reason.as_str()), Some("5"));
    }
}
