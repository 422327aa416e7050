//! Series as the store knows them.

use std::sync::Arc;

use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::value::ValueKind;

use crate::hot::{Reading, SeriesId, SeriesStats};

/// What is said of a series, where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesText<'a> {
    /// The device.
    pub device: &'a str,
    /// The point of the device.
    pub point: &'a str,
    /// The unit as a UCUM code: the newest that an agent gave, also for readings before it.
    pub unit: &'a str,
    /// What its values are: the newest that an agent gave. Readings before it keep their values.
    pub kind: ValueKind,
    /// Its name for people, the newest that an agent gave; empty when it has none.
    pub name: &'a str,
}

impl<'a> SeriesText<'a> {
    /// As an agent has defined it.
    #[must_use]
    pub fn of(def: &'a SeriesDef) -> Self {
        Self {
            device: def.device.as_str(),
            point: def.point.as_str(),
            unit: &def.unit,
            kind: def.kind(),
            name: def.name(),
        }
    }
}

/// What a series is. Its texts are those of all series that have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesMeta {
    /// The device.
    pub device: Arc<DeviceId>,
    /// The point of the device.
    pub point: Arc<PointId>,
    /// The unit as a UCUM code: the newest that an agent gave, also for readings before it.
    pub unit: Arc<str>,
    /// What its values are: the newest that an agent gave. Readings before it keep their values.
    pub kind: ValueKind,
    /// Its name for people, the newest that an agent gave; empty when it has none.
    pub name: Arc<str>,
}

impl SeriesMeta {
    /// As an agent has defined it.
    #[must_use]
    pub fn of(def: &SeriesDef) -> Self {
        Self {
            device: Arc::new(def.device.clone()),
            point: Arc::new(def.point.clone()),
            unit: def.unit.as_str().into(),
            kind: def.kind(),
            name: def.name().into(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn text(&self) -> SeriesText<'_> {
        SeriesText {
            device: self.device.as_str(),
            point: self.point.as_str(),
            unit: &self.unit,
            kind: self.kind,
            name: &self.name,
        }
    }
}

/// A series with what is known without reading it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesInfo {
    /// Its number at this hub.
    pub id: SeriesId,
    /// The device.
    pub device: Arc<DeviceId>,
    /// The point of the device.
    pub point: Arc<PointId>,
    /// The unit as a UCUM code: the newest that an agent gave. Older readings may have been taken in
    /// another one, which nothing here says: what changes its unit should be a new point.
    pub unit: Arc<str>,
    /// What its values are.
    pub kind: ValueKind,
    /// Its name for people; empty when it has none.
    pub name: Arc<str>,
    /// How many readings.
    pub count: u64,
    /// The reading with the greatest time.
    pub last: Option<Reading>,
    /// The earliest time, ns.
    pub first_ns: Option<i64>,
    /// The latest time, ns.
    pub last_ns: Option<i64>,
}

impl SeriesInfo {
    /// What is said of it.
    #[must_use]
    pub fn text(&self) -> SeriesText<'_> {
        SeriesText {
            device: self.device.as_str(),
            point: self.point.as_str(),
            unit: &self.unit,
            kind: self.kind,
            name: &self.name,
        }
    }

    /// What is known of a series.
    #[must_use]
    pub(crate) fn new(id: SeriesId, meta: SeriesMeta, stats: SeriesStats) -> Self {
        let SeriesMeta { device, point, unit, kind, name } = meta;
        Self {
            id,
            device,
            point,
            unit,
            kind,
            name,
            count: stats.count,
            last_ns: stats.last.as_ref().map(|last| last.time_ns),
            last: stats.last,
            first_ns: stats.first_ns,
        }
    }
}

/// A series as it is now, without copies of its names.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesState {
    /// Its number at this hub.
    pub id: SeriesId,
    /// What it is.
    pub meta: SeriesMeta,
    /// How many readings.
    pub count: u64,
    /// The reading with the greatest time; the latest to arrive among equals.
    pub last: Option<Reading>,
}
