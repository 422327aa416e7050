//! Full file systems: a small one of their own for the data of an agent or of the hub, filled to the
//! last byte while readings flow. Needs root: it is a mount of `tmpfs`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use super::fleet::{Feed, Fleet};
use super::{Outcome, Scale, pass, seconds};
use crate::until;

/// Rows a second, enough to need new room soon: the hub writes them several times.
const HUB_RATE: u32 = 5_000;
/// The agent needs new room when its journal of 1 MiB is full.
const AGENT_FEED: Feed = Feed { rows: 400_000, rate: 25_000, uplink: None, overflow: "block" };
const MIB: u64 = 1 << 20;
const AGENT_BYTES: u64 = 16 * MIB;
const HUB_BYTES: u64 = 96 * MIB;
/// Longest wait until somebody has noticed.
const NOTICED_MAX: Duration = Duration::from_secs(60);
/// What the system says of a full file system.
const FULL: &str = "No space left on device";

/// A small file system; gone when dropped.
struct Room {
    at: PathBuf,
}

impl Room {
    fn mount(at: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let size = format!("size={bytes},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tideline-chaos"]).arg(at).stdin(Stdio::null());
        let done = mount.output()?;
        ensure!(done.status.success(), "mount: {}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(Self { at: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Takes all room that is left.
    fn fill(&self) -> Result<()> {
        // Added to what is there: a file that is written anew gives its room away first.
        let mut file = std::fs::File::options().create(true).append(true).open(self.ballast())?;
        let (zeros, mut piece) = (vec![0_u8; 1 << 20], 1 << 20);
        while piece > 0 {
            let part = zeros.get(..piece).context("a piece")?;
            if file.write_all(part).is_err() {
                piece /= 2;
            }
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Whoever has files open there keeps them until it ends.
        let _gone = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

fn allowed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    Room::mount(folder.path(), MIB).map(drop)
}

async fn noticed(what: &str, room: &Room, log: impl Fn() -> Result<String>) -> Result<()> {
    until(&format!("{what} that notices its full disk"), NOTICED_MAX, || async {
        // What is freed meanwhile is taken as well.
        room.fill()?;
        Ok(log()?.contains(FULL).then_some(()))
    })
    .await
}

/// The agent's file system is full for a while: it keeps running, its source waits, as its stream blocks, and it goes on when there is room again.
///
/// # Errors
/// As [`super::run`].
pub async fn agent(scale: Scale) -> Result<Outcome> {
    if let Err(error) = allowed() {
        return Ok(Outcome::NotAllowed(format!("no file system of its own: {error:#}")));
    }
    let start = Instant::now();
    let mut room = None;
    let mut fleet = Fleet::start(Vec::new(), |folder| {
        room = Some(Room::mount(&folder.join("pump-0"), AGENT_BYTES)?);
        Ok(())
    })
    .await?;
    let room = room.context("a file system")?;
    fleet.add(&AGENT_FEED, None).await?;
    let stored = fleet.moves_beyond(0, "the start").await?;
    room.fill()?;
    let logs = fleet.hub.folder().join("pump-0/agent.log");
    // The log is on the same file system and full as well: what the agent says is asked of it.
    let data = fleet.hub.folder().join("pump-0/data").display().to_string();
    until("an agent that notices its full disk", NOTICED_MAX, || async {
        room.fill()?;
        let said = crate::process::run("edge-agent", &["status", "--json", "--data", &data]).await?;
        let told = said.out.contains(FULL) || std::fs::read_to_string(&logs)?.contains(FULL);
        Ok(told.then_some(()))
    })
    .await?;
    pass(scale.hold).await;
    for device in &mut fleet.devices {
        device.agent.still_runs()?;
    }
    room.clear()?;
    fleet.moves_beyond(stored, "there was room again").await?;
    let proof = fleet.prove().await?;
    Ok(Outcome::Proved(format!(
        "the agent's file system of {} MiB full for {:?}: it said so, ran on and recovered, in {}; {proof}",
        AGENT_BYTES / MIB,
        scale.hold,
        seconds(start)
    )))
}

/// The hub's file system is full for a while: it takes nothing that it cannot keep, keeps running, and
/// goes on when there is room again.
///
/// # Errors
/// As [`super::run`].
pub async fn hub(scale: Scale) -> Result<Outcome> {
    if let Err(error) = allowed() {
        return Ok(Outcome::NotAllowed(format!("no file system of its own: {error:#}")));
    }
    let start = Instant::now();
    let mut room = None;
    let mut fleet = Fleet::start(Vec::new(), |folder| {
        room = Some(Room::mount(&folder.join("hub"), HUB_BYTES)?);
        Ok(())
    })
    .await?;
    let room = room.context("a file system")?;
    fleet.add(&Feed::lasting(HUB_RATE, scale.hold + Duration::from_secs(12)), None).await?;
    fleet.moves_beyond(0, "the start").await?;
    room.fill()?;
    noticed("a hub", &room, || fleet.hub.log()).await?;
    pass(scale.hold).await;
    fleet.hub.still_runs()?;
    for device in &mut fleet.devices {
        device.agent.still_runs()?;
    }
    room.clear()?;
    fleet.hub.ready().await?;
    let stored = fleet.stored().await?;
    fleet.moves_beyond(stored, "there was room again").await?;
    let proof = fleet.prove().await?;
    Ok(Outcome::Proved(format!(
        "the hub's file system of {} MiB full for {:?}: it said so, ran on and recovered, in {}; {proof}",
        HUB_BYTES / MIB,
        scale.hold,
        seconds(start)
    )))
}
