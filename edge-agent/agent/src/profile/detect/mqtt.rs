//! Devices that publish at a broker, known by their topics and messages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tideline_link::mqtt::BrokerUrl;
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
    loop {
        let message = match timeout_at(until, line.next()).await {
            Err(_) => break,
            Ok(message) => message.map_err(|error: SourceError| anyhow::anyhow!("{error}"))?,
        };
        let read = Message { topic: &message.topic, payload: &message.payload, retained: message.retain };
        directory.take(clock.mono_ns(), read, &mut Sheets::of(&clock));
        line.acknowledge(&message).await?;
    }
    let mut found: Vec<Found> = directory
        .news()
        .into_iter()
        .map(|device| {
            let families = device.profile.iter().map(|profile| profile.name().to_owned()).collect();
            Found { address: device.id.to_string(), families }
        })
        .collect();
    found.sort_by(|one, other| one.address.cmp(&other.address));
    Ok(found)
}
