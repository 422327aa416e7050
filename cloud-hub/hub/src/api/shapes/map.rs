//! Where devices are, on the map and on the plans of sites.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DeviceState;
use crate::map::{Cluster, Standing, Window};
use crate::metadata::PlanRecord;
use crate::position::{Beyond, Measured, Position, Spot};

/// Where a device is, as operators say
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PositionPatch {
    /// Degrees north of WGS 84, from -90 to 90
    #[schema(example = 48.1374)]
    pub lat: f64,
    /// Degrees east, from -180 to 180
    #[schema(example = 11.5755)]
    pub lon: f64,
    /// Metres above the sea, from -12000 to 100000
    #[serde(default)]
    #[schema(required = false)]
    pub alt_m: Option<f64>,
}

impl TryFrom<PositionPatch> for Position {
    type Error = Beyond;

    fn try_from(patch: PositionPatch) -> Result<Self, Beyond> {
        Self::new(patch.lat, patch.lon, patch.alt_m)
    }
}

/// Where a device is on the plan of its site, from the upper left corner
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanSpot {
    /// The share of the plan's width, from 0 to 1
    pub x: f64,
    /// The share of the plan's height, from 0 to 1
    pub y: f64,
}

impl TryFrom<PlanSpot> for Spot {
    type Error = Beyond;

    fn try_from(spot: PlanSpot) -> Result<Self, Beyond> {
        Self::new(spot.x, spot.y)
    }
}

impl From<Spot> for PlanSpot {
    fn from(spot: Spot) -> Self {
        Self { x: spot.x(), y: spot.y() }
    }
}

/// Who says where a device is
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PositionSource {
    /// An operator
    Set,
    /// The newest values of its points `latitude` and `longitude`, in degrees
    Measured,
}

/// Where a device is on Earth; what operators say goes before what it measures
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DevicePosition {
    /// Degrees north of WGS 84
    pub lat: f64,
    /// Degrees east
    pub lon: f64,
    /// Metres above the sea
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub alt_m: Option<f64>,
    /// Who says so
    pub source: PositionSource,
    /// Of when it is, where it was measured (Unix ms)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub as_of_ms: Option<i64>,
}

impl DevicePosition {
    /// Of what operators say, or else of what was measured.
    #[must_use]
    pub fn of(set: Option<Position>, measured: Option<Measured>) -> Option<Self> {
        let source = if set.is_some() { PositionSource::Set } else { PositionSource::Measured };
        let position = set.or(measured.map(|measured| measured.position))?;
        let (lat, lon, alt_m) = (position.lat(), position.lon(), position.alt_m());
        let as_of_ms = measured.filter(|_| set.is_none()).map(|measured| measured.at_ms);
        Some(Self { lat, lon, alt_m, source, as_of_ms })
    }
}

/// A device on the map
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MapDevice {
    /// Its id
    pub id: String,
    /// A name for people; empty for none
    pub title: String,
    /// Where it is, as operators say; empty when nobody did
    pub site: String,
    /// Whether its agent is there
    pub state: DeviceState,
    /// Whether its agent was shut out
    pub revoked: bool,
    /// Its newest reading (Unix ms)
    #[schema(required)]
    pub last_reading_ms: Option<i64>,
    /// Where it is on Earth; null when that is not known
    #[schema(required)]
    pub position: Option<DevicePosition>,
    /// Where it is on the plan of its site; null when nobody said
    #[schema(required)]
    pub spot: Option<PlanSpot>,
}

/// Devices of the map, those that stand worst first
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MapDevices {
    /// When (Unix ms)
    pub as_of_ms: i64,
    /// A page of them
    pub devices: Vec<MapDevice>,
    /// How many there are on all pages
    pub total: u64,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// A part of the world in degrees; where west is greater than east it lies across the 180th meridian
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MapBounds {
    /// Its western end
    pub west: f64,
    /// Its southern end
    pub south: f64,
    /// Its eastern end
    pub east: f64,
    /// Its northern end
    pub north: f64,
}

impl From<Window> for MapBounds {
    fn from(Window { west, south, east, north }: Window) -> Self {
        Self { west, south, east, north }
    }
}

/// How a device on the map stands
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MapState {
    /// Shut out for good
    Revoked,
    /// Heard from in time
    Online,
    /// It never had a session
    Never,
    /// Late
    Suspect,
    /// It comes and goes
    Flapping,
    /// Gone
    Offline,
}

impl From<Standing> for MapState {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Revoked => Self::Revoked,
            Standing::Online => Self::Online,
            Standing::Never => Self::Never,
            Standing::Suspect => Self::Suspect,
            Standing::Flapping => Self::Flapping,
            Standing::Offline => Self::Offline,
        }
    }
}

/// How many devices of a cluster are in which state
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapCounts {
    /// Shut out for good
    pub revoked: u64,
    /// Heard from in time
    pub online: u64,
    /// They never had a session
    pub never: u64,
    /// Late
    pub suspect: u64,
    /// They come and go
    pub flapping: u64,
    /// Gone
    pub offline: u64,
}

/// Devices that are drawn as one: those of a square of 64 pixels at the zoom
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MapCluster {
    /// The middle of its devices, in degrees north
    pub lat: f64,
    /// In degrees east
    pub lon: f64,
    /// How many devices
    pub count: u64,
    /// The worst state among them: offline, flapping, suspect, never, online, revoked
    pub worst: MapState,
    /// How many are in which state
    pub states: MapCounts,
    /// What holds them all
    pub bounds: MapBounds,
    /// The zoom at which they are no longer one; null where they never are
    #[schema(required)]
    pub apart_zoom: Option<u8>,
    /// The device, where it is one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub device: Option<MapDevice>,
}

impl MapCluster {
    /// Of devices that are drawn as one; `device` is the one where it is one.
    #[must_use]
    pub fn of(cluster: &Cluster, device: Option<MapDevice>) -> Self {
        let [revoked, online, never, suspect, flapping, offline] =
            cluster.by_standing.map(|count| count as u64);
        Self {
            lat: cluster.lat,
            lon: cluster.lon,
            count: cluster.count as u64,
            worst: cluster.worst.into(),
            states: MapCounts { revoked, online, never, suspect, flapping, offline },
            bounds: cluster.around.into(),
            apart_zoom: cluster.apart,
            device,
        }
    }
}

/// The map
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MapAnswer {
    /// When (Unix ms)
    pub as_of_ms: i64,
    /// The zoom that it was gathered for: a lower one than was asked for where that had over 500 clusters
    pub zoom: u8,
    /// The clusters of the window, and those of the squares at its edge
    pub clusters: Vec<MapCluster>,
    /// What holds all devices that are meant and have a position; null where none has
    #[schema(required)]
    pub bounds: Option<MapBounds>,
    /// How many devices are meant and have a position
    pub placed: u64,
    /// How many are meant and have none
    pub unplaced: u64,
}

/// The plan of a site
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanInfo {
    /// The site
    pub site: String,
    /// What its image is
    #[schema(example = "image/png")]
    pub media: String,
    /// The image's width in pixels
    pub width: u32,
    /// The image's height in pixels
    pub height: u32,
    /// How many bytes the image has
    pub bytes: u64,
    /// SHA-256 of the image, in hex: another for another image
    pub sha256: String,
    /// Who gave it
    pub by: String,
    /// When (Unix ms)
    pub changed_ms: i64,
}

impl From<(String, PlanRecord)> for PlanInfo {
    fn from((site, record): (String, PlanRecord)) -> Self {
        let PlanRecord { media, width, height, bytes, sha256, by, changed_ms } = record;
        Self { site, media, width, height, bytes, sha256, by, changed_ms }
    }
}

/// The plans of sites
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanList {
    /// By site
    pub plans: Vec<PlanInfo>,
}
