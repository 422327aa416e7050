//! Which series a pipeline takes: `device/point`, where `*` stands for any text, also none, as in the hub's jobs.

use tideline_protocol::model::SeriesDef;
use tideline_protocol::pattern;

use crate::limits::PATTERN_BYTES_MAX;

/// A pattern of series. Devices have no `/`, so the first one parts device and point; points may have more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    device: pattern::Pattern,
    point: pattern::Pattern,
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
                Ok(Self { device: pattern::Pattern::new(device), point: pattern::Pattern::new(point) })
            }
            _ => Err(format!(
                "{text:?} is no pattern; allowed is device/point of letters, digits, '.', '_', '-' and '*' for any text, up to {PATTERN_BYTES_MAX} bytes"
            )),
        }
    }

    /// Whether the series fits.
    pub fn takes(&self, series: &SeriesDef) -> bool {
        self.device.matches(series.device.as_str()) && self.point.matches(series.point.as_str())
    }
}

#[cfg(test)]
mod tests {
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
}
