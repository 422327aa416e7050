//! The fleet at a glance: its figures with their history, and a list of all devices in one answer.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;

use super::problem::{ApiError, Problem};
use super::shapes::{FleetAnswer, FleetHistory, FleetLosses, FleetStorage, FleetTable, FullestSpool};
use crate::hub::{App, Hub};
use crate::picture::{self, Picture};
use crate::pulse::{HOUR_MS, MINUTE_MS};
use crate::web::accepts;

/// The routes.
pub fn views() -> Router<App> {
    Router::new().route("/fleet", get(show)).route("/fleet/devices", get(devices))
}

/// Most devices that come with the figures: those of a very large screen.
const ROWS_MAX: usize = 200;

/// What comes with the figures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetQuery {
    rows: Option<usize>,
}

/// The fleet at a glance
///
/// It is at most a second old. With `rows` the first devices come in the same answer, so that a page has all that it shows first by one
/// question. It is packed by gzip for who takes that.
#[utoipa::path(get, path = "/api/v1/fleet", operation_id = "fleet",
    params(("rows" = Option<usize>, Query, description = "The first so many devices with it, 1 to 200; none when left out")),
    responses((status = 200, description = "Its figures, with their history", body = FleetAnswer), (status = 400, description = "`bad-limit`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Query(FleetQuery { rows }): Query<FleetQuery>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    if let Some(rows) = rows.filter(|rows| !(1..=ROWS_MAX).contains(rows)) {
        return Err(ApiError::bad("bad-limit", format!("rows={rows}; allowed are 1 to {ROWS_MAX}")));
    }
    let picture = picture::of(&hub).await?;
    let first = rows.map(|rows| picture.table.first(rows));
    let answer = FleetAnswer { first, ..figures(&hub, &picture) };
    let mut body = serde_json::to_vec(&answer).map_err(|e| ApiError::internal(&e))?;
    let is_packed = accepts(&asked, "gzip");
    if is_packed {
        body = picture::packed(&body).map_err(|e| ApiError::internal(&e))?;
    }
    Ok(json(body.into(), is_packed))
}

fn figures(hub: &Hub, picture: &Picture) -> FleetAnswer {
    let noted = hub.pulse.noted();
    let (spools, fullest) = &picture.spools;
    let fullest = fullest.as_ref().map(|spool| FullestSpool {
        agent: spool.agent.clone(),
        bytes: spool.bytes,
        quota_bytes: spool.quota_bytes,
    });
    let lost = &picture.lost;
    FleetAnswer {
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
        first: None,
    }
}

/// JSON that is written already.
fn json(body: Bytes, is_packed: bool) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
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
    Ok(json(body, is_packed))
}
