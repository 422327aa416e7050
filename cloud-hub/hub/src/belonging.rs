//! What a device's twin says of the documents that hold for it: `tags/belongs_to`, as the registry has it.
//!
//! Its agent carries out what these documents desire also without the hub, and the registry is the hub's alone.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Section, Twin};

use crate::hub::{App, Hub};
use crate::metadata::DeviceRecord;
use crate::twins::{self, Patch, TwinError, documents};

/// The leaf of `tags`: a list of documents in the order in which they go, groups by name and then the site.
const LEAF: &str = "belongs_to";
/// Who writes it.
const AUTHOR: &str = "registry";

/// Notes to which groups and which site these devices belong, where their twins say anything else.
///
/// # Errors
/// The registry or the twins failed; what is noted stays so, and the rest is with the next session of the device's agent.
pub async fn note(hub: &App, devices: Vec<String>) -> Result<(), TwinError> {
    for device in devices {
        let found = hub.blocking(move |hub| differs(hub, &device)).await?;
        let Some((document, is)) = found else { continue };
        let patch = Patch {
            sections: vec![(Section::Tags, json!({ LEAF: is }))],
            of: None,
            author: AUTHOR.to_owned(),
            check: |_, _| Vec::new(),
        };
        twins::patch(hub, document, patch, |_| ()).await?;
    }
    Ok(())
}

/// As [`note`] of all devices of an agent whose session begins, also of those that were placed by an older hub.
pub async fn note_all(hub: App, agent: AgentId) {
    let devices = hub.metadata.devices_of(agent.as_str());
    if let Err(error) = note(&hub, devices).await {
        tracing::warn!(%agent, %error, "twins do not say to which groups and sites devices belong");
    }
}

/// The twin that says something else than the registry, and what it is to say.
fn differs(hub: &Hub, device: &str) -> Result<Option<(DocumentId, Json)>, TwinError> {
    let record: Option<DeviceRecord> = hub.metadata.find(device)?;
    let (Some(record), Ok(id)) = (record, DeviceId::parse(device)) else { return Ok(None) };
    let (is, document) = (wanted(&record), DocumentId::Device(id));
    // The twins of devices that belong nowhere are left to be none.
    if is.is_null() && !hub.twins.has(&document)? {
        return Ok(None);
    }
    let told = hub.twins.look(&document, belongs_to)?;
    Ok((told != is).then_some((document, is)))
}

fn belongs_to(twin: &Twin) -> Json {
    twin.json(Section::Tags).get(LEAF).cloned().unwrap_or_default()
}

fn wanted(record: &DeviceRecord) -> Json {
    if record.revoked {
        return Json::Null;
    }
    let groups = documents([], &record.marks.groups);
    let none = BTreeSet::new();
    let names: Vec<_> = groups
        .chain(documents([record.marks.site.as_str()], &none))
        .map(|document| document.name())
        .collect();
    if names.is_empty() { Json::Null } else { names.into() }
}

/// What is wrong with a patch that writes what is the registry's to say.
#[must_use]
pub fn errors(patches: &[(Section, Json)]) -> Vec<String> {
    let is_of_it =
        |(section, patch): &(Section, Json)| *section == Section::Tags && patch.get(LEAF).is_some();
    let told = "/tags/belongs_to: is what the registry says; allowed is to set the device's groups and site"
        .to_owned();
    patches.iter().find(|patch| is_of_it(patch)).map(|_| told).into_iter().collect()
}
