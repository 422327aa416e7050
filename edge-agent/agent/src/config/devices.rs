//! The devices of a configuration: what stands behind a source.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tideline_profiles::modbus::Plan;
use tideline_profiles::{Profile, Protocol, meant};
use tideline_protocol::model::DeviceId;
use tideline_spool::StreamConfig;

use super::read::{Reader, Section};
use super::sources::Check;
use super::{ModbusLine, SourceConfig, SourceKind, field, pipelines, push};

/// Most devices of an agent: each has a place in what is shown.
const DEVICES_MAX: usize = 1_000;

/// From the name of a profile to the profile, or why there is none.
pub type Families<'f> = &'f dyn Fn(&str) -> Result<Profile, String>;

/// The shipped profile of this name.
///
/// # Errors
/// None is called so.
pub fn shipped(name: &str) -> Result<Profile, String> {
    let Some(shipped) = tideline_profiles::shipped::named(name) else {
        let all: Vec<&str> = tideline_profiles::shipped::ALL.iter().map(|shipped| shipped.name).collect();
        let near = meant(name, &all).map_or_else(String::new, |near| format!("did you mean {near}? "));
        return Err(format!(
            "there is no profile {name:?}; {near}shipped are {}, and allowed is a path too",
            all.join(", ")
        ));
    };
    shipped.profile().map_err(|error| error.to_string())
}

/// Longest profile that is read.
const PROFILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The shipped profile of this name, or that of a file or folder.
pub fn of_files(name: &str) -> Result<Profile, String> {
    let path = Path::new(name);
    let path = if path.is_dir() { path.join("profile.toml") } else { path.to_owned() };
    if !name.contains(['/', '.']) && !path.exists() {
        return shipped(name);
    }
    let shown = path.display().to_string();
    // The hub may name it: a device file or a pipe would be read for ever.
    let found = std::fs::metadata(&path).map_err(|error| format!("{shown}: {error}"))?;
    if !found.is_file() || found.len() > PROFILE_BYTES_MAX {
        return Err(format!("{shown}: is no file of at most {PROFILE_BYTES_MAX} bytes"));
    }
    let text = crate::files::written(&path).map_err(|error| format!("{shown}: {error}"))?;
    pipelines::profile(&shown, &text).map_err(|error| error.to_string())
}

/// A device behind a source.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceConfig {
    /// Its id at the hub.
    pub id: DeviceId,
    /// Name or path of its profile; empty for none.
    pub profile: String,
    /// That profile, as it is for its firmware and hardware.
    pub family: Option<Arc<Profile>>,
    /// Where the source finds it, in the words of its protocol.
    pub address: String,
    /// Version of its firmware.
    pub firmware: Option<String>,
    /// Its hardware revision.
    pub hardware: Option<String>,
    /// The stream that its readings go to in place of the source's.
    pub stream: Option<String>,
}

/// Checks all `[[device]]` sections, and gives each to its source.
pub fn check(
    reader: &mut Reader<'_>,
    sections: Vec<(usize, Section)>,
    streams: &[StreamConfig],
    families: Families<'_>,
    (sources, wrong): (&mut [SourceConfig], &BTreeSet<String>),
) {
    if let Some((at, _)) = sections.get(DEVICES_MAX) {
        reader.problem(*at, &format!("device: at most {DEVICES_MAX} are allowed"));
    }
    for (at, section) in sections {
        let mut check = Check::of(reader, "device", at, &section);
        let some = |text: String| if text.is_empty() { None } else { Some(text) };
        let stream = some(check.text("stream"));
        if let Some(stream) = &stream {
            check.stream("device.stream", stream, streams);
        }
        let id = match DeviceId::parse(&check.text("id")) {
            Ok(id) => id,
            Err(error) => {
                check.problem(&format!("device.id: {error}"));
                continue;
            }
        };
        let (source, profile, address) = (check.text("source"), check.text("profile"), check.text("address"));
        let firmware = some(check.text("firmware"));
        let hardware = some(check.text("hardware"));
        let family = match family(&profile, (firmware.as_deref(), hardware.as_deref()), families) {
            Ok(family) => family,
            Err(error) => {
                check.problem(&format!("device.profile: {error}"));
                continue;
            }
        };
        let token = some(check.text("token"));
        let device = DeviceConfig { id, profile, family, address, firmware, hardware, stream };
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        // What is wrong with its source was told.
        if wrong.contains(&source) && !source.is_empty() {
            continue;
        }
        let Some(place) = names.iter().position(|name| *name == source) else {
            let allowed =
                if names.is_empty() { "none, as there is no source".into() } else { names.join(", ") };
            check.problem(&format!("device.source: there is no {source:?}; allowed are {allowed}"));
            continue;
        };
        if let Some(source) = sources.get_mut(place) {
            if source.devices.iter().any(|other| other.id == device.id) {
                check.problem(&format!("device.id: {} is there twice behind {}", device.id, source.name));
            }
            if let Err(problem) = fits(&device, &source.kind) {
                check.problem(&problem);
            }
            let entrusted = token.map_or(Ok(()), |token| push::entrust(&mut source.kind, &device.id, token));
            if let Err(problem) = entrusted {
                check.problem(&problem);
            }
            source.devices.push(device);
        }
    }
}

fn family(
    name: &str,
    (firmware, hardware): (Option<&str>, Option<&str>),
    families: Families<'_>,
) -> Result<Option<Arc<Profile>>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    let profile = families(name)?;
    let made = profile.for_hardware(hardware).and_then(|profile| profile.for_firmware(firmware));
    made.map(|profile| Some(Arc::new(profile))).map_err(|error| error.to_string())
}

/// Whether a source of this kind can find the device and understand it.
fn fits(device: &DeviceConfig, kind: &SourceKind) -> Result<(), String> {
    if matches!(kind, SourceKind::Http(_)) {
        return push::fits(device);
    }
    let SourceKind::Modbus { line, .. } = kind else {
        return match (&device.stream, field::is(kind)) {
            (_, true) => field::fits(device, kind),
            // What comes together is durable together, and so goes to one stream.
            (Some(_), false) => Err(format!("device.stream: kind {:?} has one stream for all", kind.name())),
            (None, false) => Ok(()),
        };
    };
    let Some(profile) = &device.family else {
        return Err(format!("device.profile: needed for kind {:?}", kind.name()));
    };
    // Where the points of SunSpec stand is said by the device.
    if !matches!(profile.protocol(), Protocol::SunSpec(_)) {
        Plan::of(profile).map_err(|error| format!("device.profile: {error}"))?;
    }
    let allowed = match line {
        ModbusLine::Tcp { .. } => 0..=255,
        ModbusLine::Rtu { .. } => 1..=247,
    };
    let unit = device.address.parse::<u8>().ok().filter(|unit| allowed.contains(unit));
    if unit.is_none() && !device.address.is_empty() {
        let (first, last) = (allowed.start(), allowed.end());
        return Err(format!(
            "device.address: {:?} is no unit; allowed are {first} to {last}, or none for that of the profile",
            device.address
        ));
    }
    Ok(())
}
