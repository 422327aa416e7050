//! Reading a profile: all that is wrong with it at once, each with its line.

use std::collections::BTreeMap;

use tideline_protocol::model::{ID_BYTES_MAX, NAME_BYTES_MAX};
use tideline_protocol::value::{VALUE_TEXT_BYTES_MAX, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{Allowed, Point, ProfileError};

/// The keys of a point by its type.
const fn keys(kind: ValueKind) -> &'static [&'static str] {
    match kind {
        ValueKind::Float | ValueKind::Int => &["type", "name", "unit", "min", "max"],
        ValueKind::Bool => &["type", "name"],
        ValueKind::Text => &["type", "name", "values", "bytes_max"],
    }
}

/// The profile's name and its points.
pub fn profile(file: &str, text: &str) -> Result<(String, BTreeMap<String, Point>), ProfileError> {
    let table =
        DeTable::parse(text).map_err(|error| ProfileError { problems: vec![format!("{file}: {error}")] })?;
    let mut reader = Reader { file, text, problems: Vec::new() };
    let (mut profile_name, mut points) = (file.to_owned(), BTreeMap::new());
    for (key, value) in table.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("name", DeValue::String(name)) => profile_name = name.to_string(),
            ("points", DeValue::Table(entries)) => {
                for (name, entry) in entries {
                    if let Some(point) = reader.point(name.get_ref(), entry) {
                        points.insert(name.get_ref().to_string(), point);
                    }
                }
            }
            ("name" | "points", _) => reader.problem(value.span().start, "has the wrong type"),
            (other, _) => {
                reader.problem(key.span().start, &format!("{other}: unknown key; allowed are name, points"))
            }
        }
    }
    if reader.problems.is_empty() {
        Ok((profile_name, points))
    } else {
        Err(ProfileError { problems: reader.problems })
    }
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<String>,
}

/// A point whose keys are being read.
struct Entry<'e> {
    id: &'e str,
    at: usize,
    table: &'e DeTable<'e>,
}

impl Reader<'_> {
    fn problem(&mut self, at: usize, what: &str) {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        self.problems.push(format!("{}:{line}: {what}", self.file));
    }

    fn point(&mut self, id: &str, entry: &Spanned<DeValue<'_>>) -> Option<Point> {
        let at = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            self.problem(at, &format!("{id}: must be a table of {}", keys(ValueKind::Float).join(", ")));
            return None;
        };
        let before = self.problems.len();
        let entry = Entry { id, at, table };
        let kind = self.text_of(&entry, "type").map_or(Ok(ValueKind::Float), |kind| kind.parse());
        let kind = match kind {
            Ok(kind) => kind,
            Err(error) => {
                let at = table.get("type").map_or(at, |value| value.span().start);
                self.problem(at, &format!("{id}.type: {error}"));
                return None;
            }
        };
        for key in table.keys().filter(|key| !keys(kind).contains(&key.get_ref().as_ref())) {
            let (name, allowed) = (key.get_ref(), keys(kind).join(", "));
            let what = format!("{id}.{name}: unknown key of type {kind}; allowed are {allowed}");
            self.problem(key.span().start, &what);
        }
        let unit = self.text_of(&entry, "unit").unwrap_or_default();
        let name = self.text_of(&entry, "name").unwrap_or_default();
        self.check_name(&entry, &name);
        let allowed = match kind {
            ValueKind::Float => self.range(&entry, float).map(|(min, max)| Allowed::Float { min, max }),
            ValueKind::Int => self.range(&entry, whole).map(|(min, max)| Allowed::Int { min, max }),
            ValueKind::Bool => Some(Allowed::Bool),
            ValueKind::Text => Some(self.texts(&entry)),
        };
        (self.problems.len() == before).then_some(Point { unit, name, allowed: allowed? })
    }

    fn text_of(&mut self, entry: &Entry<'_>, key: &str) -> Option<String> {
        let value = entry.table.get(key)?;
        if let DeValue::String(text) = value.get_ref() {
            return Some(text.to_string());
        }
        self.problem(value.span().start, &format!("{}.{key}: must be a text", entry.id));
        None
    }

    fn check_name(&mut self, entry: &Entry<'_>, name: &str) {
        let at = || entry.table.get("name").map_or(entry.at, |value| value.span().start);
        // `*` becomes a part of an id.
        let room = if name.contains('*') { ID_BYTES_MAX } else { 0 };
        let max = NAME_BYTES_MAX - room;
        if name.len() > max {
            let what = format!("{}.name: has {} bytes; allowed are {max}", entry.id, name.len());
            self.problem(at(), &what);
        }
        if name.contains('*') && !entry.id.ends_with("/*") {
            self.problem(at(), &format!("{}.name: * is allowed for points that end in /*", entry.id));
        }
    }

    /// `min` and `max`, and with them `unit`, are needed of numbers.
    fn range<N: PartialOrd + std::fmt::Display>(
        &mut self,
        entry: &Entry<'_>,
        read: fn(&DeValue<'_>) -> Result<N, &'static str>,
    ) -> Option<(N, N)> {
        let (id, at) = (entry.id, entry.at);
        if ["unit", "min", "max"].into_iter().any(|key| entry.table.get(key).is_none()) {
            self.problem(at, &format!("{id}: unit, min and max are needed"));
        }
        let mut bound = |key: &str| {
            let value = entry.table.get(key)?;
            let read = read(value.get_ref());
            read.map_err(|must| self.problem(value.span().start, &format!("{id}.{key}: {must}"))).ok()
        };
        let (min, max) = (bound("min"), bound("max"));
        let (min, max) = (min?, max?);
        if min > max {
            self.problem(at, &format!("{id}: min {min} is above max {max}"));
        }
        Some((min, max))
    }

    fn texts(&mut self, entry: &Entry<'_>) -> Allowed {
        let id = entry.id;
        let mut bytes_max = VALUE_TEXT_BYTES_MAX;
        if let Some(value) = entry.table.get("bytes_max") {
            let given = whole(value.get_ref()).ok().and_then(|number| usize::try_from(number).ok());
            match given.filter(|bytes| (1..=VALUE_TEXT_BYTES_MAX).contains(bytes)) {
                Some(given) => bytes_max = given,
                None => {
                    let must = format!("must be a whole number from 1 to {VALUE_TEXT_BYTES_MAX}");
                    self.problem(value.span().start, &format!("{id}.bytes_max: {must}"));
                }
            }
        }
        let Some(list) = entry.table.get("values") else {
            return Allowed::Text { values: Vec::new(), bytes_max };
        };
        let mut values = Vec::new();
        match list.get_ref() {
            DeValue::Array(items) if !items.is_empty() => {
                for item in items {
                    match item.get_ref() {
                        DeValue::String(text) if text.len() <= bytes_max => values.push(text.to_string()),
                        _ => {
                            let must = format!("must be texts of at most {bytes_max} bytes");
                            self.problem(item.span().start, &format!("{id}.values: {must}"));
                        }
                    }
                }
            }
            _ => self
                .problem(list.span().start, &format!("{id}.values: must be a list of texts, at least one")),
        }
        Allowed::Text { values, bytes_max }
    }
}

fn digits(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        _ => None,
    }
}

fn float(value: &DeValue<'_>) -> Result<f64, &'static str> {
    let number = digits(value).and_then(|digits| digits.parse().ok());
    number.filter(|number: &f64| !number.is_nan()).ok_or("must be a number")
}

#[expect(clippy::cast_possible_truncation, reason = "exact, as is asked before")]
fn whole(value: &DeValue<'_>) -> Result<i64, &'static str> {
    // A great one is shorter as 1e15.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let digits = digits(value).unwrap_or_default();
    let float = || digits.parse().ok().filter(|f: &f64| f.trunc() == *f && f.abs() <= EXACT_MAX);
    let number = digits.parse().ok().or_else(|| float().map(|number| number as i64));
    number.ok_or("must be a whole number of 64 bits")
}
