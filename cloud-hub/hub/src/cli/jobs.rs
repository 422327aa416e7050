//! `job list|show|rows|put|pause|resume|delete|reference`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Subcommand;
use serde_json::Value;
use tideline_link::{out, outln};

use super::socket::{HubSocket, escape};
use cloud_hub::api::shapes::{JobAnswer, JobInfo, JobList, JobPhase, JobRows, JobStatement, JobWindow};
use cloud_hub::jobs::reference;
use cloud_hub::when::show_ms;

/// What to do with stream jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// All jobs.
    List,
    /// One job with its devices and its definition.
    Show {
        /// The job.
        name: String,
        /// All that is known as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Its newest results, and readings that it put aside.
    Rows {
        /// The job.
        name: String,
    },
    /// Make a job and start it, or change its definition.
    Put {
        /// The definition, as TOML or JSON; `job reference` describes it.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Its name; that in the file when left out, or the file's own.
        #[arg(long)]
        name: Option<String>,
    },
    /// Have a job take nothing in; what comes meanwhile is kept for it.
    Pause {
        /// The job.
        name: String,
    },
    /// Have a job that is paused or has failed go on.
    Resume {
        /// The job.
        name: String,
    },
    /// Remove a job with its state; its series stay.
    Delete {
        /// The job.
        name: String,
    },
    /// What a definition may say, with an example for each kind of window.
    Reference,
}

const JOBS: &str = "/api/v1/jobs";
/// Longest definition that is read, which the hub would not take either.
const FILE_BYTES_MAX: u64 = 64 * 1024;

fn path(name: &str) -> String {
    format!("{JOBS}/{}", escape(name))
}

const fn phase(phase: JobPhase) -> &'static str {
    match phase {
        JobPhase::Created => "created",
        JobPhase::Running => "running",
        JobPhase::Paused => "paused",
        JobPhase::Failed => "failed",
        JobPhase::Stopped => "stopped",
    }
}

/// Carries the command out beside a running hub.
pub async fn job(hub: &HubSocket, command: &JobCommand) -> Result<()> {
    match command {
        JobCommand::Reference => out!("{}", reference::REFERENCE),
        JobCommand::List => list(hub).await?,
        JobCommand::Show { name, json } => {
            if *json {
                outln!("{:#}", hub.get(&path(name)).await?);
            } else {
                show(&hub.get_as(&path(name)).await?);
            }
        }
        JobCommand::Rows { name } => rows(&hub.get_as(&format!("{}/rows", path(name))).await?),
        JobCommand::Put { file, name } => put(hub, file, name.as_deref()).await?,
        JobCommand::Pause { name } => {
            hub.post(&format!("{}/pause", path(name)), &Value::Null).await?;
            outln!("{name} is paused; what comes meanwhile is kept for it");
        }
        JobCommand::Resume { name } => {
            hub.post(&format!("{}/resume", path(name)), &Value::Null).await?;
            outln!("{name} is running");
        }
        JobCommand::Delete { name } => {
            hub.delete(&path(name)).await?;
            outln!("{name} is deleted with its state; its series stay");
        }
    }
    Ok(())
}

async fn list(hub: &HubSocket) -> Result<()> {
    let JobList { jobs } = hub.get_as(JOBS).await?;
    outln!(
        "{:<24} {:<8} {:>12} {:>10} {:>8} {:>12}  watermark",
        "job",
        "phase",
        "readings",
        "results",
        "late",
        "behind"
    );
    for JobInfo { name, phase: at, figures, .. } in jobs {
        let watermark = figures.watermark_ms.map_or_else(|| "-".to_owned(), show_ms);
        let (readings, results, late) = (figures.readings, figures.results, figures.late);
        let (at, behind) = (phase(at), figures.behind_bytes);
        outln!("{name:<24} {at:<8} {readings:>12} {results:>10} {late:>8} {behind:>12}  {watermark}");
    }
    Ok(())
}

fn show(answer: &JobAnswer) {
    let (job, figures) = (&answer.job, &answer.job.figures);
    outln!("{} is {} since {}", job.name, phase(job.phase), show_ms(job.since_ms));
    if let Some(reason) = &job.reason {
        outln!("  because {reason}");
    }
    if let Some(trouble) = &figures.trouble {
        outln!("  it waits: {trouble}");
    }
    outln!(
        "  {} readings, {} results, {} late, {} too late",
        figures.readings,
        figures.results,
        figures.late,
        figures.too_late
    );
    outln!(
        "  {} put aside: {} ahead, {} unusable, {} without room",
        figures.side,
        figures.ahead,
        figures.unusable,
        figures.refused
    );
    outln!(
        "  {} devices, {} open windows, {} bytes of state",
        figures.devices,
        figures.open_windows,
        figures.state_bytes
    );
    outln!("  {} bytes of the log to read, {} parts of it missed", figures.behind_bytes, figures.missed);
    if let Some(statement) = &job.statement {
        show_statement(statement);
    }
    outln!("{:<24} {:>12} {:>10} {:>10}  watermark", "device", "readings", "late", "too late");
    for device in &answer.by_device {
        let watermark = device.watermark_ms.map_or_else(|| "-".to_owned(), show_ms);
        let (readings, late, too_late) = (device.readings, device.late, device.too_late);
        outln!("{:<24} {readings:>12} {late:>10} {too_late:>10}  {watermark}", device.device);
    }
    outln!("{:#}", job.definition);
}

fn show_statement(statement: &JobStatement) {
    let JobStatement { answered, again, due, failed, .. } = statement;
    outln!("  {answered} windows answered, {again} of them again, {due} due, {failed} given up");
    let told = |what: &str, window: &JobWindow| {
        let JobWindow { from_ms, to_ms, attempts, at_ms, reason } = window;
        let (from, to, at) = (show_ms(*from_ms), show_ms(*to_ms), show_ms(*at_ms));
        outln!("  {from} to {to}: {what} at {at} after {attempts} runs: {reason}");
    };
    statement.waiting.iter().for_each(|window| told("tried again", window));
    statement.given_up.iter().for_each(|window| told("given up", window));
}

fn rows(answer: &JobRows) {
    for row in &answer.rows {
        let series =
            row.point.as_ref().map_or_else(|| row.device.clone(), |point| format!("{}/{point}", row.device));
        let values = row.values.as_ref().map_or_else(
            || "withdrawn".to_owned(),
            |values| {
                let numbers = values.iter().map(|(name, value)| format!("{name}={value}"));
                let texts = row.texts.iter().map(|(name, text)| format!("{name}={text:?}"));
                numbers.chain(texts).collect::<Vec<_>>().join(" ")
            },
        );
        let late = if row.revision > 0 { " late" } else { "" };
        outln!(
            "{:>8} {series:<32} {} {}{late} {values}",
            row.number,
            show_ms(row.from_ms),
            show_ms(row.to_ms)
        );
    }
    for row in &answer.side {
        let value = row.v.map_or_else(|| "-".to_owned(), |value| value.to_string());
        outln!("{:>8} {:<32} {} put aside: {} ({value})", row.number, row.series, show_ms(row.t), row.cause);
    }
}

async fn put(hub: &HubSocket, file: &Path, name: Option<&str>) -> Result<()> {
    let shown = file.display();
    let mut text = String::new();
    let opened = std::fs::File::open(file).with_context(|| format!("{shown} cannot be read"))?;
    opened
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("{shown} cannot be read"))?;
    let definition = reference::parse(&text).map_err(|error| anyhow!("{shown}: {error}"))?;
    let own = definition.get("name").and_then(Value::as_str).map(str::to_owned);
    let stem = || file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let name = name.map(str::to_owned).or(own).or_else(stem).context("the job has no name; say --name")?;
    let answer = hub.put(&path(&name), &definition).await.with_context(|| shown.to_string())?;
    let JobAnswer { job, .. } = serde_json::from_value(answer)?;
    outln!("{name} is {}", phase(job.phase));
    Ok(())
}
