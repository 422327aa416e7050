//! The HTTP API: the only place that knows JSON and HTTP.

pub mod aggregate;
pub mod auth;
pub mod backups;
pub mod boards;
pub mod commands;
pub mod dead_letters;
pub mod device_tokens;
pub mod devices;
pub mod enroll;
mod exact;
pub mod export;
pub mod fleet;
pub mod imports;
pub mod jobs;
pub mod last;
pub mod ledger;
pub mod map;
pub mod marks;
pub mod operate;
pub mod plans;
pub mod problem;
pub mod profiles;
pub mod prometheus;
pub mod query;
pub mod select;
pub mod session;
pub mod shapes;
pub mod shared;
pub mod sites;
pub mod sql;
pub mod store;
pub mod strangers;
pub mod stream;
pub mod twins;
pub mod write;
pub mod write_tokens;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Router, middleware};
use http_body_util::LengthLimitError;
use tideline_store::{Check, CheckState};
use utoipa::OpenApi;

use crate::hub::App;
use crate::{telemetry, web};

/// Longest request body; the longest that is meant is a certificate request.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for a whole request body: the longest one takes so long at 64 kbit/s.
const BODY_MAX: Duration = Duration::from_secs(10);

#[derive(OpenApi)]
#[openapi(
    info(title = "Tideline hub", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(
        session::show,
        session::sign_in,
        session::sign_out,
        session::list_users,
        session::create_user,
        session::revoke_user,
        session::list_tokens,
        session::create_token,
        session::revoke_token,
        devices::list,
        devices::add,
        devices::show,
        devices::events,
        marks::patch,
        map::show,
        map::devices,
        plans::list,
        plans::show,
        plans::keep,
        plans::remove,
        profiles::list,
        profiles::show,
        profiles::of_device,
        profiles::keep,
        profiles::remove,
        devices::revoke,
        strangers::list,
        strangers::adopt,
        backups::create,
        boards::list,
        boards::create,
        boards::show,
        boards::of_device,
        boards::put,
        boards::remove,
        boards::versions,
        boards::restore,
        boards::series,
        boards::choices,
        boards::list_shares,
        boards::share,
        boards::end_share,
        shared::board,
        shared::readings,
        shared::live,
        shared::maps::map,
        shared::maps::devices,
        shared::maps::plan,
        commands::create,
        commands::create_each,
        commands::list,
        commands::all::list_all,
        commands::show,
        commands::cancel,
        ledger::of_device,
        ledger::of_fleet,
        query::series,
        query::query,
        last::last,
        aggregate::aggregate,
        export::export,
        fleet::show,
        fleet::devices,
        imports::begin,
        imports::show,
        imports::chunk,
        jobs::list,
        jobs::show,
        jobs::put,
        jobs::pause,
        jobs::resume,
        jobs::delete,
        jobs::rows,
        twins::show,
        twins::change,
        twins::change_many,
        twins::history::history,
        twins::conflicts,
        operate::health,
        operate::events,
        operate::enroll_tokens,
        operate::revoke_enroll_token,
        twins::sites::show_site,
        twins::sites::change_site,
        twins::sites::site_history,
        twins::sites::site_conflicts,
        twins::groups::show_group,
        twins::groups::change_group,
        twins::groups::group_history,
        twins::groups::group_conflicts,
        twins::templates::list_templates,
        twins::templates::show_template,
        twins::templates::put_template,
        twins::templates::remove_template,
        twins::templates::device_config,
        sites::list,
        sites::change,
        sql::sql,
        stream::live,
        store::show,
        dead_letters::list,
        dead_letters::show,
        dead_letters::replay,
        dead_letters::remove,
        store::verify,
        device_tokens::list,
        device_tokens::create,
        device_tokens::revoke,
        enroll::create_token,
        enroll::enroll,
        write::influx_v2,
        write::influx_v1,
        write::remote_write
    ),
    components(schemas(
        shapes::LiveColumns,
        shapes::LiveResults,
        shapes::QueryGap,
        shapes::ReadingValue,
        shapes::CommandEvent,
        shapes::TwinEvent
    ))
)]
struct Document;

/// The API's description as JSON text.
///
/// # Errors
/// The description cannot be written as JSON.
pub fn openapi() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Document::openapi()).map(|text| text + "\n")
}

/// Where requests came in; it decides what is offered and who is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Plain HTTP, on loopback unless configured otherwise.
    Plain,
    /// HTTPS; the only door for enrolment.
    Tls,
    /// The Unix socket in the data folder; whoever can open it is an administrator.
    Socket,
}

fn device_changes() -> Router<App> {
    Router::new()
        .route("/devices", post(devices::add))
        .route("/devices/{id}", patch(marks::patch))
        .route("/devices/{id}/revoke", post(devices::revoke))
        .route("/devices/{id}/adopt", post(strangers::adopt))
}

/// What administrators may change.
fn changes() -> Router<App> {
    device_changes()
        .merge(jobs::changes())
        .merge(twins::changes())
        .merge(commands::changes())
        .merge(boards::changes())
        .merge(sites::changes())
        .merge(plans::changes())
        .merge(profiles::changes())
        .merge(operate::changes())
}

/// What everybody who is signed in may see.
fn views() -> Router<App> {
    readings()
        .merge(jobs::views())
        .merge(twins::views())
        .merge(commands::views())
        .merge(boards::views())
        .merge(sites::views())
        .merge(fleet::views())
        .merge(map::views())
        .merge(plans::views())
        .merge(profiles::views())
        .merge(operate::views())
}

/// What asks for readings.
fn readings() -> Router<App> {
    Router::new()
        .route("/series", get(query::series))
        .route("/query", get(query::query))
        .route("/last", get(last::last))
        .route("/aggregate", post(aggregate::aggregate))
        .route("/export", get(export::export))
        .route("/sql", post(sql::sql))
        .route("/live", get(stream::live))
}

/// All routes behind one door.
pub fn router(hub: App, door: Door) -> Router {
    let admin = Router::new()
        .route("/enroll-tokens", post(enroll::create_token))
        .route("/users", get(session::list_users).post(session::create_user))
        .route("/users/{name}", delete(session::revoke_user))
        .route("/tokens", get(session::list_tokens).post(session::create_token))
        .route("/tokens/{id}", delete(session::revoke_token))
        .route("/device-tokens", get(device_tokens::list).post(device_tokens::create))
        .route("/device-tokens/{id}", delete(device_tokens::revoke))
        .merge(changes())
        .route("/store/verify", post(store::verify))
        .route("/dead-letters/{id}/replay", post(dead_letters::replay))
        .route("/dead-letters/{id}", delete(dead_letters::remove))
        .route("/strangers", get(strangers::list))
        .route("/backups", post(backups::create))
        .route_layer(middleware::from_fn(auth::require_admin));
    let signed_on = Router::new()
        .route("/session", get(session::show).delete(session::sign_out))
        .route("/devices", get(devices::list))
        .route("/devices/{id}", get(devices::show))
        .route("/devices/{id}/ledger", get(ledger::of_device))
        .route("/devices/{id}/events", get(devices::events))
        .route("/ledger", get(ledger::of_fleet))
        .merge(views())
        .route("/store", get(store::show))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/{id}", get(dead_letters::show))
        .merge(admin)
        .route_layer(middleware::from_fn_with_state(hub.clone(), auth::authenticate));
    let v1 = signed_on
        .nest("/shared", shared::routes(&hub))
        .route("/session", post(session::sign_in))
        .route("/openapi.json", get(description))
        .fallback(no_such_path);
    let scraped = Router::new().route("/metrics", get(metrics));
    let scraped = if hub.config.metrics_open {
        scraped
    } else {
        scraped.route_layer(middleware::from_fn_with_state(hub.clone(), auth::authenticate))
    };
    let enrolment = if door == Door::Tls { post(enroll::enroll) } else { post(only_over_tls) };
    let all = Router::new()
        .nest("/api/v1", v1)
        .nest(prometheus::PATH, prometheus::routes(&hub))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/enroll/v1", enrolment)
        .merge(scraped)
        .fallback(web::serve)
        .layer(middleware::from_fn(whole_body))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        // They read their bodies themselves, after they know whose they are.
        .merge(write::routes().merge(imports::routes()).merge(plans::routes()).merge(profiles::routes()))
        .layer(middleware::map_response(problem::unify))
        .with_state(hub);
    match door {
        Door::Plain => all,
        Door::Tls => all.layer(Extension(auth::OverTls)),
        Door::Socket => all.layer(Extension(auth::LocalSocket)),
    }
}

/// Takes the whole body before anything else, so that one that never comes to its end holds no
/// connection.
async fn whole_body(request: Request, next: Next) -> Result<Response, problem::ApiError> {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_MAX, axum::body::to_bytes(body, BODY_BYTES_MAX)).await;
    let slow = |_| {
        let detail = format!("the body did not come within {} s", BODY_MAX.as_secs());
        problem::ApiError::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail)
    };
    let bytes = read.map_err(slow)?.map_err(|error| {
        if error.into_inner().is::<LengthLimitError>() {
            let detail = format!("the body is over the limit of {BODY_BYTES_MAX} bytes");
            problem::ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
        } else {
            problem::ApiError::bad("bad-request", "the body ended too early")
        }
    })?;
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}

async fn no_such_path(uri: axum::http::Uri) -> problem::ApiError {
    // Inside the nest the path has lost its beginning.
    problem::ApiError::not_found("path", &format!("/api/v1{}", uri.path()))
}

async fn only_over_tls() -> problem::ApiError {
    problem::ApiError::new(StatusCode::FORBIDDEN, "https-only", "devices enrol over HTTPS, at https.listen")
}

async fn description() -> Result<Response, problem::ApiError> {
    let text = openapi().map_err(|e| problem::ApiError::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// Whether the hub does its work; when not, why, a line for each reason. What an operator should look at
/// is told of a hub that is ready, too.
async fn ready(State(hub): State<App>) -> (StatusCode, String) {
    if *hub.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let (mut failed, mut degraded) = (String::new(), String::new());
    for Check { name, state } in hub.store.health().checks {
        match state {
            CheckState::Failed(reason) => failed += &format!("store {name}: {reason}\n"),
            CheckState::Degraded(reason) => degraded += &format!("degraded: store {name}: {reason}\n"),
            CheckState::Fine => {}
        }
    }
    if failed.is_empty() {
        (StatusCode::OK, format!("ready\n{degraded}"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, failed + &degraded)
    }
}

async fn metrics(State(hub): State<App>) -> Response {
    let page =
        telemetry::page(&hub.counters, hub.fleet.online(), hub.presences.counts(), &hub.store.metrics());
    let page = page + &telemetry::jobs(&hub.jobs.views()) + &telemetry::twins(hub.twins.standing());
    let page = page + &telemetry::commands(hub.commands.counts());
    let reopened = [("hub.redb", hub.metadata.reopened()), ("twins.redb", hub.twins.reopened())];
    let page = page + &telemetry::reopenings(reopened);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}

#[cfg(test)]
pub(crate) mod tests;
