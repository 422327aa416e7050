//! Series as the store knows them.

use std::sync::Arc;

use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::value::ValueKind;

use crate::hot::{Reading, SeriesId, SeriesStats};

/// What a series is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesMeta {
    /// The device.
    pub device: DeviceId,
    /// The point of the device.
    pub point: PointId,
    /// The unit as a UCUM code: the newest that an agent gave, also for readings before it.
    pub unit: String,
    /// What its values are: the newest that an agent gave. Readings before it keep their values.
    pub kind: ValueKind,
    /// Its name for people, the newest that an agent gave; empty when it has none.
    pub name: String,
}

impl SeriesMeta {
    /// As an agent has defined it.
    #[must_use]
    pub fn of(def: &SeriesDef) -> Self {
        Self {
            device: def.device.clone(),
            point: def.point.clone(),
            unit: def.unit.clone(),
            kind: def.kind(),
            name: def.name().to_owned(),
        }
    }

    /// As an agent would define it.
    #[must_use]
    pub fn def(&self) -> SeriesDef {
        let def = SeriesDef::new(self.device.clone(), self.point.clone(), self.unit.clone());
        def.of_kind(self.kind).named(&self.name)
    }
}

/// A series with what is known without reading it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesInfo {
    /// Its number at this hub.
    pub id: SeriesId,
    /// The device.
    pub device: DeviceId,
    /// The point of the device.
    pub point: PointId,
    /// The unit as a UCUM code: the newest that an agent gave. Older readings may have been taken in
    /// another one, which nothing here says: what changes its unit should be a new point.
    pub unit: String,
    /// What its values are.
    pub kind: ValueKind,
    /// Its name for people; empty when it has none.
    pub name: String,
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
    /// What is known of a series.
    #[must_use]
    pub(crate) fn new(id: SeriesId, meta: &SeriesMeta, stats: SeriesStats) -> Self {
        Self {
            id,
            device: meta.device.clone(),
            point: meta.point.clone(),
            unit: meta.unit.clone(),
            kind: meta.kind,
            name: meta.name.clone(),
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
    pub meta: Arc<SeriesMeta>,
    /// How many readings.
    pub count: u64,
    /// The reading with the greatest time; the latest to arrive among equals.
    pub last: Option<Reading>,
}
