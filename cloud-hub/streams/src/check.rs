//! From a definition to a job that can run; everything that is wrong is told at once.

mod errors;

use std::sync::Arc;

use tideline_protocol::model::{DeviceId, ModelError, PointId, Sample};
use tideline_protocol::pattern::Pattern;

use crate::engine::Lengths;
use crate::event::{Field, Key, StatementRow, WindowResult};
use crate::limits::{
    DEVICES_MAX, LENGTH_MS_MAX, LENGTH_MS_MIN, OPEN_WINDOWS_MAX, STATE_BYTES_MAX, STATE_BYTES_MIN,
};
use crate::spec::{Aggregate, Combine, Comparison, Direction, Group, JobSpec};
use crate::template::Template;

use errors::Errors;

/// What is wrong with one field of a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is {found}; allowed are {allowed}", if field.is_empty() { "the definition" } else { field })]
pub struct FieldError {
    /// Its JSON pointer, such as `/stages/2/factor`.
    pub field: String,
    /// What it says.
    pub found: String,
    /// What it may say.
    pub allowed: String,
}

/// All that is wrong with a definition, in the order of its parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SpecError(pub Vec<FieldError>);

/// A definition that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    spec: JobSpec,
    pub(crate) name: Arc<str>,
    devices: Vec<Pattern>,
    points: Vec<Pattern>,
    stages: Vec<Step>,
    pub(crate) join: Option<JoinPlan>,
    pub(crate) shape: Shape,
    pub(crate) fields: Vec<Field>,
    pub(crate) bound_ns: i64,
    pub(crate) idle_ns: Option<i64>,
    pub(crate) ahead_ns: i64,
    pub(crate) allowed_ns: i64,
    series: Vec<(Template, Template)>,
}

/// How windows lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// There are none.
    Each,
    /// Tumbling where both are the same, else hopping.
    Fixed {
        length_ns: i64,
        hop_ns: i64,
    },
    Sliding {
        length_ns: i64,
    },
    Session {
        gap_ns: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinPlan {
    /// That of the left point and that of the right one, where they are two.
    pub devices: Option<(DeviceId, DeviceId)>,
    pub left: PointId,
    pub right: PointId,
    pub tolerance_ns: i64,
    pub direction: Direction,
    pub combine: Combine,
}

#[derive(Debug, Clone, PartialEq)]
struct Step {
    points: Option<Pattern>,
    what: Op,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Filter(Comparison, f64),
    Scale(f64, f64),
}

/// A reading for a derived series.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// The device.
    pub device: DeviceId,
    /// The point.
    pub point: PointId,
    /// The reading.
    pub sample: Sample,
}

impl JoinPlan {
    /// Whether this series is its left one, or one of its left ones.
    pub fn is_left(&self, device: &DeviceId, point: &PointId) -> bool {
        *point == self.left && self.devices.as_ref().is_none_or(|(left, _)| device == left)
    }

    fn takes(&self, device: &DeviceId, point: &PointId) -> bool {
        let is_right = *point == self.right && self.devices.as_ref().is_none_or(|(_, right)| device == right);
        is_right || self.is_left(device, point)
    }
}

impl Job {
    /// Checks a definition.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn check(spec: JobSpec) -> Result<Self, SpecError> {
        let mut errors = Errors::default();
        errors.name(&spec.name);
        let devices = errors.patterns("/source/devices", &spec.source.devices);
        let points = errors.patterns("/source/points", &spec.source.points);
        let stages = errors.stages(&spec.stages);
        let join = errors.join(&spec, &devices, &points);
        let shape = errors.window(&spec.window);
        errors.statement(&spec);
        errors.group(&spec);
        let fields = errors.fields(&spec);
        let bound_ns =
            errors.ms("/time/out_of_orderness_ms", spec.time.out_of_orderness_ms, 0..=LENGTH_MS_MAX);
        let idle = spec.time.idle_timeout_ms;
        let idle_ns = idle.map(|ms| errors.ms("/time/idle_timeout_ms", ms, LENGTH_MS_MIN..=LENGTH_MS_MAX));
        let ahead_ns = errors.ms("/time/ahead_max_ms", spec.time.ahead_max_ms, 0..=LENGTH_MS_MAX);
        let allowed_ns = errors.late(&spec);
        let series = errors.sinks(&spec, &fields);
        let limits = &spec.limits;
        errors.number("/limits/devices", limits.devices, 1..=DEVICES_MAX);
        errors.number("/limits/open_windows", limits.open_windows, 1..=OPEN_WINDOWS_MAX);
        errors.number("/limits/state_bytes", limits.state_bytes, STATE_BYTES_MIN..=STATE_BYTES_MAX);
        errors.finish()?;
        let name = Arc::from(spec.name.as_str());
        Ok(Self {
            spec,
            name,
            devices,
            points,
            stages,
            join,
            shape,
            fields,
            bound_ns,
            idle_ns,
            ahead_ns,
            allowed_ns,
            series,
        })
    }

    /// The definition.
    #[must_use]
    pub const fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// The statement of SQL that says what is computed.
    #[must_use]
    pub fn sql(&self) -> Option<&str> {
        self.spec.sql.as_deref()
    }

    /// Whether there is one.
    #[must_use]
    pub const fn has_statement(&self) -> bool {
        self.spec.sql.is_some()
    }

    /// The lengths of windows that lie at fixed places.
    pub(crate) const fn lengths(&self) -> Option<Lengths> {
        match self.shape {
            Shape::Fixed { length_ns, hop_ns } => Some(Lengths { length_ns, hop_ns }),
            Shape::Each | Shape::Sliding { .. } | Shape::Session { .. } => None,
        }
    }

    /// Whether the job reads this series. The answer is always the same, so that it can be kept.
    #[must_use]
    pub fn selects(&self, device: &DeviceId, point: &PointId) -> bool {
        let fits = |patterns: &[Pattern], name: &str| patterns.iter().any(|pattern| pattern.matches(name));
        let joined = self.join.as_ref().is_none_or(|join| join.takes(device, point));
        joined && fits(&self.devices, device.as_str()) && fits(&self.points, point.as_str())
    }

    /// The readings for derived series that a result gives; of a window they have its start, and of a sliding
    /// one the time of the reading that it looks back from.
    ///
    /// # Errors
    /// A name is not a valid one. Results of an engine have such names only where the sinks were changed while
    /// their windows were open.
    pub fn derive(&self, result: &WindowResult) -> Result<Vec<Derived>, ModelError> {
        let time_ns = match self.shape {
            Shape::Sliding { .. } => result.end_ns.saturating_sub(1),
            _ => result.start_ns,
        };
        let mut derived = Vec::new();
        for templates in &self.series {
            for (field, value) in result.values.iter().filter(|(field, _)| is_derived(*field)) {
                let (device, point) = self.series_of(templates, &result.key, *field)?;
                derived.push(Derived { device, point, sample: Sample { time_ns, value: *value } });
            }
        }
        Ok(derived)
    }

    /// The derived series that a result of this key has readings in, all at one time; what takes back a session that was
    /// withdrawn is to be said of each of them, at the session's start.
    ///
    /// # Errors
    /// As for [`derive`](Self::derive).
    pub fn derived_series(&self, key: &Key) -> Result<Vec<(DeviceId, PointId)>, ModelError> {
        let fields = || self.fields.iter().filter(|field| is_derived(**field));
        let each = self.series.iter().flat_map(|templates| fields().map(move |field| (templates, *field)));
        each.map(|(templates, field)| self.series_of(templates, key, field)).collect()
    }

    /// The readings for derived series that a row of a statement's answer gives, at its window's start; `{aggregate}`
    /// stands for the column.
    ///
    /// # Errors
    /// A name is not a valid one, or is to be made of a column that the answer has not; the text says so.
    pub fn derive_row(&self, start_ns: i64, row: &StatementRow) -> Result<Vec<Derived>, String> {
        let mut derived = Vec::new();
        for (device, point) in &self.series {
            if row.point.is_none() && (device.names("point") || point.names("point")) {
                return Err("the sink has {point} in its name, and the answer no point".to_owned());
            }
            for (column, value) in &row.numbers {
                let value_of = |name: &str| match name {
                    "device" => row.device.to_string(),
                    "point" => row.point.as_ref().map(ToString::to_string).unwrap_or_default(),
                    "aggregate" => column.clone(),
                    _ => self.name.to_string(),
                };
                let named = |text: &str, error: ModelError| format!("the name {text:?} of a series: {error}");
                let (device, point) = (device.fill(value_of), point.fill(value_of));
                derived.push(Derived {
                    device: DeviceId::parse(&device).map_err(|error| named(&device, error))?,
                    point: PointId::parse(&point).map_err(|error| named(&point, error))?,
                    sample: Sample { time_ns: start_ns, value: *value },
                });
            }
        }
        Ok(derived)
    }

    /// Whether all names of derived series are valid ones.
    pub(crate) fn can_name(&self, key: &Key) -> bool {
        self.derived_series(key).is_ok()
    }

    fn series_of(
        &self,
        (device, point): &(Template, Template),
        key: &Key,
        field: Field,
    ) -> Result<(DeviceId, PointId), ModelError> {
        let value = |name: &str| match name {
            "device" => key.device.to_string(),
            "point" => key.point.as_ref().map(ToString::to_string).unwrap_or_default(),
            "aggregate" => field.as_str().to_owned(),
            _ => self.name.to_string(),
        };
        Ok((DeviceId::parse(&device.fill(value))?, PointId::parse(&point.fill(value))?))
    }

    /// The value after all stages; none when one of them holds it back.
    pub(crate) fn staged(&self, point: &PointId, value: f64) -> Option<f64> {
        let staged = self.stages.iter().try_fold(value, |value, step| {
            if step.points.as_ref().is_some_and(|pattern| !pattern.matches(point.as_str())) {
                return Some(value);
            }
            match step.what {
                Op::Scale(factor, offset) => Some(value * factor + offset),
                Op::Filter(compare, other) => passes(compare, value, other).then_some(value),
            }
        });
        staged.map(unsigned_zero)
    }

    /// The two devices of a join of two.
    pub(crate) fn joined_devices(&self) -> Option<&(DeviceId, DeviceId)> {
        self.join.as_ref()?.devices.as_ref()
    }

    /// Whether windows are computed from single readings in the order of their times.
    pub(crate) fn is_timed(&self) -> bool {
        self.fields.contains(&Field::Aggregate(Aggregate::TimeWeightedMean))
    }

    pub(crate) fn point_of(&self, point: &PointId) -> Option<PointId> {
        match (&self.join, self.spec.group) {
            (Some(join), _) => Some(join.left.clone()),
            (None, Group::Series) => Some(point.clone()),
            (None, Group::Device) => None,
        }
    }
}

/// The value with one zero only: which of two zeros is the lesser would depend on the order of arrival.
pub const fn unsigned_zero(value: f64) -> f64 {
    value + 0.0
}

/// Both sides of a pair are for rows; its value is what a series is made of.
const fn is_derived(field: Field) -> bool {
    matches!(field, Field::Aggregate(_) | Field::Value)
}

// Exact by intention: a filter compares with what was written.
#[allow(clippy::float_cmp, reason = "`eq` means equal")]
fn passes(compare: Comparison, value: f64, other: f64) -> bool {
    match compare {
        Comparison::Lt => value < other,
        Comparison::Le => value <= other,
        Comparison::Gt => value > other,
        Comparison::Ge => value >= other,
        Comparison::Eq => value == other,
        Comparison::Ne => value != other,
    }
}

#[cfg(test)]
mod tests;
