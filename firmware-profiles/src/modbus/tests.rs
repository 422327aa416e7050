//! Registers, plans and what answers say.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_protocol::value::Quality;

use super::*;
use crate::conversion::Reason;
use crate::shipped;

fn profile(points: &str) -> Profile {
    Profile::parse("x.toml", &format!("name = \"x\"\n[modbus]\ngap_max = 2\n[points]\n{points}")).unwrap()
}

fn sdm630() -> Profile {
    shipped::named("eastron-sdm630").unwrap().profile().unwrap()
}

/// What a point says when these words stand there.
fn decoded(point: &str, words: &[u16]) -> Result<Value, String> {
    let plan = Plan::of(&profile(&format!("p = {{ {point} }}"))).unwrap();
    let [group] = &plan.groups[..] else { panic!("one group") };
    let [request] = &group.requests[..] else { panic!("one request") };
    let [decoded] = &plan.decode(request, words)[..] else { panic!("one point") };
    match &decoded.outcome {
        Ok((value, Quality::Good)) => Ok(value.clone()),
        Ok(_) => panic!("a value that is there is good"),
        Err(bad) => {
            assert_eq!(decoded.reading(), (Value::Null, Quality::Bad));
            Err(bad.to_string())
        }
    }
}

#[test]
fn registers_are_read_in_all_encodings_and_orders() {
    let number = "unit = \"1\", min = -1e19, max = 1e19, address = \"0\"";
    for (keys, words, value) in [
        ("encoding = \"u16\"", &[0xFFFE][..], 65_534.0),
        ("encoding = \"i16\"", &[0xFFFE], -2.0),
        ("encoding = \"u32\"", &[1, 2], 65_538.0),
        ("encoding = \"u32\", word_order = \"little\"", &[1, 2], 131_073.0),
        ("encoding = \"u32\", byte_order = \"little\"", &[0x0100, 0x0200], 65_538.0),
        (
            "encoding = \"u32\", byte_order = \"little\", word_order = \"little\"",
            &[0x0100, 0x0200],
            131_073.0,
        ),
        ("encoding = \"i32\"", &[0xFFFF, 0xFFFF], -1.0),
        ("encoding = \"u64\"", &[0x8000, 0, 0, 0], 9_223_372_036_854_775_808.0),
        ("encoding = \"i64\"", &[0xFFFF, 0xFFFF, 0xFFFF, 0xFF00], -256.0),
        ("encoding = \"f32\"", &[0x4366, 0x199A], 230.1),
        ("encoding = \"f32\", word_order = \"little\"", &[0x199A, 0x4366], 230.1),
        ("encoding = \"f64\"", &[0x3FF8, 0, 0, 0], 1.5),
        ("encoding = \"bcd16\"", &[0x1234], 1234.0),
        ("encoding = \"bcd32\"", &[0x1234, 0x5678], 12_345_678.0),
        ("encoding = \"u16\", scale = 0.1", &[234], 23.4),
        ("encoding = \"i16\", scale = 0.1, offset = -40", &[234], 23.4 - 40.0),
        ("encoding = \"u16\", mask = 0x0FF0, shift = 4", &[0xABCD], 188.0),
    ] {
        assert_eq!(decoded(&format!("{number}, {keys}"), words), Ok(Value::Float(value)), "{keys}");
    }
}

#[test]
fn texts_names_and_bits_are_read() {
    let text = |value: &str| Ok(Value::Text(value.into()));
    let keys = "type = \"text\", address = \"0\"";
    let string = format!("{keys}, encoding = \"string:4\"");
    assert_eq!(decoded(&string, &[0x4142, 0x4300]), text("ABC"));
    assert_eq!(decoded(&string, &[0x4120, 0x2020]), text("A"));
    assert_eq!(
        decoded(&string, &[0xFFFF, 0xFFFF]),
        Err("the device has no value for it (raw ffff ffff)".into())
    );
    assert_eq!(decoded(&string, &[0x41C3, 0x4100]), Err("is no UTF-8 (raw 41c3 4100)".into()));
    let swapped = format!("{keys}, encoding = \"string:3\", byte_order = \"little\"");
    assert_eq!(decoded(&swapped, &[0x4241, 0x4443]), text("ABC"));
    let named = format!("{keys}, encoding = \"u16\", enum = {{ 0 = \"off\", 1 = \"on\" }}");
    assert_eq!(decoded(&named, &[1]), text("on"));
    assert_eq!(decoded(&named, &[2]), Err("2 has no name in the profile (raw 0002)".into()));
    let bits = format!("{keys}, encoding = \"u16\", bits = {{ 0 = \"hot\", 15 = \"stopped\" }}");
    assert_eq!(decoded(&bits, &[0x8001]), text("hot, stopped"));
    assert_eq!(decoded(&bits, &[0x4000]), text("none"));
}

#[test]
fn a_truth_value_is_a_coil_or_a_bit() {
    let bool = "type = \"bool\"";
    assert_eq!(decoded(&format!("{bool}, address = \"coil:7\""), &[1]), Ok(Value::Bool(true)));
    let bit = format!("{bool}, address = \"holding:7\", encoding = \"u16\", mask = 0x0100");
    assert_eq!(decoded(&bit, &[0x0100]), Ok(Value::Bool(true)));
    assert_eq!(decoded(&bit, &[0xFEFF]), Ok(Value::Bool(false)));
    let register = format!("{bool}, address = \"holding:7\", encoding = \"bool\"");
    assert_eq!(decoded(&register, &[0xFF00]), Ok(Value::Bool(true)));
}

#[test]
fn what_is_no_value_never_becomes_a_number() {
    let number = "unit = \"V\", min = 0, max = 500, address = \"0\"";
    for (keys, words, said) in [
        ("encoding = \"f32\"", &[0x7FC0, 0][..], "is NaN; only finite numbers are allowed (raw 7fc0 0000)"),
        ("encoding = \"f32\"", &[0x7F80, 0], "is inf; only finite numbers are allowed (raw 7f80 0000)"),
        ("encoding = \"f32\"", &[0x4400, 0], "p is 512 V; profile x allows 0 to 500 (raw 4400 0000)"),
        ("encoding = \"bcd16\"", &[0x12A4], "has digits above 9 (raw 12a4)"),
        ("encoding = \"i16\", invalid = [-1]", &[0xFFFF], "the device has no value for it (raw ffff)"),
        ("encoding = \"u16\"", &[], "the answer has 0 of 1 registers (raw )"),
        ("encoding = \"u16\"", &[1, 2], "the answer has 2 of 1 registers (raw 0001)"),
    ] {
        let error = decoded(&format!("{number}, {keys}"), words).unwrap_err();
        assert!(
            error.starts_with(said.trim_end_matches(')'))
                || error == said.replace("9 (", "9; it is no BCD ("),
            "{error}"
        );
    }
}

#[test]
fn a_scale_in_the_device_is_read_along() {
    let profile = profile(
        "p = { unit = \"W\", min = 0, max = 1e9, address = \"10\", encoding = \"u16\", scale_from = \"12\" }",
    );
    let plan = Plan::of(&profile).unwrap();
    let request = &plan.groups[0].requests[0];
    assert_eq!((request.start, request.count), (10, 3));
    let value = |words: &[u16]| plan.decode(request, words)[0].outcome.clone().map(|(value, _)| value);
    assert_eq!(value(&[2301, 0, 0xFFFF]), Ok(Value::Float(230.1)));
    assert_eq!(value(&[23, 0, 2]), Ok(Value::Float(2300.0)));
    assert_eq!(value(&[23, 0, 0]), Ok(Value::Float(23.0)));
    assert_eq!(value(&[23, 0, 0x8000]).unwrap_err().reason, Reason::Absent);
    assert_eq!(value(&[23, 0, 11]).unwrap_err().reason, Reason::Scale(11));
}

#[test]
fn neighbours_share_a_request_within_its_limits() {
    let profile = Profile::parse(
        "x.toml",
        "name = \"x\"\n[modbus]\nregisters_max = 8\ngap_max = 2\n[collection.slow]\ninterval_ms = 60_000\n[points]\n\
        a = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"input:0\", encoding = \"u16\" }\n\
        b = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"input:3\", encoding = \"u16\" }\n\
        c = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"input:6\", encoding = \"u32\" }\n\
        d = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"input:8\", encoding = \"u16\" }\n\
        e = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"input:12\", encoding = \"u16\" }\n\
        f = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"holding:1\", encoding = \"u16\" }\n\
        g = { type = \"bool\", address = \"coil:0\" }\nh = { type = \"bool\", address = \"coil:2\" }\n\
        i = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"holding:2\", encoding = \"u16\", group = \"slow\" }\n\
        j = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"holding:3\", encoding = \"u16\", access = \"write\" }\n",
    )
    .unwrap();
    let plan = Plan::of(&profile).unwrap();
    let shown: Vec<String> = plan
        .groups
        .iter()
        .flat_map(|group| {
            group.requests.iter().map(|request| {
                let points: Vec<&str> = request.points().map(|id| id.as_str()).collect();
                let function = request.function.as_str();
                format!(
                    "{} {} {function}:{}+{} {}",
                    group.name,
                    group.interval_ms,
                    request.start,
                    request.count,
                    points.join("")
                )
            })
        })
        .collect();
    let expected = [
        "default 10000 coil:0+3 gh",
        "default 10000 input:0+8 abc",
        "default 10000 input:8+1 d",
        "default 10000 input:12+1 e",
        "default 10000 holding:1+1 f",
        "slow 60000 holding:2+1 i",
    ];
    assert_eq!(shown, expected);
    let coils = &plan.groups[0].requests[0];
    let values: Vec<Value> =
        plan.decode_bits(coils, &[true, true, false]).iter().map(|d| d.reading().0).collect();
    assert_eq!(values, [Value::Bool(true), Value::Bool(false)]);
}

#[test]
fn the_sdm630_is_read_in_few_requests_and_says_what_it_measures() {
    let plan = Plan::of(&sdm630()).unwrap();
    let fast = &plan.groups[0];
    assert_eq!((fast.name.as_str(), fast.interval_ms, fast.requests.len()), ("default", 5_000, 1));
    let request = &fast.requests[0];
    assert_eq!((request.function, request.start, request.count), (Function::Input, 0, 72));
    let mut words = vec![0; 72];
    words[..2].copy_from_slice(&[0x4366, 0x199A]); // 230.1
    words[0x46..].copy_from_slice(&[0x4248, 0x0000]); // 50
    let said: BTreeMap<String, (Value, Quality)> = plan
        .decode(request, &words)
        .iter()
        .map(|decoded| (decoded.point.to_string(), decoded.reading()))
        .collect();
    assert_eq!(said["voltage/l1"], (Value::Float(230.1), Quality::Good));
    assert_eq!(said["frequency"], (Value::Float(50.0), Quality::Good));
    assert_eq!(said["power/total"], (Value::Float(0.0), Quality::Good));
    assert!(plan.groups.iter().all(|group| group.requests.iter().all(|request| request.count <= 80)));
}

#[test]
fn writes_are_what_the_profile_allows() {
    let profile = sdm630();
    let told = write(&profile, "setting/demand-period", &Value::Float(30.0)).unwrap();
    assert_eq!(told.to_string(), "holding:2 = 41f0 0000");
    assert!(!told.is_shared());
    let error = |point: &str, value: Value| write(&profile, point, &value).unwrap_err().to_string();
    assert_eq!(error("voltage/l1", Value::Float(1.0)), "voltage/l1 is not writable by the profile");
    assert_eq!(error("colour", Value::Float(1.0)), "profile eastron-sdm630 has no point colour");
    assert!(error("setting/demand-period", Value::Float(61.0)).contains("allows 0 to 60"));
    assert_eq!(
        error("setting/demand-period", Value::Null),
        "setting/demand-period cannot be written as null"
    );
}

#[test]
fn what_does_not_fit_is_not_written() {
    let keys = "unit = \"1\", min = -1e9, max = 1e9, address = \"0\", access = \"write\"";
    let profile = profile(&format!(
        "p = {{ {keys}, encoding = \"u16\", scale = 0.1 }}\nq = {{ {keys}, encoding = \"bcd16\" }}"
    ));
    assert_eq!(write(&profile, "p", &Value::Float(23.4)).unwrap().words, [234]);
    assert_eq!(write(&profile, "q", &Value::Float(1234.0)).unwrap().words, [0x1234]);
    for (point, value) in [("p", -0.1), ("p", 6553.6), ("q", 10_000.0)] {
        let error = write(&profile, point, &Value::Float(value)).unwrap_err();
        assert!(error.to_string().ends_with("it does not fit into its registers"), "{error}");
    }
}

#[test]
fn points_of_some_bits_are_written_into_these() {
    let profile = profile(
        "a = { type = \"bool\", address = \"0\", encoding = \"u16\", mask = 0x0100, access = \"write\" }\n\
         b = { type = \"int\", unit = \"1\", min = 0, max = 99, address = \"0\", encoding = \"u16\", mask = 0x00F0, shift = 4, access = \"write\" }",
    );
    let words = |point: &str, value: Value| {
        write(&profile, point, &value).map(|encoded| (encoded.words, encoded.mask))
    };
    assert_eq!(words("a", Value::Bool(true)), Ok((vec![0x0100], vec![0x0100])));
    assert_eq!(words("a", Value::Bool(false)), Ok((vec![0], vec![0x0100])));
    assert_eq!(words("b", Value::Int(15)), Ok((vec![0x00F0], vec![0x00F0])));
    assert!(words("b", Value::Int(16)).unwrap_err().to_string().ends_with("it does not fit into its bits"));
    let told = write(&profile, "b", &Value::Int(3)).unwrap();
    assert!(told.is_shared());
    assert_eq!(told.laid_over(&[0xFFFF]), [0xFF3F]);
}

#[test]
fn addresses_are_a_function_and_a_number() {
    let input = Function::Input;
    assert_eq!(address("holding:0x28", input), Ok((Function::Holding, 40)));
    assert_eq!(address("coil:3", input), Ok((Function::Coil, 3)));
    assert_eq!(address("65535", input), Ok((Function::Input, 65_535)));
    for text in [
        "",
        "input:",
        "input:65536",
        "holding:-1",
        "holding:+1",
        "register:1",
        "0x",
        "0x+1",
        "0x10000",
        "40001a",
    ] {
        assert!(address(text, input).is_err(), "{text}");
    }
}

/// A point of any encoding, and a value that it can hold exactly.
fn any_point() -> impl Strategy<Value = (String, Value)> {
    let order = prop_oneof![Just("big"), Just("little")];
    let whole = prop_oneof![
        Just(("u16", 0_i64, 65_535_i64)),
        Just(("i16", -32_768, 32_767)),
        Just(("u32", 0, 4_294_967_295)),
        Just(("i32", -2_147_483_648, 2_147_483_647)),
        Just(("u64", 0, i64::MAX)),
        Just(("i64", i64::MIN, i64::MAX)),
        Just(("bcd16", 0, 9_999)),
        Just(("bcd32", 0, 99_999_999)),
    ];
    let ints = (whole, any::<u64>(), order.clone(), order.clone()).prop_map(|((name, min, max), seed, bytes, words)| {
        let at = u128::from(seed) % (u128::from(max.abs_diff(min)) + 1);
        let value = i64::try_from(i128::from(min) + i128::try_from(at).unwrap()).unwrap();
        let keys = format!(
            "type = \"int\", unit = \"1\", min = {min}, max = {max}, encoding = \"{name}\", byte_order = \"{bytes}\", word_order = \"{words}\""
        );
        (keys, Value::Int(value))
    });
    let float = |f: f32| format!("{f:e}").parse::<f64>().unwrap();
    let floats = (any::<f32>().prop_filter("finite", |f| f.is_finite()), order.clone(), order).prop_map(
        move |(value, bytes, words)| {
            let keys = format!(
                "unit = \"1\", min = -4e38, max = 4e38, encoding = \"f32\", byte_order = \"{bytes}\", word_order = \"{words}\""
            );
            (keys, Value::Float(float(value)))
        },
    );
    let scaled = any::<i16>().prop_map(|raw| {
        let keys = "unit = \"1\", min = -4000, max = 4000, encoding = \"i16\", scale = 0.1".to_owned();
        (keys, Value::Float(f64::from(raw) / 10.0))
    });
    let texts = "[a-zA-Z0-9 äß]{0,9}".prop_map(|text| {
        let keys = "type = \"text\", encoding = \"string:21\"".to_owned();
        (keys, Value::Text(text.trim_end().into()))
    });
    prop_oneof![ints, floats, scaled, texts]
}

/// Of all profiles that ship and are of Modbus.
static PLANS: std::sync::LazyLock<Vec<Plan>> = std::sync::LazyLock::new(|| {
    let profiles = shipped::ALL.iter().map(|shipped| shipped.profile().unwrap());
    profiles.filter_map(|profile| Plan::of(&profile).ok()).collect()
});

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_as_it_was((keys, value) in any_point()) {
        let profile = profile(&format!("p = {{ {keys}, address = \"7\" }}"));
        let encoded = encode(&profile, "p", &value).unwrap();
        let plan = Plan::of(&profile).unwrap();
        let decoded = plan.decode(&plan.groups[0].requests[0], &encoded.words);
        prop_assert_eq!(decoded[0].outcome.clone(), Ok((value, Quality::Good)));
    }

    #[test]
    fn no_words_make_it_panic(words in prop::collection::vec(any::<u16>(), 0..130)) {
        for plan in &*PLANS {
            for request in plan.groups.iter().flat_map(|group| &group.requests) {
                let mut fit = words.clone();
                fit.resize(usize::from(request.count), 0x7FC0);
                for words in [&words, &fit] {
                    for decoded in plan.decode(request, words) {
                        if let (Value::Float(number), _) = decoded.reading() {
                            prop_assert!(number.is_finite());
                        }
                    }
                }
            }
        }
    }
}
