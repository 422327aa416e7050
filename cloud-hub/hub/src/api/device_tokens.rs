//! Device tokens: what a device without a certificate proves itself with over MQTT.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use tideline_protocol::model::DeviceId;

use super::devices::not_reserved;
use super::problem::{ApiError, Problem};
use super::session::within_limit;
use super::shapes::{DeviceTokenAnswer, DeviceTokenInfo, DeviceTokenList, DeviceTokenRequest};
use crate::hub::App;
use crate::metadata::{Changes, DeviceRecord, DeviceTokenRecord};
use crate::mqtt::DEVICE_TOKEN_PREFIX;
use crate::secret;

/// All device tokens
#[utoipa::path(get, path = "/api/v1/device-tokens", operation_id = "deviceTokens",
    responses((status = 200, description = "The tokens", body = DeviceTokenList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>) -> Result<Json<DeviceTokenList>, ApiError> {
    let all = hub.metadata.list::<DeviceTokenRecord>()?;
    let info = |(id, t): (String, DeviceTokenRecord)| DeviceTokenInfo {
        id,
        device: t.device,
        created_ms: t.created_ms,
    };
    Ok(Json(DeviceTokenList { tokens: all.into_iter().map(info).collect() }))
}

/// Make a device token
#[utoipa::path(post, path = "/api/v1/device-tokens", operation_id = "createDeviceToken", request_body = DeviceTokenRequest,
    responses((status = 201, description = "Made", body = DeviceTokenAnswer), (status = 409, description = "`field-device`: an agent speaks for it; `revoked`: it was shut out", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(hub): State<App>,
    Json(request): Json<DeviceTokenRequest>,
) -> Result<(StatusCode, Json<DeviceTokenAnswer>), ApiError> {
    let device = DeviceId::parse(&request.device).map_err(|e| ApiError::bad("bad-device", e.to_string()))?;
    not_reserved(device.as_str())?;
    within_limit::<DeviceTokenRecord>(&hub)?;
    let id = secret::random_id().map_err(|e| ApiError::internal(&e))?;
    let secret = secret::random().map_err(|e| ApiError::internal(&e))?;
    let token = format!("{DEVICE_TOKEN_PREFIX}{id}_{secret}");
    let record = DeviceTokenRecord {
        device: device.to_string(),
        secret_hash: secret::sha256_hex(secret.as_bytes()),
        created_ms: hub.now_ms(),
    };
    let key = id.clone();
    let step = move |changes: &mut Changes| {
        register(changes, &record)?;
        changes.put(&key, &record).map_err(ApiError::from)
    };
    hub.blocking(move |hub| hub.metadata.change::<_, ApiError>(step)).await?;
    tracing::info!(%device, "device token made");
    Ok((StatusCode::CREATED, Json(DeviceTokenAnswer { id, token })))
}

/// Registers a device that has not enrolled; it is an agent of its own.
fn register(changes: &mut Changes, token: &DeviceTokenRecord) -> Result<(), ApiError> {
    let device = &token.device;
    let conflict = |code, detail: String| Err(ApiError::new(StatusCode::CONFLICT, code, detail));
    match changes.find::<DeviceRecord>(device)? {
        Some(own) if own.agent != *device => {
            conflict("field-device", format!("{device} is behind {0}, and {0} speaks for it", own.agent))
        }
        Some(own) if own.revoked => conflict("revoked", format!("device {device} was revoked")),
        Some(_) => Ok(()),
        None => {
            let record = DeviceRecord::behind(device.clone(), token.created_ms);
            Ok(changes.put(device, &record)?)
        }
    }
}

/// Remove a device token, and end what it has opened
#[utoipa::path(delete, path = "/api/v1/device-tokens/{id}", operation_id = "revokeDeviceToken",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "Removed"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke(State(hub): State<App>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let key = id.clone();
    if !hub.blocking(move |hub| hub.metadata.remove::<DeviceTokenRecord>(&key)).await? {
        return Err(ApiError::not_found("device token", &id));
    }
    hub.sign_out();
    Ok(StatusCode::NO_CONTENT)
}
