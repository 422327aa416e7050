//! The form of a definition: which keys there are and what each may hold, so that all that is wrong with a text is told at
//! once. What must hold between the keys is [`Job::check`]'s; both are asked here.
//!
//! It says again what the types of [`crate::spec`] are, as serde stops at the first thing that it does not know; a test
//! compares the two.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::check::{FieldError, Job, SpecError};
use crate::spec::JobSpec;

/// Most errors of the form that are told: nobody reads more, and each lists what is allowed.
pub const FORM_ERRORS_MAX: usize = 100;
/// Most characters of a wrong value, or a wrong key, that are told again.
const FOUND_CHARS_MAX: usize = 64;

/// What a value may be.
enum Form {
    Text,
    Flag(&'static [&'static str]),
    Whole,
    Number,
    OrNull(&'static Self),
    List(&'static Self),
    Table(&'static [Key]),
    /// A table whose `kind` says which keys it has.
    Kinds(&'static [(&'static str, &'static [Key])]),
}

struct Key {
    name: &'static str,
    is_needed: bool,
    form: Form,
}

const fn must(name: &'static str, form: Form) -> Key {
    Key { name, is_needed: true, form }
}

const fn may(name: &'static str, form: Form) -> Key {
    Key { name, is_needed: false, form }
}

const AGGREGATES: [&str; 8] = ["count", "min", "max", "sum", "first", "last", "mean", "time_weighted_mean"];

const JOB: [Key; 12] = [
    must("name", Form::Text),
    must(
        "source",
        Form::Table(&[must("devices", Form::List(&Form::Text)), must("points", Form::List(&Form::Text))]),
    ),
    may("stages", Form::List(&Form::Kinds(&STAGES))),
    may("join", Form::OrNull(&Form::Table(&JOIN))),
    must("window", Form::Kinds(&WINDOWS)),
    may("group", Form::Flag(&["series", "device"])),
    may("aggregates", Form::List(&Form::Flag(&AGGREGATES))),
    may("sql", Form::OrNull(&Form::Text)),
    may(
        "time",
        Form::Table(&[
            may("out_of_orderness_ms", Form::Whole),
            may("idle_timeout_ms", Form::OrNull(&Form::Whole)),
            may("ahead_max_ms", Form::Whole),
        ]),
    ),
    may("late", Form::Table(&[may("allowed_ms", Form::Whole), may("then", Form::Flag(&["side", "update"]))])),
    must("sinks", Form::List(&Form::Kinds(&SINKS))),
    may(
        "limits",
        Form::Table(&[
            may("devices", Form::Whole),
            may("open_windows", Form::Whole),
            may("state_bytes", Form::Whole),
        ]),
    ),
];

const STAGES: [(&str, &[Key]); 2] = [
    (
        "filter",
        &[
            may("points", Form::OrNull(&Form::Text)),
            must("compare", Form::Flag(&["lt", "le", "gt", "ge", "eq", "ne"])),
            must("value", Form::Number),
        ],
    ),
    (
        "scale",
        &[may("points", Form::OrNull(&Form::Text)), may("factor", Form::Number), may("offset", Form::Number)],
    ),
];

const JOIN: [Key; 7] = [
    must("left", Form::Text),
    must("right", Form::Text),
    may("left_device", Form::OrNull(&Form::Text)),
    may("right_device", Form::OrNull(&Form::Text)),
    must("tolerance_ms", Form::Whole),
    may("direction", Form::Flag(&["backward", "nearest"])),
    must("combine", Form::Flag(&["left", "right", "sum", "difference", "product", "ratio"])),
];

const WINDOWS: [(&str, &[Key]); 5] = [
    ("each", &[]),
    ("tumbling", &[must("length_ms", Form::Whole)]),
    ("hopping", &[must("length_ms", Form::Whole), must("hop_ms", Form::Whole)]),
    ("sliding", &[must("length_ms", Form::Whole)]),
    ("session", &[must("gap_ms", Form::Whole)]),
];

const SINKS: [(&str, &[Key]); 3] =
    [("series", &[may("device", Form::Text), must("point", Form::Text)]), ("rows", &[]), ("live", &[])];

/// What else a part has to be judged by: where one of these could not be read, nothing is said of it beyond its form.
const LEANS_ON: [(&str, &[&str]); 5] = [
    ("join", &["source", "sql"]),
    ("group", &["join", "window", "aggregates", "sql"]),
    ("aggregates", &["join", "window", "sql"]),
    ("late", &["join", "window", "aggregates"]),
    ("sinks", &["source", "join", "window", "group", "aggregates", "sql"]),
];

/// A job from its definition as JSON; `check` is [`Job::check`], or asks that and more.
///
/// # Errors
/// All that is wrong, in the order of a definition's parts: with the form, and beyond it with all parts that could be read.
pub fn read(
    mut definition: Value,
    check: impl FnOnce(JobSpec) -> Result<Job, SpecError>,
) -> Result<Job, SpecError> {
    let mut form = Reader::default();
    form.table("", &mut definition, &JOB, None);
    form.replace(&mut definition);
    let Reader { mut errors, unread } = form;
    let checked = match serde_json::from_value(definition) {
        Ok(spec) => check(spec),
        // What this form lets through, the types take; were they to differ, nothing may pass for it.
        Err(error) => Err(SpecError(vec![FieldError {
            field: String::new(),
            found: format!("none that can be read ({error})"),
            allowed: "definitions as `job reference` describes them".to_owned(),
        }])),
    };
    match checked {
        Ok(job) if errors.is_empty() => return Ok(job),
        Ok(_) => {}
        Err(SpecError(more)) => errors.extend(more.into_iter().filter(|error| {
            let part = part(&error.field);
            let leans_on = LEANS_ON.iter().find(|(name, _)| *name == part).map_or(&[][..], |(_, on)| on);
            !unread.contains(part) && !leans_on.iter().any(|other| unread.contains(*other))
        })),
    }
    let place = |error: &FieldError| JOB.iter().position(|key| key.name == part(&error.field));
    errors.sort_by_key(place);
    Err(SpecError(errors))
}

/// The part of a definition that a pointer is to.
fn part(pointer: &str) -> &str {
    pointer.split('/').nth(1).unwrap_or_default()
}

/// One more name of a JSON pointer (RFC 6901).
fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", shortened(name).replace('~', "~0").replace('/', "~1"))
}

fn shortened(text: &str) -> String {
    let cut = text.char_indices().nth(FOUND_CHARS_MAX).and_then(|(at, _)| text.get(..at));
    cut.map_or_else(|| text.to_owned(), |cut| format!("{cut}…"))
}

#[derive(Default)]
struct Reader {
    errors: Vec<FieldError>,
    /// Parts that cannot be read: other than for a key too many, which is taken out.
    unread: BTreeSet<String>,
}

impl Reader {
    fn wrong(&mut self, pointer: &str, found: String, allowed: String) {
        if self.errors.len() < FORM_ERRORS_MAX {
            self.errors.push(FieldError { field: pointer.to_owned(), found, allowed });
        }
    }

    fn unreadable(&mut self, pointer: &str, found: String, allowed: String) {
        self.wrong(pointer, found, allowed);
        self.unread.insert(part(pointer).to_owned());
    }

    fn value(&mut self, pointer: &str, value: &mut Value, form: &Form) {
        match (form, &mut *value) {
            (Form::Text, Value::String(_)) | (Form::OrNull(_), Value::Null) => {}
            (Form::Flag(names), Value::String(name)) if names.contains(&name.as_str()) => {}
            (Form::Whole, Value::Number(number)) if number.is_u64() => {}
            (Form::Number, Value::Number(_)) => {}
            (Form::OrNull(form), _) => self.value(pointer, value, form),
            (Form::List(form), Value::Array(all)) => {
                for (at, one) in all.iter_mut().enumerate() {
                    self.value(&format!("{pointer}/{at}"), one, form);
                }
            }
            (Form::Table(keys), _) => self.table(pointer, value, keys, None),
            (Form::Kinds(kinds), Value::Object(table)) => {
                let kind = table.get("kind").and_then(Value::as_str);
                match kinds.iter().find(|(name, _)| Some(*name) == kind) {
                    Some((_, keys)) => self.table(pointer, value, keys, Some("kind")),
                    None => {
                        let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
                        self.unreadable(&below(pointer, "kind"), found(table.get("kind")), names.join(", "));
                    }
                }
            }
            _ => self.unreadable(pointer, found(Some(value)), form.allowed()),
        }
    }

    /// Tells what is wrong with a table, and takes out keys that it has too many; `also` is one that was looked at.
    fn table(&mut self, pointer: &str, value: &mut Value, keys: &'static [Key], also: Option<&str>) {
        let Value::Object(table) = value else {
            self.unreadable(pointer, found(Some(value)), allowed_table(keys));
            // At the root there is nothing to go on with.
            *value = Value::Object(Map::new());
            return;
        };
        let is_known = |name: &str| also == Some(name) || keys.iter().any(|key| key.name == name);
        let unknown: Vec<String> = table.keys().filter(|name| !is_known(name)).cloned().collect();
        for name in unknown {
            table.remove(&name);
            let names: Vec<&str> = also.into_iter().chain(keys.iter().map(|key| key.name)).collect();
            self.wrong(&below(pointer, &name), "unknown".to_owned(), names.join(", "));
        }
        for key in keys {
            let place = below(pointer, key.name);
            match table.get_mut(key.name) {
                Some(value) => self.value(&place, value, &key.form),
                None if key.is_needed => self.unreadable(&place, found(None), key.form.allowed()),
                None => {}
            }
        }
    }

    /// Puts what passes in the place of parts that cannot be read, so that the others can be checked.
    fn replace(&self, definition: &mut Value) {
        let Value::Object(table) = definition else { return };
        for key in JOB.iter().filter(|key| self.unread.contains("") || self.unread.contains(key.name)) {
            let passes = match key.name {
                "name" => json!("job"),
                "source" => json!({ "devices": ["*"], "points": ["*"] }),
                "window" => json!({ "kind": "each" }),
                "sinks" => json!([{ "kind": "rows" }]),
                _ => {
                    table.remove(key.name);
                    continue;
                }
            };
            table.insert(key.name.to_owned(), passes);
        }
    }
}

impl Form {
    fn allowed(&self) -> String {
        match self {
            Self::Text => "texts".to_owned(),
            Self::Flag(names) => names.join(", "),
            Self::Whole => "whole numbers of 0 or more".to_owned(),
            Self::Number => "numbers".to_owned(),
            Self::OrNull(form) => format!("{}, or null", form.allowed()),
            Self::List(form) => format!("lists of {}", form.allowed()),
            Self::Table(keys) => allowed_table(keys),
            Self::Kinds(kinds) => {
                let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
                format!("tables of a kind: {}", names.join(", "))
            }
        }
    }
}

fn allowed_table(keys: &[Key]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    format!("tables with {}", names.join(", "))
}

fn found(value: Option<&Value>) -> String {
    value.map_or_else(|| "left out".to_owned(), |value| shortened(&value.to_string()))
}

#[cfg(test)]
mod tests;
