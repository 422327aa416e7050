//! What can be read and could never be: bits that a register does not have, values that none of its numbers comes to, alarms that no
//! value of their point begins.

use toml::de::DeTable;

use super::Contents;
use crate::allowed::{Allowed, Whose};
use crate::form::section::{Alarm, Delivery};
use crate::point::{Place, Point};
use crate::read::{Entry, Reader};
use tideline_protocol::value::ValueKind;

/// Checks all points of a profile.
pub fn check_points(reader: &mut Reader<'_>, table: &DeTable<'_>, contents: &Contents) {
    for (id, point) in &contents.points {
        let problems = [empty_part(id), bits(point), texts(point), range(point)];
        for (key, what) in problems.into_iter().flatten() {
            let section =
                table.get("points").and_then(|points| points.get_ref().as_table()?.get(id.as_str()));
            let said = section.and_then(|entry| entry.get_ref().as_table()?.get(key)).or(section);
            let path = if key.is_empty() { format!("points.{id}") } else { format!("points.{id}.{key}") };
            reader.problem(said.map_or(0, |at| at.span().start), &format!("{path}: {what}"));
        }
    }
}

type Problem = Option<(&'static str, String)>;

fn empty_part(id: &str) -> Problem {
    id.split('/').any(str::is_empty).then(|| ("", "a part of its id between / is empty".to_owned()))
}

/// Whether a point stands in whole numbers of registers, whose bits are counted.
fn is_counted(point: &Point) -> bool {
    matches!(point.place, Place::Register(_) | Place::Model(_))
        && point.conversion.encoding.is_some_and(|encoding| encoding.whole_range().is_some())
}

fn bits(point: &Point) -> Problem {
    let conversion = &point.conversion;
    if !is_counted(point) || conversion.width >= 64 {
        return None;
    }
    let (width, shift) = (conversion.width, conversion.shift);
    let beyond = |mask: u64| mask >> width != 0;
    if conversion.mask.is_some_and(beyond) {
        return Some(("mask", format!("has bits beyond the {width} of its encoding")));
    }
    if shift >= width || conversion.mask.is_some_and(|mask| mask >> shift == 0) {
        return Some(("shift", "leaves no bit, so that it is always 0".to_owned()));
    }
    let extra = conversion.bits.keys().find(|bit| **bit >= width)?;
    Some(("bits", format!("bit {extra} is beyond the {width} of its encoding")))
}

fn texts(point: &Point) -> Problem {
    let conversion = &point.conversion;
    let kind = point.allowed.kind();
    if !conversion.names.is_empty() && matches!(kind, ValueKind::Float | ValueKind::Int) {
        return Some(("enum", format!("is for points of type text and bool; this one is of type {kind}")));
    }
    let (least, greatest) = conversion.encoding.filter(|_| is_counted(point))?.whole_range()?;
    let most =
        conversion.mask.map_or(greatest, |mask| greatest.min(i128::from(mask >> conversion.shift.min(63))));
    let is_outside = |raw: &&String| raw.parse::<i128>().is_ok_and(|raw| !(least..=most).contains(&raw));
    let outside = conversion.names.keys().find(is_outside)?;
    Some(("enum", format!("{outside} is none of its raw numbers, which are {least} to {most}")))
}

/// Whether any raw number comes to a value that is allowed.
#[expect(clippy::cast_precision_loss, reason = "ends are compared by far more than that")]
fn range(point: &Point) -> Problem {
    let conversion = &point.conversion;
    let has_power = match &point.place {
        Place::Register(register) => register.power.is_some(),
        Place::Model(register) => register.power.is_some(),
        _ => true,
    };
    if has_power || !is_counted(point) {
        return None;
    }
    let (least, greatest) = conversion.encoding?.whole_range()?;
    let (min, max) = match point.allowed {
        Allowed::Float { min, max } => (min, max),
        Allowed::Int { min, max } => (min as f64, max as f64),
        _ => return None,
    };
    let ends = [least, greatest].map(|raw| raw as f64 * conversion.scale + conversion.offset);
    let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
    let is_apart = min > high || max < low;
    is_apart.then(|| ("", format!("no raw number comes to {min} to {max}: they come to {low} to {high}")))
}

/// Checks what an alarm looks for against what its point may have.
pub fn check_alarm(reader: &mut Reader<'_>, entry: &Entry<Alarm>, contents: &Contents) {
    let alarm = &entry.form;
    let limits = [("above", alarm.above), ("below", alarm.below)];
    for (key, limit) in limits.into_iter().filter_map(|(key, limit)| Some((key, limit?))) {
        if !limit.is_finite() {
            reader.problem_of(entry, key, "must be a number");
        }
        let kind = contents.points.get(&alarm.point).map(|point| point.allowed.kind());
        if kind == Some(ValueKind::Text) {
            reader.problem_of(
                entry,
                key,
                &format!("{} is a text, which is not above or below a number", alarm.point),
            );
        }
    }
    if let (Some(equals), Some(point)) = (&alarm.equals, contents.points.get(&alarm.point)) {
        let whose = Whose { profile: &contents.name, point: &alarm.point, unit: &point.unit };
        if let Err(error) = point.allowed.judge(&whose, equals.value()) {
            reader.problem_of(entry, "equals", &error.to_string());
        }
    }
}

/// Checks how long an agent keeps readings.
pub fn check_expiry(reader: &mut Reader<'_>, entry: &Entry<Delivery>) {
    if entry.form.expire_h == Some(0) {
        reader.problem_of(entry, "expire_h", "must be 1 or more: nothing would be kept until it is sent");
    }
}
