//! The enrolment token: one line of text that an installer carries from the hub to a device.
//!
//! ```text
//! tle1 . base64url(JSON) . first 4 bytes of SHA-256 over all before the last dot, in hex
//! ```
//!
//! The checksum guards against a slip of copying, not against an attacker: what is secret about a
//! token is `secret`, which `Debug` never prints.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tideline_protocol::model::DeviceId;

/// Longest token in bytes; ours have about 400.
pub const TOKEN_BYTES_MAX: usize = 4096;

const PREFIX: &str = "tle1";
const CHECKSUM_LEN: usize = 8;

/// What a device needs to know to be let in, once.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollToken {
    /// Where to enrol, `host:port`.
    pub hub_https: String,
    /// Where to send readings afterwards, `host:port`.
    pub hub_quic: String,
    /// The name to expect in the hub's certificate.
    pub server_name: String,
    /// SHA-256 of the DER of the hub's authority.
    pub ca_sha256: [u8; 32],
    /// What the hub knows the token by.
    pub id: String,
    /// What proves that it was given out. Secret.
    pub secret: [u8; 32],
    /// The device that it is for.
    pub device: DeviceId,
    /// When it was made, in ms since 1970; a lower bound for the device's clock.
    pub issued_ms: i64,
}

impl fmt::Debug for EnrollToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollToken")
            .field("hub_https", &self.hub_https)
            .field("hub_quic", &self.hub_quic)
            .field("server_name", &self.server_name)
            .field("id", &self.id)
            .field("device", &self.device)
            .field("issued_ms", &self.issued_ms)
            .finish_non_exhaustive()
    }
}

/// Why a text is no usable token. No variant repeats the token's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("this is not an enrolment token: it must begin with \"{PREFIX}.\"")]
    Prefix,
    /// A token of a version that this program does not know.
    #[error("enrolment token of version {found} is unknown; this program knows version 1")]
    Version {
        /// The version that it names.
        found: u32,
    },
    /// The end is missing.
    #[error("enrolment token is cut short: it must end with a dot and {CHECKSUM_LEN} characters")]
    Truncated,
    /// Longer than any token.
    #[error("enrolment token has {found} characters; allowed are {TOKEN_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// A character was changed or lost on the way.
    #[error("enrolment token is damaged: its checksum does not match; copy it again")]
    Damaged,
    /// Whole, but a part of it makes no sense.
    #[error("enrolment token has a bad {part}")]
    Content {
        /// Which part.
        part: &'static str,
    },
}

/// The JSON inside; short names, because people copy it.
#[derive(Serialize, Deserialize)]
struct Body {
    h: String,
    q: String,
    n: String,
    c: String,
    i: String,
    s: String,
    d: String,
    t: i64,
}

impl EnrollToken {
    /// The text form.
    #[must_use]
    pub fn encode(&self) -> String {
        let body = Body {
            h: self.hub_https.clone(),
            q: self.hub_quic.clone(),
            n: self.server_name.clone(),
            c: URL_SAFE_NO_PAD.encode(self.ca_sha256),
            i: self.id.clone(),
            s: URL_SAFE_NO_PAD.encode(self.secret),
            d: self.device.as_str().to_owned(),
            t: self.issued_ms,
        };
        let json = serde_json::json!(body).to_string();
        let front = format!("{PREFIX}.{}", URL_SAFE_NO_PAD.encode(json));
        let checksum = checksum(&front);
        format!("{front}.{checksum}")
    }

    /// Reads the text form; white space around it is ignored.
    ///
    /// # Errors
    /// Says whether the text is no token, is cut short, is damaged, or is of another version.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { found: text.len() });
        }
        check_prefix(text)?;
        let (front, tail) = text.rsplit_once('.').ok_or(TokenError::Truncated)?;
        let (_, payload) = front.split_once('.').ok_or(TokenError::Truncated)?;
        if tail.len() < CHECKSUM_LEN {
            return Err(TokenError::Truncated);
        }
        if tail != checksum(front) {
            return Err(TokenError::Damaged);
        }
        let content = |part| TokenError::Content { part };
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| content("encoding"))?;
        let body: Body = serde_json::from_slice(&json).map_err(|_| content("set of fields"))?;
        Self::checked(body)
    }

    fn checked(body: Body) -> Result<Self, TokenError> {
        let content = |part| TokenError::Content { part };
        if !is_host_port(&body.h) {
            return Err(content("HTTPS address"));
        }
        if !is_host_port(&body.q) {
            return Err(content("QUIC address"));
        }
        rustls_pki_types::ServerName::try_from(body.n.as_str()).map_err(|_| content("server name"))?;
        if body.i.is_empty() {
            return Err(content("id"));
        }
        Ok(Self {
            ca_sha256: bytes32(&body.c).ok_or_else(|| content("CA fingerprint"))?,
            secret: bytes32(&body.s).ok_or_else(|| content("secret"))?,
            device: DeviceId::parse(&body.d).map_err(|_| content("device id"))?,
            hub_https: body.h,
            hub_quic: body.q,
            server_name: body.n,
            id: body.i,
            issued_ms: body.t,
        })
    }
}

fn check_prefix(text: &str) -> Result<(), TokenError> {
    let (prefix, _) = text
        .split_once('.')
        .ok_or_else(|| if text == PREFIX { TokenError::Truncated } else { TokenError::Prefix })?;
    let digits = prefix.strip_prefix("tle").ok_or(TokenError::Prefix)?;
    match digits.parse::<u32>() {
        _ if prefix == PREFIX => Ok(()),
        Ok(found) if found != 1 => Err(TokenError::Version { found }),
        _ => Err(TokenError::Prefix),
    }
}

fn checksum(front: &str) -> String {
    Sha256::digest(front.as_bytes()).iter().take(CHECKSUM_LEN / 2).map(|byte| format!("{byte:02x}")).collect()
}

fn bytes32(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> EnrollToken {
        EnrollToken {
            hub_https: "hub.example:8443".into(),
            hub_quic: "[::1]:4433".into(),
            server_name: "hub.example".into(),
            ca_sha256: [7; 32],
            id: "t-1".into(),
            secret: [0xa5; 32],
            device: DeviceId::parse("pump-7").unwrap(),
            issued_ms: 1_763_719_200_000,
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let text = token().encode();
        assert_eq!(EnrollToken::parse(&text).unwrap(), token());
        assert_eq!(EnrollToken::parse(&format!("  {text}\n")).unwrap(), token());
    }

    #[test]
    fn any_single_damaged_character_is_refused() {
        let text = token().encode();
        for at in 0..text.len() {
            for other in (b'!'..=b'~').filter(|b| *b != text.as_bytes()[at]) {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = other;
                let damaged = String::from_utf8(bytes).unwrap();
                assert!(EnrollToken::parse(&damaged).is_err(), "{damaged}");
            }
            let mut lost = text.clone();
            lost.remove(at);
            assert!(EnrollToken::parse(&lost).is_err(), "{lost}");
            assert!(EnrollToken::parse(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        let text = token().encode();
        assert_eq!(EnrollToken::parse("hello"), Err(TokenError::Prefix));
        assert_eq!(EnrollToken::parse(""), Err(TokenError::Prefix));
        assert_eq!(EnrollToken::parse("tle1"), Err(TokenError::Truncated));
        assert_eq!(
            EnrollToken::parse(&text.replace("tle1.", "tle2.")),
            Err(TokenError::Version { found: 2 })
        );
        assert_eq!(EnrollToken::parse(&text.replace("tle1.", "tle01.")), Err(TokenError::Prefix));
        assert_eq!(EnrollToken::parse(&text[..text.len() - 3]), Err(TokenError::Truncated));
        assert_eq!(EnrollToken::parse(&text[..text.len() - 40]), Err(TokenError::Truncated));
        assert_eq!(EnrollToken::parse(&text.replace("tle1.ey", "tle1.fy")), Err(TokenError::Damaged));
        let long = "tle1.".to_owned() + &"a".repeat(TOKEN_BYTES_MAX);
        assert_eq!(EnrollToken::parse(&long), Err(TokenError::TooLong { found: TOKEN_BYTES_MAX + 5 }));
        let mut bad = token();
        bad.hub_quic = "hub.example".into();
        assert_eq!(EnrollToken::parse(&bad.encode()), Err(TokenError::Content { part: "QUIC address" }));
    }

    #[test]
    fn debug_and_errors_keep_the_secret() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("pump-7"));
        assert!(!shown.contains("secret") && !shown.contains("165"), "{shown}");
    }
}
