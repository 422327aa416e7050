//! The work of each kind of stage, from its definition.

use std::collections::BTreeMap;

use tideline_protocol::model::{DeviceId, PointId, UNIT_BYTES_MAX};
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::units::{self, Conversion};
use tideline_protocol::value::ValueKind;

use super::{Checker, name};
use crate::definition::{Branch, Computed, Deadband, Derive, ELSE, Kind, Output, Range, Unit, Window};
use crate::expression::Expression;
use crate::limits::{INPUTS_MAX, LENGTH_MS_MAX, OVERLAP_MAX, PORTS_MAX};
use crate::series::{Outlets, States};
use crate::stage::Operator;
use crate::stage::branch::{BranchStage, DiscardStage, FilterStage};
use crate::stage::compute::{ComputeStage, NAMES};
use crate::stage::deadband::DeadbandStage;
use crate::stage::derive::{DeriveStage, Input};
use crate::stage::linear::{Function, LinearStage};
use crate::stage::output::OutputStage;
use crate::stage::range::RangeStage;
use crate::stage::rate_limit::RateLimitStage;
use crate::stage::window::{Shape, WindowStage};
use crate::stage::write::WriteStage;
use crate::template::Place;

mod rules;

/// Longest name of a stream in bytes.
const STREAM_BYTES_MAX: usize = 64;

/// What does the work of a stage; none when something is wrong with it, which is then told.
pub(super) fn build(checker: &mut Checker<'_>, at: usize, kind: &Kind) -> Option<Box<dyn Operator>> {
    let mut keys = Keys { checker, at };
    Some(match kind {
        Kind::Range(range) => Box::new(keys.range(range)?),
        Kind::Deadband(deadband) => Box::new(keys.deadband(deadband)?),
        Kind::Scale(scale) => {
            let conversion = Conversion { factor: scale.factor, offset: scale.offset };
            if !(scale.factor.is_finite() && scale.offset.is_finite()) {
                keys.problem("factor", "and offset must be finite numbers");
                return None;
            }
            if let Some(unit) = &scale.unit {
                keys.unit_text("unit", unit)?;
            }
            Box::new(LinearStage::new(Function::Fixed(conversion, scale.unit.clone())))
        }
        Kind::Unit(unit) => Box::new(keys.unit(unit)?),
        Kind::Expression(computed) => Box::new(keys.computed(computed)?),
        Kind::Filter(filter) => Box::new(FilterStage { when: keys.condition("when", &filter.when)? }),
        Kind::Branch(branch) => Box::new(keys.branch(branch)?),
        Kind::Window(window) => Box::new(keys.window(window)?),
        Kind::Derive(derive) => Box::new(keys.derive(derive)?),
        Kind::Rule(rule) => Box::new(keys.rule(rule)?),
        Kind::RateLimit(limit) => {
            if limit.readings == 0 {
                keys.problem("readings", "is 0; a stage of kind \"discard\" lets nothing pass");
            }
            let per_ns = keys.ms("per_ms", limit.per_ms, 1)?;
            (limit.readings > 0).then(|| {
                Box::new(RateLimitStage { readings: limit.readings, per_ns, states: States::default() })
            })?
        }
        Kind::Write(write) => Box::new(WriteStage { place: keys.place(&write.device, &write.point, false)? }),
        Kind::Output(output) => Box::new(keys.output(output)?),
        Kind::Discard {} => Box::new(DiscardStage),
    })
}

/// The keys of a stage that is being checked.
struct Keys<'c, 'd> {
    checker: &'c mut Checker<'d>,
    at: usize,
}

impl Keys<'_, '_> {
    fn problem(&mut self, key: &str, what: impl Into<String>) {
        self.checker.problem(Some(self.at), key, what);
    }

    fn told<T>(&mut self, key: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.problem(key, what)).ok()
    }

    /// The ns of so many ms.
    fn ms(&mut self, key: &str, given: u64, min: u64) -> Option<i64> {
        if !(min..=LENGTH_MS_MAX).contains(&given) {
            self.problem(key, format!("is {given}; allowed are {min} to {LENGTH_MS_MAX}"));
            return None;
        }
        i64::try_from(given).ok().map(|ms| ms.saturating_mul(NS_PER_MS))
    }

    fn expression(&mut self, key: &str, text: &str, names: &[&str], truth: bool) -> Option<Expression> {
        let parsed = Expression::parse(text, names);
        let tried = parsed.and_then(|expression| expression.try_out(truth).map(|()| expression));
        self.told(key, tried)
    }

    /// Nothing for a type that it can never give.
    fn of_kind(&mut self, expression: Expression, kind: ValueKind, of_reading: bool) -> Option<Expression> {
        let checked = expression.check_kind(kind, of_reading).map(|()| expression);
        self.told("value", checked)
    }

    /// An expression that says yes or no of a reading.
    fn condition(&mut self, key: &str, text: &str) -> Option<Expression> {
        self.expression(key, text, &NAMES, true)
    }

    fn place(&mut self, device: &str, point: &str, aggregates: bool) -> Option<Place> {
        let place = Place::parse(device, point, aggregates);
        place.map_err(|(key, what)| self.problem(key, what)).ok()
    }

    /// A unit that is no more than shown.
    fn unit_text(&mut self, key: &str, unit: &str) -> Option<()> {
        if unit.len() > UNIT_BYTES_MAX {
            self.problem(key, format!("has {} bytes; allowed are {UNIT_BYTES_MAX}", unit.len()));
            return None;
        }
        Some(())
    }

    fn range(&mut self, range: &Range) -> Option<RangeStage> {
        let (min, max) = (range.min.unwrap_or(f64::NEG_INFINITY), range.max.unwrap_or(f64::INFINITY));
        if range.min.is_none() && range.max.is_none() {
            self.problem("min", "and max are both missing; needed is one of them");
        } else if min.is_nan() || max.is_nan() || min > max {
            self.problem("min", format!("is {min}, above max {max}"));
        } else {
            return Some(RangeStage { min, max, otherwise: range.otherwise });
        }
        None
    }

    fn deadband(&mut self, deadband: &Deadband) -> Option<DeadbandStage> {
        let (absolute, percent) = (deadband.absolute, deadband.percent);
        let silence_ns = self.ms("silence_max_ms", deadband.silence_max_ms, 0);
        if absolute.is_none() && percent.is_none() {
            self.problem("absolute", "and percent are both missing; needed is one of them");
            return None;
        }
        for (key, given) in [("absolute", absolute), ("percent", percent)] {
            if let Some(given) = given
                && !(given.is_finite() && given >= 0.0)
            {
                self.problem(key, format!("is {given}; allowed are numbers of 0 or more"));
                return None;
            }
        }
        Some(DeadbandStage {
            absolute: absolute.unwrap_or_default(),
            share: percent.unwrap_or_default() / 100.0,
            silence_ns: silence_ns?,
            states: States::default(),
        })
    }

    fn unit(&mut self, unit: &Unit) -> Option<LinearStage> {
        self.unit_text("to", &unit.to)?;
        let Some(from) = &unit.from else {
            self.told("to", units::check(&unit.to))?;
            return Some(LinearStage::new(Function::ToUnit(unit.to.clone())));
        };
        let conversion = self.told("to", Conversion::between(from, &unit.to))?;
        Some(LinearStage::new(Function::Fixed(conversion, Some(unit.to.clone()))))
    }

    fn computed(&mut self, computed: &Computed) -> Option<ComputeStage> {
        let expression = self.expression("value", &computed.value, &NAMES, false)?;
        let expression = self.of_kind(expression, computed.kind, true)?;
        let unit = computed.unit.clone();
        self.unit_text("unit", unit.as_deref().unwrap_or_default())?;
        Some(ComputeStage { expression, unit, kind: computed.kind, outlets: Outlets::default() })
    }

    fn branch(&mut self, branch: &Branch) -> Option<BranchStage> {
        let mut cases = Vec::new();
        if branch.cases.is_empty() || branch.cases.len() > PORTS_MAX {
            self.problem("case", format!("has {} ports; allowed are 1 to {PORTS_MAX}", branch.cases.len()));
        }
        for (at, case) in branch.cases.iter().enumerate() {
            if let Err(what) = name(&case.port) {
                self.problem("case", format!("port {what}"));
            } else if case.port == ELSE {
                self.problem(
                    "case",
                    format!("port is {ELSE:?}, which is there for what no other port takes"),
                );
            } else if branch.cases.iter().take(at).any(|other| other.port == case.port) {
                self.problem("case", format!("port {:?} is there twice", case.port));
            }
            cases.push(self.condition("case", &case.when));
        }
        Some(BranchStage { cases: cases.into_iter().collect::<Option<_>>()? })
    }

    fn window(&mut self, window: &Window) -> Option<WindowStage> {
        let hop_ms = window.hop_ms.unwrap_or(window.length_ms);
        let (length, hop) = (self.ms("length_ms", window.length_ms, 1), self.ms("hop_ms", hop_ms, 1));
        let (wait, idle) = (self.ms("wait_ms", window.wait_ms, 0), self.ms("idle_ms", window.idle_ms, 0));
        let ahead_max = self.ms("ahead_max_ms", window.ahead_max_ms, 0);
        let times = window.length_ms.checked_div(hop_ms).unwrap_or_default();
        if hop_ms > 0 && (!window.length_ms.is_multiple_of(hop_ms) || !(1..=OVERLAP_MAX).contains(&times)) {
            let what =
                format!("is {hop_ms}; length_ms {} must be 1 to {OVERLAP_MAX} times that", window.length_ms);
            self.problem("hop_ms", what);
            return None;
        }
        let place = self.place("{device}", &window.point, true)?;
        let aggregates = &window.aggregates;
        if aggregates.is_empty() {
            self.problem("aggregates", "is empty; allowed are one or more");
        }
        let twice = aggregates
            .iter()
            .enumerate()
            .find(|(at, of)| aggregates.iter().take(*at).any(|other| other == *of));
        if let Some((_, twice)) = twice {
            self.problem("aggregates", format!("names {} twice", twice.as_str()));
        }
        if aggregates.len() > 1 && !place.tells_aggregates_apart() {
            self.problem("point", "must have {aggregate}, as there are several");
        }
        Some(WindowStage {
            shape: Shape { length: length?, hop: hop?, wait: wait?, idle: idle?, ahead_max: ahead_max? },
            aggregates: aggregates.clone(),
            place,
            outlets: aggregates.iter().map(|_| Outlets::default()).collect(),
            states: States::default(),
            open: 0,
        })
    }

    fn derive(&mut self, derive: &Derive) -> Option<DeriveStage> {
        if derive.inputs.is_empty() || derive.inputs.len() > INPUTS_MAX {
            self.problem(
                "inputs",
                format!("has {} inputs; allowed are 1 to {INPUTS_MAX}", derive.inputs.len()),
            );
            return None;
        }
        let mut inputs = Vec::new();
        for (name, text) in &derive.inputs {
            let is_identifier = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !is_identifier || name == "math" {
                let allowed = "letters, digits and '_', beginning with a letter";
                self.problem("inputs", format!("has the name {name:?}; allowed are {allowed}"));
            }
            let input = input(text, derive.per_device);
            inputs.push(self.told("inputs", input.map_err(|what| format!("{name}: {what}"))));
        }
        let names: Vec<&str> = derive.inputs.keys().map(String::as_str).collect();
        let expression = self.expression("value", &derive.value, &names, false);
        let expression = expression.and_then(|expression| self.of_kind(expression, derive.kind, false));
        let device = match (&derive.device, derive.per_device) {
            (Some(text), _) => {
                self.told("device", DeviceId::parse(text).map_err(|error| error.to_string())).map(Some)
            }
            (None, true) => Some(None),
            (None, false) => {
                self.problem("device", "is needed, but with per_device = true");
                None
            }
        };
        if derive.per_device && derive.device.is_some() {
            self.problem("device", "is given with per_device = true, where each device has the point");
            return None;
        }
        let point = self.told("point", PointId::parse(&derive.point).map_err(|error| error.to_string()));
        let age_max_ns = self.ms("age_max_ms", derive.age_max_ms, 0);
        self.unit_text("unit", &derive.unit)?;
        Some(DeriveStage {
            inputs: inputs.into_iter().collect::<Option<_>>()?,
            per_device: derive.per_device,
            expression: expression?,
            device: device?,
            point: point?,
            unit: derive.unit.clone(),
            kind: derive.kind,
            age_max_ns: age_max_ns?,
            roles: Vec::new(),
            groups: BTreeMap::new(),
            pending: Vec::new(),
        })
    }

    fn output(&mut self, output: &Output) -> Option<OutputStage> {
        let stream = output.stream.as_deref().unwrap_or("default");
        if stream.is_empty() || stream.len() > STREAM_BYTES_MAX {
            self.problem(
                "stream",
                format!("has {} bytes; allowed are 1 to {STREAM_BYTES_MAX}", stream.len()),
            );
        }
        let place = self.place(&output.device, &output.point, false)?;
        Some(OutputStage { place, outlets: Outlets::default() })
    }
}

/// An input of a derived point.
fn input(text: &str, per_device: bool) -> Result<Input, String> {
    let point = |text: &str| PointId::parse(text).map_err(|error| error.to_string());
    if per_device {
        return Ok(Input { device: None, point: point(text)? });
    }
    let (device, rest) = text.split_once('/').ok_or_else(|| format!("{text:?} is no device/point"))?;
    let device = DeviceId::parse(device).map_err(|error| error.to_string())?;
    Ok(Input { device: Some(device), point: point(rest)? })
}
