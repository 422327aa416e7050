//! The streams of a configuration.

use tideline_protocol::model::Class;
use tideline_spool::{Overflow, Policy, STREAM_NAME_BYTES_MAX, STREAMS_MAX, StreamConfig};

use super::KEYS;
use super::read::{Reader, Section, Value};

const MIB: u64 = 1024 * 1024;
pub(super) const HOUR_S: u64 = 3600;
/// The width of a bucket where nothing else is said, as `downsample_s` has it.
pub(super) const DOWNSAMPLE_S: u32 = 60;

/// Checks all `[[stream]]` sections.
pub fn check(reader: &mut Reader<'_>, sections: Vec<(usize, Section)>) -> Vec<StreamConfig> {
    let mut out: Vec<StreamConfig> = Vec::new();
    // The default stream is one of them.
    if let Some((at, _)) = sections.get(STREAMS_MAX - 1) {
        reader.problem(*at, &format!("stream: at most {} are allowed", STREAMS_MAX - 1));
    }
    for (at, section) in sections {
        let name = text(&section, "name");
        if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX {
            let len = name.len();
            reader.problem(
                at,
                &format!("stream.name: is {len} bytes long; allowed are 1 to {STREAM_NAME_BYTES_MAX}"),
            );
        }
        if out.iter().any(|other| other.name == name) {
            reader.problem(at, &format!("stream.name: {name:?} is used twice"));
        }
        let class = match text(&section, "class").as_str() {
            "alarm" => Class::Alarm,
            "state" => Class::State,
            _ => Class::Live,
        };
        let bucket_s = u32::try_from(number(&section, "downsample_s")).unwrap_or(u32::MAX);
        let overflow = match text(&section, "overflow").as_str() {
            "block" => Overflow::Block,
            "drop-newest" => Overflow::DropNewest,
            "keep-latest" => Overflow::KeepLatest,
            "downsample" => Overflow::Downsample { bucket_s },
            _ => Overflow::DropOldest,
        };
        let quota_bytes = number(&section, "quota_mb") * MIB;
        let policy = Policy { overflow, quota_bytes, keep_s: number(&section, "keep_h") * HOUR_S };
        out.push(StreamConfig { name, class, policy });
    }
    out
}

fn default(name: &str) -> &'static str {
    KEYS.iter().find(|key| key.section == "stream" && key.name == name).map_or("", |key| key.default)
}

fn text(section: &Section, name: &str) -> String {
    match section.get(name) {
        Some(Value::Text(text)) => text.clone(),
        _ => default(name).to_owned(),
    }
}

fn number(section: &Section, name: &str) -> u64 {
    match section.get(name) {
        Some(Value::Number(number)) => *number,
        _ => default(name).parse().unwrap_or(0),
    }
}
