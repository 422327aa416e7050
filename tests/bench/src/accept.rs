//! Durable accept: from a source's reading to the word that it is on the disk, many askers at once.

use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_spool::SpoolConfig;

use edge_agent::spooler::SpoolHandle;
use edge_agent::status::Board;

use crate::{Figure, RUNS, median};

/// Askers that wait for the disk at the same time.
const ASKERS: usize = 512;
const SERIES: usize = 1_000;

/// Readings a second that `ASKERS` get durable, `batch` of them in each request.
pub async fn accept(batch: usize, rows: usize) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir_in(".")?;
    let config = SpoolConfig { quota_bytes: 1 << 30, ..SpoolConfig::default() };
    let (spool, thread) = SpoolHandle::start(dir.path().join("spool.redb"), config, Board::default())?;
    let defs: Vec<SeriesDef> = (0..SERIES)
        .map(|i| {
            let (device, point) = (DeviceId::parse("bench")?, PointId::parse(&format!("p{i}"))?);
            anyhow::Ok(SeriesDef::new(device, point, String::new()))
        })
        .collect::<Result<_, _>>()?;
    let first = defs.iter().map(|def| (def.clone(), vec![Sample { time_ns: 0, value: 0.0 }])).collect();
    spool.append(first, Vec::new()).await?;
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    let mut askers = tokio::task::JoinSet::new();
    for asker in 0..ASKERS {
        let (spool, defs) = (spool.clone(), defs.clone());
        askers.spawn(async move {
            for n in 0..rows / ASKERS / batch {
                let at = i64::try_from(n)?;
                let one = |i: usize| {
                    let def = defs.get((asker + i) % SERIES).cloned();
                    Some((def?, vec![Sample { time_ns: at, value: (n % 977) as f64 / 100.0 }]))
                };
                spool.append((0..batch).filter_map(one).collect(), Vec::new()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = askers.join_next().await {
        done??;
    }
    let seconds = (clock.mono_ns() - start) as f64 / 1e9;
    let given = rows / ASKERS / batch * batch * ASKERS;
    spool.close().await;
    let _ended = thread.join();
    Ok(given as f64 / seconds)
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for (batch, rows, name, workload) in [
        (1, 200_000, "durable accept, one reading at a time (goal 0.1)", "512 askers, one reading each"),
        (100, 5_000_000, "durable accept, 100 readings at a time (goal 1)", "512 askers, 100 readings each"),
    ] {
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            rates.push(runtime.block_on(accept(batch, rows))? / 1e6);
        }
        figures.push(Figure { name, workload, value: median(&mut rates), unit: "M readings/s" });
    }
    Ok(())
}
