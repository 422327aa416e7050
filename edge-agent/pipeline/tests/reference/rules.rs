//! The reference of rules.

use std::collections::HashMap;

use tideline_pipeline::definition::{Condition, Direction, Rule, Scalar, Season};
use tideline_protocol::value::Value;

use super::model::{Reading, carried, truth};
use tideline_pipeline::{Now, Setting};

const MS: i64 = 1_000_000;

/// What is known of a rule and a series.
#[derive(Default)]
pub struct RuleModel {
    has_fired: bool,
    /// Since when it is otherwise than it was told, by the readings and by monotonic time.
    pub since: Option<(i64, Option<i64>)>,
    last_ns: Option<i64>,
    pub last: Option<f64>,
    pub heard_ns: Option<i64>,
    before: Option<(i64, f64)>,
    pub clock: Option<Setting>,
    /// Count, mean and variance by hour.
    usual: HashMap<i64, (u64, f64, f64)>,
}

impl RuleModel {
    /// Whether a reading makes it fire (true) or clear (false).
    pub fn judge(
        &mut self,
        rule: &Rule,
        reading: &Reading,
        now: Now,
        timed: impl Fn(i64) -> Result<(), &'static str>,
    ) -> Result<Option<bool>, &'static str> {
        if !reading.is_good() || reading.value == Value::Null {
            return Ok(None);
        }
        let now_ns = now.mono_ns;
        self.heard_ns = Some(now_ns);
        timed(reading.time_ns)?;
        self.carry(reading);
        let is_absence = rule.condition == Condition::Absence {};
        if !is_absence && self.last_ns.is_some_and(|last| reading.time_ns < last) {
            if self.last_ns.is_some_and(|last| timed(last).is_ok()) {
                return Ok(None);
            }
            self.cut(reading);
        }
        let holds = self.holds(&rule.condition, reading)?;
        self.last_ns = Some(reading.time_ns);
        let Some(holds) = holds else { return Ok(None) };
        self.last = match reading.value {
            Value::Float(number) => Some(number),
            _ => None,
        };
        if holds == self.has_fired {
            self.since = None;
            return Ok(None);
        }
        let (time_ns, clock_ns) = *self.since.get_or_insert((reading.time_ns, Some(now_ns)));
        let clock_ns = clock_ns.unwrap_or(now_ns);
        self.since = Some((time_ns, Some(clock_ns)));
        let passed = reading.time_ns.saturating_sub(time_ns).max(now_ns - clock_ns);
        Ok((passed >= self.length(rule)).then(|| self.turn()))
    }

    fn carry(&mut self, reading: &Reading) {
        let (clock, newest_ns) = (self.clock, self.last_ns.unwrap_or(i64::MIN));
        if clock == reading.clock {
            return;
        }
        if carried((0, clock), newest_ns, reading).is_none() {
            self.cut(reading);
        } else {
            let moved = |time_ns: i64| carried((time_ns, clock), newest_ns, reading).unwrap();
            self.last_ns = self.last_ns.map(moved);
            self.since = self.since.map(|(time_ns, mono_ns)| (moved(time_ns), mono_ns));
            self.before = self.before.map(|(time_ns, number)| (moved(time_ns), number));
        }
        self.clock = reading.clock;
    }

    fn cut(&mut self, reading: &Reading) {
        (self.last_ns, self.before) = (None, None);
        self.since = self.since.map(|(_, mono_ns)| (reading.time_ns, mono_ns));
    }

    /// Whether passing time makes it fire or clear, and when that was.
    pub fn tick(&mut self, rule: &Rule, now: Now) -> Option<(bool, i64)> {
        let now_ns = now.mono_ns;
        let heard_ns = *self.heard_ns.get_or_insert(now_ns);
        let length = self.length(rule);
        if rule.condition == (Condition::Absence {}) {
            let for_ns = i64::try_from(rule.for_ms).unwrap() * MS;
            if now_ns - heard_ns < for_ns {
                return None;
            }
            let was = std::mem::replace(&mut self.has_fired, true);
            self.since = None;
            return (!was).then_some((true, now.setting.offset_ns + heard_ns + for_ns));
        }
        let (time_ns, clock_ns) = self.since.as_mut()?;
        let (time_ns, clock_ns) = (*time_ns, *clock_ns.get_or_insert(now_ns));
        (now_ns - clock_ns >= length).then(|| (self.turn(), time_ns.saturating_add(length)))
    }

    fn turn(&mut self) -> bool {
        self.since = None;
        self.has_fired = !self.has_fired;
        self.has_fired
    }

    fn length(&self, rule: &Rule) -> i64 {
        let ms = if self.has_fired { rule.clear_for_ms } else { rule.for_ms };
        i64::try_from(ms).unwrap() * MS
    }

    fn holds(&mut self, condition: &Condition, reading: &Reading) -> Result<Option<bool>, &'static str> {
        let number = match (condition, reading.number()) {
            (Condition::Absence {}, _) => return Ok(Some(false)),
            (Condition::Expression { when, clear_when }, _) => {
                let ends = clear_when.as_ref().filter(|_| self.has_fired);
                return match ends {
                    Some(ends) => truth(ends, reading).map(|ends| Some(!ends)),
                    None => truth(when, reading).map(Some),
                };
            }
            (Condition::Equals { value }, number) => {
                return Ok(Some(match (value, &reading.value) {
                    (Scalar::Text(wanted), Value::Text(text)) => **wanted == **text,
                    (Scalar::Text(_), _) | (_, Value::Text(_)) => false,
                    (Scalar::Bool(wanted), _) => number == Some(f64::from(u8::from(*wanted))),
                    (Scalar::Int(wanted), _) => number == Some(*wanted as f64),
                    (Scalar::Float(wanted), _) => number == Some(*wanted),
                }));
            }
            (_, Some(number)) => number,
            (_, None) => return Err("a text is no number"),
        };
        let has_fired = self.has_fired;
        let beyond = |value: f64, limit: f64, clear: Option<f64>| {
            value > if has_fired { clear.unwrap_or(limit) } else { limit }
        };
        Ok(match condition {
            Condition::Above { limit, clear } => Some(beyond(number, *limit, *clear)),
            Condition::Below { limit, clear } => Some(beyond(-number, -limit, clear.map(|clear| -clear))),
            Condition::Rate { limit, clear, direction } => {
                let before = self.before.filter(|(time_ns, _)| *time_ns < reading.time_ns);
                if before.is_some() || self.before.is_none() {
                    self.before = Some((reading.time_ns, number));
                }
                before.map(|(time_ns, value)| {
                    let rate = (number - value) / (reading.time_ns.saturating_sub(time_ns) as f64 / 1e9);
                    let counted = match direction {
                        Direction::Either => rate.abs(),
                        Direction::Rise => rate,
                        Direction::Fall => -rate,
                    };
                    beyond(counted, *limit, *clear)
                })
            }
            Condition::ZScore { limit, clear, readings, warm_up, deviation_min, season, utc_offset_min } => {
                let local = reading.time_ns.saturating_add(utc_offset_min * 60_000 * MS);
                let hour = match season {
                    Season::None => 0,
                    Season::HourOfDay => local.div_euclid(3_600_000 * MS).rem_euclid(24),
                };
                let usual = self.usual.entry(hour).or_default();
                number
                    .is_finite()
                    .then(|| score(usual, number, (*limit, *readings, *warm_up, *deviation_min)))
                    .flatten()
                    .map(|score| beyond(score, *limit, *clear))
            }
            Condition::Expression { .. } | Condition::Equals { .. } | Condition::Absence {} => None,
        })
    }
}

/// How far a number is from what is usual, which it then becomes part of.
fn score(
    (count, mean, variance): &mut (u64, f64, f64),
    number: f64,
    (limit, readings, warm_up, deviation_min): (f64, u64, u64, f64),
) -> Option<f64> {
    let deviation = variance.max(0.0).sqrt().max(deviation_min);
    let score = (*count >= warm_up && deviation > 0.0).then(|| (number - *mean).abs() / deviation);
    let mut away = number - *mean;
    if score.is_some_and(|score| score > limit) {
        away = away.signum() * limit * deviation;
    }
    *count = (*count + 1).min(readings);
    let weight = 1.0 / *count as f64;
    *mean += weight * away;
    *variance = (1.0 - weight) * (*variance + weight * away * away);
    score
}
