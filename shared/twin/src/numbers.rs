//! What a reader of JSON changes without a word, so that what was written is not what stands there then: whole numbers that nothing
//! keeps exactly, of which it makes doubles, and members of one name, of which it keeps the last. And what is so deep that it
//! gives up.

use std::collections::BTreeSet;

use crate::edit::pointer_of;
use crate::value::{ValueError, behind};

/// A whole number beyond 64 bits, a name that stands twice, or what is too deep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {error}")]
pub struct Inexact {
    /// Where, as a JSON pointer into the text.
    pub at: String,
    /// Which.
    pub error: ValueError,
}

/// What the scan is in.
enum Within {
    /// An object, the member's name, and all names so far.
    Object(Option<String>, BTreeSet<String>),
    /// A list, and which of its items.
    List(usize),
}

/// Looks for the first whole number in a JSON text that is beyond 64 bits, for the first member that an object has twice, and for
/// what is within more than 100 objects and lists. A number that is written with a point or an exponent is a double by its writer's
/// will. A text that is no JSON is left to its reader.
///
/// # Errors
/// There is one.
pub fn exact(text: &str) -> Result<(), Inexact> {
    let (mut rest, mut within) = (text, Vec::new());
    while let Some(first) = rest.chars().next() {
        if within.len() > DEPTH_MAX {
            let at = place(within.get(..SHOWN_MAX).unwrap_or_default());
            return Err(Inexact { at, error: ValueError::Nested });
        }
        let mut after = rest.get(first.len_utf8()..).unwrap_or_default();
        match first {
            '{' => within.push(Within::Object(None, BTreeSet::new())),
            '[' => within.push(Within::List(0)),
            '}' | ']' => drop(within.pop()),
            ',' => match within.last_mut() {
                Some(Within::Object(name, _)) => *name = None,
                Some(Within::List(at)) => *at += 1,
                None => {}
            },
            '"' => {
                let Some(end) = behind(after) else { return Ok(()) };
                if let Some(Within::Object(name @ None, names)) = within.last_mut() {
                    let quoted = rest.get(..rest.len() - end.len()).unwrap_or_default();
                    let read: String = serde_json::from_str(quoted).unwrap_or_default();
                    let is_new = names.insert(read.clone());
                    *name = Some(read);
                    if !is_new {
                        return Err(Inexact { at: place(&within), error: ValueError::Twice });
                    }
                }
                after = end;
            }
            '-' | '0'..='9' => {
                let is_of_it = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
                let (number, behind) = rest.split_at(rest.find(|c| !is_of_it(c)).unwrap_or(rest.len()));
                if !number.contains(['.', 'e', 'E'])
                    && number.parse::<i64>().is_err()
                    && number.parse::<u64>().is_err()
                {
                    let shown = number.chars().take(DIGITS_MAX).collect();
                    return Err(Inexact { at: place(&within), error: ValueError::Number(shown) });
                }
                after = behind;
            }
            _ => {}
        }
        rest = after;
    }
    Ok(())
}

/// How deep objects and lists may be within one another; readers give up a little later.
const DEPTH_MAX: usize = 100;
/// Names of the place of what is too deep.
const SHOWN_MAX: usize = 8;
/// Digits of a number that an error repeats.
const DIGITS_MAX: usize = 40;

fn place(within: &[Within]) -> String {
    let names = within.iter().map(|within| match within {
        Within::Object(name, _) => name.clone().unwrap_or_default(),
        Within::List(at) => at.to_string(),
    });
    pointer_of(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn a_whole_number_beyond_64_bits_is_found_with_its_place() {
        for (text, at, number) in [
            ("18446744073709551616", "", "18446744073709551616"),
            ("-9223372036854775809", "", "-9223372036854775809"),
            (
                r#"{"a":1,"b\"{[,/é~":{"c":[1,{"x":"18446744073709551616"},99999999999999999999]}}"#,
                "/b\"{[,~1é~0/c/2",
                "99999999999999999999",
            ),
            ("{ \"a\" : { } , \"b\" : [ [ ] , -99999999999999999999 ] }", "/b/1", "-99999999999999999999"),
        ] {
            let found = exact(text).unwrap_err();
            assert_eq!(
                (found.at.as_str(), &found.error),
                (at, &ValueError::Number(number.to_owned())),
                "{text}"
            );
            assert!(found.to_string().contains("is no signed whole number of 64 bits"), "{found}");
        }
        for fine in [
            "18446744073709551615",
            "-9223372036854775808",
            "1.8446744073709552e19",
            "18446744073709551616.0",
            "18446744073709551616E0",
            r#"{"18446744073709551616": "\\\"18446744073709551616"}"#,
            "",
            "\"",
            "]]}",
        ] {
            assert_eq!(exact(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_found_with_its_place() {
        for (text, at) in [
            (r#"{"a":1,"a":2}"#, "/a"),
            (r#"{"a":{"b":[{"c":1},{"c":2,"d":{},"c":null}]}}"#, "/a/b/1/c"),
            (r#"{"é":1,"\u00e9":1}"#, "/é"),
        ] {
            assert_eq!(exact(text), Err(Inexact { at: at.to_owned(), error: ValueError::Twice }), "{text}");
        }
        for fine in [r#"{"a":{"a":"a"},"b":["a","a"],"c":"a"}"#, r#"[{"a":1},{"a":1}]"#, r#"{"a":1,"A":1}"#] {
            assert_eq!(exact(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn what_is_too_deep_is_found_with_where_it_begins() {
        let deep = |levels: usize| format!("{}1{}", r#"{"a":["#.repeat(levels), "]}".repeat(levels));
        assert_eq!(exact(&deep(50)), Ok(()));
        let found = exact(&deep(51)).unwrap_err();
        assert_eq!((found.at.as_str(), found.error), ("/a/0/a/0/a/0/a/0", ValueError::Nested));
        // Before a reader gives up.
        assert!(serde_json::from_str::<Json>(&deep(51)).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_text_is_looked_through(text in "[\\[\\]{},:\"\\\\0-9eE.+a é-]{0,60}") {
            let found = exact(&text);
            // What comes back as it was written is exact.
            if let Ok(json) = serde_json::from_str::<Json>(&text) && serde_json::to_string(&json).unwrap() == text {
                prop_assert_eq!(found, Ok(()));
            }
        }
    }
}
