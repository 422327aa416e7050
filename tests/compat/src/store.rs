//! The hub's store.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::keep::{Keep, KeepRule};
use tideline_protocol::model::{
    AgentId, DeviceId, DropCause, Epoch, Gap, PointId, RowCounts, Sample, Seq, SeriesDef, SeriesNo,
};
use tideline_protocol::time::ManualClock;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::{Store, StoreConfig};

const EPOCH: Epoch = Epoch::from_bytes([0x5e; 16]);
const T0_NS: i64 = 1_760_000_000_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;
/// Enough readings of a series that there are all tiers of it.
const LONG: i64 = 9_000;

/// Opens a store that does nothing by itself.
///
/// # Errors
/// It cannot be opened.
pub fn open(dir: &Path) -> Result<Store> {
    let mut config = StoreConfig::new(dir);
    config.flush_interval = Duration::from_secs(3600);
    config.check_files_on_open = true;
    config.compact = false;
    config.revised_by = Some("_job.".to_owned());
    Ok(Store::open(config, Arc::new(ManualClock::at(T0_NS)))?.0)
}

fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(future))
}

fn agent() -> Result<AgentId> {
    Ok(AgentId::parse("pump-house")?)
}

fn dictionary() -> Result<Series> {
    let def = |point: &str, unit: &str, kind, name| -> Result<SeriesDef> {
        let def = SeriesDef::new(DeviceId::parse("pump-7")?, PointId::parse(point)?, unit.to_owned());
        Ok(def.of_kind(kind).named(name))
    };
    let defs = vec![
        def("temperature", "Cel", ValueKind::Float, "Temperature of the bearing")?,
        def("starts", "{starts}", ValueKind::Int, "")?,
        def("running", "", ValueKind::Bool, "")?,
        def("state", "", ValueKind::Text, "State")?,
    ];
    Ok(Series { first: 0, defs })
}

type Row = (SeriesNo, i64, Value, Quality);

/// One reading of each kind of value and quality, around a second.
fn mixed(second: i64) -> Vec<Row> {
    let at = |n: i64| T0_NS + second * SECOND_NS + n;
    vec![
        (0, at(0), Value::Float(21.25), Quality::Good),
        (0, at(0), Value::Float(-0.0), Quality::Good),
        (0, at(1), Value::Float(1.0 / 3.0), Quality::Good),
        (0, at(2), Value::Float(99.5), Quality::Bad),
        (0, at(3), Value::Null, Quality::Uncertain),
        (0, at(4), Value::Float(f64::NAN), Quality::Good),
        (0, at(5), Value::Float(f64::INFINITY), Quality::Bad),
        (1, at(0), Value::Int(second), Quality::Good),
        (1, at(1), Value::Int(i64::MAX - second), Quality::Good),
        (1, at(2), Value::Int(i64::MIN), Quality::Uncertain),
        (2, at(0), Value::Bool(second % 2 == 0), Quality::Good),
        (2, at(1), Value::Bool(true), Quality::Bad),
        (2, at(2), Value::Null, Quality::Good),
        (3, at(0), Value::Text(format!("state {second}").into()), Quality::Good),
        (3, at(1), Value::Text("läuft, \"ruhig\"\n".into()), Quality::Good),
        (3, at(2), Value::Text("".into()), Quality::Uncertain),
    ]
}

/// Many readings of two series, ten seconds apart, one in a hundred without a value.
fn long(from: i64) -> Vec<Row> {
    let row = |n: i64| {
        let at = T0_NS + (from + n) * 10 * SECOND_NS;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let value = if n % 100 == 99 { Value::Null } else { Value::Float(20.0 + (n * 7 % 41) as f64 / 8.0) };
        [(0, at, value, Quality::Good), (1, at, Value::Int(n / 60), Quality::Good)]
    };
    (0..LONG).flat_map(row).collect()
}

fn append(store: &Store, first: u64, rows: &[Row]) -> Result<()> {
    append_as(store, agent()?, first, rows)
}

fn append_as(store: &Store, agent: AgentId, first: u64, rows: &[Row]) -> Result<()> {
    let (mut builder, mut boxes) = (BlockBuilder::new(), Boxes::new());
    let samples: Vec<(SeriesNo, [Sample; 1])> = rows
        .iter()
        .map(|(no, time_ns, value, quality)| {
            (*no, [Sample { time_ns: *time_ns, value: boxes.word(value.clone(), *quality) }])
        })
        .collect();
    let items: Vec<(SeriesNo, &[Sample])> = samples.iter().map(|(no, one)| (*no, one.as_slice())).collect();
    builder.push_boxed(&items, &boxes);
    let block = builder.finish();
    let envelope = RunEnvelope {
        epoch: EPOCH,
        lane: Lane::Live,
        first: Seq::new(first),
        rows: block.rows,
        series_end: block.series_end,
        restamps: Vec::new(),
    };
    let run = Run { envelope, block: block.bytes };
    let batch = Batch::<Received>::received(agent, run).validate(4)?;
    wait(store.append(batch))??;
    store.settle()?;
    Ok(())
}

/// Adds what is kept for less than the rest, in a file of its own, and a series of which the newest reading of a time counts.
fn add_classes(store: &Store) -> Result<()> {
    let days = Keep { days: Some(40_000), rollups: None };
    store.tell_keeps(
        &DeviceId::parse("pump-7")?,
        &[KeepRule { points: vec!["running".to_owned()], keep: days }],
    );
    let files = store.metrics().sealed_files;
    let at = T0_NS + 60 * SECOND_NS;
    append(store, 7, &[(0, at, Value::Float(4.5), Quality::Good)])?;
    append(store, 8, &[(2, at, Value::Bool(true), Quality::Good)])?;
    let job = AgentId::parse("_job.means")?;
    let mean =
        SeriesDef::new(DeviceId::parse("pump-7")?, PointId::parse("temperature.mean")?, "Cel".to_owned());
    wait(store.define_series(job.clone(), EPOCH, Series { first: 0, defs: vec![mean] }))??;
    let given =
        |minute: i64, value: f64| (0, at + minute * 60 * SECOND_NS, Value::Float(value), Quality::Good);
    append_as(store, job.clone(), 1, &[given(0, 1.0), given(1, 2.0)])?;
    append_as(store, job, 2, &[given(1, 2.5), given(2, 3.0)])?;
    store.flush()?;
    ensure!(store.metrics().sealed_files == files + 2, "what is kept for less has no file of its own");
    Ok(())
}

/// Makes a store with something of everything: two sealed files with all tiers, a third that overlaps, two that are kept for
/// different times, a gap, and readings that are in the log alone.
///
/// # Errors
/// It cannot be written.
pub fn make(dir: &Path) -> Result<()> {
    let store = open(dir)?;
    wait(store.define_series(agent()?, EPOCH, dictionary()?))??;
    append(&store, 1, &long(0))?;
    append(&store, 2, &mixed(17))?;
    store.flush()?;
    append(&store, 3, &long(LONG))?;
    store.flush()?;
    append(&store, 5, &mixed(18))?;
    let (rows, cause) = (RowCounts::one(12), DropCause::Quota);
    let gap = Gap { first: Seq::new(4), rows, from_ns: T0_NS, to_ns: T0_NS + SECOND_NS, cause };
    wait(store.record_gap(agent()?, EPOCH, None, gap))??;
    store.flush()?;
    add_classes(&store)?;
    append(&store, 6, &mixed(19))?;
    Ok(store.close()?)
}

/// The tier that buckets of a width may be made of, which earlier versions told of every series.
fn tier_of(width_ns: Option<i64>) -> &'static str {
    let tiers = [(24 * 3_600, "1d"), (3_600, "1h"), (60, "1m")];
    let found = tiers.iter().find(|(s, _)| width_ns.is_some_and(|width_ns| width_ns % (s * SECOND_NS) == 0));
    found.map_or("raw", |(_, name)| *name)
}

/// All that a store says of its readings and its ledger.
///
/// # Errors
/// It cannot be read.
pub fn told(store: &Store) -> Result<String> {
    let mut out = String::new();
    let mut series = store.series(None);
    series.sort_by_key(|info| info.id);
    for info in &series {
        writeln!(
            out,
            "series {}/{} {:?} {} {:?}: {} readings",
            info.device, info.point, info.unit, info.kind, info.name, info.count
        )?;
        if let Some(last) = &info.last {
            writeln!(out, "last {} {:?}", last.time_ns, last.value(info.kind))?;
        }
        let page = store.query_raw(&[info.id], i64::MIN, i64::MAX, None, usize::MAX)?;
        for column in page.series {
            let mut shown = 0;
            for (time, word) in column.times.iter().zip(&column.values) {
                let (value, quality) = column.boxes.value(*word, info.kind);
                // Of the long ones a part, and the sum of all.
                if quality != Quality::Good || time % (77 * SECOND_NS) == 0 || time % SECOND_NS != 0 {
                    writeln!(out, "{time} {value:?} {quality}")?;
                }
                shown += 1;
            }
            let prints = column.times.iter().zip(&column.values).fold(0_u64, |sum, (time, word)| {
                let print = column.boxes.print(*word) ^ time.cast_unsigned();
                sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(print)
            });
            writeln!(out, "{shown} readings, {prints:016x}")?;
        }
        for buckets in [3, 40, 500] {
            let answer =
                store.query_buckets(&[info.id], T0_NS, T0_NS + 3 * LONG * 10 * SECOND_NS, buckets)?;
            for column in answer.series {
                writeln!(out, "{} buckets from {}", column.t_ns.len(), tier_of(answer.width_ns))?;
                let each = column.t_ns.iter().zip(&column.count).zip(column.min.iter().zip(&column.max));
                for (((t, count), (min, max)), (mean, last)) in each.zip(column.mean.iter().zip(&column.last))
                {
                    writeln!(out, "{t} {count} {min:?} {max:?} {mean:.9e} {last:?}")?;
                }
            }
        }
    }
    for epoch in store.ledger(&agent()?) {
        writeln!(
            out,
            "ledger: produced {}, stored {}, pending {}, dropped {}, refused {}, lost {}, {} gaps",
            epoch.produced,
            epoch.stored,
            epoch.pending,
            epoch.dropped,
            epoch.refused,
            epoch.lost,
            epoch.gaps.len()
        )?;
    }
    Ok(out)
}

/// The versions in the first bytes of the sealed files of a folder.
///
/// # Errors
/// A file cannot be read.
pub fn versions(dir: &Path) -> Result<std::collections::BTreeSet<(String, Vec<u8>)>> {
    let mut out = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(dir.join("sealed"))? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_owned();
        out.insert((ending, std::fs::read(&path)?.into_iter().take(8).collect()));
    }
    Ok(out)
}
