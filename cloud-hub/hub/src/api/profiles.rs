//! Profiles of device families by API.

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;

use super::auth::{Principal, principal_of};
use super::problem::{ApiError, Problem};
use super::shapes::{
    DeviceProfile, ProfileAnswer, ProfileInfo, ProfileList, ProfileOrigin, ProfileSheet, ProfileVersion,
};
use super::write::whole;
use crate::hub::{App, Hub};
use crate::metadata::{DeviceRecord, ProfileVersionRecord, Role};
use crate::profiles::{self, Origin, PROFILE_BYTES_MAX, ProfileError};

/// Where a profile is.
const PATH: &str = "/profiles/{name}";

/// The routes that show profiles.
pub fn views() -> Router<App> {
    Router::new()
        .route("/profiles", get(list))
        .route(PATH, get(show))
        .route("/devices/{id}/profile", get(of_device))
}

/// The routes that take profiles away.
pub fn changes() -> Router<App> {
    Router::new().route(PATH, delete(remove))
}

/// What takes profiles, with a limit of its own.
pub fn routes() -> Router<App> {
    Router::new().route(&format!("/api/v1{PATH}"), put(keep))
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        let text = error.to_string();
        match error {
            ProfileError::Form(_) | ProfileError::Name { .. } => Self::bad("bad-profile", text),
            ProfileError::Unknown(name) => Self::not_found("profile", &name),
            ProfileError::Version { .. } => Self::new(StatusCode::NOT_FOUND, "not-found", text),
            ProfileError::Shipped(_) => Self::new(StatusCode::CONFLICT, "profile-shipped", text),
            ProfileError::Full(_) => Self::new(StatusCode::CONFLICT, "too-many-profiles", text),
            ProfileError::Metadata(error) => error.into(),
        }
    }
}

/// All profiles: those that ship, those that operators gave, and those that agents name and the hub does not have
#[utoipa::path(get, path = "/api/v1/profiles", operation_id = "profiles",
    responses((status = 200, description = "The profiles", body = ProfileList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>) -> Result<Json<ProfileList>, ApiError> {
    let work = |hub: &Hub| {
        let mut users = profiles::users(hub)?;
        let mut all = Vec::new();
        for name in profiles::names(hub)? {
            let counts = users.remove(&name).unwrap_or_default();
            all.push(ProfileInfo::of(&profiles::find(hub, &name)?, counts));
        }
        all.extend(users.into_iter().map(|(name, counts)| ProfileInfo::unknown(name, counts)));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok::<_, ApiError>(ProfileList { profiles: all })
    };
    hub.blocking(work).await.map(Json)
}

/// Which version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    version: Option<u64>,
}

/// One profile, with what it says
#[utoipa::path(get, path = "/api/v1/profiles/{name}", operation_id = "profile",
    params(("name" = String, Path, description = "The name of the family"), ("version" = Option<u64>, Query, description = "Of one that was given; the newest when left out")),
    responses((status = 200, description = "The profile", body = ProfileAnswer), (status = 404, description = "The hub has none of this name or version", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Path(name): Path<String>,
    Query(Asked { version }): Query<Asked>,
) -> Result<Json<ProfileAnswer>, ApiError> {
    let work = move |hub: &Hub| {
        let found = match version {
            Some(version) => profiles::version(hub, &name, version)?,
            None => profiles::find(hub, &name)?,
        };
        let counts = profiles::users(hub)?.remove(&name).unwrap_or_default();
        let versions = profiles::versions(hub, &name)?;
        let shown = |(version, kept): (u64, ProfileVersionRecord)| {
            let ProfileVersionRecord { digest, by, at_ms, .. } = kept;
            ProfileVersion { version, digest, by, at_ms }
        };
        Ok::<_, ApiError>(ProfileAnswer {
            info: ProfileInfo::of(&found, counts),
            sheet: ProfileSheet::of(&found.profile),
            text: found.profile.text().1.to_owned(),
            versions: versions.into_iter().map(shown).collect(),
        })
    };
    hub.blocking(work).await.map(Json)
}

/// The profile that a device is read by, as it is for its firmware
#[utoipa::path(get, path = "/api/v1/devices/{id}/profile", operation_id = "deviceProfile",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "The profile, as far as the hub knows it", body = DeviceProfile), (status = 404, description = "No such device, or its agent names no profile", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn of_device(
    State(hub): State<App>,
    Path(device): Path<String>,
) -> Result<Json<DeviceProfile>, ApiError> {
    let work = move |hub: &Hub| {
        let record: DeviceRecord =
            hub.metadata.find(&device)?.ok_or_else(|| ApiError::not_found("device", &device))?;
        let card = record.card.filter(|card| !card.profile.is_empty());
        let card = card.ok_or_else(|| ApiError::not_found("profile of device", &device))?;
        let profile = card.profile.clone();
        let Some((found, agreement)) = profiles::of_card(hub, &card)? else {
            let (origin, version, agreement) = (ProfileOrigin::Unknown, None, None);
            return Ok(DeviceProfile { device, profile, origin, version, agreement, sheet: None });
        };
        let (origin, version) = match found.origin {
            Origin::Shipped => (ProfileOrigin::Shipped, None),
            Origin::Given { version, .. } => (ProfileOrigin::Given, Some(version)),
        };
        let sheet = Some(ProfileSheet::of(&profiles::edition(&found.profile, &card)));
        Ok(DeviceProfile { device, profile, origin, version, agreement: Some(agreement.into()), sheet })
    };
    hub.blocking(work).await.map(Json)
}

/// Give the hub a profile, as the next version of one of its name
///
/// It is the text of a profile.toml, at most 1 MiB. What it says of pipelines is the agent's and is not read here. One that
/// says the same as the newest makes no version. Admin.
#[utoipa::path(put, path = "/api/v1/profiles/{name}", operation_id = "putProfile",
    request_body(content = String, content_type = "application/toml", description = "The text"),
    params(("name" = String, Path, description = "The name of the family, as the text has it")),
    responses((status = 201, description = "Kept", body = ProfileInfo), (status = 200, description = "The newest says the same", body = ProfileInfo), (status = 400, description = "`bad-profile`: all that is wrong, one a line", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`too-many-profiles`", body = Problem, content_type = "application/problem+json"), (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn keep(
    State(hub): State<App>,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<ProfileInfo>), ApiError> {
    // Before the body is taken: it is of those that a stranger must not make the hub hold.
    let principal = principal_of(&hub, &request)?;
    if principal.role != Role::Admin {
        return Err(ApiError::forbidden("this needs the role admin"));
    }
    let text = String::from_utf8(whole(request.into_body(), PROFILE_BYTES_MAX).await?);
    let text = text.map_err(|_| ApiError::bad("bad-profile", "the text is not UTF-8"))?;
    let (found, is_new) = profiles::put(&hub, &name, text, &principal.name).await?;
    let counts = hub.blocking(profiles::users).await?.remove(&name).unwrap_or_default();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ProfileInfo::of(&found, counts))))
}

/// Take a profile away that was given, with all its versions
///
/// One that ships under the same name is in force again.
#[utoipa::path(delete, path = "/api/v1/profiles/{name}", operation_id = "deleteProfile",
    params(("name" = String, Path, description = "The name of the family")),
    responses((status = 204, description = "Taken away"), (status = 404, description = "No such profile", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`profile-shipped`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn remove(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    profiles::remove(&hub, &name, &principal.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
