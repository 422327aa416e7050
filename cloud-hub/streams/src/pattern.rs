//! Which devices and points a job takes: names in which `*` stands for any text, also none.

/// A pattern of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern; the job's check has looked at its text.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether the name fits, in time that grows with its length and not with what `*` could stand for.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).matches(name);
        assert!(fits("pump-7", "pump-7") && !fits("pump-7", "pump-70") && !fits("pump-7", "a-pump-7"));
        assert!(fits("*", "") && fits("*", "x/y") && fits("pump-*", "pump-") && fits("*/rpm", "motor/rpm"));
        assert!(fits("a*b*c", "abc") && fits("a*b*c", "a-b-b-c") && !fits("a*b*c", "acb"));
        assert!(!fits("ab*ba", "aba"), "what stands before and after a star is not the same text");
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
            prop_assert_eq!(Pattern::new(&pattern).matches(&name), reference(&p, &n));
        }
    }
}
