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
//! - How long something held is told by the readings' own times, or by the clock where no further reading comes: a value
//!   holds until the next one. An absence is told by the clock alone.

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
use crate::definition::Severity;
use crate::outcome::Change;
use crate::series::{Column, SeriesNo, States, shown};
use crate::state::StateError;
use crate::template::Place;

/// A rule.
pub(crate) struct RuleStage {
    pub judge: Judge,
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
    /// When the last good reading came, by the clock; after a restart when it was first asked.
    #[cbor(skip)]
    heard_ns: Option<i64>,
}

impl Of {
    const fn new() -> Self {
        let memory = Memory::new();
        Self { phase: Phase::Clear, last_ns: i64::MIN, last: None, memory, heard_ns: None }
    }
}

/// A change of a rule that is to be told.
struct Turned {
    series: SeriesNo,
    turn: Turn,
    value: Value,
}

impl RuleStage {
    fn tell(&self, turned: Turned, io: &mut Io<'_>) {
        let Turned { series, turn: Turn { change, time_ns }, value } = turned;
        let told = Told { series, time_ns, value, severity: self.severity, message: &self.message };
        io.event(change, told);
        let Some(action) = &self.write else { return };
        let value = match change {
            Change::Fired => Some(&action.fired),
            Change::Cleared => action.cleared.as_ref(),
        };
        if let Some(value) = value
            && let Err(reason) = io.action(&action.place, series, time_ns, value.clone())
        {
            io.letter(series, Sample { time_ns, value: f64::NAN }, &reason);
        }
    }

    /// Judges the readings of a series.
    fn judge(&mut self, column: &Column, io: &mut Io<'_>) -> Option<Vec<Turned>> {
        let series = column.series;
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
            of.heard_ns = Some(io.now_ns);
            // One that comes late is a sign of life all the same.
            if sample.time_ns < of.last_ns && !is_absence {
                continue;
            }
            let has_fired = of.phase.has_fired();
            let holds = match self.judge.holds(has_fired, *sample, io.boxes, &mut of.memory, &mut expressions)
            {
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
            let turn = of.phase.judge(holds, sample.time_ns, io.now_ns, (self.for_ns, self.clear_for_ns));
            let value = || shown(io.boxes, sample.value, kind).0;
            turned.extend(turn.map(|turn| Turned { series, turn, value: value() }));
        }
        dead.into_iter().for_each(|(sample, reason)| io.letter(series, sample, reason));
        Some(turned)
    }
}

impl Operator for RuleStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        match self.judge(&column, io) {
            Some(turned) => turned.into_iter().for_each(|turned| self.tell(turned, io)),
            None => io.letters(column.series, &column.samples, NO_ROOM),
        }
        io.give(0, column);
    }

    fn tick(&mut self, io: &mut Io<'_>) {
        let (now_ns, for_ns) = (io.now_ns, self.for_ns);
        let is_absence = matches!(self.judge, Judge::Absence);
        let mut turned = Vec::new();
        for (series, of) in self.states.iter_mut() {
            let heard_ns = *of.heard_ns.get_or_insert(now_ns);
            let turn = if is_absence {
                let is_silent = now_ns.saturating_sub(heard_ns) >= for_ns;
                is_silent.then(|| of.phase.fire(heard_ns.saturating_add(for_ns))).flatten()
            } else {
                of.phase.pass(now_ns, (for_ns, self.clear_for_ns))
            };
            let value = of.last.map_or(Value::Null, Value::Float);
            turned.extend(turn.map(|turn| Turned { series, turn, value }));
        }
        turned.into_iter().for_each(|turned| self.tell(turned, io));
    }

    fn held(&self) -> (usize, usize) {
        (self.states.held(), 0)
    }

    fn save(&self) -> Vec<u8> {
        self.states.write()
    }

    fn restore(&mut self, bytes: &[u8], numbers: &[SeriesNo]) -> Result<(), StateError> {
        self.states = States::read(bytes, numbers).map_err(StateError::Damaged)?;
        Ok(())
    }
}
