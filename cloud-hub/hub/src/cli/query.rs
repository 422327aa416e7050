//! `query`: series as rows or a line of blocks, and questions in SQL.

use std::io::{IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tideline_link::{errln, outln};
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::beside::{list, number, text};
use super::socket::{Answer, HubSocket, escape};
use super::{Format, QueryArgs, table};
use cloud_hub::api::shapes::SqlAnswer;
use cloud_hub::when::{self, parse_time, show_ms, show_ns};

/// Buckets of a sparkline: as many as a line of 80 has room for.
const SPARKS: usize = 76;

/// `query`.
pub async fn query(hub: &HubSocket, args: &QueryArgs) -> Result<()> {
    match (&args.sql, &args.series) {
        (Some(sql), _) => in_sql(hub, args, sql).await,
        (None, Some(series)) => of_series(hub, args, series).await,
        (None, None) => bail!("name a series, as pump-7/temp, or ask with --sql"),
    }
}

/// The statement, or stdin for `-`.
async fn in_sql(hub: &HubSocket, args: &QueryArgs, sql: &str) -> Result<()> {
    let mut read = String::new();
    if sql == "-" {
        std::io::stdin().lock().read_to_string(&mut read).context("stdin")?;
    }
    let sql = if sql == "-" { &read } else { sql };
    let format = match args.format {
        Format::Table => "json",
        Format::Sparkline => {
            bail!("a sparkline is for series; with --sql take table, json, csv, arrow or parquet")
        }
        other => other.name(),
    };
    let body = json!({"sql": sql, "format": format});
    if args.format.is_table() && args.out.is_none() {
        let answer: SqlAnswer = serde_json::from_value(hub.post("/api/v1/sql", &body).await?)
            .context("the hub's answer is not understood; is it another version?")?;
        outln!("{}", table::of(&answer, table::width()));
        return Ok(());
    }
    ensure!(
        !args.format.is_table(),
        "a table is for the terminal; with --out take json, csv, arrow or parquet"
    );
    hand_on(hub.stream(Method::POST, "/api/v1/sql", Some(&body)).await?, args).await
}

async fn of_series(hub: &HubSocket, args: &QueryArgs, series: &str) -> Result<()> {
    match args.format {
        Format::Arrow | Format::Parquet => {
            ensure!(args.parts().is_none(), "buckets are shown as table, csv or json");
            let path = format!(
                "/api/v1/export?series={}&from={}&to={}&format={}",
                escape(series),
                escape(&args.from()),
                escape(&args.to),
                args.format.name()
            );
            hand_on(hub.stream(Method::GET, &path, None).await?, args).await
        }
        Format::Sparkline => sparklines(hub, args, series).await,
        Format::Table | Format::Csv | Format::Json => {
            ensure!(args.out.is_none(), "--out is for --sql, and for arrow and parquet; others go to stdout");
            pages(hub, args, series).await
        }
    }
}

/// To the file, or to stdout.
async fn hand_on(mut answer: Answer, args: &QueryArgs) -> Result<()> {
    if let Some(path) = &args.out {
        let shown = path.display();
        let mut file = File::create(path).await.with_context(|| format!("{shown} cannot be made"))?;
        let copied = copy(&mut answer, &mut file).await;
        let synced = match copied {
            Ok(()) => file.sync_all().await.context("the disk"),
            Err(error) => Err(error),
        };
        // Half an answer is none.
        if synced.is_err() {
            let _gone = tokio::fs::remove_file(path).await;
        }
        return synced.with_context(|| format!("{shown} is not written"));
    }
    let binary = matches!(args.format, Format::Arrow | Format::Parquet);
    ensure!(
        !(binary && std::io::stdout().is_terminal()),
        "that is nothing for a terminal; name a file with --out"
    );
    while let Some(part) = answer.next().await? {
        match std::io::stdout().write_all(&part) {
            // Who reads has enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("the output")?,
        }
    }
    std::io::stdout().flush().context("the output")
}

async fn copy(answer: &mut Answer, to: &mut File) -> Result<()> {
    while let Some(part) = answer.next().await? {
        to.write_all(&part).await.context("the disk")?;
    }
    to.flush().await.context("the disk")
}

/// Two lines for each series: what it is and its range, then its course.
async fn sparklines(hub: &HubSocket, args: &QueryArgs, series: &str) -> Result<()> {
    let ask = async |from: &str, to: &str| {
        let (series, from, to) = (escape(series), escape(from), escape(to));
        hub.get(&format!("/api/v1/query?series={series}&from={from}&to={to}&buckets={SPARKS}")).await
    };
    let mut answer = ask(&args.from(), &args.to).await?;
    let now_ns = SystemClock::default().wall_ns();
    let ms = |text: &str| parse_time(text, now_ns).map(when::ms);
    let (mut from, mut to) = (ms(&args.from())?, ms(&args.to)?);
    // The range may be far longer than there are readings: the course is that of where they are.
    while let Some(narrower) = narrowed(&answer, (from, to)) {
        (from, to) = narrower;
        answer = ask(&from.to_string(), &to.to_string()).await?;
    }
    warn_of(&answer);
    for series in list(&answer, "series") {
        let column = |name: &str| list(series, name).iter().filter_map(Value::as_f64).collect::<Vec<_>>();
        let (mean, min, max) = (column("mean"), column("min"), column("max"));
        let lowest = min.iter().copied().reduce(f64::min);
        let highest = max.iter().copied().reduce(f64::max);
        let (Some(lowest), Some(highest), Some(last)) = (lowest, highest, column("last").last().copied())
        else {
            outln!("{}  no readings", text(series, "id"));
            continue;
        };
        let starts: Vec<i64> = list(series, "t").iter().filter_map(Value::as_i64).collect();
        let unit = text(series, "unit");
        outln!("{}  {lowest} to {highest}, last {last} {unit}", text(series, "id"));
        outln!("{}", spark(&starts, &mean));
    }
    Ok(())
}

/// The range of the buckets of an answer, when it is a small part of what was asked for, in ms.
fn narrowed(answer: &Value, (from, to): (i64, i64)) -> Option<(i64, i64)> {
    let starts = list(answer, "series").iter().flat_map(|series| list(series, "t")).filter_map(Value::as_i64);
    let (first, last) = (starts.clone().min()?, starts.max()?);
    // No width is more than ten times what the range would need.
    let width = to.saturating_sub(from).checked_div(SPARKS as i64 / 10)?;
    let range = (first.max(from), last.saturating_add(width).min(to));
    let (was, is) = (to.saturating_sub(from), range.1.saturating_sub(range.0));
    (is > SPARKS as i64 && is < was / 2).then_some(range)
}

/// A block of eight heights for each bucket of one width, and a space for one without readings.
fn spark(starts: &[i64], values: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let numbers = || values.iter().copied().filter(|value| value.is_finite());
    let low = numbers().fold(f64::INFINITY, f64::min);
    let span = numbers().fold(f64::NEG_INFINITY, f64::max) - low;
    let step =
        starts.windows(2).filter_map(|pair| Some(pair.last()? - pair.first()?)).min().unwrap_or(1).max(1);
    let (mut out, mut next) = (String::new(), starts.first().copied().unwrap_or(0));
    for (start, value) in starts.iter().zip(values) {
        while next < *start && out.chars().count() < SPARKS {
            out.push(' ');
            next += step;
        }
        let height = if span > 0.0 { (value - low) / span * 7.0 } else { 0.0 };
        let at = HEIGHTS.iter().zip(0_u8..).find(|(_, no)| f64::from(*no) + 0.5 > height);
        out.push(if value.is_finite() { at.map_or('█', |(block, _)| *block) } else { '?' });
        next = start + step;
    }
    out
}

/// All pages. What is known to be missing goes to stderr.
async fn pages(hub: &HubSocket, args: &QueryArgs, series: &str) -> Result<()> {
    let base = format!(
        "/api/v1/query?series={}&from={}&to={}",
        escape(series),
        escape(&args.from()),
        escape(&args.to)
    );
    let mut columns: Vec<&str> =
        if args.parts().is_some() { vec!["min", "max", "mean", "last", "count"] } else { vec!["v"] };
    ensure!(args.agg.is_none() || args.parts().is_some(), "--agg is for --buckets or --every");
    let more =
        args.agg.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    for name in more {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let shape = args.parts().unwrap_or_else(|| "&limit=50000".to_owned());
    let mut page = hub.get(&format!("{base}{shape}")).await?;
    warn_of(&page);
    let names = if args.parts().is_some() { columns.join(",") } else { "value".to_owned() };
    match args.format {
        Format::Csv => outln!("series,time,{names}"),
        Format::Table => outln!("{}", row("series", "time", names.split(','))),
        _ => {}
    }
    loop {
        for series in list(&page, "series") {
            show_series(series, &columns, args.format)?;
        }
        let Some(next) = page.get("next").and_then(Value::as_str) else { return Ok(()) };
        page = hub.get(&format!("{base}{shape}&cursor={}", escape(next))).await?;
    }
}

fn warn_of(page: &Value) {
    for missing in list(page, "missing") {
        let (device, cause) = (text(missing, "device"), text(missing, "cause"));
        match missing.get("after_ms").and_then(Value::as_i64) {
            Some(ms) => errln!("{device}: readings after {} may be missing ({cause})", show_ms(ms)),
            None => errln!("{device}: readings may be missing ({cause})"),
        }
    }
    for gap in list(page, "gaps") {
        let (from, to) = (show_ms(number(gap, "from_ms")), show_ms(number(gap, "to_ms")));
        let (device, rows, cause) = (text(gap, "device"), number(gap, "rows"), text(gap, "cause"));
        errln!("{device}: {rows} readings from {from} to {to} were dropped by the agent ({cause})");
    }
}

fn row<'a>(series: &str, time: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let cells: String = cells.map(|cell| format!(" {cell:>20}")).collect();
    format!("{series:<32} {time:<30}{cells}")
}

fn show_series(series: &Value, columns: &[&str], format: Format) -> Result<()> {
    if let Format::Json = format {
        outln!("{series}");
        return Ok(());
    }
    let (name, exact) = (text(series, "id"), list(series, "t_ns"));
    for (at, time) in list(series, "t").iter().enumerate() {
        let Some(ms) = time.as_i64() else { bail!("the answer of the hub has a time that is no number") };
        let ns = exact.get(at).and_then(Value::as_str).and_then(|ns| ns.parse().ok());
        let time = ns.map_or_else(|| show_ms(ms), show_ns);
        let cells: Vec<String> = columns
            .iter()
            .map(|name| {
                let quantile = series.get("quantiles").map_or(&[][..], |quantiles| list(quantiles, name));
                let cell = list(series, name).get(at).or_else(|| quantile.get(at));
                cell.map_or_else(String::new, ToString::to_string)
            })
            .collect();
        match format {
            Format::Csv => outln!("{name},{time},{}", cells.join(",")),
            _ => outln!("{}", row(name, &time, cells.iter().map(String::as_str))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_has_heights_gaps_and_a_flat_course() {
        assert_eq!(spark(&[0, 10, 20, 50], &[0.0, 3.5, 7.0, 1.0]), "▁▅█  ▂");
        assert_eq!(spark(&[0, 10], &[3.0, 3.0]), "▁▁");
        assert_eq!(spark(&[0, 10, 20], &[1.0, f64::NAN, 2.0]), "▁?█");
        assert_eq!(spark(&[], &[]), "");
    }
}
