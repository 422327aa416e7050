//! The numbers of a block's series, as stretches of consecutive ones: those of an agent are given out
//! one after the other, and most batches hold all of a source.
//!
//! ```text
//! varint   stretches; for each: its first number less the end of the one before (varint), and its
//!          length less one (varint)
//! ```

use super::{BlockError, Input, check_limit, varint};
use crate::model::SeriesNo;

/// Writes numbers that ascend.
pub(super) fn write(out: &mut Vec<u8>, series: impl Iterator<Item = SeriesNo>) {
    let mut stretches: Vec<(SeriesNo, u32)> = Vec::new();
    for series in series {
        match stretches.last_mut() {
            Some((first, more)) if first.checked_add(*more + 1) == Some(series) => *more += 1,
            _ => stretches.push((series, 0)),
        }
    }
    varint(out, stretches.len() as u64);
    let mut end = 0_u64;
    for (first, more) in stretches {
        varint(out, u64::from(first) - end);
        varint(out, u64::from(more));
        end = u64::from(first) + u64::from(more) + 1;
    }
}

/// Reads at most `max` numbers; no more than that is allocated.
pub(super) fn read(input: &mut Input<'_>, max: u64) -> Result<Vec<SeriesNo>, BlockError> {
    let overflow = || BlockError::Malformed("a series number overflows");
    let (mut out, mut next) = (Vec::new(), 0_u64);
    for _ in 0..input.varint()? {
        let first = next.checked_add(input.varint()?).ok_or_else(overflow)?;
        let last = first.checked_add(input.varint()?).ok_or_else(overflow)?;
        let count = (last - first).saturating_add(1).saturating_add(out.len() as u64);
        check_limit("series", count, max)?;
        let last = SeriesNo::try_from(last).map_err(|_| overflow())?;
        let first = SeriesNo::try_from(first).map_err(|_| overflow())?;
        out.extend(first..=last);
        next = u64::from(last) + 1;
    }
    Ok(out)
}
