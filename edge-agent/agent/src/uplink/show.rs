//! What the uplink shows of itself.

use tideline_link::link::Transport;
use tideline_protocol::wire::{ADDRESS_BYTES_MAX, Breaker, Carrier, Health, WAYS_MAX, WayHealth};

use super::Loop;
use super::chooser::PathView;
use crate::resilience::BreakerState;
use crate::status::{BreakerStatus, ClockStatus, PathStatus};

/// Least time between two words to the hub about the ways.
const HEALTH_MIN_NS: u64 = 1_000_000_000;
/// How often the hub is told figures that move all the time; few, as each costs wire bytes.
const HEALTH_EVERY_NS: u64 = 60_000_000_000;

/// Before the first look.
pub(super) const NO_HEALTH: Health =
    Health { ways: Vec::new(), switches: 0, spool_bytes: 0, spool_quota_bytes: 0 };

impl Loop {
    /// Shows the session and all paths.
    pub(super) fn show(&self) {
        let paths: Vec<PathStatus> = self.chooser.view().map(shown).collect();
        let used = paths.iter().find(|path| path.carries).or(paths.first()).cloned().unwrap_or_default();
        let open = self.live.as_ref().filter(|live| live.seen.open && !self.chooser.is_silent());
        let rtt_us = open.map(|live| live.seen.rtt_us.unwrap_or(live.stats.rtt_us));
        let switches = self.chooser.switches();
        let clock = self.live.as_ref().and_then(|live| live.seen.clock);
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
            if let Some((offset_ns, uncertainty_ns)) = clock {
                status.clock = ClockStatus::measured(offset_ns, uncertainty_ns);
            }
            status.paths = paths;
        });
    }

    /// Has the session tell the hub how the ways fare, when that has changed or not been told for long.
    pub(super) fn tell_health(&mut self, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(self.health_ns);
        if since_ns < HEALTH_MIN_NS && !self.health.borrow().ways.is_empty() {
            return;
        }
        let spool = self.uplink.board.read().spool;
        let health = Health {
            ways: self.chooser.view().take(WAYS_MAX).map(told).collect(),
            switches: self.chooser.switches(),
            spool_bytes: spool.bytes,
            spool_quota_bytes: spool.quota_bytes,
        };
        let told = self.health.send_if_modified(|old| {
            let changed = since_ns >= HEALTH_EVERY_NS || !alike(old, &health);
            if changed {
                *old = health;
            }
            changed
        });
        if told {
            self.health_ns = now_ns;
        }
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

fn told(view: PathView<'_>) -> WayHealth {
    let most = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut address = view.path.hub.clone();
    // No name that resolves is longer.
    while address.len() > ADDRESS_BYTES_MAX {
        address.pop();
    }
    WayHealth {
        address,
        carrier: match view.path.transport {
            Transport::Quic => Carrier::Quic,
            Transport::Mqtt => Carrier::Mqtt,
        },
        carries: view.carries,
        breaker: match view.circuit.state {
            BreakerState::Closed => Breaker::Closed,
            BreakerState::Open => Breaker::Open,
            BreakerState::HalfOpen => Breaker::HalfOpen,
        },
        failures: view.circuit.failures,
        wait_ms: most(view.circuit.wait_ms),
        rtt_us: view.rtt_us.map(most),
        loss_ppm: view.loss_ppm,
    }
}

/// Whether two words differ in nothing but figures that move all the time.
fn alike(a: &Health, b: &Health) -> bool {
    let fixed = |health: &Health| -> Vec<_> {
        let way =
            |way: &WayHealth| (way.address.clone(), way.carrier, way.carries, way.breaker, way.failures);
        health.ways.iter().map(way).collect()
    };
    a.switches == b.switches && fixed(a) == fixed(b)
}

fn ms(us: u64) -> f64 {
    f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0
}
