//! Simulated devices answer as their profiles say.

use proptest::prelude::*;
use tideline_protocol::value::Quality;

use super::registers::{Exception, Registers};
use super::*;
use crate::form::protocol::{Function, Protocol};
use crate::modbus::{self, Decoded, Plan, Scales};
use crate::sunspec::{self, Discovery, Step};
use crate::{json, names, nmea, shipped};

fn named(name: &str) -> Profile {
    shipped::named(name).unwrap().profile().unwrap()
}

/// What is read of a device's registers, as a source would.
fn read(profile: &Profile, registers: &Registers) -> Vec<Decoded> {
    let plan = match profile.protocol() {
        Protocol::SunSpec(table) => {
            let mut discovery = Discovery::new(table);
            let models = loop {
                match discovery.poll() {
                    Step::Read { start, count } => {
                        discovery.handle(registers.read(Function::Holding, start, count).ok().as_deref());
                    }
                    Step::Done(models) => break models,
                    Step::Failed(error) => panic!("{error}"),
                }
            };
            let found = sunspec::plan(profile, &models).unwrap();
            assert_eq!(found.missing, [""; 0]);
            found.plan
        }
        _ => Plan::of(profile).unwrap(),
    };
    let mut scales = Scales::default();
    let requests = plan.groups.iter().flat_map(|group| &group.requests);
    let answers = requests.map(|request| {
        let words = registers.read(request.function, request.start, request.count).unwrap();
        plan.note_scales(request, Some(&words), &mut scales);
        plan.decode_scaled(request, &words, &scales)
    });
    answers.flatten().collect()
}

/// Whether what is read is what was simulated, as far as registers tell it.
fn agree(
    profile: &Profile,
    simulated: &BTreeMap<PointId, Value>,
    read: Vec<Decoded>,
    least: f64,
) -> Result<(), String> {
    let mut left = simulated.clone();
    for decoded in read {
        let id = decoded.point.clone();
        let expected = left.remove(&id).ok_or_else(|| format!("{id} is not simulated"))?;
        let (value, quality) = decoded.outcome.map_err(|bad| format!("{id}: {bad}"))?;
        let same = match (&value, &expected) {
            (Value::Float(found), Value::Float(expected)) => {
                (found - expected).abs() <= expected.abs() * 1e-6 + least
            }
            (found, expected) => found == expected,
        };
        let is_named = profile.point(id.as_str()).is_some();
        let in_range = !is_named || profile.check(id.as_str(), value.clone()).is_ok();
        if !same || !in_range || quality != Quality::Good {
            return Err(format!("{id} is {value}, simulated {expected}"));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("not read: {left:?}")) }
}

#[test]
fn a_seed_gives_the_same_device_again() {
    let values = |seed| {
        let mut device = Device::new(&named("eastron-sdm630"), seed);
        (0..10).for_each(|_| device.step());
        device.values().clone()
    };
    assert_eq!(values(1), values(1));
    assert_ne!(values(1), values(2));
}

#[test]
fn values_move_within_what_the_profile_says() {
    let mut device = Device::new(&named("eastron-sdm630"), 7);
    let id = |id: &str| PointId::parse(id).unwrap();
    let float = |device: &Device, point: &str| match device.values()[&id(point)] {
        Value::Float(value) => value,
        _ => panic!("{point} is a float"),
    };
    let (mut seen, mut energy) = (Vec::new(), 0.0);
    for _ in 0..500 {
        device.step();
        let voltage = float(&device, "voltage/l1");
        assert!((226.0..=236.0).contains(&voltage), "{voltage}");
        seen.push(voltage);
        let next = float(&device, "energy/import");
        assert!(next > energy, "{next} after {energy}");
        energy = next;
    }
    seen.dedup();
    assert!(seen.len() > 400, "it moves");
}

#[test]
fn a_device_takes_what_can_be_written_and_nothing_else() {
    let profile = named("modbus-template");
    let mut registers = Registers::new(Device::new(&profile, 1)).unwrap();
    let encoded = modbus::write(&profile, "setpoint", &Value::Float(21.5)).unwrap();
    registers.write(encoded.function, encoded.start, &encoded.words).unwrap();
    registers.write(Function::Coil, 0, &[1]).unwrap();
    (0..50).for_each(|_| registers.step());
    let said: BTreeMap<PointId, Value> = read(&profile, &registers)
        .into_iter()
        .map(|decoded| (decoded.point.clone(), decoded.reading().0))
        .collect();
    assert_eq!(said[&PointId::parse("setpoint").unwrap()], Value::Float(21.5));
    assert_eq!(said[&PointId::parse("enabled").unwrap()], Value::Bool(true));
    assert_eq!(registers.write(Function::Holding, 0, &[10]), Err(Exception::Value));
    assert_eq!(registers.write(Function::Holding, 1, &[10]), Err(Exception::Address));
    assert_eq!(registers.write(Function::Input, 0, &[10]), Err(Exception::Address));
    assert_eq!(registers.write(Function::Holding, 0, &[]), Err(Exception::Address));
    assert_eq!(registers.read(Function::Holding, 1, 1), Err(Exception::Address));
    assert_eq!(registers.read(Function::Input, 65_535, 2), Err(Exception::Address));
}

#[test]
fn requests_are_answered_as_the_specification_says() {
    let profile = named("modbus-template");
    let mut registers = Registers::new(Device::new(&profile, 1)).unwrap();
    let mut ask = |request: &[u8]| pdu::answer(&mut registers, request);
    assert_eq!(ask(&[6, 0, 0, 0, 215]), [6, 0, 0, 0, 215]);
    assert_eq!(ask(&[3, 0, 0, 0, 1]), [3, 2, 0, 215]);
    assert_eq!(ask(&[16, 0, 0, 0, 1, 2, 0, 200]), [16, 0, 0, 0, 1]);
    assert_eq!(ask(&[3, 0, 0, 0, 1]), [3, 2, 0, 200]);
    assert_eq!(ask(&[5, 0, 0, 0xFF, 0]), [5, 0, 0, 0xFF, 0]);
    assert_eq!(ask(&[1, 0, 0, 0, 1]), [1, 1, 1]);
    assert_eq!(ask(&[15, 0, 0, 0, 1, 1, 0]), [15, 0, 0, 0, 1]);
    assert_eq!(ask(&[1, 0, 0, 0, 1]), [1, 1, 0]);
    assert_eq!(ask(&[7]), [0x87, 1]);
    assert_eq!(ask(&[3, 0, 9, 0, 1]), [0x83, 2]);
    assert_eq!(ask(&[3, 0, 0, 0, 126]), [0x83, 3]);
    assert_eq!(ask(&[5, 0, 0, 0, 1]), [0x85, 3]);
    assert_eq!(ask(&[]), [0x80, 1]);
}

/// Models whose blocks repeat beyond what one request reads, with a scale factor before all of them.
const STRINGS: &str = "name = \"strings\"\n[sunspec]\nblocks = { 160 = { first = 10, length = 20, count_from = \":8\" } }\n\
    simulated = { 1 = 66, 160 = 248 }\n[points]\n\
    current-scale = { type = \"int\", unit = \"1\", min = -10, max = 10, address = \"160:2\", encoding = \"i16\", interval_ms = 100, simulate = { low = -2, high = -2 } }\n\
    \"power/*\" = { name = \"Power of module *\", unit = \"W\", min = 0, max = 1e6, address = \"160:*:11\", encoding = \"u16\", scale_from = \":4\", simulate = { low = 0, high = 9000 } }\n\
    \"temperature/*\" = { unit = \"Cel\", min = -50, max = 150, address = \"160:*:16\", encoding = \"i16\", access = \"read-write\" }\n";

#[test]
fn blocks_are_read_however_far_they_are_from_their_scale_factor() {
    let profile = Profile::parse("strings.toml", STRINGS).unwrap();
    let registers = Registers::new(Device::new(&profile, 3)).unwrap();
    let simulated = registers.device().values();
    assert_eq!(simulated.len(), 1 + 12 + 12);
    assert_eq!(agree(&profile, simulated, read(&profile, &registers), 0.5), Ok(()));
    let series = profile.series("roof".parse().unwrap(), "power/12".parse().unwrap());
    assert_eq!(series.name(), "Power of module 12");
}

#[test]
fn a_block_is_written_by_its_number() {
    let profile = Profile::parse("strings.toml", STRINGS).unwrap();
    let model = sunspec::ModelAt { id: 160, start: 40_070, length: 248, blocks: Some(11) };
    let written = |id: &str| modbus::written(&profile, id, &[model]).map(|register| register.start);
    assert_eq!(written("temperature/2").unwrap(), 40_070 + 10 + 20 + 16);
    assert_eq!(written("temperature/11").unwrap(), 40_070 + 10 + 200 + 16);
    for id in ["temperature/0", "temperature/12", "temperature/01", "temperature/x", "temperature/2/3"] {
        assert!(written(id).unwrap_err().to_string().contains("in no model"), "{id}");
    }
    assert!(written("power/1").unwrap_err().to_string().contains("not writable"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_simulated_is_read(seed: u64, steps in 0_usize..40) {
        for shipped in shipped::ALL {
            let profile = shipped.profile().unwrap();
            let mut device = Device::new(&profile, seed);
            (0..steps).for_each(|_| device.step());
            prop_assert!(!device.values().is_empty(), "{}", shipped.name);
            let agreed = match profile.protocol() {
                Protocol::Modbus(_) | Protocol::SunSpec(_) => {
                    let registers = Registers::new(device).unwrap();
                    // Points of whole numbers share powers of ten: watts are told in steps of one.
                    let least = if profile.name().starts_with("sunspec") { 0.5 } else { 1e-9 };
                    agree(&profile, registers.device().values(), read(&profile, &registers), least)
                }
                Protocol::Mqtt(_) | Protocol::Coap(_) | Protocol::Http(_) => {
                    let mapping = json::Mapping::of(&profile).unwrap();
                    let messages = mapping.messages("d", device.values(), 0).unwrap();
                    let read = messages.iter().flat_map(|(topic, payload)| {
                        mapping.read(topic, payload).unwrap().unwrap().readings
                    });
                    agree(&profile, device.values(), read.collect(), 1e-9)
                }
                Protocol::Nmea(_) => {
                    let mapping = nmea::Mapping::of(&profile).unwrap();
                    let lines = mapping.lines(device.values()).unwrap();
                    let read = lines.iter().flat_map(|line| mapping.read(line.as_bytes()).unwrap());
                    agree(&profile, device.values(), read.collect(), 1e-8)
                }
                Protocol::Sparkplug(_) | Protocol::OpcUa(_) => {
                    let names = names::Names::of(&profile);
                    let read = device.values().iter().map(|(id, value)| {
                        let (name, raw) = names.write(id, value).unwrap();
                        names.read(&name, &raw).unwrap()
                    });
                    agree(&profile, device.values(), read.collect(), 1e-9)
                }
                _ => Ok(()),
            };
            prop_assert_eq!(agreed, Ok(()), "{}", shipped.name);
        }
    }

    #[test]
    fn no_request_makes_it_panic(requests in prop::collection::vec(prop::collection::vec(prop_oneof![0_u8..20, any::<u8>()], 0..20), 0..20)) {
        let mut registers = Registers::new(Device::new(&named("modbus-template"), 1)).unwrap();
        for request in requests {
            let answer = pdu::answer(&mut registers, &request);
            prop_assert!(answer.len() >= 2 && answer.len() <= pdu::PDU_BYTES_MAX);
        }
    }
}
