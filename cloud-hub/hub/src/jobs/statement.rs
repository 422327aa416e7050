//! The statement of a job, run for one window at a time as any statement is: checked, in a process of its own, within the
//! limits of all. It sees of the tables what the job's source takes, in the times of the window.
//!
//! `now()` is the window's end, so that a run says the same whenever it is. It must see all that the job has read of the
//! log: the store is settled first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::model::{AgentId, DeviceId, PointId};
use tideline_sql::{Format, Table};
use tideline_store::{SeriesInfo, StoreError};
use tideline_streams::spec::Window;
use tideline_streams::{Asked, FieldError, Job, JobSpec, StatementRow};

use super::delivery::Trouble;
use super::{history, is_job};
use crate::api::shapes::{SqlAnswer, SqlColumn};
use crate::hub::{App, Hub};
use crate::metadata::{JobRecord, MetadataError, WriterSeriesRecord};
use crate::sql::{self, Scope, SqlError};
use crate::when;

/// Rows of the answer for one window: all of them are in memory, and may be as many series.
pub const ROWS_MAX: u64 = 10_000;
/// How long a job waits for its turn before it reads on.
const TURN_MAX: Duration = Duration::from_secs(2);
/// Bytes of such an answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of it that are read together.
const PART_BYTES: usize = 64 * 1024;
/// Readings of the job's own series that are looked at, at the start of a window that is given again.
const GIVEN_MAX: usize = 100_000;

/// What came of a run.
#[derive(Debug)]
pub enum Done {
    /// The answer; and the series that an earlier one gave at that time.
    Rows(Vec<StatementRow>, Vec<(DeviceId, PointId)>),
    /// It was not its turn.
    Later,
    /// It failed, and may not the next time.
    Failed(String),
    /// It would never say what it should.
    Lost(String),
}

/// Says what is wrong with a statement, and with windows that it cannot be run for.
pub fn check(spec: &JobSpec) -> Vec<FieldError> {
    let Some(text) = &spec.sql else { return Vec::new() };
    let wrong =
        |field: &str, found: String, allowed: String| FieldError { field: field.to_owned(), found, allowed };
    let statement = match tideline_sql::check(text, 0) {
        Ok(statement) => statement,
        Err(refusal) => {
            let allowed = "statements that POST /api/v1/sql takes".to_owned();
            return vec![wrong("/sql", format!("refused: {}", refusal.detail), allowed)];
        }
    };
    let mut errors = Vec::new();
    let mut lengths = Vec::new();
    match spec.window {
        Window::Tumbling { length_ms } => lengths.push(("/window/length_ms", length_ms)),
        Window::Hopping { length_ms, hop_ms } => {
            lengths.extend([("/window/length_ms", length_ms), ("/window/hop_ms", hop_ms)]);
        }
        Window::Each | Window::Sliding { .. } | Window::Session { .. } => {}
    }
    for (table, width_ms) in statement.uses.keys().filter_map(|table| Some((table, width_ms(*table)?))) {
        // A bucket that the window ends within would have readings of the next one.
        for (field, found) in lengths.iter().filter(|(_, ms)| ms % width_ms != 0) {
            let allowed = format!("multiples of {width_ms}, the width of {}", table.name());
            errors.push(wrong(field, found.to_string(), allowed));
        }
    }
    errors
}

fn width_ms(table: Table) -> Option<u64> {
    table.width_ns().map(|ns| ns.unsigned_abs() / 1_000_000)
}

/// Runs the statement for a window. Dropped, it ends the process.
///
/// # Errors
/// It cannot be run now, or never again.
pub async fn run(hub: &App, job: &Job, agent: &AgentId, asked: &Asked) -> Result<Done, Trouble> {
    let Some(text) = job.sql().map(str::to_owned) else { return Ok(Done::Rows(Vec::new(), Vec::new())) };
    // One of all jobs at a time: people who ask find a place beside it. Who waits for a slow one has other things to do.
    let Ok(_turn) = tokio::time::timeout(TURN_MAX, hub.jobs.statements.lock()).await else {
        return Ok(Done::Later);
    };
    let (owned, own, window) = (job.clone(), agent.clone(), asked.clone());
    let ready =
        hub.blocking(move |hub| prepare(hub, &owned, &own, &window)).await.map_err(|failed| failed.0)?;
    let end_ns = asked.end_ns;
    let checked = tokio::task::spawn_blocking(move || tideline_sql::check(&text, end_ns)).await;
    let mut statement = match checked {
        Ok(Ok(statement)) => statement,
        Ok(Err(refusal)) => return Err(Trouble::Lasting(format!("its statement is refused: {refusal}"))),
        Err(error) => return Err(Trouble::Passing(error.to_string())),
    };
    for needed in statement.uses.values_mut() {
        needed.from_ns = needed.from_ns.max(asked.start_ns);
        needed.to_ns = needed.to_ns.min(end_ns);
    }
    let whole = async {
        let mut answer = sql::run_in(hub, statement, Format::Json, Some(ready.scope)).await?;
        let mut bytes = Vec::new();
        while let Some(part) = answer.next(PART_BYTES).await? {
            bytes.extend(part);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(SqlError::Failed(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        Ok((answer.thinned_to_ns, bytes))
    };
    let most = Duration::from_secs(hub.config.sql.time_max_s.saturating_mul(2));
    match tokio::time::timeout(most, whole).await.unwrap_or(Err(SqlError::Time(most.as_secs()))) {
        Ok((Some(to_ns), _)) => {
            let to = when::show_ns(to_ns);
            Ok(Done::Lost(format!("readings of the window are past their retention, up to {to}")))
        }
        Ok((None, bytes)) => Ok(match rows_of(&bytes, job, agent, asked.start_ns) {
            Ok(rows) => Done::Rows(rows, ready.given),
            Err(reason) => Done::Failed(reason),
        }),
        Err(SqlError::Busy) => Err(Trouble::Passing(SqlError::Busy.to_string())),
        Err(SqlError::Store(StoreError::Closed)) => Err(Trouble::Closing),
        Err(error) => Ok(Done::Failed(error.to_string())),
    }
}

/// What a run needs.
struct Ready {
    scope: Scope,
    given: Vec<(DeviceId, PointId)>,
}

struct NotReady(Trouble);

impl From<MetadataError> for NotReady {
    fn from(error: MetadataError) -> Self {
        Self(error.into())
    }
}

impl From<StoreError> for NotReady {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

/// Looks whether who defined the job may have it run, and what it may see. Blocks the thread.
fn prepare(hub: &Hub, job: &Job, agent: &AgentId, asked: &Asked) -> Result<Ready, NotReady> {
    let record = hub.metadata.find::<JobRecord>(&job.spec().name)?;
    let refusal = match record.and_then(|record| record.author) {
        Some(author) => author.refusal(hub)?,
        None => Some("nobody is known who defined it; define it again".to_owned()),
    };
    if let Some(refusal) = refusal {
        return Err(NotReady(Trouble::Lasting(refusal)));
    }
    hub.store.settle()?;
    let given = if asked.again { given(hub, agent, asked)? } else { Vec::new() };
    let derived = history::derived(hub)?;
    let job = job.clone();
    let takes = move |info: &SeriesInfo| {
        job.selects(&info.device, &info.point)
            && !derived.contains(&(DeviceId::clone(&info.device), PointId::clone(&info.point)))
    };
    Ok(Ready { scope: Scope { takes: Arc::new(takes), rows_max: ROWS_MAX }, given })
}

/// The series of the job that have a value at the window's start.
fn given(hub: &Hub, agent: &AgentId, asked: &Asked) -> Result<Vec<(DeviceId, PointId)>, NotReady> {
    let records = hub.metadata.list_from::<WriterSeriesRecord>(agent.as_str())?;
    // Another job's name may begin as this one's does.
    let is_own = |key: &str| key.strip_prefix(agent.as_str()).is_some_and(|rest| !rest.starts_with(is_name));
    let own: HashSet<(DeviceId, PointId)> = records
        .into_iter()
        .filter(|(key, _)| is_own(key))
        .flat_map(|(_, record)| record.series)
        .map(|def| (def.device, def.point))
        .collect();
    let mut given = Vec::new();
    for (device, point) in own {
        let series = hub.store.series(Some(&device)).into_iter().find(|info| *info.point == point);
        let Some(info) = series else { continue };
        let at = asked.start_ns;
        let page = hub.store.query_raw(&[info.id], at, at.saturating_add(1), None, GIVEN_MAX)?;
        let last = page.series.first().and_then(|column| column.values.last().copied());
        // What was taken back stands there without a number.
        if last.is_some_and(|value| !value.is_nan()) {
            given.push((device, point));
        }
    }
    Ok(given)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The rows of an answer, if they can be results of the job.
fn rows_of(bytes: &[u8], job: &Job, agent: &AgentId, start_ns: i64) -> Result<Vec<StatementRow>, String> {
    let answer: SqlAnswer =
        serde_json::from_slice(bytes).map_err(|error| format!("the answer cannot be read: {error}"))?;
    let own = DeviceId::parse(agent.as_str()).map_err(|error| error.to_string())?;
    let mut rows = Vec::with_capacity(answer.rows.len());
    let mut named = HashSet::new();
    for (number, values) in (1..).zip(answer.rows) {
        let row = row_of(&answer.columns, values, &own).map_err(|error| format!("row {number}: {error}"))?;
        let derived = job.derive_row(start_ns, &row).map_err(|error| format!("row {number}: {error}"))?;
        for one in derived {
            let name = format!("{}/{}", one.device, one.point);
            if is_job(one.device.as_str()) && one.device != own {
                return Err(format!("row {number}: {name} is a series of another job"));
            }
            if !named.insert((one.device, one.point)) {
                return Err(format!("row {number}: another row is of the series {name} too; allowed is one"));
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

fn row_of(
    columns: &[SqlColumn],
    values: Vec<serde_json::Value>,
    own: &DeviceId,
) -> Result<StatementRow, String> {
    use serde_json::Value;
    let mut row = StatementRow { device: own.clone(), point: None, numbers: Vec::new(), texts: Vec::new() };
    for (column, value) in columns.iter().zip(values) {
        let name = &column.name;
        let is_number = matches!(column.kind.as_str(), "boolean" | "integer" | "double");
        match (name.as_str(), value) {
            ("device", Value::String(text)) => {
                row.device = DeviceId::parse(&text).map_err(|error| format!("device: {error}"))?;
            }
            ("point", Value::String(text)) => {
                row.point = Some(PointId::parse(&text).map_err(|error| format!("point: {error}"))?);
            }
            ("device" | "point", found) => return Err(format!("{name} is {found}; allowed are texts")),
            // Without a value there is nothing to give.
            (_, Value::Null) => {}
            (_, Value::Bool(truth)) => row.numbers.push((name.clone(), f64::from(u8::from(truth)))),
            (_, Value::Number(number)) if is_number => {
                row.numbers.extend(number.as_f64().map(|number| (name.clone(), number)));
            }
            (_, Value::String(text)) if is_number => {
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                row.numbers.extend(number.map(|number| (name.clone(), number)));
            }
            (_, Value::Number(ms)) if column.kind == "timestamp" => {
                row.texts.push((name.clone(), ms.as_i64().map_or_else(|| ms.to_string(), when::show_ms)));
            }
            (_, Value::String(text)) => row.texts.push((name.clone(), text)),
            (_, other) => row.texts.push((name.clone(), other.to_string())),
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(sink: &str) -> Job {
        let spec = json!({
            "name": "j",
            "source": {"devices": ["*"], "points": ["t"]},
            "window": {"kind": "tumbling", "length_ms": 60_000},
            "sql": "SELECT device, point, avg(value) AS value FROM readings GROUP BY device, point",
            "sinks": [{"kind": "series", "point": sink}],
        });
        super::super::check(serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn rows(
        sink: &str,
        columns: serde_json::Value,
        rows: serde_json::Value,
    ) -> Result<Vec<StatementRow>, String> {
        let bytes = json!({"columns": columns, "rows": rows}).to_string();
        rows_of(bytes.as_bytes(), &job(sink), &AgentId::parse("_job.j").unwrap(), 0)
    }

    fn column(name: &str, kind: &str) -> serde_json::Value {
        json!({"name": name, "type": kind})
    }

    #[test]
    fn columns_are_names_numbers_and_texts() {
        let columns = json!([
            column("device", "string"),
            column("point", "string"),
            column("n", "integer"),
            column("wide", "integer"),
            column("mean", "double"),
            column("on", "boolean"),
            column("last", "timestamp"),
            column("note", "string"),
        ]);
        let values = json!([
            ["pump", "t", 3, "9007199254740993", 0.5, true, 1_760_000_000_000_i64, "x"],
            ["fan", "t", null, null, "NaN", false, null, null],
        ]);
        let found = rows("{point}-{aggregate}", columns, values).unwrap();
        let numbers = [("n", 3.0), ("wide", 9_007_199_254_740_992.0), ("mean", 0.5), ("on", 1.0)];
        assert_eq!(found[0].numbers, numbers.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!((found[0].device.as_str(), found[0].point.as_ref().unwrap().as_str()), ("pump", "t"));
        assert_eq!(found[0].texts[1], ("note".to_owned(), "x".to_owned()));
        assert!(found[0].texts[0].1.starts_with("2025-10-09"), "{:?}", found[0].texts);
        assert_eq!((found[1].numbers.len(), found[1].texts.len()), (1, 0));
    }

    #[test]
    fn an_answer_that_can_be_no_result_is_told_with_its_row() {
        let device = || json!([column("device", "string"), column("value", "double")]);
        let told = |sink, columns, values| rows(sink, columns, values).unwrap_err();
        assert_eq!(
            told("all", device(), json!([["pump", 1.0], ["pump", 2.0]])),
            "row 2: another row is of the series pump/all too; allowed is one"
        );
        assert_eq!(told("all", device(), json!([[null, 1.0]])), "row 1: device is null; allowed are texts");
        assert!(told("all", device(), json!([["a b", 1.0]])).starts_with("row 1: device: "));
        assert!(told("{point}-mean", device(), json!([["pump", 1.0]])).contains("the answer no point"));
        assert!(told("all", device(), json!([["_job.k", 1.0]])).contains("a series of another job"));
        // Without a device it is the job's own.
        let found = rows("all", json!([column("value", "double")]), json!([[1.0]])).unwrap();
        assert_eq!(found[0].device.as_str(), "_job.j");
    }

    #[test]
    fn a_statement_that_may_not_run_and_rollups_that_do_not_fit_are_told() {
        let with = |sql: &str, window: serde_json::Value| {
            let spec = json!({"name": "j", "source": {"devices": ["*"], "points": ["t"]}, "window": window, "sql": sql,
                "sinks": [{"kind": "rows"}]});
            super::super::check(serde_json::from_value(spec).unwrap())
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let minute = || json!({"kind": "tumbling", "length_ms": 60_000});
        assert_eq!(with("SELECT sum(count) FROM rollups_1m", minute()), Ok(()));
        let told = with("DROP TABLE readings", minute()).unwrap_err();
        assert!(told.starts_with("/sql is refused: only SELECT is allowed"), "{told}");
        let told = with("SELECT sum(count) FROM rollups_1h", minute()).unwrap_err();
        assert_eq!(
            told,
            "/window/length_ms is 60000; allowed are multiples of 3600000, the width of rollups_1h"
        );
        let hops = json!({"kind": "hopping", "length_ms": 120_000, "hop_ms": 30_000});
        assert!(
            with("SELECT sum(count) FROM rollups_1m", hops)
                .unwrap_err()
                .starts_with("/window/hop_ms is 30000")
        );
    }
}
