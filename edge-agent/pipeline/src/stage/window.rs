//! Windows by event time: readings in, an aggregate for each window and what is computed of it out.
//!
//! ```text
//! readings ──▶ windows of the series ──watermark passes the end──▶ results, with the time of the window's start
//!                  │
//!                  └─ late, ahead, no room: dead letters
//! ```
//! - **Watermark** of a series: its newest time less `wait_ms`. It moves with each reading and never back. A window is closed
//!   once the watermark is at its end, and gives its results then, once.
//! - **Idle**: a series of which nothing came for `idle_ms` of the clock has its watermark moved to the clock less both, so
//!   that a device that is away keeps no window open.
//! - **Late**: a reading of which all windows are closed is a dead letter; one that still has an open one is counted there.
//! - **Quality**: readings that are not good are left out of what is computed and counted (`bad`). A result of a window
//!   that left some out is uncertain; where none was good it is null and bad. Null of good quality says nothing.
//! - State is bounded by the named limits; what finds no room is a dead letter.

mod sums;

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::value::{Quality, ValueKind};

use self::sums::Sums;
use super::{Io, NO_ROOM, NO_TEXT, NO_TIME, NOT_FINITE, Operator};
use crate::definition::Aggregate;
use crate::limits::{CLOCK_SET_NS, OPEN_WINDOWS_MAX, OPEN_WINDOWS_PER_SERIES_MAX, TIME_ABS_MAX_NS};
use crate::series::{Column, Content, Outlets, SeriesNo, States, content};
use crate::state::StateError;
use crate::template::Place;

/// Windows.
pub(crate) struct WindowStage {
    pub shape: Shape,
    pub aggregates: Vec<Aggregate>,
    pub place: Place,
    /// The series of the results, by aggregate.
    pub outlets: Vec<Outlets>,
    pub states: States<Open>,
    /// Windows that are open, of all series.
    pub open: usize,
}

/// How windows lie in time, in ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub length: i64,
    pub hop: i64,
    pub wait: i64,
    /// 0 for never.
    pub idle: i64,
    pub ahead_max: i64,
}

impl Shape {
    /// The starts of the windows of a time that end after the watermark.
    fn starts(self, time_ns: i64, watermark_ns: i64) -> impl Iterator<Item = i64> {
        let last = time_ns.div_euclid(self.hop).saturating_mul(self.hop);
        let first = last.saturating_sub(self.length - self.hop);
        let starts = (0..=(last - first) / self.hop).map(move |n| first.saturating_add(n * self.hop));
        starts.filter(move |start| start.saturating_add(self.length) > watermark_ns)
    }
}

/// The open windows of a series.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Open {
    #[n(0)]
    watermark_ns: Option<i64>,
    /// By their starts.
    #[n(1)]
    windows: BTreeMap<i64, Sums>,
    /// When something came, by the clock; after a restart when it was first asked.
    #[cbor(skip)]
    heard_ns: Option<i64>,
}

/// A window that has closed.
struct Closed(i64, Sums);

impl Open {
    /// Moves the watermark on and gives what it closes.
    fn advance(&mut self, watermark_ns: i64, length: i64, closed: &mut Vec<Closed>) {
        if self.watermark_ns.is_some_and(|known| known >= watermark_ns) {
            return;
        }
        self.watermark_ns = Some(watermark_ns);
        while let Some(first) = self.windows.first_entry() {
            if first.key().saturating_add(length) > watermark_ns {
                break;
            }
            let (start, sums) = first.remove_entry();
            closed.push(Closed(start, sums));
        }
    }
}

/// What a reading does to a window.
enum Effect {
    Number(f64),
    Bad,
    /// Time passes, and no more.
    None,
}

impl WindowStage {
    /// What a reading does, or why it is a dead letter.
    fn effect(&self, sample: Sample, io: &Io<'_>) -> Result<Effect, &'static str> {
        if sample.time_ns.unsigned_abs() > TIME_ABS_MAX_NS.unsigned_abs() {
            return Err(NO_TIME);
        }
        let clock_is_set = io.now_ns >= CLOCK_SET_NS;
        if clock_is_set && sample.time_ns > io.now_ns.saturating_add(self.shape.ahead_max) {
            return Err("the time is too far ahead of the clock");
        }
        match content(io.boxes, sample.value) {
            (Content::Number(number), Quality::Good) if number.is_finite() => Ok(Effect::Number(number)),
            (Content::Number(_), Quality::Good) => Err(NOT_FINITE),
            (Content::Text, Quality::Good) => Err(NO_TEXT),
            (Content::Null, Quality::Good) => Ok(Effect::None),
            (_, Quality::Uncertain | Quality::Bad) => Ok(Effect::Bad),
        }
    }

    /// Adds a reading to its windows.
    fn add(
        &mut self,
        series: SeriesNo,
        sample: Sample,
        effect: Effect,
        closed: &mut Vec<Closed>,
    ) -> Result<(), &'static str> {
        let shape = self.shape;
        let open = self.states.of(series, Open::default).ok_or(NO_ROOM)?;
        let watermark_ns = open.watermark_ns.unwrap_or(i64::MIN);
        if !matches!(effect, Effect::None) {
            let mut is_late = true;
            for start in shape.starts(sample.time_ns, watermark_ns) {
                is_late = false;
                let held = open.windows.len();
                let sums = match open.windows.entry(start) {
                    std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                    std::collections::btree_map::Entry::Vacant(room) => {
                        if held >= OPEN_WINDOWS_PER_SERIES_MAX || self.open >= OPEN_WINDOWS_MAX {
                            return Err("as many windows are open as may be");
                        }
                        self.open += 1;
                        room.insert(Sums::default())
                    }
                };
                match effect {
                    Effect::Number(number) => sums.add((sample.time_ns, number)),
                    _ => sums.add_bad(),
                }
            }
            if is_late {
                return Err("the reading is late: its windows are closed");
            }
        }
        let before = closed.len();
        open.advance(sample.time_ns.saturating_sub(shape.wait), shape.length, closed);
        self.open = self.open.saturating_sub(closed.len() - before);
        Ok(())
    }

    /// Gives the results of closed windows.
    fn close(&mut self, series: SeriesNo, closed: &[Closed], io: &mut Io<'_>) {
        if closed.is_empty() {
            return;
        }
        let place = &self.place;
        for (port, (aggregate, outlets)) in self.aggregates.iter().zip(&mut self.outlets).enumerate() {
            let made = outlets.of(series, io.registry, |def| {
                let (device, point) = place.fill(def, aggregate.as_str())?;
                let counts = matches!(aggregate, Aggregate::Count | Aggregate::Bad);
                let unit = if counts { "1".to_owned() } else { def.unit.clone() };
                let kind = if counts { ValueKind::Int } else { ValueKind::Float };
                Ok(SeriesDef::new(device, point, unit).of_kind(kind))
            });
            let results = closed.iter().map(|Closed(start, sums)| Sample {
                time_ns: *start,
                value: sums.result(*aggregate, io.boxes),
            });
            let samples: Vec<Sample> = results.collect();
            match made {
                Ok(series) => io.give(0, Column { series, samples }),
                // Only the name of the results can be wrong, so it is the same of all aggregates' lengths.
                Err(reason) if port == 0 => io.letters(series, &samples, &reason),
                Err(_) => {}
            }
        }
    }
}

impl Operator for WindowStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        let mut closed = Vec::new();
        for sample in column.samples {
            let taken = self
                .effect(sample, io)
                .and_then(|effect| self.add(column.series, sample, effect, &mut closed));
            if let Err(reason) = taken {
                io.letter(column.series, sample, reason);
            }
        }
        if let Some(open) = self.states.of(column.series, Open::default) {
            open.heard_ns = Some(io.now_ns);
        }
        self.close(column.series, &closed, io);
    }

    fn tick(&mut self, io: &mut Io<'_>) {
        let (shape, now_ns) = (self.shape, io.now_ns);
        if shape.idle == 0 {
            return;
        }
        let mut closed = Vec::new();
        for (series, open) in self.states.iter_mut() {
            let heard_ns = *open.heard_ns.get_or_insert(now_ns);
            if open.windows.is_empty() || now_ns.saturating_sub(heard_ns) < shape.idle {
                continue;
            }
            let mut of = Vec::new();
            let watermark_ns = now_ns.saturating_sub(shape.idle).saturating_sub(shape.wait);
            open.advance(watermark_ns, shape.length, &mut of);
            if !of.is_empty() {
                closed.push((series, of));
            }
        }
        for (series, of) in closed {
            self.open = self.open.saturating_sub(of.len());
            self.close(series, &of, io);
        }
    }

    fn held(&self) -> (usize, usize) {
        (self.states.held(), self.open)
    }

    fn save(&self) -> Vec<u8> {
        self.states.write()
    }

    fn restore(&mut self, bytes: &[u8], numbers: &[SeriesNo]) -> Result<(), StateError> {
        let states: States<Open> = States::read(bytes, numbers).map_err(StateError::Damaged)?;
        let open = states.iter().map(|(_, open)| open.windows.len()).sum();
        let sound = |start: &i64| start.rem_euclid(self.shape.hop) == 0;
        if open > OPEN_WINDOWS_MAX || !states.iter().all(|(_, of)| of.windows.keys().all(sound)) {
            return Err(StateError::Damaged("windows are none of the stage's".into()));
        }
        (self.states, self.open) = (states, open);
        Ok(())
    }
}
