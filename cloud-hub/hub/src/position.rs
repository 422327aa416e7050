//! Where a device is: on Earth, as operators say or else as its own readings do, and on the plan of its site.
//!
//! Kept as whole numbers, so that what is written reads back the same: 1e-7 degrees, which is a centimetre, and millionths
//! of a plan.

mod measured;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use measured::{Measured, Positions};

/// Parts of a degree.
const PER_DEGREE: f64 = 1e7;
/// Parts of a metre.
const PER_METRE: f64 = 100.0;
/// Parts of the width or height of a plan.
const PER_PLAN: f64 = 1e6;
/// Lowest and highest altitude in metres: the deepest sea, and above all balloons.
const ALTITUDES_M: std::ops::RangeInclusive<f64> = -12_000.0..=100_000.0;

/// Why a position is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what} {found}; allowed are {least} to {most}")]
pub struct Beyond {
    what: &'static str,
    found: f64,
    least: f64,
    most: f64,
}

/// A value as whole parts, where it is within its range; NaN never is.
fn parts(
    what: &'static str,
    found: f64,
    range: std::ops::RangeInclusive<f64>,
    per: f64,
) -> Result<i32, Beyond> {
    let (least, most) = (*range.start(), *range.end());
    if !range.contains(&found) {
        return Err(Beyond { what, found, least, most });
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is within a range whose ends are i32, times per")]
    let parts = (found * per).round() as i32;
    Ok(parts)
}

/// A place in degrees of WGS 84.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    lat_e7: i32,
    lon_e7: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alt_cm: Option<i32>,
}

impl Position {
    /// Of degrees north and east, and metres above the sea.
    ///
    /// # Errors
    /// One of them is beyond what is allowed, or no number.
    pub fn new(lat: f64, lon: f64, alt_m: Option<f64>) -> Result<Self, Beyond> {
        Ok(Self {
            lat_e7: parts("latitude", lat, -90.0..=90.0, PER_DEGREE)?,
            lon_e7: parts("longitude", lon, -180.0..=180.0, PER_DEGREE)?,
            alt_cm: alt_m.map(|alt| parts("altitude in metres", alt, ALTITUDES_M, PER_METRE)).transpose()?,
        })
    }

    /// Degrees north.
    #[must_use]
    pub fn lat(&self) -> f64 {
        f64::from(self.lat_e7) / PER_DEGREE
    }

    /// Degrees east.
    #[must_use]
    pub fn lon(&self) -> f64 {
        f64::from(self.lon_e7) / PER_DEGREE
    }

    /// Metres above the sea, where that is known.
    #[must_use]
    pub fn alt_m(&self) -> Option<f64> {
        self.alt_cm.map(|alt| f64::from(alt) / PER_METRE)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.lat(), self.lon())?;
        self.alt_m().map_or(Ok(()), |alt| write!(f, ", {alt} m"))
    }
}

/// A place on the plan of a site, from its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spot {
    x_e6: i32,
    y_e6: i32,
}

impl Spot {
    /// Of shares of its width and height.
    ///
    /// # Errors
    /// One of them is not from 0 to 1.
    pub fn new(x: f64, y: f64) -> Result<Self, Beyond> {
        Ok(Self { x_e6: parts("x", x, 0.0..=1.0, PER_PLAN)?, y_e6: parts("y", y, 0.0..=1.0, PER_PLAN)? })
    }

    /// The share of its width, from the left.
    #[must_use]
    pub fn x(&self) -> f64 {
        f64::from(self.x_e6) / PER_PLAN
    }

    /// The share of its height, from above.
    #[must_use]
    pub fn y(&self) -> f64 {
        f64::from(self.y_e6) / PER_PLAN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_beyond_the_earth_is_refused_with_what_is_allowed() {
        let told = |lat, lon, alt| Position::new(lat, lon, alt).unwrap_err().to_string();
        assert_eq!(told(90.1, 0.0, None), "latitude 90.1; allowed are -90 to 90");
        assert_eq!(told(0.0, -180.5, None), "longitude -180.5; allowed are -180 to 180");
        assert_eq!(told(0.0, 0.0, Some(2e5)), "altitude in metres 200000; allowed are -12000 to 100000");
        assert_eq!(told(f64::NAN, 0.0, None), "latitude NaN; allowed are -90 to 90");
        assert_eq!(Spot::new(0.5, 1.01).unwrap_err().to_string(), "y 1.01; allowed are 0 to 1");
        assert!(Position::new(-90.0, 180.0, Some(-12_000.0)).is_ok() && Spot::new(0.0, 1.0).is_ok());
    }

    proptest! {
        #[test]
        fn a_position_is_told_within_a_centimetre_and_reads_back_the_same(
            lat in -90.0..=90.0_f64, lon in -180.0..=180.0_f64, alt in prop::option::of(-12_000.0..=100_000.0_f64),
        ) {
            let position = Position::new(lat, lon, alt).unwrap();
            prop_assert!((position.lat() - lat).abs() <= 5.1e-8 && (position.lon() - lon).abs() <= 5.1e-8);
            prop_assert_eq!(position.alt_m().is_some(), alt.is_some());
            prop_assert_eq!(Position::new(position.lat(), position.lon(), position.alt_m()).unwrap(), position);
            let json = serde_json::to_string(&position).unwrap();
            prop_assert_eq!(serde_json::from_str::<Position>(&json).unwrap(), position);
        }

        #[test]
        fn any_numbers_are_taken_or_refused(a: f64, b: f64, c: f64) {
            let _taken = (Position::new(a, b, Some(c)), Spot::new(a, b));
        }
    }
}
