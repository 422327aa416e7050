//! The sections beside points and protocol: identity, collection, delivery, alarms, board, commands, firmware.

use schemars::JsonSchema;
use serde::Deserialize;
use tideline_protocol::model::Class;
use tideline_protocol::value::Value;

use crate::encoding::Encoding;
use crate::number::Number;

/// A value of a file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
}

impl Scalar {
    /// As a value of a reading.
    #[must_use]
    pub fn value(&self) -> Value {
        match self {
            Self::Bool(yes) => Value::Bool(*yes),
            Self::Number(Number::Whole(whole)) => Value::Int(*whole),
            Self::Number(Number::Real(real)) => Value::Float(*real),
            Self::Text(text) => Value::Text(text.as_str().into()),
        }
    }
}

/// `[identity]`: which devices are meant.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// The maker.
    pub vendor: String,
    /// The maker's name of the model, or of the models.
    pub model: String,
    /// What it is, for lists.
    pub title: String,
    /// The hardware revisions that the profile is for as it stands, with commas. Others are those of its overlays; which one a device
    /// has its configuration says, and points that differ are uncertain where it does not.
    pub hardware: String,
    /// The firmware versions that the profile is for, as ">=1.2, <2" or as firmware.versions has them; any when empty.
    pub firmware: String,
    /// The point that tells the firmware's version.
    pub firmware_point: Option<String>,
    /// The public documents that the profile's facts are from.
    pub documents: Vec<String>,
    /// How such a device is known; all of them have to hold. For Modbus and SunSpec alone: what speaks by itself, as Sparkplug and NMEA do, is found without it.
    pub detect: Vec<Detect>,
}

/// One thing that such a device tells.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// Where it stands, as of a point.
    pub address: String,
    /// How it is written there.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// The values of such devices; when there are none, it has to be there.
    #[serde(default)]
    pub values: Vec<Scalar>,
    /// The least number of such devices.
    #[serde(default)]
    pub min: Option<Number>,
    /// The greatest number of such devices.
    #[serde(default)]
    pub max: Option<Number>,
}

/// `[others]`: what becomes of what a device tells and no point names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Others {
    /// Names that are taken, with the type that they have: all that match one of these, where * stands for anything.
    pub take: Vec<String>,
    /// Names that are left out all the same.
    pub except: Vec<String>,
    /// Most points that are made so.
    pub points_max: Option<u32>,
}

/// One group of `[collection]`: what is collected together.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Collection {
    /// How often.
    #[schemars(range(min = 10, max = 86_400_000))]
    pub interval_ms: u32,
    /// Its points, where * stands for anything; points may name their group instead.
    pub points: Vec<String>,
    /// Whether only changes are sent: a reading whose value and quality are as those of the last one that was sent is not,
    /// unless that is about five readings ago (50 s of what is collected each 10 s or more often). What the agent holds back so
    /// is counted as unchanged, and its pipelines do not see it either.
    pub on_change: bool,
    /// A number that is no further than this from the last one that was sent is not sent, as with on_change; 0 is none.
    pub deadband: Option<f64>,
}

impl Collection {
    /// How often what no group speaks of is collected.
    pub const INTERVAL_MS: u32 = 10_000;
}

impl Default for Collection {
    fn default() -> Self {
        Self { interval_ms: Self::INTERVAL_MS, points: Vec::new(), on_change: false, deadband: None }
    }
}

/// What happens to readings when there is no more room for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The source waits.
    Block,
    /// The new ones are given up.
    DropNewest,
    /// The oldest are given up.
    #[default]
    DropOldest,
    /// Only the newest of each point is kept.
    KeepLatest,
    /// Of each span only the first, lowest, highest and last are kept.
    Downsample,
}

/// How wide the buckets of a rollup are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Rollup {
    /// A minute.
    #[serde(rename = "1m")]
    Minute,
    /// An hour.
    #[serde(rename = "1h")]
    Hour,
    /// A day.
    #[serde(rename = "1d")]
    Day,
}

/// One of `[delivery]`: how readings travel and are kept. Its readings go to a stream of the agent that is as this says, unless the
/// agent's configuration names a stream for the device or its source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Its points, where * stands for anything; all when there are none.
    pub points: Vec<String>,
    /// How urgent they are: alarm, state or live.
    #[schemars(with = "Urgency")]
    pub class: Class,
    /// What happens when the agent has no more room.
    pub when_full: WhenFull,
    /// How long the agent keeps them at most; as long as there is room when not said.
    pub expire_h: Option<u32>,
    /// How many days the hub keeps them, from 1 to 36500; never longer than its own retention, which holds when not said.
    pub keep_days: Option<u32>,
    /// Which rollups outlive them at the hub, for as long as it keeps those: all when not said, and none when empty.
    pub rollups: Option<Vec<Rollup>>,
}

/// Classes of delivery, for the schema.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Urgency {
    Alarm,
    State,
    Live,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    #[default]
    Warning,
    /// To be acted upon.
    Critical,
}

/// One of `[alarms]`: a limit that devices begin with. The agent judges it and tells of it as the point `alarm/NAME` of the
/// device, true from when it begins until it ends; with several conditions as `alarm/NAME-above` and so on, of each apart.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// Whose values.
    pub point: String,
    /// It begins above this.
    #[serde(default)]
    pub above: Option<f64>,
    /// It begins below this.
    #[serde(default)]
    pub below: Option<f64>,
    /// It begins with this value.
    #[serde(default)]
    pub equals: Option<Scalar>,
    /// It begins when there was no value for so long.
    #[serde(default)]
    pub no_data_s: Option<u32>,
    /// How far inside the limit a value has to be for it to end.
    #[serde(default)]
    pub hysteresis: f64,
    /// How long it has to hold before it begins.
    #[serde(default)]
    pub for_s: u32,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// What to tell people.
    #[serde(default)]
    pub title: String,
}

/// `[board]`: what a device's page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Board {
    /// From above.
    pub panels: Vec<Panel>,
}

/// How a panel shows its points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PanelKind {
    /// Lines along time.
    #[default]
    Chart,
    /// The newest values.
    Values,
    /// States along time.
    States,
    /// A pointer between the least and the greatest value.
    Gauge,
    /// A list.
    Table,
}

/// One part of a board.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// How it shows.
    #[serde(default)]
    pub kind: PanelKind,
    /// What it shows, where * stands for anything.
    pub points: Vec<String>,
}

/// What must hold before a command is carried out.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interlock {
    /// Whose newest value.
    pub point: String,
    /// It is one of these.
    #[serde(default)]
    pub values: Vec<Scalar>,
    /// It is not below this.
    #[serde(default)]
    pub min: Option<f64>,
    /// It is not above this.
    #[serde(default)]
    pub max: Option<f64>,
    /// What to tell people when it does not hold.
    #[serde(default)]
    pub title: String,
}

/// One of `[commands]`: what devices can be told.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Which point is written.
    pub point: String,
    /// Its name for people, in the web app and in lists; its own name when empty.
    #[serde(default)]
    pub title: String,
    /// The only value, for a command without one of its own.
    #[serde(default)]
    pub value: Option<Scalar>,
    /// The least number, where that is more than the point's.
    #[serde(default)]
    pub min: Option<Number>,
    /// The greatest number, where that is less than the point's.
    #[serde(default)]
    pub max: Option<Number>,
    /// Whether people are asked once more, by the web app. Programs and command lines are not.
    #[serde(default)]
    pub confirm: bool,
    /// Longest time until the device has done it, from 10 to 3600000: a write is given up after it, and has so long where who writes says
    /// nothing else (10 s when neither does).
    #[serde(default)]
    pub timeout_ms: Option<u32>,
    /// What must hold before.
    #[serde(default)]
    pub interlocks: Vec<Interlock>,
}

/// How new firmware gets into a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateMethod {
    /// It cannot be done from afar.
    #[default]
    None,
    /// The device is told an address and gets it from there.
    Url,
    /// It is sent to the device over HTTP.
    Upload,
    /// By the host's package manager.
    Package,
}

impl UpdateMethod {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Url => "url",
            Self::Upload => "upload",
            Self::Package => "package",
        }
    }
}

/// How versions are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionScheme {
    /// As 1.4.2, number by number; ranges as ">=1.2, <2".
    #[default]
    Semver,
    /// As a date, 20240613-1312; ranges as ">=20240613, <20250101-1200".
    Date,
    /// One number; ranges as ">=7".
    Number,
    /// Only same or other; ranges are lists of those that are meant, as "A17, A18".
    Text,
}

impl VersionScheme {
    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Semver, Self::Date, Self::Number, Self::Text]
            .into_iter()
            .find(|scheme| scheme.as_str() == name)
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Semver => "semver",
            Self::Date => "date",
            Self::Number => "number",
            Self::Text => "text",
        }
    }
}

/// `[firmware]`: how devices get new firmware. Versions are compared as it says; the rest is checked and shown, and has no effect
/// yet: no firmware is rolled out to devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Firmware {
    /// How it gets into a device.
    pub method: UpdateMethod,
    /// How its versions are compared, where overlays and identity.firmware name ranges of them; an overlay may not say otherwise.
    pub versions: VersionScheme,
    /// How names of its files end, as ".bin"; any when there are none.
    pub suffixes: Vec<String>,
    /// Largest file.
    pub bytes_max: Option<u64>,
    /// What the first bytes of its files are, in hex.
    pub magic: Option<String>,
    /// The point that is written with the address.
    pub url_point: Option<String>,
}
