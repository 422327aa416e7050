//! Steps that own their readings, and outputs as lines of text.

use tideline_protocol::model::{DeviceId, PointId, Sample};
use tideline_streams::spec::{
    Aggregate, Combine, Direction, Group, JobSpec, Join, Late, Later, Limits, Sink, Source, Stage, Time,
    Window,
};
use tideline_streams::{Column, Engine, Event, Job, Key, Output, Refill, Wanted, What};

pub const MS: i64 = 1_000_000;

/// Readings of one series: device, point, (time in ms, value).
pub type Series = (&'static str, &'static str, Vec<(i64, f64)>);

/// What happens, at a time of the hub's clock in ms.
#[derive(Debug, Clone)]
pub enum Step {
    Readings(i64, Vec<Series>),
    Tick(i64),
    Resumed(i64),
    Forget(i64, &'static str),
    Drain(i64),
}

pub fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

pub fn point(id: &str) -> PointId {
    PointId::parse(id).unwrap()
}

pub fn samples(rows: &[(i64, f64)]) -> Vec<Sample> {
    rows.iter().map(|(ms, value)| Sample { time_ns: ms.saturating_mul(MS), value: *value }).collect()
}

/// Has the engine take a step.
pub fn step(engine: &mut Engine, step: &Step) -> Vec<Output> {
    match step {
        Step::Readings(now, series) => {
            readings(series, |columns| engine.handle(now * MS, Event::Readings(columns)))
        }
        Step::Tick(now) => engine.handle(now * MS, Event::Tick),
        Step::Resumed(now) => engine.handle(now * MS, Event::Resumed),
        Step::Forget(now, id) => engine.handle(now * MS, Event::Forget(&device(id))),
        Step::Drain(now) => engine.handle(now * MS, Event::Drain),
    }
}

fn readings<T>(series: &[Series], with: impl FnOnce(&[Column<'_>]) -> T) -> T {
    let owned: Vec<(DeviceId, PointId, Vec<Sample>)> =
        series.iter().map(|(d, p, rows)| (device(d), point(p), samples(rows))).collect();
    let columns: Vec<Column<'_>> =
        owned.iter().map(|(device, point, samples)| Column { device, point, samples }).collect();
    with(&columns)
}

/// Brings the history of the windows that are wanted; `history` is all that ever came.
pub fn refill(engine: &mut Engine, history: &[Series]) -> Vec<Output> {
    let wanted = engine.wanted(usize::MAX);
    wanted.iter().flat_map(|wanted| answer(engine, wanted, history)).collect()
}

/// The lines that the history of one window gives.
pub fn bring(engine: &mut Engine, wanted: &Wanted, history: &[Series]) -> Vec<String> {
    answer(engine, wanted, history).iter().map(line).collect()
}

fn answer(engine: &mut Engine, wanted: &Wanted, history: &[Series]) -> Vec<Output> {
    readings(history, |columns| engine.handle(i64::MIN, Event::Refill(Refill { wanted, columns })))
}

/// Saves the engine and goes on from what was saved.
pub fn restart(engine: &Engine) -> Engine {
    let restored = Engine::restore(engine.job().clone(), &engine.save().unwrap()).unwrap();
    assert_eq!(restored, *engine);
    restored
}

pub fn spec(window: Window, aggregates: &[Aggregate]) -> JobSpec {
    JobSpec {
        name: "job".to_owned(),
        source: Source { devices: vec!["*".to_owned()], points: vec!["*".to_owned()] },
        stages: Vec::<Stage>::new(),
        join: None::<Join>,
        window,
        group: Group::Series,
        aggregates: aggregates.to_vec(),
        sql: None,
        time: Time { out_of_orderness_ms: 0, idle_timeout_ms: None, ahead_max_ms: 1_000_000 },
        late: Late { allowed_ms: 0, then: Later::Side },
        sinks: vec![Sink::Rows],
        limits: Limits::default(),
    }
}

pub fn engine(spec: &JobSpec) -> Engine {
    Engine::new(Job::check(spec.clone()).unwrap())
}

pub fn name(key: &Key) -> String {
    key.point.as_ref().map_or_else(|| key.device.to_string(), |point| format!("{}/{point}", key.device))
}

/// An output as a line, with times in ms; `late` stands for a revision.
pub fn line(output: &Output) -> String {
    let ms = |ns: i64| ns.div_euclid(MS);
    match &output.what {
        What::Result(r) => {
            assert!(r.revision == 0 || r.revision == output.number);
            let values: Vec<String> =
                r.values.iter().map(|(field, value)| format!("{}={value}", field.as_str())).collect();
            let late = if r.revision > 0 { "late " } else { "" };
            // The end of a sliding window is a nanosecond after its last reading.
            let end = if r.end_ns.rem_euclid(MS) == 1 {
                format!("{}]", ms(r.end_ns))
            } else {
                format!("{})", ms(r.end_ns))
            };
            format!("{late}{} [{},{end} {}", name(&r.key), ms(r.start_ns), values.join(" "))
        }
        What::Withdrawn { key, start_ns, end_ns } => {
            format!("withdrawn {} [{},{})", name(key), ms(*start_ns), ms(*end_ns))
        }
        What::Row { start_ns, end_ns, revision, row } => {
            let values: Vec<String> =
                row.numbers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let late = if *revision > 0 { "late " } else { "" };
            format!("{late}row {} [{},{}) {}", row.device, ms(*start_ns), ms(*end_ns), values.join(" "))
        }
        What::Void { start_ns, end_ns } => format!("void [{},{})", ms(*start_ns), ms(*end_ns)),
        What::Side(row) => {
            let cause = serde_json::to_string(&row.cause).unwrap();
            let cause = cause.trim_matches('"');
            format!("side {}/{} {}={} {cause}", row.device, row.point, ms(row.time_ns), row.value)
        }
    }
}

/// The lines of all steps, with the numbers checked.
pub fn run(engine: &mut Engine, steps: &[Step]) -> Vec<String> {
    steps.iter().flat_map(|each| lines(engine, each)).collect()
}

/// The lines of one step.
pub fn lines(engine: &mut Engine, each: &Step) -> Vec<String> {
    let before = engine.last_number();
    let outputs = step(engine, each);
    for (number, output) in (before + 1..).zip(&outputs) {
        assert_eq!((output.number, &*output.job), (number, engine.job().spec().name.as_str()));
    }
    assert_eq!(engine.last_number(), before + outputs.len() as u64);
    outputs.iter().map(line).collect()
}

pub const TEN: Window = Window::Tumbling { length_ms: 10 };

/// Readings of one series of the device `pump`.
pub fn one(at: &'static str, rows: &[(i64, f64)]) -> Step {
    Step::Readings(0, vec![("pump", at, rows.to_vec())])
}

/// `t` with `u`.
pub fn joined_by(direction: Direction, combine: Combine, tolerance_ms: u64) -> Join {
    Join {
        left: "t".to_owned(),
        right: "u".to_owned(),
        tolerance_ms,
        direction,
        combine,
        left_device: None,
        right_device: None,
    }
}
