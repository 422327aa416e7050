//! What a cell holds, and what is made of it.

use crate::excerpt;

/// A cell of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// Text, of which it is not known whether it is UTF-8; all cells of CSV are.
    Text(&'a [u8]),
    /// A whole number.
    Whole(i64),
    /// A double.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// A time in ns, of UTC where it is known.
    Time {
        /// Nanoseconds since 1970.
        ns: i64,
        /// Whether the file says of which zone: then it is UTC.
        zoned: bool,
    },
}

/// Whole numbers up to this are doubles.
const EXACT_MAX: u64 = 1 << 53;

/// How numbers are written and changed on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    pub scale: f64,
    pub offset: f64,
}

impl Linear {
    pub const NONE: Self = Self { scale: 1.0, offset: 0.0 };

    /// Leaves the bits of a value that is not changed: a NaN has some of its own.
    fn of(self, value: f64) -> f64 {
        if self == Self::NONE { value } else { value * self.scale + self.offset }
    }
}

/// The number of a reading. None where there is none.
pub fn value(cell: Cell<'_>, decimal_comma: bool, linear: Linear) -> Result<Option<f64>, String> {
    let number = match cell {
        Cell::Null => return Ok(None),
        Cell::Double(value) => value,
        Cell::Bool(yes) => f64::from(u8::from(yes)),
        Cell::Whole(whole) => exact(whole)?,
        Cell::Text(text) => number(text, decimal_comma)?,
        Cell::Time { .. } => return Err("it is a time; allowed are numbers".to_owned()),
    };
    Ok(Some(linear.of(number)))
}

#[expect(clippy::cast_precision_loss, reason = "it is looked at before")]
fn exact(whole: i64) -> Result<f64, String> {
    if whole.unsigned_abs() > EXACT_MAX {
        return Err(format!("{whole} is no double; allowed are whole numbers up to 2^53"));
    }
    Ok(whole as f64)
}

fn number(text: &[u8], decimal_comma: bool) -> Result<f64, String> {
    let wrong = || {
        let as_in = if decimal_comma { "1234,5" } else { "1234.5" };
        format!("{} is no number; allowed is what is written as {as_in} or 1e3", excerpt(text))
    };
    let text = std::str::from_utf8(text).map_err(|_| wrong())?.trim();
    if decimal_comma {
        // A point would be one of thousands: 1.234 is not guessed at.
        if text.contains('.') {
            return Err(wrong());
        }
        return text.replacen(',', ".", 1).parse().map_err(|_| wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// A whole number of 64 bits.
pub fn whole(cell: Cell<'_>) -> Result<Option<i64>, String> {
    match cell {
        Cell::Null => Ok(None),
        Cell::Whole(whole) => Ok(Some(whole)),
        Cell::Text(text) => match std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
            Some(whole) => Ok(Some(whole)),
            None => Err(format!("{} is no whole number of 64 bits", excerpt(text))),
        },
        _ => Err("it is no whole number; allowed are those of 64 bits".to_owned()),
    }
}

/// A text that names something.
pub fn name<'a>(cell: Cell<'a>) -> Result<Option<&'a str>, String> {
    match cell {
        Cell::Null => Ok(None),
        Cell::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(format!("{} is no UTF-8", excerpt(text))),
        },
        _ => Err("it is no text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cell: Cell<'_>) -> Result<Option<f64>, String> {
        value(cell, false, Linear::NONE)
    }

    #[test]
    fn numbers_are_read_exactly_and_other_things_are_told() {
        assert_eq!(of(Cell::Text(b" 0.1 ")), Ok(Some(0.1)));
        assert_eq!(of(Cell::Text(b"-1e-300")), Ok(Some(-1e-300)));
        assert_eq!(of(Cell::Whole(1 << 53)), Ok(Some(9_007_199_254_740_992.0)));
        assert_eq!(of(Cell::Bool(true)), Ok(Some(1.0)));
        assert_eq!(of(Cell::Null), Ok(None));
        for bad in [&b"x"[..], b"", b"1,5", b"1\0", b"\xff", b"0x10", b"12:30"] {
            assert!(of(Cell::Text(bad)).unwrap_err().contains("allowed"), "{bad:?}");
        }
        assert!(of(Cell::Whole((1 << 53) + 1)).is_err() && of(Cell::Whole(i64::MIN)).is_err());
        assert!(of(Cell::Time { ns: 0, zoned: true }).is_err());
        assert_eq!(value(Cell::Text(b"3,25"), true, Linear::NONE), Ok(Some(3.25)));
        assert!(value(Cell::Text(b"1.234,5"), true, Linear::NONE).is_err());
    }

    #[test]
    fn a_value_is_scaled_and_one_that_is_not_keeps_its_bits() {
        assert_eq!(value(Cell::Text(b"50"), false, Linear { scale: 0.5, offset: -10.0 }), Ok(Some(15.0)));
        let odd = f64::from_bits(0x7ff4_0000_0000_0007);
        let kept = of(Cell::Double(odd)).unwrap().unwrap();
        assert_eq!(kept.to_bits(), odd.to_bits());
    }
}
