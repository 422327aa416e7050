//! Commands for devices by API.

pub mod all;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tideline_protocol::commands::{ATTEMPTS_MAX, HubCommand, Order};
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::wire::{COMMAND_INPUT_BYTES_MAX, COMMAND_KIND_BYTES_MAX, CommandId, TEXT_BYTES_MAX};

use super::auth::Principal;
use super::devices::{PAGE_DEFAULT, PAGE_MAX};
use super::exact::Exact;
use super::problem::{ApiError, Problem};
use super::select::each_of;
use super::shapes::{
    CommandAnswer, CommandFault, CommandInfo, CommandPage, CommandRequest, CommandResult, CommandResults,
    CommandsRequest,
};
use crate::commands::{self, OrderError};
use crate::hub::{App, Hub};
use crate::metadata::{DeviceRecord, MetadataError};
use crate::when;

/// The kind of command that has times in its input.
const EXPORT: &str = "export";
/// The header that makes the same request the same command.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest such key, and longest correlation id, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// Within what a command must begin where nobody says anything else.
const WITHIN_MS: i64 = 60 * 60 * 1000;
/// Longest time that a command may wait.
const WITHIN_MAX_MS: i64 = 365 * 24 * 60 * 60 * 1000;
/// Most attempts where nobody says anything else.
const ATTEMPTS: u32 = 3;
/// Most devices in one request.
const DEVICES_MAX: usize = 1000;

impl From<OrderError> for ApiError {
    fn from(error: OrderError) -> Self {
        let text = error.to_string();
        match error {
            OrderError::Full(..) => Self::new(StatusCode::CONFLICT, "too-many-commands", text),
            OrderError::Key(..) => Self::new(StatusCode::CONFLICT, "key-used", text),
            OrderError::Metadata(error) => error.into(),
        }
    }
}

/// The routes that show commands.
pub fn views() -> Router<App> {
    Router::new()
        .route("/devices/{id}/commands", get(list))
        .route("/commands", get(all::list_all))
        .route("/commands/{id}", get(show))
}

/// The routes that give and cancel them.
pub fn changes() -> Router<App> {
    Router::new()
        .route("/devices/{id}/commands", post(create))
        .route("/commands", post(create_each))
        .route("/commands/{id}/cancel", post(cancel))
}

fn bad(detail: String) -> ApiError {
    ApiError::bad("bad-command", detail)
}

/// Checks what is wanted of a device.
fn order(hub: &App, device: &str, author: &str, request: CommandRequest) -> Result<Order, ApiError> {
    let record: DeviceRecord =
        hub.metadata.find(device)?.ok_or_else(|| ApiError::not_found("device", device))?;
    if record.revoked {
        let detail = format!("device {device} is revoked");
        return Err(ApiError::new(StatusCode::CONFLICT, "device-revoked", detail));
    }
    let device = DeviceId::parse(device).map_err(|error| bad(error.to_string()))?;
    let agent = AgentId::parse(&record.agent).map_err(|error| bad(error.to_string()))?;
    if !(request.input.is_object() || request.input.is_null()) {
        return Err(bad(
            "input: is no object; allowed is one with what the command is given, as {\"point\": \"speed\"}"
                .into(),
        ));
    }
    let input = input_of(&request);
    let kind = request.kind;
    if !(1..=COMMAND_KIND_BYTES_MAX).contains(&kind.len()) {
        return Err(bad(format!("kind has {} bytes; allowed are 1 to {COMMAND_KIND_BYTES_MAX}", kind.len())));
    }
    if input.len() > COMMAND_INPUT_BYTES_MAX {
        return Err(bad(format!("input has {} bytes; allowed are {COMMAND_INPUT_BYTES_MAX}", input.len())));
    }
    if kind == EXPORT {
        has_times(&request.input, hub.now_ms())?;
    }
    let correlation = request.correlation_id;
    if let Some(len) = correlation.as_ref().map(String::len).filter(|len| *len > KEY_BYTES_MAX) {
        return Err(bad(format!("correlation_id has {len} bytes; allowed are {KEY_BYTES_MAX}")));
    }
    let now_ms = hub.now_ms();
    let within_ms = request.within_s.map(|s| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000));
    let deadline_ms = match (request.deadline_ms, within_ms) {
        (Some(_), Some(_)) => {
            return Err(bad("deadline_ms and within_s are both given; allowed is one".into()));
        }
        (Some(deadline_ms), None) => deadline_ms,
        (None, within_ms) => now_ms.saturating_add(within_ms.unwrap_or(WITHIN_MS)),
    };
    if deadline_ms <= now_ms || deadline_ms.saturating_sub(now_ms) > WITHIN_MAX_MS {
        return Err(bad(format!("the deadline is {deadline_ms}; allowed is a time within a year from now")));
    }
    let attempts_max = request.attempts.unwrap_or(ATTEMPTS);
    if !(1..=ATTEMPTS_MAX).contains(&attempts_max) {
        return Err(bad(format!("attempts = {attempts_max}; allowed are 1 to {ATTEMPTS_MAX}")));
    }
    let mut author = author.to_owned();
    author.truncate(author.floor_char_boundary(TEXT_BYTES_MAX));
    let priority = request.priority;
    Ok(Order { device, agent, kind, input, priority, deadline_ms, attempts_max, author, correlation })
}

/// Whether an agent can read the times of an export: it would say so only once it is there.
fn has_times(input: &serde_json::Value, now_ms: i64) -> Result<(), ApiError> {
    for name in ["from", "to"] {
        let time = match input.get(name) {
            None | Some(serde_json::Value::Null) => continue,
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let parsed = when::parse_time(&time, now_ms.saturating_mul(1_000_000));
        parsed.map_err(|error| bad(format!("input.{name}: {error}")))?;
    }
    Ok(())
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let wrong = || {
        ApiError::bad(
            "bad-key",
            format!("Idempotency-Key: allowed are 1 to {KEY_BYTES_MAX} visible characters"),
        )
    };
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

fn input_of(request: &CommandRequest) -> String {
    if request.input.is_null() { "{}".to_owned() } else { request.input.to_string() }
}

/// The command that was given by the same request before.
fn given_before(
    hub: &Hub,
    device: &str,
    request: &CommandRequest,
    key: Option<&str>,
) -> Result<Option<HubCommand>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    Ok(commands::given_before(hub, device, key, (&request.kind, &input_of(request)))?)
}

async fn give(
    hub: &App,
    device: &str,
    author: &str,
    request: CommandRequest,
    key: Option<String>,
) -> Result<(HubCommand, bool), ApiError> {
    if let Some(command) = given_before(hub, device, &request, key.as_deref())? {
        return Ok((command, false));
    }
    Ok(commands::order(hub, order(hub, device, author, request)?, key).await?)
}

/// Give a device a command
///
/// It is durable when this answers, and goes to the device's agent when that is there. It is begun at most once. With a
/// header `Idempotency-Key` the same request again gives the same command.
#[utoipa::path(post, path = "/api/v1/devices/{id}/commands", operation_id = "command", request_body = CommandRequest,
    params(("id" = String, Path, description = "The device"), ("Idempotency-Key" = Option<String>, Header, description = "The same key is the same command of this device")),
    responses((status = 201, description = "Taken", body = CommandInfo), (status = 200, description = "It was taken before", body = CommandInfo), (status = 400, description = "`bad-command`, `bad-key`", body = Problem, content_type = "application/problem+json"), (status = 404, description = "No such device", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`device-revoked`, `too-many-commands`, `key-used`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(device): Path<String>,
    headers: HeaderMap,
    Exact(request): Exact<CommandRequest>,
) -> Result<(StatusCode, Json<CommandInfo>), ApiError> {
    let (command, is_new) = give(&hub, &device, &principal.name, request, key_of(&headers)?).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(CommandInfo::of(&command, principal.role))))
}

/// Give several devices the same command
///
/// Each takes it or not by itself; the answer says what became of it for each. Those of a site or a group are they that are there now:
/// who joins it later is given nothing. It goes on for all of them when the caller hangs up:
/// with a header `Idempotency-Key` the same request again gives the same commands.
#[utoipa::path(post, path = "/api/v1/commands", operation_id = "commandEach", request_body = CommandsRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key is the same command of each device")),
    responses((status = 200, description = "What became of it for each", body = CommandResults), (status = 400, description = "`bad-command`, `bad-key`; `bad-devices`: there is none, or too many", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create_each(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    Exact(CommandsRequest { devices, command }): Exact<CommandsRequest>,
) -> Result<Json<CommandResults>, ApiError> {
    let key = key_of(&headers)?;
    let devices = hub.blocking(move |hub| each_of(hub, devices, DEVICES_MAX)).await?;
    let (mut checked, mut orders) = (Vec::with_capacity(devices.len()), Vec::with_capacity(devices.len()));
    for device in devices {
        let found = match given_before(&hub, &device, &command, key.as_deref()) {
            Ok(None) => {
                let order = order(&hub, &device, &principal.name, command.clone());
                order.map(|order| orders.push(order)).map(|()| None)
            }
            before => before,
        };
        checked.push((device, found));
    }
    let mut taken = commands::order_each(&hub, orders, key).await?.into_iter();
    let lost = || Err(MetadataError::interrupted("no command was made").into());
    let mut results = Vec::with_capacity(checked.len());
    for (device, found) in checked {
        let found = found.and_then(|before| match before {
            Some(command) => Ok(command),
            None => Ok(taken.next().unwrap_or_else(lost)?.0),
        });
        let (command, error) = match found {
            Ok(command) => (Some(CommandInfo::of(&command, principal.role)), None),
            Err(error) => (None, Some(CommandFault { code: error.code.to_owned(), text: error.detail })),
        };
        results.push(CommandResult { device, command, error });
    }
    Ok(Json(CommandResults { results }))
}

/// Which commands of a device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The command that a page goes on behind: its id, which stands where it is whatever is given meanwhile.
fn before(cursor: Option<&str>) -> Result<Option<CommandId>, ApiError> {
    let wrong = |_| ApiError::bad("bad-cursor", "the cursor is none of an earlier page: allowed is its next");
    cursor.map(|cursor| cursor.parse().map_err(wrong)).transpose()
}

/// The commands of a device, the newest first
#[utoipa::path(get, path = "/api/v1/devices/{id}/commands", operation_id = "commands",
    params(("id" = String, Path, description = "The device"), ("limit" = Option<usize>, Query, description = "Most commands, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = CommandPage), (status = 400, description = "`bad-limit`, `bad-cursor`", body = Problem, content_type = "application/problem+json"), (status = 404, description = "No such device", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(device): Path<String>,
    Query(Listing { limit, cursor }): Query<Listing>,
) -> Result<Json<CommandPage>, ApiError> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {PAGE_MAX}")));
    }
    let before = before(cursor.as_deref())?;
    let found = hub
        .blocking(move |hub| {
            if hub.metadata.find::<DeviceRecord>(&device)?.is_none() {
                return Err(ApiError::not_found("device", &device));
            }
            Ok(commands::list(hub, &device, before, limit + 1)?)
        })
        .await?;
    let mut commands: Vec<CommandInfo> =
        found.iter().map(|command| CommandInfo::of(command, principal.role)).collect();
    let more = commands.len() > limit;
    commands.truncate(limit);
    let next = commands.last().filter(|_| more).map(|command| command.id.clone());
    Ok(Json(CommandPage { commands, next }))
}

fn parse(id: &str) -> Result<CommandId, ApiError> {
    id.parse().map_err(|_| ApiError::not_found("command", id))
}

/// One command with its output
#[utoipa::path(get, path = "/api/v1/commands/{id}", operation_id = "showCommand",
    params(("id" = String, Path, description = "The command")),
    responses((status = 200, description = "The command", body = CommandAnswer), (status = 404, description = "No such command", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<CommandAnswer>, ApiError> {
    let wanted = parse(&id)?;
    hub.blocking(move |hub| {
        let command = commands::find(hub, wanted)?.ok_or_else(|| ApiError::not_found("command", &id))?;
        let output = String::from_utf8_lossy(&commands::output(hub, &command)?).into_owned();
        Ok(Json(CommandAnswer { command: CommandInfo::of(&command, principal.role), output }))
    })
    .await
}

/// Cancel a command
///
/// One that was not sent yet ends at once. One that runs is broken off where its kind can be, when its agent is there; it may
/// have come to another end by then. One that has ended stays as it is.
#[utoipa::path(post, path = "/api/v1/commands/{id}/cancel", operation_id = "cancelCommand",
    params(("id" = String, Path, description = "The command")),
    responses((status = 200, description = "As it is now", body = CommandInfo), (status = 404, description = "No such command", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn cancel(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<CommandInfo>, ApiError> {
    let command = commands::cancel(&hub, parse(&id)?).await?;
    let command = command.ok_or_else(|| ApiError::not_found("command", &id))?;
    tracing::info!(id, by = principal.name, state = %command.state, "a command is to be cancelled");
    Ok(Json(CommandInfo::of(&command, principal.role)))
}
