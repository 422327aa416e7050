//! Rules from their definitions.

use std::sync::Arc;

use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::value::Value;

use super::Keys;
use crate::definition::{Condition, Rule, Scalar, Season, Writing};
use crate::limits::{LOOK_BACK_MAX, MESSAGE_BYTES_MAX, PATTERNS_MAX};
use crate::pattern::Pattern;
use crate::series::States;
use crate::stage::rule::{Action, Judge, Learning, RuleStage};

/// Furthest from UTC that a place is, in minutes.
const OFFSET_MIN_MAX: i64 = 14 * 60;

impl Keys<'_, '_> {
    pub(super) fn rule(&mut self, rule: &Rule) -> Option<RuleStage> {
        let judge = self.judge(&rule.condition);
        let is_absence = rule.condition == Condition::Absence {};
        let for_ns = self.ms("for_ms", rule.for_ms, u64::from(is_absence));
        let clear_for_ns = self.ms("clear_for_ms", rule.clear_for_ms, 0);
        if rule.message.len() > MESSAGE_BYTES_MAX {
            let what = format!("has {} bytes; allowed are {MESSAGE_BYTES_MAX}", rule.message.len());
            self.problem("message", what);
        }
        let write = match &rule.write {
            None => Some(None),
            Some(writing) => self.writing(writing).map(Some),
        };
        let of = self.patterns(&rule.of);
        Some(RuleStage {
            judge: judge?,
            of: of?,
            for_ns: for_ns?,
            clear_for_ns: clear_for_ns?,
            severity: rule.severity,
            message: Arc::from(rule.message.as_str()),
            write: write?,
            states: States::default(),
        })
    }

    fn writing(&mut self, writing: &Writing) -> Option<Action> {
        let place = self.place(&writing.device, &writing.point, false)?;
        let cleared = writing.cleared.as_ref().map(Value::from);
        Some(Action { place, fired: Value::from(&writing.fired), cleared })
    }

    fn judge(&mut self, condition: &Condition) -> Option<Judge> {
        Some(match condition {
            Condition::Above { limit, clear } => {
                let (limit, clear) = self.limits(*limit, *clear, false)?;
                Judge::Above(limit, clear)
            }
            Condition::Below { limit, clear } => {
                let (limit, clear) = self.limits(*limit, *clear, true)?;
                Judge::Below(limit, clear)
            }
            Condition::Rate { limit, clear, direction } => {
                let (limit, clear) = self.limits(*limit, *clear, false)?;
                Judge::Rate(limit, clear, *direction)
            }
            Condition::Expression { when, clear_when } => {
                let when = self.condition("when", when);
                let clear = match clear_when {
                    None => Some(None),
                    Some(text) => self.condition("clear_when", text).map(Some),
                };
                Judge::Expression(when?, clear?)
            }
            Condition::Absence {} => Judge::Absence,
            Condition::Equals { value } => Judge::Equals(self.wanted(value)?),
            Condition::ZScore { .. } => self.z_score(condition)?,
        })
    }

    fn patterns(&mut self, texts: &[String]) -> Option<Vec<Pattern>> {
        if texts.len() > PATTERNS_MAX {
            self.problem("of", format!("has {} patterns; allowed are {PATTERNS_MAX}", texts.len()));
            return None;
        }
        let parsed = texts.iter().map(|text| match Pattern::parse(text) {
            Ok(pattern) => Some(pattern),
            Err(what) => {
                self.problem("of", what);
                None
            }
        });
        let parsed: Vec<Option<Pattern>> = parsed.collect();
        parsed.into_iter().collect()
    }

    /// A value that readings are held against.
    fn wanted(&mut self, value: &Scalar) -> Option<Value> {
        if matches!(value, Scalar::Float(number) if number.is_nan()) {
            self.problem("value", "is no number, which nothing equals; allowed are values".to_owned());
            return None;
        }
        Some(Value::from(value))
    }

    /// A limit and where the rule ends to hold.
    fn limits(&mut self, limit: f64, clear: Option<f64>, below: bool) -> Option<(f64, f64)> {
        let clear = clear.unwrap_or(limit);
        let is_right = if below { clear >= limit } else { clear <= limit };
        if !limit.is_finite() || !clear.is_finite() || !is_right {
            let side = if below { "at or above" } else { "at or below" };
            self.problem("clear", format!("is {clear}; allowed is {side} the limit, {limit}"));
            return None;
        }
        Some((limit, clear))
    }

    fn z_score(&mut self, condition: &Condition) -> Option<Judge> {
        let Condition::ZScore { limit, clear, readings, warm_up, deviation_min, season, utc_offset_min } =
            condition
        else {
            return None;
        };
        let limits = self.limits(*limit, *clear, false);
        if *limit <= 0.0 {
            self.problem("limit", format!("is {limit}; allowed are numbers above 0"));
        }
        if !(2..=LOOK_BACK_MAX).contains(readings) {
            self.problem("readings", format!("is {readings}; allowed are 2 to {LOOK_BACK_MAX}"));
        }
        if !(2..=*readings).contains(warm_up) {
            self.problem("warm_up", format!("is {warm_up}; allowed are 2 to readings, {readings}"));
        }
        if !(deviation_min.is_finite() && *deviation_min >= 0.0) {
            self.problem("deviation_min", format!("is {deviation_min}; allowed are numbers of 0 or more"));
        }
        if utc_offset_min.abs() > OFFSET_MIN_MAX {
            let what = format!("is {utc_offset_min}; allowed are -{OFFSET_MIN_MAX} to {OFFSET_MIN_MAX}");
            self.problem("utc_offset_min", what);
        }
        let offset_ns = utc_offset_min.saturating_mul(60_000 * NS_PER_MS);
        let (limit, clear) = limits?;
        let learning = Learning {
            readings: *readings,
            warm_up: *warm_up,
            deviation_min: *deviation_min,
            limit,
            season: (*season == Season::HourOfDay).then_some(offset_ns),
        };
        Some(Judge::ZScore(limit, clear, learning))
    }
}
