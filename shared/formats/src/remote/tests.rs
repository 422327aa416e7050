//! Remote write: what is taken, what is refused, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::{READINGS_MAX, SERIES_MAX};

#[derive(Clone, PartialEq, prost::Message)]
struct RequestV1 {
    #[prost(message, repeated, tag = "1")]
    series: Vec<SeriesV1>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    metadata: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<SeriesV2>,
}

fn label((name, value): &(&str, &str)) -> Label {
    Label { name: name.as_bytes().to_vec(), value: value.as_bytes().to_vec() }
}

fn series(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> SeriesV1 {
    SeriesV1 {
        labels: labels.iter().map(label).collect(),
        samples: samples.iter().map(|(value, time_ms)| Point { value: *value, time_ms: *time_ms }).collect(),
        histograms: vec![],
    }
}

fn parsed(bytes: &[u8], version: Version) -> Result<Taken, FormatError> {
    let mut admit = |device: &DeviceId| match device.as_str() {
        "alien" => Err("this token may not write for alien".to_owned()),
        _ => Ok(()),
    };
    let keys = ["instance".to_owned()];
    parse(bytes, version, &mut Mapping { device_keys: &keys, only_device: None, admit: &mut admit })
}

fn v1(series: Vec<SeriesV1>) -> Result<Taken, FormatError> {
    parsed(&RequestV1 { series, metadata: vec![b"passed over".to_vec()] }.encode_to_vec(), Version::V1)
}

fn told(taken: &Taken) -> Vec<String> {
    let of = |column: &crate::Column| {
        let (device, point) = (column.device.clone(), column.point.clone());
        column
            .samples
            .iter()
            .map(move |s| format!("{device}/{point} {} {}", s.value, s.time_ns))
            .collect::<Vec<_>>()
    };
    taken.columns.iter().flat_map(of).collect()
}

fn only_malformed(found: Result<Taken, FormatError>, part: &str) {
    match found {
        Err(FormatError::Malformed(why)) => assert!(why.contains(part), "{why}"),
        other => panic!("{part}: {other:?}"),
    }
}

#[test]
fn samples_come_by_device_and_point() {
    let taken = v1(vec![
        series(&[("__name__", "up"), ("instance", "plc-4:9100"), ("job", "node")], &[(1.0, 5), (0.0, 6)]),
        // Labels out of order, and one without a value.
        series(&[("job", "node"), ("instance", "plc-4:9100"), ("gone", ""), ("__name__", "up")], &[(2.5, 7)]),
        series(&[("__name__", "up"), ("instance", "plc-4:9101"), ("job", "node")], &[(3.0, 5)]),
    ])
    .unwrap();
    assert_eq!(
        told(&taken),
        [
            "plc-4/up/job.node/9100 1 5000000",
            "plc-4/up/job.node/9100 0 6000000",
            "plc-4/up/job.node/9100 2.5 7000000",
            "plc-4/up/job.node/9101 3 5000000"
        ]
    );
    assert_eq!(taken.problems, crate::Problems::default());
}

#[test]
fn the_second_version_has_its_labels_in_a_table() {
    let symbols = ["", "__name__", "up", "instance", "plc-4"].map(str::to_owned).to_vec();
    let one = |labels: Vec<u32>| SeriesV2 {
        labels,
        samples: vec![Point { value: 1.5, time_ms: 5 }],
        histograms: vec![],
    };
    let request = RequestV2 {
        symbols,
        series: vec![one(vec![1, 2, 3, 4]), one(vec![1, 2, 3]), one(vec![1, 2, 3, 9]), one(vec![3, 4])],
    };
    let taken = parsed(&request.encode_to_vec(), Version::V2).unwrap();
    assert_eq!(told(&taken), ["plc-4/up 1.5 5000000"]);
    let why: Vec<_> = taken.problems.listed.iter().map(|p| (p.at, p.reason.as_str())).collect();
    let wanted = [(2, "no pairs"), (3, "symbol 9, and there are 5"), (4, "__name__")];
    assert_eq!(why.len(), wanted.len());
    for ((at, why), (number, part)) in why.into_iter().zip(wanted) {
        assert!(at == number && why.contains(part), "{at}: {why}");
    }
}

#[test]
fn single_series_are_refused_by_number_and_the_others_are_taken() {
    let mut histogram = series(&[("__name__", "h"), ("instance", "a")], &[]);
    histogram.histograms.push(vec![]);
    let many: Vec<(String, String)> = (0..=LABELS_MAX).map(|n| (format!("l{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let cases = [
        (histogram, "native histograms"),
        (series(&[("instance", "a")], &[(1.0, 1)]), "__name__"),
        (series(&[("__name__", "m")], &[(1.0, 1)]), "allowed are instance"),
        (series(&[("__name__", "m"), ("instance", "alien:1")], &[(1.0, 1)]), "may not write for alien"),
        (series(&[("__name__", "m"), ("instance", "a b")], &[(1.0, 1)]), "names no device"),
        (series(&[("__name__", "m"), ("x", "1"), ("x", "2"), ("instance", "a")], &[(1.0, 1)]), "twice"),
        (series(&[("__name__", "m"), ("", "1"), ("instance", "a")], &[(1.0, 1)]), "no name"),
        (series(&[("__name__", "m"), ("instance", "a")], &[(1.0, i64::MAX)]), "out of range"),
        (series(&many, &[(1.0, 1)]), "labels; allowed are"),
    ];
    for (bad, why) in cases {
        let good = || series(&[("__name__", "m"), ("instance", "a")], &[(4.0, 4)]);
        let taken = v1(vec![good(), bad, good()]).unwrap();
        assert_eq!(told(&taken), ["a/m 4 4000000", "a/m 4 4000000"], "{why}");
        let problem = &taken.problems.listed[0];
        assert!(problem.at == 2 && problem.reason.contains(why), "{problem:?}");
    }
}

#[test]
fn a_mark_of_an_end_is_counted_and_no_reading_and_other_nans_are_kept() {
    let stale = f64::from_bits(STALE_BITS);
    let taken = v1(vec![series(
        &[("__name__", "m"), ("instance", "a")],
        &[(1.0, 1), (stale, 2), (f64::NAN, 3), (f64::INFINITY, 4)],
    )])
    .unwrap();
    assert_eq!(told(&taken), ["a/m 1 1000000", "a/m NaN 3000000", "a/m inf 4000000"]);
    assert_eq!((taken.stale_markers, taken.problems.all), (1, 0));
    // One of which nothing is left makes no series.
    assert!(
        v1(vec![series(&[("__name__", "m"), ("instance", "a")], &[(stale, 2)])]).unwrap().columns.is_empty()
    );
}

#[test]
fn a_request_beyond_a_limit_is_refused_as_a_whole() {
    let too_much = |found: Result<Taken, FormatError>, what: &str| match found {
        Err(error @ FormatError::TooMuch { .. }) => assert!(error.to_string().contains(what), "{error}"),
        other => panic!("{what}: {:?}", other.map(|taken| taken.readings())),
    };
    let all =
        (0..=SERIES_MAX).map(|n| series(&[("__name__", &format!("m{n}")), ("instance", "a")], &[(1.0, 1)]));
    too_much(v1(all.collect()), "series");
    let one = series(&[("__name__", "m"), ("instance", "a")], &vec![(1.0, 1); 50_000]);
    too_much(v1(vec![one; READINGS_MAX / 50_000 + 1]), "readings");
    // Two bytes each: what would take memory is not their length.
    let symbols = [0x22, 0].repeat(SYMBOLS_MAX + 1);
    too_much(parsed(&symbols, Version::V2), "symbols");
    let long = series(&[("__name__", &"m".repeat(SERIES_BYTES_MAX)), ("instance", "a")], &[]);
    only_malformed(v1(vec![long]), "bytes; allowed are");
    // Millions of empty series come to nothing, one after the other.
    assert!(parsed(&[0x0a, 0].repeat(1_000_000), Version::V1).unwrap().columns.is_empty());
}

#[test]
fn what_is_no_request_is_refused() {
    only_malformed(parsed(b"\x0a\x05ab", Version::V1), "no remote write request");
    only_malformed(parsed(b"\x0b", Version::V2), "no remote write request");
    only_malformed(parsed(b"\x0a\x02\x0a\x7f", Version::V1), "time series 1 is malformed");
    only_malformed(parsed(&[0xff; 11], Version::V1), "no remote write request");
}

#[test]
fn the_content_type_says_the_version() {
    for (text, version) in [
        ("application/x-protobuf", Some(Version::V1)),
        ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Version::V1)),
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(Version::V2)),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
        ("application/json", None),
        ("", None),
    ] {
        assert_eq!(Version::of_content_type(text), version, "{text}");
    }
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back(all in proptest::collection::vec(("[a-z]{1,4}", "[a-zA-Z0-9é/ .-]{0,8}", proptest::collection::vec((any::<u64>(), -9_000_000_000_000_i64..9_000_000_000_000), 0..5)), 0..8)) {
        let made = |(name, value, samples): &(String, String, Vec<(u64, i64)>)| {
            let samples: Vec<_> = samples.iter().map(|(bits, ms)| (f64::from_bits(*bits), *ms)).collect();
            series(&[("__name__", name), ("instance", "a"), ("l", value)], &samples)
        };
        let taken = v1(all.iter().map(made).collect()).unwrap();
        prop_assert_eq!(taken.problems.all, 0);
        let mut found: Vec<_> = taken.columns.iter().flat_map(|c| &c.samples).map(|s| (s.time_ns, s.value.to_bits())).collect();
        let mut sent: Vec<_> = all.iter().flat_map(|(.., samples)| samples).map(|(bits, ms)| (ms * NS_PER_MS, *bits)).filter(|(_, bits)| *bits != STALE_BITS).collect();
        found.sort_unstable();
        sent.sort_unstable();
        prop_assert_eq!(found, sent);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for version in [Version::V1, Version::V2] {
            if let Ok(taken) = parsed(&bytes, version) {
                prop_assert!(taken.readings() <= READINGS_MAX);
            }
        }
    }

    /// Damage to a good request, so that what is behind its beginning is reached.
    #[test]
    fn a_damaged_request_is_taken_or_refused(at in 0_usize..60, byte in any::<u8>(), cut in 0_usize..60) {
        let request = RequestV1 { series: vec![series(&[("__name__", "up"), ("instance", "a:1"), ("job", "x")], &[(1.0, 5), (2.0, 6)])], metadata: vec![] };
        let mut bytes = request.encode_to_vec();
        if let Some(found) = bytes.get_mut(at) {
            *found = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        for version in [Version::V1, Version::V2] {
            let _either = parsed(&bytes, version);
        }
    }
}
