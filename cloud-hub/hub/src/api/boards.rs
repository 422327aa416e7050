//! Boards by API.

use std::collections::BTreeSet;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tideline_profiles::Profile;
use tideline_protocol::model::DeviceId;
use tideline_store::SeriesInfo;

use super::auth::Principal;
use super::problem::{ApiError, Problem};
use super::query::shown;
use super::shapes::{
    BoardAnswer, BoardChoices, BoardInfo, BoardList, BoardMatch, BoardNames, BoardRestore, BoardSeries,
    BoardShare, BoardShareRequest, BoardShared, BoardShares, BoardVersion, BoardVersions,
};
use crate::boards::form::Board;
use crate::boards::pattern::{Devices, Pattern};
use crate::boards::resolve::{self, Matched};
use crate::boards::{self, BoardError, Found, Of, check, profile, shares};
use crate::hub::{App, Hub};
use crate::metadata::{Card, DeviceRecord, MetadataError};
use crate::profiles::{self, ProfileError};

/// Most names of one question: as many as a board can have.
const NAMES_MAX: usize = check::PANELS_MAX * check::PATTERNS_MAX;
/// Most of them that stand for several devices: each is compared with every series.
const MANY_MAX: usize = 100;
/// Devices to choose from at a time; more words find the others.
const CHOICES_MAX: usize = 200;

impl From<BoardError> for ApiError {
    fn from(error: BoardError) -> Self {
        let text = error.to_string();
        match error {
            BoardError::Form(_) => Self::bad("bad-board", text),
            BoardError::Share(_) => Self::bad("bad-share", text),
            BoardError::Unknown(id) => Self::not_found("board", &id),
            BoardError::Version { .. } => Self::new(StatusCode::NOT_FOUND, "not-found", text),
            BoardError::Changed { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "board-changed", text),
            BoardError::Shipped(_) => Self::new(StatusCode::CONFLICT, "board-shipped", text),
            BoardError::Full(_) => Self::new(StatusCode::CONFLICT, "too-many-boards", text),
            BoardError::Secret(_) => Self::internal(&error),
            BoardError::Metadata(error) => error.into(),
        }
    }
}

/// The routes that show boards.
pub fn views() -> Router<App> {
    Router::new()
        .route("/boards", get(list))
        .route("/boards/choices", get(choices))
        .route("/boards/series", post(series))
        .route("/boards/device/{id}", get(of_device))
        .route("/boards/{id}", get(show))
        .route("/boards/{id}/versions", get(versions))
}

/// The routes that change them.
pub fn changes() -> Router<App> {
    Router::new()
        .route("/boards", post(create))
        .route("/boards/{id}", axum::routing::put(put).delete(remove))
        .route("/boards/{id}/restore", post(restore))
        .route("/boards/{id}/shares", get(list_shares).post(share))
        .route("/boards/{id}/shares/{share}", delete(end_share))
}

fn tagged(status: StatusCode, found: Found) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{}\"", found.version()));
    let mut response = (status, Json(BoardAnswer::from(found))).into_response();
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The versions that a change is of. It must say so, or two people would undo each other without a word.
fn of(headers: &HeaderMap) -> Result<Of, ApiError> {
    let bad = || {
        ApiError::bad("bad-etag", "If-Match has versions of the board in double quotes, as \"3\", or is *")
    };
    let mut versions = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        for tag in value.to_str().map_err(|_| bad())?.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Of::Any);
            }
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(bad)?;
            versions.push(number.parse().map_err(|_| bad())?);
        }
    }
    if versions.is_empty() {
        let detail = "a change of a board says of which version it is: send If-Match with the ETag of what you saw, or *";
        return Err(ApiError::new(StatusCode::PRECONDITION_REQUIRED, "if-match-missing", detail));
    }
    Ok(Of::Versions(versions))
}

/// All boards: those that ship, then those that people made
#[utoipa::path(get, path = "/api/v1/boards", operation_id = "boards",
    responses((status = 200, description = "The boards", body = BoardList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>) -> Result<Json<BoardList>, ApiError> {
    Ok(Json(BoardList { boards: boards::list(&hub)?.iter().map(BoardInfo::from).collect() }))
}

/// Make a board
#[utoipa::path(post, path = "/api/v1/boards", operation_id = "createBoard", request_body = Board,
    responses((status = 201, description = "Made; the header ETag has its version", body = BoardAnswer), (status = 400, description = "`bad-board`: all that is wrong, one a line", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`too-many-boards`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Json(board): Json<Board>,
) -> Result<Response, ApiError> {
    Ok(tagged(StatusCode::CREATED, boards::create(&hub, board, &principal.name).await?))
}

/// One board
#[utoipa::path(get, path = "/api/v1/boards/{id}", operation_id = "board",
    params(("id" = String, Path, description = "The board")),
    responses((status = 200, description = "The board; the header ETag has its version", body = BoardAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(hub): State<App>, Path(id): Path<String>) -> Result<Response, ApiError> {
    Ok(tagged(StatusCode::OK, boards::find(&hub, &id)?))
}

/// The board of a device, made of its profile
///
/// Of a device with a profile that the hub does not know it is made of its series. It is not stored: make a board of it to change it.
#[utoipa::path(get, path = "/api/v1/boards/device/{id}", operation_id = "deviceBoard",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "The board", body = Board), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn of_device(State(hub): State<App>, Path(id): Path<String>) -> Result<Json<Board>, ApiError> {
    let unknown = || ApiError::not_found("device", &id);
    let device = DeviceId::parse(&id).map_err(|_| unknown())?;
    let record: DeviceRecord = hub.metadata.find(device.as_str())?.ok_or_else(unknown)?;
    let card = record.card.clone();
    let of_card = move |hub: &Hub| card.map_or(Ok(None), |card| of_card(hub, &card));
    let of_profile = hub.blocking(of_card).await?;
    let mut series = hub.store.series(Some(&device));
    series.sort_by(|a, b| a.point.cmp(&b.point));
    Ok(Json(profile::board(device.as_str(), &record.marks.title, of_profile.as_ref(), &series)))
}

/// The profile of a device, as it is for its firmware; none where the hub knows none.
fn of_card(hub: &Hub, card: &Card) -> Result<Option<Profile>, ProfileError> {
    let found = profiles::of_card(hub, card)?;
    Ok(found.map(|(found, _)| profiles::edition(&found.profile, card)))
}

/// Change a board
///
/// It becomes the next version of the one that `If-Match` names by its ETag.
#[utoipa::path(put, path = "/api/v1/boards/{id}", operation_id = "putBoard", request_body = Board,
    params(("id" = String, Path, description = "The board"), ("If-Match" = String, Header, description = "Of these versions only, as their ETags; * for any")),
    responses((status = 200, description = "Changed; the header ETag has its version", body = BoardAnswer), (status = 400, description = "`bad-board`: all that is wrong, one a line; `bad-etag`", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`board-shipped`", body = Problem, content_type = "application/problem+json"), (status = 412, description = "`board-changed`: somebody else changed it", body = Problem, content_type = "application/problem+json"), (status = 428, description = "`if-match-missing`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn put(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(board): Json<Board>,
) -> Result<Response, ApiError> {
    let found = boards::save(&hub, &id, board, of(&headers)?, &principal.name).await?;
    Ok(tagged(StatusCode::OK, found))
}

/// Delete a board with its versions and shares
#[utoipa::path(delete, path = "/api/v1/boards/{id}", operation_id = "deleteBoard",
    params(("id" = String, Path, description = "The board"), ("If-Match" = String, Header, description = "Of these versions only, as their ETags; * for any")),
    responses((status = 204, description = "Deleted"), (status = 409, description = "`board-shipped`", body = Problem, content_type = "application/problem+json"), (status = 412, description = "`board-changed`", body = Problem, content_type = "application/problem+json"), (status = 428, description = "`if-match-missing`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn remove(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    boards::delete(&hub, &id, of(&headers)?, &principal.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The versions of a board, 20 at most; those that ship have none
#[utoipa::path(get, path = "/api/v1/boards/{id}/versions", operation_id = "boardVersions",
    params(("id" = String, Path, description = "The board")),
    responses((status = 200, description = "The versions", body = BoardVersions), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn versions(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<Json<BoardVersions>, ApiError> {
    let versions = boards::versions(&hub, &id)?.into_iter().map(BoardVersion::from).collect();
    Ok(Json(BoardVersions { versions }))
}

/// Make an older version of a board the newest once more
#[utoipa::path(post, path = "/api/v1/boards/{id}/restore", operation_id = "restoreBoard", request_body = BoardRestore,
    params(("id" = String, Path, description = "The board"), ("If-Match" = String, Header, description = "Of these versions only, as their ETags; * for any")),
    responses((status = 200, description = "Restored, as the next version", body = BoardAnswer), (status = 412, description = "`board-changed`", body = Problem, content_type = "application/problem+json"), (status = 428, description = "`if-match-missing`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn restore(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(request): Json<BoardRestore>,
) -> Result<Response, ApiError> {
    let found = boards::restore(&hub, &id, request.version, of(&headers)?, &principal.name).await?;
    Ok(tagged(StatusCode::OK, found))
}

/// What names and what they matched are as JSON.
pub(super) fn matched(hub: &Hub, patterns: Vec<String>, found: Vec<Matched>) -> BoardSeries {
    let id = |info: &SeriesInfo| format!("{}/{}", info.device, info.point);
    let mut once = BTreeSet::new();
    let mut series = Vec::new();
    for info in found.iter().flat_map(|matched| &matched.series) {
        if once.insert(id(info)) {
            series.push(shown(hub, info));
        }
    }
    let one = |(pattern, matched): (String, Matched)| BoardMatch {
        pattern,
        series: matched.series.iter().map(id).collect(),
        left_off: matched.left_off,
    };
    BoardSeries { patterns: patterns.into_iter().zip(found).map(one).collect(), series }
}

/// The series of names as boards have them
#[utoipa::path(post, path = "/api/v1/boards/series", operation_id = "boardSeries", request_body = BoardNames,
    responses((status = 200, description = "The series of each name", body = BoardSeries), (status = 400, description = "`bad-board`: a name is none", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn series(
    State(hub): State<App>,
    Json(names): Json<BoardNames>,
) -> Result<Json<BoardSeries>, ApiError> {
    let BoardNames { patterns, variables, values } = names;
    if patterns.len() > NAMES_MAX || variables.len() > check::VARIABLES_MAX {
        let detail = format!(
            "{} names and {} variables; allowed are {NAMES_MAX} and {}",
            patterns.len(),
            variables.len(),
            check::VARIABLES_MAX
        );
        return Err(ApiError::bad("bad-board", detail));
    }
    let values = resolve::values(&variables, &values);
    let mut meant = Vec::new();
    for (n, written) in patterns.iter().enumerate() {
        let pattern = Pattern::parse(written, &variables)
            .map_err(|reason| ApiError::bad("bad-board", format!("patterns[{n}]: {reason}")))?;
        meant.push(Some(pattern.with(&values)));
    }
    let many = meant.iter().flatten().filter(|meant| !matches!(meant.devices, Devices::One(_))).count();
    if many > MANY_MAX {
        let detail = format!("{many} names stand for several devices; allowed are {MANY_MAX}");
        return Err(ApiError::bad("bad-board", detail));
    }
    let found = hub.blocking(move |hub| resolve::resolve(hub, &meant, None)).await.map_err(ApiError::from)?;
    Ok(Json(matched(&hub, patterns, found)))
}

/// Which text the names of devices have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoiceQuery {
    q: Option<String>,
}

/// What variables of boards can be: sites, groups, and the first devices with a text in their names
#[utoipa::path(get, path = "/api/v1/boards/choices", operation_id = "boardChoices",
    params(("q" = Option<String>, Query, description = "In the ids or titles of the devices")),
    responses((status = 200, description = "The choices", body = BoardChoices), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn choices(
    State(hub): State<App>,
    Query(query): Query<ChoiceQuery>,
) -> Result<Json<BoardChoices>, ApiError> {
    let text = query.q.unwrap_or_default().to_lowercase();
    let choose = move |hub: &Hub| {
        let (mut sites, mut groups) = (BTreeSet::new(), BTreeSet::new());
        let mut devices = Vec::new();
        let mut more = false;
        for (id, record) in hub.metadata.list::<DeviceRecord>()? {
            let spoken =
                id.to_lowercase().contains(&text) || record.marks.title.to_lowercase().contains(&text);
            if !record.marks.site.is_empty() {
                sites.insert(record.marks.site);
            }
            groups.extend(record.marks.groups);
            if spoken && devices.len() < CHOICES_MAX {
                devices.push(id);
            } else {
                more |= spoken;
            }
        }
        let (sites, groups) = (sites.into_iter().collect(), groups.into_iter().collect());
        Ok::<_, MetadataError>(BoardChoices { sites, groups, devices, more })
    };
    Ok(Json(hub.blocking(choose).await?))
}

/// The shares of a board that have not ended
#[utoipa::path(get, path = "/api/v1/boards/{id}/shares", operation_id = "boardShares",
    params(("id" = String, Path, description = "The board")),
    responses((status = 200, description = "The shares", body = BoardShares), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list_shares(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<Json<BoardShares>, ApiError> {
    Ok(Json(BoardShares { shares: shares::list(&hub, &id)?.into_iter().map(BoardShare::from).collect() }))
}

/// Share a board: whoever has the token sees it without a login, at the devices that it names now
#[utoipa::path(post, path = "/api/v1/boards/{id}/shares", operation_id = "shareBoard", request_body = BoardShareRequest,
    params(("id" = String, Path, description = "The board")),
    responses((status = 201, description = "Shared", body = BoardShared), (status = 400, description = "`bad-share`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn share(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Json(request): Json<BoardShareRequest>,
) -> Result<(StatusCode, Json<BoardShared>), ApiError> {
    let (share, token, record) = shares::create(&hub, &id, request.into(), &principal.name).await?;
    Ok((StatusCode::CREATED, Json(BoardShared { share: BoardShare::from((share, record)), token })))
}

/// End a share at once
#[utoipa::path(delete, path = "/api/v1/boards/{id}/shares/{share}", operation_id = "endBoardShare",
    params(("id" = String, Path, description = "The board"), ("share" = String, Path, description = "The share")),
    responses((status = 204, description = "Ended"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn end_share(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path((id, share)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    if shares::revoke(&hub, &id, &share, &principal.name).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("share", &share))
    }
}
