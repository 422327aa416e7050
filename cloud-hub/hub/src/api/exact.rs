//! A body with JSON of which nothing is read as another than its writer wrote.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
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
        let request = Request::from_parts(parts, Body::from(bytes));
        let Json(body) =
            Json::<T>::from_request(request, state).await.map_err(|error| error.into_response())?;
        Ok(Self(body))
    }
}
