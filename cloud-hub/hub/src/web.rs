//! The web app, built into the binary.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::api::problem::ApiError;
use crate::secret::hex;

#[derive(RustEmbed)]
#[folder = "../../dashboards/dist"]
#[allow_missing = true]
struct Dist;

const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const UNBUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Tideline</title>\
<h1>Tideline hub</h1><p>This hub was built without the web app. Build it with <code>make web</code> \
and build the hub again. The API is at <code>/api/v1</code>; \
<a href=\"/api/v1/openapi.json\">openapi.json</a> describes it.</p></html>";

/// Answers any path outside the API: a file of the web app, or its page for a path of the app's own.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "only GET and HEAD")
            .into_response();
    }
    let path = uri.path().trim_start_matches('/');
    let mut response = match find(path, &headers) {
        Some(found) => found,
        // A path with an extension names a file; anything else is a page of the app, which routes
        // by itself.
        None if path.starts_with("assets/") || path.starts_with("api/") || path.contains('.') => {
            ApiError::not_found("file", uri.path()).into_response()
        }
        None => find("index.html", &headers).unwrap_or_else(unbuilt),
    };
    guard(response.headers_mut());
    response
}

/// Headers that every page gets: nothing foreign runs in it, and nothing frames it.
fn guard(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

fn unbuilt() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], UNBUILT)
        .into_response()
}

fn find(path: &str, headers: &HeaderMap) -> Option<Response> {
    // The compressed twins are answers to the plain name, not files of their own.
    if path.ends_with(".br") || path.ends_with(".gz") {
        return None;
    }
    let plain = Dist::get(path)?;
    let accepted = |coding: &str| accepts(headers, coding);
    let packed = |ending: &str, coding: &'static str| {
        accepted(coding)
            .then(|| Dist::get(&format!("{path}.{ending}")))
            .flatten()
            .map(|file| (file, Some(coding)))
    };
    let (file, coding) = packed("br", "br").or_else(|| packed("gz", "gzip")).unwrap_or((plain, None));
    Some(answer(path, file, coding, headers))
}

fn answer(path: &str, file: EmbeddedFile, coding: Option<&'static str>, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex(&file.metadata.sha256_hash()));
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = asked
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|t| t.trim() == tag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(file.data.into_owned()))
    };
    let headers = response.headers_mut();
    let mime = mime_guess::from_path(path).first_or_octet_stream();
    let mime = if mime.type_() == "text" { format!("{mime}; charset=utf-8") } else { mime.to_string() };
    for (name, value) in
        [(header::CONTENT_TYPE, mime), (header::ETAG, tag), (header::CACHE_CONTROL, cache.to_owned())]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    response
}

/// Whether who asks takes an answer in a coding, as `gzip`.
#[must_use]
pub fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let said = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    said.flat_map(|v| v.split(',')).any(|item| {
        let (name, quality) = item.split_once(';').unwrap_or((item, ""));
        name.trim().eq_ignore_ascii_case(coding)
            && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &str) -> Response {
        serve(Method::GET, path.parse().unwrap(), HeaderMap::new()).await
    }

    #[tokio::test]
    async fn the_page_is_guarded_and_not_cached() {
        for path in ["/", "/devices/pump-7x"] {
            let page = get(path).await;
            assert_eq!(page.status(), StatusCode::OK);
            assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
            assert_eq!(page.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
            assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }

    #[tokio::test]
    async fn a_missing_asset_is_not_found() {
        for path in ["/assets/none.js", "/favicon.none", "/../Cargo.toml"] {
            assert_eq!(get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn every_file_has_a_tag_that_is_honoured() {
        for name in Dist::iter().filter(|n| !n.ends_with(".br") && !n.ends_with(".gz")) {
            let first = get(&format!("/{name}")).await;
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
            let again = serve(Method::GET, format!("/{name}").parse().unwrap(), headers).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{name}");
        }
    }

    #[test]
    fn encodings_are_negotiated() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, "gzip, br;q=0".parse().unwrap());
        assert!(accepts(&headers, "gzip") && !accepts(&headers, "br"));
    }
}
