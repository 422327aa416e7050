//! Twins by API: state, changes, history and conflicts.

pub mod groups;
pub mod history;
mod points;
pub mod sites;
pub mod templates;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Actor, Conflict, EditError, Leaf, PatchError, Section, Side, Twin};

use super::auth::Principal;
use super::exact::Exact;
use super::problem::{ApiError, Problem};
use super::select::each_of;
use super::shapes::{
    TwinAnswer, TwinConflict, TwinConflicts, TwinDifference, TwinPatch, TwinPatched, TwinValue, TwinsPatch,
    TwinsPatched,
};
use crate::hub::{App, Hub};
use crate::layer::Whose;
use crate::metadata::DeviceRecord;
use crate::twins::{self, Patch, TwinError, etag};
use crate::when;
use crate::{layer, schedules};

/// Most devices of one patch.
const DEVICES_MAX: usize = 1000;

impl From<TwinError> for ApiError {
    fn from(error: TwinError) -> Self {
        let text = error.to_string();
        match error {
            TwinError::Metadata(error) => error.into(),
            TwinError::File(_) | TwinError::Damaged { .. } | TwinError::Unwritten => Self::internal(&error),
            TwinError::Differs { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "twin-changed", text),
            TwinError::TooOften { wait_s } => Self {
                retry_after_s: Some(wait_s),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "twin-too-often", text)
            },
            TwinError::Refused(errors) => Self { errors, ..Self::bad("bad-config", text) },
            TwinError::Patch(error) => Self::bad(patch_code(&error), text),
            TwinError::Edit(error) => refused(&error, text),
        }
    }
}

const fn patch_code(error: &PatchError) -> &'static str {
    match error {
        PatchError::NotAnObject { .. } | PatchError::Form { .. } => "bad-patch",
        PatchError::Key { .. } => "bad-key",
        PatchError::Value { .. } => "bad-value",
        PatchError::TooMany => "twin-too-many-edits",
    }
}

fn refused(error: &EditError, text: String) -> ApiError {
    let conflict = |code| ApiError::new(StatusCode::CONFLICT, code, text.clone());
    match error {
        EditError::Key(_) | EditError::Marked { .. } => ApiError::bad("bad-key", text),
        EditError::Value { .. } | EditError::TextElsewhere { .. } | EditError::Counter { .. } => {
            ApiError::bad("bad-value", text)
        }
        EditError::TooManyEdits { .. } => ApiError::bad("twin-too-many-edits", text),
        EditError::TooLong { .. } => ApiError::bad("twin-change-too-long", text),
        EditError::TooLarge { .. } => conflict("twin-too-large"),
        EditError::TooManyUnconfirmed => conflict("twin-unconfirmed"),
        EditError::NotYours { .. } => conflict("twin-not-yours"),
        _ => ApiError::internal(error),
    }
}

/// The routes that show twins.
pub fn views() -> Router<App> {
    Router::new()
        .route("/devices/{id}/twin", get(show))
        .route("/devices/{id}/twin/history", get(history::history))
        .route("/devices/{id}/twin/conflicts", get(conflicts))
        .merge(sites::views())
        .merge(groups::views())
        .merge(templates::views())
}

/// The routes that change them.
pub fn changes() -> Router<App> {
    Router::new()
        .route("/devices/{id}/twin", patch(change))
        .route("/twins", patch(change_many))
        .merge(sites::changes())
        .merge(groups::changes())
        .merge(templates::changes())
}

/// The twin of a registered device, and the agent that speaks for it.
fn of(hub: &Hub, id: &str) -> Result<(DocumentId, Vec<String>), ApiError> {
    let unknown = || ApiError::not_found("device", id);
    let record: DeviceRecord = hub.metadata.find(id)?.ok_or_else(unknown)?;
    Ok((DocumentId::Device(DeviceId::parse(id).map_err(|_| unknown())?), vec![record.agent]))
}

fn time_ms(hub: &Hub, text: Option<&str>) -> Result<Option<i64>, ApiError> {
    let parse = |text| when::parse_time(text, hub.clock.wall_ns()).map(when::ms);
    text.map(parse).transpose().map_err(|error| ApiError::bad("bad-time", error.to_string()))
}

fn answer(twin: &Twin, device: &str, agents: &[String], at_ms: Option<i64>) -> TwinAnswer {
    let section = |section| match at_ms {
        None => twin.json(section),
        Some(at_ms) => twin.json_at(section, at_ms),
    };
    let delta = if at_ms.is_none() { twin.delta() } else { Vec::new() };
    let difference = |found: tideline_twin::Difference| TwinDifference {
        key: found.key.to_string(),
        desired: found.desired,
        reported: found.reported,
        since_ms: found.since_ms,
        device: None,
        state: None,
        reason: None,
    };
    let (leaves, bytes, changes) = at_ms.map_or_else(
        || {
            let (leaves, bytes) = twin.size();
            (leaves, bytes, twin.changes())
        },
        |at_ms| twin.measures_at(at_ms),
    );
    let is_agreed = || !agents.is_empty() && agents.iter().all(|agent| twin.is_agreed(agent));
    TwinAnswer {
        device: device.to_owned(),
        etag: at_ms.is_none().then(|| etag(twin)),
        generation: twin.generation().number,
        desired: section(Section::Desired),
        reported: section(Section::Reported),
        tags: section(Section::Tags),
        notes: section(Section::Notes),
        delta: delta.into_iter().map(difference).collect(),
        delta_cut: false,
        warnings: Vec::new(),
        conflicts: if at_ms.is_none() { twin.conflicts().len() as u64 } else { 0 },
        agreed: at_ms.is_none().then(is_agreed),
        leaves: leaves as u64,
        bytes: bytes as u64,
        changes: changes as u64,
        at_ms,
    }
}

/// A state of the past has no etag: with it a change would be made of what is there now.
fn tagged(answer: TwinAnswer) -> Response {
    // It is hexadecimal, which is good in a header.
    let tag = answer.etag.as_ref().and_then(|etag| HeaderValue::from_str(&format!("\"{etag}\"")).ok());
    let mut response = Json(answer).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Which state.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    at: Option<String>,
}

/// The twin of a device
///
/// One that nobody has written to is empty. A state of the past is what was there by the clocks of those who wrote, as long as its
/// history is kept; of what was before that there is what was left then. What a clock wrote that cannot have been right, as it was ahead of
/// the hub's or more than an hour behind what its owner had read, counts from when the hub took it.
#[utoipa::path(get, path = "/api/v1/devices/{id}/twin", operation_id = "twin",
    params(("id" = String, Path, description = "The device"), ("at" = Option<String>, Query, description = "As it was at this time: RFC 3339, Unix ms, or relative as -6h")),
    responses((status = 200, description = "The twin; the header ETag names its state, but for one of the past", body = TwinAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let (document, agents) = of(&hub, &id)?;
    let at_ms = time_ms(&hub, wanted.at.as_deref())?;
    seen(&hub, document, at_ms, move |twin| answer(twin, &id, &agents, at_ms)).await
}

/// A document now, or as it was.
async fn seen(
    hub: &App,
    document: DocumentId,
    at_ms: Option<i64>,
    show: impl FnOnce(&Twin) -> TwinAnswer + Send + 'static,
) -> Result<Response, ApiError> {
    let shown = hub.blocking(move |hub| match at_ms {
        None => hub.twins.look(&document, show),
        Some(at_ms) => hub.twins.look_at(&document, at_ms, show),
    });
    Ok(tagged(shown.await?))
}

/// What several agents share, and these.
type Shared = (DocumentId, Vec<String>);

async fn show_shared(hub: &App, (document, agents): Shared, wanted: &Wanted) -> Result<Response, ApiError> {
    let at_ms = time_ms(hub, wanted.at.as_deref())?;
    let name = document.name();
    if at_ms.is_some() {
        return seen(hub, document, at_ms, move |twin| answer(twin, &name, &agents, at_ms)).await;
    }
    let show = move |hub: &Hub| {
        let shown = hub.twins.look(&document, |twin| answer(twin, &name, &agents, None))?;
        points::told(hub, &document, shown)
    };
    Ok(tagged(hub.blocking(show).await?))
}

async fn change_shared(
    hub: &App,
    (document, agents): Shared,
    principal: Principal,
    headers: &HeaderMap,
    patch: TwinPatch,
) -> Result<Response, ApiError> {
    let of = if_match(headers)?;
    let patch = Patch { sections: sections(patch)?, of, author: principal.name, check: layer::of_shared };
    tracing::info!(%document, by = patch.author, "what devices share changed");
    let name = document.name();
    let of = document.clone();
    let (desired, is_of_config) = (desired(&patch.sections), layer::is_of_config(&patch.sections));
    let show = move |twin: &Twin| TwinAnswer {
        warnings: if is_of_config { Vec::new() } else { layer::standing(twin, Whose::Shared) },
        ..answer(twin, &name, &agents, None)
    };
    let shown = twins::patch(hub, document, patch, show).await?;
    let shown = hub.blocking(move |hub| points::told(hub, &of, shown)).await?;
    Ok(tagged(warned(hub, shown, &desired)))
}

/// What a patch wants.
fn desired(sections: &[(Section, serde_json::Value)]) -> serde_json::Value {
    let found = sections.iter().find(|(section, _)| *section == Section::Desired);
    found.map(|(_, patch)| patch.clone()).unwrap_or_default()
}

/// With what of a patch is of no effect, beside what is told already.
fn warned(hub: &Hub, mut shown: TwinAnswer, desired: &serde_json::Value) -> TwinAnswer {
    shown.warnings.extend(schedules::over(&shown.desired, desired, hub.now_ms()));
    shown
}

/// The states that a request is of; none for any.
fn if_match(headers: &HeaderMap) -> Result<Option<Vec<String>>, ApiError> {
    let fields = headers.get_all(header::IF_MATCH).iter().map(HeaderValue::as_bytes);
    tideline_twin::if_match(fields).map_err(|error| ApiError::bad("bad-etag", error.to_string()))
}

fn sections(patch: TwinPatch) -> Result<Vec<(Section, serde_json::Value)>, ApiError> {
    let TwinPatch { desired, tags, notes } = patch;
    let all = [(Section::Desired, desired), (Section::Tags, tags), (Section::Notes, notes)];
    let sections: Vec<_> = all.into_iter().filter_map(|(section, json)| Some((section, json?))).collect();
    if sections.is_empty() {
        return Err(ApiError::bad("bad-patch", "a patch has desired, tags or notes, each an object"));
    }
    Ok(sections)
}

/// Change the twin of a device
///
/// It is on disk when it is answered, and then goes to the device at once if that is connected, or with its next session. With
/// `If-Match` it is made of that state only. What is wanted of an agent's configuration, `desired/config`, is checked by the schema
/// that the agent reports, and all that is wrong is told at once.
#[utoipa::path(patch, path = "/api/v1/devices/{id}/twin", operation_id = "patchTwin", request_body = TwinPatch,
    params(("id" = String, Path, description = "The device"), ("If-Match" = Option<String>, Header, description = "Of one of these states only, a list of etags; any by *. Weak ones are of none")),
    responses((status = 200, description = "As it is now", body = TwinAnswer), (status = 400, description = "`bad-patch`, `bad-key`, `bad-value`, `bad-etag`, `twin-too-many-edits`, `twin-change-too-long`; `bad-config` with all that is wrong in `errors`", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`twin-too-large`, `twin-unconfirmed`: the device was away for too many changes", body = Problem, content_type = "application/problem+json"), (status = 412, description = "`twin-changed`: it is of another state", body = Problem, content_type = "application/problem+json"), (status = 429, description = "`twin-too-often`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn change(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Exact(patch): Exact<TwinPatch>,
) -> Result<Response, ApiError> {
    let (document, agents) = of(&hub, &id)?;
    let of = if_match(&headers)?;
    let patch = Patch { sections: sections(patch)?, of, author: principal.name, check: layer::of_patches };
    tracing::info!(device = id, by = patch.author, "twin changed");
    let is_of_config = layer::is_of_config(&patch.sections);
    if is_of_config {
        has_a_configuration(&hub, document.clone(), agents.clone(), patch.sections.clone()).await?;
    }
    let desired = desired(&patch.sections);
    twins::patch(&hub, document.clone(), patch, etag).await?;
    if is_of_config {
        fill(&hub, vec![id.clone()]).await?;
    }
    let show = move |twin: &Twin| {
        let warnings = if is_of_config { Vec::new() } else { standing(twin, &id, &agents) };
        TwinAnswer { warnings, ..answer(twin, &id, &agents, None) }
    };
    let shown = twins::look(&hub, document, show).await?;
    Ok(tagged(warned(&hub, shown, &desired)))
}

/// What is wrong with the configuration that stands in a device's twin.
fn standing(twin: &Twin, device: &str, agents: &[String]) -> Vec<String> {
    let whose = agents.first().filter(|agent| *agent != device).map_or(Whose::Agent, |of| Whose::Behind(of));
    layer::standing(twin, whose)
}

/// Fails where a configuration is wanted of a device that is no agent.
async fn has_a_configuration(
    hub: &App,
    document: DocumentId,
    agents: Vec<String>,
    sections: Vec<(Section, serde_json::Value)>,
) -> Result<(), ApiError> {
    let name = document.name();
    let Some(agent) = agents.into_iter().next().filter(|agent| *agent != name) else { return Ok(()) };
    let told =
        twins::look(hub, document, move |twin| layer::of_device_behind(&agent, twin, &sections)).await?;
    told.map_or(Ok(()), |told| Err(TwinError::Refused(vec![told]).into()))
}

/// Change the twins of many devices
///
/// Each is patched by itself: one that is refused leaves the others alone. `If-Match` is refused, as it is of one twin.
#[utoipa::path(patch, path = "/api/v1/twins", operation_id = "patchTwins", request_body = TwinsPatch,
    responses((status = 200, description = "What came of it at each device; those that were patched are on disk", body = TwinsPatched), (status = 400, description = "`bad-patch`, `bad-devices`, `bad-etag`: with `If-Match`; `bad-value`: a whole number beyond 64 bits, or a name twice in one object", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn change_many(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    Exact(request): Exact<TwinsPatch>,
) -> Result<Json<TwinsPatched>, ApiError> {
    if headers.contains_key(header::IF_MATCH) {
        let told = "If-Match: an etag is of one twin, and this is of many; patch each by itself with it, or leave it out";
        return Err(ApiError::bad("bad-etag", told));
    }
    let TwinsPatch { devices, patch } = request;
    let mut devices = hub.blocking(move |hub| each_of(hub, devices, DEVICES_MAX)).await?;
    devices.sort();
    let author = principal.name;
    let patch = Patch { sections: sections(patch)?, of: None, author, check: layer::of_patches };
    tracing::info!(devices = devices.len(), by = patch.author, "twins changed");
    let mut results = Vec::with_capacity(devices.len());
    let mut known = Vec::with_capacity(devices.len());
    let is_of_config = layer::is_of_config(&patch.sections);
    for device in devices {
        match of(&hub, &device) {
            Ok((document, agents)) if is_of_config => {
                let wanted = patch.sections.clone();
                match has_a_configuration(&hub, document.clone(), agents.clone(), wanted).await {
                    Ok(()) => known.push((device, document, agents)),
                    Err(error) => results.push(result(device, Err(error))),
                }
            }
            Ok((document, agents)) => known.push((device, document, agents)),
            Err(error) => results.push(result(device, Err(error))),
        }
    }
    let documents = known.iter().map(|(_, document, _)| document.clone()).collect();
    let desired = desired(&patch.sections);
    let done = twins::patch_each(&hub, documents, patch).await?;
    if is_of_config {
        fill(&hub, known.iter().map(|(name, ..)| name.clone()).collect()).await?;
    }
    results.extend(hub.blocking(move |hub| told_each(hub, known, done, &desired, is_of_config)).await?);
    results.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(Json(TwinsPatched { results }))
}

/// What came of a patch at each device, with what it is warned of.
fn told_each(
    hub: &Hub,
    devices: Vec<(String, DocumentId, Vec<String>)>,
    done: Vec<Result<String, TwinError>>,
    desired: &serde_json::Value,
    is_of_config: bool,
) -> Result<Vec<TwinPatched>, TwinError> {
    let mut told = Vec::with_capacity(devices.len());
    for ((device, document, agents), done) in devices.into_iter().zip(done) {
        let mut warnings = Vec::new();
        if done.is_ok() {
            warnings = hub.twins.look(&document, |twin| {
                let over = schedules::over(&twin.json(Section::Desired), desired, hub.now_ms());
                let standing = if is_of_config { Vec::new() } else { standing(twin, &device, &agents) };
                standing.into_iter().chain(over).collect()
            })?;
        }
        told.push(TwinPatched { warnings, ..result(device, done.map_err(ApiError::from)) });
    }
    Ok(told)
}

/// Has templates fill in what was taken back of devices' configuration.
async fn fill(hub: &App, devices: Vec<String>) -> Result<(), ApiError> {
    for (device, done) in crate::templates::apply_to(hub, devices).await? {
        if let Err(error) = done {
            tracing::warn!(device, %error, "a template of configuration does not fit a device");
        }
    }
    Ok(())
}

fn result(device: String, done: Result<String, ApiError>) -> TwinPatched {
    match done {
        Ok(etag) => TwinPatched { device, etag: Some(etag), code: None, detail: None, warnings: Vec::new() },
        Err(ApiError { code, detail, .. }) => {
            let (code, detail) = (Some(code.to_owned()), Some(detail));
            TwinPatched { device, etag: None, code, detail, warnings: Vec::new() }
        }
    }
}

fn side(actor: Actor) -> Option<String> {
    actor.side().map(|side| match side {
        Side::Hub => "hub".to_owned(),
        Side::Agent => "agent".to_owned(),
    })
}

/// Leaves of a twin with values that exclude each other: written at once, here and on site
#[utoipa::path(get, path = "/api/v1/devices/{id}/twin/conflicts", operation_id = "twinConflicts",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "All of them; a write to a leaf resolves it", body = TwinConflicts), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn conflicts(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<Json<TwinConflicts>, ApiError> {
    let (document, _) = of(&hub, &id)?;
    contested(&hub, document).await
}

async fn contested(hub: &App, document: DocumentId) -> Result<Json<TwinConflicts>, ApiError> {
    let (etag, found) = twins::look(hub, document, |twin| (etag(twin), twin.conflicts())).await?;
    Ok(Json(TwinConflicts { etag, conflicts: found.into_iter().map(conflict).collect() }))
}

fn conflict(found: Conflict) -> TwinConflict {
    let value = |Leaf { value, origin }| TwinValue {
        json: value.to_string(),
        value,
        side: origin.as_ref().and_then(|origin| side(origin.actor)),
        time_ms: origin.as_ref().map(|origin| origin.time_ms),
        author: origin.map(|origin| origin.author),
    };
    TwinConflict {
        section: found.section.to_string(),
        key: found.key.to_string(),
        values: found.values.into_iter().map(value).collect(),
    }
}
