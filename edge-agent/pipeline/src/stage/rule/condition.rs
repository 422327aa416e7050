//! What rules look for.

use minicbor::{Decode, Encode};
use tideline_protocol::model::Sample;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};

pub(crate) use super::baseline::Learning;
use super::baseline::{Baseline, HOURS};
use crate::clock::Carry;
use crate::definition::Direction;
use crate::expression::Expression;
use crate::series::{Content, content, shown};
use crate::stage::NO_TEXT;
use crate::stage::compute::OfSeries;

const SECOND_NS: f64 = 1e9;

/// What a rule looks for; the first number is the limit, the second where it ends to hold once it has fired.
pub(crate) enum Judge {
    Above(f64, f64),
    Below(f64, f64),
    Equals(Value),
    /// Begins to hold, ends to hold.
    Expression(Expression, Option<Expression>),
    Rate(f64, f64, Direction),
    Absence,
    ZScore(f64, f64, Learning),
}

/// What a judge remembers of a series.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Memory {
    /// The last number and its time in ns.
    #[n(0)]
    before: Option<(i64, f64)>,
    /// One, or one for each hour of the day.
    #[n(1)]
    baselines: Vec<Baseline>,
}

impl Memory {
    pub const fn new() -> Self {
        Self { before: None, baselines: Vec::new() }
    }

    /// Goes over to another clock.
    pub fn carry(&mut self, carry: Carry) {
        self.before = self.before.and_then(|(time_ns, number)| Some((carry.moved(time_ns)?, number)));
    }
}

impl Judge {
    /// The expressions that [`Judge::holds`] needs.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let both = match self {
            Self::Expression(when, clear) => [Some(when), clear.as_ref()],
            _ => [None, None],
        };
        both.into_iter().flatten()
    }

    /// Whether it holds of a reading; none when that cannot be known yet.
    ///
    /// # Errors
    /// It cannot be judged at all.
    pub fn holds(
        &self,
        has_fired: bool,
        (sample, kind): (Sample, ValueKind),
        boxes: &Boxes,
        memory: &mut Memory,
        expressions: &mut [Option<OfSeries<'_>>; 2],
    ) -> Result<Option<bool>, &'static str> {
        match self {
            Self::Expression(..) => {
                let [when, clear] = expressions;
                match (has_fired, when, clear) {
                    (true, _, Some(clear)) => {
                        clear.truth(boxes, sample.time_ns, sample.value).map(|ends| Some(!ends))
                    }
                    (_, Some(when), _) => when.truth(boxes, sample.time_ns, sample.value).map(Some),
                    (_, None, _) => Ok(None),
                }
            }
            Self::Equals(wanted) => Ok(match shown(boxes, sample.value, kind) {
                (value, Quality::Good) if value != Value::Null => Some(is_same(&value, wanted)),
                _ => None,
            }),
            // It is there.
            Self::Absence => Ok(Some(false)),
            _ => {
                let number = match content(boxes, sample.value) {
                    (Content::Number(number), Quality::Good) => number,
                    (Content::Text, _) => return Err(NO_TEXT),
                    _ => return Ok(None),
                };
                Ok(self.holds_of(has_fired, (sample.time_ns, number), memory))
            }
        }
    }

    fn holds_of(&self, has_fired: bool, reading: (i64, f64), memory: &mut Memory) -> Option<bool> {
        let (time_ns, number) = reading;
        let beyond =
            |number: f64, limit: f64, clear: f64| if has_fired { number > clear } else { number > limit };
        match self {
            Self::Above(limit, clear) => Some(beyond(number, *limit, *clear)),
            Self::Below(limit, clear) => Some(beyond(-number, -limit, -clear)),
            Self::Rate(limit, clear, direction) => {
                let before = memory.before;
                // Of two readings of one time nobody can tell a rate.
                if before.is_none_or(|(before_ns, _)| before_ns < time_ns) {
                    memory.before = Some(reading);
                }
                let (before_ns, before) = before.filter(|(before_ns, _)| *before_ns < time_ns)?;
                #[expect(clippy::cast_precision_loss, reason = "a rate is no more exact than that")]
                let rate = (number - before) / (time_ns.saturating_sub(before_ns) as f64 / SECOND_NS);
                let counted = match direction {
                    Direction::Either => rate.abs(),
                    Direction::Rise => rate,
                    Direction::Fall => -rate,
                };
                Some(beyond(counted, *limit, *clear))
            }
            Self::ZScore(limit, clear, learning) => {
                if !number.is_finite() {
                    return None;
                }
                let wanted = if learning.season.is_some() { HOURS } else { 1 };
                memory.baselines.resize(wanted, Baseline::default());
                let baseline = memory.baselines.get_mut(learning.hour(time_ns))?;
                let score = baseline.score(number, learning);
                baseline.learn(number, learning);
                score.map(|score| beyond(score, *limit, *clear))
            }
            Self::Expression(..) | Self::Absence | Self::Equals(_) => None,
        }
    }
}

/// Whether a value is the one that is looked for. Of numbers and truth values only what they stand for counts: what a
/// device calls `true` may be 1 in its profile.
fn is_same(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Text(value), Value::Text(wanted)) => value == wanted,
        // As doubles, great integers would be the same as their neighbours.
        (Value::Int(value), Value::Int(wanted)) => value == wanted,
        _ => number(value).is_some_and(|value| number(wanted) == Some(value)),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "comparisons with doubles are those of doubles")]
        Value::Int(integer) => Some(*integer as f64),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::Text(_) | Value::Null => None,
    }
}
