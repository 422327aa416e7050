//! Profiles of device families on the command line: which there are, whether they are right, and devices that answer as
//! they say. Nothing here touches a running agent or its data.

pub mod detect;
pub mod simulate;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use tideline_link::{out, outln};
use tideline_pipeline::definition;
use tideline_profiles::samples::{self, Report, Sample};
use tideline_profiles::{FirmwareError, Profile, schema, shipped};

use crate::config::pipelines;

/// What a folder of a family has beside its samples.
const PROFILE_FILE: &str = "profile.toml";
/// Largest file that is read: the profiles' own limit, and some for samples.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List those that ship with the agent
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read a profile and its samples, and compare what they come to with the expected readings
    Test {
        /// Which one
        #[command(flatten)]
        which: Which,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the text of a profile that ships, to begin one's own with
    Show {
        /// Its name
        name: String,
        /// As JSON, with what is not used as "unused"
        #[arg(long)]
        json: bool,
    },
    /// Write the JSON Schema of profiles, for editors
    Schema,
    /// Find out which devices are there and of which families they are, and show the configuration that reads them
    Detect {
        /// Where
        #[command(subcommand)]
        place: detect::Where,
        /// How
        #[command(flatten)]
        options: detect::Options,
    },
    /// Be a device that answers as the profile says
    Simulate {
        /// Which one
        #[command(flatten)]
        which: Which,
        /// How
        #[command(flatten)]
        options: simulate::Options,
    },
}

/// Which profile is meant.
#[derive(Debug, Args)]
pub struct Which {
    /// The name of one that ships, a folder with a profile.toml, or a file
    profile: String,
    /// As it is for devices with this firmware
    #[arg(long)]
    firmware: Option<String>,
    /// As it is for devices of this hardware revision
    #[arg(long)]
    hardware: Option<String>,
}

impl Which {
    /// A profile as it is for such devices.
    fn edition(&self, profile: &Profile) -> Result<Profile, FirmwareError> {
        let profile = profile.for_hardware(self.hardware.as_deref())?;
        profile.for_firmware(self.firmware.as_deref())
    }
}

/// A profile with its samples.
#[derive(Debug)]
pub struct Loaded {
    /// The profile.
    pub profile: Profile,
    /// Its samples, by name.
    pub samples: Vec<(String, Sample)>,
}

/// Reads one that ships, by its name, or a folder, or a file with the folder `samples` beside it.
///
/// # Errors
/// There is no such profile, or it or a sample is wrong: all that is wrong with them.
pub fn load(name: &str) -> anyhow::Result<Loaded> {
    if let Some(shipped) = shipped::named(name) {
        let parse = |(name, text): &(&str, &str)| Ok(((*name).to_owned(), Sample::parse(name, text)?));
        let samples = shipped.samples.iter().map(parse).collect::<anyhow::Result<_>>()?;
        return Ok(Loaded { profile: shipped.profile()?, samples });
    }
    let path = Path::new(name);
    if !path.exists() {
        let names: Vec<&str> = shipped::ALL.iter().map(|shipped| shipped.name).collect();
        anyhow::bail!("there is no profile {name:?}; allowed are a folder, a file, and {}", names.join(", "));
    }
    let file = if path.is_dir() { path.join(PROFILE_FILE) } else { path.to_owned() };
    let profile = pipelines::profile(&file.display().to_string(), &text(&file)?)?;
    let folder = file.parent().map(|parent| parent.join("samples"));
    let mut samples = Vec::new();
    for file in
        folder.filter(|folder| folder.is_dir()).map(|folder| files(&folder)).transpose()?.unwrap_or_default()
    {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        samples.push((name, Sample::parse(&file.display().to_string(), &text(&file)?)?));
    }
    Ok(Loaded { profile, samples })
}

/// Carries a command out.
///
/// # Errors
/// A profile is wrong, a sample is not as expected, or a simulated device cannot be served.
pub async fn carry_out(command: ProfileCommand) -> anyhow::Result<()> {
    match command {
        ProfileCommand::List { json } => list(json),
        ProfileCommand::Test { which, json } => test(&which, json),
        ProfileCommand::Show { name, json } => show_text(&name, json),
        ProfileCommand::Schema => {
            out!("{}", schema::text(definition::schema()));
            Ok(())
        }
        ProfileCommand::Detect { place, options } => detect::run(place, options).await,
        ProfileCommand::Simulate { which, options } => {
            let profile = which.edition(&load(&which.profile)?.profile)?;
            simulate::run(&profile, options).await
        }
    }
}

fn show_text(name: &str, json: bool) -> anyhow::Result<()> {
    let shipped = shipped::named(name).with_context(|| format!("no profile {name:?} ships"))?;
    let unused = shipped.profile()?.unused();
    if json {
        let form: serde_json::Value = toml::from_str(shipped.text)?;
        outln!("{}", json!({"name": shipped.name, "profile": form, "unused": unused}));
    } else {
        out!("{}", shipped.text);
        unused.iter().for_each(|what| outln!("# {what}"));
    }
    Ok(())
}

fn list(json: bool) -> anyhow::Result<()> {
    for shipped in shipped::ALL {
        let profile = shipped.profile()?;
        let (identity, protocol) = (profile.identity(), profile.protocol().as_str());
        if json {
            let points = profile.points().count();
            let entry = json!({
                "name": shipped.name, "vendor": identity.vendor, "model": identity.model, "title": identity.title,
                "protocol": protocol, "points": points, "documents": identity.documents,
            });
            outln!("{entry}");
        } else {
            outln!("{:24} {:10} {}", shipped.name, protocol, identity.title);
        }
    }
    Ok(())
}

fn test(which: &Which, json: bool) -> anyhow::Result<()> {
    let Loaded { profile, samples } = load(&which.profile)?;
    // What an overlay comes to is checked with the rest; here one can ask for several together.
    which.edition(&profile)?;
    anyhow::ensure!(
        !samples.is_empty(),
        "{} has no samples; they belong into samples/*.toml beside it",
        profile.name()
    );
    let mut problems = 0;
    let mut untested = samples::points(&profile);
    for (name, sample) in &samples {
        let firmware = which.firmware.clone().or_else(|| sample.firmware.clone());
        let hardware = which.hardware.clone().or_else(|| sample.hardware.clone());
        let report = samples::test(&profile, &Sample { firmware, hardware, ..sample.clone() });
        problems += report.problems.len();
        untested.retain(|point| !report.agreed.contains(point));
        if json { outln!("{}", entry(name, sample, &report)) } else { show(name, sample, &report) }
    }
    if !json && !untested.is_empty() {
        let points: Vec<&str> = untested.iter().map(String::as_str).collect();
        outln!("without a sample: {}", points.join(", "));
    }
    if !json {
        profile.unused().iter().for_each(|what| outln!("note: {what}"));
    }
    anyhow::ensure!(problems == 0, "{problems} readings are not as expected");
    Ok(())
}

fn entry(name: &str, sample: &Sample, report: &Report) -> serde_json::Value {
    json!({
        "sample": name, "about": sample.about, "constructed": sample.constructed, "ok": report.problems.is_empty(),
        "agreed": report.agreed, "problems": report.problems,
    })
}

fn show(name: &str, sample: &Sample, report: &Report) {
    let state = if report.problems.is_empty() { "ok" } else { "WRONG" };
    let origin = if sample.constructed { "constructed" } else { "recorded" };
    outln!("{name}: {state}, {} readings as expected ({origin})", report.agreed.len());
    for problem in &report.problems {
        outln!("  {problem}");
    }
}

fn text(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
    anyhow::ensure!(
        bytes <= FILE_BYTES_MAX,
        "{} has {bytes} bytes; allowed are {FILE_BYTES_MAX}",
        file.display()
    );
    crate::files::written(file).with_context(|| file.display().to_string())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}
