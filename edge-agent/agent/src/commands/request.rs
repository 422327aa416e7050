//! A request over HTTP to an address that the configuration allows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tideline_link::tls::broker_client_config;
use tideline_protocol::commands::{Ended, errors};
use tideline_protocol::wire::{COMMAND_RESULT_BYTES_MAX, CommandError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::kinds::{Hands, Run};
use crate::clock::AgentClock;
use crate::config::Jobs;
use crate::floor::floored;

/// Longest that it may take where nobody says anything else.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest body of an answer: as base64 it is a third longer, and must fit into a result.
const ANSWER_BYTES_MAX: usize = 40 * 1024;
/// Headers that say how the message is sent, which is not for a command to say.
const OWN_HEADERS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpInput {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    body: Option<String>,
    timeout_ms: Option<u64>,
}

fn bad(text: impl std::fmt::Display) -> CommandError {
    CommandError::new(errors::BAD_INPUT, text)
}

impl Run {
    pub(super) async fn request(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let input: HttpInput = self.input()?;
        let jobs = hands.jobs.borrow().clone();
        let url = Url::parse(&input.url).map_err(|error| bad(format!("url: {error}")))?;
        if !jobs.http_allow.iter().any(|prefix| prefix.covers(&url)) {
            let allowed: Vec<String> = jobs.http_allow.iter().map(ToString::to_string).collect();
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            let text = format!(
                "url: {} is below no address of commands.http_allow; allowed are {allowed}",
                place(&url)
            );
            return Err(CommandError::new(errors::NOT_ALLOWED, text));
        }
        let request = request(&url, &input)?;
        let longest = Self::timeout(input.timeout_ms, TIMEOUT);
        let late =
            |_| CommandError::new(errors::TIMEOUT, format!("no answer within {} ms", longest.as_millis()));
        tokio::time::timeout(longest, ask(&url, request, &jobs)).await.map_err(late)?
    }
}

/// Where an address leads to: its user and query may be secrets, and errors are read by many.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

fn request(url: &Url, input: &HttpInput) -> Result<Request<Full<Bytes>>, CommandError> {
    let method = input.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
    let method: Method = method.parse().map_err(|_| bad(format!("method: {method:?} is none")))?;
    if method == Method::CONNECT {
        return Err(bad("method: CONNECT asks for no answer but for a way to somewhere else"));
    }
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut request = Request::builder().method(method).uri(path).header(HOST, host);
    for (name, value) in &input.headers {
        let wrong = || {
            bad(format!("headers: {name:?} with its value is none; allowed are texts of visible characters"))
        };
        let (name, value) = name
            .parse::<HeaderName>()
            .ok()
            .zip(value.as_str().and_then(|value| HeaderValue::from_str(value).ok()))
            .ok_or_else(wrong)?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(bad(format!("headers: {name} is set by the agent")));
        }
        request = request.header(name, value);
    }
    request.body(Full::new(input.body.clone().unwrap_or_default().into())).map_err(bad)
}

/// Asks once. What failed before anything was sent did nothing.
async fn ask(url: &Url, request: Request<Full<Bytes>>, jobs: &Jobs) -> Result<Ended, CommandError> {
    let place = place(url);
    let unavailable =
        |error: anyhow::Error| CommandError::new(errors::UNAVAILABLE, format!("{place}: {error:#}"));
    let unknown = |error: hyper::Error| CommandError::new(errors::UNKNOWN, format!("{place}: {error}"));
    let stream = connect(url).await.map_err(unavailable)?;
    let response = if url.scheme() == "https" {
        let stream = secure(url, stream, jobs).await.map_err(unavailable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unknown)?;
        let connection = Held(tokio::spawn(async move { drop(connection.await) }));
        (sender.send_request(request).await.map_err(unknown)?, connection)
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unknown)?;
        let connection = Held(tokio::spawn(async move { drop(connection.await) }));
        (sender.send_request(request).await.map_err(unknown)?, connection)
    };
    let (response, _connection) = response;
    answered(response).await
}

/// A connection's task, which ends with whoever waits for the answer.
struct Held(tokio::task::JoinHandle<()>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect(url: &Url) -> anyhow::Result<TcpStream> {
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = match url.host().context("it has no host")? {
        // Looked up by the system on a thread that may wait: that may take its time.
        Host::Domain(name) => TcpStream::connect((name, port)).await,
        Host::Ipv4(address) => TcpStream::connect((address, port)).await,
        Host::Ipv6(address) => TcpStream::connect((address, port)).await,
    };
    Ok(stream?)
}

async fn secure(
    url: &Url,
    stream: TcpStream,
    jobs: &Jobs,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let path = jobs.http_ca.as_ref().context("commands.http_ca is not set")?;
    let pem = tokio::fs::read_to_string(path).await.with_context(|| path.display().to_string())?;
    let config = broker_client_config(&pem, floored(Arc::new(AgentClock::default()), 0))
        .with_context(|| path.display().to_string())?;
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Where it points to is told and not followed: that may be an address that is not allowed.
async fn answered(response: Response<Incoming>) -> Result<Ended, CommandError> {
    let status = response.status();
    let header = |name| {
        response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned)
    };
    let (kind, location) = (header("content-type"), header("location"));
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let (bytes, whole) = match body {
        Ok(body) => (body.to_bytes(), true),
        Err(_) => (Bytes::new(), false),
    };
    let mut told =
        json!({"status": status.as_u16(), "content_type": kind, "location": location, "body_whole": whole});
    if let Some(told) = told.as_object_mut() {
        match std::str::from_utf8(&bytes) {
            Ok(text) => told.insert("body".to_owned(), text.into()),
            Err(_) => told.insert("body_base64".to_owned(), STANDARD.encode(&bytes).into()),
        };
    }
    if !status.is_success() {
        let body = told.get("body").and_then(Value::as_str).unwrap_or_default();
        return Err(CommandError::new(errors::FAILED, format!("the answer is {status}: {body}")));
    }
    let mut result = serde_json::to_vec(&told).unwrap_or_default();
    if result.len() > COMMAND_RESULT_BYTES_MAX {
        // Escapes may make a text longer.
        result =
            serde_json::to_vec(&json!({"status": status.as_u16(), "body_whole": false})).unwrap_or_default();
    }
    Ok(Ended::Succeeded(Some(result)))
}
