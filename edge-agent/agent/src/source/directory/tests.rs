//! Whose messages are, and what they say, with payloads as the makers' documents have them.

use proptest::prelude::*;
use tideline_profiles::shipped;
use tideline_protocol::time::ManualClock;

use super::*;
use crate::source::sheets::Seen;

const NOW_NS: i64 = 5_000_000_000;
const SHELLY: &str = "shellyplusplugs-0123456789ab";

fn family(name: &str) -> Arc<Profile> {
    Arc::new(shipped::named(name).unwrap().profile().unwrap())
}

fn told(id: &str, profile: &str, address: &str) -> DeviceConfig {
    DeviceConfig {
        id: id.parse().unwrap(),
        profile: profile.into(),
        family: Some(family(profile)),
        address: address.into(),
        firmware: None,
        hardware: None,
        stream: None,
    }
}

fn all() -> Directory {
    let families = ["shelly-plus-plug", "tasmota-plug", "zigbee2mqtt-temperature", "json-mqtt"].map(family);
    Directory::new(&[told("kettle", "shelly-plus-plug", SHELLY)], &families).unwrap()
}

fn take_as(
    directory: &mut Directory,
    topic: &str,
    payload: &str,
    retained: bool,
) -> (Vec<Seen>, Vec<String>) {
    let clock = ManualClock::at(NOW_NS);
    let mut sheets = Sheets::of(&clock);
    directory.hear(Message { topic, payload: payload.as_bytes(), retained }, &mut sheets);
    sheets.seen()
}

fn take(directory: &mut Directory, topic: &str, payload: &str) -> (Vec<Seen>, Vec<String>) {
    take_as(directory, topic, payload, false)
}

fn row(device: &str, point: &str, time_ns: Option<i64>, value: Value, quality: Quality) -> Seen {
    (device.into(), point.into(), time_ns, value, quality)
}

#[test]
fn a_device_that_is_told_has_the_id_that_is_told() {
    let (seen, rejected) =
        take(&mut all(), &format!("{SHELLY}/status/switch:0"), "{\"apower\":12.5,\"output\":true}");
    assert_eq!(rejected, [""; 0]);
    let expected = [
        row("kettle", "power", None, Value::Float(12.5), Quality::Good),
        row("kettle", "switch/on", None, Value::Bool(true), Quality::Good),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn devices_of_a_family_appear_under_a_clean_id() {
    let mut directory = all();
    let (seen, _) = take(&mut directory, "tele/heat pump/SENSOR", "{\"ENERGY\":{\"Power\":7}}");
    assert_eq!(seen, [row("heat-pump", "power", None, Value::Float(7.0), Quality::Good)]);
    let (seen, rejected) = take(&mut directory, "tele/heat+pump/SENSOR", "{\"ENERGY\":{\"Power\":7}}");
    assert_eq!(
        (seen, rejected),
        (vec![], vec!["\"heat+pump\" would be heat-pump, which is another device".into()])
    );
    // What nobody understands makes no device.
    assert_eq!(take(&mut directory, "tele/other/SENSOR", "{\"AM2301\":{}}"), (vec![], vec![]));
    assert_eq!(directory.appeared.len(), 1);
}

#[test]
fn a_family_has_room_for_so_many_devices() {
    let mut directory = all();
    for n in 0..APPEARING_MAX {
        assert_eq!(take(&mut directory, &format!("sensors/s{n}"), "{\"t\":1}").0.len(), 1);
    }
    let (seen, rejected) = take(&mut directory, "sensors/more", "{\"t\":1}");
    assert_eq!((seen.len(), rejected.len()), (0, 1));
    assert_eq!(take(&mut directory, "sensors/s7", "{\"t\":1}").0.len(), 1);
}

#[test]
fn points_of_a_device_that_goes_offline_are_null_once() {
    let mut directory = all();
    take(&mut directory, "zigbee2mqtt/window", "{\"temperature\":20.5,\"humidity\":55}");
    let (seen, _) = take(&mut directory, "zigbee2mqtt/window/availability", "{\"state\":\"offline\"}");
    let expected = [
        row("window", "humidity", None, Value::Null, Quality::Bad),
        row("window", "temperature", None, Value::Null, Quality::Bad),
        row("window", "online", None, Value::Bool(false), Quality::Good),
    ];
    assert_eq!(seen, expected);
    let (seen, _) = take(&mut directory, "zigbee2mqtt/window/availability", "{\"state\":\"offline\"}");
    assert_eq!(seen, [row("window", "online", None, Value::Bool(false), Quality::Good)]);
    take(&mut directory, "tele/plug/SENSOR", "{\"ENERGY\":{\"Power\":7}}");
    let (seen, _) = take(&mut directory, "tele/plug/LWT", "Offline");
    assert_eq!(seen.len(), 2);
    take(&mut directory, &format!("{SHELLY}/status/switch:0"), "{\"apower\":12.5}");
    let (seen, _) = take(&mut directory, &format!("{SHELLY}/online"), "false");
    assert_eq!(seen[0], row("kettle", "power", None, Value::Null, Quality::Bad));
}

#[test]
fn what_a_broker_has_kept_is_uncertain_unless_it_says_of_when_it_is() {
    let mut directory = all();
    let payload = "{\"temperature\":20.5}";
    let (seen, _) = take_as(&mut directory, "zigbee2mqtt/window", payload, true);
    assert_eq!(seen, [row("window", "temperature", None, Value::Float(20.5), Quality::Uncertain)]);
    let payload = "{\"temperature\":20.5,\"last_seen\":\"2023-11-14T22:13:20.123Z\"}";
    let (seen, _) = take_as(&mut directory, "zigbee2mqtt/window", payload, true);
    let time_ns = Some(1_700_000_000_123_000_000);
    assert_eq!(seen, [row("window", "temperature", time_ns, Value::Float(20.5), Quality::Good)]);
}

#[test]
fn what_is_no_value_is_null_and_told() {
    let (seen, rejected) = take(&mut all(), &format!("{SHELLY}/status/switch:0"), "{\"apower\":99999}");
    assert_eq!(seen, [row("kettle", "power", None, Value::Null, Quality::Bad)]);
    assert!(rejected[0].starts_with("kettle/power: power is 99999 W; profile shelly-plus-plug allows"));
    let (seen, rejected) = take(&mut all(), &format!("{SHELLY}/status/switch:0"), "{");
    assert_eq!(seen, []);
    assert!(rejected[0].contains("the payload is no JSON"), "{rejected:?}");
}

#[test]
fn a_profile_of_another_protocol_is_refused() {
    let error = Directory::new(&[told("meter", "eastron-sdm630", "1")], &[]).unwrap_err();
    assert!(error.contains("needed is"), "{error}");
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(topic in "(tele/[a+ ]{1,3}/(LWT|SENSOR)|zigbee2mqtt/.{0,6}|sensors/.{0,4}|.{0,12})", payload in prop::collection::vec(any::<u8>(), 0..40), text in "[\\[\\]{}:,\"a-z0-9.]{0,40}", retained: bool) {
        let mut directory = all();
        for payload in [&payload[..], text.as_bytes()] {
            let clock = ManualClock::at(NOW_NS);
            directory.hear(Message { topic: &topic, payload, retained }, &mut Sheets::of(&clock));
        }
    }
}
