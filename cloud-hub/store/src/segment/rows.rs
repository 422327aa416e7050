//! Blocks of readings: the columns of some rows of one series, sorted by time.
//!
//! ```text
//! times | values | steps: for each the length as a varint, then the column
//! and where words are boxed (see `tideline_protocol::value`):
//! count as a varint, places | numbers | table: alike; the rows of the boxed words, for each the number of its entry and one or 0 for null
//!     of good quality, and the entries, one behind the other, with a byte before them: 0 = as they are; 1 = zstd of
//!     them, behind their length as a varint
//! ```
//! In the place of a boxed word stands the number before it, or at the beginning the one after it, so that values pack
//! as well as without. Each column is as `column` has it. A step is the difference of the number of a row's batch (see
//! `batches`) from that of the row before, or from 0 at the first row of a block.

use tideline_protocol::value::{Boxed, Boxes, NULL, VALUE_TEXT_BYTES_MAX, any_nan, is_boxed};

use crate::column::{
    self, ColumnError, put_column, read_integers, read_values, read_varint, take_column, write_integers,
    write_values, write_varint,
};
use crate::hot::Rows;
use crate::narrow::Narrow;

const ZSTD_LEVEL: i32 = 3;
/// Longest entry of a table: a text with its head and its length.
const ENTRY_BYTES_MAX: usize = VALUE_TEXT_BYTES_MAX + 5;

/// Writes a block; times, values and numbers have the same length. Gives with how many places all plain values are
/// decimals.
pub fn write(out: &mut Vec<u8>, rows: &Rows, numbers: &[u32]) -> Option<u8> {
    let mut places = None;
    let aside = if any_nan(&rows.values) { aside(&rows.values) } else { None };
    let values = aside.as_ref().map_or(rows.values.as_slice(), |aside| &aside.values);
    put_column(out, |out| write_integers(out, &rows.times));
    put_column(out, |out| places = write_values(out, values));
    let mut before = 0;
    let steps =
        numbers.iter().map(|number| i64::from(*number) - std::mem::replace(&mut before, i64::from(*number)));
    put_column(out, |out| write_integers(out, &steps.collect::<Vec<_>>()));
    if let Some(aside) = aside {
        aside.write(out, &rows.boxes);
    }
    places
}

/// The boxed words of a column, and the column without them.
struct Aside {
    values: Vec<f64>,
    places: Vec<i64>,
    words: Vec<f64>,
}

/// None when no word is boxed.
fn aside(words: &[f64]) -> Option<Aside> {
    let first = words.iter().copied().find(|word| !is_boxed(*word));
    let (mut before, mut boxed) = (first.unwrap_or(0.0), (Vec::new(), Vec::new()));
    let values = words.iter().zip(0_i64..).map(|(word, place)| {
        if is_boxed(*word) {
            boxed.0.push(place);
            boxed.1.push(*word);
        } else {
            before = *word;
        }
        before
    });
    let values: Vec<f64> = values.collect();
    (!boxed.0.is_empty()).then_some(Aside { values, places: boxed.0, words: boxed.1 })
}

impl Aside {
    fn write(&self, out: &mut Vec<u8>, boxes: &Boxes) {
        // Those that are used, in the order of their first use.
        let (mut used, mut words, mut table) = (Boxes::new(), Vec::new(), Vec::new());
        used.append(&mut words, &self.words, boxes);
        let number = |word: &f64| Boxes::entry_of(*word).map_or(0, |entry| i64::from(entry) + 1);
        let numbers: Vec<i64> = words.iter().map(number).collect();
        used.entries().iter().for_each(|boxed| boxed.write(&mut table));
        write_varint(out, numbers.len() as u64);
        put_column(out, |out| write_integers(out, &self.places));
        put_column(out, |out| write_integers(out, &numbers));
        put_column(out, |out| put_table(out, &table));
    }
}

fn put_table(out: &mut Vec<u8>, table: &[u8]) {
    match zstd::bulk::compress(table, ZSTD_LEVEL).ok().filter(|packed| packed.len() + 4 < table.len()) {
        Some(packed) => {
            out.push(1);
            write_varint(out, table.len() as u64);
            out.extend_from_slice(&packed);
        }
        None => {
            out.push(0);
            out.extend_from_slice(table);
        }
    }
}

fn take_table(column: &[u8], entries_max: usize) -> Result<Boxes, ColumnError> {
    let unpacked;
    let mut table = match column.split_first() {
        Some((0, table)) => table,
        Some((1, packed)) => {
            let mut packed = packed;
            let len = usize::try_from(read_varint(&mut packed)?).unwrap_or(usize::MAX);
            if len > entries_max.saturating_mul(ENTRY_BYTES_MAX) {
                return Err(ColumnError::Malformed("a table of boxed values is too long"));
            }
            let table = zstd::bulk::decompress(packed, len);
            unpacked = table.map_err(|error| ColumnError::Damaged(error.to_string()))?;
            unpacked.as_slice()
        }
        _ => return Err(ColumnError::Malformed("a table of boxed values has an unknown form")),
    };
    let mut entries = Vec::new();
    while !table.is_empty() {
        let malformed = ColumnError::Malformed("a boxed value is malformed");
        entries.push(Boxed::read(&mut table).ok_or(malformed)?);
    }
    Ok(Boxes::of(entries))
}

/// Puts the boxed words that follow the columns back among the values.
fn put_back(values: &mut [f64], mut rest: &[u8]) -> Result<Boxes, ColumnError> {
    if rest.is_empty() {
        return Ok(Boxes::new());
    }
    let count = usize::try_from(read_varint(&mut rest)?).ok().filter(|count| *count <= values.len());
    let count = count.ok_or(ColumnError::Malformed("more words are boxed than there are"))?;
    let (places, numbers) = (take_column(&mut rest)?, take_column(&mut rest)?);
    let table = take_column(&mut rest)?;
    if !rest.is_empty() {
        return Err(ColumnError::Malformed("a block goes on behind its end"));
    }
    let boxes = take_table(table, count)?;
    let (places, numbers) = (read_integers(places, count)?, read_integers(numbers, count)?);
    for (place, number) in places.iter().zip(numbers) {
        let value = usize::try_from(*place).ok().and_then(|place| values.get_mut(place));
        let entry = u32::try_from(number).map_err(|_| ColumnError::Malformed("an entry is out of range"))?;
        if entry as usize > boxes.entries().len() {
            return Err(ColumnError::Malformed("a boxed value names an entry that is not there"));
        }
        *value.ok_or(ColumnError::Malformed("a boxed value has no place"))? =
            entry.checked_sub(1).map_or(NULL, Boxes::word_of_entry);
    }
    Ok(boxes)
}

/// Writes words by themselves: a column of values, and behind it what is boxed among them, as in a block.
pub fn write_words(out: &mut Vec<u8>, words: &[f64], boxes: &Boxes) {
    let aside = if any_nan(words) { aside(words) } else { None };
    put_column(out, |out| {
        write_values(out, aside.as_ref().map_or(words, |aside| &aside.values));
    });
    if let Some(aside) = aside {
        aside.write(out, boxes);
    }
}

/// Reads what [`write_words`] wrote of `len` words.
///
/// # Errors
/// It is not that.
pub fn read_words(mut bytes: &[u8], len: usize) -> Result<(Vec<f64>, Boxes), ColumnError> {
    let mut words = read_values(take_column(&mut bytes)?, len)?;
    let boxes = put_back(&mut words, bytes)?;
    Ok((words, boxes))
}

/// The three columns of a block, and what follows them.
fn columns(mut block: &[u8]) -> Result<([&[u8]; 3], &[u8]), ColumnError> {
    let columns = [take_column(&mut block)?, take_column(&mut block)?, take_column(&mut block)?];
    Ok((columns, block))
}

/// Times and values of a block of `len` rows.
///
/// # Errors
/// It is not a block of so many rows.
pub fn read(block: &[u8], len: usize) -> Result<Rows, ColumnError> {
    let ([times, values, _], rest) = columns(block)?;
    let (times, mut values) = (read_integers(times, len)?, read_values(values, len)?);
    let boxes = put_back(&mut values, rest)?;
    Ok(Rows { times, values, boxes })
}

/// The values of a block of `len` rows as integers of few bytes; none where they are not all decimals.
///
/// # Errors
/// It is not a block of so many rows.
pub fn read_narrow(block: &[u8], len: usize) -> Result<Option<Narrow>, ColumnError> {
    let ([_, values, _], rest) = columns(block)?;
    // Where words are boxed, not every row is a number.
    if rest.is_empty() { column::read_narrow(values, len) } else { Ok(None) }
}

/// The numbers of the batches of a block of `len` rows.
///
/// # Errors
/// It is not a block of so many rows.
pub fn read_numbers(block: &[u8], len: usize) -> Result<Vec<u32>, ColumnError> {
    let ([_, _, steps], _) = columns(block)?;
    let mut number = 0_i64;
    let numbers = read_integers(steps, len)?.into_iter().map(|step| {
        number = number.wrapping_add(step);
        u32::try_from(number).map_err(|_| ColumnError::Malformed("a batch's number is out of range"))
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use tideline_protocol::value::{Quality, Value, ValueKind};

    use super::*;
    use crate::buckets::Aggregate;
    use crate::narrow::Total;

    #[test]
    fn a_block_reads_back() {
        let (times, values, numbers) = ([5, 7, 7, 90], [1.25, -3.5, f64::NAN, 1e300], [3, 0, u32::MAX, 4]);
        let mut out = vec![9];
        let rows = Rows { times: times.to_vec(), values: values.to_vec(), boxes: Boxes::new() };
        write(&mut out, &rows, &numbers);
        let block = &out[1..];
        let rows = read(block, 4).unwrap();
        assert_eq!(rows.times, times);
        assert_eq!(rows.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values.map(f64::to_bits));
        assert_eq!(read_numbers(block, 4).unwrap(), numbers);
        assert!(read(block, 5).is_err() && read(&block[..block.len() - 1], 4).is_err());
        assert!(read(&[], 0).is_err() && read_numbers(&block[1..], 4).is_err());
    }

    #[test]
    fn what_a_block_is_in_all_is_what_its_readings_make() {
        let times: Vec<i64> = (0..300).map(|n| n / 2).collect();
        let numbers = vec![0; times.len()];
        let total = |values: &[f64], boxes: &Boxes| {
            let mut out = Vec::new();
            let rows = Rows { times: times.clone(), values: values.to_vec(), boxes: boxes.clone() };
            write(&mut out, &rows, &numbers);
            assert!(!matches!(read_narrow(&out, 301), Ok(Some(_))));
            read_narrow(&out, 300).unwrap().map(|narrow| narrow.total().unwrap().unwrap())
        };
        let quarters: Vec<f64> = (0..300).map(|n| f64::from((n * 37) % 101 - 50) / 4.0).collect();
        let wanted = Aggregate::of_rows(&times, &quarters).unwrap();
        let Total { min, max, sum, first, last } = total(&quarters, &Boxes::new()).unwrap();
        assert_eq!(
            (min, max, sum, first, last),
            (wanted.min, wanted.max, wanted.sum, wanted.first, wanted.last)
        );
        // A sum of tenths is the nearest to the true one, which adding one after the other is not.
        assert_eq!(total(&[0.1; 300], &Boxes::new()).unwrap().sum, 30.0);
        // Whose values are no decimals, or not all numbers, has to be read.
        let roots: Vec<f64> = (0..300).map(|n| f64::from(n).sqrt()).collect();
        assert_eq!(total(&roots, &Boxes::new()), None);
        let mut boxes = Boxes::new();
        let mut words = quarters;
        words[7] = boxes.word(Value::Text("stuck".into()), Quality::Good);
        assert_eq!(total(&words, &boxes), None);
    }

    #[test]
    fn readings_at_a_steady_pace_cost_their_values() {
        let times: Vec<i64> = (0..8192).map(|n| n * 1_000_000_000).collect();
        let numbers: Vec<u32> = (0..8192).collect();
        let mut out = Vec::new();
        let rows = Rows { times, values: vec![21.5; 8192], boxes: Boxes::new() };
        write(&mut out, &rows, &numbers);
        assert!(out.len() < 160, "{} bytes", out.len());
    }

    #[test]
    fn as_many_long_texts_as_there_are_series_read_back() {
        let mut boxes = Boxes::new();
        let mut text = |n: i64| boxes.word(Value::Text(format!("{n:4096}").into()), Quality::Good);
        let words: Vec<f64> = (0..3_000).map(&mut text).collect();
        let mut out = Vec::new();
        write_words(&mut out, &words, &boxes);
        let (read, found) = read_words(&out, 3_000).unwrap();
        for (before, after) in words.iter().zip(&read) {
            assert_eq!(boxes.value(*before, ValueKind::Text), found.value(*after, ValueKind::Text));
        }
    }

    #[test]
    fn values_of_all_kinds_read_back_and_leave_the_plain_ones_as_small_as_they_are() {
        let value = |n: i64, quality| match n % 50 {
            1 => (Value::Null, quality),
            2 => (Value::Text(format!("state {}", n % 3).into()), Quality::Good),
            3 => (Value::Int(i64::MAX - n), quality),
            4 => (Value::Float(21.5), Quality::Bad),
            _ => (Value::Float((200 + n % 7) as f64 / 10.0), Quality::Good),
        };
        let size = |every: i64| {
            let (mut rows, mut expected) = (Rows::default(), Vec::new());
            for n in 0..8192_i64 {
                let plain = (Value::Float((200 + n % 7) as f64 / 10.0), Quality::Good);
                let (value, quality) =
                    if n % every == 0 { value(n / every, Quality::Uncertain) } else { plain };
                let word = rows.boxes.word(value.clone(), quality);
                rows.times.push(n * 1_000_000_000);
                rows.values.push(word);
                expected.push((value, quality));
            }
            let mut out = Vec::new();
            let places = write(&mut out, &rows, &vec![1; 8192]);
            let read = read(&out, 8192).unwrap();
            for (word, expected) in read.values.iter().zip(&expected) {
                let kind = expected.0.kind().unwrap_or_default();
                assert_eq!(&read.boxes.value(*word, kind), expected);
            }
            assert_eq!(places, Some(1));
            // Only where the boxed words begin a block may end as well: its checksum tells.
            let whole = (0..out.len()).filter(|cut| super::read(&out[..*cut], 8192).is_ok()).count();
            assert_eq!(whole, usize::from(!rows.boxes.is_empty()));
            for at in (0..out.len()).step_by(out.len() / 300) {
                let mut bytes = out.clone();
                bytes[at] ^= 1;
                let _ = super::read(&bytes, 8192);
            }
            out.len()
        };
        let (none, some) = (size(9000), size(20));
        assert!(some < none + 4_000, "{some} bytes instead of {none}");
    }
}
