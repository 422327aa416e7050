//! Reading a file entry by entry: all that is wrong with it at once, each with its line.
//!
//! A table becomes one of the types of [`crate::form`]. Keys that the type has not are told with what may have been
//! meant and taken out; when a value is of the wrong type, its key is told and taken out, and the rest is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::ProfileError;

/// Most problems that are told of one file.
const PROBLEMS_MAX: usize = 100;
/// How alike a key has to be for it to be what may have been meant.
const ALIKE_MIN: f64 = 0.6;

/// Gathers what is wrong with a file.
pub struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: BTreeSet<(usize, String)>,
}

/// A table as far as it could be read.
pub struct Entry<T> {
    /// Where it is in the file's own terms, as `points.flow`.
    pub path: String,
    /// Where it begins.
    pub at: usize,
    /// What it says.
    pub form: T,
    keys: BTreeMap<String, usize>,
}

impl<T> Entry<T> {
    /// Whether it says anything of this, even if that is wrong.
    pub fn says(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Where it says it.
    pub fn at(&self, key: &str) -> usize {
        self.keys.get(key).copied().unwrap_or(self.at)
    }
}

impl<'t> Reader<'t> {
    pub const fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, problems: BTreeSet::new() }
    }

    /// Notes a problem at a byte of the text.
    pub fn problem(&mut self, at: usize, what: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
            self.problems.insert((line, format!("{}:{line}: {what}", self.file)));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// All of them, by line.
    pub fn finish<T>(self, made: Option<T>) -> Result<T, ProfileError> {
        match made {
            Some(made) if self.problems.is_empty() => Ok(made),
            _ => Err(ProfileError {
                problems: self.problems.into_iter().map(|(_, problem)| problem).collect(),
            }),
        }
    }

    /// A problem with a key of an entry.
    pub fn problem_of<T>(&mut self, entry: &Entry<T>, key: &str, what: &str) {
        self.problem(entry.at(key), &format!("{}.{key}: {what}", entry.path));
    }

    /// A table as this type. None when too much of it is wrong.
    pub fn entry<T: DeserializeOwned>(
        &mut self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Entry<T>> {
        let at = value.span().start;
        let known = fields::<T>();
        let DeValue::Table(table) = value.get_ref() else {
            self.problem(at, &format!("{path}: must be a table of {}", known.join(", ")));
            return None;
        };
        let keys =
            table.iter().map(|(key, value)| (key.get_ref().to_string(), place(key.span(), &value.span())));
        let keys = keys.collect();
        let mut left = table.clone();
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let what = unknown(key.get_ref(), known);
            self.problem(key.span().start, &format!("{path}.{what}"));
            left.remove(key.get_ref().as_ref());
        }
        let mut left = Spanned::new(value.span(), DeValue::Table(left));
        let mut taken_out: Vec<String> = Vec::new();
        loop {
            let error = match T::deserialize(ValueDeserializer::from(left.clone())) {
                Ok(form) => return Some(Entry { path: path.to_owned(), at, form, keys }),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_else(|| value.span());
            let wrong = take_out(left.get_mut(), &span);
            let place = wrong.as_deref().map_or_else(|| path.to_owned(), |key| format!("{path}.{key}"));
            // What is missing because it was wrong was told.
            let missing =
                error.message().strip_prefix("missing field `").map(|rest| rest.trim_end_matches('`'));
            let was_wrong = |name: &str| taken_out.contains(&format!("{place}.{name}"));
            if !missing.is_some_and(was_wrong) {
                self.problem(span.start, &format!("{place}{}", told(error.message())));
            }
            wrong?;
            taken_out.push(place);
        }
    }

    /// The entries of a section that has them by name.
    pub fn entries<T: DeserializeOwned>(
        &mut self,
        section: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<(String, Entry<T>)> {
        let DeValue::Table(table) = value.get_ref() else {
            self.problem(value.span().start, &format!("{section}: must be a table of tables"));
            return Vec::new();
        };
        let named = table.iter().filter_map(|(name, value)| {
            let entry = self.entry(&format!("{section}.{}", name.get_ref()), value)?;
            Some((name.get_ref().to_string(), entry))
        });
        named.collect()
    }
}

/// Where a key is told to be: that of a table which stands apart is where the table begins.
fn place(key: Range<usize>, value: &Range<usize>) -> usize {
    key.start.min(value.start)
}

/// Takes out the smallest part that has what stands at this place, and says which it was.
fn take_out(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<String> {
    let holds = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    match value {
        DeValue::Table(table) => {
            let mut found = None;
            for (key, value) in table.iter_mut() {
                // Whoever writes a key that is none need not lose its neighbours.
                let inner = if holds(&key.span()) { None } else { take_out(value.get_mut(), span) };
                if inner.is_some() || holds(&key.span()) || holds(&value.span()) {
                    found = Some((key.get_ref().to_string(), inner));
                    break;
                }
            }
            let (key, inner) = found?;
            let Some(inner) = inner else {
                table.remove(key.as_str());
                return Some(key);
            };
            Some(format!("{key}.{inner}"))
        }
        DeValue::Array(items) => {
            let mut found = None;
            for (at, item) in items.iter_mut().enumerate() {
                let inner = take_out(item.get_mut(), span);
                if inner.is_some() || holds(&item.span()) {
                    found = Some((at, inner));
                    break;
                }
            }
            let (at, inner) = found?;
            let Some(inner) = inner else {
                let others = items.iter().enumerate().filter(|(other, _)| *other != at);
                *items = others.map(|(_, item)| item.clone()).collect();
                return Some(at.to_string());
            };
            Some(format!("{at}.{inner}"))
        }
        _ => None,
    }
}

/// What is said of a key that is none.
pub fn unknown(key: &str, known: &[&str]) -> String {
    let key: String = key.chars().take(64).collect();
    let allowed = known.join(", ");
    match meant(&key, known) {
        Some(meant) => format!("{key}: unknown key; did you mean {meant}? Allowed are {allowed}"),
        None => format!("{key}: unknown key; allowed are {allowed}"),
    }
}

/// Which of these may have been meant.
pub fn meant<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    let alike = |known: &&'k str| (strsim::normalized_damerau_levenshtein(text, known), *known);
    let best = known.iter().map(alike).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(alike, _)| *alike >= ALIKE_MIN).map(|(_, known)| known)
}

/// What serde says of a place, in the words of all other problems.
fn told(message: &str) -> String {
    let quoted =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let words = quoted(rest);
        let (Some(found), allowed) = (words.first(), words.get(1..).unwrap_or_default()) else {
            return format!(": {message}");
        };
        let known: Vec<&str> = allowed.iter().map(String::as_str).collect();
        let hint = meant(found, &known).map_or_else(String::new, |meant| format!("did you mean {meant}? "));
        return format!(": {found:?} is unknown; {hint}allowed are {}", known.join(", "));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let words = quoted(rest);
        let known: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        // The place ends in the key itself.
        let what = unknown(words.first().map_or("", String::as_str), &known);
        return what.split_once(": ").map_or_else(String::new, |(_, what)| format!(": {what}"));
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!(": {} is needed", rest.replace('`', ""));
    }
    let typed = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = typed.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!(": must be {}; it is the {}", type_name(expected), found.replace('`', ""));
    }
    format!(": {message}")
}

fn type_name(expected: &str) -> &str {
    match expected {
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number of 0 or more",
        "f64" => "a number",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

/// The names of a type's fields.
pub fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    let _ = T::deserialize(Fields(&mut found));
    found
}

/// A deserializer that holds nothing: it only learns what is asked for.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("holds nothing"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("holds nothing"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
