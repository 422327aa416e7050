//! Plans of sites by API. An image is served as what it is and nothing else: whoever looks at it runs nothing of it.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Extension, Json, Router};

use super::auth::{Principal, principal_of};
use super::problem::{ApiError, Problem};
use super::shapes::{PlanInfo, PlanList};
use super::write::whole;
use crate::hub::{App, Hub};
use crate::metadata::{PlanRecord, Role};
use crate::plans::{self, IMAGE_BYTES_MAX, PlanError};

/// Where the plan of a site is.
const PATH: &str = "/sites/{id}/plan";

/// The routes that show plans.
pub fn views() -> Router<App> {
    Router::new().route("/plans", get(list)).route(PATH, get(show))
}

/// The routes that take plans away.
pub fn changes() -> Router<App> {
    Router::new().route(PATH, delete(remove))
}

/// What takes images, with a limit of its own.
pub fn routes() -> Router<App> {
    Router::new().route(&format!("/api/v1{PATH}"), put(keep))
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> Self {
        let text = error.to_string();
        match error {
            PlanError::Site { .. } => Self::bad("bad-site", text),
            PlanError::Large { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", text),
            PlanError::Image(_) => Self::bad("bad-image", text),
            PlanError::Full => Self::new(StatusCode::CONFLICT, "too-many", text),
            PlanError::Corrupt { .. } => Self::internal(&error),
            PlanError::Metadata(error) => error.into(),
        }
    }
}

/// The plans of sites, without their images
#[utoipa::path(get, path = "/api/v1/plans", operation_id = "plans",
    responses((status = 200, description = "The plans", body = PlanList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>) -> Result<Json<PlanList>, ApiError> {
    Ok(Json(PlanList { plans: plans::list(&hub)?.into_iter().map(PlanInfo::from).collect() }))
}

fn tag(record: &PlanRecord) -> String {
    format!("\"{}\"", record.sha256)
}

/// The image of a site's plan
#[utoipa::path(get, path = "/api/v1/sites/{id}/plan", operation_id = "sitePlan",
    params(("id" = String, Path, description = "The site, as devices have it")),
    responses((status = 200, description = "The image; the header ETag names it", body = Vec<u8>, content_type = "image/*"), (status = 304, description = "It is the one that If-None-Match names"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Path(id): Path<String>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    image(&hub, id, &asked).await
}

/// The image of a site's plan, or that whoever asks has it.
///
/// # Errors
/// The site has none, or it cannot be read.
pub async fn image(hub: &App, id: String, asked: &HeaderMap) -> Result<Response, ApiError> {
    let site = id.clone();
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let is_known = move |record: &PlanRecord| {
        known.as_ref().is_some_and(|known| known.split(',').any(|one| one.trim() == tag(record)))
    };
    let work = move |hub: &Hub| {
        // The image is large, and most who ask have it.
        match plans::record(hub, &site)? {
            Some(record) if is_known(&record) => Ok(Some((record, None))),
            Some(_) => Ok(plans::find(hub, &site)?.map(|(record, image)| (record, Some(image)))),
            None => Ok::<_, PlanError>(None),
        }
    };
    let (record, image) =
        hub.blocking(work).await?.ok_or_else(|| ApiError::not_found("plan of site", &id))?;
    let tag = tag(&record);
    let mut response =
        image.map_or_else(|| StatusCode::NOT_MODIFIED.into_response(), IntoResponse::into_response);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, record.media.as_str()),
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Opened by itself it is a document of this origin, which then may do nothing.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ] {
        headers.insert(name, HeaderValue::from_str(value).map_err(|error| ApiError::internal(&error))?);
    }
    Ok(response)
}

/// Give a site a plan, in the place of one that it has
///
/// The image is PNG, JPEG or WebP, which its first bytes say; at most 4 MiB and 40 million pixels. Admin.
#[utoipa::path(put, path = "/api/v1/sites/{id}/plan", operation_id = "putSitePlan",
    request_body(content = Vec<u8>, content_type = "image/*", description = "The image"),
    params(("id" = String, Path, description = "The site, as devices have it")),
    responses((status = 200, description = "Kept", body = PlanInfo), (status = 400, description = "`bad-image`, `bad-site`", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`too-many`", body = Problem, content_type = "application/problem+json"), (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn keep(
    State(hub): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<PlanInfo>, ApiError> {
    // Before the body is taken: it is of those that a stranger must not make the hub hold.
    let principal = principal_of(&hub, &request)?;
    if principal.role != Role::Admin {
        return Err(ApiError::forbidden("this needs the role admin"));
    }
    let image = whole(request.into_body(), IMAGE_BYTES_MAX).await?;
    let record = plans::keep(&hub, &id, image, &principal.name).await?;
    Ok(Json(PlanInfo::from((id, record))))
}

/// Take the plan of a site away
///
/// Where its devices are on it is kept for another image.
#[utoipa::path(delete, path = "/api/v1/sites/{id}/plan", operation_id = "deleteSitePlan",
    params(("id" = String, Path, description = "The site")),
    responses((status = 204, description = "Taken away"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn remove(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if plans::remove(&hub, &id, &principal.name).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("plan of site", &id))
    }
}
