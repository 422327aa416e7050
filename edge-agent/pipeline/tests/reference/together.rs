//! What stages do that put readings together: windows and derived points.

use std::collections::BTreeMap;

use tideline_pipeline::Setting;
use tideline_pipeline::definition::{Aggregate, Derive, Window};
use tideline_protocol::model::SeriesDef;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::model::{MS, NO_TEXT, NO_TYPE, NOT_FINITE, Reading, Stage, Windows, carried, of_kind};

impl Stage<'_> {
    pub fn window(&mut self, window: &Window, reading: &Reading) {
        let now = self.now;
        let ahead_max_ns = i64::try_from(window.ahead_max_ms).unwrap() * MS;
        let timed = |time_ns| Self::timed(now, time_ns, reading.clock, ahead_max_ns);
        let wrong = match reading.number() {
            _ if timed(reading.time_ns).is_err() => timed(reading.time_ns).err(),
            _ if reading.is_good_text() => Some(NO_TEXT),
            Some(number) if reading.is_good() && !number.is_finite() => Some(NOT_FINITE),
            _ => None,
        };
        let key = (self.at, format!("{:?}", reading.series));
        let (_, state) = self
            .memory
            .windows
            .entry(key.clone())
            .or_insert_with(|| (reading.series.clone(), Windows::default()));
        state.heard_ns = Some(now.mono_ns);
        if let Some(reason) = wrong {
            return self.letter(reading, reason);
        }
        let wait = i64::try_from(window.wait_ms).unwrap() * MS;
        let mut cut = Windows { clock: state.clock, ..Windows::default() };
        if let Some(mark) = state.watermark_ns.filter(|_| state.clock != reading.clock)
            && carried((0, state.clock), mark.saturating_add(wait), reading) != Some(0)
        {
            (cut.open, state.watermark_ns) = (std::mem::take(&mut state.open), None);
        }
        state.clock = reading.clock;
        let newest = state.watermark_ns.map_or(i64::MIN, |mark| mark.saturating_add(wait));
        if reading.time_ns < newest && timed(newest).is_err() {
            cut = Windows { clock: state.clock, ..Windows::default() };
            (cut.open, state.watermark_ns) = (std::mem::take(&mut state.open), None);
        }
        let series = reading.series.clone();
        self.cut(window, &series, cut);
        let (_, state) = self.memory.windows.get_mut(&key).unwrap();
        let length = i64::try_from(window.length_ms).unwrap() * MS;
        let hop = window.hop_ms.map_or(length, |ms| i64::try_from(ms).unwrap() * MS);
        let watermark_ns = state.watermark_ns.unwrap_or(i64::MIN);
        let counts = !(reading.is_good() && reading.value == Value::Null);
        let newest = reading.time_ns.div_euclid(hop) * hop;
        let starts: Vec<i64> = (0..)
            .map(|n| newest - n * hop)
            .take_while(|start| start + length > reading.time_ns)
            .filter(|start| start + length > watermark_ns)
            .collect();
        for start in starts.iter().filter(|_| counts) {
            let (numbers, bad) = state.open.entry(*start).or_default();
            match reading.number() {
                Some(number) if reading.is_good() => numbers.push((reading.time_ns, number)),
                _ => *bad += 1,
            }
        }
        if counts && starts.is_empty() {
            return self.letter(reading, "the reading is late: its windows are closed");
        }
        state.watermark_ns = Some(watermark_ns.max(reading.time_ns - wait));
        self.close(window, &key, length);
    }

    /// Gives what windows have that are closed before their end.
    fn cut(&mut self, window: &Window, series: &SeriesDef, cut: Windows) {
        for (start, (numbers, bad)) in cut.open {
            for aggregate in &window.aggregates {
                let mut reading = result(*aggregate, series, start, &numbers, bad);
                let counts = matches!(aggregate, Aggregate::Count | Aggregate::Bad);
                if !counts && reading.is_good() {
                    reading.quality = Quality::Uncertain;
                }
                self.give(Reading { clock: cut.clock, ..reading });
            }
        }
    }

    fn close(&mut self, window: &Window, key: &(usize, String), length: i64) {
        let Some((series, state)) = self.memory.windows.get_mut(key) else { return };
        let watermark_ns = state.watermark_ns.unwrap_or(i64::MIN);
        let (series, clock) = (series.clone(), state.clock);
        let mut closed = Vec::new();
        while let Some(first) = state.open.first_entry().filter(|first| first.key() + length <= watermark_ns)
        {
            closed.push(first.remove_entry());
        }
        for (start, (numbers, bad)) in closed {
            for aggregate in &window.aggregates {
                self.give(Reading { clock, ..result(*aggregate, &series, start, &numbers, bad) });
            }
        }
    }

    pub fn tick_windows(&mut self, window: &Window) {
        let length = i64::try_from(window.length_ms).unwrap() * MS;
        let (idle, wait) =
            (i64::try_from(window.idle_ms).unwrap() * MS, i64::try_from(window.wait_ms).unwrap() * MS);
        let keys: Vec<_> = self.memory.windows.keys().filter(|(at, _)| *at == self.at).cloned().collect();
        for key in keys.iter().filter(|_| idle > 0) {
            let (_, state) = self.memory.windows.get_mut(key).unwrap();
            let now = self.now;
            let heard_ns = *state.heard_ns.get_or_insert(now.mono_ns);
            if state.open.is_empty() || now.mono_ns - heard_ns < idle {
                continue;
            }
            let same_boot = |clock: &Setting| clock.boot == now.setting.boot;
            let offset_ns = state.clock.filter(same_boot).unwrap_or(now.setting).offset_ns;
            let both = |clock: &Setting| clock.believed && now.setting.believed;
            if state.clock.is_none_or(|clock| same_boot(&clock) || both(&clock)) {
                let watermark_ns = state.watermark_ns.unwrap_or(i64::MIN);
                let newest_ns = watermark_ns.saturating_add(wait).saturating_add(now.mono_ns - heard_ns);
                let latest_ns = newest_ns.max(offset_ns + now.mono_ns);
                state.watermark_ns = Some(watermark_ns.max(latest_ns - idle - wait));
                self.close(window, key, length);
            } else {
                let cut = Windows {
                    clock: state.clock,
                    open: std::mem::take(&mut state.open),
                    ..Windows::default()
                };
                state.watermark_ns = None;
                let series = self.memory.windows[key].0.clone();
                self.cut(window, &series, cut);
            }
        }
    }

    pub fn derive(&mut self, derive: &Derive, mut readings: Vec<Reading>) {
        let name = |of: &Reading| (of.time_ns, of.series.device.to_string(), of.series.point.to_string());
        readings.retain(|reading| {
            let timed = Self::timed(self.now, reading.time_ns, reading.clock, 3_600_000 * MS);
            timed.map_err(|reason| self.letter(reading, reason)).is_ok()
        });
        readings.sort_by_key(name);
        let names: Vec<&String> = derive.inputs.keys().collect();
        let mut rest = readings.as_slice();
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|reading| reading.time_ns == first.time_ns).count();
            let (now, later) = rest.split_at(count);
            rest = later;
            let mut touched: BTreeMap<String, &Reading> = BTreeMap::new();
            for reading in now {
                let device = reading.series.device.to_string();
                let group = if derive.per_device { device.clone() } else { String::new() };
                let full = format!("{device}/{}", reading.series.point);
                let wanted = if derive.per_device { reading.series.point.to_string() } else { full };
                let newest = self
                    .memory
                    .inputs
                    .entry((self.at, group.clone()))
                    .or_insert_with(|| vec![None; names.len()]);
                let is_input = derive.inputs.values().any(|input| *input == wanted);
                for slot in newest.iter_mut().filter(|_| is_input) {
                    let Some(known) = slot else { continue };
                    if known.clock.is_none() || reading.clock.is_none() || known.clock == reading.clock {
                        continue;
                    }
                    match carried((known.time_ns, known.clock), known.time_ns, reading) {
                        Some(time_ns) => (known.time_ns, known.clock) = (time_ns, reading.clock),
                        None => *slot = None,
                    }
                }
                let now = self.now;
                for (at, name) in names.iter().enumerate() {
                    let is_newer = newest[at].as_ref().is_none_or(|known| {
                        known.time_ns <= reading.time_ns
                            || Self::timed(now, known.time_ns, reading.clock, 3_600_000 * MS).is_err()
                    });
                    if derive.inputs[*name] == wanted && is_newer {
                        newest[at] = Some(reading.clone());
                        touched.insert(group.clone(), reading);
                    }
                }
            }
            for (group, last) in touched {
                self.derived(derive, &group, last);
            }
        }
    }

    fn derived(&mut self, derive: &Derive, group: &str, last: &Reading) {
        let newest = &self.memory.inputs[&(self.at, group.to_owned())];
        let Some(inputs) = newest.iter().cloned().collect::<Option<Vec<Reading>>>() else { return };
        let time_ns = inputs.iter().map(|input| input.time_ns).max().unwrap();
        let age_max = i64::try_from(derive.age_max_ms).unwrap() * MS;
        if age_max > 0 && inputs.iter().any(|input| time_ns.saturating_sub(input.time_ns) > age_max) {
            return;
        }
        let quality = inputs.iter().map(|input| input.quality).max().unwrap();
        let numbers: Option<Vec<f64>> = inputs
            .iter()
            .map(|input| match input.seen() {
                Value::Float(number) => Some(number),
                _ => None,
            })
            .collect();
        let value = match (derive.value.as_str(), numbers, &inputs[0].seen()) {
            ("p - q", _, Value::Int(p)) if let Value::Int(q) = inputs[1].seen() => Ok(Value::Int(p - q)),
            ("p - q", Some(numbers), _) => Ok(Value::Float(numbers[0] - numbers[1])),
            ("p + q * 2", Some(numbers), _) => Ok(Value::Float(numbers[0] + numbers[1] * 2.0)),
            ("p", _, value) => Ok(value.clone()),
            _ => Err(NO_TYPE),
        };
        let device = if derive.per_device { group } else { "sum" };
        let series = SeriesDef::new(device.parse().unwrap(), "d".parse().unwrap(), String::new());
        let value = if quality == Quality::Good {
            value.and_then(|value| of_kind(value, ValueKind::Float))
        } else {
            Ok(Value::Null)
        };
        match value {
            Ok(value) => self.give(Reading { series, time_ns, value, quality, clock: last.clock }),
            Err(reason) => self.letter(last, reason),
        }
    }
}

fn result(aggregate: Aggregate, of: &SeriesDef, time_ns: i64, numbers: &[(i64, f64)], bad: u64) -> Reading {
    let counts = matches!(aggregate, Aggregate::Count | Aggregate::Bad);
    let (unit, kind) = if counts { ("1", ValueKind::Int) } else { (of.unit.as_str(), ValueKind::Float) };
    let point = format!("{}/{}", of.point, aggregate.as_str()).parse().unwrap();
    let series = SeriesDef::new(of.device.clone(), point, unit.to_owned()).of_kind(kind);
    let values = || numbers.iter().map(|(_, value)| *value);
    let sum = values().fold(0.0, |sum, value| sum + value);
    // Of several with one time the first that came is the first, and the last the last.
    let mut by_time = numbers.to_vec();
    by_time.sort_by_key(|(time_ns, _)| *time_ns);
    let value = match aggregate {
        Aggregate::Count => Some(numbers.len() as f64),
        Aggregate::Bad => Some(bad as f64),
        _ if numbers.is_empty() => None,
        Aggregate::Min => values().reduce(f64::min),
        Aggregate::Max => values().reduce(f64::max),
        Aggregate::Sum => Some(sum),
        Aggregate::Mean => Some(sum / numbers.len() as f64),
        Aggregate::First => by_time.first().map(|(_, value)| *value),
        Aggregate::Last => by_time.last().map(|(_, value)| *value),
        Aggregate::Deviation => unreachable!("its rounding is another one, and has tests of its own"),
    };
    let quality = if bad > 0 && !counts { Quality::Uncertain } else { Quality::Good };
    match value.filter(|value| value.is_finite()) {
        Some(value) => Reading { series, time_ns, value: Value::Float(value), quality, clock: None },
        None => Reading { series, time_ns, value: Value::Null, quality: Quality::Bad, clock: None },
    }
}
