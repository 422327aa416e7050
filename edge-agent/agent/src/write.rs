//! `edge-agent write`: a value for a point of a device, through the running agent.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::Value;

use crate::serve;
use crate::source::{WriteError, Writes};
use crate::sync::TIMEOUT_MAX;

/// How much longer than a write an agent may take to say how that ended.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    device: String,
    point: String,
    value: serde_json::Value,
    // As long as the profile says when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// "done", "not_done", or "unknown" when nobody has said.
    pub outcome: String,
    /// Why it is not done, or not known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Written {
    fn of(outcome: Result<(), WriteError>) -> Self {
        let said = match &outcome {
            Ok(()) => "done",
            Err(WriteError::Unknown(_)) => "unknown",
            Err(_) => "not_done",
        };
        Self { outcome: said.to_owned(), why: outcome.err().map(|error| error.to_string()) }
    }
}

/// A value as the command line has it: true, false, a number, or a text; one that looks like another of these stands
/// in double quotes.
#[must_use]
pub fn value(text: &str) -> serde_json::Value {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_)) | Err(_) => {
            serde_json::Value::String(text.to_owned())
        }
        Ok(scalar) => scalar,
    }
}

/// A value as JSON has it; none for what is neither a truth value nor a number nor a text.
pub(crate) fn scalar(value: &serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Bool(yes) => Value::Bool(*yes),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64()?),
        },
        serde_json::Value::String(text) => Value::Text(text.as_str().into()),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => return None,
    })
}

/// Answers on the socket.
pub async fn answer(State(writes): State<Writes>, Json(wanted): Json<Wanted>) -> Response {
    let wrong = |what: String| (StatusCode::BAD_REQUEST, what).into_response();
    let device = match DeviceId::parse(&wanted.device) {
        Ok(device) => device,
        Err(error) => return wrong(error.to_string()),
    };
    let point = match PointId::parse(&wanted.point) {
        Ok(point) => point,
        Err(error) => return wrong(error.to_string()),
    };
    let Some(value) = scalar(&wanted.value) else {
        return wrong(format!("value: {} is none; allowed are true, false, numbers and texts", wanted.value));
    };
    let timeout = wanted.timeout_ms.map(|ms| Duration::from_millis(ms).min(TIMEOUT_MAX));
    tracing::info!(%device, %point, %value, "somebody writes at the socket");
    Json(Written::of(writes.write(&device, &point, value, timeout).await)).into_response()
}

/// Has a running agent write a value to a point of a device, and waits for it at most `timeout`, or as long as the profile says.
///
/// # Errors
/// No agent runs on the folder, or it does not answer, or device or point are no ids.
pub async fn ask(
    data: &Path,
    device: &str,
    point: &str,
    value: serde_json::Value,
    timeout: Option<Duration>,
) -> anyhow::Result<Written> {
    let timeout = timeout.map(|timeout| timeout.min(TIMEOUT_MAX));
    let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis())).transpose()?;
    let wanted = Wanted { device: device.to_owned(), point: point.to_owned(), value, timeout_ms };
    let asked = async {
        let (response, _connection) =
            serve::send(data, Method::POST, "/write", serde_json::to_vec(&wanted)?).await?;
        let status = response.status();
        let bytes = serve::read(response.into_body()).await?;
        anyhow::ensure!(status.is_success(), "{}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).context("the agent's answer is not as expected")
    };
    let answer = tokio::time::timeout(timeout.unwrap_or(TIMEOUT_MAX) + ANSWER_GRACE, asked);
    answer.await.context("the agent does not answer")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_scalars_or_texts() {
        for (text, expected) in [
            ("true", Some(Value::Bool(true))),
            ("12", Some(Value::Int(12))),
            ("-1.5", Some(Value::Float(-1.5))),
            ("on", Some(Value::Text("on".into()))),
            ("\"12\"", Some(Value::Text("12".into()))),
            ("[1]", Some(Value::Text("[1]".into()))),
        ] {
            assert_eq!(scalar(&value(text)), expected, "{text}");
        }
        assert_eq!(scalar(&serde_json::Value::Null), None);
    }
}
