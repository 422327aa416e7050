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
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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

/// Where every produced reading is: produced = stored + pending + dropped + refused
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Device {
    /// The device's id
    pub id: String,
    /// The agent that speaks for it
    pub agent: String,
    /// Whether it is connected
    pub state: DeviceState,
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
    /// Readings pending as last reported
    pub backlog: u64,
    /// Its ledger over all epochs
    pub ledger: Ledger,
}

/// A page of devices
#[derive(Debug, Serialize, ToSchema)]
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

/// The ledger of a device by epoch
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceLedger {
    /// The device
    pub device: String,
    /// The agent that speaks for it
    pub agent: String,
    /// By epoch
    pub epochs: Vec<EpochLedger>,
    /// Their sum
    pub total: Ledger,
}

/// The ledger of a device
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetEntry {
    /// The device
    pub device: String,
    /// Its account
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// The ledger of every device
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetLedger {
    /// By device
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
    /// Whether something could not be read
    pub partial: bool,
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
    /// Whether something could not be read
    pub partial: bool,
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
