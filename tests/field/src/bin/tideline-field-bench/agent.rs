//! An agent in a process of its own, without a hub, and what it costs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use edge_agent::identity::{Identity, IdentityFile};
use edge_agent::serve;
use edge_agent::status::Status;
use tempfile::TempDir;
use tideline_e2e::process::Running;
use tideline_e2e::until;
use tideline_link::identity::{AgentKey, CertificateAuthority, KeyAndCert};
use tideline_protocol::model::AgentId;
use tideline_protocol::time::{Clock as _, SystemClock};

use crate::said;

/// Longest wait for the agent to be up.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What goes by before it is measured: connections are made and dictionaries written.
const WARM_UP: Duration = Duration::from_secs(5);

/// A running agent.
pub struct Agent {
    process: Running,
    folder: TempDir,
}

/// What an agent has done and what it took.
pub struct Load {
    pub readings_s: f64,
    pub cpu_percent: f64,
    pub resident_mb: f64,
}

impl Agent {
    /// Starts one with the sources that are configured so.
    pub async fn start(sources: &dyn Fn(&Path) -> Result<String>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        enrol(path)?;
        let config = path.join("agent.toml");
        std::fs::write(&config, format!("[http]\nlisten = \"\"\n{}", sources(path)?))?;
        let args = [
            "run",
            "--data",
            path.to_str().context("the folder is no UTF-8")?,
            "--config",
            config.to_str().context("the folder is no UTF-8")?,
        ];
        let process = Running::start("edge-agent", &args, &[], &path.join("agent.log"))?;
        let agent = Self { process, folder };
        until("the agent's status", WAIT_MAX, || async { Ok(agent.status().await.ok()) })
            .await
            .with_context(|| agent.process.log_end())?;
        Ok(agent)
    }

    /// What it shows of itself.
    pub async fn status(&self) -> Result<Status> {
        serve::ask_status(self.folder.path()).await
    }

    /// What it does and takes in so many seconds, once it is warm.
    pub async fn measure(&self, seconds: usize) -> Result<Load> {
        pass(WARM_UP).await;
        let clock = SystemClock::default();
        let (began, cpu, accepted) = (clock.mono_ns(), self.cpu_s()?, self.accepted().await?);
        pass(Duration::from_secs(u64::try_from(seconds)?)).await;
        let took_s = clock.mono_ns().saturating_sub(began) as f64 / 1e9;
        let readings = self.accepted().await?.saturating_sub(accepted);
        Ok(Load {
            readings_s: readings as f64 / took_s,
            cpu_percent: (self.cpu_s()? - cpu) / took_s * 100.0,
            resident_mb: self.resident_mb()?,
        })
    }

    async fn accepted(&self) -> Result<u64> {
        Ok(self.status().await?.sources.values().map(|source| source.accepted).sum())
    }

    fn proc(&self, file: &str) -> Result<String> {
        let id = self.process.id().context("the agent has ended")?;
        std::fs::read_to_string(format!("/proc/{id}/{file}")).with_context(|| format!("/proc/{id}/{file}"))
    }

    /// Seconds of processor time, its own and the system's for it (proc(5): fields 14 and 15 of stat).
    fn cpu_s(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name before may have blanks and brackets.
        let (_, after) = stat.rsplit_once(')').context("no stat")?;
        let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        let per_s: f64 = said("getconf", &["CLK_TCK"]).parse().context("getconf CLK_TCK")?;
        Ok(ticks as f64 / per_s)
    }

    /// Memory that is there, in MB of 10^6 bytes.
    pub fn resident_mb(&self) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

/// Makes an agent of the folder that has a hub which nobody reaches.
fn enrol(folder: &Path) -> Result<()> {
    let now_s = SystemClock::default().wall_ns() / 1_000_000_000;
    let authority = CertificateAuthority::create("bench", now_s)?;
    let (agent, key) = (AgentId::parse("bench")?, AgentKey::generate()?);
    let chain_pem = authority.issue_agent(&key.csr_pem(&agent)?, &agent, now_s, 1)?;
    let certificate =
        KeyAndCert { key_pem: key.key_pem(), chain_pem, ca_pem: authority.cert_pem().to_owned() };
    std::fs::write(folder.join("key.pem"), &certificate.key_pem)?;
    let (quic, server_name) = ("127.0.0.1:1".to_owned(), "localhost".to_owned());
    Identity { file: IdentityFile { agent, quic, mqtt: None, server_name, floor_s: now_s }, certificate }
        .save(folder)
}

/// Lets time pass in which something is measured.
pub async fn pass(time: Duration) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + time, time);
    ticks.tick().await;
}
