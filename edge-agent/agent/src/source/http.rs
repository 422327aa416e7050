//! Readings that others push over HTTP: JSON of a form of its own, and InfluxDB's line protocol.
//!
//! ```text
//! POST /readings                    {"device": "pump-7", "time": 1763719200000, "values": {"flow": 1.5}}, one,
//!                                   a list of them, or one a line
//! POST /write, /api/v2/write        line protocol; the tag `device` names the device
//! ```
//! The answer is 204 once the readings are durable, or with `answer = "accepted"` once they are on their way
//! there. What is refused is told with 400, and the rest is taken all the same. A stream that has no room
//! makes the sender wait. A sender that got no answer does not know whether its readings were taken: what it
//! sends again has the same times.

mod body;
mod sorter;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use subtle::ConstantTimeEq as _;
use tideline_formats::line::Precision;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::body::{Refusal, whole};
use self::sorter::Sorter;
use super::{Context, Source, SourceError};
use crate::config::{Answered, DeviceConfig};

/// Requests that are read or wait at once: each may hold a body, and a device has little memory.
const REQUESTS_MAX: usize = 8;
/// Longest that a body may take to come.
const BODY_MAX: Duration = Duration::from_secs(30);

/// Takes readings over HTTP.
#[derive(Debug, Clone)]
pub struct HttpSource {
    /// Where it listens.
    pub listen: String,
    /// What senders must show; empty for nothing.
    pub token: String,
    /// When they are answered.
    pub answered: Answered,
    /// The devices that may be named; any when there are none.
    pub devices: Vec<DeviceConfig>,
}

struct Served {
    context: Context,
    token: String,
    answered: Answered,
    sorter: Sorter,
    places: Semaphore,
}

impl Source for HttpSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let defs = context.wait(context.spool().series(0, usize::MAX)).await?.map_err(SourceError::failed)?;
        let sorter = Sorter::new(&self.devices, context.own_device().id, &defs);
        let failed = |error| SourceError::failed(format!("{}: {error}", self.listen));
        let listener = TcpListener::bind(&self.listen).await.map_err(failed)?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(source = context.name(), %address, "listens");
        }
        let served = Served {
            context: context.clone(),
            token: self.token.clone(),
            answered: self.answered,
            sorter,
            places: Semaphore::new(REQUESTS_MAX),
        };
        let router = Router::new()
            .route("/readings", post(readings))
            .route("/write", post(lines))
            .route("/api/v2/write", post(lines))
            .with_state(Arc::new(served));
        let ended = context.wait(async { axum::serve(listener, router).await }).await?;
        ended.map_err(failed)
    }
}

async fn readings(State(served): State<Arc<Served>>, request: Request) -> Response {
    served.answer(request, |served, _, body| served.sorter.json(body, served.context.readings())).await
}

async fn lines(State(served): State<Arc<Served>>, request: Request) -> Response {
    let take = |served: &Served, precision: Precision, body: &[u8]| {
        served.sorter.lines(body, precision, served.context.readings())
    };
    served.answer(request, take).await
}

/// How a body becomes readings.
type Take = fn(&Served, Precision, &[u8]) -> Result<super::Readings, Refusal>;

impl Served {
    async fn answer(&self, request: Request, take: Take) -> Response {
        match self.take(request, take).await {
            Ok(None) => StatusCode::NO_CONTENT.into_response(),
            Ok(Some(told)) => (StatusCode::BAD_REQUEST, told).into_response(),
            Err(refusal) => {
                self.context.statistics().failed(&refusal.text);
                let mut response = (refusal.status, refusal.text).into_response();
                if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
                    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
                }
                response
            }
        }
    }

    /// Takes what a request brings; gives what is wrong with a part of it.
    async fn take(&self, request: Request, take: Take) -> Result<Option<String>, Refusal> {
        self.admit(&request)?;
        let busy = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once".to_owned());
        let _place = self.places.try_acquire().map_err(busy)?;
        let query = request.uri().query().unwrap_or_default();
        let named = query.split('&').find_map(|pair| pair.strip_prefix("precision="));
        let precision = Precision::parse(named)?;
        let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned());
        let body = timeout(BODY_MAX, whole(request)).await.map_err(late)??;
        let readings = take(self, precision, &body)?;
        let told = (readings.rejected > 0).then(|| {
            let more = readings.rejected.saturating_sub(readings.reasons.len() as u64);
            let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
            format!("{} readings are taken, and not: {}{rest}", readings.count(), readings.reasons.join("; "))
        });
        let handed_on = match self.answered {
            Answered::Durable if !readings.is_empty() => self.context.emit_durable(readings).await,
            _ => self.context.emit(readings).await,
        };
        let ends = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent ends".to_owned());
        handed_on.map_err(ends).map(|()| told)
    }

    /// Whether the sender may send at all. A page of a browser says where it is from, and has no business here
    /// without a token.
    fn admit(&self, request: &Request) -> Result<(), Refusal> {
        if self.token.is_empty() {
            let is_page = request.headers().contains_key(header::ORIGIN);
            let text = "a page of a browser may send with a token only".to_owned();
            return if is_page { Err(Refusal::new(StatusCode::FORBIDDEN, text)) } else { Ok(()) };
        }
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // InfluxDB's clients say Token.
        let given =
            given.and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("Token ")));
        if given.is_some_and(|given| given.as_bytes().ct_eq(self.token.as_bytes()).into()) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong".to_owned()))
    }
}
