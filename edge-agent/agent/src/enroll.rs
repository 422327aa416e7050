//! Enrolment: a token and a key become an identity, over HTTPS with a pinned authority.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tideline_link::identity::{KeyAndCert, fingerprint_of};
use tideline_link::tls::pinned_client_config;
use tideline_link::token::EnrollToken;
use tideline_protocol::model::AgentId;
use tideline_protocol::time::SystemClock;

use crate::floor::floored;
use crate::identity::{Identity, IdentityFile, key, make_folder};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Answer {
    chain: String,
    ca: String,
    agent: AgentId,
    quic: String,
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
    let asked = tokio::time::timeout(TIMEOUT, ask(&token, body.to_string()));
    let answer = asked.await.with_context(|| format!("hub {} did not answer in time", token.hub_https))??;
    if fingerprint_of(&answer.ca)? != token.ca_sha256 {
        bail!("the authority in the hub's answer is not the one that the token names");
    }
    let file = IdentityFile {
        agent: answer.agent,
        quic: answer.quic,
        server_name: answer.server_name,
        floor_s: token.issued_ms / 1000,
    };
    let certificate = KeyAndCert { key_pem: key.key_pem(), chain_pem: answer.chain, ca_pem: answer.ca };
    let identity = Identity { file, certificate };
    identity.save(data)?;
    Ok(identity)
}

async fn ask(token: &EnrollToken, body: String) -> anyhow::Result<Answer> {
    let floor = floored(Arc::new(SystemClock::default()), token.issued_ms / 1000);
    let tls = tokio_rustls::TlsConnector::from(Arc::new(pinned_client_config(token.ca_sha256, floor)?));
    let tcp = tokio::net::TcpStream::connect(&token.hub_https)
        .await
        .with_context(|| format!("hub {} is not reachable", token.hub_https))?;
    let name = rustls::pki_types::ServerName::try_from(token.server_name.clone())?;
    let stream = tls.connect(name, tcp).await.with_context(|| format!("hub {}", token.hub_https))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::post("/enroll/v1")
        .header("host", &token.hub_https)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = collected.map_err(|error| anyhow::anyhow!("hub's answer: {error}"))?.to_bytes();
    driver.abort();
    if !status.is_success() {
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        bail!("hub {} answered {status}: {} {}", token.hub_https, problem.title, problem.detail);
    }
    serde_json::from_slice(&bytes).context("the hub's answer is not as expected")
}
