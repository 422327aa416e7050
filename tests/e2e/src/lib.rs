//! End-to-end tests with real processes: starts, kills and asks hubs and agents.

pub mod absent;
pub mod chaos;
pub mod http;
pub mod line;
pub mod mosquitto;
pub mod process;
pub mod prometheus;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use process::{Running, Said};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Longest wait for a process to be ready.
const START_MAX: Duration = Duration::from_secs(60);

/// The ports of a hub; they stay the same over restarts.
#[derive(Debug, Clone, Copy)]
struct Ports {
    http: u16,
    https: u16,
    quic: u16,
}

/// A hub with a data folder of its own.
#[derive(Debug)]
pub struct Hub {
    folder: TempDir,
    ports: Ports,
    running: Running,
    token: String,
    // What else it is told in its environment.
    settings: Vec<(&'static str, String)>,
}

/// An agent with a data folder of its own.
#[derive(Debug)]
pub struct Agent {
    folder: PathBuf,
    running: Running,
}

/// Polls until `check` gives something, at most for `longest`.
///
/// # Errors
/// The time is over; the text says what was waited for.
pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    longest: Duration,
    mut check: impl FnMut() -> F,
) -> Result<T> {
    let wait = async {
        let mut ticks = tokio::time::interval(POLL);
        loop {
            ticks.tick().await;
            if let Some(found) = check().await? {
                return anyhow::Ok(found);
            }
        }
    };
    tokio::time::timeout(longest, wait).await.with_context(|| format!("{what}: not within {longest:?}"))?
}

/// A TCP port that nobody listens on, below those that systems give to connections by themselves (from 32768 on): one of
/// these could be given away before somebody listens on it.
///
/// # Errors
/// None can be bound.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Each process of the tests begins elsewhere.
    let first = u16::try_from(u64::from(std::process::id()) * 7_919 % 10_000)?;
    for _ in 0..200 {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000) % 10_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port of 200 from 20000 to 29999 can be bound")
}

impl Ports {
    fn free() -> Result<Self> {
        // All three are held at once, so that they differ.
        let (http, https) =
            (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        let quic = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self {
            http: http.local_addr()?.port(),
            https: https.local_addr()?.port(),
            quic: quic.local_addr()?.port(),
        })
    }
}

impl Hub {
    /// Starts a hub on free ports and makes an API token for the tests.
    ///
    /// # Errors
    /// The binary is missing, or the hub does not become ready.
    pub async fn start() -> Result<Self> {
        Self::start_limited(None, Vec::new()).await
    }

    /// As [`Self::start`], with more in its environment.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(settings: Vec<(&'static str, String)>) -> Result<Self> {
        Self::start_limited(None, settings).await
    }

    /// As [`Self::start`], with so many descriptors that the hub may have open.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_descriptors(most: u32) -> Result<Self> {
        Self::start_limited(Some(most), Vec::new()).await
    }

    async fn start_limited(descriptors: Option<u32>, settings: Vec<(&'static str, String)>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tideline-e2e-").tempdir()?;
        let ports = Ports::free()?;
        let running = launch(folder.path(), ports, descriptors, &settings)?;
        let mut hub = Self { folder, ports, running, token: String::new(), settings };
        hub.ready().await?;
        hub.token =
            hub.command(&["token", "create", "e2e", "--role", "admin"]).await?.good()?.trim().to_owned();
        Ok(hub)
    }

    /// Where everything of this hub and its agents is kept.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the HTTP API is.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.http))
    }

    /// Where the HTTP API is over TLS, and devices enrol.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.https))
    }

    /// All that the hub has logged.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("hub.log"))?)
    }

    /// Where agents connect.
    #[must_use]
    pub fn quic(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.quic))
    }

    /// The administrator's token of the tests.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Waits until the hub says that it is ready.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub async fn ready(&mut self) -> Result<()> {
        let at = self.http();
        let mut ticks = tokio::time::interval(POLL);
        let ask = async {
            loop {
                ticks.tick().await;
                self.running.check()?;
                // Refused connections are what is waited out.
                if http::get(at, "/readyz", None).await.is_ok_and(|answer| answer.status == 200) {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(START_MAX, ask).await.context("the hub did not become ready")?
    }

    /// Kills the hub with SIGKILL and starts it again on the same folder and ports.
    ///
    /// # Errors
    /// It does not become ready again.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.start_again().await
    }

    /// Kills the hub with SIGKILL.
    ///
    /// # Errors
    /// It had ended before by itself.
    pub async fn kill(&mut self) -> Result<()> {
        self.running.kill().await
    }

    /// Starts a hub that was killed on the same folder and ports.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.running = launch(self.folder.path(), self.ports, None, &self.settings)?;
        self.ready().await
    }

    /// Runs a `cloud-hub` command beside the hub.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn command(&self, args: &[&str]) -> Result<Said> {
        let data = self.folder.path().join("hub").display().to_string();
        process::run("cloud-hub", &[args, &["--data", &data]].concat()).await
    }

    /// Makes an enrolment token for a device.
    ///
    /// # Errors
    /// The hub refuses.
    pub async fn enroll_token(&self, device: &str, ttl: &str) -> Result<String> {
        let said = self.command(&["enroll-token", "create", "--device", device, "--ttl", ttl]).await?;
        Ok(said.good()?.trim().to_owned())
    }

    /// Asks the API as an administrator and reads the answer as text.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub async fn get(&self, path: &str) -> Result<String> {
        let answer = http::get(self.http(), path, Some(&self.token)).await?;
        ensure!(answer.status == 200, "{path} was answered with {}: {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// The ledger of a device over all epochs; `None` while the hub knows no such device.
    ///
    /// # Errors
    /// No answer, or one that is not a ledger.
    pub async fn ledger(&self, device: &str) -> Result<Option<Ledger>> {
        let answer =
            http::get(self.http(), &format!("/api/v1/devices/{device}/ledger"), Some(&self.token)).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        ensure!(answer.status == 200, "the ledger was answered with {}: {}", answer.status, answer.body);
        let value: Value = serde_json::from_str(&answer.body)?;
        let total = value.get("total").context("a ledger without total")?;
        let number = |name: &str| {
            total.get(name).and_then(Value::as_u64).with_context(|| format!("a ledger without {name}"))
        };
        Ok(Some(Ledger {
            produced: number("produced")?,
            stored: number("stored")?,
            pending: number("pending")?,
            dropped: number("dropped")?,
            refused: number("refused")?,
            lost: number("lost")?,
            balanced: total.get("balanced").and_then(Value::as_bool).context("a ledger without balanced")?,
        }))
    }

    /// Waits until the ledger of `device` says that exactly `rows` readings are stored and balances.
    ///
    /// # Errors
    /// Not within `longest`; the text has the last ledger and the end of the logs.
    pub async fn settled(&self, device: &str, rows: u64, longest: Duration) -> Result<Ledger> {
        let done = |l: &Ledger| l.produced == rows && l.stored == rows && l.pending == 0 && l.balanced;
        let waited =
            until("the ledger", longest, || async { Ok(self.ledger(device).await?.filter(done)) }).await;
        match waited {
            Ok(ledger) => Ok(ledger),
            Err(error) => {
                bail!("{error:#}; {rows} rows wanted, the ledger is {:?}", self.ledger(device).await?)
            }
        }
    }

    /// All readings of a series, page by page: times in ns and values, in the order of the answer.
    ///
    /// # Errors
    /// The hub refuses, or the answer is not as described.
    pub async fn readings(&self, series: &str, limit: usize) -> Result<Vec<(i64, f64)>> {
        let base = format!("/api/v1/query?series={series}&from=0&to=now&limit={limit}");
        let (mut out, mut path) = (Vec::new(), base.clone());
        loop {
            let body = self.get(&path).await?;
            let page = http::raw_page(&body)?;
            ensure!(page.rows.len() <= limit, "a page has {} rows, {limit} were asked for", page.rows.len());
            out.extend(page.rows);
            match page.next {
                Some(next) => path = format!("{base}&cursor={next}"),
                None => return Ok(out),
            }
        }
    }
}

/// The account of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// Readings made, as the agent says.
    pub produced: u64,
    /// Readings on the hub's disk.
    pub stored: u64,
    /// Readings that the agent still holds.
    pub pending: u64,
    /// Readings the agent had to drop.
    pub dropped: u64,
    /// Readings the hub refused.
    pub refused: u64,
    /// Readings nobody can account for.
    pub lost: u64,
    /// Whether all adds up.
    pub balanced: bool,
}

fn launch(
    folder: &Path,
    ports: Ports,
    descriptors: Option<u32>,
    settings: &[(&'static str, String)],
) -> Result<Running> {
    let data = folder.join("hub").display().to_string();
    let local = |port: u16| format!("127.0.0.1:{port}");
    let mut env = vec![
        ("TIDELINE_HTTP_LISTEN", local(ports.http)),
        ("TIDELINE_HTTPS_LISTEN", local(ports.https)),
        ("TIDELINE_QUIC_LISTEN", local(ports.quic)),
        ("TIDELINE_MQTT_LISTEN_TLS", String::new()),
        ("TIDELINE_HUB_PUBLIC_ADDRESS", "127.0.0.1".to_owned()),
    ];
    env.extend_from_slice(settings);
    let (args, log) = (["serve", "--data", &data], folder.join("hub.log"));
    match descriptors {
        Some(most) => Running::start_with_descriptors("cloud-hub", &args, &env, &log, most),
        None => Running::start("cloud-hub", &args, &env, &log),
    }
}

impl Agent {
    /// Enrols an agent with `hub` and starts it with `config` as its file.
    ///
    /// # Errors
    /// The enrolment is refused, or the agent cannot be started.
    pub async fn start(hub: &Hub, device: &str, config: &str) -> Result<Self> {
        Self::launch(Self::prepare(hub, device, config).await?)
    }

    /// Enrols an agent with `hub`, without starting it; the answer is its folder, with its data in `data`.
    ///
    /// # Errors
    /// The enrolment is refused.
    pub async fn prepare(hub: &Hub, device: &str, config: &str) -> Result<PathBuf> {
        let folder = hub.folder().join(device);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("agent.toml"), config)?;
        let token = hub.enroll_token(device, "1h").await?;
        enroll(&folder, &token).await?.good()?;
        Ok(folder)
    }

    /// Starts the agent of a prepared folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(folder: PathBuf) -> Result<Self> {
        let running = launch_agent(&folder)?;
        Ok(Self { folder, running })
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.id()
    }

    /// Kills the agent with SIGKILL and starts it again.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.running.kill().await?;
        self.running = launch_agent(&self.folder)?;
        Ok(())
    }

    /// Has the agent compare what it holds with the hub, until both hold the same; gives what
    /// `edge-agent store verify --against-hub --json` says. A session that broke off meanwhile is no
    /// reason to give up, a difference is.
    ///
    /// # Errors
    /// They do not hold the same, or the hub cannot be asked for longer than `longest`.
    pub async fn agrees(&self, longest: Duration) -> Result<Value> {
        let data = self.folder.join("data").display().to_string();
        let args = ["store", "verify", "--against-hub", "--json", "--data", &data];
        until("an answer about agreement", longest, || async {
            let said = process::run("edge-agent", &args).await?;
            if said.out.is_empty() {
                return Ok(None);
            }
            let report: Value = serde_json::from_str(&said.out)?;
            ensure!(
                said.code == Some(0) && report.get("ok") == Some(&Value::Bool(true)),
                "they do not agree: {report}"
            );
            Ok(Some(report))
        })
        .await
    }

    /// Ends the agent with SIGTERM.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub async fn terminate(mut self, longest: Duration) -> Result<()> {
        self.running.terminate(longest).await
    }
}

fn launch_agent(folder: &Path) -> Result<Running> {
    let (data, config) =
        (folder.join("data").display().to_string(), folder.join("agent.toml").display().to_string());
    Running::start(
        "edge-agent",
        &["run", "--data", &data, "--config", &config],
        &[],
        &folder.join("agent.log"),
    )
}

/// Runs `edge-agent enroll` for the agent in `folder`.
///
/// # Errors
/// It cannot be started.
pub async fn enroll(folder: &Path, token: &str) -> Result<Said> {
    process::run("edge-agent", &["enroll", "--data", &folder.join("data").display().to_string(), "--", token])
        .await
}
