//! Which series a text means.

use std::collections::HashMap;

use tideline_store::SeriesText;

use super::super::problem::ApiError;
use crate::hub::Hub;
use crate::metadata::{DeviceRecord, Marks, MetadataError};

/// Longest text in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Most words of it: each is looked for in all series.
const WORDS_MAX: usize = 16;

/// Words, each of which a series or its device has, whatever their case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    words: Vec<String>,
}

impl Text {
    /// What somebody typed.
    ///
    /// # Errors
    /// It is too long.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let words: Vec<String> = text.to_lowercase().split_whitespace().map(str::to_owned).collect();
        if text.len() > TEXT_BYTES_MAX || words.len() > WORDS_MAX {
            let detail = format!(
                "q has {} bytes and {} words; allowed are {TEXT_BYTES_MAX} and {WORDS_MAX}",
                text.len(),
                words.len()
            );
            return Err(ApiError::bad("bad-text", detail));
        }
        Ok(Self { words })
    }

    /// What tells the series that are meant: by device, its title, site, groups and tags, by point, name and unit.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn search(&self, hub: &Hub) -> Result<Search<'_>, MetadataError> {
        let records = if self.words.is_empty() { Vec::new() } else { hub.metadata.list::<DeviceRecord>()? };
        // Of which words each device has, so that a device with many series is looked at once.
        let devices =
            records.into_iter().map(|(id, record)| (id, self.found_in(&of_device(&record.marks)))).collect();
        Ok(Search { words: &self.words, devices, own: String::new() })
    }

    fn found_in(&self, text: &str) -> Vec<bool> {
        self.words.iter().map(|word| text.contains(word.as_str())).collect()
    }
}

/// Words with what devices have of them.
pub struct Search<'a> {
    words: &'a [String],
    devices: HashMap<String, Vec<bool>>,
    // What is said of the series that is looked at: there may be a million of them.
    own: String,
}

impl Search<'_> {
    /// Whether a series has all words.
    pub fn has(&mut self, text: &SeriesText<'_>) -> bool {
        if self.words.is_empty() {
            return true;
        }
        self.own.clear();
        self.own.extend([text.device, "/", text.point, "\n", text.name, "\n", text.unit]);
        if self.own.is_ascii() {
            self.own.make_ascii_lowercase();
        } else {
            self.own = self.own.to_lowercase();
        }
        let device = self.devices.get(text.device);
        let by_device = |at: usize| device.and_then(|found| found.get(at)).copied().unwrap_or_default();
        self.words.iter().enumerate().all(|(at, word)| by_device(at) || self.own.contains(word.as_str()))
    }
}

/// What operators say of a device, one thing a line; its id is in the names of its series.
fn of_device(Marks { title, site, groups, tags, .. }: &Marks) -> String {
    let tags = tags.iter().map(|(key, value)| format!("{key}={value}"));
    let all = [title.clone(), site.clone()].into_iter().chain(groups.iter().cloned()).chain(tags);
    all.collect::<Vec<_>>().join("\n").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_its_words_and_no_longer_than_allowed() {
        assert_eq!(Text::parse("  Pump  Cel ").unwrap().words, ["pump", "cel"]);
        assert!(Text::parse("").unwrap().words.is_empty());
        for long in ["x".repeat(257), "x ".repeat(17)] {
            assert_eq!(Text::parse(&long).unwrap_err().code, "bad-text");
        }
    }
}
