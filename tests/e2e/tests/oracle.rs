//! The hub's answers beside DuckDB's, which reads the same readings from an export: counts, smallest, greatest, first and
//! last values are the same, sums and means to within 1e-12.
//!
//! Values are decimals and fractions of few digits: JSON has those exactly whoever reads it.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tideline_e2e::{Hub, absent, http, process, until};

const LONG: Duration = Duration::from_secs(60);
const SEED: u64 = 11;
const BEGIN_MS: i64 = 1_760_000_400_000;
/// How long the readings last.
const SPAN_S: i64 = 3 * 86_400;
const TRUCKS: [&str; 6] =
    ["north.f150.1", "north.f150.2", "north.g2.3", "south.f150.4", "south.g2.5", "south.g2.6"];
const POINTS: [&str; 4] = ["fuel", "load", "velocity", "status"];
const REQUESTS: usize = 24;
const ROWS_PER_REQUEST: usize = 2_500;

/// Line protocol: most readings go on, some are late by days, have the time of another, or are sent twice.
fn requests(random: &mut StdRng) -> Vec<String> {
    let mut sent: Vec<String> = Vec::new();
    let mut out = Vec::new();
    for request in 0..REQUESTS {
        let mut lines = String::new();
        for row in 0..ROWS_PER_REQUEST {
            if !sent.is_empty() && random.random_bool(0.03) {
                lines.push_str(&sent[random.random_range(0..sent.len())]);
                continue;
            }
            let done = i64::try_from(request * ROWS_PER_REQUEST + row).unwrap_or(0);
            let all = i64::try_from(REQUESTS * ROWS_PER_REQUEST).unwrap_or(1);
            let mut second = done * SPAN_S / all + random.random_range(0..40);
            if random.random_bool(0.1) {
                second = random.random_range(0..SPAN_S);
            }
            // A third stands on whole seconds, where times meet.
            // DuckDB's times in UTC have microseconds.
            let ns = if random.random_bool(0.3) { 0 } else { random.random_range(0..1_000_000_i64) * 1_000 };
            let (truck, point) = (random.random_range(0..TRUCKS.len()), random.random_range(0..POINTS.len()));
            let value = match point {
                0 => f64::from(random.random_range(0..1_000_i32)) / 1_000.0,
                1 => f64::from(random.random_range(-500_000..500_000_i32)) / 64.0,
                2 => f64::from(random.random_range(0..12_000_i32)) / 100.0,
                _ => f64::from(random.random_range(0..3_i32)),
            };
            let time = BEGIN_MS * 1_000_000 + second * 1_000_000_000 + ns;
            let line = format!("{},host={} value={value} {time}\n", POINTS[point], TRUCKS[truck]);
            if sent.len() < 10_000 {
                sent.push(line.clone());
            }
            lines.push_str(&line);
        }
        out.push(lines);
    }
    out
}

/// What both are asked.
struct Case {
    sql: String,
    /// Its columns that are sums or means: these may be taken in another order.
    sums: &'static [usize],
    asked: Asked,
}

enum Asked {
    Get(String),
    Aggregate(Value),
    Prom(String),
}

const FIRST: &str = "arg_min(v, row(t, series, n))";
const LAST: &str = "arg_max(v, row(t, series, n))";

fn all_functions() -> String {
    format!("count(*), min(v), max(v), fsum(v), fsum(v) / count(*), {FIRST}, {LAST}")
}

fn within(from: i64, to: i64) -> String {
    format!("t >= {from}000000 and t < {to}000000")
}

fn bucket(width_ms: i64) -> String {
    format!("t // {width_ms}000000 * {width_ms}")
}

fn aggregates(random: &mut StdRng) -> Vec<Case> {
    const ALL: [&str; 7] = ["count", "min", "max", "sum", "mean", "first", "last"];
    let listed = json!({"groups": [{"name": "small", "members": ["*.f150.1/*", "*.g2.*/fuel"]}, {"name": "rest", "members": ["*"]}]});
    let prefix = json!({"prefix": {"of": "device", "separator": ".", "parts": 2}});
    let groups = [
        (json!("all"), "'all'"),
        (json!("device"), "device"),
        (json!("point"), "point"),
        (json!("series"), "series"),
        (prefix, "regexp_extract(device, '^[^.]*\\.[^.]*')"),
        (
            listed,
            "case when series like '%.f150.1/%' or series like '%.g2.%/fuel' then 'small' else 'rest' end",
        ),
    ];
    let widths =
        [("7m", 420_000), ("10m", 600_000), ("1h", 3_600_000), ("5h", 18_000_000), ("1d", 86_400_000)];
    let mut out = Vec::new();
    for turn in 0..20 {
        let (by, sql_by) = &groups[turn % groups.len()];
        let from = BEGIN_MS + random.random_range(-100_000..SPAN_S * 500);
        let to = from + random.random_range(1..SPAN_S * 700);
        let width = widths.get(turn % (widths.len() + 1));
        let mut asked = json!({"group_by": by, "functions": ALL, "from": from.to_string(), "to": to.to_string(),
            "tier": if turn % 4 == 3 { "raw" } else { "best" }});
        let start = match width {
            Some((text, ms)) => {
                asked["width"] = json!(text);
                bucket(*ms)
            }
            None => from.to_string(),
        };
        let points = if turn % 3 == 0 { "point in ('fuel', 'velocity')" } else { "true" };
        if turn % 3 == 0 {
            asked["select"] = json!({"points": ["fuel", "vel*"]});
        }
        let sql = format!(
            "select {sql_by}, {start}, {} from r where {points} and {} group by 1, 2 order by 1, 2",
            all_functions(),
            within(from, to)
        );
        out.push(Case { sql, sums: &[5, 6], asked: Asked::Aggregate(asked) });
    }
    out
}

/// What fleets are asked: who stands, how long they drove, and a mean of means.
fn fleets() -> Vec<Case> {
    let (from, to) = (BEGIN_MS, BEGIN_MS + SPAN_S * 1_000);
    let range = |mut asked: Value| {
        asked["from"] = json!(from.to_string());
        asked["to"] = json!(to.to_string());
        Asked::Aggregate(asked)
    };
    let velocity = json!({"points": ["velocity"]});
    let within = within(from, to);
    vec![
        Case {
            sql: format!(
                "select device, {from}, count(*), fsum(v) / count(*) from r where point = 'velocity' and {within} group by 1 having fsum(v) / count(*) < 60 order by 1"
            ),
            sums: &[3],
            asked: range(
                json!({"select": velocity, "group_by": "device", "functions": ["count", "mean"], "having": {"function": "mean", "below": 60}}),
            ),
        },
        Case {
            sql: format!(
                "select device, {}, max(v) from r where point = 'velocity' and {within} group by 1, 2 having max(v) > 119 and max(v) < 119.9 order by 1, 2",
                bucket(600_000)
            ),
            sums: &[],
            asked: range(
                json!({"select": velocity, "group_by": "device", "width": "10m", "functions": ["max"], "having": {"function": "max", "above": 119, "below": 119.9}}),
            ),
        },
        Case {
            sql: format!(
                "select split_part(device, '.', 2), b // 86400000 * 86400000, count(*) from (select device, {} as b, min(v) as m from r where point = 'velocity' and {within} group by 1, 2 having min(v) < 5) group by 1, 2 order by 1, 2",
                bucket(600_000)
            ),
            sums: &[],
            asked: range(
                json!({"select": velocity, "group_by": "device", "width": "10m", "functions": ["min"], "having": {"function": "min", "below": 5},
                "then": {"of": "min", "width": "1d", "functions": ["count"], "group_by": {"groups": [{"name": "f150", "members": ["*.f150.*"]}, {"name": "g2", "members": ["*.g2.*"]}]}}}),
            ),
        },
        Case {
            sql: format!(
                "select split_part(g, '.', 1), {from}, count(*), fsum(m) / count(*) from (select device as g, fsum(v) / count(*) as m from r where point = 'load' and {within} group by 1) group by 1 order by 1"
            ),
            sums: &[3],
            asked: range(json!({"select": {"points": ["load"]}, "group_by": "device", "functions": ["mean"],
                "then": {"of": "mean", "functions": ["count", "mean"], "group_by": {"prefix": {"separator": "."}}}})),
        },
    ]
}

/// Last values, charts, raw ranges and PromQL.
fn others(random: &mut StdRng) -> Vec<Case> {
    let mut out = Vec::new();
    let last = format!(
        "select series, max(t) // 1000000, {LAST} from r where {{}} group by 1 having {{}} order by 1"
    );
    for (query, of, having) in [
        ("", "true", "true".to_owned()),
        ("?device=south.*", "device like 'south.%'", "true".to_owned()),
        ("?point=fuel&below=0.4", "point = 'fuel'", format!("{LAST} < 0.4")),
        ("?above=50&device=*.g2.*", "device like '%.g2.%'", format!("{LAST} > 50")),
    ] {
        let sql = last.replacen("{}", of, 1).replacen("{}", &having, 1);
        out.push(Case { sql, sums: &[], asked: Asked::Get(format!("/api/v1/last{query}")) });
    }
    for (hours, buckets, width) in
        [(10, 12, 3_600_000), (2, 26, 300_000), (60, 7, 43_200_000), (1, 62, 60_000)]
    {
        let truck = TRUCKS[random.random_range(0..TRUCKS.len())];
        let from = BEGIN_MS + random.random_range(0..40_000_000_i64);
        let to = from + hours * 3_600_000;
        let sql = format!(
            "select series, {}, count(*), min(v), max(v), fsum(v) / count(*), {LAST} from r where device = '{truck}' and point in ('load', 'fuel') and {} group by 1, 2 order by 1, 2",
            bucket(width),
            within(from, to)
        );
        let path =
            format!("/api/v1/query?series={truck}/fuel,{truck}/load&from={from}&to={to}&buckets={buckets}");
        out.push(Case { sql, sums: &[5], asked: Asked::Get(path) });
    }
    for _ in 0..4 {
        let truck = TRUCKS[random.random_range(0..TRUCKS.len())];
        let from = BEGIN_MS + random.random_range(0..SPAN_S * 900);
        let to = from + random.random_range(0..40_000_000_i64);
        let sql = format!(
            "select series, t // 1000000, v from r where series = '{truck}/load' and {} order by n",
            within(from, to)
        );
        let path = format!("/api/v1/query?series={truck}/load&from={from}&to={to}&limit=100000");
        out.push(Case { sql, sums: &[], asked: Asked::Get(path) });
    }
    // Of equal times the last one to arrive counts there, and ranges are open at the left.
    let at = BEGIN_MS / 1_000 + SPAN_S / 2;
    let alone = format!(
        "(select * from r where t > {0}000000000 and t <= {at}000000000 qualify row_number() over (partition by series, t order by n desc) = 1)",
        at - 36_000
    );
    for (query, sql) in [
        (
            "sum by (device) (count_over_time(load[10h]))",
            "select device, count(*) from A where point = 'load' group by 1 order by 1",
        ),
        (
            "max by (device) (max_over_time(velocity[10h]))",
            "select device, max(v) from A where point = 'velocity' group by 1 order by 1",
        ),
        (
            "min by (device) (min_over_time(load[10h]))",
            "select device, min(v) from A where point = 'load' group by 1 order by 1",
        ),
        (
            "avg by (device) (avg_over_time(fuel[10h]))",
            "select device, fsum(v) / count(*) from A where point = 'fuel' group by 1 order by 1",
        ),
    ] {
        let path = format!("/prometheus/api/v1/query?time={at}&query={}", query.replace(' ', "%20"));
        let sums: &[usize] = if query.starts_with("avg") { &[1] } else { &[] };
        out.push(Case { sql: sql.replace('A', &alone), sums, asked: Asked::Prom(path) });
    }
    out
}

/// Rows of an answer as DuckDB would give them.
fn rows(asked: &Asked, answer: &Value) -> Result<Vec<Vec<Value>>> {
    let list = |value: &Value| value.as_array().cloned().context("no list");
    let mut out = Vec::new();
    match asked {
        Asked::Prom(_) => {
            for one in list(&answer["data"]["result"])? {
                let value: f64 = one["value"][1].as_str().context("no value")?.parse()?;
                out.push(vec![one["metric"]["device"].clone(), json!(value)]);
            }
            out.sort_by_key(|row| row[0].as_str().map(str::to_owned));
        }
        Asked::Get(path) if path.starts_with("/api/v1/last") => {
            for one in list(&answer["series"])? {
                out.push(vec![one["id"].clone(), one["t"].clone(), one["v"].clone()]);
            }
        }
        Asked::Get(_) | Asked::Aggregate(_) => {
            let by_name = if matches!(asked, Asked::Get(_)) { ("series", "id") } else { ("groups", "name") };
            let names = ["count", "min", "max", "sum", "mean", "first", "last", "v"];
            for one in list(&answer[by_name.0])? {
                for (at, t) in list(&one["t"])?.into_iter().enumerate() {
                    let values =
                        names.iter().filter_map(|name| one.get(name)).map(|column| column[at].clone());
                    out.push([one[by_name.1].clone(), t].into_iter().chain(values).collect());
                }
            }
            // Groups that were listed come in that order.
            out.sort_by_key(|row| (row[0].as_str().map(str::to_owned), row[1].as_i64()));
            if matches!(asked, Asked::Get(path) if path.contains("limit=")) {
                return Ok(list(&answer["series"])?.iter().flat_map(raw).collect());
            }
        }
    }
    Ok(out)
}

/// Raw rows in the order in which they came.
fn raw(series: &Value) -> Vec<Vec<Value>> {
    let column = |name: &str| series[name].as_array().cloned().unwrap_or_default();
    let rows = column("t").into_iter().zip(column("v"));
    rows.map(|(t, v)| vec![series["id"].clone(), t, v]).collect()
}

/// Numbers are the same; sums to within what another order of additions makes.
fn same(a: &Value, b: &Value, sum: bool) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b || (sum && (a - b).abs() <= 1e-12 * a.abs().max(b.abs())),
        _ => a == b,
    }
}

fn compare(case: &Case, wanted: &[Vec<Value>], found: &[Vec<Value>]) -> Result<()> {
    ensure!(wanted.len() == found.len(), "{}: {} rows, DuckDB has {}", case.sql, found.len(), wanted.len());
    for (wanted, found) in wanted.iter().zip(found) {
        let mut pairs = wanted.iter().zip(found).enumerate();
        let fits = wanted.len() == found.len()
            && pairs.all(|(at, (wanted, found))| same(wanted, found, case.sums.contains(&at)));
        ensure!(fits, "{}: found {found:?}, DuckDB has {wanted:?}", case.sql);
    }
    Ok(())
}

async fn filled(hub: &Hub, requests: &[String]) -> Result<()> {
    let token = hub.command(&["token", "create", "oracle", "--write", "*"]).await?;
    let token = token.good()?.trim().to_owned();
    for lines in requests {
        let path = "/api/v2/write?org=a&bucket=b&precision=ns";
        let told = http::post(hub.http(), path, Some(&token), ("text/plain", lines.clone())).await?;
        ensure!(told.status == 204, "{}: {}", told.status, told.body);
    }
    Ok(())
}

#[tokio::test]
async fn forty_queries_are_answered_as_duckdb_answers_them() -> Result<()> {
    let Some(python) = absent::python("duckdb")? else { return Ok(()) };
    let mut random = StdRng::seed_from_u64(SEED);
    let requests = requests(&mut random);
    let cases: Vec<Case> =
        [aggregates(&mut random), fleets(), others(&mut random)].into_iter().flatten().collect();
    ensure!(cases.len() == 40, "there are {} queries", cases.len());
    // Small files, so that there are several, merged ones, and rows in memory.
    let hub = Hub::start_with(vec![("TIDELINE_STORE_HOT_ROWS_MAX", "10000".to_owned())]).await?;
    filled(&hub, &requests).await?;
    let rows_sent = (REQUESTS * ROWS_PER_REQUEST) as u64;
    until("sealed files", LONG, || async {
        let store: Value = serde_json::from_str(&hub.get("/api/v1/store").await?)?;
        Ok(store["sealed_rows"].as_u64().filter(|rows| *rows > rows_sent / 2))
    })
    .await?;
    let file = hub.folder().join("all.parquet").display().to_string();
    hub.command(&["export", "--out", &file]).await?.good()?;
    let sql: Vec<&str> = cases.iter().map(|case| case.sql.as_str()).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/oracle.py");
    let asked = hub.folder().join("queries.json");
    std::fs::write(&asked, serde_json::to_string(&sql)?)?;
    let said = process::run_system(&python, &[script, &file, &asked.display().to_string()]).await?;
    let wanted: Vec<Vec<Vec<Value>>> = serde_json::from_str(&said.good()?)?;
    let mut compared = 0;
    for (case, wanted) in cases.iter().zip(&wanted) {
        let answer = match &case.asked {
            Asked::Get(path) | Asked::Prom(path) => hub.get(path).await?,
            Asked::Aggregate(body) => {
                let body = ("application/json", body.to_string());
                let told = http::post(hub.http(), "/api/v1/aggregate", Some(hub.token()), body).await?;
                ensure!(told.status == 200, "{}: {}", case.sql, told.body);
                told.body
            }
        };
        let found = rows(&case.asked, &serde_json::from_str(&answer)?)?;
        compare(case, wanted, &found)?;
        compared += found.len();
    }
    ensure!(compared > 5_000, "only {compared} rows were compared");
    Ok(())
}
