//! What is told of a statement that cannot be run.

use crate::feed::Head;

/// How much is told of an error.
const REASON_CHARS_MAX: usize = 1_000;

/// What Polars says of an error, without the plan that it was found in.
pub fn without_plan(text: &str) -> String {
    let cut = text.split("\n\nResolved plan").next().unwrap_or(text);
    cut.chars().take(REASON_CHARS_MAX).collect()
}

/// What Polars says of a statement, in the words of who wrote it.
pub fn of_statement(text: &str) -> String {
    let cut = without_plan(text);
    in_sql(&cut).unwrap_or(cut)
}

/// What is said in the words of the engine, in those of SQL; none where they will do.
fn in_sql(text: &str) -> Option<String> {
    if text.contains("duplicate output name") {
        let name = text.split('\'').nth(1).unwrap_or("value");
        return Some(format!(
            "two columns of the answer would be called {name:?}; give them names, as max(value) AS hottest"
        ));
    }
    if text.contains("polars-big-idx") {
        return Some("a join would make more than 2^32 rows; join ON what fits together".to_owned());
    }
    if text.contains("date/datetime/time' to a string value") || text.contains("strptime") {
        return Some(
            "a time is compared with, or cast from, a text that is none; allowed are '2026-11-21' and '2026-11-21 10:00' with seconds or without, in UTC, and RFC 3339 as '2026-11-21T10:00:00Z' where it is compared"
                .to_owned(),
        );
    }
    // The tree of the parser says nothing to who wrote the statement.
    let tree =
        ["TokenWithSpan", "Ident {", "Query {", "ValueWithSpan"].iter().filter_map(|of| text.find(of)).min();
    if let Some(at) = tree {
        let before = text.get(..at).unwrap_or_default();
        // The last word is the tree's first.
        let before = before.split(['(', '{']).next().unwrap_or_default().trim();
        let before = before.rsplit_once(' ').map_or("this", |(before, _)| before);
        return Some(format!("{before} … is not supported here"));
    }
    let (before, _) = text.split_once(", please open an issue")?;
    Some(before.to_owned())
}

/// Polars panics where it finds no memory, and on some plans.
pub fn of_panic(panic: &(dyn std::any::Any + Send)) -> Head {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
    if text.contains("capacity overflow") || text.contains("memory") || text.contains("OutOfMemory") {
        Head::NoMemory
    } else {
        Head::Failed(format!("the columnar engine cannot do this ({text})"))
    }
}
