//! Which series are meant, by names with `*` for any text.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use tideline_protocol::model::{DeviceId, PointId};
use tideline_store::{SeriesMeta, SeriesState, SeriesText, Store};

use super::problem::ApiError;
use crate::hub::Hub;
use crate::metadata::DeviceRecord;
use crate::registry;

/// Most names of one list.
const NAMES_MAX: usize = 10_000;
/// Longest name, also of a series, which is a device and a point.
const NAME_BYTES_MAX: usize = 200;
/// Most stars of one name.
const STARS_MAX: usize = 8;
/// Most of them that have a `*`: each is compared with every series.
const PATTERNS_MAX: usize = 100;

/// Whether a name fits a pattern, in which `*` stands for any text.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place that there is leaves most for the others.
        match name.find(part) {
            Some(at) => name = name.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    name.ends_with(tail)
}

/// Names, some of them with `*`.
#[derive(Debug, Default)]
pub struct Names {
    // With whether any series had it.
    exact: HashMap<String, Cell<bool>>,
    patterns: Vec<String>,
}

impl Names {
    /// A list as it was given; `what` it is a list of is for the refusal.
    ///
    /// # Errors
    /// It has too many names.
    pub fn of(what: &str, names: impl IntoIterator<Item = String>) -> Result<Self, ApiError> {
        let mut out = Self::default();
        for name in names {
            let stars = name.bytes().filter(|byte| *byte == b'*').count();
            if name.len() > NAME_BYTES_MAX || stars > STARS_MAX {
                let cut: String = name.chars().take(64).collect();
                let told = format!(
                    "{what}: {cut:?} has {} bytes and {stars} stars; allowed are {NAME_BYTES_MAX} and {STARS_MAX}",
                    name.len()
                );
                return Err(ApiError::bad("bad-select", told));
            }
            if name.contains('*') {
                out.patterns.push(name);
            } else {
                out.exact.insert(name, Cell::new(false));
            }
        }
        out.check(what)?;
        Ok(out)
    }

    /// All of them, where there are some and none has a `*`.
    #[must_use]
    pub fn exact(&self) -> Option<Vec<String>> {
        let is_exact = self.patterns.is_empty() && !self.exact.is_empty();
        is_exact.then(|| self.exact.keys().cloned().collect())
    }

    fn check(&self, what: &str) -> Result<(), ApiError> {
        if self.exact.len() > NAMES_MAX || self.patterns.len() > PATTERNS_MAX {
            let allowed = format!(
                "{what}: {} names and {} patterns; allowed are {NAMES_MAX} and {PATTERNS_MAX}",
                self.exact.len(),
                self.patterns.len()
            );
            return Err(ApiError::bad("bad-select", allowed));
        }
        Ok(())
    }

    /// Whether no name was given, which means all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty()
    }

    /// Whether the list has this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        if let Some(seen) = self.exact.get(name) {
            seen.set(true);
            return true;
        }
        self.patterns.iter().any(|pattern| fits(pattern, name))
    }

    /// Whether the list has just this name, and not a pattern that it fits.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.exact.contains_key(name)
    }

    fn unseen(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().filter(|(_, seen)| !seen.get()).map(|(name, _)| name.as_str())
    }
}

/// Which series are meant: those that each list has that is not empty.
#[derive(Debug, Default)]
pub struct Select {
    devices: Names,
    points: Names,
    // As device/point.
    series: Names,
}

/// The name of a series.
#[must_use]
pub fn id_of(meta: &SeriesMeta) -> String {
    format!("{}/{}", meta.device, meta.point)
}

impl Select {
    /// From lists of devices, of points, and of series as device/point.
    ///
    /// # Errors
    /// One has too many names.
    pub fn of(
        devices: impl IntoIterator<Item = String>,
        points: impl IntoIterator<Item = String>,
        series: impl IntoIterator<Item = String>,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            devices: Names::of("devices", devices)?,
            points: Names::of("points", points)?,
            series: Names::of("series", series)?,
        })
    }

    /// The same with these devices too, of which some may have no readings.
    ///
    /// # Errors
    /// They are too many.
    pub fn meaning(mut self, devices: Vec<String>) -> Result<Self, ApiError> {
        let seen = devices.into_iter().map(|device| (device, Cell::new(true)));
        self.devices.exact.extend(seen);
        self.devices.check("devices")?;
        Ok(self)
    }

    fn has(&self, text: &SeriesText<'_>, id: &mut String) -> bool {
        let named = |names: &Names, name: &str| names.is_empty() || names.has(name);
        // Both are asked, so that each name which there is counts as seen.
        let (device, point) = (named(&self.devices, text.device), named(&self.points, text.point));
        let series = self.series.is_empty() || {
            id.clear();
            id.extend([text.device, "/", text.point]);
            self.series.has(id)
        };
        device && point && series
    }

    /// The series, in the order of their numbers. A registered device may have none yet.
    ///
    /// # Errors
    /// A name without `*` is that of no device, point or series; or the registry cannot be read.
    pub fn find(&self, hub: &Hub) -> Result<Vec<SeriesState>, ApiError> {
        let store = &hub.store;
        // Named ones are looked up, however many others there are.
        if self.devices.is_empty() && self.points.is_empty() && self.series.patterns.is_empty() {
            let named = self.series.exact.keys().map(|name| find_one(store, name));
            let mut found = named.collect::<Result<Vec<_>, _>>()?;
            if !found.is_empty() {
                found.sort_by_key(|state| state.id);
                return Ok(found);
            }
        }
        let mut id = String::new();
        let found = store.states(|text| self.has(text, &mut id));
        let silent: Vec<&str> = self.devices.unseen().collect();
        let registered = hub.metadata.find_each::<DeviceRecord>(silent.iter().copied())?;
        if let Some((name, _)) = silent.into_iter().zip(registered).find(|(_, record)| record.is_none()) {
            return Err(ApiError::not_found("device", name));
        }
        for (what, names) in [("point", &self.points), ("series", &self.series)] {
            if let Some(name) = names.unseen().next() {
                return Err(ApiError::not_found(what, name));
            }
        }
        Ok(found)
    }
}

fn find_one(store: &Store, name: &str) -> Result<SeriesState, ApiError> {
    let (device, point) = name.split_once('/').ok_or_else(|| {
        ApiError::bad("bad-series", format!("{name:?} is no series; a series is device/point"))
    })?;
    let bad = |error: &dyn std::fmt::Display| ApiError::bad("bad-series", format!("{name:?}: {error}"));
    let device = DeviceId::parse(device).map_err(|error| bad(&error))?;
    let point = PointId::parse(point).map_err(|error| bad(&error))?;
    store.state(&device, &point).ok_or_else(|| ApiError::not_found("series", name))
}

/// Takes the selectors, as `@site=north`, out of a list of devices, and gives the devices that they stand for.
///
/// # Errors
/// One is no selector, or no device fits it.
pub fn meant(hub: &Hub, devices: &mut Vec<String>) -> Result<Vec<String>, ApiError> {
    let (selectors, names) = std::mem::take(devices).into_iter().partition(|name| name.starts_with('@'));
    *devices = names;
    registry::resolve(hub, selectors)?.map_err(|reason| ApiError::bad("bad-select", reason))
}

/// The devices that a list for changes names, by id or by selector as `@site=north`: each once, those named by id first.
///
/// # Errors
/// One is no selector, no device fits it, or they are none or more than `most`.
pub fn each_of(hub: &Hub, mut devices: Vec<String>, most: usize) -> Result<Vec<String>, ApiError> {
    let bad = |detail: String| ApiError::bad("bad-devices", detail);
    let (selectors, names) = std::mem::take(&mut devices).into_iter().partition(|name| name.starts_with('@'));
    devices = names;
    devices.extend(registry::resolve(hub, selectors)?.map_err(bad)?);
    let mut seen = HashSet::new();
    devices.retain(|name| seen.insert(name.clone()));
    if !(1..=most).contains(&devices.len()) {
        return Err(bad(format!("{} devices; allowed are 1 to {most}", devices.len())));
    }
    Ok(devices)
}

/// The names of a list with commas.
pub fn listed(text: Option<&str>) -> impl Iterator<Item = String> {
    let names = text.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, yes, no) in [
            ("truck-*", &["truck-", "truck-1", "truck-*"][..], &["truck", "a-truck-1"][..]),
            ("*", &["", "x", "a/b"], &[]),
            ("a*b*c", &["abc", "axbxc", "abcbc", "abbc"], &["ab", "acb", "abcx"]),
            ("*ab", &["ab", "aab", "abab"], &["aba"]),
            ("a*a", &["aa", "aba"], &["a", "ab"]),
            ("plain", &["plain"], &["plai", "plain2"]),
        ] {
            yes.iter().for_each(|name| assert!(fits(pattern, name), "{pattern} {name}"));
            no.iter().for_each(|name| assert!(!fits(pattern, name), "{pattern} {name}"));
        }
    }

    proptest! {
        #[test]
        fn patterns_fit_as_regular_expressions_do(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
            let mut places: Vec<bool> = std::iter::once(true).chain(name.chars().map(|_| false)).collect();
            for c in pattern.chars() {
                let mut next = vec![false; places.len()];
                for (at, here) in places.iter().enumerate().filter(|(_, here)| **here) {
                    let _reached = here;
                    if c == '*' {
                        next[at..].fill(true);
                    } else if name.chars().nth(at) == Some(c) {
                        next[at + 1] = true;
                    }
                }
                places = next;
            }
            prop_assert_eq!(fits(&pattern, &name), places.last() == Some(&true));
        }
    }
}
