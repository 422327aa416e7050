//! Profiles: any text is one, or is refused with lines; and what is read by one is within what it allows, whatever comes.

use tideline_profiles::json::Mapping;
use tideline_profiles::modbus::Decoded;
use tideline_profiles::names::Names;
use tideline_profiles::samples::Sample;
use tideline_profiles::simulate::Device;
use tideline_profiles::{Profile, Protocol, nmea, shipped};
use tideline_protocol::value::{Quality, Value};

use crate::input::Input;

/// Longest text of all reasons together, by input and in bytes: each names what is allowed.
const REASONS_BYTES_MAX: usize = 1 << 20;
/// Steps of a simulated device.
const STEPS: usize = 3;

/// One of points and topics of each kind, small, so that most mutations still are one.
const SMALL: &str = "name = \"a\"\n[mqtt]\nroot = \"a/{device}\"\ntimes = [{ address = \"#/t\", unit = \"ms\" }]\n\
    [others]\ntake = [\"*\"]\nexcept = [\"no/*\"]\npoints_max = 3\n[points]\n\
    f = { unit = \"V\", min = 0, max = 300, address = \"#/f\", scale = 0.1, offset = 2 }\n\
    n = { type = \"int\", unit = \"1\", min = -5, max = 5, address = \"s#/0/n\" }\n\
    b = { type = \"bool\", address = \"LWT\", enum = { On = \"true\", Off = \"false\" } }\n\
    x = { type = \"text\", values = [\"p\", \"q\"], address = \"{device}/x\" }\n";

/// The profile's first bytes are a number: which profile, and of what kind what follows is.
pub fn seeds_of_messages() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (number, shipped) in (0_u8..).zip(shipped::ALL) {
        for (name, text) in shipped.samples {
            let sample = Sample::parse(name, text).expect("a sample that ships");
            for came in sample.came {
                let topic = came.topic.unwrap_or_default();
                let payload = came.payload.or(came.sentence).or(came.name).unwrap_or_default();
                all.push([&[number], topic.as_bytes(), b"\n", payload.as_bytes()].concat());
            }
        }
    }
    for payload in ["{\"t\":1,\"f\":12,\"o\":[1,{\"p\":true}]}", "[{\"n\":3}]", "On", "p", "{\"f\":\"9\"}"] {
        for topic in ["a/d", "a/d/s", "a/d/LWT", "d/x"] {
            all.push([&[0xFF], topic.as_bytes(), b"\n", payload.as_bytes()].concat());
        }
    }
    all
}

/// A message, a sentence or a metric of a profile.
pub fn run_message(data: &[u8]) {
    let mut input = Input::new(data);
    let number = usize::from(input.byte());
    let profile = match shipped::ALL.get(number) {
        Some(shipped) => shipped.profile().expect("a profile that ships"),
        None => Profile::parse("a.toml", SMALL).expect("the small profile"),
    };
    let rest = input.rest();
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (topic, payload) = (String::from_utf8_lossy(&rest[..at]), rest.get(at + 1..).unwrap_or_default());
    match profile.protocol() {
        Protocol::Mqtt(_) | Protocol::Http(_) | Protocol::Coap(_) => {
            let mapping = Mapping::of(&profile).expect("a mapping");
            match mapping.read(&topic, payload) {
                Ok(Some(message)) => {
                    let named = profile.points().count();
                    let others = profile.others().map_or(0, |others| others.points_max.unwrap_or(256));
                    let most = named + usize::try_from(others).expect("a small number") + named;
                    assert!(message.readings.len() <= most, "{} readings", message.readings.len());
                    allowed(&profile, &message.readings);
                    assert!(message.device.is_none_or(|device| !device.is_empty()));
                }
                Ok(None) => {}
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        Protocol::Nmea(_) => match nmea::Mapping::of(&profile).expect("a mapping").read(payload) {
            Ok(readings) => allowed(&profile, &readings),
            Err(error) => assert!(!error.to_string().is_empty()),
        },
        _ => {
            let value = match payload.split_first() {
                Some((b'f', rest)) => Value::Float(f64::from_bits(Input::new(rest).long())),
                Some((b'i', rest)) => Value::Int(i64::from_le_bytes(Input::new(rest).array())),
                Some((b'b', rest)) => Value::Bool(rest.is_empty()),
                _ => Value::Text(String::from_utf8_lossy(payload).into_owned().into()),
            };
            let read = Names::of(&profile).read(&topic, &value);
            allowed(&profile, read.as_slice());
        }
    }
}

/// A value that is good is one that the profile allows.
fn allowed(profile: &Profile, readings: &[Decoded]) {
    for decoded in readings {
        let (value, quality) = decoded.reading();
        if quality == Quality::Bad {
            assert_eq!(value, Value::Null, "{}", decoded.point);
        } else if profile.point(decoded.point.as_str()).is_some() {
            assert_eq!(profile.check(decoded.point.as_str(), value.clone()).ok(), Some(value));
        }
        assert!(
            !matches!(decoded.reading().0, Value::Float(number) if !number.is_finite()),
            "{}",
            decoded.point
        );
    }
}

pub fn seeds_of_profiles() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = shipped::ALL.iter().map(|shipped| shipped.text.as_bytes().to_vec()).collect();
    all.push(SMALL.as_bytes().to_vec());
    all.push(
        b"format = 1\nname = 7\n[points]\na = { unti = \"V\" }\n[[overlays]]\nfirmware = \">=2\"\n".to_vec(),
    );
    all
}

/// The text of a profile.
pub fn run_profile(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let profile = match Profile::parse("a.toml", &text) {
        Ok(profile) => profile,
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused without a reason");
            assert!(error.problems.iter().map(String::len).sum::<usize>() < REASONS_BYTES_MAX);
            for problem in &error.problems {
                assert!(problem.starts_with("a.toml:"), "{problem:?} has no place");
            }
            return;
        }
    };
    // What it says of other firmware may be wrong together, and is told then.
    for firmware in [None, Some("1.0.0"), Some("2026-11-22"), Some("x")] {
        let Ok(profile) = profile.for_firmware(firmware) else { continue };
        let mut device = Device::new(&profile, 7);
        for _ in 0..STEPS {
            device.step();
            told(&device);
        }
    }
}

/// A simulated device is one of its profile, and so is what it tells.
fn told(device: &Device) {
    let profile = device.profile();
    for (id, value) in device.values() {
        if profile.point(id.as_str()).is_some() && *value != Value::Null {
            assert_eq!(profile.check(id.as_str(), value.clone()).ok().as_ref(), Some(value), "{id}");
        }
    }
    if let Ok(mapping) = Mapping::of(profile)
        && let Ok(messages) = mapping.messages("d", device.values(), 0)
    {
        for (topic, payload) in messages {
            let read = mapping.read(&topic, &payload);
            assert!(matches!(read, Ok(Some(_))), "{topic}: {read:?}");
        }
    }
    if let Ok(mapping) = nmea::Mapping::of(profile)
        && let Ok(lines) = mapping.lines(device.values())
    {
        assert!(lines.iter().all(|line| nmea::decode(line.as_bytes()).is_ok()), "{lines:?}");
    }
}
