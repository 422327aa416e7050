//! `edge-agent store`: looks at the spool's file when no agent runs.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use tideline_protocol::block;
use tideline_protocol::model::Seq;
use tideline_protocol::wire::RUN_ROWS_MAX;
use tideline_spool::{Spool, SpoolConfig, SpoolError};

/// Bytes that are read at a time for an export.
const EXPORT_BYTES: usize = 1024 * 1024;

fn open(data: &Path) -> anyhow::Result<Spool> {
    let path = data.join("spool.redb");
    anyhow::ensure!(path.exists(), "{} does not exist", path.display());
    match Spool::open_file(&path, SpoolConfig::default()) {
        Ok((spool, _)) => Ok(spool),
        Err(SpoolError::InUse) => {
            anyhow::bail!(
                "an agent runs on {}: ask it with `edge-agent status`, or stop it first",
                data.display()
            )
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The spool's figures.
///
/// # Errors
/// The spool cannot be opened.
pub fn inspect(data: &Path) -> anyhow::Result<serde_json::Value> {
    let spool = open(data)?;
    let stats = spool.stats();
    Ok(serde_json::json!({
        "epoch": stats.epoch.to_string(),
        "head": stats.head.get(),
        "account": stats.account,
        "bytes": stats.bytes,
        "batches": stats.batches,
        "series": stats.series,
    }))
}

/// Reads everything; the answer lists what is wrong.
///
/// # Errors
/// The spool cannot be opened.
pub fn verify(data: &Path) -> anyhow::Result<serde_json::Value> {
    let report = open(data)?.verify()?;
    Ok(serde_json::json!({
        "ok": report.problems.is_empty(),
        "batches": report.batches,
        "rows": report.rows,
        "gaps": report.gaps,
        "problems": report.problems,
    }))
}

/// Writes every held reading, one JSON object or CSV line each.
///
/// # Errors
/// The spool cannot be read, or `out` not be written.
pub fn export(data: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let mut spool = open(data)?;
    let defs = spool.series_defs(0, usize::MAX);
    if !json {
        writeln!(out, "seq,device,point,unit,time_ns,value")?;
    }
    let head = spool.head();
    let mut next = Seq::FIRST;
    while next <= head {
        let Some(run) = spool.load_run(next, head, EXPORT_BYTES, RUN_ROWS_MAX)? else {
            next = spool.gone_through(next, head).next();
            continue;
        };
        let decoded = block::decode(&run.block, &run.rows, run.first)?;
        for column in decoded.columns {
            let Some(def) = usize::try_from(column.series).ok().and_then(|n| defs.get(n)) else { continue };
            let seqs = column.rows_per_seq.iter().zip(run.first.get()..);
            let seqs = seqs.flat_map(|(rows, seq)| std::iter::repeat_n(seq, *rows as usize));
            for ((time_ns, value), seq) in column.times.iter().zip(&column.values).zip(seqs) {
                let (device, point, unit) = (&def.device, &def.point, &def.unit);
                if json {
                    let row = serde_json::json!({
                        "seq": seq, "device": device, "point": point, "unit": unit, "time_ns": time_ns, "value": value
                    });
                    writeln!(out, "{row}")?;
                } else {
                    writeln!(out, "{seq},{device},{point},{unit},{time_ns},{value}")?;
                }
            }
        }
        next = Seq::new(run.first.get().saturating_add(run.rows.seqs()));
    }
    Ok(())
}
