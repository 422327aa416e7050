//! Stream jobs: any definition, any state behind a right checksum, and any readings.

use tideline_protocol::model::{DeviceId, PointId, Sample};
use tideline_streams::{Answered, Came, Column, Engine, Event, Job, JobSpec, Refill, StatementRow};

use crate::input::Input;

/// Most events of an input, so that a long one does not take for ever.
const EVENTS_MAX: usize = 64;
const MS: i64 = 1_000_000;

const DEVICES: [&str; 2] = ["a", "b"];
const POINTS: [&str; 2] = ["t", "u"];

/// One job of each shape, small, so that windows close and limits are met.
fn definitions() -> Vec<String> {
    let of = |rest: &str| {
        format!(
            r#"{{"name":"j","source":{{"devices":["*"],"points":["t","u"]}},"sinks":[{{"kind":"rows"}}],"limits":{{"open_windows":20,"state_bytes":65536}},{rest}}}"#
        )
    };
    [
        r#""window":{"kind":"each"}"#,
        r#""window":{"kind":"tumbling","length_ms":10},"aggregates":["sum","time_weighted_mean"],"late":{"allowed_ms":20}"#,
        r#""window":{"kind":"hopping","length_ms":20,"hop_ms":5},"aggregates":["sum","count"],"late":{"then":"update"}"#,
        r#""window":{"kind":"sliding","length_ms":10},"aggregates":["last","time_weighted_mean"],"late":{"allowed_ms":9}"#,
        r#""window":{"kind":"session","gap_ms":5},"aggregates":["mean","time_weighted_mean"],"late":{"allowed_ms":30}"#,
        r#""window":{"kind":"each"},"join":{"left":"t","right":"u","tolerance_ms":5,"direction":"nearest","combine":"ratio"}"#,
        r#""window":{"kind":"session","gap_ms":5},"aggregates":["mean"],"late":{"allowed_ms":9,"then":"update"}"#,
        r#""window":{"kind":"sliding","length_ms":10},"aggregates":["last"],"late":{"then":"update"}"#,
        r#""window":{"kind":"each"},"join":{"left_device":"a","left":"t","right_device":"b","right":"u","tolerance_ms":5,"combine":"sum"}"#,
        r#""window":{"kind":"hopping","length_ms":20,"hop_ms":5},"sql":"SELECT 1","late":{"allowed_ms":20}"#,
    ]
    .map(of)
    .to_vec()
}

fn engine(definition: &str) -> Option<Engine> {
    let spec: JobSpec = serde_json::from_str(definition).ok()?;
    match Job::check(spec) {
        Ok(job) => Some(Engine::new(job)),
        Err(error) => {
            assert!(!error.0.is_empty() && error.0.iter().all(|one| !one.field.is_empty()));
            None
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let events: Vec<u8> = (0..160_u8).map(|n| n.wrapping_mul(37)).collect();
    let mut all = Vec::new();
    for (number, definition) in (0_u8..).zip(definitions()) {
        all.push([&[0, number], &events[..]].concat());
        let text = definition.as_bytes();
        let length = u16::try_from(text.len()).expect("a short text").to_le_bytes();
        all.push([&[1], &length[..], text, &events[..]].concat());
        let mut job = engine(&definition).expect("a job");
        drive(&mut job, Input::new(&events), false);
        let state = job.save().expect("a state");
        let payload = &state[18..];
        let length = u16::try_from(payload.len()).expect("a short state").to_le_bytes();
        all.push([&[2, number], &length[..], payload, &events[..]].concat());
    }
    all
}

/// The first byte: a known job, a definition, or a state of a known job.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let known = definitions();
    let job = |input: &mut Input<'_>| {
        let number = usize::from(input.byte()) % known.len();
        engine(&known[number]).expect("a job")
    };
    match kind % 3 {
        0 => drive(&mut job(&mut input), input, true),
        1 => {
            let (text, rest) = counted(&mut input);
            if let Some(mut job) = engine(&String::from_utf8_lossy(text)) {
                drive(&mut job, rest, true);
            }
        }
        _ => {
            let job = job(&mut input);
            let (payload, rest) = counted(&mut input);
            let mut bytes = b"TLSJ\x01\x00".to_vec();
            bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            bytes.extend_from_slice(payload);
            // One that nobody wrote may be of any kind of nonsense; it breaks nothing.
            if let Ok(mut restored) = Engine::restore(job.job().clone(), &bytes) {
                assert_eq!(restored.save().as_ref(), Ok(&bytes));
                drive(&mut restored, rest, false);
            }
        }
    }
}

fn counted<'d>(input: &mut Input<'d>) -> (&'d [u8], Input<'d>) {
    let length = usize::from(input.short());
    let rest = input.rest();
    let (head, tail) = rest.split_at(length.min(rest.len()));
    (head, Input::new(tail))
}

/// Events of what is left; `own` if all that the job holds was taken by itself.
fn drive(job: &mut Engine, mut input: Input<'_>, own: bool) {
    let mut now_ns = 0_i64;
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        now_ns = now_ns.saturating_add(i64::from(kind >> 3) * MS);
        let before = job.last_number();
        let outputs = match kind & 7 {
            0 => job.handle(now_ns, Event::Tick),
            1 => job.handle(now_ns, Event::Forget(&device(input.byte()))),
            2 if job.job().sql().is_some() => answer(job, now_ns, &mut input),
            2 => refill(job, now_ns, &mut input),
            3 if input.byte() == 0 => job.handle(now_ns, Event::Drain),
            _ => readings(now_ns, &mut input, |columns| job.handle(now_ns, Event::Readings(columns))),
        };
        if own {
            for (number, output) in (before + 1..).zip(&outputs) {
                assert_eq!(output.number, number, "a number is missing");
            }
            let limits = &job.job().spec().limits;
            assert!(job.open_windows() <= limits.open_windows && job.state_bytes() <= limits.state_bytes);
            if kind & 8 == 0 {
                let restored = Engine::restore(job.job().clone(), &job.save().expect("a state"));
                assert!(restored.as_ref() == Ok(&*job), "what was saved is something else");
            }
        }
    }
}

fn device(byte: u8) -> DeviceId {
    DeviceId::parse(DEVICES[usize::from(byte & 1)]).expect("an id")
}

fn point(byte: u8) -> PointId {
    PointId::parse(POINTS[usize::from(byte >> 1 & 1)]).expect("an id")
}

fn readings<T>(now_ns: i64, input: &mut Input<'_>, with: impl FnOnce(&[Column<'_>]) -> T) -> T {
    let head = input.byte();
    let samples: Vec<Sample> = (0..=head >> 2 & 7).map(|_| sample(now_ns, input)).collect();
    let (device, point) = (device(head), point(head));
    with(&[Column { device: &device, point: &point, samples: &samples }])
}

/// Mostly about now; now and then anything.
fn sample(now_ns: i64, input: &mut Input<'_>) -> Sample {
    let by = input.byte();
    let time_ns = match by {
        0xff => i64::from_le_bytes(input.array()),
        _ => now_ns.saturating_add((i64::from(by) - 200) * MS / 4),
    };
    let value = match input.byte() {
        0xff => f64::from_bits(input.long()),
        small => f64::from(small) - 100.0,
    };
    Sample { time_ns, value }
}

fn refill(job: &mut Engine, now_ns: i64, input: &mut Input<'_>) -> Vec<tideline_streams::Output> {
    let Some(wanted) = job.wanted(1).pop() else { return Vec::new() };
    readings(now_ns, input, |columns| job.handle(now_ns, Event::Refill(Refill { wanted: &wanted, columns })))
}

fn answer(job: &mut Engine, now_ns: i64, input: &mut Input<'_>) -> Vec<tideline_streams::Output> {
    let Some(asked) = job.asked(1).pop() else { return Vec::new() };
    let (device, numbers) = (device(input.byte()), vec![("n".to_owned(), 1.0)]);
    let row = StatementRow { device, point: None, numbers, texts: Vec::new() };
    let came = match input.byte() & 3 {
        0 => Came::Failed("it failed"),
        1 => Came::Lost("it is gone"),
        _ => Came::Rows(std::slice::from_ref(&row)),
    };
    job.handle(now_ns, Event::Answered(Answered { asked: &asked, came }))
}
