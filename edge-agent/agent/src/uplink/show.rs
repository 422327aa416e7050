//! What the uplink shows of itself.

use super::Loop;
use super::chooser::PathView;
use crate::status::{BreakerStatus, PathStatus};

impl Loop {
    /// Shows the session and all paths.
    pub(super) fn show(&self) {
        let paths: Vec<PathStatus> = self.chooser.view().map(shown).collect();
        let used = paths.iter().find(|path| path.carries).or(paths.first()).cloned().unwrap_or_default();
        let open = self.live.as_ref().filter(|live| live.seen.open);
        let rtt_us = open.map(|live| live.seen.rtt_us.unwrap_or(live.stats.rtt_us));
        let switches = self.chooser.switches();
        self.uplink.board.update(|status| {
            if open.is_some() && !status.connected {
                tracing::info!(hub = used.hub, transport = used.transport, "connected");
                status.last_error = None;
            }
            status.connected = open.is_some();
            status.transport = open.map(|_| used.transport);
            status.rtt_ms = rtt_us.map(ms);
            status.hub = used.hub;
            status.breaker = used.breaker;
            status.switches = switches;
            status.paths = paths;
        });
    }

    /// Shows the session's end at once.
    pub(super) fn down(&self, error: Option<String>) {
        self.uplink.board.update(|status| {
            status.connected = false;
            status.transport = None;
            status.rtt_ms = None;
            if error.is_some() {
                status.last_error = error;
            }
        });
    }
}

fn shown(view: PathView<'_>) -> PathStatus {
    PathStatus {
        hub: view.path.hub.clone(),
        transport: view.path.transport.to_string(),
        carries: view.carries,
        breaker: BreakerStatus {
            state: view.circuit.state.name().to_owned(),
            failures: view.circuit.failures,
            wait_ms: view.circuit.wait_ms,
        },
        rtt_ms: view.rtt_us.map(ms),
        loss: f64::from(view.loss_ppm) / 1_000_000.0,
    }
}

fn ms(us: u64) -> f64 {
    f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0
}
