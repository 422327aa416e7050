//! Readings in the parts that they are stored in.

use std::collections::BTreeMap;

use tideline_protocol::model::Sample;
use tideline_protocol::value::{Boxes, Value};

use super::RowReading;

/// Most readings of a chunk: those of a batch.
pub const CHUNK_READINGS_MAX: usize = 65_536;
/// Most bytes of texts of a chunk, each with what it takes besides: its block has room for them beside its readings.
pub const CHUNK_TEXT_BYTES_MAX: usize = 1024 * 1024;
/// What a text takes besides its bytes.
const TEXT_BYTES: usize = 16;

/// The readings of some rows that follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Its number, from 1.
    pub number: u64,
    /// By the number of their series; of each in the order of the file.
    pub columns: BTreeMap<u32, Vec<Sample>>,
    /// What the boxed words among the values stand for.
    pub boxes: Boxes,
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
    text_bytes: usize,
}

impl ChunkCount {
    /// Counts a row; says whether a chunk ends before it.
    pub fn add(&mut self, row: &[RowReading]) -> bool {
        let text_bytes: usize = row.iter().map(text_bytes).sum();
        let full = self.readings > 0
            && (self.readings + row.len() > CHUNK_READINGS_MAX
                || self.text_bytes + text_bytes > CHUNK_TEXT_BYTES_MAX);
        if full {
            self.cut += 1;
            (self.readings, self.text_bytes) = (0, 0);
        }
        self.readings += row.len();
        self.text_bytes += text_bytes;
        full
    }

    pub const fn get(self) -> u64 {
        self.cut + (self.readings > 0) as u64
    }
}

fn text_bytes(reading: &RowReading) -> usize {
    if let Value::Text(text) = &reading.value { text.len() + TEXT_BYTES } else { 0 }
}

/// Gathers the readings of rows. A row is never in two chunks.
#[derive(Debug)]
pub struct Chunks {
    chunk: Chunk,
    count: ChunkCount,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { chunk: empty(1), count: ChunkCount::default() }
    }
}

impl Chunks {
    /// Adds the readings of a row, at most [`CHUNK_READINGS_MAX`]; gives the chunk that has no room for them.
    pub fn add(&mut self, row: &[RowReading]) -> Option<Chunk> {
        let full = self.count.add(row).then(|| self.cut());
        for RowReading { series, time_ns, value, quality } in row {
            let value = self.chunk.boxes.word(value.clone(), *quality);
            self.chunk.columns.entry(*series).or_default().push(Sample { time_ns: *time_ns, value });
        }
        full
    }

    /// The last chunk, if there is anything in it.
    #[must_use]
    pub fn finish(self) -> Option<Chunk> {
        (!self.chunk.columns.is_empty()).then_some(self.chunk)
    }

    fn cut(&mut self) -> Chunk {
        let next = empty(self.chunk.number + 1);
        std::mem::replace(&mut self.chunk, next)
    }
}

fn empty(number: u64) -> Chunk {
    Chunk { number, columns: BTreeMap::new(), boxes: Boxes::new() }
}

#[cfg(test)]
mod tests {
    use tideline_protocol::value::Quality;

    use super::*;

    fn reading(series: u32, time_ns: i64, value: Value) -> RowReading {
        RowReading { series, time_ns, value, quality: Quality::Good }
    }

    #[test]
    fn texts_take_their_room_in_chunks() {
        let (mut chunks, mut count, mut all) = (Chunks::default(), ChunkCount::default(), Vec::new());
        for at in 0..1_000 {
            let row = [reading(0, at, Value::Text(format!("{at:4000}").into()))];
            all.extend(chunks.add(&row));
            count.add(&row);
        }
        all.extend(chunks.finish());
        assert_eq!((count.get(), all.len()), (4, 4));
        assert_eq!(all.iter().map(Chunk::readings).sum::<usize>(), 1_000);
    }

    #[test]
    fn chunks_are_full_keep_rows_whole_and_lose_nothing() {
        let row = |at: i64, wide: u32| {
            (0..wide).map(|series| reading(series, at, Value::Float(0.5))).collect::<Vec<_>>()
        };
        let (mut chunks, mut all, mut count) = (Chunks::default(), Vec::new(), ChunkCount::default());
        for at in 0..50_000 {
            all.extend(chunks.add(&row(at, 3)));
            count.add(&row(at, 3));
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
