//! Dead letters: what an agent sent, was made durable, and cannot be decoded.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tideline_store::{LetterId, LetterState as Found, StoreError};

use super::devices::Page;
use super::problem::{ApiError, Problem};
use super::shapes::{DeadLetter, DeadLetterAnswer, DeadLetterPage, DeadLetterReplay, LetterState};
use crate::hub::App;
use crate::secret::hex;

/// Bytes of a block that are shown: more than any codec's header.
const SHOWN_BYTES: usize = 256;

/// Which letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    limit: Option<usize>,
    cursor: Option<String>,
    agent: Option<String>,
}

fn store_failed(error: StoreError) -> ApiError {
    match error {
        StoreError::Undecodable(reason) => {
            let detail = format!("it still cannot be decoded: {reason}");
            ApiError::new(StatusCode::CONFLICT, "undecodable", detail)
        }
        StoreError::Series { reason, .. } => ApiError::new(StatusCode::CONFLICT, "undecodable", reason),
        StoreError::Poisoned => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store-poisoned", error.to_string())
        }
        error => ApiError::internal(&error),
    }
}

fn id_of(text: &str) -> Result<LetterId, ApiError> {
    LetterId::parse(text).ok_or_else(|| ApiError::not_found("dead letter", text))
}

fn shown(letter: &tideline_store::DeadLetter) -> DeadLetter {
    let head = &letter.head;
    DeadLetter {
        id: head.id.to_string(),
        agent: head.id.agent.to_string(),
        epoch: head.id.epoch.to_string(),
        first: head.id.first.get(),
        last: head.id.last.get(),
        batches: head.taken.len(),
        rows: letter.rows,
        bytes: head.bytes,
        reason: head.reason.clone(),
        kept_ms: head.kept_ms,
        state: match letter.state {
            Found::Refused => LetterState::Refused,
            Found::Stored => LetterState::Stored,
            Found::Unknown => LetterState::Unknown,
        },
    }
}

/// Dead letters that are kept
#[utoipa::path(get, path = "/api/v1/dead-letters", operation_id = "deadLetters",
    params(("agent" = Option<String>, Query, description = "Of this agent only"), ("limit" = Option<usize>, Query, description = "Most letters, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = DeadLetterPage), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(hub): State<App>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<DeadLetterPage>, ApiError> {
    let (letters, unreadable) = hub.blocking(|hub| hub.store.dead_letters().map_err(store_failed)).await?;
    let of = |letter: &DeadLetter| wanted.agent.as_ref().is_none_or(|agent| letter.agent == *agent);
    let mut all: Vec<DeadLetter> = letters.iter().map(shown).filter(of).collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let (letters, next) = Page::cut(wanted.limit, wanted.cursor.as_deref(), all, |letter| &letter.id)?;
    Ok(Json(DeadLetterPage { letters, unreadable, next }))
}

/// One dead letter with the first bytes of its block
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", operation_id = "deadLetter",
    params(("id" = String, Path, description = "The letter")),
    responses((status = 200, description = "The letter", body = DeadLetterAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Path(text): Path<String>,
) -> Result<Json<DeadLetterAnswer>, ApiError> {
    let id = id_of(&text)?;
    let found = hub.blocking(move |hub| hub.store.dead_letter(&id).map_err(store_failed)).await?;
    let (letter, block) = found.ok_or_else(|| ApiError::not_found("dead letter", &text))?;
    let begin = hex(block.get(..SHOWN_BYTES).unwrap_or(&block));
    Ok(Json(DeadLetterAnswer { letter: shown(&letter), begin }))
}

/// Try to decode a dead letter again, and store its readings
///
/// Its readings go from refused to stored once, however often this is asked for.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/replay", operation_id = "replayDeadLetter",
    params(("id" = String, Path, description = "The letter")),
    responses((status = 200, description = "Stored, and the letter removed", body = DeadLetterReplay), (status = 409, description = "`undecodable`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn replay(
    State(hub): State<App>,
    Path(text): Path<String>,
) -> Result<Json<DeadLetterReplay>, ApiError> {
    let id = id_of(&text)?;
    let rows = hub.blocking(move |hub| hub.store.replay_dead_letter(&id).map_err(store_failed)).await?;
    let rows = rows.ok_or_else(|| ApiError::not_found("dead letter", &text))?;
    tracing::info!(letter = text, rows, "dead letter replayed");
    Ok(Json(DeadLetterReplay { rows }))
}

/// Throw a dead letter away; its readings stay refused
#[utoipa::path(delete, path = "/api/v1/dead-letters/{id}", operation_id = "deleteDeadLetter",
    params(("id" = String, Path, description = "The letter")),
    responses((status = 204, description = "Gone"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn remove(State(hub): State<App>, Path(text): Path<String>) -> Result<StatusCode, ApiError> {
    let id = id_of(&text)?;
    if !hub.blocking(move |hub| hub.store.remove_dead_letter(&id).map_err(store_failed)).await? {
        return Err(ApiError::not_found("dead letter", &text));
    }
    tracing::info!(letter = text, "dead letter deleted");
    Ok(StatusCode::NO_CONTENT)
}
