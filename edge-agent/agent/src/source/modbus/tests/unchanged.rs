//! What a profile has held back of what is polled.

use std::sync::atomic::{AtomicU16, Ordering};

use super::devices::{Answer, Devices};
use super::*;

const TANK: &str = "name = \"tank\"\n[modbus]\nfunction = \"input\"\ntimeout_ms = 5_000\n[collection.default]\n\
    interval_ms = 20\n[points]\nstate = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"0\", encoding = \"u16\", group = \"quiet\" }\n\
    flow = { unit = \"l/s\", min = 0, max = 500, address = \"1\", encoding = \"u16\", deadband = 2 }\n\
    count = { type = \"int\", unit = \"1\", min = 0, max = 60_000, address = \"2\", encoding = \"u16\" }\n\
    [collection.quiet]\ninterval_ms = 20\non_change = true\n";

#[tokio::test]
async fn polls_that_say_what_was_said_are_counted_and_only_changes_and_gaps_are_sent() {
    // One poll of the states is refused: nothing is known in between.
    let polls = [AtomicU16::new(0), AtomicU16::new(0)];
    let devices = Devices::start(move |seen| {
        let poll = polls[usize::from(seen.start)].fetch_add(1, Ordering::Relaxed);
        match seen.start {
            0 if poll == 25 => Answer::Exception(4),
            0 => Answer::Words(vec![if poll < 10 { 1 } else { 2 }]),
            _ => Answer::Words(vec![if poll < 20 { 100 } else { 110 } + poll % 3, poll]),
        }
    })
    .await;
    let family = Arc::new(Profile::parse("tank.toml", TANK).unwrap());
    let tank = DeviceConfig { profile: "tank".into(), family: Some(family), ..device(1) };
    let mut bench = Bench::of(ModbusLine::Tcp { address: devices.address.clone() }, vec![tank]);
    bench
        .until(|all| {
            super::good(all, "meter-1", "count").len() >= 40 && of(all, "meter-1", "state").len() >= 4
        })
        .await;
    let states = of(&bench.readings, "meter-1", "state");
    let good = |number| (Value::Int(number), Quality::Good);
    let states: Vec<_> = states.into_iter().map(|(value, quality)| (value.clone(), quality)).collect();
    assert_eq!(states, [good(1), good(2), (Value::Null, Quality::Bad), good(2)]);
    let flows = super::good(&bench.readings, "meter-1", "flow");
    assert!(flows.len() >= 2 && flows.len() <= 4, "{flows:?}");
    let far = |pair: &[&Value]| match pair {
        [Value::Float(a), Value::Float(b)] => (a - b).abs() > 2.0,
        _ => false,
    };
    assert!(flows.windows(2).all(far), "{flows:?}");
    assert!(bench.status().unchanged >= 40, "{:?}", bench.status());
}
