//! Series and their readings.

mod buckets;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tideline_protocol::keep::{Keep, Rollups};
use tideline_protocol::model::{AgentId, DeviceId, PointId};
use tideline_protocol::value::ValueKind;
use tideline_store::{EpochLedger, Limit, RawCursor, SeriesId, SeriesInfo, StoreError, Tier};

use super::aggregate::refused;
use super::devices::{PAGE_DEFAULT, PAGE_MAX, Page, last_seen};
use super::ledger::{query_gap, query_late, query_restamp};
use super::problem::{ApiError, Problem};
use super::shapes::{
    AnyAnswer, LastReading, LateRange, Missing, MissingCause, QueryGap, RawAnswer, RawColumns, ReadingValue,
    Restamped, Series, SeriesKeep, SeriesPage, columns, unless_good,
};
use crate::arrivals::Come;
use crate::config::shown_age;
use crate::hub::{App, Hub};
use crate::leaving::Leaving;
use crate::metadata::DeviceRecord;
use crate::presence;
use crate::when;
use crate::writes::is_writer;
pub use buckets::{BucketQuestion, QUANTILES_MAX, calendar};
use text::Text;

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
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The series
#[utoipa::path(get, path = "/api/v1/series", operation_id = "series",
    params(("device" = Option<String>, Query, description = "Of this device only"), ("q" = Option<String>, Query, description = "Those that have each of these words, at most 16, in their device, its title, site, groups or tags (as key=value), in their point, name or unit"), ("limit" = Option<usize>, Query, description = "Most series, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = SeriesPage), (status = 400, description = "`bad-device`, `bad-text`, `bad-limit`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
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
    let text = query.q.as_deref().map(Text::parse).transpose()?;
    // A store may have a million series.
    let work = move |hub: &Hub| {
        let mut search = text.as_ref().map(|text| text.search(hub)).transpose()?;
        let cursor = query.cursor.as_deref();
        // One more says that there are more.
        let most = query.limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX).saturating_add(1);
        let found = hub.store.first_series(device.as_ref(), cursor, most, |series| {
            search.as_mut().is_none_or(|search| search.has(series))
        });
        let all: Vec<Series> = found.iter().map(|info| shown(hub, info)).collect();
        let (series, next) = Page::cut(query.limit, cursor, all, |s| &s.id)?;
        Ok(Json(SeriesPage { series, next }))
    };
    hub.blocking(work).await
}

/// What is known of a series, as JSON has it.
pub(super) fn shown(hub: &Hub, info: &SeriesInfo) -> Series {
    Series {
        id: format!("{}/{}", info.device, info.point),
        device: info.device.to_string(),
        point: info.point.to_string(),
        unit: info.unit.to_string(),
        kind: info.kind.to_string(),
        name: info.name.to_string(),
        last: info.last.as_ref().map(|last| {
            let (value, quality) = last.value(info.kind);
            LastReading {
                t: when::ms(last.time_ns),
                v: ReadingValue::of(value),
                quality: unless_good(quality),
            }
        }),
        count: info.count,
        keep: keep(hub, info),
    }
}

fn keep(hub: &Hub, info: &SeriesInfo) -> SeriesKeep {
    let (retention, keep) = (hub.config.retention, hub.store.keep(info.device.as_str(), info.point.as_str()));
    let age_ns = retention.raw_age_ns(keep);
    let rollups = [(Rollups::MINUTE, Tier::Minute), (Rollups::HOUR, Tier::Hour), (Rollups::DAY, Tier::Day)];
    let left = rollups.into_iter().filter(|(rollups, _)| keep.leaves(*rollups));
    SeriesKeep {
        readings: shown_age(Limit { age_ns, bytes: None }),
        rollups: left.map(|(_, tier)| tier.as_str().to_owned()).collect(),
        by_profile: keep != Keep::HUB,
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
    every: Option<String>,
    tz: Option<String>,
    agg: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl RangeQuery {
    /// The series as they are written.
    pub(super) fn series(&self) -> &str {
        &self.series
    }
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
        ("to" = Option<String>, Query, description = "As from; now when left out. With buckets, a relative range is rounded outwards to whole seconds"),
        ("buckets" = Option<usize>, Query, description = "At most so many buckets of one width, 2 to 10000; raw pages when left out"),
        ("every" = Option<String>, Query, description = "Buckets that are days (1d), weeks from Monday on (1w) or months (1mo), at most 10000; in place of buckets"),
        ("tz" = Option<String>, Query, description = "The time zone of every by its IANA name, as Europe/Berlin; UTC when left out. A day lasts from one local midnight to the next: 23 or 25 hours where the clock is changed"),
        ("agg" = Option<String>, Query, description = "What buckets have besides, with commas: twa (the mean over time of the value that held) and quantiles as p50, p95 or p99.9, at most 8. Made of the readings; where these are more than a million, or past their retention, and the buckets are made of whole hours, of what is stored of hours and days, with its error"),
        ("limit" = Option<usize>, Query, description = "Rows of a raw page, 1 to 100000"),
        ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "Columns", body = AnyAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn query(
    State(hub): State<App>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<AnyAnswer>, ApiError> {
    let now_ns = hub.clock.wall_ns();
    let (from, to) = (query.from.as_deref(), query.to.as_deref());
    let (parts, aggregates) = (query.parts()?, query.aggregates()?);
    let (from_ns, to_ns) = match parts {
        Some(_) => range(from, to, now_ns)?,
        None => exact_range(from, to, now_ns)?,
    };
    let mut at = Cursor { from_ns, to_ns, after: None };
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
    let devices = infos.iter().map(|info| info.device.as_str());
    let beside = beside(&hub, devices, (at.from_ns, at.to_ns))?;
    if let Some(parts) = parts {
        return buckets::ask(&hub, &infos, at, (parts, aggregates), beside)
            .await
            .map(|answer| Json(AnyAnswer::Buckets(answer)));
    }
    // The store reads files and computes: off the async threads, and for as long as somebody waits.
    let leaving = Leaving::default();
    let left = leaving.left();
    let work = tokio::task::spawn_blocking(move || raw(&hub, &infos, at, (limit, &left), beside));
    let answer = work.await.map_err(|e| ApiError::internal(&e))?;
    answer.map(|answer| Json(AnyAnswer::Raw(answer))).map_err(refused)
}

/// A range as it was written, which may be relative to now.
fn exact_range(from: Option<&str>, to: Option<&str>, now_ns: i64) -> Result<(i64, i64), ApiError> {
    range_at(from, to, (now_ns, now_ns))
}

/// A range for buckets: where it is relative to now, it is rounded outwards to whole seconds, so that all who ask the same
/// within one ask for the same.
///
/// # Errors
/// A time cannot be read.
pub fn range(from: Option<&str>, to: Option<&str>, now_ns: i64) -> Result<(i64, i64), ApiError> {
    const SECOND_NS: i64 = 1_000_000_000;
    let floor = now_ns.div_euclid(SECOND_NS) * SECOND_NS;
    range_at(from, to, (floor, if floor == now_ns { floor } else { floor + SECOND_NS }))
}

fn range_at(from: Option<&str>, to: Option<&str>, now_ns: (i64, i64)) -> Result<(i64, i64), ApiError> {
    let time = |name: &'static str, text: &str, now_ns: i64| {
        when::parse_time(text, now_ns).map_err(|e| ApiError::bad("bad-time", format!("{name}: {e}")))
    };
    let (from_ns, to_ns) =
        (time("from", from.unwrap_or("-1h"), now_ns.0)?, time("to", to.unwrap_or("now"), now_ns.1)?);
    if from_ns > to_ns {
        return Err(ApiError::bad("bad-range", "from lies after to"));
    }
    Ok((from_ns, to_ns))
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
    let mut out: Vec<SeriesInfo> = Vec::new();
    for name in names {
        let (device, point) = name.split_once('/').ok_or_else(|| {
            ApiError::bad("bad-series", format!("{name:?} is no series; a series is device/point"))
        })?;
        let device = DeviceId::parse(device).map_err(|e| ApiError::bad("bad-series", e.to_string()))?;
        let point = PointId::parse(point).map_err(|e| ApiError::bad("bad-series", e.to_string()))?;
        let info = hub.store.info(&device, &point).ok_or_else(|| ApiError::not_found("series", name))?;
        if out.iter().all(|have| have.id != info.id) {
            out.push(info);
        }
    }
    Ok(out)
}

/// What is said beside the readings.
pub struct Beside {
    /// What was dropped.
    pub gaps: Vec<QueryGap>,
    /// Whose times were corrected.
    pub restamped: Vec<Restamped>,
    /// What came late.
    pub late: Vec<LateRange>,
    /// What may be missing.
    pub missing: Vec<Missing>,
}

/// An agent's ledger, and what may be missing of its readings.
type Account = (Vec<EpochLedger>, Option<(Option<i64>, MissingCause)>);

fn account(hub: &Hub, agent: &str) -> Result<Option<Account>, ApiError> {
    let Ok(agent) = AgentId::parse(agent) else { return Ok(None) };
    let Some(own) = hub.metadata.find::<DeviceRecord>(agent.as_str())? else { return Ok(None) };
    let ledger = hub.store.ledger(&agent);
    let missing = missing(hub, &agent, &own, &ledger);
    Ok(Some((ledger, missing)))
}

/// What is to be said of some devices in a range.
///
/// # Errors
/// The registry cannot be read.
pub fn beside<'a>(
    hub: &Hub,
    devices: impl Iterator<Item = &'a str>,
    (from_ns, to_ns): (i64, i64),
) -> Result<Beside, ApiError> {
    let devices: BTreeSet<&str> = devices.collect();
    let records = hub.metadata.find_each::<DeviceRecord>(devices.iter().copied())?;
    // Many devices may have one agent.
    let mut accounts: BTreeMap<String, Option<Account>> = BTreeMap::new();
    let mut out = Beside { gaps: Vec::new(), restamped: Vec::new(), late: Vec::new(), missing: Vec::new() };
    for (device, record) in devices.into_iter().zip(records) {
        let late = hub.lateness.within(device, when::ms(from_ns), when::ms(to_ns));
        out.late.extend(late.into_iter().map(|span| query_late(device, span)));
        let Some(record) = record else { continue };
        if !accounts.contains_key(&record.agent) {
            accounts.insert(record.agent.clone(), account(hub, &record.agent)?);
        }
        let Some(Some((ledger, missing))) = accounts.get(&record.agent) else { continue };
        let within = ledger.iter().flat_map(|e| &e.gaps).filter(|g| g.from_ns <= to_ns && g.to_ns >= from_ns);
        out.gaps.extend(within.map(|gap| query_gap(device, gap)));
        let restamped = ledger.iter().flat_map(|e| &e.restamps);
        let within = restamped.filter(|r| r.from_ns <= to_ns && r.to_ns >= from_ns);
        out.restamped.extend(within.map(|restamp| query_restamp(device, restamp)));
        let reaches = |after_ms: Option<i64>| after_ms.is_none_or(|ms| when::ms(to_ns) > ms);
        if let Some((after_ms, cause)) = missing.filter(|(after_ms, _)| reaches(*after_ms)) {
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
    // A session whose line is cut lives for a while yet; by then its agent has long been told as offline.
    let silent = hub.presences.shown(agent).is_some_and(|shown| shown.state == presence::State::Offline);
    let online = !silent && hub.fleet.presence(agent).is_some_and(|p| p.online);
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

fn identity(infos: &[SeriesInfo], id: SeriesId) -> (String, String, ValueKind) {
    infos
        .iter()
        .find(|i| i.id == id)
        .map(|i| (format!("{}/{}", i.device, i.point), i.unit.to_string(), i.kind))
        .unwrap_or_default()
}

fn raw(
    hub: &App,
    infos: &[SeriesInfo],
    at: Cursor,
    (limit, left): (usize, &dyn Fn() -> bool),
    beside: Beside,
) -> Result<RawAnswer, StoreError> {
    let ids: Vec<_> = infos.iter().map(|i| i.id).collect();
    let page = hub.store.query_page(&ids, (at.from_ns, at.to_ns), (at.after, limit), left)?;
    let series = page.series.into_iter().map(|column| {
        let (id, unit, kind) = identity(infos, column.id);
        let (v, quality) = columns(column.values, &column.boxes, kind);
        RawColumns {
            id,
            unit,
            kind: kind.to_string(),
            tier: "raw".to_owned(),
            t: column.times.iter().map(|ns| when::ms(*ns)).collect(),
            t_ns: column.times.iter().map(ToString::to_string).collect(),
            not_finite: v.not_finite(),
            v,
            quality,
        }
    });
    let next = page.next.map(|next| Cursor { after: Some(next), ..at }.encode());
    let Beside { gaps, restamped, late, missing } = beside;
    let (partial, thinned_to) = (!missing.is_empty(), page.thinned_to_ns.map(when::ms));
    Ok(RawAnswer { series: series.collect(), next, partial, missing, thinned_to, gaps, restamped, late })
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
