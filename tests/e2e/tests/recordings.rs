//! Recordings go in as CSV and come out bit for bit.
#![allow(clippy::print_stderr, reason = "a test says which recording it uses")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tideline_e2e::{Agent, Hub, absent, process};

/// A recording: its file, the column to take, and the prefix of the point.
struct Recording {
    path: PathBuf,
    column: &'static str,
    prefix: &'static str,
}

fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let nab = root.join("../shared/data/nab");
    let found: Vec<Recording> = [
        ("machine_temperature_system_failure.csv", "machine."),
        ("ambient_temperature_system_failure.csv", "ambient."),
        ("occupancy_6005.csv", "occupancy."),
    ]
    .map(|(file, prefix)| Recording { path: nab.join(file), column: "value", prefix })
    .into_iter()
    .filter(|recording| recording.path.is_file())
    .collect();
    if found.len() == 3 {
        return found;
    }
    eprintln!("the NAB recordings are absent: the project's own recording takes their place");
    vec![Recording { path: root.join("cloud-hub/hub/demo/recording.csv"), column: "memory", prefix: "own." }]
}

fn time_ns(text: &str) -> Result<i64> {
    let civil = text.trim_end_matches('Z').parse::<jiff::civil::DateTime>()?;
    Ok(i64::try_from(civil.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_nanosecond())?)
}

/// The rows of the file in the order of (time, place in the file).
fn rows(recording: &Recording) -> Result<Vec<(i64, f64)>> {
    let text = std::fs::read_to_string(&recording.path)?;
    let mut lines = text.lines();
    let header = lines.next().context("no header")?;
    let column = header.split(',').position(|name| name == recording.column).context("no such column")?;
    let read = |line: &str| {
        let mut cells = line.split(',');
        let time = time_ns(cells.next().context("no time")?)?;
        let value = cells.nth(column.saturating_sub(1)).context("no value")?;
        anyhow::Ok((time, value.parse()?))
    };
    let mut rows = lines.filter(|line| !line.is_empty()).map(read).collect::<Result<Vec<(i64, f64)>>>()?;
    // The sort is stable: rows of one time stay in the order of the file.
    rows.sort_by_key(|(time, _)| *time);
    Ok(rows)
}

#[tokio::test]
async fn a_replayed_recording_is_stored_bit_for_bit() -> Result<()> {
    let recordings = recordings();
    let hub = Hub::start().await?;
    let mut config = "[http]\nlisten = \"\"\n".to_owned();
    let mut total = 0;
    for recording in &recordings {
        config.push_str(&format!(
            "[[source]]\nkind = \"replay\"\nname = {:?}\npath = {:?}\ntimestamps = \"keep\"\nrate = 0\ncolumns = [{:?}]\npoint_prefix = {:?}\n",
            recording.prefix, recording.path.canonicalize()?, recording.column, recording.prefix
        ));
        total += rows(recording)?.len();
    }
    let agent = Agent::start(&hub, "press-1", &config).await?;
    let ledger = hub.settled("press-1", total as u64, Duration::from_secs(120)).await?;
    assert_eq!((ledger.dropped, ledger.refused, ledger.lost), (0, 0, 0));
    for recording in &recordings {
        let name = format!("press-1/{}{}", recording.prefix, recording.column);
        let (wanted, found) = (rows(recording)?, hub.readings(&name, 5_000).await?);
        ensure!(
            wanted.len() == found.len(),
            "{name}: {} rows in the file, {} in the hub",
            wanted.len(),
            found.len()
        );
        for (row, (wanted, found)) in wanted.iter().zip(&found).enumerate() {
            ensure!(
                wanted.0 == found.0 && wanted.1.to_bits() == found.1.to_bits(),
                "{name}: row {row} is {found:?} in place of {wanted:?}"
            );
        }
    }
    exported(&hub, &recordings).await?;
    agent.terminate(Duration::from_secs(30)).await
}

/// What `cloud-hub export` and `cloud-hub query --sql` write is, read by DuckDB and as CSV, what the files have.
async fn exported(hub: &Hub, recordings: &[Recording]) -> Result<()> {
    let mut wanted = Vec::new();
    for recording in recordings {
        let name = format!("press-1/{}{}", recording.prefix, recording.column);
        let rows = rows(recording)?.into_iter();
        wanted.extend(rows.map(|(time, value)| format!("{name} {time} {:016x}", value.to_bits())));
    }
    // The sort is stable: rows of one time stay in their order.
    wanted.sort_by_key(|line| line.split(' ').next().map(str::to_owned));
    let file = hub.folder().join("press-1.parquet");
    let path = file.display().to_string();
    let said = hub.command(&["export", "--device", "press-1", "--out", &path]).await?;
    ensure!(said.good()?.contains(&path), "it does not say what it wrote");
    ensure!(std::fs::read(&file)?.ends_with(b"PAR1"), "it is no Parquet file");
    let none = hub.command(&["export", "--device", "press-2", "--out", &path]).await?;
    ensure!(none.code == Some(1) && none.err.contains("press-2"), "{none:?}");
    ensure!(std::fs::read(&file)?.ends_with(b"PAR1"), "what was there is gone");
    let text = hub.folder().join("press-1.csv");
    hub.command(&["export", "--device", "press-1", "--out", &text.display().to_string()]).await?.good()?;
    same(&wanted, &csv_lines(&std::fs::read_to_string(&text)?)?).context("CSV")?;
    let asked = hub.folder().join("asked.parquet").display().to_string();
    let sql = "SELECT * FROM readings WHERE device = 'press-1'";
    hub.command(&["query", "--sql", sql, "--format", "parquet", "--out", &asked]).await?.good()?;
    let counted = hub.command(&["query", "--sql", "SELECT count(*) AS n FROM readings"]).await?;
    let counted = counted.good()?;
    ensure!(counted.contains(&wanted.len().to_string()), "{counted}");
    let course =
        hub.command(&["query", &series_of(recordings)?, "--from", "0", "--format", "sparkline"]).await?;
    let course = course.good()?;
    ensure!(course.contains('▁') && course.contains('█'), "{course}");
    let refused = hub.command(&["query", "--sql", "SELECT * FROM read_csv('/etc/passwd')"]).await?;
    ensure!(refused.code == Some(1) && refused.err.contains("sql-not-allowed"), "{refused:?}");
    let Some(python) = absent::python("duckdb")? else { return Ok(()) };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/duck.py");
    for path in [&path, &asked] {
        let said = process::run_system(&python, &[script, path]).await?;
        let found: Vec<String> = said.good()?.lines().map(str::to_owned).collect();
        same(&wanted, &found).with_context(|| format!("DuckDB, {path}"))?;
    }
    Ok(())
}

fn series_of(recordings: &[Recording]) -> Result<String> {
    let first = recordings.first().context("no recording")?;
    Ok(format!("press-1/{}{}", first.prefix, first.column))
}

/// A line for each reading, as `duck.py` writes them.
fn csv_lines(text: &str) -> Result<Vec<String>> {
    let mut lines = text.split_terminator("\r\n");
    ensure!(
        lines.next() == Some("device,point,unit,type,time,value,int,text,quality,doubtful"),
        "another header"
    );
    let line = |line: &str| {
        let mut cells = line.split(',');
        let mut next = || cells.next().context("too few cells");
        let (device, point, _unit, _type) = (next()?, next()?, next()?, next()?);
        let (time, value) = (next()?, next()?);
        let time: jiff::Timestamp = time.parse()?;
        let value: f64 = value.parse()?;
        anyhow::Ok(format!("{device}/{point} {} {:016x}", time.as_nanosecond(), value.to_bits()))
    };
    let mut found = lines.map(line).collect::<Result<Vec<_>>>()?;
    found.sort_by_key(|line| line.split(' ').next().map(str::to_owned));
    Ok(found)
}

fn same(wanted: &[String], found: &[String]) -> Result<()> {
    ensure!(wanted.len() == found.len(), "{} rows were written of {}", found.len(), wanted.len());
    let differs = wanted.iter().zip(found).find(|(wanted, found)| wanted != found);
    ensure!(differs.is_none(), "another row is read: {differs:?}");
    Ok(())
}
