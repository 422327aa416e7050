//! Codec 2: a batch of one reading per series, all of one time.
//!
//! This is what a source that reads everything once a second gives. Such values have little in common
//! with each other, so that a table of bins costs more than it saves, and the numbers of the series
//! are as long as the values. Each value is written by itself, in the shortest form that gives back
//! the very same bits.
//!
//! ```text
//! u8       codec, 2
//! ..       numbers of the series (see `series`)
//! varint   time in ns, zigzag
//! values   for each series a head, form | bytes << 4, and so many bytes
//!
//! form     0..=9   an integer divided by 10^form: zigzag, little-endian, without leading zero bytes
//!          10, 11  an integer times 2^10, 2^12, written alike
//!          15      a double, big-endian, without trailing zero bytes
//! ```

use super::decimals::{DECIMALS_MAX, decimal, exact_integer, power_of_ten};
use super::{BlockError, Column, Input, series, varint};
use crate::model::SeriesNo;

/// The tag of this codec.
pub(super) const CODEC: u8 = 2;
/// Most readings that it is tried for: above, the bins of codec 1 win.
pub(super) const ROWS_MAX: usize = 512;

/// Form and factor of integers that count whole units of memory.
const UNITS: [(u8, f64); 2] = [(11, 4096.0), (10, 1024.0)];
const FORM_DOUBLE: u8 = 15;

/// The block, or `None` when the readings are not of this shape.
pub(super) fn write(columns: &[(SeriesNo, &Column)], seqs: usize) -> Option<Vec<u8>> {
    let (_, first) = columns.first()?;
    let time_ns = *first.times.first()?;
    if seqs != 1 || columns.len() > ROWS_MAX || columns.iter().any(|(_, c)| c.times != [time_ns]) {
        return None;
    }
    let mut out = vec![CODEC];
    series::write(&mut out, columns.iter().map(|(series, _)| *series));
    varint(&mut out, zigzag(time_ns));
    columns.iter().flat_map(|(_, column)| &column.values).for_each(|value| write_value(&mut out, *value));
    Some(out)
}

fn write_value(out: &mut Vec<u8>, value: f64) {
    let double = value.to_bits().to_be_bytes();
    let kept = double.len() - double.iter().rev().take_while(|byte| **byte == 0).count();
    let integer = shortest_integer(value).map(|(form, integer)| (form, zigzag(integer).to_le_bytes()));
    let integer = integer.map(|(form, bytes)| {
        (form, bytes, bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count())
    });
    let (form, bytes, len) =
        integer.filter(|(_, _, len)| *len <= kept).unwrap_or((FORM_DOUBLE, double, kept));
    out.push(form | u8::try_from(len).unwrap_or(0) << 4);
    out.extend(bytes.iter().take(len));
}

fn shortest_integer(value: f64) -> Option<(u8, i64)> {
    let unit = |(form, factor): (u8, f64)| {
        let integer = exact_integer(value / factor, 1.0)?;
        (scaled(integer, factor).to_bits() == value.to_bits()).then_some((form, integer))
    };
    UNITS.into_iter().find_map(unit).or_else(|| {
        (0..=DECIMALS_MAX)
            .find_map(|places| exact_integer(value, power_of_ten(places)?).map(|integer| (places, integer)))
    })
}

#[expect(clippy::cast_precision_loss, reason = "the writer takes it only where it is exact")]
fn scaled(integer: i64, factor: f64) -> f64 {
    integer as f64 * factor
}

/// Reads what follows the codec's tag: the series, their time, and a value for each.
pub(super) fn read(input: &mut Input<'_>) -> Result<(Vec<SeriesNo>, i64, Vec<f64>), BlockError> {
    // Each value takes a byte at least, so that the list cannot outgrow the input.
    let series = series::read(input, input.bytes.len() as u64)?;
    let time_ns = unzigzag(input.varint64()?);
    let values = series.iter().map(|_| read_value(input)).collect::<Result<_, _>>()?;
    Ok((series, time_ns, values))
}

fn read_value(input: &mut Input<'_>) -> Result<f64, BlockError> {
    let head = input.byte()?;
    let (form, len) = (head & 15, usize::from(head >> 4));
    let mut bytes = [0_u8; 8];
    let room = bytes.get_mut(..len).ok_or(BlockError::Malformed("a value has more than eight bytes"))?;
    room.copy_from_slice(input.take(len)?);
    if form == FORM_DOUBLE {
        return Ok(f64::from_bits(u64::from_be_bytes(bytes)));
    }
    let integer = unzigzag(u64::from_le_bytes(bytes));
    if let Some((_, factor)) = UNITS.into_iter().find(|(unit, _)| *unit == form) {
        return Ok(scaled(integer, factor));
    }
    let power = power_of_ten(form).ok_or(BlockError::Malformed("a value has an unknown form"))?;
    Ok(decimal(integer, power))
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}
