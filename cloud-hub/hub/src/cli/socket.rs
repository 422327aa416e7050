//! HTTP over the running hub's Unix socket.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use cloud_hub::config::Config;
use cloud_hub::doors::SOCKET;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the hub answers instead of what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the hub says: {detail} ({code})")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    code: String,
    detail: String,
}

/// What is sent.
enum Sent<'a> {
    Nothing,
    Json(&'a Value),
    Keyed(&'a Value, &'a str),
    Cbor(Bytes),
    Text(String),
}

/// The running hub beside this command.
#[derive(Debug, Clone)]
pub struct HubSocket {
    path: PathBuf,
}

impl HubSocket {
    /// That of the hub with this configuration.
    pub fn of(config: &Config) -> Self {
        Self { path: config.data_dir.join(SOCKET) }
    }

    /// Reads.
    ///
    /// # Errors
    /// The hub does not run or refuses; the text says why.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// Reads what has the shape of `T`.
    ///
    /// # Errors
    /// As [`Self::get`], or the answer has another shape.
    pub async fn get_as<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        serde_json::from_value(self.get(path).await?)
            .with_context(|| format!("the hub's answer to {path} is not understood; is it another version?"))
    }

    /// Sends a body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Sends a body that does the same once only, however often it is sent with this key.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> Result<Value> {
        self.told(self.send(Method::POST, path, Sent::Keyed(body, key)).await?).await
    }

    /// Puts something in a place.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// Changes parts of something.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    /// Removes.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.ask(Method::DELETE, path, None).await
    }

    /// Reads an answer of any length, part by part.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn stream(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let sent = body.map_or(Sent::Nothing, Sent::Json);
        let (response, driver) = self.send(method, path, sent).await?;
        let (head, body) = response.into_parts();
        Ok(Answer { headers: head.headers, body, driver })
    }

    /// Puts bytes of CBOR in a place.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put_cbor(&self, path: &str, body: Bytes) -> Result<Value> {
        self.told(self.send(Method::PUT, path, Sent::Cbor(body)).await?).await
    }

    /// Puts a text in a place.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put_text(&self, path: &str, text: String) -> Result<Value> {
        self.told(self.send(Method::PUT, path, Sent::Text(text)).await?).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.told(self.send(method, path, body.map_or(Sent::Nothing, Sent::Json)).await?).await
    }

    async fn told(&self, (response, _driver): (Response<Incoming>, Driver)) -> Result<Value> {
        let bytes = whole(response.into_body()).await?;
        if bytes.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&bytes)?) }
    }

    /// An answer that is no refusal.
    async fn send(&self, method: Method, path: &str, body: Sent<'_>) -> Result<(Response<Incoming>, Driver)> {
        let stream = UnixStream::connect(&self.path).await.with_context(|| {
            let path = self.path.display();
            format!("no hub answers at {path}; is it running, and is --data its data folder?")
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = Driver(tokio::spawn(connection));
        let request = Request::builder().method(method).uri(path).header("host", "hub");
        let request = match body {
            Sent::Json(body) => request
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_string())))?,
            Sent::Keyed(body, key) => request
                .header("content-type", "application/json")
                .header("idempotency-key", key)
                .body(Full::new(Bytes::from(body.to_string())))?,
            Sent::Cbor(body) => request.header("content-type", "application/cbor").body(Full::new(body))?,
            Sent::Text(body) => request
                .header("content-type", "text/plain; charset=utf-8")
                .body(Full::new(Bytes::from(body)))?,
            Sent::Nothing => request.body(Full::default())?,
        };
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok((response, driver));
        }
        let value: Value = serde_json::from_slice(&whole(response.into_body()).await?).unwrap_or_default();
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        let refusal = Refusal { status: status.as_u16(), code: text("code"), detail: text("detail") };
        Err(refusal.into())
    }
}

async fn whole(body: Incoming) -> Result<Bytes> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|e| anyhow!("{e}"))?.to_bytes())
}

/// What drives a connection, for as long as it is wanted.
#[derive(Debug)]
struct Driver(JoinHandle<Result<(), hyper::Error>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer that is read part by part.
#[derive(Debug)]
pub struct Answer {
    headers: HeaderMap,
    body: Incoming,
    #[expect(dead_code, reason = "it moves the body on until it is dropped")]
    driver: Driver,
}

impl Answer {
    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next part; none at the end. Cancel safe.
    ///
    /// # Errors
    /// The hub broke it off.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.context("the hub broke its answer off; its log says why")?;
            if let Ok(part) = frame.into_data() {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}

/// A path segment or query value with everything escaped that could end it.
pub fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b',' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
