//! A body with JSON of which nothing is read as another than its writer wrote.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::de::{DeserializeOwned, IgnoredAny};
use tideline_twin::exact;

use super::problem::ApiError;

/// As [`Json`], without whole numbers beyond 64 bits, and without names that stand twice in one object.
pub struct Exact<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Exact<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(request, state).await.map_err(|error| error.into_response())?;
        if let Err(found) = std::str::from_utf8(&bytes).map_or(Ok(()), exact) {
            return Err(ApiError::bad("bad-value", found.to_string()).into_response());
        }
        if let Some(what) = other(&bytes) {
            let detail = format!("the body is {what}; allowed is a JSON object");
            let code = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(ApiError::new(code, "bad-body", detail).into_response());
        }
        let request = Request::from_parts(parts, Body::from(bytes));
        let Json(body) =
            Json::<T>::from_request(request, state).await.map_err(|error| error.into_response())?;
        Ok(Self(body))
    }
}

/// What JSON is that is no object; none also of what is no JSON, which its reader tells.
fn other(bytes: &[u8]) -> Option<&'static str> {
    let what = match bytes.trim_ascii_start().first()? {
        b'{' => return None,
        b'[' => "a list",
        b'"' => "a text",
        b'n' => "null",
        b't' | b'f' => "a truth value",
        _ => "a number",
    };
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok().then_some(what)
}
