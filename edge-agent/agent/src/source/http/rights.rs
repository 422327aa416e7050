//! Who may send: what senders must show, and of which devices they may speak then.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, StatusCode, header};
use tideline_protocol::model::DeviceId;

use super::body::Refusal;
use crate::config::Token;

/// What senders must show.
#[derive(Debug, Default)]
pub struct Rights {
    /// All but the devices that have one of their own.
    pub token: Option<Token>,
    /// Those.
    pub tokens: BTreeMap<DeviceId, Token>,
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// One who may speak of every device without a token of its own.
    Any,
    /// A device with a token of its own.
    Device(DeviceId),
}

impl Rights {
    /// Who sends a request. A page of a browser says where it is from, and has no business here without a token.
    ///
    /// # Errors
    /// It shows none of the tokens, and one is needed.
    pub fn sender(&self, headers: &HeaderMap) -> Result<Sender, Refusal> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // InfluxDB's clients say Token.
        let given =
            given.and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("Token ")));
        if let Some(given) = given
            && let Some((device, _)) = self.tokens.iter().find(|(_, token)| token.is(given))
        {
            return Ok(Sender::Device(device.clone()));
        }
        match &self.token {
            None if headers.contains_key(header::ORIGIN) => {
                let text = "a page of a browser may send with a token only".to_owned();
                Err(Refusal::new(StatusCode::FORBIDDEN, text))
            }
            Some(token) if !given.is_some_and(|given| token.is(given)) => {
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong".to_owned()))
            }
            _ => Ok(Sender::Any),
        }
    }

    /// Whether a sender may speak of a device.
    ///
    /// # Errors
    /// It may not; says why.
    pub fn may(&self, sender: &Sender, device: &DeviceId) -> Result<(), String> {
        match sender {
            Sender::Any if self.tokens.contains_key(device) => {
                Err(format!("device {device} has a token of its own, and this is not it"))
            }
            Sender::Device(own) if own != device => {
                Err(format!("the token is that of {own}, and not of {device}"))
            }
            _ => Ok(()),
        }
    }
}
