//! The `[alarms]` of a profile as a pipeline that only looks on: a rule for each condition, which tells of a device as point
//! `alarm/NAME`, true from when the alarm begins until it ends.

use tideline_pipeline::Definition;
use tideline_pipeline::definition::{Condition, Kind, Rule, Scalar, Severity, StageDefinition};
use tideline_profiles::Profile;
use tideline_profiles::form::section::{self, Alarm};
use tideline_profiles::number::Number;
use tideline_protocol::model::Class;
use tideline_spool::{Overflow, StreamConfig};

/// What the points of alarms begin with.
pub const PREFIX: &str = "alarm/";

/// The pipeline of the alarms of a profile; none without alarms.
#[must_use]
pub fn of(profile: &Profile, name: String) -> Option<Definition> {
    let mut stages = Vec::new();
    for (name, alarm) in profile.alarms() {
        let conditions = conditions(alarm);
        let is_only = conditions.len() == 1;
        for (condition, for_ms) in conditions {
            // Each is a point of its own, as one may end while another holds.
            let name = if is_only { name.clone() } else { format!("{name}-{}", kind(&condition)) };
            let kind = Kind::Rule(rule(alarm, condition, for_ms));
            stages.push(StageDefinition { name, after: vec!["from".to_owned()], kind });
        }
    }
    let mut points: Vec<String> =
        profile.alarms().values().map(|alarm| format!("*/{}", alarm.point)).collect();
    points.sort_unstable();
    points.dedup();
    let points: Vec<&str> = points.iter().map(String::as_str).collect();
    let mut made = Definition::new(&name, &points, stages);
    made.watch = true;
    (!made.stages.is_empty()).then_some(made)
}

/// The stream for alarms: the first one of that class that holds nobody up; none for that of the readings.
#[must_use]
pub fn stream(streams: &[StreamConfig]) -> Option<String> {
    let fits =
        |stream: &&StreamConfig| stream.class == Class::Alarm && stream.policy.overflow != Overflow::Block;
    streams.iter().find(fits).map(|stream| stream.name.clone())
}

fn rule(alarm: &Alarm, condition: Condition, for_ms: u64) -> Rule {
    Rule {
        condition,
        of: vec![format!("*/{}", alarm.point)],
        for_ms,
        clear_for_ms: 0,
        severity: match alarm.severity {
            section::Severity::Info => Severity::Info,
            section::Severity::Warning => Severity::Warning,
            section::Severity::Critical => Severity::Critical,
        },
        message: alarm.title.clone(),
        write: None,
    }
}

/// What begins an alarm, each with how long it has to hold in ms.
fn conditions(alarm: &Alarm) -> Vec<(Condition, u64)> {
    let for_ms = u64::from(alarm.for_s) * 1_000;
    let above = alarm.above.map(|limit| Condition::Above { limit, clear: Some(limit - alarm.hysteresis) });
    let below = alarm.below.map(|limit| Condition::Below { limit, clear: Some(limit + alarm.hysteresis) });
    let equals = alarm.equals.as_ref().map(|value| Condition::Equals { value: scalar(value) });
    let held = [above, below, equals].into_iter().flatten().map(|condition| (condition, for_ms));
    let silent = alarm.no_data_s.map(|silent_s| (Condition::Absence {}, u64::from(silent_s) * 1_000));
    held.chain(silent).collect()
}

/// The key of an alarm that a condition came of.
const fn kind(condition: &Condition) -> &'static str {
    if matches!(condition, Condition::Absence {}) { "no-data" } else { condition.as_str() }
}

fn scalar(value: &section::Scalar) -> Scalar {
    match value {
        section::Scalar::Bool(truth) => Scalar::Bool(*truth),
        section::Scalar::Number(Number::Whole(whole)) => Scalar::Int(*whole),
        section::Scalar::Number(Number::Real(real)) => Scalar::Float(*real),
        section::Scalar::Text(text) => Scalar::Text(text.clone()),
    }
}
