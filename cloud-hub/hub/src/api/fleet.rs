//! The fleet at a glance: its figures with their history, and a list of all devices in one answer.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::problem::{ApiError, Problem};
use super::shapes::{FleetAnswer, FleetHistory, FleetLosses, FleetStorage, FleetTable, FullestSpool};
use crate::hub::App;
use crate::picture;
use crate::pulse::{HOUR_MS, MINUTE_MS};
use crate::web::accepts;

/// The routes.
pub fn views() -> Router<App> {
    Router::new().route("/fleet", get(show)).route("/fleet/devices", get(devices))
}

/// The fleet at a glance
///
/// It is at most a second old.
#[utoipa::path(get, path = "/api/v1/fleet", operation_id = "fleet",
    responses((status = 200, description = "Its figures, with their history", body = FleetAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(hub): State<App>) -> Result<Json<FleetAnswer>, ApiError> {
    let picture = picture::of(&hub).await?;
    let noted = hub.pulse.noted();
    let (spools, fullest) = &picture.spools;
    let fullest = fullest.as_ref().map(|spool| FullestSpool {
        agent: spool.agent.clone(),
        bytes: spool.bytes,
        quota_bytes: spool.quota_bytes,
    });
    let lost = &picture.lost;
    Ok(Json(FleetAnswer {
        as_of_ms: picture.as_of_ms,
        since_ms: noted.since_ms,
        counts: picture.counts,
        freshness: picture.freshness,
        rate: picture.rate,
        backlog: picture.backlog,
        losses: FleetLosses {
            gaps: lost.gaps,
            dropped: lost.rows,
            lost: picture.lost_rows,
            unbalanced: picture.unbalanced,
        },
        dropped_by_hour: lost.rows_by_hour.iter().rev().copied().collect(),
        storage: FleetStorage {
            free_bytes: noted.disk.map(|disk| disk.free_bytes),
            total_bytes: noted.disk.map(|disk| disk.total_bytes),
            store_bytes: hub.store.metrics().sealed_bytes,
            spools: *spools,
            fullest,
        },
        minutes: FleetHistory::of(MINUTE_MS, &noted.minutes),
        hours: FleetHistory::of(HOUR_MS, &noted.hours),
    }))
}

/// All devices, as a list shows them
///
/// One answer for the whole fleet, by columns, which a page can search, filter and sort by itself. It is at most a second old, and
/// packed by gzip for who takes that.
#[utoipa::path(get, path = "/api/v1/fleet/devices", operation_id = "fleetDevices",
    responses((status = 200, description = "The devices", body = FleetTable), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn devices(State(hub): State<App>, asked: HeaderMap) -> Result<Response, ApiError> {
    let picture = picture::of(&hub).await?;
    let is_packed = accepts(&asked, "gzip");
    let written = tokio::task::spawn_blocking(move || picture.json(is_packed)).await;
    let body = written.map_err(|e| ApiError::internal(&e))?.map_err(|e| ApiError::internal(&e))?;
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
