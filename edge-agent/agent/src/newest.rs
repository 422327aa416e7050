//! The newest reading of each series and its last minutes, for who looks at the local page: in memory alone, and no more
//! of it than has its place there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::value::{Boxes, Quality, Value};

use crate::spooler::Portion;

/// Most series that are remembered (INV-6); a KiB each at most, with a long text. When there are more, the one that was told
/// longest ago makes room: a source may have been taken away.
pub const SERIES_MAX: usize = 1_000;
/// Portions of readings that a series says nothing in before another may take its place.
const SILENT_PORTIONS: u64 = 500;
/// So many times in a row a series is told of an older time before that is believed: one wild time of a device, or a clock
/// that was set back, must not hide all that comes after it.
const LATE_MAX: u32 = 10;
/// Most characters of a text that are remembered.
const TEXT_CHARS_MAX: usize = 200;
/// Numbers of a series' last minutes, and how far they are apart at least: four minutes in all.
const TREND_MAX: usize = 48;
const TREND_STEP_NS: i64 = 5_000 * NS_PER_MS;

/// A series as it was told last.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Its point.
    pub point: PointId,
    /// The unit as a UCUM code; empty when unknown.
    pub unit: String,
    /// Its value; a long text is cut off.
    pub value: Value,
    /// How far it can be trusted.
    pub quality: Quality,
    /// Its time, ns since 1970.
    pub time_ns: i64,
    /// Numbers of the last minutes, the oldest first.
    pub trend: Vec<f64>,
}

#[derive(Debug)]
struct Last {
    unit: String,
    value: Value,
    quality: Quality,
    time_ns: i64,
    // The portion that it was in last.
    told: u64,
    late: u32,
    trend: VecDeque<f64>,
    trend_ns: i64,
}

#[derive(Debug, Default)]
struct Table {
    devices: BTreeMap<DeviceId, BTreeMap<PointId, Last>>,
    series: usize,
    portions: u64,
    // The portion in which a place was looked for last: it costs a look at all.
    sought: u64,
    // Readings of series that are more than those.
    others: u64,
    // Nobody can look at it.
    is_off: bool,
}

/// What is remembered; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Newest(Arc<Mutex<Table>>);

impl Newest {
    /// Remembers nothing from now on: there is no page to look at it.
    pub fn turn_off(&self) {
        *self.table() = Table { is_off: true, ..Table::default() };
    }

    /// Notes what is about to be kept.
    pub fn take(&self, portions: &[Portion]) {
        let mut table = self.table();
        if table.is_off {
            return;
        }
        for portion in portions {
            table.portions += 1;
            for (def, samples) in &portion.rows {
                table.take(def, samples, &portion.boxes);
            }
        }
    }

    /// The devices with the number of their series and the time of their newest reading.
    #[must_use]
    pub fn devices(&self) -> Vec<(DeviceId, usize, i64)> {
        let newest = |points: &BTreeMap<PointId, Last>| points.values().map(|last| last.time_ns).max();
        let of = |(device, points): (&DeviceId, &BTreeMap<PointId, Last>)| {
            (device.clone(), points.len(), newest(points).unwrap_or_default())
        };
        self.table().devices.iter().map(of).collect()
    }

    /// The series of a device.
    #[must_use]
    pub fn of(&self, device: &DeviceId) -> Vec<Reading> {
        let table = self.table();
        table.devices.get(device).into_iter().flatten().map(|(point, last)| last.shown(point)).collect()
    }

    /// Readings of series for which there is no place.
    #[must_use]
    pub fn others(&self) -> u64 {
        self.table().others
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic leaves no more behind than a reading that is not shown.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, def: &SeriesDef, samples: &[Sample], boxes: &Boxes) {
        let Some(newest) = samples.iter().max_by_key(|sample| sample.time_ns) else { return };
        let known = self.devices.get_mut(&def.device).and_then(|points| points.get_mut(&def.point));
        let portions = self.portions;
        if let Some(last) = known {
            last.told = portions;
            last.take(def, newest, boxes);
        } else if self.has_room() {
            self.series += 1;
            let mut last = Last { told: portions, ..Last::none() };
            last.take(def, newest, boxes);
            self.devices.entry(def.device.clone()).or_default().insert(def.point.clone(), last);
        } else {
            self.others += samples.len() as u64;
        }
    }

    /// Whether there is a place for one more, which one that is silent for long may have given up.
    fn has_room(&mut self) -> bool {
        if self.series < SERIES_MAX {
            return true;
        }
        if std::mem::replace(&mut self.sought, self.portions) == self.portions {
            return false;
        }
        let all = self.devices.iter().flat_map(|(device, points)| {
            points.iter().map(move |(point, last)| (last.told, device.clone(), point.clone()))
        });
        let silent = |told: u64| self.portions.saturating_sub(told) > SILENT_PORTIONS;
        let Some((_, device, point)) = all.min().filter(|(told, ..)| silent(*told)) else { return false };
        if let Some(points) = self.devices.get_mut(&device) {
            points.remove(&point);
            self.series -= 1;
            if points.is_empty() {
                self.devices.remove(&device);
            }
        }
        true
    }
}

impl Last {
    const fn none() -> Self {
        Self {
            unit: String::new(),
            value: Value::Null,
            quality: Quality::Bad,
            time_ns: i64::MIN,
            told: 0,
            late: 0,
            trend: VecDeque::new(),
            trend_ns: i64::MIN,
        }
    }

    fn take(&mut self, def: &SeriesDef, sample: &Sample, boxes: &Boxes) {
        // What comes late is kept with the others, and is not the newest.
        if sample.time_ns < self.time_ns && self.late < LATE_MAX {
            self.late += 1;
            return;
        }
        if std::mem::take(&mut self.late) >= LATE_MAX {
            self.trend_ns = i64::MIN;
        }
        let (value, quality) = boxes.value(sample.value, def.kind());
        (self.value, self.quality, self.time_ns) = (short(value), quality, sample.time_ns);
        if self.unit != def.unit {
            self.unit.clone_from(&def.unit);
        }
        let number = boxes.number(sample.value);
        if number.is_finite() && sample.time_ns.saturating_sub(self.trend_ns) >= TREND_STEP_NS {
            if self.trend.len() == TREND_MAX {
                self.trend.pop_front();
            }
            self.trend.push_back(number);
            self.trend_ns = sample.time_ns;
        }
    }

    fn shown(&self, point: &PointId) -> Reading {
        Reading {
            point: point.clone(),
            unit: self.unit.clone(),
            value: self.value.clone(),
            quality: self.quality,
            time_ns: self.time_ns,
            trend: self.trend.iter().copied().collect(),
        }
    }
}

fn short(value: Value) -> Value {
    match value {
        Value::Text(text) if text.len() > TEXT_CHARS_MAX => {
            let cut: String = text.chars().take(TEXT_CHARS_MAX).collect();
            Value::Text(format!("{cut}…").into())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(device: &str, point: &str, readings: &[(i64, f64)]) -> Portion {
        let def = SeriesDef::new(device.parse().unwrap(), point.parse().unwrap(), "Cel".into());
        let samples = readings.iter().map(|(time_ns, value)| Sample { time_ns: *time_ns, value: *value });
        Portion { rows: vec![(def, samples.collect())], ..Portion::default() }
    }

    #[test]
    fn the_newest_of_each_series_is_known_and_what_comes_late_is_not_it() {
        let newest = Newest::default();
        newest.take(&[portion("b", "t", &[(5, 1.5), (9, 2.5), (7, 9.0)]), portion("a", "t", &[(3, 1.0)])]);
        newest.take(&[portion("b", "t", &[(8, 7.0)]), portion("b", "u", &[])]);
        let devices: Vec<_> =
            newest.devices().into_iter().map(|(id, count, ns)| (id.to_string(), count, ns)).collect();
        assert_eq!(devices, [("a".to_owned(), 1, 3), ("b".to_owned(), 1, 9)]);
        let readings = newest.of(&"b".parse().unwrap());
        assert_eq!((readings.len(), &readings[0].value, readings[0].time_ns), (1, &Value::Float(2.5), 9));
        assert_eq!((readings[0].quality, readings[0].unit.as_str()), (Quality::Good, "Cel"));
    }

    #[test]
    fn the_last_minutes_and_the_number_of_series_are_bounded() {
        let newest = Newest::default();
        for step in 0..1_000 {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            newest.take(&[portion("a", "t", &[(step * TREND_STEP_NS / 2, step as f64)])]);
        }
        let readings = newest.of(&"a".parse().unwrap());
        assert_eq!((readings[0].trend.len(), readings[0].trend.last()), (TREND_MAX, Some(&998.0)));
        let many = (0..SERIES_MAX + 4).map(|number| portion("a", &format!("p{number}"), &[(1, 0.0)]));
        let rows = many.flat_map(|portion| portion.rows).collect();
        newest.take(&[Portion { rows, ..Portion::default() }]);
        assert_eq!((newest.of(&"a".parse().unwrap()).len(), newest.others()), (SERIES_MAX, 5));
        // Those that are silent for long give their places up.
        for _ in 0..=SILENT_PORTIONS + 4 {
            newest.take(&[portion("b", "new", &[(1, 0.0)])]);
        }
        assert_eq!(newest.of(&"b".parse().unwrap()).len(), 1);
        assert_eq!(newest.of(&"a".parse().unwrap()).len(), SERIES_MAX - 1);
    }

    #[test]
    fn where_there_is_no_page_nothing_is_remembered() {
        let newest = Newest::default();
        newest.take(&[portion("a", "t", &[(1, 1.0)])]);
        newest.turn_off();
        newest.take(&[portion("a", "t", &[(2, 1.0)])]);
        assert!(newest.devices().is_empty());
    }

    #[test]
    fn one_time_far_ahead_does_not_hide_what_comes_after_it_for_ever() {
        let newest = Newest::default();
        newest.take(&[portion("a", "t", &[(1_000_000, 9.0)])]);
        for step in 0..=i64::from(LATE_MAX) {
            newest.take(&[portion("a", "t", &[(step, 1.0)])]);
        }
        let readings = newest.of(&"a".parse().unwrap());
        assert_eq!((&readings[0].value, readings[0].time_ns), (&Value::Float(1.0), i64::from(LATE_MAX)));
    }
}
