//! Stream jobs over a hub that is killed: every result is there once, and is what the readings say.
#![allow(clippy::print_stderr, reason = "a test says when it kills")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tideline_e2e::{Hub, http, until};

const LONG: Duration = Duration::from_secs(120);
const REQUESTS: u64 = 240;
const ROWS: u64 = 8;
const KILLS: u64 = 6;
const SEED: u64 = 0x7a1d_e11e;
/// Unix ms of the first reading.
const START_MS: i64 = 1_700_000_000_000;
/// What comes last, and closes all windows.
const END_MS: i64 = START_MS + 3_600_000;
const WINDOW_MS: i64 = 1_000;
const GAP_MS: i64 = 1_500;
const TOTAL_MS: i64 = 5_000;

/// Late readings have their windows aggregated again.
const MEANS: &str = r#"
aggregates = ["mean"]
source = { devices = ["pump-*"], points = ["flow"] }
window = { kind = "tumbling", length_ms = 1000 }
time = { out_of_orderness_ms = 500, idle_timeout_ms = -1 }
late = { allowed_ms = 1000, then = "update" }
sinks = [{ kind = "series", point = "{point}.{aggregate}" }]
"#;

/// Nothing is late for it, so that every session is given once.
const SESSIONS: &str = r#"
group = "device"
aggregates = ["count", "sum"]
source = { devices = ["pump-*"], points = ["flow"] }
window = { kind = "session", gap_ms = 1500 }
time = { out_of_orderness_ms = 60000, idle_timeout_ms = -1 }
sinks = [{ kind = "series", point = "run.{aggregate}" }, { kind = "rows" }]
"#;

/// The windows of both devices together, each by one statement.
const TOTALS: &str = r#"
sql = "SELECT device, sum(value) AS sum, count(*) AS n FROM readings GROUP BY device"
source = { devices = ["pump-*"], points = ["flow"] }
window = { kind = "tumbling", length_ms = 5000 }
time = { out_of_orderness_ms = 500, idle_timeout_ms = 31000000000 }
late = { allowed_ms = 1000, then = "update" }
sinks = [{ kind = "series", point = "total.{aggregate}" }]
"#;

fn next(state: &mut u64) -> u64 {
    // SplitMix64: the same readings and moments in every run.
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A reading: device, Unix ms, value. Values are quarters, so that sums are exact.
type Reading = (u64, i64, f64);

/// What each request brings: out of order, some of it very late, with pauses between spells.
fn requests() -> Result<Vec<Vec<Reading>>> {
    let (mut random, mut now_ms, mut out) = (SEED, START_MS, Vec::new());
    for request in 0..REQUESTS {
        now_ms += if request % 40 == 39 { 7_000 } else { 150 };
        let mut rows = Vec::new();
        for _ in 0..ROWS {
            let late_ms = if next(&mut random).is_multiple_of(20) { 9_000 } else { 0 };
            let back_ms = i64::try_from(next(&mut random) % 450)? + late_ms;
            let value = f64::from(u32::try_from(next(&mut random) % 4_000)?) / 4.0;
            rows.push((next(&mut random) % 2, (now_ms - back_ms).max(START_MS), value));
        }
        out.push(rows);
    }
    out.push(vec![(0, END_MS, 1.0), (1, END_MS, 1.0)]);
    Ok(out)
}

fn lines(rows: &[Reading]) -> Result<String> {
    let mut text = String::new();
    for (device, ms, value) in rows {
        writeln!(text, "flow,device=pump-{device} value={value} {}", ms * 1_000_000)?;
    }
    Ok(text)
}

async fn make(hub: &Hub, name: &str, definition: &str) -> Result<()> {
    let file = hub.folder().join(format!("{name}.toml"));
    std::fs::write(&file, definition)?;
    hub.command(&["job", "put", &file.display().to_string()]).await?.good().map(drop)
}

/// Sends all requests to a hub with both jobs, which is killed some times in between; gives the hub.
async fn run(kills: u64) -> Result<Hub> {
    let mut hub = Hub::start().await?;
    make(&hub, "means", MEANS).await?;
    make(&hub, "sessions", SESSIONS).await?;
    make(&hub, "totals", TOTALS).await?;
    let token = hub.command(&["token", "create", "rig", "--write", "pump-*"]).await?.good()?;
    let mut random = SEED + 1;
    let moments: Vec<u64> =
        (0..kills).map(|n| (n * REQUESTS + next(&mut random) % REQUESTS) / KILLS).collect();
    for (at, rows) in (0..).zip(requests()?) {
        let path = "/api/v2/write?org=o&bucket=b";
        let answer = http::post(hub.http(), path, Some(token.trim()), ("text/plain", lines(&rows)?)).await?;
        ensure!(answer.status == 204, "{}: {}", answer.status, answer.body);
        if moments.contains(&at) {
            eprintln!("kill after request {at}");
            hub.kill_and_restart().await?;
        }
    }
    Ok(hub)
}

/// Waits until a job has read everything and all that it gave is stored.
async fn settled(hub: &Hub, job: &str) -> Result<Value> {
    until(&format!("{job} to settle"), LONG, || async {
        let shown: Value = serde_json::from_str(&hub.get(&format!("/api/v1/jobs/{job}")).await?)?;
        ensure!(shown.get("phase").and_then(Value::as_str) == Some("running"), "{shown}");
        let behind = shown.pointer("/figures/behind_bytes").and_then(Value::as_u64);
        // A pause saves and stores all that was given.
        let due = shown.pointer("/statement/due").and_then(Value::as_u64);
        if behind != Some(0) || due.is_some_and(|due| due > 0) {
            return Ok(None);
        }
        hub.command(&["job", "pause", job]).await?.good()?;
        let paused: Value = serde_json::from_str(&hub.get(&format!("/api/v1/jobs/{job}")).await?)?;
        let due = paused.pointer("/statement/due").and_then(Value::as_u64).unwrap_or(0);
        let readings = paused.pointer("/figures/readings").and_then(Value::as_u64);
        if readings == Some(REQUESTS * ROWS + 2) && due == 0 {
            return Ok(Some(paused));
        }
        hub.command(&["job", "resume", job]).await?.good()?;
        Ok(None)
    })
    .await
}

/// The last value of each time, as its readings say and not the jobs.
fn means(device: u64) -> Result<BTreeMap<i64, f64>> {
    let mut windows: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (_, ms, value) in requests()?.into_iter().flatten().filter(|row| row.0 == device && row.1 < END_MS) {
        let window = windows.entry(ms - ms.rem_euclid(WINDOW_MS)).or_default();
        *window = (window.0 + value, window.1 + 1.0);
    }
    Ok(windows.into_iter().map(|(ms, (sum, count))| (ms, sum / count)).collect())
}

/// Sum and readings of each window, as the readings say.
fn totals(device: u64) -> Result<BTreeMap<i64, (f64, f64)>> {
    let mut windows: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (_, ms, value) in requests()?.into_iter().flatten().filter(|row| row.0 == device && row.1 < END_MS) {
        let window = windows.entry(ms - ms.rem_euclid(TOTAL_MS)).or_default();
        *window = (window.0 + value, window.1 + 1.0);
    }
    Ok(windows)
}

/// Start, readings and their sum of each session.
fn sessions(device: u64) -> Result<Vec<(i64, f64, f64)>> {
    let mut rows: Vec<Reading> = requests()?.into_iter().flatten().collect();
    rows.retain(|row| row.0 == device && row.1 < END_MS);
    rows.sort_by_key(|row| row.1);
    let mut found: Vec<(i64, f64, f64)> = Vec::new();
    let mut last_ms = i64::MIN;
    for (_, ms, value) in rows {
        match found.last_mut().filter(|_| ms - last_ms < GAP_MS) {
            Some(open) => *open = (open.0, open.1 + 1.0, open.2 + value),
            None => found.push((ms, 1.0, value)),
        }
        last_ms = ms;
    }
    Ok(found)
}

async fn stored(hub: &Hub, series: &str) -> Result<Vec<(i64, f64)>> {
    let rows = hub.readings(series, 1_000).await?;
    Ok(rows.into_iter().map(|(ns, value)| (ns / 1_000_000, value)).collect())
}

/// Each series of both jobs: (device, point) and its readings.
type Stored = BTreeMap<(u64, &'static str), Vec<(i64, f64)>>;

async fn results(hub: &Hub) -> Result<Stored> {
    for job in ["means", "sessions", "totals"] {
        let shown = settled(hub, job).await?;
        let number =
            |name: &str| shown.pointer(&format!("/figures/{name}")).and_then(Value::as_u64).context("none");
        ensure!(number("missed")? == 0 && number("undecodable")? == 0, "{shown}");
        ensure!((job != "sessions") == (number("late")? > 0), "{shown}");
        let ledger = hub.ledger(&format!("_job.{job}")).await?.context("no ledger")?;
        ensure!(ledger.balanced && ledger.lost == 0 && ledger.refused == 0, "{ledger:?}");
    }
    let mut found = Stored::new();
    for device in 0..2 {
        for point in ["flow.mean", "run.count", "run.sum", "total.sum", "total.n"] {
            found.insert((device, point), stored(hub, &format!("pump-{device}/{point}")).await?);
        }
    }
    Ok(found)
}

/// What the readings say of what was stored.
fn check(found: &Stored) -> Result<()> {
    for device in 0..2 {
        let of = |point| found.get(&(device, point)).context("no series");
        // A window that is given again is another reading of the same time; the last to arrive counts.
        let last: BTreeMap<i64, f64> = of("flow.mean")?.iter().copied().collect();
        ensure!(last == means(device)?, "means of pump-{device}: {last:?}");
        let wanted = totals(device)?;
        let last = |point| Ok::<BTreeMap<i64, f64>, anyhow::Error>(of(point)?.iter().copied().collect());
        let sums: BTreeMap<i64, f64> = wanted.iter().map(|(ms, (sum, _))| (*ms, *sum)).collect();
        let counts: BTreeMap<i64, f64> = wanted.iter().map(|(ms, (_, count))| (*ms, *count)).collect();
        ensure!(last("total.sum")? == sums, "sums of pump-{device}: {:?}", of("total.sum")?);
        ensure!(last("total.n")? == counts, "counts of pump-{device}: {:?}", of("total.n")?);
        let wanted = sessions(device)?;
        ensure!(wanted.len() > 5, "{} sessions", wanted.len());
        let counts: Vec<(i64, f64)> = wanted.iter().map(|(ms, count, _)| (*ms, *count)).collect();
        let sums: Vec<(i64, f64)> = wanted.iter().map(|(ms, _, sum)| (*ms, *sum)).collect();
        ensure!(*of("run.count")? == counts, "counts of pump-{device}: {:?}", of("run.count")?);
        ensure!(*of("run.sum")? == sums, "sums of pump-{device}: {:?}", of("run.sum")?);
    }
    Ok(())
}

#[tokio::test]
async fn results_of_jobs_survive_kills_of_the_hub_once_and_whole() -> Result<()> {
    let calm = results(&run(0).await?).await?;
    check(&calm)?;
    let hub = run(KILLS).await?;
    let killed = results(&hub).await?;
    check(&killed)?;
    for (series, rows) in &calm {
        // Which results were given again depends on when the hub looked.
        if series.1 != "flow.mean" && !series.1.starts_with("total.") {
            assert_eq!(killed.get(series), Some(rows), "{series:?}");
        }
    }
    let rows: Value = serde_json::from_str(&hub.get("/api/v1/jobs/sessions/rows").await?)?;
    let numbers: Vec<u64> = rows
        .get("rows")
        .and_then(Value::as_array)
        .context("no rows")?
        .iter()
        .filter_map(|row| row.get("number")?.as_u64())
        .collect();
    assert!(numbers.iter().zip(1..).all(|(number, wanted)| *number == wanted), "{numbers:?}");
    assert_eq!(numbers.len(), sessions(0)?.len() + sessions(1)?.len());
    let listed = hub.command(&["job", "list"]).await?.good()?;
    ensure!(listed.contains("means") && listed.contains("paused"), "{listed}");
    Ok(())
}
