//! Digests of batches: what tells whether both ends hold the same readings.
//!
//! A reading is hashed with the seq of its batch, the name of its series, its time as it was sent and
//! the bits of its value, or the hash of what no double holds, by XXH3 with 128 bits; the digest of some batches is the sum of the hashes of
//! their readings modulo 2^128. So it does not depend on the order in which they are read, which is the
//! agent's by batch and the hub's by series, and digests of parts add up to that of the whole. It
//! finds what time, software and disks do to readings. It is no proof against somebody who makes
//! readings up to fit, which either end may do with its own.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::block::Decoded;
use crate::model::{SeriesDef, SeriesNo};
use crate::wire::Digest;

/// A series as it enters the hash of its readings. The unit is left out: the hub keeps the newest only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesKey([u8; 16]);

impl SeriesKey {
    /// Of the point of a device.
    #[must_use]
    pub fn new(device: &str, point: &str) -> Self {
        let mut hash = Xxh3::new();
        // Names hold no zero byte.
        [device.as_bytes(), &[0], point.as_bytes()].iter().for_each(|part| hash.update(part));
        Self(hash.digest128().to_le_bytes())
    }
}

impl From<&SeriesDef> for SeriesKey {
    fn from(def: &SeriesDef) -> Self {
        Self::new(def.device.as_str(), def.point.as_str())
    }
}

/// Adds readings up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summer {
    rows: u64,
    sum: u128,
}

impl Summer {
    /// Adds a reading of the batch `seq`; its time is the one that was sent, without any correction, and `print` is
    /// what its value is told by ([`crate::value::Boxes::print`]).
    pub fn add(&mut self, seq: u64, series: SeriesKey, time_ns: i64, print: u64) {
        let mut bytes = [0; 40];
        let parts: [&[u8]; 4] = [&seq.to_le_bytes(), &series.0, &time_ns.to_le_bytes(), &print.to_le_bytes()];
        let filled = parts.iter().flat_map(|part| part.iter());
        bytes.iter_mut().zip(filled).for_each(|(byte, part)| *byte = *part);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(xxh3_128(&bytes));
    }

    /// Adds the readings that another one has added up.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The digest of all that was added.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        Digest { rows: self.rows, sum: self.sum.to_le_bytes() }
    }
}

/// Shows each reading of a decoded block that begins with `first`, with the seq of its batch and what its value is told
/// by, to `visit`.
/// Readings of series that `keys` does not have are left out.
pub fn each_reading(
    decoded: &Decoded,
    first: u64,
    keys: impl Fn(SeriesNo) -> Option<SeriesKey>,
    mut visit: impl FnMut(u64, SeriesKey, i64, u64),
) {
    for column in &decoded.columns {
        let Some(key) = keys(column.series) else { continue };
        let mut readings = column.times.iter().zip(&column.values);
        for (rows, seq) in column.rows_per_seq.iter().zip(first..) {
            for (time_ns, value) in readings.by_ref().take(*rows as usize) {
                visit(seq, key, *time_ns, decoded.boxes.print(*value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockBuilder, decode};
    use crate::model::{Sample, Seq};

    fn sum(readings: &[(u64, SeriesKey, i64, f64)]) -> Digest {
        let mut out = Summer::default();
        readings.iter().for_each(|(seq, series, time, value)| out.add(*seq, *series, *time, value.to_bits()));
        out.digest()
    }

    #[test]
    fn it_depends_on_all_of_a_reading_and_not_on_the_order() {
        let (a, b) = (SeriesKey::new("pump-7", "flow"), SeriesKey::new("pump-7", "level"));
        let whole = sum(&[(1, a, 5, 1.5), (2, b, 6, -0.0)]);
        assert_eq!(whole.rows, 2);
        assert_eq!(whole, sum(&[(2, b, 6, -0.0), (1, a, 5, 1.5)]));
        let others = [
            [(1, a, 5, 1.5), (2, b, 6, 0.0)],
            [(1, a, 5, 1.5), (2, b, 7, -0.0)],
            [(1, a, 5, 1.5), (2, a, 6, -0.0)],
            [(2, a, 5, 1.5), (1, b, 6, -0.0)],
        ];
        others.iter().for_each(|other| assert_ne!(whole, sum(other)));
        // Names are kept apart: "ab" + "c" is not "a" + "bc".
        assert_ne!(SeriesKey::new("ab", "c"), SeriesKey::new("a", "bc"));
    }

    #[test]
    fn parts_add_up() {
        let key = SeriesKey::new("d", "p");
        let (mut left, mut right) = (Summer::default(), Summer::default());
        left.add(1, key, 1, 1.0_f64.to_bits());
        right.add(2, key, 2, f64::NAN.to_bits());
        left.merge(&right);
        assert_eq!(left.digest(), sum(&[(1, key, 1, 1.0), (2, key, 2, f64::NAN)]));
    }

    // The hash is part of the protocol: both ends must compute the same one in every version.
    #[test]
    fn the_digest_of_a_known_reading_does_not_change() {
        let digest = sum(&[(7, SeriesKey::new("pump-7", "temperature"), 1_700_000_000_000_000_000, 21.5)]);
        let text: String = digest.sum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "0fb45403402f757c5c17de42b874f1c4");
    }

    #[test]
    fn a_block_shows_each_reading_with_its_seq() {
        let mut block = BlockBuilder::new();
        let sample = |time_ns, value| Sample { time_ns, value };
        block.push_batch(&[(0, &[sample(1, 1.0), sample(2, 2.0)]), (2, &[sample(1, 9.0)])]);
        block.push_batch(&[(2, &[sample(3, 8.0)])]);
        let block = block.finish();
        let decoded = decode(&block.bytes, &block.rows, Seq::new(5)).unwrap();
        let (key, mut seen) = (SeriesKey::new("d", "p"), Vec::new());
        each_reading(
            &decoded,
            5,
            |no| (no == 2).then_some(key),
            |seq, _, time, value| {
                seen.push((seq, time, value));
            },
        );
        assert_eq!(seen, [(5, 1, 9.0_f64.to_bits()), (6, 3, 8.0_f64.to_bits())]);
    }
}
