//! A pipeline equals its reference interpreter: one reading at a time, with plain lists and maps, over histories with
//! late, repeated and disordered readings, with texts, nulls, NaN and bad qualities, with restarts in between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod histories;
mod model;
mod rules;
mod stages;
mod together;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tideline_pipeline::definition::{self, Kind};
use tideline_pipeline::{Chunk, Definition, Now, Outcome, Pipeline, Setting};
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::value::{Quality, Value, ValueKind};

use histories::{Event, Given, history, pipeline};
use model::{Reading, Reference, Told};

/// A chunk of readings as the pipeline takes it, by series in the order of their first reading.
fn chunk(given: &[Given], clock: Option<Setting>) -> Chunk {
    let mut chunk = Chunk { clock, ..Chunk::default() };
    for reading in given {
        let value = chunk.boxes.word(reading.value.clone(), reading.quality);
        let sample = Sample { time_ns: reading.time_ns, value };
        match chunk.rows.iter_mut().find(|(def, _)| *def == reading.series) {
            Some((_, samples)) => samples.push(sample),
            None => chunk.rows.push((reading.series.clone(), vec![sample])),
        }
    }
    chunk
}

/// The same readings, in the same order, for the reference.
fn readings(given: &[Given], clock: Option<Setting>) -> Vec<Reading> {
    let mut order: Vec<&SeriesDef> = Vec::new();
    given.iter().for_each(|reading| {
        if !order.contains(&&reading.series) {
            order.push(&reading.series);
        }
    });
    let of = |def: &SeriesDef| given.iter().filter(|reading| reading.series == *def).collect::<Vec<_>>();
    order.iter().flat_map(|def| of(def)).map(|given| Reading::of(given, clock)).collect()
}

/// What an outcome tells, in a form that does not depend on how series take turns.
fn told(outcome: &Outcome) -> Told {
    let mut told = Told::default();
    for row in &outcome.rows {
        let stream = row.stream.as_deref().unwrap_or_default().to_owned();
        for sample in &row.samples {
            let (value, quality) = outcome.boxes.value(sample.value, row.series.kind());
            told.give(&stream, &row.series, (sample.time_ns, row.clock), &value, quality);
        }
    }
    for letter in &outcome.letters {
        let key = (
            letter.stage.to_string(),
            letter.device.to_string(),
            letter.point.to_string(),
            letter.reason.clone(),
        );
        *told.letters.entry(key).or_default() += letter.count;
    }
    for event in &outcome.events {
        let of = (event.rule.to_string(), event.device.to_string(), event.point.to_string());
        told.events.entry(of).or_default().push(format!(
            "{} at {}: {:?} by {:?}",
            event.change.as_str(),
            event.time_ns,
            event.value,
            event.clock
        ));
    }
    for action in &outcome.actions {
        let of = (action.stage.to_string(), action.device.to_string(), action.point.to_string());
        told.actions.entry(of).or_default().push(format!("{:?} at {}", action.value, action.time_ns));
    }
    told
}

/// How a history is run: with a pipeline as it is, or with one device traced, or with a reference that is wrong.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Plain,
    Traced,
    Canary,
}

fn compare(definition: &Definition, history: &[Event], how: How) -> Result<(), TestCaseError> {
    let mut pipeline = compiled(definition);
    let mut reference = Reference::new(definition, how == How::Canary);
    let mut hands = Hands::default();
    for event in history {
        hands.apply(event);
        let now = hands.now();
        let (found, wanted) = match event {
            Event::Readings(_, given, is_stamped) => {
                let clock = is_stamped.then_some(now.setting);
                let given = if *is_stamped { hands.stamped(given) } else { given.clone() };
                (pipeline.run(now, chunk(&given, clock)), reference.run(now, readings(&given, clock)))
            }
            Event::Tick(_) => (pipeline.tick(now), reference.tick(now)),
            Event::Set(_) => continue,
            Event::Restart | Event::Boot(_) => {
                let state = pipeline.state();
                pipeline = compiled(definition);
                prop_assert_eq!(pipeline.restore(&state), Ok(Vec::new()));
                prop_assert_eq!(pipeline.state(), state, "a state is the same after a restart");
                reference.restart();
                continue;
            }
        };
        if how == How::Traced {
            pipeline.trace(Some("b".parse().unwrap()));
        }
        prop_assert_eq!(told(&found).sorted(), wanted.sorted());
        prop_assert_eq!(found.letters_more, 0);
    }
    conserved(definition, &pipeline)
}

/// The clocks of a history's machine.
struct Hands {
    boot: u8,
    mono_ns: i64,
    /// Since the history began.
    passed_ns: i64,
    /// How far the wall clock is ahead of the right time.
    wrong_ns: i64,
    believed: bool,
}

impl Default for Hands {
    fn default() -> Self {
        Self { boot: 1, mono_ns: 1_000_000_000_000, passed_ns: 0, wrong_ns: 0, believed: true }
    }
}

impl Hands {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Readings(wait_ns, ..) | Event::Tick(wait_ns) => {
                self.mono_ns += wait_ns;
                self.passed_ns += wait_ns;
            }
            Event::Restart => {}
            Event::Set(Some(by_ns)) => self.wrong_ns += by_ns,
            Event::Set(None) => (self.wrong_ns, self.believed) = (0, true),
            Event::Boot(knows_time) => {
                self.boot += 1;
                (self.mono_ns, self.believed) = (7, *knows_time);
                if !knows_time {
                    self.wrong_ns = -histories::YEAR_NS - self.passed_ns;
                }
            }
        }
    }

    fn now(&self) -> Now {
        let wall_ns = histories::BEGIN_NS + self.passed_ns + self.wrong_ns;
        let (boot, believed) = ([self.boot; 16], self.believed);
        let setting = Setting { boot, offset_ns: wall_ns - self.mono_ns, believed };
        Now { setting, mono_ns: self.mono_ns }
    }

    /// The same readings with times by this clock.
    fn stamped(&self, given: &[Given]) -> Vec<Given> {
        let moved =
            |given: &Given| Given { time_ns: given.time_ns.saturating_add(self.wrong_ns), ..given.clone() };
        given.iter().map(moved).collect()
    }
}

fn compiled(definition: &Definition) -> Pipeline {
    Pipeline::compile(definition).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Readings in = out + dropped + dead letters, of the stages that give each reading on at most once.
fn conserved(definition: &Definition, pipeline: &Pipeline) -> Result<(), TestCaseError> {
    for status in pipeline.status() {
        let counts = status.counts;
        let sum = match status.kind {
            "window" | "derive" => continue,
            "rule" | "write" => counts.given,
            _ => counts.given + counts.dropped + counts.dead_letters,
        };
        prop_assert_eq!(counts.taken, sum, "{:?} of {:?}", status, definition);
    }
    Ok(())
}

/// How many histories; more with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(600)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: cases(), ..Config::default() })]

    #[test]
    fn a_pipeline_equals_its_reference_interpreter(definition in pipeline(), history in history()) {
        compare(&definition, &history, How::Plain)?;
    }

    #[test]
    fn tracing_a_device_changes_nothing_that_comes_out(definition in pipeline(), history in history()) {
        compare(&definition, &history, How::Traced)?;
    }

    #[test]
    fn how_readings_are_spread_over_chunks_changes_nothing(definition in pipeline(), history in history()) {
        let mut definition = definition;
        // Those that read several series or stages together take what a chunk has of them in the order of time.
        for stage in &mut definition.stages {
            stage.after.truncate(1);
            if stage.kind.as_str() == "derive" {
                stage.kind = Kind::Discard {};
            }
        }
        let mut totals: Vec<BTreeMap<_, _>> = Vec::new();
        for single in [false, true] {
            let mut pipeline = compiled(&definition);
            let mut all = Told::default();
            for event in &history {
                let Event::Readings(_, given, _) = event else { continue };
                let parts: Vec<&[Given]> = if single { given.chunks(1).collect() } else { vec![given] };
                parts.iter().for_each(|part| all.append(told(&pipeline.run(histories::BEGIN_NS, chunk(part, None)))));
            }
            totals.push(all.sorted().out);
        }
        prop_assert_eq!(&totals[0], &totals[1]);
    }

    #[test]
    fn no_bytes_make_a_restore_panic(definition in pipeline(), history in history(), at in any::<prop::sample::Index>(), bit in 0_u8..8, whole in any::<bool>()) {
        let mut pipeline = compiled(&definition);
        for event in &history {
            if let Event::Readings(_, given, is_stamped) = event {
                let now = Hands::default().now();
                pipeline.run(now, chunk(given, is_stamped.then_some(now.setting)));
            }
        }
        let mut state = pipeline.state();
        let place = at.index(state.len());
        state[place] ^= 1 << bit;
        if whole {
            // As if it had been written so.
            let checksum = crc32c::crc32c(&state[18..]);
            state[14..18].copy_from_slice(&checksum.to_le_bytes());
        }
        let mut other = compiled(&definition);
        let taken = other.restore(&state);
        prop_assert!(whole || taken.is_err());
        let mut hands = Hands::default();
        for event in &history {
            hands.apply(event);
            let now = hands.now();
            match event {
                Event::Readings(_, given, is_stamped) => {
                    drop(other.run(now, chunk(given, is_stamped.then_some(now.setting))));
                }
                Event::Tick(_) => drop(other.tick(now)),
                Event::Set(_) => {}
                Event::Restart | Event::Boot(_) => drop(other.state()),
            }
        }
    }

    #[test]
    fn bytes_that_are_no_state_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let definition = Definition::new("p", &["*/*"], Vec::new());
        prop_assert!(compiled(&definition).restore(&bytes).is_err());
    }
}

/// The comparison finds a reference that holds one reading back too many: were it blind, it would not.
#[test]
fn a_canary_is_caught() {
    // It dies of one in some dozens: so many that chance does not let it live.
    let cases = cases().saturating_mul(16);
    let mut runner = TestRunner::new(Config { failure_persistence: None, cases, ..Config::default() });
    let found = runner
        .run(&(pipeline(), history()), |(definition, history)| compare(&definition, &history, How::Canary));
    assert!(found.is_err(), "the canary lived");
}

#[test]
fn a_state_of_another_pipeline_or_version_is_refused_with_its_reason() {
    let of = |name: &str| {
        let definition = Definition::new(name, &["*/*"], Vec::new());
        compiled(&definition)
    };
    let state = of("a").state();
    let told = |bytes: &[u8]| of("b").restore(bytes).unwrap_err().to_string();
    assert_eq!(told(&state), "the state is of the pipeline \"a\"");
    let mut later = state.clone();
    later[4] = 9;
    assert_eq!(told(&later), "the state has version 9; allowed are 1 to 2");
    assert!(told(&state[..state.len() - 1]).contains("bytes behind its header in place of"));
    assert_eq!(told(b"else"), "these are not the bytes of a pipeline's state");
}

/// Values as they are compared: a NaN is null, and numbers that a double holds are doubles.
fn plain(value: &Value, kind: ValueKind, quality: Quality) -> String {
    let number = match value {
        Value::Float(number) if number.is_nan() => return format!("Null {quality}"),
        Value::Float(number) => *number,
        Value::Int(integer) if integer.unsigned_abs() <= 1 << 53 => *integer as f64,
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        other => return format!("{other:?} {quality}"),
    };
    let _ = kind;
    // Zero has one sign.
    format!("{:?} {quality}", number + 0.0)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: cases(), ..Config::default() })]

    #[test]
    fn definitions_are_read_back_from_their_text(definition in pipeline(), number in any::<f64>()) {
        let mut definition = definition;
        definition.events = Some("fast".to_owned());
        for stage in &mut definition.stages {
            if let (Kind::Scale(scale), true) = (&mut stage.kind, number.is_finite()) {
                scale.factor = number;
            }
        }
        let text = definition::write(std::slice::from_ref(&definition)).unwrap();
        let read = definition::read("state", &text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let [read] = read.as_slice() else { panic!("{text}") };
        prop_assert_eq!((&read.name, &read.from, read.keep), (&definition.name, &definition.from, definition.keep));
        prop_assert_eq!(
            (&read.events, &read.stages, read.watch),
            (&definition.events, &definition.stages, definition.watch)
        );
        // What tells definitions of a stage apart is their JSON.
        prop_assert_eq!(serde_json::to_string(read).unwrap(), serde_json::to_string(&definition).unwrap());
    }
}
