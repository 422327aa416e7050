//! Births, aliases, sequences and deaths, as nodes send them and as they should not.

use std::pin::Pin;
use std::time::Duration;

use proptest::prelude::*;
use tideline_profiles::shipped;
use tideline_protocol::time::ManualClock;
use tideline_protocol::value::{Quality, Value};

use super::super::payload::{METRICS_MAX, Metric, MetricValue, PropertySet, PropertyValue, REBIRTH, kind};
use super::*;
use crate::source::sheets::Seen;
use crate::source::writes::Inbox;
use crate::source::{WriteError, Writes};

const NOW_NS: i64 = 5_000_000_000;
const AT_MS: u64 = 1_700_000_000_000;
const AT_NS: i64 = 1_700_000_000_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

struct Host {
    nodes: Nodes,
    now_ns: u64,
    rejected: Vec<String>,
    asked: Vec<String>,
}

impl Host {
    fn new(told: &[DeviceConfig]) -> Self {
        let family = shipped::named("sparkplug-node").unwrap().profile().unwrap();
        let nodes = Nodes::new(Vec::new(), told, &family).unwrap();
        Self { nodes, now_ns: 0, rejected: Vec::new(), asked: Vec::new() }
    }

    fn take(&mut self, topic: &str, payload: &Payload) -> Vec<Seen> {
        self.take_bytes(topic, &payload.encode_to_vec())
    }

    fn take_bytes(&mut self, topic: &str, payload: &[u8]) -> Vec<Seen> {
        let clock = ManualClock::at(NOW_NS);
        let mut sheets = Sheets::of(&clock);
        self.nodes.take(self.now_ns, Message { topic, payload, retained: false }, &mut sheets);
        let asked = self.nodes.turn(self.now_ns, &mut sheets).unwrap();
        for (topic, payload) in asked {
            let payload = Payload::read(&payload).unwrap();
            assert_eq!(payload.metrics[0].name.as_deref(), Some(REBIRTH));
            self.asked.push(topic);
        }
        let (rows, rejected) = sheets.seen();
        self.rejected = rejected;
        rows
    }
}

fn metric(name: &str, alias: u64, datatype: u32, value: MetricValue) -> Metric {
    Metric {
        name: (!name.is_empty()).then(|| name.to_owned()),
        alias: (alias > 0).then_some(alias),
        datatype: (datatype > 0).then_some(datatype),
        timestamp: Some(AT_MS),
        value: Some(value),
        ..Metric::default()
    }
}

fn payload(seq: u64, metrics: &[Metric]) -> Payload {
    Payload { timestamp: Some(AT_MS), metrics: metrics.to_vec(), seq: Some(seq) }
}

fn session(number: u64) -> Metric {
    metric("bdSeq", 0, 8, MetricValue::Long(number))
}

fn row(device: &str, point: &str, time_ns: Option<i64>, value: Value, quality: Quality) -> Seen {
    (device.into(), point.into(), time_ns, value, quality)
}

fn good(device: &str, point: &str, value: Value) -> Seen {
    row(device, point, Some(AT_NS), value, Quality::Good)
}

fn gone(device: &str, point: &str) -> Seen {
    row(device, point, None, Value::Null, Quality::Bad)
}

/// A host that knows a node with a device.
fn born() -> Host {
    let mut host = Host::new(&[]);
    let level = metric("Tank/Level", 1, 9, MetricValue::Float(0.1));
    let rows = host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(7), level]));
    assert_eq!(rows, [good("plant.edge", "Tank/Level", Value::Float(0.1))]);
    let speed = metric("Speed", 2, 1, MetricValue::Int(0xFE));
    let rows = host.take("spBv1.0/plant/DBIRTH/edge/pump", &payload(1, &[speed]));
    assert_eq!(rows, [good("plant.edge.pump", "Speed", Value::Int(-2))]);
    assert_eq!(host.asked, [""; 0]);
    host
}

#[test]
fn data_says_by_alias_what_a_birth_has_named() {
    let mut host = born();
    let level = metric("", 1, 0, MetricValue::Float(0.5));
    let rows = host.take("spBv1.0/plant/NDATA/edge", &payload(2, &[level]));
    assert_eq!(rows, [good("plant.edge", "Tank/Level", Value::Float(0.5))]);
    let speed = metric("", 2, 0, MetricValue::Int(u32::MAX));
    let rows = host.take("spBv1.0/plant/DDATA/edge/pump", &payload(3, &[speed]));
    assert_eq!(rows, [good("plant.edge.pump", "Speed", Value::Int(-1))]);
    assert_eq!((host.asked.len(), host.rejected.len()), (0, 0));
}

#[test]
fn a_told_device_has_its_id_and_its_profile() {
    let mut host = Host::new(&[tank("plant/edge")]);
    let level = metric("Tank/Level", 0, 7, MetricValue::Int(1500));
    let other = metric("Other", 0, 7, MetricValue::Int(1));
    let rows = host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(7), level, other]));
    assert_eq!(rows, [good("tank-1", "level", Value::Float(1.5))]);
    let level = metric("Tank/Level", 0, 7, MetricValue::Int(15_000));
    let rows = host.take("spBv1.0/plant/NDATA/edge", &payload(1, &[level]));
    assert_eq!(rows, [row("tank-1", "level", Some(AT_NS), Value::Null, Quality::Bad)]);
    assert_eq!(host.rejected.len(), 1);
}

#[test]
fn who_dies_leaves_null_once() {
    let mut host = born();
    assert_eq!(
        host.take("spBv1.0/plant/DDEATH/edge/pump", &payload(2, &[])),
        [gone("plant.edge.pump", "Speed")]
    );
    assert_eq!(host.take("spBv1.0/plant/DDEATH/edge/pump", &payload(3, &[])), []);
    // The will of a session before this one.
    let old = Payload { metrics: vec![session(6)], ..Payload::default() };
    assert_eq!(host.take("spBv1.0/plant/NDEATH/edge", &old), []);
    let own = Payload { metrics: vec![session(7)], ..Payload::default() };
    assert_eq!(host.take("spBv1.0/plant/NDEATH/edge", &own), [gone("plant.edge", "Tank/Level")]);
    assert_eq!(host.take("spBv1.0/plant/NDEATH/edge", &own), []);
}

#[test]
fn a_death_of_a_node_is_one_of_its_devices_too() {
    let mut host = born();
    let own = Payload { metrics: vec![session(7)], ..Payload::default() };
    let rows = host.take("spBv1.0/plant/NDEATH/edge", &own);
    assert_eq!(rows, [gone("plant.edge", "Tank/Level"), gone("plant.edge.pump", "Speed")]);
}

#[test]
fn a_gap_has_a_rebirth_asked_for_once_in_a_while() {
    let mut host = born();
    let level = || metric("", 1, 0, MetricValue::Float(0.5));
    let rows = host.take("spBv1.0/plant/NDATA/edge", &payload(3, &[level()]));
    assert_eq!(rows.len(), 1, "what came is taken");
    assert_eq!(host.asked, ["spBv1.0/plant/NCMD/edge"]);
    host.take("spBv1.0/plant/NDATA/edge", &payload(9, &[level()]));
    assert_eq!(host.asked.len(), 1);
    host.now_ns += REBIRTH_REST_NS;
    host.take("spBv1.0/plant/NDATA/edge", &payload(10, &[level()]));
    assert_eq!(host.asked.len(), 2, "it still has not given its birth");
}

#[test]
fn sequences_begin_again_after_255() {
    let mut host = born();
    for seq in 2..600_u64 {
        let level = metric("", 1, 0, MetricValue::Float(0.5));
        host.take("spBv1.0/plant/NDATA/edge", &payload(seq % 256, &[level]));
    }
    assert_eq!(host.asked, [""; 0]);
}

#[test]
fn data_before_a_birth_has_one_asked_for() {
    let mut host = Host::new(&[]);
    let level = [metric("Tank/Level", 1, 9, MetricValue::Float(0.1))];
    assert_eq!(host.take("spBv1.0/plant/NDATA/edge", &payload(5, &level)), []);
    assert_eq!(host.asked, ["spBv1.0/plant/NCMD/edge"]);
    assert_eq!(host.take("spBv1.0/plant/DBIRTH/edge/pump", &payload(6, &level)), []);
    assert!(host.rejected[0].contains("no birth"), "{:?}", host.rejected);
}

#[test]
fn devices_are_born_again_after_their_node() {
    let mut host = born();
    host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(8)]));
    let speed = metric("Speed", 0, 1, MetricValue::Int(1));
    assert_eq!(host.take("spBv1.0/plant/DDATA/edge/pump", &payload(1, &[speed])), []);
    assert_eq!(host.asked.len(), 1);
}

#[test]
fn a_metric_that_a_new_birth_leaves_out_is_null() {
    let mut host = born();
    let rows = host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(8)]));
    assert_eq!(rows, [gone("plant.edge", "Tank/Level")]);
}

#[test]
fn a_connection_that_was_lost_makes_nodes_doubted() {
    let mut host = born();
    let sheets_of = |host: &mut Host| {
        let clock = ManualClock::at(NOW_NS);
        let mut sheets = Sheets::of(&clock);
        let asked = host.nodes.turn(host.now_ns, &mut sheets).unwrap();
        (asked.len(), sheets.seen().0)
    };
    host.nodes.begin(host.now_ns);
    host.nodes.begin(host.now_ns);
    assert_eq!(sheets_of(&mut host), (1, vec![]));
    host.now_ns += DOUBT_NS - SECOND_NS;
    assert_eq!(sheets_of(&mut host), (0, vec![]));
    host.now_ns += SECOND_NS;
    let rows = vec![gone("plant.edge", "Tank/Level"), gone("plant.edge.pump", "Speed")];
    assert_eq!(sheets_of(&mut host), (0, rows));
    assert_eq!(sheets_of(&mut host), (0, vec![]));
}

#[test]
fn nulls_qualities_and_the_past_are_told() {
    let mut host = born();
    let null = Metric { alias: Some(1), is_null: Some(true), timestamp: Some(AT_MS), ..Metric::default() };
    let rows = host.take("spBv1.0/plant/NDATA/edge", &payload(2, &[null]));
    assert_eq!(rows, [good("plant.edge", "Tank/Level", Value::Null)]);
    let stale = PropertySet { keys: vec!["Quality".into()], values: vec![PropertyValue { int: Some(500) }] };
    let stale = Metric { properties: Some(stale), ..metric("", 1, 0, MetricValue::Float(0.5)) };
    let rows = host.take("spBv1.0/plant/NDATA/edge", &payload(3, &[stale]));
    assert_eq!(rows[0].4, Quality::Uncertain);
    let past = Metric {
        is_historical: Some(true),
        timestamp: Some(1000),
        ..metric("", 1, 0, MetricValue::Float(0.25))
    };
    let rows = host.take("spBv1.0/plant/NDATA/edge", &payload(4, &[past]));
    assert_eq!(
        rows,
        [row("plant.edge", "Tank/Level", Some(1_000_000_000), Value::Float(0.25), Quality::Good)]
    );
}

#[test]
fn what_is_no_value_costs_one_reading() {
    let mut host = born();
    let wrong = metric("", 1, 0, MetricValue::Text("x".into()));
    let unknown = metric("", 99, 0, MetricValue::Float(1.0));
    let right = metric("Tank/Level", 0, 0, MetricValue::Float(1.0));
    let rows = host.take("spBv1.0/plant/NDATA/edge", &payload(2, &[wrong, unknown, right]));
    let bad = row("plant.edge", "Tank/Level", Some(AT_NS), Value::Null, Quality::Bad);
    assert_eq!(rows, [bad, good("plant.edge", "Tank/Level", Value::Float(1.0))]);
    assert_eq!(host.rejected.len(), 2);
}

#[test]
fn too_much_is_refused() {
    let mut host = Host::new(&[]);
    let many: Vec<Metric> = (0..=METRICS_MAX).map(|_| Metric::default()).collect();
    host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &many));
    assert!(host.rejected[0].contains("5001 metrics; allowed are 5000"), "{:?}", host.rejected);
    let long = metric(&"n".repeat(NAME_BYTES_MAX + 1), 0, 9, MetricValue::Float(0.1));
    assert_eq!(host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[long])), []);
    assert!(host.rejected[0].contains("257 bytes; allowed are 256"), "{:?}", host.rejected);
    host.take_bytes("spBv1.0/plant/NBIRTH/edge", &vec![0; 256 * 1024 + 1]);
    assert!(host.rejected[0].contains("allowed are 262144"), "{:?}", host.rejected);
    for n in 0..NODES_MAX + 5 {
        host.take(&format!("spBv1.0/plant/NDATA/n{n}"), &payload(0, &[]));
    }
    assert_eq!(host.nodes.nodes.len(), NODES_MAX);
    // Names that somebody made up keep out nobody who tells what it is.
    let level = metric("Level", 1, 9, MetricValue::Float(0.5));
    let rows = host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(7), level]));
    assert_eq!(rows, [good("plant.edge", "Level", Value::Float(0.5))]);
    assert_eq!(host.nodes.nodes.len(), NODES_MAX);
}

#[test]
fn names_that_are_made_up_are_asked_for_no_more_births_than_nodes_that_there_may_be() {
    let mut host = Host::new(&[]);
    let told = |host: &mut Host, range: std::ops::Range<usize>| {
        for n in range {
            host.take(&format!("spBv1.0/plant/NDATA/n{n:05}"), &payload(0, &[]));
        }
    };
    told(&mut host, 0..NODES_MAX * 2);
    assert_eq!((host.nodes.nodes.len(), host.asked.len()), (NODES_MAX, NODES_MAX));
    assert!(host.rejected[0].contains("one node more than the 1000 that are allowed"), "{:?}", host.rejected);
    // A birth has its place, and gives none to those that are refused.
    host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(7)]));
    told(&mut host, 0..NODES_MAX * 2);
    assert_eq!((host.nodes.nodes.len(), host.asked.len()), (NODES_MAX, NODES_MAX));
    // Later there is room for one that has not been heard.
    host.now_ns += REBIRTH_REST_NS;
    told(&mut host, NODES_MAX * 3..NODES_MAX * 3 + 1);
    assert!(host.rejected[0].contains("a rebirth is asked for"), "{:?}", host.rejected);
    assert_eq!(host.nodes.nodes.len(), NODES_MAX);
}

#[test]
fn births_are_asked_for_a_few_at_a_time_and_first_of_those_that_have_told_one() {
    let (mut host, clock) = (born(), ManualClock::at(NOW_NS));
    let mut sheets = Sheets::of(&clock);
    for n in 0..REBIRTHS_MAX + 5 {
        let (topic, payload) = (format!("spBv1.0/a/NDATA/n{n:03}"), payload(0, &[]).encode_to_vec());
        host.nodes.take(0, Message { topic: &topic, payload: &payload, retained: false }, &mut sheets);
    }
    host.nodes.begin(0);
    host.nodes.begin(0);
    let mut turn = || host.nodes.turn(0, &mut sheets).unwrap();
    let first = turn();
    assert_eq!((first.len(), first[0].0.as_str()), (REBIRTHS_MAX, "spBv1.0/plant/NCMD/edge"));
    assert_eq!((turn().len(), turn().len()), (6, 0));
}

const TANK: &str = "name = \"tank\"\n[sparkplug]\n[points]\n\
    level = { unit = \"m\", min = 0, max = 9, address = \"Tank/Level\", scale = 0.001, access = \"read-write\" }\n\
    reset = { type = \"bool\", address = \"Tank/Reset\", access = \"write\" }\n\
    gone = { type = \"bool\", address = \"Tank/Gone\", access = \"write\" }\n";

fn tank(address: &str) -> DeviceConfig {
    DeviceConfig {
        id: "tank-1".parse().unwrap(),
        profile: "tank".into(),
        family: Some(Arc::new(Profile::parse("tank.toml", TANK).unwrap())),
        address: address.into(),
        firmware: None,
        hardware: None,
        stream: None,
    }
}

/// A device behind a node that can be told what to do.
struct Told {
    host: Host,
    writes: Writes,
    inbox: Inbox,
}

impl Told {
    /// One whose level has this alias.
    fn born(alias: u64) -> Self {
        let mut host = Host::new(&[tank("plant/edge/tank")]);
        host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(7)]));
        let level = metric("Tank/Level", alias, 7, MetricValue::Int(1500));
        let reset = metric("Tank/Reset", 0, 11, MetricValue::Boolean(false));
        host.take("spBv1.0/plant/DBIRTH/edge/tank", &payload(1, &[level, reset]));
        let writes = Writes::default();
        let inbox = writes.inbox("plant".into());
        host.nodes.news().iter().for_each(|device| inbox.serve(device));
        Self { host, writes, inbox }
    }

    /// Asks for a value; gives what comes of it and the command, which was sent.
    async fn ask(&mut self, point: &str, value: Value) -> (Asks, Result<(String, Metric), String>) {
        let (writes, point) = (self.writes.clone(), point.parse().unwrap());
        let asks = async move {
            writes.write(&"tank-1".parse().unwrap(), &point, value, Duration::from_secs(9)).await
        };
        let mut asks: Asks = Box::pin(asks);
        let write = tokio::select! {
            biased;
            outcome = &mut asks => panic!("{outcome:?}"),
            write = self.inbox.next() => write,
        };
        match self.host.nodes.command(&write, AT_MS) {
            Ok(Command { topic, payload, proof }) => {
                assert_eq!(proof, Proof::Device);
                self.host.nodes.sent(write);
                let mut payload = Payload::read(&payload).unwrap();
                assert_eq!((payload.metrics.len(), payload.seq, payload.timestamp), (1, None, Some(AT_MS)));
                (asks, Ok((topic, payload.metrics.remove(0))))
            }
            Err(why) => {
                write.not_done(&why);
                (asks, Err(why))
            }
        }
    }
}

type Asks = Pin<Box<dyn Future<Output = Result<(), WriteError>>>>;

#[tokio::test(start_paused = true)]
async fn a_command_is_done_when_its_device_tells_the_value() {
    let mut told = Told::born(0);
    let (mut asks, sent) = told.ask("level", Value::Float(2.25)).await;
    let (topic, command) = sent.unwrap();
    assert_eq!(topic, "spBv1.0/plant/DCMD/edge/tank");
    assert_eq!((command.name.as_deref(), command.alias), (Some("Tank/Level"), None));
    assert_eq!((command.datatype, command.value), (Some(7), Some(MetricValue::Int(2250))));
    let level = |seq: u64, raw: u32, past: bool| {
        let level = metric("Tank/Level", 0, 0, MetricValue::Int(raw));
        payload(seq, &[Metric { is_historical: past.then_some(true), ..level }])
    };
    for (seq, raw, past) in [(2, 1501, false), (3, 2250, true)] {
        told.host.take("spBv1.0/plant/DDATA/edge/tank", &level(seq, raw, past));
        tokio::select! {
            biased;
            outcome = &mut asks => panic!("{outcome:?}"),
            () = std::future::ready(()) => {}
        }
    }
    told.host.take("spBv1.0/plant/DDATA/edge/tank", &level(4, 2250, false));
    assert_eq!(asks.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_alias_of_the_birth_stands_in_commands_for_the_name() {
    let mut told = Told::born(4);
    let (_, sent) = told.ask("level", Value::Float(2.25)).await;
    let (_, command) = sent.unwrap();
    assert_eq!((command.name, command.alias), (None, Some(4)));
}

#[tokio::test(start_paused = true)]
async fn nobody_knows_what_became_of_a_command_that_nothing_shows() {
    let unknown = |outcome: Result<(), WriteError>| match outcome {
        Err(WriteError::Unknown(why)) => why,
        other => panic!("{other:?}"),
    };
    let mut told = Told::born(0);
    let (asks, _) = told.ask("level", Value::Float(2.25)).await;
    told.host.take("spBv1.0/plant/DDEATH/edge/tank", &payload(2, &[]));
    assert!(unknown(asks.await).contains("died"));
    let mut told = Told::born(0);
    let (asks, _) = told.ask("level", Value::Float(2.25)).await;
    told.host.nodes.begin(0);
    told.host.nodes.begin(0);
    assert!(unknown(asks.await).contains("lost"));
    let mut told = Told::born(0);
    let (asks, _) = told.ask("level", Value::Float(2.25)).await;
    assert!(unknown(asks.await).contains("no answer within 9000 ms"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_to_who_is_dead_or_has_no_such_metric() {
    let mut told = Told::born(0);
    let (_, sent) = told.ask("gone", Value::Bool(true)).await;
    assert_eq!(sent.unwrap_err(), "no birth of tank-1 tells \"Tank/Gone\"");
    let own = Payload { metrics: vec![session(7)], ..Payload::default() };
    told.host.take("spBv1.0/plant/NDEATH/edge", &own);
    let (asks, sent) = told.ask("level", Value::Float(1.0)).await;
    assert_eq!(sent.unwrap_err(), "tank-1 has told no birth, or died");
    assert!(matches!(asks.await, Err(WriteError::NotDone(_))));
}

#[tokio::test(start_paused = true)]
async fn commands_that_nobody_waits_for_any_more_make_room() {
    let mut told = Told::born(0);
    let mut all = Vec::new();
    for _ in 0..ASKED_MAX {
        let (asks, sent) = told.ask("reset", Value::Bool(true)).await;
        sent.unwrap();
        all.push(asks);
    }
    let (_, sent) = told.ask("reset", Value::Bool(true)).await;
    assert_eq!(sent.unwrap_err(), "64 commands to tank-1 are not answered yet");
    drop(all);
    let (_, sent) = told.ask("reset", Value::Bool(true)).await;
    sent.unwrap();
}

fn any_metric() -> impl Strategy<Value = Metric> {
    let value = prop_oneof![
        any::<u32>().prop_map(MetricValue::Int),
        any::<u64>().prop_map(MetricValue::Long),
        any::<f32>().prop_map(MetricValue::Float),
        any::<f64>().prop_map(MetricValue::Double),
        any::<bool>().prop_map(MetricValue::Boolean),
        ".{0,4}".prop_map(MetricValue::Text),
    ];
    let name = prop::option::of("[ab/ ]{0,2}");
    let of = (
        name,
        prop::option::of(0..4_u64),
        prop::option::of(0..20_u32),
        prop::option::of(value),
        any::<Option<u64>>(),
        any::<Option<bool>>(),
    );
    of.prop_map(|(name, alias, datatype, value, timestamp, is_null)| Metric {
        name,
        alias,
        datatype,
        value,
        timestamp,
        is_null,
        ..Metric::default()
    })
}

proptest! {
    #[test]
    fn what_is_written_as_a_datatype_is_read_as_the_same(
        datatype in 0..20_u32,
        value in prop_oneof![
            any::<i64>().prop_map(Value::Int),
            (-40_000..40_000_i64).prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            any::<bool>().prop_map(Value::Bool),
            ".{0,4}".prop_map(|text| Value::Text(text.as_str().into())),
        ]
    ) {
        let Ok(metric) = Metric::written(&value, datatype, AT_MS) else { return Ok(()) };
        let read = metric.read(datatype).unwrap();
        prop_assert_eq!(read.kind(), kind(datatype));
        match (&value, &read) {
            (Value::Int(_) | Value::Bool(_) | Value::Text(_), _) if read.kind() == value.kind() => prop_assert_eq!(&value, &read),
            (Value::Float(real), Value::Int(whole)) => prop_assert!((real - *whole as f64).abs() <= 0.5_f64.max(real.abs() * 1e-15)),
            (Value::Float(real), Value::Float(near)) => prop_assert!((real - near).abs() <= real.abs() * 1e-7 + 1e-44),
            (Value::Int(whole), Value::Float(near)) => prop_assert!((*whole as f64 - near).abs() <= near.abs() * 1e-7),
            _ => prop_assert!(false, "{:?} became {:?}", value, read),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(verb in "(N|D)(BIRTH|DATA|DEATH|CMD)", device in "(/p)?", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut host = born();
        host.take_bytes(&format!("spBv1.0/plant/{verb}/edge{device}"), &bytes);
    }

    #[test]
    fn no_order_of_messages_makes_it_panic_or_leaves_values_of_the_dead(
        messages in prop::collection::vec(("(N|D)(BIRTH|DATA|DEATH)", "[ef]", 0..2_u8, 0..300_u64, prop::collection::vec(any_metric(), 0..4)), 0..30)
    ) {
        let mut host = Host::new(&[]);
        for (verb, node, device, seq, metrics) in messages {
            let device = if device == 0 { "" } else { "/p" };
            host.now_ns += SECOND_NS;
            host.take(&format!("spBv1.0/g/{verb}/{node}{device}"), &payload(seq, &metrics));
            for node in host.nodes.nodes.values().filter(|node| node.life == Life::Dead) {
                prop_assert!(node.parties.values().all(|party| party.metrics.values().all(|known| !known.said)));
            }
        }
    }
}

#[test]
fn topics_begin_as_profiles_say_and_commands_go_where_the_births_came_from() {
    let text = "name = \"own\"\n[sparkplug]\nnamespace = \"plantB\"\n[points]\nlevel = { unit = \"m\", min = 0, max = 9, \
        address = \"Tank/Level\", access = \"read-write\" }\n";
    let own = Arc::new(Profile::parse("own.toml", text).unwrap());
    let told = DeviceConfig { profile: "own".into(), family: Some(Arc::clone(&own)), ..tank("plant/edge") };
    let mut host = Host::new(&[told]);
    let filters = host.nodes.filters();
    assert!(
        filters.contains(&"plantB/+/NBIRTH/+".to_owned())
            && filters.contains(&"spBv1.0/+/DDATA/+/+".to_owned())
    );
    let level = || metric("Tank/Level", 0, 10, MetricValue::Double(1.5));
    let rows = host.take("plantB/plant/NBIRTH/edge", &payload(0, &[session(1), level()]));
    assert_eq!(rows, [good("tank-1", "level", Value::Float(1.5))]);
    // A node of that name under another beginning is another one, and nobody's that is told.
    assert_eq!(host.take("other/plant/NBIRTH/edge", &payload(0, &[session(1), level()])), []);
    let rows = host.take("spBv1.0/plant/NBIRTH/edge", &payload(0, &[session(1), level()]));
    assert_eq!(rows, [good("plant.edge", "Tank/Level", Value::Float(1.5))]);
    host.take("plantB/plant/NDATA/edge", &payload(7, &[level()]));
    assert_eq!(host.asked, ["plantB/plant/NCMD/edge"], "after a gap");
    // A source of that family alone asks for nothing else.
    let nodes = Nodes::new(vec!["plant".to_owned()], &[], &own).unwrap();
    assert!(nodes.filters().iter().all(|filter| filter.starts_with("plantB/plant/")));
}
