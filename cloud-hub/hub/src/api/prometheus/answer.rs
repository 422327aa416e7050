//! Answers and errors as Prometheus writes them
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview>).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tideline_promql::{Answer, Error, Labels, NAME, NS_PER_S, Sample, number};
use tideline_store::SeriesInfo;

/// Longest answer; a dashboard's panel takes some hundred kilobytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An answer that succeeded.
#[derive(Debug)]
pub struct Told(String);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    kind: &'static str,
    what: String,
}

impl Failure {
    fn new(status: StatusCode, kind: &'static str, what: impl Into<String>) -> Self {
        Self { status, kind, what: what.into() }
    }

    /// The request is wrong.
    pub fn bad_data(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_data", what)
    }

    /// A parameter is wrong.
    pub fn param(name: &str, what: &dyn fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {what}"))
    }

    /// There is no such path.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// It takes too long.
    pub fn timeout(longest: Duration) -> Self {
        let what = format!("query timed out after {} s", longest.as_secs_f64());
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", what)
    }

    /// A fault of the hub itself; the cause goes to the log and not to the caller.
    pub fn internal(cause: &dyn fmt::Display) -> Self {
        tracing::error!(error = %cause, "a query failed inside the hub");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the hub failed; its log says why")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let what = error.to_string();
        match error {
            Error::Parse { .. } | Error::Invalid(_) => Self::bad_data(what),
            Error::TooMuch(_) | Error::Execution(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", what)
            }
            Error::Canceled => Self::new(StatusCode::SERVICE_UNAVAILABLE, "canceled", what),
            Error::Source(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", what),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"status": "error", "errorType": self.kind, "error": self.what}).to_string();
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// A JSON string.
pub fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// A JSON object of labels.
pub fn labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| text(name) + ":" + &text(value)).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Seconds since 1970 with all digits that there are.
fn time(ns: i64) -> String {
    let (seconds, rest) = (ns / NS_PER_S, ns % NS_PER_S);
    let sign = if ns < 0 { "-" } else { "" };
    let fraction = format!("{:09}", rest.unsigned_abs());
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", seconds.unsigned_abs())
}

fn pair(time_ns: i64, value: f64) -> String {
    format!("[{},\"{}\"]", time(time_ns), number::shown(value))
}

fn pairs(samples: &[Sample]) -> String {
    let mut out = String::from("[");
    for (at, sample) in samples.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _infallible = write!(out, "{comma}{}", pair(sample.time_ns, sample.value));
    }
    out + "]"
}

/// The items as far as they are wanted, and whether there are more; refused when they are too long.
fn joined(items: impl Iterator<Item = String>, limit: Option<usize>) -> Result<(String, bool), Failure> {
    let most = limit.unwrap_or(usize::MAX);
    let (mut out, mut cut) = (String::from("["), false);
    for (at, item) in items.enumerate() {
        if at == most {
            cut = true;
            break;
        }
        if at > 0 {
            out.push(',');
        }
        out.push_str(&item);
        if out.len() > ANSWER_BYTES_MAX {
            let what = format!(
                "the answer has more than {ANSWER_BYTES_MAX} bytes; take fewer series or a larger step"
            );
            return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", what));
        }
    }
    Ok((out + "]", cut))
}

fn success(data: &str, cut: bool, warning: Option<String>) -> Told {
    let cut = cut.then(|| "results truncated due to limit".to_owned());
    let warnings: Vec<String> = cut.into_iter().chain(warning).collect();
    let warnings =
        if warnings.is_empty() { String::new() } else { format!(",\"warnings\":{}", json!(warnings)) };
    Told(format!("{{\"status\":\"success\",\"data\":{data}{warnings}}}"))
}

/// A list.
pub fn list(items: impl Iterator<Item = String>, limit: Option<usize>) -> Result<Told, Failure> {
    joined(items, limit).map(|(data, cut)| success(&data, cut, None))
}

/// The answer of a query, and what is to be said of it.
pub fn of(
    answer: Answer,
    at_ns: i64,
    (limit, warning): (Option<usize>, Option<String>),
) -> Result<Told, Failure> {
    let (kind, (result, cut)) = match answer {
        Answer::Scalar(sample) => ("scalar", (pair(sample.time_ns, sample.value), false)),
        Answer::Text(value) => ("string", (format!("[{},{}]", time(at_ns), text(&value)), false)),
        Answer::Vector(all) => {
            let one = |(metric, value): (Labels, f64)| {
                format!("{{\"metric\":{},\"value\":{}}}", labels(&metric), pair(at_ns, value))
            };
            ("vector", joined(all.into_iter().map(one), limit)?)
        }
        Answer::Matrix(all) => {
            let one = |series: tideline_promql::Series| {
                let samples = pairs(&series.samples);
                format!("{{\"metric\":{},\"values\":{samples}}}", labels(&series.labels))
            };
            ("matrix", joined(all.into_iter().map(one), limit)?)
        }
    };
    Ok(success(&format!("{{\"resultType\":\"{kind}\",\"result\":{result}}}"), cut, warning))
}

/// What is known of the metrics: their units. Whether a point only rises, nobody said.
pub fn metadata(
    all: &[(SeriesInfo, Labels)],
    metric: Option<&str>,
    limit: Option<usize>,
) -> Result<Told, Failure> {
    let mut units: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for (info, labels) in all {
        let name = labels.value(NAME);
        if metric.is_none_or(|metric| metric == name) {
            units.entry(name).or_default().insert((info.point.as_str(), &*info.unit));
        }
    }
    let one = |(point, unit): (&str, &str)| json!({"type": "unknown", "help": format!("The point {point} of devices."), "unit": unit});
    let metrics: serde_json::Map<String, Value> = units
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .map(|(name, units)| (name.to_owned(), units.into_iter().map(one).collect()))
        .collect();
    Ok(success(&Value::from(metrics).to_string(), false, None))
}

/// That there are no rules.
pub fn no_rules() -> Told {
    success("{\"groups\":[]}", false, None)
}

/// Which Prometheus this is like.
pub fn build_info(version: &str) -> Told {
    let data = json!({
        "version": version,
        "revision": format!("tideline {}", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    });
    success(&data.to_string(), false, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_all_their_digits_and_no_more() {
        let cases = [
            (0, "0"),
            (1_500_000_000, "1.5"),
            (1_763_805_600_123_000_001, "1763805600.123000001"),
            (-500_000_000, "-0.5"),
        ];
        for (ns, text) in cases {
            assert_eq!(time(ns), text);
        }
    }

    #[test]
    fn an_answer_over_the_limit_is_refused() {
        let long = "x".repeat(ANSWER_BYTES_MAX / 2);
        assert!(joined(std::iter::once(long.clone()), None).is_ok());
        let failure = joined(std::iter::repeat_n(long, 2), None).unwrap_err();
        assert_eq!((failure.status, failure.kind), (StatusCode::UNPROCESSABLE_ENTITY, "execution"));
    }

    #[test]
    fn labels_are_escaped() {
        let odd = Labels::new([("a", "\"\\\n"), ("b", "é")]);
        assert_eq!(labels(&odd), r#"{"a":"\"\\\n","b":"é"}"#);
    }
}
