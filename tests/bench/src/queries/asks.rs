//! The questions with their goals, in the language of each that is asked. Where two texts mean nearly the same, what differs is
//! said beside the figures.

use serde_json::{Value, json};

use super::client::Ask;
use super::data::{Kind, MANY, MANY_AGENTS, WALK};
use super::peers::Which;
use crate::workload::TRUCKS;

/// A question to all.
pub struct Question {
    pub name: &'static str,
    /// Milliseconds that are to be reached.
    pub goal_ms: f64,
    ours: Ours,
    victoria: Prom,
    influx: String,
    pub duck: String,
}

enum Ours {
    Get(String),
    /// With `to`, which each turn sets a little later, so that no answer is one that was kept.
    Query(String),
    Aggregate(Value),
}

enum Prom {
    At(String),
    Range(String, i64),
}

/// Where a workload begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from_ms: i64,
    /// After the last reading.
    pub to_ms: i64,
}

impl Span {
    pub const fn of(kind: Kind, frames: u64) -> Self {
        let from_ms = kind.begin_ns() / 1_000_000;
        Self { from_ms, to_ms: from_ms + frames.cast_signed() * (kind.step_ns() / 1_000_000) }
    }

    fn sql(self) -> String {
        format!("t >= {}000000 and t < {}000000", self.from_ms, self.to_ms)
    }

    fn influx(self) -> String {
        format!("time >= {}ms and time < {}ms", self.from_ms, self.to_ms)
    }
}

impl Question {
    /// For the hub. Turns differ in their end, which lies after all readings: each is computed, unless `kept` asks for the same
    /// again.
    pub fn ours(&self, span: Span, turn: u64, kept: bool) -> Ask {
        let turn = if kept { 0 } else { turn.cast_signed() };
        let to = span.to_ms + turn;
        match &self.ours {
            Ours::Get(path) => Ask::get(path),
            Ours::Query(path) => Ask::get(format!("{path}&from={}&to={to}", span.from_ms)),
            Ours::Aggregate(body) => {
                let mut body = body.clone();
                if let Some(object) = body.as_object_mut() {
                    object.entry("from").or_insert_with(|| json!(span.from_ms.to_string()));
                    object.insert("to".to_owned(), json!(to.to_string()));
                }
                Ask::post("/api/v1/aggregate", "application/json", body.to_string())
            }
        }
    }

    /// For a peer.
    pub fn peer(&self, which: Which, span: Span) -> Ask {
        match (which, &self.victoria) {
            (Which::Victoria, Prom::At(query)) => {
                let query = encoded(query);
                Ask::get(format!("/api/v1/query?nocache=1&time={}&query={query}", span.to_ms / 1_000 - 1))
            }
            (Which::Victoria, Prom::Range(query, step_s)) => Ask::get(format!(
                "/api/v1/query_range?nocache=1&start={}&end={}&step={step_s}&query={}",
                span.from_ms / 1_000 + step_s,
                span.to_ms / 1_000,
                encoded(query)
            )),
            (Which::Influx, _) => Ask::get(format!("/query?db=bench&epoch=ms&q={}", encoded(&self.influx))),
        }
    }
}

fn encoded(text: &str) -> String {
    let of = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(of).collect()
}

/// Of the walk.
pub fn walk(span: Span) -> Vec<Question> {
    some_of_walk(span).into_iter().chain(all_of_walk(span)).collect()
}

fn some_of_walk(span: Span) -> Vec<Question> {
    let (sql, influx) = (span.sql(), span.influx());
    let seconds = (span.to_ms - span.from_ms) / 1_000;
    let width = (seconds / 500).max(1);
    let hundred: Vec<String> = (0..WALK).step_by(10).map(|i| format!("p{i}")).collect();
    let (names, regex) = (json!(hundred), hundred.join("|"));
    let quoted = hundred.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",");
    vec![
        Question {
            name: "last value of one series",
            goal_ms: 0.5,
            ours: Ours::Get("/api/v1/last?series=walk-1/p333".into()),
            victoria: Prom::At("walk_v{p=\"p333\"}".into()),
            influx: "select last(v) from walk where p='p333'".into(),
            duck: "select arg_max(v, t), max(t) from r where device = 'walk-1' and point = 'p333'".into(),
        },
        Question {
            name: "last values of all 1,000 series",
            goal_ms: 5.0,
            ours: Ours::Get("/api/v1/last".into()),
            victoria: Prom::At("walk_v".into()),
            influx: "select last(v) from walk group by p".into(),
            duck: "select device, point, arg_max(v, t), max(t) from r group by 1, 2".into(),
        },
        Question {
            name: "one series, 500 buckets of min, max, mean",
            goal_ms: 1.0,
            ours: Ours::Query("/api/v1/query?series=walk-1/p333&buckets=500".into()),
            victoria: Prom::Range(
                format!(
                    "union(min_over_time(walk_v{{p=\"p333\"}}[{width}s]),max_over_time(walk_v{{p=\"p333\"}}[{width}s]),avg_over_time(walk_v{{p=\"p333\"}}[{width}s]))"
                ),
                width,
            ),
            influx: format!(
                "select min(v),max(v),mean(v) from walk where p='p333' and {influx} group by time({width}s)"
            ),
            duck: format!(
                "select t // {width}000000000, min(v), max(v), avg(v) from r where device = 'walk-1' and point = 'p333' and {sql} group by 1 order by 1"
            ),
        },
        Question {
            name: "100 series by minute, max",
            goal_ms: 8.0,
            ours: Ours::Aggregate(
                json!({"select": {"points": names}, "group_by": "series", "width": "1m", "functions": ["max"]}),
            ),
            victoria: Prom::Range(format!("max_over_time(walk_v{{p=~\"{regex}\"}}[1m])"), 60),
            influx: format!(
                "select max(v) from walk where p =~ /^({regex})$/ and {influx} group by time(1m),p"
            ),
            duck: format!(
                "select point, t // 60000000000, max(v) from r where point in ({quoted}) and {sql} group by 1, 2 order by 1, 2"
            ),
        },
    ]
}

fn all_of_walk(span: Span) -> Vec<Question> {
    let (sql, influx) = (span.sql(), span.influx());
    let seconds = (span.to_ms - span.from_ms) / 1_000;
    vec![
        Question {
            name: "count of all",
            goal_ms: 6.0,
            ours: Ours::Aggregate(json!({"functions": ["count"]})),
            victoria: Prom::At(format!("sum(count_over_time(walk_v[{seconds}s]))")),
            influx: format!("select count(v) from walk where {influx}"),
            duck: format!("select count(*) from r where {sql}"),
        },
        Question {
            name: "mean of 4 groups of 250 series by 10 minutes",
            goal_ms: 30.0,
            ours: Ours::Aggregate(json!({"group_by": "device", "width": "10m", "functions": ["mean"]})),
            victoria: Prom::Range(
                "sum(sum_over_time(walk_v[10m])) by (device) / sum(count_over_time(walk_v[10m])) by (device)"
                    .into(),
                600,
            ),
            influx: format!("select mean(v) from walk where {influx} group by time(10m),device"),
            duck: format!(
                "select device, t // 600000000000, avg(v) from r where {sql} group by 1, 2 order by 1, 2"
            ),
        },
        Question {
            name: "all functions over all raw rows, without rollups",
            goal_ms: f64::NAN,
            ours: Ours::Aggregate(json!({"tier": "raw", "functions": ["count", "min", "max", "sum"]})),
            victoria: Prom::At(format!(
                "union(sum(count_over_time(walk_v[{seconds}s])),min(min_over_time(walk_v[{seconds}s])),max(max_over_time(walk_v[{seconds}s])),sum(sum_over_time(walk_v[{seconds}s])))"
            )),
            influx: format!("select count(v),min(v),max(v),sum(v) from walk where {influx}"),
            duck: format!("select count(*), min(v), max(v), sum(v) from r where {sql}"),
        },
    ]
}

/// Of the fleet.
pub fn fleet(span: Span) -> Vec<Question> {
    let (sql, influx) = (span.sql(), span.influx());
    let seconds = (span.to_ms - span.from_ms) / 1_000;
    let late_ms = (span.to_ms - 600_000).max(span.from_ms);
    let velocity = json!({"points": ["velocity"]});
    let prefix = json!({"prefix": {"of": "device", "separator": "."}});
    let models =
        ["f150", "g2000", "h2"].map(|model| json!({"name": model, "members": [format!("*.{model}.*")]}));
    let models = json!({ "groups": models });
    vec![
        Question {
            name: "mean velocity by fleet by 10 minutes",
            goal_ms: 10.0,
            ours: Ours::Aggregate(json!({"select": velocity, "group_by": prefix, "width": "10m", "functions": ["mean"]})),
            victoria: Prom::Range("sum(sum_over_time(truck_velocity[10m])) by (fleet) / sum(count_over_time(truck_velocity[10m])) by (fleet)".into(), 600),
            influx: format!("select mean(velocity) from truck where {influx} group by time(10m),fleet"),
            duck: format!("select split_part(device, '.', 1), t // 600000000000, avg(v) from r where point = 'velocity' and {sql} group by 1, 2"),
        },
        Question {
            name: "low fuel now",
            goal_ms: 2.0,
            ours: Ours::Get("/api/v1/last?point=fuel&below=0.3".into()),
            victoria: Prom::At("last_over_time(truck_fuel[1d]) < 0.3".into()),
            influx: "select f from (select last(fuel) as f from truck group by \"name\") where f < 0.3".into(),
            duck: "select device, arg_max(v, t) as f from r where point = 'fuel' group by 1 having arg_max(v, t) < 0.3".into(),
        },
        Question {
            name: "who stood for the last 10 minutes",
            goal_ms: 2.0,
            ours: Ours::Aggregate(json!({"select": velocity, "group_by": "device", "from": late_ms.to_string(), "functions": ["mean"], "having": {"function": "mean", "below": 1}})),
            victoria: Prom::At("avg_over_time(truck_velocity[10m]) < 1".into()),
            influx: format!("select m from (select mean(velocity) as m from truck where time >= {late_ms}ms and time < {}ms group by \"name\") where m < 1", span.to_ms),
            duck: format!("select device, avg(v) from r where point = 'velocity' and t >= {late_ms}000000 and {sql} group by 1 having avg(v) < 1"),
        },
        Question {
            name: "mean load by model",
            goal_ms: 7.0,
            ours: Ours::Aggregate(json!({"select": {"points": ["load"]}, "group_by": models, "functions": ["mean"]})),
            victoria: Prom::At(format!("sum(sum_over_time(truck_load[{seconds}s])) by (model) / sum(count_over_time(truck_load[{seconds}s])) by (model)")),
            influx: format!("select mean(load) from truck where {influx} group by model"),
            duck: format!("select split_part(device, '.', 2), avg(v) from r where point = 'load' and {sql} group by 1"),
        },
        Question {
            name: "activity by day: 10 minutes of driving, by fleet",
            goal_ms: 6.0,
            ours: Ours::Aggregate(json!({"select": velocity, "group_by": "device", "width": "10m", "functions": ["mean"], "having": {"function": "mean", "above": 1},
                "then": {"of": "mean", "width": "1d", "functions": ["count"], "group_by": {"prefix": {"separator": "."}}}})),
            victoria: Prom::Range("sum(count_over_time((avg_over_time(truck_velocity[10m]) > 1)[1d:10m])) by (fleet)".into(), 86_400),
            influx: format!("select count(m) from (select mean(velocity) as m from truck where {influx} group by time(10m),\"name\",fleet) where m > 1 group by time(1d),fleet"),
            duck: format!("select split_part(device, '.', 1), b // 144, count(*) from (select device, t // 600000000000 as b, avg(v) as m from r where point = 'velocity' and {sql} group by 1, 2 having avg(v) > 1) group by 1, 2"),
        },
    ]
}

/// Series of a workload.
pub const fn series(kind: Kind) -> u64 {
    match kind {
        Kind::Walk | Kind::Late => WALK as u64,
        Kind::Fleet => TRUCKS as u64 * 10,
        Kind::Year => 1,
        Kind::Many => MANY as u64 * MANY_AGENTS as u64,
    }
}
