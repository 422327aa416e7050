//! Points that have a name in their protocol: metrics of Sparkplug, nodes of OPC UA, metrics of a host.

use std::collections::BTreeMap;

use tideline_protocol::model::{ID_BYTES_MAX, PointId};
use tideline_protocol::pattern::matches;
use tideline_protocol::value::{Quality, Value};

use crate::Profile;
use crate::allowed::check_kind;
use crate::conversion::{BadValue, EncodeError, Raw, Reason};
use crate::modbus::Decoded;
use crate::point::Place;

/// The points of a profile by their names in its protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    profile: Profile,
    ids: BTreeMap<String, PointId>,
}

impl Names {
    /// Of a profile.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let named = profile.points().filter_map(|(id, point)| match &point.place {
            Place::Name(name) => Some((name.clone(), PointId::parse(id).ok()?)),
            _ => None,
        });
        Self { ids: named.collect(), profile: profile.clone() }
    }

    /// The profile that it is of.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The names that points have, to be asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(String::as_str)
    }

    /// The point of a name: one of the profile's, or one that is made for a name which the profile takes unnamed.
    #[must_use]
    pub fn point(&self, name: &str) -> Option<PointId> {
        if let Some(id) = self.ids.get(name) {
            return Some(id.clone());
        }
        let own = PointId::parse(name)
            .ok()
            .filter(|id| self.profile.point(id.as_str()).is_some_and(|point| point.place == Place::Id));
        own.or_else(|| self.other(name))
    }

    /// The name of a point and what stands under it in a device that has this value. A point that the profile takes unnamed
    /// has its id as its name.
    ///
    /// # Errors
    /// The profile rules the value out, or there is nothing that means it.
    pub fn write(&self, id: &PointId, value: &Value) -> Result<(String, Value), EncodeError> {
        let Some(point) = self.profile.point(id.as_str()) else { return Ok((id.to_string(), value.clone())) };
        let value = self.profile.check(id.as_str(), value.clone())?;
        let name = match &point.place {
            Place::Name(name) => name.clone(),
            _ => id.to_string(),
        };
        if point.conversion.names.is_empty() && matches!(value, Value::Bool(_) | Value::Null) {
            return Ok((name, value));
        }
        let no_raw = |what| EncodeError::NoRaw { point: id.to_string(), value: value.to_string(), what };
        let raw = match point.conversion.raw(&value, 0, false).map_err(no_raw)? {
            Raw::Whole(whole) => Value::Int(i64::try_from(whole).map_err(|_| no_raw("it is too large"))?),
            Raw::Real(real) => Value::Float(real),
            Raw::Bool(yes) => Value::Bool(yes),
            Raw::Text(text) => Value::Text(text.into()),
        };
        Ok((name, raw))
    }

    /// What a value under a name says. None when the profile leaves it out.
    #[must_use]
    pub fn read(&self, name: &str, value: &Value) -> Option<Decoded> {
        let point = self.point(name)?;
        let bad = |reason| BadValue { reason, raw: value.to_string().chars().take(64).collect() };
        let outcome = self.value(&point, name, value).map_err(bad);
        Some(Decoded { point, outcome })
    }

    fn value(&self, id: &PointId, name: &str, value: &Value) -> Result<(Value, Quality), Reason> {
        let rejected = |error| Reason::Rejected(Box::new(error));
        let raw = match value {
            Value::Null => return Err(Reason::Absent),
            Value::Float(real) if !real.is_finite() => return Err(Reason::NotFinite(*real)),
            Value::Float(real) => Raw::Real(*real),
            Value::Int(whole) => Raw::Whole(i128::from(*whole)),
            Value::Bool(yes) => Raw::Bool(*yes),
            Value::Text(text) => Raw::Text(text.to_string()),
        };
        let Some(point) = self.profile.point(id.as_str()) else {
            let kind = value.kind().unwrap_or_default();
            return Ok((check_kind(name, kind, value.clone()).map_err(rejected)?, Quality::Good));
        };
        let value = point.conversion.value(raw, point.allowed.kind(), 0)?;
        Ok((self.profile.check(id.as_str(), value).map_err(rejected)?, Quality::Good))
    }

    fn other(&self, name: &str) -> Option<PointId> {
        let others = self.profile.others()?;
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        // What is called as a point and has another name is not that point.
        let is_free = |id: &PointId| !self.ids.values().any(|known| known == id);
        if any(&others.take) && !any(&others.except) { other_id(name).filter(is_free) } else { None }
    }
}

/// A point id made of a name: what is not allowed becomes '-'.
#[must_use]
pub fn other_id(name: &str) -> Option<PointId> {
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-/".contains(c) { c } else { '-' };
    PointId::parse(&name.chars().map(clean).take(ID_BYTES_MAX).collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_points_and_others_are_taken_where_the_profile_says_so() {
        let text = "name = \"node\"\n[sparkplug]\n[others]\ntake = [\"Inputs/*\", \"level\"]\nexcept = [\"*/Raw\"]\n[points]\n\
            level = { unit = \"m\", min = 0, max = 9, address = \"Tank/Level (mm)\", scale = 0.001 }\n";
        let names = Names::of(&Profile::parse("node.toml", text).unwrap());
        let read = |name: &str, value: Value| {
            let decoded = names.read(name, &value)?;
            Some((decoded.point.to_string(), decoded.reading()))
        };
        let good = |id: &str, value: Value| Some((id.to_owned(), (value, Quality::Good)));
        assert_eq!(names.names().collect::<Vec<_>>(), ["Tank/Level (mm)"]);
        assert_eq!(read("Tank/Level (mm)", Value::Int(1500)), good("level", Value::Float(1.5)));
        assert_eq!(read("Inputs/Door 1", Value::Bool(true)), good("Inputs/Door-1", Value::Bool(true)));
        assert_eq!(read("Inputs/Door/Raw", Value::Bool(true)), None);
        for name in ["Other", "level"] {
            assert_eq!(read(name, Value::Bool(true)), None);
        }
        let bad = Some(("level".to_owned(), (Value::Null, Quality::Bad)));
        for value in [Value::Null, Value::Float(f64::NAN), Value::Int(9_001), Value::Text("x".into())] {
            assert_eq!(read("Tank/Level (mm)", value), bad);
        }
    }
}
