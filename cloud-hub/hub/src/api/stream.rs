//! `GET /live`: server-sent events, resumable.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;

use super::auth::Principal;
use super::problem::{ApiError, Problem};
use super::shapes::{LiveReadings, LiveResults};
use crate::hub::{App, STREAMS};
use crate::live::{Happening, LiveEvent, Since};
use crate::places::Full;

/// Events on the way to one reader; beyond it the reader's cursor waits in the ring.
const EVENTS_AHEAD_MAX: usize = 16;
/// Longest silence, so that a proxy does not take the line for dead, and that what a reader resumes
/// from stays young when its filter lets nothing pass.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a reader without a place may find one: some browser tab was closed.
const RETRY_AFTER_S: u64 = 30;

/// How often it is looked whether the reader's login holds: a session ends by the clock too.
const LOGIN_CHECK: Duration = Duration::from_secs(15);

/// What to follow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveQuery {
    device: Option<String>,
    series: Option<String>,
    events: Option<String>,
}

impl LiveQuery {
    /// The series as they are written.
    pub(super) fn series(&self) -> Option<&str> {
        self.series.as_deref()
    }

    /// Whether devices are named beside them.
    pub(super) fn names_devices(&self) -> bool {
        self.device.is_some()
    }
}

/// What of a device somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// All that happens.
    All,
    /// Its readings, and those that it gave up.
    Readings,
}

/// Sets, so that however many names are given, an event costs what is in it.
struct Filter {
    devices: HashSet<String>,
    series: HashSet<String>,
    // Those of the series.
    series_devices: HashSet<String>,
    // The kinds of events; empty for all.
    names: HashSet<String>,
    told: Told,
}

/// What a kind of events is called.
const fn name_of(happening: &Happening) -> &'static str {
    match happening {
        Happening::Readings(_) => "readings",
        Happening::Devices(_) => "device",
        Happening::Gap(_) => "gap",
        Happening::Twin(_) => "twin",
        Happening::Command(_) => "command",
        Happening::Results(_) => "results",
    }
}

/// All that [`name_of`] gives.
const NAMES: [&str; 6] = ["readings", "device", "gap", "twin", "command", "results"];

impl Filter {
    fn of(query: &LiveQuery, told: Told) -> Result<Self, ApiError> {
        let list = |text: &Option<String>| -> HashSet<String> {
            text.iter()
                .flat_map(|t| t.split(','))
                .map(|t| t.trim().to_owned())
                .filter(|t| !t.is_empty())
                .collect()
        };
        let series = list(&query.series);
        let of_series = series.iter().filter_map(|series| series.split_once('/'));
        let series_devices = of_series.map(|(device, _)| device.to_owned()).collect();
        let names = list(&query.events);
        if let Some(name) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            let detail = format!("events={name}; allowed are {}", NAMES.join(", "));
            return Err(ApiError::bad("bad-events", detail));
        }
        Ok(Self { devices: list(&query.device), series, series_devices, names, told })
    }

    fn wants(&self, device: &str) -> bool {
        (self.devices.is_empty() && self.series.is_empty())
            || self.series_devices.contains(device)
            || self.devices.contains(device)
    }

    /// The events of one moment for this reader. Only the last has the id: a reader that resumes in
    /// between gets all of them again.
    fn events(&self, live: &LiveEvent) -> Vec<Event> {
        let (id, name) = (Some(live.id), name_of(&live.happening));
        if !self.names.is_empty() && !self.names.contains(name) {
            return Vec::new();
        }
        let made: Vec<Option<Event>> = match &live.happening {
            Happening::Readings(devices) => {
                let wanted = devices.iter().filter(|(device, _)| self.wants(device));
                let series: Vec<_> = wanted
                    .flat_map(|(_, columns)| columns)
                    .filter(|c| self.series.is_empty() || self.series.contains(&c.id))
                    .cloned()
                    .collect();
                if series.is_empty() {
                    return Vec::new();
                }
                vec![event(name, &LiveReadings { series }, id)]
            }
            Happening::Gap(gap) if self.wants(&gap.device) => vec![event(name, gap, id)],
            _ if self.told == Told::Readings => Vec::new(),
            Happening::Devices(devices) => {
                let wanted: Vec<_> = devices.iter().filter(|d| self.wants(&d.id)).collect();
                let last = wanted.len().saturating_sub(1);
                let at = |n: usize| id.filter(|_| n == last);
                wanted.into_iter().enumerate().map(|(n, d)| event(name, d, at(n))).collect()
            }
            Happening::Twin(twin) if self.wants(&twin.device) => vec![event(name, twin, id)],
            Happening::Command(command) if self.wants(&command.device) => {
                vec![event(name, command, id)]
            }
            Happening::Gap(_) | Happening::Twin(_) | Happening::Command(_) => Vec::new(),
            Happening::Results(rows) => {
                let wanted = rows.iter().filter(|row| self.wants(row.device()));
                let results: Vec<_> = wanted.cloned().collect();
                if results.is_empty() {
                    return Vec::new();
                }
                vec![event(name, &LiveResults { results }, id)]
            }
        };
        made.into_iter().flatten().collect()
    }
}

fn event(name: &str, data: &impl Serialize, id: Option<u64>) -> Option<Event> {
    let named = Event::default().event(name);
    let named = id.into_iter().fold(named, |event, id| event.id(id.to_string()));
    named.json_data(data).ok()
}

/// An event with nothing but an id, which readers keep and do not see.
fn mark(cursor: u64) -> Event {
    Event::default().id(cursor.to_string())
}

/// Server-sent events: `readings`, `device`, `gap`, `twin`, `command`, `results`, `reset`
///
/// A reader that sends the last id it got as `Last-Event-ID` gets what it missed. When that is no
/// longer kept, or the id is of an earlier run of the hub, `reset` comes first and then what is new:
/// ask again for what you show. The stream ends with the session or token that it was opened with.
#[utoipa::path(get, path = "/api/v1/live", operation_id = "live",
    params(("device" = Option<String>, Query, description = "Of these devices only, with commas"), ("series" = Option<String>, Query, description = "Of these series only, with commas"), ("events" = Option<String>, Query, description = "Of these kinds only, with commas; `reset` comes anyway")),
    responses((status = 200, description = "Events; the data of `readings`", body = LiveReadings, content_type = "text/event-stream"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn live(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<LiveQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    open(&hub, principal, Filter::of(&query, Told::All)?, &headers)
}

/// The stream for who may see the readings of what they ask for, and nothing else.
///
/// # Errors
/// There is no place for one more reader, or a kind of events is not known.
pub(super) fn follow_readings(
    hub: &App,
    principal: Principal,
    query: &LiveQuery,
    headers: &HeaderMap,
) -> Result<impl IntoResponse + use<>, ApiError> {
    open(hub, principal, Filter::of(query, Told::Readings)?, headers)
}

fn open(
    hub: &App,
    principal: Principal,
    filter: Filter,
    headers: &HeaderMap,
) -> Result<impl IntoResponse + use<>, ApiError> {
    let party = principal.party();
    let place = hub.streams.take(Some(party.clone())).map_err(|full| {
        let detail = match full {
            Full::Each => format!("{party} follows the live feed {} times already; close some", STREAMS.each),
            Full::All => format!("the live feed is followed {} times already", STREAMS.all),
        };
        ApiError {
            retry_after_s: Some(RETRY_AFTER_S),
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-streams", detail)
        }
    })?;
    let resume =
        headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(str::trim).filter(|v| !v.is_empty());
    let cursor = match resume {
        // An id that no hub ever gave is as good as one that is too old.
        Some(text) => text.parse().unwrap_or(0),
        None => hub.live.end(),
    };
    let (send, receive) = mpsc::channel(EVENTS_AHEAD_MAX);
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        // Told apart from the events: a reader that takes none must go as well.
        tokio::select! {
            () = follow(Arc::clone(&hub), filter, cursor, send) => {}
            () = signed_out(&hub, &principal) => {}
        }
        drop(place);
    });
    Ok(Sse::new(ReceiverStream::new(receive)))
}

/// Resolves when the principal would not be let in any more.
async fn signed_out(hub: &App, principal: &Principal) {
    let mut ended = hub.signed_out.subscribe();
    let mut checks = tokio::time::interval(LOGIN_CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        match principal.holds(hub) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, "a login cannot be looked up; its live feed ends");
                return;
            }
        }
        tokio::select! {
            changed = ended.changed() => if changed.is_err() { return },
            _ = checks.tick() => {}
        }
    }
}

async fn follow(hub: App, filter: Filter, mut cursor: u64, send: mpsc::Sender<Result<Event, Infallible>>) {
    let mut newest = hub.live.watch();
    // The first tick is at once: a reader to whom nothing happens can resume too.
    let mut marks = tokio::time::interval(KEEP_ALIVE);
    marks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        newest.mark_unchanged();
        let events = match hub.live.since(cursor) {
            Since::Reset(end) => {
                cursor = end;
                vec![Event::default().event("reset").id(end.to_string()).data("{}")]
            }
            Since::Events(events) => {
                cursor = events.last().map_or(cursor, |live| live.id);
                events.iter().flat_map(|live| filter.events(live)).collect()
            }
        };
        for event in events {
            if send.send(Ok(event)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            _ = marks.tick() => if send.send(Ok(mark(cursor))).await.is_err() { return },
            () = send.closed() => return,
            () = hub.stopped() => return,
        }
    }
}
