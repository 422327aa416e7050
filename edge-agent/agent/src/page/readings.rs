//! The newest readings: as a part of the page, and as JSON.

use axum::Json;
use axum::extract::State;
use serde_json::{Value as Shape, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::value::{Quality, Value};

use super::html::{age, put, text};
use super::{Shown, View};
use crate::newest::Reading;

/// Series beyond which no further device's are shown unasked.
const SERIES_SHOWN: usize = 60;
/// Units that take decimal prefixes, as UCUM writes them; those of the web app (`dashboards/src/lib/format.ts`).
const PREFIXED: [&str; 14] = [
    "By",
    "By/s",
    "B",
    "B/s",
    "bit/s",
    "Hz",
    "W",
    "VA",
    "V.A",
    "V.A{reactive}",
    "W.h",
    "V.A.h",
    "V.A{reactive}.h",
    "J",
];
const PREFIXES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
/// The width and height of a line of the last minutes.
const LINE: (f64, f64) = (96.0, 20.0);

/// The devices whose readings are shown: the one that was chosen, or else as many as have their place.
pub fn chosen(devices: &[(DeviceId, usize, i64)], chosen: Option<&str>) -> Vec<DeviceId> {
    if let Some(chosen) = chosen {
        return devices.iter().filter(|(id, ..)| id.as_str() == chosen).map(|(id, ..)| id.clone()).collect();
    }
    let mut shown = 0;
    let fits = |(_, count, _): &&(DeviceId, usize, i64)| {
        shown += count;
        shown <= SERIES_SHOWN || shown == *count
    };
    devices.iter().take_while(fits).map(|(id, ..)| id.clone()).collect()
}

/// All that is remembered.
pub async fn answer(State(shown): State<Shown>) -> Json<Shape> {
    let newest = shown.board.newest();
    let one = |reading: Reading| {
        json!({
            "point": reading.point.as_str(),
            "value": shape(&reading.value),
            "unit": reading.unit,
            "quality": reading.quality.as_str(),
            "time_ms": reading.time_ns / NS_PER_MS,
        })
    };
    let of = |(device, ..): (DeviceId, usize, i64)| {
        let readings: Vec<Shape> = newest.of(&device).into_iter().map(one).collect();
        json!({ "device": device.as_str(), "readings": readings })
    };
    let devices: Vec<Shape> = newest.devices().into_iter().map(of).collect();
    Json(json!({ "devices": devices, "readings_of_others": newest.others() }))
}

fn shape(value: &Value) -> Shape {
    match value {
        Value::Null => Shape::Null,
        Value::Float(number) => json!(number),
        Value::Int(whole) => json!(whole),
        Value::Bool(yes) => json!(yes),
        Value::Text(text) => json!(&**text),
    }
}

/// The part of the page.
pub fn section(out: &mut String, view: &View) {
    out.push_str("<section id=\"readings\"><h2>Readings</h2>");
    if view.devices.is_empty() {
        out.push_str("<p>None has come since the start.</p>");
    }
    for (device, readings) in &view.readings {
        put!(out, "<h3>{}</h3><table><thead><tr>", text(device.as_str()));
        out.push_str("<th scope=\"col\">Point</th><th scope=\"col\">Value</th><th scope=\"col\">Age</th>");
        out.push_str("<th scope=\"col\">Last minutes</th></tr></thead><tbody>");
        readings.iter().for_each(|reading| row(out, reading, view.now_ns));
        out.push_str("</tbody></table>");
    }
    let others: Vec<_> =
        view.devices.iter().filter(|(id, ..)| !view.readings.iter().any(|(shown, _)| shown == id)).collect();
    if !others.is_empty() {
        out.push_str("<h3>Other devices</h3><ul class=\"plain\">");
        for (id, count, time_ns) in others {
            let query = form(id.as_str());
            put!(out, "<li><a href=\"/?device={query}\">{}</a>: {count} points, newest ", text(id.as_str()));
            put!(out, "{}</li>", age(view.now_ns, *time_ns));
        }
        out.push_str("</ul>");
    }
    if view.chosen.is_some() {
        out.push_str("<p><a href=\"/\">All devices</a></p>");
    }
    if view.readings_of_others > 0 {
        let count = view.readings_of_others;
        put!(out, "<p>{count} readings are of series beyond those that are remembered here.</p>");
    }
    out.push_str("</section>");
}

fn row(out: &mut String, reading: &Reading, now_ns: i64) {
    let class = match reading.quality {
        Quality::Good => "",
        Quality::Uncertain => " class=\"warn\"",
        Quality::Bad => " class=\"bad\"",
    };
    put!(out, "<tr{class}><th scope=\"row\">{}</th><td class=\"t\">", text(reading.point.as_str()));
    match &reading.value {
        Value::Null => out.push_str("no value"),
        value => {
            let (told, prefix) = quantity(value, &reading.unit);
            put!(out, "<b>{}</b> {prefix}{}", text(&told), text(unit(&reading.unit)));
        }
    }
    if reading.quality != Quality::Good {
        put!(out, " <span class=\"chip\">{}</span>", reading.quality.as_str());
    }
    put!(out, "</td><td>{}</td><td>", age(now_ns, reading.time_ns));
    line(out, &reading.trend);
    out.push_str("</td></tr>");
}

/// A unit as people write it, of those whose code is another: all that profiles which ship have.
fn unit(code: &str) -> &str {
    match code {
        "1" => "",
        "/s" => "1/s",
        "Cel" => "°C",
        "[degF]" => "°F",
        "By" => "B",
        "By/s" => "B/s",
        "Ohm" => "Ω",
        "kOhm" => "kΩ",
        "deg" => "°",
        "W.h" => "Wh",
        "kW.h" => "kWh",
        "A.h" => "Ah",
        "V.A" => "VA",
        "kV.A" => "kVA",
        "V.A.h" => "VAh",
        "kV.A.h" => "kVAh",
        "V.A{reactive}" => "var",
        "kV.A{reactive}" => "kvar",
        "V.A{reactive}.h" => "varh",
        "kV.A{reactive}.h" => "kvarh",
        "dB{mW}" => "dBm",
        "[kn_i]" => "kn",
        "m/s2" => "m/s²",
        "m2" => "m²",
        "m3" => "m³",
        "m3/h" => "m³/h",
        code => code,
    }
}

/// A value of a unit that takes them with its decimal prefix, as the web app tells it.
#[expect(clippy::cast_precision_loss, reason = "five digits are shown")]
fn quantity(value: &Value, unit: &str) -> (String, &'static str) {
    let plain = match value {
        Value::Float(number) => *number,
        Value::Int(whole) => *whole as f64,
        Value::Null | Value::Bool(_) | Value::Text(_) => 0.0,
    };
    if !PREFIXED.contains(&unit) || !plain.is_finite() || plain.abs() < 1e3 {
        return (number(value), "");
    }
    let near = |factor: f64| -> f64 {
        let share = plain / factor;
        format!("{share:.4e}").parse().unwrap_or(share)
    };
    // The least prefix with which it is below a thousand as it is shown: 999,999 W are 1 MW.
    let found = PREFIXES.into_iter().rev().find(|(factor, _)| near(*factor).abs() < 1e3);
    let Some((factor, prefix)) = found.or(PREFIXES.first().copied()) else { return (number(value), "") };
    (number(&Value::Float(near(factor))), prefix)
}

/// A value as it is read by people: of a number that was calculated seven digits are enough.
fn number(value: &Value) -> String {
    let Value::Float(number) = value else { return value.to_string() };
    let plain = number.to_string();
    if plain.len() <= 9 {
        return plain;
    }
    let near: f64 = format!("{number:.6e}").parse().unwrap_or(*number);
    if near != 0.0 && !(1e-6..1e15).contains(&near.abs()) { format!("{near:e}") } else { near.to_string() }
}

/// A line through numbers, which lie between the least and the greatest of them.
fn line(out: &mut String, numbers: &[f64]) {
    let (Some(least), Some(greatest)) =
        (numbers.iter().copied().reduce(f64::min), numbers.iter().copied().reduce(f64::max))
    else {
        return;
    };
    if numbers.len() < 2 {
        return;
    }
    // Halves: the span of two doubles may be none.
    let ((width, height), span) = (LINE, greatest / 2.0 - least / 2.0);
    let (shown_least, shown_greatest) = (number(&Value::Float(least)), number(&Value::Float(greatest)));
    put!(out, "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" ");
    put!(
        out,
        "aria-label=\"between {} and {}\"><polyline points=\"",
        text(&shown_least),
        text(&shown_greatest)
    );
    #[expect(clippy::cast_precision_loss, reason = "a few dozen points")]
    let step = (width - 2.0) / (numbers.len() - 1) as f64;
    let mut x = 1.0;
    for number in numbers {
        let share = if span > 0.0 { ((number / 2.0 - least / 2.0) / span).clamp(0.0, 1.0) } else { 0.5 };
        put!(out, "{x:.1},{:.1} ", 1.0 + (height - 2.0) * (1.0 - share));
        x += step;
    }
    out.push_str("\"/></svg>");
}

/// A text as a part of a query.
fn form(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_with_as_many_digits_as_people_read() {
        let shown = |value: f64| number(&Value::Float(value));
        assert_eq!([shown(21.5), shown(-0.25), shown(0.0)], ["21.5", "-0.25", "0"]);
        assert_eq!([shown(1.0 / 3.0), shown(123_456_789.123)], ["0.3333333", "123456800"]);
        assert_eq!([shown(1e300), shown(1e-9), shown(f64::MAX)], ["1e300", "1e-9", "1.797693e308"]);
        assert_eq!(number(&Value::Int(1 << 62)), (1_i64 << 62).to_string());
    }

    #[test]
    fn amounts_of_units_that_take_prefixes_are_told_with_them() {
        let told = |value: Value, code: &str| {
            let (told, prefix) = quantity(&value, code);
            format!("{told} {prefix}{}", unit(code))
        };
        assert_eq!(told(Value::Int(217_568_000_000), "By"), "217.57 GB");
        assert_eq!(told(Value::Int(999), "By"), "999 B");
        assert_eq!(told(Value::Int(999_999), "By"), "1 MB");
        assert_eq!(told(Value::Int(999_990), "By"), "999.99 kB");
        assert_eq!(told(Value::Float(123_456.0), "V.A"), "123.46 kVA");
        assert_eq!(told(Value::Float(-12_340.0), "V.A{reactive}"), "-12.34 kvar");
        assert_eq!(told(Value::Float(12_345.0), "W.h"), "12.345 kWh");
        assert_eq!(told(Value::Float(12_345.0), "kW.h"), "12345 kWh");
        assert_eq!(told(Value::Float(-1_234_567.0), "By/s"), "-1.2346 MB/s");
        assert_eq!(told(Value::Float(2_000.0), "W"), "2 kW");
        assert_eq!(told(Value::Float(1_234_567.0), "Cel"), "1234567 °C");
        assert_eq!(told(Value::Float(f64::MAX), "J"), "1.7977e296 TJ");
        assert_eq!(told(Value::Text("9999".into()), "By"), "9999 B");
    }

    #[test]
    fn units_of_profiles_that_ship_are_written_as_people_do() {
        use tideline_profiles::shipped;

        for profile in shipped::ALL.iter().map(|file| file.profile().unwrap()) {
            for (name, point) in profile.points() {
                let written = unit(&point.unit);
                let place = format!("{}: {name}", profile.name());
                assert!(!written.contains(['.', '{', '[']), "{place}: {} is {written}", point.unit);
            }
        }
    }

    #[test]
    fn a_line_stays_in_its_frame_whatever_its_numbers_are() {
        for numbers in [vec![1.0, 2.0, 1.5], vec![3.0; 4], vec![f64::MIN, f64::MAX], vec![1.0], vec![]] {
            let mut out = String::new();
            line(&mut out, &numbers);
            assert_eq!(out.is_empty(), numbers.len() < 2);
            assert!(!out.contains("NaN") && !out.contains("inf"), "{out}");
        }
    }

    #[test]
    fn devices_are_shown_as_long_as_there_is_room_and_one_at_least() {
        let of = |name: &str, count| (name.parse().unwrap(), count, 0);
        let names = |all: &[_], wish| -> Vec<String> {
            chosen(all, wish).into_iter().map(|id: DeviceId| id.to_string()).collect()
        };
        assert_eq!(names(&[of("a", 500), of("b", 1)], None), ["a"]);
        assert_eq!(names(&[of("a", 50), of("b", 10), of("c", 1)], None), ["a", "b"]);
        assert_eq!(names(&[of("a", 500), of("b", 1)], Some("b")), ["b"]);
    }
}
