//! The part of Prometheus' HTTP API that Grafana's data source asks for, over the readings of the fleet
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
//!
//! A series `device/point` is the metric that its point is called, with what Prometheus does not allow in
//! a name replaced by `_`, and with the labels `device`, `point` and, where there is one, `unit`:
//! `pump-7/oil.temp` in `Cel` is `oil_temp{device="pump-7",point="oil.temp",unit="Cel"}`. Device and point
//! are both labels as they are, so that no two series are ever taken for one.

mod answer;
mod params;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tideline_promql::{Labels, Limits, Query, Range, instant, parse, range};

use answer::{Failure, Told};
use params::Params;
use source::{Readings, find};

use super::auth;
use crate::hub::App;
use crate::leaving::Leaving;

/// Where the API is; a Grafana data source is given the address up to `/api/v1`.
pub const PATH: &str = "/prometheus/api/v1";
/// The version of Prometheus whose API and language are spoken; Grafana asks to know what it may use.
const VERSION: &str = "3.0.0";
/// Evaluations at a time: each may hold two hundred megabytes, and a hub has two cores.
pub const EVALUATIONS: usize = 2;
/// Longest evaluation, waiting for its turn included.
const EVALUATION_MAX: Duration = Duration::from_secs(30);

/// The routes under [`PATH`].
pub fn routes(hub: &App) -> Router<App> {
    Router::new()
        .route("/query", get(query).post(query))
        .route("/query_range", get(query_range).post(query_range))
        .route("/series", get(series).post(series))
        .route("/labels", get(labels).post(labels))
        .route("/label/{name}/values", get(label_values))
        .route("/metadata", get(metadata))
        .route("/query_exemplars", get(no_exemplars).post(no_exemplars))
        .route("/rules", get(no_rules))
        .route("/status/buildinfo", get(build_info))
        .fallback(no_such_path)
        .route_layer(middleware::from_fn_with_state(Arc::clone(hub), auth::authenticate))
        .layer(middleware::from_fn(password_as_token))
}

/// Grafana knows basic authentication best: its password is the token, whatever the name.
async fn password_as_token(mut request: Request, next: Next) -> Response {
    let basic = request.headers().get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let decoded =
            STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        HeaderValue::from_str(&format!("Bearer {password}")).ok()
    });
    if let Some(bearer) = basic {
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    next.run(request).await
}

async fn query(State(hub): State<App>, request: Request) -> Result<Told, Failure> {
    let params = Params::of(request).await?;
    let at_ns = params.time("time", hub.clock.wall_ns())?;
    let expr = parse(params.needed("query")?).map_err(|e| Failure::param("query", &e))?;
    let limit = params.limit()?;
    let work = move |readings: &Query<Readings>| {
        let found = instant(readings, &expr, at_ns).map_err(Failure::from)?;
        answer::of(found, at_ns, (limit, readings.source.warning()))
    };
    evaluate(hub, &params, work).await
}

async fn query_range(State(hub): State<App>, request: Request) -> Result<Told, Failure> {
    let params = Params::of(request).await?;
    let time = |name| params.needed_time(name);
    let asked = Range { start_ns: time("start")?, end_ns: time("end")?, step_ns: params.step()? };
    let expr = parse(params.needed("query")?).map_err(|e| Failure::param("query", &e))?;
    let limit = params.limit()?;
    let work = move |readings: &Query<Readings>| {
        let found = range(readings, &expr, asked).map_err(Failure::from)?;
        answer::of(found, asked.end_ns, (limit, readings.source.warning()))
    };
    evaluate(hub, &params, work).await
}

/// Runs an evaluation off the async threads, when it is its turn. It ends soon after the client left or its
/// time is over.
async fn evaluate(
    hub: App,
    params: &Params,
    work: impl FnOnce(&Query<Readings>) -> Result<Told, Failure> + Send + 'static,
) -> Result<Told, Failure> {
    let longest = params.timeout()?.map_or(EVALUATION_MAX, |asked| asked.min(EVALUATION_MAX));
    let leaving = Leaving::default();
    let left = leaving.left();
    let turns = Arc::clone(&hub.evaluations);
    let evaluation = async {
        let turn = turns.acquire_owned().await.map_err(|e| Failure::internal(&e))?;
        let work = tokio::task::spawn_blocking(move || {
            // It is its turn until it really ended, whether or not somebody still waits.
            let _turn = turn;
            let readings = Readings::new(hub);
            work(&Query { source: &readings, limits: Limits::default(), canceled: &left })
        });
        work.await.map_err(|e| Failure::internal(&e))?
    };
    tokio::time::timeout(longest, evaluation).await.map_err(|_| Failure::timeout(longest))?
}

/// The series that `match[]`, `start` and `end` leave, by their labels.
async fn matched(hub: App, params: &Params) -> Result<Vec<Labels>, Failure> {
    let selectors = params.selectors()?;
    let (from_ns, to_ns) = (params.time("start", i64::MIN)?, params.time("end", i64::MAX)?);
    let found = tokio::task::spawn_blocking(move || {
        let mut all = BTreeSet::new();
        // Without a selector, all series.
        let none = [Vec::new()];
        for matchers in if selectors.is_empty() { none.iter() } else { selectors.iter() } {
            let within = find(&hub, matchers).into_iter().filter(|(info, _)| {
                info.first_ns.is_some_and(|ns| ns <= to_ns) && info.last_ns.is_some_and(|ns| ns >= from_ns)
            });
            all.extend(within.map(|(_, labels)| labels));
        }
        all.into_iter().collect()
    });
    found.await.map_err(|e| Failure::internal(&e))
}

async fn series(State(hub): State<App>, request: Request) -> Result<Told, Failure> {
    let params = Params::of(request).await?;
    if params.selectors()?.is_empty() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let found = matched(hub, &params).await?;
    answer::list(found.iter().map(answer::labels), params.limit()?)
}

async fn labels(State(hub): State<App>, request: Request) -> Result<Told, Failure> {
    let params = Params::of(request).await?;
    let found = matched(hub, &params).await?;
    let names: BTreeSet<&str> = found.iter().flat_map(|l| l.iter().map(|(name, _)| name)).collect();
    answer::list(names.into_iter().map(answer::text), params.limit()?)
}

async fn label_values(
    State(hub): State<App>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Told, Failure> {
    let params = Params::of(request).await?;
    let found = matched(hub, &params).await?;
    let values: BTreeSet<&str> = found.iter().map(|l| l.value(&name)).filter(|v| !v.is_empty()).collect();
    answer::list(values.into_iter().map(answer::text), params.limit()?)
}

async fn metadata(State(hub): State<App>, request: Request) -> Result<Told, Failure> {
    let params = Params::of(request).await?;
    let metric = params.first("metric").map(str::to_owned);
    let limit = params.limit()?;
    let found = tokio::task::spawn_blocking(move || find(&hub, &[]));
    let found = found.await.map_err(|e| Failure::internal(&e))?;
    answer::metadata(&found, metric.as_deref(), limit)
}

/// Readings have no exemplars; Grafana asks whether or not.
async fn no_exemplars() -> Result<Told, Failure> {
    answer::list(std::iter::empty(), None)
}

/// What a hub watches for are no rules in PromQL; Grafana asks whether or not.
async fn no_rules() -> Told {
    answer::no_rules()
}

async fn build_info() -> Told {
    answer::build_info(VERSION)
}

async fn no_such_path(uri: axum::http::Uri) -> Failure {
    Failure::not_found(&format!(
        "{PATH}{} is not supported; supported are query, query_range, series, labels, label/<name>/values, \
         metadata, query_exemplars, rules and status/buildinfo",
        uri.path()
    ))
}
