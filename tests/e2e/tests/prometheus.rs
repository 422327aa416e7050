//! The hub's Prometheus API against Debian's Prometheus: the same samples, the same queries, the same
//! answers; and a client that is not ours.
//!
//! Debian's Prometheus is of version 2: its ranges are closed at the left, those of version 3 and of the
//! hub are open. No sample lies on a whole second, and no time of a query on a multiple of a subquery's
//! step, so that this shows nowhere.
#![allow(
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test may panic, and says what it could not do"
)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tideline_e2e::prometheus::Prometheus;
use tideline_e2e::{Agent, Hub, absent, http, process};

const LONG: Duration = Duration::from_secs(120);
/// Begin of the samples.
const START_S: i64 = 1_760_000_000;
/// Time of the instant queries.
const AT_S: i64 = START_S + 3637;

/// One sample of each point every ten seconds, at no whole second.
struct Device {
    name: &'static str,
    /// Rows, by number; a row may be left out.
    rows: Vec<i64>,
    seed: i64,
}

/// `flow_total` rises and is reset now and then, `level` swings, `oil.temp` has many digits.
const POINTS: [&str; 3] = ["flow_total", "level", "oil.temp"];

impl Device {
    fn time_ms(&self, row: i64) -> i64 {
        START_S * 1000 + row * 10_000 + 137 + (row * 7919 + self.seed * 104_729).rem_euclid(800)
    }

    fn values(&self, row: i64) -> [f64; 3] {
        let (row, seed) = (row as f64, self.seed as f64);
        let flow = 1000.0 * seed + (row % 190.0) * (2.5 + seed / 4.0) + (row / 9.0).sin().abs();
        [
            flow,
            50.0 * ((row + 20.0 * seed) / 30.0).sin() + seed,
            60.0 + (row / 7.0).cos() * (seed + 1.0) / 3.0,
        ]
    }

    fn csv(&self) -> String {
        let mut out = format!("timestamp,{}\n", POINTS.join(","));
        for row in &self.rows {
            let [flow, level, temp] = self.values(*row);
            let _infallible = writeln!(out, "{},{flow},{level},{temp}", self.time_ms(*row));
        }
        out
    }
}

fn devices() -> [Device; 3] {
    [
        Device { name: "pump-1", rows: (0..720).collect(), seed: 1 },
        // Silent for 20 minutes.
        Device { name: "pump-2", rows: (0..300).chain(420..720).collect(), seed: 2 },
        // Begins late and ends early.
        Device { name: "valve-1", rows: (200..390).collect(), seed: 3 },
    ]
}

/// The same samples as Prometheus reads them, with the names and labels that the hub gives them.
fn open_metrics(devices: &[Device]) -> String {
    let mut out = String::new();
    for (at, point) in POINTS.iter().enumerate() {
        for device in devices {
            for row in &device.rows {
                let (ms, value) = (device.time_ms(*row), device.values(*row)[at]);
                let _infallible = writeln!(
                    out,
                    "{}{{device=\"{}\",point=\"{point}\"}} {value} {}.{:03}",
                    point.replace('.', "_"),
                    device.name,
                    ms / 1000,
                    ms % 1000
                );
            }
        }
    }
    out + "# EOF\n"
}

async fn replayed(hub: &Hub, devices: &[Device]) -> Result<Vec<Agent>> {
    let mut agents = Vec::new();
    for device in devices {
        let file: PathBuf = hub.folder().join(format!("{}.csv", device.name));
        std::fs::write(&file, device.csv())?;
        let config =
            format!("[http]\nlisten = \"\"\n[[source]]\nkind = \"replay\"\nname = \"r\"\npath = {file:?}\n");
        agents.push(Agent::start(hub, device.name, &config).await?);
    }
    for device in devices {
        let rows = (device.rows.len() * POINTS.len()) as u64;
        let ledger = hub.settled(device.name, rows, LONG).await?;
        ensure!((ledger.dropped, ledger.refused, ledger.lost) == (0, 0, 0), "{ledger:?}");
    }
    Ok(agents)
}

/// Evaluated at one time and over a range.
const QUERIES: &[&str] = &[
    "level",
    "level{device=\"pump-1\"}",
    "level{device=~\"pump-.\"}",
    "level{device!~\"pump-.\"}",
    "level{device!=\"pump-1\",point=\"level\"}",
    "{point=~\"oil.*|level\"}",
    "{__name__=\"oil_temp\"}",
    "level offset 7m",
    "level offset -3m",
    "level @ 1760001234",
    "level @ start()",
    "level @ end() offset 90s",
    "nothing",
    "1 + 2 * 3 ^ 2 % 7",
    "time()",
    "vector(time())",
    "-level",
    "level + 1",
    "100 - level",
    "level * level",
    "level ^ 2 / 100",
    "level % 7",
    "flow_total / ignoring(point) level",
    "oil_temp - on(device) level",
    "level atan2 on(device) oil_temp",
    "level > 0",
    "0 < level",
    "level > bool 0",
    "level == level",
    "level != bool on(device) oil_temp",
    "level and on(device) (oil_temp > 60)",
    "level or oil_temp",
    "level unless on(device) (oil_temp > 60)",
    "level > 10 or on(device) oil_temp",
    "sum(level)",
    "sum by (device) ({point=~\".+\"})",
    "sum without (device) ({point=~\".+\"})",
    "avg by (point) ({point=~\".+\"})",
    "min(level)",
    "max by (device) (level)",
    "count(level)",
    "count by (device) ({point!=\"\"} > 60)",
    "group(level)",
    "stddev(level)",
    "stdvar by (point) ({point!=\"\"})",
    "quantile(0.3, level)",
    "quantile by (device) (0.9, {point!=\"\"})",
    "topk(2, level)",
    "bottomk by (point) (1, {point!=\"\"})",
    "count_values(\"v\", floor(level / 10))",
    "rate(flow_total[5m])",
    "rate(flow_total[31s])",
    "sum by (point) (rate(flow_total[3m]))",
    "increase(flow_total[10m])",
    "irate(flow_total[2m])",
    "delta(level[5m])",
    "idelta(level[1m])",
    "deriv(level[4m])",
    "predict_linear(oil_temp[10m], 600)",
    "changes(flow_total[30m])",
    "resets(flow_total[35m])",
    "avg_over_time(level[7m])",
    "min_over_time(level[7m])",
    "max_over_time(level[7m])",
    "sum_over_time(oil_temp[7m])",
    "count_over_time(level[7m])",
    "stddev_over_time(level[7m])",
    "stdvar_over_time(oil_temp[7m])",
    "quantile_over_time(0.8, level[7m])",
    "last_over_time(level[25m])",
    "present_over_time(level[2m])",
    "absent(level{device=\"valve-1\"})",
    "absent(nothing{device=\"x\"})",
    "absent_over_time(level{device=\"pump-2\"}[3m])",
    "abs(level)",
    "ceil(level)",
    "floor(level)",
    "round(level)",
    "round(level, 0.25)",
    "clamp(level, -10, 10)",
    "clamp_min(level, 0)",
    "clamp_max(level, 0)",
    "sqrt(level)",
    "ln(oil_temp)",
    "log2(oil_temp)",
    "log10(oil_temp)",
    "exp(level / 10)",
    "sgn(level)",
    "sin(level) + cos(level) * tanh(level)",
    "deg(rad(level))",
    "timestamp(level)",
    "timestamp(level + 0)",
    "scalar(level{device=\"pump-1\"}) + 1",
    "scalar(level)",
    "label_replace(level, \"kind\", \"$1\", \"device\", \"(.*)-.*\")",
    "sum by (kind) (label_replace(level, \"kind\", \"$1\", \"device\", \"(.*)-.*\"))",
    "label_join(level, \"key\", \"/\", \"device\", \"point\")",
    "hour() * 60 + minute()",
    "day_of_week(vector(time())) + day_of_month() + month() + year() + days_in_month() + day_of_year()",
    "max_over_time(rate(flow_total[1m])[10m:30s])",
    "avg_over_time(level[10m:])",
    "sum_over_time(sum by (point) (level)[5m:1m] offset 2m)",
    "min_over_time(level[10m:30s] @ 1760003000)",
    "sum(rate(flow_total[2m])) / count(rate(flow_total[2m])) > 0",
    "pi() * vector(1)",
    "sort(level)",
    "sort_desc(level)",
];

/// Evaluated at one time only: over a range version 2 moves the span that `@` fixes.
const AT_ONE_TIME: &[&str] =
    &["predict_linear(oil_temp[10m] @ 1760002000, 600)", "level[2m]", "level[5m:30s]", "'text'"];

/// Refused by both, and in the same way.
const WRONG: &[&str] = &[
    "sum(",
    "level{",
    "level[5m",
    "rate(level)",
    "nope(level)",
    "level offset",
    "{}",
    "{device=~\".*\"}",
    "level{device=~\"(\"}",
    "1 == 2",
    "level + on(device) {point=~\".+\"}",
    "level * on(nothing) oil_temp",
    "level[5m] + 1",
    "label_replace(level, \"~\", \"$1\", \"device\", \"(\")",
    "-{point=~\".+\"} or rate({point=~\".+\"}[5m]) + ignoring(point) level",
];

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

struct Both<'a> {
    hub: &'a Hub,
    prometheus: SocketAddr,
}

impl Both<'_> {
    /// The answers of the hub and of Prometheus.
    async fn ask(&self, path: &str) -> Result<[(u16, Value); 2]> {
        let ours = http::get(self.hub.http(), &format!("/prometheus{path}"), Some(self.hub.token())).await?;
        let theirs = http::get(self.prometheus, path, None).await?;
        let read = |answer: http::Answer| {
            let value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
            anyhow::Ok((answer.status, value))
        };
        Ok([read(ours)?, read(theirs)?])
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "+Inf" => Some(f64::INFINITY),
            "-Inf" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        value => value.as_f64(),
    }
}

/// Equal, numbers up to what the order of additions may change.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => {
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3)
            }
            _ => a == b,
        },
    }
}

/// The result, its series by their labels unless their order counts.
fn result(answer: &Value, ordered: bool) -> Result<Value> {
    let mut data = answer.get("data").with_context(|| answer.to_string())?.clone();
    if let Some(Value::Array(series)) = data.get_mut("result").filter(|_| !ordered) {
        series.sort_by_key(|series| series.get("metric").map(Value::to_string));
    }
    Ok(data)
}

async fn same_answers(both: &Both<'_>) -> Result<usize> {
    let mut wrong = Vec::new();
    let mut compared = 0;
    // Steps of 90 s from 27 s after a half minute on never meet a multiple of 30 s.
    let range = format!("start={}&end={}&step=90", START_S + 517, START_S + 7500);
    let at = |query: &&str| format!("/api/v1/query?time={AT_S}&query={}", encoded(query));
    let over = |query: &&str| format!("/api/v1/query_range?{range}&query={}", encoded(query));
    for path in QUERIES.iter().chain(AT_ONE_TIME).map(at).chain(QUERIES.iter().map(over)) {
        let [(status, ours), (theirs_status, theirs)] = both.ask(&path).await?;
        ensure!((status, theirs_status) == (200, 200), "{path}: {ours} {theirs}");
        let ordered = path.contains("query=sort") && path.contains("query?");
        compared += 1;
        let (a, b) = (result(&ours, ordered)?, result(&theirs, ordered)?);
        if !same(&a, &b) {
            wrong.push(format!("{path}\n  hub        {a}\n  prometheus {b}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(compared)
}

async fn same_refusals(both: &Both<'_>) -> Result<()> {
    let mut paths: Vec<String> =
        WRONG.iter().map(|query| format!("/api/v1/query?time={AT_S}&query={}", encoded(query))).collect();
    let level = "/api/v1/query_range?query=level";
    paths.extend([
        format!("{level}&start=0&end=20000&step=1"),
        format!("{level}&start=10&end=5&step=1"),
        format!("{level}&start=0&end=5&step=0"),
        format!("{level}&start=0&end=5&step=x"),
        format!("{level}&start=x&end=5&step=1"),
        format!("{level}%5B5m%5D&start=0&end=5&step=1"),
        "/api/v1/query".to_owned(),
        "/api/v1/query?query=level&time=x".to_owned(),
        "/api/v1/series".to_owned(),
        "/api/v1/series?match[]=level%5B5m%5D".to_owned(),
    ]);
    for path in paths {
        let [(ours_status, ours), (theirs_status, theirs)] = both.ask(&path).await?;
        let kind = |answer: &Value| answer.get("errorType").cloned();
        ensure!(
            ours_status == theirs_status && kind(&ours) == kind(&theirs) && kind(&ours).is_some(),
            "{path}: {ours_status} {ours}, Prometheus {theirs_status} {theirs}"
        );
    }
    Ok(())
}

async fn same_lists(both: &Both<'_>) -> Result<()> {
    let range = format!("start={START_S}&end={}", START_S + 7200);
    for path in [
        "/api/v1/series?match[]=level&".to_owned(),
        "/api/v1/series?match[]=level&match[]=%7Bdevice%3D%22valve-1%22%7D&".to_owned(),
        "/api/v1/labels?".to_owned(),
        "/api/v1/labels?match[]=nothing&".to_owned(),
        "/api/v1/label/device/values?".to_owned(),
        "/api/v1/label/__name__/values?match[]=%7Bdevice%3D%22pump-1%22%7D&".to_owned(),
        "/api/v1/label/nothing/values?".to_owned(),
    ] {
        let [(_, ours), (_, theirs)] = both.ask(&format!("{path}{range}")).await?;
        let sorted = |answer: &Value| {
            let mut list = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
            list.sort_by_key(Value::to_string);
            list
        };
        ensure!(sorted(&ours) == sorted(&theirs), "{path}: {ours}, Prometheus {theirs}");
        ensure!(ours.get("status") == theirs.get("status"), "{path}: {ours}");
    }
    Ok(())
}

/// `prometheus-api-client` from PyPI, where `make setup` could install it.
async fn python_client(hub: &Hub) -> Result<()> {
    let Some(python) = absent::python("prometheus_api_client")? else { return Ok(()) };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/prometheus.py");
    let url = format!("http://{}/prometheus", hub.http());
    let said = process::run_system(&python, &[script, &url, hub.token(), &AT_S.to_string()]).await?.good()?;
    ensure!(said.trim() == "ok", "{said}");
    Ok(())
}

#[tokio::test]
async fn the_hub_answers_as_prometheus_does() -> Result<()> {
    let hub = Hub::start().await?;
    let devices = devices();
    let agents = replayed(&hub, &devices).await?;
    let prometheus = Prometheus::over(&hub.folder().join("prometheus"), &open_metrics(&devices)).await?;
    let both = Both { hub: &hub, prometheus: prometheus.address() };
    let compared = same_answers(&both).await?;
    ensure!(compared >= 200, "only {compared} answers compared");
    same_refusals(&both).await?;
    same_lists(&both).await?;
    python_client(&hub).await?;
    for agent in agents {
        agent.terminate(LONG).await?;
    }
    Ok(())
}
