//! Sites.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::device::given;
use crate::sites;

/// A site
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Site {
    /// Its name, as devices have it
    pub id: String,
    /// How many devices are there; of those that were named, where some were
    pub devices: u64,
    /// Its time zone by its IANA name
    #[schema(required, example = "Europe/Berlin")]
    pub zone: Option<String>,
}

impl From<sites::Site> for Site {
    fn from(sites::Site { id, devices, zone }: sites::Site) -> Self {
        Self { id, devices: devices as u64, zone }
    }
}

/// A page of sites
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SitePage {
    /// By their names
    pub sites: Vec<Site>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// What changes of a site (RFC 7396): what is left out stays, null takes away
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SitePatch {
    /// Its time zone by its IANA name
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    pub zone: Option<Option<String>>,
}
