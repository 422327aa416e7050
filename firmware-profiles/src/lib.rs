//! Firmware profiles: what the agent needs to know of a device family.
//!
//! A profile is data (`<family>/profile.toml`): points with unit and range. This crate parses it
//! and judges values by it; it must never let a value pass that the profile rules out.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// The profile of a Linux host's own metrics.
pub const LINUX_HOST: &str = include_str!("../linux-host/profile.toml");

/// One point of a device family. A name that ends in `/*` stands for all points below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The unit as a UCUM code.
    pub unit: String,
    /// The least value in that unit.
    pub min: f64,
    /// The greatest value in that unit.
    pub max: f64,
}

/// A device family.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    name: String,
    points: BTreeMap<String, Point>,
    open: bool,
}

/// Why a profile is not taken: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ProfileError {
    /// One line each, with the line of the file.
    pub problems: Vec<String>,
}

/// Why a value is rejected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RejectedValue {
    /// Infinite or not a number.
    #[error("{point} is {value}; only finite numbers are allowed")]
    NotFinite {
        /// The point.
        point: String,
        /// The value.
        value: f64,
    },
    /// Out of the range that the profile allows.
    #[error("{point} is {value} {unit}; profile {profile} allows {min} to {max}")]
    OutOfRange {
        /// The point.
        point: String,
        /// The value.
        value: f64,
        /// Its unit.
        unit: String,
        /// Which profile.
        profile: String,
        /// The least allowed.
        min: f64,
        /// The greatest allowed.
        max: f64,
    },
    /// The profile has no such point.
    #[error("profile {profile} has no point {point}")]
    Unknown {
        /// The point.
        point: String,
        /// Which profile.
        profile: String,
    },
}

impl Profile {
    /// Parses a profile; `file` names it in errors.
    ///
    /// # Errors
    /// All problems at once, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let table = DeTable::parse(text)
            .map_err(|error| ProfileError { problems: vec![format!("{file}: {error}")] })?;
        let mut reader = Reader { file, text, problems: Vec::new() };
        let mut profile = Self { name: file.to_owned(), points: BTreeMap::new(), open: false };
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("name", DeValue::String(name)) => profile.name = name.to_string(),
                ("points", DeValue::Table(points)) => {
                    for (name, entry) in points {
                        if let Some(point) = reader.point(name.get_ref(), entry) {
                            profile.points.insert(name.get_ref().to_string(), point);
                        }
                    }
                }
                ("name" | "points", _) => reader.problem(value.span().start, "has the wrong type"),
                (other, _) => reader
                    .problem(key.span().start, &format!("{other}: unknown key; allowed are name, points")),
            }
        }
        if reader.problems.is_empty() { Ok(profile) } else { Err(ProfileError { problems: reader.problems }) }
    }

    /// The profile of a Linux host.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub fn linux_host() -> Result<Self, ProfileError> {
        Self::parse("linux-host/profile.toml", LINUX_HOST)
    }

    /// The profile of rows from a file: any point, any finite value, no unit.
    #[must_use]
    pub fn csv() -> Self {
        Self { name: "csv".into(), points: BTreeMap::new(), open: true }
    }

    /// The point of that name, or the family of points that it belongs to.
    #[must_use]
    pub fn point(&self, name: &str) -> Option<&Point> {
        self.points.get(name).or_else(|| {
            let family = name.split_once('/').map(|(family, _)| format!("{family}/*"))?;
            self.points.get(&family)
        })
    }

    /// The unit of a point; empty when unknown.
    #[must_use]
    pub fn unit(&self, name: &str) -> &str {
        self.point(name).map_or("", |point| &point.unit)
    }

    /// Judges a value.
    ///
    /// # Errors
    /// It is not finite, out of range, or of a point that the profile lacks.
    pub fn check(&self, name: &str, value: f64) -> Result<(), RejectedValue> {
        if !value.is_finite() {
            return Err(RejectedValue::NotFinite { point: name.to_owned(), value });
        }
        match self.point(name) {
            Some(point) if value < point.min || value > point.max => Err(RejectedValue::OutOfRange {
                point: name.to_owned(),
                value,
                unit: point.unit.clone(),
                profile: self.name.clone(),
                min: point.min,
                max: point.max,
            }),
            None if !self.open => {
                Err(RejectedValue::Unknown { point: name.to_owned(), profile: self.name.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn problem(&mut self, at: usize, what: &str) {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        self.problems.push(format!("{}:{line}: {what}", self.file));
    }

    fn point(&mut self, name: &str, entry: &toml::Spanned<DeValue<'_>>) -> Option<Point> {
        let DeValue::Table(table) = entry.get_ref() else {
            self.problem(entry.span().start, &format!("{name}: must be a table of unit, min, max"));
            return None;
        };
        let (mut unit, mut min, mut max) = (None, None, None);
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("unit", DeValue::String(text)) => unit = Some(text.to_string()),
                ("min", number) if float(number).is_some() => min = float(number),
                ("max", number) if float(number).is_some() => max = float(number),
                ("unit", _) => self.problem(value.span().start, &format!("{name}.unit: must be a text")),
                ("min" | "max", _) => {
                    self.problem(value.span().start, &format!("{name}.{}: must be a number", key.get_ref()))
                }
                (other, _) => {
                    self.problem(
                        key.span().start,
                        &format!("{name}.{other}: unknown key; allowed are unit, min, max"),
                    );
                }
            }
        }
        let (Some(unit), Some(min), Some(max)) = (unit, min, max) else {
            self.problem(entry.span().start, &format!("{name}: unit, min and max are needed"));
            return None;
        };
        if min > max {
            self.problem(entry.span().start, &format!("{name}: min {min} is above max {max}"));
            return None;
        }
        Some(Point { unit, min, max })
    }
}

fn float(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
        DeValue::Integer(number) => number.as_str().replace('_', "").parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_profile_knows_its_points_and_judges_values() {
        let profile = Profile::linux_host().unwrap();
        assert_eq!(profile.unit("cpu/total"), "%");
        assert!(profile.check("cpu/3", 55.0).is_ok());
        assert!(matches!(profile.check("cpu/3", 5500.0), Err(RejectedValue::OutOfRange { .. })));
        assert!(matches!(profile.check("cpu/3", f64::NAN), Err(RejectedValue::NotFinite { .. })));
        assert!(matches!(profile.check("flow", 1.0), Err(RejectedValue::Unknown { .. })));
        assert!(Profile::csv().check("flow", 1.0).is_ok());
    }

    #[test]
    fn all_problems_come_at_once_with_their_lines() {
        let text = "name = \"x\"\ncolour = 1\n[points]\na = { unit = \"m\", min = 2, max = 1 }\nb = { unit = 3, min = 0, max = 1 }\n";
        let error = Profile::parse("x.toml", text).unwrap_err();
        let all = error.to_string();
        for part in ["x.toml:2: colour", "x.toml:4: a", "x.toml:5: b.unit"] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
    }
}
