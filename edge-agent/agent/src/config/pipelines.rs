//! The pipelines of a configuration, and those that the profiles of its devices bring along.
//!
//! In a profile patterns name points alone, and stand for those of the devices of that profile: of each `[[device]]` that
//! names it, and of each of which a source says that it is one. Its pipelines are named after it, as `pump-minutes`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tideline_pipeline::definition::{Definition, Kind};
use tideline_pipeline::limits::PIPELINES_MAX;
use tideline_pipeline::{Pipelines, Problems, definition};
use tideline_profiles::{Profile, ProfileError};
use tideline_protocol::model::DeviceId;
use tideline_spool::{DEFAULT_STREAM, Overflow, StreamConfig};

use super::alarms;
use super::read::Reader;
use super::{PushDoor, SourceConfig, SourceKind};

/// The name of the sections.
pub const SECTION: &str = "pipeline";

/// What is said of them where all options are.
pub const REFERENCE: &str = r#"
# [[pipeline]]
# Pipelines filter, scale, put together and judge readings before they are kept. A profile may have some, too: there
# patterns name points alone, as "temperature", and stand for those of its devices. Each has a name, of letters, digits,
# '_' and '-'.
# name = ""
# Patterns of the series that it takes, as device/point, in which * stands for any text.
# from = []
# Whether the readings also go on as they came.
# keep = false
# Whether it only looks on: the readings go on as if it was not there, and nothing leaves it but what its rules tell and
# what it writes.
# watch = false
# A reading so far ahead of the clock is a dead letter of rules, rate limits, derived points and deadbands with a
# silence_max_ms, which would wait for that time; windows have a key of their own. In ms.
# ahead_max_ms = 3600000
# Stream that readings of its rules go to: <pipeline>/<rule>/<point>, true from when a rule fires until it clears;
# empty = that of the reading. No stream may be named here or in an output that blocks.
# events = ""

# [[pipeline.stage]]
# Name, unique within the pipeline.
# name = ""
# What it reads: stages by name, ports of a branch as stage.port, or "from" for what the pipeline takes; empty = the
# stage before it.
# after = []
# One of range, deadband, scale, unit, expression, filter, branch, window, derive, rule, rate_limit, write, output,
# discard. Their keys, with defaults where they have some:
#   range       min, max, otherwise = "bad" (or "drop", "clamp")
#   deadband    absolute, percent, silence_max_ms = 0 (never let one on that did not change)
#   scale       factor, offset = 0, unit
#   unit        from, to
#   expression  value (CEL; names: value, quality, time_ms, device, point, unit), unit, type
#               Numbers are doubles (f64): beyond 2^53 they are rounded, 9223372036854775807 + 1 to 9223372036854776000. Only
#               % is for integers: int(value) % 2; of two integers / is theirs: int(value) / int(2).
#               type is "float" unless it says "int", "bool" or "text"; what can never be of it is refused.
#   filter      when
#   branch      case = [{ port = "hot", when = "value > 80" }]; what fits none goes to the port "else"
#   window      length_ms, hop_ms = length_ms, aggregates (count, bad, min, max, sum, mean, first, last, deviation),
#               wait_ms = 5000, idle_ms = 60000, ahead_max_ms = 3600000, point = "{point}/{aggregate}"
#   derive      inputs = { a = "pump-1/flow" }, value, device, point, unit, type, age_max_ms,
#               per_device = false
#   rule        condition = "above" | "below" | "equals" | "rate" | "z_score" | "expression" | "absence", limit, clear,
#               value, when, clear_when, of (patterns of the series that it judges; none = all), for_ms = 0, clear_for_ms = 0, severity, message, write = { device, point, fired, cleared };
#               rate: direction = "either" (or "rise", "fall"); z_score: readings = 1000, warm_up = 30,
#               deviation_min = 0, season = "none" (or "hour_of_day")
#   rate_limit  readings, per_ms
#   write       device, point
#   output      device, point, stream
# kind = ""
"#;

/// The pipelines that are to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What they do.
    pub definitions: Vec<Definition>,
    /// Of pipelines of profiles, by their names, whose devices they take readings of.
    pub kin: BTreeMap<String, Kin>,
}

/// Devices of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kin {
    /// Its name.
    pub profile: String,
    /// Those that the configuration names; others are there when a source says so.
    pub devices: BTreeSet<DeviceId>,
    /// Whether it judges the alarms of the profile.
    pub is_alarms: bool,
}

/// A profile, with whatever is wrong with it or with its pipelines.
///
/// # Errors
/// All problems at once, each with its line.
pub fn profile(file: &str, text: &str) -> Result<Profile, ProfileError> {
    let parsed = Profile::parse(file, text);
    // What is no TOML was told.
    if toml::de::DeTable::parse(text).is_err() {
        return parsed;
    }
    let name = parsed.as_ref().map_or("profile", Profile::name).to_owned();
    let Err(wrong) = of_text(file, text, &name) else { return parsed };
    let mut problems = parsed.map_or_else(|error| error.problems, |_| Vec::new());
    problems.extend(wrong.to_string().lines().map(str::to_owned));
    let line = |problem: &String| {
        problem.strip_prefix(file)?.strip_prefix(':')?.split(':').next()?.parse::<usize>().ok()
    };
    problems.sort_by_key(|problem| line(problem).unwrap_or_default());
    Err(ProfileError { problems })
}

/// The pipelines of a profile, under the names that they have in an agent.
///
/// # Errors
/// All that is wrong with them.
pub fn of_profile(profile: &Profile) -> Result<Vec<Definition>, Problems> {
    let (file, text) = profile.text();
    let mut definitions = of_text(file, text, profile.name())?;
    if let Some(alarms) = alarms::of(profile, alarms_name(profile)) {
        let compiled = Pipelines::compile(std::slice::from_ref(&alarms));
        compiled.map_err(|problems| Problems { file: file.to_owned(), ..problems })?;
        definitions.push(alarms);
    }
    Ok(definitions)
}

/// The name of the pipeline that judges the alarms of a profile.
fn alarms_name(profile: &Profile) -> String {
    format!("{}-alarms", profile.name().replace('.', "-"))
}

fn of_text(file: &str, text: &str, name: &str) -> Result<Vec<Definition>, Problems> {
    let mut definitions = definition::read(file, text)?;
    let family = name.replace('.', "-");
    for definition in &mut definitions {
        definition.name = format!("{family}-{}", definition.name);
        // Its patterns are of points: whose, nobody knew when it was written.
        let rules = definition.stages.iter_mut().filter_map(|stage| match &mut stage.kind {
            Kind::Rule(rule) => Some(&mut rule.of),
            _ => None,
        });
        let patterns = definition.from.iter_mut().chain(rules.flatten());
        patterns.for_each(|point| point.insert_str(0, "*/"));
    }
    let checked = Pipelines::compile(&definitions);
    checked.map_err(|problems| Problems { file: file.to_owned(), ..problems })?;
    Ok(definitions)
}

/// Checks all pipelines of a configuration.
pub fn check(
    reader: &mut Reader<'_>,
    streams: &[StreamConfig],
    sources: &[SourceConfig],
    has_alarms: bool,
) -> Plan {
    let mut plan = Plan::default();
    // What is no TOML was told.
    if toml::de::DeTable::parse(reader.text).is_err() {
        return plan;
    }
    let own = definition::read(reader.file, reader.text).and_then(|definitions| {
        Pipelines::compile(&definitions)
            .map_err(|problems| Problems { file: reader.file.to_owned(), ..problems })?;
        Ok(definitions)
    });
    match own {
        Ok(definitions) => take(reader, reader.file.to_owned(), definitions, streams, &mut plan),
        Err(problems) => tell(reader, &problems),
    }
    for profile in profiles(sources) {
        let (file, _) = profile.text();
        match of_profile(&profile) {
            Ok(mut definitions) => {
                let of_alarms = alarms_name(&profile);
                definitions.retain(|definition| has_alarms || definition.name != of_alarms);
                let alarms = definitions.iter_mut().find(|definition| definition.name == of_alarms);
                alarms.into_iter().for_each(|definition| definition.events = alarms::stream(streams));
                let kin = definitions.iter().map(|definition| {
                    let (profile_name, devices) = (profile.name().to_owned(), devices(&profile, sources));
                    let is_alarms = definition.name == of_alarms;
                    (definition.name.clone(), Kin { profile: profile_name, devices, is_alarms })
                });
                let kin: Vec<_> = kin.collect();
                take(reader, file.to_owned(), definitions, streams, &mut plan);
                plan.kin.extend(kin);
            }
            Err(problems) => tell(reader, &problems),
        }
    }
    if plan.definitions.len() > PIPELINES_MAX {
        let count = plan.definitions.len();
        let what = format!("pipeline: there are {count} with those of profiles; allowed are {PIPELINES_MAX}");
        let line = if reader.has_lines() { ":1" } else { "" };
        reader.told(format!("{}{line}: {what}", reader.file));
    }
    plan
}

fn tell(reader: &mut Reader<'_>, problems: &Problems) {
    for problem in &problems.list {
        if problems.file == reader.file && !reader.has_lines() {
            // As other problems of a layer have it: sections and names with dots.
            let place = problem.place.replacen("pipeline ", "pipeline.", 1);
            reader.told(format!("{}: {place}: {}", problems.file, problem.what));
            continue;
        }
        let line = problem.line.max(1);
        reader.told(format!("{}:{line}: {}: {}", problems.file, problem.place, problem.what));
    }
}

/// Takes the definitions of a file, whose names and streams have to fit the rest.
fn take(
    reader: &mut Reader<'_>,
    file: String,
    definitions: Vec<Definition>,
    streams: &[StreamConfig],
    plan: &mut Plan,
) {
    let mut problems = Problems { file, ..Problems::default() };
    let mut problem = |line, place: String, what: String| {
        problems.list.push(tideline_pipeline::Problem { line, place, what });
    };
    for definition in definitions {
        let name = &definition.name;
        if plan.definitions.iter().any(|other| other.name == *name) {
            let place = format!("pipeline {name}, name");
            problem(definition.line(None, "name"), place, format!("{name:?} is used twice"));
        }
        if let Some(what) = definition.events.as_deref().and_then(|stream| unfit(stream, streams)) {
            problem(definition.line(None, "events"), format!("pipeline {name}, events"), what);
        }
        for (at, stage) in definition.stages.iter().enumerate() {
            let Kind::Output(output) = &stage.kind else { continue };
            if let Some(what) = output.stream.as_deref().and_then(|stream| unfit(stream, streams)) {
                let place = format!("pipeline {name}, stage {}, stream", stage.name);
                problem(definition.line(Some(at), "stream"), place, what);
            }
        }
        plan.definitions.push(definition);
    }
    tell(reader, &problems);
}

/// What is wrong with a stream that results are to go to. One that blocks would hold up all that runs beside.
fn unfit(stream: &str, streams: &[StreamConfig]) -> Option<String> {
    let known = streams.iter().find(|known| known.name == stream);
    let blocks = |stream: &&StreamConfig| stream.policy.overflow == Overflow::Block;
    if known.is_some_and(|known| blocks(&known)) {
        return Some(format!("names {stream:?}, which blocks; allowed are streams that do not"));
    }
    if known.is_some() || stream == DEFAULT_STREAM {
        return None;
    }
    let others = streams.iter().filter(|stream| !blocks(stream)).map(|stream| stream.name.as_str());
    let names: BTreeSet<&str> = others.chain([DEFAULT_STREAM]).collect();
    let names: Vec<&str> = names.into_iter().collect();
    Some(format!("names {stream:?}, and there is none; allowed are {}", names.join(", ")))
}

/// The profiles of all devices, each once.
fn profiles(sources: &[SourceConfig]) -> Vec<Arc<Profile>> {
    let mut all: Vec<Arc<Profile>> = Vec::new();
    for source in sources {
        let of_devices = source.devices.iter().filter_map(|device| device.family.clone());
        let appearing: Vec<Arc<Profile>> = match &source.kind {
            SourceKind::Mqtt { families, .. } | SourceKind::Http(PushDoor { families, .. }) => {
                families.clone()
            }
            SourceKind::Sparkplug { family, .. } => vec![Arc::clone(family)],
            // It ships with the agent, and a test reads it.
            SourceKind::Host { .. } => Profile::linux_host().map(Arc::new).into_iter().collect(),
            _ => Vec::new(),
        };
        for profile in of_devices.chain(appearing) {
            // Of one file with several firmwares the pipelines are the same.
            if !all.iter().any(|known| known.text() == profile.text()) {
                all.push(profile);
            }
        }
    }
    all
}

fn devices(profile: &Profile, sources: &[SourceConfig]) -> BTreeSet<DeviceId> {
    let all = sources.iter().flat_map(|source| &source.devices);
    let kin = all.filter(|device| device.family.as_ref().is_some_and(|of| of.text() == profile.text()));
    kin.map(|device| device.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{parse, parse_with};
    use super::*;

    const WINDOW: &str = "[[pipeline]]\nname = \"minutes\"\nfrom = \"a/*\"\n[[pipeline.stage]]\nname = \"w\"\nkind = \"window\"\nlength_ms = 1000\naggregates = [\"mean\"]\n";

    #[test]
    fn pipelines_stand_beside_the_other_sections() {
        let config = parse("a.toml", &format!("[http]\nlisten = \"\"\n{WINDOW}"), &[]).unwrap();
        let [only] = config.pipelines.definitions.as_slice() else { panic!() };
        assert_eq!((only.name.as_str(), only.stages.len()), ("minutes", 1));
        assert!(config.pipelines.kin.is_empty());
        assert!(parse("a.toml", &super::super::reference(), &[]).is_ok());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_what_is_wrong_elsewhere() {
        let text = format!(
            "[batch]\nrows_max = 0\n[[stream]]\nname = \"slow\"\noverflow = \"block\"\n{WINDOW}hop = 3\n{}",
            WINDOW.replace("1000", "0")
        );
        let error = parse("a.toml", &text, &[]).unwrap_err();
        let wanted = [
            "a.toml:2: batch.rows_max: must be",
            "a.toml:14: pipeline minutes, stage w, hop: is an unknown key; allowed are",
        ];
        assert_eq!(error.problems.len(), wanted.len(), "{error}");
        for (problem, part) in error.problems.iter().zip(wanted) {
            assert!(problem.starts_with(part), "{problem}: {part}");
        }
        let out = |stream| {
            format!("{WINDOW}[[pipeline.stage]]\nname = \"o\"\nkind = \"output\"\nstream = {stream:?}\n")
        };
        let streams = "[[stream]]\nname = \"slow\"\noverflow = \"block\"\n[[stream]]\nname = \"fast\"\n";
        let told = |text: String| parse("a.toml", &text, &[]).map(drop).map_err(|error| error.to_string());
        assert_eq!(told(format!("{streams}{}", out("fast"))), Ok(()));
        assert_eq!(
            told(format!("{streams}{}", out("slow"))).unwrap_err(),
            "a.toml:17: pipeline minutes, stage o, stream: names \"slow\", which blocks; allowed are streams that do not"
        );
        assert_eq!(
            told(out("fast")).unwrap_err(),
            "a.toml:12: pipeline minutes, stage o, stream: names \"fast\", and there is none; allowed are default"
        );
    }

    #[test]
    fn pipelines_of_a_profile_are_those_of_its_devices() {
        let profile = "name = \"pump\"\n[coap]\n[points]\nflow = { unit = \"l/s\", min = 0, max = 9, address = \"flow\" }\n[[pipeline]]\nname = \"minutes\"\nfrom = \"flow\"\n[[pipeline.stage]]\nname = \"w\"\nkind = \"window\"\nlength_ms = 1000\naggregates = [\"mean\"]\n";
        let device = |id: &str| {
            format!("[[device]]\nid = {id:?}\nsource = \"s\"\nprofile = \"pump\"\naddress = \"10.0.0.1\"\n")
        };
        let text = format!("[[source]]\nkind = \"coap\"\nname = \"s\"\n{}{}", device("p1"), device("p2"));
        let families = |text: &str| {
            let text = text.to_owned();
            move |_: &str| Profile::parse("pump.toml", &text).map_err(|error| error.to_string())
        };
        let config = parse_with("a.toml", &text, &[], &families(profile)).unwrap();
        let [only] = config.pipelines.definitions.as_slice() else { panic!() };
        assert_eq!((only.name.as_str(), only.from.as_slice()), ("pump-minutes", &["*/flow".to_owned()][..]));
        let devices: Vec<&str> =
            config.pipelines.kin["pump-minutes"].devices.iter().map(DeviceId::as_str).collect();
        assert_eq!(devices, ["p1", "p2"]);
        let wrong = profile.replace("length_ms = 1000", "length_ms = 0");
        let error = parse_with("a.toml", &text, &[], &families(&wrong)).unwrap_err().to_string();
        assert!(error.contains("pump.toml:11: pipeline pump-minutes, stage w, length_ms:"), "{error}");
    }

    #[test]
    fn all_that_is_wrong_with_a_profile_and_its_pipelines_is_told_at_once_in_the_order_of_its_lines() {
        let text = "name = \"pump\"\n[[pipeline]]\nname = \"minutes\"\nfrom = \"flow\"\n[[pipeline.stage]]\nname = \"w\"\n\
            kind = \"window\"\nlength_ms = \"long\"\naggregates = [\"mean\"]\n[points]\n\
            flow = { unit = \"kWh\", min = 0, max = 9 }\nstate = { type = \"text\" }\n";
        let problems = profile("pump.toml", text).unwrap_err().problems;
        let begins = [
            "pump.toml:8: pipeline minutes, stage w, length_ms: must be a whole number of 0 or more",
            "pump.toml:11: points.flow.unit: \"kWh\" is no known unit; allowed are codes of UCUM such as Cel, kW.h, m3/h or bar; did you mean kW.h?",
        ];
        assert_eq!(problems, begins);
        let right = text.replace("\"long\"", "1000").replace("kWh", "kW.h");
        assert_eq!(profile("pump.toml", &right).unwrap().name(), "pump");
        let problems = profile("pump.toml", &right.replace("1000", "0")).unwrap_err().problems;
        let last = problems.last().unwrap();
        assert!(last.starts_with("pump.toml:8: pipeline pump-minutes, stage w, length_ms: is 0"), "{last}");
        assert_eq!(profile("pump.toml", "name = ").unwrap_err().problems.len(), 1);
    }
}
