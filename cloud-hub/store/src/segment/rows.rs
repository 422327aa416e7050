//! Blocks of readings: the columns of some rows of one series, sorted by time.
//!
//! ```text
//! times | values | steps: for each the length as a varint, then the column
//! ```
//! Each column is as `column` has it. A step is the difference of the number of a row's batch (see
//! `batches`) from that of the row before, or from 0 at the first row of a block.

use crate::column::{
    ColumnError, put_column, read_integers, read_values, take_column, write_integers, write_values,
};
use crate::hot::Rows;

/// Writes a block; all three have the same length. Gives with how many places all values are decimals.
pub fn write(out: &mut Vec<u8>, times: &[i64], values: &[f64], numbers: &[u32]) -> Option<u8> {
    let mut places = None;
    put_column(out, |out| write_integers(out, times));
    put_column(out, |out| places = write_values(out, values));
    let mut before = 0;
    let steps =
        numbers.iter().map(|number| i64::from(*number) - std::mem::replace(&mut before, i64::from(*number)));
    put_column(out, |out| write_integers(out, &steps.collect::<Vec<_>>()));
    places
}

/// The three columns of a block.
fn columns(mut block: &[u8]) -> Result<[&[u8]; 3], ColumnError> {
    let columns = [take_column(&mut block)?, take_column(&mut block)?, take_column(&mut block)?];
    if block.is_empty() { Ok(columns) } else { Err(ColumnError::Malformed("a block goes on behind its end")) }
}

/// Times and values of a block of `len` rows.
///
/// # Errors
/// It is not a block of so many rows.
pub fn read(block: &[u8], len: usize) -> Result<Rows, ColumnError> {
    let [times, values, _] = columns(block)?;
    Ok(Rows { times: read_integers(times, len)?, values: read_values(values, len)? })
}

/// The numbers of the batches of a block of `len` rows.
///
/// # Errors
/// It is not a block of so many rows.
pub fn read_numbers(block: &[u8], len: usize) -> Result<Vec<u32>, ColumnError> {
    let [_, _, steps] = columns(block)?;
    let mut number = 0_i64;
    let numbers = read_integers(steps, len)?.into_iter().map(|step| {
        number = number.wrapping_add(step);
        u32::try_from(number).map_err(|_| ColumnError::Malformed("a batch's number is out of range"))
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_back() {
        let (times, values, numbers) = ([5, 7, 7, 90], [1.25, -3.5, f64::NAN, 1e300], [3, 0, u32::MAX, 4]);
        let mut out = vec![9];
        write(&mut out, &times, &values, &numbers);
        let block = &out[1..];
        let rows = read(block, 4).unwrap();
        assert_eq!(rows.times, times);
        assert_eq!(rows.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values.map(f64::to_bits));
        assert_eq!(read_numbers(block, 4).unwrap(), numbers);
        assert!(read(block, 5).is_err() && read(&block[..block.len() - 1], 4).is_err());
        assert!(read(&[], 0).is_err() && read_numbers(&block[1..], 4).is_err());
    }

    #[test]
    fn readings_at_a_steady_pace_cost_their_values() {
        let times: Vec<i64> = (0..8192).map(|n| n * 1_000_000_000).collect();
        let numbers: Vec<u32> = (0..8192).collect();
        let mut out = Vec::new();
        write(&mut out, &times, &vec![21.5; 8192], &numbers);
        assert!(out.len() < 160, "{} bytes", out.len());
    }
}
