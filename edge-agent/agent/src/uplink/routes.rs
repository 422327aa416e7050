//! The ways to the hub, as configuration and enrolment name them.

use std::time::Duration;

use tideline_link::link::Transport;

use crate::config::Config;
use crate::identity::IdentityFile;

/// A way to a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// host:port of the hub; of a broker its URL, without a password.
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
        let mqtt: Vec<&str> = match config.mqtt.as_slice() {
            [] => enrolled.mqtt.as_deref().into_iter().collect(),
            [off] if off == OFF => Vec::new(),
            addresses => addresses.iter().map(String::as_str).collect(),
        };
        let of = |addresses: &[&str], transport| -> Vec<Path> {
            addresses.iter().map(|hub| Path { hub: (*hub).to_owned(), transport }).collect()
        };
        let (mut quic, mut mqtt) =
            (of(&hubs, Transport::Quic).into_iter(), of(&mqtt, Transport::Mqtt).into_iter());
        let mut paths = Vec::new();
        // The first hub by both comes before the second by either.
        loop {
            let pair = [quic.next(), mqtt.next()];
            if pair.iter().all(Option::is_none) {
                // A broker stands between and comes last.
                let broker = config.broker.iter().map(ToString::to_string);
                paths.extend(broker.map(|hub| Path { hub, transport: Transport::Mqtt }));
                return Self { paths, probe_every: Duration::from_secs(config.probe_interval_s) };
            }
            paths.extend(pair.into_iter().flatten());
        }
    }
}

/// In place of an MQTT address: none.
const OFF: &str = "off";
/// Between two probes, unless configured otherwise.
const PROBE_EVERY: Duration = Duration::from_secs(30);
