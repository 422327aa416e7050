//! Who may sign in, and by what.

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

/// What an API token may do
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// Everything
    Admin,
    /// Reading
    Viewer,
    /// Writing readings of some devices, and nothing else
    Writer,
}

impl From<Role> for TokenRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Viewer => Self::Viewer,
        }
    }
}

/// A new API token
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is for; of those that write, there is one of each name
    pub name: String,
    /// What it may do
    pub role: TokenRole,
    /// The devices that it may write for, each an id or the beginning of one and `*`; for role writer only
    #[serde(default)]
    pub devices: Vec<String>,
    /// Whether it writes for registered devices only; otherwise a device is registered with its first reading
    #[serde(default)]
    pub registered_only: bool,
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
    pub role: TokenRole,
    /// The devices that it may write for
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Whether it writes for registered devices only
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub registered_only: bool,
    /// When it was made (Unix ms)
    pub created_ms: i64,
}

/// All API tokens
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList {
    /// By id
    pub tokens: Vec<TokenInfo>,
}

/// A new device token
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceTokenRequest {
    /// The device; one that has no certificate is registered with it
    pub device: String,
}

/// The new device token
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceTokenAnswer {
    /// Its id
    pub id: String,
    /// The token, shown this once: the password over MQTT
    pub token: String,
}

/// A device token
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceTokenInfo {
    /// Its id
    pub id: String,
    /// The device
    pub device: String,
    /// When it was made (Unix ms)
    pub created_ms: i64,
}

/// All device tokens
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceTokenList {
    /// By id
    pub tokens: Vec<DeviceTokenInfo>,
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
