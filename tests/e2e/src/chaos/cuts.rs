//! A line that is cut and whole again: how soon the hub has a reading that was taken after that.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::time::Instant;

use super::{Outcome, Scale, pass, seconds};
use crate::line::{Line, Quality};
use crate::{Agent, Hub, http, until};

/// Columns of a row, and rows a second: 2,000 readings.
const FRESH: (u32, u32) = (100, 20);
/// Rows of a file that is read at once while the line is cut.
const OLD: (u32, u32) = (10, 30_000);
const ARRIVE_MAX: Duration = Duration::from_secs(120);
const SETTLE_MAX: Duration = Duration::from_secs(300);

fn csv(path: &Path, (columns, rows): (u32, u32)) -> Result<()> {
    let mut text = "timestamp".to_owned();
    (0..columns).try_for_each(|column| write!(text, ",p{column}"))?;
    for row in 0..rows {
        write!(text, "\n{}", 1_760_000_000_000_u64 + 1_000 * u64::from(row))?;
        (0..columns).try_for_each(|column| write!(text, ",{}", (row * 7 + column * 13) % 997))?;
    }
    Ok(std::fs::write(path, text + "\n")?)
}

/// Milliseconds from the moment at which the line is whole until a reading taken after it can be queried.
async fn first_fresh(hub: &Hub, line: &Line, device: &str) -> Result<u128> {
    let up_ms = SystemClock::default().wall_ns() / 1_000_000;
    let start = Instant::now();
    line.set(Quality::GOOD);
    let path = format!("/api/v1/query?series={device}/p0&from={up_ms}&to=now&limit=1");
    until("a fresh reading", ARRIVE_MAX, || async {
        let answer = http::get(hub.http(), &path, Some(hub.token())).await?;
        // Before its first reading there is no such series.
        Ok((answer.status == 200 && !http::raw_page(&answer.body)?.rows.is_empty()).then_some(()))
    })
    .await?;
    Ok(start.elapsed().as_millis())
}

/// Cuts the line of an agent, without and with a backlog.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    let start = Instant::now();
    let hub = Hub::start().await?;
    let line = Line::start(hub.quic(), Quality::GOOD, scale.seed).await?;
    let (fresh, old) = (hub.folder().join("fresh.csv"), hub.folder().join("old.csv"));
    let (columns, rate) = FRESH;
    let seconds_of_rows = u32::try_from(scale.stopped.as_secs())? + 8;
    csv(&fresh, (columns, rate * seconds_of_rows))?;
    csv(&old, OLD)?;
    let live =
        format!("[[source]]\nkind = \"replay\"\npath = {fresh:?}\ntimestamps = \"now\"\nrate = {rate}\n");
    let backlog =
        format!("[[source]]\nkind = \"replay\"\nname = \"old\"\npath = {old:?}\npoint_prefix = \"old-\"\n");
    let mut told = Vec::new();
    for (device, sources, rows) in
        [("cut-0", live.clone(), 0), ("cut-1", live + &backlog, u64::from(OLD.0) * u64::from(OLD.1))]
    {
        let config = format!(
            "[http]\nlisten = \"\"\n[batch]\nflush_interval_ms = 100\n[uplink]\nhub = \"{}\"\n{sources}",
            line.address()
        );
        let folder = Agent::prepare(&hub, device, &config).await?;
        // With a backlog the line is cut from the start: no session has drained any of it.
        line.set(if rows > 0 { Quality::CUT } else { Quality::GOOD });
        let agent = Agent::launch(folder)?;
        if rows == 0 {
            until("the first readings", ARRIVE_MAX, || async {
                Ok(hub.ledger(device).await?.filter(|ledger| ledger.stored > 0))
            })
            .await?;
            line.set(Quality::CUT);
        }
        pass(scale.stopped).await;
        told.push(format!("{} ms", first_fresh(&hub, &line, device).await?));
        let all = u64::from(columns) * u64::from(rate * seconds_of_rows) + rows;
        let ledger = hub.settled(device, all, SETTLE_MAX).await?;
        ensure!((ledger.dropped, ledger.refused, ledger.lost) == (0, 0, 0), "{device}: {ledger:?}");
        agent.terminate(ARRIVE_MAX).await?;
    }
    Ok(Outcome::Proved(format!(
        "the line of an agent of {} readings/s cut for {:?}: the first reading taken after it at the hub after {} \
         (the second with {} older readings waiting), all stored once, in {}",
        columns * rate,
        scale.stopped,
        told.join(" and "),
        u64::from(OLD.0) * u64::from(OLD.1),
        seconds(start)
    )))
}
