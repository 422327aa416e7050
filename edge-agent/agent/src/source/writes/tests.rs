//! Writes that are judged, done, refused, late and lost.

use tideline_protocol::time::Clock;
use tideline_protocol::value::Quality;

use super::*;
use crate::clock::AgentClock;

const FILE: &str = "name = \"pump\"\n[modbus]\nfunction = \"holding\"\n[points]\n\
    speed = { unit = \"Hz\", min = 0, max = 50, address = \"0\", encoding = \"u16\", access = \"read-write\" }\n\
    mode = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"1\", encoding = \"u16\" }\n\
    [commands.speed]\npoint = \"speed\"\ninterlocks = [{ point = \"mode\", values = [2] }]\n";

fn pump() -> Device {
    let profile = Profile::parse("pump.toml", FILE).unwrap();
    Device::of(DeviceId::parse("pump").unwrap(), Arc::new(profile))
}

fn see(writes: &Writes, device: &Device, mode: i64, quality: Quality) {
    let clock = AgentClock::default();
    let mut readings = Readings::now(&clock);
    readings.add_at(device, "mode", clock.wall_ns(), Value::Int(mode), quality);
    writes.see(&readings);
}

async fn write(writes: &Writes, speed: f64, timeout: Duration) -> Outcome {
    let (device, point) = (DeviceId::parse("pump").unwrap(), PointId::parse("speed").unwrap());
    writes.write(&device, &point, Value::Float(speed), timeout).await
}

#[tokio::test]
async fn a_write_comes_to_its_source_and_its_end_to_whoever_asked() {
    let (writes, device) = (Writes::default(), pump());
    assert_eq!(write(&writes, 1.0, TIMEOUT).await, Err(WriteError::NoDevice(device.id.clone())));
    let mut inbox = writes.inbox("bus".into());
    inbox.serve(&device);
    see(&writes, &device, 2, Quality::Good);
    for (speed, outcome) in [
        (1.0, Ok(())),
        (2.0, Err(WriteError::NotDone("no".to_owned()))),
        (3.0, Err(WriteError::Unknown("silence".to_owned()))),
    ] {
        let source = async {
            let write = inbox.next().await;
            assert_eq!((write.point.as_str(), &write.value), ("speed", &Value::Float(speed)));
            match &outcome {
                Ok(()) => write.done(),
                Err(WriteError::NotDone(why)) => write.not_done(why),
                Err(why) => write.unknown(why.to_string().rsplit_once(' ').unwrap().1),
            }
        };
        let (got, ()) = tokio::join!(write(&writes, speed, TIMEOUT), source);
        assert_eq!(got, outcome);
    }
    drop(inbox);
    assert_eq!(write(&writes, 1.0, TIMEOUT).await, Err(WriteError::NoDevice(device.id)));
}

#[tokio::test]
async fn interlocks_look_at_the_newest_good_value() {
    let (writes, device) = (Writes::default(), pump());
    let mut inbox = writes.inbox("bus".into());
    inbox.serve(&device);
    let locked = |why: &str| {
        Err(WriteError::Rejected(RefusedWrite::Locked { command: "speed".to_owned(), why: why.to_owned() }))
    };
    assert_eq!(write(&writes, 1.0, TIMEOUT).await, locked("nobody knows mode now"));
    see(&writes, &device, 1, Quality::Good);
    assert_eq!(write(&writes, 1.0, TIMEOUT).await, locked("mode is 1"));
    see(&writes, &device, 2, Quality::Good);
    let (done, ()) = tokio::join!(write(&writes, 1.0, TIMEOUT), async { inbox.next().await.done() });
    assert_eq!(done, Ok(()));
    see(&writes, &device, 2, Quality::Uncertain);
    assert_eq!(write(&writes, 1.0, TIMEOUT).await, locked("nobody knows mode now"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_begun_in_time_is_never_begun() {
    let (writes, device) = (Writes::default(), pump());
    let mut inbox = writes.inbox("bus".into());
    inbox.serve(&device);
    see(&writes, &device, 2, Quality::Good);
    let within = Duration::from_millis(5);
    let late = Err(WriteError::Late { source_name: "bus".into(), within });
    assert_eq!(write(&writes, 1.0, within).await, late);
    assert!(inbox.try_next().is_none());
    let (got, begun) = tokio::join!(write(&writes, 1.0, within), inbox.next());
    assert_eq!(got, Err(WriteError::Unknown("no answer within 5 ms".to_owned())));
    begun.done();
}

#[tokio::test(start_paused = true)]
async fn a_write_takes_no_longer_than_its_command_may() {
    let text = FILE.replace("interlocks = [{ point = \"mode\", values = [2] }]", "timeout_ms = 30000");
    let profile = Arc::new(Profile::parse("pump.toml", &text).unwrap());
    let device = Device::of(DeviceId::parse("pump").unwrap(), profile);
    let (writes, point) = (Writes::default(), PointId::parse("speed").unwrap());
    let inbox = writes.inbox("bus".into());
    inbox.serve(&device);
    let given_up = async |patience: Patience| match writes
        .write(&device.id, &point, Value::Float(1.0), patience)
        .await
    {
        Err(WriteError::Late { within, .. }) => within.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(given_up(Patience::usual()).await, 30, "more than 10 s where nobody says less");
    assert_eq!(given_up(Duration::from_secs(60).into()).await, 30);
    assert_eq!(given_up(Duration::from_secs(5).into()).await, 5);
    assert_eq!(given_up(Patience::usual().at_most(Duration::from_secs(20))).await, 20);
    let plain = Device::of(
        device.id.clone(),
        Arc::new(Profile::parse("pump.toml", &text.replace("timeout_ms = 30000", "")).unwrap()),
    );
    inbox.serve(&plain);
    assert_eq!(given_up(Patience::usual()).await, 10);
    assert_eq!(given_up(Duration::from_secs(60).into()).await, 60);
}

#[tokio::test]
async fn a_source_that_ends_says_what_is_known_of_its_writes() {
    let (writes, device) = (Writes::default(), pump());
    for is_begun in [false, true] {
        let mut inbox = writes.inbox("bus".into());
        inbox.serve(&device);
        see(&writes, &device, 2, Quality::Good);
        let source = async {
            tokio::task::yield_now().await;
            if is_begun {
                drop(inbox.next().await);
            }
            drop(inbox);
        };
        let (got, ()) = tokio::join!(write(&writes, 1.0, TIMEOUT), source);
        let why = "source bus ended".to_owned();
        assert_eq!(got, Err(if is_begun { WriteError::Unknown(why) } else { WriteError::NotDone(why) }));
    }
}

#[tokio::test]
async fn too_many_writes_are_refused_and_do_not_wait() {
    let (writes, device) = (Writes::default(), pump());
    let inbox = writes.inbox("bus".into());
    inbox.serve(&device);
    see(&writes, &device, 2, Quality::Good);
    let waiting: Vec<_> = (0..QUEUE_MAX)
        .map(|_| {
            let writes = writes.clone();
            tokio::spawn(async move { write(&writes, 1.0, TIMEOUT).await })
        })
        .collect();
    while inbox.queue.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(write(&writes, 1.0, TIMEOUT).await, Err(WriteError::Busy("bus".into())));
    drop(inbox);
    for task in waiting {
        assert_eq!(task.await.unwrap(), Err(WriteError::NotDone("source bus ended".to_owned())));
    }
}

#[tokio::test]
async fn interlocks_are_looked_at_again_when_a_write_is_begun() {
    let (writes, device) = (Writes::default(), pump());
    let mut inbox = writes.inbox("bus".into());
    inbox.serve(&device);
    see(&writes, &device, 2, Quality::Good);
    let source = async {
        // The write waits already, and now the pump is in another mode.
        while inbox.queue.capacity() == QUEUE_MAX {
            tokio::task::yield_now().await;
        }
        see(&writes, &device, 1, Quality::Good);
        assert!(inbox.try_next().is_none());
    };
    let (got, ()) = tokio::join!(write(&writes, 1.0, TIMEOUT), source);
    let why = "mode is 1".to_owned();
    assert_eq!(got, Err(WriteError::Rejected(RefusedWrite::Locked { command: "speed".to_owned(), why })));
}
