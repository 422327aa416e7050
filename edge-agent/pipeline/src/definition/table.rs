//! The keys of one table of a file: each is read as what it must be, and what is wrong is noted with its line.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Lines, Scalar};
use crate::problem::{Problems, hint};

/// A file that is being read.
pub struct Reader<'t> {
    pub text: &'t str,
    pub problems: Problems,
}

impl Reader<'_> {
    pub fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    pub fn problem(&mut self, at: usize, place: &str, what: impl Into<String>) {
        let line = self.line(at);
        self.problems.add(line, place, what);
    }
}

/// A table whose keys are being read. What is wrong gives a value all the same, so that the rest is read too.
pub struct Table<'r, 't, 'd> {
    pub reader: &'r mut Reader<'t>,
    pub table: &'d DeTable<'d>,
    /// What it is, in problems.
    pub place: String,
    /// Where it begins.
    pub at: usize,
    known: Vec<&'static str>,
}

impl<'r, 't, 'd> Table<'r, 't, 'd> {
    pub fn new(reader: &'r mut Reader<'t>, place: String, at: usize, table: &'d DeTable<'d>) -> Self {
        Self { reader, table, place, at, known: Vec::new() }
    }

    /// The value of a key, which is thereby an allowed one.
    pub fn value(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.known.push(key);
        self.table.get(key)
    }

    pub fn problem(&mut self, at: usize, key: &str, what: &str) {
        let place = format!("{}, {key}", self.place);
        self.reader.problem(at, &place, what);
    }

    /// A key of another type than it must have.
    fn must(&mut self, value: &Spanned<DeValue<'_>>, key: &str, must: &str) {
        self.problem(value.span().start, key, &format!("must be {must}"));
    }

    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        if let DeValue::String(text) = value.get_ref() {
            return Some(text.to_string());
        }
        self.must(value, key, "a text");
        None
    }

    pub fn number(&mut self, key: &'static str) -> Option<f64> {
        let value = self.value(key)?;
        let number = float(value.get_ref());
        if number.is_none() {
            self.must(value, key, "a finite number");
        }
        number
    }

    pub fn whole(&mut self, key: &'static str) -> Option<i64> {
        let value = self.value(key)?;
        let number = integer(value.get_ref());
        if number.is_none() {
            self.must(value, key, "a whole number");
        }
        number
    }

    /// A whole number of 0 or more.
    pub fn count(&mut self, key: &'static str) -> Option<u64> {
        let value = self.value(key)?;
        let number = integer(value.get_ref()).and_then(|number| u64::try_from(number).ok());
        if number.is_none() {
            self.must(value, key, "a whole number of 0 or more");
        }
        number
    }

    pub fn truth(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.must(value, key, "true or false");
        }
        truth
    }

    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let texts = match value.get_ref() {
            DeValue::String(text) => Some(vec![text.to_string()]),
            DeValue::Array(items) => {
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        if texts.is_none() {
            self.must(value, key, "a text or a list of texts");
        }
        texts
    }

    /// Texts by names.
    pub fn named_texts(&mut self, key: &'static str) -> Option<BTreeMap<String, String>> {
        let value = self.value(key)?;
        let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
        let named = value.get_ref().as_table().and_then(|table| {
            table.iter().map(|(name, value)| Some((name.get_ref().to_string(), text(value)?))).collect()
        });
        if named.is_none() {
            self.must(value, key, "a table of names and texts, such as { a = \"pump-1/flow\" }");
        }
        named
    }

    pub fn scalar(&mut self, key: &'static str) -> Option<Scalar> {
        let value = self.value(key)?;
        let scalar = match value.get_ref() {
            DeValue::Boolean(truth) => Some(Scalar::Bool(*truth)),
            DeValue::String(text) => Some(Scalar::Text(text.to_string())),
            DeValue::Integer(_) => integer(value.get_ref()).map(Scalar::Int),
            DeValue::Float(_) => float(value.get_ref()).map(Scalar::Float),
            _ => None,
        };
        if scalar.is_none() {
            self.must(value, key, "a number, true, false or a text");
        }
        scalar
    }

    /// One of several names.
    pub fn choice<T: Copy>(&mut self, key: &'static str, allowed: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, chosen)) = allowed.iter().find(|(name, _)| *name == text) {
            return Some(*chosen);
        }
        let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
        let what =
            format!("is {text:?}; allowed are {}{}", names.join(", "), hint(&text, names.iter().copied()));
        self.problem(self.place_of(key), key, &what);
        None
    }

    /// Tells that a key is missing.
    pub fn needed<T>(&mut self, key: &'static str, value: Option<T>) -> Option<T> {
        // One that is there and wrong has been told.
        if value.is_none() && self.table.get(key).is_none() {
            self.problem(self.at, key, "is needed");
        }
        value
    }

    /// Where a key stands, or else the table.
    pub fn place_of(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Tells the keys that nobody asked for, and notes the lines of all others.
    pub fn finish(mut self, stage: Option<usize>, lines: &mut Lines) {
        lines.0.insert((stage, String::new()), self.reader.line(self.at));
        let known = std::mem::take(&mut self.known);
        for (key, value) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                lines.0.insert((stage, name.to_owned()), self.reader.line(value.span().start));
                continue;
            }
            let near = hint(name, known.iter().copied());
            let what = format!("is an unknown key; allowed are {}{near}", known.join(", "));
            self.problem(key.span().start, name, &what);
        }
    }
}

fn float(value: &DeValue<'_>) -> Option<f64> {
    let digits = match value {
        DeValue::Float(number) => number.as_str().replace('_', ""),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
        _ => return None,
    };
    digits.parse().ok().filter(|number: &f64| number.is_finite())
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', "").parse().ok(),
        _ => None,
    }
}
