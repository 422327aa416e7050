//! What messages say.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value};

use super::*;
use crate::Profile;

const PLUG: &str = r##"
name = "plug"
[mqtt]
times = [{ address = "events#/params/ts" }, { address = "tele/{device}/STATE#/Time", unit = "rfc3339" }]
[points]
power = { unit = "W", min = 0, max = 3000, address = "status/switch:0#/apower" }
energy = { unit = "kW.h", min = 0, max = 1e6, address = "status/switch:0#/aenergy/total", scale = 0.001 }
on = { type = "bool", address = "status/switch:0#/output" }
online = { type = "bool", address = "online" }
state = { type = "bool", address = "tele/{device}/STATE#/POWER", enum = { ON = "true", OFF = "false" } }
mode = { type = "text", address = "events#/params/list/1/mode", values = ["a", "b"] }
set = { type = "text", values = ["on", "off"], address = "command/switch:0", access = "write" }
"##;

fn mapping() -> Mapping {
    Mapping::of(&Profile::parse("plug.toml", PLUG).unwrap()).unwrap()
}

fn said(message: &Message) -> BTreeMap<&str, Result<Value, String>> {
    let outcome = |decoded: &crate::modbus::Decoded| match &decoded.outcome {
        Ok((value, Quality::Good)) => Ok(value.clone()),
        Ok((_, quality)) => panic!("{quality}"),
        Err(bad) => Err(bad.to_string()),
    };
    message.readings.iter().map(|decoded| (decoded.point.as_str(), outcome(decoded))).collect()
}

#[test]
fn a_message_tells_the_points_that_it_speaks_of() {
    let payload = br#"{"apower":12.5,"aenergy":{"total":1234,"by_minute":[1,2]},"other":1}"#;
    let message = mapping().read("plug-1/status/switch:0", payload).unwrap().unwrap();
    assert_eq!(message.device.as_deref(), Some("plug-1"));
    let expected = [("energy", Ok(Value::Float(1.234))), ("power", Ok(Value::Float(12.5)))];
    assert_eq!(said(&message), BTreeMap::from(expected));
    assert_eq!(mapping().read("plug-1/status/switch:1", b"{}").unwrap(), None);
}

#[test]
fn words_numbers_and_texts_alone_are_values() {
    let one = |topic: &str, payload: &str| {
        let message = mapping().read(topic, payload.as_bytes()).unwrap().unwrap();
        said(&message).into_values().next().unwrap()
    };
    assert_eq!(one("p/online", "true"), Ok(Value::Bool(true)));
    assert_eq!(one("p/online", " 0 "), Ok(Value::Bool(false)));
    assert!(one("p/online", "maybe").unwrap_err().contains("allows true, false, 1 and 0"));
    assert_eq!(one("tele/p/STATE", "{\"POWER\":\"ON\"}"), Ok(Value::Bool(true)));
    assert_eq!(one("p/status/switch:0", "{\"apower\":\"7\"}"), Ok(Value::Float(7.0)));
}

#[test]
fn what_is_no_value_is_told_and_costs_one_reading() {
    let payload = br#"{"apower":3001,"aenergy":{"total":null},"output":{"a":1}}"#;
    let message = mapping().read("p/status/switch:0", payload).unwrap().unwrap();
    let said = said(&message);
    assert_eq!(said["power"], Err("power is 3001 W; profile plug allows 0 to 3000 (raw 3001)".into()));
    assert_eq!(said["energy"], Err("the device has no value for it (raw null)".into()));
    assert_eq!(said["on"], Err("is an object (raw {\"a\":1})".into()));
}

#[test]
fn a_message_says_of_when_it_is() {
    let mapping = mapping();
    let time = |topic: &str, payload: &str| {
        let message = mapping.read(topic, payload.as_bytes()).unwrap().unwrap();
        (message.time_ns, message.time_problem)
    };
    assert_eq!(
        time("p/events", "{\"params\":{\"ts\":1700000000.25}}"),
        (Some(1_700_000_000_250_000_000), None)
    );
    assert_eq!(
        time("tele/p/STATE", "{\"Time\":\"2023-11-14T22:13:20Z\"}"),
        (Some(1_700_000_000_000_000_000), None)
    );
    assert_eq!(time("p/events", "{}"), (None, None));
    for wrong in ["1e300", "\"now\"", "9223372036854775807", "[]"] {
        let (time_ns, problem) = time("p/events", &format!("{{\"params\":{{\"ts\":{wrong}}}}}"));
        assert!(time_ns.is_none() && problem.unwrap().contains("is no time"), "{wrong}");
    }
}

#[test]
fn what_is_no_message_is_refused_whole() {
    let read = |payload: &[u8]| mapping().read("p/status/switch:0", payload).unwrap_err();
    assert!(matches!(read(b"{"), MessageError::NotJson(_)));
    assert!(matches!(read("[".repeat(200).as_bytes()), MessageError::NotJson(_)));
    assert_eq!(read(&[0xFF]), MessageError::NotText);
    assert_eq!(read(&vec![b' '; PAYLOAD_BYTES_MAX + 1]), MessageError::TooLong(PAYLOAD_BYTES_MAX + 1));
}

#[test]
fn topics_are_those_of_a_device_or_filters() {
    assert_eq!(mapping().topics(Some("p")), ["tele/p/STATE", "p/events", "p/online", "p/status/switch:0"]);
    assert_eq!(mapping().topics(None), ["tele/+/STATE", "+/events", "+/online", "+/status/switch:0"]);
    assert_eq!(mapping().device("site/p/online"), Some("site/p"));
    assert_eq!(mapping().device("p/offline"), None);
}

#[test]
fn a_command_is_a_message() {
    let mapping = mapping();
    let text = |text: &str| Value::Text(text.into());
    assert_eq!(
        write(mapping.profile(), "set", &text("on")),
        Ok(("{device}/command/switch:0".into(), b"on".to_vec()))
    );
    assert!(write(mapping.profile(), "set", &text("up")).is_err());
    let error = write(mapping.profile(), "power", &Value::Float(1.0)).unwrap_err();
    assert_eq!(error.to_string(), "power is not writable by the profile");
}

#[test]
fn what_no_point_names_is_taken_where_the_profile_says_so() {
    let text = "name = \"any\"\n[mqtt]\nroot = \"sensors/{device}\"\ntimes = [{ address = \"#/ts\" }]\n\
        [others]\ntake = [\"*\"]\nexcept = [\"debug/*\"]\npoints_max = 5\n\
        [points]\nt = { unit = \"Cel\", min = -40, max = 80, address = \"#/t\" }\n\
        u = { unit = \"V\", min = 0, max = 9, address = \"#/deep/u\" }\n";
    let mapping = Mapping::of(&Profile::parse("any.toml", text).unwrap()).unwrap();
    assert_eq!(mapping.topics(None), ["sensors/+"]);
    let payload =
        br#"{"t":20.5,"u":7,"ts":1,"humidity":40,"debug":{"heap":1},"door open":true,"list":[{"mode":"x"},null]}"#;
    let message = mapping.read("sensors/a", payload).unwrap().unwrap();
    let said = said(&message);
    assert_eq!(said["t"], Ok(Value::Float(20.5)));
    assert_eq!(said["humidity"], Ok(Value::Float(40.0)));
    assert_eq!(said["door-open"], Ok(Value::Bool(true)));
    assert_eq!(said["list/0/mode"], Ok(Value::Text("x".into())));
    assert!(said["list/1"].is_err());
    assert_eq!(said.len(), 5);
}

#[test]
fn pointers_and_addresses_are_checked() {
    for text in ["", "/", "/a/0/b", "/a~1b~0"] {
        assert!(Pointer::parse(text).is_ok(), "{text}");
    }
    for text in ["a", "/a~", "/~2"] {
        assert!(Pointer::parse(text).is_err(), "{text}");
    }
    for text in ["a/+/b", "/a", "a/#x", "{device}/{device}", "a/"] {
        assert!(place(text, "{device}").is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(topic in "(p/status/switch:0|p/events|p/online|tele/p/STATE|.{0,20})", payload in prop::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}:,\"a-z0-9.\\-eE]{0,60}") {
        for payload in [&payload[..], text.as_bytes()] {
            let _ = mapping().read(&topic, payload);
        }
    }

    #[test]
    fn what_is_sent_is_read_as_it_was(power in 0_u32..3_000_000, energy in 0_u32..1_000_000_000, on: bool, state: bool, mode in "a|b") {
        let mapping = mapping();
        let values: BTreeMap<PointId, Value> = [
            ("power", Value::Float(f64::from(power) / 1e3)),
            ("energy", Value::Float(f64::from(energy) / 1e3)),
            ("on", Value::Bool(on)),
            ("online", Value::Bool(!on)),
            ("state", Value::Bool(state)),
            ("mode", Value::Text(mode.into())),
        ].map(|(id, value)| (PointId::parse(id).unwrap(), value)).into();
        let mut read = BTreeMap::new();
        for (topic, payload) in mapping.messages("p", &values, 1_700_000_000_000_000_000).unwrap() {
            let message = mapping.read(&topic, &payload).unwrap().unwrap();
            prop_assert_eq!(message.time_problem, None);
            for decoded in message.readings {
                let value = decoded.outcome.unwrap_or_else(|bad| panic!("{}: {bad}", decoded.point)).0;
                // A double of thousandths of thousandths may be a neighbour.
                let value = match (&value, &values[&decoded.point]) {
                    (Value::Float(found), Value::Float(sent)) if (found - sent).abs() <= sent.abs() * 1e-15 => Value::Float(*sent),
                    _ => value,
                };
                read.insert(decoded.point, value);
            }
        }
        prop_assert_eq!(read, values);
    }
}
