//! Tries out what templates would make of a twin, on a copy of it: what cannot be laid is not begun, and a template that no member
//! can take does not become current.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, EditError, Leaf, Section, Twin, escape, merge_patch};

use super::{CONFIG, Leaves, Name, leaves, members, patches, signature, template, wanted};
use crate::hub::Hub;
use crate::layer;
use crate::metadata::DeviceRecord;
use crate::twins::TwinError;

/// Texts of refusals that are told in one sentence.
const TOLD_MAX: usize = 10;

/// What each member of a template says to this layer of it, if none can take it; nothing where one can, or there is no member.
///
/// # Errors
/// The disk failed.
pub fn refusals(hub: &Hub, name: &Name, layer: &Json) -> Result<Vec<(String, TwinError)>, TwinError> {
    let mut refusals = Vec::new();
    for id in members(hub, name)? {
        let Some(record) = hub.metadata.find::<DeviceRecord>(&id)? else { continue };
        let Ok(device) = DeviceId::parse(&id) else { continue };
        let wanted = wanted(hub, &record, Some((name, layer)))?;
        let tried = hub
            .twins
            .look(&DocumentId::Device(device), |twin| try_out(twin, &patches(twin, &wanted), &id))?;
        match tried {
            // It has no room now, and will when its agent has met the hub.
            Ok(()) | Err(TwinError::Edit(EditError::TooManyUnconfirmed)) => return Ok(Vec::new()),
            Err(error) => refusals.push((id, error)),
        }
    }
    Ok(refusals)
}

/// One text for each thing that is wrong, with the member that says so.
pub fn told(refusals: &[(String, TwinError)]) -> Vec<String> {
    let one = |(device, error): &(String, TwinError)| match error {
        TwinError::Refused(all) => all.iter().map(|what| format!("{device}: {what}")).collect(),
        error => vec![format!("{device}: {error}")],
    };
    refusals.iter().flat_map(one).take(layer::ERRORS_MAX).collect()
}

/// The first of them.
pub fn first(refusals: &[(String, TwinError)]) -> String {
    let told = told(refusals);
    let more = told.len().saturating_sub(TOLD_MAX);
    let first = told.into_iter().take(TOLD_MAX).collect::<Vec<_>>().join("; ");
    if more == 0 { first } else { format!("{first}; and {more} more") }
}

/// Whether the twin of this device takes all of the patches, and an agent what comes of them.
pub fn try_out(twin: &Twin, patches: &[(String, Json)], device: &str) -> Result<(), TwinError> {
    if patches.is_empty() {
        return Ok(());
    }
    let mut tried = twin.clone();
    for (author, patch) in patches {
        let edits = merge_patch(Section::Desired, &tried.json(Section::Desired), patch)?;
        tried.edit(&Change { edits, author: author.clone(), time_ms: 0 })?;
    }
    let wrong = layer::errors(&tried, &json!({ CONFIG: {} }));
    if wrong.is_empty() {
        return Ok(());
    }
    let leaves = leaves(&tried);
    Err(TwinError::Refused(wrong.iter().map(|error| layer::told(&blamed(error, &leaves, device))).collect()))
}

/// An error of the layer at a device, which names the override where that is what is wrong: no template can mend it.
fn blamed(error: &str, leaves: &Leaves<Leaf>, device: &str) -> String {
    let place = error.split_once(": ").map_or(error, |(place, _)| place);
    let below = |of: &str, other: &str| other.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'));
    let mut authors = BTreeSet::new();
    for (path, leaf) in leaves {
        let names: Vec<_> = path.iter().map(|name| escape(name)).collect();
        let path = format!("/{}/{}", Section::Desired, names.join("/"));
        if path == place || below(&path, place) || below(place, &path) {
            if template(leaf).is_some() {
                return error.to_owned();
            }
            let author = signature(leaf);
            authors.insert(if author.is_empty() { "somebody".to_owned() } else { author });
        }
    }
    if authors.is_empty() {
        return error.to_owned();
    }
    let authors = authors.into_iter().collect::<Vec<_>>().join(", ");
    format!(
        "{error}: this is an override of {device}, set by {authors}, and of no template; take it back or set another"
    )
}
