//! Positions that devices measure: the newest values of two points of one path whose names end in `latitude` and
//! `longitude`, in degrees, and of `altitude` in metres beside them, as profiles of receivers name them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tideline_protocol::model::{DeviceId, PointId};
use tideline_store::{SeriesState, SeriesText, Store};

use super::Position;
use crate::when;

/// A position that a device measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Where.
    pub position: Position,
    /// Of when the older of its values is, Unix ms.
    pub at_ms: i64,
}

/// What a point says of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Latitude,
    Longitude,
    Altitude,
}

/// What a series says of a position, and the path that it shares with the others of it.
fn axis<'a>(text: &SeriesText<'a>) -> Option<(Axis, &'a str)> {
    let SeriesText { point, unit, .. } = *text;
    let (path, last) = point.rsplit_once('/').unwrap_or(("", point));
    let axis = match (last, unit) {
        ("latitude", "deg") => Axis::Latitude,
        ("longitude", "deg") => Axis::Longitude,
        ("altitude", "m") => Axis::Altitude,
        _ => return None,
    };
    Some((axis, path))
}

/// The newest values of one path.
#[derive(Debug, Default)]
struct Fix {
    lat: Option<(f64, i64)>,
    lon: Option<(f64, i64)>,
    alt: Option<f64>,
}

impl Fix {
    fn measured(&self) -> Option<Measured> {
        let ((lat, lat_ns), (lon, lon_ns)) = (self.lat?, self.lon?);
        // A height that is none must not cost the place.
        let position = Position::new(lat, lon, self.alt).or_else(|_| Position::new(lat, lon, None)).ok()?;
        Some(Measured { position, at_ms: when::ms(lat_ns.min(lon_ns)) })
    }
}

/// The positions of devices that measure theirs.
///
/// A receiver that finds no satellites sends values that are none: until it does again its last position holds, with the
/// time that it is of. That is kept in memory alone.
#[derive(Debug, Default)]
pub struct Positions {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<DeviceId, Measured>,
    // The points of devices that say something of a position, among as many series.
    axes: HashMap<DeviceId, Vec<PointId>>,
    looked_at: usize,
}

impl Positions {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where devices are that measure it: all of them. It looks at each series.
    #[must_use]
    pub fn all(&self, store: &Store) -> HashMap<DeviceId, Measured> {
        let mut inner = self.inner();
        // Also those that were looked at: another unit makes a series another thing.
        (inner.looked_at, inner.axes) = (0, HashMap::new());
        let found = newest(&inner.look(store));
        inner.known.extend(found);
        inner.known.clone()
    }

    /// Where these devices are, those of them that measure it. It looks at no series of others that it has seen before.
    #[must_use]
    pub fn of<'d>(
        &self,
        store: &Store,
        devices: impl IntoIterator<Item = &'d DeviceId>,
    ) -> HashMap<DeviceId, Measured> {
        let mut inner = self.inner();
        inner.look(store);
        let mut out = HashMap::new();
        for device in devices {
            let Some(points) = inner.axes.get(device) else { continue };
            let states: Vec<SeriesState> =
                points.iter().filter_map(|point| store.state(device, point)).collect();
            let found = newest(&states);
            inner.known.extend(found);
            out.extend(inner.known.get(device).map(|measured| (device.clone(), *measured)));
        }
        out
    }
}

impl Inner {
    /// Notes which of the series that are new say something of a position, and gives these.
    fn look(&mut self, store: &Store) -> Vec<SeriesState> {
        let (before, mut all) = (self.looked_at, 0);
        let fresh = store.states(|text| {
            all += 1;
            all > before && axis(text).is_some()
        });
        self.looked_at = all;
        for SeriesState { meta, .. } in &fresh {
            let (device, point) = (DeviceId::clone(&meta.device), PointId::clone(&meta.point));
            self.axes.entry(device).or_default().push(point);
        }
        fresh
    }
}

/// The position of each device of these series; where one has several paths, of the one that was measured last, and among
/// equals of the first by its name.
fn newest(states: &[SeriesState]) -> HashMap<DeviceId, Measured> {
    let mut fixes: BTreeMap<(&DeviceId, &str), Fix> = BTreeMap::new();
    for state in states {
        let (Some((axis, path)), Some(last)) = (axis(&state.meta.text()), &state.last) else { continue };
        let number = last.number();
        if number.is_nan() {
            continue;
        }
        let fix = fixes.entry((&*state.meta.device, path)).or_default();
        match axis {
            Axis::Latitude => fix.lat = Some((number, last.time_ns)),
            Axis::Longitude => fix.lon = Some((number, last.time_ns)),
            Axis::Altitude => fix.alt = Some(number),
        }
    }
    let mut out: HashMap<DeviceId, Measured> = HashMap::new();
    for ((device, _), fix) in fixes {
        let Some(measured) = fix.measured() else { continue };
        if out.get(device).is_none_or(|known| known.at_ms < measured.at_ms) {
            out.insert(device.clone(), measured);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tideline_protocol::model::SeriesDef;
    use tideline_store::{Reading, SeriesMeta};

    use super::*;

    fn state(device: &str, point: &str, unit: &str, value: f64, time_ns: i64) -> SeriesState {
        let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
        let meta = SeriesMeta::of(&SeriesDef::new(device, point, unit.to_owned()));
        SeriesState { id: 0, meta, count: 1, last: Some(Reading { time_ns, word: value, boxed: None }) }
    }

    fn of(states: &[SeriesState]) -> Option<(f64, f64, Option<f64>, i64)> {
        let found = newest(states);
        let measured = found.get(&DeviceId::parse("van").unwrap())?;
        let position = measured.position;
        Some((position.lat(), position.lon(), position.alt_m(), measured.at_ms))
    }

    #[test]
    fn a_position_is_of_points_in_degrees_beside_each_other_as_old_as_the_older() {
        let lat = state("van", "latitude", "deg", 48.1, 5_000_000);
        let lon = state("van", "longitude", "deg", 11.5, 4_000_000);
        assert_eq!(of(&[lat.clone(), lon.clone()]), Some((48.1, 11.5, None, 4)));
        let alt = state("van", "altitude", "m", 519.5, 5_000_000);
        assert_eq!(of(&[lat.clone(), lon.clone(), alt]), Some((48.1, 11.5, Some(519.5), 4)));
        assert_eq!(of(std::slice::from_ref(&lat)), None);
        // Another path, another unit, and another device are none of it.
        assert_eq!(of(&[lat.clone(), state("van", "aim/longitude", "deg", 11.5, 1)]), None);
        assert_eq!(of(&[lat.clone(), state("van", "longitude", "rad", 0.2, 1)]), None);
        assert_eq!(of(&[lat, state("car", "longitude", "deg", 11.5, 1)]), None);
    }

    #[test]
    fn what_is_no_number_or_not_on_earth_makes_no_position() {
        let lat = |value| state("van", "gps/latitude", "deg", value, 1);
        let lon = state("van", "gps/longitude", "deg", 11.5, 1);
        assert!(of(&[lat(48.1), lon.clone()]).is_some());
        assert_eq!(of(&[lat(f64::NAN), lon.clone()]), None);
        assert_eq!(of(&[lat(91.0), lon.clone()]), None);
        let deep = state("van", "gps/altitude", "m", -1e6, 1);
        assert_eq!(of(&[lat(48.1), lon, deep]), Some((48.1, 11.5, None, 0)));
    }

    fn receivers(all: [(&str, f64, i64); 3]) -> Option<f64> {
        let states = all.map(|(path, lat, time_ns)| {
            [("latitude", lat), ("longitude", 7.0)]
                .map(|(axis, value)| state("van", &format!("{path}/{axis}"), "deg", value, time_ns))
        });
        of(states.as_flattened()).map(|(lat, ..)| lat)
    }

    #[test]
    fn of_several_receivers_the_one_that_measured_last_counts_and_among_equals_the_first_by_name() {
        let at = 5_000_000;
        assert_eq!(receivers([("b", 2.0, at), ("a", 1.0, at), ("0", f64::NAN, at)]), Some(1.0));
        // One that was taken out does not hold the device where it was.
        assert_eq!(receivers([("b", 2.0, 2 * at), ("a", 1.0, at), ("c", 3.0, at)]), Some(2.0));
    }
}
