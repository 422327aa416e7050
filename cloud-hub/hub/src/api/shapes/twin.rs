//! Twins.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

/// The twin of a device, or what the devices of a site or a group share
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TwinAnswer {
    /// Whose twin: a device's id, or what shares it as `site/hall-2` or `group/pumps`
    pub device: String,
    /// What names this state, also in the header `ETag`; none of a state of the past, of which no change is made
    #[schema(required)]
    pub etag: Option<String>,
    /// How often its history was cut off
    pub generation: u64,
    /// What is wanted: written here and on site
    #[schema(value_type = Object)]
    pub desired: Json,
    /// What is: written by the device
    #[schema(value_type = Object)]
    pub reported: Json,
    /// What it is known by: written here and on site
    #[schema(value_type = Object)]
    pub tags: Json,
    /// What people say of it: written here and on site
    #[schema(value_type = Object)]
    pub notes: Json,
    /// What is wanted and not reported so; none of a state of the past. Of the points of what is shared each device tells it by itself
    pub delta: Vec<TwinDifference>,
    /// Whether there may be more: of what is shared 1,000 are told at most, of the first 1,000 devices by name
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delta_cut: bool,
    /// What was just written and is of no effect, as a schedule whose only time is over, and what of the configuration that stands there
    /// already no agent takes; nothing where nothing was written
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Leaves with several values; none of a state of the past
    pub conflicts: u64,
    /// Whether the device's agent has all of it on its disk; of what is shared, whether all agents there do. Null of a state of the past, of
    /// which nobody knows it
    #[schema(required)]
    pub agreed: Option<bool>,
    /// Leaves and elements of sets; of a state of the past those of then, as the next two
    pub leaves: u64,
    /// Bytes of keys and values
    pub bytes: u64,
    /// Changes since the history was cut off
    pub changes: u64,
    /// The time of the state, if it is one of the past (Unix ms)
    #[schema(required)]
    pub at_ms: Option<i64>,
}

/// What is wanted of a leaf and not reported so
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TwinDifference {
    /// The leaf, as `motor/speed`
    pub key: String,
    /// What is wanted
    #[schema(value_type = Object)]
    pub desired: Json,
    /// What is reported; null for nothing
    #[schema(value_type = Option<Object>)]
    pub reported: Json,
    /// Since when: it was wanted so then, or was so until then (Unix ms)
    #[schema(required)]
    pub since_ms: Option<i64>,
    /// The device that tells it, of a point or a schedule that a site's or a group's document wants; none where no device there tells of it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How far that device is with it, as in its `reported/setpoints` or `reported/schedules`; none where it has not begun
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why it is no further
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What changes of a twin: a JSON merge patch (RFC 7396) for each section
///
/// Null takes a leaf away, a list takes the place of a list. Values that merge have forms of their own: `{"$add": 3}` adds to a
/// counter, `{"$counter": 3}` makes it stand there, `{"$set": […]}` makes a set have these elements, `{"$text": "…"}` is a text in
/// notes. So whatever is shown of a leaf keeps it when it is written, each value of a conflict too. Other than by the RFC an object goes
/// with the last of its members, unless it was written as an empty one and has had none since, and null is only what is absent. What is wrong is told with
/// its place as a JSON pointer (RFC 6901), as `/desired/motor/speed`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TwinPatch {
    /// Of what is wanted
    #[schema(value_type = Option<Object>)]
    pub desired: Option<Json>,
    /// Of the tags
    #[schema(value_type = Option<Object>)]
    pub tags: Option<Json>,
    /// Of the notes
    #[schema(value_type = Option<Object>)]
    pub notes: Option<Json>,
}

/// One patch for many devices
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TwinsPatch {
    /// Ids, and selectors as `@site=north`, `@group=…`, `@agent=…`, `@profile=…`, `@tag.KEY`, `@tag.KEY=…`; at most 1000 devices
    pub devices: Vec<String>,
    /// What changes
    pub patch: TwinPatch,
}

/// What came of a patch at each device
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TwinsPatched {
    /// By device
    pub results: Vec<TwinPatched>,
}

/// What came of a patch at one device
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TwinPatched {
    /// The device
    pub device: String,
    /// What names its state now, if it was patched
    #[schema(required)]
    pub etag: Option<String>,
    /// The stable code, if it was refused
    #[schema(required)]
    pub code: Option<String>,
    /// Why it was refused
    #[schema(required)]
    pub detail: Option<String>,
    /// What is of no effect, of what was patched or stands there, as it is told of one twin
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

/// What was done to a twin
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TwinHistory {
    /// The steps in an order in which none comes before one that it builds on
    pub steps: Vec<TwinStep>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// One step of a twin
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TwinStep {
    /// When, by the clock of who wrote (Unix ms)
    pub time_ms: i64,
    /// When the hub took it, where that clock cannot have been right: it was ahead of the hub's, or more than an hour behind what its
    /// author had read (Unix ms)
    #[schema(required)]
    pub taken_ms: Option<i64>,
    /// Who; may be empty
    pub author: String,
    /// At which end: `hub` or `agent`
    pub side: String,
    /// `desired`, `reported`, `tags` or `notes`
    pub section: String,
    /// The leaf, as `motor/speed`
    pub key: String,
    /// What it became; null if it is gone, `{"$add": n}`, `{"$insert": e}`, `{"$remove": e}`, `{"$text": "…"}`, `{"$set": []}` for a set
    /// that begins empty
    #[schema(value_type = Option<Object>)]
    pub value: Json,
}

/// Leaves with values that exclude each other; a write to one resolves it
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TwinConflicts {
    /// What names the state that this is of
    pub etag: String,
    /// By section and leaf
    pub conflicts: Vec<TwinConflict>,
}

/// A leaf with several values
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TwinConflict {
    /// `desired`, `reported`, `tags` or `notes`
    pub section: String,
    /// The leaf
    pub key: String,
    /// The values, that which is shown first; of a leaf that others lie below, what is shown is the object of these
    pub values: Vec<TwinValue>,
}

/// A value with who wrote it
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TwinValue {
    /// The value
    #[schema(value_type = Object)]
    pub value: Json,
    /// The same as a text, with all digits and the kind of a number: written to the leaf in a patch it keeps the value
    pub json: String,
    /// Who wrote it, and of a text who changed it last; none of what was added up when history was cut off, and of a text whose
    /// history an earlier version cut off
    #[schema(required)]
    pub author: Option<String>,
    /// At which end: `hub` or `agent`
    #[schema(required)]
    pub side: Option<String>,
    /// When, by the clock of who wrote (Unix ms)
    #[schema(required)]
    pub time_ms: Option<i64>,
}

/// A twin changed, durably at this hub
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TwinEvent {
    /// Whose twin: a device's id, or what shares it as `site/hall-2` or `group/pumps`
    pub device: String,
    /// What changed, as `desired/motor/speed`; none when only history was cut off
    pub keys: Vec<String>,
    /// Whether more changed than is named
    pub more: bool,
    /// Who changed it
    pub authors: Vec<String>,
    /// When, by the newest of their clocks (Unix ms)
    #[schema(required)]
    pub time_ms: Option<i64>,
    /// What names its state now
    pub etag: String,
}
