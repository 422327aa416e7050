//! Enrolment: tokens for it, and the one exchange without a certificate.

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use tideline_link::identity::{AGENT_CERT_DAYS, csr_public_key_sha256};
use tideline_link::token::EnrollToken;
use tideline_protocol::model::{AgentId, DeviceId};
use utoipa::ToSchema;

use super::auth::address_of;
use super::problem::{ApiError, Problem};
use super::shapes::{EnrollTokenAnswer, EnrollTokenRequest};
use crate::hub::App;
use crate::metadata::{DeviceRecord, EnrolRecord};
use crate::secret::{hex, random_id, same, sha256_hex};
use crate::telemetry::Metric;

const TTL_S_DEFAULT: u32 = 24 * 3600;
const TTL_S_MAX: u32 = 90 * 24 * 3600;

/// What a device sends to enrol.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The token's id
    id: String,
    /// The token's secret, base64url without padding
    secret: String,
    /// The certificate request, PEM
    csr: String,
}

/// What the device gets
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrollAnswer {
    /// Its certificate, PEM
    chain: String,
    /// The hub's authority, PEM
    ca: String,
    /// The agent that it is now
    agent: String,
    /// Where to connect, host:port
    quic: String,
    /// The name that the hub's certificate is checked against
    server_name: String,
}

/// Make an enrolment token
#[utoipa::path(post, path = "/api/v1/enroll-tokens", operation_id = "createEnrollToken", request_body = EnrollTokenRequest,
    responses((status = 201, description = "Made", body = EnrollTokenAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create_token(
    State(hub): State<App>,
    Json(request): Json<EnrollTokenRequest>,
) -> Result<(StatusCode, Json<EnrollTokenAnswer>), ApiError> {
    let device = DeviceId::parse(&request.device).map_err(|e| ApiError::bad("bad-device", e.to_string()))?;
    let ttl_s = request.ttl_s.unwrap_or(TTL_S_DEFAULT);
    if !(1..=TTL_S_MAX).contains(&ttl_s) {
        return Err(ApiError::bad("bad-ttl", format!("ttl_s={ttl_s}; allowed are 1 to {TTL_S_MAX}")));
    }
    // A certificate speaks by its name: letting the name in again would let the old key in too.
    if hub.metadata.find::<DeviceRecord>(device.as_str())?.is_some_and(|d| d.revoked) {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "device-revoked",
            format!("{device} was revoked; enrol it under another id"),
        ));
    }
    let now_ms = hub.now_ms();
    for (id, old) in hub.metadata.list::<EnrolRecord>()? {
        if old.expires_ms <= now_ms {
            hub.metadata.remove::<EnrolRecord>(&id)?;
        }
    }
    let id = random_id().map_err(|e| ApiError::internal(&e))?;
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|e| ApiError::internal(&e))?;
    let expires_ms = now_ms.saturating_add(i64::from(ttl_s) * 1000);
    let record = EnrolRecord {
        device: device.to_string(),
        secret_hash: sha256_hex(&secret),
        expires_ms,
        key_hash: None,
    };
    hub.metadata.put(&id, &record)?;
    let token = EnrollToken {
        hub_https: hub.addresses.https.clone(),
        hub_quic: hub.addresses.quic.clone(),
        server_name: hub.addresses.server_name.clone(),
        ca_sha256: hub.authority.fingerprint(),
        id,
        secret,
        device: device.clone(),
        issued_ms: now_ms,
    };
    Ok((
        StatusCode::CREATED,
        Json(EnrollTokenAnswer { token: token.encode(), device: device.to_string(), expires_ms }),
    ))
}

/// Why a token does not let a key in; each has its own code.
enum Verdict {
    Good(String),
    Unknown,
    Expired,
    Taken,
}

impl Verdict {
    fn device(self) -> Result<String, ApiError> {
        let (status, code, detail) = match self {
            Self::Good(device) => return Ok(device),
            Self::Unknown => {
                (StatusCode::UNAUTHORIZED, "enroll-token-unknown", "there is no such enrolment token")
            }
            Self::Expired => {
                (StatusCode::GONE, "enroll-token-expired", "the enrolment token has expired; make a new one")
            }
            Self::Taken => (
                StatusCode::CONFLICT,
                "enroll-token-used",
                "another key has used the enrolment token; make a new one",
            ),
        };
        Err(ApiError::new(status, code, detail))
    }
}

/// Enrol a device; HTTPS only
#[utoipa::path(post, path = "/enroll/v1", operation_id = "enroll", request_body = EnrollRequest,
    responses((status = 200, description = "Enrolled", body = EnrollAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn enroll(
    State(hub): State<App>,
    info: Option<Extension<ConnectInfo<SocketAddr>>>,
    Json(request): Json<EnrollRequest>,
) -> Result<Json<EnrollAnswer>, ApiError> {
    if let Err(seconds) = hub.enrolments.take(address_of(info.as_ref()), hub.clock.mono_ns()) {
        let mut error = ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-enrolments",
            format!("try again in {seconds} s"),
        );
        error.retry_after_s = Some(seconds);
        return Err(error);
    }
    let key_hash =
        csr_public_key_sha256(&request.csr).map_err(|e| ApiError::bad("bad-csr", e.to_string()))?;
    let device = bind(&hub, &request, &hex(&key_hash))?.device()?;
    let agent = AgentId::parse(&device).map_err(|e| ApiError::internal(&e))?;
    let registered = hub.metadata.change::<DeviceRecord, _>(&device, |old| match old {
        Some(old) if old.revoked => (Some(old), false),
        old => {
            let last_seen_ms = old.and_then(|o| o.last_seen_ms);
            (
                Some(DeviceRecord {
                    agent: device.clone(),
                    key_hash: hex(&key_hash),
                    enrolled_ms: hub.now_ms(),
                    revoked: false,
                    last_seen_ms,
                }),
                true,
            )
        }
    })?;
    if !registered {
        return Err(ApiError::new(StatusCode::CONFLICT, "device-revoked", format!("{device} was revoked")));
    }
    let now_s = hub.now_ms().div_euclid(1000);
    let chain = hub
        .authority
        .issue_agent(&request.csr, &agent, now_s, AGENT_CERT_DAYS)
        .map_err(|e| ApiError::bad("bad-csr", e.to_string()))?;
    hub.counters.add(Metric::Enrolments, 1);
    tracing::info!(device, "device enrolled");
    Ok(Json(EnrollAnswer {
        chain,
        ca: hub.authority.cert_pem().to_owned(),
        agent: agent.to_string(),
        quic: hub.addresses.quic.clone(),
        server_name: hub.addresses.server_name.clone(),
    }))
}

/// Binds the token to the first key that shows its secret. The same key may ask again: its answer
/// may have been lost.
fn bind(hub: &App, request: &EnrollRequest, key_hash: &str) -> Result<Verdict, ApiError> {
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&request.secret).unwrap_or_default();
    let (secret_hash, now_ms) = (sha256_hex(&secret), hub.now_ms());
    let verdict = hub.metadata.change::<EnrolRecord, _>(&request.id, |old| match old {
        None => (None, Verdict::Unknown),
        Some(old) if !same(&old.secret_hash, &secret_hash) => (Some(old), Verdict::Unknown),
        Some(old) if old.key_hash.as_deref().is_some_and(|bound| bound != key_hash) => {
            (Some(old), Verdict::Taken)
        }
        Some(old) if old.expires_ms <= now_ms => (Some(old), Verdict::Expired),
        Some(mut old) => {
            old.key_hash = Some(key_hash.to_owned());
            let device = old.device.clone();
            (Some(old), Verdict::Good(device))
        }
    })?;
    Ok(verdict)
}
