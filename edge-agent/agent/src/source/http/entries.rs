//! Entries of JSON out of a body, one after the other. What a body holds beside them costs no memory: a few bytes of it may
//! be millions of values, and more of them once they are decompressed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tideline_formats::FormatError;
use tideline_protocol::value::Quality;

/// Most values in a body: some thousand entries of some points.
pub const VALUES_MAX: usize = 50_000;

/// One entry.
#[derive(Debug, Default)]
pub struct Entry {
    /// Whose values they are.
    pub device: Option<String>,
    /// When they were so.
    pub time: Option<Leaf>,
    /// How far they can be trusted.
    pub quality: Quality,
    /// The values by point.
    pub values: BTreeMap<String, Leaf>,
}

/// What may stand for a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Leaf {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number of 64 bits.
    Whole(i64),
    /// Another number.
    Real(f64),
    /// A text.
    Text(String),
    /// A list or an object, which is left out.
    Other,
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Other => f.write_str("a list or an object"),
        }
    }
}

/// An entry, or why it is none.
pub type Read = Result<Entry, String>;

/// Hands on the entries of a body: one, a list, or one a line.
///
/// # Errors
/// It is no JSON, or has too many values; what came before that was handed on.
pub fn read(body: &[u8], take: &mut dyn FnMut(Read)) -> Result<(), FormatError> {
    let room = Room::default();
    read_within(&room, body, take).map_err(|error| match room.left.get() {
        Some(_) => FormatError::Malformed(error.to_string()),
        None => FormatError::TooMuch { what: "values", max: VALUES_MAX as u64 },
    })
}

fn read_within(room: &Room, body: &[u8], take: &mut dyn FnMut(Read)) -> Result<(), serde_json::Error> {
    let mut all = serde_json::Deserializer::from_slice(body);
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        List { take, room }.deserialize(&mut all)?;
        return all.end();
    }
    while all.end().is_err() {
        take(One { room }.deserialize(&mut all)?);
    }
    Ok(())
}

/// How many values may still come; none once there were too many.
struct Room {
    left: Cell<Option<usize>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: Cell::new(Some(VALUES_MAX)) }
    }
}

impl Room {
    /// Notes one value more.
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        self.left.set(self.left.get().and_then(|left| left.checked_sub(1)));
        self.left.get().map(|_| ()).ok_or_else(|| E::custom("it has too many values"))
    }
}

struct List<'l> {
    take: &'l mut dyn FnMut(Read),
    room: &'l Room,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element_seed(One { room: self.room })? {
            (self.take)(entry);
        }
        Ok(())
    }
}

/// What is no entry is read over, and told.
#[derive(Clone, Copy)]
struct One<'r> {
    room: &'r Room,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        let before = self.room.left.get();
        let read = deserializer.deserialize_any(self)?;
        // An entry without values costs the place of one: what is wrong with it is told.
        if self.room.left.get() == before {
            self.room.count()?;
        }
        Ok(read)
    }
}

macro_rules! no_entry {
    ($($visit:ident($of:ty)),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $of) -> Result<Read, E> {
            Ok(Err("it is no object".to_owned()))
        })*
    };
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry")
    }

    no_entry!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: serde::de::Error>(self) -> Result<Read, E> {
        Ok(Err("it is no object".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Read, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err("it is no object".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Read, A::Error> {
        let (mut entry, mut values, mut wrong) = (Entry::default(), None, None);
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "values" => values = Some(members.next_value_seed(Values { room: self.room })?),
                "device" | "time" | "quality" => {
                    let leaf = members.next_value_seed(Scalar)?;
                    wrong = wrong.or(entry.note(&name, leaf).err());
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    let name: String = name.chars().take(64).collect();
                    let allowed = "`device`, `time`, `quality`, `values`";
                    wrong = wrong.or(Some(format!("unknown field `{name}`, expected one of {allowed}")));
                }
            }
        }
        if let Some(wrong) = wrong {
            return Ok(Err(wrong));
        }
        Ok(match values {
            Some(Some(values)) => Ok(Entry { values, ..entry }),
            Some(None) => Err("values: it is no object".to_owned()),
            None => Err("missing field `values`".to_owned()),
        })
    }
}

impl Entry {
    fn note(&mut self, name: &str, leaf: Leaf) -> Result<(), String> {
        match (name, leaf) {
            (_, Leaf::Null) => {}
            ("time", leaf) => self.time = Some(leaf),
            ("device", Leaf::Text(text)) => self.device = Some(text),
            ("quality", Leaf::Text(text)) => {
                self.quality = text.parse().map_err(|error| format!("quality: {error}"))?;
            }
            (name, leaf) => return Err(format!("{name}: {leaf} is no text")),
        }
        Ok(())
    }
}

/// The values of an entry; none where there is no object.
struct Values<'r> {
    room: &'r Room,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = Option<BTreeMap<String, Leaf>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! no_values {
    ($($visit:ident($of:ty)),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $of) -> Result<Self::Value, E> { Ok(None) })*
    };
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Option<BTreeMap<String, Leaf>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values by point")
    }

    no_values!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(point) = members.next_key::<String>()? {
            self.room.count::<A::Error>()?;
            values.insert(point, members.next_value_seed(Scalar)?);
        }
        Ok(Some(values))
    }
}

/// A value that is no list and no object; those are read over.
struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Leaf;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Leaf, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar {
    type Value = Leaf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Leaf, E> {
        Ok(Leaf::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Leaf, E> {
        Ok(Leaf::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Leaf, E> {
        Ok(Leaf::Whole(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "beyond 64 bits with a sign, as in any JSON")]
    fn visit_u64<E>(self, number: u64) -> Result<Leaf, E> {
        Ok(i64::try_from(number).map_or(Leaf::Real(number as f64), Leaf::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Leaf, E> {
        Ok(Leaf::Real(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Leaf, E> {
        Ok(Leaf::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Leaf, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Leaf, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(body: &str) -> Result<Vec<Read>, String> {
        let mut all = Vec::new();
        read(body.as_bytes(), &mut |entry| all.push(entry)).map_err(|error| error.to_string())?;
        Ok(all)
    }

    #[test]
    fn entries_come_alone_in_lists_and_in_lines() {
        let entry = r#"{"device":"a","time":5,"quality":"bad","values":{"x":1.5,"y":[1,{"z":2}]}}"#;
        for (body, count) in [
            (entry.to_owned(), 1),
            (format!(" [{entry}, {entry}] \n"), 2),
            (format!("{entry}\n{entry}\n\n"), 2),
            (String::new(), 0),
            ("[]".to_owned(), 0),
        ] {
            let all = all(&body).unwrap();
            assert_eq!(all.len(), count, "{body}");
            for entry in all.into_iter().map(Result::unwrap) {
                assert_eq!((entry.device.as_deref(), entry.quality), (Some("a"), Quality::Bad));
                assert_eq!(entry.time, Some(Leaf::Whole(5)));
                assert_eq!(entry.values["x"], Leaf::Real(1.5));
                assert_eq!(entry.values["y"], Leaf::Other);
            }
        }
        let told = |body: &str| all(body).unwrap().remove(0).unwrap_err();
        for (body, reason) in [
            ("[7]", "it is no object"),
            ("null", "it is no object"),
            ("[[[1]]]", "it is no object"),
            ("{}", "missing field `values`"),
            (r#"{"values":[1]}"#, "values: it is no object"),
            (r#"{"values":{},"value":1}"#, "unknown field `value`"),
            (r#"{"values":{},"device":7}"#, "device: 7 is no text"),
            (r#"{"values":{},"quality":"fine"}"#, "quality: "),
        ] {
            assert!(told(body).contains(reason), "{body}: {}", told(body));
        }
        for body in ["{", "[1", "[1]]", "{\"values\":{}", "x", "[1] 2"] {
            assert!(all(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_body_of_many_values_is_refused_and_what_is_none_takes_no_memory() {
        let few = format!("{{\"values\":{{\"x\":[{}0]}}}}", "0,".repeat(100_000));
        assert_eq!(all(&few).unwrap().len(), 1);
        let points: String = (0..VALUES_MAX).map(|n| format!("\"p{n}\":1,")).collect();
        for (part, end) in [
            ("0,".repeat(VALUES_MAX - 1), "0]"),
            ("{\"time\":1,\"values\":{\"x\":1}},".repeat(VALUES_MAX - 1), "{}]"),
            ("{\"value\":1},".repeat(VALUES_MAX - 1), "{\"values\":{}}]"),
        ] {
            assert_eq!(all(&format!("[{part}{end}")).unwrap().len(), VALUES_MAX, "as many as are allowed");
            assert!(all(&format!("[0,{part}{end}")).unwrap_err().contains("more than 50000 values"));
        }
        let many = "{\"values\":{\"x\":1}}\n".repeat(VALUES_MAX);
        assert_eq!(all(&many).unwrap().len(), VALUES_MAX);
        for many in [many + "0", format!("{{\"values\":{{{points}\"z\":1}}}}")] {
            assert!(all(&many).unwrap_err().contains("more than 50000 values"));
        }
    }
}
