//! Questions in SQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tideline_sql::{Format, Refusal, check};
use tokio::sync::mpsc;

use super::export::BrokenOff;
use super::problem::{ApiError, Problem};
use super::shapes::{SqlAnswer, SqlRequest};
use crate::hub::App;
use crate::sql::{self, Answer, SqlError};
use crate::telemetry::Metric;
use crate::when;

/// Bytes that are handed on together, and how many of these may wait for the client.
const PART_BYTES: usize = 64 * 1024;
const PARTS_MAX: usize = 4;
/// How long a client may take nothing before its answer ends.
const PATIENCE: Duration = Duration::from_secs(60);
/// Up to when an answer lacks readings that are past their retention.
pub const THINNED_TO: &str = "tideline-thinned-to";
/// Seconds after which another statement may have ended.
const RETRY_AFTER_S: u64 = 5;

/// Ask in SQL
///
/// One SELECT, also with WITH, UNION and joins, over the tables `readings` (device, point, unit, time, value, text, quality;
/// `value` is null where there is no number of good quality), `cold` (the same columns: readings that retention took from
/// `readings`, where it keeps them),
/// `rollups_1m`, `rollups_1h`, `rollups_1d` (device, point, unit, time, count, min, max, sum, mean, first, last; hours and
/// days have besides, where a statement names them and not by a star, the mean over time `twa` with `twa_near` = 1 where it is
/// no more than near, and `p50`, `p90`, `p95`, `p99` with `p_error`, by which part of itself a reading that they lie at
/// may differ from them) and
/// `devices` (id, agent, state, revoked, transport, software, connected, last_seen, last_reading, rate, readings,
/// backlog, title, profile, firmware, vendor, model, site, groups, tags). Times are UTC, and compare with texts as `'2026-11-21 10:00'`
/// and RFC 3339; `now()`, `time_bucket('10m', time)`, `time_bucket('1d', time, 'Europe/Berlin')` (`1d`, `1w`
/// or `1mo` by local midnights) and `INTERVAL '1 hour'` are there. It runs in a process of its own with limits of rows, memory and time. What retention removed of the readings is in none of
/// the rows, nor is a bucket of which some readings are known by coarser buckets alone; an answer that read such times says up to when
/// they are in the header `tideline-thinned-to` (Unix ms). The format is that of the request, or the first of `Accept`.
#[utoipa::path(post, path = "/api/v1/sql", operation_id = "sql", request_body = SqlRequest,
    responses((status = 200, description = "The answer; as Arrow stream, CSV (RFC 4180) or Parquet with the format or media type of that",
        content((SqlAnswer = "application/json"), (Vec<u8> = "application/vnd.apache.arrow.stream"), (String = "text/csv"), (Vec<u8> = "application/vnd.apache.parquet"))),
    (status = 400, description = "`sql-syntax`, `sql-not-allowed`, `sql-too-long`, `sql-failed`, `bad-format`", body = Problem, content_type = "application/problem+json"),
    (status = 406, description = "`not-acceptable`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "A limit: `sql-input`, `sql-rows`, `sql-memory`, `sql-time`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`sql-busy`; ask again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn sql(
    State(hub): State<App>,
    headers: HeaderMap,
    Json(request): Json<SqlRequest>,
) -> Result<Response, ApiError> {
    let format = format_of(request.format.as_deref(), &headers)?;
    let answer = answer(&hub, request.sql, format).await;
    answer.inspect_err(|error| {
        let ended = matches!(error.code, "sql-rows" | "sql-memory" | "sql-time");
        hub.counters.add(if ended { Metric::StatementsEnded } else { Metric::StatementsRefused }, 1);
    })
}

async fn answer(hub: &App, text: String, format: Format) -> Result<Response, ApiError> {
    let now_ns = hub.clock.wall_ns();
    let checked = tokio::task::spawn_blocking(move || check(&text, now_ns));
    let statement = checked.await.map_err(|e| ApiError::internal(&e))??;
    let answer = sql::run(hub, statement, format).await?;
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::HeaderName::from_static("tideline-rows"), answer.rows.to_string()),
    ];
    let thinned = thinned_to(answer.thinned_to_ns);
    Ok((headers, thinned, Body::from_stream(passed_on(answer))).into_response())
}

/// The header of an answer whose range is past the retention of readings up to a time: that in Unix ms.
pub(super) fn thinned_to(ns: Option<i64>) -> Option<[(header::HeaderName, String); 1]> {
    ns.map(|ns| [(header::HeaderName::from_static(THINNED_TO), when::ms(ns).to_string())])
}

/// The format asked for.
fn format_of(named: Option<&str>, headers: &HeaderMap) -> Result<Format, ApiError> {
    let list = |of: fn(Format) -> &'static str| Format::ALL.map(of).join(", ");
    if let Some(named) = named {
        let found = Format::ALL.into_iter().find(|format| format.name() == named);
        return found.ok_or_else(|| {
            ApiError::bad("bad-format", format!("format {named:?}; allowed are {}", list(Format::name)))
        });
    }
    let essence = |media: &'static str| media.split(';').next().unwrap_or(media);
    let mut asked = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if asked.peek().is_none() {
        return Ok(Format::Json);
    }
    let found =
        asked.flat_map(|value| value.split(',')).find_map(|media| match media.split(';').next()?.trim() {
            "*/*" | "application/*" => Some(Format::Json),
            "text/*" => Some(Format::Csv),
            media => Format::ALL
                .into_iter()
                .find(|format| essence(format.media_type()).eq_ignore_ascii_case(media)),
        });
    found.ok_or_else(|| {
        let detail =
            format!("there is no answer of the types in Accept; there are {}", list(Format::media_type));
        ApiError::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail)
    })
}

/// Moves the answer on to the client for as long as that takes it. It ends with an error unless it was whole.
fn passed_on(mut answer: Answer) -> BrokenOff {
    let (parts, body) = mpsc::channel(PARTS_MAX);
    let whole = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&whole);
    tokio::spawn(async move {
        loop {
            // A client that leaves ends the child, however long that computes.
            let part = tokio::select! {
                part = answer.next(PART_BYTES) => part,
                () = parts.closed() => return,
            };
            match part {
                Ok(Some(part)) => {
                    if parts.send_timeout(Bytes::from(part), PATIENCE).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return ended.store(true, Ordering::Release),
                Err(error) => return tracing::error!(%error, "an answer in SQL was broken off"),
            }
        }
    });
    BrokenOff::unless(whole, body)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::bad(refusal.code, refusal.detail)
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let limit = |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string());
        match &error {
            SqlError::Busy => Self {
                retry_after_s: Some(RETRY_AFTER_S),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "sql-busy", error.to_string())
            },
            SqlError::Input { .. } => limit("sql-input"),
            SqlError::Rows(_) => limit("sql-rows"),
            SqlError::Memory(_) => limit("sql-memory"),
            SqlError::Time(_) => limit("sql-time"),
            SqlError::Failed(reason) => Self::bad("sql-failed", reason.clone()),
            SqlError::Store(_) | SqlError::Metadata(_) | SqlError::Process(_) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_that_of_the_request_or_the_first_that_is_accepted() {
        let accepting = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, header::HeaderValue::from_static(accept));
            headers
        };
        let of = |named, accept| format_of(named, &accepting(accept)).map_err(|e| e.code);
        assert_eq!(format_of(None, &HeaderMap::new()), Ok(Format::Json));
        assert_eq!(of(None, "text/csv"), Ok(Format::Csv));
        assert_eq!(
            of(None, "text/html, application/vnd.apache.parquet;q=0.9, */*;q=0.1"),
            Ok(Format::Parquet)
        );
        assert_eq!(of(None, "application/vnd.apache.arrow.stream"), Ok(Format::Arrow));
        assert_eq!(of(Some("csv"), "application/json"), Ok(Format::Csv));
        assert_eq!(of(None, "image/png"), Err("not-acceptable"));
        assert_eq!(of(Some("xml"), "*/*"), Err("bad-format"));
    }
}
