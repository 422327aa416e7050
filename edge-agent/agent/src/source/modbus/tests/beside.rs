//! A source beside one whose device floods or babbles. The clock goes on when the test says so: what is counted are polls against the
//! plan, and no time that anything took.

use std::sync::mpsc as std_mpsc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::devices::{Answer, Devices};
use super::versions::Shop;
use super::*;
use crate::config::{SourceConfig, SourceKind};

/// Polls of the good device.
const POLLS: usize = 200;
/// Its interval, and so how far the clock goes at once.
const INTERVAL: Duration = Duration::from_millis(20);

/// Keeps the clock from going on by itself while all wait, as it would for what comes over real sockets.
struct Held {
    _release: std_mpsc::Sender<()>,
}

impl Held {
    fn new() -> Self {
        let (release, held) = std_mpsc::channel::<()>();
        // A task that blocks counts as work that is going on.
        tokio::task::spawn_blocking(move || held.recv());
        Self { _release: release }
    }
}

/// Who writes these bytes over and over to whoever connects, asked or not.
async fn flood(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.into_split();
            tokio::spawn(async move { while write.write_all(bytes).await.is_ok() {} });
            tokio::spawn(async move { while read.read(&mut [0; 512]).await.is_ok_and(|count| count > 0) {} });
        }
    });
    address
}

fn bus(name: &str, address: &str, unit: u8) -> SourceConfig {
    let line = ModbusLine::Tcp { address: address.to_owned() };
    let kind = SourceKind::Modbus { line, timeout_ms: None };
    SourceConfig { devices: vec![device(unit)], ..SourceConfig::plain(name, kind) }
}

async fn keeps_its_pace_beside(wild: &str) {
    let _held = Held::new();
    let devices = Devices::start(|seen| Answer::Words(seen.registers())).await;
    let Shop { mut sources, mut bench } = Shop::new();
    sources.apply(&[bus("bus", &devices.address, 1), bus("wild", wild, 2)]).await;
    for poll in 1..=POLLS {
        bench.until(|all| good(all, "meter-1", "volts").len() >= poll).await;
        assert_eq!(
            good(&bench.readings, "meter-1", "volts").len(),
            poll,
            "one for each time that it was due"
        );
        tokio::time::advance(INTERVAL).await;
    }
    assert_eq!(nulls(&bench.readings, "meter-1", "volts"), 0);
    assert_eq!(bench.status().timeouts + bench.status().failures, 0);
    assert!(good(&bench.readings, "meter-2", "volts").is_empty(), "nothing that it says is a number");
    let status = bench.board.read().sources.get("wild").cloned().unwrap();
    assert!(status.last_error.is_some() && status.polls > 0, "{status:?}");
    sources.stop();
}

#[tokio::test(start_paused = true)]
async fn a_source_keeps_its_pace_beside_one_that_is_flooded_with_answers() {
    // An answer to the first request, over and over.
    keeps_its_pace_beside(&flood(&[0, 0, 0, 0, 0, 7, 2, 4, 4, 0, 1, 0, 2]).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_keeps_its_pace_beside_one_that_hears_nonsense() {
    keeps_its_pace_beside(&flood(&[0xff; 4096]).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_keeps_its_pace_beside_one_that_hears_nothing() {
    let devices = Devices::start(|_| Answer::Nothing).await;
    keeps_its_pace_beside(&devices.address).await;
}
