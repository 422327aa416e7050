//! Points that somebody wants to know now.

use std::sync::atomic::{AtomicU16, Ordering};

use super::*;
use crate::source::reads::{Found, ReadError};

/// A meter that is polled once an hour.
fn rarely() -> DeviceConfig {
    let text = PROFILE.replace("interval_ms = 20", "interval_ms = 3600000");
    let text = text.replace("interval_ms = 40", "interval_ms = 3600000");
    DeviceConfig { family: Some(Arc::new(Profile::parse("meter.toml", &text).unwrap())), ..device(1) }
}

async fn read(bench: &Bench, device: &str, point: &str) -> Result<Found, ReadError> {
    let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
    bench.writes.reads().read(&device, &point, Duration::from_secs(60)).await
}

#[tokio::test]
async fn a_point_is_read_at_once_whenever_its_turn_is_and_the_reading_is_kept_too() {
    let volts = AtomicU16::new(100);
    let devices = Devices::start(move |seen| match (seen.function, seen.start) {
        (4, 0) => Answer::Words(vec![volts.fetch_add(1, Ordering::Relaxed), 7]),
        _ => Answer::Words(seen.registers()),
    })
    .await;
    let line = ModbusLine::Tcp { address: devices.address.clone() };
    let mut bench = Bench::of(line, vec![rarely()]);
    bench.until_count("meter-1", "energy", 1).await;
    for expected in [101.0, 102.0] {
        let Found { value, quality, time_ns, .. } = read(&bench, "meter-1", "volts").await.unwrap();
        assert_eq!((value, quality), (Value::Float(expected), Quality::Good));
        assert!(time_ns > 0);
    }
    bench.until_count("meter-1", "volts", 3).await;
    let kept = good(&bench.readings, "meter-1", "volts");
    assert_eq!(kept, [&Value::Float(100.0), &Value::Float(101.0), &Value::Float(102.0)]);
    // What is only written, or is none at all, cannot be asked for.
    for point in ["set", "none"] {
        let error = read(&bench, "meter-1", point).await.unwrap_err();
        assert_eq!(
            error,
            ReadError::NoPoint(format!("device meter-1 has no point {point} that is asked for"))
        );
    }
    let other = read(&bench, "meter-2", "volts").await.unwrap_err();
    assert_eq!(other, ReadError::NoDevice(DeviceId::parse("meter-2").unwrap()));
    assert!(matches!(bench.stop().await, SourceError::Stopped));
}

#[tokio::test]
async fn a_device_that_does_not_answer_costs_the_question_and_the_next_one_nothing() {
    let devices = Devices::start(|_| Answer::Nothing).await;
    let bench = Bench::tcp(&devices, &[1]);
    let device = DeviceId::parse("meter-1").unwrap();
    while !bench.writes.serves(&device) {
        tokio::task::yield_now().await;
    }
    // It may be polled first, and is left alone then.
    for _ in 0..2 {
        let error = read(&bench, "meter-1", "volts").await.unwrap_err().to_string();
        assert!(error.starts_with("not read: "), "{error}");
        assert!(error.contains("no answer within 100 ms") || error.contains("it does not answer"), "{error}");
    }
}
