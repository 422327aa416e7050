//! The local page: what somebody on site wants to know of the agent, with nothing but a phone and no hub in reach. It is
//! made here, so that it says the same without scripts; a script asks for it again while it is looked at.
//!
//! It shows and changes nothing: what writes at its address is `/twin`, and the page of a twin below it, which ask for the token.

mod asked;
mod html;
mod log;
mod readings;
mod sections;
pub mod twin;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock as _;

use self::asked::{Parts, TwinShown};
use self::html::page;
use crate::clock::AgentClock;
use crate::commands::{Commands, Known};
use crate::logs::Recent;
use crate::schedule::driver::ScheduleShown;
use crate::spooler::SpoolHandle;
use crate::status::{Board, Status};
use crate::twin::TwinHandle;

/// What no script of the page may do, nor anybody with the page.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const STYLE: &str = include_str!("../page/page.css");
const SCRIPT: &str = include_str!("../page/page.js");
/// How old the counts may be that rates are made of, and how young.
const RATE_OVER: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(120);

/// What the page shows; parts that an agent has not are left out.
#[derive(Clone, Default)]
pub struct Shown {
    /// The status and the newest readings.
    pub board: Board,
    /// The log.
    pub logs: Recent,
    /// The spool, which knows how old the oldest readings are that wait.
    pub spool: Option<SpoolHandle>,
    /// The twins.
    pub twins: Option<TwinHandle>,
    /// Commands of the hub, and schedules.
    pub commands: Option<Commands>,
    // Those of other tasks and threads.
    parts: Parts,
    // What was counted before, and how old the oldest readings of a seq are.
    past: Arc<Mutex<Past>>,
}

#[derive(Default)]
struct Past {
    counts: Option<(Duration, Vec<(String, u64)>)>,
    rates: Vec<(String, f64)>,
    oldest: Option<(u64, i64)>,
}

/// What is chosen in the page's address.
#[derive(Debug, Default, Deserialize)]
struct Choice {
    /// The least level of lines of the log.
    level: Option<String>,
    /// The device whose readings are shown.
    device: Option<String>,
}

/// All that is on the page.
struct View {
    status: Status,
    now_ns: i64,
    /// Readings a second of each source.
    rates: Vec<(String, f64)>,
    /// The time of the oldest reading that waits, where one does and it can be read; none where that is not known now.
    oldest_ns: Option<Option<i64>>,
    devices: Vec<(DeviceId, usize, i64)>,
    readings: Vec<(DeviceId, Vec<crate::newest::Reading>)>,
    readings_of_others: u64,
    chosen: Option<String>,
    /// The first twins, and how many more there are; none where that is not known now.
    twins: Option<(Vec<TwinShown>, usize)>,
    /// None where they are not known now.
    commands: Option<Known>,
    schedules: Vec<(String, ScheduleShown)>,
    level: log::Level,
    lines: Vec<log::Line>,
}

impl Shown {
    /// Of an agent that shows its status alone.
    #[must_use]
    pub fn of(board: Board) -> Self {
        Self { board, ..Self::default() }
    }

    async fn view(&self, choice: Choice) -> View {
        let status = self.board.read();
        let level = choice.level.as_deref().and_then(log::Level::named).unwrap_or_default();
        let newest = self.board.newest();
        let devices = newest.devices();
        let chosen = choice.device.filter(|name| devices.iter().any(|(id, ..)| id.as_str() == name));
        let readings = readings::chosen(&devices, chosen.as_deref());
        let readings = readings.into_iter().map(|id| (id.clone(), newest.of(&id))).collect();
        // At once: one that is stuck makes the page no slower than all of them.
        let (twins, commands, oldest_ns) = tokio::join!(
            self.parts.twins(self.twins.clone()),
            self.parts.commands(self.commands.clone()),
            self.oldest_ns()
        );
        let schedules = self.commands.as_ref().map(|commands| commands.schedules().borrow().all.clone());
        let clock = AgentClock::default();
        View {
            rates: self.rates(&status, Duration::from_nanos(clock.mono_ns())),
            oldest_ns,
            now_ns: clock.wall_ns(),
            devices,
            readings,
            readings_of_others: newest.others(),
            chosen,
            twins,
            commands,
            schedules: schedules.into_iter().flatten().collect(),
            lines: log::lines(&self.logs, level),
            level,
            status,
        }
    }

    /// Readings a second of each source since it was last looked at, some seconds ago at least.
    fn rates(&self, status: &Status, now: Duration) -> Vec<(String, f64)> {
        let counts = || status.sources.values().map(|source| (source.name.clone(), source.accepted));
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = past.counts.as_ref().map(|(then, _)| now.saturating_sub(*then));
        match passed {
            Some(passed) if passed < *RATE_OVER.start() => return past.rates.clone(),
            Some(passed) if RATE_OVER.contains(&passed) => {
                let before = past.counts.take().map(|(_, before)| before).unwrap_or_default();
                let rate = |(name, count): (String, u64)| {
                    let (_, before) = before.iter().find(|(known, _)| *known == name)?;
                    let count = u32::try_from(count.saturating_sub(*before)).unwrap_or(u32::MAX);
                    Some((name, f64::from(count) / passed.as_secs_f64()))
                };
                past.rates = counts().filter_map(rate).collect();
            }
            _ => past.rates.clear(),
        }
        past.counts = Some((now, counts().collect()));
        past.rates.clone()
    }

    /// The time of the oldest reading that waits, where one does and it can be read; none where that is not known now.
    async fn oldest_ns(&self) -> Option<Option<i64>> {
        let Some(spool) = &self.spool else { return Some(None) };
        let state = *spool.state().borrow();
        let (from, head) = (state.pending_from, state.head);
        if state.account.pending == 0 || from > head {
            return Some(None);
        }
        let known = self.past.lock().unwrap_or_else(PoisonError::into_inner).oldest;
        if let Some((_, time_ns)) = known.filter(|(seq, _)| *seq == from.get()) {
            return Some(Some(time_ns));
        }
        let time_ns = self.parts.oldest_ns(spool.clone(), from.get()).await?;
        let oldest = time_ns.map(|time_ns| (from.get(), time_ns));
        self.past.lock().unwrap_or_else(PoisonError::into_inner).oldest = oldest;
        Some(time_ns)
    }
}

/// The page and what belongs to it.
pub fn router(shown: Shown) -> Router {
    let style = || async { asset("text/css; charset=utf-8", STYLE) };
    let script = || async { asset("text/javascript; charset=utf-8", SCRIPT) };
    Router::new()
        .route("/", get(whole))
        .route("/view", get(view))
        .route("/readings", get(readings::answer))
        .with_state(shown)
        .route("/page.css", get(style))
        .route("/page.js", get(script))
}

/// The page for who asks for one, and the status for all others.
async fn whole(State(shown): State<Shown>, Query(choice): Query<Choice>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/html") {
        return Json(shown.board.read()).into_response();
    }
    answer(page(&shown.view(choice).await))
}

/// What changes of the page.
async fn view(State(shown): State<Shown>, Query(choice): Query<Choice>) -> Response {
    answer(html::main(&shown.view(choice).await))
}

fn answer(text: String) -> Response {
    let mut response = asset("text/html; charset=utf-8", text);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn asset(kind: &'static str, text: impl Into<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Without any, a browser says of a form that it is from nowhere, and so not from here.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (headers, text.into()).into_response()
}
