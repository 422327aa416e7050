//! The frame of the page, and how texts, numbers and times stand in it.

use std::fmt;

use tideline_protocol::time::NS_PER_MS;

use super::{View, log, readings, sections};

const NS_PER_S: i64 = 1_000 * NS_PER_MS;

/// Adds to a text, which cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        let _ = ::std::fmt::Write::write_fmt($out, format_args!($($arg)*));
    }};
}
pub(super) use put;

/// A text of anybody's, as what it is in HTML: also within quotes.
pub fn text(text: &str) -> impl fmt::Display + '_ {
    struct Text<'t>(&'t str);
    impl fmt::Display for Text<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for c in self.0.chars() {
                match c {
                    '&' => f.write_str("&amp;")?,
                    '<' => f.write_str("&lt;")?,
                    '>' => f.write_str("&gt;")?,
                    '"' => f.write_str("&quot;")?,
                    '\'' => f.write_str("&#39;")?,
                    c if c.is_control() && !c.is_whitespace() => f.write_str("\u{fffd}")?,
                    c => fmt::Write::write_char(f, c)?,
                }
            }
            Ok(())
        }
    }
    Text(text)
}

/// As much of a text as there is room for.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A count with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn bytes(number: u64) -> String {
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.1} GB", number as f64 / 1e9),
    }
}

/// How long ago that was.
pub fn age(now_ns: i64, time_ns: i64) -> String {
    let seconds = now_ns.saturating_sub(time_ns) / NS_PER_S;
    match seconds {
        ..-1 => format!("{} ahead", span(-seconds)),
        -1..1 => "now".to_owned(),
        _ => span(seconds),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A time as people read it, of UTC.
pub fn time(time_ns: i64) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time_ns / NS_PER_S * NS_PER_S));
    stamp.map_or_else(|_| String::new(), |stamp| stamp.to_string())
}

/// The whole page.
pub fn page(view: &View) -> String {
    let mut out = String::with_capacity(16 * 1024);
    out.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    out.push_str("<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">");
    out.push_str("<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>");
    put!(&mut out, "<title>{} – Tideline agent</title>", text(&view.status.agent));
    out.push_str(
        "<link rel=\"stylesheet\" href=\"/page.css\"><script src=\"/page.js\" defer></script></head><body>",
    );
    put!(
        &mut out,
        "<header><h1>{}</h1><p>Tideline agent {}",
        text(&view.status.agent),
        env!("CARGO_PKG_VERSION")
    );
    out.push_str(" · <span id=\"line\" role=\"status\">as of when it was loaded</span></p></header><main>");
    out.push_str(&main(view));
    out.push_str(
        "</main><footer><p>As JSON: <a href=\"/status\">status</a>, <a href=\"/readings\">readings</a>, ",
    );
    out.push_str("<a href=\"/twin\">twins</a>; <a href=\"/metrics\">metrics</a></p></footer></body></html>");
    out
}

/// What changes of it.
pub fn main(view: &View) -> String {
    let mut out = String::with_capacity(16 * 1024);
    sections::now(&mut out, view);
    sections::sources(&mut out, view);
    readings::section(&mut out, view);
    sections::pipelines(&mut out, view);
    sections::twins(&mut out, view);
    sections::schedules(&mut out, &view.schedules, view.now_ns);
    sections::commands(&mut out, view);
    lines(&mut out, view);
    out
}

fn lines(out: &mut String, view: &View) {
    out.push_str("<section id=\"log\"><h2>Log</h2><form method=\"get\" action=\"/\"><label for=\"level\">From level</label> ");
    out.push_str("<select id=\"level\" name=\"level\">");
    for level in log::Level::ALL {
        let selected = if level == view.level { " selected" } else { "" };
        put!(out, "<option{selected}>{}</option>", level.name());
    }
    out.push_str("</select> ");
    if let Some(device) = &view.chosen {
        put!(out, "<input type=\"hidden\" name=\"device\" value=\"{}\">", text(device));
    }
    out.push_str("<button>Show</button></form>");
    if view.lines.is_empty() {
        out.push_str("<p>No lines of that level.</p></section>");
        return;
    }
    out.push_str("<ol class=\"log\" reversed>");
    for line in &view.lines {
        let class = match line.level {
            Some(log::Level::Error) => " class=\"bad\"",
            Some(log::Level::Warn) => " class=\"warn\"",
            _ => "",
        };
        let level = line.level.map_or("", log::Level::name);
        put!(out, "<li{class}><span>{} {level}</span> {}", text(&line.time), text(&line.text));
        if line.before > 0 {
            put!(out, " <b>and {} times before</b>", line.before);
        }
        out.push_str("</li>");
    }
    out.push_str("</ol></section>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_texts_and_nothing_else() {
        let shown = text("<script>\"a\" & 'b'\u{7}</script>").to_string();
        assert_eq!(shown, "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}&lt;/script&gt;");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!([cut("", 2), cut("äö", 2), cut("äöü", 2)], ["", "äö", "äö…"]);
    }

    #[test]
    fn counts_bytes_and_times_are_told_for_people() {
        assert_eq!(
            [count(7), count(1_234), count(12_345_678)],
            ["7", "1\u{202f}234", "12\u{202f}345\u{202f}678"]
        );
        assert_eq!(
            [bytes(999), bytes(1_500), bytes(2_500_000), bytes(u64::MAX)][..3],
            ["999 B", "1.5 kB", "2.5 MB"]
        );
        let ago = |seconds: i64| age(1_000_000 * NS_PER_S, (1_000_000 - seconds) * NS_PER_S);
        assert_eq!(
            [ago(0), ago(5), ago(600), ago(7_200), ago(200_000)],
            ["now", "5 s", "10 min", "2 h", "2 days"]
        );
        assert_eq!([ago(-1), ago(-300)], ["now", "5 min ahead"]);
        assert!(!age(i64::MAX, i64::MIN).is_empty() && !age(i64::MIN, i64::MAX).is_empty());
        assert_eq!(time(1_769_860_800_123_456_789), "2026-01-31T12:00:00Z");
    }
}
