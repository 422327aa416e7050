//! Answers in SQL for people: columns that fit the terminal.

use std::io::IsTerminal as _;

use serde_json::Value;

use cloud_hub::api::shapes::SqlAnswer;
use cloud_hub::signs::is_hidden;
use cloud_hub::when::show_ns;

/// The width of a terminal that does not say.
const WIDTH: usize = 80;
/// What a column is not made narrower than.
const NARROWEST: usize = 6;

/// How wide a table may be: as the terminal is; without one it is as wide as it needs to be.
pub fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Some(told.unwrap_or(WIDTH))
}

/// The rows under their names, numbers to the right; the last line says how many there are.
pub fn of(answer: &SqlAnswer, width: Option<usize>) -> String {
    let names: Vec<String> = answer.columns.iter().map(|column| column.name.clone()).collect();
    let cells = |row: &Vec<Value>| {
        let shown = row.iter().zip(&answer.columns).map(|(value, column)| cell(value, &column.kind));
        shown.collect::<Vec<String>>()
    };
    let rows: Vec<Vec<String>> = std::iter::once(names).chain(answer.rows.iter().map(cells)).collect();
    let mut widths: Vec<usize> = answer.columns.iter().map(|_| 0).collect();
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(widest, cell)| *widest = (*widest).max(cell.chars().count()));
    }
    fit(&mut widths, width);
    let right: Vec<bool> =
        answer.columns.iter().map(|c| matches!(c.kind.as_str(), "integer" | "double" | "duration")).collect();
    let mut out = String::new();
    for row in &rows {
        let cells =
            row.iter().zip(&widths).zip(&right).map(|((cell, width), right)| padded(cell, *width, *right));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    let count = answer.rows.len();
    out + &format!("({count} {})", if count == 1 { "row" } else { "rows" })
}

/// Takes from the widest columns until all fit.
fn fit(widths: &mut [usize], most: Option<usize>) {
    let Some(most) = most else { return };
    let room = most.saturating_sub(widths.len().saturating_sub(1) * 2);
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

fn padded(text: &str, width: usize, right: bool) -> String {
    let shown = if text.chars().count() > width {
        text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    if right { format!("{shown:>width$}") } else { format!("{shown:<width$}") }
}

fn cell(value: &Value, kind: &str) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // Control characters would move the cursor, or worse.
        Value::String(text) => text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect(),
        Value::Number(ms) if kind == "timestamp" => time(&ms.to_string()),
        other => other.to_string(),
    }
}

/// RFC 3339 of milliseconds with what is finer behind the point.
fn time(ms: &str) -> String {
    let ns = ms.parse::<f64>().ok().filter(|ms| ms.abs() < 9.2e12);
    #[expect(clippy::cast_possible_truncation, reason = "it was compared with the largest time")]
    ns.map_or_else(|| ms.to_owned(), |ms| show_ns(((ms * 1_000.0).round() as i64).saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use cloud_hub::api::shapes::SqlColumn;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_fits_the_terminal_and_shows_no_controls() {
        let column = |name: &str, kind: &str| SqlColumn { name: name.to_owned(), kind: kind.to_owned() };
        let answer = SqlAnswer {
            columns: vec![column("device", "string"), column("t", "timestamp"), column("value", "double")],
            rows: vec![
                vec![json!("pump-7"), json!(1_763_719_200_000_i64), json!(0.5)],
                vec![json!("\u{1b}[31m".to_owned() + &"x".repeat(100)), Value::Null, json!("NaN")],
            ],
        };
        let wide = of(&answer, None);
        assert!(wide.contains("2025-11-21T10:00:00Z") && wide.ends_with("(2 rows)"), "{wide}");
        assert!(wide.contains(&"x".repeat(100)) && !wide.contains('\u{1b}'), "{wide}");
        let narrow = of(&answer, Some(60));
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        assert!(narrow.contains('…') && narrow.contains("NaN"), "{narrow}");
        assert_eq!(
            narrow.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
            ["device", "t", "value"]
        );
    }
}
