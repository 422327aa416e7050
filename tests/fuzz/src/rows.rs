//! Rows of CSV and NDJSON: any lines under any header, as they are described or not.

use std::collections::BTreeMap;

use edge_agent::config::{Format, Rows, Timestamps};
use edge_agent::source::Readings;
use edge_agent::source::rows::{Gathered, RowReader, time_of};
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::{Value, ValueKind};

use crate::input::Input;

const NOW_NS: i64 = 1_700_000_000_000_000_000;
/// Points of which values are looked at.
const POINTS: [&str; 4] = ["flow", "state", "count", "on"];

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "\0\0timestamp,flow,state\n1700000000000,1.5,on\n2026-01-31 12:00:00,,off\n",
        "\0\x0ftimestamp,flow,\"a \"\"b\"\"\",quality\n2026-01-31T12:00:00Z,1e3,\"x,y\",uncertain\n",
        "\x01\0{\"timestamp\":1700000000000,\"flow\":1.5,\"state\":\"on\",\"on\":true}\n{\"flow\":null}\n",
        "\x01\x1f{\"flow\":9223372036854775807,\"count\":\"17\",\"quality\":\"bad\",\"deep\":{\"a\":[1]}}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn rows(input: &mut Input<'_>) -> Rows {
    let format = if input.byte() & 1 == 0 { Format::Csv } else { Format::Ndjson };
    let bits = input.byte();
    let types = [("count", ValueKind::Int), ("state", ValueKind::Text), ("on", ValueKind::Bool)];
    Rows {
        timestamps: if bits & 1 == 0 { Timestamps::Keep } else { Timestamps::Now },
        types: if bits & 2 == 0 {
            BTreeMap::new()
        } else {
            types.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect()
        },
        quality: if bits & 4 == 0 { String::new() } else { "quality".into() },
        columns: if bits & 16 == 0 { Vec::new() } else { vec!["flow".into(), "count".into()] },
        ..Rows::plain(format)
    }
}

fn read(rows: &Rows, device: &DeviceId, text: &[u8]) -> Readings {
    let mut reader = RowReader::new(rows.clone(), device.clone());
    let mut gathered = Gathered::into(Readings::of_own_times());
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map(str::to_owned).map_err(|_| "it is no UTF-8".to_owned());
        match &line {
            Ok(header) if reader.needs_header() && !header.is_empty() => reader.head(header),
            _ => reader.read(&line, NOW_NS, || format!("line {at}"), &mut gathered),
        }
        if gathered.is_full() {
            break;
        }
    }
    reader.finish(gathered)
}

/// A byte of the format, one of options, and lines.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let rows = rows(&mut input);
    let device = DeviceId::parse("rows").expect("a name");
    let (first, again) = (read(&rows, &device, input.rest()), read(&rows, &device, input.rest()));
    assert_eq!(
        (first.count(), first.reasons()),
        (again.count(), again.reasons()),
        "the same rows say the same"
    );
    for reason in first.reasons() {
        assert!(reason.starts_with("line ") && reason.contains("allowed is"), "{reason}");
    }
    for point in POINTS {
        let point = PointId::parse(point).expect("a name");
        let Some(found) = first.newest(&device, &point) else { continue };
        assert!(!matches!(found.value, Value::Float(number) if !number.is_finite()), "{point} is no number");
        let kind = rows.types.get(point.as_str()).copied().or(found.value.kind());
        assert!(
            found.value == Value::Null || found.value.kind() == kind,
            "{point} is of another type: {:?}",
            found.value
        );
        if rows.timestamps == Timestamps::Now {
            assert_eq!(found.time_ns, NOW_NS);
        }
    }
    if let Ok(text) = std::str::from_utf8(input.rest()) {
        let _time = time_of(text);
    }
}
