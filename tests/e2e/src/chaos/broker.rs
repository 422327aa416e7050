//! A broker that forgets its sessions: mosquitto without persistence, killed at random moments and
//! started again, between an agent whose UDP gets nowhere and its hub. Now and then one of these two is
//! killed with it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::fleet::{Feed, Fleet};
use super::{Outcome, Scale, pass, seconds};
use crate::mosquitto::{Broker, program};

const RATE: u32 = 200;
/// Kills of the broker in the full form; each costs a session that must be found dead.
const ROUNDS_MAX: u32 = 25;
/// Longest pause between readings that move on and the next kill.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What a round takes with its new session.
const ROUND: Duration = Duration::from_secs(8);
/// In so many rounds the agent or the hub is killed too.
const BOTH: f64 = 0.3;

/// Kills the broker again and again.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    if let Err(error) = program("mosquitto") {
        return Ok(Outcome::NotAllowed(format!("{error:#}")));
    }
    let (mut random, start) = (StdRng::seed_from_u64(scale.seed), Instant::now());
    let rounds = scale.rounds.div_ceil(2).min(ROUNDS_MAX);
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::start(folder.path()).await?;
    let url = format!("mqtt://{}", broker.address());
    let mut fleet = Fleet::start(vec![("TIDELINE_MQTT_BROKER_URL", url.clone())], |_| Ok(())).await?;
    // Nobody answers there, and nobody else gets the port.
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let uplink = format!("hub = \"{}\"\nbroker = \"{url}\"", deaf.local_addr()?);
    fleet.add(&Feed { uplink: Some(uplink), ..Feed::lasting(RATE, ROUND * rounds) }, None).await?;
    let mut stored = fleet.moves_beyond(0, "the start").await?;
    let (mut hubs, mut agents) = (0, 0);
    for _ in 0..rounds {
        pass(random.random_range(Duration::ZERO..=PAUSE_MAX.min(scale.hold))).await;
        broker.kill_and_restart().await?;
        if random.random_bool(BOTH) {
            if random.random_bool(0.5) {
                fleet.kill_hub(true).await?;
                hubs += 1;
            } else {
                fleet.kill_agent(0).await?;
                agents += 1;
            }
        }
        stored = fleet.moves_beyond(stored, "a broker that forgot its sessions").await?;
    }
    let device = fleet.devices.first().context("no device")?;
    ensure!(stored < u64::from(device.rows()), "all was at the hub before the last kill");
    let proof = fleet.prove().await?;
    Ok(Outcome::Proved(format!(
        "{rounds} SIGKILLs of a broker without a memory, with it of the hub {hubs} times and of the agent \
         {agents} times; readings moved on after each, in {}; {proof}",
        seconds(start)
    )))
}
