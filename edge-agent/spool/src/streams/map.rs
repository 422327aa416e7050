//! Which stream each seq is of. Seqs of the default stream take no room as long as a whole chunk is.

use std::collections::BTreeMap;

use tideline_protocol::ranges::RangeSet;

use super::StreamNo;

/// Seqs in a chunk; a chunk is what a commit writes again.
const CHUNK: u64 = 4096;
const CHUNK_LEN: usize = 4096;
const ALL: u8 = 0;
const EACH: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Chunk {
    All(StreamNo),
    Each(Vec<StreamNo>),
}

/// Stream numbers by seq; what was never placed is of stream 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamMap {
    chunks: BTreeMap<u64, Chunk>,
}

fn place(seq: u64) -> (u64, usize) {
    (seq / CHUNK, usize::try_from(seq % CHUNK).unwrap_or(0))
}

impl StreamMap {
    pub fn of(&self, seq: u64) -> StreamNo {
        let (number, at) = place(seq);
        match self.chunks.get(&number) {
            None => 0,
            Some(Chunk::All(no)) => *no,
            Some(Chunk::Each(each)) => each.get(at).copied().unwrap_or(0),
        }
    }

    pub fn set(&mut self, seq: u64, no: StreamNo) {
        if self.of(seq) == no {
            return;
        }
        let (number, at) = place(seq);
        // The first of a chunk is likely to be followed by its like.
        if at == 0 || seq == 1 {
            self.chunks.insert(number, Chunk::All(no));
            return;
        }
        let chunk = self.chunks.entry(number).or_insert(Chunk::All(0));
        if let Chunk::All(other) = chunk {
            *chunk = Chunk::Each(vec![*other; CHUNK_LEN]);
        }
        if let Chunk::Each(each) = chunk
            && let Some(one) = each.get_mut(at)
        {
            *one = no;
        }
    }

    /// Calls `take` with each seq of `set` that is of stream `no`, in order.
    pub fn each_of(&self, no: StreamNo, set: &RangeSet, mut take: impl FnMut(u64)) {
        for (lo, hi) in set.iter() {
            let mut next = lo;
            while let Some(seq) = self.next_of(no, next, hi) {
                take(seq);
                next = seq + 1;
            }
        }
    }

    /// The first seq of stream `no` in `lo..=hi`.
    pub fn next_of(&self, no: StreamNo, lo: u64, hi: u64) -> Option<u64> {
        let mut next = lo;
        while next <= hi {
            let (number, at) = place(next);
            let found = match self.chunks.get(&number) {
                None if no == 0 => Some(0),
                Some(Chunk::All(other)) if *other == no => Some(0),
                None | Some(Chunk::All(_)) => None,
                Some(Chunk::Each(each)) => each.iter().skip(at).position(|other| *other == no),
            };
            if let Some(skip) = found {
                return Some(next + skip as u64).filter(|seq| *seq <= hi);
            }
            next = (number + 1) * CHUNK;
        }
        None
    }

    /// The chunks that `placed` changes, as they are to be stored.
    pub fn changed(&self, placed: &[(u64, StreamNo)]) -> Vec<(u64, Vec<u8>)> {
        let mut after: BTreeMap<u64, Self> = BTreeMap::new();
        for (seq, no) in placed {
            let (number, _) = place(*seq);
            let own = after.entry(number).or_insert_with(|| {
                let chunk = self.chunks.get(&number).cloned();
                Self { chunks: chunk.map(|chunk| (number, chunk)).into_iter().collect() }
            });
            own.set(*seq, *no);
        }
        let bytes = |chunk: Chunk| match chunk {
            Chunk::All(no) => vec![ALL, no],
            Chunk::Each(each) => [&[EACH][..], &each].concat(),
        };
        let chunks = after.into_values().flat_map(|map| map.chunks);
        chunks.map(|(number, chunk)| (number, bytes(chunk))).collect()
    }

    /// Takes over a stored chunk; `None` when it is not as written.
    pub fn read_chunk(&mut self, number: u64, bytes: &[u8]) -> Option<()> {
        let chunk = match bytes.split_first()? {
            (&ALL, [no]) => Chunk::All(*no),
            (&EACH, each) if each.len() == CHUNK_LEN => Chunk::Each(each.to_vec()),
            _ => return None,
        };
        self.chunks.insert(number, chunk);
        Some(())
    }

    /// The chunks that end before `seq`.
    pub fn chunks_before(&self, seq: u64) -> impl Iterator<Item = u64> {
        self.chunks.range(..seq / CHUNK).map(|(number, _)| *number)
    }

    /// Forgets the chunks that end before `seq`.
    pub fn forget_before(&mut self, seq: u64) {
        self.chunks = self.chunks.split_off(&(seq / CHUNK));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_list_and_comes_back_from_its_chunks(
            runs in prop::collection::vec((0_u8..3, 1_usize..6_000), 1..6),
        ) {
            let plain: Vec<u8> = runs.iter().flat_map(|(no, count)| std::iter::repeat_n(*no, *count)).collect();
            let (mut map, mut stored) = (StreamMap::default(), StreamMap::default());
            for (part, first) in plain.chunks(1_000).zip((1_u64..).step_by(1_000)) {
                let placed: Vec<(u64, u8)> = (first..).zip(part.iter().copied()).collect();
                for (number, bytes) in map.changed(&placed) {
                    stored.read_chunk(number, &bytes).unwrap();
                }
                placed.iter().for_each(|(seq, no)| map.set(*seq, *no));
            }
            let all = RangeSet::of(1, plain.len() as u64);
            for no in 0..3 {
                let wanted: Vec<u64> =
                    (1_u64..).zip(&plain).filter(|(_, one)| **one == no).map(|(seq, _)| seq).collect();
                for map in [&map, &stored] {
                    let mut found = Vec::new();
                    map.each_of(no, &all, |seq| found.push(seq));
                    prop_assert_eq!(&found, &wanted);
                }
            }
        }
    }
}
