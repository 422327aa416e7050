//! Readings in the parts that they are stored in.

use std::collections::BTreeMap;

use tideline_protocol::model::Sample;

/// Most readings of a chunk: those of a batch.
pub const CHUNK_READINGS_MAX: usize = 65_536;

/// The readings of some rows that follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Its number, from 1.
    pub number: u64,
    /// By the number of their series; of each in the order of the file.
    pub columns: BTreeMap<u32, Vec<Sample>>,
}

impl Chunk {
    /// How many readings it has.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.columns.values().map(Vec::len).sum()
    }
}

/// How many chunks rows come in, without their readings.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChunkCount {
    cut: u64,
    // Of the chunk that is not cut.
    readings: usize,
}

impl ChunkCount {
    /// Counts a row; says whether a chunk ends before it.
    pub const fn add(&mut self, readings: usize) -> bool {
        let full = self.readings > 0 && self.readings + readings > CHUNK_READINGS_MAX;
        if full {
            self.cut += 1;
            self.readings = 0;
        }
        self.readings += readings;
        full
    }

    pub const fn get(self) -> u64 {
        self.cut + (self.readings > 0) as u64
    }
}

/// Gathers the readings of rows. A row is never in two chunks.
#[derive(Debug)]
pub struct Chunks {
    chunk: Chunk,
    count: ChunkCount,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { chunk: Chunk { number: 1, columns: BTreeMap::new() }, count: ChunkCount::default() }
    }
}

impl Chunks {
    /// Adds the readings of a row, at most [`CHUNK_READINGS_MAX`]; gives the chunk that has no room for them.
    pub fn add(&mut self, row: &[(u32, Sample)]) -> Option<Chunk> {
        let full = self.count.add(row.len()).then(|| self.cut());
        for (series, sample) in row {
            self.chunk.columns.entry(*series).or_default().push(*sample);
        }
        full
    }

    /// The last chunk, if there is anything in it.
    #[must_use]
    pub fn finish(self) -> Option<Chunk> {
        (!self.chunk.columns.is_empty()).then_some(self.chunk)
    }

    fn cut(&mut self) -> Chunk {
        let next = Chunk { number: self.chunk.number + 1, columns: BTreeMap::new() };
        std::mem::replace(&mut self.chunk, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_full_keep_rows_whole_and_lose_nothing() {
        let row = |at: i64, wide: u32| {
            (0..wide).map(|series| (series, Sample { time_ns: at, value: 0.5 })).collect::<Vec<_>>()
        };
        let (mut chunks, mut all, mut count) = (Chunks::default(), Vec::new(), ChunkCount::default());
        for at in 0..50_000 {
            all.extend(chunks.add(&row(at, 3)));
            count.add(3);
        }
        assert_eq!(count.get(), 3);
        all.extend(chunks.finish());
        assert_eq!(all.iter().map(|chunk| chunk.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(all.iter().map(Chunk::readings).collect::<Vec<_>>(), [65_535, 65_535, 18_930]);
        let times: Vec<i64> = all.iter().flat_map(|chunk| &chunk.columns[&2]).map(|s| s.time_ns).collect();
        assert_eq!(times, (0..50_000).collect::<Vec<_>>());
        assert!(Chunks::default().finish().is_none());
        // A row of nothing but nulls begins no chunk.
        let mut chunks = Chunks::default();
        assert!(chunks.add(&[]).is_none() && chunks.finish().is_none());
    }
}
