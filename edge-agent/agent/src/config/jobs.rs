//! What commands and schedules may do, and when schedules do it.

use std::path::PathBuf;
use std::time::Duration;

use tideline_protocol::model::DeviceId;
use tideline_protocol::timing::{self, Timing};
use tideline_protocol::wire::{COMMAND_INPUT_BYTES_MAX, COMMAND_KIND_BYTES_MAX};

use super::KEYS;
use super::read::{Reader, Section, Value};
use crate::commands::address::Prefix;
use crate::schedule::core::{Missed, Schedule};

/// Most schedules: each is looked at twice a second.
const SCHEDULES_MAX: usize = 64;
/// Most programs.
const PROGRAMS_MAX: usize = 64;
/// Least memory that a program may be limited to, in MiB: the agent's own binary has to become it within that.
const MEMORY_MB_MIN: u64 = 128;
/// Longest name.
const NAME_BYTES_MAX: usize = 64;

/// What commands and schedules may do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Jobs {
    /// The programs that may be run.
    pub programs: Vec<Program>,
    /// Where requests may go.
    pub http_allow: Vec<Prefix>,
    /// The file with the authorities of the certificates there.
    pub http_ca: Option<PathBuf>,
    /// The folder of exports; none where there are to be none.
    pub export_dir: Option<PathBuf>,
    /// Most bytes that all exports there have together; 0 = no limit.
    pub export_bytes: u64,
    /// What is done by itself.
    pub schedules: Vec<Scheduled>,
}

/// A program that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What commands call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The arguments that it is always given.
    pub args: Vec<String>,
    /// Further ones that a command may give.
    pub allow: Vec<String>,
    /// As whom it runs; as the agent where nobody is named.
    pub user: Option<String>,
    /// Longest that it may run.
    pub timeout: Duration,
    /// Most bytes of output that are kept.
    pub output_max: usize,
    /// Most bytes of memory that each of its processes may have.
    pub memory_max: Option<u64>,
}

/// A schedule, and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// When.
    pub schedule: Schedule,
    /// By which device; the agent's own where none is named.
    pub device: Option<DeviceId>,
    /// The kind of the command.
    pub kind: String,
    /// Its input, as JSON.
    pub input: String,
}

impl Jobs {
    /// Schedules that will not run, as their one time is over and nothing is done for it any more; one text each.
    #[must_use]
    pub fn over(&self, now_ms: i64) -> Vec<String> {
        let over = self.schedules.iter().filter(|one| one.is_over(now_ms));
        let told = |one: &Scheduled| {
            format!("schedule.{}: its time is over, and missed is skip: it will not run", one.schedule.name)
        };
        over.map(told).collect()
    }
}

impl Scheduled {
    /// Whether it will not run, as its one time is over and nothing is done for it any more.
    #[must_use]
    pub fn is_over(&self, now_ms: i64) -> bool {
        let Schedule { timing, missed, within_ms, .. } = &self.schedule;
        *missed == Missed::Skip && timing.is_over(now_ms, *within_ms)
    }

    /// The point that its input names.
    #[must_use]
    pub fn point(&self) -> Option<String> {
        let input: serde_json::Value = serde_json::from_str(&self.input).ok()?;
        Some(input.get("point")?.as_str()?.to_owned())
    }
}

fn text(section: &Section, of: &str, name: &str) -> String {
    let default =
        || KEYS.iter().find(|key| key.section == of && key.name == name).map_or("", |key| key.default);
    match section.get(name) {
        Some(Value::Text(text)) => text.clone(),
        _ => default().to_owned(),
    }
}

fn list(section: &Section, name: &str) -> Vec<String> {
    match section.get(name) {
        Some(Value::List(list)) => list.clone(),
        _ => Vec::new(),
    }
}

fn number(section: &Section, of: &str, name: &str) -> u64 {
    match section.get(name) {
        Some(Value::Number(number)) => *number,
        _ => text(&Section::new(), of, name).parse().unwrap_or(0),
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Checks what the sections `[commands]`, `[[program]]` and `[[schedule]]` say of jobs.
pub fn check(
    reader: &mut Reader<'_>,
    commands: &Section,
    programs: Vec<(usize, Section)>,
    schedules: Vec<(usize, Section)>,
) -> Jobs {
    let mut jobs = Jobs {
        http_ca: some(text(commands, "commands", "http_ca")).map(Into::into),
        export_dir: some(text(commands, "commands", "export_dir")).map(Into::into),
        export_bytes: number(commands, "commands", "export_mb").saturating_mul(1024 * 1024),
        ..Jobs::default()
    };
    for prefix in list(commands, "http_allow") {
        match Prefix::parse(&prefix) {
            Ok(prefix) if prefix.is_secure() && jobs.http_ca.is_none() => reader.told(format!(
                "{}: commands.http_allow: {prefix} needs commands.http_ca, the file with the authorities of its certificate",
                reader.file
            )),
            Ok(prefix) => jobs.http_allow.push(prefix),
            Err(what) => reader.told(format!("{}: commands.http_allow: {what}", reader.file)),
        }
    }
    for (what, count, max) in
        [("program", programs.len(), PROGRAMS_MAX), ("schedule", schedules.len(), SCHEDULES_MAX)]
    {
        if count > max {
            reader.told(format!("{}: {what}: there are {count}; allowed are {max}", reader.file));
        }
    }
    for (at, section) in programs {
        let program = program(&section, &jobs.programs);
        match program {
            Ok(program) => jobs.programs.push(program),
            Err(what) => reader.problem(at, &format!("program.{what}")),
        }
    }
    for (at, section) in schedules {
        let scheduled = scheduled(&section, &jobs.schedules);
        match scheduled {
            Ok(scheduled) => jobs.schedules.push(scheduled),
            Err(what) => {
                let name = text(&section, "schedule", "name");
                // A line says where it is, and not which one.
                let is_named = reader.has_lines() && !name.is_empty() && !what.starts_with("name:");
                let named = if is_named { format!(" (schedule {name})") } else { String::new() };
                reader.problem(at, &format!("schedule.{what}{named}"));
            }
        }
    }
    jobs
}

/// A name that is none of those that are there.
fn name<'a>(
    section: &Section,
    of: &str,
    mut others: impl Iterator<Item = &'a str>,
) -> Result<String, String> {
    let name = text(section, of, "name");
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.chars().all(fits) {
        return Err(format!(
            "name: {name:?} is none; allowed are 1 to {NAME_BYTES_MAX} letters, digits, '_', '-' and '.'"
        ));
    }
    if others.any(|other| other == name) {
        return Err(format!("name: {name:?} is used twice"));
    }
    Ok(name)
}

fn program(section: &Section, others: &[Program]) -> Result<Program, String> {
    let name = name(section, "program", others.iter().map(|other| other.name.as_str()))?;
    let path = PathBuf::from(text(section, "program", "path"));
    if !path.is_absolute() {
        return Err(format!("path: {path:?} is none; allowed is an absolute one, as /usr/bin/uptime"));
    }
    let (args, allow) = (list(section, "args"), list(section, "allow"));
    if args.iter().chain(&allow).any(|arg| arg.contains('\0')) {
        return Err("args: an argument has no character 0".to_owned());
    }
    let memory_mb = number(section, "program", "memory_mb");
    if (1..MEMORY_MB_MIN).contains(&memory_mb) {
        return Err(format!(
            "memory_mb: {memory_mb} is too little; allowed are 0 and {MEMORY_MB_MIN} or more"
        ));
    }
    Ok(Program {
        name,
        path,
        args,
        allow,
        user: some(text(section, "program", "user")),
        timeout: Duration::from_secs(number(section, "program", "timeout_s")),
        output_max: usize::try_from(number(section, "program", "output_kib") * 1024).unwrap_or(usize::MAX),
        memory_max: Some(memory_mb * 1024 * 1024).filter(|bytes| *bytes > 0),
    })
}

pub(super) fn scheduled(section: &Section, others: &[Scheduled]) -> Result<Scheduled, String> {
    let of = |name| text(section, "schedule", name);
    let name = name(section, "schedule", others.iter().map(|other| other.schedule.name.as_str()))?;
    let zone = timing::zone(&of("zone"))?;
    let given: Vec<_> =
        timing::OPTIONS.iter().filter_map(|option| Some((*option, some(of(option))?))).collect();
    let [(option, when)] = given.as_slice() else {
        return Err("cron, schedule.every and schedule.at: exactly one of them is to be given".to_owned());
    };
    let timing = Timing::read(option, when, zone)?;
    let missed = match of("missed").as_str() {
        "run-once" => Missed::RunOnce,
        "run-all" => Missed::RunAll,
        _ => Missed::Skip,
    };
    let within_ms =
        i64::try_from(number(section, "schedule", "within_s")).unwrap_or(i64::MAX / 1_000) * 1_000;
    let device =
        some(of("device")).map(|id| DeviceId::parse(&id).map_err(|error| format!("device: {error}")));
    let (kind, input) = (of("kind"), of("input"));
    if !(1..=COMMAND_KIND_BYTES_MAX).contains(&kind.len()) {
        return Err(format!("kind: has {} bytes; allowed are 1 to {COMMAND_KIND_BYTES_MAX}", kind.len()));
    }
    let is_object = serde_json::from_str::<serde_json::Map<_, _>>(&input);
    if let Err(error) = is_object {
        return Err(format!("input: {error}; allowed is an object of JSON, as {{\"timeout_ms\": 1000}}"));
    }
    if input.len() > COMMAND_INPUT_BYTES_MAX {
        return Err(format!("input: has {} bytes; allowed are {COMMAND_INPUT_BYTES_MAX}", input.len()));
    }
    let schedule = Schedule { name, kind: kind.clone(), timing, missed, within_ms };
    Ok(Scheduled { schedule, device: device.transpose()?, kind, input })
}

#[cfg(test)]
mod tests {
    use super::super::{HubLayer, parse};

    #[test]
    fn jobs_are_as_they_are_written() {
        let text = r#"
            [commands]
            http_allow = ["http://127.0.0.1:8000/api"]
            export_dir = "/var/lib/exports"
            [[program]]
            name = "uptime"
            path = "/usr/bin/uptime"
            allow = ["-p"]
            memory_mb = 128
            [[schedule]]
            name = "night"
            cron = "30 2 * * *"
            zone = "Europe/Berlin"
            kind = "sync"
            [[schedule]]
            name = "often"
            every = "15m"
            missed = "run-once"
            kind = "run"
            input = '{"program": "uptime"}'
        "#;
        let jobs = parse("a.toml", text, &[]).unwrap().jobs;
        assert_eq!(jobs.programs[0].memory_max, Some(128 << 20));
        assert_eq!(jobs.schedules[1].schedule.timing.next(0), Some(900_000));
        assert_eq!((jobs.schedules.len(), jobs.http_allow.len()), (2, 1));
    }

    #[test]
    fn all_that_is_wrong_with_jobs_is_told_at_once() {
        let text = "[commands]\nhttp_allow = [\"ftp://x\", \"https://x/\"]\n[[program]]\nname = \"a\"\npath = \"uptime\"\n\
            [[schedule]]\nname = \"a\"\nkind = \"sync\"\ncron = \"* * * * *\"\nevery = \"1m\"\n\
            [[schedule]]\nname = \"b\"\nkind = \"sync\"\nevery = \"1s\"\n\
            [[schedule]]\nname = \"b c\"\nkind = \"sync\"\nevery = \"1m\"\n\
            [[schedule]]\nname = \"d\"\nkind = \"sync\"\nevery = \"1m\"\ninput = \"[]\"\n\
            [[schedule]]\nname = \"e\"\nkind = \"sync\"\nat = \"noon\"\n\
            [[schedule]]\nname = \"f\"\nkind = \"sync\"\ncron = \"0 0 * * *\"\nzone = \"Moon\"\n";
        let error = parse("a.toml", text, &[]).unwrap_err();
        let wanted = [
            "a.toml: commands.http_allow: \"ftp://x\"",
            "a.toml: commands.http_allow: https://x/ needs commands.http_ca",
            "a.toml:3: program.path: \"uptime\" is none",
            "a.toml:6: schedule.cron, schedule.every and schedule.at: exactly one",
            "a.toml:11: schedule.every: \"1s\" is none; allowed are 10s",
            "a.toml:15: schedule.name: \"b c\" is none",
            "a.toml:19: schedule.input: ",
            "a.toml:24: schedule.at: \"noon\" is no time",
            "a.toml:28: schedule.zone: \"Moon\" is none",
        ];
        assert_eq!(error.problems.len(), wanted.len(), "{error}");
        for (problem, part) in error.problems.iter().zip(wanted) {
            assert!(problem.starts_with(part), "{problem}: {part}");
        }
    }

    #[test]
    fn a_schedule_that_will_never_run_is_told_by_its_name() {
        let text = "[[schedule]]\nname = \"late\"\nkind = \"sync\"\ncron = \"0 0 31 2 *\"\n\
            [[schedule]]\nname = \"fast\"\nkind = \"sync\"\nevery = \"0s\"\n";
        let told = parse("a.toml", text, &[]).unwrap_err().problems;
        assert_eq!(
            told,
            [
                "a.toml:1: schedule.cron: \"0 0 31 2 *\" never comes: no month of it has such a day (schedule late)",
                "a.toml:5: schedule.every: \"0s\" is none; allowed are 10s to 8784h, as 15m (schedule fast)",
            ]
        );
        let text = "[[schedule]]\nname = \"once\"\nkind = \"sync\"\nat = \"1970-01-01T01:00:00Z\"\n";
        let over = |text: &str, now_ms| parse("a.toml", text, &[]).unwrap().jobs.over(now_ms);
        assert_eq!(over(text, 3_660_000), [""; 0]);
        assert_eq!(
            over(text, 3_660_001),
            ["schedule.once: its time is over, and missed is skip: it will not run"]
        );
        assert_eq!(over(&format!("{text}missed = \"run-once\"\n"), i64::MAX), [""; 0], "it is made up for");
    }

    #[test]
    fn what_may_be_run_is_said_on_the_device_alone() {
        for layer in [
            serde_json::json!({"program": {"sh": {"path": "/bin/sh"}}}),
            serde_json::json!({"commands": {"http_allow": ["http://127.0.0.1/"]}}),
            serde_json::json!({"commands": {"export_dir": "/etc"}}),
        ] {
            let refused = HubLayer::read(&layer).unwrap_err();
            assert!(refused.contains("is set on the device alone"), "{refused}");
        }
        let layer = serde_json::json!({"schedule": {"night": {"cron": "0 3 * * *", "kind": "sync"}}});
        assert!(HubLayer::read(&layer).is_ok());
    }
}
