//! Of which states of a twin a change is to be made: the header `If-Match` (RFC 9110, section 13.1.1), at both ends alike.

/// What is wrong with the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("If-Match lists etags in double quotes, as \"3f…\", \"40…\", or is * alone")]
pub struct BadIfMatch;

/// The etags of these fields, of which the state's must be one; `None` where any state will do, by `*` or as nothing is said.
///
/// A weak etag is of no state: a change is made of just what was seen.
///
/// # Errors
/// The fields are no such list.
pub fn if_match<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Vec<String>>, BadIfMatch> {
    let fields: Vec<_> = fields.into_iter().map(<[u8]>::trim_ascii).collect();
    match fields.as_slice() {
        [] | [b"*"] => Ok(None),
        fields => tags(&fields.join(&b","[..])).map(Some),
    }
}

/// The strong ones of a list.
fn tags(list: &[u8]) -> Result<Vec<String>, BadIfMatch> {
    let (mut rest, mut strong, mut is_empty) = (list, Vec::new(), true);
    loop {
        // Members of a list may be empty.
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        if rest.is_empty() {
            return if is_empty { Err(BadIfMatch) } else { Ok(strong) };
        }
        let (is_weak, quoted) = rest.strip_prefix(b"W/").map_or((false, rest), |rest| (true, rest));
        let inner = quoted.strip_prefix(b"\"").ok_or(BadIfMatch)?;
        let end = inner.iter().position(|byte| *byte == b'"').ok_or(BadIfMatch)?;
        let (tag, after) = inner.split_at(end);
        let is_right = tag.iter().all(|byte| *byte == 0x21 || (0x23..=0x7e).contains(byte) || *byte >= 0x80);
        let after = after.get(1..).unwrap_or_default().trim_ascii_start();
        if !is_right || !(after.is_empty() || after.starts_with(b",")) {
            return Err(BadIfMatch);
        }
        if !is_weak {
            strong.push(String::from_utf8_lossy(tag).into_owned());
        }
        (rest, is_empty) = (after, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_weak_etags_and_any_state_are_read_as_the_standard_has_them() {
        let read = |fields: &[&str]| if_match(fields.iter().map(|field| field.as_bytes()));
        let of = |tags: &[&str]| Ok(Some(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        for (fields, expected) in [
            (&[][..], Ok(None)),
            (&["*"], Ok(None)),
            (&[" * "], Ok(None)),
            (&["\"a\""], of(&["a"])),
            (&["\"a\", \"b\""], of(&["a", "b"])),
            (&["\"a\"\t,,\"b\","], of(&["a", "b"])),
            (&["\"a\"", "\"b\""], of(&["a", "b"])),
            (&["\"a,b\""], of(&["a,b"])),
            (&["\"\""], of(&[""])),
            (&["W/\"a\""], of(&[])),
            (&["W/\"a\", \"b\""], of(&["b"])),
        ] {
            assert_eq!(read(fields), expected, "{fields:?}");
        }
        for wrong in [
            "",
            ",",
            "a",
            "\"a",
            "a\"",
            "\"a\" \"b\"",
            "\"a\"x",
            "w/\"a\"",
            "W/ \"a\"",
            "\"a b\"",
            "*, \"a\"",
            "\"a\", *",
        ] {
            assert_eq!(read(&[wrong]), Err(BadIfMatch), "{wrong}");
        }
        assert_eq!(read(&["*", "*"]), Err(BadIfMatch));
    }
}
