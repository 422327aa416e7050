//! Modbus against pymodbus, which has nothing in common with what reads it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use anyhow::{Context as _, Result, ensure};
use edge_agent::source::WriteError;
use edge_agent::status::SourceStatus;
use tideline_field::{Bench, Peer, Row, WAIT_MAX};
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::{Quality, Value};

/// The values of pymodbus' unit 1: name, registers from the block's begin, type and encoding.
const TYPES: [(&str, u16, &str, &str); 8] = [
    ("u16", 0, "int", "u16"),
    ("i16", 1, "int", "i16"),
    ("u32", 2, "int", "u32"),
    ("i32", 4, "int", "i32"),
    ("u64", 6, "int", "u64"),
    ("i64", 10, "int", "i64"),
    ("f32", 14, "float", "f32"),
    ("f64", 16, "float", "f64"),
];

fn values() -> [Value; 8] {
    [
        Value::Int(65_535),
        Value::Int(-2),
        Value::Int(4_000_000_000),
        Value::Int(-2_000_000_000),
        Value::Int((1 << 53) + 1),
        Value::Int(-(1 << 53) - 1),
        Value::Float(1.5),
        Value::Float(std::f64::consts::PI),
    ]
}

/// Both blocks of values, a text, bits and inputs: the points of unit 1.
fn all_types() -> String {
    let mut points = String::new();
    for (order, start) in [("big", 0), ("little", 100)] {
        for (name, at, kind, encoding) in TYPES {
            let range = if kind == "int" {
                "min = -9000000000000000000, max = 9000000000000000000"
            } else {
                "min = -1e300, max = 1e300"
            };
            points += &format!(
                "\"{order}/{name}\" = {{ type = \"{kind}\", unit = \"1\", {range}, address = \"holding:{}\", \
                 encoding = \"{encoding}\", word_order = \"{order}\" }}\n",
                start + at
            );
        }
    }
    points
        + "name = { type = \"text\", address = \"holding:200\", encoding = \"string:10\" }\n\
           bcd = { type = \"int\", unit = \"1\", min = 0, max = 9999, address = \"input:2\", encoding = \"bcd16\" }\n\
           volts = { unit = \"V\", min = 0, max = 500, address = \"input:0\", encoding = \"u16\", scale = 0.1 }\n\
           coil = { type = \"bool\", address = \"coil:3\" }\n\
           contact = { type = \"bool\", address = \"discrete:4\" }\n"
}

/// Two registers, of which a device may have none.
fn pair(first: u16) -> String {
    let point = |name: &str, at: u16| {
        format!("{name} = {{ unit = \"1\", min = 0, max = 9, address = \"{at}\", encoding = \"u16\" }}\n")
    };
    point("a", first) + &point("b", first + 1)
}

/// Units of a bus with their points, and all that came of them.
struct Bus {
    bench: Bench,
    rows: Vec<Row>,
}

impl Bus {
    async fn start(transport: &str, peer: &Peer, units: &[(u8, String)]) -> Result<Self> {
        Self::of(transport, peer, units, 50).await
    }

    async fn of(transport: &str, peer: &Peer, units: &[(u8, String)], interval_ms: u32) -> Result<Self> {
        let mut bench = Bench::new()?;
        let mut config = match transport {
            "tcp" => format!("[[source]]\nkind = \"modbus-tcp\"\naddress = {:?}\n", peer.address),
            _ => format!("[[source]]\nkind = \"modbus-rtu\"\npath = {:?}\nbaud = 19200\n", peer.address),
        };
        config += "name = \"bus\"\n";
        for (unit, points) in units {
            let path = bench.folder().join(format!("unit-{unit}.toml"));
            let profile = format!(
                "name = \"unit-{unit}\"\n[modbus]\ntimeout_ms = 500\n[collection.default]\ninterval_ms = {interval_ms}\n\
                 [points]\n{points}"
            );
            std::fs::write(&path, profile)?;
            config += &format!(
                "[[device]]\nid = \"unit-{unit}\"\nsource = \"bus\"\nprofile = {path:?}\naddress = \"{unit}\"\n"
            );
        }
        bench.run(&config).await?;
        Ok(Self { bench, rows: Vec::new() })
    }

    /// Takes readings until there are enough.
    async fn until(&mut self, enough: impl Fn(&[Row]) -> bool) -> Result<()> {
        while !enough(&self.rows) {
            self.rows.push(self.bench.next().await?);
        }
        Ok(())
    }

    async fn write(&self, device: &str, point: &str, value: Value) -> Result<(), WriteError> {
        let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
        self.bench.writes.write(&device, &point, value, WAIT_MAX).await
    }

    fn status(&self) -> SourceStatus {
        self.bench.board.read().sources.get("bus").cloned().unwrap_or_default()
    }
}

async fn peer(transport: &str) -> Result<Option<Peer>> {
    Peer::start("modbus.py", "pymodbus", &[transport]).await
}

async fn reads_all_types(bus: &mut Bus) -> Result<()> {
    // Holding registers are read after all others, and these last of them.
    bus.until(|rows| rows.iter().any(|row| row.point == "name")).await?;
    let good = |point: &str| {
        let found = bus.rows.iter().find(|row| row.device == "unit-1" && row.point == point);
        ensure!(found.is_some_and(|row| row.quality == Quality::Good), "{point}: {found:?}");
        Ok(found.map_or(Value::Null, |row| row.value.clone()))
    };
    for order in ["big", "little"] {
        for ((name, ..), wanted) in TYPES.iter().zip(values()) {
            assert_eq!(good(&format!("{order}/{name}"))?, wanted, "{order}/{name}");
        }
    }
    assert_eq!(good("name")?, Value::Text("Zähler 7".into()));
    assert_eq!(good("bcd")?, Value::Int(1234));
    assert_eq!(good("volts")?, Value::Float(23.0));
    assert_eq!((good("coil")?, good("contact")?), (Value::Bool(true), Value::Bool(false)));
    Ok(())
}

#[tokio::test]
async fn all_types_in_both_orders_are_read_as_they_were_written() -> Result<()> {
    for transport in ["tcp", "rtu"] {
        let Some(peer) = peer(transport).await? else { return Ok(()) };
        let mut bus = Bus::start(transport, &peer, &[(1, all_types())]).await?;
        reads_all_types(&mut bus).await?;
        assert_eq!(bus.status().last_error, None, "{transport}");
    }
    Ok(())
}

/// The blocks whose registers have their bytes the other way round.
fn swapped() -> String {
    let of = |(order, start): (&str, u16)| -> String {
        let point = |(name, at, kind, encoding): &(&str, u16, &str, &str)| {
            let range = if *kind == "int" {
                "min = -9000000000000000000, max = 9000000000000000000"
            } else {
                "min = -1e300, max = 1e300"
            };
            format!(
                "\"{order}/{name}\" = {{ type = \"{kind}\", unit = \"1\", {range}, address = \"holding:{}\", \
                 encoding = \"{encoding}\", byte_order = \"little\", word_order = \"{order}\" }}\n",
                start + at
            )
        };
        TYPES.iter().map(point).collect()
    };
    [("big", 300), ("little", 400)].into_iter().map(of).collect()
}

#[tokio::test]
async fn bytes_the_other_way_round_digits_names_flags_and_parts_of_registers_are_read() -> Result<()> {
    let Some(peer) = peer("tcp").await? else { return Ok(()) };
    let int = "type = \"int\", unit = \"1\", min = 0, max = 99_999_999";
    let parts = format!(
        "digits = {{ {int}, address = \"holding:500\", encoding = \"bcd32\" }}\n\
         low = {{ {int}, address = \"holding:502\", encoding = \"u16\", mask = 0x000F }}\n\
         third = {{ {int}, address = \"holding:502\", encoding = \"u16\", mask = 0x0F00, shift = 8 }}\n\
         is-high = {{ type = \"bool\", address = \"holding:502\", encoding = \"u16\", mask = 0x4000 }}\n\
         mode = {{ type = \"text\", address = \"holding:503\", encoding = \"u16\", enum = {{ 1 = \"off\", 2 = \"on\" }} }}\n\
         unnamed = {{ type = \"text\", address = \"holding:504\", encoding = \"u16\", enum = {{ 1 = \"off\", 2 = \"on\" }} }}\n\
         flags = {{ type = \"text\", address = \"holding:505\", encoding = \"u16\", bits = {{ 0 = \"hot\", 1 = \"cold\", 3 = \"open\" }} }}\n"
    );
    let mut bus = Bus::start("tcp", &peer, &[(1, swapped() + &parts)]).await?;
    let of = |rows: &[Row], point: &str| {
        rows.iter().find(|row| row.point == point).map(|row| (row.value.clone(), row.quality))
    };
    bus.until(|rows| of(rows, "flags").is_some() && of(rows, "little/f64").is_some()).await?;
    for order in ["big", "little"] {
        for ((name, ..), wanted) in TYPES.iter().zip(values()) {
            assert_eq!(
                of(&bus.rows, &format!("{order}/{name}")),
                Some((wanted, Quality::Good)),
                "{order}/{name}"
            );
        }
    }
    for (point, wanted) in [
        ("digits", Value::Int(12_345_678)),
        ("low", Value::Int(0xC)),
        ("third", Value::Int(0xA)),
        ("is-high", Value::Bool(true)),
        ("mode", Value::Text("on".into())),
        ("flags", Value::Text("hot, open".into())),
    ] {
        assert_eq!(of(&bus.rows, point), Some((wanted, Quality::Good)), "{point}");
    }
    assert_eq!(of(&bus.rows, "unnamed").map(|(value, _)| value), Some(Value::Null), "77 has no name");
    Ok(())
}

#[tokio::test]
async fn numbers_that_no_device_means_are_null_of_bad_quality_beside_good_ones() -> Result<()> {
    let Some(peer) = peer("tcp").await? else { return Ok(()) };
    let float = "unit = \"1\", min = -1e6, max = 1e6, encoding = \"f32\"";
    let mut points: String = ["nan", "inf", "minus-inf", "huge"]
        .into_iter()
        .zip([600, 602, 604, 606])
        .map(|(name, at)| format!("{name} = {{ {float}, address = \"holding:{at}\" }}\n"))
        .collect();
    points += "digits = { type = \"int\", unit = \"1\", min = 0, max = 9999, address = \"holding:608\", encoding = \"bcd16\" }\n\
        least = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"holding:609\", encoding = \"i16\" }\n\
        good = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"holding:503\", encoding = \"u16\" }\n";
    let mut bus = Bus::start("tcp", &peer, &[(1, points)]).await?;
    let wild = ["nan", "inf", "minus-inf", "huge", "digits", "least"];
    let has = |rows: &[Row], point: &str| rows.iter().any(|row| row.point == point);
    bus.until(|rows| wild.iter().chain(&["good"]).all(|point| has(rows, point))).await?;
    for row in &bus.rows {
        match row.point.as_str() {
            "good" => assert_eq!((&row.value, row.quality), (&Value::Int(2), Quality::Good)),
            _ => assert_eq!((&row.value, row.quality), (&Value::Null, Quality::Bad), "{}", row.point),
        }
    }
    let status = bus.status();
    let told = tideline_field::device_of(&status, "unit-1").context("it is shown")?;
    assert!(told.bad_values >= 6 && told.last_error.is_some(), "{told:?}");
    Ok(())
}

fn count(rows: &[Row], device: &str, quality: Quality) -> usize {
    rows.iter().filter(|row| row.device == device && row.quality == quality).count()
}

#[tokio::test]
async fn a_good_unit_is_read_beside_units_that_refuse_cut_short_babble_and_hang() -> Result<()> {
    for transport in ["tcp", "rtu"] {
        let Some(peer) = peer(transport).await? else { return Ok(()) };
        let bad = match transport {
            "tcp" => &[(3, 7), (4, 0), (5, 0), (6, 0)][..],
            _ => &[(3, 7), (6, 0)][..],
        };
        let mut units = vec![(1, all_types())];
        units.extend(bad.iter().map(|(unit, first)| (*unit, pair(*first))));
        let mut bus = Bus::start(transport, &peer, &units).await?;
        reads_all_types(&mut bus).await?;
        let is_told = |rows: &[Row]| {
            bad.iter().all(|(unit, _)| count(rows, &format!("unit-{unit}"), Quality::Bad) == 2)
        };
        bus.until(|rows| is_told(rows) && count(rows, "unit-1", Quality::Good) > 21 * 20).await?;
        let status = bus.status();
        let error = |unit: u8| {
            let id = format!("unit-{unit}");
            let found = status.devices.iter().find(|device| device.id == id);
            found.and_then(|device| device.last_error.clone()).unwrap_or_default()
        };
        assert_eq!(error(3), "it answers with exception 2: it has no such registers", "{transport}");
        assert_eq!(error(6), "no answer within 500 ms", "{transport}");
        if transport == "tcp" {
            assert!(error(4).contains("it has 1 registers in place of 2"), "{}", error(4));
            // What is no frame may announce more than ever comes.
            let said = error(5);
            assert!(said.starts_with("its answer is not") || said.starts_with("no answer"), "{said}");
        }
        for (unit, _) in bad {
            let id = format!("unit-{unit}");
            assert_eq!(count(&bus.rows, &id, Quality::Good), 0, "{id}");
            assert_eq!(count(&bus.rows, &id, Quality::Bad), 2, "one null a point of {id}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_device_that_loses_its_power_is_told_once() -> Result<()> {
    let Some(peer) = peer("tcp").await? else { return Ok(()) };
    let mut bus = Bus::start("tcp", &peer, &[(3, pair(0))]).await?;
    bus.until(|rows| count(rows, "unit-3", Quality::Good) >= 4).await?;
    peer.kill().await?;
    bus.until(|rows| count(rows, "unit-3", Quality::Bad) == 2).await?;
    let said = bus.status().last_error.unwrap_or_default();
    assert!(["the connection broke", "cannot be reached"].iter().any(|error| said.contains(error)), "{said}");
    Ok(())
}

/// Points of unit 1 that are written, each by another function.
const WRITTEN: &str = "\
    whole = { type = \"int\", unit = \"1\", min = -9, max = 65535, address = \"holding:0\", encoding = \"u16\", access = \"read-write\" }\n\
    real = { unit = \"1\", min = -1e9, max = 1e9, address = \"holding:14\", encoding = \"f32\", word_order = \"big\", access = \"read-write\" }\n\
    swapped = { unit = \"1\", min = -1e9, max = 1e9, address = \"holding:116\", encoding = \"f64\", word_order = \"little\", access = \"read-write\" }\n\
    name = { type = \"text\", address = \"holding:200\", encoding = \"string:10\", access = \"read-write\" }\n\
    high = { type = \"int\", unit = \"1\", min = 0, max = 255, address = \"holding:1\", encoding = \"u16\", mask = 0xFF00, shift = 8, access = \"read-write\" }\n\
    low = { type = \"int\", unit = \"1\", min = 0, max = 255, address = \"holding:1\", encoding = \"u16\", mask = 0x00FF }\n\
    coil = { type = \"bool\", address = \"coil:3\", access = \"read-write\" }\n";

#[tokio::test]
async fn what_is_written_reaches_the_device_and_is_read_back() -> Result<()> {
    for transport in ["tcp", "rtu"] {
        let Some(peer) = peer(transport).await? else { return Ok(()) };
        // They are polled once, so that what comes after was read back.
        let mut bus = Bus::of(transport, &peer, &[(1, WRITTEN.to_owned())], 3_600_000).await?;
        bus.until(|rows| rows.iter().any(|row| row.point == "name")).await?;
        for (point, value) in [
            ("whole", Value::Int(513)),
            ("real", Value::Float(-0.25)),
            ("swapped", Value::Float(std::f64::consts::E)),
            ("name", Value::Text("Pumpe".into())),
            ("high", Value::Int(0xAB)),
            ("coil", Value::Bool(false)),
        ] {
            bus.rows.clear();
            bus.write("unit-1", point, value.clone()).await?;
            bus.until(|rows| rows.iter().any(|row| row.point == point)).await?;
            let row = bus.rows.iter().find(|row| row.point == point).context("no row")?;
            assert_eq!((&row.value, row.quality), (&value, Quality::Good), "{transport}: {point}");
        }
        // -2 was there before: its other half stays.
        let low = bus.rows.iter().find(|row| row.point == "low");
        assert!(low.is_none_or(|row| row.value == Value::Int(0xFE)), "{low:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_write_that_the_device_refuses_or_does_not_answer_is_told_so() -> Result<()> {
    let Some(peer) = peer("tcp").await? else { return Ok(()) };
    let point = |address: u16| {
        format!(
            "p = {{ type = \"int\", unit = \"1\", min = 0, max = 9, address = \"holding:{address}\", encoding = \"u16\", access = \"write\" }}\n"
        )
    };
    let units = [(1, WRITTEN.to_owned()), (3, point(7)), (6, point(0))];
    let mut bus = Bus::start("tcp", &peer, &units).await?;
    bus.until(|rows| !rows.is_empty()).await?;
    let refused = bus.write("unit-3", "p", Value::Int(1)).await.unwrap_err();
    assert_eq!(
        refused,
        WriteError::NotDone("it answers with exception 2: it has no such registers".to_owned())
    );
    let silent = bus.write("unit-6", "p", Value::Int(1)).await.unwrap_err();
    assert_eq!(silent, WriteError::Unknown("no answer within 500 ms".to_owned()));
    let WriteError::NotDone(barred) = bus.write("unit-6", "p", Value::Int(1)).await.unwrap_err() else {
        anyhow::bail!("a unit that is left alone is asked")
    };
    assert!(barred.starts_with("it does not answer, and is asked again in "), "{barred}");
    Ok(())
}
