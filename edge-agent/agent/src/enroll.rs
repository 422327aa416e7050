//! Enrolment: a token and a key become an identity, over HTTPS with a pinned authority.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tideline_link::identity::{KeyAndCert, fingerprint_of};
use tideline_link::tls::pinned_client_config;
use tideline_link::token::EnrollToken;
use tideline_protocol::model::AgentId;
use tideline_protocol::time::SystemClock;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::floor::floored;
use crate::identity::{Identity, IdentityFile, key, make_folder};
use crate::resilience::{CallError, Caller, REQUEST_MAX};
use crate::uplink::resolver::Resolver;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
#[derive(Deserialize)]
struct Answer {
    chain: String,
    ca: String,
    agent: AgentId,
    quic: String,
    #[serde(default)]
    mqtt: Option<String>,
    server_name: String,
}

#[derive(Deserialize, Default)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// Enrols with the hub that the token names and keeps the identity in `data`.
///
/// # Errors
/// The token, the hub or the disk is at fault; asking again with the same token is safe.
pub async fn enroll(token: &str, data: &Path) -> anyhow::Result<Identity> {
    let token = EnrollToken::parse(token.trim())?;
    make_folder(data)?;
    let agent = AgentId::parse(token.device.as_str())?;
    let key = key(data)?;
    let body = serde_json::json!({
        "id": token.id,
        "secret": URL_SAFE_NO_PAD.encode(token.secret),
        "csr": key.csr_pem(&agent)?,
    });
    let clock = Arc::new(SystemClock::default());
    let (caller, resolver) = (Caller::new(clock.clone()), Resolver::new(clock));
    // The same key may ask again, so that a lost answer or a hub that starts just now does no harm.
    let tried = caller.retry(REQUEST_MAX, || ask(&token, body.to_string(), &resolver), |e| !is_passing(e));
    let asked = tokio::time::timeout(REQUEST_MAX, tried);
    let answer = asked.await.with_context(|| format!("hub {} did not answer in time", token.hub_https))?;
    let answer = answer.map_err(|error| match error {
        CallError::Failed(error) => error,
        other => anyhow::anyhow!("hub {}: {other}", token.hub_https),
    })?;
    if fingerprint_of(&answer.ca)? != token.ca_sha256 {
        bail!("the authority in the hub's answer is not the one that the token names");
    }
    let file = IdentityFile {
        agent: answer.agent,
        quic: answer.quic,
        mqtt: answer.mqtt,
        server_name: answer.server_name,
        floor_s: token.issued_ms / 1000,
    };
    let certificate = KeyAndCert { key_pem: key.key_pem(), chain_pem: answer.chain, ca_pem: answer.ca };
    let identity = Identity { file, certificate };
    identity.save(data)?;
    Ok(identity)
}

/// Whether it may go another way when it is tried again: the line or the hub is at fault, and the hub has
/// not said no.
fn is_passing(error: &anyhow::Error) -> bool {
    if error.downcast_ref::<Busy>().is_some() {
        return true;
    }
    error.chain().any(|cause| {
        let line = cause.downcast_ref::<std::io::Error>();
        // What TLS refuses comes as invalid data.
        line.is_some_and(|error| error.kind() != ErrorKind::InvalidData)
            || cause.downcast_ref::<CallError<std::io::Error>>().is_some()
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
    })
}

/// The hub is there, and asks to come again.
#[derive(Debug, thiserror::Error)]
#[error("hub {hub} answered {status}")]
struct Busy {
    hub: String,
    status: StatusCode,
}

/// A connection to the first address that takes one.
async fn connect(hub: &str, resolver: &Resolver) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in resolver.resolve(hub).await? {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = Some(error),
        }
    }
    let error = last.map_or_else(|| anyhow::anyhow!("no address"), anyhow::Error::from);
    Err(error.context(format!("hub {hub} is not reachable")))
}

async fn ask(token: &EnrollToken, body: String, resolver: &Resolver) -> anyhow::Result<Answer> {
    let floor = floored(Arc::new(SystemClock::default()), token.issued_ms / 1000);
    let tls = tokio_rustls::TlsConnector::from(Arc::new(pinned_client_config(token.ca_sha256, floor)?));
    let tcp = connect(&token.hub_https, resolver).await?;
    let name = rustls::pki_types::ServerName::try_from(token.server_name.clone())?;
    let stream = tls.connect(name, tcp).await.with_context(|| format!("hub {}", token.hub_https))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this call, however that ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = hyper::Request::post("/enroll/v1")
        .header("host", &token.hub_https)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = collected.map_err(|error| anyhow::anyhow!("hub's answer: {error}"))?.to_bytes();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return Err(Busy { hub: token.hub_https.clone(), status }.into());
    }
    if !status.is_success() {
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        bail!("hub {} answered {status}: {} {}", token.hub_https, problem.title, problem.detail);
    }
    serde_json::from_slice(&bytes).context("the hub's answer is not as expected")
}
