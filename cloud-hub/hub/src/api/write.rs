//! Where clients of other systems write: InfluxDB's two paths, and Prometheus remote write.
//!
//! An answer of success comes after the readings are durable. A client that did not hear it sends them again,
//! and then they are stored twice: *at least once*. Who writes too much at once, or while the store takes
//! nothing, is told with 503 to come again; 429 would have Prometheus throw its samples away.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::LengthLimitError;
use serde::Deserialize;
use tideline_formats::line::Precision;
use tideline_formats::remote::Version;
use tideline_formats::{FormatError, Mapping, Taken, body, line, remote};

use super::problem::{ApiError, Problem};
use super::write_tokens::{Grant, grant};
use crate::config::Config;
use crate::hub::{App, Hub};
use crate::places::Place;
use crate::telemetry::Metric;
use crate::writes::{self, Admission, WriteError, only_device};

/// Longest body as it comes, compressed or not.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest wait for a whole body: the longest one takes so long at 2 Mbit/s.
const BODY_MAX: Duration = Duration::from_secs(32);
/// When a client that found no place is to come again.
const PLACE_RETRY_S: u64 = 1;
/// When a client is to come again while the store takes nothing: its log is reopened within half a minute.
const STORE_RETRY_S: u64 = 5;
/// What version 2 of remote write asks its receivers to say.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// The paths, with limits of their own.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v2/write", post(influx_v2))
        .route("/write", post(influx_v1))
        .route("/api/v1/write", post(remote_write))
}

/// What InfluxDB's clients say in the address; databases, buckets and organisations are none of ours.
#[derive(Debug, Default, Deserialize)]
pub struct InfluxQuery {
    precision: Option<String>,
    // The password of version 1.
    p: Option<String>,
}

/// What a path does with a request of which some is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Malformed {
    /// A line that is no line protocol keeps all from being stored, as in InfluxDB 2.
    RefusesAll,
    /// It is left out, as in InfluxDB 1.
    IsLeftOut,
}

/// Write line protocol as to InfluxDB 2
///
/// At least once: what is sent again is stored again.
#[utoipa::path(post, path = "/api/v2/write", operation_id = "writeInflux2", request_body(content = String, content_type = "text/plain", description = "Line protocol, plain or gzip"),
    params(("precision" = Option<String>, Query, description = "The unit of times: ns, us, ms, s, m or h; ns when left out"),
        ("bucket" = Option<String>, Query, description = "Not looked at"), ("org" = Option<String>, Query, description = "Not looked at")),
    responses((status = 204, description = "All is durable"),
        (status = 400, description = "`invalid`: a line is no line protocol and nothing is stored, or some of it cannot be kept and the rest is stored; the detail names lines and says which", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too-much`, `body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`busy`, `store-unavailable`: send it again after Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn influx_v2(State(hub): State<App>, query: Query<InfluxQuery>, request: Request) -> Response {
    influx(&hub, &query, request, Malformed::RefusesAll).await
}

/// Write line protocol as to InfluxDB 1
///
/// At least once: what is sent again is stored again.
#[utoipa::path(post, path = "/write", operation_id = "writeInflux1", request_body(content = String, content_type = "text/plain", description = "Line protocol, plain or gzip"),
    params(("precision" = Option<String>, Query, description = "The unit of times: ns, us, ms, s, m or h; ns when left out"),
        ("db" = Option<String>, Query, description = "Not looked at"), ("p" = Option<String>, Query, description = "The token, where no header can be set")),
    responses((status = 204, description = "All is durable"),
        (status = 400, description = "`invalid`: some of it is no line protocol or cannot be kept, and the rest is stored; the detail names lines", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too-much`, `body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`busy`, `store-unavailable`: send it again after Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn influx_v1(State(hub): State<App>, query: Query<InfluxQuery>, request: Request) -> Response {
    influx(&hub, &query, request, Malformed::IsLeftOut).await
}

async fn influx(hub: &App, query: &InfluxQuery, request: Request, malformed: Malformed) -> Response {
    match line_protocol(hub, query, request, malformed).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err((_, error)) => as_influx_says_it(error),
    }
}

/// What differs between the formats.
struct Format {
    // What problems are counted by.
    counted: &'static str,
    device_keys: fn(&Config) -> &[String],
}

const LINES: Format = Format { counted: "line", device_keys: |config| &config.influx_device_tags };
const SERIES: Format =
    Format { counted: "time series", device_keys: |config| &config.prometheus_device_labels };

/// The readings that are stored, and what is wrong, if so.
type Done = Result<usize, (usize, ApiError)>;

async fn line_protocol(hub: &App, query: &InfluxQuery, request: Request, malformed: Malformed) -> Done {
    let none = |error| (0, error);
    let grant = grant(hub, request.headers(), query.p.as_deref()).map_err(none)?;
    let precision = Precision::parse(query.precision.as_deref()).map_err(|e| none(e.into()))?;
    let place = place(hub, &grant).map_err(none)?;
    let packed = packed(request.headers()).map_err(none)?;
    let bytes = whole(request.into_body(), BODY_BYTES_MAX).await.map_err(none)?;
    let now_ns = hub.clock.wall_ns();
    let parse = move |mapping: &mut Mapping<'_>| {
        let plain = if packed { &body::gunzip(&bytes)? } else { &bytes[..] };
        line::parse(plain, precision, now_ns, mapping)
    };
    let keep = move |taken: &Taken| malformed == Malformed::IsLeftOut || taken.problems.malformed == 0;
    store(hub, (grant, place), &LINES, parse, keep).await
}

/// Write samples as to Prometheus
///
/// Remote write 1 and 2. At least once: what is sent again is stored again.
#[utoipa::path(post, path = "/api/v1/write", operation_id = "writePrometheus", request_body(content = Vec<u8>, content_type = "application/x-protobuf", description = "`prometheus.WriteRequest` or `io.prometheus.write.v2.Request`, as a snappy block"),
    responses((status = 204, description = "All is durable"),
        (status = 400, description = "`invalid`: it is no such request, or some of it cannot be kept and the rest is stored; the detail names time series", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too-much`, `body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`media-type`: neither of the two messages, or no snappy block", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`busy`, `store-unavailable`: send it again after Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn remote_write(State(hub): State<App>, request: Request) -> Response {
    let (written, mut response) = match samples(&hub, request).await {
        Ok(written) => (written, StatusCode::NO_CONTENT.into_response()),
        Err((written, error)) => (written, error.into_response()),
    };
    for (name, count) in WRITTEN.into_iter().zip([written, 0, 0]) {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
    }
    response
}

async fn samples(hub: &App, request: Request) -> Done {
    let none = |error| (0, error);
    let grant = grant(hub, request.headers(), None).map_err(none)?;
    let version = version(request.headers()).map_err(none)?;
    let place = place(hub, &grant).map_err(none)?;
    let bytes = whole(request.into_body(), BODY_BYTES_MAX).await.map_err(none)?;
    let parse = move |mapping: &mut Mapping<'_>| remote::parse(&body::unsnap(&bytes)?, version, mapping);
    store(hub, (grant, place), &SERIES, parse, |_| true).await
}

/// Parses and stores.
async fn store(
    hub: &App,
    (grant, place): (Grant, Place<String>),
    format: &'static Format,
    parse: impl FnOnce(&mut Mapping<'_>) -> Result<Taken, FormatError> + Send + 'static,
    keep: impl FnOnce(&Taken) -> bool + Send + 'static,
) -> Done {
    let none = |error| (0, error);
    let writer = grant.writer.clone();
    // Held by the work itself, which goes on when its client goes away.
    let place = Arc::new(place);
    let held = Arc::clone(&place);
    // It takes up to a second, and devices are registered on the way.
    let work = move |hub: &Hub| -> Result<(Taken, bool), ApiError> {
        let mut admission = Admission::new(hub, &grant.token, &grant.writer);
        let mut admit = |device: &_| admission.admit(device);
        let only_device = only_device(&grant.token);
        let device_keys = (format.device_keys)(&hub.config);
        let taken = parse(&mut Mapping { device_keys, only_device, admit: &mut admit })?;
        let keep = keep(&taken);
        let used =
            taken.columns.iter().map(|column| &column.device).collect::<std::collections::HashSet<_>>();
        admission.register(|device| keep && used.contains(device))?;
        drop(held);
        Ok((taken, keep))
    };
    let (mut taken, keep) = hub.blocking(work).await.map_err(none)?;
    hub.counters.add(Metric::WritesRefused, taken.problems.all);
    if !keep {
        let detail = format!("nothing was stored: {}", taken.problems.told(format.counted));
        return Err(none(ApiError::bad("invalid", detail)));
    }
    let readings = taken.readings();
    if readings > 0 {
        let stored = writes::store(hub, &writer, std::mem::take(&mut taken.columns), Some(place)).await;
        stored.map_err(|error| none(put_off(hub, &writer, error)))?;
        hub.counters.add(Metric::Written, readings as u64);
    }
    if taken.problems.all == 0 {
        return Ok(readings);
    }
    let told = taken.problems.told(format.counted);
    Err((
        readings,
        ApiError::bad("invalid", format!("partial write: {readings} readings were stored; not so {told}")),
    ))
}

fn put_off(hub: &Hub, writer: &tideline_protocol::model::AgentId, error: WriteError) -> ApiError {
    let later = |code, retry_after_s| {
        hub.counters.add(Metric::WritesPutOff, 1);
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string());
        ApiError { retry_after_s: Some(retry_after_s), ..error }
    };
    match &error {
        WriteError::Limit(reason) => ApiError::bad("limit", reason.clone()),
        WriteError::Store(tideline_store::StoreError::Limit(reason)) => {
            ApiError::bad("limit", reason.clone())
        }
        WriteError::Busy(_) => later("busy", STORE_RETRY_S),
        WriteError::Store(_) => {
            tracing::warn!(%writer, %error, "readings were not stored");
            later("store-unavailable", STORE_RETRY_S)
        }
        WriteError::Metadata(_)
        | WriteError::Secret(_)
        | WriteError::Interrupted(_)
        | WriteError::Numbered(_) => ApiError::internal(&error),
    }
}

fn place(hub: &Hub, grant: &Grant) -> Result<Place<String>, ApiError> {
    hub.writers.places.take(Some(grant.id.clone())).map_err(|_| {
        hub.counters.add(Metric::WritesPutOff, 1);
        let detail = "as many requests to write are being stored as the hub takes at once";
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
        ApiError { retry_after_s: Some(PLACE_RETRY_S), ..error }
    })
}

/// The whole body, which may have so many bytes.
///
/// # Errors
/// It is longer, or does not come.
pub(super) async fn whole(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let read = tokio::time::timeout(BODY_MAX, axum::body::to_bytes(body, most)).await;
    let read = read.map_err(|_| {
        let detail = format!("the body did not come within {} s", BODY_MAX.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail)
    })?;
    let bytes = read.map_err(|error| {
        if error.into_inner().is::<LengthLimitError>() {
            let detail = format!("the body is over the limit of {most} bytes; send it in smaller parts");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
        } else {
            ApiError::bad("bad-request", "the body ended too early")
        }
    })?;
    Ok(bytes.into())
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn unsupported(detail: String) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", detail)
}

/// Whether line protocol came as gzip.
fn packed(headers: &HeaderMap) -> Result<bool, ApiError> {
    match header_text(headers, header::CONTENT_ENCODING).to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        other => Err(unsupported(format!("Content-Encoding: {other:?}; allowed are gzip and identity"))),
    }
}

fn version(headers: &HeaderMap) -> Result<Version, ApiError> {
    let kind = header_text(headers, header::CONTENT_TYPE);
    let version = Version::of_content_type(kind).ok_or_else(|| {
        unsupported(format!(
            "Content-Type: {kind:?}; allowed is application/x-protobuf with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request"
        ))
    })?;
    let encoding = header_text(headers, header::CONTENT_ENCODING);
    if !encoding.eq_ignore_ascii_case("snappy") {
        return Err(unsupported(format!("Content-Encoding: {encoding:?}; allowed is snappy")));
    }
    Ok(version)
}

impl From<FormatError> for ApiError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::TooMuch { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-much", error.to_string())
            }
            FormatError::Malformed(reason) => Self::bad("invalid", reason),
        }
    }
}

/// Problem details with what InfluxDB's clients look for: `message` is of version 2, `error` of version 1.
fn as_influx_says_it(error: ApiError) -> Response {
    error.with_members(&["message", "error"])
}
