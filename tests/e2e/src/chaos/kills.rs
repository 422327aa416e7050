//! SIGKILL at random moments: of the hub, of an agent, of several at once, and of a hub that has only
//! just begun to start.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::fleet::{Feed, Fleet};
use super::{Outcome, Scale, pass, seconds};

const AGENTS: u32 = 2;
const RATE: u32 = 300;
/// Longest pause before a kill.
const PAUSE_MAX: Duration = Duration::from_millis(700);
/// So often the hub is waited for, so that readings get through between the kills.
const ROUNDS_BETWEEN: u32 = 5;

/// Kills for so many rounds.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    let (mut random, start) = (StdRng::seed_from_u64(scale.seed), Instant::now());
    let mut fleet = Fleet::start(Vec::new(), |_| Ok(())).await?;
    // A round with its restart takes about three seconds on a busy machine.
    let feed = Feed::lasting(RATE, Duration::from_secs(3) * scale.rounds);
    for _ in 0..AGENTS {
        fleet.add(&feed, None).await?;
    }
    fleet.moves_beyond(0, "the start").await?;
    let (mut hubs, mut agents, mut met) = (0, 0, 0);
    for round in 0..scale.rounds {
        pass(random.random_range(Duration::ZERO..=PAUSE_MAX)).await;
        let wait = round % ROUNDS_BETWEEN == 0 || random.random_bool(0.5);
        let (hub, agent) = match random.random_range(0..4) {
            0 | 1 => (true, None),
            2 => (false, Some(random.random_range(0..AGENTS))),
            _ => (true, Some(random.random_range(0..AGENTS))),
        };
        if let Some(agent) = agent {
            fleet.kill_agent(usize::try_from(agent)?).await?;
            agents += 1;
        }
        if hub {
            fleet.kill_hub(wait).await?;
            hubs += 1;
        }
        if round % ROUNDS_BETWEEN == 0 {
            fleet.hub.ready().await?;
            let stored = fleet.stored().await?;
            met += u64::from(stored < u64::from(AGENTS) * u64::from(feed.rows));
        }
    }
    fleet.hub.ready().await?;
    let before = fleet.stored().await?;
    // Kills after the last row would prove nothing.
    ensure!(before < u64::from(AGENTS) * u64::from(feed.rows), "all was at the hub before the last kill");
    ensure!(before > 0 && met > 0, "nothing got to the hub between the kills");
    let proof = fleet.prove().await?;
    let rounds = scale.rounds;
    Ok(Outcome::Proved(format!(
        "{rounds} rounds in {}: SIGKILL of the hub {hubs} times, of an agent {agents} times; {before} rows \
         were through by then; {proof}",
        seconds(start)
    )))
}
