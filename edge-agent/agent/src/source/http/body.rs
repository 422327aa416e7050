//! Bodies of requests, whole and within their limit, and why a request is refused.

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use tideline_formats::FormatError;
use tideline_formats::body::gunzip;

/// Longest body as it comes: some ten thousand lines, and a few of them fit into a small device's memory.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// Why a request is refused as a whole.
#[derive(Debug)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// What is wrong, and what is allowed.
    pub text: String,
}

impl Refusal {
    /// Of a status, with what is wrong.
    #[must_use]
    pub const fn new(status: StatusCode, text: String) -> Self {
        Self { status, text }
    }
}

impl From<FormatError> for Refusal {
    fn from(error: FormatError) -> Self {
        let status = match error {
            FormatError::TooMuch { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            FormatError::Malformed(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

/// The whole body, as it was before it was compressed.
///
/// # Errors
/// It is too long, cut off, or compressed in a way that is not known.
pub async fn whole(request: Request) -> Result<Vec<u8>, Refusal> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).cloned();
    let too_long = |_| {
        let text =
            format!("the body is cut off or has more than {BYTES_MAX} bytes; send it in smaller parts");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let body: Bytes = to_bytes(request.into_body(), BYTES_MAX).await.map_err(too_long)?;
    match encoding.as_ref().map(header::HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => Ok(body.into()),
        Some(b"gzip") => Ok(gunzip(&body)?),
        Some(other) => {
            let text = format!(
                "Content-Encoding {:?} is unknown; allowed are gzip and identity",
                String::from_utf8_lossy(other)
            );
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
    }
}
