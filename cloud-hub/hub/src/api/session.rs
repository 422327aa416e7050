//! Signing in and out, users and API tokens.

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use std::net::SocketAddr;

use super::auth::{COOKIE, OverTls, Principal, TOKEN_PREFIX, address_of, check_origin, cookie_of};
use super::problem::{ApiError, Problem};
use super::shapes::{
    Login, Session, TokenAnswer, TokenInfo, TokenList, TokenRequest, TokenRole, UserInfo, UserList,
    UserRequest,
};
use super::write_tokens;
use crate::hub::{App, Hub};
use crate::metadata::{
    Changes, MetadataError, Role, SessionRecord, TokenRecord, UserRecord, WriteTokenRecord,
};
use crate::secret::{self, SecretError};
use tideline_protocol::model::DeviceId;

/// How long a browser stays signed in.
const SESSION_MS: i64 = 7 * 24 * 3600 * 1000;
/// Most users, tokens and live sessions; each is a few hundred bytes of metadata.
const PRINCIPALS_MAX: usize = 10_000;

/// Who is signed in
#[utoipa::path(get, path = "/api/v1/session", operation_id = "session",
    responses((status = 200, description = "Signed in", body = Session), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(Extension(principal): Extension<Principal>) -> Json<Session> {
    Json(Session { user: principal.name, role: principal.role })
}

/// Sign in; sets the session cookie
#[utoipa::path(post, path = "/api/v1/session", operation_id = "signIn", request_body = Login,
    responses((status = 200, description = "Signed in", body = Session), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn sign_in(
    State(hub): State<App>,
    info: Option<Extension<ConnectInfo<SocketAddr>>>,
    tls: Option<Extension<OverTls>>,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<Response, ApiError> {
    check_origin(&headers)?;
    if let Err(seconds) = hub.logins.take(address_of(info.as_ref()), hub.clock.mono_ns()) {
        let mut error = ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-logins",
            format!("try again in {seconds} s"),
        );
        error.retry_after_s = Some(seconds);
        return Err(error);
    }
    let user: Option<UserRecord> = hub.metadata.find(&login.user)?;
    // A name that does not exist costs the same time as one that does.
    let hash = user.as_ref().map_or_else(|| hub.decoy_hash.clone(), |u| u.password.clone());
    let fits = hub.passwords.work(move || secret::password_fits(&login.password, &hash)).await?;
    let Some(user) = user.filter(|_| fits) else {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "bad-credentials",
            "the user or the password is wrong",
        ));
    };
    let cookie = secret::random().map_err(|e| ApiError::internal(&e))?;
    let record =
        SessionRecord { user: login.user.clone(), expires_ms: hub.now_ms().saturating_add(SESSION_MS) };
    let key = secret::sha256_hex(cookie.as_bytes());
    hub.blocking(move |hub| {
        let (now_ms, surplus) = (hub.now_ms(), surplus_until_ms(hub)?);
        hub.metadata.change::<_, MetadataError>(|changes| {
            changes.remove_where::<SessionRecord>(|_, s| s.expires_ms <= now_ms.max(surplus))?;
            changes.put(&key, &record)
        })
    })
    .await?;
    let secure = if tls.is_some() { "; Secure" } else { "" };
    let set = format!(
        "{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}",
        SESSION_MS / 1000
    );
    Ok(with_cookie(Json(Session { user: login.user, role: user.role }).into_response(), &set))
}

/// Sign out
#[utoipa::path(delete, path = "/api/v1/session", operation_id = "signOut",
    responses((status = 204, description = "Signed out"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn sign_out(State(hub): State<App>, headers: HeaderMap) -> Result<Response, ApiError> {
    if let Some(cookie) = cookie_of(&headers) {
        let key = secret::sha256_hex(cookie.as_bytes());
        hub.blocking(move |hub| hub.metadata.remove::<SessionRecord>(&key)).await?;
        hub.sign_out();
    }
    let clear = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), &clear))
}

/// All users
#[utoipa::path(get, path = "/api/v1/users", operation_id = "users",
    responses((status = 200, description = "The users", body = UserList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list_users(State(hub): State<App>) -> Result<Json<UserList>, ApiError> {
    let all = hub.metadata.list::<UserRecord>()?;
    let users =
        all.into_iter().map(|(name, u)| UserInfo { name, role: u.role, created_ms: u.created_ms }).collect();
    Ok(Json(UserList { users }))
}

/// Make a user
#[utoipa::path(post, path = "/api/v1/users", operation_id = "createUser", request_body = UserRequest,
    responses((status = 201, description = "Made", body = UserInfo), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create_user(
    State(hub): State<App>,
    Json(request): Json<UserRequest>,
) -> Result<(StatusCode, Json<UserInfo>), ApiError> {
    // The rules of ids are the rules of user names: they go into logs and command lines.
    DeviceId::parse(&request.name)
        .map_err(|e| ApiError::bad("bad-name", e.to_string().replace("device id", "user name")))?;
    within_limit::<UserRecord>(&hub)?;
    let password = request.password;
    let hash = hub.passwords.work(move || secret::hash_password(&password)).await?;
    let hash = hash.map_err(|error| match error {
        SecretError::Length => ApiError::bad("bad-password", error.to_string()),
        SecretError::Random(_) | SecretError::Hash(_) => ApiError::internal(&error),
    })?;
    let created_ms = hub.now_ms();
    let record = UserRecord { password: hash, role: request.role, created_ms };
    let name = request.name.clone();
    let step = move |changes: &mut Changes| match changes.find::<UserRecord>(&name)? {
        Some(_) => Ok(false),
        None => changes.put(&name, &record).map(|()| true),
    };
    let made = hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
    if !made {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "user-exists",
            format!("there is a user {:?} already", request.name),
        ));
    }
    tracing::info!(user = request.name, role = request.role.as_str(), "user made");
    Ok((StatusCode::CREATED, Json(UserInfo { name: request.name, role: request.role, created_ms })))
}

/// Remove a user and end their sessions
#[utoipa::path(delete, path = "/api/v1/users/{name}", operation_id = "revokeUser",
    params(("name" = String, Path, description = "The user's name")),
    responses((status = 204, description = "Removed"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke_user(State(hub): State<App>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    let user = name.clone();
    let step = move |changes: &mut Changes| {
        changes.remove_where::<SessionRecord>(|_, session| session.user == user)?;
        changes.remove::<UserRecord>(&user)
    };
    if !hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await? {
        return Err(ApiError::not_found("user", &name));
    }
    hub.sign_out();
    tracing::info!(user = name, "user removed");
    Ok(StatusCode::NO_CONTENT)
}

/// All API tokens
#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "tokens",
    responses((status = 200, description = "The tokens", body = TokenList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list_tokens(State(hub): State<App>) -> Result<Json<TokenList>, ApiError> {
    let info = |(id, t): (String, TokenRecord)| TokenInfo {
        id,
        name: t.name,
        role: t.role.into(),
        devices: Vec::new(),
        registered_only: false,
        created_ms: t.created_ms,
    };
    let mut tokens: Vec<TokenInfo> = hub.metadata.list::<TokenRecord>()?.into_iter().map(info).collect();
    tokens.extend(write_tokens::list(&hub)?);
    tokens.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Json(TokenList { tokens }))
}

/// Make an API token
#[utoipa::path(post, path = "/api/v1/tokens", operation_id = "createToken", request_body = TokenRequest,
    responses((status = 201, description = "Made", body = TokenAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn create_token(
    State(hub): State<App>,
    Json(request): Json<TokenRequest>,
) -> Result<(StatusCode, Json<TokenAnswer>), ApiError> {
    DeviceId::parse(&request.name)
        .map_err(|e| ApiError::bad("bad-name", e.to_string().replace("device id", "token name")))?;
    let role = match request.role {
        TokenRole::Writer => {
            return Ok((StatusCode::CREATED, Json(write_tokens::create(&hub, request).await?)));
        }
        _ if !request.devices.is_empty() || request.registered_only => {
            let detail = "devices and registered_only are for the role writer";
            return Err(ApiError::bad("bad-devices", detail));
        }
        TokenRole::Admin => Role::Admin,
        TokenRole::Viewer => Role::Viewer,
    };
    within_limit::<TokenRecord>(&hub)?;
    let id = secret::random_id().map_err(|e| ApiError::internal(&e))?;
    let secret = secret::random().map_err(|e| ApiError::internal(&e))?;
    let secret_hash = secret::sha256_hex(secret.as_bytes());
    let record = TokenRecord { name: request.name, role, secret_hash, created_ms: hub.now_ms() };
    let key = id.clone();
    hub.blocking(move |hub| hub.metadata.put(&key, &record)).await?;
    Ok((StatusCode::CREATED, Json(TokenAnswer { token: format!("{TOKEN_PREFIX}{id}_{secret}"), id })))
}

/// Remove an API token
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", operation_id = "revokeToken",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "Removed"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke_token(State(hub): State<App>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let key = id.clone();
    let step = move |changes: &mut Changes| {
        Ok(changes.remove::<TokenRecord>(&key)? || changes.remove::<WriteTokenRecord>(&key)?)
    };
    if !hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await? {
        return Err(ApiError::not_found("token", &id));
    }
    hub.sign_out();
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn within_limit<R: crate::metadata::Record>(hub: &App) -> Result<(), ApiError> {
    if hub.metadata.list::<R>()?.len() < PRINCIPALS_MAX {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::CONFLICT,
        "too-many",
        format!("{} is full; allowed are {PRINCIPALS_MAX}", R::TABLE),
    ))
}

/// Until when the sessions that must go for a new one end, Unix ms; the least when none must.
fn surplus_until_ms(hub: &Hub) -> Result<i64, MetadataError> {
    let mut ends: Vec<i64> =
        hub.metadata.list::<SessionRecord>()?.into_iter().map(|(_, session)| session.expires_ms).collect();
    ends.sort_unstable();
    let surplus = (ends.len() + 1).saturating_sub(PRINCIPALS_MAX);
    Ok(surplus.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(i64::MIN))
}

fn with_cookie(mut response: Response, set: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(set) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
