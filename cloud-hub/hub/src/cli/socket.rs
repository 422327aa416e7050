//! HTTP over the running hub's Unix socket.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use cloud_hub::config::Config;
use cloud_hub::doors::SOCKET;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

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

    /// Removes.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.ask(Method::DELETE, path, None).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let stream = UnixStream::connect(&self.path).await.with_context(|| {
            let path = self.path.display();
            format!("no hub answers at {path}; is it running, and is --data its data folder?")
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "hub");
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_string())))?,
            None => request.body(Full::default())?,
        };
        let response = sender.send_request(request).await?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| anyhow!("{e}"))?
            .to_bytes();
        driver.abort();
        let value: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        if !status.is_success() {
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
            bail!("the hub says: {} ({})", text("detail"), text("code"));
        }
        Ok(value)
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
