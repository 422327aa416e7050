//! Edits: the one way to write to a twin, and what a JSON merge patch means in them.

use serde_json::{Map, Number, Value as Json};

use crate::key::{Key, KeyError, escape, shortened};
use crate::limits::EDITS_PER_CHANGE_MAX;
use crate::section::Section;
use crate::value::{self, ValueError};

/// Characters of a member's name that an error repeats.
const FOUND_CHARS_MAX: usize = 40;

/// What is done to a leaf.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It has this value from now on, whatever it was: a boolean, a number, a text, a list or an empty object. Conflicts at
    /// the leaf are resolved by it.
    Put(Json),
    /// It and what is below it is gone.
    Delete,
    /// The counter grows by this; what ends add at once adds up.
    Add(i64),
    /// The counter stands at this, as far as this end has seen what was added. Conflicts at the leaf are resolved by it, as by
    /// all that follows.
    Count(i64),
    /// The set has just these elements, as far as this end has seen it; with none it is an empty one.
    Set(Vec<Json>),
    /// There is an object: one that has members stays as it is, and an empty one takes the place of anything else.
    Object,
    /// The set has this element: a text, a whole number or a boolean. It stays where another end removes it at once.
    Insert(Json),
    /// The set no longer has this element, as far as this end has seen it inserted.
    Remove(Json),
    /// The text is this from now on; what changed in it merges with what another end changes at once. In notes only.
    Text(String),
}

/// One edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Where.
    pub section: Section,
    /// Which leaf.
    pub key: Key,
    /// What is done.
    pub action: Action,
}

/// Edits that are made together, by one author.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is done, in order.
    pub edits: Vec<Edit>,
    /// Who says so; cut to [`crate::limits::AUTHOR_BYTES_MAX`] and without control characters. It may be empty.
    pub author: String,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
}

/// What is wrong with a merge patch. Its place is a JSON pointer (RFC 6901) into the twin, as `/desired/motor/speed`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// A patch is an object.
    #[error("{at}: a merge patch of a section is an object")]
    NotAnObject {
        /// Where.
        at: String,
    },
    /// A member's name makes no key.
    #[error("{at}: {error}")]
    Key {
        /// Where.
        at: String,
        /// Why.
        error: KeyError,
    },
    /// A value cannot be kept.
    #[error("{at}: {error}")]
    Value {
        /// Where.
        at: String,
        /// Why.
        error: ValueError,
    },
    /// A form that only answers have.
    #[error(
        "{at}: {found:?} cannot be patched so; allowed are, each alone, \"$set\" with a list, \"$text\" with a text, and \"$add\" or \"$counter\" with a whole number"
    )]
    Form {
        /// Where.
        at: String,
        /// The member.
        found: String,
    },
    /// Too much for one change.
    #[error("the patch makes more than {EDITS_PER_CHANGE_MAX} edits; send it in parts")]
    TooMany,
}

/// The place of a leaf, or of what is none, as a JSON pointer; of a long one the begin and the end.
pub(crate) fn pointer(section: Section, path: &str) -> String {
    if path.is_empty() { format!("/{section}") } else { format!("/{section}/{}", shown(path)) }
}

/// The place of these names as a JSON pointer, cut as one of [`pointer`].
pub(crate) fn pointer_of(names: impl Iterator<Item = String>) -> String {
    let path: String = names.map(|name| format!("/{}", escape(&name))).collect();
    shown(&path)
}

/// Without what would turn or break the line that it is told in.
fn shown(path: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    shortened(path).chars().map(plain).collect()
}

/// The edits of a merge patch (RFC 7396) of a section that looks like `now`: lists replace as a whole, null deletes.
///
/// Values that merge have forms of their own: `{"$set": […]}` makes a set have just these elements, `{"$text": "…"}` is a
/// text that merges, `{"$counter": 3}` makes a counter stand at 3 and `{"$add": 3}` adds to it. So what is shown of a leaf,
/// the values of a conflict among it, is what keeps it when it is written. An object goes with the last of its members, unless it
/// was written as an empty one and has had none since.
///
/// # Errors
/// The patch is no object, or holds what no leaf can be.
pub fn merge_patch(section: Section, now: &Json, patch: &Json) -> Result<Vec<Edit>, PatchError> {
    let Json::Object(members) = patch else {
        return Err(PatchError::NotAnObject { at: pointer(section, "") });
    };
    let mut edits = Vec::new();
    walk(section, "", Some(now), members, &mut edits)?;
    Ok(edits)
}

fn walk(
    section: Section,
    above: &str,
    now: Option<&Json>,
    members: &Map<String, Json>,
    edits: &mut Vec<Edit>,
) -> Result<(), PatchError> {
    for (name, patch) in members {
        if name.starts_with('$') {
            return Err(form_error(section, above, name));
        }
        let path = if above.is_empty() { escape(name) } else { format!("{above}/{}", escape(name)) };
        let at = || pointer(section, &path);
        let wrong = |error| PatchError::Key { at: at(), error };
        let key = Key::parse(&path).map_err(wrong)?;
        if !patch.is_null() {
            key.is_shown().map_err(wrong)?;
        }
        let here = now.and_then(|now| now.get(name));
        let of = |action| Edit { section, key: key.clone(), action };
        match patch {
            Json::Null if here.is_some() => edits.push(of(Action::Delete)),
            Json::Null => {}
            Json::Object(inner) if is_form(inner) => edits.push(of(special(section, &path, inner)?)),
            Json::Object(inner) => {
                // What merges is no object, though it is shown as one.
                let here = here.filter(|here| here.as_object().is_some_and(|here| !is_form(here)));
                if inner.is_empty() || (here.is_none() && inner.values().all(Json::is_null)) {
                    edits.push(of(Action::Object));
                }
                walk(section, &path, here, inner, edits)?;
            }
            leaf => {
                value::scalar(leaf).map_err(|error| PatchError::Value { at: at(), error })?;
                edits.push(of(Action::Put(leaf.clone())));
            }
        }
        if edits.len() > EDITS_PER_CHANGE_MAX {
            return Err(PatchError::TooMany);
        }
    }
    Ok(())
}

/// Whether an object stands for a value that merges.
fn is_form(object: &Map<String, Json>) -> bool {
    object.len() == 1 && object.keys().all(|name| name.starts_with('$'))
}

fn form_error(section: Section, path: &str, found: &str) -> PatchError {
    PatchError::Form { at: pointer(section, path), found: found.chars().take(FOUND_CHARS_MAX).collect() }
}

fn special(section: Section, path: &str, form: &Map<String, Json>) -> Result<Action, PatchError> {
    let Some((name, value)) = form.iter().next() else { return Ok(Action::Object) };
    let wrong = |error| PatchError::Value { at: pointer(section, path), error };
    let whole = |number: &Number| number.as_i64().ok_or_else(|| wrong(ValueError::Count(number.to_string())));
    match (name.as_str(), value) {
        ("$text", Json::String(text)) => Ok(Action::Text(text.clone())),
        ("$add", Json::Number(number)) => Ok(Action::Add(whole(number)?)),
        ("$counter", Json::Number(number)) => Ok(Action::Count(whole(number)?)),
        ("$set", Json::Array(wanted)) => {
            value::elements(wanted).map_err(wrong)?;
            Ok(Action::Set(wanted.clone()))
        }
        _ => Err(form_error(section, path, name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edits(now: &Json, patch: &Json) -> Result<Vec<(String, Action)>, PatchError> {
        let edits = merge_patch(Section::Desired, now, patch)?;
        Ok(edits.into_iter().map(|edit| (edit.key.to_string(), edit.action)).collect())
    }

    #[test]
    fn a_merge_patch_becomes_edits_of_leaves() {
        let now = json!({"a": {"b": 1}, "s": {"$set": [1, 2]}});
        let patch = json!({"a": {"b": null, "c/d": [1]}, "x": null, "s": {"$set": [2, 3]}, "n": {"$add": 2}});
        let mut found = edits(&now, &patch).unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = vec![
            ("a/b".to_owned(), Action::Delete),
            ("a/c~1d".to_owned(), Action::Put(json!([1]))),
            ("n".to_owned(), Action::Add(2)),
            ("s".to_owned(), Action::Set(vec![json!(2), json!(3)])),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_no_leaf_can_be_is_refused_with_its_place() {
        assert_eq!(edits(&json!({}), &json!([])), Err(PatchError::NotAnObject { at: "/desired".into() }));
        for (patch, place) in [
            (json!({"a/b": {"c~": {"": 1}}}), "/desired/a~1b/c~0/: "),
            (json!({"a": {"$x": 1, "y": 2}}), "/desired/a: "),
            (json!({"$set": [1]}), "/desired: "),
        ] {
            let error = edits(&json!({}), &patch).unwrap_err().to_string();
            assert!(error.starts_with(place), "{error}");
        }
        let long = edits(&json!({}), &json!({ "é".repeat(9_000): 1 })).unwrap_err().to_string();
        assert!(
            long.chars().count() < 150 && long.starts_with("/desired/éé") && long.contains('…'),
            "{long}"
        );
        let error = edits(&json!({}), &json!({"a": {"b\0": {"c": 1}}})).unwrap_err().to_string();
        assert!(
            error.starts_with("/desired/a/b\\u{0}: a name in the key \"a/b\\0\" holds a control"),
            "{error}"
        );
        // What an earlier version took goes as all else.
        let (there, gone) = (json!({"a": {"b\n": 1}}), json!({"a": {"b\n": null}}));
        assert_eq!(edits(&there, &gone).unwrap(), [("a/b\n".to_owned(), Action::Delete)]);
        for wrong in [json!({"$counter": "1"}), json!({"$counter": 1, "b": 2}), json!({"$insert": 1})] {
            let error = edits(&json!({}), &json!({"a": wrong})).unwrap_err();
            assert!(matches!(&error, PatchError::Form { at, .. } if at == "/desired/a"), "{error}");
        }
        for wrong in [json!({"$counter": u64::MAX}), json!({"$add": 1.5})] {
            let error = edits(&json!({}), &json!({"a": wrong})).unwrap_err();
            assert!(
                error.to_string().starts_with("/desired/a: a counter takes whole numbers of 64 bits"),
                "{error}"
            );
        }
        let error = edits(&json!({}), &json!({"a": {"b": u64::MAX}})).unwrap_err();
        assert!(error.to_string().starts_with("/desired/a/b: the number"), "{error}");
        let many: Map<_, _> = (0..300).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(edits(&json!({}), &Json::Object(many)), Err(PatchError::TooMany));
    }
}
