//! Enrolment: tokens for it, and the one exchange without a certificate.

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use tideline_link::identity::{AGENT_CERT_DAYS, csr_is_for, csr_public_key_sha256};
use tideline_link::token::EnrollToken;
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::wire::RefuseCode;
use utoipa::ToSchema;

use super::auth::address_of;
use super::devices::not_reserved;
use super::problem::{ApiError, Problem};
use super::shapes::{EnrollTokenAnswer, EnrollTokenRequest};
use crate::hub::{App, Hub};
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
    /// Where to connect by QUIC, host:port
    quic: String,
    /// Where to connect by MQTT over TLS, host:port; absent where the hub has no such port
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt: Option<String>,
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
    not_reserved(device.as_str())?;
    let ttl_s = request.ttl_s.unwrap_or(TTL_S_DEFAULT);
    if !(1..=TTL_S_MAX).contains(&ttl_s) {
        return Err(ApiError::bad("bad-ttl", format!("ttl_s={ttl_s}; allowed are 1 to {TTL_S_MAX}")));
    }
    if let Some(record) = hub.metadata.find::<DeviceRecord>(device.as_str())? {
        may_enrol(device.as_str(), &record)?;
    }
    let now_ms = hub.now_ms();
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
    let key = id.clone();
    hub.blocking(move |hub| {
        hub.metadata.change(|changes| {
            changes.remove_where::<EnrolRecord>(|_, old| old.expires_ms <= now_ms)?;
            changes.put(&key, &record)
        })
    })
    .await?;
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

/// Whether a registered device may get a key of its own.
fn may_enrol(id: &str, record: &DeviceRecord) -> Result<(), ApiError> {
    let conflict = |code, detail: String| Err(ApiError::new(StatusCode::CONFLICT, code, detail));
    // A certificate speaks by its name: letting the name in again would let the old key in too.
    if record.revoked {
        return conflict("device-revoked", format!("{id} was revoked; enrol it under another id"));
    }
    if record.agent != id {
        return conflict("field-device", format!("{id} is a field device behind {}", record.agent));
    }
    Ok(())
}

/// Why a token does not let a key in; each has its own code.
enum Verdict {
    Unknown,
    Expired,
    Taken,
    Replaced,
}

impl From<Verdict> for ApiError {
    fn from(verdict: Verdict) -> Self {
        let (status, code, detail) = match verdict {
            Verdict::Unknown => {
                (StatusCode::UNAUTHORIZED, "enroll-token-unknown", "there is no such enrolment token")
            }
            Verdict::Expired => {
                (StatusCode::GONE, "enroll-token-expired", "the enrolment token has expired; make a new one")
            }
            Verdict::Taken => (
                StatusCode::CONFLICT,
                "enroll-token-used",
                "another key has used the enrolment token; make a new one",
            ),
            Verdict::Replaced => (
                StatusCode::CONFLICT,
                "enroll-token-replaced",
                "the device has been enrolled with another key since; make a new token",
            ),
        };
        Self::new(status, code, detail)
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
    let (key_hash, csr) = (hex(&key_hash), request.csr.clone());
    let Bound { device, agent, key_changed } =
        hub.blocking(move |hub| bind(hub, &request, &key_hash)).await?;
    if key_changed {
        let reason = format!("agent {agent} has enrolled with another key");
        hub.fleet.cut(&agent, (RefuseCode::Identity, reason));
    }
    let now_s = hub.now_ms().div_euclid(1000);
    let chain = hub
        .authority
        .issue_agent(&csr, &agent, now_s, AGENT_CERT_DAYS)
        .map_err(|e| ApiError::bad("bad-csr", e.to_string()))?;
    hub.counters.add(Metric::Enrolments, 1);
    tracing::info!(device, "device enrolled");
    Ok(Json(EnrollAnswer {
        chain,
        ca: hub.authority.cert_pem().to_owned(),
        agent: agent.to_string(),
        quic: hub.addresses.quic.clone(),
        mqtt: hub.addresses.mqtt.clone(),
        server_name: hub.addresses.server_name.clone(),
    }))
}

/// What a token let in.
struct Bound {
    device: String,
    agent: AgentId,
    // Whether another key was the device's until now.
    key_changed: bool,
}

/// Binds the token to the first key that shows its secret, and the device to that key; the device's
/// other tokens are void from then on, so that what came with the older key opens nothing. The same
/// key may ask again, as its answer may have been lost, for as long as it is the device's key.
fn bind(hub: &Hub, request: &EnrollRequest, key_hash: &str) -> Result<Bound, ApiError> {
    use base64::Engine as _;
    let id = request.id.as_str();
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&request.secret).unwrap_or_default();
    let (secret_hash, now_ms) = (sha256_hex(&secret), hub.now_ms());
    let known = |token: Option<EnrolRecord>| {
        token.filter(|token| same(&token.secret_hash, &secret_hash)).ok_or(Verdict::Unknown)
    };
    // Guessing takes no turn at the file.
    let device = known(hub.metadata.find(id)?)?.device;
    let agent = AgentId::parse(&device).map_err(|e| ApiError::internal(&e))?;
    if !csr_is_for(&request.csr, &agent).map_err(|e| ApiError::bad("bad-csr", e.to_string()))? {
        return Err(ApiError::bad("bad-csr", format!("the token is for {device}, the request for another")));
    }
    hub.metadata.change(|changes| {
        let token = known(changes.find(id)?)?;
        let own: Option<DeviceRecord> = changes.find(&device)?;
        if let Some(own) = &own {
            may_enrol(&device, own)?;
        }
        let is_own = own.as_ref().is_some_and(|own| own.key_hash == key_hash);
        match token.key_hash.as_deref() {
            Some(bound) if bound != key_hash => return Err(Verdict::Taken.into()),
            _ if token.expires_ms <= now_ms => return Err(Verdict::Expired.into()),
            Some(_) if is_own => return Ok(Bound { device, agent, key_changed: false }),
            Some(_) => return Err(Verdict::Replaced.into()),
            None => {}
        }
        changes.remove_where::<EnrolRecord>(|other, token| token.device == device && other != id)?;
        changes.put(id, &EnrolRecord { key_hash: Some(key_hash.to_owned()), ..token })?;
        let before = own.clone().unwrap_or_else(|| DeviceRecord::behind(device.clone(), now_ms));
        let key_hash = key_hash.to_owned();
        let record =
            DeviceRecord { agent: device.clone(), key_hash, enrolled_ms: now_ms, revoked: false, ..before };
        changes.put(&device, &record)?;
        Ok(Bound { device, agent, key_changed: own.is_some() && !is_own })
    })
}
