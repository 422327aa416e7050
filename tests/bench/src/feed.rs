//! A reader of the hub's live feed.

use anyhow::Context as _;
use serde_json::Value;
use tideline_e2e::Hub;
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

use crate::store::PATIENCE;

/// An open feed.
pub struct Feed {
    lines: Lines<BufReader<TcpStream>>,
    readings: bool,
    clock: SystemClock,
}

/// What one event brought.
pub struct Arrival {
    /// When it came, in ms since 1970.
    pub at_ms: f64,
    /// The times of its readings, in ms since 1970.
    pub times_ms: Vec<f64>,
}

impl Feed {
    /// Follows what `filter` names, as in `device=pump-7`.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn open(hub: &Hub, filter: &str) -> anyhow::Result<Self> {
        let mut tcp = TcpStream::connect(hub.http()).await?;
        let ask = format!(
            "GET /api/v1/live?{filter} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
            hub.token()
        );
        tcp.write_all(ask.as_bytes()).await?;
        Ok(Self { lines: BufReader::new(tcp).lines(), readings: false, clock: SystemClock::default() })
    }

    /// The next readings. Cancel safe but for a line that was begun.
    ///
    /// # Errors
    /// The feed has ended, or is silent for long.
    pub async fn next(&mut self) -> anyhow::Result<Arrival> {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await??;
            let line = line.context("the live feed has ended")?;
            if let Some(kind) = line.strip_prefix("event:") {
                self.readings = kind.trim() == "readings";
            } else if let Some(data) = line.strip_prefix("data:").filter(|_| self.readings) {
                let at_ms = self.clock.wall_ns() as f64 / 1e6;
                let value: Value = serde_json::from_str(data.trim()).unwrap_or(Value::Null);
                let series = value.get("series").and_then(Value::as_array);
                let times = series.into_iter().flatten().filter_map(|s| s.get("t")?.as_array()).flatten();
                return Ok(Arrival { at_ms, times_ms: times.filter_map(Value::as_f64).collect() });
            }
        }
    }
}
