//! How much of the log is kept for jobs that have not read it yet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tideline_store::Store;

use super::Jobs;
use crate::hub::App;

/// Bytes of the log that are kept for jobs which have not read them, as while they are paused. What is older is lost
/// for them, and counted.
pub const LOG_BYTES_MAX: u64 = 1 << 30;
/// How often it is looked how much of the log is kept.
const HOLD_EVERY: Duration = Duration::from_secs(5);

impl Jobs {
    /// Has the store keep what of its log the jobs have not read.
    pub(super) fn hold(&self, store: &Store) {
        let all = self.all();
        let oldest = all.values().map(|entry| entry.held.load(Ordering::Acquire)).min().unwrap_or(u64::MAX);
        let from = if oldest == u64::MAX { oldest } else { oldest.max(affordable(store, LOG_BYTES_MAX)) };
        store.hold_log(from);
    }
}

/// The oldest segment of the log with which the newer ones are not more than so many bytes.
fn affordable(store: &Store, most: u64) -> u64 {
    let segments = store.log_segments().unwrap_or_default();
    let mut bytes = 0_u64;
    let mut oldest = u64::MAX;
    for (number, length) in segments.into_iter().rev() {
        bytes = bytes.saturating_add(length);
        if bytes > most && oldest < u64::MAX {
            break;
        }
        oldest = number;
    }
    if oldest == u64::MAX { 0 } else { oldest }
}

/// Keeps of the log what jobs need, and no more than they may, until the hub stops.
pub async fn watch(hub: App) {
    loop {
        tokio::select! {
            () = hub.stopped() => return,
            () = tokio::time::sleep(HOLD_EVERY) => {}
        }
        if !hub.jobs.all().is_empty() {
            let app = Arc::clone(&hub);
            let _held = tokio::task::spawn_blocking(move || app.jobs.hold(&app.store)).await;
        }
    }
}
