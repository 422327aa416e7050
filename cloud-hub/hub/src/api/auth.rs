//! Who asks: the local socket, a bearer token, or a browser's session cookie.

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::problem::ApiError;
use super::write_tokens;
use crate::boards::shares;
use crate::hub::{App, Hub};
use crate::metadata::{MetadataError, Role, SessionRecord, TokenRecord, UserRecord};
use crate::secret;

/// The name of the session cookie.
pub const COOKIE: &str = "tideline_session";
/// What every API token begins with, so that secret scanners can find one.
pub const TOKEN_PREFIX: &str = "tlt_";

/// Marks requests that came over the Unix socket in the data folder: who may open it is the
/// administrator of the machine.
#[derive(Debug, Clone, Copy)]
pub struct LocalSocket;

/// Marks requests that came over TLS.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// A name for people and the log.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// How they are known, to look again later.
    pub credential: Credential,
}

/// What somebody is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The local socket; it does not end.
    Local,
    /// The API token with this id.
    Token(String),
    /// The session with this key.
    Session(String),
    /// The share of a board with this id, at these series of it; it lets nobody in anywhere else.
    Share(String, Arc<[String]>),
}

impl Principal {
    /// Whose limits count: the user, however often signed in, or the token.
    #[must_use]
    pub fn party(&self) -> String {
        match &self.credential {
            Credential::Local => "the local socket".to_owned(),
            Credential::Token(id) => format!("token {id}"),
            Credential::Session(_) => format!("user {}", self.name),
            Credential::Share(id, _) => format!("share {id}"),
        }
    }

    /// Whether they would still be let in, and as the same.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn holds(&self, hub: &Hub) -> Result<bool, MetadataError> {
        let found = match &self.credential {
            Credential::Local => return Ok(true),
            Credential::Token(id) => hub.metadata.find::<TokenRecord>(id)?.map(|token| token.role),
            Credential::Session(key) => by_session(hub, key)?.map(|(_, role)| role),
            Credential::Share(id, series) => shares::shows(hub, id, series)?.then_some(Role::Viewer),
        };
        Ok(found == Some(self.role))
    }
}

/// Lets a request through with its principal, or answers 401 or 403.
///
/// # Errors
/// Nobody is signed on, the credentials are not known, or a foreign page sent the request.
pub async fn authenticate(
    State(hub): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let principal = principal_of(&hub, &request)?;
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

/// Lets administrators through.
///
/// # Errors
/// The principal is none.
pub async fn require_admin(
    Extension(principal): Extension<Principal>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match principal.role {
        Role::Admin => Ok(next.run(request).await),
        Role::Viewer => Err(ApiError::forbidden("this needs the role admin")),
    }
}

/// Who sent a request.
///
/// # Errors
/// As [`authenticate`].
pub(super) fn principal_of(hub: &App, request: &Request) -> Result<Principal, ApiError> {
    if request.extensions().get::<LocalSocket>().is_some() {
        return Ok(Principal { name: "local".to_owned(), role: Role::Admin, credential: Credential::Local });
    }
    let headers = request.headers();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value
            .to_str()
            .ok()
            .and_then(|v| v.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or_else(ApiError::unauthenticated)?;
        return by_token(hub, token.trim());
    }
    let cookie = cookie_of(headers).ok_or_else(ApiError::unauthenticated)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        check_origin(headers)?;
    }
    by_cookie(hub, cookie)
}

fn by_token(hub: &App, token: &str) -> Result<Principal, ApiError> {
    if write_tokens::find(hub, token)?.is_some() {
        return Err(ApiError::forbidden(
            "this token only writes readings, to /api/v2/write, /write, /api/v1/write and /api/v1/imports",
        ));
    }
    let (id, secret) = token
        .strip_prefix(TOKEN_PREFIX)
        .and_then(|t| t.split_once('_'))
        .ok_or_else(ApiError::unauthenticated)?;
    let record: TokenRecord = hub.metadata.find(id)?.ok_or_else(ApiError::unauthenticated)?;
    if !secret::same(&record.secret_hash, &secret::sha256_hex(secret.as_bytes())) {
        return Err(ApiError::unauthenticated());
    }
    let name = format!("token {}", record.name);
    Ok(Principal { name, role: record.role, credential: Credential::Token(id.to_owned()) })
}

fn by_cookie(hub: &App, cookie: &str) -> Result<Principal, ApiError> {
    let key = secret::sha256_hex(cookie.as_bytes());
    let (name, role) = by_session(hub, &key)?.ok_or_else(ApiError::unauthenticated)?;
    Ok(Principal { name, role, credential: Credential::Session(key) })
}

/// The user of a living session, with their role.
fn by_session(hub: &Hub, key: &str) -> Result<Option<(String, Role)>, MetadataError> {
    let session: Option<SessionRecord> = hub.metadata.find(key)?;
    let Some(session) = session.filter(|session| session.expires_ms > hub.now_ms()) else { return Ok(None) };
    // The user is read each time, so that revoking one ends all their sessions at once.
    let user: Option<UserRecord> = hub.metadata.find(&session.user)?;
    Ok(user.map(|user| (session.user, user.role)))
}

/// The session cookie of a request.
#[must_use]
pub fn cookie_of(headers: &HeaderMap) -> Option<&str> {
    let all =
        headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    all.filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// Refuses what a foreign page made a browser send: browsers name the page's origin on every
/// unsafe request, and programs that send neither header have no cookie to be tricked out of.
///
/// # Errors
/// The origin is not the host that was asked.
pub fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let foreign = || {
        ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "the request comes from a page of another origin",
        )
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let authority = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|(_, rest)| rest);
        return if authority.is_some() && authority == text(header::HOST) { Ok(()) } else { Err(foreign()) };
    }
    match headers.get("sec-fetch-site").and_then(|v| v.to_str().ok()) {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(foreign()),
    }
}

/// The address a request came from; the local socket counts as loopback.
#[must_use]
pub fn address_of(info: Option<&Extension<ConnectInfo<SocketAddr>>>) -> IpAddr {
    info.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(ConnectInfo(address))| address.ip())
}
