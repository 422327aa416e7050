//! Agents that a restored hub does not know any more, and their adoption.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use tideline_protocol::model::AgentId;

use super::devices::{not_reserved, one};
use super::problem::{ApiError, Problem};
use super::shapes::{Device, Stranger, StrangerList};
use crate::hub::App;
use crate::metadata::{Changes, DeviceRecord, MetadataError};
use crate::registry::DEVICES_MAX;

/// Agents with a certificate of this hub that are not registered and asked since it started
#[utoipa::path(get, path = "/api/v1/strangers", operation_id = "strangers",
    responses((status = 200, description = "By id", body = StrangerList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>) -> Json<StrangerList> {
    let all = hub.strangers.list().into_iter();
    let strangers = all.map(|(agent, s)| Stranger { agent: agent.to_string(), asked_ms: s.asked_ms });
    Json(StrangerList { strangers: strangers.collect() })
}

/// Register an agent again that enrolled after the backup that this hub was restored from
#[utoipa::path(post, path = "/api/v1/devices/{id}/adopt", operation_id = "adoptDevice",
    params(("id" = String, Path, description = "The agent's own device")),
    responses((status = 201, description = "Registered with the key that asked", body = Device), (status = 404, description = "No such agent has asked", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`device-exists`, `too-many`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn adopt(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Device>), ApiError> {
    let agent = AgentId::parse(&id).map_err(|e| ApiError::bad("bad-device", e.to_string()))?;
    not_reserved(agent.as_str())?;
    let conflict = |code, detail: String| ApiError::new(StatusCode::CONFLICT, code, detail);
    let Some(stranger) = hub.strangers.find(&agent) else {
        let detail = format!(
            "no agent {agent} that has a certificate of this hub and is not registered has asked since the hub started; one that runs asks every half minute"
        );
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not-found", detail));
    };
    if hub.metadata.count::<DeviceRecord>()? >= DEVICES_MAX {
        return Err(conflict(
            "too-many",
            format!("{DEVICES_MAX} devices are registered, which is the limit"),
        ));
    }
    let record =
        DeviceRecord { key_hash: stranger.key_hash, ..DeviceRecord::behind(agent.to_string(), hub.now_ms()) };
    let new = record.clone();
    let step = move |changes: &mut Changes| match changes.find::<DeviceRecord>(&new.agent)? {
        Some(_) => Ok(false),
        None => changes.put(&new.agent, &new).map(|()| true),
    };
    if !hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await? {
        return Err(conflict("device-exists", format!("{agent} is registered already")));
    }
    hub.strangers.forget(&agent);
    tracing::info!(%agent, "agent adopted");
    Ok((StatusCode::CREATED, Json(one(&hub, agent.as_str(), &record)?)))
}
