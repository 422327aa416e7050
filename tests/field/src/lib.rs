//! What the tests of sources share: an agent's sources with their supervisors, and this end in the place of the intake,
//! so that a test says what is durable and when.

mod peer;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use edge_agent::cards::{Cards, Following};
use edge_agent::config;
use edge_agent::intake::Chunk;
use edge_agent::source::{Outlets, Shared, Sources, Writes};
use edge_agent::spooler::SpoolHandle;
use edge_agent::status::{Board, DeviceStatus, SourceStatus};
use tempfile::TempDir;
use tideline_protocol::value::{Quality, Value};
use tideline_spool::SpoolConfig;
use tokio::sync::{mpsc, oneshot};

pub use self::peer::Peer;
pub use tideline_e2e::absent::{left_out, python};

/// Longest wait for anything.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Most chunks that wait for a test.
const QUEUE_MAX: usize = 64;

/// A reading as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whose.
    pub device: String,
    /// Of what.
    pub point: String,
    /// Its time, ns since 1970.
    pub time_ns: i64,
    /// Its value.
    pub value: Value,
    /// How far it can be trusted.
    pub quality: Quality,
}

impl Row {
    /// As `device/point`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.device, self.point)
    }
}

/// Sources that run, and what they have handed on.
pub struct Bench {
    dir: TempDir,
    /// Where their state is shown.
    pub board: Board,
    /// The way of writes to devices.
    pub writes: Writes,
    /// What is told of devices.
    pub cards: Following,
    sources: Sources,
    inbox: mpsc::Receiver<Chunk>,
    rows: VecDeque<Row>,
    owed: Vec<oneshot::Sender<()>>,
    // Whether all that comes is told to be durable at once.
    keeps: bool,
}

impl Bench {
    /// One without a source yet.
    ///
    /// # Errors
    /// There is no place for its spool.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let board = Board::default();
        let (spool, _) =
            SpoolHandle::start(dir.path().join("spool.redb"), SpoolConfig::default(), board.clone())?;
        let (out, inbox) = mpsc::channel(QUEUE_MAX);
        let writes = Writes::default();
        let cards = Cards::default();
        let following = cards.follow();
        let shared = Shared {
            own_device: "gateway".parse()?,
            out: Outlets::from(out),
            board: board.clone(),
            spool,
            cards,
            writes: writes.clone(),
        };
        let sources = Sources::new(shared);
        Ok(Self {
            dir,
            board,
            writes,
            cards: following,
            sources,
            inbox,
            rows: VecDeque::new(),
            owed: Vec::new(),
            keeps: true,
        })
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Runs the sources of this configuration from now on, and no others.
    ///
    /// # Errors
    /// It is wrong.
    pub async fn run(&mut self, text: &str) -> Result<()> {
        let path = self.dir.path().join("test.toml");
        std::fs::write(&path, text)?;
        let config = config::Layers { file: Some(path), ..config::Layers::default() }.load()?;
        self.sources.apply(&config.sources).await;
        Ok(())
    }

    /// Ends all sources, as a stop of the agent does. What was not told to be durable never will be.
    pub async fn stop(&mut self) {
        self.sources.apply(&[]).await;
        self.owed.clear();
        while let Ok(chunk) = self.inbox.try_recv() {
            drop(chunk);
        }
        self.rows.clear();
    }

    /// Whether what comes from now on is durable at once, or never.
    pub const fn keep(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// The next reading.
    ///
    /// # Errors
    /// None comes in time; says what the sources' state is.
    pub async fn next(&mut self) -> Result<Row> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Ok(row);
            }
            let next = tokio::time::timeout(WAIT_MAX, self.inbox.recv()).await;
            let Ok(chunk) = next else { bail!("no reading in time: {:?}", self.board.read().sources) };
            let mut chunk = chunk.context("the sources have ended")?;
            if let Some(durable) = chunk.durable.take() {
                if self.keeps {
                    // Who asked may have gone.
                    let _ = durable.send(());
                } else {
                    self.owed.push(durable);
                }
            }
            for (def, samples) in &chunk.rows {
                for sample in samples {
                    let (value, quality) = chunk.boxes.value(sample.value, def.kind());
                    let (device, point) = (def.device.to_string(), def.point.to_string());
                    self.rows.push_back(Row { device, point, time_ns: sample.time_ns, value, quality });
                }
            }
        }
    }

    /// The next reading of `device/point`; those of others before it are left out.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_of(&mut self, name: &str) -> Result<Row> {
        loop {
            let row = self.next().await.with_context(|| format!("waiting for {name}"))?;
            if row.name() == name {
                return Ok(row);
            }
        }
    }

    /// What is shown of a source, once it is as wanted. Readings that come meanwhile are kept for the test.
    ///
    /// # Errors
    /// It does not become so.
    pub async fn until(&self, name: &str, wanted: impl Fn(&SourceStatus) -> bool) -> Result<SourceStatus> {
        tideline_e2e::until(name, WAIT_MAX, || async {
            Ok(self.board.read().sources.get(name).filter(|status| wanted(status)).cloned())
        })
        .await
    }
}

/// What is shown of a device behind a source.
#[must_use]
pub fn device_of<'s>(status: &'s SourceStatus, id: &str) -> Option<&'s DeviceStatus> {
    status.devices.iter().find(|device| device.id == id)
}

/// A script of this package.
#[must_use]
pub fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}
