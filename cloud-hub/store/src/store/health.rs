//! Whether an open store does its work, check by check.

use std::sync::atomic::Ordering;

use super::{Inner, Store};
use crate::log::lock;
use crate::tables::Unwritten;

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckState {
    /// All is well.
    Fine,
    /// An operator should look; the store does its work.
    Degraded(String),
    /// The store does not do its work.
    Failed(String),
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The stable name.
    pub name: &'static str,
    /// What it says.
    pub state: CheckState,
}

/// All checks of a store: `writer`, `decoder`, `flusher`, `reopener` (the threads), `log`, `flush`,
/// `files`, `retention`, `letters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// In a fixed order.
    pub checks: Vec<Check>,
}

impl Health {
    /// Whether no check failed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.checks.iter().any(|check| matches!(check.state, CheckState::Failed(_)))
    }
}

/// The threads without which the store does not work; the one that compares checksums ends by itself.
const THREADS: [(&str, &str); 4] = [
    ("writer", "store-log"),
    ("decoder", "store-decode"),
    ("flusher", "store-flush"),
    ("reopener", "store-reopen"),
];

impl Inner {
    fn thread(&self, thread: &str) -> CheckState {
        let alive = lock(&self.threads)
            .iter()
            .any(|handle| handle.thread().name() == Some(thread) && !handle.is_finished());
        if alive { CheckState::Fine } else { CheckState::Failed("the thread has ended".to_owned()) }
    }

    fn log(&self) -> CheckState {
        if self.shared.counters.poisoned.load(Ordering::Relaxed) {
            let reason = "a write failed; nothing is taken until the log is reopened";
            return CheckState::Failed(reason.to_owned());
        }
        CheckState::Fine
    }

    fn flushed(&self) -> CheckState {
        lock(&self.shared.flush_error).clone().map_or(CheckState::Fine, CheckState::Degraded)
    }

    fn letters(&self) -> CheckState {
        let Some(Unwritten { letters, error, holds }) = lock(&self.shared.unwritten).clone() else {
            return CheckState::Fine;
        };
        let told = format!("{letters} dead letters cannot be written: {error}");
        if holds {
            return CheckState::Failed(format!("{told}; nothing more is taken in until they are"));
        }
        CheckState::Degraded(format!("{told}; what they hold stays in the log, and it is tried again"))
    }

    fn retention(&self) -> CheckState {
        lock(&self.shared.retention_error).clone().map_or(CheckState::Fine, CheckState::Degraded)
    }

    fn files(&self) -> CheckState {
        if lock(&self.shared.unsettled).is_some() {
            let reason = "sealed files are not merged until the manifest, which could not be written, has been read again";
            return CheckState::Degraded(reason.to_owned());
        }
        if let Some(error) = lock(&self.shared.merge_error).as_ref() {
            return CheckState::Degraded(format!("sealed files cannot be merged: {error}"));
        }
        match self.shared.counters.damaged_files.load(Ordering::Relaxed) {
            0 => CheckState::Fine,
            files => CheckState::Degraded(format!("{files} files were found damaged since the start")),
        }
    }
}

impl Store {
    /// The checks, each at once and without a look at the disk.
    #[must_use]
    pub fn health(&self) -> Health {
        let threads = THREADS.map(|(name, thread)| Check { name, state: self.inner.thread(thread) });
        let others = [
            Check { name: "log", state: self.inner.log() },
            Check { name: "flush", state: self.inner.flushed() },
            Check { name: "files", state: self.inner.files() },
            Check { name: "retention", state: self.inner.retention() },
            Check { name: "letters", state: self.inner.letters() },
        ];
        Health { checks: threads.into_iter().chain(others).collect() }
    }
}
