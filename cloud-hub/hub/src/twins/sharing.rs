//! Which agents have which documents: the one of a device, or all with devices at a site or in a group.

use std::collections::BTreeSet;

use tideline_protocol::model::{AgentId, GroupId, SiteId};
use tideline_protocol::wire::DocumentId;

use crate::hub::Hub;
use crate::metadata::{DeviceRecord, MetadataError};

/// The documents of sites and groups. Operators may call these by other names than a document can have; such a one has none.
pub fn documents<'a>(
    sites: impl IntoIterator<Item = &'a str>,
    groups: &'a BTreeSet<String>,
) -> impl Iterator<Item = DocumentId> {
    let sites = sites.into_iter().filter_map(|site| Some(DocumentId::Site(SiteId::parse(site).ok()?)));
    let groups = groups.iter().filter_map(|group| Some(DocumentId::Group(GroupId::parse(group).ok()?)));
    sites.chain(groups)
}

/// The agents that share a document with others: those with devices at the site or in the group. A device's has one alone.
pub fn sharers(hub: &Hub, document: &DocumentId) -> Vec<String> {
    match document {
        DocumentId::Device(_) => Vec::new(),
        DocumentId::Site(site) => hub.metadata.agents_at(site.as_str()),
        DocumentId::Group(group) => hub.metadata.agents_in(group.as_str()),
    }
}

/// The agents that have replicas of a document: that of a device, or those with devices at a site or in a group.
///
/// # Errors
/// The registry cannot be read.
pub fn speakers(hub: &Hub, document: &DocumentId) -> Result<Vec<AgentId>, MetadataError> {
    let names = match document {
        DocumentId::Device(device) => {
            let record = hub.metadata.find::<DeviceRecord>(device.as_str())?.filter(|record| !record.revoked);
            record.into_iter().map(|record| record.agent).collect()
        }
        DocumentId::Site(_) | DocumentId::Group(_) => sharers(hub, document),
    };
    Ok(names.iter().filter_map(|name| AgentId::parse(name).ok()).collect())
}

/// Whether an agent may see a document.
///
/// # Errors
/// The registry cannot be read.
pub fn is_shown_to(hub: &Hub, document: &DocumentId, agent: &AgentId) -> Result<bool, MetadataError> {
    match document {
        DocumentId::Device(_) => Ok(speakers(hub, document)?.contains(agent)),
        DocumentId::Site(site) => Ok(hub.metadata.is_at(agent.as_str(), site.as_str())),
        DocumentId::Group(group) => Ok(hub.metadata.is_in(agent.as_str(), group.as_str())),
    }
}
