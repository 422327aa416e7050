//! `edge-agent store`: the spool's file when no agent runs. `inspect`, `verify` and `export` only
//! look: they write, make and rename nothing. `repair` alone changes the file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use tideline_protocol::block;
use tideline_protocol::model::{Seq, SeriesDef};
use tideline_protocol::wire::RUN_ROWS_MAX;
use tideline_spool::{LookReport, Spool, SpoolConfig, SpoolError, journal_path};

use crate::spooler::narrow;

/// Bytes that are read at a time for an export.
const EXPORT_BYTES: usize = 1024 * 1024;

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

/// Which readings are exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of these series only, as device/point; all when there is none.
    pub series: Vec<String>,
    /// Not earlier than this, in ns since 1970.
    pub from_ns: Option<i64>,
    /// Earlier than this, in ns since 1970.
    pub to_ns: Option<i64>,
}

impl Selection {
    fn has_series(&self, def: &SeriesDef) -> bool {
        let id = || format!("{}/{}", def.device, def.point);
        self.series.is_empty() || self.series.contains(&id())
    }

    fn has_time(&self, time_ns: i64) -> bool {
        self.from_ns.is_none_or(|from_ns| time_ns >= from_ns)
            && self.to_ns.is_none_or(|to_ns| time_ns < to_ns)
    }
}

/// Writes the held readings that are selected, one JSON object or CSV line (RFC 4180) each; says how many
/// batches could not be read.
///
/// # Errors
/// The spool cannot be looked at or knows no such series, or `out` cannot be written.
pub fn export(data: &Path, json: bool, selection: &Selection, out: &mut impl Write) -> anyhow::Result<u64> {
    look(data, |spool, _| {
        let defs = spool.series_defs(0, usize::MAX);
        for id in &selection.series {
            let one = Selection { series: vec![id.clone()], ..Selection::default() };
            anyhow::ensure!(
                defs.iter().any(|def| one.has_series(def)),
                "the spool has no series {id:?}; allowed is device/point of one that it has"
            );
        }
        if !json {
            writeln!(out, "seq,device,point,unit,time_ns,value")?;
        }
        let (head, held) = (spool.head(), spool.held().len());
        let mut next = Seq::FIRST;
        while next <= head {
            match export_run(spool, next, json, selection, out)? {
                Some(last) => next = last.next(),
                None => next = spool.gone_through(next, head).next(),
            }
        }
        out.flush()?;
        Ok(held - spool.held().len())
    })
}

/// Writes some batches from `first` on; gives the last, or `None` when `first` is not held.
fn export_run(
    spool: &mut Spool,
    first: Seq,
    json: bool,
    selection: &Selection,
    out: &mut impl Write,
) -> anyhow::Result<Option<Seq>> {
    let Some(run) = spool.load_run(first, spool.head(), EXPORT_BYTES, RUN_ROWS_MAX)? else { return Ok(None) };
    let defs = spool.series_defs(0, usize::MAX);
    // A unit may hold what a CSV has to quote.
    let mut rows = csv::Writer::from_writer(Vec::new());
    let decoded = block::decode(&run.block, &run.rows, run.first)?;
    for column in decoded.columns {
        let Some(def) = usize::try_from(column.series).ok().and_then(|n| defs.get(n)) else { continue };
        if !selection.has_series(def) {
            continue;
        }
        let seqs = column.rows_per_seq.iter().zip(run.first.get()..);
        let seqs = seqs.flat_map(|(rows, seq)| std::iter::repeat_n(seq, *rows as usize));
        for ((time_ns, value), seq) in column.times.iter().zip(&column.values).zip(seqs) {
            let (device, point, unit) = (&def.device, &def.point, &def.unit);
            if !selection.has_time(*time_ns) {
                continue;
            }
            if json {
                let row = json!({
                    "seq": seq, "device": device, "point": point, "unit": unit, "time_ns": time_ns, "value": value
                });
                writeln!(out, "{row}")?;
            } else {
                let (seq, time_ns, value) = (seq.to_string(), time_ns.to_string(), value.to_string());
                rows.write_record([&seq, device.as_str(), point.as_str(), unit, &time_ns, &value])?;
            }
        }
    }
    out.write_all(&rows.into_inner()?)?;
    Ok(Some(Seq::new(run.first.get().saturating_add(run.rows.seqs()).saturating_sub(1))))
}
