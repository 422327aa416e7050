//! `GET /live`: server-sent events, resumable.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::problem::{ApiError, Problem};
use super::shapes::LiveReadings;
use crate::hub::App;
use crate::live::{Happening, LiveEvent, Since};

/// Events on the way to one reader; beyond it the reader's cursor waits in the ring.
const EVENTS_AHEAD_MAX: usize = 16;
/// Longest silence, so that a proxy does not take the line for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What to follow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveQuery {
    device: Option<String>,
    series: Option<String>,
}

struct Filter {
    devices: Vec<String>,
    series: Vec<String>,
}

impl Filter {
    fn of(query: &LiveQuery) -> Self {
        let list = |text: &Option<String>| -> Vec<String> {
            text.iter()
                .flat_map(|t| t.split(','))
                .map(|t| t.trim().to_owned())
                .filter(|t| !t.is_empty())
                .collect()
        };
        Self { devices: list(&query.device), series: list(&query.series) }
    }

    fn wants(&self, device: &str) -> bool {
        let by_series = self.series.iter().filter_map(|s| s.split_once('/')).any(|(d, _)| d == device);
        (self.devices.is_empty() && self.series.is_empty())
            || by_series
            || self.devices.iter().any(|d| d == device)
    }

    fn event(&self, live: &LiveEvent) -> Option<Event> {
        if !self.wants(&live.device) {
            return None;
        }
        let event = Event::default().id(live.id.to_string());
        let data = match &live.happening {
            Happening::Readings(all) if self.series.is_empty() => event.event("readings").json_data(all),
            Happening::Readings(all) => {
                let series: Vec<_> =
                    all.series.iter().filter(|c| self.series.contains(&c.id)).cloned().collect();
                if series.is_empty() {
                    return None;
                }
                event.event("readings").json_data(LiveReadings { series })
            }
            Happening::Device(device) => event.event("device").json_data(device),
            Happening::Gap(gap) => event.event("gap").json_data(gap),
        };
        data.ok()
    }
}

/// Server-sent events: readings, device, gap; reset when Last-Event-ID is too old
#[utoipa::path(get, path = "/api/v1/live", operation_id = "live",
    params(("device" = Option<String>, Query, description = "Of these devices only, with commas"), ("series" = Option<String>, Query, description = "Of these series only, with commas")),
    responses((status = 200, description = "Events; the data of `readings`", body = LiveReadings, content_type = "text/event-stream"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn live(
    State(hub): State<App>,
    Query(query): Query<LiveQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let resume =
        headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(str::trim).filter(|v| !v.is_empty());
    let cursor = match resume {
        // An id that no hub ever gave is as good as one that is too old.
        Some(text) => text.parse().unwrap_or(0),
        None => hub.live.end(),
    };
    let (send, receive) = mpsc::channel(EVENTS_AHEAD_MAX);
    tokio::spawn(follow(hub, Filter::of(&query), cursor, send));
    Ok(Sse::new(ReceiverStream::new(receive)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn follow(hub: App, filter: Filter, mut cursor: u64, send: mpsc::Sender<Result<Event, Infallible>>) {
    let mut newest = hub.live.watch();
    loop {
        newest.mark_unchanged();
        match hub.live.since(cursor) {
            Since::Reset(end) => {
                cursor = end;
                let reset = Event::default().event("reset").id(end.to_string()).data("{}");
                if send.send(Ok(reset)).await.is_err() {
                    return;
                }
            }
            Since::Events(events) => {
                for live in events {
                    cursor = live.id;
                    if let Some(event) = filter.event(&live)
                        && send.send(Ok(event)).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = send.closed() => return,
            () = hub.stopped() => return,
        }
    }
}
