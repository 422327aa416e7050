//! Boards, their versions and their shares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Series;
use crate::boards::form::{Board, Variable};
use crate::boards::{Found, shares};
use crate::metadata::{BoardShareRecord, BoardVersionRecord};

/// A board in a list
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardInfo {
    /// Its id
    pub id: String,
    /// Its title
    pub title: String,
    /// What it is for
    pub about: String,
    /// How many panels
    pub panels: u64,
    /// Whether it ships with the product, and stays as it is
    pub shipped: bool,
    /// Its version
    pub version: u64,
    /// Who made that; left out of those that ship
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When they did (Unix ms)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_ms: Option<i64>,
}

impl From<&Found> for BoardInfo {
    fn from(found: &Found) -> Self {
        let record = found.record.as_ref();
        Self {
            id: found.id.clone(),
            title: found.board.title.clone(),
            about: found.board.about.clone(),
            panels: found.board.panels.len() as u64,
            shipped: record.is_none(),
            version: found.version(),
            by: record.map(|record| record.by.clone()),
            changed_ms: record.map(|record| record.changed_ms),
        }
    }
}

/// All boards
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardList {
    /// Those that ship, then the others by title
    pub boards: Vec<BoardInfo>,
}

/// A board; the header ETag has its version
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardAnswer {
    /// What is known of it
    pub info: BoardInfo,
    /// Itself
    pub board: Board,
}

impl From<Found> for BoardAnswer {
    fn from(found: Found) -> Self {
        Self { info: BoardInfo::from(&found), board: found.board }
    }
}

/// A version of a board
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardVersion {
    /// Its number
    pub version: u64,
    /// Who made it
    pub by: String,
    /// When they did (Unix ms)
    pub at_ms: i64,
    /// The version that this one is once more
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<u64>,
}

impl From<(u64, BoardVersionRecord)> for BoardVersion {
    fn from((version, record): (u64, BoardVersionRecord)) -> Self {
        Self { version, by: record.by, at_ms: record.at_ms, restored: record.restored }
    }
}

/// The versions of a board that are kept
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardVersions {
    /// Newest first
    pub versions: Vec<BoardVersion>,
}

/// Which version is to be the newest once more
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoardRestore {
    /// Its number
    pub version: u64,
}

/// Which series there are of names as boards have them
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoardNames {
    /// The names, as `pump-*/power/*`
    pub patterns: Vec<String>,
    /// The variables that they name
    #[serde(default)]
    pub variables: Vec<Variable>,
    /// The values of variables; their defaults where left out
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

/// The series of a name
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardMatch {
    /// The name as it is written
    pub pattern: String,
    /// Its series, 64 at most
    pub series: Vec<String>,
    /// How many more there are
    pub left_off: u64,
}

/// The series that a board shows
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardSeries {
    /// In the order of the names
    pub patterns: Vec<BoardMatch>,
    /// What is known of each series, once
    pub series: Vec<Series>,
}

/// What variables can be
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardChoices {
    /// The sites
    pub sites: Vec<String>,
    /// The groups
    pub groups: Vec<String>,
    /// The first devices with this text in their names
    pub devices: Vec<String>,
    /// Whether there are more devices
    pub more: bool,
}

/// A new share
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoardShareRequest {
    /// What it is for
    #[serde(default)]
    pub note: String,
    /// Seconds until it ends, 60 to a year
    pub ttl_s: u32,
    /// The values of the board's variables; their defaults where left out
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

impl From<BoardShareRequest> for shares::Wanted {
    fn from(request: BoardShareRequest) -> Self {
        let BoardShareRequest { note, ttl_s, values } = request;
        Self { note, ttl_s, values }
    }
}

/// A share
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardShare {
    /// Its id
    pub id: String,
    /// What it is for
    pub note: String,
    /// The values of the board's variables
    pub values: BTreeMap<String, String>,
    /// The devices that it shows
    pub devices: Vec<String>,
    /// When it ends (Unix ms)
    pub expires_ms: i64,
    /// When it was made (Unix ms)
    pub created_ms: i64,
    /// Who made it
    pub by: String,
}

impl From<(String, BoardShareRecord)> for BoardShare {
    fn from((id, record): (String, BoardShareRecord)) -> Self {
        let BoardShareRecord { note, values, devices, expires_ms, created_ms, by, .. } = record;
        Self { id, note, values, devices: devices.into_iter().collect(), expires_ms, created_ms, by }
    }
}

/// A new share with its token
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardShared {
    /// The share
    pub share: BoardShare,
    /// The token, shown this once; a link to the web app has it behind `#/shared/`
    pub token: String,
}

/// The shares of a board that have not ended
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardShares {
    /// By id
    pub shares: Vec<BoardShare>,
}

/// What a share shows
#[derive(Debug, Serialize, ToSchema)]
pub struct SharedBoard {
    /// The board
    pub board: Board,
    /// The values of its variables
    pub values: BTreeMap<String, String>,
    /// Its series
    pub series: BoardSeries,
    /// When the share ends (Unix ms)
    pub expires_ms: i64,
}
