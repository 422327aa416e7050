//! The JSON of the API. Times are Unix milliseconds; the property names are a contract with the
//! web app and with programs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::metadata::Role;

/// Credentials
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user's name
    pub user: String,
    /// The password
    #[schema(format = Password)]
    pub password: String,
}

/// The signed-in user
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// The user's name
    pub user: String,
    /// What they may do
    pub role: Role,
}

/// A range of batches that was dropped and counted
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LedgerGap {
    /// The spool's epoch
    pub epoch: String,
    /// First batch
    pub first: u64,
    /// Last batch
    pub last: u64,
    /// Readings
    pub rows: u64,
    /// First reading (Unix ms)
    pub from_ms: i64,
    /// Last reading (Unix ms)
    pub to_ms: i64,
    /// Why readings were dropped
    #[schema(example = "quota")]
    pub cause: String,
}

/// Where every reading is that an agent produced, for itself and for the devices behind it: produced =
/// stored + pending + dropped + refused + lost
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// Accepted from sources by the agent
    pub produced: u64,
    /// Durable at the hub
    pub stored: u64,
    /// Held by the agent and not yet at the hub
    pub pending: u64,
    /// Given up by the agent, see the gaps
    pub dropped: u64,
    /// Refused by the hub and kept as dead letters
    pub refused: u64,
    /// Received again and ignored
    pub duplicates: u64,
    /// Stored once and gone after a restore
    pub lost: u64,
    /// What was dropped, and when
    pub gaps: Vec<LedgerGap>,
    /// Whether the equation holds
    pub balanced: bool,
    /// When the agent last reported (Unix ms)
    #[schema(required)]
    pub as_of_ms: Option<i64>,
}

/// Whether a device has a session
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// A session lives
    Online,
    /// It had one
    Offline,
    /// It never had one
    Never,
}

/// One device of the fleet
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// The device's id
    pub id: String,
    /// The agent that speaks for it; another id than its own for a field device behind an agent
    pub agent: String,
    /// Whether its agent is connected
    pub state: DeviceState,
    /// Whether its agent was shut out for good
    #[schema(required = false)]
    pub revoked: bool,
    /// How it is connected
    #[schema(required, example = "quic")]
    pub transport: Option<String>,
    /// Name and version of the agent's software
    #[schema(required)]
    pub software: Option<String>,
    /// Connected since (Unix ms)
    #[schema(required)]
    pub connected_ms: Option<i64>,
    /// Last frame (Unix ms)
    #[schema(required)]
    pub last_seen_ms: Option<i64>,
    /// Newest reading (Unix ms)
    #[schema(required)]
    pub last_reading_ms: Option<i64>,
    /// Readings a second over the last 10 s
    pub rate: f64,
    /// Readings of this device that can be queried
    #[schema(required = false)]
    pub readings: u64,
    /// Readings pending at its agent as last reported
    pub backlog: u64,
    /// The ledger of its agent over all epochs; batches hold readings of several devices, so that
    /// there is one for all devices behind an agent
    pub ledger: Ledger,
}

/// A new field device
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// The device's id
    pub id: String,
    /// The enrolled agent that may write for it
    pub agent: String,
}

/// A page of devices
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DevicePage {
    /// The devices by id
    pub devices: Vec<Device>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// The ledger of one epoch
#[derive(Debug, Serialize, ToSchema)]
pub struct EpochLedger {
    /// The spool's epoch
    pub epoch: String,
    /// Its account
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// How many readings of a device are here
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceReadings {
    /// The device
    pub device: String,
    /// Its readings that can be queried
    pub readings: u64,
}

/// The ledger of a device's agent by epoch
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceLedger {
    /// The device
    pub device: String,
    /// The agent that speaks for it, and whose ledger this is
    pub agent: String,
    /// What is here of each device that the agent speaks for
    pub devices: Vec<DeviceReadings>,
    /// By epoch
    pub epochs: Vec<EpochLedger>,
    /// Their sum
    pub total: Ledger,
}

/// The ledger of an agent
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetEntry {
    /// The agent's own device
    pub device: String,
    /// What is here of each device that the agent speaks for
    pub devices: Vec<DeviceReadings>,
    /// Its account
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// The ledger of every agent
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetLedger {
    /// By the agent's own device; field devices stand in the entry of their agent
    pub devices: Vec<FleetEntry>,
}

/// The newest reading
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LastReading {
    /// Time (Unix ms)
    pub t: i64,
    /// Value
    pub v: f64,
}

/// One series
#[derive(Debug, Serialize, ToSchema)]
pub struct Series {
    /// device/point
    pub id: String,
    /// The device
    pub device: String,
    /// The point
    pub point: String,
    /// UCUM, may be empty
    pub unit: String,
    /// The newest reading
    #[schema(required)]
    pub last: Option<LastReading>,
    /// Readings stored
    pub count: u64,
}

/// A page of series
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesPage {
    /// The series by id
    pub series: Vec<Series>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// Readings of a device that will never come
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QueryGap {
    /// The device
    pub device: String,
    /// Start (Unix ms)
    pub from_ms: i64,
    /// End (Unix ms)
    pub to_ms: i64,
    /// Readings
    pub rows: u64,
    /// Why readings were dropped
    #[schema(example = "quota")]
    pub cause: String,
}

/// Why readings of a device may be missing from an answer
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingCause {
    /// The agent is not connected: what it read since is not here
    Offline,
    /// The agent is connected and still holds readings that are not here
    Backlog,
    /// A damaged file was set aside, and the agents have not refilled all of it
    Damaged,
}

/// Readings that may be missing from an answer
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Missing {
    /// The device
    pub device: String,
    /// All readings up to here have come (Unix ms, by the hub's clock); null when that is not known
    #[schema(required)]
    pub after_ms: Option<i64>,
    /// Why
    pub cause: MissingCause,
}

/// Buckets of one width as columns of equal length; empty buckets are left out
#[derive(Debug, Serialize, ToSchema)]
pub struct BucketColumns {
    /// device/point
    pub id: String,
    /// UCUM, may be empty
    pub unit: String,
    /// The tier that answered
    #[schema(example = "1m")]
    pub tier: String,
    /// Start of each bucket (Unix ms)
    pub t: Vec<i64>,
    /// Smallest values
    pub min: Vec<f64>,
    /// Largest values
    pub max: Vec<f64>,
    /// Means
    pub mean: Vec<f64>,
    /// Newest values
    pub last: Vec<f64>,
    /// Readings
    pub count: Vec<u64>,
}

/// The answer to a query with buckets
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryAnswer {
    /// The series asked for
    pub series: Vec<BucketColumns>,
    /// Whether readings of the range may be missing, as far as the hub can know: an agent that speaks
    /// for one of the devices is not connected or still holds readings, or a damaged file is not
    /// refilled. What an agent dropped is in `gaps` and does not make an answer partial
    pub partial: bool,
    /// Which, and why; left out when nothing is missing
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// What was dropped within the range
    pub gaps: Vec<QueryGap>,
}

/// Raw readings as columns of equal length
#[derive(Debug, Serialize, ToSchema)]
pub struct RawColumns {
    /// device/point
    pub id: String,
    /// UCUM, may be empty
    pub unit: String,
    /// Always `raw`
    pub tier: String,
    /// Times (Unix ms)
    pub t: Vec<i64>,
    /// Times in full, nanoseconds since 1970 as text
    pub t_ns: Vec<String>,
    /// Values
    pub v: Vec<f64>,
}

/// The answer to a query without buckets
#[derive(Debug, Serialize, ToSchema)]
pub struct RawAnswer {
    /// The series asked for, as far as the page goes
    pub series: Vec<RawColumns>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
    /// Whether readings of the range may be missing, as far as the hub can know: an agent that speaks
    /// for one of the devices is not connected or still holds readings, or a damaged file is not
    /// refilled. What an agent dropped is in `gaps` and does not make an answer partial
    pub partial: bool,
    /// Which, and why; left out when nothing is missing
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// What was dropped within the range
    pub gaps: Vec<QueryGap>,
}

/// Either answer of a query
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AnyAnswer {
    /// With buckets
    Buckets(QueryAnswer),
    /// Without
    Raw(RawAnswer),
}

/// New readings of one series
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LiveColumns {
    /// device/point
    pub id: String,
    /// Times (Unix ms)
    pub t: Vec<i64>,
    /// Values
    pub v: Vec<f64>,
}

/// Data of the SSE event `readings`
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LiveReadings {
    /// By series
    pub series: Vec<LiveColumns>,
}

/// What the store holds
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreInfo {
    /// Agents with a ledger
    pub agents: u64,
    /// Series
    pub series: u64,
    /// Readings in memory and in the log that are not sealed yet
    pub hot_rows: u64,
    /// Sealed files
    pub sealed_files: u64,
    /// Readings in them
    pub sealed_rows: u64,
    /// Their bytes with the rollups
    pub sealed_bytes: u64,
    /// Readings stored since the hub started
    pub appended_rows: u64,
    /// Readings that came again since the hub started
    pub duplicate_rows: u64,
    /// Runs kept as dead letters since the hub started
    pub dead_letters: u64,
    /// Whether a failed write stopped the store
    pub poisoned: bool,
}

/// What an enrolment token is for
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollTokenRequest {
    /// The device
    pub device: String,
    /// Seconds until it ends; a day when left out
    pub ttl_s: Option<u32>,
}

/// A new enrolment token
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrollTokenAnswer {
    /// The token, shown this once
    pub token: String,
    /// The device
    pub device: String,
    /// When it ends (Unix ms)
    pub expires_ms: i64,
}

/// A new API token
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is for
    pub name: String,
    /// What it may do
    pub role: Role,
}

/// The new API token
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenAnswer {
    /// Its id
    pub id: String,
    /// The token, shown this once
    pub token: String,
}

/// An API token
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenInfo {
    /// Its id
    pub id: String,
    /// What it is for
    pub name: String,
    /// What it may do
    pub role: Role,
    /// When it was made (Unix ms)
    pub created_ms: i64,
}

/// All API tokens
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList {
    /// By id
    pub tokens: Vec<TokenInfo>,
}

/// A new user
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// The name
    pub name: String,
    /// The password
    #[schema(format = Password)]
    pub password: String,
    /// What they may do
    pub role: Role,
}

/// A user
#[derive(Debug, Serialize, ToSchema)]
pub struct UserInfo {
    /// The name
    pub name: String,
    /// What they may do
    pub role: Role,
    /// When they were made (Unix ms)
    pub created_ms: i64,
}

/// All users
#[derive(Debug, Serialize, ToSchema)]
pub struct UserList {
    /// By name
    pub users: Vec<UserInfo>,
}
