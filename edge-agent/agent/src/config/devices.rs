//! The devices of a configuration: what stands behind a source.

use tideline_protocol::model::DeviceId;
use tideline_spool::StreamConfig;

use super::SourceConfig;
use super::read::{Reader, Section};
use super::sources::Check;

/// Most devices of an agent: each has a place in what is shown.
const DEVICES_MAX: usize = 1_000;

/// A device behind a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its id at the hub.
    pub id: DeviceId,
    /// Name or path of its profile; empty for none.
    pub profile: String,
    /// Where the source finds it, in the words of its protocol.
    pub address: String,
    /// Version of its firmware.
    pub firmware: Option<String>,
    /// The stream that its readings go to in place of the source's.
    pub stream: Option<String>,
}

/// Checks all `[[device]]` sections, and gives each to its source.
pub fn check(
    reader: &mut Reader<'_>,
    sections: Vec<(usize, Section)>,
    streams: &[StreamConfig],
    sources: &mut [SourceConfig],
) {
    if let Some((at, _)) = sections.get(DEVICES_MAX) {
        reader.problem(*at, &format!("device: at most {DEVICES_MAX} are allowed"));
    }
    for (at, section) in sections {
        let mut check = Check { reader, name: "device", at, section: &section };
        let some = |text: String| if text.is_empty() { None } else { Some(text) };
        let stream = some(check.text("stream"));
        if let Some(stream) = &stream {
            check.stream("device.stream", stream, streams);
        }
        let id = match DeviceId::parse(&check.text("id")) {
            Ok(id) => id,
            Err(error) => {
                check.problem(&format!("device.id: {error}"));
                continue;
            }
        };
        let (source, profile, address) = (check.text("source"), check.text("profile"), check.text("address"));
        let device = DeviceConfig { id, profile, address, firmware: some(check.text("firmware")), stream };
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let Some(place) = names.iter().position(|name| *name == source) else {
            let allowed =
                if names.is_empty() { "none, as there is no source".into() } else { names.join(", ") };
            check.problem(&format!("device.source: there is no {source:?}; allowed are {allowed}"));
            continue;
        };
        if let Some(source) = sources.get_mut(place) {
            if source.devices.iter().any(|other| other.id == device.id) {
                check.problem(&format!("device.id: {} is there twice behind {}", device.id, source.name));
            }
            source.devices.push(device);
        }
    }
}
