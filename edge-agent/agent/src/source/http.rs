//! Readings that others push over HTTP or HTTPS: what devices post as their profiles say, JSON of a form of its own, and
//! InfluxDB's line protocol.
//!
//! ```text
//! POST, PUT /<path of a device>     as the device's profile says
//! POST /readings                    {"device": "pump-7", "time": 1763719200000, "values": {"flow": 1.5}}, one,
//!                                   a list of them, or one a line
//! POST /write, /api/v2/write        line protocol; the tag `device` names the device
//! ```
//! The answer is 204 once the readings are durable, or with `answer = "accepted"` once they are on their way
//! there. What is refused is told with 400, and the rest is taken all the same. What a device posts is taken with 200 and a
//! text where a value is none that its profile allows: that is stored as "no value", and to send it again helps nobody. A
//! stream that has no room makes the sender wait. A sender that got no answer does not know whether its readings were
//! taken: what it sends again has the same times, if it says any.

pub mod body;
pub(crate) mod door;
mod entries;
pub mod rights;
pub mod sorter;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tideline_formats::line::Precision;
use tideline_profiles::form::protocol::Protocol;
use tideline_profiles::json::{MessageError, PAYLOAD_BYTES_MAX};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use self::body::{Refusal, whole};
use self::rights::{Rights, Sender};
use self::sorter::{Pushed, Sorter};
use super::directory::{Directory, Heard, Message};
use super::sheets::Sheets;
use super::{Context, Source, SourceError};
use crate::config::{Answered, DeviceConfig, PushDoor};

/// Requests that are read or wait at once: each may hold a body, and a device has little memory.
const REQUESTS_MAX: usize = 8;
/// Longest that a body may take to come.
const BODY_MAX: Duration = Duration::from_secs(30);
/// Most reasons that one answer tells.
const REASONS_MAX: usize = 16;

/// Takes readings over HTTP.
#[derive(Debug, Clone)]
pub struct HttpSource {
    door: PushDoor,
    devices: Vec<DeviceConfig>,
    // Outlives an attempt: the devices that have appeared.
    directory: Arc<Mutex<Result<Directory, String>>>,
}

impl HttpSource {
    /// Through a door, of these devices and those that appear. Those that other forms may name are these, or any when
    /// there are none.
    #[must_use]
    pub fn new(door: PushDoor, devices: Vec<DeviceConfig>) -> Self {
        let posts = |device: &&DeviceConfig| {
            device.family.as_ref().is_some_and(|profile| matches!(profile.protocol(), Protocol::Http(_)))
        };
        let told: Vec<DeviceConfig> = devices.iter().filter(posts).cloned().collect();
        let directory = Arc::new(Mutex::new(Directory::new(&told, &door.families)));
        Self { door, devices, directory }
    }
}

struct Served {
    context: Context,
    rights: Arc<Rights>,
    answered: Answered,
    sorter: Sorter,
    directory: Arc<Mutex<Result<Directory, String>>>,
    places: Semaphore,
}

impl Source for HttpSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        if let Err(reason) = &*self.directory.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(SourceError::failed(reason));
        }
        let defs = context.wait(context.spool().series(0, usize::MAX)).await?.map_err(SourceError::failed)?;
        // They have twins before they post.
        context.introduce(self.devices.iter().map(|device| &device.id));
        let rights = Arc::new(Rights { token: self.door.token.clone(), tokens: self.door.tokens.clone() });
        let served = Served {
            context: context.clone(),
            answered: self.door.answered,
            sorter: Sorter::new(&self.devices, context.own_device().id, &defs, Arc::clone(&rights)),
            rights,
            directory: Arc::clone(&self.directory),
            places: Semaphore::new(REQUESTS_MAX),
        };
        let router = Router::new()
            .route("/readings", post(readings))
            .route("/write", post(lines))
            .route("/api/v2/write", post(lines))
            .route("/{*path}", post(posted).put(posted))
            .with_state(Arc::new(served));
        door::serve(&self.door, router, context).await
    }
}

async fn readings(State(served): State<Arc<Served>>, request: Request) -> Response {
    let take: Take = |served, asked, body| served.sorter.json(body, &asked.sender, served.context.readings());
    answer(&served.context, served.take(request, take).await)
}

async fn lines(State(served): State<Arc<Served>>, request: Request) -> Response {
    let take: Take = |served, asked, body| {
        served.sorter.lines(body, asked.precision, &asked.sender, served.context.readings())
    };
    answer(&served.context, served.take(request, take).await)
}

async fn posted(State(served): State<Arc<Served>>, Path(path): Path<String>, request: Request) -> Response {
    answer(&served.context, served.hear(&path, request).await)
}

/// How a body becomes readings.
type Take = fn(&Served, &Asked<'_>, &[u8]) -> Result<Pushed, Refusal>;

/// What a sender is told: nothing when all is well.
type Told = Option<(StatusCode, String)>;

/// What a request says beside its body.
struct Asked<'s> {
    sender: Sender,
    precision: Precision,
    _place: SemaphorePermit<'s>,
}

fn answer(context: &Context, outcome: Result<Told, Refusal>) -> Response {
    let refusal = match outcome {
        Ok(None) => return StatusCode::NO_CONTENT.into_response(),
        Ok(Some(told)) => return told.into_response(),
        Err(refusal) => refusal,
    };
    context.statistics().failed(&refusal.text);
    let more: Option<(HeaderName, &'static str)> = match refusal.status {
        StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        _ => None,
    };
    let mut response = (refusal.status, refusal.text).into_response();
    response.headers_mut().extend(more.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// What was not taken, as far as an answer has room for it.
fn list<'r>(all: u64, reasons: impl Iterator<Item = &'r str>) -> String {
    let told: Vec<&str> = reasons.take(REASONS_MAX).collect();
    let more = all.saturating_sub(told.len() as u64);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{rest}", told.join("; "))
}

impl Served {
    /// Lets a request in and reads its body.
    async fn receive(&self, request: Request) -> Result<(Asked<'_>, Vec<u8>), Refusal> {
        let sender = self.rights.sender(request.headers())?;
        let busy = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once".to_owned());
        let place = self.places.try_acquire().map_err(busy)?;
        let query = request.uri().query().unwrap_or_default();
        let named = query.split('&').find_map(|pair| pair.strip_prefix("precision="));
        let precision = Precision::parse(named)?;
        let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned());
        let body = timeout(BODY_MAX, whole(request)).await.map_err(late)??;
        Ok((Asked { sender, precision, _place: place }, body))
    }

    /// Takes what a request of one of the door's own forms brings; gives what is wrong with a part of it.
    async fn take(&self, request: Request, take: Take) -> Result<Told, Refusal> {
        let (asked, body) = self.receive(request).await?;
        let pushed = take(self, &asked, &body)?;
        let count = pushed.count();
        self.context.statistics().heard(self.context.clock().wall_ns(), pushed.heard());
        let Pushed { ours, theirs } = pushed;
        let rejected = ours.rejected + theirs.rejected;
        let told = (rejected > 0).then(|| {
            let reasons = list(rejected, ours.reasons.iter().chain(&theirs.reasons).map(String::as_str));
            let text = format!("{count} readings are taken, and not: {reasons}");
            (StatusCode::BAD_REQUEST, text)
        });
        // What is durable after another of its stream says that of both.
        let (first, last) = if ours.is_empty() { (ours, theirs) } else { (theirs, ours) };
        self.context.emit(first).await.map_err(ends)?;
        let handed_on = match self.answered {
            Answered::Durable if !last.is_empty() => self.context.emit_durable(last).await,
            _ => self.context.emit(last).await,
        };
        handed_on.map_err(ends).map(|()| told)
    }

    /// Takes what a device posts; gives what its profile does not allow of it.
    async fn hear(&self, path: &str, request: Request) -> Result<Told, Refusal> {
        let (asked, body) = self.receive(request).await?;
        if body.len() > PAYLOAD_BYTES_MAX {
            let error = MessageError::TooLong(body.len());
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("/{path}: {error}")));
        }
        let (heard, sheets) = self.sheets(path, &asked.sender, &body)?;
        match heard {
            Heard::Taken => {}
            Heard::Refused(reason) => return Err(Refusal::new(StatusCode::BAD_REQUEST, reason)),
            Heard::Nobodys => {
                let text =
                    format!("no device is at /{path}, and what came makes none of a profile of this source");
                return Err(Refusal::new(StatusCode::NOT_FOUND, text));
            }
        }
        let rejected = sheets.rejected();
        let told = (!rejected.is_empty()).then(|| {
            let reasons = list(rejected.len() as u64, rejected.iter().map(String::as_str));
            (StatusCode::OK, format!("it is taken, with \"no value\" for: {reasons}"))
        });
        let handed_on = sheets.hand_on(&self.context, self.answered == Answered::Durable).await;
        handed_on.map_err(ends).map(|()| told)
    }

    fn sheets(&self, path: &str, sender: &Sender, body: &[u8]) -> Result<(Heard, Sheets<'_>), Refusal> {
        let mut sheets = Sheets::new(&self.context);
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        // An attempt does not begin without one.
        let Ok(directory) = &mut *directory else { return Ok((Heard::Nobodys, sheets)) };
        for device in directory.whose(path) {
            self.rights.may(sender, &device).map_err(|text| Refusal::new(StatusCode::FORBIDDEN, text))?;
        }
        let heard = directory.hear(Message { topic: path, payload: body, retained: false }, &mut sheets);
        Ok((heard, sheets))
    }
}

fn ends(_: SourceError) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent ends".to_owned())
}
