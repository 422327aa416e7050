//! Which device and point a reading of another system is of.
//!
//! ```text
//! line protocol   weather,host=roof,site=a b temp=1.5   device roof      point weather/temp/site.a-x20b
//!                 weather,host=roof,site=a value=1.5    device roof      point weather/site.a
//! remote write    up{instance="plc-4:9100",job="node"}  device plc-4     point up/job.node/9100
//! ```
//! - The device is the value of the first of [`Mapping::device_keys`] that is there, or the one device that
//!   the token is for. A `:port` at the end of a label of remote write becomes the last part of the point.
//! - The point has the measurement or the metric's name; the field, unless that is `value`; then each other
//!   tag or label in the order of their names, as `name.value`; parted by `/`.
//! - Letters, digits, `_` and `-` stand for themselves; so does `.`, but not within the name of a tag or field.
//!   Any other byte is `-x` and two digits, as `-x20`. So is the `-` of a text that looks like that.
//! - A point of more than 64 bytes is cut, and ends with `//` and 16 digits of the SHA-256 of the whole.
//!
//! Two names never come to the same point, but for those that are cut, where that is as likely as two equal
//! halves of a SHA-256's first 128 bits.

use sha2::{Digest as _, Sha256};
use tideline_protocol::model::{DeviceId, ID_BYTES_MAX, PointId};

use crate::excerpt;

/// Parts that a cut point keeps of its hash, in bytes.
const HASH_BYTES: usize = 8;
/// What parts the beginning of a cut point from its hash; no other point has it.
const CUT: &str = "//";
/// The field that a line's measurement stands for.
const PLAIN_FIELD: &[u8] = b"value";

/// How names become devices, and which of them may be written for.
pub struct Mapping<'a> {
    /// Tags or labels that name the device; the first that is there counts.
    pub device_keys: &'a [String],
    /// The device of what has none of them.
    pub only_device: Option<DeviceId>,
    /// Whether a device may be written for, or why not; asked once for each device of a request.
    pub admit: &'a mut dyn FnMut(&DeviceId) -> Result<(), String>,
}

/// The names of tags or labels, with their values.
pub type Pairs<'a> = Vec<(std::borrow::Cow<'a, [u8]>, std::borrow::Cow<'a, [u8]>)>;

impl Mapping<'_> {
    /// Takes the device out of the pairs, as the text that names it.
    pub(crate) fn device<'p>(&self, pairs: &mut Pairs<'p>, what: &str) -> Result<DeviceName<'p>, String> {
        let at = self
            .device_keys
            .iter()
            .find_map(|key| pairs.iter().position(|(name, _)| name.as_ref() == key.as_bytes()));
        match (at, &self.only_device) {
            (Some(at), _) => {
                let (key, value) = pairs.swap_remove(at);
                Ok(DeviceName::Named(key, value))
            }
            (None, Some(only)) => Ok(DeviceName::Only(only.clone())),
            (None, None) => Err(format!(
                "it has no {what} that names its device; allowed are {}, or none for a token of one device",
                self.device_keys.join(", ")
            )),
        }
    }
}

/// What names the device of a line or time series.
#[derive(Debug, Clone)]
pub enum DeviceName<'a> {
    /// The token's only one.
    Only(DeviceId),
    /// A tag or label and its value.
    Named(std::borrow::Cow<'a, [u8]>, std::borrow::Cow<'a, [u8]>),
}

impl DeviceName<'_> {
    /// The device.
    pub(crate) fn parse(&self) -> Result<DeviceId, String> {
        match self {
            Self::Only(device) => Ok(device.clone()),
            Self::Named(key, value) => device_id(key, value, value),
        }
    }

    /// The device, and the port where its name ends with one.
    pub(crate) fn parse_with_port(&self) -> Result<(DeviceId, Option<&[u8]>), String> {
        let Self::Named(key, value) = self else { return self.parse().map(|device| (device, None)) };
        let port = value.iter().rposition(|byte| *byte == b':').and_then(|at| {
            let (host, port) = (value.get(..at)?, value.get(at + 1..)?);
            (!port.is_empty() && port.iter().all(u8::is_ascii_digit)).then_some((host, port))
        });
        match port {
            Some((host, port)) => Ok((device_id(key, host, value)?, Some(port))),
            None => Ok((device_id(key, value, value)?, None)),
        }
    }
}

fn device_id(key: &[u8], id: &[u8], value: &[u8]) -> Result<DeviceId, String> {
    let parsed = std::str::from_utf8(id).map_err(|_| "it is no UTF-8".to_owned());
    parsed
        .and_then(|id| DeviceId::parse(id).map_err(|error| error.to_string()))
        .map_err(|why| format!("{}={} names no device: {why}", String::from_utf8_lossy(key), excerpt(value)))
}

/// The point of a field of a measurement with these tags, which are in the order of their names.
pub(crate) fn point_of_field(measurement: &[u8], field: &[u8], tags: &Pairs<'_>) -> Result<PointId, String> {
    let mut text = String::with_capacity(ID_BYTES_MAX);
    part(&mut text, measurement, Dots::Stay);
    if field != PLAIN_FIELD {
        text.push('/');
        part(&mut text, field, Dots::Go);
    }
    pairs_of(&mut text, tags);
    point(text)
}

/// The point of a metric with these labels, which are in the order of their names.
pub(crate) fn point_of_metric(
    metric: &[u8],
    labels: &Pairs<'_>,
    port: Option<&[u8]>,
) -> Result<PointId, String> {
    let mut text = String::with_capacity(ID_BYTES_MAX);
    part(&mut text, metric, Dots::Stay);
    pairs_of(&mut text, labels);
    if let Some(port) = port {
        text.push('/');
        part(&mut text, port, Dots::Go);
    }
    point(text)
}

fn pairs_of(text: &mut String, pairs: &Pairs<'_>) {
    for (name, value) in pairs {
        text.push('/');
        part(text, name, Dots::Go);
        text.push('.');
        part(text, value, Dots::Stay);
    }
}

fn point(mut text: String) -> Result<PointId, String> {
    if text.len() > ID_BYTES_MAX {
        let hash = Sha256::digest(text.as_bytes());
        text.truncate(ID_BYTES_MAX - CUT.len() - 2 * HASH_BYTES);
        text.push_str(CUT);
        hash.iter().take(HASH_BYTES).for_each(|byte| hex(&mut text, *byte));
    }
    PointId::parse(&text).map_err(|error| error.to_string())
}

/// Whether dots stand for themselves: where one parts a name from its value, no other may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dots {
    Stay,
    Go,
}

fn part(text: &mut String, bytes: &[u8], dots: Dots) {
    for (at, byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'-' => !bytes.get(at..).is_some_and(is_escape),
            b'.' => dots == Dots::Stay,
            byte => byte.is_ascii_alphanumeric() || *byte == b'_',
        };
        if plain {
            text.push(char::from(*byte));
        } else {
            text.push_str("-x");
            hex(text, *byte);
        }
    }
}

fn is_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'-', b'x', high, low, ..] if is_hex(*high) && is_hex(*low))
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests;
