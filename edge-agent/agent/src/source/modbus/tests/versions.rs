//! Devices of which some points hang on their firmware, which changes while they are polled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};

use super::devices::{Answer, Devices};
use super::*;
use crate::config::{SourceConfig, SourceKind};
use crate::source::sources::{Shared, Sources};

/// Tenths of a degree before version 2 and hundredths from then on. The version has a group of its own, which is polled when
/// it begins, and then hardly ever.
const BOILER: &str = "name = \"boiler\"\n[identity]\nfirmware_point = \"version\"\n\
    [modbus]\nfunction = \"input\"\ntimeout_ms = 5_000\n\
    [collection.default]\ninterval_ms = 20\n[collection.rare]\ninterval_ms = 3_600_000\n[points]\n\
    temperature = { unit = \"Cel\", min = -50, max = 5000, address = \"0\", encoding = \"i16\", scale = 0.1, access = \"read-write\", function = \"holding\" }\n\
    running = { type = \"int\", unit = \"1\", min = 0, max = 60_000, address = \"50\", encoding = \"u16\" }\n\
    version = { type = \"int\", unit = \"1\", min = 0, max = 99, address = \"100\", encoding = \"u16\", group = \"rare\" }\n\
    [[overlays]]\nversions = \">=2\"\n[overlays.points]\ntemperature = { scale = 0.01 }\n";

fn boiler(firmware: Option<&str>) -> DeviceConfig {
    let text =
        BOILER.replace("address = \"0\"", "address = \"holding:0\"").replace(", function = \"holding\"", "");
    let family = Profile::parse("boiler.toml", &text).unwrap().for_firmware(firmware).unwrap();
    let (family, firmware) = (Some(Arc::new(family)), firmware.map(str::to_owned));
    DeviceConfig { profile: "boiler".into(), family, firmware, ..device(1) }
}

/// Sources under supervision, whose readings come to one place.
pub struct Shop {
    pub sources: Sources,
    pub bench: Bench,
}

impl Shop {
    pub fn new() -> Self {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let (out, inbox) = mpsc::channel(16);
        let own_device = DeviceId::parse("agent").unwrap();
        let writes = Writes::default();
        let shared = Shared {
            own_device,
            out: out.into(),
            board: board.clone(),
            spool,
            cards: Default::default(),
            writes: writes.clone(),
        };
        let (stop, _) = watch::channel(false);
        let task = tokio::spawn(async { Ok(()) });
        let bench = Bench { writes, inbox, board, stop, task, readings: Vec::new(), _folder: folder };
        Self { sources: Sources::new(shared), bench }
    }
}

/// A source of boilers.
fn supervised(devices: &Devices, boilers: Vec<DeviceConfig>) -> (Sources, SourceConfig, Bench) {
    let line = ModbusLine::Tcp { address: devices.address.clone() };
    let kind = SourceKind::Modbus { line, timeout_ms: None };
    let config = SourceConfig { devices: boilers, ..SourceConfig::plain("bus", kind) };
    let Shop { sources, bench } = Shop::new();
    (sources, config, bench)
}

/// What a boiler of 21.5 degrees says of this request.
fn says(seen: &Seen, version: u16) -> Answer {
    match seen.start {
        0 => Answer::Words(vec![if version < 2 { 215 } else { 2150 }]),
        100 => Answer::Words(vec![version]),
        _ => Answer::Words(vec![u16::try_from(seen.number % 60_000).unwrap()]),
    }
}

fn counts(all: &[Reading], point: &str) -> BTreeMap<(String, Quality), usize> {
    let mut counts = BTreeMap::new();
    for (value, quality) in of(all, "meter-1", point) {
        *counts.entry((value.to_string(), quality)).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_device_that_is_updated_while_it_is_polled_never_says_a_wrong_number() {
    let version = Arc::new(AtomicU16::new(1));
    let now = Arc::clone(&version);
    let devices = Devices::start(move |seen| says(seen, now.load(Ordering::SeqCst))).await;
    let (mut sources, config, mut bench) = supervised(&devices, vec![boiler(None)]);
    sources.apply(&[config]).await;
    let is_right = |all: &[Reading], count| good(all, "meter-1", "temperature").len() >= count;
    bench.until(|all| is_right(all, 10)).await;
    for (next, count) in [(2, 30), (3, 40)] {
        version.store(next, Ordering::SeqCst);
        bench.until(|all| is_right(all, count)).await;
    }
    let temperatures = counts(&bench.readings, "temperature");
    let known: Vec<_> = temperatures.keys().filter(|(_, quality)| *quality != Quality::Bad).collect();
    assert_eq!(known, [&("21.5".to_owned(), Quality::Good)], "{temperatures:?}");
    let gone: Vec<&str> = temperatures
        .keys()
        .filter(|(_, quality)| *quality == Quality::Bad)
        .map(|(value, _)| value.as_str())
        .collect();
    assert_eq!(gone, [Value::Null.to_string()]);
    assert!(counts(&bench.readings, "running").keys().all(|(_, quality)| *quality == Quality::Good));
    // It was made anew once: version 3 has hundredths, too.
    assert_eq!((bench.status().restarts, bench.status().failures), (1, 0));
    sources.stop();
}

#[tokio::test]
async fn what_hangs_on_a_version_that_is_not_known_is_uncertain_and_not_written() {
    // It does not tell its version yet, and tells none later.
    let devices = Devices::start(|seen| match seen.start {
        100 => Answer::Exception(2),
        _ => says(seen, 1),
    })
    .await;
    let (mut sources, config, mut bench) = supervised(&devices, vec![boiler(None)]);
    sources.apply(&[config]).await;
    let uncertain = |all: &[Reading]| {
        of(all, "meter-1", "temperature").iter().filter(|(_, quality)| *quality == Quality::Uncertain).count()
    };
    bench.until(|all| uncertain(all) >= 5).await;
    assert!(good(&bench.readings, "meter-1", "temperature").is_empty());
    assert!(good(&bench.readings, "meter-1", "running").len() >= 4);
    let (boiler_1, point) = (DeviceId::parse("meter-1").unwrap(), PointId::parse("temperature").unwrap());
    let written = bench.writes.write(&boiler_1, &point, Value::Float(20.0), Duration::from_secs(9)).await;
    let barred = "what temperature takes hangs on the firmware of meter-1, which is not known now";
    assert_eq!(written, Err(WriteError::NotDone(barred.to_owned())));
    let asked = bench.writes.reads().read(&boiler_1, &point, Duration::from_secs(9)).await.unwrap();
    assert_eq!((asked.value, asked.quality), (Value::Float(21.5), Quality::Uncertain));
    devices.change(|seen| says(seen, 1));
    bench.until(|all| good(all, "meter-1", "temperature").len() >= 3).await;
    sources.stop();
}

#[tokio::test]
async fn a_version_of_the_configuration_counts_until_the_device_tells_another() {
    let devices = Devices::start(|seen| match seen.start {
        100 => Answer::Exception(2),
        _ => says(seen, 2),
    })
    .await;
    let (mut sources, config, mut bench) = supervised(&devices, vec![boiler(Some("2.4"))]);
    sources.apply(&[config]).await;
    bench.until_count("meter-1", "temperature", 5).await;
    devices.change(|seen| says(seen, 1));
    bench.until(|all| nulls(all, "meter-1", "temperature") >= 1).await;
    let before = good(&bench.readings, "meter-1", "temperature").len();
    bench.until_count("meter-1", "temperature", before + 3).await;
    let temperatures = counts(&bench.readings, "temperature");
    assert!(
        temperatures.keys().all(|(value, _)| value == "21.5" || *value == Value::Null.to_string()),
        "{temperatures:?}"
    );
    sources.stop();
}

#[tokio::test]
async fn what_hangs_on_a_revision_that_nobody_has_said_is_uncertain_and_not_written() {
    let devices = Devices::start(|seen| says(seen, 1)).await;
    let text = BOILER.replace("versions = \">=2\"", "hardware = [\"C\"]").replace(
        "address = \"0\", encoding = \"i16\", scale = 0.1, access = \"read-write\", function = \"holding\"",
        "address = \"holding:0\", encoding = \"i16\", scale = 0.1, access = \"read-write\"",
    );
    let family = Profile::parse("boiler.toml", &text).unwrap();
    let of = |hardware: Option<&str>| {
        let family = Some(Arc::new(family.for_hardware(hardware).unwrap()));
        DeviceConfig { profile: "boiler".into(), family, hardware: hardware.map(str::to_owned), ..device(1) }
    };
    let (mut sources, config, mut bench) = supervised(&devices, vec![of(None)]);
    sources.apply(std::slice::from_ref(&config)).await;
    bench.until(|all| of_quality(all, Quality::Uncertain) >= 3).await;
    assert!(good(&bench.readings, "meter-1", "temperature").is_empty());
    assert!(!good(&bench.readings, "meter-1", "running").is_empty());
    let (boiler_1, point) = (DeviceId::parse("meter-1").unwrap(), PointId::parse("temperature").unwrap());
    let written = bench.writes.write(&boiler_1, &point, Value::Float(20.0), Duration::from_secs(9)).await;
    let Err(WriteError::NotDone(why)) = written else { panic!("{written:?}") };
    assert!(why.contains("hangs on the hardware revision of meter-1"), "{why}");
    let asked = bench.writes.reads().read(&boiler_1, &point, Duration::from_secs(9)).await.unwrap();
    assert_eq!((asked.value, asked.quality), (Value::Float(21.5), Quality::Uncertain));
    let config = SourceConfig { devices: vec![of(Some("C"))], ..config };
    sources.apply(&[config]).await;
    bench.until(|all| good(all, "meter-1", "temperature").len() >= 3).await;
    let said = counts(&bench.readings, "temperature");
    assert!(said.contains_key(&("2.15".to_owned(), Quality::Good)), "{said:?}");
    sources.stop();
}

fn of_quality(all: &[Reading], wanted: Quality) -> usize {
    of(all, "meter-1", "temperature").iter().filter(|(_, quality)| *quality == wanted).count()
}
