//! Profiles of device families.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tideline_profiles::section::{Command, Interlock, Scalar};
use tideline_profiles::{Allowed, Point, Profile};
use utoipa::ToSchema;

use crate::profiles::{self, Agreement, Found, Origin};

/// Where a profile is from
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProfileOrigin {
    /// It ships with the hub
    Shipped,
    /// An operator gave it
    Given,
    /// The hub does not have it: agents name it
    Unknown,
}

/// Whether hub and agent mean the same by the name of a profile
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProfileAgreement {
    /// The hub has the version that the agent has
    Same,
    /// The agent has another version than any that the hub has; what is shown here is by the hub's newest
    Other,
    /// The agent does not say which version it has
    Untold,
}

impl From<Agreement> for ProfileAgreement {
    fn from(agreement: Agreement) -> Self {
        match agreement {
            Agreement::Same => Self::Same,
            Agreement::Other => Self::Other,
            Agreement::Untold => Self::Untold,
        }
    }
}

/// A profile in a list
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileInfo {
    /// The name of the family
    pub name: String,
    /// What it is, for lists
    pub title: String,
    /// The maker
    pub vendor: String,
    /// The maker's name of the model
    pub model: String,
    /// How its devices speak; empty where they have no protocol
    pub protocol: String,
    /// Where it is from
    pub origin: ProfileOrigin,
    /// Of one that was given, counted from 1
    #[schema(required)]
    pub version: Option<u64>,
    /// Of what it says, in hex; the same text with other comments has the same
    #[schema(required)]
    pub digest: Option<String>,
    /// Who gave it
    #[schema(required)]
    pub by: Option<String>,
    /// When it was given, Unix ms
    #[schema(required)]
    pub at_ms: Option<i64>,
    /// Devices that are read by a profile of this name
    pub devices: u64,
    /// Those of them whose agent has a version that the hub does not have
    pub others: u64,
}

impl ProfileInfo {
    /// One that the hub has.
    #[must_use]
    pub fn of(found: &Found, (devices, others): (u64, u64)) -> Self {
        let (profile, identity) = (&found.profile, found.profile.identity());
        let (origin, version, by, at_ms) = match &found.origin {
            Origin::Shipped => (ProfileOrigin::Shipped, None, None, None),
            Origin::Given { version, by, at_ms } => {
                (ProfileOrigin::Given, Some(*version), Some(by.clone()), Some(*at_ms))
            }
        };
        Self {
            name: profile.name().to_owned(),
            title: identity.title.clone(),
            vendor: identity.vendor.clone(),
            model: identity.model.clone(),
            protocol: profile.protocol().as_str().to_owned(),
            origin,
            version,
            digest: Some(profiles::digest(profile)),
            by,
            at_ms,
            devices,
            others,
        }
    }

    /// One that agents name and the hub does not have.
    #[must_use]
    pub fn unknown(name: String, (devices, others): (u64, u64)) -> Self {
        Self {
            name,
            title: String::new(),
            vendor: String::new(),
            model: String::new(),
            protocol: String::new(),
            origin: ProfileOrigin::Unknown,
            version: None,
            digest: None,
            by: None,
            at_ms: None,
            devices,
            others,
        }
    }
}

/// All profiles
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ProfileList {
    /// By their names
    pub profiles: Vec<ProfileInfo>,
}

/// A point of a profile
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProfilePoint {
    /// Its id; one that ends in /* stands for all below it
    pub id: String,
    /// Its name for people; empty when it has none
    pub name: String,
    /// Its unit as a UCUM code; empty when it has none
    pub unit: String,
    /// float, int, bool or text
    pub kind: String,
    /// The least number
    #[schema(required)]
    pub min: Option<f64>,
    /// The greatest number
    #[schema(required)]
    pub max: Option<f64>,
    /// The texts that it may have; any when there are none
    pub values: Vec<String>,
    /// Whether it can be read
    pub reads: bool,
    /// Whether it can be written
    pub writes: bool,
}

/// A command of a profile
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProfileCommand {
    /// Its name in the profile
    pub name: String,
    /// Its name for people; that in the profile when it says no other
    pub title: String,
    /// Which point it writes
    pub point: String,
    /// The only value; null of one that takes several
    #[schema(required)]
    pub value: Option<Value>,
    /// Of which kind its values are: float, int, bool or text
    pub kind: String,
    /// The unit of its values as a UCUM code; empty when they have none
    pub unit: String,
    /// The least number
    #[schema(required)]
    pub min: Option<f64>,
    /// The greatest number
    #[schema(required)]
    pub max: Option<f64>,
    /// The texts that it takes; any when there are none
    pub values: Vec<String>,
    /// Whether people are asked once more before it is sent
    pub confirm: bool,
    /// Longest time until the device has done it
    #[schema(required)]
    pub timeout_ms: Option<u32>,
    /// What must hold before, which the agent judges, in words
    pub interlocks: Vec<String>,
}

/// How devices get new firmware, and how versions are compared
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileFirmware {
    /// none, url, upload or package; nothing is rolled out yet
    pub method: String,
    /// semver, date, number or text
    pub versions: String,
    /// The versions that the profile is for; empty for any
    pub range: String,
    /// The hardware revisions that it is for; any when there are none
    pub hardware: Vec<String>,
    /// How names of its files end
    pub suffixes: Vec<String>,
    /// Largest file
    #[schema(required)]
    pub bytes_max: Option<u64>,
    /// The first bytes of its files, in hex
    #[schema(required)]
    pub magic: Option<String>,
    /// The point that is told where the firmware lies
    #[schema(required)]
    pub url_point: Option<String>,
}

/// What a profile says of points, commands and firmware
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProfileSheet {
    /// By their ids
    pub points: Vec<ProfilePoint>,
    /// By their names
    pub commands: Vec<ProfileCommand>,
    /// Its section firmware
    pub firmware: ProfileFirmware,
    /// What it says that has no effect, with the reason
    pub notes: Vec<String>,
}

/// A version of a profile that was given
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileVersion {
    /// Counted from 1
    pub version: u64,
    /// Of what it says, in hex
    pub digest: String,
    /// Who gave it
    pub by: String,
    /// When, Unix ms
    pub at_ms: i64,
}

/// One profile
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ProfileAnswer {
    /// What stands in lists
    #[serde(flatten)]
    pub info: ProfileInfo,
    /// What it says
    pub sheet: ProfileSheet,
    /// As it was given, or ships
    pub text: String,
    /// Those that are kept of one that was given, newest first
    pub versions: Vec<ProfileVersion>,
}

/// The profile that a device is read by, as it is for its firmware
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceProfile {
    /// The device
    pub device: String,
    /// The name of its profile, as its agent says
    pub profile: String,
    /// Where the hub's is from; unknown where it has none of this name, and then nothing else is known
    pub origin: ProfileOrigin,
    /// Of one that was given
    #[schema(required)]
    pub version: Option<u64>,
    /// Whether the agent has the same
    #[schema(required)]
    pub agreement: Option<ProfileAgreement>,
    /// What it says
    #[schema(required)]
    pub sheet: Option<ProfileSheet>,
}

#[expect(clippy::cast_precision_loss, reason = "limits are shown, and judged by the agent")]
fn limits(allowed: &Allowed) -> (Option<f64>, Option<f64>) {
    let known = |end: f64, widest: f64| Some(end).filter(|end| end.abs() < widest.abs());
    match allowed {
        Allowed::Float { min, max } => (known(*min, f64::MIN), known(*max, f64::MAX)),
        Allowed::Int { min, max } => {
            (known(*min as f64, i64::MIN as f64), known(*max as f64, i64::MAX as f64))
        }
        Allowed::Bool | Allowed::Text { .. } => (None, None),
    }
}

fn texts(allowed: &Allowed) -> Vec<String> {
    if let Allowed::Text { values, .. } = allowed { values.clone() } else { Vec::new() }
}

fn scalar(value: &Scalar) -> Value {
    match value {
        Scalar::Bool(yes) => Value::from(*yes),
        Scalar::Number(number) => number.whole().map_or_else(|| Value::from(number.float()), Value::from),
        Scalar::Text(text) => Value::from(text.as_str()),
    }
}

fn point(id: &str, point: &Point) -> ProfilePoint {
    let (min, max) = limits(&point.allowed);
    ProfilePoint {
        id: id.to_owned(),
        name: point.name.clone(),
        unit: point.unit.clone(),
        kind: point.allowed.kind().as_str().to_owned(),
        min,
        max,
        values: texts(&point.allowed),
        reads: point.access.reads(),
        writes: point.access.writes(),
    }
}

fn command(profile: &Profile, name: &str, command: &Command) -> ProfileCommand {
    let point = profile.point(&command.point);
    let (least, greatest) = point.map(|point| limits(&point.allowed)).unwrap_or_default();
    let narrower = |own: Option<f64>, other: Option<f64>, pick: fn(f64, f64) -> f64| match (own, other) {
        (Some(own), Some(other)) => Some(pick(own, other)),
        (own, other) => own.or(other),
    };
    let title = if command.title.is_empty() { name } else { &command.title };
    ProfileCommand {
        name: name.to_owned(),
        title: title.to_owned(),
        point: command.point.clone(),
        value: command.value.as_ref().map(scalar),
        kind: point.map(|point| point.allowed.kind().as_str()).unwrap_or_default().to_owned(),
        unit: point.map(|point| point.unit.clone()).unwrap_or_default(),
        min: narrower(command.min.map(|min| min.float()), least, f64::max),
        max: narrower(command.max.map(|max| max.float()), greatest, f64::min),
        values: point.map(|point| texts(&point.allowed)).unwrap_or_default(),
        confirm: command.confirm,
        timeout_ms: command.timeout_ms,
        interlocks: command.interlocks.iter().map(interlock).collect(),
    }
}

/// An interlock in words.
fn interlock(interlock: &Interlock) -> String {
    let mut parts = Vec::new();
    if !interlock.values.is_empty() {
        let values: Vec<String> = interlock.values.iter().map(|value| value.value().to_string()).collect();
        parts.push(format!("is {}", values.join(" or ")));
    }
    parts.extend(interlock.min.map(|min| format!("is {min} or more")));
    parts.extend(interlock.max.map(|max| format!("is {max} or less")));
    let rule = format!("{} {}", interlock.point, parts.join(" and "));
    if interlock.title.is_empty() { rule } else { format!("{} ({rule})", interlock.title) }
}

impl ProfileSheet {
    /// What a profile says.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let firmware = profile.firmware();
        Self {
            points: profile.points().map(|(id, found)| point(id, found)).collect(),
            commands: profile.commands().iter().map(|(name, found)| command(profile, name, found)).collect(),
            firmware: ProfileFirmware {
                method: firmware.method.as_str().to_owned(),
                versions: firmware.versions.as_str().to_owned(),
                range: profile.identity().firmware.clone(),
                hardware: profile.hardware().into_iter().map(str::to_owned).collect(),
                suffixes: firmware.suffixes.clone(),
                bytes_max: firmware.bytes_max,
                magic: firmware.magic.clone(),
                url_point: firmware.url_point.clone(),
            },
            notes: profile.unused(),
        }
    }
}
