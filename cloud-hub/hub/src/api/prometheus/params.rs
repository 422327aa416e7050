//! The parameters of a request: from its address, and from its form when it is a POST.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{Method, header};
use tideline_promql::duration::{self, from_seconds};
use tideline_promql::{Matcher, parse_selector};

use super::answer::Failure;
use crate::api::BODY_BYTES_MAX;

/// Names and values in the order in which they came.
pub struct Params(Vec<(String, String)>);

impl Params {
    pub async fn of(request: Request) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let read = |text: &[u8]| -> Result<Vec<(String, String)>, Failure> {
            let bad = |e| Failure::bad_data(format!("the parameters cannot be read: {e}"));
            serde_urlencoded::from_bytes(text).map_err(bad)
        };
        let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
        let bytes = bytes.map_err(|e| Failure::bad_data(format!("the form cannot be read: {e}")))?;
        let mut all = Vec::new();
        // As with Prometheus, only a POST has a form.
        if parts.method == Method::POST && !bytes.is_empty() {
            let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
            if !kind.starts_with("application/x-www-form-urlencoded") {
                let what = format!("Content-Type: {kind:?}; allowed is application/x-www-form-urlencoded");
                return Err(Failure::bad_data(what));
            }
            all.extend(read(&bytes)?);
        }
        all.extend(read(parts.uri.query().unwrap_or_default().as_bytes())?);
        let params = Self(all);
        if params.first("lookback_delta").is_some() {
            let what = "it cannot be set here; the newest sample of the last 5 minutes counts";
            return Err(Failure::param("lookback_delta", &what));
        }
        Ok(params)
    }

    /// The first value of this name that is not empty; that of the form goes first.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub fn needed(&self, name: &str) -> Result<&str, Failure> {
        self.first(name).ok_or_else(|| Failure::param(name, &"it is missing"))
    }

    pub fn time(&self, name: &str, otherwise_ns: i64) -> Result<i64, Failure> {
        self.first(name).map_or(Ok(otherwise_ns), |text| time(name, text))
    }

    pub fn needed_time(&self, name: &str) -> Result<i64, Failure> {
        time(name, self.needed(name)?)
    }

    pub fn step(&self) -> Result<i64, Failure> {
        let text = self.needed("step")?;
        let step_ns = span("step", text)?;
        if step_ns == 0 && text.parse::<f64>().is_ok_and(|seconds| seconds > 0.0) {
            return Err(Failure::param(
                "step",
                &format!("{text:?} is too small; allowed is 0.001 s and more"),
            ));
        }
        Ok(step_ns)
    }

    pub fn timeout(&self) -> Result<Option<Duration>, Failure> {
        let given = self.first("timeout").map(|text| span("timeout", text)).transpose()?;
        Ok(given.map(|ns| Duration::from_nanos(u64::try_from(ns).unwrap_or(0))))
    }

    /// How many of a list are wanted; 0 is all.
    pub fn limit(&self) -> Result<Option<usize>, Failure> {
        let Some(text) = self.first("limit") else { return Ok(None) };
        let limit: usize = text.parse().map_err(|e| Failure::param("limit", &e))?;
        Ok(Some(limit).filter(|limit| *limit > 0))
    }

    pub fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        let given = self.0.iter().filter(|(name, _)| name == "match[]");
        given
            .map(|(_, text)| {
                let selector = parse_selector(text).map_err(|e| Failure::param("match[]", &e))?;
                Ok(selector.matchers)
            })
            .collect()
    }
}

/// Seconds since 1970, or RFC 3339.
fn time(name: &str, text: &str) -> Result<i64, Failure> {
    if let Ok(seconds) = text.parse::<f64>() {
        return from_seconds(seconds)
            .ok_or_else(|| Failure::param(name, &format!("cannot parse {text:?} to a valid timestamp")));
    }
    let time: Option<jiff::Timestamp> = text.parse().ok();
    time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).ok_or_else(|| {
        let what = format!(
            "cannot parse {text:?} to a valid timestamp; allowed are seconds since 1970 and RFC 3339"
        );
        Failure::param(name, &what)
    })
}

/// Seconds, or a duration as `5m`.
fn span(name: &str, text: &str) -> Result<i64, Failure> {
    let seconds = text.parse::<f64>().ok();
    let ns = if let Some(seconds) = seconds { from_seconds(seconds) } else { duration::parse(text) };
    ns.filter(|ns| ns.abs() <= duration::DURATION_NS_MAX).ok_or_else(|| {
        let what =
            format!("cannot parse {text:?} to a valid duration; allowed are seconds and durations as 1h30m");
        Failure::param(name, &what)
    })
}
