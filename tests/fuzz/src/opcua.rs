//! OPC UA: what a server says, as far as it is ours to read: lengths of messages, names and references of nodes, values with
//! their types, statuses and times. What the crate's decoder lets through is made of any bytes, too.

use std::sync::Arc;

use edge_agent::source::Device;
use edge_agent::source::opcua::frames::Frames;
use edge_agent::source::opcua::node;
use edge_agent::source::opcua::values::{self, Type};
use edge_agent::source::opcua::variables::{Memory, Party, Variable, Variables};
use edge_agent::source::opcua::walk::{NODES_MAX, Walk, Wish};
use edge_agent::source::sheets::Sheets;
use opcua_types::{
    BinaryDecodable as _, BinaryEncodable as _, ContextOwned, DataChangeNotification, DataValue, DateTime,
    DecodingOptions, LocalizedText, MonitoredItemNotification, NamespaceMap, NodeClass, NodeId,
    QualifiedName, ReferenceDescription, StatusCode, UAString, Variant,
};
use tideline_profiles::Profile;
use tideline_profiles::names::Names;
use tideline_protocol::time::ManualClock;
use tideline_protocol::value::{Quality, Value, ValueKind};

use crate::input::Input;

/// Most events of an input.
const EVENTS_MAX: usize = 200;
/// Bytes of a message, as the fuzzed end allows it.
const MESSAGE_MAX: usize = 64;
const PROFILE: &str = "name = \"pump\"\n[opcua]\n[others]\ntake = [\"*\"]\nexcept = [\"Server/*\"]\n[points]\n\
    flow = { unit = \"l/s\", min = 0, max = 90, address = \"ns=2;s=Flow\", scale = 0.1 }\n\
    mode = { type = \"text\", enum = { 0 = \"off\", 1 = \"on\" }, address = \"/2:Pump/2:Mode\" }\n\
    running = { type = \"bool\", address = \"ns=2;i=7\" }\n";
const NAMES: [&str; 6] =
    ["ns=2;s=Flow", "/2:Pump/2:Mode", "ns=2;i=7", "Pump/State", "Pump/Speed", "Pump/Name"];

fn context() -> ContextOwned {
    ContextOwned::new_default(NamespaceMap::new(), DecodingOptions::default())
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        // Values of types in their order, each of the next variable.
        (0..13_u8)
            .flat_map(|kind| [&[0, kind % 7, kind, 0][..], &[3, 0, 0, 0, 0, 0, 0, 0], &[5; 8]].concat())
            .collect(),
        // A walk: names, some of which were there before.
        (0..20_u8).flat_map(|at| [2, at, at % 5, 1]).collect(),
        [&[3, 8][..], b"MSGF\x20\0\0\0", &[3, 8], b"abcdefgh"].concat(),
        [&[4, 20][..], b"nsu=urn:maker;s=Flow", &[4, 14], b"/2:Pump/2:Flow"].concat(),
        // What is read is written.
        (0..16_u8)
            .flat_map(|data_type| [&[5, data_type, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat())
            .collect(),
        vec![0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0x35, 0x40, 1, 1, 1, 1, 1, 1, 1, 1, 6, 0, 0, 11, 0x80],
    ];
    let encoded = |value: Variant, status: StatusCode| {
        let value = DataValue {
            value: Some(value),
            status: Some(status),
            source_timestamp: Some(DateTime::from(133_000_000_000_000_000)),
            server_timestamp: Some(DateTime::from(133_000_000_010_000_000)),
            ..DataValue::default()
        };
        let mut bytes = Vec::new();
        value.encode(&mut bytes, &context().context()).expect("it can be told");
        [&[1, 3, u8::try_from(bytes.len()).expect("short")][..], &bytes].concat()
    };
    seeds.push(encoded(Variant::Double(21.5), StatusCode::Good));
    seeds.push(encoded(Variant::from(vec![1_i32, 2, 3]), StatusCode::UncertainInitialValue));
    seeds.push(encoded(Variant::from("auto"), StatusCode::BadSensorFailure));
    seeds
}

fn bench() -> (Vec<Party>, Variables) {
    let profile = Arc::new(Profile::parse("pump.toml", PROFILE).expect("it is a profile"));
    let (names, device) = (Names::of(&profile), Device::of("pump-1".parse().expect("an id"), profile));
    let types = [Type::Of(ValueKind::Float), Type::Of(ValueKind::Int), Type::Of(ValueKind::Bool), Type::Any];
    let variable = |(at, name): (usize, &&str)| Variable {
        party: 0,
        node: NodeId::new(2, *name),
        name: (*name).to_owned(),
        point: names.point(name).expect("it is taken"),
        of: types[at % types.len()],
        data_type: None,
        sampling_ms: 1000,
        is_read: true,
    };
    let variables = Variables::new(NAMES.iter().enumerate().map(variable).collect());
    (vec![Party { device, stream: None, names }], variables)
}

/// Takes all that has a name, but what is below `Server`.
struct All;

impl Wish for All {
    fn wants(&self, path: &str) -> bool {
        !path.is_empty()
    }

    fn leaves_out(&self, path: &str) -> bool {
        path == "Server"
    }
}

/// Events, each a byte and what it needs.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let clock = ManualClock::at(1_769_860_800_000_000_000);
    let (parties, mut variables) = bench();
    let (mut memory, mut frames) = (Memory::default(), Frames::new(MESSAGE_MAX));
    let mut walk = Walk::new(&All, &[NodeId::new(0, node::OBJECTS)], 4);
    let mut found = 0;
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 7 {
            0 => {
                let (handle, value) = (u32::from(input.byte() % 9), told(&mut input));
                hear((&mut variables, &mut memory), &parties, (handle, value), &clock);
            }
            1 => {
                let (handle, length) = (u32::from(input.byte() % 9), input.byte());
                let bytes: Vec<u8> = (0..length).map(|_| input.byte()).collect();
                if let Ok(value) = DataValue::decode(&mut bytes.as_slice(), &context().context()) {
                    hear((&mut variables, &mut memory), &parties, (handle, value), &clock);
                }
            }
            2 => found += browse(&mut walk, &mut input),
            3 => {
                let length = input.byte();
                let bytes: Vec<u8> = (0..length).map(|_| input.byte()).collect();
                if let Err(error) = frames.follow(&bytes) {
                    assert!(error.contains("allowed are"), "{error}");
                    frames = Frames::new(MESSAGE_MAX);
                }
            }
            4 => {
                let length = input.byte();
                let bytes: Vec<u8> = (0..length).map(|_| input.byte()).collect();
                if let Err(error) = node::parse(&String::from_utf8_lossy(&bytes)) {
                    assert!(!error.is_empty());
                }
            }
            5 => write(&mut input),
            _ => {
                let mut sheets = Sheets::of(&clock);
                memory.silence(&parties, &mut sheets);
                let (rows, _) = sheets.seen();
                assert!(
                    rows.iter().all(|(.., value, quality)| (value, *quality) == (&Value::Null, Quality::Bad))
                );
                let mut again = Sheets::of(&clock);
                memory.silence(&parties, &mut again);
                assert!(again.seen().0.is_empty(), "what was taken back is taken back once");
            }
        }
    }
    let (variables, _) = walk.found();
    assert!(variables.len() <= found.min(NODES_MAX));
}

fn hear(
    (variables, memory): (&mut Variables, &mut Memory),
    parties: &[Party],
    (client_handle, value): (u32, DataValue),
    clock: &ManualClock,
) {
    let is_known = (1..=NAMES.len()).contains(&usize::try_from(client_handle).expect("small"));
    let item = MonitoredItemNotification { client_handle, value: value.clone() };
    let change = DataChangeNotification { monitored_items: Some(vec![item]), diagnostic_infos: None };
    let mut sheets = Sheets::of(clock);
    variables.take(&change, parties, memory, &mut sheets);
    let (rows, rejected) = sheets.seen();
    assert!(rejected.iter().all(|reason| !reason.is_empty()));
    assert!(rows.len() == usize::from(is_known), "one value is one reading: {rows:?}");
    let status = value.status.unwrap_or(StatusCode::Good);
    for (_, point, time_ns, shown, quality) in rows {
        assert!(quality >= values::quality(status), "no value is better than the server says");
        assert!(quality != Quality::Bad || shown == Value::Null, "what is bad is no number: {shown:?}");
        assert!(time_ns.is_none() || value.source_timestamp.is_some() || value.server_timestamp.is_some());
        match (point.as_str(), &shown) {
            (_, Value::Null) | ("mode", Value::Text(_)) | ("running", Value::Bool(_)) => {}
            ("flow", Value::Float(flow)) => assert!((0.0..=90.0).contains(flow), "{flow}"),
            ("flow" | "mode" | "running", shown) => panic!("{point} is {shown:?}"),
            (_, Value::Float(number)) => assert!(number.is_finite(), "{number}"),
            _ => {}
        }
    }
}

/// A value of any type with any status and times.
fn told(input: &mut Input<'_>) -> DataValue {
    let (kind, status, number) = (input.byte(), input.byte(), input.long());
    let long = i64::from_le_bytes(number.to_le_bytes());
    let short = u32::try_from(number & 0xFFFF_FFFF).expect("32 bits");
    let text = || "é".repeat(usize::try_from(number % 6_000).expect("small"));
    let variant = match kind % 15 {
        0 => Variant::Empty,
        1 => Variant::Boolean(number & 1 == 1),
        2 => Variant::SByte(i8::from_le_bytes([number.to_le_bytes()[0]])),
        3 => Variant::Byte(number.to_le_bytes()[0]),
        4 => Variant::Int64(long),
        5 => Variant::UInt64(number),
        6 => Variant::UInt32(short),
        7 => Variant::Float(f32::from_bits(short)),
        8 => Variant::Double(f64::from_bits(number)),
        9 => Variant::String(UAString::from(text())),
        10 => Variant::from(LocalizedText::from(text().as_str())),
        11 => Variant::from(DateTime::from(long)),
        12 => Variant::StatusCode(StatusCode::from(short)),
        13 => Variant::from(vec![long]),
        _ => Variant::QualifiedName(Box::new(QualifiedName::new(7, text()))),
    };
    let stamp = |bit: u8, input: &mut Input<'_>| {
        (status & bit == bit).then(|| DateTime::from(i64::from_le_bytes(input.long().to_le_bytes())))
    };
    DataValue {
        value: (status & 1 == 0).then_some(variant),
        status: (status & 2 == 2).then(|| StatusCode::from(short.rotate_left(7))),
        source_timestamp: stamp(4, input),
        server_timestamp: stamp(8, input),
        source_picoseconds: (status & 16 == 16).then_some(u16::MAX),
        server_picoseconds: None,
    }
}

/// Answers a question of the walk; gives how many nodes the answer has.
fn browse(walk: &mut Walk<'_, All>, input: &mut Input<'_>) -> usize {
    let (steps, names) = (walk.next(usize::from(input.byte() % 4) + 1), input.byte());
    let mut count = 0;
    for step in steps {
        let references: Vec<ReferenceDescription> = (0..names % 8).map(|_| reference(input)).collect();
        count += references.len();
        walk.take(&step, &references);
    }
    count
}

fn reference(input: &mut Input<'_>) -> ReferenceDescription {
    let (node, name) = (input.byte(), input.byte());
    let name = match name % 5 {
        0 => String::new(),
        1 => "Server".to_owned(),
        2 => "a/b".to_owned(),
        3 => "x".repeat(300),
        _ => format!("n{name}"),
    };
    ReferenceDescription {
        node_id: NodeId::new(u16::from(node >> 6), u32::from(node)).into(),
        browse_name: QualifiedName::new(2, name),
        node_class: if node & 1 == 1 { NodeClass::Variable } else { NodeClass::Object },
        ..ReferenceDescription::default()
    }
}

/// What can be written is read as the same.
fn write(input: &mut Input<'_>) {
    let (data_type, kind, number) = (u32::from(input.byte()), input.byte(), input.long());
    let long = i64::from_le_bytes(number.to_le_bytes());
    let value = match kind % 5 {
        0 => Value::Bool(number & 1 == 1),
        1 => Value::Int(long),
        2 => Value::Float(f64::from_bits(number)),
        3 => Value::Text(format!("{long}").into()),
        _ => Value::Null,
    };
    match values::written(&value, data_type) {
        Ok(variant) => {
            let again = values::value(&variant).expect("it is of a type that is read");
            match (&value, &again) {
                (Value::Int(whole), Value::Int(read)) => assert_eq!(whole, read),
                (Value::Bool(yes), Value::Bool(read)) => assert_eq!(yes, read),
                (Value::Text(text), Value::Text(read)) => assert_eq!(text, read),
                (Value::Float(real), Value::Float(read)) => assert!(real.is_finite() && read.is_finite()),
                _ => {}
            }
        }
        Err(error) => assert!(!error.is_empty()),
    }
}
