//! Profiles as they are written, and what they make of values.

use tideline_protocol::value::{VALUE_TEXT_BYTES_MAX, ValueKind};

use super::*;
use crate::allowed::INT_END;

const PUMP: &str = "name = \"pump\"\n[points]\n\
    flow = { unit = \"l/s\", min = 0, max = 90.5, name = \"Flow\" }\n\
    starts = { type = \"int\", unit = \"1\", min = 0, max = 1e6 }\n\
    running = { type = \"bool\", name = \"Running\" }\n\
    state = { type = \"text\", values = [\"off\", \"on\", \"fault\"] }\n\
    firmware = { type = \"text\", bytes_max = 5 }\n\
    serial = { type = \"int\", unit = \"1\", min = 0, max = 9_223_372_036_854_775_807 }\n\
    \"valve/*\" = { unit = \"%\", min = 0, max = 100, name = \"Valve * of the pump\" }\n";

fn pump() -> Profile {
    Profile::parse("pump.toml", PUMP).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn the_host_profile_knows_its_points_and_judges_values() {
    let profile = Profile::linux_host().unwrap();
    assert_eq!(profile.unit("cpu/total"), "%");
    assert!(profile.check("cpu/3", Value::Float(55.0)).is_ok());
    let rejected = profile.check("cpu/3", Value::Float(5500.0)).unwrap_err();
    assert!(matches!(rejected, RejectedValue::OutOfRange { .. }));
    let rejected = profile.check("cpu/3", Value::Float(f64::NAN)).unwrap_err();
    assert!(matches!(rejected, RejectedValue::NotFinite { .. }));
    assert!(matches!(profile.check("flow", Value::Float(1.0)), Err(RejectedValue::Unknown { .. })));
}

#[test]
fn alarms_that_could_not_be_told_or_would_tell_of_nothing_are_refused() {
    let with = |more: &str| {
        let text = format!(
            "{PUMP}[collection.slow]\ninterval_ms = 20_000\non_change = true\npoints = [\"flow\"]\n{more}"
        );
        Profile::parse("pump.toml", &text).map_err(|error| error.problems)
    };
    let problem = |more: &str| with(more).unwrap_err().join("\n");
    let told = problem("[alarms.\"too much\"]\npoint = \"flow\"\nabove = 80\n");
    assert!(told.ends_with("its name must be 1 to 40 letters, digits, '_' and '-'"), "{told}");
    // What only changes tell of comes about every five readings.
    let silent = |s: u32| format!("[alarms.silent]\npoint = \"flow\"\nno_data_s = {s}\n");
    let told = problem(&silent(120));
    assert!(
        told.ends_with("no_data_s: must be more than 120 s: so long may be between two readings"),
        "{told}"
    );
    assert!(with(&silent(121)).is_ok());
    for own in ["alarm/hot", "alarm/hot-above"] {
        let text = PUMP.replace("firmware =", &format!("{own:?} ="));
        let hot = format!("{text}[alarms.hot]\npoint = \"flow\"\nabove = 80\n");
        let told = Profile::parse("pump.toml", &hot).unwrap_err().to_string();
        assert!(
            told.contains(&format!("is told of as the point {own}, which is one of the profile's own")),
            "{told}"
        );
    }
}

#[test]
fn a_value_is_one_of_its_points_type_or_is_rejected() {
    let profile = pump();
    let check = |point: &str, value: Value| profile.check(point, value).map_err(|error| error.to_string());
    for (point, value, taken) in [
        ("flow", Value::Float(90.5), Value::Float(90.5)),
        ("flow", Value::Int(7), Value::Float(7.0)),
        ("flow", Value::Null, Value::Null),
        ("starts", Value::Int(1_000_000), Value::Int(1_000_000)),
        ("starts", Value::Float(3.0), Value::Int(3)),
        ("running", Value::Bool(true), Value::Bool(true)),
        ("running", Value::Int(0), Value::Bool(false)),
        ("running", Value::Float(1.0), Value::Bool(true)),
        ("state", text("fault"), text("fault")),
        ("firmware", text("1.2.3"), text("1.2.3")),
        ("firmware", Value::Null, Value::Null),
        ("serial", Value::Int(i64::MAX), Value::Int(i64::MAX)),
    ] {
        assert_eq!(check(point, value), Ok(taken));
    }
    for (point, value, said) in [
        ("flow", Value::Float(91.0), "flow is 91 l/s; profile pump allows 0 to 90.5"),
        ("flow", Value::Float(f64::INFINITY), "flow is inf; only finite numbers are allowed"),
        (
            "flow",
            Value::Int(i64::MAX),
            "flow is \"9223372036854775807\", of type int; profile pump allows numbers that a double holds",
        ),
        ("flow", text("7"), "flow is \"7\", of type text; profile pump allows numbers that a double holds"),
        (
            "flow",
            Value::Bool(true),
            "flow is \"true\", of type bool; profile pump allows numbers that a double holds",
        ),
        ("starts", Value::Int(1_000_001), "starts is 1000001 1; profile pump allows 0 to 1000000"),
        (
            "starts",
            Value::Float(0.5),
            "starts is \"0.5\", of type float; profile pump allows whole numbers of 64 bits",
        ),
        ("serial", Value::Float(INT_END), "of type float; profile pump allows whole numbers of 64 bits"),
        ("running", Value::Int(2), "running is \"2\", of type int; profile pump allows true, false, 1 and 0"),
        (
            "running",
            text("true"),
            "running is \"true\", of type text; profile pump allows true, false, 1 and 0",
        ),
        ("state", text("idle"), "state is \"idle\"; profile pump allows off, on, fault"),
        ("state", Value::Float(1.0), "state is \"1\", of type float; profile pump allows texts"),
        ("firmware", text("1.2.34"), "firmware is a text of 6 bytes; profile pump allows 5"),
        ("level", Value::Null, "profile pump has no point level"),
    ] {
        let error = check(point, value).unwrap_err();
        assert!(error.ends_with(said), "{error}");
    }
}

#[test]
fn a_series_has_the_unit_the_type_and_the_name_of_its_point() {
    let profile = pump();
    let series = |id: &str| {
        let def = profile.series(DeviceId::parse("p-7").unwrap(), PointId::parse(id).unwrap());
        (def.unit.clone(), def.kind(), def.name().to_owned())
    };
    assert_eq!(series("flow"), ("l/s".into(), ValueKind::Float, "Flow".into()));
    assert_eq!(series("running"), (String::new(), ValueKind::Bool, "Running".into()));
    assert_eq!(series("starts"), ("1".into(), ValueKind::Int, String::new()));
    assert_eq!(series("state"), (String::new(), ValueKind::Text, String::new()));
    assert_eq!(series("valve/a/1"), ("%".into(), ValueKind::Float, "Valve a/1 of the pump".into()));
    assert_eq!(series("unknown"), (String::new(), ValueKind::Float, String::new()));
}

#[test]
fn of_rows_any_value_of_the_type_is_allowed() {
    for value in [Value::Float(1.5), Value::Int(i64::MIN), Value::Bool(true), text("x")] {
        let kind = value.kind().unwrap();
        assert_eq!(check_kind("flow", kind, value.clone()), Ok(value));
        assert_eq!(check_kind("flow", kind, Value::Null), Ok(Value::Null));
    }
    assert!(check_kind("flow", ValueKind::Float, Value::Float(f64::NAN)).is_err());
    let long = text(&"x".repeat(VALUE_TEXT_BYTES_MAX + 1));
    assert!(matches!(check_kind("flow", ValueKind::Text, long), Err(RejectedValue::TooLong { .. })));
    assert_eq!(check_kind("count", ValueKind::Int, Value::Float(2.0)), Ok(Value::Int(2)));
    assert!(check_kind("count", ValueKind::Int, text("2")).is_err());
}

#[test]
fn all_problems_come_at_once_with_their_lines() {
    let text = "name = \"x\"\ncolour = 1\n[points]\na = { unit = \"m\", min = 2, max = 1 }\n\
        b = { unit = 3, min = 0, max = 1 }\nc = { type = \"flaot\" }\nd = { type = \"bool\", min = 0, colour = 1 }\n\
        e = { type = \"int\", unit = \"1\", min = 0.5, max = 9_223_372_036_854_775_808 }\n\
        f = { type = \"text\", values = [], bytes_max = 5000 }\n\
        g = { type = \"text\", values = [\"on\", 1, \"three\"], bytes_max = 4 }\n\
        h = { unit = \"1\", min = nan, max = 1, name = \"* x\" }\ni = 7\nj = { min = 0 }\n";
    let name = format!("k = {{ type = \"bool\", name = \"{}\" }}\n", "n".repeat(NAME_BYTES_MAX + 1));
    let error = Profile::parse("x.toml", &[text, &name].concat()).unwrap_err();
    for part in [
        "x.toml:2: colour: unknown key; allowed are format, name, identity, ",
        "x.toml:4: points.a.min: 2 is above max 1",
        "x.toml:5: points.b.unit: must be a text; it is the integer 3",
        "x.toml:6: points.c.type: \"flaot\" is unknown; did you mean float? allowed are float, int, bool, text",
        "x.toml:7: points.d.min: is for points of type float and int; this one is of type bool",
        "x.toml:7: points.d.colour: unknown key; allowed are type, name, about, ",
        "x.toml:8: points.e.min: must be a whole number of 64 bits",
        "x.toml:8: points.e.max: must be a whole number of 64 bits",
        "x.toml:9: points.f.bytes_max: must be a whole number from 1 to 4096",
        "x.toml:9: points.f.values: must be a list of texts, at least one",
        "x.toml:10: points.g.values: must be texts of at most 4 bytes",
        "x.toml:10: points.g.values.1: must be a text; it is the integer 1",
        "x.toml:11: points.h.min: must be a number; it is the floating point NaN",
        "x.toml:11: points.h.name: * is allowed for points that end in /*",
        "x.toml:12: points.i: must be a table of type, name, about, unit, min, max, ",
        "x.toml:13: points.j: unit, min and max are needed",
        "x.toml:14: points.k.name: has 129 bytes; allowed are 128",
    ] {
        assert!(error.problems.iter().any(|problem| problem.starts_with(part)), "{part} is not in\n{error}");
    }
    assert_eq!(error.problems.len(), 17, "each once: {error}");
}

const WRONG: &str = r#"
format = 2
name = "a b"
[identity]
firmware = "new"
firmware_point = "versoin"
documents = ["manual.pdf"]
[[identity.detect]]
adress = "input:1"
[modbus]
registers_max = 126
byte_order = "middle"
[mqtt]
[points]
flow = { unit = "l/s", min = 0, max = 9, address = "input:70000", encoding = "u16" }
level = { unit = "m", min = 0, max = 9, address = "input:2" }
state = { type = "text", address = "input:3", encoding = "u16" }
serial = { type = "int", unit = "1", min = 0, max = 9, address = "input:4", encoding = "u16", scale = 0, enum = { x = "1" } }
speed = { unit = "1/min", min = 0, max = 9, address = "input:5", encoding = "u16", access = "read-write", group = "fats" }
twice = { unit = "1/min", min = 0, max = 9, address = "input:6", encoding = "f31" }
volume = { unit = "m3", min = 0, max = 9, address = "input:7", encoding = "u32" }
again = { unit = "m3", min = 0, max = 9, address = "input:7", encoding = "u16" }
version = { type = "text", address = "holding:1", encoding = "string:8" }
[collection.fast]
interval_ms = 1
points = ["flwo", "fl*"]
[alarms.full]
point = "levle"
hysteresis = -1
[commands.stop]
point = "level"
interlocks = [{ point = "speed" }]
[[board.panels]]
title = "x"
points = ["nothing/*"]
kind = "chrat"
[firmware]
magic = "abc"
"#;

#[test]
fn sections_are_checked_against_each_other() {
    let error = Profile::parse("x.toml", WRONG).unwrap_err();
    let expected = [
        "2: format: must be 1, the one that this version reads",
        "3: name: \"a b\" holds ' '",
        "5: identity.firmware: \"new\" is no range of versions",
        "6: identity.firmware_point: there is no point \"versoin\"; did you mean version?",
        "7: identity.documents: \"manual.pdf\" is no address of a public document",
        "8: identity.detect.0: address is needed",
        "9: identity.detect.0.adress: unknown key; did you mean address?",
        "11: modbus.registers_max: must be a whole number from 1 to 125",
        "12: modbus.byte_order: \"middle\" is unknown; allowed are big, little",
        "13: mqtt: there is modbus already; allowed is one protocol",
        "15: points.flow.address: \"input:70000\" is no address",
        "16: points.level: encoding is needed, as u16 or f32",
        "17: points.state.encoding: is a number; type text needs enum or bits",
        "18: points.serial.scale: must be a number other than 0",
        "18: points.serial.enum: \"x\" is no raw number",
        "19: points.speed.access: input cannot be written; allowed are coil and holding",
        "19: points.speed.group: there is no [collection.fats]; allowed are fast",
        "20: points.twice.encoding: \"f31\" is unknown; allowed are bool, u16",
        "21: points.volume.address: another point stands there; a mask keeps them apart",
        "25: collection.fast.interval_ms: must be a whole number from 10 to 86400000, a day",
        "26: collection.fast.points: there is no point \"flwo\"; did you mean flow?",
        "27: alarms.full: one of above, below, equals, no_data_s is needed",
        "28: alarms.full.point: there is no point \"levle\"; did you mean level?",
        "29: alarms.full.hysteresis: must be 0 or more",
        "32: commands.stop.interlocks: one of values, min, max is needed",
        "33: board.panels.0.points: there is no point \"nothing/*\"",
        "36: board.panels.0.kind: \"chrat\" is unknown; did you mean chart?",
        "38: firmware.magic: must be bytes in hex, as e903",
    ];
    for part in expected {
        let part = format!("x.toml:{part}");
        assert!(error.problems.iter().any(|problem| problem.starts_with(&part)), "{part} is not in\n{error}");
    }
    assert_eq!(error.problems.len(), expected.len(), "{error}");
}

#[test]
fn nodes_that_are_none_and_names_of_two_points_are_told_with_their_lines() {
    let text = r#"name = "plc"
[opcua]
browse = ["i=85", "Objects"]
[points]
a = { type = "bool", address = "ns=2;g=09087e75-8e5e-499b-954f-f2a9603db28" }
b = { type = "bool", address = "ns=2;b=AQ=" }
c = { type = "bool", address = "ns=2;s=Run" }
d = { type = "bool", address = "ns=2;s=Run", access = "write" }
"#;
    let error = Profile::parse("plc.toml", text).unwrap_err();
    for (part, hint) in [
        ("plc.toml:3: opcua.browse: \"Objects\" names no node", "ns=2;s=Pump.Flow"),
        ("plc.toml:5: points.a.address: \"ns=2;g=09087e75", "g= takes a GUID, as g=09087e75-"),
        ("plc.toml:6: points.b.address: \"ns=2;b=AQ=\"", "base64 with its padding"),
        ("plc.toml:8: points.d.address: another point has that name", "access read-write"),
    ] {
        let told = error.problems.iter().find(|problem| problem.starts_with(part));
        assert!(told.is_some_and(|told| told.contains(hint)), "{part} is not in\n{error}");
    }
    assert_eq!(error.problems.len(), 4, "{error}");
}

#[test]
fn waits_and_lines_that_no_bus_can_have_are_told() {
    let of = |table: &str| {
        Profile::parse("x.toml", &format!("name = \"x\"\n{table}\n[points]\n"))
            .map_err(|error| error.to_string())
    };
    for (table, problem) in [
        (
            "[modbus]\ntimeout_ms = 4_294_967_295",
            "x.toml:3: modbus.timeout_ms: must be a whole number from 1 to 60000",
        ),
        ("[modbus]\ntimeout_ms = 0", "x.toml:3: modbus.timeout_ms: must be"),
        ("[modbus]\npause_ms = 60_001", "x.toml:3: modbus.pause_ms: must be a whole number from 0 to 60000"),
        (
            "[modbus]\nserial = { data_bits = 99 }",
            "x.toml:3: modbus.serial: must have a baud from 1 to 4000000",
        ),
        ("[modbus]\nserial = { baud = 0 }", "x.toml:3: modbus.serial: must have a baud"),
        ("[sunspec]\nbases = [40000]\ntimeout_ms = 0", "x.toml:4: sunspec.timeout_ms: must be"),
        ("[nmea]\nserial = { stop_bits = 0 }", "x.toml:3: nmea.serial: must have"),
        (
            "[mqtt]\n[others]\npoints_max = 4_000_000_000",
            "x.toml:4: others.points_max: must be a whole number from 0",
        ),
    ] {
        let error = of(table).unwrap_err();
        assert!(error.contains(problem), "{problem} is not in\n{error}");
    }
    assert!(of("[modbus]\ntimeout_ms = 60_000\nserial = { data_bits = 7, stop_bits = 2 }").is_ok());
}

#[test]
fn what_firmware_says_of_itself_has_to_fit_together() {
    let of = |firmware: &str| {
        let points = "url = { type = \"text\", address = \"u\", access = \"write\" }\nlevel = { type = \"bool\", address = \"l\" }\n";
        let text = format!("name = \"x\"\n[mqtt]\n[points]\n{points}[firmware]\n{firmware}\n");
        Profile::parse("x.toml", &text).map_err(|error| error.to_string())
    };
    for (firmware, problem) in [
        ("method = \"url\"", "x.toml:7: firmware.method: method \"url\" and url_point belong together"),
        ("url_point = \"url\"", "x.toml:7: firmware.url_point: method \"url\" and url_point belong together"),
        (
            "method = \"url\"\nurl_point = \"level\"",
            "x.toml:8: firmware.url_point: level must be a text that is written",
        ),
        (
            "method = \"upload\"\nsuffixes = [\".bin\", \"\"]",
            "x.toml:8: firmware.suffixes: must be ends of names",
        ),
        ("method = \"upload\"\nbytes_max = 0", "x.toml:8: firmware.bytes_max: must be 1 or more"),
        ("method = \"upload\"\nmagic = \"\"", "x.toml:8: firmware.magic: must be bytes in hex"),
    ] {
        let error = of(firmware).unwrap_err();
        assert!(error.contains(problem), "{problem} is not in\n{error}");
    }
    assert!(
        of("method = \"url\"\nurl_point = \"url\"\nsuffixes = [\".bin\"]\nmagic = \"e9\"\nbytes_max = 1")
            .is_ok()
    );
}

#[test]
fn what_could_never_be_is_told_with_its_line() {
    let text = r#"name = "x"
[modbus]
[points]
e = { type = "bool", address = "input:4", encoding = "u16", mask = 0x10000 }
r = { type = "text", address = "input:22", encoding = "u16", bits = { 16 = "a" } }
s = { unit = "Cel", min = 0, max = 10, address = "input:23", encoding = "u16", shift = 17, mask = 0xff }
q = { type = "text", address = "input:21", encoding = "u16", enum = { 0 = "a", -1 = "c", 70000 = "d" } }
n = { unit = "Cel", min = 0, max = 10, address = "input:20", encoding = "u16", enum = { 0 = "a" } }
k = { type = "int", unit = "Cel", min = -300, max = -200, address = "input:30", encoding = "u16" }
"i//" = { type = "bool", address = "input:31", encoding = "u16" }
d = { type = "text", address = "input:32", encoding = "u16", enum = { 0 = "off", 1 = "on" } }
j = { unit = "Cel", min = -5, max = 10, address = "input:33", encoding = "i16", scale = 0.1 }
[alarms.hot4]
point = "d"
above = 3
[alarms.hot5]
point = "d"
equals = "nix"
[alarms.hot6]
point = "j"
above = nan
[delivery.x]
expire_h = 0
"#;
    let error = Profile::parse("x.toml", text).unwrap_err();
    let expected = [
        "4: points.e.mask: has bits beyond the 16 of its encoding",
        "5: points.r.bits: bit 16 is beyond the 16 of its encoding",
        "6: points.s.shift: leaves no bit, so that it is always 0",
        "7: points.q.enum: -1 is none of its raw numbers, which are 0 to 65535",
        "8: points.n.enum: is for points of type text and bool; this one is of type float",
        "9: points.k: no raw number comes to -300 to -200: they come to 0 to 65535",
        "10: points.i//: a part of its id between / is empty",
        "15: alarms.hot4.above: d is a text, which is not above or below a number",
        "18: alarms.hot5.equals: d is ",
        "21: alarms.hot6.above: must be a number",
        "23: delivery.x.expire_h: must be 1 or more",
    ];
    for part in expected {
        let part = format!("x.toml:{part}");
        assert!(error.problems.iter().any(|problem| problem.starts_with(&part)), "{part} is not in\n{error}");
    }
    assert_eq!(error.problems.len(), expected.len(), "{error}");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let error = Profile::parse("x.toml", "name = \"x\"\n[points\nflow = 1\n").unwrap_err();
    assert!(error.to_string().starts_with("x.toml:2: no TOML: "), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}", cut in 0_usize..3_000, put in "[a-z\\[\\]{}=\"0-9.,\n]{0,20}") {
        let _ = Profile::parse("x.toml", &text);
        let shipped = crate::shipped::named("eastron-sdm120").unwrap().text;
        let cut = (0..=cut.min(shipped.len())).rev().find(|at| shipped.is_char_boundary(*at)).unwrap();
        let (before, after) = shipped.split_at(cut);
        let _ = Profile::parse("x.toml", &format!("{before}{put}{after}"));
    }
}
