//! Readings as a file that other programs read.

mod part;

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tideline_protocol::model::DeviceId;
use tideline_sql::Format;
use tideline_store::{ExportFormat, SeriesInfo, Tier};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio_stream::Stream;

use super::problem::{ApiError, Problem};
use super::query::find_series;
use super::sql::thinned_to;
use crate::hub::App;
use crate::when;

/// Most series that may be named; all of a device, or of the fleet, may be more.
const SERIES_NAMED_MAX: usize = 1_000;
/// Up to when there may be readings of the cold tier among those of an export.
pub const COLD_TO: &str = "tideline-cold-to";
/// Bytes that are handed on together, and how many of these may wait for the client.
const PART_BYTES: usize = 256 * 1024;
const PARTS_MAX: usize = 4;
/// How long a client may take nothing before its export ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to export.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    series: Option<String>,
    device: Option<String>,
    from: Option<String>,
    to: Option<String>,
    format: Option<String>,
    rows: Option<usize>,
    after: Option<String>,
}

/// Readings as Parquet, Arrow stream or CSV
///
/// Columns device, point, unit, type (strings), time (timestamp in ns, UTC; in CSV RFC 3339), value (double), int, text,
/// quality and doubtful (a double of bad quality), by series, time and arrival. A body that is broken off was cut off by an error of the hub, which its log tells.
///
/// With `rows` the answer is a part of about so many rows. Its header `tideline-next` is the `after` of the next one, with
/// all else the same and times that are not relative; the last part has none. `tideline-rows` says how many rows it has,
/// `tideline-share` about which share of all was read with it. Parts of CSV and Arrow one behind the other are the whole;
/// each part of Parquet is a file. Where readings of the range are past their retention, `tideline-thinned-to` (Unix ms) says up
/// to when: what of them is not in the cold tier is not in the answer. Where some may be, `tideline-cold-to` (Unix ms) says up to
/// when: they are in the answer, in their places.
#[utoipa::path(get, path = "/api/v1/export", operation_id = "export",
    params(
        ("series" = Option<String>, Query, description = "device/point, several with commas, up to 1000; all when left out"),
        ("device" = Option<String>, Query, description = "All series of this device"),
        ("from" = Option<String>, Query, description = "RFC 3339, Unix ms, or relative as -6h; the beginning when left out"),
        ("to" = Option<String>, Query, description = "As from; now when left out"),
        ("format" = Option<String>, Query, description = "parquet, arrow or csv; parquet when left out"),
        ("rows" = Option<u64>, Query, description = "A part of about so many rows, 1 to 262144; all when left out"),
        ("after" = Option<String>, Query, description = "Where the part begins, as the one before said; only with rows")),
    responses((status = 200, description = "The readings", content((Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"), (String = "text/csv"))), (status = 503, description = "`too-many-exports`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn export(State(hub): State<App>, Query(query): Query<ExportQuery>) -> Result<Response, ApiError> {
    let now_ns = hub.clock.wall_ns();
    let time = |name: &'static str, text: &str| {
        when::parse_time(text, now_ns).map_err(|e| ApiError::bad("bad-time", format!("{name}: {e}")))
    };
    let from_ns = query.from.as_deref().map_or(Ok(i64::MIN), |text| time("from", text))?;
    let to_ns = time("to", query.to.as_deref().unwrap_or("now"))?;
    if from_ns > to_ns {
        return Err(ApiError::bad("bad-range", "from lies after to"));
    }
    let (format, written) = format_of(query.format.as_deref())?;
    let series = wanted(&hub, &query)?;
    let turn = Arc::clone(&hub.exports).try_acquire_owned().map_err(|_| {
        let detail = "as many exports as are allowed are running; ask again when one has ended";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-exports", detail)
    })?;
    let thinned = (
        thinned_to(thinned(&hub, &series, (from_ns, to_ns)).await?),
        cold_to(&hub, &series, (from_ns, to_ns)),
    );
    if let Some(rows) = query.rows {
        let part = part::of(&query, rows, series, (from_ns, to_ns))?;
        let part = part::answer(hub, turn, (format, written), part).await?;
        return Ok((thinned.0, thinned.1, part).into_response());
    }
    if query.after.is_some() {
        return Err(ApiError::bad("bad-cursor", "after is for parts, of which rows says how long they are"));
    }
    let (parts, body) = mpsc::channel(PARTS_MAX);
    let whole = Arc::new(AtomicBool::new(false));
    let body = BrokenOff::unless(Arc::clone(&whole), body);
    let runtime = tokio::runtime::Handle::current();
    // Ends when the client has gone: its next part has nobody to go to.
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let ids: Vec<_> = series.iter().map(|info| info.id).collect();
        let mut out = Parts { runtime, parts: parts.clone(), held: Vec::new() };
        let done = hub.store.export(written, &ids, from_ns, to_ns, &mut out);
        let done = done.map_err(|error| error.to_string()).and_then(|rows| {
            out.flush().map_err(|error| error.to_string())?;
            Ok(rows)
        });
        match done {
            Ok(rows) => {
                whole.store(true, Ordering::Release);
                tracing::info!(rows, series = ids.len(), "readings exported");
            }
            Err(_) if parts.is_closed() => tracing::info!("an export ended with its client"),
            Err(error) => tracing::error!(error, "an export was broken off"),
        }
    });
    Ok((described(format), thinned.0, thinned.1, Body::from_stream(body)).into_response())
}

/// Up to when readings of a range are past their retention.
async fn thinned(hub: &App, series: &[SeriesInfo], range_ns: (i64, i64)) -> Result<Option<i64>, ApiError> {
    let ids: Vec<_> = series.iter().map(|info| info.id).collect();
    let store = hub.store.clone();
    let asked = tokio::task::spawn_blocking(move || store.thinned_to(&ids, range_ns, Tier::Raw));
    let found = asked.await.map_err(|error| ApiError::internal(&error))?;
    found.map_err(|error| ApiError::internal(&error))
}

/// Up to when there may be readings of a range in the cold tier.
fn cold_to(
    hub: &App,
    series: &[SeriesInfo],
    range_ns: (i64, i64),
) -> Option<[(header::HeaderName, String); 1]> {
    let ids: Vec<_> = series.iter().map(|info| info.id).collect();
    let last_ns = hub.store.cold_rows(&ids, range_ns).last_ns();
    last_ns.map(|ns| [(header::HeaderName::from_static(COLD_TO), when::ms(ns).to_string())])
}

fn described(format: Format) -> [(header::HeaderName, String); 2] {
    [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"readings.{}\"", format.name())),
    ]
}

fn format_of(named: Option<&str>) -> Result<(Format, ExportFormat), ApiError> {
    match named.unwrap_or("parquet") {
        "parquet" => Ok((Format::Parquet, ExportFormat::Parquet)),
        "arrow" => Ok((Format::Arrow, ExportFormat::Arrow)),
        "csv" => Ok((Format::Csv, ExportFormat::Csv)),
        other => {
            Err(ApiError::bad("bad-format", format!("format={other}; allowed are parquet, arrow and csv")))
        }
    }
}

fn wanted(hub: &App, query: &ExportQuery) -> Result<Vec<SeriesInfo>, ApiError> {
    match (&query.series, &query.device) {
        (Some(_), Some(_)) => Err(ApiError::bad("bad-series", "give series or device, not both")),
        (Some(names), None) => find_series(hub, names, SERIES_NAMED_MAX),
        (None, Some(device)) => {
            let device = DeviceId::parse(device).map_err(|e| ApiError::bad("bad-device", e.to_string()))?;
            let found = hub.store.series(Some(&device));
            if found.is_empty() {
                Err(ApiError::not_found("device with readings", device.as_str()))
            } else {
                Ok(found)
            }
        }
        (None, None) => Ok(hub.store.series(None)),
    }
}

/// What the client gets. It ends with an error unless all was written: whatever ended the writer, nobody takes a
/// part for the whole.
pub(super) struct BrokenOff {
    parts: mpsc::Receiver<Bytes>,
    whole: Arc<AtomicBool>,
    ended: bool,
}

impl BrokenOff {
    /// The parts; that they were all is said by `whole`, before the sender is dropped.
    pub(super) const fn unless(whole: Arc<AtomicBool>, parts: mpsc::Receiver<Bytes>) -> Self {
        Self { parts, whole, ended: false }
    }
}

impl Stream for BrokenOff {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(context).map(|part| {
            if let Some(part) = part {
                return Some(Ok(part));
            }
            self.ended = true;
            let whole = self.whole.load(Ordering::Acquire);
            (!whole).then(|| Err(io::Error::other("the answer was broken off")))
        })
    }
}

/// Hands what is written on to the client, and waits for it.
struct Parts {
    runtime: tokio::runtime::Handle,
    parts: mpsc::Sender<Bytes>,
    held: Vec<u8>,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PART_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let part = Bytes::from(std::mem::take(&mut self.held));
        let send = self.parts.send_timeout(part, PATIENCE);
        self.runtime.block_on(send).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => io::ErrorKind::TimedOut.into(),
            SendTimeoutError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn what_was_broken_off_does_not_end_as_if_it_were_whole() {
        for whole in [true, false] {
            let (sender, parts) = mpsc::channel(2);
            let mut body = BrokenOff::unless(Arc::new(AtomicBool::new(whole)), parts);
            sender.send(Bytes::from_static(b"PAR1")).await.unwrap();
            drop(sender);
            assert_eq!(body.next().await.unwrap().unwrap(), "PAR1");
            assert_eq!(body.next().await.is_some_and(|end| end.is_err()), !whole);
            assert!(body.next().await.is_none());
        }
    }
}
