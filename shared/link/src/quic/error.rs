//! Why a link could not be made or has ended, sorted by whose fault it is.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;

use quinn::{ConnectionError, ReadError, StoppedError, TransportErrorCode, WriteError};
use tideline_protocol::wire::WireError;

use super::CLOSE_DONE;

/// Why a link could not be made or has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// This end cannot do what was asked: an address in use, a configuration without QUIC.
    #[error("local end: {reason}")]
    Local {
        /// What is wrong.
        reason: String,
    },
    /// There is no way to the peer.
    #[error("peer is unreachable: {reason}")]
    Unreachable {
        /// What is wrong.
        reason: String,
    },
    /// The peer does not answer, or no longer.
    #[error("peer does not answer")]
    TimedOut,
    /// This end does not accept the peer's certificate.
    #[error("certificate of the peer is not accepted: {reason}")]
    PeerCertificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The peer does not accept this end's certificate.
    #[error("peer does not accept this end's certificate: {reason}")]
    OwnCertificate {
        /// What the peer says.
        reason: String,
    },
    /// The peer closed the link with a code other than [`CLOSE_DONE`], or refused it.
    #[error("refused by the peer with code {code}: {reason}")]
    Refused {
        /// The application's code, or the transport's where it was refused in the handshake.
        code: u64,
        /// What the peer says, for people.
        reason: String,
    },
    /// The link was closed as it should be, by either end.
    #[error("link is closed")]
    Closed,
    /// The peer sent what is no frame.
    #[error("peer sent bad bytes: {0}")]
    Wire(#[from] WireError),
    /// The link broke.
    #[error("link is lost: {reason}")]
    Lost {
        /// What happened.
        reason: String,
    },
}

impl LinkError {
    pub(crate) fn config(error: impl Display) -> Self {
        Self::Local { reason: error.to_string() }
    }

    pub(super) fn bind(addr: SocketAddr, error: &io::Error) -> Self {
        Self::Local { reason: format!("cannot bind {addr}/udp: {error}") }
    }

    pub(super) fn lost(error: impl Display) -> Self {
        Self::Lost { reason: error.to_string() }
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::LocallyClosed => Self::Closed,
            ConnectionError::ApplicationClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                match close.error_code.into_inner() {
                    code if code == u64::from(CLOSE_DONE) => Self::Closed,
                    code => Self::Refused { code, reason },
                }
            }
            ConnectionError::TransportError(error) if is_certificate_alert(error.code) => {
                Self::PeerCertificate { reason: error.reason }
            }
            ConnectionError::ConnectionClosed(close) => {
                let reason = close.to_string();
                if is_certificate_alert(close.error_code) {
                    Self::OwnCertificate { reason }
                } else if close.error_code == TransportErrorCode::CONNECTION_REFUSED
                    || tls_alert(close.error_code) == Some(ALERT_NO_APPLICATION_PROTOCOL)
                {
                    Self::Refused { code: close.error_code.into(), reason }
                } else {
                    Self::Lost { reason }
                }
            }
            other => Self::lost(other),
        }
    }
}

impl From<WriteError> for LinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            other => Self::lost(other),
        }
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            other => Self::lost(other),
        }
    }
}

impl From<StoppedError> for LinkError {
    fn from(error: StoppedError) -> Self {
        match error {
            StoppedError::ConnectionLost(error) => error.into(),
            other @ StoppedError::ZeroRttRejected => Self::lost(other),
        }
    }
}

/// QUIC carries a TLS alert as 0x100 plus its number (RFC 9001, section 4.8).
const CRYPTO_ERROR_BASE: u64 = 0x100;
/// RFC 7301.
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;

fn tls_alert(code: TransportErrorCode) -> Option<u64> {
    u64::from(code).checked_sub(CRYPTO_ERROR_BASE).filter(|alert| *alert < 0x100)
}

/// Whether the alert speaks of a certificate (RFC 8446, section 6.2): bad, unsupported, revoked,
/// expired, unknown, of an unknown authority, access denied, wrongly signed, or missing.
fn is_certificate_alert(code: TransportErrorCode) -> bool {
    tls_alert(code).and_then(|alert| u8::try_from(alert).ok()).is_some_and(is_certificate_alert_number)
}

/// As [`is_certificate_alert`], by the alert's own number.
pub(crate) const fn is_certificate_alert_number(alert: u8) -> bool {
    matches!(alert, 42..=46 | 48 | 49 | 51 | 116)
}
