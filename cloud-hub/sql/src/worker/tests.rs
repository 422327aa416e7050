//! Statements over small tables, in this process.

use proptest::prelude::*;

use super::*;
use crate::answer::Format;
use crate::check::check;
use crate::feed::Numbers;

const T0: i64 = 1_763_719_200_000_000_000;
const MINUTE: i64 = 60_000_000_000;

type Row = (&'static str, &'static str, i64, f64);

fn rows() -> Vec<Row> {
    let series = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")];
    let each = |(at, (device, point)): (usize, (&'static str, &'static str))| {
        (0..20_i64)
            .map(move |i| (device, point, T0 + i * MINUTE + (i % 3) * 7, (at as f64) * 100.0 + i as f64))
    };
    series.into_iter().enumerate().flat_map(each).collect()
}

fn job(sql: &str, texts: &[&str]) -> Job {
    Job {
        sql: sql.to_owned(),
        format: Format::Json,
        rows_max: 1_000,
        tables: [(Table::Readings, 80), (Table::Hour, 10), (Table::Devices, 2)].into(),
        texts: texts.iter().map(|t| (*t).to_owned()).collect(),
        devices: ["a", "b"]
            .map(|id| Device { id: id.to_owned(), state: "online".to_owned(), ..Device::default() })
            .into(),
    }
}

fn block(table: Table, texts: [&str; 3], numbers: &[Numbers<'_>]) -> Block {
    let frame = feed::block(table, texts, numbers).unwrap();
    let Frame::Block(block) = feed::read(&mut frame.as_slice()).unwrap() else { panic!("no block") };
    block
}

/// Runs it over those of the readings that `keep` says.
fn run_on(sql: &str, texts: &[&str], keep: impl Fn(&Row) -> bool) -> PolarsResult<DataFrame> {
    let job = job(sql, texts);
    let mut tables = Tables::default();
    tables.expect(&job).unwrap();
    for row in rows().iter().filter(|row| keep(row)) {
        tables
            .add(&block(
                Table::Readings,
                [row.0, row.1, "Cel"],
                &[Numbers::I64(&[row.2]), Numbers::F64(&[row.3])],
            ))
            .unwrap();
    }
    let doubles = [1.0, 3.0, 8.0, 2.0, 3.0].map(|n| vec![n]);
    let mut numbers = vec![Numbers::I64(&[T0]), Numbers::I64(&[4])];
    numbers.extend(doubles.iter().map(|n| Numbers::F64(n)));
    tables.add(&block(Table::Hour, ["a", "x", "Cel"], &numbers)).unwrap();
    query(&job, tables)
}

#[test]
fn figures_are_columns_where_they_are_named() {
    let run = |sql: &str, texts: &[&str], figures: &[Numbers<'_>]| {
        let job = job(sql, texts);
        let mut tables = Tables::default();
        tables.expect(&job).unwrap();
        let doubles = [1.0, 3.0, 8.0, 2.0, 3.0].map(|n| vec![n; 2]);
        let mut numbers = vec![Numbers::I64(&[T0, T0 + 1]), Numbers::I64(&[4, 4])];
        numbers.extend(doubles.iter().map(|n| Numbers::F64(n)));
        numbers.extend(figures);
        tables.add(&block(Table::Hour, ["a", "x", "Cel"], &numbers)).map(|()| query(&job, tables).unwrap())
    };
    let named = [Numbers::F64(&[2.5, f64::NAN]), Numbers::I64(&[0, 1]), Numbers::F64(&[2.0, 2.25])];
    // In their own order, whichever comes first in the statement; what is not known is null.
    let frame =
        run("SELECT p95, twa, twa_near FROM rollups_1h", &["p95", "twa", "twa_near"], &named).unwrap();
    let told: serde_json::Value = serde_json::from_str(&shown(frame)).unwrap();
    assert_eq!(told["rows"], serde_json::json!([[2.0, 2.5, 0], [2.25, null, 1]]));
    let frame = run("SELECT * FROM rollups_1h", &[], &[]).unwrap();
    assert!(frame.get_column_names().iter().all(|name| name.as_str() != "p95"));
    assert!(run("SELECT * FROM rollups_1h", &[], &named).is_err(), "a block of other columns");
}

fn shown(frame: DataFrame) -> String {
    let mut out = Vec::new();
    answer::write(frame, Format::Json, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Checks and runs it as the hub does, with or without leaving out what it does not need.
fn ask(sql: &str, narrowed: bool) -> String {
    let statement = check(sql, T0 + 10 * MINUTE).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
    let all = ["device", "point", "unit", "text", "quality"];
    let texts: Vec<&str> = if narrowed { statement.texts.into_iter().collect() } else { all.into() };
    let needed = statement.uses.get(&Table::Readings).cloned().unwrap_or_default();
    let left = std::cell::Cell::new(needed.rows_max.unwrap_or(usize::MAX));
    let is_in = |names: &Option<std::collections::BTreeSet<String>>, name: &str| {
        names.as_ref().is_none_or(|n| n.contains(name))
    };
    let keep = |row: &Row| {
        let wanted = is_in(&needed.devices, row.0)
            && is_in(&needed.points, row.1)
            && row.2 >= needed.from_ns
            && row.2 < needed.to_ns
            && left.get() > 0;
        left.set(left.get().saturating_sub(usize::from(wanted)));
        !narrowed || wanted
    };
    run_on(&statement.text, &texts, keep).map_or_else(|error| format!("error: {error}"), shown)
}

fn values(sql: &str) -> serde_json::Value {
    let found = ask(sql, true);
    let read: serde_json::Value =
        serde_json::from_str(&found).unwrap_or_else(|e| panic!("{sql}: {found}: {e}"));
    read["rows"].clone()
}

#[test]
fn rows_of_unions_are_counted() {
    use serde_json::json;
    for (sql, want) in [
        (
            "SELECT count(*) FROM (SELECT * FROM readings UNION ALL SELECT * FROM readings) AS r",
            json!([[160]]),
        ),
        ("SELECT count(*) FROM (SELECT * FROM readings UNION SELECT * FROM readings) AS r", json!([[80]])),
        (
            "SELECT count(*) FROM (SELECT device FROM readings UNION SELECT id FROM devices) AS r",
            json!([[3]]),
        ),
        (
            "WITH r AS (SELECT value FROM readings UNION ALL SELECT max FROM rollups_1h) SELECT count(*) AS n, count(*) + 1 AS m FROM r",
            json!([[81, 82]]),
        ),
        (
            "SELECT count(*) FROM (SELECT time FROM readings UNION ALL SELECT time FROM rollups_1h) AS r WHERE time > '2025-11-21 10:18'",
            json!([[4]]),
        ),
        (
            "SELECT n FROM (SELECT count(*) AS n FROM (SELECT value FROM readings UNION ALL SELECT value FROM readings) AS r) AS s WHERE n > 100",
            json!([[160]]),
        ),
        (
            "SELECT device, count(*) FROM (SELECT device FROM readings UNION ALL SELECT id FROM devices) AS r GROUP BY device ORDER BY device",
            json!([["a", 41], ["b", 21], ["c", 20]]),
        ),
        (
            "SELECT count(*) FROM readings UNION ALL SELECT count(*) FROM (SELECT id FROM devices UNION ALL SELECT id FROM devices) AS r",
            json!([[80], [4]]),
        ),
    ] {
        assert_eq!(values(sql), want, "{sql}");
    }
}

#[test]
fn statements_are_answered() {
    use serde_json::json;
    for (sql, want) in [
        ("SELECT count(*) AS n FROM readings", json!([[80]])),
        (
            "SELECT device, max(value) FROM readings GROUP BY device ORDER BY device",
            json!([["a", 119.0], ["b", 219.0], ["c", 319.0]]),
        ),
        (
            "SELECT value FROM readings WHERE device = 'b' AND time < '2025-11-21 10:02' ORDER BY time",
            json!([[200.0], [201.0]]),
        ),
        (
            "SELECT count(*) FROM readings WHERE time >= now() - INTERVAL '3 minutes' AND time <= now() AND point = 'z'",
            json!([[3]]),
        ),
        ("SELECT count(*) FROM readings WHERE time >= TIMESTAMP '2025-11-21 10:18:00'", json!([[8]])),
        ("SELECT count(*) FROM readings WHERE time > CURRENT_TIMESTAMP", json!([[40]])),
        (
            "SELECT time_bucket('10m', time) AS t, sum(value) AS s FROM readings WHERE device = 'b' GROUP BY t ORDER BY t",
            json!([[1_763_719_200_000_i64, 2045.0], [1_763_719_800_000_i64, 2145.0]]),
        ),
        (
            "SELECT time_bucket('1d', time, 'Asia/Kolkata') AS t, count(*) FROM readings WHERE device = 'b' GROUP BY t",
            json!([[1_763_663_400_000_i64, 20]]),
        ),
        ("SELECT strftime(time, '%H:%M') AS t FROM readings WHERE point = 'y' LIMIT 1", json!([["10:00"]])),
        (
            "SELECT date_part('minute', time) AS m FROM readings WHERE point = 'y' ORDER BY m DESC LIMIT 1",
            json!([[19]]),
        ),
        ("SELECT count, mean, first, last FROM rollups_1h", json!([[4, 2.0, 2.0, 3.0]])),
        (
            "SELECT DISTINCT d.state FROM readings r JOIN devices d ON r.device = d.id WHERE r.value > 200",
            json!([["online"]]),
        ),
        (
            "SELECT time FROM readings WHERE value = 1",
            json!([[serde_json::from_str::<serde_json::Value>("1763719260000.000007").unwrap()]]),
        ),
        (
            "SELECT 1 / 0.0 AS a, -1 / 0.0 AS b, 0.0 / 0.0 AS c, 9007199254740993 AS d, NULL AS e",
            json!([["Infinity", "-Infinity", "NaN", "9007199254740993", null]]),
        ),
    ] {
        assert_eq!(values(sql), want, "{sql}");
    }
    let error = ask("SELECT none FROM readings", true);
    assert!(error.contains("none"), "{error}");
    for sql in [
        "SELECT time_bucket('x', time) FROM readings",
        "SELECT time_bucket('0s', time) FROM readings",
        "SELECT time_bucket('1m', value) FROM readings",
        "SELECT time_bucket('1d', time, 'UTC', 1) FROM readings",
    ] {
        assert!(ask(sql, true).contains("time_bucket takes"), "{sql}: {}", ask(sql, true));
    }
    for (width, zone) in [("1h", "Europe/Berlin"), ("1d", "Europe/Bonn")] {
        let sql = format!("SELECT time_bucket('{width}', time, '{zone}') FROM readings");
        assert!(ask(&sql, true).contains("allowed are"), "{sql}: {}", ask(&sql, true));
    }
}

/// A condition with `$T`, `$D`, `$P` and `$V` in the place of columns.
fn condition() -> impl Strategy<Value = String> {
    let minute = (0..25_i64).prop_map(|m| {
        let time = jiff::Timestamp::from_nanosecond(i128::from(T0 + m * MINUTE)).unwrap();
        (m, time.to_string().trim_end_matches('Z').replace('T', " "))
    });
    let literal = (minute, 0..5).prop_map(|((m, time), form)| match form {
        0 => format!("'{time}'"),
        1 => format!("TIMESTAMP '{time}'"),
        2 => format!("CAST('{}' AS TIMESTAMP)", time.replace(' ', "T")),
        3 => "now()".to_owned(),
        _ => format!("now() - INTERVAL '{m} minutes'"),
    });
    let op = prop::sample::select(vec![">=", ">", "<", "<=", "="]);
    let time = (literal.clone(), op, any::<bool>()).prop_map(|(literal, op, turned)| {
        // Polars reads a bare text as a time only on the right.
        if turned && !literal.starts_with('\'') {
            format!("{literal} {op} $T")
        } else {
            format!("$T {op} {literal}")
        }
    });
    let between = (literal.clone(), literal).prop_map(|(a, b)| format!("$T BETWEEN {a} AND {b}"));
    let fixed = prop::sample::select(vec![
        "$D = 'a'",
        "$D IN ('a', 'c')",
        "$P = 'x'",
        "$P IN ('x', 'y')",
        "$D <> 'b'",
        "$V > 105",
        "NOT $D = 'a'",
        "$D NOT IN ('a')",
        "$P LIKE '%x'",
        "'c' = $D",
    ]);
    let leaf = prop_oneof![time, between, fixed.prop_map(str::to_owned)];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let op = prop::sample::select(vec!["AND", "AND", "OR"]);
        (inner.clone(), inner, op).prop_map(|(a, b, op)| format!("({a} {op} {b})"))
    })
}

fn of(condition: &str, table: &str) -> String {
    let columns = [("$T", "time"), ("$D", "device"), ("$P", "point"), ("$V", "value")];
    columns
        .into_iter()
        .fold(condition.to_owned(), |c, (mark, name)| c.replace(mark, &format!("{table}{name}")))
}

fn statement() -> impl Strategy<Value = String> {
    (condition(), condition(), 0..9).prop_map(|(a, b, form)| {
        let (own, other) = (of(&a, ""), of(&b, ""));
        match form {
            0 => format!("SELECT * FROM readings WHERE {own}"),
            1 => format!(
                "SELECT device, count(*) AS n, max(value) AS m FROM readings WHERE {own} AND {other} GROUP BY device ORDER BY device"
            ),
            2 => format!(
                "SELECT value FROM readings WHERE {own} UNION ALL SELECT -value FROM readings WHERE {other}"
            ),
            3 => format!(
                "WITH x AS (SELECT device, value FROM readings WHERE {own}) SELECT x.device, count(*) AS n FROM x JOIN devices d ON x.device = d.id GROUP BY x.device ORDER BY x.device"
            ),
            4 => format!(
                "SELECT p.device, p.value, q.value AS w FROM readings p JOIN readings q ON p.device = q.device WHERE {} AND {} AND p.value < q.value ORDER BY p.device, p.value, w LIMIT 50",
                of(&a, "p."),
                of(&b, "q.")
            ),
            5 => format!(
                "SELECT id, value FROM devices d LEFT JOIN readings r ON d.id = r.device WHERE {} ORDER BY id, value",
                of(&a, "r.")
            ),
            6 => format!(
                "SELECT id FROM devices WHERE id IN (SELECT device FROM readings WHERE {own}) ORDER BY id"
            ),
            7 => {
                format!("SELECT time AS t, value FROM readings WHERE {own} ORDER BY value DESC LIMIT 7")
            }
            _ => format!("SELECT device, value FROM readings LIMIT {} OFFSET {}", a.len() % 30, b.len() % 9),
        }
    })
}

proptest! {
    #[test]
    fn what_is_not_read_changes_no_answer(sql in statement()) {
        let (narrowed, whole) = (ask(&sql, true), ask(&sql, false));
        if whole.starts_with("error") {
            // Behind a join, Polars compares no bare text with the time of the second table.
            prop_assert!(whole.contains("to a string value") && sql.contains(" q "), "{}: {}", sql, whole);
            prop_assert!(narrowed.starts_with("error"), "{}: {}", sql, narrowed);
        } else {
            prop_assert_eq!(narrowed, whole, "{}", sql);
        }
    }
}

#[test]
fn times_are_compared_as_they_are_meant_however_they_are_written() {
    let count = |condition: &str| {
        let sql = format!("SELECT count(*) AS n FROM readings WHERE {condition}");
        let told: serde_json::Value = serde_json::from_str(&ask(&sql, true)).unwrap();
        assert_eq!(ask(&sql, false), ask(&sql, true), "{condition}");
        told["rows"][0][0].as_u64().unwrap()
    };
    for (condition, want) in [
        ("time < '9999-12-31'", 80),
        ("time <= '9999-12-31 23:59:59'", 80),
        ("time > '2300-01-01'", 0),
        ("'2300-01-01' > time", 80),
        ("time >= '2025-01-01' AND time < '2262-12-31'", 80),
        ("time BETWEEN '1000-01-01' AND '2999-12-31'", 80),
        ("time NOT BETWEEN '1000-01-01' AND '2999-12-31'", 0),
        ("readings.time < '0001-01-01'", 0),
        ("time < '2025-11-21T10:10:00Z'", 40),
        ("time < '2025-11-21 12:10:00+02:00'", 40),
        ("time IN ('2025-11-21T10:00:00Z', '9999-12-31')", 4),
        // A text is one, whatever it looks like.
        ("device < '9999-12-31'", 0),
        ("device <> '2025-11-21T10:10:00Z'", 80),
    ] {
        assert_eq!(count(condition), want, "{condition}");
    }
}

#[test]
fn errors_say_what_is_allowed_and_not_what_stands_in_the_engine() {
    for (sql, words) in [
        ("SELECT min(value), max(value) FROM readings", vec!["\"value\"", "max(value) AS hottest"]),
        ("SELECT value FROM readings WHERE time > 'garbage'", vec!["'2026-11-21 10:00'", "RFC 3339"]),
        ("SELECT value FROM readings WHERE time > '2026-03'", vec!["'2026-11-21 10:00'"]),
        ("SELECT [device] FROM readings", vec!["not supported"]),
        ("SELECT nope FROM readings", vec!["nope"]),
    ] {
        let error = match run_on(sql, &["device", "point"], |_| true) {
            Ok(frame) => panic!("{sql}: {frame}"),
            Err(error) => of_statement(&error.to_string()),
        };
        assert!(words.iter().all(|word| error.contains(word)), "{sql}: {error}");
        for inner in ["alias(", "strptime", "TokenWithSpan", "Ident", "github"] {
            assert!(!error.contains(inner), "{sql}: {error}");
        }
    }
}
