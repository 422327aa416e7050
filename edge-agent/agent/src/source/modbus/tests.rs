//! Buses with devices that answer, refuse, hang, hang up, flood and speak nonsense.

mod asking;
mod beside;
mod devices;
mod unchanged;
mod versions;

use std::sync::Arc;

use tideline_profiles::Profile;
use tideline_profiles::form::protocol::Parity;
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::{Quality, Value};
use tideline_spool::SpoolConfig;
use tokio::sync::{mpsc, watch};

use self::devices::{Answer, Devices, Seen};
use super::*;
use crate::config::SerialLine;
use crate::intake::Chunk;
use crate::source::{WriteError, Writes};
use crate::spooler::SpoolHandle;
use crate::status::{Board, DeviceStatus, SourceStatus};

const PROFILE: &str = "name = \"meter\"\n[modbus]\nfunction = \"input\"\ntimeout_ms = 100\n\
    [collection.default]\ninterval_ms = 20\n[collection.slow]\ninterval_ms = 40\n[points]\n\
    volts = { unit = \"V\", min = 0, max = 500, address = \"0\", encoding = \"u16\" }\n\
    amps = { unit = \"A\", min = 0, max = 100, address = \"1\", encoding = \"u16\" }\n\
    on = { type = \"bool\", address = \"coil:3\" }\n\
    set = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"holding:7\", encoding = \"u16\", access = \"write\" }\n\
    some = { type = \"int\", unit = \"1\", min = 0, max = 15, address = \"holding:8\", encoding = \"u16\", mask = 0x00F0, shift = 4, access = \"write\" }\n\
    relay = { type = \"bool\", address = \"coil:9\", access = \"write\" }\n\
    energy = { unit = \"kW.h\", min = 0, max = 1e9, address = \"100\", encoding = \"u32\", group = \"slow\" }\n";

/// A way to answer wrongly.
type Wrong = fn(&Seen) -> Answer;
type Reading = (String, String, Value, Quality);

struct Bench {
    writes: Writes,
    inbox: mpsc::Receiver<Chunk>,
    board: Board,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
    readings: Vec<Reading>,
    _folder: tempfile::TempDir,
}

fn device(number: u8) -> DeviceConfig {
    DeviceConfig {
        id: DeviceId::parse(&format!("meter-{number}")).unwrap(),
        profile: "meter".into(),
        family: Some(Arc::new(Profile::parse("meter.toml", PROFILE).unwrap())),
        address: number.to_string(),
        firmware: None,
        hardware: None,
        stream: None,
    }
}

impl Bench {
    fn start(line: ModbusLine, units: &[u8]) -> Self {
        Self::of(line, units.iter().map(|number| device(*number)).collect())
    }

    fn of(line: ModbusLine, devices: Vec<DeviceConfig>) -> Self {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let (out, inbox) = mpsc::channel(16);
        let own = DeviceId::parse("agent").unwrap();
        let (mut context, stop) = Context::alone("bus", own, &out, board.clone(), spool);
        let writes = context.writer().clone();
        let mut source = ModbusSource { line, timeout: None, devices };
        let task = tokio::spawn(async move {
            let ended = source.run(&mut context).await;
            drop(out);
            ended
        });
        Self { writes, inbox, board, stop, task, readings: Vec::new(), _folder: folder }
    }

    fn tcp(devices: &Devices, units: &[u8]) -> Self {
        Self::start(ModbusLine::Tcp { address: devices.address.clone() }, units)
    }

    /// Takes readings until there are enough.
    async fn until(&mut self, enough: impl Fn(&[Reading]) -> bool) {
        let all = async {
            while !enough(&self.readings) {
                let Chunk { rows, boxes, .. } = self.inbox.recv().await.expect("the source ended");
                for (def, samples) in rows {
                    self.readings.extend(samples.iter().map(|sample| {
                        let (value, quality) = boxes.value(sample.value, def.kind());
                        (def.device.to_string(), def.point.to_string(), value, quality)
                    }));
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("it does not happen");
    }

    async fn until_count(&mut self, device: &str, point: &str, count: usize) {
        self.until(|all| good(all, device, point).len() >= count).await;
    }

    fn status(&self) -> SourceStatus {
        self.board.read().sources.get("bus").cloned().unwrap()
    }

    fn device(&self, id: &str) -> DeviceStatus {
        self.status().devices.into_iter().find(|device| device.id == id).unwrap()
    }

    async fn stop(self) -> SourceError {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap_err()
    }
}

fn of<'r>(all: &'r [Reading], device: &str, point: &str) -> Vec<(&'r Value, Quality)> {
    let of = all.iter().filter(|(of, at, ..)| of == device && at == point);
    of.map(|(_, _, value, quality)| (value, *quality)).collect()
}

fn good<'r>(all: &'r [Reading], device: &str, point: &str) -> Vec<&'r Value> {
    let of = of(all, device, point).into_iter();
    of.filter(|(_, quality)| *quality == Quality::Good).map(|(value, _)| value).collect()
}

fn nulls(all: &[Reading], device: &str, point: &str) -> usize {
    of(all, device, point).iter().filter(|(value, _)| **value == Value::Null).count()
}

#[tokio::test]
async fn units_of_a_bus_are_read_in_turn_each_group_in_few_requests() {
    let devices = Devices::start(|seen| Answer::Words(seen.registers())).await;
    let mut bench = Bench::tcp(&devices, &[1, 2]);
    bench.until_count("meter-1", "energy", 2).await;
    bench.until_count("meter-2", "energy", 2).await;
    assert_eq!(good(&bench.readings, "meter-1", "volts")[0], &Value::Float(100.0));
    assert_eq!(good(&bench.readings, "meter-2", "volts")[0], &Value::Float(200.0));
    assert_eq!(good(&bench.readings, "meter-2", "amps")[0], &Value::Float(1.0));
    assert_eq!(good(&bench.readings, "meter-1", "on")[0], &Value::Bool(true));
    let energy = f64::from((1_u32 << 16) * 100 + 101);
    assert_eq!(good(&bench.readings, "meter-1", "energy")[0], &Value::Float(energy));
    let asked: std::collections::BTreeSet<_> =
        devices.seen().iter().map(|seen| (seen.function, seen.start, seen.count)).collect();
    assert_eq!(asked, [(1, 3, 1), (4, 0, 2), (4, 100, 2)].into());
    assert_eq!(devices.connections(), 1);
    let status = bench.status();
    assert!(status.polls >= 8 && status.jitter.is_some() && status.last_poll_ms.is_some(), "{status:?}");
    assert_eq!((bench.device("meter-1").state.as_str(), status.last_error.as_deref()), ("answers", None));
    assert!(matches!(bench.stop().await, SourceError::Stopped));
}

#[tokio::test]
async fn a_unit_that_hangs_gets_one_null_a_point_and_is_asked_rarely_while_the_others_go_on() {
    let devices = Devices::start(|seen| match seen.unit {
        1 => Answer::Nothing,
        _ => Answer::Words(seen.registers()),
    })
    .await;
    let mut bench = Bench::tcp(&devices, &[1, 2]);
    bench.until_count("meter-2", "volts", 30).await;
    for point in ["volts", "amps", "on", "energy"] {
        assert_eq!(of(&bench.readings, "meter-1", point), [(&Value::Null, Quality::Bad)], "{point}");
    }
    let of_unit = |unit| devices.seen().iter().filter(|seen| seen.unit == unit).count();
    assert!(of_unit(1) * 5 < of_unit(2), "{} of {}", of_unit(1), of_unit(2));
    let device = bench.device("meter-1");
    assert_eq!((device.state.as_str(), device.timeouts), ("silent", of_unit(1) as u64));
    assert_eq!(device.last_error.as_deref(), Some("no answer within 100 ms"));
    assert_eq!(bench.device("meter-2").timeouts, 0);
    // It is heard as soon as it speaks, and its silence is told anew.
    devices.change(|seen| Answer::Words(seen.registers()));
    bench.until_count("meter-1", "volts", 1).await;
    bench.until_count("meter-1", "energy", 1).await;
    devices.change(|_| Answer::Nothing);
    bench.until(|all| nulls(all, "meter-1", "volts") == 2 && nulls(all, "meter-2", "volts") == 1).await;
}

#[tokio::test]
async fn exceptions_are_told_in_words_and_cost_their_own_points_only() {
    for (code, said) in
        [(1, "it does not know this function"), (2, "it has no such registers"), (4, "it failed")]
    {
        let devices = Devices::start(move |seen| match seen.start {
            100 => Answer::Exception(code),
            _ => Answer::Words(seen.registers()),
        })
        .await;
        let mut bench = Bench::tcp(&devices, &[1]);
        bench.until_count("meter-1", "volts", 8).await;
        bench.until(|all| nulls(all, "meter-1", "energy") > 0).await;
        assert_eq!(of(&bench.readings, "meter-1", "energy").len(), 1);
        assert_eq!(nulls(&bench.readings, "meter-1", "volts"), 0);
        // What it answers in between does not make it one that answers all.
        let count = good(&bench.readings, "meter-1", "volts").len();
        bench.until_count("meter-1", "volts", count + 2).await;
        assert_eq!(bench.device("meter-1").state, "refuses");
        let error = bench.status().last_error.unwrap();
        let begins = format!("meter-1 (unit 1): it answers with exception {code}: {said}");
        assert!(error.starts_with(&begins), "{error}");
        assert_eq!(devices.connections(), 1);
    }
}

#[tokio::test]
async fn a_gateway_without_an_answer_of_a_unit_is_as_silent_as_the_unit() {
    let devices = Devices::start(|seen| match seen.unit {
        1 => Answer::Exception(11),
        _ => Answer::Words(seen.registers()),
    })
    .await;
    let mut bench = Bench::tcp(&devices, &[1, 2]);
    bench.until_count("meter-2", "volts", 20).await;
    assert_eq!(nulls(&bench.readings, "meter-1", "volts"), 1);
    let of_unit = |unit| devices.seen().iter().filter(|seen| seen.unit == unit).count();
    assert!(of_unit(1) * 5 < of_unit(2));
    assert!(bench.device("meter-1").last_error.unwrap().contains("the gateway got no answer from it"));
}

#[tokio::test]
async fn answers_that_are_none_never_become_values() {
    let wrong: [(&str, Wrong); 6] = [
        ("more registers", |seen| Answer::Words([seen.registers(), vec![7; 9]].concat())),
        ("fewer registers", |_| Answer::Words(vec![])),
        ("another unit", |seen| Answer::OfUnit(seen.unit ^ 4, seen.registers())),
        ("an earlier request", |seen| {
            Answer::OfTransaction(seen.transaction.wrapping_sub(1), seen.registers())
        }),
        ("nonsense", |_| Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(20))),
        ("a flood", |_| Answer::Bytes(vec![0; 1 << 20])),
    ];
    for (what, answer) in wrong {
        let devices = Devices::start(answer).await;
        let mut bench = Bench::tcp(&devices, &[1]);
        bench.until(|all| nulls(all, "meter-1", "energy") == 1).await;
        assert!(
            bench
                .readings
                .iter()
                .all(|(.., value, quality)| (value, *quality) == (&Value::Null, Quality::Bad)),
            "{what}"
        );
        let device = bench.device("meter-1");
        assert!(device.failures + device.timeouts > 0 && device.state == "silent", "{what}: {device:?}");
        devices.change(|seen| Answer::Words(seen.registers()));
        bench.until_count("meter-1", "volts", 2).await;
        assert_eq!(good(&bench.readings, "meter-1", "volts")[0], &Value::Float(100.0), "{what}");
    }
}

#[tokio::test]
async fn a_device_that_hangs_up_is_called_again() {
    let devices = Devices::start(|seen| match seen.number % 5 {
        4 => Answer::HangUp,
        _ => Answer::Words(seen.registers()),
    })
    .await;
    let mut bench = Bench::tcp(&devices, &[1]);
    bench.until(|all| good(all, "meter-1", "volts").len() >= 4 && nulls(all, "meter-1", "volts") >= 1).await;
    assert!(devices.connections() >= 2);
    assert!(bench.status().last_error.unwrap().ends_with("the connection broke: the other side closed it"));
}

#[tokio::test]
async fn a_bus_that_cannot_be_reached_is_told_and_reached_later() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut bench = Bench::start(ModbusLine::Tcp { address: address.clone() }, &[1, 2]);
    bench.until(|all| ["meter-1", "meter-2"].iter().all(|device| nulls(all, device, "energy") == 1)).await;
    assert_eq!(bench.readings.len(), 8, "one for each point");
    let error = bench.status().last_error.unwrap();
    assert!(error.contains(&format!("{address} cannot be reached: ")), "{error}");
    let _devices = Devices::at(&address, |seen| Answer::Words(seen.registers())).await;
    bench.until_count("meter-2", "energy", 1).await;
}

#[tokio::test]
async fn values_that_the_profile_rules_out_become_null_and_are_counted() {
    let devices = Devices::start(|seen| match seen.start {
        0 => Answer::Words(vec![501, 7]),
        _ => Answer::Words(seen.registers()),
    })
    .await;
    let mut bench = Bench::tcp(&devices, &[1]);
    bench.until_count("meter-1", "amps", 2).await;
    assert_eq!(of(&bench.readings, "meter-1", "volts")[0], (&Value::Null, Quality::Bad));
    assert_eq!(good(&bench.readings, "meter-1", "amps")[0], &Value::Float(7.0));
    let device = bench.device("meter-1");
    assert!(device.bad_values >= 1 && device.state == "answers");
    assert!(device.last_error.unwrap().starts_with("volts: "));
}

#[tokio::test]
async fn a_serial_line_is_read_and_late_answers_are_not_taken_for_others() {
    let was_late = std::sync::atomic::AtomicBool::new(false);
    let devices = Devices::serial(move |seen| {
        // It comes when the next request is there, and could be the answer to one of those that follow.
        let is_late = (seen.unit, seen.start) == (1, 0)
            && seen.number > 4
            && !was_late.swap(true, std::sync::atomic::Ordering::SeqCst);
        if is_late { Answer::LateWords(vec![499, 99]) } else { Answer::Words(seen.registers()) }
    });
    let given = SerialLine { baud: Some(115_200), parity: Some(Parity::Even), ..SerialLine::default() };
    let line = ModbusLine::Rtu { path: devices.address.clone().into(), given };
    let mut bench = Bench::start(line, &[1, 2]);
    bench.until_count("meter-1", "volts", 6).await;
    bench.until_count("meter-2", "energy", 3).await;
    assert!(good(&bench.readings, "meter-1", "volts").iter().all(|value| **value == Value::Float(100.0)));
    assert!(good(&bench.readings, "meter-2", "volts").iter().all(|value| **value == Value::Float(200.0)));
    assert_eq!(good(&bench.readings, "meter-1", "on")[0], &Value::Bool(true));
    assert_eq!(bench.device("meter-1").timeouts, 1);
}

#[tokio::test]
async fn noise_on_a_serial_line_costs_its_own_poll() {
    let devices = Devices::serial(|seen| match seen.number % 4 {
        3 => Answer::Bytes(vec![0x55; 40]),
        _ => Answer::Words(seen.registers()),
    });
    let line = ModbusLine::Rtu { path: devices.address.clone().into(), given: SerialLine::default() };
    let mut bench = Bench::start(line, &[1, 2]);
    bench.until_count("meter-1", "volts", 3).await;
    bench.until_count("meter-2", "volts", 3).await;
    assert!(good(&bench.readings, "meter-1", "volts").iter().all(|value| **value == Value::Float(100.0)));
}

#[tokio::test]
async fn without_devices_it_says_that_there_is_nothing_to_ask() {
    let bench = Bench::start(ModbusLine::Tcp { address: "127.0.0.1:1".into() }, &[]);
    let error = bench.task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("no [[device]] names it"), "{error}");
}

async fn write(bench: &Bench, point: &str, value: Value) -> Result<(), WriteError> {
    let (device, point) = (DeviceId::parse("meter-1").unwrap(), PointId::parse(point).unwrap());
    bench.writes.write(&device, &point, value, Duration::from_secs(60)).await
}

fn reads(seen: &Seen) -> Option<Answer> {
    (seen.function <= 4).then(|| Answer::Words(seen.registers()))
}

#[tokio::test]
async fn a_device_that_knows_few_functions_is_written_to_by_those() {
    // Neither for one register, nor one coil, nor some bits.
    let devices = Devices::start(|seen| match seen.function {
        5 | 6 | 22 => Answer::Exception(1),
        15 | 16 => Answer::Confirmed,
        _ => reads(seen).unwrap(),
    })
    .await;
    let mut bench = Bench::tcp(&devices, &[1]);
    bench.until_count("meter-1", "volts", 1).await;
    for _ in 0..2 {
        write(&bench, "set", Value::Int(5)).await.unwrap();
        write(&bench, "some", Value::Int(3)).await.unwrap();
        write(&bench, "relay", Value::Bool(true)).await.unwrap();
    }
    let seen = devices.seen();
    let told: Vec<_> = seen
        .iter()
        .filter(|seen| !matches!((seen.function, seen.start), (1..=4, start) if start != 8))
        .map(|seen| (seen.function, seen.data.as_slice()))
        .collect();
    let known: [(u8, &[u8]); 4] = [
        (16, &[0, 7, 0, 1, 2, 0, 5]),
        // It holds 8, of which all but four bits stay.
        (3, &[0, 8, 0, 1]),
        (16, &[0, 8, 0, 1, 2, 0, 0x38]),
        (15, &[0, 9, 0, 1, 1, 1]),
    ];
    let first: [(u8, &[u8]); 3] =
        [(6, &[0, 7, 0, 5]), (22, &[0, 8, 0xFF, 0x0F, 0, 0x30]), (5, &[0, 9, 0xFF, 0])];
    let [set, hold, some, relay] = known;
    assert_eq!(told, [first[0], set, first[1], hold, some, first[2], relay, set, hold, some, relay]);
}

#[tokio::test]
async fn a_write_that_is_not_confirmed_may_be_done_and_is_not_repeated() {
    let wrong: [(&str, Wrong); 4] = [
        ("nobody knows whether it is done: no answer within 100 ms", |_| Answer::Nothing),
        ("nobody knows whether it is done: the connection broke: the other side closed it", |_| {
            Answer::HangUp
        }),
        ("nobody knows whether it is done: it answers with exception 5", |_| Answer::Exception(5)),
        ("not done: it answers with exception 3", |_| Answer::Exception(3)),
    ];
    for (expected, answer) in wrong {
        let devices = Devices::start(move |seen| reads(seen).unwrap_or_else(|| answer(seen))).await;
        let mut bench = Bench::tcp(&devices, &[1]);
        bench.until_count("meter-1", "volts", 1).await;
        let error = write(&bench, "set", Value::Int(5)).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}: {expected}");
        assert_eq!(devices.seen().iter().filter(|seen| seen.function > 4).count(), 1, "{expected}");
    }
}
