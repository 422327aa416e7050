//! What the service manager is told of the agent, over systemd's notification protocol. Without a service
//! manager that wants to hear it, nothing is told to anybody.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{interval, timeout};

use crate::spooler::SpoolHandle;

/// The agent has started.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The agent reads its configuration again; [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for the service manager"),
    }
}

/// The agent ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the service manager again and again that the agent is alive, if it wants to know. Alive is who can run a
/// task and gets an answer of the spool's thread: without these no reading is kept. One source is not the
/// agent, and has a watchdog of its own.
pub async fn keep_alive(spool: SpoolHandle) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    // As sd_watchdog_enabled(3) recommends: twice in the time that it may take.
    let period = (limit / 2).max(Duration::from_millis(1));
    let mut ticks = interval(period);
    loop {
        ticks.tick().await;
        match timeout(limit, spool.cursor("")).await {
            // One whose disk fails answers, and is opened again: a restart of the agent would not help it.
            Ok(_) => tell(&[NotifyState::Watchdog]),
            Err(_) => tracing::error!(
                "the spool's thread does not answer; the service manager is not told that all is well"
            ),
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
