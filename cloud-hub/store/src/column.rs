//! Columns of a segment: how times, values and steps become bytes.
//!
//! A column is a form byte and what follows it:
//!
//! ```text
//! 0..=9   decimals: pco of i64, each divided by 10^form
//! 16      doubles as they are: pco of f64
//! 17      integers: pco of i64
//! 18      a steady course: the first integer and the step, as varints
//! 19      integers in 8 bytes each, little-endian, where that is shorter
//! 20      doubles in 8 bytes each, little-endian, where that is shorter
//! 21      runs of equal integers, where they are few: the difference from the run before, and how many, as varints
//! ```
//! A varint has seven bits in each byte, the lowest first, and the eighth bit where more follow; the sign of an
//! integer is its lowest bit (zigzag).
//! Decimals are taken only where dividing gives back the very same bits, so that a value survives bit for
//! bit. The pco format is that of pcodec, MIT/Apache-2.0, <https://github.com/pcodec/pcodec>. How many there
//! are stands elsewhere.

use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use tideline_protocol::block::decimals::{DECIMALS_MAX, decimal, exact_integer, power_of_ten};

use crate::narrow::Narrow;

const DOUBLES: u8 = 16;
const INTEGERS: u8 = 17;
const STEADY: u8 = 18;
const PLAIN_INTEGERS: u8 = 19;
const PLAIN_DOUBLES: u8 = 20;
const RUNS: u8 = 21;
/// Integers in a run, on the average, from which on runs are shorter than anything else.
const RUN_LEN: usize = 8;
/// A level above costs time and was measured to gain under one percent on sensor data.
const LEVEL: usize = 8;
/// Values that decide whether a longer column is worth a try as decimals.
const PROBES: usize = 64;

/// Why a column cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// It ends too early, or has a form that this code does not know.
    #[error("a column is malformed: {0}")]
    Malformed(&'static str),
    /// The numeric codec refused it.
    #[error("a column is damaged: {0}")]
    Damaged(String),
}

/// Of sensors' decimals: neighbours differ by less than they are.
fn config() -> ChunkConfig {
    ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::TryConsecutive(1))
}

/// Whether it is shorter than 8 bytes each; otherwise nothing is written.
fn pack<T: Number>(out: &mut Vec<u8>, form: u8, numbers: &[T], config: &ChunkConfig) -> bool {
    // Our own settings are within the codec's limits.
    let packed = simple_compress(numbers, config).ok().filter(|packed| packed.len() < numbers.len() * 8);
    let Some(packed) = packed else { return false };
    out.push(form);
    out.extend(packed);
    true
}

fn plain<T>(bytes: &[u8], len: usize, number: impl Fn([u8; 8]) -> T) -> Result<Vec<T>, ColumnError> {
    let (chunks, rest) = bytes.as_chunks();
    if chunks.len() != len || !rest.is_empty() {
        return Err(ColumnError::Malformed("its length is not that of its rows"));
    }
    Ok(chunks.iter().copied().map(number).collect())
}

fn unpack<T: Number + Default>(bytes: &[u8], len: usize) -> Result<Vec<T>, ColumnError> {
    let mut numbers = vec![T::default(); len];
    let done = simple_decompress_into(bytes, &mut numbers)
        .map_err(|error| ColumnError::Damaged(error.to_string()))?;
    if done.n_processed != len || !done.finished {
        return Err(ColumnError::Malformed("its length is not that of its rows"));
    }
    Ok(numbers)
}

/// Writes integers: times in ns, or steps.
pub fn write_integers(out: &mut Vec<u8>, numbers: &[i64]) {
    let (first, step) = match numbers {
        [] => return,
        [first] => (*first, 0),
        [first, second, ..] => (*first, second.wrapping_sub(*first)),
    };
    if numbers.windows(2).all(|pair| matches!(pair, [a, b] if b.wrapping_sub(*a) == step)) {
        out.push(STEADY);
        write_varint(out, zigzag(first));
        write_varint(out, zigzag(step));
        return;
    }
    let runs = numbers.chunk_by(|a, b| a == b);
    if runs.clone().count() * RUN_LEN <= numbers.len() {
        out.push(RUNS);
        let mut before = 0_i64;
        for run in runs {
            let number = run.first().copied().unwrap_or(before);
            write_varint(out, zigzag(number.wrapping_sub(std::mem::replace(&mut before, number))));
            write_varint(out, run.len() as u64);
        }
        return;
    }
    if !pack(out, INTEGERS, numbers, &ChunkConfig::default().with_compression_level(LEVEL)) {
        out.push(PLAIN_INTEGERS);
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Writes an unsigned number in as many bytes as it needs.
pub fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

/// Takes a number from the beginning of `bytes`.
///
/// # Errors
/// There is none, or it has more than 64 bits.
pub fn read_varint(bytes: &mut &[u8]) -> Result<u64, ColumnError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(ColumnError::Malformed("it is cut"))?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits << shift;
        if bits << shift >> shift != bits {
            break;
        }
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ColumnError::Malformed("a number is too long"))
}

fn read_runs(mut bytes: &[u8], len: usize) -> Result<Vec<i64>, ColumnError> {
    let mut numbers = Vec::with_capacity(len);
    let mut number = 0_i64;
    while !bytes.is_empty() {
        number = number.wrapping_add(unzigzag(read_varint(&mut bytes)?));
        let run = usize::try_from(read_varint(&mut bytes)?).unwrap_or(usize::MAX);
        if run > len - numbers.len() {
            return Err(ColumnError::Malformed("its length is not that of its rows"));
        }
        numbers.resize(numbers.len() + run, number);
    }
    if numbers.len() < len {
        return Err(ColumnError::Malformed("its length is not that of its rows"));
    }
    Ok(numbers)
}

/// Takes a column with its length before it from the beginning of `bytes`.
///
/// # Errors
/// There is none.
pub fn take_column<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], ColumnError> {
    let len = usize::try_from(read_varint(bytes)?).unwrap_or(usize::MAX);
    let (column, rest) = bytes.split_at_checked(len).ok_or(ColumnError::Malformed("it is cut"))?;
    *bytes = rest;
    Ok(column)
}

/// Writes a column with its length before it.
pub fn put_column(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut column = Vec::new();
    write(&mut column);
    write_varint(out, column.len() as u64);
    out.extend_from_slice(&column);
}

/// Reads `len` integers.
///
/// # Errors
/// The bytes are not what [`write_integers`] wrote of so many.
pub fn read_integers(bytes: &[u8], len: usize) -> Result<Vec<i64>, ColumnError> {
    match bytes.split_first() {
        None if len == 0 => Ok(Vec::new()),
        Some((&STEADY, rest)) => {
            let mut rest = rest;
            let (first, step) = (unzigzag(read_varint(&mut rest)?), unzigzag(read_varint(&mut rest)?));
            if !rest.is_empty() {
                return Err(ColumnError::Malformed("it goes on behind its end"));
            }
            Ok(std::iter::successors(Some(first), |last| Some(last.wrapping_add(step))).take(len).collect())
        }
        Some((&RUNS, rest)) => read_runs(rest, len),
        Some((&INTEGERS, rest)) => unpack(rest, len),
        Some((&PLAIN_INTEGERS, rest)) => plain(rest, len, i64::from_le_bytes),
        _ => Err(ColumnError::Malformed("its form is unknown")),
    }
}

/// The values as integers of so many decimals, when they all are.
fn integers(values: &[f64], power: f64) -> Option<Vec<i64>> {
    values.iter().map(|value| exact_integer(*value, power)).collect()
}

/// The fewest places with which all values are decimals, and the values without the point.
pub fn decimals(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let stride = values.len().div_ceil(PROBES).max(1);
    let fits = |power| values.iter().step_by(stride).all(|value| exact_integer(*value, power).is_some());
    (0..=DECIMALS_MAX).find_map(|places| {
        let power = power_of_ten(places).filter(|power| fits(*power))?;
        Some((places, integers(values, power)?))
    })
}

/// Writes values; says with how many places all of them are decimals.
pub fn write_values(out: &mut Vec<u8>, values: &[f64]) -> Option<u8> {
    let decimals = decimals(values);
    if values.is_empty() {
        return None;
    }
    let packed = match &decimals {
        Some((places, integers)) => pack(out, *places, integers, &config()),
        None => pack(out, DOUBLES, values, &ChunkConfig::default().with_compression_level(LEVEL)),
    };
    if !packed {
        out.push(PLAIN_DOUBLES);
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
    decimals.map(|(places, _)| places)
}

/// Reads `len` values.
///
/// # Errors
/// The bytes are not what [`write_values`] wrote of so many.
pub fn read_values(bytes: &[u8], len: usize) -> Result<Vec<f64>, ColumnError> {
    match bytes.split_first() {
        None if len == 0 => Ok(Vec::new()),
        Some((&DOUBLES, rest)) => unpack(rest, len),
        Some((&PLAIN_DOUBLES, rest)) => plain(rest, len, f64::from_le_bytes),
        Some((places, rest)) => {
            let power = power_of_ten(*places).ok_or(ColumnError::Malformed("its form is unknown"))?;
            Ok(unpack::<i64>(rest, len)?.into_iter().map(|integer| decimal(integer, power)).collect())
        }
        None => Err(ColumnError::Malformed("it is empty")),
    }
}

/// `len` values as the integers of decimals, without making them; none where they are no decimals.
///
/// # Errors
/// As [`read_values`].
pub fn read_narrow(bytes: &[u8], len: usize) -> Result<Option<Narrow>, ColumnError> {
    let Some((places @ 0..=DECIMALS_MAX, rest)) = bytes.split_first() else { return Ok(None) };
    Ok(Some(Narrow::new(*places, unpack(rest, len)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            (-1_000_000_i32..1_000_000).prop_map(|n| f64::from(n) / 100.0),
            any::<u64>().prop_map(f64::from_bits),
            Just(-0.0)
        ]
    }

    proptest! {
        #[test]
        fn values_survive_bit_for_bit(values in prop::collection::vec(value(), 0..300)) {
            let mut out = Vec::new();
            write_values(&mut out, &values);
            let read = read_values(&out, values.len()).unwrap();
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&read), bits(&values));
            if !values.is_empty() {
                prop_assert!(read_values(&out, values.len() + 1).is_err());
            }
        }

        #[test]
        fn integers_survive(mut numbers in prop::collection::vec(any::<i64>(), 0..300), steady: bool, equal: u8) {
            if steady && let [first, step, ..] = numbers[..] {
                for (n, number) in numbers.iter_mut().enumerate() {
                    *number = first.wrapping_add(step.wrapping_mul(i64::try_from(n).unwrap()));
                }
            }
            for at in 1..numbers.len() {
                // Up to 255 of 256 are as the one before.
                if numbers[at].rem_euclid(256) < i64::from(equal) {
                    numbers[at] = numbers[at - 1];
                }
            }
            let mut out = Vec::new();
            write_integers(&mut out, &numbers);
            prop_assert_eq!(read_integers(&out, numbers.len()).unwrap(), numbers);
            for len in 0..out.len() {
                let _ = read_integers(&out[..len], 300);
            }
        }

        #[test]
        fn varints_survive_and_no_bytes_are_a_panic(number: u64, bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            for number in [number, number >> 40, 0, u64::MAX] {
                let mut out = Vec::new();
                write_varint(&mut out, number);
                prop_assert_eq!(read_varint(&mut &out[..]).unwrap(), number);
                prop_assert_eq!(unzigzag(zigzag(number.cast_signed())), number.cast_signed());
            }
            let _ = read_varint(&mut &bytes[..]);
            let _ = read_runs(&bytes, 100);
            let _ = take_column(&mut &bytes[..]);
        }

        #[test]
        fn damage_is_an_error_or_other_numbers_and_no_panic(
            values in prop::collection::vec(value(), 1..200), at: prop::sample::Index, with: u8
        ) {
            let mut out = Vec::new();
            write_values(&mut out, &values);
            let at = at.index(out.len());
            out[at] ^= with;
            let _ = read_values(&out, values.len());
            out.truncate(at);
            let _ = read_values(&out, values.len());
        }
    }
}
