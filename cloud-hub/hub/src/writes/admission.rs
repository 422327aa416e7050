//! Which devices a token may write for, and those that it makes.

use std::fmt;
use std::str::FromStr;

use tideline_protocol::model::{AgentId, DeviceId};

use super::reserved;
use crate::hub::Hub;
use crate::metadata::{Changes, DeviceRecord, MetadataError, WriteTokenRecord};
use crate::registry::DEVICES_MAX;

/// Most devices and patterns that a token is made for.
pub const DEVICES_PER_TOKEN_MAX: usize = 64;

/// The devices that a token may write for: one, or all whose ids begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicePattern {
    /// This one.
    Exact(DeviceId),
    /// All whose ids begin so; all at all when it is empty.
    Prefix(String),
}

impl DevicePattern {
    fn fits(&self, device: &DeviceId) -> bool {
        match self {
            Self::Exact(own) => own == device,
            Self::Prefix(prefix) => device.as_str().starts_with(prefix),
        }
    }
}

impl FromStr for DevicePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |error| format!("{error}; a `*` at its end stands for any more of it");
        let pattern = match text.strip_suffix('*') {
            Some("") => return Ok(Self::Prefix(String::new())),
            Some(prefix) => DeviceId::parse(prefix).map(|id| Self::Prefix(id.to_string())),
            None => DeviceId::parse(text).map(Self::Exact),
        };
        pattern.map_err(allowed)
    }
}

impl fmt::Display for DevicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(device) => device.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// The device of readings that name none: that of a token for one.
#[must_use]
pub fn only_device(token: &WriteTokenRecord) -> Option<DeviceId> {
    match token.devices.as_slice() {
        [one] => match one.parse() {
            Ok(DevicePattern::Exact(device)) => Some(device),
            _ => None,
        },
        _ => None,
    }
}

/// Decides on the devices of one request.
pub struct Admission<'a> {
    hub: &'a Hub,
    token: &'a WriteTokenRecord,
    writer: &'a AgentId,
    patterns: Vec<DevicePattern>,
    // Let in, and not registered yet.
    new: Vec<DeviceId>,
    failed: Option<MetadataError>,
}

impl<'a> Admission<'a> {
    /// For a request with this token.
    #[must_use]
    pub fn new(hub: &'a Hub, token: &'a WriteTokenRecord, writer: &'a AgentId) -> Self {
        // They were parsed before they were kept.
        let patterns = token.devices.iter().filter_map(|text| text.parse().ok()).collect();
        Self { hub, token, writer, patterns, new: Vec::new(), failed: None }
    }

    /// Whether readings of a device are taken, or why not.
    ///
    /// # Errors
    /// They are not; the text says why and what is allowed.
    pub fn admit(&mut self, device: &DeviceId) -> Result<(), String> {
        if let Some(reason) = reserved(device.as_str()) {
            return Err(reason);
        }
        if !self.patterns.iter().any(|pattern| pattern.fits(device)) {
            let allowed = self.token.devices.join(", ");
            return Err(format!("this token may not write for device {device}; allowed are {allowed}"));
        }
        let known = self.known(device).map_err(|error| {
            self.failed = Some(error);
            "the registry cannot be read".to_owned()
        })?;
        match known {
            Known::Registered => Ok(()),
            Known::Revoked => Err(format!("device {device} was revoked")),
            Known::Not if self.token.registered_only => Err(format!(
                "device {device} is not registered, and this token makes none: `cloud-hub device add {device} --behind {}` does that",
                self.writer
            )),
            Known::Full => {
                Err(format!("device {device} is not registered, and {DEVICES_MAX} are, which is the limit"))
            }
            Known::Not => {
                self.new.push(device.clone());
                Ok(())
            }
        }
    }

    fn known(&self, device: &DeviceId) -> Result<Known, MetadataError> {
        let metadata = &self.hub.metadata;
        let Some(record) = metadata.find::<DeviceRecord>(device.as_str())? else {
            let full = metadata.count::<DeviceRecord>()?.saturating_add(self.new.len() as u64) >= DEVICES_MAX;
            return Ok(if full { Known::Full } else { Known::Not });
        };
        // Who is shut out, is so with all that is behind it.
        let owner = metadata.find::<DeviceRecord>(&record.agent)?;
        let revoked = record.revoked || owner.is_some_and(|owner| owner.revoked);
        Ok(if revoked { Known::Revoked } else { Known::Registered })
    }

    /// Registers behind the writer what was let in and is not registered yet, of those that `used` says.
    ///
    /// # Errors
    /// The registry failed, also while devices were let in.
    pub fn register(self, used: impl Fn(&DeviceId) -> bool) -> Result<(), MetadataError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let record = DeviceRecord::behind(self.writer.to_string(), self.hub.now_ms());
        let new: Vec<DeviceId> = self.new.into_iter().filter(used).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.hub.metadata.change(|changes: &mut Changes| {
            for device in &new {
                if changes.find::<DeviceRecord>(device.as_str())?.is_none() {
                    changes.put(device.as_str(), &record)?;
                }
            }
            Ok::<_, MetadataError>(())
        })?;
        tracing::info!(writer = %self.writer, devices = new.len(), "devices registered that were written for");
        Ok(())
    }
}

enum Known {
    Registered,
    Revoked,
    Not,
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_reads_back_and_says_what_is_allowed() {
        for text in ["pump-7", "site3-*", "*"] {
            assert_eq!(text.parse::<DevicePattern>().map(|p| p.to_string()), Ok(text.to_owned()));
        }
        let fits = |pattern: &str, device| {
            pattern.parse::<DevicePattern>().unwrap().fits(&DeviceId::parse(device).unwrap())
        };
        assert!(fits("pump-7", "pump-7") && !fits("pump-7", "pump-70"));
        assert!(fits("pump-*", "pump-7") && fits("pump-*", "pump-") && !fits("pump-*", "pum"));
        assert!(fits("*", "anything"));
        for bad in ["", "a b", "a*b", "**", "a/b"] {
            assert!(bad.parse::<DevicePattern>().unwrap_err().contains("allowed are"), "{bad}");
        }
    }
}
