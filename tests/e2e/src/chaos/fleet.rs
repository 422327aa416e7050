//! A hub with agents whose every reading is known, and the proof that all are there once.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::process::{self, Running};
use crate::{Agent, Hub, Ledger, Ports, launch_agent, until};

/// Unix ms of the first row.
const START_MS: i64 = 1_700_000_000_000;
/// Longest wait for all readings to be at the hub after the harm is over; agents wait up to 30 s
/// between their attempts, and the machine may be slow.
const SETTLE_MAX: Duration = Duration::from_secs(240);
/// Longest wait for readings to move on; as above.
const MOVE_MAX: Duration = Duration::from_secs(120);
const END_MAX: Duration = Duration::from_secs(30);
const PAGE: usize = 10_000;

/// An agent that replays a file.
#[derive(Debug)]
pub struct Device {
    /// Its id.
    pub id: String,
    number: u32,
    rows: u32,
    uplink: Option<String>,
    overflow: &'static str,
    /// The process.
    pub agent: Agent,
}

/// Hub and agents.
#[derive(Debug)]
pub struct Fleet {
    /// The hub.
    pub hub: Hub,
    /// Variables that the hub is started with beside its ports.
    env: Vec<(&'static str, String)>,
    /// The agents.
    pub devices: Vec<Device>,
}

/// What an agent replays, and where to.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Rows of its file.
    pub rows: u32,
    /// Rows a second while the harm is done.
    pub rate: u32,
    /// Its `[uplink]`, when the ways are not those that enrolment names.
    pub uplink: Option<String>,
    /// What happens to the readings when there is no room for them.
    pub overflow: &'static str,
}

impl Feed {
    /// So many rows a second for that time, and some more.
    #[must_use]
    pub fn lasting(rate: u32, time: Duration) -> Self {
        let rows = (time.as_secs_f64() * f64::from(rate) * 1.5).ceil() + 1000.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of rows"
        )]
        let rows = rows.min(f64::from(u32::MAX)) as u32;
        Self { rows, rate, uplink: None, overflow: "drop-oldest" }
    }
}

/// The row's value: of all digits, so that nothing compresses it and every row takes room.
fn value(number: u32, row: u32) -> f64 {
    let bits = StdRng::seed_from_u64((u64::from(number) << 32) | u64::from(row)).next_u64();
    (bits >> 11) as f64 / f64::from(1_u32 << 20)
}

fn csv(number: u32, rows: u32) -> Result<String> {
    let mut text = "timestamp,value\n".to_owned();
    for row in 0..rows {
        let time = jiff::Timestamp::from_millisecond(START_MS + i64::from(row))?;
        writeln!(text, "{time},{}", value(number, row))?;
    }
    Ok(text)
}

impl Hub {
    /// As [`Hub::start`], with variables that win over those of its ports, in a folder that `furnish`
    /// has prepared.
    ///
    /// # Errors
    /// As [`Hub::start`], or `furnish` failed.
    pub async fn start_furnished(
        env: &[(&'static str, String)],
        furnish: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tideline-chaos-").tempdir()?;
        furnish(folder.path())?;
        let ports = Ports::free()?;
        let running = launch(folder.path(), ports, env)?;
        let mut hub = Self { folder, ports, running, token: String::new(), settings: Vec::new() };
        hub.ready().await?;
        let said = hub.command(&["token", "create", "chaos", "--role", "admin"]).await?;
        hub.token = said.good()?.trim().to_owned();
        Ok(hub)
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.id()
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    /// It has; the text has the end of its log.
    pub fn still_runs(&mut self) -> Result<()> {
        self.running.check()
    }
}

impl Agent {
    /// Fails when the process has ended.
    ///
    /// # Errors
    /// It has; the text has the end of its log.
    pub fn still_runs(&mut self) -> Result<()> {
        self.running.check()
    }

    /// All that it has logged.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("agent.log"))?)
    }
}

fn launch(folder: &Path, ports: Ports, more: &[(&'static str, String)]) -> Result<Running> {
    let data = folder.join("hub").display().to_string();
    let local = |port: u16| format!("127.0.0.1:{port}");
    let mut env = vec![
        ("TIDELINE_HTTP_LISTEN", local(ports.http)),
        ("TIDELINE_HTTPS_LISTEN", local(ports.https)),
        ("TIDELINE_QUIC_LISTEN", format!("0.0.0.0:{}", ports.quic)),
        ("TIDELINE_MQTT_LISTEN_TLS", String::new()),
        ("TIDELINE_HUB_PUBLIC_ADDRESS", "127.0.0.1".to_owned()),
    ];
    env.extend(more.iter().cloned());
    Running::start("cloud-hub", &["serve", "--data", &data], &env, &folder.join("hub.log"))
}

impl Device {
    /// Rows of its file.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }
}

impl Fleet {
    /// A hub alone.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(
        env: Vec<(&'static str, String)>,
        furnish: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        Ok(Self { hub: Hub::start_furnished(&env, furnish).await?, env, devices: Vec::new() })
    }

    /// Adds an agent and starts it, in a network namespace when one is named.
    ///
    /// # Errors
    /// It cannot be enrolled or started.
    pub async fn add(&mut self, feed: &Feed, namespace: Option<&str>) -> Result<()> {
        let number = u32::try_from(self.devices.len())?;
        let id = format!("pump-{number}");
        let file = self.hub.folder().join(format!("{id}.csv"));
        std::fs::write(&file, csv(number, feed.rows)?)?;
        let config = self.config(&id, feed.rate, feed.uplink.as_deref(), feed.overflow);
        let folder = Agent::prepare(&self.hub, &id, &config).await?;
        let agent = match namespace {
            None => Agent::launch(folder)?,
            Some(name) => {
                let [data, config] = [folder.join("data"), folder.join("agent.toml")];
                let (data, config) = (data.display().to_string(), config.display().to_string());
                let args = ["run", "--data", &data, "--config", &config];
                let running =
                    Running::start_in_namespace(name, "edge-agent", &args, &folder.join("agent.log"))?;
                Agent { folder, running }
            }
        };
        let Feed { rows, uplink, overflow, .. } = feed.clone();
        self.devices.push(Device { id, number, rows, uplink, overflow, agent });
        Ok(())
    }

    fn config(&self, id: &str, rate: u32, uplink: Option<&str>, overflow: &str) -> String {
        let file = self.hub.folder().join(format!("{id}.csv"));
        let uplink = uplink.map(|keys| format!("[uplink]\n{keys}\n")).unwrap_or_default();
        format!(
            "[http]\nlisten = \"\"\n[batch]\nflush_interval_ms = 50\n{uplink}[[stream]]\nname = \"default\"\noverflow = {overflow:?}\n[[source]]\nkind = \"replay\"\nname = \"rows\"\npath = {file:?}\nrate = {rate}\n"
        )
    }

    /// Kills the hub and starts it again; when it is not waited for, the next kill may find it in the
    /// middle of its start.
    ///
    /// # Errors
    /// It had ended by itself, or does not become ready.
    pub async fn kill_hub(&mut self, wait: bool) -> Result<()> {
        self.hub.running.kill().await?;
        self.hub.running = launch(self.hub.folder.path(), self.hub.ports, &self.env)?;
        if wait { self.hub.ready().await } else { Ok(()) }
    }

    /// Kills an agent and starts it again.
    ///
    /// # Errors
    /// It had ended by itself.
    pub async fn kill_agent(&mut self, at: usize) -> Result<()> {
        let device = self.devices.get_mut(at).context("no such device")?;
        device.agent.running.kill().await?;
        device.agent.running = launch_agent(&device.agent.folder)?;
        Ok(())
    }

    /// Rows at the hub, of all agents.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn stored(&self) -> Result<u64> {
        let mut sum = 0;
        for device in &self.devices {
            sum += self.hub.ledger(&device.id).await?.map_or(0, |ledger| ledger.stored);
        }
        Ok(sum)
    }

    /// Waits until more than `rows` are at the hub.
    ///
    /// # Errors
    /// They do not come.
    pub async fn moves_beyond(&self, rows: u64, after: &str) -> Result<u64> {
        until(&format!("readings after {after}"), MOVE_MAX, || async {
            Ok(Some(self.stored().await?).filter(|stored| *stored > rows))
        })
        .await
    }

    /// Has the agents read the rest of their files at once, and proves that every row is at the hub
    /// exactly once: by the ledger, by the agents' books, and row by row. Then ends all.
    ///
    /// # Errors
    /// Anything is missing, doubled, dropped, refused or lost, or does not add up; the text has the
    /// ends of the logs.
    pub async fn prove(mut self) -> Result<String> {
        let proved = self.prove_all().await;
        if proved.is_err() {
            let ends = self
                .devices
                .iter()
                .map(|device| format!("{}:\n{}", device.id, device.agent.running.log_end()));
            let ends: Vec<String> = ends.collect();
            return proved.context(format!("hub:\n{}\n{}", self.hub.running.log_end(), ends.join("\n")));
        }
        let devices = std::mem::take(&mut self.devices);
        for device in devices {
            let folder = device.agent.folder.clone();
            device.agent.terminate(END_MAX).await?;
            let data = folder.join("data").display().to_string();
            process::run("edge-agent", &["store", "verify", "--data", &data]).await?.good()?;
        }
        proved
    }

    async fn prove_all(&mut self) -> Result<String> {
        self.hub.ready().await?;
        for device in &self.devices {
            let config = self.config(&device.id, 0, device.uplink.as_deref(), device.overflow);
            std::fs::write(device.agent.folder.join("agent.toml"), config)?;
        }
        let (mut all, mut branched) = (0, 0);
        for device in &mut self.devices {
            device.agent.running.check()?;
            let rows = u64::from(device.rows);
            let ledger: Ledger = self.hub.settled(&device.id, rows, SETTLE_MAX).await?;
            ensure!((ledger.dropped, ledger.refused, ledger.lost) == (0, 0, 0), "{}: {ledger:?}", device.id);
            branched += u32::from(agents_books(device).await?);
            all += rows;
        }
        for device in &self.devices {
            let found = self.hub.readings(&format!("{}/value", device.id), PAGE).await?;
            let rows = device.rows;
            ensure!(found.len() as u64 == u64::from(rows), "{}: {} of {rows} rows", device.id, found.len());
            for (row, (time, got)) in (0..rows).zip(&found) {
                let at = (START_MS + i64::from(row)) * 1_000_000;
                let wanted = value(device.number, row);
                ensure!(
                    *time == at && got.to_bits() == wanted.to_bits(),
                    "{} row {row}: {time} {got}",
                    device.id
                );
            }
        }
        let epochs =
            if branched > 0 { format!("; {branched} went on in a new epoch") } else { String::new() };
        Ok(format!("{all} rows, lost 0, doubled 0, ledgers and agents' books balance{epochs}"))
    }
}

/// The agent says the same of its readings as the hub does: the answer is whether it went on in another
/// epoch meanwhile, of which alone its books then are.
async fn agents_books(device: &Device) -> Result<bool> {
    let data = device.agent.folder.join("data").display().to_string();
    let branched = device.agent.log()?.contains("goes on under a new epoch");
    until(&format!("the books of {}", device.id), END_MAX, || async {
        let said = process::run("edge-agent", &["status", "--json", "--data", &data]).await?.good()?;
        let status: Value = serde_json::from_str(&said)?;
        let number = |name: &str| {
            let found = status.pointer(&format!("/account/{name}")).and_then(Value::as_u64);
            found.with_context(|| format!("a status without {name}"))
        };
        let (produced, stored) = (number("produced")?, number("stored")?);
        let settled = number("pending")? + number("dropped")? + number("refused")? == 0 && produced == stored;
        Ok((settled && (branched || stored == u64::from(device.rows))).then_some(branched))
    })
    .await
}
