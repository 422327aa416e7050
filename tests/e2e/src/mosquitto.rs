//! Debian's mosquitto: a broker that nobody trusts, and clients that are not ours.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::net::TcpStream;

use crate::process::{Running, Said, run_system};
use crate::{free_port, until};

/// Longest wait for the broker to listen.
const START_MAX: Duration = Duration::from_secs(30);

/// A broker without any memory: with its process its sessions are gone.
#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    port: u16,
    // More lines of its configuration.
    more: String,
    running: Running,
}

/// Where a program of mosquitto's is.
///
/// # Errors
/// It is not installed; the text says how to.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has the broker where only root looks.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "{name} is missing: `make setup` as root, or sudo apt-get install mosquitto mosquitto-clients"
        )
    })
}

/// Runs `mosquitto_pub` or `mosquitto_sub` to its end.
///
/// # Errors
/// It is not installed or does not end.
pub async fn client(name: &str, args: &[&str]) -> Result<Said> {
    run_system(&program(name)?, args).await
}

impl Broker {
    /// Starts one on a free port of loopback, with its files in `folder`. It lets everybody in.
    ///
    /// # Errors
    /// It is not installed, or does not listen in time.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_as(folder, String::new()).await
    }

    /// As [`Self::start`], with TLS: its certificate for `127.0.0.1` is of `authority`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_tls(folder: &Path, authority: &CertificateAuthority) -> Result<Self> {
        let now_s = SystemClock::default().wall_ns() / 1_000_000_000;
        let own = authority.issue_server(&["127.0.0.1".to_owned()], now_s)?;
        let [chain, key] = ["broker-chain.pem", "broker-key.pem"].map(|name| folder.join(name));
        std::fs::write(&chain, own.chain_pem)?;
        std::fs::write(&key, own.key_pem)?;
        let more = format!("certfile {}\nkeyfile {}\n", chain.display(), key.display());
        Self::start_as(folder, more).await
    }

    async fn start_as(folder: &Path, more: String) -> Result<Self> {
        let port = free_port()?;
        let running = launch(folder, port, &more)?;
        let mut broker = Self { folder: folder.to_owned(), port, more, running };
        broker.ready().await?;
        Ok(broker)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Kills it with SIGKILL and starts it again on the same port.
    ///
    /// # Errors
    /// It does not listen again.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.running.kill().await?;
        self.running = launch(&self.folder, self.port, &self.more)?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let address = self.address();
        until("the broker", START_MAX, || async { Ok(TcpStream::connect(address).await.ok().map(drop)) })
            .await?;
        self.running.check()
    }
}

fn launch(folder: &Path, port: u16, more: &str) -> Result<Running> {
    let config = folder.join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\n{more}allow_anonymous true\npersistence false\n");
    std::fs::write(&config, text)?;
    let args = ["-c", &config.display().to_string()];
    Running::start_system(&program("mosquitto")?, &args, &folder.join("mosquitto.log"))
}
