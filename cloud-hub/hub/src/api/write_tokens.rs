//! Tokens that write readings of some devices, and do nothing else.

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tideline_protocol::model::AgentId;

use super::auth::TOKEN_PREFIX;
use super::problem::ApiError;
use super::session::within_limit;
use super::shapes::{TokenAnswer, TokenInfo, TokenRequest, TokenRole};
use crate::hub::{App, Hub};
use crate::metadata::{Changes, DeviceRecord, MetadataError, TokenRecord, WriteTokenRecord};
use crate::secret;
use crate::writes::{DEVICES_PER_TOKEN_MAX, DevicePattern, WRITER_PREFIX};

/// What every such token begins with, so that secret scanners can find one.
pub const WRITE_TOKEN_PREFIX: &str = "tlw_";

/// What is asked for by somebody who shows no token that may write.
const ASK: &str = "readings are written with a token of `cloud-hub token create NAME --write DEVICE`, as \
    `Authorization: Bearer` or `Token`, or as the password of `Basic`";

/// The writer of tokens of this name.
///
/// # Errors
/// The name is too long.
pub fn writer_of(name: &str) -> Result<AgentId, ApiError> {
    AgentId::parse(&format!("{WRITER_PREFIX}{name}"))
        .map_err(|error| ApiError::bad("bad-name", error.to_string()))
}

/// Makes a token for what the request names.
///
/// # Errors
/// The request is wrong, or there is one of its name.
pub async fn create(hub: &App, request: TokenRequest) -> Result<TokenAnswer, ApiError> {
    let writer = writer_of(&request.name)?;
    if !(1..=DEVICES_PER_TOKEN_MAX).contains(&request.devices.len()) {
        let found = request.devices.len();
        let detail = format!(
            "devices: {found} are named for a token that writes; allowed are 1 to {DEVICES_PER_TOKEN_MAX}"
        );
        return Err(ApiError::bad("bad-devices", detail));
    }
    for device in &request.devices {
        device.parse::<DevicePattern>().map_err(|error| ApiError::bad("bad-devices", error))?;
    }
    within_limit::<WriteTokenRecord>(hub)?;
    let id = secret::random_id().map_err(|e| ApiError::internal(&e))?;
    let secret = secret::random().map_err(|e| ApiError::internal(&e))?;
    let token = format!("{WRITE_TOKEN_PREFIX}{id}_{secret}");
    let record = WriteTokenRecord {
        name: request.name,
        devices: request.devices,
        registered_only: request.registered_only,
        secret_hash: secret::sha256_hex(secret.as_bytes()),
        created_ms: hub.now_ms(),
    };
    let key = id.clone();
    hub.blocking(move |hub| keep(hub, &key, record, &writer)).await?;
    Ok(TokenAnswer { id, token })
}

/// Keeps the token, and registers its writer when it is the first of its name.
fn keep(hub: &Hub, id: &str, record: WriteTokenRecord, writer: &AgentId) -> Result<(), ApiError> {
    let conflict = |code, detail: String| Err(ApiError::new(StatusCode::CONFLICT, code, detail));
    // Two of one name would be one writer.
    let twice =
        hub.metadata.list::<WriteTokenRecord>()?.into_iter().any(|(_, other)| other.name == record.name);
    if twice {
        return conflict("token-exists", format!("there is a token {:?} that writes already", record.name));
    }
    hub.metadata.change(|changes: &mut Changes| {
        match changes.find::<DeviceRecord>(writer.as_str())? {
            Some(own) if !own.key_hash.is_empty() => {
                return conflict(
                    "reserved-id",
                    format!("an agent has enrolled as {writer}; choose another name"),
                );
            }
            Some(own) if own.revoked => {
                return conflict("revoked", format!("{writer} was revoked; choose another name"));
            }
            Some(_) => {}
            None => {
                let own = DeviceRecord::behind(writer.to_string(), record.created_ms);
                changes.put(writer.as_str(), &own)?;
            }
        }
        Ok(changes.put(id, &record)?)
    })
}

/// All such tokens.
///
/// # Errors
/// The registry fails.
pub fn list(hub: &Hub) -> Result<Vec<TokenInfo>, MetadataError> {
    let info = |(id, t): (String, WriteTokenRecord)| TokenInfo {
        id,
        name: t.name,
        role: TokenRole::Writer,
        devices: t.devices,
        registered_only: t.registered_only,
        created_ms: t.created_ms,
    };
    Ok(hub.metadata.list::<WriteTokenRecord>()?.into_iter().map(info).collect())
}

/// The record of a token that writes; none when it is not one.
///
/// # Errors
/// The registry fails.
pub fn find(hub: &Hub, token: &str) -> Result<Option<(String, WriteTokenRecord)>, MetadataError> {
    let Some((id, secret)) = token.strip_prefix(WRITE_TOKEN_PREFIX).and_then(|t| t.split_once('_')) else {
        return Ok(None);
    };
    let record = hub.metadata.find::<WriteTokenRecord>(id)?;
    let hash = secret::sha256_hex(secret.as_bytes());
    Ok(record.filter(|record| secret::same(&record.secret_hash, &hash)).map(|record| (id.to_owned(), record)))
}

/// Who writes.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The token's id.
    pub id: String,
    /// What it may do.
    pub token: WriteTokenRecord,
    /// In whose name.
    pub writer: AgentId,
}

/// The token of a request to write; `parameter` is what its address has of it.
///
/// # Errors
/// There is none, or it may not write.
pub fn grant(hub: &Hub, headers: &HeaderMap, parameter: Option<&str>) -> Result<Grant, ApiError> {
    let unknown = || ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", ASK);
    let shown = match headers.get(header::AUTHORIZATION) {
        Some(value) => value.to_str().ok().and_then(shown),
        None => parameter.map(str::to_owned),
    };
    let shown = shown.ok_or_else(unknown)?;
    let Some((id, token)) = find(hub, &shown)? else {
        return Err(if may_read(hub, &shown)? {
            ApiError::forbidden(&format!("this token may not write: {ASK}"))
        } else {
            unknown()
        });
    };
    let writer = writer_of(&token.name)?;
    match hub.metadata.find::<DeviceRecord>(writer.as_str())? {
        Some(own) if !own.revoked => Ok(Grant { id, token, writer }),
        _ => Err(ApiError::forbidden(&format!("{writer} was revoked"))),
    }
}

/// The token in an `Authorization` header of any kind that clients use.
fn shown(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if ["bearer", "token"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        // Clients of version 1 send `Token name:token` to version 2.
        return Some(rest.rsplit_once(':').map_or(rest, |(_, token)| token).to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// Whether it is a token that reads.
fn may_read(hub: &Hub, token: &str) -> Result<bool, MetadataError> {
    let Some((id, secret)) = token.strip_prefix(TOKEN_PREFIX).and_then(|t| t.split_once('_')) else {
        return Ok(false);
    };
    let record = hub.metadata.find::<TokenRecord>(id)?;
    Ok(record.is_some_and(|record| secret::same(&record.secret_hash, &secret::sha256_hex(secret.as_bytes()))))
}
