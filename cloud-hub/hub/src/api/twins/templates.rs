//! Templates of configuration by API, and what of a device's configuration comes from where.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::routing::{get, put};
use axum::{Extension, Json, Router};
use serde_json::Value;
use tideline_protocol::model::AgentId;
use tideline_twin::{Section, Twin};

use super::super::auth::Principal;
use super::super::devices::last_seen;
use super::super::exact::Exact;
use super::super::problem::{ApiError, Problem};
use super::super::shapes::{
    ConfigInForce, ConfigTemplate, ConfigTemplateApplied, ConfigTemplatePut, ConfigTemplates, ConfigValue,
    DeviceConfig, TwinsPatched,
};
use super::{of, result};
use crate::hub::App;
use crate::metadata::{ConfigRecord, DeviceRecord, TemplateRecord};
use crate::schedules;
use crate::templates::{self, Name, Outcome, TemplateError};
use crate::twins;

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        let text = error.to_string();
        match error {
            TemplateError::Name(_) => Self::bad("bad-template", text),
            TemplateError::Layer(_) => Self::bad("bad-config", text),
            TemplateError::NoMember(refusals) => {
                Self { errors: templates::told(&refusals), ..Self::bad("bad-config", text) }
            }
            TemplateError::Full => Self::new(axum::http::StatusCode::CONFLICT, "too-many-templates", text),
            TemplateError::Metadata(error) => error.into(),
            TemplateError::Twin(error) => error.into(),
        }
    }
}

/// The routes that show templates.
pub fn views() -> Router<App> {
    Router::new()
        .route("/config-templates", get(list_templates))
        .route("/config-templates/{kind}/{name}", get(show_template))
        .route("/devices/{id}/config", get(device_config))
}

/// The routes that change them.
pub fn changes() -> Router<App> {
    Router::new().route("/config-templates/{kind}/{name}", put(put_template).delete(remove_template))
}

fn named(kind: &str, name: &str) -> Result<Name, ApiError> {
    Ok(format!("{kind}/{name}").parse::<Name>()?)
}

async fn shown(hub: &App, name: Name, record: TemplateRecord) -> Result<ConfigTemplate, ApiError> {
    let key = name.to_string();
    let members = hub.blocking(move |hub| templates::members(hub, &name)).await?;
    Ok(ConfigTemplate::of(key, record, members))
}

/// All templates of configuration
#[utoipa::path(get, path = "/api/v1/config-templates", operation_id = "configTemplates",
    responses((status = 200, description = "The templates by name", body = ConfigTemplates), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list_templates(State(hub): State<App>) -> Result<Json<ConfigTemplates>, ApiError> {
    let all = hub.blocking(templates::list).await?.into_iter();
    let templates =
        all.map(|(name, record, members)| ConfigTemplate::listed(name, record, members)).collect();
    Ok(Json(ConfigTemplates { templates }))
}

/// A template of configuration with its earlier versions
#[utoipa::path(get, path = "/api/v1/config-templates/{kind}/{name}", operation_id = "configTemplate",
    params(("kind" = String, Path, description = "`group` or `site`"), ("name" = String, Path, description = "Of the group or site")),
    responses((status = 200, description = "The template", body = ConfigTemplate), (status = 400, description = "`bad-template`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show_template(
    State(hub): State<App>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<ConfigTemplate>, ApiError> {
    let name = named(&kind, &name)?;
    let key = name.to_string();
    let record = hub.metadata.find(&key)?.ok_or_else(|| ApiError::not_found("template", &key))?;
    shown(&hub, name, record).await.map(Json)
}

fn results(outcomes: Vec<Outcome>) -> TwinsPatched {
    let one = |(device, done): Outcome| result(device, done.map_err(ApiError::from));
    TwinsPatched { results: outcomes.into_iter().map(one).collect() }
}

/// Set a template of configuration
///
/// All agents of the group or at the site have it from then on, each option that nobody set of the agent itself; a site's goes before
/// a group's. Each is checked by the schema that the agent reports, and told by itself what is wrong. One that none of its agents can
/// take does not become current: `errors` has what each of them says. Without any agent there is nobody who says so, which is warned of.
#[utoipa::path(put, path = "/api/v1/config-templates/{kind}/{name}", operation_id = "putConfigTemplate", request_body = ConfigTemplatePut,
    params(("kind" = String, Path, description = "`group` or `site`"), ("name" = String, Path, description = "Of the group or site")),
    responses((status = 200, description = "The template, and what came of it at each agent", body = ConfigTemplateApplied), (status = 400, description = "`bad-template`, `bad-config`, `bad-etag`: with `If-Match`; `bad-value`: a whole number beyond 64 bits", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`too-many-templates`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn put_template(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
    Exact(wanted): Exact<ConfigTemplatePut>,
) -> Result<Json<ConfigTemplateApplied>, ApiError> {
    let name = named(&kind, &name)?;
    if headers.contains_key(header::IF_MATCH) {
        let told = "If-Match: a template has no etag; leave it out, and look at the version that is answered";
        return Err(ApiError::bad("bad-etag", told));
    }
    tracing::info!(template = %name, by = principal.name, "a template of configuration is set");
    let mut warnings = schedules::over_of_layer(&wanted.layer, hub.now_ms());
    let (record, outcomes) = templates::put(&hub, &name, wanted.layer, principal.name).await?;
    let (template, TwinsPatched { results }) = (shown(&hub, name, record).await?, results(outcomes));
    if template.members.is_empty() {
        warnings.push(format!(
            "{}: it has no agent, and so there was no schema to judge the layer by: what an agent that joins cannot take is told where that is laid",
            template.name
        ));
    }
    Ok(Json(ConfigTemplateApplied { template, results, warnings }))
}

/// Remove a template of configuration
///
/// What came of it is taken back at each agent.
#[utoipa::path(delete, path = "/api/v1/config-templates/{kind}/{name}", operation_id = "removeConfigTemplate",
    params(("kind" = String, Path, description = "`group` or `site`"), ("name" = String, Path, description = "Of the group or site")),
    responses((status = 200, description = "What came of it at each agent", body = TwinsPatched), (status = 400, description = "`bad-template`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn remove_template(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<TwinsPatched>, ApiError> {
    let name = named(&kind, &name)?;
    tracing::info!(template = %name, by = principal.name, "a template of configuration is removed");
    let outcomes = templates::remove(&hub, &name).await?;
    let outcomes = outcomes.ok_or_else(|| ApiError::not_found("template", &name.to_string()))?;
    Ok(Json(results(outcomes)))
}

/// The configuration of an agent
///
/// What the hub wants of it, where each value comes from, and what the agent says to it; and all values that are in force, each with
/// the layer that it comes from, as the agent last said: also of one that is away.
#[utoipa::path(get, path = "/api/v1/devices/{id}/config", operation_id = "deviceConfig",
    params(("id" = String, Path, description = "The agent, as a device")),
    responses((status = 200, description = "What is wanted and what is in force", body = DeviceConfig), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn device_config(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<Json<DeviceConfig>, ApiError> {
    let (document, agents) = of(&hub, &id)?;
    let in_force = hub.metadata.find::<ConfigRecord>(&id)?;
    let own: Option<DeviceRecord> = hub.metadata.find(&id)?;
    let heard_ms = AgentId::parse(&id).ok().zip(own).and_then(|(agent, own)| last_seen(&hub, &agent, &own));
    let shown = twins::look(&hub, document, move |twin| {
        let agreed = agents.iter().all(|agent| twin.is_agreed(agent));
        let shown = configured(id, twin, agreed);
        let in_force = in_force.map(|record| ConfigInForce::of(record, &shown.values, heard_ms));
        DeviceConfig { in_force, ..shown }
    });
    Ok(Json(shown.await?))
}

fn configured(device: String, twin: &Twin, agreed: bool) -> DeviceConfig {
    let reported = twin.json(Section::Reported).get("config").cloned().unwrap_or(Value::Null);
    let text = |pointer: &str| reported.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let texts = |name: &str| {
        let all = reported.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let value = |(path, leaf): (Vec<String>, tideline_twin::Leaf)| ConfigValue {
        option: path.get(1..).unwrap_or_default().join("."),
        source: templates::template(&leaf)
            .map_or_else(|| "device".to_owned(), |name| format!("template {name}")),
        author: leaf.origin.as_ref().map(|origin| origin.author.clone()).unwrap_or_default(),
        time_ms: leaf.origin.as_ref().map(|origin| origin.time_ms),
        value: leaf.value,
    };
    DeviceConfig {
        device,
        agreed,
        values: templates::leaves(twin).into_iter().map(value).collect(),
        state: text("/state"),
        version: text("/version"),
        reason: text("/reason").or_else(|| text("/refused/reason")),
        refused: text("/refused/version"),
        needs_restart: texts("needs_restart"),
        unwell: texts("unwell"),
        in_force: None,
    }
}
