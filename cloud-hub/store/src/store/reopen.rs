//! Brings the log back after a failed write: again and again, with growing pauses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::Inner;
use super::threads::Command;
use crate::config::StoreError;
use crate::log::lock;
use crate::tables::Shared;

/// The longest pause between two attempts.
pub const LOG_RETRY_MAX: Duration = Duration::from_secs(30);

/// Has the writer reopen its log whenever a write failed. The pause starts anew only when something
/// was written since: a disk that fails at every write is not asked every second.
pub fn run_reopener(shared: &Arc<Shared>, inner: &Weak<Inner>, pause_min: Duration) {
    let signal = &shared.signal;
    let written = || shared.counters.log_bytes.load(Ordering::Relaxed);
    let (mut pause, mut written_before) = (pause_min, written());
    loop {
        {
            let idle = signal.changed.wait_while(lock(&signal.state), |s| !s.stop && !s.poisoned);
            let state = idle.unwrap_or_else(PoisonError::into_inner);
            if written() != written_before {
                (pause, written_before) = (pause_min, written());
            }
            let waited = signal.changed.wait_timeout_while(state, pause, |s| !s.stop && s.poisoned);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stop {
                return;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        pause = pause.saturating_mul(2).min(LOG_RETRY_MAX);
        match inner.urge(|reply| Command::Reopen { reply }) {
            Ok(()) => tracing::info!("the log was reopened after a failed write"),
            Err(StoreError::Closed) => return,
            Err(error) => tracing::error!(%error, ?pause, "the log cannot be reopened; it is tried again"),
        }
    }
}
