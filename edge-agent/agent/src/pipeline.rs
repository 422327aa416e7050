//! Pipelines on the command line. They are tried out: `edge-agent pipeline test` runs those of a configuration over a file and tells what each stage
//! did. Nothing is stored and nobody is told.
//!
//! The file's own times are the clock: it stands at the newest time that was read, and passes before each line that is
//! later. So windows close, rules fire and silence shows as they would have.

mod input;
mod report;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tideline_link::console::Stdout;
use tideline_pipeline::{Outcome, Pipelines, Step};
use tideline_profiles::Profile;
use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};

use self::input::Input;
use self::report::Report;
use crate::config::Format;
use crate::config::pipelines::of_profile;
use crate::flow::trace;
use crate::serve;
use crate::status::Status;

/// What can be done with pipelines.
#[derive(Debug, clap::Subcommand)]
pub enum PipelineCommand {
    /// Run the pipelines of the file given by --config over a file of readings, and tell what each stage did
    Test(Trial),
    /// Tell what becomes of each reading of a device at each stage of the running agent's pipelines
    Trace {
        /// The device
        device: DeviceId,
        /// For so long
        #[arg(long = "for", default_value = "60s", value_parser = length)]
        length: Duration,
    },
    /// Show what stages of the running agent's pipelines could not take or do
    Dead {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What is tried out, and what is told of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Trial {
    /// The file with the `[[pipeline]]` tables: a configuration or a profile.
    #[arg(skip)]
    pub config: PathBuf,
    /// Of these only this one
    #[arg(long)]
    pub pipeline: Option<String>,
    /// The readings: .csv or .ndjson, as `store export` writes them, or with columns that are points of one device
    #[arg(long)]
    pub input: PathBuf,
    /// The device of rows that name none
    #[arg(long)]
    pub device: Option<DeviceId>,
    /// Tell what becomes of each reading of this device
    #[arg(long)]
    pub trace: Option<DeviceId>,
    /// Tell each reading that comes out
    #[arg(long)]
    pub results: bool,
    /// So much time passes after the last reading, for windows and rules that wait for it
    #[arg(long, default_value = "0s", value_parser = length)]
    pub then: Duration,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

/// As "10m" or a number of seconds.
fn length(text: &str) -> Result<Duration, String> {
    let allowed = || format!("{text:?} is no time; allowed is for example 30s, 10m or 45 (seconds)");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| allowed())?;
    Duration::try_from(span).map_err(|_| allowed())
}

/// Does what a command says: tries the pipelines of a file, or asks the agent that runs on `data`.
///
/// # Errors
/// No file is named, no agent runs, or as [`test`].
pub async fn carry_out(
    command: PipelineCommand,
    config: Option<PathBuf>,
    data: impl FnOnce() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<()> {
    match command {
        PipelineCommand::Test(trial) => {
            let config = config.context("--config is needed: the file with the pipelines")?;
            let mut out = std::io::BufWriter::new(Stdout);
            test(&Trial { config, ..trial }, &mut out)
        }
        PipelineCommand::Trace { device, length } => {
            anyhow::ensure!(length <= trace::FOR_MAX, "--for: {length:?}; allowed is up to an hour");
            trace::ask(&data()?, &device, length, &mut Stdout).await
        }
        PipelineCommand::Dead { json } => dead(&serve::ask_status(&data()?).await?, json, &mut Stdout),
    }
}

/// Shows the last dead letters.
fn dead(status: &Status, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&status.dead_letters)?)?);
    }
    let count: u64 =
        status.pipelines.iter().flat_map(|pipeline| &pipeline.stages).map(|stage| stage.dead_letters).sum();
    writeln!(out, "dead     {count} since the agent's start")?;
    for letter in &status.dead_letters {
        let time = time_text(letter.time_ms.saturating_mul(tideline_protocol::time::NS_PER_MS));
        let value = letter.value.as_ref().map_or_else(String::new, |value| format!(" {value}"));
        writeln!(
            out,
            "dead     {}.{} {}/{} {time}{value}: {} times: {}",
            letter.pipeline, letter.stage, letter.device, letter.point, letter.count, letter.reason
        )?;
    }
    Ok(())
}

/// Reads and checks the pipelines of a file, which may be a profile.
///
/// # Errors
/// The file cannot be read, or all that is wrong with its pipelines.
pub fn read(file: &Path) -> anyhow::Result<Pipelines> {
    let name = file.display().to_string();
    let text = crate::files::written(file).with_context(|| name.clone())?;
    // What has points is a profile: no configuration has any.
    if toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.contains_key("points")) {
        let definitions = of_profile(&Profile::parse(&name, &text)?)?;
        return Ok(Pipelines::compile(&definitions)?);
    }
    Ok(Pipelines::read(&name, &text)?)
}

/// Runs pipelines over a file and tells on `out` what each stage did.
///
/// # Errors
/// A file cannot be read, the pipelines are wrong, or `out` cannot be written. Lines that are wrong are told and
/// counted.
pub fn test(trial: &Trial, out: &mut impl Write) -> anyhow::Result<()> {
    let mut pipelines = read(&trial.config)?;
    if let Some(wanted) = &trial.pipeline {
        let names: Vec<String> = pipelines.iter().map(|pipeline| pipeline.name().to_string()).collect();
        pipelines.retain(wanted);
        anyhow::ensure!(
            !pipelines.is_empty(),
            "there is no pipeline {wanted:?} in {}; allowed are {}",
            trial.config.display(),
            names.join(", ")
        );
    }
    anyhow::ensure!(!pipelines.is_empty(), "{} has no [[pipeline]]", trial.config.display());
    pipelines.trace(trial.trace.as_ref());
    let format = match trial.input.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("ndjson" | "jsonl") => Format::Ndjson,
        _ => anyhow::bail!("{}: allowed are .csv and .ndjson", trial.input.display()),
    };
    let mut input = Input::open(&trial.input, format, trial.device.clone())?;
    let mut report = Report::default();
    let mut now_ns = None;
    while let Some(part) = input.next_part()? {
        if let Some(before) = part.before_ns.filter(|_| now_ns.is_some()) {
            tell(trial, pipelines.tick(before), &mut report, out)?;
        }
        now_ns = Some(part.now_ns);
        report.readings += part.readings;
        tell(trial, pipelines.run(part.now_ns, part.chunk), &mut report, out)?;
    }
    if let Some(now_ns) = now_ns.filter(|_| !trial.then.is_zero()) {
        let then_ns = i64::try_from(trial.then.as_nanos()).unwrap_or(i64::MAX);
        // Silence counts from when somebody looked for the first time.
        tell(trial, pipelines.tick(now_ns), &mut report, out)?;
        tell(trial, pipelines.tick(now_ns.saturating_add(then_ns)), &mut report, out)?;
    }
    report.end(&pipelines, input.rejected());
    if trial.json {
        writeln!(out, "{}", report.json())?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(out.flush()?)
}

/// Tells what came of a part, and adds it to the report. With JSON stdout carries nothing but the report.
fn tell(trial: &Trial, outcome: Outcome, report: &mut Report, out: &mut impl Write) -> anyhow::Result<()> {
    if !trial.json {
        for step in &outcome.trace {
            writeln!(out, "{}", step_text(step))?;
        }
        if outcome.trace_more > 0 {
            writeln!(out, "trace    {} further steps", outcome.trace_more)?;
        }
        if trial.results {
            write_results(&outcome, out)?;
        }
    }
    report.add(outcome);
    Ok(())
}

fn write_results(outcome: &Outcome, out: &mut impl Write) -> anyhow::Result<()> {
    for row in &outcome.rows {
        let (device, point, unit) = (&row.series.device, &row.series.point, &row.series.unit);
        let stream = row.stream.as_ref().map_or_else(String::new, |stream| format!(" to stream {stream}"));
        for sample in &row.samples {
            let shown = value_text(&outcome.boxes, sample.value, row.series.kind(), unit);
            writeln!(out, "result   {device}/{point} {} {shown}{stream}", time_text(sample.time_ns))?;
        }
    }
    Ok(())
}

/// What became of a reading at a stage, as a line.
#[must_use]
pub fn step_text(step: &Step) -> String {
    use tideline_pipeline::Became;
    let series = &step.series;
    let (time, value) = (time_text(step.time_ns), judged(&step.value, step.quality, &series.unit));
    let became = match &step.became {
        Became::Nothing => "kept back".to_owned(),
        Became::Dead(reason) => format!("dead letter: {reason}"),
        Became::Out(came) => {
            let one = |(port, to, time_ns, value, quality): &(String, _, i64, Value, Quality)| {
                let to: &tideline_protocol::model::SeriesDef = to;
                let port = if port.is_empty() { String::new() } else { format!("[{port}] ") };
                let at = if *time_ns == step.time_ns {
                    String::new()
                } else {
                    format!(" {}", time_text(*time_ns))
                };
                let name = if (&to.device, &to.point) == (&series.device, &series.point) {
                    String::new()
                } else {
                    format!("{}/{} ", to.device, to.point)
                };
                format!("{port}{name}{}{at}", judged(value, *quality, &to.unit))
            };
            came.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    };
    format!(
        "trace    {}/{} {time} {value}: {}.{} -> {became}",
        series.device, series.point, step.pipeline, step.stage
    )
}

fn value_text(boxes: &Boxes, word: f64, kind: ValueKind, unit: &str) -> String {
    let (value, quality) = boxes.value(word, kind);
    judged(&value, quality, unit)
}

/// A value with its unit, and its quality where that is not good.
fn judged(value: &Value, quality: Quality, unit: &str) -> String {
    let shown = match value {
        Value::Null => "null".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::Float(_) | Value::Int(_) if !unit.is_empty() => format!("{value} {unit}"),
        other => other.to_string(),
    };
    if quality == Quality::Good { shown } else { format!("{shown} ({quality})") }
}

/// As RFC 3339.
fn time_text(time_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(time_ns.into())
        .map_or_else(|_| format!("{time_ns} ns"), |stamp| stamp.to_string())
}
