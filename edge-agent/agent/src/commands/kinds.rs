//! The kinds of commands and what carries them out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tideline_protocol::commands::{Ended, Repeat, errors};
use tideline_protocol::model::PointId;
use tideline_protocol::wire::{Command, CommandError};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::News;
use crate::config::Jobs;
use crate::logs::Recent;
use crate::reload::Asker;
use crate::source::{Patience, WriteError, Writes};
use crate::sync::Syncer;
use crate::write::scalar;

/// Longest that a command waits for the hub to have all, where it says nothing else.
const SYNC_TIMEOUT_MS: u64 = 60_000;
/// Longest that any command may wait.
const TIMEOUT_MAX_MS: u64 = 60 * 60 * 1000;
/// Lines of the log where nobody says how many, and most.
const LINES: usize = 200;
const LINES_MAX: usize = 2_000;

/// The kinds that there are.
pub(crate) const KINDS: [&str; 9] =
    ["write", "read", "sync", "reload", "restart", "logs", "http", "run", "export"];

/// Has the agent's process start again; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Restart(Arc<(AtomicBool, Notify)>);

impl Restart {
    /// Asks for it.
    fn ask(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.notify_one();
    }

    /// Whether somebody has asked for it.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    /// Returns when somebody has. Cancel safe.
    pub async fn asked(&self) {
        self.0.1.notified().await;
    }
}

/// What commands are carried out with.
pub struct Hands {
    /// The way to devices.
    pub writes: Writes,
    /// Brings what is pending to the hub.
    pub syncer: Syncer,
    /// Has the configuration read again.
    pub reload: Asker,
    /// Has the process start again, where it can.
    pub restart: Option<Restart>,
    /// The newest lines of the log.
    pub logs: Recent,
    /// What commands may do.
    pub jobs: watch::Receiver<Arc<Jobs>>,
    /// The hub's time.
    pub hub_ahead: HubAhead,
}

/// By how much the hub's wall clock is ahead of the monotonic one here, ns; none until a hub has told the time since the machine
/// started.
#[derive(Debug, Default)]
pub struct HubAhead(Mutex<Option<i64>>);

impl HubAhead {
    /// As it was told last.
    #[must_use]
    pub fn ns(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is told anew.
    pub fn learn(&self, ahead_ns: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead_ns);
    }
}

/// What becomes of a command that was begun when the agent ended.
pub(crate) fn repeat(kind: &str) -> Repeat {
    match kind {
        "sync" | "reload" | "read" => Repeat::Again,
        "restart" => Repeat::Done,
        _ => Repeat::Never,
    }
}

/// A command that was begun.
pub(crate) struct Run {
    pub command: Command,
    /// Until its deadline.
    pub left: Duration,
    pub aborted: Option<oneshot::Receiver<()>>,
    pub news: mpsc::Sender<News>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteInput {
    point: String,
    value: serde_json::Value,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncInput {
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsInput {
    lines: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoInput {}

/// Returns when it is to be broken off; for ever when nobody asks for that.
async fn asked(aborted: Option<oneshot::Receiver<()>>) {
    if let Some(aborted) = aborted
        && aborted.await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

impl Run {
    /// Carries it out. Dropped, it is broken off; a write may be done all the same.
    pub async fn carry_out(mut self, hands: &Hands) -> Ended {
        let aborted = self.aborted.take();
        let ended = match self.command.kind.as_str() {
            // A device that was asked is not asked back: its answer comes soon, and says how it ended.
            "write" => self.write(hands).await,
            "restart" => self.restart(hands).await,
            _ => tokio::select! {
                ended = self.carry_out_or_break_off(hands) => ended,
                () = asked(aborted) => Ok(Ended::Aborted),
            },
        };
        ended.unwrap_or_else(Ended::Failed)
    }

    /// The kinds that can be broken off, which they are when this is dropped.
    async fn carry_out_or_break_off(&self, hands: &Hands) -> Result<Ended, CommandError> {
        match self.command.kind.as_str() {
            "read" => self.read(hands).await,
            "sync" => self.sync(hands).await,
            "reload" => self.reload(hands).await,
            "logs" => self.logs(hands).await,
            "http" => self.request(hands).await,
            "run" => self.run(hands).await,
            "export" => self.export(hands).await,
            other => {
                let text = format!("this agent knows no {other:?}; it knows {}", KINDS.join(", "));
                Err(CommandError::new(errors::UNKNOWN_KIND, text))
            }
        }
    }

    pub(super) fn input<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        serde_json::from_slice(&self.command.input).map_err(|error| {
            let told = error.to_string();
            // Where it is in the one line that came says nothing to those who sent it in parts.
            let told = match told.rsplit_once(" at line ") {
                _ if !self.command.input.trim_ascii_start().starts_with(b"{") => "it is no object",
                Some((what, _)) => what,
                None => &told,
            };
            CommandError::new(errors::BAD_INPUT, format!("input of {}: {told}", self.command.kind))
        })
    }

    /// How long it may wait: as it says, but not for ever.
    pub(super) fn timeout(wanted_ms: Option<u64>, usual: Duration) -> Duration {
        wanted_ms.map_or(usual, |ms| Duration::from_millis(ms.min(TIMEOUT_MAX_MS)))
    }

    async fn write(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let WriteInput { point, value, timeout_ms } = self.input()?;
        let wrong = |text: String| CommandError::new(errors::BAD_INPUT, text);
        let point = PointId::parse(&point).map_err(|error| wrong(error.to_string()))?;
        let allowed = || wrong(format!("value: {value} is none; allowed are true, false, numbers and texts"));
        let value = scalar(&value).ok_or_else(allowed)?;
        let asked = timeout_ms.map(|ms| Duration::from_millis(ms.min(TIMEOUT_MAX_MS)));
        let patience = Patience::from(asked).at_most(self.left);
        match hands.writes.write(&self.command.device, &point, value, patience).await {
            Ok(()) => Ok(Ended::Succeeded(None)),
            Err(error) => {
                let code = match &error {
                    WriteError::NoDevice(_) => errors::UNAVAILABLE,
                    WriteError::Busy(_) | WriteError::Late { .. } => errors::BUSY,
                    WriteError::NoProfile(_) | WriteError::Rejected(_) => errors::NOT_ALLOWED,
                    WriteError::NotDone(_) => errors::FAILED,
                    WriteError::Unknown(_) => errors::UNKNOWN,
                };
                Err(CommandError::new(code, error))
            }
        }
    }

    async fn sync(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let SyncInput { timeout_ms } = self.input()?;
        let report =
            hands.syncer.run(Self::timeout(timeout_ms, Duration::from_millis(SYNC_TIMEOUT_MS))).await;
        if report.reached {
            return Ok(Ended::Succeeded(serde_json::to_vec(&report).ok()));
        }
        Err(CommandError::new(errors::TIMEOUT, report))
    }

    async fn reload(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let NoInput {} = self.input()?;
        let ended = || CommandError::new(errors::UNAVAILABLE, "the agent is ending");
        let config = hands.reload.reload().await.ok_or_else(ended)?;
        match &config.error {
            Some(error) => Err(CommandError::new(errors::FAILED, error)),
            None => Ok(Ended::Succeeded(serde_json::to_vec(&config).ok())),
        }
    }

    /// Ends with the process: what is noted as begun is told as done by the next one.
    async fn restart(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let NoInput {} = self.input()?;
        let none = || {
            CommandError::new(
                errors::NOT_ALLOWED,
                "the agent is part of another program, which it cannot start again",
            )
        };
        hands.restart.as_ref().ok_or_else(none)?.ask();
        std::future::pending().await
    }

    async fn logs(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let LogsInput { lines } = self.input()?;
        for line in hands.logs.tail(lines.unwrap_or(LINES).min(LINES_MAX)) {
            let bytes = format!("{line}\n").into_bytes();
            // Nobody hears it when the agent ends.
            let _ended = self.news.send(News::Output(self.command.id, bytes)).await;
        }
        Ok(Ended::Succeeded(None))
    }
}
