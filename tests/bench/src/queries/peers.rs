//! VictoriaMetrics and InfluxDB, as Debian has them: started on loopback with their own defaults, in a folder that goes.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tideline_e2e::process::Running;
use tideline_e2e::{free_port, until};

use super::client::{Ask, Client};
use crate::path::memory_mb;
use crate::store::PATIENCE;

/// How many looks in a row find the disk as it was, when a peer is at rest: 15 s of them.
const REST_TURNS: u32 = 300;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Victoria,
    Influx,
}

impl Which {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Victoria => "VictoriaMetrics",
            Self::Influx => "InfluxDB",
        }
    }

    const fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::Victoria => ("victoria-metrics", "victoria-metrics"),
            Self::Influx => ("influxdb", "influxd"),
        }
    }

    /// Its program: installed, or out of Debian's package, unpacked into the folder of the figures.
    pub fn program(self, folder: &Path) -> anyhow::Result<PathBuf> {
        let (package, program) = self.package();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let unpacked = folder.join("peers");
        let places: Vec<PathBuf> = std::env::split_paths(&path).chain([unpacked.join("usr/bin")]).collect();
        let find = || places.iter().map(|place| place.join(program)).find(|path| path.is_file());
        if let Some(found) = find() {
            return Ok(found);
        }
        let missing = || format!("{program} is missing and cannot be had: sudo apt-get install {package}");
        std::fs::create_dir_all(&unpacked)?;
        let got = Command::new("apt-get").args(["-qq", "download", package]).current_dir(&unpacked).status();
        anyhow::ensure!(got.is_ok_and(|status| status.success()), missing());
        for entry in std::fs::read_dir(&unpacked)? {
            let file = entry?.path();
            if file.extension().is_some_and(|kind| kind == "deb") {
                Command::new("dpkg").arg("-x").arg(&file).arg(&unpacked).status()?;
            }
        }
        find().with_context(missing)
    }
}

/// A server that runs; it ends with this.
pub struct Peer {
    pub which: Which,
    folder: TempDir,
    running: Running,
    at: SocketAddr,
}

/// What the files in a folder take of the disk.
pub fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        // Some are longer than what was ever written into them.
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

impl Peer {
    pub async fn start(which: Which, figures: &Path) -> anyhow::Result<Self> {
        let program = which.program(figures)?;
        let folder = tempfile::tempdir_in(".")?;
        let (at, other) = (free_port()?, free_port()?);
        let data = folder.path().canonicalize()?;
        let log = data.join("log");
        let running = match which {
            Which::Victoria => {
                let (address, storage) = (
                    format!("-httpListenAddr=127.0.0.1:{at}"),
                    format!("-storageDataPath={}", data.join("data").display()),
                );
                // Points of an answer are bounded to as many as the questions ask for.
                let args = [&*address, &storage, "-retentionPeriod=100y", "-search.latencyOffset=0s"];
                Running::start_system(&program, &args, &log)?
            }
            Which::Influx => {
                let of = |name: &str| data.join(name).display().to_string();
                let config = format!(
                    "reporting-disabled = true\nbind-address = \"127.0.0.1:{other}\"\n[meta]\ndir = {:?}\n[data]\ndir = {:?}\nwal-dir = {:?}\nquery-log-enabled = false\ncache-max-memory-size = 0\ncache-snapshot-write-cold-duration = \"5s\"\ncompact-full-write-cold-duration = \"5s\"\n[http]\nbind-address = \"127.0.0.1:{at}\"\nlog-enabled = false\nmax-body-size = 0\n[monitor]\nstore-enabled = false\n",
                    of("meta"),
                    of("data"),
                    of("wal")
                );
                std::fs::write(data.join("influx.conf"), config)?;
                Running::start_system(&program, &["-config", &of("influx.conf")], &log)?
            }
        };
        let mut peer = Self { which, folder, running, at: SocketAddr::from((Ipv4Addr::LOCALHOST, at)) };
        let path = if which == Which::Victoria { "/health" } else { "/ping" };
        until("a peer", PATIENCE, || async {
            let asked = async { Client::connect(peer.at, None).await?.ask(&Ask::get(path)).await };
            Ok(asked.await.ok())
        })
        .await
        .with_context(|| peer.running.log_end())?;
        peer.running.check()?;
        if which == Which::Influx {
            peer.client()
                .await?
                .ask(&Ask::post("/query?q=create%20database%20bench", "text/plain", ""))
                .await?;
        }
        Ok(peer)
    }

    pub async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.at, None).await
    }

    pub const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Where line protocol is written to.
    pub const fn write_path(&self) -> &'static str {
        match self.which {
            Which::Victoria => "/write?precision=ns",
            Which::Influx => "/write?db=bench&precision=ns",
        }
    }

    /// Returns when what was written can be queried, and merged as far as it can be asked to.
    pub async fn settle(&self) -> anyhow::Result<()> {
        if self.which == Which::Victoria {
            let mut client = self.client().await?;
            client.ask(&Ask::get("/internal/force_flush")).await?;
            client.ask(&Ask::get("/internal/force_merge")).await?;
        }
        // Merges end in the background: until the size on the disk rests.
        let before = std::cell::Cell::new((0, 0_u32));
        until("a peer at rest", PATIENCE, || async {
            let (bytes, times) = before.get();
            let now = bytes_in(self.folder.path());
            before.set((now, if now == bytes { times + 1 } else { 0 }));
            Ok((times >= REST_TURNS).then_some(()))
        })
        .await
    }

    pub fn disk_bytes(&self) -> u64 {
        bytes_in(self.folder.path())
    }

    pub fn resident_mb(&self) -> anyhow::Result<f64> {
        memory_mb(self.running.id().context("it has ended")?, "VmHWM")
    }

    /// Ends it.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.running.terminate(Duration::from_secs(60)).await
    }
}
