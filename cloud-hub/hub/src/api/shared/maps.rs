//! The maps of a shared board: the devices that a panel of it means and that the share was made for, and no others.

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;

use super::super::map::{Which, Within, clusters, list};
use super::super::plans::image;
use super::super::problem::{ApiError, Problem};
use super::super::shapes::{MapAnswer, MapDevices};
use super::Share;
use crate::boards::pattern::site;
use crate::boards::resolve;
use crate::hub::App;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/map", get(map)).route("/map/devices", get(devices)).route("/plan", get(plan))
}

/// The devices of a panel.
fn which(share: &Share, panel: &str) -> Result<Which, ApiError> {
    let scope = &share.scope;
    let found = scope.board.panels.iter().find(|one| one.id == panel && !one.show.devices().is_empty());
    let found = found.ok_or_else(|| ApiError::not_found("panel with a map", panel))?;
    let meant = resolve::placed(&scope.board, found, &scope.values);
    let meant = meant.into_iter().map(|meant| meant.devices).collect();
    Ok(Which { meant, only: Some(scope.devices.clone()), site: None })
}

/// Which part of the map of which panel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedMapQuery {
    panel: String,
    bbox: Option<String>,
    zoom: Option<u8>,
}

/// The devices of a panel of a share on the map, as `GET /map` has them
#[utoipa::path(get, path = "/api/v1/shared/map", operation_id = "sharedMap",
    params(("panel" = String, Query, description = "The panel"), ("bbox" = Option<String>, Query, description = "As of /map"), ("zoom" = Option<u8>, Query, description = "As of /map")),
    responses((status = 200, description = "The clusters", body = MapAnswer), (status = 401, description = "`share-ended`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn map(
    State(hub): State<App>,
    Extension(share): Extension<Share>,
    Query(asked): Query<SharedMapQuery>,
) -> Result<Json<MapAnswer>, ApiError> {
    clusters(&hub, which(&share, &asked.panel)?, asked.bbox.as_deref(), asked.zoom).await
}

/// Which panel's plan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedPlanQuery {
    panel: String,
}

/// The image of the plan that a panel of a share shows, as `GET /sites/{id}/plan` has it
#[utoipa::path(get, path = "/api/v1/shared/plan", operation_id = "sharedPlan",
    params(("panel" = String, Query, description = "The panel")),
    responses((status = 200, description = "The image; the header ETag names it", body = Vec<u8>, content_type = "image/*"), (status = 304, description = "It is the one that If-None-Match names"), (status = 401, description = "`share-ended`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn plan(
    State(hub): State<App>,
    Extension(share): Extension<Share>,
    Query(SharedPlanQuery { panel }): Query<SharedPlanQuery>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let scope = &share.scope;
    let found = scope.board.panels.iter().find(|one| one.id == panel);
    let written = found.and_then(|panel| panel.show.plan());
    let written = written.ok_or_else(|| ApiError::not_found("panel with a plan", &panel))?;
    // It was checked when the board was kept.
    let site = site(written, &scope.board.variables).ok().and_then(|site| site.with(&scope.values));
    image(&hub, site.ok_or_else(|| ApiError::not_found("plan of panel", &panel))?, &asked).await
}

/// Which devices of which panel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedListQuery {
    panel: String,
    bbox: Option<String>,
    placed: Option<bool>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Devices of a panel of a share, as `GET /map/devices` has them
#[utoipa::path(get, path = "/api/v1/shared/map/devices", operation_id = "sharedMapDevices",
    params(("panel" = String, Query, description = "The panel"), ("bbox" = Option<String>, Query, description = "As of /map/devices"), ("placed" = Option<bool>, Query, description = "As of /map/devices"), ("limit" = Option<usize>, Query, description = "As of /map/devices"), ("cursor" = Option<String>, Query, description = "As of /map/devices")),
    responses((status = 200, description = "A page", body = MapDevices), (status = 401, description = "`share-ended`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn devices(
    State(hub): State<App>,
    Extension(share): Extension<Share>,
    Query(asked): Query<SharedListQuery>,
) -> Result<Json<MapDevices>, ApiError> {
    let SharedListQuery { panel, bbox, placed, limit, cursor } = asked;
    list(&hub, which(&share, &panel)?, Within { bbox, placed, limit, cursor, ..Within::default() }).await
}
