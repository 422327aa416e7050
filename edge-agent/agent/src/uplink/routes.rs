//! The ways to the hub, as configuration and enrolment name them.

use std::time::Duration;

use tideline_link::link::Transport;

use crate::config::Config;
use crate::identity::IdentityFile;

/// A way to a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// host:port of the hub.
    pub hub: String,
    /// What carries the session.
    pub transport: Transport,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.transport, self.hub)
    }
}

/// All ways, the best first, and how often a better one than that in use is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// The ways.
    pub paths: Vec<Path>,
    /// Between two probes.
    pub probe_every: Duration,
}

impl Routes {
    /// By QUIC to `hubs`, the best first.
    #[must_use]
    pub fn quic(hubs: &[&str]) -> Self {
        let path = |hub: &&str| Path { hub: (*hub).to_owned(), transport: Transport::Quic };
        Self { paths: hubs.iter().map(path).collect(), probe_every: PROBE_EVERY }
    }

    /// As the configuration says, or else as enrolled.
    #[must_use]
    pub fn of(config: &Config, enrolled: &IdentityFile) -> Self {
        let mut hubs: Vec<&str> = config.hubs.iter().map(String::as_str).collect();
        if hubs.is_empty() {
            hubs.push(&enrolled.quic);
        }
        let routes = Self::quic(&hubs);
        Self { probe_every: Duration::from_secs(config.probe_interval_s), ..routes }
    }
}

/// Between two probes, unless configured otherwise.
const PROBE_EVERY: Duration = Duration::from_secs(30);
