//! The reference: each stage takes one reading after the other, and looks up all it knows in maps.

use std::collections::{BTreeMap, HashMap};

use tideline_pipeline::definition::{Kind, StageDefinition};
use tideline_pipeline::{Definition, Now, STEP_NS, Setting};
use tideline_protocol::model::SeriesDef;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::histories::Given;
use super::plain;
use super::rules::RuleModel;

pub const MS: i64 = 1_000_000;
pub const NO_TYPE: &str = "the expression's types do not go together";
pub const OTHER_TYPE: &str = "the expression gives a value of another type than the stage says";
pub const NOT_FINITE: &str = "the result is no finite number";
pub const NO_TEXT: &str = "a text is no number";

/// The expressions of histories, which [`evaluate`] knows.
pub const VALUES: [&str; 4] = ["value * 2 + 1", "value", "value == 'fault'", "quality"];
pub const TRUTHS: [&str; 3] = ["value > 10", "quality == 'good'", "value == 'fault'"];

/// A reading.
#[derive(Debug, Clone)]
pub struct Reading {
    pub series: SeriesDef,
    pub time_ns: i64,
    pub value: Value,
    pub quality: Quality,
    pub clock: Option<Setting>,
}

impl Reading {
    pub fn of(given: &Given, clock: Option<Setting>) -> Self {
        let Given { series, time_ns, value, quality } = given.clone();
        Self { series, time_ns, value: held(value), quality, clock }
    }

    pub fn with(&self, value: Value, quality: Quality) -> Self {
        Self { value: held(value), quality, ..self.clone() }
    }

    pub fn number(&self) -> Option<f64> {
        match self.value {
            Value::Float(number) => Some(number),
            Value::Int(integer) => Some(integer as f64),
            _ => None,
        }
    }

    pub fn is_good(&self) -> bool {
        self.quality == Quality::Good
    }

    pub fn is_good_text(&self) -> bool {
        self.is_good() && matches!(self.value, Value::Text(_))
    }

    /// As an expression sees it.
    pub fn seen(&self) -> Value {
        match (self.series.kind(), &self.value) {
            (ValueKind::Bool, Value::Float(number)) if *number == 0.0 || *number == 1.0 => {
                Value::Bool(*number == 1.0)
            }
            (_, value) => value.clone(),
        }
    }
}

pub type Name = (String, String, String);

/// Stream, device, point, unit and type.
type Way = (String, String, String, String, &'static str);

/// What came of something.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// Times and values.
    pub out: BTreeMap<Way, Vec<(i64, String)>>,
    /// By stage, device, point and reason.
    pub letters: BTreeMap<(String, String, String, String), u64>,
    pub events: BTreeMap<Name, Vec<String>>,
    pub actions: BTreeMap<Name, Vec<String>>,
}

impl Told {
    pub fn give(
        &mut self,
        stream: &str,
        series: &SeriesDef,
        (time_ns, clock): (i64, Option<Setting>),
        value: &Value,
        quality: Quality,
    ) {
        let key = (
            stream.to_owned(),
            series.device.to_string(),
            series.point.to_string(),
            series.unit.clone(),
            series.kind().as_str(),
        );
        self.out
            .entry(key)
            .or_default()
            .push((time_ns, format!("{} by {clock:?}", plain(value, series.kind(), quality))));
    }

    /// Readings of one series may leave by several ways, and several series may be of one point or write to one: they
    /// take turns in no order that is promised.
    pub fn sorted(mut self) -> Self {
        self.out.values_mut().for_each(|rows| rows.sort());
        self.actions.values_mut().for_each(|actions| actions.sort());
        self.events.values_mut().for_each(|events| events.sort());
        self
    }

    pub fn append(&mut self, other: Self) {
        other.out.into_iter().for_each(|(key, mut more)| self.out.entry(key).or_default().append(&mut more));
    }
}

/// The open windows of a series: by start the good numbers and how many were not.
#[derive(Default)]
pub struct Windows {
    pub watermark_ns: Option<i64>,
    pub heard_ns: Option<i64>,
    pub open: BTreeMap<i64, (Vec<(i64, f64)>, u64)>,
    pub clock: Option<Setting>,
}

/// What went on last: its text if it was no number, its number, its time and clock.
#[derive(Clone)]
pub struct Last {
    pub text: String,
    pub number: Option<f64>,
    pub time_ns: i64,
    pub clock: Option<Setting>,
}

/// What becomes of a time that is kept when a reading by another clock comes; none where it says nothing any more.
pub fn carried(kept: (i64, Option<Setting>), newest_ns: i64, reading: &Reading) -> Option<i64> {
    let (time_ns, clock) = kept;
    let (Some(old), Some(new)) = (clock, reading.clock) else { return Some(time_ns) };
    if old.boot != new.boot {
        let went_on = reading.time_ns >= newest_ns.saturating_sub(STEP_NS);
        return (old.believed && new.believed && went_on).then_some(time_ns);
    }
    let by = new.offset_ns - old.offset_ns;
    Some(if by.abs() > STEP_NS { time_ns.saturating_add(by) } else { time_ns })
}

/// What all stages know of all series.
#[derive(Default)]
pub struct Memory {
    pub deadbands: HashMap<(usize, SeriesDef), Last>,
    pub spans: HashMap<(usize, SeriesDef), (i64, u64, Option<Setting>)>,
    pub windows: BTreeMap<(usize, String), (SeriesDef, Windows)>,
    pub inputs: BTreeMap<(usize, String), Vec<Option<Reading>>>,
    pub rules: BTreeMap<(usize, String), (SeriesDef, RuleModel)>,
}

/// The reference of a pipeline.
pub struct Reference {
    definition: Definition,
    memory: Memory,
    is_canary: bool,
    boot: Option<[u8; 16]>,
}

/// What one stage gives: readings by port, and what it tells.
pub struct Stage<'r> {
    pub at: usize,
    pub definition: &'r StageDefinition,
    pub memory: &'r mut Memory,
    pub told: &'r mut Told,
    pub out: Vec<(String, Reading)>,
    pub now: Now,
    pub is_canary: bool,
}

impl Reference {
    pub fn new(definition: &Definition, is_canary: bool) -> Self {
        Self { definition: definition.clone(), memory: Memory::default(), is_canary, boot: None }
    }

    pub fn restart(&mut self) {
        self.memory.windows.values_mut().for_each(|(_, windows)| windows.heard_ns = None);
        self.memory.rules.values_mut().for_each(|(_, rule)| rule.heard_ns = None);
    }

    /// Nothing that monotonic time told says anything after another start of the machine.
    fn begin(&mut self, now: Now) {
        if self.boot.replace(now.setting.boot).is_some_and(|boot| boot != now.setting.boot) {
            self.restart();
            let rules = self.memory.rules.values_mut();
            rules.filter_map(|(_, rule)| rule.since.as_mut()).for_each(|(_, mono_ns)| *mono_ns = None);
        }
    }

    pub fn run(&mut self, now: Now, readings: Vec<Reading>) -> Told {
        self.begin(now);
        let mut told = Told::default();
        let mut taken = Vec::new();
        for reading in readings {
            let is_taken = matches!(reading.series.device.as_str(), "a" | "b");
            let Definition { keep, watch, stages, .. } = &self.definition;
            // Without stages what was kept leaves a second time, as what came out.
            let times = match (is_taken, stages.is_empty()) {
                (false, _) => 1,
                _ if *watch => 1,
                (true, true) => 1 + usize::from(*keep),
                (true, false) => usize::from(*keep),
            };
            for _ in 0..times {
                let clock = (reading.time_ns, reading.clock);
                told.give("", &reading.series, clock, &reading.value, reading.quality);
            }
            if is_taken {
                taken.push(reading);
            }
        }
        self.pass(now, taken, false, told)
    }

    pub fn tick(&mut self, now: Now) -> Told {
        self.begin(now);
        self.pass(now, Vec::new(), true, Told::default())
    }

    fn pass(&mut self, now: Now, source: Vec<Reading>, ticks: bool, mut told: Told) -> Told {
        let stages = self.definition.stages.clone();
        let mut given: Vec<Vec<(String, Reading)>> = Vec::new();
        let after = |at: usize| match (stages[at].after.as_slice(), at) {
            ([], 0) => vec!["from".to_owned()],
            ([], _) => vec![stages[at - 1].name.clone()],
            (names, _) => names.to_vec(),
        };
        for at in 0..stages.len() {
            let wanted = after(at);
            let mut readings =
                if wanted.iter().any(|name| name == "from") { source.clone() } else { Vec::new() };
            for (before, stage) in stages.iter().enumerate().take(at) {
                let of = given[before].iter().filter(|(port, _)| {
                    let name =
                        if port.is_empty() { stage.name.clone() } else { format!("{}.{port}", stage.name) };
                    wanted.contains(&name)
                });
                readings.extend(of.map(|(_, reading)| reading.clone()));
            }
            if wanted.len() > 1 {
                readings.sort_by_key(|reading| reading.time_ns);
            }
            let mut stage = Stage {
                at,
                definition: &stages[at],
                memory: &mut self.memory,
                told: &mut told,
                out: Vec::new(),
                now,
                is_canary: self.is_canary,
            };
            stage.work(readings, ticks);
            given.push(stage.out);
        }
        for (at, stage) in stages.iter().enumerate() {
            let stream = match &stage.kind {
                Kind::Output(output) => output.stream.clone().unwrap_or_default(),
                _ => String::new(),
            };
            for (port, reading) in &given[at] {
                let name =
                    if port.is_empty() { stage.name.clone() } else { format!("{}.{port}", stage.name) };
                let is_read = (0..stages.len()).any(|other| after(other).contains(&name));
                if !is_read && !self.definition.watch {
                    told.give(
                        &stream,
                        &reading.series,
                        (reading.time_ns, reading.clock),
                        &reading.value,
                        reading.quality,
                    );
                }
            }
        }
        told
    }
}

/// As a column holds it: numbers that a double holds are doubles, a NaN is none.
fn held(value: Value) -> Value {
    match value {
        Value::Bool(truth) => Value::Float(f64::from(u8::from(truth))),
        Value::Int(integer) if integer.unsigned_abs() <= 1 << 53 => Value::Float(integer as f64),
        Value::Float(number) if number.is_nan() => Value::Null,
        other => other,
    }
}

pub fn evaluate(expression: &str, reading: &Reading) -> Result<Value, &'static str> {
    match (expression, reading.seen()) {
        ("value * 2 + 1", Value::Float(number)) => Ok(Value::Float(number * 2.0 + 1.0)),
        ("value", value) => Ok(value),
        ("value == 'fault'", value) => Ok(Value::Bool(value == Value::Text("fault".into()))),
        ("value == 0", value) => Ok(Value::Bool(value == Value::Float(0.0))),
        ("quality", _) => Ok(Value::Text(reading.quality.as_str().into())),
        ("quality == 'good'", _) => Ok(Value::Bool(reading.is_good())),
        ("value > 10", Value::Float(number)) => Ok(Value::Bool(number > 10.0)),
        ("value > 10", Value::Int(integer)) => Ok(Value::Bool(integer > 10)),
        _ => Err(NO_TYPE),
    }
}

pub fn truth(expression: &str, reading: &Reading) -> Result<bool, &'static str> {
    match evaluate(expression, reading)? {
        Value::Bool(truth) => Ok(truth),
        _ => Err("the expression gives no truth value"),
    }
}

pub fn of_kind(value: Value, kind: ValueKind) -> Result<Value, &'static str> {
    match (&value, kind) {
        (Value::Null, _) | (Value::Bool(_), ValueKind::Bool) | (Value::Text(_), ValueKind::Text) => Ok(value),
        (Value::Float(number), ValueKind::Float) if number.is_finite() => Ok(value),
        (Value::Float(_), ValueKind::Float) => Err(NOT_FINITE),
        (Value::Int(integer), ValueKind::Float) => Ok(Value::Float(*integer as f64)),
        _ => Err(OTHER_TYPE),
    }
}
