//! What operators look at: the hub's health, what happened to agents, enrolment tokens that wait.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use tideline_protocol::model::AgentId;
use tideline_store::{Check, CheckState};

use super::devices::{PAGE_DEFAULT, PAGE_MAX};
use super::problem::{ApiError, Problem};
use super::shapes::{
    CheckVerdict, EnrollTokenInfo, EnrollTokenList, FleetEvent, FleetEvents, HealthAnswer, HealthCheck,
};
use crate::hub::App;
use crate::metadata::{Changes, EnrolRecord, MetadataError};

/// The routes for whoever is signed in.
pub fn views() -> Router<App> {
    Router::new().route("/health", get(health)).route("/events", get(events))
}

/// The routes for administrators.
pub fn changes() -> Router<App> {
    // Making one is a route of enrolment's.
    Router::new()
        .route("/enroll-tokens", get(enroll_tokens))
        .route("/enroll-tokens/{id}", delete(revoke_enroll_token))
}

fn check(Check { name, state }: Check) -> HealthCheck {
    let (state, reason) = match state {
        CheckState::Fine => (CheckVerdict::Fine, None),
        CheckState::Degraded(reason) => (CheckVerdict::Degraded, Some(reason)),
        CheckState::Failed(reason) => (CheckVerdict::Failed, Some(reason)),
    };
    HealthCheck { name: format!("store {name}"), state, reason }
}

/// How the hub fares
#[utoipa::path(get, path = "/api/v1/health", operation_id = "health",
    responses((status = 200, description = "What `/readyz` says, check by check, with where agents find the hub", body = HealthAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn health(State(hub): State<App>) -> Json<HealthAnswer> {
    let health = hub.store.health();
    Json(HealthAnswer {
        ready: health.is_ready() && !*hub.stopping.borrow(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since_ms: hub.pulse.noted().since_ms,
        checks: health.checks.into_iter().map(check).collect(),
        sessions: hub.fleet.online(),
        streams: hub.streams.taken() as u64,
        https: hub.addresses.https.clone(),
        quic: hub.addresses.quic.clone(),
        mqtt: hub.addresses.mqtt.clone(),
        registers_devices: hub.config.register_devices,
    })
}

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Where a page of events begins: behind the last of the page before.
fn place(cursor: &str) -> Result<(i64, AgentId), ApiError> {
    let parsed =
        cursor.split_once('.').and_then(|(at, agent)| Some((at.parse().ok()?, AgentId::parse(agent).ok()?)));
    let wrong = || {
        ApiError::bad(
            "bad-cursor",
            format!("cursor={cursor}; allowed is what `next` of the page before says"),
        )
    };
    parsed.ok_or_else(wrong)
}

/// When the agents of the fleet came and went, the newest first
///
/// The last hundred of each agent are kept.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "events",
    params(("limit" = Option<usize>, Query, description = "Most events, 1 to 1000; those of one agent at one moment stay together, so that a page may have some more"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = FleetEvents), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn events(
    State(hub): State<App>,
    Query(Listing { limit, cursor }): Query<Listing>,
) -> Result<Json<FleetEvents>, ApiError> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {PAGE_MAX}")));
    }
    let before = cursor.as_deref().map(place).transpose()?;
    let (events, more) = hub.presences.newest(before.as_ref(), limit);
    let next = events.last().filter(|_| more).map(|(agent, event)| format!("{}.{agent}", event.at_ms));
    let events = events.into_iter().map(|(agent, event)| FleetEvent { agent: agent.to_string(), event });
    Ok(Json(FleetEvents { events: events.collect(), next }))
}

/// The enrolment tokens that have not ended
#[utoipa::path(get, path = "/api/v1/enroll-tokens", operation_id = "enrollTokens",
    responses((status = 200, description = "The tokens, without their secrets", body = EnrollTokenList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn enroll_tokens(State(hub): State<App>) -> Result<Json<EnrollTokenList>, ApiError> {
    let now_ms = hub.now_ms();
    let all = hub.metadata.list::<EnrolRecord>()?.into_iter().filter(|(_, token)| token.expires_ms > now_ms);
    let mut tokens: Vec<EnrollTokenInfo> = all
        .map(|(id, token)| EnrollTokenInfo {
            id,
            device: token.device,
            expires_ms: token.expires_ms,
            used: token.key_hash.is_some(),
        })
        .collect();
    tokens.sort_by(|a, b| (&a.device, a.expires_ms).cmp(&(&b.device, b.expires_ms)));
    Ok(Json(EnrollTokenList { tokens }))
}

/// Take an enrolment token back; what has enrolled with it stays enrolled
#[utoipa::path(delete, path = "/api/v1/enroll-tokens/{id}", operation_id = "revokeEnrollToken",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "It lets nobody in any more"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke_enroll_token(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let key = id.clone();
    let step = move |changes: &mut Changes| changes.remove::<EnrolRecord>(&key);
    if !hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await? {
        return Err(ApiError::not_found("enrolment token", &id));
    }
    tracing::info!(id, "an enrolment token was taken back");
    Ok(StatusCode::NO_CONTENT)
}
