//! The agent's spool.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, ensure};
use tideline_protocol::block;
use tideline_protocol::model::{DeviceId, PointId, Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tideline_protocol::wire::Settlement;
use tideline_spool::{Spool, SpoolConfig, encode_boxed};

const RUN_BYTES: usize = 1024 * 1024;
const KINDS: [(&str, ValueKind); 3] =
    [("temperature", ValueKind::Float), ("starts", ValueKind::Int), ("state", ValueKind::Text)];

/// Opens the spool of a folder.
///
/// # Errors
/// It cannot be opened.
pub fn open(dir: &Path) -> Result<Spool> {
    Ok(Spool::open_file(&dir.join("spool.redb"), SpoolConfig::default())?.0)
}

fn append(spool: &mut Spool, numbers: &[SeriesNo], n: i64) -> Result<()> {
    let mut boxes = Boxes::new();
    let values = [
        if n % 5 == 4 { Value::Null } else { Value::Float(f64::from(i32::try_from(n)?) / 4.0) },
        if n % 3 == 2 { Value::Int(i64::MAX - n) } else { Value::Int(n) },
        Value::Text(format!("state {}", n / 4).into()),
    ];
    let quality = if n % 7 == 6 { Quality::Bad } else { Quality::Good };
    let words = values.map(|value| [Sample { time_ns: 1_000 * n, value: boxes.word(value, quality) }]);
    let items: Vec<(SeriesNo, &[Sample])> =
        numbers.iter().zip(&words).map(|(no, word)| (*no, word.as_slice())).collect();
    spool.append_encoded(&encode_boxed(&items, &boxes)?, &[("replay", &n.to_le_bytes())])?;
    Ok(())
}

/// Makes a spool: batches in its tables and in its journal, some of them settled.
///
/// # Errors
/// It cannot be written.
pub fn make(dir: &Path) -> Result<()> {
    let mut spool = open(dir)?;
    let mut numbers = Vec::new();
    for (point, kind) in KINDS {
        let def = SeriesDef::new(DeviceId::parse("pump-7")?, PointId::parse(point)?, "1".to_owned());
        numbers.push(spool.series_no(&def.of_kind(kind).named(point))?);
    }
    for n in 0..20 {
        append(&mut spool, &numbers, n)?;
    }
    let settled = Settlement { stored: RangeSet::of(1, 4), ..Settlement::default() };
    spool.settle(&settled)?;
    spool.flush()?;
    // These stay in the journal: nothing closes the spool.
    for n in 20..30 {
        append(&mut spool, &numbers, n)?;
    }
    std::mem::forget(spool);
    Ok(())
}

/// All that a spool holds.
///
/// # Errors
/// It cannot be read.
pub fn told(spool: &mut Spool) -> Result<String> {
    let mut out = String::new();
    let defs = spool.series_defs(0, usize::MAX);
    for def in &defs {
        writeln!(out, "series {}/{} {:?} {} {:?}", def.device, def.point, def.unit, def.kind(), def.name())?;
    }
    let view = spool.view()?;
    let settled: Vec<_> = view.settled.iter().collect();
    writeln!(out, "head {}, settled {settled:?}", view.head)?;
    let mut next = Seq::FIRST;
    while next <= view.head {
        let Some(run) = spool.load_run(next, view.head, RUN_BYTES, 1_000_000)? else { break };
        let decoded = block::decode(&run.block, &run.rows, next)?;
        writeln!(out, "run of {} seqs from {next}", run.rows.seqs())?;
        for column in &decoded.columns {
            let kind = defs.get(column.series as usize).map(SeriesDef::kind).unwrap_or_default();
            for (time, word) in column.times.iter().zip(&column.values) {
                let (value, quality) = decoded.boxes.value(*word, kind);
                writeln!(out, "{} {time} {value:?} {quality}", column.series)?;
            }
        }
        ensure!(run.rows.seqs() > 0, "a run of nothing");
        next = Seq::new(next.get() + run.rows.seqs());
    }
    writeln!(out, "cursor {:?}", spool.cursor("replay")?)?;
    Ok(out)
}
