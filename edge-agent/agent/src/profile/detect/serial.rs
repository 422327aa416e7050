//! A device that tells by itself on a serial line, known by the sentences that it tells. Nothing is written to it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tideline_profiles::nmea::{self, SENTENCE_BYTES_MAX};
use tideline_profiles::{Profile, Protocol};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_serial::SerialPortBuilderExt as _;

/// The rates that are tried where none is given: those of NMEA 0183, and of receivers that tell more than it.
pub const BAUDS: [u32; 4] = [4_800, 9_600, 38_400, 115_200];

/// What was heard at a rate.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Bytes, whatever they are.
    pub bytes: usize,
    /// Sentences whose checksum is right.
    pub sentences: usize,
    /// Which, as GPGGA.
    pub names: BTreeSet<String>,
    /// Families that read something of them.
    pub families: Vec<String>,
    rest: Vec<u8>,
}

impl Heard {
    fn take(&mut self, bytes: &[u8], families: &[(&str, nmea::Mapping)]) {
        self.bytes += bytes.len();
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let Ok(sentence) = nmea::decode(&line) else { continue };
            self.sentences += 1;
            self.names.insert(format!("{}{}", sentence.talker, sentence.formatter));
            for (name, mapping) in families {
                let reads = mapping.read(&line).is_ok_and(|read| !read.is_empty());
                if reads && !self.families.iter().any(|family| family == name) {
                    self.families.push((*name).to_owned());
                }
            }
        }
        // What never ends is no line.
        if self.rest.len() > SENTENCE_BYTES_MAX {
            self.rest.clear();
        }
    }
}

/// Listens at each rate for so long, up to the first at which sentences come; gives that, or the last.
///
/// # Errors
/// The port cannot be opened, or fails.
pub async fn look(
    path: &Path,
    bauds: &[u32],
    listen: Duration,
    families: &[Profile],
) -> anyhow::Result<(u32, Heard)> {
    let of = |profile: &Profile| match profile.protocol() {
        Protocol::Nmea(_) => nmea::Mapping::of(profile).ok(),
        _ => None,
    };
    let families: Vec<(&str, nmea::Mapping)> =
        families.iter().filter_map(|profile| Some((profile.name(), of(profile)?))).collect();
    let mut last = (0, Heard::default());
    for baud in bauds {
        let shown = path.to_string_lossy();
        let mut port = tokio_serial::new(shown.clone(), *baud)
            .open_native_async()
            .with_context(|| shown.into_owned())?;
        let (until, mut heard, mut bytes) = (Instant::now() + listen, Heard::default(), [0; 512]);
        while let Ok(count) = timeout_at(until, port.read(&mut bytes)).await {
            heard.take(bytes.get(..count.context("the port fails")?).unwrap_or_default(), &families);
            if heard.sentences > 0 && !heard.families.is_empty() {
                break;
            }
        }
        last = (*baud, heard);
        if last.1.sentences > 0 {
            break;
        }
    }
    Ok(last)
}
