//! The last reading of each series of a fleet, from memory.

use axum::Json;
use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::problem::{ApiError, Problem};
use super::select::{Select, id_of, listed, meant};
use super::shapes::{LastOfSeries, LastPage, ReadingValue, unless_good};
use crate::hub::App;
use crate::when;

/// Most series of a page, about 10 MB of JSON, and how many it has when nobody says.
const SERIES_MAX: usize = 100_000;
const SERIES_DEFAULT: usize = 10_000;

/// Which last readings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastQuery {
    device: Option<String>,
    point: Option<String>,
    series: Option<String>,
    below: Option<f64>,
    above: Option<f64>,
    max_age: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The last reading of each series
///
/// Of readings with the same time that which came last. Series without a reading are left out. `below` and `above` look
/// at the last value alone: what was so before is not found by them.
#[utoipa::path(get, path = "/api/v1/last", operation_id = "last",
    params(
        ("device" = Option<String>, Query, description = "Of these devices, with commas; * stands for any text; all when left out"),
        ("point" = Option<String>, Query, description = "Of these points, as device"),
        ("series" = Option<String>, Query, description = "Of these device/point, as device"),
        ("below" = Option<f64>, Query, description = "Only those whose value is less"),
        ("above" = Option<f64>, Query, description = "Only those whose value is greater"),
        ("max_age" = Option<String>, Query, description = "Only those that are no older by the hub's clock, as 10m"),
        ("limit" = Option<usize>, Query, description = "Most series, 1 to 100000; 10000 when left out"),
        ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page, by id", body = LastPage), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn last(
    State(hub): State<App>,
    Query(query): Query<LastQuery>,
) -> Result<Json<LastPage>, ApiError> {
    let limit = query.limit.unwrap_or(SERIES_DEFAULT);
    if !(1..=SERIES_MAX).contains(&limit) {
        return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {SERIES_MAX}")));
    }
    let after = query.cursor.as_deref().map(decode).transpose()?;
    let oldest_ns = match &query.max_age {
        None => i64::MIN,
        Some(text) => {
            let age =
                when::parse_span_ns(text).map_err(|e| ApiError::bad("bad-time", format!("max_age: {e}")))?;
            hub.clock.wall_ns().saturating_sub(age)
        }
    };
    let mut devices = listed(query.device.as_deref()).collect();
    let meant = meant(&hub, &mut devices)?;
    let select = Select::of(devices, listed(query.point.as_deref()), listed(query.series.as_deref()))?
        .meaning(meant)?;
    // A million series take a while.
    let work = tokio::task::spawn_blocking(move || {
        let at_ms = hub.now_ms();
        let mut found = Vec::new();
        for state in select.find(&hub)? {
            let mut state = state;
            let Some(last) = state.last.take().filter(|last| last.time_ns >= oldest_ns) else { continue };
            // What is no number, or of doubtful quality, is neither.
            let number = last.number();
            let within = query.below.is_none_or(|below| number < below)
                && query.above.is_none_or(|above| number > above);
            let id = id_of(&state.meta);
            if within && after.as_ref().is_none_or(|after| id > *after) {
                found.push((id, state, last));
            }
        }
        let more = found.len() > limit;
        if more {
            found.select_nth_unstable_by(limit, |a, b| a.0.cmp(&b.0));
            found.truncate(limit);
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let next = found.last().filter(|_| more).map(|(id, ..)| URL_SAFE_NO_PAD.encode(id));
        let series = found.into_iter().map(|(id, state, last)| {
            let (value, quality) = last.value(state.meta.kind);
            LastOfSeries {
                id,
                unit: state.meta.unit.to_string(),
                kind: state.meta.kind.to_string(),
                t: when::ms(last.time_ns),
                v: ReadingValue::of(value),
                quality: unless_good(quality),
                age_ms: at_ms.saturating_sub(when::ms(last.time_ns)),
            }
        });
        Ok(LastPage { at_ms, series: series.collect(), next })
    });
    work.await.map_err(|error| ApiError::internal(&error))?.map(Json)
}

fn decode(cursor: &str) -> Result<String, ApiError> {
    let id = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|id| String::from_utf8(id).ok());
    id.ok_or_else(|| ApiError::bad("bad-cursor", "the cursor is not one of an earlier answer"))
}
