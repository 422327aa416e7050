//! Devices that publish at a broker, each to topics that its profile knows.

use super::{Command, Proof, Speech};
use crate::source::directory::{Directory, Message};
use crate::source::sheets::Sheets;
use crate::source::{Device, Write};

impl Speech for Directory {
    /// No filter is within another: a broker may send a message for each.
    fn filters(&self) -> Vec<String> {
        let mut wide: Vec<String> = self.families().flat_map(|mapping| mapping.topics(None)).collect();
        wide.sort();
        wide.dedup();
        let mut filters: Vec<String> = self
            .told()
            .filter(|topic| !wide.iter().any(|filter| covers(filter, topic)))
            .map(str::to_owned)
            .collect();
        filters.extend(
            wide.iter().filter(|one| !wide.iter().any(|other| other != *one && covers(other, one))).cloned(),
        );
        filters.sort();
        filters
    }

    fn begin(&mut self, _now_ns: u64) {
        self.forget_news();
    }

    fn take(&mut self, _now_ns: u64, message: Message<'_>, sheets: &mut Sheets<'_>) {
        // Why a message is refused is among what the sheets reject.
        let _ = self.hear(message, sheets);
    }

    fn turn(&mut self, _now_ns: u64, _sheets: &mut Sheets<'_>) -> Option<Vec<(String, Vec<u8>)>> {
        None
    }

    fn news(&mut self) -> Vec<Device> {
        self.take_news()
    }

    fn command(&mut self, write: &Write, _now_ms: u64) -> Result<Command, String> {
        let (topic, payload) = self.written(write)?;
        Ok(Command { topic, payload, proof: Proof::Broker })
    }
}

/// Whether all that a filter or topic is of is of another filter too.
fn covers(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (None, None) => return true,
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{DeviceConfig, shipped};

    const SHELLY: &str = "shellyplusplugs-0123456789ab";

    #[test]
    fn no_filter_is_within_another() {
        let family = |name: &str| Arc::new(shipped(name).unwrap());
        let kettle = DeviceConfig {
            id: "kettle".parse().unwrap(),
            profile: "shelly-plus-plug".into(),
            family: Some(family("shelly-plus-plug")),
            address: SHELLY.into(),
            firmware: None,
            hardware: None,
            stream: None,
        };
        let families = ["shelly-plus-plug", "tasmota-plug", "json-mqtt"].map(family);
        let all = Directory::new(std::slice::from_ref(&kettle), &families).unwrap();
        let filters = all.filters();
        assert!(
            filters.contains(&"+/status/switch:0".to_owned()) && filters.contains(&"sensors/+".to_owned())
        );
        assert!(!filters.iter().any(|filter| filter.contains(SHELLY)), "{filters:?}");
        let alone = Directory::new(&[kettle], &[]).unwrap();
        assert!(alone.filters().contains(&format!("{SHELLY}/online")));
        for (filter, topic, is_covered) in [
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/b", "a/+", false),
            ("a/#", "a/b/c", true),
            ("a/+", "a/#", false),
            ("+", "a/b", false),
        ] {
            assert_eq!(covers(filter, topic), is_covered, "{filter} {topic}");
        }
    }
}
