//! Series and their readings.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_store::{EpochLedger, RawCursor, SeriesInfo, StoreError};

use super::devices::{Page, last_seen};
use super::ledger::{query_gap, query_restamp};
use super::problem::{ApiError, Problem};
use super::shapes::{
    AnyAnswer, BucketColumns, LastReading, Missing, MissingCause, QueryAnswer, QueryGap, RawAnswer,
    RawColumns, Restamped, Series, SeriesPage,
};
use crate::arrivals::Come;
use crate::hub::{App, Hub};
use crate::metadata::DeviceRecord;
use crate::when;
use crate::writes::is_writer;

/// Most series of one query; each opens its own columns.
pub const SERIES_PER_QUERY_MAX: usize = 64;
/// Fewest buckets of one query; aligned to multiples of their width, a range of any length may need two.
pub const BUCKETS_MIN: usize = 2;
/// Most buckets of one query: more than any screen has columns.
pub const BUCKETS_MAX: usize = 10_000;
/// Most rows of a raw page; about 6 MB of JSON.
pub const ROWS_MAX: usize = 100_000;
const ROWS_DEFAULT: usize = 10_000;
/// How long readings of a connected agent may be on their way: batch, commit and line. An answer is
/// not partial for what is younger.
const ON_THE_WAY_MS: i64 = 5_000;

/// Which series.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesQuery {
    device: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The series
#[utoipa::path(get, path = "/api/v1/series", operation_id = "series",
    params(("device" = Option<String>, Query, description = "Of this device only"), ("limit" = Option<usize>, Query, description = "Most series, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = SeriesPage), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn series(
    State(hub): State<App>,
    Query(query): Query<SeriesQuery>,
) -> Result<Json<SeriesPage>, ApiError> {
    let device = query
        .device
        .as_deref()
        .map(DeviceId::parse)
        .transpose()
        .map_err(|e| ApiError::bad("bad-device", e.to_string()))?;
    let mut all: Vec<Series> = hub.store.series(device.as_ref()).iter().map(shown).collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let (series, next) = Page::cut(query.limit, query.cursor.as_deref(), all, |s| &s.id)?;
    Ok(Json(SeriesPage { series, next }))
}

fn shown(info: &SeriesInfo) -> Series {
    Series {
        id: format!("{}/{}", info.device, info.point),
        device: info.device.to_string(),
        point: info.point.to_string(),
        unit: info.unit.clone(),
        last: info.last.map(|s| LastReading { t: when::ms(s.time_ns), v: s.value }),
        count: info.count,
    }
}

/// What to query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeQuery {
    series: String,
    from: Option<String>,
    to: Option<String>,
    buckets: Option<usize>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Where a raw page begins. The range is in it, so that a relative range does not move under the
/// reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    from_ns: i64,
    to_ns: i64,
    after: Option<RawCursor>,
}

impl Cursor {
    fn encode(self) -> String {
        let after = self.after.map_or_else(String::new, |after| after.to_string());
        URL_SAFE_NO_PAD.encode(format!("2 {} {} {after}", self.from_ns, self.to_ns))
    }

    fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut parts = text.split(' ');
        let version = parts.next()?;
        let cursor = Self {
            from_ns: parts.next()?.parse().ok()?,
            to_ns: parts.next()?.parse().ok()?,
            after: Some(parts.next()?.parse().ok()?),
        };
        (version == "2" && parts.next().is_none()).then_some(cursor)
    }
}

/// Readings of series in a range
#[utoipa::path(get, path = "/api/v1/query", operation_id = "query",
    params(
        ("series" = String, Query, description = "device/point, several with commas"),
        ("from" = Option<String>, Query, description = "RFC 3339, Unix ms, or relative as -6h; -1h when left out"),
        ("to" = Option<String>, Query, description = "As from; now when left out"),
        ("buckets" = Option<usize>, Query, description = "At most so many buckets of one width, 2 to 10000; raw pages when left out"),
        ("limit" = Option<usize>, Query, description = "Rows of a raw page, 1 to 100000"),
        ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "Columns", body = AnyAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn query(
    State(hub): State<App>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<AnyAnswer>, ApiError> {
    let now_ns = hub.clock.wall_ns();
    let time = |name: &'static str, text: Option<&str>, otherwise: &str| {
        when::parse_time(text.unwrap_or(otherwise), now_ns)
            .map_err(|e| ApiError::bad("bad-time", format!("{name}: {e}")))
    };
    let mut at = Cursor {
        from_ns: time("from", query.from.as_deref(), "-1h")?,
        to_ns: time("to", query.to.as_deref(), "now")?,
        after: None,
    };
    if let Some(text) = &query.cursor {
        at = Cursor::decode(text)
            .ok_or_else(|| ApiError::bad("bad-cursor", "the cursor is not one of an earlier answer"))?;
    }
    if at.from_ns > at.to_ns {
        return Err(ApiError::bad("bad-range", "from lies after to"));
    }
    let infos = find_series(&hub, &query.series, SERIES_PER_QUERY_MAX)?;
    let limit = query.limit.unwrap_or(ROWS_DEFAULT);
    if !(1..=ROWS_MAX).contains(&limit) {
        return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {ROWS_MAX}")));
    }
    if let Some(n) = query.buckets.filter(|n| !(BUCKETS_MIN..=BUCKETS_MAX).contains(n)) {
        let allowed = format!("buckets={n}; allowed are {BUCKETS_MIN} to {BUCKETS_MAX}");
        return Err(ApiError::bad("bad-buckets", allowed));
    }
    let beside = beside(&hub, &infos, at)?;
    // The store reads files and computes: off the async threads.
    let work = tokio::task::spawn_blocking(move || match query.buckets {
        Some(most) => buckets(&hub, &infos, at, most, beside).map(AnyAnswer::Buckets),
        None => raw(&hub, &infos, at, limit, beside).map(AnyAnswer::Raw),
    });
    let answer = work.await.map_err(|e| ApiError::internal(&e))?;
    answer.map(Json).map_err(|error| match error {
        StoreError::Query(reason) => ApiError::bad("bad-query", reason),
        error => ApiError::internal(&error),
    })
}

/// The series of these names, of which there may be so many.
///
/// # Errors
/// There are none or too many names, or one of them is not that of a series.
pub fn find_series(hub: &App, text: &str, names_max: usize) -> Result<Vec<SeriesInfo>, ApiError> {
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
    if names.is_empty() || names.len() > names_max {
        return Err(ApiError::bad(
            "bad-series",
            format!("{} series named; allowed are 1 to {names_max}", names.len()),
        ));
    }
    // By device: each look-up passes over all series.
    let mut known: BTreeMap<DeviceId, Vec<SeriesInfo>> = BTreeMap::new();
    let mut out: Vec<SeriesInfo> = Vec::new();
    for name in names {
        let (device, point) = name.split_once('/').ok_or_else(|| {
            ApiError::bad("bad-series", format!("{name:?} is no series; a series is device/point"))
        })?;
        let device = DeviceId::parse(device).map_err(|e| ApiError::bad("bad-series", e.to_string()))?;
        let all = known.entry(device).or_insert_with_key(|device| hub.store.series(Some(device)));
        let info = all.iter().find(|s| s.point.as_str() == point);
        let info = info.ok_or_else(|| ApiError::not_found("series", name))?;
        if out.iter().all(|have| have.id != info.id) {
            out.push(info.clone());
        }
    }
    Ok(out)
}

/// What is said beside the readings.
struct Beside {
    gaps: Vec<QueryGap>,
    restamped: Vec<Restamped>,
    missing: Vec<Missing>,
}

fn beside(hub: &Hub, infos: &[SeriesInfo], range: Cursor) -> Result<Beside, ApiError> {
    let devices: BTreeSet<&str> = infos.iter().map(|i| i.device.as_str()).collect();
    let mut out = Beside { gaps: Vec::new(), restamped: Vec::new(), missing: Vec::new() };
    for device in devices {
        let Some(record) = hub.metadata.find::<DeviceRecord>(device)? else { continue };
        let Ok(agent) = AgentId::parse(&record.agent) else { continue };
        let Some(own) = hub.metadata.find::<DeviceRecord>(agent.as_str())? else { continue };
        let ledger = hub.store.ledger(&agent);
        let within = ledger
            .iter()
            .flat_map(|e| &e.gaps)
            .filter(|g| g.from_ns <= range.to_ns && g.to_ns >= range.from_ns);
        out.gaps.extend(within.map(|gap| query_gap(device, gap)));
        let restamped = ledger.iter().flat_map(|e| &e.restamps);
        let within = restamped.filter(|r| r.from_ns <= range.to_ns && r.to_ns >= range.from_ns);
        out.restamped.extend(within.map(|restamp| query_restamp(device, restamp)));
        let reaches = |after_ms: Option<i64>| after_ms.is_none_or(|ms| when::ms(range.to_ns) > ms);
        if let Some((after_ms, cause)) =
            missing(hub, &agent, &own, &ledger).filter(|(after_ms, _)| reaches(*after_ms))
        {
            out.missing.push(Missing { device: device.to_owned(), after_ms, cause });
        }
    }
    Ok(out)
}

/// From when on readings of the agent may be missing, and why; none when nothing is.
fn missing(
    hub: &Hub,
    agent: &AgentId,
    own: &DeviceRecord,
    ledger: &[EpochLedger],
) -> Option<(Option<i64>, MissingCause)> {
    // Of which time the lost readings were went with the file.
    if ledger.iter().any(|epoch| epoch.lost > 0) {
        return Some((None, MissingCause::Damaged));
    }
    // Nothing more comes from an agent that was shut out, and what a client of a token still has, only it knows.
    if own.revoked || is_writer(agent.as_str()) {
        return None;
    }
    let come = hub.arrivals.come(agent, |epoch| hub.store.agent_state(agent, epoch).settled.all());
    let online = hub.fleet.presence(agent).is_some_and(|p| p.online);
    match (online, come) {
        (true, None | Some(Come::All)) => None,
        (true, Some(Come::Until(until))) => {
            let fresh = until.is_some_and(|ms| hub.now_ms().saturating_sub(ms) <= ON_THE_WAY_MS);
            (!fresh).then_some((until, MissingCause::Backlog))
        }
        (false, Some(Come::Until(until))) => Some((until, MissingCause::Offline)),
        (false, Some(Come::All)) => Some((last_seen(hub, agent, own), MissingCause::Offline)),
        // Not heard of since the hub started: what it last told is all there is.
        (false, None) => {
            let all = ledger.iter().all(|epoch| epoch.pending == 0);
            Some((own.last_seen_ms.filter(|_| all), MissingCause::Offline))
        }
    }
}

fn identity(infos: &[SeriesInfo], id: tideline_store::SeriesId) -> (String, String) {
    infos
        .iter()
        .find(|i| i.id == id)
        .map(|i| (format!("{}/{}", i.device, i.point), i.unit.clone()))
        .unwrap_or_default()
}

fn buckets(
    hub: &App,
    infos: &[SeriesInfo],
    at: Cursor,
    most: usize,
    beside: Beside,
) -> Result<QueryAnswer, StoreError> {
    let ids: Vec<_> = infos.iter().map(|i| i.id).collect();
    let answer = hub.store.query_buckets(&ids, at.from_ns, at.to_ns, most)?;
    let series = answer.series.into_iter().map(|column| {
        let (id, unit) = identity(infos, column.id);
        BucketColumns {
            id,
            unit,
            tier: column.tier.as_str().to_owned(),
            t: column.t_ns.iter().map(|ns| when::ms(*ns)).collect(),
            min: column.min,
            max: column.max,
            mean: column.mean,
            last: column.last,
            count: column.count,
        }
    });
    let Beside { gaps, restamped, missing } = beside;
    Ok(QueryAnswer { series: series.collect(), partial: !missing.is_empty(), missing, gaps, restamped })
}

fn raw(
    hub: &App,
    infos: &[SeriesInfo],
    at: Cursor,
    limit: usize,
    beside: Beside,
) -> Result<RawAnswer, StoreError> {
    let ids: Vec<_> = infos.iter().map(|i| i.id).collect();
    let page = hub.store.query_raw(&ids, at.from_ns, at.to_ns, at.after, limit)?;
    let series = page.series.into_iter().map(|column| {
        let (id, unit) = identity(infos, column.id);
        RawColumns {
            id,
            unit,
            tier: "raw".to_owned(),
            t: column.times.iter().map(|ns| when::ms(*ns)).collect(),
            t_ns: column.times.iter().map(ToString::to_string).collect(),
            v: column.values,
        }
    });
    let next = page.next.map(|next| Cursor { after: Some(next), ..at }.encode());
    let Beside { gaps, restamped, missing } = beside;
    Ok(RawAnswer { series: series.collect(), next, partial: !missing.is_empty(), missing, gaps, restamped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nonsense_does_not() {
        let cursor = Cursor { from_ns: -5, to_ns: 7, after: "1:6:2".parse().ok() };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        for text in ["", "x", "MSAxIDIgMyA0", "é"] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }
}
