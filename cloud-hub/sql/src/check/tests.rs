//! Statements that may run, and those that may not.

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_763_719_200_000_000_000;

fn uses(sql: &str) -> BTreeMap<Table, Use> {
    check(sql, NOW).unwrap_or_else(|refusal| panic!("{sql}: {refusal}")).uses
}

fn refused(sql: &str) -> Refusal {
    check(sql, NOW).map(|found| panic!("{sql} may run: {found:?}")).unwrap_err()
}

#[test]
fn what_asks_for_the_tables_may_run() {
    for sql in [
        "SELECT * FROM readings",
        "select device, avg(value) from readings group by device having avg(value) > 3 order by 2 desc limit 5",
        "SELECT r.device, d.state FROM readings r JOIN devices AS d ON r.device = d.id",
        "SELECT r.value FROM readings AS r, devices d WHERE r.device = d.id",
        "WITH hot AS (SELECT device FROM rollups_1h WHERE max > 90) SELECT count(*) FROM hot",
        "SELECT value FROM readings UNION ALL SELECT mean FROM rollups_1d",
        "SELECT * FROM readings UNION ALL SELECT * FROM cold",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT * FROM (SELECT device, value FROM readings) AS r WHERE value IS NOT NULL",
        "SELECT device FROM readings WHERE device IN (SELECT id FROM devices WHERE state = 'online')",
        "SELECT value, lag(value) OVER (PARTITION BY device ORDER BY time) FROM readings",
        "SELECT /* read_csv('x') */ value -- INTO x\n FROM readings",
        "SELECT 'read_csv(''/etc/passwd'')' AS text FROM readings",
        "SELECT CASE WHEN value > 1 THEN 'high' ELSE 'low' END FROM readings",
        "SELECT time_bucket('10m', time) AS t, max(value) FROM readings GROUP BY t",
        "SELECT device, value, FROM readings;",
    ] {
        check(sql, NOW).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
    }
}

#[test]
fn all_else_may_not_and_is_told_what_may() {
    for (sql, part) in [
        ("", "no statement"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("DROP TABLE readings", "only SELECT"),
        ("DELETE FROM readings", "only SELECT"),
        ("TRUNCATE TABLE readings", "only SELECT"),
        ("CREATE TABLE x AS SELECT * FROM readings", "only SELECT"),
        ("EXPLAIN SELECT * FROM readings", "only SELECT"),
        ("SHOW TABLES", "only SELECT"),
        ("INSERT INTO readings VALUES (1)", "only SELECT"),
        ("COPY readings TO '/tmp/x'", "only SELECT"),
        ("SELECT * INTO x FROM readings", "INTO"),
        ("TABLE readings", ""),
        ("VALUES (1)", "only SELECT"),
        ("WITH x AS (INSERT INTO readings VALUES (1) RETURNING *) SELECT * FROM x", "only SELECT"),
        ("WITH x AS (DELETE FROM readings RETURNING *) SELECT * FROM x", "only SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "table function"),
        ("SELECT * FROM READ_PARQUET('https://x/y')", "table function"),
        ("SELECT * FROM \"read_csv\"('/etc/passwd')", "table function"),
        ("SELECT * FROM readings, read_ipc('x')", "table function"),
        ("SELECT * FROM readings JOIN scan_parquet('x') AS r ON true", "table function"),
        ("SELECT * FROM readings WHERE device IN (SELECT * FROM read_csv('x'))", "table function"),
        ("SELECT (SELECT max(a) FROM read_csv('x')) FROM readings", "table function"),
        ("SELECT 1 FROM readings WHERE device IN (SELECT 1 FROM read_csv('x'))", "table function"),
        ("SELECT 1 FROM readings WHERE EXISTS (SELECT 1 FROM devices)", "IN (SELECT"),
        ("WITH readings2 AS (SELECT * FROM read_csv('x')) SELECT * FROM readings2", "table function"),
        ("SELECT 1 UNION SELECT * FROM read_csv('x')", "table function"),
        ("SELECT 1 FROM readings ORDER BY (SELECT 1 FROM read_csv('x'))", "table function"),
        ("SELECT 1 FROM readings LIMIT (SELECT 1 FROM read_csv('x'))", "table function"),
        ("SELECT * FROM TABLE(read_csv('x'))", "FROM"),
        ("SELECT * FROM LATERAL FLATTEN(x)", "FROM"),
        ("SELECT * FROM UNNEST([1, 2]) AS t", "FROM"),
        ("SELECT * FROM '/etc/passwd'", "there are readings"),
        ("SELECT * FROM \"x.parquet\"", "there are readings"),
        ("SELECT * FROM `x`", "there are readings"),
        ("SELECT * FROM users", "readings, rollups_1m, rollups_1h, rollups_1d, devices, cold"),
        ("SELECT * FROM main.readings", "there are readings"),
        ("SELECT * FROM Readings", "there are readings"),
        ("SELECT * FROM readings TABLESAMPLE (10)", "behind the name"),
        ("SELECT * FROM readings WITH (NOLOCK)", "behind the name"),
        ("SELECT * FROM readings FOR UPDATE", "FOR UPDATE"),
        ("SELECT * FROM readings LATERAL VIEW explode(x) t AS y", "LATERAL"),
        ("WITH readings AS (SELECT 1) SELECT * FROM readings", "name of a table"),
        ("SELECT * FROM (SELECT 1 AS time) AS readings", "name of a table"),
        ("SELECT * FROM devices AS readings", "name of a table"),
        ("WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT * FROM x) SELECT * FROM x", "RECURSIVE"),
        ("SELECT read_csv('x') FROM readings", "no function"),
        ("SELECT pg_sleep(10)", "no function"),
        ("SELECT COLUMNS('.*') FROM readings", "no function"),
        ("SELECT main.abs(1)", "no function"),
        ("SELECT {fn abs(1)}", ""),
        ("SELECT value FROM readings WHERE device SIMILAR TO 'x'", ""),
        ("FROM readings |> WHERE value > 1", ""),
        ("SELECT * FROM readings SETTINGS max_threads = 1", ""),
        ("SELECT * FROM readings PIVOT (sum(value) FOR device IN ('a'))", ""),
        ("SELECT", ""),
        ("SELECT 'open", ""),
        ("SELECT /* open", ""),
    ] {
        let refusal = refused(sql);
        assert!(refusal.detail.contains(part), "{sql}: {refusal}");
    }
}

#[test]
fn long_and_deep_statements_are_refused_in_no_time() {
    let many = |part: &str, n: usize| part.repeat(n);
    for sql in [
        many(" ", TEXT_BYTES_MAX + 1),
        format!("SELECT {}1", many("1+", TOKENS_MAX)),
        format!("SELECT {}1", many("1+", TOKENS_MAX / 2 - 10)),
        format!("SELECT {} true", many("NOT ", TOKENS_MAX - 10)),
        format!("SELECT {}1", many("- ", TOKENS_MAX - 10)),
        format!("SELECT {}1{}", many("(", 4_000), many(")", 4_000)),
        format!("SELECT {}1{} FROM readings", many("(", 40), many(")", 40)),
        format!("SELECT * FROM {}readings{}", many("(", 40), many(")", 40)),
        format!("SELECT {}1{}", many("[", 40), many("]", 40)),
        format!("SELECT 1{}{}", many(", (SELECT 1 AS end", 40), many(")", 40)),
        format!("SELECT 1{}{}", many(", (SELECT 1 end", 40), many(")", 40)),
        format!("SELECT 1{}{}", many(", (SELECT CASE WHEN a THEN 1 end end", 40), many(")", 40)),
        format!("SELECT 1{}", many("::INT", 1_200)),
        format!("SELECT a{} FROM readings", many(".b", 1_900)),
        format!("{}SELECT 1", many("/*", 4_000)),
        format!("SELECT 1 FROM readings WHERE {}value IN (1)", many("value = 1 OR ", 400)),
    ] {
        let shown: String = sql.chars().take(40).collect();
        let found = check(&sql, NOW);
        assert!(found.is_err(), "{shown}: {found:?}");
    }
    // As deep as it may be, it is still taken apart at once.
    for (open, close) in
        [("(", ")"), ("(SELECT * FROM ", ")"), ("abs(", ")"), ("[", "]"), ("EXISTS (SELECT ", ")")]
    {
        let sql =
            format!("SELECT * FROM readings WHERE {}1{}", many(open, NESTING_MAX), many(close, NESTING_MAX));
        let _either = check(&sql, NOW);
        let sql = format!("SELECT * FROM {}readings{}", many(open, NESTING_MAX), many(close, NESTING_MAX));
        let _either = check(&sql, NOW);
    }
    for word in [
        "CASE WHEN true THEN ",
        "INTERVAL ",
        "CAST(",
        "EXTRACT(",
        "SUBSTRING(",
        "NOT (",
        "POSITION(",
        "TRIM(",
    ] {
        assert!(check(&format!("SELECT {}1", many(word, 400)), NOW).is_err(), "{word}");
        let _either = check(&format!("SELECT {}1", many(word, NESTING_MAX)), NOW);
    }
    // What looks like an end and is none.
    for word in
        ["CASE WHEN END THEN ", "CASE END WHEN true THEN ", "CASE WHEN x END THEN ", "CASE WHEN (END) THEN "]
    {
        let _either = check(&format!("SELECT {}1 {}", many(word, 200), many("END ", 200)), NOW);
    }
    let pivot = vec!["sum(CASE WHEN value > 1 THEN 1 ELSE 0 END)"; 50].join(", ");
    assert!(check(&format!("SELECT {pivot} FROM readings"), NOW).is_ok());
    // A chain of set operations is no deeper than its text.
    let sql = format!("SELECT 1{}", many(" UNION ALL SELECT 1", 800));
    assert!(check(&sql, NOW).is_ok());
}

#[test]
fn a_small_question_reads_little() {
    let day = 86_400_000_000_000;
    let whole = Use::default();
    let narrowed = |sql: &str| uses(sql).remove(&Table::Readings).unwrap();
    let times = |sql: &str| {
        let found = narrowed(sql);
        (found.from_ns, found.to_ns)
    };
    let ns = |text: &str| i64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap();
    let (from, to) = (ns("2025-11-20T00:00:00Z") - MARGIN, ns("2025-11-21T10:00:00Z") + MARGIN);
    const MARGIN: i64 = 1_000_000_000;
    for sql in [
        "SELECT * FROM readings WHERE time >= '2025-11-20' AND time < '2025-11-21 10:00'",
        "SELECT * FROM readings r WHERE (r.time > '2025-11-20T00:00:00' AND ('2025-11-21 10:00:00' >= r.time)) AND value > 3",
        "SELECT * FROM readings WHERE time BETWEEN TIMESTAMP '2025-11-20 00:00:00' AND CAST('2025-11-21 10:00' AS TIMESTAMP)",
        "SELECT * FROM readings WHERE time >= DATE '2025-11-20' AND time <= now()",
        "WITH x AS (SELECT * FROM readings WHERE time >= '2025-11-20' AND time <= CURRENT_TIMESTAMP) SELECT * FROM x",
        "SELECT * FROM devices d JOIN readings r ON d.id = r.device WHERE r.time >= '2025-11-20' AND r.time < NOW ( )",
        "SELECT * FROM readings WHERE time >= now() - INTERVAL '34 hours' AND time <= '2025-11-21'::timestamp + INTERVAL '600 minutes'",
    ] {
        assert_eq!(times(sql), (from, to), "{sql}");
    }
    let found =
        narrowed("SELECT value FROM readings WHERE device = 'a' AND point IN ('x', 'y') AND 'y' = point");
    assert_eq!(found.devices, Some(["a".to_owned()].into()));
    assert_eq!(found.points, Some(["y".to_owned()].into()));
    // What either needs.
    let both = "SELECT value FROM readings WHERE device = 'a' AND time > '2025-11-20' UNION SELECT value FROM readings WHERE device = 'b'";
    let found = narrowed(both);
    assert_eq!((found.devices, found.from_ns), (Some(["a".to_owned(), "b".to_owned()].into()), i64::MIN));
    for sql in [
        "SELECT * FROM readings WHERE time >= '2025-11-20' OR value > 3",
        "SELECT * FROM readings WHERE NOT (time >= '2025-11-20')",
        "SELECT * FROM readings WHERE time NOT BETWEEN '2025-11-20' AND '2025-11-21'",
        "SELECT * FROM readings WHERE device NOT IN ('a')",
        "SELECT * FROM readings WHERE device = point AND device LIKE 'a%' AND time > 'yesterday'",
        "SELECT * FROM readings WHERE time + INTERVAL '1 day' > '2025-11-20'",
        "SELECT * FROM readings AS r(time, point, unit, device, value) WHERE device = 'a'",
        "SELECT * FROM devices d JOIN readings r ON d.id = r.device WHERE time > '2025-11-20'",
        "SELECT * FROM devices d LEFT JOIN readings r ON d.id = r.device WHERE r.time > '2025-11-20'",
        "SELECT * FROM devices d ANTI JOIN readings r ON d.id = r.device",
        "SELECT * FROM devices d JOIN readings r ON d.id = r.device AND r.time > '2025-11-20'",
        "SELECT value FROM readings WHERE device = 'a' UNION SELECT value FROM readings",
        "SELECT * FROM readings HAVING device = 'a'",
    ] {
        assert_eq!(narrowed(sql), whole, "{sql}");
    }
    assert!(times("SELECT * FROM readings WHERE time > now() - INTERVAL '1 day'").0 == NOW - day - MARGIN);
}

#[test]
fn the_first_rows_are_all_that_is_read_of_them() {
    let rows = |sql: &str| uses(sql).remove(&Table::Readings).unwrap().rows_max;
    assert_eq!(rows("SELECT * FROM readings LIMIT 10"), Some(10));
    assert_eq!(rows("SELECT device AS d, value FROM readings AS r LIMIT 10 OFFSET 5"), Some(15));
    for sql in [
        "SELECT * FROM readings",
        "SELECT * FROM readings WHERE value > 3 LIMIT 10",
        "SELECT * FROM readings ORDER BY value LIMIT 10",
        "SELECT DISTINCT device FROM readings LIMIT 10",
        "SELECT count(*) FROM readings LIMIT 10",
        "SELECT max(value) FROM readings LIMIT 10",
        "SELECT device FROM readings GROUP BY device LIMIT 10",
        "SELECT row_number() OVER (ORDER BY time) FROM readings LIMIT 10",
        "SELECT * FROM (SELECT count(*) FROM readings) AS x LIMIT 10",
        "SELECT * FROM readings a CROSS JOIN devices b LIMIT 10",
        "WITH x AS (SELECT sum(value) AS s FROM readings) SELECT * FROM x LIMIT 10",
        "SELECT value FROM readings UNION ALL SELECT value FROM readings LIMIT 10",
    ] {
        assert_eq!(rows(sql), None, "{sql}");
    }
}

#[test]
fn columns_of_texts_that_are_not_named_are_left_out() {
    let texts = |sql: &str| check(sql, NOW).unwrap().texts.into_iter().collect::<Vec<_>>();
    assert_eq!(texts("SELECT avg(value) FROM readings"), Vec::<&str>::new());
    assert_eq!(texts("SELECT count(*) FROM readings WHERE \"device\" = 'a'"), ["device"]);
    assert_eq!(texts("SELECT r.point, device FROM readings r"), ["device", "point"]);
    for sql in [
        "SELECT * FROM readings",
        "SELECT r.* FROM readings r",
        "SELECT a FROM readings AS r (a, b, c, d, e)",
    ] {
        assert_eq!(texts(sql), ["device", "point", "quality", "text", "unit"], "{sql}");
    }
}

#[test]
fn the_time_is_put_in_its_place_and_nowhere_else() {
    let text = |sql: &str| check(sql, NOW).unwrap().text;
    let now = "CAST(1763719200000000000 AS TIMESTAMP(9))";
    assert_eq!(
        text("SELECT\n  now(), 'now()', \"é\"\n, NOW ( ) -- now()"),
        format!("SELECT\n  {now}, 'now()', \"é\"\n, {now} -- now()")
    );
    assert_eq!(text("SELECT current_timestamp FROM readings"), format!("SELECT {now} FROM readings"));
    assert_eq!(text("SELECT now FROM readings"), "SELECT now FROM readings");
}

/// Pieces of statements, good and bad, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "SELECT",
        "*",
        "FROM",
        "readings",
        "rollups_1h",
        "devices",
        "WHERE",
        "time",
        "value",
        "device",
        ">=",
        "=",
        "AND",
        "OR",
        "NOT",
        "IN",
        "(",
        ")",
        "'2025-11-21'",
        "'a'",
        "1",
        ",",
        ";",
        "JOIN",
        "ON",
        "UNION",
        "ALL",
        "WITH",
        "AS",
        "x",
        "read_csv",
        "now()",
        "INTERVAL '1 hour'",
        "BETWEEN",
        "LIMIT",
        "GROUP BY",
        "ORDER BY",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "/*",
        "*/",
        "--",
        "\n",
        "\"",
        "'",
        "é",
        "::",
        "CAST",
        "INTO",
        "EXISTS",
        "[",
        "]",
        "{",
        "}",
        "|>",
        "$1",
        "\\",
        "\0",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #[test]
    fn whatever_comes_is_judged(text in prop_oneof![pieces(), ".{0,200}"]) {
        if let Ok(found) = check(&text, NOW) {
            // What may run is the same when it is looked at again, and names nothing that could be opened.
            prop_assert_eq!(&check(&found.text, NOW).unwrap().uses, &found.uses);
            let read = Parser::parse_sql(&GenericDialect, &found.text).unwrap();
            let mut relations = Vec::new();
            let _all = sqlparser::ast::visit_relations(&read, |name| {
                relations.push(name.to_string());
                ControlFlow::<()>::Continue(())
            });
            let ctes = found.text.contains("WITH");
            prop_assert!(relations.iter().all(|name| Table::of(name).is_some() || ctes), "{:?}", relations);
        }
    }
}
