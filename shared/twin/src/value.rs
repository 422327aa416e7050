//! Values of leaves: what JSON becomes in the document, and back.
//!
//! Lists and empty objects are one scalar each, their JSON as bytes: of two lists that were written at once both stand, as
//! a conflict, and neither is mixed with the other.

use automerge::ScalarValue;
use serde_json::{Number, Value as Json};

use crate::limits::{DEPTH_MAX, KEYS_MAX, TEXT_BYTES_MAX};

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Beyond 64 bits.
    #[error("the number {0} is no signed whole number of 64 bits and no double")]
    Number(String),
    /// Too long.
    #[error("a value has {found} bytes; allowed are {TEXT_BYTES_MAX}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// A text that merging made long grows.
    #[error(
        "a text has {found} bytes; allowed are {TEXT_BYTES_MAX}, and what merging made longer may stay as it is or become shorter than its {there} bytes"
    )]
    Grown {
        /// Its length.
        found: usize,
        /// How long it is.
        there: usize,
    },
    /// Lists within lists.
    #[error("a list is more than {DEPTH_MAX} deep")]
    TooDeep,
    /// A text that would have its reader give up.
    #[error("has more than 100 objects and lists within one another; allowed are 100")]
    Nested,
    /// Which of the two is meant, nobody knows.
    #[error("stands twice in one object; allowed is each name once")]
    Twice,
    /// Only what is absent is null.
    #[error("null is no value of a leaf; delete it instead")]
    Null,
    /// An object is no leaf.
    #[error("an object with members is no value of one leaf; write its members")]
    Object,
    /// Counters hold whole numbers.
    #[error("a counter takes whole numbers of 64 bits with a sign, not {0}")]
    Count(String),
    /// More than a document may have.
    #[error("a set has {found} elements; allowed are {KEYS_MAX}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// Elements of sets are compared, which lists and doubles are bad at.
    #[error("an element of a set is a text, a whole number or a boolean, not {0}")]
    Element(String),
}

/// The scalar of a leaf's value.
pub(crate) fn scalar(value: &Json) -> Result<ScalarValue, ValueError> {
    match value {
        Json::Null => Err(ValueError::Null),
        Json::Bool(value) => Ok(ScalarValue::Boolean(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(ScalarValue::Int(whole)),
            (None, Some(float)) if number.is_f64() && float.is_finite() => Ok(ScalarValue::F64(float)),
            _ => Err(ValueError::Number(number.to_string())),
        },
        Json::String(text) if text.len() > TEXT_BYTES_MAX => Err(ValueError::TooLong { found: text.len() }),
        Json::String(text) => Ok(ScalarValue::Str(text.as_str().into())),
        Json::Object(members) if !members.is_empty() => Err(ValueError::Object),
        Json::Array(_) | Json::Object(_) => {
            if !shallow(value, DEPTH_MAX) {
                return Err(ValueError::TooDeep);
            }
            let bytes = canonical(value).into_bytes();
            if bytes.len() > TEXT_BYTES_MAX {
                return Err(ValueError::TooLong { found: bytes.len() });
            }
            Ok(ScalarValue::Bytes(bytes))
        }
    }
}

/// JSON with sorted members, whatever order this build's maps keep: the same value has the same bytes at both ends.
fn canonical(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Json::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            let each = sorted
                .into_iter()
                .map(|(name, item)| format!("{}:{}", Json::String(name.clone()), canonical(item)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

fn shallow(value: &Json, depth: usize) -> bool {
    let Some(left) = depth.checked_sub(1) else { return false };
    match value {
        Json::Array(items) => items.iter().all(|item| shallow(item, left)),
        Json::Object(members) => members.values().all(|item| shallow(item, left)),
        _ => true,
    }
}

/// The JSON of a leaf's scalar; `None` for what no leaf holds.
pub(crate) fn json(scalar: &ScalarValue) -> Option<Json> {
    match scalar {
        ScalarValue::Boolean(value) => Some(Json::Bool(*value)),
        ScalarValue::Int(value) => Some(Json::from(*value)),
        ScalarValue::F64(value) => serde_json::Number::from_f64(*value).map(Json::Number),
        ScalarValue::Str(text) => Some(Json::String(text.to_string())),
        ScalarValue::Bytes(bytes) => read(bytes),
        _ => None,
    }
}

/// JSON as [`canonical`] writes it, with just the doubles that stand there. `serde_json` reads some as a neighbour of theirs:
/// such a list would be shown as another, and refused by the other end as one that no twin writes.
fn read(bytes: &[u8]) -> Option<Json> {
    let mut value = serde_json::from_slice(bytes).ok()?;
    exact(&mut value, &mut numbers(std::str::from_utf8(bytes).ok()?))?;
    Some(value)
}

fn exact<'a>(value: &mut Json, texts: &mut impl Iterator<Item = &'a str>) -> Option<()> {
    match value {
        Json::Number(number) => {
            let text = texts.next()?;
            if number.is_f64() {
                *number = Number::from_f64(text.parse().ok()?)?;
            }
            Some(())
        }
        Json::Array(items) => items.iter_mut().try_for_each(|item| exact(item, texts)),
        Json::Object(members) => members.values_mut().try_for_each(|item| exact(item, texts)),
        Json::Null | Json::Bool(_) | Json::String(_) => Some(()),
    }
}

/// The numbers of a JSON text, in their order.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let found = rest.get(rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?..)?;
            if let Some(inside) = found.strip_prefix('"') {
                rest = behind(inside)?;
                continue;
            }
            let is_of_it = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
            let (number, after) = found.split_at(found.find(|c| !is_of_it(c)).unwrap_or(found.len()));
            rest = after;
            return Some(number);
        }
    })
}

/// What stands behind the end of a text in quotes.
pub(crate) fn behind(mut inside: &str) -> Option<&str> {
    loop {
        let at = inside.find(['"', '\\'])?;
        let after = inside.get(at + 1..)?;
        if inside.get(at..)?.starts_with('"') {
            return Some(after);
        }
        inside = after.get(1..)?;
    }
}

/// What is shown of a counter. Each replica adds within 64 bits, and together they may have added more: then it stands at the
/// end of what there is, at all replicas alike.
pub(crate) fn clamped(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

/// The scalar of an object without members.
pub(crate) fn empty_object() -> ScalarValue {
    ScalarValue::Bytes(b"{}".to_vec())
}

/// Whether a scalar from elsewhere is one that [`scalar`] makes.
pub(crate) fn is_leaf(value: &ScalarValue) -> bool {
    if let ScalarValue::Bytes(bytes) = value
        && bytes.len() > TEXT_BYTES_MAX
    {
        return false;
    }
    json(value).is_some_and(|json| scalar(&json).is_ok_and(|again| again == *value))
}

/// An element of a set, as it stands in a flat key.
pub(crate) fn element(value: &Json) -> Result<Json, ValueError> {
    match value {
        Json::String(_) | Json::Bool(_) => Ok(value.clone()),
        Json::Number(number) if number.as_i64().is_some() => Ok(value.clone()),
        other => Err(ValueError::Element(other.to_string().chars().take(40).collect())),
    }
}

/// The elements of a whole set.
pub(crate) fn elements(values: &[Json]) -> Result<Vec<Json>, ValueError> {
    if values.len() > KEYS_MAX {
        return Err(ValueError::TooMany { found: values.len() });
    }
    values.iter().map(element).collect()
}

pub(crate) fn read_element(text: &str) -> Option<Json> {
    let value: Json = serde_json::from_str(text).ok()?;
    (element(&value).is_ok() && canonical(&value) == text).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json as j;

    use super::*;

    #[test]
    fn doubles_in_lists_come_back_as_they_are() {
        for (n, step) in [(1_u32, 0.1), (7, 1e-9), (13, 1e17), (3, 1e-300)] {
            let list: Vec<f64> = (0..200).map(|i| f64::from(i * n) * step / 3.0).collect();
            let value = j!(["-1 \"2\" \\", {"3.5": list, "x": -7, "é": [u64::MAX, true, null, 1e-5]}]);
            let scalar = scalar(&value).unwrap();
            assert!(is_leaf(&scalar), "{value}");
            assert_eq!(json(&scalar), Some(value));
        }
    }

    #[test]
    fn values_come_back_and_others_are_refused() {
        for value in [j!(true), j!(-5), j!(1.5), j!(1.0), j!("é"), j!([1, [2, {"a": null}]]), j!([]), j!({})]
        {
            let scalar = scalar(&value).unwrap();
            assert!(is_leaf(&scalar));
            assert_eq!(json(&scalar), Some(value));
        }
        assert_eq!(scalar(&j!(null)), Err(ValueError::Null));
        assert_eq!(scalar(&j!(u64::MAX)), Err(ValueError::Number(u64::MAX.to_string())));
        assert_eq!(scalar(&j!({"a": 1})), Err(ValueError::Object));
        let deep = (0..20).fold(j!(1), |inner, _| j!([inner]));
        assert_eq!(scalar(&deep), Err(ValueError::TooDeep));
        for odd in [
            ScalarValue::Null,
            ScalarValue::Uint(1),
            ScalarValue::F64(f64::NAN),
            ScalarValue::Bytes(b"[1, 2]".to_vec()),
            ScalarValue::Bytes(b"{\"a\":1}".to_vec()),
            ScalarValue::Bytes(b"[{\"b\":1,\"a\":1}]".to_vec()),
            ScalarValue::Bytes(b"[".to_vec()),
        ] {
            assert!(!is_leaf(&odd), "{odd:?}");
        }
    }
}
