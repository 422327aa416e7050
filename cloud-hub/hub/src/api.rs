//! The HTTP API: the only place that knows JSON and HTTP.

pub mod auth;
pub mod devices;
pub mod enroll;
pub mod problem;
pub mod query;
pub mod session;
pub mod shapes;
pub mod stream;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router, middleware};
use utoipa::OpenApi;

use crate::hub::App;
use crate::{telemetry, web};

/// Longest request body; the longest that is meant is a certificate request.
const BODY_BYTES_MAX: usize = 64 * 1024;

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
        devices::show,
        devices::ledger,
        devices::fleet_ledger,
        devices::revoke,
        query::series,
        query::query,
        stream::live,
        enroll::create_token,
        enroll::enroll
    ),
    components(schemas(shapes::LiveColumns, shapes::QueryGap))
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

/// All routes behind one door.
pub fn router(hub: App, door: Door) -> Router {
    let admin = Router::new()
        .route("/enroll-tokens", post(enroll::create_token))
        .route("/users", get(session::list_users).post(session::create_user))
        .route("/users/{name}", delete(session::revoke_user))
        .route("/tokens", get(session::list_tokens).post(session::create_token))
        .route("/tokens/{id}", delete(session::revoke_token))
        .route("/devices/{id}/revoke", post(devices::revoke))
        .route_layer(middleware::from_fn(auth::require_admin));
    let signed_on = Router::new()
        .route("/session", get(session::show).delete(session::sign_out))
        .route("/devices", get(devices::list))
        .route("/devices/{id}", get(devices::show))
        .route("/devices/{id}/ledger", get(devices::ledger))
        .route("/ledger", get(devices::fleet_ledger))
        .route("/series", get(query::series))
        .route("/query", get(query::query))
        .route("/live", get(stream::live))
        .merge(admin)
        .route_layer(middleware::from_fn_with_state(hub.clone(), auth::authenticate));
    let v1 = signed_on
        .route("/session", post(session::sign_in))
        .route("/openapi.json", get(description))
        .fallback(no_such_path);
    let mut all = Router::new()
        .nest("/api/v1", v1)
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(
            Router::new()
                .route("/metrics", get(metrics))
                .route_layer(middleware::from_fn_with_state(hub.clone(), auth::authenticate)),
        );
    if door == Door::Tls {
        all = all.route("/enroll/v1", post(enroll::enroll));
    }
    let all = all
        .fallback(web::serve)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(problem::unify))
        .with_state(hub);
    match door {
        Door::Plain => all,
        Door::Tls => all.layer(Extension(auth::OverTls)),
        Door::Socket => all.layer(Extension(auth::LocalSocket)),
    }
}

async fn no_such_path(uri: axum::http::Uri) -> problem::ApiError {
    problem::ApiError::not_found("path", uri.path())
}

async fn description() -> Result<Response, problem::ApiError> {
    let text = openapi().map_err(|e| problem::ApiError::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn ready(State(hub): State<App>) -> (StatusCode, &'static str) {
    if *hub.stopping.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if hub.store.metrics().poisoned {
        (StatusCode::SERVICE_UNAVAILABLE, "the store stopped after a failed write; restart the hub\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(hub): State<App>) -> Response {
    let page = telemetry::page(&hub.counters, hub.fleet.online(), &hub.store.metrics());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}

#[cfg(test)]
mod tests;
