//! The kind `read`: what a point of a device is now.

use serde::Deserialize;
use serde_json::json;
use tideline_protocol::commands::{Ended, errors};
use tideline_protocol::model::PointId;
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::wire::CommandError;

use super::kinds::{Hands, Run};
use crate::export::in_json;
use crate::source::reads::{Found, ReadError, TIMEOUT};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadInput {
    point: String,
    timeout_ms: Option<u64>,
}

impl Run {
    pub(super) async fn read(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let ReadInput { point, timeout_ms } = self.input()?;
        let wrong = |text: String| CommandError::new(errors::BAD_INPUT, text);
        let point = PointId::parse(&point).map_err(|error| wrong(error.to_string()))?;
        let timeout = Self::timeout(timeout_ms, TIMEOUT).min(self.left);
        let read = hands.writes.reads().read(&self.command.device, &point, timeout).await;
        let found = read.map_err(|error| {
            let code = match &error {
                ReadError::NoDevice(_) | ReadError::Away { .. } => errors::UNAVAILABLE,
                ReadError::Busy(_) => errors::BUSY,
                ReadError::Speaks { .. } | ReadError::NoPoint(_) => errors::NOT_ALLOWED,
                ReadError::NotRead(_) => errors::FAILED,
                ReadError::Late { .. } => errors::TIMEOUT,
            };
            CommandError::new(code, error)
        })?;
        let time_ns = found.corrected_ns(hands.hub_ahead.ns());
        let Found { value, quality, .. } = found;
        let result = json!({
            "point": point,
            "value": in_json(&value),
            "quality": quality.as_str(),
            "time_ms": time_ns.div_euclid(NS_PER_MS),
        });
        Ok(Ended::Succeeded(serde_json::to_vec(&result).ok()))
    }
}
