//! JSON in messages of MQTT, HTTP and CoAP: where points stand in them, and what messages say.
//!
//! Nothing here speaks to a broker or a device: a source hands on topic and payload, and [`Mapping`] says what is in
//! them.

mod mapping;

use std::fmt;

pub use self::mapping::{Mapping, Message, MessageError, PAYLOAD_BYTES_MAX, found, write};

use crate::point::Place;

/// Longest topic or path in bytes.
const TOPIC_BYTES_MAX: usize = 512;
/// What stands for the device in topics.
pub const DEVICE: &str = "{device}";

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

impl Pointer {
    /// Checks the text.
    ///
    /// # Errors
    /// It is none; says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if escaped && (text.is_empty() || text.starts_with('/')) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{text:?} is no JSON pointer; allowed are for example /temperature and /sensors/0/value"))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes an address apart: `topic#/pointer`. A topic that does not name the device is below `root`.
///
/// # Errors
/// It is none; says what is allowed.
pub fn place(address: &str, root: &str) -> Result<Place, String> {
    let (topic, pointer) = match address.split_once('#') {
        Some((topic, pointer)) => (topic, Some(Pointer::parse(pointer)?)),
        None => (address, None),
    };
    if topic.contains('+') || topic.starts_with('/') || topic.ends_with('/') || topic.len() > TOPIC_BYTES_MAX
    {
        return Err(format!(
            "{topic:?} is no topic; allowed are for example status/switch:0, without + and #"
        ));
    }
    let topic = match (topic, root) {
        (topic, _) if topic.contains(DEVICE) => topic.to_owned(),
        ("", root) => root.to_owned(),
        (topic, "") => topic.to_owned(),
        (topic, root) => format!("{root}/{topic}"),
    };
    if topic.matches(DEVICE).count() > 1 {
        return Err(format!("{topic:?} names {DEVICE} twice"));
    }
    Ok(Place::Message { topic, pointer })
}

#[cfg(test)]
mod tests;
