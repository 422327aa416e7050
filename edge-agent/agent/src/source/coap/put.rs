//! How putting a value at a resource ends (RFC 7252, 5.8.3): by what a server says, or does not say. No I/O.

use coap_lite::{MessageClass, Packet, ResponseType};

use super::message::BLOCK_SIZE;

/// Longest value that is put: it goes in one message.
pub const PUT_BYTES_MAX: usize = 16 << BLOCK_SIZE;
/// By the registry of content formats.
pub const TEXT: u16 = 0;
/// As [`TEXT`].
pub const JSON: u16 = 50;

/// How it ended, other than well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The resource is as it was.
    #[error("{0}")]
    Refused(String),
    /// Nobody knows.
    #[error("{0}")]
    Unknown(String),
}

/// What a response says.
///
/// # Errors
/// That it is not done, or not whether it is.
pub fn outcome(packet: &Packet) -> Result<(), PutError> {
    let MessageClass::Response(code) = &packet.header.code else {
        return Err(PutError::Unknown(format!("{:?} is no response", packet.header.code)));
    };
    let said = format!("the server says {code:?}");
    match code {
        ResponseType::Created | ResponseType::Changed => Ok(()),
        // It, or a proxy before it, failed on the way and does not say where; or it answers another request.
        ResponseType::InternalServerError
        | ResponseType::BadGateway
        | ResponseType::GatewayTimeout
        | ResponseType::Deleted
        | ResponseType::Valid
        | ResponseType::Content
        | ResponseType::Continue
        | ResponseType::UnKnown => Err(PutError::Unknown(said)),
        _ => Err(PutError::Refused(said)),
    }
}
