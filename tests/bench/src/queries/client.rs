//! One connection that stays open, and how long answers take over it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tideline_protocol::time::{Clock, SystemClock};

use crate::median;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub path: String,
    method: &'static str,
    /// Its type and what is sent, where something is.
    body: Option<(&'static str, Bytes)>,
}

impl Ask {
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), method: "GET", body: None }
    }

    pub fn post(path: impl Into<String>, kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self { path: path.into(), method: "POST", body: Some((kind, body.into())) }
    }

    pub fn patch(path: impl Into<String>, kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self { method: "PATCH", ..Self::post(path, kind, body) }
    }
}

pub struct Client {
    at: SocketAddr,
    token: Option<String>,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn connect(at: SocketAddr, token: Option<&str>) -> anyhow::Result<Self> {
        let tcp = tokio::net::TcpStream::connect(at).await?;
        tcp.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        Ok(Self { at, token: token.map(str::to_owned), sender })
    }

    /// The answer, which has to be a good one.
    pub async fn ask(&mut self, ask: &Ask) -> anyhow::Result<Bytes> {
        let mut request =
            hyper::Request::builder().method(ask.method).uri(&ask.path).header("host", self.at.to_string());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = match &ask.body {
            Some((kind, body)) => request.header("content-type", *kind).body(Full::new(body.clone()))?,
            None => request.body(Full::default())?,
        };
        self.sender.ready().await?;
        let answer = tokio::time::timeout(ANSWER_MAX, async {
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        });
        let (status, body) = answer.await.with_context(|| format!("{}: no answer in time", ask.path))??;
        anyhow::ensure!(
            status.is_success(),
            "{}: {status}: {}",
            ask.path,
            String::from_utf8_lossy(body.get(..300).unwrap_or(&body))
        );
        Ok(body)
    }

    /// Milliseconds of an answer: the median of `times`, each of another `turn`, after some that do not count. The bytes
    /// of the last one are told.
    pub async fn median_ms(&mut self, times: u64, asks: impl Fn(u64) -> Ask) -> anyhow::Result<(f64, usize)> {
        const WARM: u64 = 3;
        let clock = SystemClock::default();
        let (mut took, mut bytes) = (Vec::new(), 0);
        for turn in 0..times + WARM {
            let ask = asks(turn);
            let start = clock.mono_ns();
            bytes = self.ask(&ask).await?.len();
            if turn >= WARM {
                took.push((clock.mono_ns() - start) as f64 / 1e6);
            }
        }
        Ok((median(&mut took), bytes))
    }
}
