//! What the store holds, for operators.

use std::path::Path;

use axum::Json;
use axum::extract::State;
use tideline_store::Retention;

use super::backups::snapshot_turn;
use super::problem::{ApiError, Problem};
use super::shapes::{StoreInfo, StoreTier, StoreVerification};
use crate::backup::{BackupError, Source};
use crate::config::{shown_age, shown_room};
use crate::hub::App;
use crate::serve::STORE;
use crate::when;

/// Read all of the store, as it is now, and check it
#[utoipa::path(post, path = "/api/v1/store/verify", operation_id = "verifyStore",
    responses((status = 200, description = "What was found; `problems` is empty when all is well", body = StoreVerification), (status = 409, description = "`backup-running`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn verify(State(hub): State<App>) -> Result<Json<StoreVerification>, ApiError> {
    let turn = snapshot_turn(&hub)?;
    let found = hub
        .blocking(move |hub| {
            let _turn = turn;
            let source = Source {
                data: &hub.config.data_dir,
                metadata: &hub.metadata,
                twins: Some(hub.twins.file()),
                store: Some(&hub.store),
            };
            let check =
                |scratch: &Path| tideline_store::verify(&scratch.join(STORE)).map_err(BackupError::from);
            source.with_snapshot(check).map_err(ApiError::from)
        })
        .await?;
    Ok(Json(found.into()))
}

impl From<tideline_store::Verification> for StoreVerification {
    fn from(found: tideline_store::Verification) -> Self {
        Self {
            files: found.files as u64,
            rows: found.rows,
            cold_files: found.cold_files as u64,
            cold_rows: found.cold_rows,
            log_records: found.log_records,
            log_rows: found.log_rows,
            dead_letters: found.letters as u64,
            problems: found.problems,
            notes: found.notes,
        }
    }
}

fn tiers(hub: &App) -> Vec<StoreTier> {
    let Retention { raw, minute, hour, day, freezes, cold, by_profile: _ } = hub.config.retention;
    let kept = hub.store.tiers().into_iter().zip([raw, minute, hour, day]);
    let tier = |name: &str, (files, readings, bytes), first_ns: Option<i64>, limit| StoreTier {
        tier: name.to_owned(),
        files,
        readings,
        bytes,
        first_ms: first_ns.map(when::ms),
        age: shown_age(limit),
        size: shown_room(limit),
    };
    let sealed = kept.map(|(held, limit)| {
        tier(held.tier.as_str(), (held.files, held.rows, held.bytes), held.first_ns, limit)
    });
    let held = hub.store.cold();
    let shown = freezes || held.files > 0;
    let below = shown.then(|| tier("cold", (held.files, held.rows, held.bytes), held.first_ns, cold));
    sealed.chain(below).collect()
}

/// What the store holds
#[utoipa::path(get, path = "/api/v1/store", operation_id = "store",
    responses((status = 200, description = "Its counts", body = StoreInfo), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(hub): State<App>) -> Result<Json<StoreInfo>, ApiError> {
    let metrics = hub.store.metrics();
    Ok(Json(StoreInfo {
        agents: hub.store.agents().len() as u64,
        series: hub.store.series_count() as u64,
        hot_rows: metrics.hot_rows,
        sealed_files: metrics.sealed_files,
        sealed_rows: metrics.sealed_rows,
        sealed_bytes: metrics.sealed_bytes,
        tiers: tiers(&hub),
        appended_rows: metrics.appended_rows,
        duplicate_rows: metrics.duplicate_rows,
        dead_letters: metrics.dead_letters,
        poisoned: metrics.poisoned,
    }))
}
