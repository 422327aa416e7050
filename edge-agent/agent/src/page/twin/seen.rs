//! What of a twin stands on its page: so much of it, and no value longer than there is room for.

use serde_json::Value;
use tideline_protocol::time::NS_PER_MS;
use tideline_twin::{Leaf, Section, Twin};

use super::super::html::cut;
use crate::twin::command::leaves;
use crate::twin::side;

/// Most leaves, values of conflicts and steps of history; the newest of these.
pub const LEAVES_MAX: usize = 100;
pub const VALUES_MAX: usize = 40;
pub const STEPS_MAX: usize = 30;
/// Most characters of a value and of a name.
const VALUE_CHARS_MAX: usize = 120;

/// A leaf of `desired`, `reported` or both; of tags and notes what is wanted alone.
pub struct Shown {
    pub key: String,
    pub wanted: String,
    pub reported: String,
    pub differs: bool,
}

/// One of the values of a leaf.
pub struct Contested {
    pub section: &'static str,
    pub key: String,
    pub value: String,
    pub by: String,
    pub time_ns: Option<i64>,
    /// Names the value, however long it is.
    pub named: String,
    /// What is reported is the device's to say.
    pub is_kept_here: bool,
}

/// A step of history.
pub struct Stepped {
    pub time_ns: i64,
    pub by: String,
    pub key: String,
    pub value: String,
}

/// A twin as its page has it.
pub struct Seen {
    pub unconfirmed: u64,
    pub leaves: Vec<Shown>,
    pub leaves_more: usize,
    pub conflicts: Vec<Contested>,
    pub conflicts_more: usize,
    pub steps: Vec<Stepped>,
}

/// Names a value.
pub fn digest(value: &Value) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, value.to_string().as_bytes());
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cut(text, VALUE_CHARS_MAX),
        value => cut(&value.to_string(), VALUE_CHARS_MAX),
    }
}

impl Seen {
    /// Of a twin as it is.
    pub fn of(twin: &Twin) -> Self {
        let (leaves, leaves_more) = first(all(twin), LEAVES_MAX);
        let conflicts = twin.conflicts().into_iter().flat_map(|conflict| {
            let (section, key) = (conflict.section, conflict.key.to_string());
            conflict.values.into_iter().map(move |leaf| contested(section, &key, &leaf))
        });
        let (conflicts, conflicts_more) = first(conflicts.collect(), VALUES_MAX);
        // A history that cannot be read is told in the log by who needs it.
        let steps = twin.history(&[]).unwrap_or_default().into_iter().rev().take(STEPS_MAX);
        let steps = steps.map(|step| Stepped {
            time_ns: step.time_ms.saturating_mul(NS_PER_MS),
            by: cut(&format!("{} ({})", step.author, side(step.actor)), VALUE_CHARS_MAX),
            key: format!("{}/{}", step.section, step.key),
            value: if step.value.is_null() { "removed".to_owned() } else { short(&step.value) },
        });
        let unconfirmed = twin.unconfirmed();
        Self { unconfirmed, leaves, leaves_more, conflicts, conflicts_more, steps: steps.collect() }
    }
}

fn first<T>(mut all: Vec<T>, most: usize) -> (Vec<T>, usize) {
    let more = all.len().saturating_sub(most);
    all.truncate(most);
    (all, more)
}

fn contested(section: Section, key: &str, leaf: &Leaf) -> Contested {
    let by = |origin: &tideline_twin::Origin| format!("{} ({})", origin.author, side(origin.actor));
    Contested {
        section: section.name(),
        key: key.to_owned(),
        value: short(&leaf.value),
        by: cut(&leaf.origin.as_ref().map(by).unwrap_or_default(), VALUE_CHARS_MAX),
        time_ns: leaf.origin.as_ref().map(|origin| origin.time_ms.saturating_mul(NS_PER_MS)),
        named: digest(&leaf.value),
        is_kept_here: section != Section::Reported,
    }
}

/// What differs first, then what else is wanted, tags and notes, and what is reported beside.
fn all(twin: &Twin) -> Vec<Shown> {
    let of = |section: Section| leaves(&twin.json(section));
    let mut reported = of(Section::Reported);
    let mut wanted = Vec::new();
    let delta: Vec<_> = twin.delta().into_iter().map(|found| found.key.to_string()).collect();
    for (key, value) in of(Section::Desired) {
        let at = reported.iter().position(|(told, _)| *told == key);
        let is = at.map(|at| reported.swap_remove(at).1).unwrap_or_default();
        let differs = delta.contains(&key);
        wanted.push(Shown { wanted: short(&value), reported: short(&is), differs, key });
    }
    wanted.sort_by_key(|shown| !shown.differs);
    for section in [Section::Tags, Section::Notes] {
        wanted.extend(of(section).into_iter().map(|(key, value)| Shown {
            key: format!("{section}: {key}"),
            wanted: short(&value),
            reported: String::new(),
            differs: false,
        }));
    }
    reported.sort_by(|(a, _), (b, _)| a.cmp(b));
    wanted.extend(reported.into_iter().map(|(key, value)| Shown {
        reported: short(&value),
        wanted: String::new(),
        differs: false,
        key,
    }));
    wanted
}
