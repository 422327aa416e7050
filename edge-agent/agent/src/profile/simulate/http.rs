//! A device that posts to an agent, or to whoever else listens, as its profile says.

use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tideline_profiles::json;
use tideline_profiles::simulate::Device;
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::net::TcpStream;

use super::{Options, interval, say};

/// Longest that all messages of a moment take.
const POST_MAX: Duration = Duration::from_secs(10);
/// Most of an answer that is read and told.
const ANSWER_BYTES_MAX: usize = 4096;

/// Posts until it is to end. Who does not listen now may do so later.
pub async fn run(mut device: Device, options: &Options) -> anyhow::Result<()> {
    let mapping = json::Mapping::of(device.profile())?;
    let to = options.to.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let authority = to.filter(|rest| rest.contains(':') && !rest.contains(['/', '@']));
    let authority = authority.context("--to: must be http://host:port")?;
    say(&device, &format!("posts as {} to {}", options.device, options.to), options);
    let (clock, mut ticks) = (SystemClock::default(), interval(options));
    loop {
        ticks.tick().await;
        device.step();
        let messages = mapping.messages(&options.device, device.values(), clock.wall_ns())?;
        let posted =
            tokio::time::timeout(POST_MAX, post(authority, options.token.as_deref(), messages)).await;
        if let Err(error) = posted.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time"))) {
            tracing::warn!(to = options.to, error = format!("{error:#}"), "not posted");
        }
    }
}

/// Posts messages over one connection.
async fn post(authority: &str, token: Option<&str>, messages: Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    for (path, payload) in messages {
        let mut request = Request::post(format!("/{path}")).header(header::HOST, authority);
        let kind =
            if matches!(payload.first(), Some(b'{' | b'[')) { "application/json" } else { "text/plain" };
        request = request.header(header::CONTENT_TYPE, kind);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(payload))).with_context(|| format!("/{path}"))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text =
            body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        anyhow::ensure!(status.is_success(), "/{path}: {status}: {text}");
        if status == StatusCode::OK && !text.is_empty() {
            tracing::warn!(path, text, "taken in part");
        }
    }
    connection.abort();
    Ok(())
}
