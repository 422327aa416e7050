//! Nodes of Sparkplug B: any payloads in any order, with births that are believed and sequences that have gaps.

use edge_agent::config::shipped;
use edge_agent::source::directory::Message;
use edge_agent::source::mqtt::Speech as _;
use edge_agent::source::sheets::Sheets;
use edge_agent::source::sparkplug::nodes::{NODES_MAX, Nodes};
use edge_agent::source::sparkplug::payload::{BD_SEQ, METRICS_MAX, Metric, MetricValue, Payload, kind};
use prost::Message as _;
use tideline_protocol::time::ManualClock;

use crate::input::Input;

/// Most events of an input.
const EVENTS_MAX: usize = 200;
const SECOND_NS: u64 = 1_000_000_000;
const NAMES: [&str; 4] = ["level", "a b", "", BD_SEQ];
const TOPICS: [&str; 8] = [
    "spBv1.0/g/NBIRTH/n",
    "spBv1.0/g/NDATA/n",
    "spBv1.0/g/NDEATH/n",
    "spBv1.0/g/DBIRTH/n/d",
    "spBv1.0/g/DDATA/n/d",
    "spBv1.0/g/DDEATH/n/d",
    "spBv1.0/g/NBIRTH/m",
    "spBv1.0/g/NDATA/n/d/e",
];

pub fn seeds() -> Vec<Vec<u8>> {
    let metric = |name: u8, alias: u8, datatype: u8, value: u8| {
        vec![name, alias, datatype, 0, value, 7, 0, 0, 0, 0, 0, 0, 0]
    };
    let message = |topic: u8, seq: u8, metrics: &[Vec<u8>]| {
        let count = u8::try_from(metrics.len()).expect("few");
        [&[0, topic, seq, count][..], &metrics.concat()].concat()
    };
    let birth = message(0, 0, &[metric(0, 1, 10, 3), metric(3, 0, 8, 1)]);
    let device = message(3, 1, &[metric(1, 2, 4, 1)]);
    let data = message(1, 2, &[metric(9, 1, 0, 3)]);
    let of_device = message(4, 9, &[metric(9, 2, 0, 1), metric(9, 77, 0, 1)]);
    let death = message(2, 0, &[metric(3, 0, 8, 1)]);
    let payload = Payload::rebirth(5).encode_to_vec();
    let raw = [&[1, 1, u8::try_from(payload.len()).expect("short")][..], &payload].concat();
    vec![
        [birth.clone(), device.clone(), data.clone(), of_device.clone(), death.clone()].concat(),
        [data.clone(), vec![2, 40], birth.clone(), vec![3], data, vec![2, 200], birth, death].concat(),
        [device, raw, of_device].concat(),
    ]
}

/// Events: a message of metrics, one of any bytes, time, a new connection.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let clock = ManualClock::at(5_000_000_000);
    let family = shipped("sparkplug-node").expect("it ships");
    let mut nodes = Nodes::new(Vec::new(), &[], &family).expect("nodes");
    let mut now_ns = 0;
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        let mut sheets = Sheets::of(&clock);
        let (topic, payload) = match input.byte() % 4 {
            0 => (TOPICS[usize::from(input.byte()) % TOPICS.len()], message(&mut input)),
            1 => {
                let (topic, length) = (TOPICS[usize::from(input.byte()) % TOPICS.len()], input.byte());
                (topic, (0..length).map(|_| input.byte()).collect())
            }
            2 => {
                now_ns += u64::from(input.byte()) * SECOND_NS;
                ("", Vec::new())
            }
            _ => {
                nodes.begin(now_ns);
                ("", Vec::new())
            }
        };
        match Payload::read(&payload) {
            Ok(payload) => {
                assert!(payload.metrics.len() <= METRICS_MAX);
                for metric in &payload.metrics {
                    let read = metric
                        .datatype
                        .filter(|datatype| kind(*datatype).is_some())
                        .map(|it| (it, metric.read(it)));
                    if let Some((datatype, Ok(value))) = read {
                        assert!(value.kind().is_none() || value.kind() == kind(datatype), "{value:?}");
                    }
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        nodes.take(now_ns, Message { topic, payload: &payload, retained: false }, &mut sheets);
        let told = nodes.turn(now_ns, &mut sheets).expect("it may always have something to say");
        assert!(
            told.len() <= NODES_MAX && told.iter().all(|(topic, _)| topic.starts_with("spBv1.0/g/NCMD/"))
        );
        assert!(sheets.rejected().iter().all(|reason| !reason.is_empty()));
    }
}

fn message(input: &mut Input<'_>) -> Vec<u8> {
    let (seq, count) = (input.byte(), input.byte() % 8);
    let metrics = (0..count).map(|_| metric(input)).collect();
    Payload { timestamp: Some(1), metrics, seq: (seq != 255).then_some(seq.into()) }.encode_to_vec()
}

fn metric(input: &mut Input<'_>) -> Metric {
    let name = NAMES.get(usize::from(input.byte())).map(|name| (*name).to_owned());
    let (alias, datatype, flags, value) = (input.byte(), input.byte(), input.byte(), input.byte());
    let number = input.long();
    let short = u32::from_le_bytes(number.to_le_bytes()[..4].try_into().expect("four bytes"));
    Metric {
        name,
        alias: (alias > 0).then_some(alias.into()),
        datatype: (datatype > 0).then_some(datatype.into()),
        timestamp: (flags & 1 == 1).then_some(number),
        is_historical: (flags & 2 == 2).then_some(true),
        is_null: (flags & 4 == 4).then_some(true),
        properties: None,
        value: match value % 7 {
            0 => Some(MetricValue::Int(short)),
            1 => Some(MetricValue::Long(number)),
            2 => Some(MetricValue::Float(f32::from_bits(short))),
            3 => Some(MetricValue::Double(f64::from_bits(number))),
            4 => Some(MetricValue::Boolean(number & 1 == 1)),
            5 => Some(MetricValue::Text("x".repeat(usize::from(input.byte())))),
            _ => None,
        },
    }
}
