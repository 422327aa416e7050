//! Dead letters that are found after the acknowledgement: the sessions are told, and tell their agents.

use std::time::Duration;

use tideline_protocol::wire::Settlement;
use tokio::time::MissedTickBehavior;

use super::Driver;
use crate::hub::App;

/// How often it is looked for dead letters; an agent counts them as stored until it is told.
const REFUSED_EVERY: Duration = Duration::from_secs(1);

/// Tells the sessions when the store has found dead letters among what was acknowledged, until the
/// hub stops.
pub async fn watch_refused(hub: App) {
    let mut ticks = tokio::time::interval(REFUSED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = hub.stopped() => return,
            _ = ticks.tick() => {}
        }
        let found = hub.store.metrics().dead_letters;
        if found == *hub.refused.borrow() {
            continue;
        }
        // A dead letter is counted before it is in the ledger, and settled when it is.
        let store = hub.store.clone();
        match tokio::task::spawn_blocking(move || store.settle()).await {
            Ok(Ok(())) => {
                hub.refused.send_replace(found);
            }
            Ok(Err(error)) => tracing::error!(%error, "dead letters are not settled"),
            Err(error) => tracing::error!(%error, "dead letters are not settled"),
        }
    }
}

impl Driver {
    /// Tells the agent what was found to be refused after it was acknowledged.
    pub(super) fn tell_refused(&mut self) {
        let Some(epoch) = self.session.epoch() else { return };
        let refused = self.hub.store.agent_state(&self.agent, epoch).settled.refused;
        if !refused.is_empty() {
            self.session.handle_settled(&Settlement { refused, ..Settlement::default() });
        }
    }
}
