//! `profile list|show|add|remove`: profiles of device families, beside a running hub.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use cloud_hub::api::shapes::{
    ProfileAnswer, ProfileCommand as Told, ProfileInfo, ProfileList, ProfileOrigin, ProfilePoint,
    ProfileSheet, ProfileVersion,
};
use cloud_hub::when::show_ms;
use tideline_link::{errln, out, outln};
use tideline_profiles::Profile;
use tideline_profiles::samples::{self, Sample};

use super::socket::{HubSocket, escape};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What to do with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// All that the hub has, and those that agents name and it does not have.
    List,
    /// What a profile says of points, commands and firmware.
    Show {
        /// The name of the family.
        name: String,
        /// Of one that was given: an older version.
        #[arg(long)]
        version: Option<u64>,
        /// Its text as it was given.
        #[arg(long, conflicts_with = "json")]
        text: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give the hub a profile, as the next version of one of its name; its samples are tested first.
    Add {
        /// A folder with a profile.toml, as an agent has it, or the file.
        folder: PathBuf,
    },
    /// Take a profile away that was given, with all its versions.
    Remove {
        /// The name of the family.
        name: String,
    },
}

fn path(name: &str) -> String {
    format!("/api/v1/profiles/{}", escape(name))
}

/// Carries the command out beside a running hub.
pub async fn profile(hub: &HubSocket, command: &ProfileCommand) -> Result<()> {
    match command {
        ProfileCommand::List => {
            let ProfileList { profiles } = hub.get_as("/api/v1/profiles").await?;
            outln!("{:<28} {:<10} {:<10} {:>8} title", "profile", "protocol", "version", "devices");
            profiles.iter().for_each(line);
        }
        ProfileCommand::Show { name, version, text, json } => {
            let version = version.map_or_else(String::new, |version| format!("?version={version}"));
            let found = hub.get(&format!("{}{version}", path(name))).await?;
            if *json {
                outln!("{found:#}");
                return Ok(());
            }
            let answer: ProfileAnswer = serde_json::from_value(found)?;
            if *text { out!("{}", answer.text) } else { show(&answer) }
        }
        ProfileCommand::Add { folder } => {
            let (name, text) = read(folder)?;
            let kept: ProfileInfo = serde_json::from_value(hub.put_text(&path(&name), text).await?)?;
            outln!("{name} is at version {}", kept.version.unwrap_or_default());
            if kept.others > 0 {
                errln!(
                    "{} of {} devices are read by another version at their agents: `cloud-hub device show` says which",
                    kept.others,
                    kept.devices
                );
            }
        }
        ProfileCommand::Remove { name } => {
            hub.delete(&path(name)).await?;
            outln!("{name} is removed");
        }
    }
    Ok(())
}

/// Reads a profile, and tests it with the samples beside it.
fn read(folder: &Path) -> Result<(String, String)> {
    let file = if folder.is_dir() { folder.join("profile.toml") } else { folder.to_owned() };
    let text = whole(&file)?;
    let profile = Profile::parse(&file.display().to_string(), &text)?;
    let beside = file.parent().map(|parent| parent.join("samples")).filter(|folder| folder.is_dir());
    let mut problems = Vec::new();
    for entry in beside.map(std::fs::read_dir).transpose()?.into_iter().flatten() {
        let sample = entry?.path();
        if sample.extension().is_some_and(|extension| extension == "toml") {
            let shown = sample.display().to_string();
            let report = samples::test(&profile, &Sample::parse(&shown, &whole(&sample)?)?);
            problems.extend(report.problems.iter().map(|problem| format!("{shown}: {problem}")));
        }
    }
    ensure!(problems.is_empty(), "its samples are not as it says:\n{}", problems.join("\n"));
    Ok((profile.name().to_owned(), text))
}

fn whole(file: &Path) -> Result<String> {
    let shown = || file.display().to_string();
    let found = std::fs::metadata(file).with_context(shown)?;
    ensure!(
        found.is_file() && found.len() <= FILE_BYTES_MAX,
        "{}: is no file of at most {FILE_BYTES_MAX} bytes",
        shown()
    );
    std::fs::read_to_string(file).with_context(shown)
}

fn line(info: &ProfileInfo) {
    let ProfileInfo { name, protocol, origin, version, devices, others, title, .. } = info;
    let version = match (origin, version) {
        (ProfileOrigin::Shipped, _) => "ships".to_owned(),
        (ProfileOrigin::Given, version) => version.unwrap_or_default().to_string(),
        (ProfileOrigin::Unknown, _) => "none here".to_owned(),
    };
    let told = match (origin, others) {
        (ProfileOrigin::Unknown, _) => {
            format!("agents have it: cloud-hub profile add FOLDER gives it to the hub{title}")
        }
        (_, 0) => title.clone(),
        (_, others) => format!("{title} ({others} of them by another version)"),
    };
    outln!("{name:<28} {protocol:<10} {version:<10} {devices:>8} {told}");
}

fn show(answer: &ProfileAnswer) {
    let ProfileAnswer { info, sheet, versions, .. } = answer;
    line(info);
    sheet_of(sheet);
    for ProfileVersion { version, digest, by, at_ms } in versions {
        outln!("version {version} by {by}, {} ({digest})", show_ms(*at_ms));
    }
    sheet.notes.iter().for_each(|note| outln!("note: {note}"));
}

fn span(min: Option<f64>, max: Option<f64>, values: &[String]) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("{min} and more"),
        (None, Some(max)) => format!("{max} and less"),
        (None, None) => values.join(", "),
    }
}

fn sheet_of(sheet: &ProfileSheet) {
    for ProfilePoint { id, unit, kind, min, max, values, writes, name, .. } in &sheet.points {
        let access = if *writes { "writable" } else { "" };
        let span = span(*min, *max, values);
        outln!("point {id:<28} {kind:<6} {unit:<8} {access:<9} {span}  {name}");
    }
    for Told { name, title, point, value, unit, min, max, values, confirm, timeout_ms, interlocks, .. } in
        &sheet.commands
    {
        let takes = value
            .as_ref()
            .map_or_else(|| format!("{} {unit}", span(*min, *max, values)), ToString::to_string);
        let asked = if *confirm { ", asks once more" } else { "" };
        let within = timeout_ms.map_or_else(String::new, |ms| format!(", within {ms} ms"));
        outln!("command {name:<20} {title}: {point} = {}{asked}{within}", takes.trim());
        interlocks.iter().for_each(|interlock| outln!("  only while {interlock}"));
    }
    let firmware = &sheet.firmware;
    outln!("firmware: versions as {}, new ones by {}", firmware.versions, firmware.method);
    let said = [
        ("for", firmware.range.clone()),
        ("hardware", firmware.hardware.join(", ")),
        ("files end in", firmware.suffixes.join(", ")),
        ("at most bytes", firmware.bytes_max.map_or_else(String::new, |bytes| bytes.to_string())),
        ("files begin with", firmware.magic.clone().unwrap_or_default()),
        ("told at", firmware.url_point.clone().unwrap_or_default()),
    ];
    said.iter().filter(|(_, what)| !what.is_empty()).for_each(|(key, what)| outln!("  {key} {what}"));
}
