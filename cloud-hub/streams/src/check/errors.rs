//! What is wrong with a definition, field by field.

use std::ops::RangeInclusive;

use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::pattern::Pattern;
use tideline_protocol::time::NS_PER_MS;

use super::{FieldError, JoinPlan, Op, Shape, SpecError, Step, is_derived};
use crate::event::Field;
use crate::limits::{
    LENGTH_MS_MAX, LENGTH_MS_MIN, NAME_BYTES_MAX, OVERLAP_MAX, PATTERN_BYTES_MAX, PATTERNS_MAX, SINKS_MAX,
    SQL_BYTES_MAX, SQL_OVERLAP_MAX, STAGES_MAX, VALUE_ABS_MAX,
};
use crate::spec::{Aggregate, Group, JobSpec, Later, Sink, Stage, Window};
use crate::template::Template;

/// What was found so far. Each check gives what can be made of the field, so that all of them can go on.
#[derive(Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// All that was found, if there is anything.
    pub fn finish(self) -> Result<(), SpecError> {
        if self.0.is_empty() { Ok(()) } else { Err(SpecError(self.0)) }
    }

    fn add(&mut self, field: impl Into<String>, found: impl Into<String>, allowed: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), found: found.into(), allowed: allowed.into() });
    }

    pub fn number(&mut self, field: &str, value: u64, range: RangeInclusive<u64>) {
        if !range.contains(&value) {
            self.add(field, value.to_string(), format!("{} to {}", range.start(), range.end()));
        }
    }

    /// The ns of so many ms, or of as many as are allowed.
    pub fn ms(&mut self, field: &str, value: u64, range: RangeInclusive<u64>) -> i64 {
        let most = *range.end();
        self.number(field, value, range);
        i64::try_from(value.min(most)).map_or(i64::MAX, |ms| ms.saturating_mul(NS_PER_MS))
    }

    fn finite(&mut self, field: String, value: f64) -> f64 {
        if !value.is_finite() || value.abs() > VALUE_ABS_MAX {
            self.add(field, value.to_string(), format!("finite numbers up to {VALUE_ABS_MAX:e} either way"));
        }
        value
    }

    pub fn name(&mut self, name: &str) {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_name) {
            let allowed = format!("1 to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-'");
            self.add("/name", format!("{name:?}"), allowed);
        }
    }

    pub fn patterns(&mut self, field: &str, texts: &[String]) -> Vec<Pattern> {
        if texts.is_empty() || texts.len() > PATTERNS_MAX {
            self.add(field, format!("{} patterns", texts.len()), format!("1 to {PATTERNS_MAX}"));
        }
        let each = texts.iter().enumerate();
        each.map(|(at, text)| self.pattern(format!("{field}/{at}"), text)).collect()
    }

    fn pattern(&mut self, field: String, text: &str) -> Pattern {
        let fits = |c: char| is_name(c) || matches!(c, '*' | '/');
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || !text.chars().all(fits) {
            let allowed =
                format!("1 to {PATTERN_BYTES_MAX} letters, digits, '.', '_', '-', '/', and '*' for any text");
            self.add(field, format!("{text:?}"), allowed);
        }
        Pattern::new(text)
    }

    pub fn stages(&mut self, stages: &[Stage]) -> Vec<Step> {
        if stages.len() > STAGES_MAX {
            self.add("/stages", format!("{} stages", stages.len()), format!("0 to {STAGES_MAX}"));
        }
        let mut steps = Vec::new();
        for (at, stage) in stages.iter().enumerate() {
            let field = |name: &str| format!("/stages/{at}/{name}");
            let (points, what) = match stage {
                Stage::Filter { points, compare, value } => {
                    (points, Op::Filter(*compare, self.finite(field("value"), *value)))
                }
                Stage::Scale { points, factor, offset } => {
                    let factor = self.finite(field("factor"), *factor);
                    (points, Op::Scale(factor, self.finite(field("offset"), *offset)))
                }
            };
            let points = points.as_ref().map(|text| self.pattern(field("points"), text));
            steps.push(Step { points, what });
        }
        steps
    }

    pub fn join(&mut self, spec: &JobSpec, devices: &[Pattern], points: &[Pattern]) -> Option<JoinPlan> {
        let join = spec.join.as_ref()?;
        let tolerance_ns = self.ms("/join/tolerance_ms", join.tolerance_ms, 0..=LENGTH_MS_MAX);
        let mut point = |field: &str, text: &str| match PointId::parse(text) {
            Ok(point) => {
                if !points.iter().any(|pattern| pattern.matches(text)) {
                    self.add(field, format!("{text:?}"), "points that fit source.points");
                }
                Some(point)
            }
            Err(error) => {
                self.add(field, error.to_string(), "names of points");
                None
            }
        };
        let (left, right) = (point("/join/left", &join.left), point("/join/right", &join.right));
        let named = match (&join.left_device, &join.right_device) {
            (None, None) => {
                if join.left == join.right {
                    self.add("/join/right", format!("{:?}", join.right), "other points than join.left");
                }
                None
            }
            (Some(left), Some(right)) if left == right => {
                let allowed = "another device than join.left_device; both are left out where it is one";
                self.add("/join/right_device", format!("{right:?}"), allowed);
                None
            }
            (Some(left), Some(right)) => {
                let left = self.joined_device("/join/left_device", left, devices);
                left.zip(self.joined_device("/join/right_device", right, devices))
            }
            (Some(_), None) => {
                self.add("/join/right_device", "left out", "a device, as join.left_device is one");
                None
            }
            (None, Some(_)) => {
                self.add("/join/left_device", "left out", "a device, as join.right_device is one");
                None
            }
        };
        let (direction, combine) = (join.direction, join.combine);
        Some(JoinPlan { devices: named, left: left?, right: right?, tolerance_ns, direction, combine })
    }

    fn joined_device(&mut self, field: &str, text: &str, devices: &[Pattern]) -> Option<DeviceId> {
        match DeviceId::parse(text) {
            Ok(device) => {
                if !devices.iter().any(|pattern| pattern.matches(text)) {
                    self.add(field, format!("{text:?}"), "devices that fit source.devices");
                }
                Some(device)
            }
            Err(error) => {
                self.add(field, error.to_string(), "ids of devices");
                None
            }
        }
    }

    pub fn window(&mut self, window: &Window) -> Shape {
        let lengths = LENGTH_MS_MIN..=LENGTH_MS_MAX;
        match window {
            Window::Each => Shape::Each,
            Window::Tumbling { length_ms } => {
                let length_ns = self.ms("/window/length_ms", *length_ms, lengths);
                Shape::Fixed { length_ns, hop_ns: length_ns }
            }
            Window::Hopping { length_ms, hop_ms } => {
                let length_ns = self.ms("/window/length_ms", *length_ms, lengths.clone());
                let hop_ns = self.ms("/window/hop_ms", *hop_ms, lengths);
                let times = length_ms.checked_div(*hop_ms).unwrap_or(0);
                if *hop_ms > 0 && (length_ms % hop_ms != 0 || !(1..=OVERLAP_MAX).contains(&times)) {
                    let allowed = format!("1 to {OVERLAP_MAX} times window.hop_ms, {hop_ms}, without a rest");
                    self.add("/window/length_ms", length_ms.to_string(), allowed);
                }
                Shape::Fixed { length_ns, hop_ns }
            }
            Window::Sliding { length_ms } => {
                Shape::Sliding { length_ns: self.ms("/window/length_ms", *length_ms, 0..=LENGTH_MS_MAX) }
            }
            Window::Session { gap_ms } => {
                Shape::Session { gap_ns: self.ms("/window/gap_ms", *gap_ms, lengths) }
            }
        }
    }

    /// What only definitions with a statement have to keep to.
    pub fn statement(&mut self, spec: &JobSpec) {
        let Some(sql) = &spec.sql else { return };
        if sql.trim().is_empty() || sql.len() > SQL_BYTES_MAX {
            self.add("/sql", format!("{} bytes long", sql.len()), format!("1 to {SQL_BYTES_MAX} bytes"));
        }
        match spec.window {
            Window::Tumbling { .. } => {}
            Window::Hopping { length_ms, hop_ms } => {
                if length_ms.checked_div(hop_ms).is_some_and(|times| times > SQL_OVERLAP_MAX) {
                    let allowed = format!("1 to {SQL_OVERLAP_MAX} times window.hop_ms with sql");
                    self.add("/window/length_ms", length_ms.to_string(), allowed);
                }
            }
            Window::Each | Window::Sliding { .. } | Window::Session { .. } => {
                self.add("/window/kind", "another one", "tumbling and hopping with sql");
            }
        }
        if spec.join.is_some() {
            self.add("/join", "there", "none with sql, which joins by itself");
        }
        if !spec.stages.is_empty() {
            self.add(
                "/stages",
                format!("{} stages", spec.stages.len()),
                "none with sql, which filters by itself",
            );
        }
        if !spec.aggregates.is_empty() {
            let found = format!("{} aggregates", spec.aggregates.len());
            self.add("/aggregates", found, "none with sql, whose columns are the results");
        }
        if spec.group != Group::Series {
            self.add("/group", "\"device\"", "none with sql, which groups by itself");
        }
        if spec.time.idle_timeout_ms.is_none() {
            let allowed = "a time with sql: its windows wait for all devices, and one may be gone for good";
            self.add("/time/idle_timeout_ms", "null", allowed);
        }
    }

    pub fn group(&mut self, spec: &JobSpec) {
        if spec.group == Group::Series || spec.sql.is_some() {
            return;
        }
        if spec.join.is_some() {
            self.add("/group", "\"device\"", "\"series\" with a join, whose pairs are one series");
        } else if spec.window == Window::Each {
            self.add("/group", "\"device\"", "\"series\" without windows");
        } else if spec.aggregates.contains(&Aggregate::TimeWeightedMean) {
            self.add(
                "/group",
                "\"device\"",
                "\"series\" with time_weighted_mean: a value holds for its series",
            );
        }
    }

    pub fn fields(&mut self, spec: &JobSpec) -> Vec<Field> {
        let given = &spec.aggregates;
        if spec.sql.is_some() {
            return Vec::new();
        }
        if spec.window == Window::Each {
            if !given.is_empty() {
                self.add("/aggregates", format!("{} aggregates", given.len()), "none without windows");
            }
            let pair: &[Field] = if spec.join.is_some() { &[Field::Left, Field::Right] } else { &[] };
            return pair.iter().copied().chain([Field::Value]).collect();
        }
        if given.is_empty() {
            let names: Vec<&str> = Aggregate::ALL.iter().map(|aggregate| aggregate.as_str()).collect();
            self.add("/aggregates", "empty", format!("one or more of {}", names.join(", ")));
        }
        for (at, aggregate) in given.iter().enumerate() {
            if given.iter().take(at).any(|before| before == aggregate) {
                let found = format!("{} again", aggregate.as_str());
                self.add(format!("/aggregates/{at}"), found, "each aggregate once");
            }
        }
        given.iter().map(|aggregate| Field::Aggregate(*aggregate)).collect()
    }

    pub fn late(&mut self, spec: &JobSpec) -> i64 {
        let most = if spec.join.is_some() { 0 } else { LENGTH_MS_MAX };
        let allowed_ns = if spec.join.is_some() && spec.late.allowed_ms > 0 {
            let allowed = "0 with a join: a pair is final when it is made";
            self.add("/late/allowed_ms", spec.late.allowed_ms.to_string(), allowed);
            0
        } else {
            self.ms("/late/allowed_ms", spec.late.allowed_ms, 0..=most)
        };
        if spec.late.then == Later::Update {
            if spec.window == Window::Each || spec.join.is_some() {
                let allowed = "\"side\", but with windows and without a join";
                self.add("/late/then", "\"update\"", allowed);
            } else if spec.aggregates.contains(&Aggregate::TimeWeightedMean) {
                let allowed = "\"side\" with time_weighted_mean, which needs what was before the window";
                self.add("/late/then", "\"update\"", allowed);
            }
        }
        allowed_ns
    }

    pub fn sinks(&mut self, spec: &JobSpec, fields: &[Field]) -> Vec<(Template, Template)> {
        if spec.sinks.is_empty() || spec.sinks.len() > SINKS_MAX {
            self.add("/sinks", format!("{} sinks", spec.sinks.len()), format!("1 to {SINKS_MAX}"));
        }
        let mut series = Vec::new();
        for (at, sink) in spec.sinks.iter().enumerate() {
            let Sink::Series { device, point } = sink else { continue };
            let mut template = |name: &str, text: &str| {
                Template::parse(text).map_err(|found| {
                    let allowed =
                        "letters, digits, '.', '_', '-', '/', {device}, {point}, {aggregate} and {job}";
                    self.add(format!("/sinks/{at}/{name}"), found, allowed);
                })
            };
            let (device, point) = (template("device", device), template("point", point));
            let (Ok(device), Ok(point)) = (device, point) else { continue };
            if spec.sql.is_some() {
                // What the names are made of is known with each answer.
                series.push((device, point));
                continue;
            }
            let missing = |name: &str| !device.names(name) && !point.names(name);
            let mut must = Vec::new();
            // A pair of two devices is one series.
            let is_pair = spec.join.as_ref().is_some_and(|join| join.left_device.is_some());
            if missing("device") && !is_pair && !is_one_name(&spec.source.devices) {
                must.push("{device}");
            }
            let has_points = spec.group == Group::Series && spec.join.is_none();
            if has_points && missing("point") && !is_one_name(&spec.source.points) {
                must.push("{point}");
            }
            if fields.iter().filter(|field| is_derived(**field)).count() > 1 && missing("aggregate") {
                must.push("{aggregate}");
            }
            if !must.is_empty() {
                let allowed = format!("templates with {}, or else series would mix", must.join(", "));
                self.add(format!("/sinks/{at}"), "of one name for several series", allowed);
            }
            if spec.group == Group::Device && !missing("point") {
                let allowed = "templates without {point}: the result is of all points of a device";
                self.add(format!("/sinks/{at}"), "with {point}", allowed);
            }
            series.push((device, point));
        }
        series
    }
}

/// Whether these patterns fit no more than one name.
fn is_one_name(patterns: &[String]) -> bool {
    matches!(patterns, [one] if !one.contains('*'))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}
