//! Line protocol: what is taken, what is refused and by which line, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::names::Mapping;
use crate::{READINGS_MAX, SERIES_MAX};

const NOW: i64 = 1_700_000_000_000_000_000;

fn parse_as(text: &[u8], precision: Precision) -> Result<Taken, FormatError> {
    let mut admit = |device: &DeviceId| match device.as_str() {
        "alien" => Err("this token may not write for alien".to_owned()),
        _ => Ok(()),
    };
    let keys = ["host".to_owned(), "device".to_owned()];
    parse(text, precision, NOW, &mut Mapping { device_keys: &keys, only_device: None, admit: &mut admit })
}

fn parsed(text: &str) -> Taken {
    parse_as(text.as_bytes(), Precision::Nanos).unwrap()
}

/// All readings as `device/point value time`, in the order of columns.
fn told(taken: &Taken) -> Vec<String> {
    let of = |column: &crate::Column| {
        let (device, point) = (column.device.clone(), column.point.clone());
        column
            .samples
            .iter()
            .map(move |s| {
                let value = column.boxes.value(s.value, column.kind).0;
                format!("{device}/{point} {value} {}", s.time_ns)
            })
            .collect::<Vec<_>>()
    };
    taken.columns.iter().flat_map(of).collect()
}

fn problems(taken: &Taken) -> Vec<(u64, &str)> {
    taken.problems.listed.iter().map(|p| (p.at, p.reason.as_str())).collect()
}

#[test]
fn readings_come_by_device_and_point() {
    let taken = parsed(
        "# a comment\n\nweather,host=roof,site=a\\ b temp=1.5,hum=40i,wet=t 5\r\nweather,site=a\\ b,host=roof temp=-2e-3 6\nlone,device=d value=7u\n",
    );
    assert_eq!(
        told(&taken),
        [
            "roof/weather/temp/site.a-x20b 1.5 5",
            "roof/weather/temp/site.a-x20b -0.002 6",
            "roof/weather/hum/site.a-x20b 40 5",
            "roof/weather/wet/site.a-x20b true 5",
            "d/lone 7 1700000000000000000",
        ]
    );
    assert_eq!(taken.problems, crate::Problems::default());
}

#[test]
fn bad_lines_are_named_by_number_and_the_others_are_taken() {
    let cases = [
        ("m,host=a", "no fields"),
        ("m,host=a ", "no fields"),
        ("m,host=a v", "no value"),
        ("m,host=a =1", "no name"),
        ("m,host=a v=", "is no value"),
        ("m,host=a v=nan", "is no value"),
        ("m,host=a v=inf", "is no value"),
        ("m,host=a v=1e999", "is no value"),
        ("m,host=a v=1x", "is no value"),
        ("m,host=a v=9223372036854775808i", "is no value"),
        ("m,host=a v=-1u", "is no value"),
        ("m,host=a v=1 noon", "is no time"),
        ("m,host=a v=1 5 6", "is no time"),
        ("m,host=a v=1 9223372036854775808", "is no time"),
        ("m,host= v=1", "neither is empty"),
        ("m,host v=1", "neither is empty"),
        ("m,host=a,host=b v=1", "twice"),
        (",host=a v=1", "no measurement"),
        ("m,host=a v=1,", "no value"),
        ("m,host=a v=\"x", "closing quote"),
    ];
    for (bad, why) in cases {
        let taken = parsed(&format!("m,host=a v=1 1\n{bad}\nm,host=a v=2 2\n"));
        assert_eq!(problems(&taken).first().map(|p| p.0), Some(2), "{bad}: {:?}", taken.problems);
        assert!(problems(&taken)[0].1.contains(why), "{bad}: {}", problems(&taken)[0].1);
        assert_eq!((taken.problems.all, taken.problems.malformed), (1, 1), "{bad}");
        assert_eq!(told(&taken), ["a/m/v 1 1", "a/m/v 2 2"], "{bad}");
    }
}

#[test]
fn what_cannot_be_kept_is_refused_by_field_and_the_rest_of_its_line_is_taken() {
    let taken = parsed(
        "m,host=a s=\"x, y=1\",v=1,big=9007199254740993i,even=9007199254740994u,huge=9223372036854775808u 1\nm,host=alien v=1\nm v=1\nm,host=a\\ b v=1\n",
    );
    let kept = ["a/m/s x, y=1 1", "a/m/v 1 1", "a/m/big 9007199254740993 1", "a/m/even 9007199254740994 1"];
    assert_eq!(told(&taken), kept);
    let kinds: Vec<_> = taken.columns.iter().map(|column| column.kind.as_str()).collect();
    assert_eq!(kinds, ["text", "float", "int", "int"]);
    assert_eq!(taken.problems.malformed, 0);
    let wanted = [
        (1, "9223372036854775808 cannot be kept"),
        (2, "may not write for alien"),
        (3, "allowed are host, device"),
        (4, "names no device"),
    ];
    assert_eq!(problems(&taken).len(), wanted.len());
    for ((at, why), (line, part)) in problems(&taken).into_iter().zip(wanted) {
        assert!(at == line && why.contains(part), "{at}: {why}");
    }
}

#[test]
fn a_text_may_be_of_several_lines_and_lines_are_still_counted() {
    let taken = parsed("m,host=a s=\"one\ntwo \\\" \n\",v=1 1\nm,host=a v=x 2\nm,host=a v=3 3");
    assert_eq!(told(&taken), ["a/m/s one\ntwo \" \n 1", "a/m/v 1 1", "a/m/v 3 3"]);
    assert_eq!(problems(&taken).iter().map(|p| p.0).collect::<Vec<_>>(), [4]);
}

#[test]
fn times_are_of_the_unit_that_the_request_names() {
    for (name, precision, ns) in [
        ("s", Precision::Seconds, 7_000_000_000_i64),
        ("ms", Precision::Millis, 7_000_000),
        ("us", Precision::Micros, 7_000),
        ("h", Precision::Hours, 25_200_000_000_000),
    ] {
        assert_eq!(Precision::parse(Some(name)), Ok(precision));
        assert_eq!(told(&parse_as(b"m,host=a v=1 7", precision).unwrap()), [format!("a/m/v 1 {ns}")]);
    }
    assert_eq!(Precision::parse(None), Ok(Precision::Nanos));
    assert!(Precision::parse(Some("fortnight")).unwrap_err().to_string().contains("allowed are ns"));
    // Nanoseconds of a client that should have said so.
    let late = parse_as(b"m,host=a v=1 1700000000000000000", Precision::Seconds).unwrap();
    assert!(problems(&late)[0].1.contains("precision="), "{:?}", late.problems);
}

#[test]
fn a_request_beyond_a_limit_is_refused_as_a_whole() {
    let too_much = |text: &str, what: &str| match parse_as(text.as_bytes(), Precision::Nanos) {
        Err(error @ FormatError::TooMuch { .. }) => assert!(error.to_string().contains(what), "{error}"),
        other => panic!("{what}: {other:?}"),
    };
    let limit = usize::try_from(LINES_MAX).unwrap();
    too_much(&"\n".repeat(limit + 1), "lines");
    let fields: Vec<String> = (0..SERIES_MAX + 1).map(|n| format!("f{n}=1")).collect();
    too_much(&format!("m,host=a {}", fields.join(",")), "series");
    let line = format!("m,host=a {}\n", vec!["v=1"; 1000].join(","));
    too_much(&line.repeat(READINGS_MAX / 1000 + 1), "readings");
    let tags: String = (0..=LABELS_MAX).map(|n| format!(",t{n}=1")).collect();
    assert!(problems(&parsed(&format!("m,host=a{tags} v=1")))[0].1.contains("tags"));
    // The problems that are told are few, and all are counted.
    let taken = parsed(&"m\n".repeat(1000));
    assert_eq!((taken.problems.all, taken.problems.listed.len()), (1000, crate::PROBLEMS_LISTED_MAX));
    assert!(taken.problems.told("line").ends_with("and 980 more"), "{}", taken.problems.told("line"));
}

#[test]
fn the_only_device_of_a_token_needs_no_tag() {
    let keys = ["host".to_owned()];
    let mut admit = |_: &DeviceId| Ok(());
    let only_device = Some(DeviceId::parse("pump-7").unwrap());
    let taken = parse(
        b"m v=1 1\nm,host=b v=2 2",
        Precision::Nanos,
        NOW,
        &mut Mapping { device_keys: &keys, only_device, admit: &mut admit },
    );
    assert_eq!(told(&taken.unwrap()), ["pump-7/m/v 1 1", "b/m/v 2 2"]);
}

/// A name as a client may have it, and as it is written.
fn name() -> impl Strategy<Value = String> {
    "[a-z,= é_.-]{1,6}"
}

fn written(name: &str) -> String {
    name.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
}

/// Several lines of one series key, as they are written, with the reading of each.
fn line() -> impl Strategy<Value = (String, i64, f64)> {
    let tags = proptest::collection::btree_map(name().prop_map(|n| format!("t{n}")), name(), 0..3);
    let value =
        prop_oneof![any::<f64>().prop_filter("finite", |v| v.is_finite()), any::<i32>().prop_map(f64::from)];
    (name().prop_map(|n| format!("m{n}")), tags, name(), value, any::<i64>()).prop_map(
        |(measurement, tags, field, value, time)| {
            let tags: String = tags.iter().map(|(k, v)| format!(",{}={}", written(k), written(v))).collect();
            (
                format!("{}{tags},host=h {}={value:?} {time}", written(&measurement), written(&field)),
                time,
                value,
            )
        },
    )
}

proptest! {
    /// What is printed of readings is those readings, each with its time and every bit of its value.
    #[test]
    fn what_is_printed_comes_back(lines in proptest::collection::vec(line(), 0..12)) {
        let text: String = lines.iter().map(|(text, ..)| format!("{text}\n")).collect();
        let taken = parsed(&text);
        prop_assert_eq!(&taken.problems, &crate::Problems::default());
        let mut found: Vec<_> = taken.columns.iter().flat_map(|c| &c.samples).map(|s| (s.time_ns, s.value.to_bits())).collect();
        let mut sent: Vec<_> = lines.iter().map(|(_, time, value)| (*time, value.to_bits())).collect();
        found.sort_unstable();
        sent.sort_unstable();
        prop_assert_eq!(found, sent);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn almost_line_protocol_is_taken_or_refused(bytes in "[mvh,= \\\\\"\n\t0-9iut.#-]{0,120}") {
        check(bytes.as_bytes());
    }
}

/// Each line is counted at most once as malformed, and what is taken is within its limits.
fn check(bytes: &[u8]) {
    let taken = parse_as(bytes, Precision::Nanos).unwrap();
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    assert!(taken.problems.malformed <= lines);
    assert!(taken.problems.listed.iter().all(|p| (1..=lines).contains(&p.at) && !p.reason.is_empty()));
    assert!(taken.columns.iter().flat_map(|c| &c.samples).all(|s| s.value.is_finite()));
}
