//! Patterns of names, of devices, points and ids alike: `*` stands for any text, also none.

/// A pattern of names. Which characters it may have and how long it may be is said where it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Of a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As [`matches`].
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.0, name)
    }
}

/// Whether a name fits a pattern, in time that grows with its length and not with what `*` could stand for.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // The first place leaves the most for the others.
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name) in [
            ("pump-7", "pump-7"),
            ("*", ""),
            ("*", "a/b"),
            ("pump-*", "pump-"),
            ("a/*", "a/b/c"),
            ("*/c", "a/b/c"),
            ("a*b*c", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, name) && Pattern::new(pattern).matches(name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("pump-7", "pump-70"),
            ("pump-7", "a-pump-7"),
            ("a/*", "a"),
            ("*b", "abc"),
            ("a*b*c", "acb"),
            ("", "a"),
            // What stands before and after a star is not the same text.
            ("ab*ba", "aba"),
        ] {
            assert!(!matches(pattern, name) && !Pattern::new(pattern).matches(name), "{pattern} {name}");
        }
    }

    fn reference(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skip| reference(rest, &name[skip..])),
            Some((c, rest)) => name.first() == Some(c) && reference(rest, &name[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_fits_what_the_plain_definition_fits(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
            let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&pattern, &name), reference(&p, &n));
        }
    }
}
