//! Codec 3: a block with boxed words (see `value`) among its values.
//!
//! What a word cannot hold stands apart, and in its place the number before it, so that the columns pack as well as
//! those without:
//!
//! ```text
//! u8       codec, 3
//! varint   how many words are boxed
//! ..       their places among the block's rows, which stand series after series: the rows between each and the one before
//! ..       for each the number of its entry and one, or 0 for null of good quality
//! varint   bytes of the table
//! u8 + ..  the table, one entry behind the other: 0 = as it is; 1 = zstd
//! ..       a block of codec 1 or 2
//!
//! entry    quality << 4 | content, then nothing for null (0), a double (1), an integer of 64 bits with sign (2), or a
//!          u32 length and UTF-8 (3); little-endian
//! ```
//! Places and numbers are varints while they are up to 32, and else chunks of pco of u32. The table of one seq is never compressed, so that those of a run together are no
//! longer than its blocks were.

use super::columns::{Shape, read_chunk, write_chunk};
use super::{BlockError, Input, check_limit, varint};
use crate::value::{Boxed, Boxes, NULL, is_boxed};
use crate::wire::{RUN_BYTES_MAX, RUN_ROWS_MAX};

/// The tag of this codec.
pub(super) const CODEC: u8 = 3;
const ZSTD_LEVEL: i32 = 3;
/// So many numbers are shorter without a codec.
const FEW: usize = 32;

/// The boxed words of a block.
#[derive(Debug, Default)]
pub(super) struct Aside {
    // Ascending.
    places: Vec<u32>,
    // As many; `NULL` or a word of the table.
    words: Vec<f64>,
}

impl Aside {
    /// Takes the boxed words out of the values of series of these lengths, and leaves the number before each, of the
    /// same series, in its place; at the beginning of a series the one that follows, or 0.
    pub(super) fn take(values: &mut [f64], lengths: &[usize]) -> Self {
        let (mut aside, mut rest, mut start) = (Self::default(), values, 0_u32);
        for len in lengths {
            let (column, after) = rest.split_at_mut(len.min(&rest.len()).to_owned());
            rest = after;
            let first = column.iter().copied().find(|value| !is_boxed(*value));
            let mut before = first.unwrap_or(0.0);
            for (value, place) in column.iter_mut().zip(start..) {
                if is_boxed(*value) {
                    aside.places.push(place);
                    aside.words.push(std::mem::replace(value, before));
                } else {
                    before = *value;
                }
            }
            start = start.saturating_add(u32::try_from(*len).unwrap_or(u32::MAX));
        }
        aside
    }

    /// Writes what stands before the inner block.
    pub(super) fn write(&self, out: &mut Vec<u8>, boxes: &Boxes, pack: bool) {
        out.push(CODEC);
        varint(out, self.places.len() as u64);
        let mut next = 0;
        let between = self.places.iter().map(|place| *place - std::mem::replace(&mut next, *place + 1));
        write_numbers(out, &between.collect::<Vec<_>>());
        // Those that are used, in the order of their first use.
        let (mut used, mut table) = (Boxes::new(), Vec::new());
        let mut words = Vec::with_capacity(self.words.len());
        used.append(&mut words, &self.words, boxes);
        let numbers: Vec<u32> = words.iter().map(|word| number_of(*word)).collect();
        write_numbers(out, &numbers);
        used.entries().iter().for_each(|boxed| boxed.write(&mut table));
        varint(out, table.len() as u64);
        let packed = if pack { zstd::bulk::compress(&table, ZSTD_LEVEL).ok() } else { None };
        match packed.filter(|packed| packed.len() < table.len()) {
            Some(packed) => {
                out.push(1);
                varint(out, packed.len() as u64);
                out.extend_from_slice(&packed);
            }
            None => {
                out.push(0);
                out.extend_from_slice(&table);
            }
        }
    }

    /// Reads what follows the codec's tag up to the inner block, of a block of so many rows.
    pub(super) fn read(input: &mut Input<'_>, rows: u64) -> Result<(Self, Boxes), BlockError> {
        let count = input.varint()?;
        check_limit("boxed values", count, rows.min(RUN_ROWS_MAX))?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut places = read_numbers(input, count)?;
        let mut next = 0_u64;
        for place in &mut places {
            next += u64::from(*place);
            let fits = u32::try_from(next).ok().filter(|_| next < rows);
            *place = fits.ok_or(BlockError::Malformed("a boxed value has no place"))?;
            next += 1;
        }
        let numbers = read_numbers(input, count)?;
        let boxes = read_table(input, count)?;
        let known = boxes.entries().len();
        if numbers.iter().any(|number| *number as usize > known) {
            return Err(BlockError::Malformed("a boxed value names an entry that is not there"));
        }
        let words =
            numbers.into_iter().map(|number| number.checked_sub(1).map_or(NULL, Boxes::word_of_entry));
        Ok((Self { places, words: words.collect() }, boxes))
    }

    /// Puts the boxed words back into the values, whose first stands at `start` in the block; `next` is where the
    /// words of what follows begin.
    pub(super) fn put_back(&self, values: &mut [f64], start: usize, next: &mut usize) {
        let (places, words) = (self.places.get(*next..), self.words.get(*next..));
        for (place, word) in places.unwrap_or_default().iter().zip(words.unwrap_or_default()) {
            match (*place as usize).checked_sub(start).and_then(|at| values.get_mut(at)) {
                Some(value) => *value = *word,
                None => break,
            }
            *next += 1;
        }
    }
}

/// 0 for null of good quality, or one more than the number of the entry.
fn number_of(word: f64) -> u32 {
    Boxes::entry_of(word).map_or(0, |entry| entry.saturating_add(1))
}

fn write_numbers(out: &mut Vec<u8>, numbers: &[u32]) {
    if numbers.len() <= FEW {
        numbers.iter().for_each(|number| varint(out, u64::from(*number)));
    } else {
        write_chunk(out, numbers, Shape::Counts);
    }
}

fn read_numbers(input: &mut Input<'_>, count: usize) -> Result<Vec<u32>, BlockError> {
    if count > FEW {
        return read_chunk(input, count);
    }
    let overflow = |_| BlockError::Malformed("a number overflows");
    (0..count).map(|_| u32::try_from(input.varint()?).map_err(overflow)).collect()
}

fn read_table(input: &mut Input<'_>, entries_max: usize) -> Result<Boxes, BlockError> {
    let len = input.varint()?;
    check_limit("bytes of boxed values", len, RUN_BYTES_MAX as u64)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let unpacked;
    let mut table = match input.byte()? {
        0 => input.take(len)?,
        1 => {
            let packed = zstd::bulk::decompress(input.chunk()?, len);
            unpacked = packed.map_err(|error| BlockError::Column(error.to_string()))?;
            unpacked.as_slice()
        }
        _ => return Err(BlockError::Malformed("the boxed values have an unknown form")),
    };
    if table.len() != len {
        return Err(BlockError::Malformed("the boxed values are not as long as is said"));
    }
    let mut entries = Vec::new();
    while !table.is_empty() {
        if entries.len() >= entries_max {
            return Err(BlockError::Malformed("there are more entries than boxed values"));
        }
        entries.push(Boxed::read(&mut table).ok_or(BlockError::Malformed("a boxed value is malformed"))?);
    }
    Ok(Boxes::of(entries))
}
