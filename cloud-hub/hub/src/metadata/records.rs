//! The kinds of records that the metadata holds, each with a table of its own. A field that came later has a
//! default, so that older records read back.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tideline_protocol::commands::HubCommand;
use tideline_protocol::keep::KeepRule;
use tideline_protocol::model::SeriesDef;
use tideline_streams::Life;

use crate::jobs::Author;
use crate::position::{Position, Spot};
use crate::presence::PresenceEvent;

/// What a principal may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reading.
    Viewer,
}

impl Role {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

/// A record kind with a table of its own.
pub trait Record: Serialize + DeserializeOwned + Clone {
    /// The table's name.
    const TABLE: &'static str;
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident in $table:literal { $($(#[$fdoc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$fdoc])* pub $field: $kind,)* }
        impl Record for $name { const TABLE: &'static str = $table; }
    };
}

/// What its agent says of a device; an empty text is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The name of its profile.
    pub profile: String,
    /// The version of its firmware.
    pub firmware: String,
    /// Who made it.
    pub vendor: String,
    /// What the maker calls it.
    pub model: String,
    /// How the agent reads it.
    pub via: String,
    /// What its profile says of how long its readings are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<KeepRule>,
    /// Which version of its profile its agent has, by the digest in hex; none where the agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What operators say of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// A name for people; empty for none.
    pub title: String,
    /// Where it is; empty when nobody said.
    pub site: String,
    /// The groups that it is in.
    pub groups: BTreeSet<String>,
    /// Anything else, by key.
    pub tags: BTreeMap<String, String>,
    /// Where it is on Earth; none when nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Where it is on the plan of its site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spot: Option<Spot>,
}

record! {
    /// A registered device, by its id: an agent's own host, where the agent has the same id, or a
    /// field device behind it.
    DeviceRecord in "devices" {
        /// The agent that may write for it.
        agent: String,
        /// SHA-256 of the public key in the agent's certificate, in hex; empty for a field device.
        key_hash: String,
        /// When it was enrolled or registered, Unix ms.
        enrolled_ms: i64,
        /// Whether it may no longer connect.
        revoked: bool,
        /// When it was last connected, Unix ms.
        last_seen_ms: Option<i64>,
        /// What its agent last said of it.
        #[serde(default)]
        card: Option<Card>,
        /// What operators say of it.
        #[serde(default)]
        marks: Marks,
    }
}
impl DeviceRecord {
    /// Of a device that the agent may write for from `enrolled_ms` on.
    #[must_use]
    pub fn behind(agent: impl Into<String>, enrolled_ms: i64) -> Self {
        let (agent, key_hash, marks) = (agent.into(), String::new(), Marks::default());
        Self { agent, key_hash, enrolled_ms, revoked: false, last_seen_ms: None, card: None, marks }
    }
}

record! {
    /// A series of a device that its agent may not write for, by the agent, the epoch and its number in the dictionary.
    AsideRecord in "aside" {
        /// As the agent has defined it.
        def: SeriesDef,
        /// Why it is none of the device's.
        reason: String,
    }
}
record! {
    /// A token that lets one key enrol one device, by its id.
    EnrolRecord in "enrol_tokens" {
        /// The device.
        device: String,
        /// SHA-256 of the secret, in hex.
        secret_hash: String,
        /// When it ends, Unix ms.
        expires_ms: i64,
        /// SHA-256 of the first key that used it, in hex.
        key_hash: Option<String>,
    }
}
record! {
    /// A person, by name.
    UserRecord in "users" {
        /// The password as a PHC string.
        password: String,
        /// What they may do.
        role: Role,
        /// When they were made, Unix ms.
        created_ms: i64,
    }
}
record! {
    /// A program's token, by its id.
    TokenRecord in "api_tokens" {
        /// What it is for.
        name: String,
        /// What it may do.
        role: Role,
        /// SHA-256 of the secret, in hex.
        secret_hash: String,
        /// When it was made, Unix ms.
        created_ms: i64,
    }
}
record! {
    /// A token that may write readings of some devices and nothing else, by its id.
    WriteTokenRecord in "write_tokens" {
        /// What it is for; its writer is called after it.
        name: String,
        /// The devices, each an id or the beginning of one and `*`.
        devices: Vec<String>,
        /// Whether it writes for registered devices only.
        registered_only: bool,
        /// SHA-256 of the secret, in hex.
        secret_hash: String,
        /// When it was made, Unix ms.
        created_ms: i64,
    }
}
record! {
    /// The writer of a token, by its id in the place of an agent's.
    WriterRecord in "writers" {
        /// Its epoch, in hex.
        epoch: String,
    }
}
record! {
    /// A part of a writer's dictionary, by the writer, its epoch and the number of the first series.
    WriterSeriesRecord in "writer_series" {
        /// In the order of their numbers.
        series: Vec<SeriesDef>,
    }
}
record! {
    /// A file that was imported, by who did it and the hash of what it is.
    ImportRecord in "imports" {
        /// What the file was called.
        name: String,
        /// Who began it.
        by: String,
        /// How often it was imported before.
        generation: u32,
        /// Its series.
        series: u64,
        /// Its rows.
        rows: u64,
        /// The readings that it is stored as.
        readings: u64,
        /// Values that it has not.
        nulls: u64,
        /// Values that were not taken.
        refused: u64,
        /// The chunks that it is stored in.
        chunks: u64,
        /// When it was begun, Unix ms.
        begun_ms: i64,
    }
}
record! {
    /// A stream job, by its name.
    JobRecord in "jobs" {
        /// Its definition as JSON, which was checked.
        definition: String,
        /// Where it is in its life.
        life: Life,
        /// When it was made, Unix ms.
        created_ms: i64,
        /// When its definition was last changed, Unix ms.
        changed_ms: i64,
        /// Who gave it its definition; not known of older ones.
        author: Option<Author>,
    }
}
record! {
    /// A token that a device proves itself with over MQTT, by its id.
    DeviceTokenRecord in "device_tokens" {
        /// The device, which is an agent of its own.
        device: String,
        /// SHA-256 of the secret, in hex.
        secret_hash: String,
        /// When it was made, Unix ms.
        created_ms: i64,
    }
}
record! {
    /// A browser session, by SHA-256 of its cookie in hex.
    SessionRecord in "sessions" {
        /// Whose it is.
        user: String,
        /// When it ends, Unix ms.
        expires_ms: i64,
    }
}

record! {
    /// The last changes of an agent's presence, by its id.
    PresenceRecord in "presence" {
        /// Oldest first.
        events: Vec<PresenceEvent>,
    }
}

record! {
    /// A command, by its id: the older, the earlier.
    CommandRecord in "commands" {
        /// As the core keeps it.
        command: HubCommand,
    }
}
record! {
    /// That a command is a device's, by the device and the command's id.
    CommandIndexRecord in "device_commands" {
        /// The key that it was asked for with.
        key: Option<String>,
    }
}
record! {
    /// The command that was asked for with a key, by the device and the key.
    CommandKeyRecord in "command_keys" {
        /// The command.
        id: String,
    }
}
record! {
    /// A piece of a command's output, by the command, the attempt and where it begins.
    CommandOutputRecord in "command_output" {
        /// In base64.
        bytes: String,
    }
}

record! {
    /// A board, by its id.
    BoardRecord in "boards" {
        /// As JSON, which was checked.
        definition: String,
        /// Its version.
        version: u64,
        /// Who made that.
        by: String,
        /// When they did, Unix ms.
        changed_ms: i64,
        /// When the board was made, Unix ms.
        created_ms: i64,
        /// The version that this one is once more.
        restored: Option<u64>,
    }
}
record! {
    /// A version of a board, by the board and its number.
    BoardVersionRecord in "board_versions" {
        /// As JSON.
        definition: String,
        /// Who made it.
        by: String,
        /// When they did, Unix ms.
        at_ms: i64,
        /// The version that this one is once more.
        restored: Option<u64>,
    }
}
record! {
    /// A link that shows a board without a login, by its id.
    BoardShareRecord in "board_shares" {
        /// The board.
        board: String,
        /// What it is for.
        note: String,
        /// SHA-256 of the secret, in hex.
        secret_hash: String,
        /// The values of the board's variables.
        values: BTreeMap<String, String>,
        /// The devices that it shows.
        devices: BTreeSet<String>,
        /// When it ends, Unix ms.
        expires_ms: i64,
        /// When it was made, Unix ms.
        created_ms: i64,
        /// Who made it.
        by: String,
    }
}

/// A version of a template of configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateVersion {
    /// From 1 on.
    pub version: u64,
    /// The layer as JSON, which was checked.
    pub layer: String,
    /// Who made it.
    pub by: String,
    /// When, Unix ms.
    pub at_ms: i64,
}

record! {
    /// A template of configuration, by `group/NAME` or `site/NAME`.
    TemplateRecord in "config_templates" {
        /// What is current.
        current: TemplateVersion,
        /// What was before, the oldest first.
        earlier: Vec<TemplateVersion>,
    }
}

record! {
    /// What operators say of a site, by its name.
    SiteRecord in "sites" {
        /// Its time zone by its IANA name.
        zone: String,
        /// Who said so.
        by: String,
        /// When, Unix ms.
        changed_ms: i64,
    }
}
record! {
    /// The newest version of a profile that an operator gave, by its name.
    ProfileRecord in "profiles" {
        /// As it was given.
        text: String,
        /// The digest of what it says, in hex.
        digest: String,
        /// Counted from 1.
        version: u64,
        /// Who gave it.
        by: String,
        /// When, Unix ms.
        at_ms: i64,
    }
}
record! {
    /// A version of a profile that was given, by its name and the version.
    ProfileVersionRecord in "profile_versions" {
        /// As it was given.
        text: String,
        /// The digest of what it says, in hex.
        digest: String,
        /// Who gave it.
        by: String,
        /// When, Unix ms.
        at_ms: i64,
    }
}
record! {
    /// The plan of a site, by the site.
    PlanRecord in "site_plans" {
        /// What its image is, as a media type.
        media: String,
        /// The image's width in pixels.
        width: u32,
        /// The image's height in pixels.
        height: u32,
        /// How many bytes the image has.
        bytes: u64,
        /// SHA-256 of the image, in hex.
        sha256: String,
        /// Who gave it.
        by: String,
        /// When, Unix ms.
        changed_ms: i64,
    }
}
record! {
    /// The image of a plan, by the site: beside the record, so that a list of plans reads no images.
    PlanImageRecord in "site_plan_images" {
        /// In base64.
        bytes: String,
    }
}

/// An option in force at an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionInForce {
    /// The section, as `batch` or `source/meter`.
    pub section: String,
    /// The option.
    pub name: String,
    /// Its value as JSON; of a secret only that it is set.
    pub value: String,
    /// `default`, `file`, `environment`, `hub` or `flag`.
    pub source: String,
    /// The variable or the flag; empty for the others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}

record! {
    /// What is in force at an agent, as it last said, by its id.
    ConfigRecord in "configs_in_force" {
        /// What names it, in hex.
        digest: String,
        /// When the agent first said it, Unix ms.
        told_ms: i64,
        /// Options that it did not tell, as there are too many.
        left_out: u32,
        /// All others.
        options: Vec<OptionInForce>,
    }
}
