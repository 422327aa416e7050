//! A minimal HTTP client, and raw pages read without loss.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

type Request = hyper::Request<Full<Bytes>>;

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Asks for `path`.
///
/// # Errors
/// Nothing answers, or not in time.
pub async fn get(at: SocketAddr, path: &str, token: Option<&str>) -> Result<Answer> {
    let request = hyper::Request::get(path).body(Full::default())?;
    send(at, request, token).await.with_context(|| path.to_owned())
}

/// Sends `body` to `path`.
///
/// # Errors
/// Nothing answers, or not in time.
pub async fn post(
    at: SocketAddr,
    path: &str,
    token: Option<&str>,
    (content_type, body): (&str, impl Into<Bytes>),
) -> Result<Answer> {
    let request =
        hyper::Request::post(path).header("content-type", content_type).body(Full::new(body.into()))?;
    send(at, request, token).await.with_context(|| path.to_owned())
}

/// Sends `body` to `path` with `PATCH`.
///
/// # Errors
/// Nothing answers, or not in time.
pub async fn patch(
    at: SocketAddr,
    path: &str,
    token: Option<&str>,
    (content_type, body): (&str, impl Into<Bytes>),
) -> Result<Answer> {
    let request =
        hyper::Request::patch(path).header("content-type", content_type).body(Full::new(body.into()))?;
    send(at, request, token).await.with_context(|| path.to_owned())
}

async fn send(at: SocketAddr, mut request: Request, token: Option<&str>) -> Result<Answer> {
    let headers = request.headers_mut();
    headers.insert("host", at.to_string().parse()?);
    if let Some(token) = token {
        headers.insert("authorization", format!("Bearer {token}").parse()?);
    }
    tokio::time::timeout(ANSWER_MAX, ask(at, request)).await.context("no answer in time")?
}

async fn ask(at: SocketAddr, request: Request) -> Result<Answer> {
    let tcp = tokio::net::TcpStream::connect(at).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status, body: String::from_utf8(bytes.to_vec())? })
}

/// A raw page of one series.
#[derive(Debug)]
pub struct RawPage {
    /// Times in ns, and values.
    pub rows: Vec<(i64, f64)>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// Reads a raw page of one series.
///
/// # Errors
/// It is not as described.
pub fn raw_page(body: &str) -> Result<RawPage> {
    let page: Value = serde_json::from_str(body)?;
    let series = page.get("series").and_then(Value::as_array).context("a page without series")?;
    ensure!(series.len() <= 1, "one series was asked for");
    let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
    let Some(series) = series.first() else { return Ok(RawPage { rows: Vec::new(), next }) };
    let times = series.get("t_ns").and_then(Value::as_array).context("a page without t_ns")?;
    // `serde_json` rounds some numbers to a neighbour; the values are compared bit for bit.
    let (_, rest) = body.split_once("\"v\":[").context("a page without v")?;
    let (values, _) = rest.split_once(']').context("values without an end")?;
    let values: Vec<&str> = values.split(',').filter(|text| !text.is_empty()).collect();
    ensure!(values.len() == times.len(), "{} times and {} values", times.len(), values.len());
    let read = |(time, value): (&Value, &str)| {
        let time = time.as_str().context("a time that is no text")?.parse()?;
        let number = match value.trim() {
            "true" => 1.0,
            "false" => 0.0,
            number => number.parse().with_context(|| format!("{value} is no value"))?,
        };
        anyhow::Ok((time, number))
    };
    Ok(RawPage { rows: times.iter().zip(values).map(read).collect::<Result<_>>()?, next })
}
