//! Bad lines: loss, delay, reordering, doubling, cuts of one way and both, and addresses that change
//! under a connection.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::fleet::{Feed, Fleet};
use super::{Outcome, Scale, pass, seconds};
use crate::line::{Cut, Line, Quality};

const RATE: u32 = 200;
const REBINDINGS: u32 = 5;

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The states of the line, one after the other.
const STATES: [(&str, Quality); 11] = [
    ("good", Quality::GOOD),
    ("loss 5 %", Quality { loss: 0.05, ..Quality::GOOD }),
    ("loss 15 %", Quality { loss: 0.15, ..Quality::GOOD }),
    ("loss 30 %", Quality { loss: 0.30, ..Quality::GOOD }),
    ("600 ± 50 ms", Quality { delay: ms(275), jitter: ms(50), ..Quality::GOOD }),
    ("600 ± 50 ms, loss 2 %", Quality { delay: ms(275), jitter: ms(50), loss: 0.02, ..Quality::GOOD }),
    ("reordered", Quality { jitter: ms(20), late: 0.3, ..Quality::GOOD }),
    ("doubled", Quality { doubled: 0.3, late: 0.1, ..Quality::GOOD }),
    ("cut to the hub", Quality { cut: Cut::ToHub, ..Quality::GOOD }),
    ("cut to the agent", Quality { cut: Cut::ToAgent, ..Quality::GOOD }),
    ("cut", Quality::CUT),
];

/// Goes through all states, then has the address change.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    let start = Instant::now();
    let mut fleet = Fleet::start(Vec::new(), |_| Ok(())).await?;
    let line = Line::start(fleet.hub.quic(), Quality::GOOD, scale.seed).await?;
    let lasting = scale.hold * u32::try_from(STATES.len())? + scale.hold * 2 + Duration::from_secs(10);
    let feed = Feed { uplink: Some(format!("hub = \"{}\"", line.address())), ..Feed::lasting(RATE, lasting) };
    fleet.add(&feed, None).await?;
    let mut stored = fleet.moves_beyond(0, "the start").await?;
    let mut told = Vec::new();
    for (name, quality) in STATES {
        line.set(quality);
        pass(scale.hold).await;
        let now = fleet.stored().await?;
        told.push(format!("{name} +{}", now - stored));
        stored = now;
    }
    line.set(Quality::GOOD);
    stored = fleet.moves_beyond(stored, "the cut").await?;
    for _ in 0..REBINDINGS {
        line.rebind();
        pass(scale.hold / REBINDINGS).await;
        stored = fleet.moves_beyond(stored, "a new address").await?;
    }
    let traffic = line.traffic();
    ensure!(traffic.lost > 0 && traffic.doubled > 0, "the line did no harm: {traffic:?}");
    let proof = fleet.prove().await?;
    Ok(Outcome::Proved(format!(
        "states of {:?}: {}; {REBINDINGS} new addresses; of {} packets {} lost and {} doubled, in {}; {proof}",
        scale.hold,
        told.join(", "),
        traffic.taken,
        traffic.lost,
        traffic.doubled,
        seconds(start)
    )))
}
