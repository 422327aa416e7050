//! What operators say of a device: its title, site, groups and tags, where it is, and the agent that it is behind.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use tideline_protocol::model::{AgentId, DeviceId};

use super::devices::one;
use super::problem::{ApiError, Problem};
use super::shapes::{Device, DevicePatch};
use crate::belonging;
use crate::hub::App;
use crate::ingest::moved;
use crate::metadata::{Changes, DeviceRecord, Marks};
use crate::position::{Position, Spot};
use crate::signs::is_hidden;
use crate::templates;

/// Most bytes of a title or of a tag's value.
const TEXT_BYTES_MAX: usize = 128;
/// Most bytes of a site, a group or a tag's key.
const NAME_BYTES_MAX: usize = 64;
/// Most groups of a device.
const GROUPS_MAX: usize = 16;
/// Most tags of a device.
const TAGS_MAX: usize = 32;

/// Change what operators say of a device
#[utoipa::path(patch, path = "/api/v1/devices/{id}", operation_id = "patchDevice", request_body = DevicePatch,
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "As it is now", body = Device), (status = 400, description = "`bad-mark`", body = Problem, content_type = "application/problem+json"), (status = 404, description = "No such device or agent", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`not-an-agent`, `own-device`, `device-revoked`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn patch(
    State(hub): State<App>,
    Path(id): Path<String>,
    Json(patch): Json<DevicePatch>,
) -> Result<Json<Device>, ApiError> {
    // What follows from a change that is durable is done also when its asker is gone.
    let work = tokio::spawn(patched(hub, id, patch));
    work.await.map_err(|error| ApiError::internal(&error))?.map(Json)
}

async fn patched(hub: App, id: String, patch: DevicePatch) -> Result<Device, ApiError> {
    let key = id.clone();
    let (before, record) = hub
        .blocking(move |hub| {
            hub.metadata.change(|changes: &mut Changes| {
                let record: DeviceRecord =
                    changes.find(&key)?.ok_or_else(|| ApiError::not_found("device", &key))?;
                let agent = match patch.agent.clone() {
                    Some(agent) => mover(changes, &key, &record, agent)?,
                    None => record.agent.clone(),
                };
                let changed =
                    DeviceRecord { agent, marks: marks(record.marks.clone(), patch)?, ..record.clone() };
                if changed != record {
                    changes.put(&key, &changed)?;
                }
                Ok::<_, ApiError>((record, changed))
            })
        })
        .await?;
    if before != record {
        hub.pictures.outdate();
    }
    tracing::info!(device = id, agent = record.agent, "device changed");
    if before.agent != record.agent
        && let (Ok(device), Ok(agent)) = (DeviceId::parse(&id), AgentId::parse(&record.agent))
    {
        hub.twins.moved(&hub, device.clone());
        moved(&hub, &device, AgentId::parse(&before.agent).ok(), agent).await;
    }
    hub.twins.placed(&before, &record);
    if let Err(error) = belonging::note(&hub, vec![id.clone()]).await {
        tracing::warn!(device = id, %error, "the twin does not say to which groups and site the device belongs");
    }
    // What the templates of its groups and its site want changes with them.
    for (device, done) in templates::apply_to(&hub, vec![id.clone()]).await? {
        if let Err(error) = done {
            tracing::warn!(device, %error, "a template of configuration does not fit a device");
        }
    }
    hub.commands.moved(hub.now_ms(), &id, &record.agent);
    hub.blocking(move |hub| one(hub, &id, &record)).await
}

/// The agent that a device is to be behind.
fn mover(changes: &Changes, id: &str, record: &DeviceRecord, agent: String) -> Result<String, ApiError> {
    let conflict = |code, detail: String| Err(ApiError::new(StatusCode::CONFLICT, code, detail));
    if record.agent == agent {
        return Ok(agent);
    }
    if record.agent == id {
        return conflict("own-device", format!("{id} is an agent of its own, and behind no other"));
    }
    let owner: DeviceRecord = changes.find(&agent)?.ok_or_else(|| ApiError::not_found("agent", &agent))?;
    if owner.agent != agent {
        return conflict("not-an-agent", format!("{agent} is itself a field device behind {}", owner.agent));
    }
    if owner.revoked {
        return conflict("device-revoked", format!("agent {agent} was revoked"));
    }
    Ok(agent)
}

fn marks(mut marks: Marks, patch: DevicePatch) -> Result<Marks, ApiError> {
    if let Some(title) = patch.title {
        marks.title = sound("title", title.unwrap_or_default(), TEXT_BYTES_MAX)?;
    }
    if let Some(site) = patch.site {
        let site = sound("site", site.unwrap_or_default(), NAME_BYTES_MAX)?;
        // A place on the plan of one site is none on that of another.
        marks.spot = marks.spot.filter(|_| site == marks.site);
        marks.site = site;
    }
    if let Some(position) = patch.position {
        marks.position = position.map(Position::try_from).transpose().map_err(|e| bad(e.to_string()))?;
    }
    if let Some(spot) = patch.spot {
        marks.spot = spot.map(Spot::try_from).transpose().map_err(|e| bad(format!("spot: {e}")))?;
    }
    if let Some(groups) = patch.groups {
        let groups = groups.unwrap_or_default().into_iter().map(|group| named("group", group));
        marks.groups = groups.collect::<Result<_, _>>()?;
    }
    match patch.tags {
        None => {}
        Some(None) => marks.tags = BTreeMap::new(),
        Some(Some(tags)) => {
            for (key, value) in tags {
                match value {
                    None => drop(marks.tags.remove(&key)),
                    Some(value) => {
                        let value = sound(&format!("tag {key}"), value, TEXT_BYTES_MAX)?;
                        marks.tags.insert(named("key of a tag", key)?, value);
                    }
                }
            }
        }
    }
    for (what, found, max) in
        [("groups", marks.groups.len(), GROUPS_MAX), ("tags", marks.tags.len(), TAGS_MAX)]
    {
        if found > max {
            return Err(bad(format!("{found} {what}; allowed are {max}")));
        }
    }
    Ok(marks)
}

fn bad(detail: String) -> ApiError {
    ApiError::bad("bad-mark", detail)
}

fn sound(what: &str, text: String, max: usize) -> Result<String, ApiError> {
    if text.len() > max || text.chars().any(is_hidden) {
        return Err(bad(format!(
            "{what}: {:?} has {} bytes; allowed are {max}, without control characters and those that turn the direction of a text",
            text.chars().take(64).collect::<String>(),
            text.len()
        )));
    }
    Ok(text)
}

/// What stands in lists with commas and before an equals sign.
fn named(what: &str, text: String) -> Result<String, ApiError> {
    if text.is_empty() || text.contains([',', '=']) {
        return Err(bad(format!("{what}: {text:?} must not be empty, and has no comma and no =")));
    }
    sound(what, text, NAME_BYTES_MAX)
}
