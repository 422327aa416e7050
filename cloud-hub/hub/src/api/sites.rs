//! Sites by API: which there are, and their time zones.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, patch};
use axum::{Extension, Json, Router};
use serde::Deserialize;

use super::auth::Principal;
use super::devices::{PAGE_MAX, Page};
use super::problem::{ApiError, Problem};
use super::select::listed;
use super::shapes::{Site, SitePage, SitePatch};
use crate::hub::App;
use crate::sites::{self, SiteError};

impl From<SiteError> for ApiError {
    fn from(error: SiteError) -> Self {
        let text = error.to_string();
        match error {
            SiteError::Unknown(id) => Self::not_found("site", &id),
            SiteError::Zone(_) => Self::bad("bad-zone", text),
            SiteError::Full => Self::new(StatusCode::CONFLICT, "too-many-sites", text),
            SiteError::Metadata(error) => error.into(),
        }
    }
}

/// The routes that show sites.
pub fn views() -> Router<App> {
    Router::new().route("/sites", get(list))
}

/// The routes that change them.
pub fn changes() -> Router<App> {
    Router::new().route("/sites/{id}", patch(change))
}

/// Which sites.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    device: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The sites, with their time zones
#[utoipa::path(get, path = "/api/v1/sites", operation_id = "sites",
    params(("device" = Option<String>, Query, description = "Those of these devices only, with commas, at most 1000"), ("limit" = Option<usize>, Query, description = "Most sites, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = SitePage), (status = 400, description = "`bad-device`, `bad-limit`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>, Query(asked): Query<Asked>) -> Result<Json<SitePage>, ApiError> {
    let Asked { device, limit, cursor } = asked;
    let devices = device.as_deref().map(|device| listed(Some(device)).collect::<Vec<_>>());
    if let Some(named) = devices.as_ref().map(Vec::len).filter(|named| *named > PAGE_MAX) {
        return Err(ApiError::bad(
            "bad-device",
            format!("{named} devices are named; allowed are {PAGE_MAX}"),
        ));
    }
    let find = move |hub: &crate::hub::Hub| match devices {
        Some(devices) => sites::of_devices(hub, &devices),
        None => sites::list(hub),
    };
    let all = hub.blocking(find).await?;
    let (page, next) = Page::cut(limit, cursor.as_deref(), all, |site| &site.id)?;
    Ok(Json(SitePage { sites: page.into_iter().map(Site::from).collect(), next }))
}

/// Change what operators say of a site
#[utoipa::path(patch, path = "/api/v1/sites/{id}", operation_id = "patchSite", request_body = SitePatch,
    params(("id" = String, Path, description = "The site, as devices have it")),
    responses((status = 200, description = "As it is now", body = Site), (status = 400, description = "`bad-zone`, `bad-patch`", body = Problem, content_type = "application/problem+json"), (status = 404, description = "No device is there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`too-many-sites`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn change(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Json(SitePatch { zone }): Json<SitePatch>,
) -> Result<Json<Site>, ApiError> {
    let zone = zone.ok_or_else(|| ApiError::bad("bad-patch", "nothing is to change; allowed is zone"))?;
    tracing::info!(site = id, zone, by = principal.name, "a site changed");
    let set = move |hub: &crate::hub::Hub| sites::set_zone(hub, &id, zone.as_deref(), principal.name);
    Ok(Json(hub.blocking(set).await?.into()))
}
