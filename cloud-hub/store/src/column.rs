//! Columns of a segment: how times, values and steps become bytes.
//!
//! A column is a form byte and what follows it:
//!
//! ```text
//! 0..=9   decimals: pco of i64, each divided by 10^form
//! 16      doubles as they are: pco of f64
//! 17      integers: pco of i64
//! 18      a steady course: the first integer and the step, both i64 little-endian
//! 19      integers in 8 bytes each, little-endian, where that is shorter
//! 20      doubles in 8 bytes each, little-endian, where that is shorter
//! ```
//! Decimals are taken only where dividing gives back the very same bits, so that a value survives bit for
//! bit. The pco format is that of pcodec, MIT/Apache-2.0, <https://github.com/pcodec/pcodec>. How many there
//! are stands elsewhere.

use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use tideline_protocol::block::decimals::{DECIMALS_MAX, decimal, exact_integer, power_of_ten};

const DOUBLES: u8 = 16;
const INTEGERS: u8 = 17;
const STEADY: u8 = 18;
const PLAIN_INTEGERS: u8 = 19;
const PLAIN_DOUBLES: u8 = 20;
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
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&step.to_le_bytes());
        return;
    }
    if !pack(out, INTEGERS, numbers, &ChunkConfig::default().with_compression_level(LEVEL)) {
        out.push(PLAIN_INTEGERS);
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
}

/// Reads `len` integers.
///
/// # Errors
/// The bytes are not what [`write_integers`] wrote of so many.
pub fn read_integers(bytes: &[u8], len: usize) -> Result<Vec<i64>, ColumnError> {
    match bytes.split_first() {
        None if len == 0 => Ok(Vec::new()),
        Some((&STEADY, rest)) => {
            let (first, rest) = rest.split_first_chunk().ok_or(ColumnError::Malformed("it has no first"))?;
            let step = rest.try_into().map_err(|_| ColumnError::Malformed("it has no step"))?;
            let (first, step) = (i64::from_le_bytes(*first), i64::from_le_bytes(step));
            Ok(std::iter::successors(Some(first), |last| Some(last.wrapping_add(step))).take(len).collect())
        }
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
        fn integers_survive(mut numbers in prop::collection::vec(any::<i64>(), 0..300), steady: bool) {
            if steady && let [first, step, ..] = numbers[..] {
                for (n, number) in numbers.iter_mut().enumerate() {
                    *number = first.wrapping_add(step.wrapping_mul(i64::try_from(n).unwrap()));
                }
            }
            let mut out = Vec::new();
            write_integers(&mut out, &numbers);
            prop_assert_eq!(read_integers(&out, numbers.len()).unwrap(), numbers);
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
