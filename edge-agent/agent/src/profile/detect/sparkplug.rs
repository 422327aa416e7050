//! Nodes of Sparkplug B at a broker, by what they tell while it listens. Nothing is written, so none of them is asked for its birth: of
//! one that was born before, nobody knows its metrics before an agent asks it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tideline_link::mqtt::BrokerUrl;
use tideline_protocol::time::Clock as _;
use tokio::time::{Instant, timeout_at};

use crate::clock::AgentClock;
use crate::source::mqtt::line::{Broker, Line, Opening};
use crate::source::sparkplug::payload::Payload;
use crate::source::sparkplug::topic::Topic;

/// What all nodes tell.
const FILTER: &str = "spBv1.0/#";
/// Most nodes and devices that are remembered.
const NODES_MAX: usize = 10_000;

/// What was heard of a node, or of a device behind one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// The metrics of its birth; none where it was not born while somebody listened.
    pub metrics: Option<usize>,
    /// How often it told values.
    pub told: u64,
}

/// All that were heard, by group/node or group/node/device.
#[derive(Debug, Default)]
pub struct Nodes(pub BTreeMap<String, Heard>);

impl Nodes {
    fn take(&mut self, topic: &str, payload: &[u8]) {
        let Some(topic) = Topic::parse(topic) else { return };
        let is_birth = matches!(topic.verb, "NBIRTH" | "DBIRTH");
        if !is_birth && !matches!(topic.verb, "NDATA" | "DDATA") {
            return;
        }
        let address = topic.address();
        if self.0.len() >= NODES_MAX && !self.0.contains_key(&address) {
            return;
        }
        let heard = self.0.entry(address).or_default();
        if is_birth {
            heard.metrics = Payload::read(payload).ok().map(|payload| payload.metrics.len());
        } else {
            heard.told += 1;
        }
    }

    /// Their groups, each once.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = self.0.keys().filter_map(|address| address.split('/').next()).collect();
        groups.dedup();
        groups
    }
}

/// Listens for so long.
///
/// # Errors
/// The broker is not reached, or does not let this end in.
pub async fn look(url: &str, ca_file: Option<PathBuf>, listen: Duration) -> anyhow::Result<Nodes> {
    let url: BrokerUrl = url.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let broker = Broker { url, ca_file, client_id: String::new(), keeps_session: false };
    let clock = AgentClock::default();
    let client_id = format!("tideline-detect-{}-{}", std::process::id(), clock.mono_ns());
    let filters = [FILTER.to_owned()];
    let mut line = Line::open(Opening { broker: &broker, client_id, filters: &filters, former: &[] }).await?;
    let (until, mut nodes) = (Instant::now() + listen, Nodes::default());
    while let Ok(message) = timeout_at(until, line.next()).await {
        let message = message.map_err(|error| anyhow::anyhow!("{error}"))?;
        nodes.take(&message.topic, &message.payload);
        line.acknowledge(&message).await?;
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_devices_are_known_by_births_and_data_and_nothing_else() {
        let mut nodes = Nodes::default();
        for topic in [
            "spBv1.0/plant/NBIRTH/edge",
            "spBv1.0/plant/NDATA/edge",
            "spBv1.0/plant/DDATA/edge/pump",
            "spBv1.0/plant/NDEATH/gone",
            "spBv1.0/STATE/host",
            "spBv1.0/yard/NCMD/other",
            "spBv1.0/yard/NDATA/gate",
        ] {
            nodes.take(topic, &[]);
        }
        let heard = |metrics, told| Heard { metrics, told };
        let all: Vec<_> = nodes.0.iter().map(|(address, heard)| (address.as_str(), heard.clone())).collect();
        let expected = [
            ("plant/edge", heard(Some(0), 1)),
            ("plant/edge/pump", heard(None, 1)),
            ("yard/gate", heard(None, 1)),
        ];
        assert_eq!(all, expected);
        assert_eq!(nodes.groups(), ["plant", "yard"]);
    }
}
