//! What the store holds, for operators.

use axum::Json;
use axum::extract::State;

use super::problem::{ApiError, Problem};
use super::shapes::StoreInfo;
use crate::hub::App;

/// What the store holds
#[utoipa::path(get, path = "/api/v1/store", operation_id = "store",
    responses((status = 200, description = "Its counts", body = StoreInfo), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(hub): State<App>) -> Result<Json<StoreInfo>, ApiError> {
    let metrics = hub.store.metrics();
    Ok(Json(StoreInfo {
        agents: hub.store.agents().len() as u64,
        series: hub.store.series(None).len() as u64,
        hot_rows: metrics.hot_rows,
        sealed_files: metrics.sealed_files,
        sealed_rows: metrics.sealed_rows,
        sealed_bytes: metrics.sealed_bytes,
        appended_rows: metrics.appended_rows,
        duplicate_rows: metrics.duplicate_rows,
        dead_letters: metrics.dead_letters,
        poisoned: metrics.poisoned,
    }))
}
