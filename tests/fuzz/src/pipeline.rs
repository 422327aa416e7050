//! Pipelines: any definition, any state behind a right checksum, and any readings in any chunks.

use tideline_pipeline::{Chunk, Outcome, Pipelines};
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};

use crate::input::Input;

/// Most chunks of an input, so that a long one does not take for ever.
const CHUNKS_MAX: usize = 64;
const MS: i64 = 1_000_000;
const NOW_NS: i64 = 1_700_000_000_000 * MS;
const HEADER_BYTES: usize = 18;

const DEVICES: [&str; 2] = ["a", "b"];
const POINTS: [&str; 2] = ["t", "u"];

/// Each kind of stage once, small, so that windows close and limits are met.
fn definitions() -> Vec<String> {
    let of = |stages: &str| format!("[[pipeline]]\nname = \"p\"\nfrom = [\"*/t\", \"a/u\"]\n{stages}");
    [
        "[[pipeline.stage]]\nname = \"r\"\nkind = \"range\"\nmin = -50\notherwise = \"clamp\"\n[[pipeline.stage]]\nname = \"s\"\nkind = \"scale\"\nfactor = 2\n[[pipeline.stage]]\nname = \"d\"\nkind = \"deadband\"\nabsolute = 3\nsilence_max_ms = 20\n",
        "[[pipeline.stage]]\nname = \"w\"\nkind = \"window\"\nlength_ms = 10\nhop_ms = 5\nwait_ms = 4\nidle_ms = 30\naggregates = [\"count\", \"bad\", \"mean\", \"first\", \"last\", \"deviation\"]\n",
        "[[pipeline.stage]]\nname = \"h\"\nkind = \"rule\"\ncondition = \"above\"\nlimit = 5\nclear = 2\nfor_ms = 5\nclear_for_ms = 5\nwrite = { point = \"x\", fired = true, cleared = false }\n[[pipeline.stage]]\nname = \"g\"\nkind = \"rule\"\ncondition = \"absence\"\nfor_ms = 20\n[[pipeline.stage]]\nname = \"z\"\nkind = \"rule\"\ncondition = \"z_score\"\nlimit = 2\nreadings = 5\nwarm_up = 2\n",
        "[[pipeline.stage]]\nname = \"b\"\nkind = \"branch\"\ncase = [{ port = \"hot\", when = \"value > 3.0\" }]\n[[pipeline.stage]]\nname = \"l\"\nkind = \"rate_limit\"\nafter = [\"b.hot\", \"b.else\"]\nreadings = 1\nper_ms = 9\n[[pipeline.stage]]\nname = \"o\"\nkind = \"output\"\npoint = \"{point}/o\"\nstream = \"x\"\n",
        "[[pipeline.stage]]\nname = \"v\"\nkind = \"derive\"\ninputs = { t = \"t\", u = \"u\" }\nper_device = true\nvalue = \"t / u\"\npoint = \"v\"\nage_max_ms = 20\n[[pipeline.stage]]\nname = \"e\"\nkind = \"expression\"\nvalue = \"string(value)\"\ntype = \"text\"\n[[pipeline.stage]]\nname = \"f\"\nkind = \"filter\"\nwhen = \"value != 'nan'\"\n",
    ]
    .map(of)
    .to_vec()
}

fn known(number: u8) -> String {
    let all = definitions();
    all[usize::from(number) % all.len()].clone()
}

fn compiled(text: &str) -> Option<Pipelines> {
    match Pipelines::read("p.toml", text) {
        Ok(pipelines) => Some(pipelines),
        Err(problems) => {
            assert!(!problems.list.is_empty() && problems.list.iter().all(|one| !one.place.is_empty()));
            None
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let events: Vec<u8> = (0..200_u8).map(|n| n.wrapping_mul(37)).collect();
    let mut all = Vec::new();
    for (number, definition) in (0_u8..).zip(definitions()) {
        all.push([&[0, number], &events[..]].concat());
        let text = definition.as_bytes();
        let length = u16::try_from(text.len()).expect("a short text").to_le_bytes();
        all.push([&[1], &length[..], text, &events[..]].concat());
        let mut pipelines = compiled(&definition).expect("a pipeline");
        drive(&mut pipelines, Input::new(&events), None);
        let (_, state) = pipelines.states().remove(0);
        let payload = &state[HEADER_BYTES..];
        let length = u16::try_from(payload.len()).expect("a short state").to_le_bytes();
        all.push([&[2, number], &length[..], payload, &events[..]].concat());
    }
    all
}

/// The first byte: a known pipeline, a definition, or a state of a known pipeline.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => {
            let text = known(input.byte());
            drive(&mut compiled(&text).expect("a pipeline"), input, Some(&text));
        }
        1 => {
            let (text, rest) = counted(&mut input);
            let text = String::from_utf8_lossy(text);
            if let Some(mut pipelines) = compiled(&text) {
                drive(&mut pipelines, rest, Some(&text));
            }
        }
        _ => {
            let mut pipelines = compiled(&known(input.byte())).expect("a pipeline");
            let (payload, rest) = counted(&mut input);
            let mut bytes = b"TLPS\x02\x00".to_vec();
            bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            bytes.extend_from_slice(payload);
            // One that nobody wrote may be of any kind of nonsense; it breaks nothing.
            if pipelines.restore("p", &bytes).is_ok() {
                drive(&mut pipelines, rest, None);
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

/// Chunks and ticks of what is left. With their text the pipelines are put in the place of others that were given their
/// states now and then, as by a kill: what comes out must be the same.
fn drive(pipelines: &mut Pipelines, mut input: Input<'_>, text: Option<&str>) {
    let mut now_ns = NOW_NS;
    for _ in 0..CHUNKS_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        now_ns += i64::from(kind >> 3) * MS;
        let outcome = if kind & 7 == 0 {
            pipelines.tick(now_ns)
        } else {
            let chunk = chunk(now_ns, &mut input);
            let again = text.filter(|_| kind & 7 == 1).and_then(compiled).map(|mut again| {
                for (name, state) in pipelines.states() {
                    let unfit = again.restore(&name, &state).expect("its own state");
                    assert!(unfit.is_empty(), "{unfit:?}");
                }
                again
            });
            let one = pipelines.run(now_ns, chunk.clone());
            if let Some(mut again) = again {
                let other = again.run(now_ns, chunk);
                assert_eq!(told(&one), told(&other), "a state is not all that has to be known");
                *pipelines = again;
            }
            one
        };
        assert!(outcome.trace.is_empty() && outcome.letters_more == 0);
    }
}

/// What comes out, as text: a NaN is not itself.
fn told(outcome: &Outcome) -> String {
    let mut text = String::new();
    for row in &outcome.rows {
        let values: Vec<_> = row
            .samples
            .iter()
            .map(|sample| (sample.time_ns, outcome.boxes.value(sample.value, row.series.kind())))
            .collect();
        text += &format!("{:?} {} {} {values:?}\n", row.stream, row.series.device, row.series.point);
    }
    text + &format!("{:?} {:?} {:?}", outcome.events, outcome.actions, outcome.letters)
}

fn chunk(now_ns: i64, input: &mut Input<'_>) -> Chunk {
    let head = input.byte();
    let rows = (0..=head & 1).map(|at| {
        let device = DeviceId::parse(DEVICES[usize::from(head >> (1 + at) & 1)]).expect("an id");
        let point = PointId::parse(POINTS[usize::from(head >> (3 + at) & 1)]).expect("an id");
        let samples = (0..=head >> 5).map(|_| sample(now_ns, input)).collect();
        (SeriesDef::new(device, point, "Cel".into()), samples)
    });
    Chunk { rows: rows.collect(), ..Chunk::default() }
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
