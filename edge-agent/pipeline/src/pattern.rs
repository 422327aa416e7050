//! Which series a pipeline takes: `device/point`, where `*` stands for any text, also none, as in the hub's jobs.

use tideline_protocol::model::SeriesDef;

use crate::limits::PATTERN_BYTES_MAX;

/// A pattern of series. Devices have no `/`, so the first one parts device and point; points may have more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    device: String,
    point: String,
}

impl Pattern {
    /// Takes a pattern apart.
    ///
    /// # Errors
    /// Says what is wrong with it and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '/');
        let parts = text.split_once('/').filter(|(device, point)| !device.is_empty() && !point.is_empty());
        match parts {
            Some((device, point)) if text.len() <= PATTERN_BYTES_MAX && text.chars().all(fits) => {
                Ok(Self { device: device.to_owned(), point: point.to_owned() })
            }
            _ => Err(format!(
                "{text:?} is no pattern; allowed is device/point of letters, digits, '.', '_', '-' and '*' for any text, up to {PATTERN_BYTES_MAX} bytes"
            )),
        }
    }

    /// Whether the series fits.
    pub fn takes(&self, series: &SeriesDef) -> bool {
        fits(&self.device, series.device.as_str()) && fits(&self.point, series.point.as_str())
    }
}

/// Whether a name fits, in time that grows with its length and not with what `*` could stand for.
fn fits(pattern: &str, name: &str) -> bool {
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
    fn stars_stand_for_any_text_of_the_device_or_of_the_point() {
        let takes = |pattern: &str, device: &str, point: &str| {
            let parse = |text: &str| text.parse().unwrap();
            let series = SeriesDef::new(device.parse().unwrap(), parse(point), String::new());
            Pattern::parse(pattern).unwrap().takes(&series)
        };
        assert!(takes("pump-7/flow", "pump-7", "flow") && !takes("pump-7/flow", "pump-70", "flow"));
        assert!(takes("*/flow", "pump-7", "flow") && !takes("*/flow", "pump-7", "in/flow"));
        assert!(takes("*/*", "a", "b/c") && takes("pump-*/**", "pump-1", "a/b"));
        assert!(takes("a/cpu/*", "a", "cpu/total") && !takes("a/cpu/*", "a", "cpu"));
    }

    #[test]
    fn what_is_no_pattern_is_told_with_what_is_allowed() {
        for text in ["", "pump", "/flow", "pump/", "a b/c", &format!("a/{}", "b".repeat(200))] {
            assert!(Pattern::parse(text).unwrap_err().contains("allowed is device/point"), "{text}");
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
            prop_assert_eq!(fits(&pattern, &name), reference(&p, &n));
        }
    }
}
