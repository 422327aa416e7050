//! Rows of some columns, as bytes.
//!
//! ```text
//! rows u32, then of each column: kind u8, a byte for each row that is not null, then
//!   text    the end of each u32, all texts
//!   others  eight bytes a row: i64 or f64, little-endian
//! ```

use polars::prelude::*;

/// A cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// Text.
    Text(&'a [u8]),
    /// A whole number.
    Whole(i64),
    /// A double.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Nanoseconds since 1970.
    Time(i64),
}

const TEXT: u8 = 1;
const WHOLE: u8 = 2;
const DOUBLE: u8 = 3;
const BOOL: u8 = 4;
const TIME: u8 = 5;
const NULL: u8 = 6;

const NS_PER_DAY: i64 = 86_400 * 1_000_000_000;

/// The bytes of a frame.
pub fn encode(frame: &DataFrame) -> PolarsResult<Vec<u8>> {
    let rows = u32::try_from(frame.height()).map_err(|_| polars_err!(ComputeError: "too many rows"))?;
    let mut out = rows.to_le_bytes().to_vec();
    for column in frame.columns() {
        self::column(column.as_materialized_series(), &mut out)?;
    }
    Ok(out)
}

fn column(series: &Series, out: &mut Vec<u8>) -> PolarsResult<()> {
    match series.dtype() {
        DataType::String => texts(series.str()?, out),
        DataType::Categorical(..) | DataType::Enum(..) => texts(series.cast(&DataType::String)?.str()?, out),
        DataType::Boolean => words(BOOL, series.bool()?.iter().map(|yes| yes.map(u64::from)), out),
        DataType::Datetime(unit, _) => {
            let scale = match unit {
                TimeUnit::Nanoseconds => 1,
                TimeUnit::Microseconds => 1_000,
                TimeUnit::Milliseconds => 1_000_000,
            };
            // What no nanoseconds can say is no time.
            let ns = |time: Option<i64>| time.and_then(|time| time.checked_mul(scale));
            words(
                TIME,
                series.datetime()?.physical().iter().map(|time| ns(time).map(i64::cast_unsigned)),
                out,
            );
        }
        DataType::Date => {
            let days = series.date()?.physical();
            let ns = |days: i32| i64::from(days).checked_mul(NS_PER_DAY);
            words(TIME, days.iter().map(|days| days.and_then(ns).map(i64::cast_unsigned)), out);
        }
        DataType::Null => out.push(NULL),
        dtype if dtype.is_integer() => {
            let whole = series.strict_cast(&DataType::Int64)?;
            words(WHOLE, whole.i64()?.iter().map(|whole| whole.map(i64::cast_unsigned)), out);
        }
        dtype if dtype.is_float() => {
            let doubles = series.cast(&DataType::Float64)?;
            words(DOUBLE, doubles.f64()?.iter().map(|double| double.map(f64::to_bits)), out);
        }
        other => polars_bail!(ComputeError: "column {} is of type {other}", series.name()),
    }
    Ok(())
}

fn texts(all: &StringChunked, out: &mut Vec<u8>) {
    out.push(TEXT);
    out.extend(all.iter().map(|text| u8::from(text.is_some())));
    let mut end = 0_u32;
    for text in all.iter() {
        end = end.saturating_add(u32::try_from(text.unwrap_or_default().len()).unwrap_or(u32::MAX));
        out.extend(end.to_le_bytes());
    }
    all.iter().for_each(|text| out.extend(text.unwrap_or_default().as_bytes()));
}

fn words(kind: u8, all: impl Iterator<Item = Option<u64>>, out: &mut Vec<u8>) {
    out.push(kind);
    let mut words = Vec::new();
    for word in all {
        out.push(u8::from(word.is_some()));
        words.extend(word.unwrap_or_default().to_le_bytes());
    }
    out.extend(words);
}

/// The cells of a column.
#[derive(Debug)]
enum Cells {
    Null,
    Text { ends: Vec<u32>, all: Vec<u8> },
    Words { kind: u8, words: Vec<u64> },
}

/// Rows of some columns.
#[derive(Debug)]
pub struct Rows {
    rows: usize,
    // Which cells there are, and what they hold.
    columns: Vec<(Vec<u8>, Cells)>,
}

impl Rows {
    /// Reads what a process has written.
    ///
    /// # Errors
    /// None when it is no such thing.
    #[must_use]
    pub fn decode(bytes: &[u8], columns: usize) -> Option<Self> {
        let (rows, mut rest) = bytes.split_first_chunk::<4>()?;
        let rows = usize::try_from(u32::from_le_bytes(*rows)).ok()?;
        let mut out = Vec::with_capacity(columns);
        for _ in 0..columns {
            let (kind, after) = rest.split_first()?;
            if *kind == NULL {
                (rest, _) = (after, out.push((Vec::new(), Cells::Null)));
                continue;
            }
            let (there, after) = after.split_at_checked(rows)?;
            let width = if *kind == TEXT { 4 } else { 8 };
            let (words, after) = after.split_at_checked(rows.checked_mul(width)?)?;
            if *kind == TEXT {
                let ends: Vec<u32> =
                    words.as_chunks::<4>().0.iter().map(|end| u32::from_le_bytes(*end)).collect();
                let len = usize::try_from(ends.last().copied().unwrap_or(0)).ok()?;
                let (all, after) = after.split_at_checked(len)?;
                out.push((there.to_vec(), Cells::Text { ends, all: all.to_vec() }));
                rest = after;
            } else {
                let words = words.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
                out.push((there.to_vec(), Cells::Words { kind: *kind, words }));
                rest = after;
            }
        }
        rest.is_empty().then_some(Self { rows, columns: out })
    }

    /// How many rows there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The cell of a row and a column, null where there is none.
    #[must_use]
    pub fn cell(&self, row: usize, column: usize) -> Value<'_> {
        self.find(row, column).unwrap_or(Value::Null)
    }

    fn find(&self, row: usize, column: usize) -> Option<Value<'_>> {
        let (there, cells) = self.columns.get(column)?;
        if *there.get(row)? == 0 {
            return None;
        }
        Some(match cells {
            Cells::Null => return None,
            Cells::Text { ends, all } => {
                let end = usize::try_from(*ends.get(row)?).ok()?;
                let begin = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
                Value::Text(all.get(usize::try_from(begin).ok()?..end)?)
            }
            Cells::Words { kind, words } => {
                let word = *words.get(row)?;
                match *kind {
                    WHOLE => Value::Whole(word.cast_signed()),
                    DOUBLE => Value::Double(f64::from_bits(word)),
                    BOOL => Value::Bool(word != 0),
                    TIME => Value::Time(word.cast_signed()),
                    _ => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_every_kind_come_back_and_damaged_ones_do_not() {
        let times = Column::new("t".into(), [Some(1_i64), None, Some(i64::MAX)]);
        let frame = DataFrame::new(
            3,
            vec![
                Column::new("a".into(), [Some("x"), None, Some("äöü")]),
                Column::new("b".into(), [Some(1_i32), Some(-1), None]),
                Column::new("c".into(), [Some(0.5_f32), None, Some(f32::INFINITY)]),
                Column::new("d".into(), [true, false, true]),
                times.cast(&DataType::Datetime(TimeUnit::Milliseconds, None)).unwrap(),
                Column::full_null("n".into(), 3, &DataType::Null),
            ],
        )
        .unwrap();
        let bytes = encode(&frame).unwrap();
        let rows = Rows::decode(&bytes, 6).unwrap();
        let of = |row| (0..6).map(|column| rows.cell(row, column)).collect::<Vec<_>>();
        use Value::{Bool, Double, Null, Text, Time, Whole};
        assert_eq!(of(0), [Text(b"x"), Whole(1), Double(0.5), Bool(true), Time(1_000_000), Null]);
        assert_eq!(of(1), [Null, Whole(-1), Null, Bool(false), Null, Null]);
        assert_eq!(of(2), [Text("äöü".as_bytes()), Null, Double(f64::INFINITY), Bool(true), Null, Null]);
        assert_eq!((rows.cell(3, 0), rows.cell(0, 9)), (Null, Null));
        for cut in 0..bytes.len() {
            assert!(Rows::decode(&bytes[..cut], 6).is_none(), "{cut}");
        }
    }
}
