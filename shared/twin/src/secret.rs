//! What says who asks, and so has no place in a twin: twins are read by many.

use serde_json::{Map, Value as Json};

/// Headers that say nothing of who asks. Of all others that is not known: each service calls its key as it likes.
const PLAIN_HEADERS: [&str; 16] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "prefer",
    "user-agent",
    "x-request-id",
];

/// Where the request that a schedule makes may say who asks: a header, or a user in the address. The input is an object, or the text of
/// one.
#[must_use]
pub fn secret_of_request(input: &Json) -> Option<String> {
    // Not a text it is none that an agent takes, and stands in the twin all the same.
    let read: Option<Json> = input.as_str().and_then(|text| serde_json::from_str(text).ok());
    let input = read.as_ref().unwrap_or(input);
    if input.get("url").and_then(Json::as_str).is_some_and(has_user) {
        return Some("url".to_owned());
    }
    let mut names = input.get("headers").and_then(Json::as_object).into_iter().flat_map(Map::keys);
    let header = names.find(|name| !PLAIN_HEADERS.contains(&name.to_ascii_lowercase().as_str()))?;
    Some(format!("headers.{header} (plain ones are {})", PLAIN_HEADERS.join(", ")))
}

/// Whether an address has a user in it.
#[must_use]
pub fn has_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'))
}
