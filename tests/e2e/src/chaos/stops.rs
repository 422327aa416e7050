//! SIGSTOP: a process that stands still and then goes on, as under a debugger, a frozen container or a
//! machine that was suspended. Its peers take it for dead; it takes no time for passed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use super::fleet::{Feed, Fleet};
use super::{Outcome, Scale, pass, seconds};

const RATE: u32 = 200;
/// What lies between the stops.
const BETWEEN: Duration = Duration::from_secs(20);

async fn signal(name: &str, pid: Option<u32>) -> Result<()> {
    let pid = pid.context("the process is gone")?.to_string();
    let sent = tokio::process::Command::new("kill").args([name, &pid]).status().await?;
    ensure!(sent.success(), "{name} could not be sent");
    Ok(())
}

/// Stops the agent, the hub, and both.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    let start = Instant::now();
    let mut fleet = Fleet::start(Vec::new(), |_| Ok(())).await?;
    fleet.add(&Feed::lasting(RATE, (scale.stopped + BETWEEN) * 3), None).await?;
    let mut stored = fleet.moves_beyond(0, "the start").await?;
    for (agent, hub) in [(true, false), (false, true), (true, true)] {
        let agents = fleet.devices.first().and_then(|device| device.agent.pid());
        let stopped: Vec<Option<u32>> = [(agent, agents), (hub, fleet.hub.pid())]
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, pid)| pid)
            .collect();
        for pid in &stopped {
            signal("-STOP", *pid).await?;
        }
        pass(scale.stopped).await;
        for pid in &stopped {
            signal("-CONT", *pid).await?;
        }
        fleet.hub.ready().await?;
        stored = fleet.moves_beyond(stored, "the stop").await?;
    }
    let proof = fleet.prove().await?;
    Ok(Outcome::Proved(format!(
        "SIGSTOP for {:?} of the agent, of the hub, of both, in {}; readings moved on each time; {proof}",
        scale.stopped,
        seconds(start)
    )))
}
