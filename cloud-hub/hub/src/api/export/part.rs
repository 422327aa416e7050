//! Parts of an export, so that one that was cut off goes on.

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use tideline_sql::Format;
use tideline_store::{ExportFormat, RawCursor, SeriesId, SeriesInfo};
use tokio::sync::OwnedSemaphorePermit;

use super::{ExportQuery, described};
use crate::api::problem::ApiError;
use crate::hub::App;

/// Most rows of a part: it is made in memory, and takes some 30 MB as CSV.
const ROWS_MAX: usize = 262_144;
/// The headers of a part; see the API's description.
const NEXT: HeaderName = HeaderName::from_static("tideline-next");
const ROWS: HeaderName = HeaderName::from_static("tideline-rows");
const SHARE: HeaderName = HeaderName::from_static("tideline-share");

/// What a part is of.
pub(super) struct Part {
    series: Vec<SeriesInfo>,
    range_ns: (i64, i64),
    after: Option<RawCursor>,
    rows: usize,
}

/// The part that is asked for.
///
/// # Errors
/// It is too long, or begins nowhere.
pub(super) fn of(
    query: &ExportQuery,
    rows: usize,
    series: Vec<SeriesInfo>,
    range_ns: (i64, i64),
) -> Result<Part, ApiError> {
    if !(1..=ROWS_MAX).contains(&rows) {
        return Err(ApiError::bad("bad-rows", format!("rows={rows}; allowed are 1 to {ROWS_MAX}")));
    }
    let after = query.after.as_deref().map(|text| parse(text, &series)).transpose()?;
    Ok(Part { series, range_ns, after, rows })
}

/// A cursor names its series: there may be more of them by the next part.
fn parse(text: &str, series: &[SeriesInfo]) -> Result<RawCursor, ApiError> {
    let bad = |why: &str| ApiError::bad("bad-cursor", format!("after={text}: {why}"));
    let (place, name) = text.split_once('@').ok_or_else(|| bad("it is no cursor of a part"))?;
    let at = series.iter().position(|info| name_of(info) == name);
    let at = at.ok_or_else(|| bad("its series is not among those that are asked for"))?;
    format!("{at}:{place}").parse().map_err(|_| bad("it is no cursor of a part"))
}

fn name_of(info: &SeriesInfo) -> String {
    format!("{}/{}", info.device, info.point)
}

/// A cursor as text, and about which share of all rows is before it.
fn shown(cursor: RawCursor, part: &Part) -> Option<(String, f64)> {
    let text = cursor.to_string();
    let (at, place) = text.split_once(':')?;
    let at: usize = at.parse().ok()?;
    let time_ns: i64 = place.split_once(':')?.0.parse().ok()?;
    let info = part.series.get(at)?;
    let weights = part.series.iter().map(|info| weight(info, part.range_ns));
    let all: f64 = weights.clone().sum();
    let done: f64 = weights.take(at).sum();
    let own = weight(info, (part.range_ns.0, part.range_ns.1.min(time_ns)));
    let share = if all > 0.0 { ((done + own) / all).clamp(0.0, 1.0) } else { 1.0 };
    Some((format!("{place}@{}", name_of(info)), share))
}

/// About how many readings a series has in a range, were they evenly spread.
#[expect(clippy::cast_precision_loss, reason = "it is for people")]
fn weight(info: &SeriesInfo, (from_ns, to_ns): (i64, i64)) -> f64 {
    let (Some(first), Some(last)) = (info.first_ns, info.last_ns) else { return 0.0 };
    let (begin, end) = (first.max(from_ns), last.min(to_ns));
    if begin > end {
        return 0.0;
    }
    let (part, whole) = (end as f64 - begin as f64, last as f64 - first as f64);
    info.count as f64 * if whole > 0.0 { part / whole } else { 1.0 }
}

/// The part, made before it is sent: its headers say where the next one begins.
pub(super) async fn answer(
    hub: App,
    turn: OwnedSemaphorePermit,
    (format, written): (Format, ExportFormat),
    part: Part,
) -> Result<Response, ApiError> {
    let work = move || {
        let _turn = turn;
        let ids: Vec<SeriesId> = part.series.iter().map(|info| info.id).collect();
        let mut body = Vec::new();
        let made = hub.store.export_part(written, &ids, part.range_ns, (part.after, part.rows), &mut body);
        made.map(|made| (made, part, body))
    };
    let made = tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(&error))?;
    let (made, part, body) = made.map_err(|error| ApiError::internal(&error))?;
    let mut response = (described(format), body).into_response();
    let headers = response.headers_mut();
    headers.insert(ROWS, HeaderValue::from(made.rows));
    let (next, share) = match made.next {
        None => (None, 1.0),
        Some(cursor) => match shown(cursor, &part) {
            Some((text, share)) => (Some(text), share),
            None => return Err(ApiError::bad("bad-cursor", "the part ends nowhere")),
        },
    };
    let text = |text: String| HeaderValue::from_str(&text).map_err(|error| ApiError::internal(&error));
    headers.insert(SHARE, text(format!("{share:.4}"))?);
    if let Some(next) = next {
        headers.insert(NEXT, text(next)?);
    }
    Ok(response)
}
