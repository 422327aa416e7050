//! What a stage is to the pipeline, and what it is given to do its work.

pub(crate) mod branch;
pub(crate) mod compute;
pub(crate) mod deadband;
pub(crate) mod derive;
pub(crate) mod linear;
pub(crate) mod output;
pub(crate) mod range;
pub(crate) mod rate_limit;
pub(crate) mod rule;
pub(crate) mod window;
pub(crate) mod write;

use std::sync::Arc;

use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::value::Boxes;

use crate::clock::{Now, Setting};
use crate::limits::TIME_ABS_MAX_NS;
use crate::outcome::{Action, Change, Counts, DeadLetter, Event, Outcome};
use crate::series::{Column, Registry, SeriesNo, shown};
use crate::state::StateError;
use crate::template::Place;

/// What a kind of stage does. A chunk is given to it series by series, then `gather` is called once; `tick` is called when
/// time has passed. What it does with the readings of a series must not depend on how they are spread over calls.
pub(crate) trait Operator: Send {
    /// Takes readings of one series in the order of arrival.
    fn take(&mut self, column: Column, io: &mut Io<'_>);

    /// All series of a chunk have been taken.
    fn gather(&mut self, _: &mut Io<'_>) {}

    /// Time has passed.
    fn tick(&mut self, _: &mut Io<'_>) {}

    /// Series for which it keeps a state, and windows that are open.
    fn held(&self) -> (usize, usize) {
        (0, 0)
    }

    /// The machine was started again: what was measured by its monotonic clock says nothing any more.
    fn begin_boot(&mut self) {}

    /// Whether it keeps anything that must be known after a restart.
    fn keeps(&self) -> bool {
        false
    }

    /// What it must know after a restart; empty for nothing.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes what it wrote, under the numbers that series have now.
    fn restore(&mut self, _: &[u8], _: &[SeriesNo]) -> Result<(), StateError> {
        Ok(())
    }
}

/// What a stage works with.
pub(crate) struct Io<'a> {
    pub now: Now,
    /// How far ahead of the clock a reading may be, in ns; windows have a limit of their own.
    pub ahead_max_ns: i64,
    pub registry: &'a mut Registry,
    pub boxes: &'a mut Boxes,
    pub pipeline: &'a Arc<str>,
    pub stage: &'a Arc<str>,
    pub counts: &'a mut Counts,
    pub outcome: &'a mut Outcome,
    /// What goes on, with its port.
    pub out: &'a mut Vec<(usize, Column)>,
    /// The reason of the last dead letter, which a trace asks for.
    pub last_reason: Option<String>,
}

impl Io<'_> {
    /// Gives readings to who reads a port; stages without named ports have the one port 0.
    pub fn give(&mut self, port: usize, column: Column) {
        if !column.samples.is_empty() {
            self.counts.given += column.samples.len() as u64;
            self.out.push((port, column));
        }
    }

    /// Whether a time can be one that is kept: from all that keep event time it is asked here, and a reading of which it cannot
    /// is a dead letter. Kept, it would make all after it late.
    ///
    /// # Errors
    /// It is outside of what can be calculated with, or too far ahead of the clock.
    pub fn timed(&self, time_ns: i64, clock: Option<Setting>, ahead_max_ns: i64) -> Result<(), &'static str> {
        if time_ns.unsigned_abs() > TIME_ABS_MAX_NS.unsigned_abs() {
            return Err(NO_TIME);
        }
        if self.now.is_ahead(time_ns, clock, ahead_max_ns) { Err(TOO_FAR_AHEAD) } else { Ok(()) }
    }

    /// Counts readings that are left out.
    pub fn drop(&mut self, count: usize) {
        self.counts.dropped += count as u64;
    }

    /// Makes a dead letter of a reading.
    pub fn letter(&mut self, series: SeriesNo, sample: Sample, reason: &str) {
        self.letters(series, &[sample], reason);
    }

    /// Makes dead letters of readings.
    pub fn letters(&mut self, series: SeriesNo, samples: &[Sample], reason: &str) {
        let Some(first) = samples.first() else { return };
        let count = samples.len() as u64;
        self.counts.dead_letters += count;
        self.last_reason = Some(reason.to_owned());
        let Some(SeriesDef { device, point, .. }) = self.registry.def(series) else { return };
        let kind = self.registry.def(series).map(SeriesDef::kind).unwrap_or_default();
        let (value, quality) = shown(self.boxes, first.value, kind);
        let letter = DeadLetter {
            pipeline: Arc::clone(self.pipeline),
            stage: Arc::clone(self.stage),
            device: device.clone(),
            point: point.clone(),
            reason: reason.to_owned(),
            count,
            first_ns: first.time_ns,
            value,
            quality,
        };
        self.outcome.letter(letter);
    }

    /// Tells that a rule fired or cleared.
    pub fn event(&mut self, change: Change, told: Told<'_>) {
        let Some(def) = self.registry.def(told.series) else { return };
        let (device, point) = (def.device.clone(), def.point.clone());
        self.counts.events += 1;
        self.outcome.events.push(Event {
            pipeline: Arc::clone(self.pipeline),
            rule: Arc::clone(self.stage),
            device,
            point,
            change,
            time_ns: told.time_ns,
            value: told.value,
            severity: told.severity,
            message: Arc::clone(told.message),
            clock: told.clock,
        });
    }

    /// Asks for a value to be written.
    ///
    /// # Errors
    /// The names that the template gives are none.
    pub fn action(
        &mut self,
        place: &Place,
        series: SeriesNo,
        (time_ns, clock): (i64, Option<Setting>),
        value: tideline_protocol::value::Value,
    ) -> Result<(), String> {
        let def = self.registry.def(series).ok_or("the series is unknown")?;
        let (device, point) = place.fill(def, "")?;
        self.counts.actions += 1;
        let (pipeline, stage) = (Arc::clone(self.pipeline), Arc::clone(self.stage));
        self.outcome.actions.push(Action { pipeline, stage, device, point, value, time_ns, clock });
        Ok(())
    }
}

/// What is told with an event.
pub(crate) struct Told<'a> {
    pub series: SeriesNo,
    pub time_ns: i64,
    pub clock: Option<Setting>,
    pub value: tideline_protocol::value::Value,
    pub severity: crate::definition::Severity,
    pub message: &'a Arc<str>,
}

/// Why a reading of one more series is a dead letter.
pub(crate) const NO_ROOM: &str = "the stage keeps as many series as it may";
/// Why a text is one.
pub(crate) const NO_TEXT: &str = "a text is no number";
/// Why a number is one.
pub(crate) const NOT_FINITE: &str = "the result is no finite number";
/// Why a time is one.
pub(crate) const NO_TIME: &str = "the time is outside of 1823 to 2116";
/// Why another one is.
pub(crate) const TOO_FAR_AHEAD: &str = "the time is too far ahead of the clock";
