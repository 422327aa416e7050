//! Firmware profiles: what the agent needs to know of a device family.
//!
//! A profile is data (`<family>/profile.toml`): which devices are meant, what they measure and where that stands in
//! their protocol, how often it is collected, what is done with it. This crate reads profiles and turns what devices
//! send into values; it must never let a value pass that the profile rules out, and it opens nothing.
//!
//! ```toml
//! format = 1
//! name = "pump"
//!
//! [modbus]                                                         # addresses are registers
//! byte_order = "big"
//!
//! [points]
//! flow = { unit = "l/s", min = 0, max = 90.5, name = "Flow", address = "input:0", encoding = "u16", scale = 0.1 }
//! starts = { type = "int", unit = "1", min = 0, max = 1_000_000, address = "input:1", encoding = "u32" }
//! running = { type = "bool", address = "coil:0" }
//! state = { type = "text", address = "holding:8", encoding = "u16", enum = { 0 = "off", 1 = "on" } }
//! ```
//!
//! Without a protocol's table points stand under their ids, as rows of files and the host's metrics do:
//!
//! ```toml
//! name = "pump"
//!
//! [points]
//! flow = { unit = "l/s", min = 0, max = 90.5, name = "Flow" }      # a float, unless it says otherwise
//! state = { type = "text", values = ["off", "on", "fault"] }       # of these only
//! firmware = { type = "text", bytes_max = 40 }                     # at most 4096
//! "valve/*" = { unit = "%", min = 0, max = 100, name = "Valve *" } # all below it; `*` is what follows
//! ```
//!
//! All keys are in [`form`], whose types are the format. What a `[[pipeline]]` says is read by the agent alone: its patterns are
//! of points, as `from = ["flow"]`, and stand for those of the devices of this profile.

mod allowed;
mod compile;
pub mod conversion;
pub mod detect;
mod digest;
pub mod encoding;
pub mod form;
pub mod json;
mod keeps;
pub mod modbus;
pub mod names;
pub mod nmea;
pub mod number;
pub mod opcua;
pub mod overlay;
pub mod point;
mod read;
pub mod samples;
pub mod schema;
pub mod shipped;
pub mod simulate;
pub mod sunspec;
mod unused;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use tideline_protocol::model::{DeviceId, NAME_BYTES_MAX, PointId, SeriesDef};
use tideline_protocol::pattern::matches;
use tideline_protocol::value::Value;

pub use self::allowed::{Allowed, RejectedValue, check_kind};
use self::compile::Contents;
pub use self::conversion::{BadValue, EncodeError, Reason};
pub use self::form::point::Access;
pub use self::form::protocol::Protocol;
pub use self::form::section;
pub use self::overlay::Varying;
use self::overlay::{Edition, Version, Versions};
pub use self::point::{Place, Point};
pub use self::read::{meant, unknown as unknown_key};
pub use self::write::{Granted, RefusedWrite};

/// The profile of a Linux host's own metrics.
pub const LINUX_HOST: &str = include_str!("../linux-host/profile.toml");

/// A device family. A clone shares its contents.
#[derive(Debug, Clone)]
pub struct Profile {
    contents: Arc<Contents>,
    source: Arc<Source>,
    // The devices that it was made for, as far as somebody has said which.
    made_for: Edition,
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.contents, &other.contents) || self.contents == other.contents
    }
}

/// What a profile was read from, for its overlays.
#[derive(Debug)]
struct Source {
    file: String,
    text: String,
    // Computed when it is first asked for.
    digest: OnceLock<[u8; 16]>,
}

/// Why a profile is not taken: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ProfileError {
    /// One line each, with the line of the file.
    pub problems: Vec<String>,
}

/// Why there is no profile for a firmware version, or for a hardware revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// The device's text is none.
    #[error("{text:?} is no version; allowed are {allowed}")]
    NoVersion {
        /// What the device has.
        text: String,
        /// What is taken.
        allowed: &'static str,
    },
    /// The profile is for others.
    #[error("profile {profile} is for firmware {allowed}, not for {found}")]
    OtherVersions {
        /// Which profile.
        profile: String,
        /// For which it is.
        allowed: String,
        /// What the device has.
        found: String,
    },
    /// The profile is for other revisions.
    #[error("profile {profile} is for hardware {allowed}, not for {found}")]
    OtherHardware {
        /// Which profile.
        profile: String,
        /// For which it is.
        allowed: String,
        /// What the device has.
        found: String,
    },
    /// Several overlays together make no profile.
    #[error("{0}")]
    Profile(#[from] ProfileError),
}

impl Profile {
    /// Parses a profile; `file` names it in errors.
    ///
    /// # Errors
    /// All problems at once, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        compile::profile(file, text)
    }

    /// The profile of a Linux host.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub fn linux_host() -> Result<Self, ProfileError> {
        Self::parse("linux-host/profile.toml", LINUX_HOST)
    }

    /// The profile as it is for a device with this firmware: with all overlays for its version, in their order.
    /// Without a version it is as it stands.
    ///
    /// # Errors
    /// The text is no version, or one that the profile is not for.
    pub fn for_firmware(&self, version: Option<&str>) -> Result<Self, FirmwareError> {
        let Some(text) = version else { return Ok(self.clone()) };
        let firmware = Some(self.version(text)?);
        Ok(self.of_edition(Edition { firmware, ..self.made_for.clone() })?)
    }

    /// The profile as it is for a device of this hardware revision: with all overlays for that, too. Without one it is as it stands.
    ///
    /// # Errors
    /// It is none of those that the profile is for.
    pub fn for_hardware(&self, revision: Option<&str>) -> Result<Self, FirmwareError> {
        let Some(found) = revision else { return Ok(self.clone()) };
        let known = self.hardware();
        if !known.contains(&found) {
            let allowed = if known.is_empty() { "of any revision".to_owned() } else { known.join(", ") };
            let (profile, found) = (self.name().to_owned(), found.chars().take(40).collect());
            return Err(FirmwareError::OtherHardware { profile, allowed, found });
        }
        Ok(self.of_edition(Edition { hardware: Some(found.to_owned()), ..self.made_for.clone() })?)
    }

    /// The hardware revisions that it is for, those of its overlays among them; none where it makes no difference.
    #[must_use]
    pub fn hardware(&self) -> Vec<&str> {
        let of_overlays = self.contents.overlays.iter().flat_map(|when| when.hardware.iter().flatten());
        let mut all: Vec<&str> = overlay::revisions(&self.contents.identity.hardware).collect();
        all.extend(of_overlays.map(String::as_str));
        all.sort_unstable();
        all.dedup();
        all
    }

    fn of_edition(&self, edition: Edition) -> Result<Self, ProfileError> {
        if self.suits(&edition) {
            return Ok(Self { made_for: edition, ..self.clone() });
        }
        let mut made = compile::for_edition(&self.source, &edition)?;
        made.overlays.clone_from(&self.contents.overlays);
        made.varying.clone_from(&self.contents.varying);
        made.by_hardware.clone_from(&self.contents.by_hardware);
        Ok(Self { contents: Arc::new(made), source: Arc::clone(&self.source), made_for: edition })
    }

    /// Whether it is as it is for a device with this firmware: made for it, or for one that has the same overlays.
    ///
    /// # Errors
    /// As [`Profile::for_firmware`].
    pub fn is_for(&self, version: &str) -> Result<bool, FirmwareError> {
        let firmware = Some(self.version(version)?);
        Ok(self.suits(&Edition { firmware, ..self.made_for.clone() }))
    }

    fn version(&self, text: &str) -> Result<Version, FirmwareError> {
        let scheme = self.firmware().versions;
        let cut = || text.trim().chars().take(40).collect::<String>();
        let found = Version::parse(scheme, text).ok_or_else(|| {
            let allowed = match scheme {
                section::VersionScheme::Semver => "texts with numbers, as 1.4.2",
                section::VersionScheme::Date => "texts with a date, as 20240613-1312",
                section::VersionScheme::Number => "texts with a number, as 17",
                section::VersionScheme::Text => "all but an empty text",
            };
            FirmwareError::NoVersion { text: cut(), allowed }
        })?;
        let allowed = &self.identity().firmware;
        if !allowed.is_empty()
            && !Versions::parse(scheme, allowed).is_ok_and(|versions| versions.have(&found))
        {
            let (profile, allowed) = (self.name().to_owned(), allowed.clone());
            let found = match &found {
                Version::Numbers(numbers) if scheme == section::VersionScheme::Semver => numbers.to_string(),
                _ => cut(),
            };
            return Err(FirmwareError::OtherVersions { profile, allowed, found });
        }
        Ok(found)
    }

    fn suits(&self, edition: &Edition) -> bool {
        self.contents.overlays.iter().all(|overlay| overlay.holds(&self.made_for) == overlay.holds(edition))
    }

    /// Whether somebody has said which firmware it is for.
    #[must_use]
    pub const fn has_version(&self) -> bool {
        self.made_for.firmware.is_some()
    }

    /// What of it hangs on the firmware that a device has.
    #[must_use]
    pub fn varying(&self) -> &Varying {
        &self.contents.varying
    }

    /// Whether something of it hangs on the hardware revision, and nobody has said which one the device has.
    #[must_use]
    pub fn lacks_hardware(&self) -> bool {
        self.made_for.hardware.is_none() && !self.contents.by_hardware.is_nothing()
    }

    /// Whether what this point says hangs on the hardware revision, and nobody has said which one the device has.
    #[must_use]
    pub fn lacks_hardware_of(&self, point: &str) -> bool {
        self.lacks_hardware() && self.contents.by_hardware.has(point)
    }

    /// The file that it was read from, as errors name it, and its text. It says what others than this crate read, too.
    #[must_use]
    pub fn text(&self) -> (&str, &str) {
        (&self.source.file, &self.source.text)
    }

    /// The name of the family.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.contents.name
    }

    /// Which devices are meant.
    #[must_use]
    pub fn identity(&self) -> &section::Identity {
        &self.contents.identity
    }

    /// How its addresses are meant.
    #[must_use]
    pub fn protocol(&self) -> &Protocol {
        &self.contents.protocol
    }

    /// All points by id, families among them.
    pub fn points(&self) -> impl Iterator<Item = (&str, &Point)> {
        self.contents.points.iter().map(|(id, point)| (id.as_str(), point))
    }

    /// What becomes of what no point names; it is left out when there is none.
    #[must_use]
    pub fn others(&self) -> Option<&section::Others> {
        self.contents.others.as_ref()
    }

    /// What is collected together, by name.
    #[must_use]
    pub fn collection(&self) -> &BTreeMap<String, section::Collection> {
        &self.contents.collection
    }

    /// How readings travel and are kept, by name.
    #[must_use]
    pub fn delivery(&self) -> &BTreeMap<String, section::Delivery> {
        &self.contents.delivery
    }

    /// How readings of a point travel: the first delivery, by name, that has it, and one without points after all others.
    #[must_use]
    pub fn delivery_of(&self, point: &str) -> Option<&section::Delivery> {
        let all = || self.contents.delivery.values();
        let named = all().find(|one| one.points.iter().any(|pattern| matches(pattern, point)));
        named.or_else(|| all().find(|one| one.points.is_empty()))
    }

    /// Limits that devices begin with, by name.
    #[must_use]
    pub fn alarms(&self) -> &BTreeMap<String, section::Alarm> {
        &self.contents.alarms
    }

    /// What a device's page shows.
    #[must_use]
    pub fn board(&self) -> &section::Board {
        &self.contents.board
    }

    /// What devices can be told, by name.
    #[must_use]
    pub fn commands(&self) -> &BTreeMap<String, section::Command> {
        &self.contents.commands
    }

    /// How devices get new firmware.
    #[must_use]
    pub fn firmware(&self) -> &section::Firmware {
        &self.contents.firmware
    }

    /// The point of that name, or the family of points that it belongs to.
    #[must_use]
    pub fn point(&self, name: &str) -> Option<&Point> {
        let points = &self.contents.points;
        points.get(name).or_else(|| {
            let family = name.split_once('/').map(|(family, _)| format!("{family}/*"))?;
            points.get(&family)
        })
    }

    /// The unit of a point; empty when unknown.
    #[must_use]
    pub fn unit(&self, name: &str) -> &str {
        self.point(name).map_or("", |point| &point.unit)
    }

    /// A series of this point of a device, with its unit, its kind and its name for people.
    #[must_use]
    pub fn series(&self, device: DeviceId, id: PointId) -> SeriesDef {
        let Some(point) = self.point(id.as_str()) else {
            return SeriesDef::new(device, id, String::new());
        };
        let rest = id.as_str().split_once('/').map_or("", |(_, rest)| rest);
        let name = point.name.replacen('*', rest, 1);
        // Its parts are not too long by themselves; cut between characters it still says what it is.
        let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
        let name = name.get(..end.unwrap_or(0)).unwrap_or_default();
        SeriesDef::new(device, id, point.unit.clone()).of_kind(point.allowed.kind()).named(name)
    }

    /// As [`Profile::series`], of a reading: a point that the profile does not name is of its value's kind.
    #[must_use]
    pub fn series_of(&self, device: DeviceId, id: PointId, value: &Value) -> SeriesDef {
        let is_known = self.point(id.as_str()).is_some();
        let series = self.series(device, id);
        if is_known { series } else { series.of_kind(value.kind().unwrap_or_default()) }
    }

    /// Judges a value, and gives it as one of the point's type. Null is allowed of every point.
    ///
    /// # Errors
    /// It is not finite, out of range, of another type, or of a point that the profile lacks.
    pub fn check(&self, name: &str, value: Value) -> Result<Value, RejectedValue> {
        let profile = self.name();
        match self.point(name) {
            Some(point) => {
                point.allowed.judge(&allowed::Whose { profile, point: name, unit: &point.unit }, value)
            }
            None => Err(RejectedValue::Unknown { point: name.to_owned(), profile: profile.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests;
