//! Numbers as Prometheus writes them.

/// The value as the HTTP API writes it: the shortest text that reads back, with an exponent below 1e-6
/// and from 1e21 on (<https://prometheus.io/docs/prometheus/latest/querying/api/#expression-query-result-formats>).
#[must_use]
pub fn shown(value: f64) -> String {
    let size = value.abs();
    if size.is_finite() && size != 0.0 && !(1e-6..1e21).contains(&size) {
        // Go writes at least two digits and the sign of the exponent.
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    plain(value)
}

/// The value without an exponent, as `count_values` puts it into a label.
#[must_use]
pub fn plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Reads a literal: decimal, hexadecimal, octal, `Inf` or `NaN`.
#[must_use]
pub fn parse(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" => return Some(f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        #[expect(clippy::cast_precision_loss, reason = "a literal is a float, as in Prometheus")]
        return u64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    let number = lower.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = lower.parse().ok().filter(|_| number)?;
    // 1e999 is out of range, not infinite.
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e-7, "1.25e-07"),
            (1e-6, "0.000001"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (-2.5e300, "-2.5e+300"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
        assert_eq!(plain(1e21), "1000000000000000000000");
    }

    #[test]
    fn literals_are_read() {
        for (text, value) in
            [("1", 1.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("0x1F", 31.0), ("iNf", f64::INFINITY)]
        {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        assert!(parse("NaN").is_some_and(f64::is_nan));
        for text in ["", "e", "1e", "0x", "1.2.3", "infinity", "1e999", "-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
