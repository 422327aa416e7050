//! `edge-agent store`: the spool's files when no agent runs. `inspect`, `verify` and `export` only
//! look: they write, make and rename nothing. `repair` alone changes the file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::RUN_ROWS_MAX;
use tideline_spool::{LookReport, Spool, SpoolConfig, SpoolError, journal_path};

use crate::export::{self, BYTES_AT_A_TIME, Selection};
use crate::spooler::{Loaded, narrow};

/// Where the spool of a data folder is.
#[must_use]
pub fn spool_path(data: &Path) -> PathBuf {
    data.join("spool.redb")
}

/// What a command failed with: of the spool, or of what it does with it.
enum Failed {
    Spool(SpoolError),
    Other(anyhow::Error),
}

impl From<SpoolError> for Failed {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

fn look<T>(data: &Path, work: impl FnOnce(&mut Spool, LookReport) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let path = existing(data)?;
    match Spool::look(&path, |spool, report| work(spool, report).map_err(Failed::Other)) {
        Ok(value) => Ok(value),
        Err(Failed::Other(error)) => Err(error),
        Err(Failed::Spool(SpoolError::Corrupt(reason))) => anyhow::bail!(
            "{} cannot be read: {reason}; `edge-agent store repair` puts the file aside, and the agent begins anew",
            path.display()
        ),
        Err(Failed::Spool(error)) => Err(explained(error, data)),
    }
}

fn existing(data: &Path) -> anyhow::Result<PathBuf> {
    let path = spool_path(data);
    anyhow::ensure!(
        path.try_exists().with_context(|| path.display().to_string())?,
        "{} does not exist; `edge-agent run` makes it, or name another folder with --data",
        path.display()
    );
    Ok(path)
}

fn explained(error: SpoolError, data: &Path) -> anyhow::Error {
    match error {
        SpoolError::InUse => anyhow::anyhow!(
            "an agent runs on {}: ask it with `edge-agent status`, or stop it first",
            data.display()
        ),
        error => anyhow::Error::from(error).context(spool_path(data).display().to_string()),
    }
}

/// The spool's figures.
///
/// # Errors
/// The spool cannot be looked at.
pub fn inspect(data: &Path) -> anyhow::Result<Value> {
    look(data, |spool, report| {
        let (stats, urgent) = (spool.stats(), spool.urgent());
        let streams = spool
            .stream_stats()
            .into_iter()
            .map(|stream| json!({ "name": stream.name, "class": stream.class, "bytes": stream.bytes }));
        let drops = spool.drops().filter(|(_, rows)| *rows > 0);
        let drops: serde_json::Map<_, _> =
            drops.map(|(cause, rows)| (cause.as_str().to_owned(), rows.into())).collect();
        Ok(json!({
            "epoch": stats.epoch.to_string(),
            "head": stats.head.get(),
            "account": stats.account,
            "dropped_rows": drops,
            "uncounted_batches": spool.uncounted(),
            "streams": streams.collect::<Vec<_>>(),
            "urgent_batches": { "alarm": urgent.alarm.len(), "state": urgent.state.len() },
            "age_s": spool.age_s(),
            "bytes": stats.bytes,
            "batches": stats.batches,
            "series": stats.series,
            "closed_cleanly": report.closed_cleanly,
        }))
    })
}

/// Reads everything; the answer lists what is wrong.
///
/// # Errors
/// The spool cannot be looked at.
pub fn verify(data: &Path) -> anyhow::Result<Value> {
    look(data, |spool, report| {
        let mut found = spool.verify()?;
        if !spool.pages_are_sound()? {
            let problem = "pages of the file are not as their checksums say; see `edge-agent store repair`";
            found.problems.push(problem.to_owned());
        }
        Ok(json!({
            "ok": found.problems.is_empty(),
            "batches": found.batches,
            "rows": found.rows,
            "gaps": found.gaps,
            "closed_cleanly": report.closed_cleanly,
            "problems": found.problems,
        }))
    })
}

/// Puts the file in order: batches that cannot be read back become gaps, and a file that as a whole
/// cannot be read is put aside, so that a new epoch begins.
///
/// # Errors
/// There is no spool, an agent runs on it, or the disk fails.
pub fn repair(data: &Path) -> anyhow::Result<Value> {
    let path = existing(data)?;
    let repaired = Spool::repair(&path, SpoolConfig::default());
    let (spool, report) = repaired.map_err(|error| explained(error, data))?;
    for file in [path.clone(), journal_path(&path)] {
        narrow(&file).with_context(|| file.display().to_string())?;
    }
    let stats = spool.stats();
    Ok(json!({
        "epoch": stats.epoch.to_string(),
        "new_epoch": report.created,
        "closed_cleanly": report.closed_cleanly,
        "given_up_seqs": report.given_up,
        "unreadable": report.unreadable,
        "quarantined": report.quarantined,
        "head": stats.head.get(),
        "account": stats.account,
    }))
}

/// What a command found, for a reader: one line for each thing.
#[must_use]
pub fn text(found: &Value) -> String {
    let mut out = String::new();
    for (name, value) in found.as_object().into_iter().flatten() {
        let shown = match value {
            Value::Null => "-".to_owned(),
            Value::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::Object(fields) if fields.is_empty() => "none".to_owned(),
            Value::Array(items) => {
                let plain = |item: &Value| match item {
                    Value::String(text) => text.clone(),
                    Value::Object(fields) => {
                        let field = |(name, value): (&String, &Value)| {
                            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                            format!("{name} {shown}")
                        };
                        fields.iter().map(field).collect::<Vec<_>>().join(", ")
                    }
                    other => other.to_string(),
                };
                items.iter().map(plain).collect::<Vec<_>>().join("\n                ")
            }
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| format!("{value} {name}")).collect::<Vec<_>>().join(", ")
            }
            Value::Number(number) => number.to_string(),
        };
        out.push_str(&format!("{:<15} {shown}\n", name.replace('_', " ")));
    }
    out
}

/// Writes the held readings that are selected, and says how many batches could not be read.
///
/// # Errors
/// The spool cannot be looked at or knows no such series, or `out` cannot be written.
pub fn export(data: &Path, selection: &Selection, out: &mut impl Write) -> anyhow::Result<u64> {
    look(data, |spool, _| {
        let (defs, held) = (spool.series_defs(0, usize::MAX), spool.held().clone());
        selection.check(&defs)?;
        let load = |seqs: &RangeSet| {
            let run = spool.load_seqs(seqs, BYTES_AT_A_TIME, RUN_ROWS_MAX)?;
            Ok(run.map_or_else(|| Loaded::Gone(spool.gone(seqs)), Loaded::Run))
        };
        export::write(selection, &defs, held, load, out)
    })
}
