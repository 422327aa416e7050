//! Files as readings: what a reader of one asks the hub.

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::routing::{get, post, put};
use axum::{Json, Router};

use super::auth::principal_of;
use super::problem::{ApiError, Problem};
use super::shapes::{ImportRequest, ImportState, ImportedChunk};
use super::write::whole;
use super::write_tokens::{WRITE_TOKEN_PREFIX, grant};
use crate::hub::App;
use crate::imports::{self, ImportError, Importer};
use crate::metadata::Role;

/// Longest request to begin: each of 100,000 series with its names.
const BEGIN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest chunk: each reading of a series of its own takes some thirty bytes.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// When a client is to come again while the store takes nothing.
const RETRY_S: u64 = 2;

/// The paths, with limits of their own.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/imports", post(begin))
        .route("/api/v1/imports/{identity}", get(show))
        .route("/api/v1/imports/{identity}/chunks/{number}", put(chunk))
}

/// Begin to import a file, or go on
///
/// Answers where to go on: a file that was begun is known by its identity. Admin, or a token that writes for the devices.
#[utoipa::path(post, path = "/api/v1/imports", operation_id = "beginImport", request_body = ImportRequest,
    responses((status = 200, description = "It may come, from chunk `next` on", body = ImportState),
        (status = 409, description = "`refused`: a device may not be written for, a unit is another, or the identity was used for something else", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn begin(State(hub): State<App>, request: Request) -> Result<Json<ImportState>, ApiError> {
    let importer = importer(&hub, &request)?;
    let body = whole(request.into_body(), BEGIN_BYTES_MAX).await?;
    let asked: ImportRequest =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad("bad-body", error.to_string()))?;
    Ok(Json(imports::begin(&hub, &importer, asked).await?))
}

/// How far an import is
#[utoipa::path(get, path = "/api/v1/imports/{identity}", operation_id = "import",
    params(("identity" = String, Path, description = "The file's identity")),
    responses((status = 200, description = "The import", body = ImportState), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Path(identity): Path<String>,
    request: Request,
) -> Result<Json<ImportState>, ApiError> {
    let importer = importer(&hub, &request)?;
    Ok(Json(imports::state(&hub, &importer, &identity).await?))
}

/// Store a chunk of an import
///
/// Exactly once: a chunk that is stored is left out. The same number must always bring the same readings; whoever
/// sends it follows that from the file. Chunks may come in any order.
#[utoipa::path(put, path = "/api/v1/imports/{identity}/chunks/{number}", operation_id = "importChunk",
    request_body(content = Vec<u8>, content_type = "application/cbor", description = "`[[[series, times, values], …]]`: the place of the series in the list that the import was begun with, then two byte strings of eight bytes a reading, little-endian: ns since 1970 as int64, values as float64. At most 65536 readings"),
    params(("identity" = String, Path, description = "The file's identity"), ("number" = u64, Path, description = "Which one, from 1")),
    responses((status = 200, description = "It is durable", body = ImportedChunk),
        (status = 503, description = "`busy`, `store-unavailable`: send it again after Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn chunk(
    State(hub): State<App>,
    Path((identity, number)): Path<(String, u64)>,
    request: Request,
) -> Result<Json<ImportedChunk>, ApiError> {
    let importer = importer(&hub, &request)?;
    let place = hub.writers.places.take(Some(format!("import {}", importer.key)));
    let _place =
        place.map_err(|_| later("busy", "as many requests are being stored as the hub takes at once"))?;
    let body = Bytes::from(whole(request.into_body(), CHUNK_BYTES_MAX).await?);
    // A client that goes away must not cancel an append, whose seq would be in doubt then.
    let work = async move { imports::store_chunk(&hub, &importer, (&identity, number), &body).await };
    let stored = tokio::spawn(work).await.map_err(|error| ApiError::internal(&error))??;
    Ok(Json(ImportedChunk { stored }))
}

/// Who asks, if they may.
fn importer(hub: &App, request: &Request) -> Result<Importer, ApiError> {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shown.is_some_and(|text| text.contains(WRITE_TOKEN_PREFIX)) {
        let grant = grant(hub, request.headers(), None)?;
        let by = format!("token {}", grant.token.name);
        return Ok(Importer { by, key: grant.writer.to_string(), devices: grant.token });
    }
    let principal = principal_of(hub, request)?;
    match principal.role {
        Role::Admin => Ok(Importer::admin(principal.name)),
        Role::Viewer => Err(ApiError::forbidden("this needs the role admin, or a token that writes")),
    }
}

fn later(code: &'static str, detail: impl Into<String>) -> ApiError {
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
    ApiError { retry_after_s: Some(RETRY_S), ..error }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        let text = error.to_string();
        match error {
            ImportError::Wrong(_) => Self::bad("bad-import", text),
            ImportError::Refused(_) => Self::new(StatusCode::CONFLICT, "refused", text),
            ImportError::Unknown(identity) => Self::not_found("import", &identity),
            ImportError::Store(tideline_store::StoreError::Limit(reason)) => Self::bad("limit", reason),
            ImportError::Store(error) => {
                tracing::warn!(%error, "a chunk of an import was not stored");
                later("store-unavailable", text)
            }
            ImportError::Metadata(error) => error.into(),
        }
    }
}
