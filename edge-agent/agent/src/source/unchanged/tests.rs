//! What is held back equals a reference, and what says something new always goes on.

use proptest::prelude::*;
use tideline_protocol::model::SeriesDef;
use tideline_protocol::value::{Quality, Value};

use super::*;

const PROFILE: &str = "name = \"pump\"\n[collection.default]\ninterval_ms = 10_000\n[collection.changes]\n\
    interval_ms = 10_000\non_change = true\n[points]\nall = { unit = \"1\", min = -9, max = 99 }\nband = { unit = \"1\", min = -9, max = 99, deadband = 2 }\n\
    change = { unit = \"1\", min = -9, max = 99, group = \"changes\" }\nstate = { type = \"text\", group = \"changes\" }\n\
    both = { unit = \"1\", min = -9, max = 99, group = \"changes\", deadband = 0.5 }\n";
const NS_PER_S: i64 = 1_000_000_000;
/// Half an interval before the fifth reading.
const HEARTBEAT_S: i64 = 45;

type Told = (i64, Value, Quality);

fn profiles() -> Profiles {
    let profile = Profile::parse("pump.toml", PROFILE).unwrap();
    [(DeviceId::parse("pump-1").unwrap(), Arc::new(profile))].into()
}

fn def(point: &str) -> SeriesDef {
    let kind = if point == "state" { "text" } else { "" }.parse().unwrap_or_default();
    let (device, point) = (DeviceId::parse("pump-1").unwrap(), PointId::parse(point).unwrap());
    SeriesDef::new(device, point, String::new()).of_kind(kind)
}

/// What is sent of these, handed on in portions of so many.
fn sent(point: &str, all: &[Told], portion: usize) -> Vec<Told> {
    let (mut unchanged, def, mut sent) = (Unchanged::default(), def(point), Vec::new());
    let mut held = 0;
    for portion in all.chunks(portion) {
        let mut boxes = Boxes::default();
        let sample = |(time_s, value, quality): &Told| Sample {
            time_ns: time_s * NS_PER_S,
            value: boxes.word(value.clone(), *quality),
        };
        let mut rows = vec![(def.clone(), portion.iter().map(sample).collect())];
        held += unchanged.take_out(&mut rows, &boxes, &profiles());
        assert!(rows.iter().all(|(_, samples)| !samples.is_empty()));
        sent.extend(rows.into_iter().flat_map(|(_, samples)| samples).map(|sample| {
            let (value, quality) = boxes.value(sample.value, def.kind());
            (sample.time_ns / NS_PER_S, value, quality)
        }));
    }
    assert_eq!(held, (all.len() - sent.len()) as u64);
    sent
}

/// The same, as one would say it.
fn reference(band: Option<f64>, all: &[Told]) -> Vec<Told> {
    let Some(band) = band else { return all.to_vec() };
    let (mut out, mut last): (Vec<Told>, Option<Told>) = (Vec::new(), None);
    for told in all {
        let is_kept = last.as_ref().is_none_or(|last| {
            let is_near = match (&last.1, &told.1) {
                (Value::Float(last), Value::Float(now)) => (last - now).abs() <= band,
                _ => false,
            };
            let is_same = last.2 == told.2 && last.1 == told.1;
            let are_good = last.2 == Quality::Good && told.2 == Quality::Good;
            !(is_same || are_good && is_near) || !(0..HEARTBEAT_S).contains(&(told.0 - last.0))
        });
        if is_kept {
            // What came before its time tells nothing of what is.
            let is_late = last.as_ref().is_some_and(|last| told.0 < last.0);
            last = (!is_late).then(|| told.clone());
            out.push(told.clone());
        }
    }
    out
}

fn numbers() -> impl Strategy<Value = Vec<Told>> {
    let value = prop_oneof![
        8 => (0_i32..9).prop_map(|n| Value::Float(f64::from(n) / 2.0)),
        1 => Just(Value::Null),
    ];
    let quality =
        prop_oneof![8 => Just(Quality::Good), 1 => Just(Quality::Uncertain), 1 => Just(Quality::Bad)];
    let told = (prop_oneof![9 => 0_i64..20, 1 => -30_i64..90], value, quality);
    prop::collection::vec(told, 0..60).prop_map(|steps| {
        let mut time_s = 1_000;
        let at = |(step, value, quality): (i64, Value, Quality)| {
            time_s += step;
            (time_s, value, quality)
        };
        steps.into_iter().map(at).collect()
    })
}

proptest! {
    #[test]
    fn what_is_sent_is_as_the_reference_says_however_it_is_handed_on(
        all in numbers(),
        portion in 1_usize..9,
        (point, band) in prop::sample::select(vec![
            ("all", None), ("band", Some(2.0)), ("change", Some(0.0)), ("both", Some(0.5)),
        ]),
    ) {
        prop_assert_eq!(sent(point, &all, portion), reference(band, &all));
    }
}

#[test]
fn slow_drift_is_sent_as_it_leaves_the_band_of_the_last_that_was_sent() {
    let drift: Vec<Told> =
        (0..10_i32).map(|n| (i64::from(n), Value::Float(f64::from(n)), Quality::Good)).collect();
    let values: Vec<Value> = sent("band", &drift, 1).into_iter().map(|(_, value, _)| value).collect();
    assert_eq!(values, [0.0, 3.0, 6.0, 9.0].map(Value::Float));
}

#[test]
fn texts_are_sent_as_they_change_and_once_in_a_while() {
    let said = ["off", "off", "on", "on", "off"];
    let all: Vec<Told> =
        (0..).zip(said).map(|(n, text)| (n * 10, Value::Text(text.into()), Quality::Good)).collect();
    let times = |all: &[Told]| sent("state", all, 2).iter().map(|(time_s, ..)| *time_s).collect::<Vec<_>>();
    assert_eq!(times(&all), [0, 20, 40]);
    let still: Vec<Told> = (0..12).map(|n| (n * 10, Value::Text("on".into()), Quality::Good)).collect();
    assert_eq!(times(&still), [0, 50, 100]);
}

#[test]
fn devices_without_a_profile_and_new_attempts_begin_with_their_first_reading() {
    let (def, boxes) = (def("change"), Boxes::default());
    let row = || vec![(def.clone(), vec![Sample { time_ns: 0, value: 7.0 }])];
    let (mut first, mut again) = (Unchanged::default(), Unchanged::default());
    for (unchanged, profiles, held) in [
        (&mut first, profiles(), [0, 1]),
        (&mut again, profiles(), [0, 1]),
        (&mut Unchanged::default(), Profiles::new(), [0, 0]),
    ] {
        assert_eq!([(); 2].map(|()| unchanged.take_out(&mut row(), &boxes, &profiles)), held);
    }
}
