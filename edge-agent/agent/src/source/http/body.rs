//! Bodies of requests, whole and within their limit, and why a request is refused.

use std::io::Read as _;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use flate2::read::MultiGzDecoder;
use tideline_formats::FormatError;

/// Longest body as it comes: some ten thousand lines, and a few of them fit into a small device's memory.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest body as it was before it was compressed: a few KiB may be a thousand times as many.
const PLAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

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
        Some(b"gzip") => gunzip(&body),
        Some(other) => {
            let text = format!(
                "Content-Encoding {:?} is unknown; allowed are gzip and identity",
                String::from_utf8_lossy(other)
            );
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
    }
}

fn gunzip(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut plain = Vec::new();
    let mut limited = MultiGzDecoder::new(body).take(PLAIN_BYTES_MAX as u64 + 1);
    limited.read_to_end(&mut plain).map_err(|error| {
        let text = format!("the body is no gzip, which its Content-Encoding says: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, text)
    })?;
    if plain.len() > PLAIN_BYTES_MAX {
        let text = format!(
            "the body has more than {PLAIN_BYTES_MAX} bytes once it is decompressed; send it in smaller parts"
        );
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_few_bytes_become_no_more_than_is_allowed() {
        let packed = |bytes: usize| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&vec![b' '; bytes]).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(gunzip(&packed(PLAIN_BYTES_MAX)).unwrap().len(), PLAIN_BYTES_MAX);
        assert_eq!(gunzip(&packed(PLAIN_BYTES_MAX + 1)).unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        let twice = packed(PLAIN_BYTES_MAX / 2 + 1).repeat(2);
        assert_eq!(gunzip(&twice).unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(gunzip(b"none").unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}
