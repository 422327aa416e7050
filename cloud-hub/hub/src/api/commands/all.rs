//! Commands of all devices.

use axum::extract::{Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use tideline_protocol::commands::HubCommand;
use tideline_protocol::wire::CommandState;

use super::super::auth::Principal;
use super::super::devices::{PAGE_DEFAULT, PAGE_MAX};
use super::super::problem::{ApiError, Problem};
use super::super::select::{Names, listed};
use super::super::shapes::{CommandInfo, CommandPage};
use super::before;
use crate::commands::{self, Among, Found, Made};
use crate::hub::{App, Hub};
use crate::when;

/// What `state` may name beside the states: all that are none of an end.
const OPEN: &str = "open";

/// Which commands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    state: Option<String>,
    kind: Option<String>,
    device: Option<String>,
    author: Option<String>,
    correlation: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// What is wanted of a command beside its time; an empty list stands for all.
struct Wanted {
    states: Vec<CommandState>,
    kinds: Names,
    devices: Names,
    authors: Names,
    correlation: Option<String>,
}

impl Wanted {
    fn of(asked: &Asked) -> Result<Self, ApiError> {
        Ok(Self {
            states: states(asked.state.as_deref())?,
            kinds: Names::of("kind", listed(asked.kind.as_deref()))?,
            devices: Names::of("device", listed(asked.device.as_deref()))?,
            authors: Names::of("author", listed(asked.author.as_deref()))?,
            correlation: asked.correlation.clone(),
        })
    }

    fn fits(&self, command: &HubCommand) -> bool {
        let any = |names: &Names, name: &str| names.is_empty() || names.has(name);
        (self.states.is_empty() || self.states.contains(&command.state))
            && any(&self.kinds, &command.kind)
            && any(&self.devices, command.device.as_str())
            && any(&self.authors, &command.author)
            && (self.correlation.is_none() || self.correlation == command.correlation)
    }
}

fn states(text: Option<&str>) -> Result<Vec<CommandState>, ApiError> {
    let mut out = Vec::new();
    for name in listed(text) {
        let named = |state: &CommandState| state.as_str() == name || (name == OPEN && !state.is_final());
        let before = out.len();
        out.extend(CommandState::ALL.into_iter().filter(named));
        if out.len() == before {
            let all = CommandState::ALL.map(CommandState::as_str).join(", ");
            return Err(ApiError::bad("bad-state", format!("state={name}; allowed are {all} and {OPEN}")));
        }
    }
    Ok(out)
}

fn made(hub: &Hub, asked: &Asked) -> Result<Made, ApiError> {
    let now_ns = hub.now_ms().saturating_mul(1_000_000);
    let time = |text: &Option<String>| -> Result<Option<i64>, ApiError> {
        let parsed = text.as_deref().map(|text| when::parse_time(text, now_ns)).transpose();
        let parsed = parsed.map_err(|error| ApiError::bad("bad-time", error.to_string()))?;
        Ok(parsed.map(when::ms))
    };
    Ok(Made { from_ms: time(&asked.from)?, to_ms: time(&asked.to)? })
}

/// Commands of all devices, the newest first
///
/// A page may hold fewer than were asked for, even none, and name a next one: a question looks at 20,000 commands at most,
/// of named devices at theirs alone.
#[utoipa::path(get, path = "/api/v1/commands", operation_id = "allCommands",
    params(("state" = Option<String>, Query, description = "In one of these states, with commas; `open` for all that are none of an end"), ("kind" = Option<String>, Query, description = "Of one of these kinds, with commas; `*` stands for any text"), ("device" = Option<String>, Query, description = "For one of these devices, likewise"), ("author" = Option<String>, Query, description = "By one of these, likewise"), ("correlation" = Option<String>, Query, description = "With this `correlation_id`"), ("from" = Option<String>, Query, description = "Given from this time on: RFC 3339, Unix ms, or relative as -6h"), ("to" = Option<String>, Query, description = "Given before this time"), ("limit" = Option<usize>, Query, description = "Most commands, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = CommandPage), (status = 400, description = "`bad-state`, `bad-select`, `bad-time`, `bad-limit`, `bad-cursor`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list_all(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Query(asked): Query<Asked>,
) -> Result<Json<CommandPage>, ApiError> {
    let limit = asked.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {PAGE_MAX}")));
    }
    let (wanted, made) = (Wanted::of(&asked)?, made(&hub, &asked)?);
    let before = before(asked.cursor.as_deref())?;
    let find = move |hub: &Hub| {
        let devices = wanted.devices.exact();
        let among = devices.as_deref().map_or(Among::All, Among::Devices);
        commands::search(hub, among, made, before, limit, |command| wanted.fits(command))
    };
    let Found { commands, next } = hub.blocking(find).await?;
    let commands = commands.iter().map(|command| CommandInfo::of(command, principal.role)).collect();
    Ok(Json(CommandPage { commands, next }))
}
