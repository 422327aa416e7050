//! Backups of the running hub, for the command beside it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use tokio::sync::OwnedMutexGuard;

use super::auth::LocalSocket;
use super::problem::{ApiError, Problem};
use super::shapes::{BackupAnswer, BackupRequest};
use crate::backup::{self, BackupError, Source};
use crate::hub::App;

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        tracing::error!(%error, "no backup");
        let (status, code) = match &error {
            BackupError::Place(_) => (StatusCode::CONFLICT, "backup-place"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "backup-failed"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// The turn to make a snapshot of the store.
///
/// # Errors
/// Somebody else has it.
pub fn snapshot_turn(hub: &App) -> Result<OwnedMutexGuard<()>, ApiError> {
    Arc::clone(&hub.snapshots).try_lock_owned().map_err(|_| {
        let detail = "a backup or a check of the store is being made; wait for its end";
        ApiError::new(StatusCode::CONFLICT, "backup-running", detail)
    })
}

/// Make a backup while the hub runs
///
/// Over the command socket only: a backup holds keys, and the path is one of the hub's machine.
#[utoipa::path(post, path = "/api/v1/backups", operation_id = "createBackup", request_body = BackupRequest,
    responses((status = 201, description = "Made, and on disk", body = BackupAnswer), (status = 400, description = "`bad-path`", body = Problem, content_type = "application/problem+json"), (status = 403, description = "`local-only`", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`backup-place`, `backup-running`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(hub): State<App>,
    local: Option<Extension<LocalSocket>>,
    Json(request): Json<BackupRequest>,
) -> Result<(StatusCode, Json<BackupAnswer>), ApiError> {
    if local.is_none() {
        let detail = "a backup holds keys: `cloud-hub backup` makes one on the hub's own machine";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "local-only", detail));
    }
    let to = PathBuf::from(&request.to);
    if !to.is_absolute() {
        return Err(ApiError::bad("bad-path", format!("{:?} is no absolute path", request.to)));
    }
    let turn = snapshot_turn(&hub)?;
    let made = hub
        .blocking(move |hub| {
            // Held until it is done, also when nobody waits any more.
            let _turn = turn;
            let source = Source {
                data: &hub.config.data_dir,
                metadata: &hub.metadata,
                twins: Some(hub.twins.file()),
                store: Some(&hub.store),
            };
            backup::make(source, &to, hub.now_ms()).map_err(ApiError::from)
        })
        .await?;
    tracing::info!(path = %made.path.display(), files = made.files, bytes = made.bytes, "backup made");
    let path = made.path.display().to_string();
    Ok((StatusCode::CREATED, Json(BackupAnswer { path, files: made.files as u64, bytes: made.bytes })))
}
