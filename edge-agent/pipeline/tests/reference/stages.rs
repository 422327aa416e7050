//! What each kind of stage does with one reading.

use tideline_pipeline::definition::{Branch, Computed, Condition, Kind, Otherwise, Range, RateLimit, Unit};
use tideline_pipeline::{Now, Setting};
use tideline_protocol::model::SeriesDef;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::model::{Last, MS, NO_TEXT, NOT_FINITE, Name, Reading, Stage, carried, evaluate, of_kind, truth};
use super::rules::RuleModel;

const HOUR_NS: i64 = 3_600_000 * MS;
pub const TOO_FAR_AHEAD: &str = "the time is too far ahead of the clock";

impl Stage<'_> {
    pub fn give(&mut self, reading: Reading) {
        self.out.push((String::new(), reading));
    }

    pub fn letter(&mut self, reading: &Reading, reason: &str) {
        let Reading { series, .. } = reading;
        let key = (
            self.definition.name.clone(),
            series.device.to_string(),
            series.point.to_string(),
            reason.to_owned(),
        );
        *self.told.letters.entry(key).or_default() += 1;
    }

    /// Whether a time can be one, `ahead_max_ns` ahead of the clock at most.
    pub fn timed(
        now: Now,
        time_ns: i64,
        clock: Option<Setting>,
        ahead_max_ns: i64,
    ) -> Result<(), &'static str> {
        let wall_ns = now.setting.offset_ns + now.mono_ns;
        let by_its_own = clock.filter(|clock| clock.boot == now.setting.boot);
        let latest = by_its_own.map_or(wall_ns, |clock| wall_ns.max(clock.offset_ns + now.mono_ns));
        match time_ns {
            _ if time_ns.unsigned_abs() > 1 << 62 => Err("the time is outside of 1823 to 2116"),
            _ if now.setting.believed && time_ns > latest + ahead_max_ns => Err(TOO_FAR_AHEAD),
            _ => Ok(()),
        }
    }

    /// As all stages ask but windows, of a time of a reading's clock.
    fn can_be(&self, time_ns: i64, reading: &Reading) -> Result<(), &'static str> {
        Self::timed(self.now, time_ns, reading.clock, HOUR_NS)
    }

    fn name_of(&self, series: &SeriesDef) -> Name {
        (self.definition.name.clone(), series.device.to_string(), series.point.to_string())
    }

    pub fn work(&mut self, readings: Vec<Reading>, ticks: bool) {
        match self.definition.kind.clone() {
            Kind::Derive(derive) => return self.derive(&derive, readings),
            kind => readings.into_iter().for_each(|reading| self.take(&kind, reading)),
        }
        if ticks {
            match self.definition.kind.clone() {
                Kind::Window(window) => self.tick_windows(&window),
                Kind::Rule(_) => self.tick_rules(),
                _ => {}
            }
        }
    }

    fn take(&mut self, kind: &Kind, reading: Reading) {
        match kind {
            Kind::Range(range) => self.range(range, reading),
            Kind::Deadband(_) => self.deadband(reading),
            Kind::Scale(scale) => {
                let series = unit(&reading.series, scale.unit.as_deref());
                self.linear(reading, series, scale.factor, scale.offset);
            }
            Kind::Unit(of) => self.convert(of, reading),
            Kind::Expression(computed) => self.expression(computed, reading),
            Kind::Filter(filter) => match truth(&filter.when, &reading) {
                Ok(true) => self.give(reading),
                Ok(false) => {}
                Err(reason) => self.letter(&reading, reason),
            },
            Kind::Branch(branch) => self.branch(branch, reading),
            Kind::RateLimit(limit) => self.rate_limit(limit, reading),
            Kind::Write(_) => {
                if reading.is_good() && reading.value != Value::Null {
                    let (stage, device, point) = self.name_of(&reading.series);
                    let told = format!("{:?} at {}", as_written(&reading), reading.time_ns);
                    self.told
                        .actions
                        .entry((stage, format!("valve-{device}"), point))
                        .or_default()
                        .push(told);
                }
                self.give(reading);
            }
            Kind::Output(_) => {
                let point = format!("{}/raw", reading.series.point).parse().unwrap();
                let def = &reading.series;
                let series = SeriesDef::new(def.device.clone(), point, def.unit.clone()).of_kind(def.kind());
                self.give(Reading { series, ..reading });
            }
            Kind::Window(window) => self.window(window, &reading),
            Kind::Rule(_) => self.rule(reading),
            Kind::Discard {} | Kind::Derive(_) => {}
        }
    }

    fn range(&mut self, range: &Range, reading: Reading) {
        let outside = |number: f64| {
            range.min.is_some_and(|min| number < min) || range.max.is_some_and(|max| number > max)
        };
        match reading.number() {
            _ if reading.is_good_text() => self.letter(&reading, NO_TEXT),
            Some(number) if reading.is_good() && outside(number) => match range.otherwise {
                Otherwise::Drop => {}
                Otherwise::Bad => self.give(reading.with(Value::Float(number), Quality::Bad)),
                Otherwise::Clamp => {
                    let below = range.min.filter(|min| number < *min);
                    let nearest = below.or(range.max).unwrap();
                    self.give(reading.with(Value::Float(nearest), Quality::Uncertain));
                }
            },
            _ => self.give(reading),
        }
    }

    fn convert(&mut self, of: &Unit, reading: Reading) {
        let from = of.from.clone().unwrap_or_else(|| reading.series.unit.clone());
        let series = unit(&reading.series, Some(&of.to));
        match (from.as_str(), of.to.as_str()) {
            ("Cel", "K") => self.linear(reading, series, 1.0, 273.15),
            ("K", "K") => self.linear(reading, series, 1.0, 0.0),
            ("bar", "kPa") => self.linear(reading, series, 100.0, 0.0),
            ("", to) => {
                let what =
                    format!("the unit of the series is unknown, and cannot become {to:?}; give `from`");
                self.letter(&reading, &what);
            }
            (from, to) => {
                self.letter(&reading, &format!("{from:?} and {to:?} measure different things"));
            }
        }
    }

    fn expression(&mut self, computed: &Computed, reading: Reading) {
        let made = reading.series.clone().of_kind(computed.kind);
        let value = evaluate(&computed.value, &reading).and_then(|value| of_kind(value, computed.kind));
        match value {
            _ if !reading.is_good() => {
                self.give(Reading { series: made, ..reading.with(Value::Null, reading.quality) });
            }
            Ok(value) => self.give(Reading { series: made, ..reading.with(value, Quality::Good) }),
            Err(reason) => self.letter(&reading, reason),
        }
    }

    fn branch(&mut self, branch: &Branch, reading: Reading) {
        for case in &branch.cases {
            match truth(&case.when, &reading) {
                Ok(true) => return self.out.push((case.port.clone(), reading)),
                Ok(false) => {}
                Err(reason) => return self.letter(&reading, reason),
            }
        }
        self.out.push(("else".to_owned(), reading));
    }

    fn rate_limit(&mut self, limit: &RateLimit, reading: Reading) {
        if let Err(reason) = self.can_be(reading.time_ns, &reading) {
            return self.letter(&reading, reason);
        }
        let per_ns = i64::try_from(limit.per_ms).unwrap() * MS;
        let number = reading.time_ns.div_euclid(per_ns);
        let key = (self.at, reading.series.clone());
        let mut span = self.memory.spans.get(&key).copied().unwrap_or((i64::MIN, 0, None));
        let begin_ns = span.0.saturating_mul(per_ns);
        let moved = carried((begin_ns, span.2), begin_ns, &reading);
        if span.2 != reading.clock && moved != Some(begin_ns) {
            span = (i64::MIN, 0, None);
        }
        span.2 = reading.clock;
        let is_none = self.can_be(span.0.saturating_mul(per_ns), &reading).is_err() && span.0 > number;
        if number > span.0 || is_none {
            span = (number, 0, span.2);
        }
        let passes = span.1 < limit.readings;
        span.1 += u64::from(passes);
        self.memory.spans.insert(key, span);
        if passes {
            self.give(reading);
        }
    }

    fn linear(&mut self, reading: Reading, series: SeriesDef, factor: f64, offset: f64) {
        let value = match reading.number() {
            Some(number) => number.mul_add(factor, offset),
            None if reading.is_good_text() => return self.letter(&reading, NO_TEXT),
            None => return self.give(Reading { series, ..reading }),
        };
        if value.is_finite() {
            self.give(Reading { series, ..reading.with(Value::Float(value), reading.quality) });
        } else {
            self.letter(&reading, NOT_FINITE);
        }
    }

    fn deadband(&mut self, reading: Reading) {
        let Kind::Deadband(deadband) = self.definition.kind.clone() else { return };
        let number = match reading.value {
            Value::Float(number) if reading.is_good() => Some(number),
            _ => None,
        };
        let text =
            if number.is_some() { String::new() } else { format!("{:?} {}", reading.value, reading.quality) };
        let silence_ns = i64::try_from(deadband.silence_max_ms).unwrap() * MS;
        let key = (self.at, reading.series.clone());
        let mut last = self.memory.deadbands.get(&key).cloned();
        let mut was_silent = false;
        if silence_ns > 0 {
            if let Err(reason) = self.can_be(reading.time_ns, &reading) {
                return self.letter(&reading, reason);
            }
            if let Some(last) = &mut last {
                let moved = if last.clock == reading.clock {
                    Some(last.time_ns)
                } else {
                    carried((last.time_ns, last.clock), last.time_ns, &reading)
                };
                (last.time_ns, last.clock) = (moved.unwrap_or(i64::MIN), reading.clock);
                was_silent = reading.time_ns.saturating_sub(last.time_ns) >= silence_ns
                    || (reading.time_ns < last.time_ns && self.can_be(last.time_ns, &reading).is_err());
                self.memory.deadbands.insert(key.clone(), last.clone());
            }
        }
        let passes = match last {
            None => true,
            Some(_) if was_silent => true,
            Some(Last { number: Some(last), .. }) if number.is_some() => {
                let share = deadband.percent.unwrap_or_default() / 100.0 * last.abs();
                let band = deadband.absolute.unwrap_or_default().max(share);
                let away = (number.unwrap() - last).abs();
                if self.is_canary { away >= band && away > 0.0 } else { away > band || away.is_nan() }
            }
            Some(Last { number: None, text: known, .. }) if number.is_none() => known != text,
            Some(_) => true,
        };
        if passes {
            let Reading { time_ns, clock, .. } = reading;
            self.memory.deadbands.insert(key, Last { text, number, time_ns, clock });
            self.give(reading);
        }
    }

    fn rule(&mut self, reading: Reading) {
        let Kind::Rule(rule) = &self.definition.kind else { return };
        // The patterns of the histories are this simple.
        let (device, point) = (reading.series.device.as_str(), reading.series.point.as_str());
        let fits = |(of_device, of_point): (&str, &str)| {
            (of_device == "*" || of_device == device) && (of_point == "*" || of_point == point)
        };
        if !rule.of.is_empty() && !rule.of.iter().filter_map(|of| of.split_once('/')).any(fits) {
            return self.give(reading);
        }
        let key = (self.at, format!("{:?}", reading.series));
        let new = || (reading.series.clone(), RuleModel::default());
        let (_, model) = self.memory.rules.entry(key).or_insert_with(new);
        let now = self.now;
        let timed = |time_ns| Self::timed(now, time_ns, reading.clock, HOUR_NS);
        match model.judge(rule, &reading, now, timed) {
            Ok(turn) => {
                if let Some(fired) = turn {
                    let value = format!("{:?} by {:?}", as_written(&reading), reading.clock);
                    self.turned(&reading.series, fired, reading.time_ns, value);
                }
            }
            Err(reason) => self.letter(&reading, reason),
        }
        self.give(reading);
    }

    fn tick_rules(&mut self) {
        let Kind::Rule(rule) = self.definition.kind.clone() else { return };
        let now = self.now;
        let at = self.at;
        let all = self.memory.rules.iter_mut().filter(|((of, _), _)| *of == at);
        let turned: Vec<_> = all
            .filter_map(|(_, (series, model))| {
                let value = model.last.map_or(Value::Null, Value::Float);
                let (fired, time_ns) = model.tick(&rule, now)?;
                let is_absence = rule.condition == Condition::Absence {};
                let clock = model.clock.map(|clock| if is_absence { now.setting } else { clock });
                Some((series.clone(), fired, time_ns, format!("{value:?} by {clock:?}")))
            })
            .collect();
        turned
            .into_iter()
            .for_each(|(series, fired, time_ns, value)| self.turned(&series, fired, time_ns, value));
    }

    fn turned(&mut self, series: &SeriesDef, fired: bool, time_ns: i64, value: String) {
        let Kind::Rule(rule) = self.definition.kind.clone() else { return };
        let name = self.name_of(series);
        let change = if fired { "fired" } else { "cleared" };
        self.told.events.entry(name.clone()).or_default().push(format!("{change} at {time_ns}: {value}"));
        let written = rule.write.and_then(|write| if fired { Some(write.fired) } else { write.cleared });
        if let Some(written) = written {
            let told = format!("{:?} at {time_ns}", Value::from(&written));
            self.told.actions.entry((name.0, name.1, "out".to_owned())).or_default().push(told);
        }
    }
}

/// A value as events and actions show it.
fn as_written(reading: &Reading) -> Value {
    match (reading.series.kind(), &reading.value) {
        (ValueKind::Int, Value::Float(number)) if number.trunc() == *number && number.abs() <= 9e15 => {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole")]
            let integer = *number as i64;
            Value::Int(integer)
        }
        _ => reading.seen(),
    }
}

fn unit(series: &SeriesDef, unit: Option<&str>) -> SeriesDef {
    let mut made = series.clone().of_kind(ValueKind::Float);
    unit.into_iter().for_each(|unit| made.unit = unit.to_owned());
    made
}
