//! UDP that is blocked and opened again beside TCP that gets through: the agents know nothing of MQTT but
//! what they were told when they enrolled.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::fleet::{Feed, Fleet};
use super::{Outcome, Scale, pass, seconds};
use crate::line::{Line, Quality};
use crate::{free_port, process, until};

const RATE: u32 = 200;
/// What a change of the way may take beside the holds.
const BETWEEN: Duration = Duration::from_secs(60);
/// Longest wait for a change of the way, on a machine that does other things too.
const CHANGE_MAX: Duration = Duration::from_secs(120);
/// After so long nothing that was sent before is on its way any more.
const SETTLED: Duration = Duration::from_millis(500);

impl Fleet {
    async fn stored_of(&self, id: &str) -> Result<u64> {
        Ok(self.hub.ledger(id).await?.map_or(0, |ledger| ledger.stored))
    }

    /// Waits until the hub has more than `rows` of a device.
    async fn has_beyond(&self, id: &str, rows: u64) -> Result<u64> {
        until(&format!("more than {rows} readings of {id}"), CHANGE_MAX, || async {
            Ok(Some(self.stored_of(id).await?).filter(|stored| *stored > rows))
        })
        .await
    }

    /// Waits until a device's session is on this transport.
    async fn is_on(&self, id: &str, transport: &str) -> Result<()> {
        let data = self.hub.folder().join(id).join("data").display().to_string();
        until(&format!("{id} by {transport}"), CHANGE_MAX, || async {
            let said = process::run("edge-agent", &["status", "--json", "--data", &data]).await?;
            // It was killed a moment ago, and its socket is not there yet.
            let Ok(status) = serde_json::from_str::<Value>(&said.out) else { return Ok(None) };
            Ok((status.get("transport").and_then(Value::as_str) == Some(transport)).then_some(()))
        })
        .await
    }

    /// The time from when its UDP is blocked until the hub has a reading that came another way.
    async fn block(&self, line: &Line, id: &str) -> Result<Duration> {
        let start = Instant::now();
        line.set(Quality::CUT);
        pass(SETTLED).await;
        let stored = self.stored_of(id).await?;
        self.has_beyond(id, stored).await?;
        let took = start.elapsed();
        self.is_on(id, "mqtt").await?;
        Ok(took)
    }
}

/// An agent whose UDP is blocked for a while, with kills in the middle, and one that never had any.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    let start = Instant::now();
    let env = vec![("TIDELINE_MQTT_LISTEN_TLS", format!("127.0.0.1:{}", free_port()?))];
    let mut fleet = Fleet::start(env, |_| Ok(())).await?;
    let open = Line::start(fleet.hub.quic(), Quality::GOOD, scale.seed).await?;
    let shut = Line::start(fleet.hub.quic(), Quality::CUT, scale.seed).await?;
    let lasting = scale.hold * 8 + BETWEEN;
    for line in [&open, &shut] {
        let uplink = Some(format!("hub = \"{}\"\nprobe_interval_s = 1", line.address()));
        fleet.add(&Feed { uplink, ..Feed::lasting(RATE, lasting) }, None).await?;
    }
    let [one, never] = ["pump-0", "pump-1"];
    let started = Instant::now();
    fleet.has_beyond(never, 0).await?;
    let first = started.elapsed();
    fleet.is_on(never, "mqtt").await?;
    fleet.has_beyond(one, 0).await?;
    fleet.is_on(one, "quic").await?;
    let mut blocked = vec![fleet.block(&open, one).await?];
    pass(scale.hold).await;
    let mut stored = fleet.has_beyond(one, fleet.stored_of(one).await?).await?;
    fleet.kill_hub(true).await?;
    stored = fleet.has_beyond(one, stored).await?;
    fleet.kill_agent(0).await?;
    stored = fleet.has_beyond(one, stored).await?;
    let opened = Instant::now();
    open.set(Quality::GOOD);
    shut.set(Quality::GOOD);
    fleet.is_on(one, "quic").await?;
    let back = opened.elapsed();
    fleet.is_on(never, "quic").await?;
    stored = fleet.has_beyond(one, stored).await?;
    pass(scale.hold).await;
    // Killed while the way is changed.
    blocked.push(fleet.block(&open, one).await?);
    open.set(Quality::GOOD);
    shut.set(Quality::CUT);
    fleet.kill_agent(1).await?;
    fleet.kill_hub(true).await?;
    fleet.has_beyond(one, stored).await?;
    fleet.has_beyond(never, fleet.stored_of(never).await?).await?;
    let left = u64::from(fleet.devices.first().context("a device")?.rows());
    ensure!(fleet.stored_of(one).await? < left, "all was at the hub before the last change");
    let proof = fleet.prove().await?;
    let blocked: Vec<String> = blocked.iter().map(|took| format!("{:.1} s", took.as_secs_f64())).collect();
    Ok(Outcome::Proved(format!(
        "UDP blocked: readings by MQTT after {}; open again: by QUIC after {:.1} s (probes 1 s apart); blocked from \
         the first start: readings after {:.1} s; hub and agents killed in between, in {}; {proof}",
        blocked.join(" and "),
        back.as_secs_f64(),
        first.as_secs_f64(),
        seconds(start)
    )))
}
