//! What differs between the firmware versions of a family: as long as nobody knows which version a device has, nobody
//! knows what it says of these points.

use std::collections::{BTreeMap, BTreeSet};

use crate::form::protocol::Protocol;
use crate::point::Point;

/// The points that hang on the version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Varying {
    is_all: bool,
    points: BTreeSet<String>,
}

impl Varying {
    /// Whether nothing does.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.is_all && self.points.is_empty()
    }

    /// Whether this point does.
    #[must_use]
    pub fn has(&self, point: &str) -> bool {
        let is_of_family =
            || point.split_once('/').is_some_and(|(family, _)| self.points.contains(&format!("{family}/*")));
        self.is_all || self.points.contains(point) || is_of_family()
    }

    /// Adds what an overlay makes otherwise.
    pub fn add(
        &mut self,
        (protocol, points): (&Protocol, &BTreeMap<String, Point>),
        (other, others): (&Protocol, &BTreeMap<String, Point>),
    ) {
        // What else holds for all addresses, as the order of bytes, is among what is kept of each point.
        self.is_all |= matches!(protocol, Protocol::SunSpec(_)) && protocol != other;
        let ids: BTreeSet<&String> = points.keys().chain(others.keys()).collect();
        let differ = |id: &&&String| match (points.get(**id), others.get(**id)) {
            (Some(one), Some(other)) => means(one) != means(other),
            _ => true,
        };
        self.points.extend(ids.iter().filter(differ).map(|id| (*id).clone()));
    }
}

/// All that makes a value of what a device says.
fn means(point: &Point) -> impl PartialEq + use<'_> {
    (&point.unit, &point.allowed, &point.place, &point.conversion)
}
