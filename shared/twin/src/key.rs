//! Paths of leaves, and the flat keys that they are stored under.
//!
//! A leaf has one key in its section's map: the names of its path, each escaped as in a JSON pointer, with `/` between
//! them. There are no nested maps, of which two that were made at once would hide one another. Behind the path a mark
//! tells parts of values that merge: `~c` and an actor, what that actor added to a counter; `~s` and an element in JSON, an
//! element of a set; `~s` alone, that there is a set. A pointer has no other escapes than `~0` and `~1`, so no path ends
//! with a mark.

use serde_json::Value as Json;

use crate::actor::Actor;
use crate::limits::{DEPTH_MAX, KEY_BYTES_MAX};
use crate::value;

/// Characters of a path that an error repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// The path of a leaf within its section.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name is empty.
    #[error("a name in the key {:?} is empty", shortened(.0))]
    Empty(String),
    /// An escape that a JSON pointer does not have, or a mark where none may be.
    #[error("the key {:?} holds a ~ that is neither ~0 nor ~1", shortened(.0))]
    Escape(String),
    /// A name that forms of values are known by.
    #[error("a name in the key {:?} begins with $, which stands for forms of values", shortened(.0))]
    Reserved(String),
    /// A name that no terminal shows as it is.
    #[error("a name in the key {:?} holds a control character; allowed are all others", shortened(.0))]
    Control(String),
    /// Too long.
    #[error("a key is {found} bytes long; allowed are {KEY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Too many names.
    #[error("a key has {found} names; allowed are {DEPTH_MAX}")]
    TooDeep {
        /// How many.
        found: usize,
    },
}

impl Key {
    /// Of a JSON pointer without its first slash: `motor/speed`.
    ///
    /// # Errors
    /// It is no path, or beyond a limit.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong { found: text.len() });
        }
        let depth = text.split('/').count();
        if depth > DEPTH_MAX {
            return Err(KeyError::TooDeep { found: depth });
        }
        if text.split('/').any(str::is_empty) {
            return Err(KeyError::Empty(text.to_owned()));
        }
        if text.split('/').any(|name| name.starts_with('$')) {
            return Err(KeyError::Reserved(text.to_owned()));
        }
        if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(KeyError::Escape(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Of names that are not escaped.
    ///
    /// # Errors
    /// As [`Key::parse`].
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let escaped: Vec<_> = names.into_iter().map(escape).collect();
        Self::parse(&escaped.join("/"))
    }

    /// The escaped path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of the path, unescaped.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"))
    }

    /// Fails where a name of it holds a control character. Nobody writes such a key anew; what has one, as an earlier version wrote it,
    /// is read like all others, and can be taken away.
    pub(crate) fn is_shown(&self) -> Result<(), KeyError> {
        if self.0.chars().any(char::is_control) { Err(KeyError::Control(self.0.clone())) } else { Ok(()) }
    }

    /// The paths that this one lies below, the longest last.
    pub(crate) fn above(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }

    /// All paths that lie below this one.
    pub(crate) fn below(&self) -> std::ops::Range<Self> {
        Self(format!("{self}/"))..Self(format!("{self}0"))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name as it stands in a path and in a JSON pointer.
#[must_use]
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A path as an error repeats it: of a long one the begin and the end.
#[must_use]
pub fn shortened(path: &str) -> String {
    let count = path.chars().count();
    if count <= SHOWN_CHARS_MAX {
        return path.to_owned();
    }
    let (begin, end) = (SHOWN_CHARS_MAX / 2, (SHOWN_CHARS_MAX - 1) / 2);
    path.chars().take(begin).chain(['…']).chain(path.chars().skip(count - end)).collect()
}

/// What a flat key holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// The value of the leaf.
    Leaf,
    /// What one actor added to the counter.
    Count(Actor),
    /// That there is a set.
    Set,
    /// An element of the set.
    Element(Json),
}

/// Reads a flat key.
pub(crate) fn read(flat: &str) -> Option<(Key, Part)> {
    if flat.len() > KEY_BYTES_MAX {
        return None;
    }
    let mark = flat.match_indices('~').find(|(at, _)| {
        let next = flat.get(at + 1..at + 2);
        next != Some("0") && next != Some("1")
    });
    let Some((at, _)) = mark else { return Some((Key::parse(flat).ok()?, Part::Leaf)) };
    let key = Key::parse(flat.get(..at)?).ok()?;
    let rest = flat.get(at + 2..)?;
    let part = match flat.get(at + 1..at + 2)? {
        "c" => Part::Count(Actor::parse(rest)?),
        "s" if rest.is_empty() => Part::Set,
        "s" => Part::Element(value::read_element(rest)?),
        _ => return None,
    };
    Some((key, part))
}

/// The flat key of a part.
pub(crate) fn flat(key: &Key, part: &Part) -> Result<String, KeyError> {
    let text = match part {
        Part::Leaf => key.0.clone(),
        Part::Count(actor) => format!("{key}~c{}", actor.hex()),
        Part::Set => format!("{key}~s"),
        Part::Element(element) => format!("{key}~s{element}"),
    };
    if text.len() > KEY_BYTES_MAX { Err(KeyError::TooLong { found: text.len() }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_come_back_from_a_key(names in proptest::collection::vec("[ab~/0-1é]{1,6}", 1..6)) {
            let key = Key::of_names(names.iter().map(String::as_str)).unwrap();
            prop_assert_eq!(key.names().collect::<Vec<_>>(), names);
            prop_assert_eq!(read(key.as_str()), Some((key, Part::Leaf)));
        }

        #[test]
        fn any_text_is_a_flat_key_or_none(text in "[a~/cs0-9\"\\[é]{0,40}") {
            if let Some((key, part)) = read(&text) {
                prop_assert_eq!(flat(&key, &part).unwrap(), text);
            }
        }
    }

    #[test]
    fn wrong_keys_are_refused_with_a_reason() {
        assert_eq!(Key::parse(""), Err(KeyError::Empty(String::new())));
        assert_eq!(Key::parse("a//b"), Err(KeyError::Empty("a//b".into())));
        assert_eq!(Key::parse("a/$b"), Err(KeyError::Reserved("a/$b".into())));
        assert_eq!(Key::parse("a~s"), Err(KeyError::Escape("a~s".into())));
        assert_eq!(Key::parse(&"a/".repeat(20)), Err(KeyError::TooDeep { found: 21 }));
        let long = Key::parse(&format!("{}//end", "é/".repeat(60))).unwrap_err();
        assert!(matches!(long, KeyError::TooDeep { .. }), "{long}");
        let long = Key::parse(&format!("{}/$end", "é".repeat(100))).unwrap_err().to_string();
        assert!(long.contains(&format!("{}…{}/$end\"", "é".repeat(40), "é".repeat(34))), "{long}");
        assert_eq!(Key::parse(&"a".repeat(257)), Err(KeyError::TooLong { found: 257 }));
    }
}
