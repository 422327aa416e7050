//! Windows by event time: readings in, an aggregate for each window and what is computed of it out.
//!
//! ```text
//! readings ──▶ windows of the series ──watermark passes the end──▶ results, with the time of the window's start
//!                  │
//!                  └─ late, ahead, no room: dead letters
//! ```
//! - **Watermark** of a series: its newest time less `wait_ms`. It moves with each reading and never back. A window is closed
//!   once the watermark is at its end, and gives its results then, once.
//! - **Idle**: a series of which nothing came for `idle_ms` of monotonic time has its watermark moved to the clock less both,
//!   or to where its newest time would be by now less both, if that is later: so a device that is away keeps no window open,
//!   whatever becomes of the clock meanwhile.
//! - **A clock that is set** ([`crate::clock`]): windows lie where they lie, so those that are open are closed with what they
//!   have, and the watermark is forgotten. What is not a count is uncertain then, and how many there were is counted (`cut`).
//!   So no window holds readings of two settings of a clock of one start of the machine; a correction that the hub makes of
//!   them holds for the result as it does for each reading. What was a window before it then lies beside the others.
//! - **Late**: a reading of which all windows are closed is a dead letter; one that still has an open one is counted there.
//! - **Quality**: readings that are not good are left out of what is computed and counted (`bad`). A result of a window
//!   that left some out is uncertain; where none was good it is null and bad. Null of good quality says nothing.
//! - State is bounded by the named limits; what finds no room is a dead letter.

mod sums;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use minicbor::{Decode, Encode};
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::value::{Quality, ValueKind};

use self::sums::Sums;
use super::{Io, NO_ROOM, NO_TEXT, NOT_FINITE, Operator};
use crate::clock::{Carry, Now, Setting};
use crate::definition::Aggregate;
use crate::limits::{OPEN_WINDOWS_MAX, OPEN_WINDOWS_PER_SERIES_MAX};
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
    /// When something came, by monotonic time; after a restart when it was first asked.
    #[cbor(skip)]
    heard_ns: Option<i64>,
    /// The clock that gave the times.
    #[n(2)]
    clock: Option<Setting>,
}

/// A window that has closed.
struct Closed {
    start_ns: i64,
    sums: Sums,
    clock: Option<Setting>,
    /// Before its end.
    is_cut: bool,
}

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
            let (start_ns, sums) = first.remove_entry();
            closed.push(Closed { start_ns, sums, clock: self.clock, is_cut: false });
        }
    }

    /// Closes all, whatever they lack, and begins anew.
    fn cut(&mut self, closed: &mut Vec<Closed>) {
        self.watermark_ns = None;
        let (windows, clock) = (std::mem::take(&mut self.windows), self.clock);
        closed.extend(windows.into_iter().map(|(start_ns, sums)| Closed {
            start_ns,
            sums,
            clock,
            is_cut: true,
        }));
    }

    /// Goes over to the clock of a reading.
    fn carry(&mut self, comes: Option<Setting>, time_ns: i64, wait: i64, closed: &mut Vec<Closed>) {
        if self.clock == comes {
            return;
        }
        if let Some(watermark_ns) = self.watermark_ns {
            match Carry::of(self.clock, watermark_ns.saturating_add(wait), comes, time_ns) {
                Carry::Stay => {}
                Carry::Move(_) | Carry::Cut => self.cut(closed),
            }
        }
        self.clock = comes;
    }

    /// Nothing has come for long: moves the watermark by the clock that gave the times.
    fn go_idle(&mut self, now: Now, silent_ns: i64, shape: Shape, closed: &mut Vec<Closed>) {
        let is_told = self
            .clock
            .is_none_or(|clock| clock.boot == now.setting.boot || (clock.believed && now.setting.believed));
        if is_told {
            let newest_ns = self.watermark_ns.map_or(i64::MIN, |mark| mark.saturating_add(shape.wait));
            let latest_ns = now.by(self.clock).max(newest_ns.saturating_add(silent_ns));
            let watermark_ns = latest_ns.saturating_sub(shape.idle).saturating_sub(shape.wait);
            self.advance(watermark_ns, shape.length, closed);
        } else {
            // How long that start of the machine is past nobody knows.
            self.cut(closed);
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
    fn effect(&self, sample: Sample, clock: Option<Setting>, io: &Io<'_>) -> Result<Effect, &'static str> {
        io.timed(sample.time_ns, clock, self.shape.ahead_max)?;
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
        (series, clock): (SeriesNo, Option<Setting>),
        sample: Sample,
        effect: Effect,
        now: Now,
        closed: &mut Vec<Closed>,
    ) -> Result<(), &'static str> {
        let shape = self.shape;
        let before = closed.len();
        let open = self.states.of(series, Open::default).ok_or(NO_ROOM)?;
        open.carry(clock, sample.time_ns, shape.wait, closed);
        // A mark that cannot be, from before the clock was set, is none to be late for.
        let newest_ns = open.watermark_ns.map_or(i64::MIN, |mark| mark.saturating_add(shape.wait));
        if sample.time_ns < newest_ns && now.is_ahead(newest_ns, clock, shape.ahead_max) {
            open.cut(closed);
        }
        self.open = self.open.saturating_sub(closed.len() - before);
        let before = closed.len();
        let watermark_ns = open.watermark_ns.unwrap_or(i64::MIN);
        if !matches!(effect, Effect::None) {
            let mut is_late = true;
            for start in shape.starts(sample.time_ns, watermark_ns) {
                is_late = false;
                let held = open.windows.len();
                let sums = match open.windows.entry(start) {
                    Entry::Occupied(there) => there.into_mut(),
                    Entry::Vacant(room) => {
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
        open.advance(sample.time_ns.saturating_sub(shape.wait), shape.length, closed);
        self.open = self.open.saturating_sub(closed.len() - before);
        Ok(())
    }

    /// Gives the results of closed windows.
    fn close(&mut self, series: SeriesNo, closed: &[Closed], io: &mut Io<'_>) {
        io.counts.cut += closed.iter().filter(|closed| closed.is_cut).count() as u64;
        // Of a clock that was set there are results by both.
        closed.chunk_by(|one, other| one.clock == other.clock).for_each(|of| self.give(series, of, io));
    }

    fn give(&mut self, series: SeriesNo, closed: &[Closed], io: &mut Io<'_>) {
        let Some(clock) = closed.first().map(|first| first.clock) else { return };
        let place = &self.place;
        for (port, (aggregate, outlets)) in self.aggregates.iter().zip(&mut self.outlets).enumerate() {
            let made = outlets.of(series, io.registry, |def| {
                let (device, point) = place.fill(def, aggregate.as_str())?;
                let counts = matches!(aggregate, Aggregate::Count | Aggregate::Bad);
                let unit = if counts { "1".to_owned() } else { def.unit.clone() };
                let kind = if counts { ValueKind::Int } else { ValueKind::Float };
                Ok(SeriesDef::new(device, point, unit).of_kind(kind))
            });
            let results = closed.iter().map(|Closed { start_ns, sums, is_cut, .. }| Sample {
                time_ns: *start_ns,
                value: sums.result(*aggregate, *is_cut, io.boxes),
            });
            let samples: Vec<Sample> = results.collect();
            match made {
                Ok(series) => io.give(0, Column { series, samples, clock }),
                // Only the name of the results can be wrong, so it is the same of all aggregates' lengths.
                Err(reason) if port == 0 => io.letters(series, &samples, &reason),
                Err(_) => {}
            }
        }
    }
}

impl Operator for WindowStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        let Column { series, clock, .. } = column;
        let mut closed = Vec::new();
        for sample in column.samples {
            let taken = self
                .effect(sample, clock, io)
                .and_then(|effect| self.add((series, clock), sample, effect, io.now, &mut closed));
            if let Err(reason) = taken {
                io.letter(series, sample, reason);
            }
        }
        if let Some(open) = self.states.of(series, Open::default) {
            open.heard_ns = Some(io.now.mono_ns);
        }
        self.close(series, &closed, io);
    }

    fn tick(&mut self, io: &mut Io<'_>) {
        let (shape, now) = (self.shape, io.now);
        if shape.idle == 0 {
            return;
        }
        let mut closed = Vec::new();
        for (series, open) in self.states.iter_mut() {
            let heard_ns = *open.heard_ns.get_or_insert(now.mono_ns);
            let silent_ns = now.mono_ns.saturating_sub(heard_ns);
            if open.windows.is_empty() || silent_ns < shape.idle {
                continue;
            }
            let mut of = Vec::new();
            open.go_idle(now, silent_ns, shape, &mut of);
            if !of.is_empty() {
                closed.push((series, of));
            }
        }
        for (series, of) in closed {
            self.open = self.open.saturating_sub(of.len());
            self.close(series, &of, io);
        }
    }

    fn begin_boot(&mut self) {
        self.states.iter_mut().for_each(|(_, open)| open.heard_ns = None);
    }

    fn held(&self) -> (usize, usize) {
        (self.states.held(), self.open)
    }

    fn keeps(&self) -> bool {
        true
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
