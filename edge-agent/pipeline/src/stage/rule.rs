//! Rules: readings are judged over time, and who is told when a rule fires and when it clears.
//!
//! ```text
//!            holds                    held for `for_ms`
//!   clear ─────────▶ about to fire ─────────────────────▶ fired ──┐
//!     ▲  ◀─────────                                         ▲     │ ends to hold
//!     │    ends to hold                              holds  │     ▼
//!     └──────────────────────────────────────────────── about to clear
//!              ended for `clear_for_ms`
//! ```
//! - All readings go on, whatever is made of them; what could not be judged is a dead letter beside.
//! - Judged are good readings that are not older than the last one of their series. Others neither begin nor end anything.
//! - How long something held is told by the readings' own times, or by monotonic time where no further reading comes: a
//!   value holds until the next one. An absence is told by monotonic time alone.
//! - When the clock was set, the times that are kept move along ([`crate::clock`]). Where nobody knows how far, durations
//!   and rates begin anew; what has fired stays fired.

mod baseline;
mod condition;
mod phase;

use std::sync::Arc;

use minicbor::{Decode, Encode};
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::value::{Quality, Value};

pub(crate) use self::condition::{Judge, Learning, Memory};
use self::phase::{Phase, Turn};
use super::compute::OfSeries;
use super::{Io, NO_ROOM, Operator, Told};
use crate::clock::{Carry, Setting};
use crate::definition::Severity;
use crate::outcome::Change;
use crate::pattern::Pattern;
use crate::series::{Column, SeriesNo, States, shown};
use crate::state::StateError;
use crate::template::Place;

/// A rule.
pub(crate) struct RuleStage {
    pub judge: Judge,
    /// The series that it judges; none for all.
    pub of: Vec<Pattern>,
    pub for_ns: i64,
    pub clear_for_ns: i64,
    pub severity: Severity,
    pub message: Arc<str>,
    pub write: Option<Action>,
    pub states: States<Of>,
}

/// What is written to a point.
pub(crate) struct Action {
    pub place: Place,
    pub fired: Value,
    pub cleared: Option<Value>,
}

/// What a rule knows of a series.
#[derive(Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Of {
    #[n(0)]
    phase: Phase,
    /// The time of the last reading that was judged.
    #[n(1)]
    last_ns: i64,
    /// Its value, if it is a number.
    #[n(2)]
    last: Option<f64>,
    #[n(3)]
    memory: Memory,
    /// When the last good reading came, by monotonic time; after a restart when it was first asked.
    #[cbor(skip)]
    heard_ns: Option<i64>,
    /// The clock that gave the times.
    #[n(4)]
    clock: Option<Setting>,
}

impl Of {
    const fn new() -> Self {
        let memory = Memory::new();
        Self { phase: Phase::Clear, last_ns: i64::MIN, last: None, memory, heard_ns: None, clock: None }
    }

    /// Goes over to the clock of a reading.
    fn carry(&mut self, comes: Option<Setting>, time_ns: i64) {
        if self.clock != comes {
            let carry = Carry::of(self.clock, self.last_ns, comes, time_ns);
            self.apply(carry, time_ns);
            self.clock = comes;
        }
    }

    fn apply(&mut self, carry: Carry, time_ns: i64) {
        self.last_ns = carry.moved(self.last_ns).unwrap_or(i64::MIN);
        self.phase.carry(carry, time_ns);
        self.memory.carry(carry);
    }
}

/// A change of a rule that is to be told.
struct Turned {
    series: SeriesNo,
    clock: Option<Setting>,
    turn: Turn,
    value: Value,
}

impl RuleStage {
    fn tell(&self, turned: Turned, io: &mut Io<'_>) {
        let Turned { series, clock, turn: Turn { change, time_ns }, value } = turned;
        let told = Told { series, time_ns, clock, value, severity: self.severity, message: &self.message };
        io.event(change, told);
        let Some(action) = &self.write else { return };
        let value = match change {
            Change::Fired => Some(&action.fired),
            Change::Cleared => action.cleared.as_ref(),
        };
        if let Some(value) = value
            && let Err(reason) = io.action(&action.place, series, (time_ns, clock), value.clone())
        {
            io.letter(series, Sample { time_ns, value: f64::NAN }, &reason);
        }
    }

    fn is_for(&self, series: SeriesNo, io: &Io<'_>) -> bool {
        let judges = |def: &SeriesDef| self.of.iter().any(|pattern| pattern.takes(def));
        self.of.is_empty() || io.registry.def(series).is_some_and(judges)
    }

    /// Judges the readings of a series.
    fn judge(&mut self, column: &Column, io: &mut Io<'_>) -> Option<Vec<Turned>> {
        let Column { series, clock, .. } = *column;
        let def = io.registry.def(series);
        let kind = def.map(SeriesDef::kind).unwrap_or_default();
        let mut expressions = self.judge.expressions().map(|expression| OfSeries::new(expression, def));
        let mut expressions = [expressions.next(), expressions.next()];
        let of = self.states.of(series, Of::new)?;
        let is_absence = matches!(self.judge, Judge::Absence);
        let mut turned = Vec::new();
        let mut dead = Vec::new();
        for sample in &column.samples {
            let is_plain = !sample.value.is_nan();
            if !is_plain
                && matches!(
                    shown(io.boxes, sample.value, kind),
                    (Value::Null, _) | (_, Quality::Uncertain | Quality::Bad)
                )
            {
                continue;
            }
            // One that comes late, or with a time that cannot be, is a sign of life all the same.
            of.heard_ns = Some(io.now.mono_ns);
            if let Err(reason) = io.timed(sample.time_ns, clock, io.ahead_max_ns) {
                dead.push((*sample, reason));
                continue;
            }
            of.carry(clock, sample.time_ns);
            if sample.time_ns < of.last_ns && !is_absence {
                // A time that cannot be, from before the clock was set, is none to wait for.
                if !io.now.is_ahead(of.last_ns, clock, io.ahead_max_ns) {
                    io.counts.skipped += 1;
                    continue;
                }
                of.apply(Carry::Cut, sample.time_ns);
            }
            let has_fired = of.phase.has_fired();
            let holds = match self.judge.holds(
                has_fired,
                (*sample, kind),
                io.boxes,
                &mut of.memory,
                &mut expressions,
            ) {
                Ok(Some(holds)) => holds,
                // It says nothing either way.
                Ok(None) => {
                    of.last_ns = sample.time_ns;
                    continue;
                }
                Err(reason) => {
                    dead.push((*sample, reason));
                    continue;
                }
            };
            (of.last_ns, of.last) = (sample.time_ns, is_plain.then_some(sample.value));
            let turn =
                of.phase.judge(holds, sample.time_ns, io.now.mono_ns, (self.for_ns, self.clear_for_ns));
            let value = || shown(io.boxes, sample.value, kind).0;
            turned.extend(turn.map(|turn| Turned { series, clock, turn, value: value() }));
        }
        dead.into_iter().for_each(|(sample, reason)| io.letter(series, sample, reason));
        Some(turned)
    }
}

impl Operator for RuleStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        if !self.is_for(column.series, io) {
            return io.give(0, column);
        }
        match self.judge(&column, io) {
            Some(turned) => turned.into_iter().for_each(|turned| self.tell(turned, io)),
            None => io.letters(column.series, &column.samples, NO_ROOM),
        }
        io.give(0, column);
    }

    fn tick(&mut self, io: &mut Io<'_>) {
        let (now, for_ns) = (io.now, self.for_ns);
        let is_absence = matches!(self.judge, Judge::Absence);
        let mut turned = Vec::new();
        for (series, of) in self.states.iter_mut() {
            let heard_ns = *of.heard_ns.get_or_insert(now.mono_ns);
            let mut clock = of.clock;
            let turn = if is_absence {
                // When that was, the clock says as it is set now.
                clock = clock.map(|_| now.setting);
                let is_silent = now.mono_ns.saturating_sub(heard_ns) >= for_ns;
                let since_ns = now.setting.offset_ns.saturating_add(heard_ns);
                is_silent.then(|| of.phase.fire(since_ns.saturating_add(for_ns))).flatten()
            } else {
                of.phase.pass(now.mono_ns, (for_ns, self.clear_for_ns))
            };
            let value = of.last.map_or(Value::Null, Value::Float);
            turned.extend(turn.map(|turn| Turned { series, clock, turn, value }));
        }
        turned.into_iter().for_each(|turned| self.tell(turned, io));
    }

    fn begin_boot(&mut self) {
        for (_, of) in self.states.iter_mut() {
            of.heard_ns = None;
            of.phase.begin_boot();
        }
    }

    fn held(&self) -> (usize, usize) {
        (self.states.held(), 0)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn save(&self) -> Vec<u8> {
        self.states.write()
    }

    fn restore(&mut self, bytes: &[u8], numbers: &[SeriesNo]) -> Result<(), StateError> {
        self.states = States::read(bytes, numbers).map_err(StateError::Damaged)?;
        Ok(())
    }
}
