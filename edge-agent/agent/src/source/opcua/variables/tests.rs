//! What a server tells, and what is said of it.

use std::sync::Arc;

use opcua_types::{DateTime, MonitoredItemNotification, Variant};
use tideline_profiles::Profile;
use tideline_protocol::time::ManualClock;

use super::*;
use crate::source::sheets::Seen;

const NOW_NS: i64 = 1_769_860_800_000_000_000;
const S: i64 = 1_000_000_000;
const BAD: u32 = 0x8000_0000;

struct Bench {
    clock: ManualClock,
    parties: Vec<Party>,
    variables: Variables,
    memory: Memory,
}

fn stamp(ns: i64) -> DateTime {
    DateTime::from((ns / 100) + 116_444_736_000_000_000)
}

fn bench() -> Bench {
    let text = "name = \"pump\"\n[opcua]\n[others]\ntake = [\"*\"]\n[points]\n\
        flow = { unit = \"l/s\", min = 0, max = 90, address = \"ns=2;s=Flow\", scale = 0.1 }\n";
    let profile = Arc::new(Profile::parse("pump.toml", text).unwrap());
    let (names, device) = (Names::of(&profile), Device::of("pump-1".parse().unwrap(), profile));
    let variable = |name: &str, of| Variable {
        party: 0,
        node: NodeId::new(2, name),
        name: name.to_owned(),
        point: names.point(name).unwrap(),
        of,
        data_type: None,
        sampling_ms: 1000,
        is_read: true,
    };
    let all = vec![
        variable("ns=2;s=Flow", Type::Of(ValueKind::Float)),
        variable("Pump/State", Type::Any),
        variable("Pump/Speed", Type::Of(ValueKind::Float)),
    ];
    Bench {
        clock: ManualClock::at(NOW_NS),
        variables: Variables::new(all),
        parties: vec![Party { device, stream: None, names: names.clone() }],
        memory: Memory::default(),
    }
}

impl Bench {
    fn tell(&mut self, told: &[(u32, Option<Variant>, u32, i64)]) -> (Vec<Seen>, Vec<String>) {
        let item =
            |(handle, value, status, ns): &(u32, Option<Variant>, u32, i64)| MonitoredItemNotification {
                client_handle: *handle,
                value: DataValue {
                    value: value.clone(),
                    status: Some(StatusCode::from(*status)),
                    source_timestamp: Some(stamp(*ns)),
                    server_timestamp: Some(stamp(NOW_NS + 60 * S)),
                    ..DataValue::default()
                },
            };
        let change = DataChangeNotification {
            monitored_items: Some(told.iter().map(item).collect()),
            diagnostic_infos: None,
        };
        let mut sheets = Sheets::of(&self.clock);
        self.variables.take(&change, &self.parties, &mut self.memory, &mut sheets);
        sheets.seen()
    }

    fn silence(&mut self) -> Vec<Seen> {
        let mut sheets = Sheets::of(&self.clock);
        self.memory.silence(&self.parties, &mut sheets);
        sheets.seen().0
    }
}

fn seen(point: &str, time_ns: Option<i64>, value: Value, quality: Quality) -> Seen {
    ("pump-1".into(), point.into(), time_ns, value, quality)
}

#[test]
fn values_are_read_by_the_profile_and_under_their_paths_with_the_times_of_the_source() {
    let mut bench = bench();
    let (rows, rejected) = bench.tell(&[
        (1, Some(Variant::UInt16(234)), 0, NOW_NS - S),
        (2, Some(Variant::from("on")), 0x4000_0000, NOW_NS),
        (3, Some(Variant::Int32(7)), 0, NOW_NS),
    ]);
    let wanted = [
        seen("flow", Some(NOW_NS - S), Value::Float(23.4), Quality::Good),
        seen("Pump/State", Some(NOW_NS), Value::Text("on".into()), Quality::Uncertain),
        seen("Pump/Speed", Some(NOW_NS), Value::Float(7.0), Quality::Good),
    ];
    assert_eq!((rows.as_slice(), rejected.len()), (&wanted[..], 0));
}

#[test]
fn what_is_bad_or_not_allowed_is_null_and_counted_and_never_a_number() {
    let mut bench = bench();
    let (rows, rejected) = bench.tell(&[
        (1, Some(Variant::UInt16(234)), BAD, NOW_NS),
        (1, Some(Variant::UInt16(9_000)), 0, NOW_NS),
        (3, Some(Variant::Double(f64::NAN)), 0, NOW_NS),
        (3, Some(Variant::from("fast")), 0, NOW_NS),
        (3, None, 0, NOW_NS),
        (9, Some(Variant::Int32(1)), 0, NOW_NS),
        (0, Some(Variant::Int32(1)), 0, NOW_NS),
    ]);
    assert!(rows.iter().all(|row| row.3 == Value::Null), "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.4 == Quality::Bad).count(), 4);
    assert_eq!(rejected.len(), 5, "{rejected:?}");
    assert_eq!(bench.silence(), [], "nothing was said that could be taken back");
}

#[test]
fn a_variable_of_any_type_keeps_that_of_its_first_value() {
    let mut bench = bench();
    bench.tell(&[(2, Some(Variant::Double(0.5)), 0, NOW_NS)]);
    let (rows, rejected) =
        bench.tell(&[(2, Some(Variant::Int16(3)), 0, NOW_NS), (2, Some(Variant::from("off")), 0, NOW_NS)]);
    let wanted = [
        seen("Pump/State", Some(NOW_NS), Value::Float(3.0), Quality::Good),
        seen("Pump/State", Some(NOW_NS), Value::Null, Quality::Bad),
    ];
    assert_eq!(rows, wanted);
    assert_eq!(rejected, ["pump-1/Pump/State: it is \"off\", and was of type float before"]);
    assert_eq!(bench.variables.all()[1].data_type, Some(12));
}

#[test]
fn a_full_queue_of_the_server_is_counted_as_a_gap() {
    let mut bench = bench();
    let (rows, rejected) = bench.tell(&[(3, Some(Variant::Double(1.0)), 0x480, NOW_NS)]);
    assert_eq!(rows, [seen("Pump/Speed", Some(NOW_NS), Value::Float(1.0), Quality::Good)]);
    assert_eq!(rejected, ["pump-1/Pump/Speed: the server had no room for values before this one"]);
}

#[test]
fn what_was_said_is_taken_back_once_and_an_old_value_does_not_come_before_that() {
    let mut bench = bench();
    bench.tell(&[(3, Some(Variant::Double(1.0)), 0, NOW_NS - 3600 * S)]);
    assert_eq!(bench.silence(), [seen("Pump/Speed", None, Value::Null, Quality::Bad)]);
    assert_eq!(bench.silence(), []);
    bench.variables = Variables::new(bench.variables.all().to_vec());
    let again = (3, Some(Variant::Double(1.0)), 0, NOW_NS - 3600 * S);
    let (rows, _) = bench.tell(&[again.clone(), again]);
    let times: Vec<_> = rows.iter().map(|row| row.2).collect();
    assert_eq!(
        times,
        [Some(NOW_NS + 60 * S), Some(NOW_NS - 3600 * S)],
        "of when the server looked, and then as it says"
    );
}

#[test]
fn a_silence_is_of_the_servers_clock_where_that_is_another() {
    let mut bench = bench();
    bench.memory.compare(NOW_NS - 3600 * S, NOW_NS);
    bench.tell(&[(3, Some(Variant::Double(1.0)), 0, NOW_NS - 3700 * S)]);
    assert_eq!(bench.silence(), [seen("Pump/Speed", Some(NOW_NS - 3600 * S), Value::Null, Quality::Bad)]);
}

#[test]
fn a_point_that_the_server_lacks_is_null_and_told() {
    let mut bench = bench();
    let missing = Missing { party: 0, point: "flow".parse().unwrap(), reason: "the server has none".into() };
    let mut sheets = Sheets::of(&bench.clock);
    bench.memory.miss(&missing, &bench.parties, &mut sheets);
    let (rows, rejected) = sheets.seen();
    assert_eq!(rows, [seen("flow", None, Value::Null, Quality::Bad)]);
    assert_eq!(rejected, ["pump-1/flow: the server has none"]);
}
