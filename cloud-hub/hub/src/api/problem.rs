//! Errors of the API: RFC 9457 problem details with a stable code.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::metadata::MetadataError;
use crate::passwords::{NotHashed, RETRY_AFTER_S};

/// An error as the API answers it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable code.
    pub code: &'static str,
    /// What is wrong and what is allowed.
    pub detail: String,
    /// Seconds after which asking again makes sense.
    pub retry_after_s: Option<u64>,
    /// All that is wrong, where that are several things.
    pub errors: Vec<String>,
}

impl ApiError {
    /// An error with this status and stable code.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_s: None, errors: Vec::new() }
    }

    /// The request is wrong: what, where, and what is allowed.
    #[must_use]
    pub fn bad(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// The thing named does not exist.
    #[must_use]
    pub fn not_found(what: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no {what} {name:?}"))
    }

    /// Nobody is signed on.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "sign in, or send a bearer token")
    }

    /// The principal may not do this.
    #[must_use]
    pub fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// A fault of the hub itself; the cause goes to the log and not to the caller.
    #[must_use]
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "a request failed inside the hub");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the hub failed; its log says why")
    }
}

impl From<NotHashed> for ApiError {
    fn from(error: NotHashed) -> Self {
        match error {
            NotHashed::Busy => Self {
                retry_after_s: Some(RETRY_AFTER_S),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-logins", error.to_string())
            },
            NotHashed::Failed(error) => error.into(),
        }
    }
}

impl From<MetadataError> for ApiError {
    fn from(error: MetadataError) -> Self {
        Self::internal(&error)
    }
}

/// RFC 9457 problem details
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words
    pub title: String,
    /// The HTTP status
    pub status: u16,
    /// Stable code
    pub code: &'static str,
    /// What is wrong and what is allowed
    pub detail: String,
    /// All that is wrong, each with its place and what is allowed, where that can be several things
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<String>,
}

impl ApiError {
    /// The answer, with the detail under other names as well.
    #[must_use]
    pub fn with_members(self, names: &[&str]) -> Response {
        let members = names.iter().map(|name| ((*name).to_owned(), self.detail.clone())).collect();
        self.answer(members)
    }

    fn answer(self, members: BTreeMap<String, String>) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error").to_owned();
        let body = Problem {
            kind: "about:blank",
            title,
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            errors: self.errors,
        };
        let mut response = (self.status, Json(Extended { body, members })).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED && self.code == "unauthenticated" {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A problem with members of its own kind, which RFC 9457 allows.
#[derive(Serialize)]
struct Extended {
    #[serde(flatten)]
    body: Problem,
    #[serde(flatten)]
    members: BTreeMap<String, String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.answer(BTreeMap::new())
    }
}

/// Turns an answer that some layer made without a body of ours into problem details, so that
/// every error under the API looks alike.
pub async fn unify(response: Response) -> Response {
    let status = response.status();
    let ours = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"application/"));
    if !(status.is_client_error() || status.is_server_error()) || ours {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let (_, body) = response.into_parts();
    let text = axum::body::to_bytes(body, 4096).await.unwrap_or_default();
    let (code, fallback) = match status {
        StatusCode::NOT_FOUND => ("not-found", "there is no such path"),
        StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "the path does not take this method"),
        StatusCode::PAYLOAD_TOO_LARGE => ("body-too-large", "the body is over the limit"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("media-type", "send application/json"),
        StatusCode::BAD_REQUEST => ("bad-request", "the request cannot be read"),
        StatusCode::UNPROCESSABLE_ENTITY => ("bad-body", "the body does not have the right shape"),
        _ => ("error", "the request failed"),
    };
    let said = String::from_utf8_lossy(&text).trim().to_owned();
    let detail = if said.is_empty() { fallback.to_owned() } else { said };
    let mut answer = ApiError::new(status, code, detail).into_response();
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    answer
}
