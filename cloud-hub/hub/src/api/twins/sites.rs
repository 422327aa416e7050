//! What the devices of a site share, by API.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, patch};
use axum::{Extension, Json, Router};
use tideline_protocol::model::SiteId;
use tideline_protocol::wire::DocumentId;

use super::super::auth::Principal;
use super::super::exact::Exact;
use super::super::problem::{ApiError, Problem};
use super::super::shapes::{TwinAnswer, TwinConflicts, TwinHistory, TwinPatch};
use super::history::{Asked, steps};
use super::{Wanted, change_shared, contested, show_shared};
use crate::hub::{App, Hub};

/// The routes that show documents of sites.
pub fn views() -> Router<App> {
    Router::new()
        .route("/sites/{id}/twin", get(show_site))
        .route("/sites/{id}/twin/history", get(site_history))
        .route("/sites/{id}/twin/conflicts", get(site_conflicts))
}

/// The routes that change them.
pub fn changes() -> Router<App> {
    Router::new().route("/sites/{id}/twin", patch(change_site))
}

/// The document of a site, and the agents that share it: one at which a device is, or of which something was written before.
fn of(hub: &Hub, id: &str) -> Result<(DocumentId, Vec<String>), ApiError> {
    let site = SiteId::parse(id).map_err(|error| ApiError::bad("bad-site", error.to_string()))?;
    let (document, agents) = (DocumentId::Site(site), hub.metadata.agents_at(id));
    if agents.is_empty() && !hub.twins.has(&document)? {
        return Err(ApiError::not_found("site", id));
    }
    Ok((document, agents))
}

/// What the devices of a site share
///
/// What is wanted in common and notes, which all agents have that have a device at the site, also without the hub. One that nobody has
/// written to is empty.
#[utoipa::path(get, path = "/api/v1/sites/{id}/twin", operation_id = "siteTwin",
    params(("id" = String, Path, description = "The site, as devices have it"), ("at" = Option<String>, Query, description = "As it was at this time: RFC 3339, Unix ms, or relative as -6h")),
    responses((status = 200, description = "The document; the header ETag names its state, but for one of the past", body = TwinAnswer), (status = 400, description = "`bad-site`: a document has a site whose name is of letters, digits, `.`, `_` and `-`; `bad-time`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show_site(
    State(hub): State<App>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    show_shared(&hub, of(&hub, &id)?, &wanted).await
}

/// Change what the devices of a site share
///
/// It is on disk when it is answered, and then goes to the agents that are connected at once, to the others with their next session.
/// `desired/points/<point>` is written to each device there that has the point as a writable one, unless its own twin wants it otherwise,
/// or one of its groups before this; `delta` tells it by device. `desired/schedules/<name>` runs at each agent
/// there, for its devices there and in the same order, also without the hub; what becomes of it stands in `reported/schedules` of each.
#[utoipa::path(patch, path = "/api/v1/sites/{id}/twin", operation_id = "patchSiteTwin", request_body = TwinPatch,
    params(("id" = String, Path, description = "The site, as devices have it"), ("If-Match" = Option<String>, Header, description = "Of one of these states only, a list of etags; any by *. Weak ones are of none")),
    responses((status = 200, description = "As it is now", body = TwinAnswer), (status = 400, description = "`bad-site`, `bad-patch`, `bad-key`, `bad-value`, `bad-etag`, `bad-config`: schedules that no agent would take, with all that is wrong in `errors`, `twin-too-many-edits`, `twin-change-too-long`", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`twin-too-large`, `twin-unconfirmed`", body = Problem, content_type = "application/problem+json"), (status = 412, description = "`twin-changed`: it is of another state", body = Problem, content_type = "application/problem+json"), (status = 429, description = "`twin-too-often`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn change_site(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Exact(patch): Exact<TwinPatch>,
) -> Result<Response, ApiError> {
    change_shared(&hub, of(&hub, &id)?, principal, &headers, patch).await
}

/// What was done to a site's document
#[utoipa::path(get, path = "/api/v1/sites/{id}/twin/history", operation_id = "siteTwinHistory",
    params(("id" = String, Path, description = "The site"), ("from" = Option<String>, Query, description = "From this time on, by `taken_ms` where there is one and else by `time_ms`: RFC 3339, Unix ms, or relative as -6h"), ("to" = Option<String>, Query, description = "Before this time"), ("key" = Option<String>, Query, description = "Of this leaf or those below it, as desired/heating or desired"), ("limit" = Option<usize>, Query, description = "Most steps, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before, in the same order"), ("order" = Option<String>, Query, description = "Which come first: `oldest`, the default, or `newest`")),
    responses((status = 200, description = "A page", body = TwinHistory), (status = 400, description = "`bad-site`, `bad-time`, `bad-key`, `bad-limit`, `bad-cursor`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn site_history(
    State(hub): State<App>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<TwinHistory>, ApiError> {
    let (document, _) = of(&hub, &id)?;
    steps(&hub, document, &asked).await
}

/// Leaves of a site's document with values that exclude each other: written at once at several ends
#[utoipa::path(get, path = "/api/v1/sites/{id}/twin/conflicts", operation_id = "siteTwinConflicts",
    params(("id" = String, Path, description = "The site")),
    responses((status = 200, description = "All of them; a write to a leaf resolves it", body = TwinConflicts), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn site_conflicts(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<Json<TwinConflicts>, ApiError> {
    let (document, _) = of(&hub, &id)?;
    contested(&hub, document).await
}
