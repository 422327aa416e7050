//! Bytes that are not the state of a job are an error that says so, and never a panic.

use proptest::prelude::*;
use tideline_streams::spec::{Aggregate, Combine, Direction, JobSpec, Join, Window};
use tideline_streams::{Engine, Job, StateError};

use super::rig::{Step, engine, run, spec};

const HEADER_BYTES: usize = 18;

fn specs() -> Vec<JobSpec> {
    let windows = [
        Window::Each,
        Window::Tumbling { length_ms: 10 },
        Window::Hopping { length_ms: 20, hop_ms: 5 },
        Window::Sliding { length_ms: 10 },
        Window::Session { gap_ms: 5 },
    ];
    let of = |window: Window, joined: bool| {
        let aggregates: &[Aggregate] = if window == Window::Each { &[] } else { &Aggregate::ALL };
        let mut spec = spec(window, aggregates);
        spec.time.out_of_orderness_ms = 20;
        spec.join = joined.then(|| Join {
            left: "t".to_owned(),
            right: "u".to_owned(),
            tolerance_ms: 9,
            direction: Direction::Nearest,
            combine: Combine::Sum,
            left_device: None,
            right_device: None,
        });
        spec.late.allowed_ms = if joined { 0 } else { 15 };
        spec
    };
    windows.iter().flat_map(|window| [of(window.clone(), false), of(window.clone(), true)]).collect()
}

fn steps() -> Vec<Step> {
    let rows = |from: i64| (0..20).map(|n| (from + n * 3, n as f64 / 8.0)).collect::<Vec<_>>();
    vec![
        Step::Readings(50, vec![("a", "t", rows(0)), ("a", "u", rows(1)), ("b", "t", rows(-200))]),
        Step::Readings(60, vec![("a", "t", vec![(21, 0.5), (48, 0.25)])]),
    ]
}

fn saved(spec: &JobSpec) -> Vec<u8> {
    let mut job = engine(spec);
    run(&mut job, &steps());
    job.save().unwrap()
}

fn restore(spec: &JobSpec, bytes: &[u8]) -> Result<Engine, StateError> {
    Engine::restore(Job::check(spec.clone()).unwrap(), bytes)
}

/// The payload with the header that it needs.
fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"TLSJ\x01\x00".to_vec();
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn every_cut_and_every_flipped_byte_is_found() {
    for spec in specs() {
        let whole = saved(&spec);
        assert_eq!(framed(&whole[HEADER_BYTES..]), whole, "the header is as it is described");
        restore(&spec, &whole).unwrap();
        for end in 0..whole.len() {
            assert!(restore(&spec, &whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            assert!(restore(&spec, &bytes).is_err(), "flipped at {at}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(restore(&spec, &longer), Err(StateError::Length { .. })));
    }
}

#[test]
fn what_is_wrong_is_told() {
    let spec = &specs()[2];
    let whole = saved(spec);
    let told = |bytes: &[u8]| restore(spec, bytes).unwrap_err().to_string();
    assert_eq!(told(b""), "these are not the bytes of a job's state");
    assert_eq!(told(b"PNG\x89 and more than eighteen bytes"), "these are not the bytes of a job's state");
    let mut newer = whole.clone();
    newer[4] = 2;
    assert_eq!(told(&newer), "the state has version 2; allowed is 1");
    let wanted = whole.len() - HEADER_BYTES;
    assert_eq!(
        told(&whole[..whole.len() - 1]),
        format!("the state has {} bytes behind its header in place of {wanted}", wanted - 1)
    );
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    assert_eq!(told(&flipped), "the state's checksum is wrong");
    for change in [
        |spec: &mut JobSpec| spec.window = Window::Tumbling { length_ms: 11 },
        |spec: &mut JobSpec| spec.source.points = vec!["t".to_owned()],
        |spec: &mut JobSpec| spec.aggregates.truncate(1),
    ] {
        let mut other = spec.clone();
        change(&mut other);
        assert_eq!(restore(&other, &whole), Err(StateError::OtherJob));
    }
    assert!(told(&framed(b"\x80")).starts_with("the state is damaged: "));
}

#[test]
fn a_job_may_be_given_more_room_and_more_time_and_goes_on() {
    let mut small = spec(Window::Tumbling { length_ms: 10 }, &[Aggregate::Sum]);
    small.limits.open_windows = 1;
    let mut job = engine(&small);
    let at = |point, ms| Step::Readings(0, vec![("a", point, vec![(ms, 1.0)])]);
    assert_eq!(run(&mut job, &[at("t", 1), at("u", 1)]), ["side a/u 1=1 open_windows"]);
    small.limits.open_windows = 3;
    small.late.allowed_ms = 50;
    small.name = "renamed".to_owned();
    let mut job = restore(&small, &job.save().unwrap()).unwrap();
    let wanted = ["a/t [0,10) sum=1", "a/u [0,10) sum=1", "late a/u [0,10) sum=2"];
    assert_eq!(run(&mut job, &[at("u", 1), at("t", 10), at("u", 2)]), wanted);
    assert_eq!(job.last_number(), 4);
}

/// The bytes with each `from` in it become `to`, and as many the other way round.
fn swapped(payload: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut found, mut rest) = (Vec::new(), payload);
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(from) {
            found.extend_from_slice(to);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(to) {
            found.extend_from_slice(from);
            rest = behind;
        } else {
            found.push(*first);
            rest = behind;
        }
    }
    found
}

#[test]
fn what_can_be_no_state_is_refused_though_its_checksum_is_right() {
    // 1 ms and 5 ms in CBOR.
    let (one, five) = (&[0x1a, 0x00, 0x0f, 0x42, 0x40], &[0x1a, 0x00, 0x4c, 0x4b, 0x40]);
    for spec in specs().into_iter().filter(|spec| spec.window != Window::Each || spec.join.is_some()) {
        let mut job = engine(&spec);
        run(&mut job, &[Step::Readings(7, vec![("a", "t", vec![(1, 0.5), (5, 2.0)])])]);
        let payload = job.save().unwrap()[HEADER_BYTES..].to_vec();
        restore(&spec, &framed(&payload)).unwrap();
        let unordered = swapped(&payload, one, five);
        assert_ne!(unordered, payload);
        let wanted = StateError::Damaged("its windows cannot be windows of the job".to_owned());
        assert_eq!(restore(&spec, &framed(&unordered)), Err(wanted), "{:?}", spec.window);
        // The same number in more bytes than it needs.
        let longer = swapped(&payload, five, &[0x1b, 0, 0, 0, 0, 0x00, 0x4c, 0x4b, 0x40]);
        let wanted = StateError::Damaged("it has another form than it is written in".to_owned());
        assert_eq!(restore(&spec, &framed(&longer)), Err(wanted));
    }
}

/// The same state in hexadecimal, so that a change of the layout without a new version is seen.
#[test]
fn the_layout_of_version_1_is_what_it_was() {
    let mut small = spec(Window::Tumbling { length_ms: 10 }, &[Aggregate::Sum]);
    small.name = "m".to_owned();
    let mut job = engine(&small);
    run(&mut job, &[Step::Readings(7, vec![("a", "t", vec![(1, 0.5), (5, 2.0)])])]);
    let bytes = job.save().unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("state-1.hex").split_whitespace().collect::<String>());
    assert_eq!(restore(&small, &bytes).unwrap(), job);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_behind_a_right_checksum_panics_neither_at_once_nor_later(
        which in 0_usize..10, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let spec = &specs()[which];
        let mut payload = saved(spec)[HEADER_BYTES..].to_vec();
        // Behind the definition, whose change is found first.
        let from = payload.windows(2).position(|pair| pair == b"]}").unwrap_or(0);
        for (at, byte) in edits {
            let at = from + at.index(payload.len() - from);
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        if let Ok(mut job) = restore(spec, &framed(&payload)) {
            run(&mut job, &steps());
            run(&mut job, &[Step::Tick(10_000), Step::Drain(10_000)]);
            restore(spec, &job.save().unwrap()).unwrap();
        }
    }

    #[test]
    fn any_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let spec = &specs()[1];
        prop_assert!(restore(spec, &bytes).is_err());
        prop_assert!(restore(spec, &framed(&bytes)).is_err());
    }
}
