//! Names of others, and that no two of them come to the same point.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

fn pairs<'a>(all: &[(&'a str, &'a str)]) -> Pairs<'a> {
    all.iter()
        .map(|(name, value)| (Cow::Borrowed(name.as_bytes()), Cow::Borrowed(value.as_bytes())))
        .collect()
}

fn field(measurement: &str, field: &str, tags: &[(&str, &str)]) -> String {
    point_of_field(measurement.as_bytes(), field.as_bytes(), &pairs(tags)).unwrap().to_string()
}

fn metric(name: &str, labels: &[(&str, &str)], port: Option<&str>) -> String {
    point_of_metric(name.as_bytes(), &pairs(labels), port.map(str::as_bytes)).unwrap().to_string()
}

#[test]
fn points_read_as_the_documentation_says() {
    assert_eq!(field("weather", "temp", &[("site", "a b")]), "weather/temp/site.a-x20b");
    assert_eq!(field("weather", "value", &[("site", "a")]), "weather/site.a");
    assert_eq!(field("weather", "value", &[]), "weather");
    assert_eq!(field("cpu", "usage_idle", &[("cpu", "cpu-total")]), "cpu/usage_idle/cpu.cpu-total");
    assert_eq!(field("a.b", "c.d", &[("e.f", "1.5")]), "a.b/c-x2ed/e-x2ef.1.5");
    assert_eq!(metric("up", &[("job", "node")], Some("9100")), "up/job.node/9100");
    assert_eq!(metric("up", &[], None), "up");
    // A text that looks like an escaped byte is told from one.
    assert_eq!(metric("m", &[("k", "/")], None), "m/k.-x2f");
    assert_eq!(metric("m", &[("k", "-x2f")], None), "m/k.-x2dx2f");
    assert_eq!(metric("m", &[("k", "-x2g")], None), "m/k.-x2g");
}

#[test]
fn a_long_point_is_cut_and_still_its_own() {
    let long = |last: &str| {
        metric(
            "prometheus_http_request_duration_seconds_bucket",
            &[("handler", "/api/v1/query_range"), ("le", last)],
            None,
        )
    };
    let (one, other) = (long("0.1"), long("0.2"));
    assert_eq!((one.len(), other.len()), (ID_BYTES_MAX, ID_BYTES_MAX));
    assert!(one != other && one.starts_with("prometheus_http_request_duration_seconds_bucke//"), "{one}");
    assert_eq!(one, long("0.1"));
}

#[test]
fn a_port_is_taken_off_a_host_and_what_names_no_device_says_why() {
    let named =
        |value: &'static str| DeviceName::Named(Cow::Borrowed(b"instance"), Cow::Borrowed(value.as_bytes()));
    let parsed = |value| {
        named(value)
            .parse_with_port()
            .map(|(device, port)| (device.to_string(), port.map(|p| String::from_utf8_lossy(p).into_owned())))
    };
    assert_eq!(parsed("plc-4:9100"), Ok(("plc-4".to_owned(), Some("9100".to_owned()))));
    assert_eq!(parsed("plc-4"), Ok(("plc-4".to_owned(), None)));
    for (value, part) in [("[::1]:9100", "'['"), ("a b", "' '"), ("", "0 bytes"), ("host:", "':'")] {
        let why = parsed(value).unwrap_err();
        assert!(why.contains("instance=") && why.contains(part), "{why}");
    }
    assert!(named("plc-4:9100").parse().is_err());
}

/// Names and values as a client may send them, with what the mapping treats apart.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let tricky = prop_oneof![
        Just(b'-'),
        Just(b'x'),
        Just(b'2'),
        Just(b'f'),
        Just(b'.'),
        Just(b'/'),
        Just(b'_'),
        any::<u8>()
    ];
    proptest::collection::vec(tricky, 1..5)
}

/// A measurement, a field, and tags in the order of their names.
type Named = (Vec<u8>, Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

fn named() -> impl Strategy<Value = Named> {
    let tags = proptest::collection::btree_map(text(), text(), 0..3);
    let field = prop_oneof![Just(PLAIN_FIELD.to_vec()), text()];
    (text(), field, tags.prop_map(|tags| tags.into_iter().collect()))
}

fn owned(tags: &[(Vec<u8>, Vec<u8>)]) -> Pairs<'_> {
    tags.iter().map(|(name, value)| (Cow::Borrowed(&name[..]), Cow::Borrowed(&value[..]))).collect()
}

/// What a part of a point stands for.
fn unescaped(part: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), part.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        if is_escape(rest) {
            let digits = std::str::from_utf8(&rest[2..4]).unwrap();
            out.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &rest[4..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

proptest! {
    /// A point that is not cut can be read back, so no other name comes to it.
    #[test]
    fn a_point_reads_back_to_its_name((measurement, field, tags) in named()) {
        let point = point_of_field(&measurement, &field, &owned(&tags)).unwrap();
        prop_assume!(!point.as_str().contains(CUT));
        let mut parts = point.as_str().split('/');
        prop_assert_eq!(unescaped(parts.next().unwrap()), measurement);
        let (pairs, fields): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.contains('.'));
        prop_assert_eq!(fields.first().map_or(PLAIN_FIELD.to_vec(), |field| unescaped(field)), field);
        let pairs: Vec<_> = pairs.iter().map(|pair| pair.split_once('.').unwrap()).map(|(k, v)| (unescaped(k), unescaped(v))).collect();
        prop_assert_eq!(pairs, tags);
    }

    #[test]
    fn two_names_never_come_to_one_point(one in named(), other in named()) {
        let point = |(measurement, field, tags): &Named| point_of_field(measurement, field, &owned(tags)).unwrap();
        prop_assert_eq!(one == other, point(&one) == point(&other));
    }
}
