//! Devices that publish at a broker, known by their topics and messages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tideline_link::mqtt::BrokerUrl;
use tideline_profiles::detect::{Said, Signs};
use tideline_profiles::json::Mapping;
use tideline_profiles::{Profile, Protocol};
use tideline_protocol::time::Clock as _;
use tokio::time::{Instant, timeout_at};

use super::Found;
use crate::clock::AgentClock;
use crate::source::SourceError;
use crate::source::directory::{Directory, Message};
use crate::source::mqtt::Speech as _;
use crate::source::mqtt::line::{Broker, Line, Opening};
use crate::source::sheets::Sheets;

/// Most devices of which is remembered what they have shown.
const DEVICES_MAX: usize = 10_000;

/// What devices have shown of what tells families.
struct Shown {
    families: Vec<(String, Vec<Said>)>,
    // By the name that topics have: of which family which sign.
    by_device: BTreeMap<String, BTreeSet<(usize, usize)>>,
}

impl Shown {
    fn of(families: &[Arc<Profile>]) -> Self {
        let of = |profile: &Arc<Profile>| match Signs::of(profile) {
            Some(Signs::Messages(said)) => Some((profile.name().to_owned(), said)),
            _ => None,
        };
        Self { families: families.iter().filter_map(of).collect(), by_device: BTreeMap::new() }
    }

    fn take(&mut self, topic: &str, payload: &[u8]) {
        for (family, (_, said)) in self.families.iter().enumerate() {
            for (at, sign) in said.iter().enumerate() {
                let Some(device) = sign.shown(topic, payload) else { continue };
                if self.by_device.len() < DEVICES_MAX || self.by_device.contains_key(device) {
                    self.by_device.entry(device.to_owned()).or_default().insert((family, at));
                }
            }
        }
    }

    /// The families that a device may be of, the nearest first: those all of whose signs it has shown, and behind them one
    /// that has none and by which it can be read.
    fn families(&self, device: &str, read_by: &str) -> Vec<String> {
        let shown = self.by_device.get(device);
        let has_all = |(at, (_, said)): &(usize, &(String, Vec<Said>))| {
            (0..said.len()).all(|sign| shown.is_some_and(|shown| shown.contains(&(*at, sign))))
        };
        let mut found: Vec<&(String, Vec<Said>)> =
            self.families.iter().enumerate().filter(has_all).map(|(_, family)| family).collect();
        found.sort_by_key(|(_, said)| std::cmp::Reverse(said.len()));
        let mut names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
        if !self.families.iter().any(|(name, _)| name == read_by) {
            names.push(read_by.to_owned());
        }
        names
    }
}

/// Listens for so long. Gives the devices of which a family is known.
///
/// # Errors
/// The broker is not reached, or does not let this end in.
pub async fn look(
    url: &str,
    ca_file: Option<PathBuf>,
    listen: Duration,
    families: &[Profile],
) -> anyhow::Result<Vec<Found>> {
    let is_wide = |profile: &&Profile| {
        matches!(profile.protocol(), Protocol::Mqtt(_))
            && Mapping::of(profile).is_ok_and(|mapping| !mapping.topics(None).is_empty())
    };
    let families: Vec<Arc<Profile>> = families.iter().filter(is_wide).cloned().map(Arc::new).collect();
    let mut directory = Directory::new(&[], &families).map_err(anyhow::Error::msg)?;
    let url: BrokerUrl = url.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let broker = Broker { url, ca_file, client_id: String::new(), keeps_session: false };
    let clock = AgentClock::default();
    let client_id = format!("tideline-detect-{}-{}", std::process::id(), clock.mono_ns());
    let filters = directory.filters();
    let mut line = Line::open(Opening { broker: &broker, client_id, filters: &filters, former: &[] }).await?;
    let until = Instant::now() + listen;
    let mut shown = Shown::of(&families);
    loop {
        let message = match timeout_at(until, line.next()).await {
            Err(_) => break,
            Ok(message) => message.map_err(|error: SourceError| anyhow::anyhow!("{error}"))?,
        };
        let read = Message { topic: &message.topic, payload: &message.payload, retained: message.retain };
        shown.take(&message.topic, &message.payload);
        directory.take(clock.mono_ns(), read, &mut Sheets::of(&clock));
        line.acknowledge(&message).await?;
    }
    let found = directory.appeared().map(|(name, family)| {
        let families = shown.families(name, family);
        Found { address: name.to_owned(), families }
    });
    let mut found: Vec<Found> = found.collect();
    found.sort_by(|one, other| one.address.cmp(&other.address));
    Ok(found)
}
