//! What a disk was given: the model that its spool is held against.

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::block;
use tideline_protocol::model::{Sample, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::value::Boxes;
use tideline_spool::Spool;

use super::clocks::BootId;
use super::readings::value_of;

/// What a seq stands for.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Each of which is one reading.
    pub values: Vec<u64>,
    /// The number of its stream.
    pub stream: usize,
}

/// What a disk was given.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// All values that it was given.
    pub values: RangeSet,
    /// The seqs of the epoch.
    pub seqs: BTreeMap<u64, Batch>,
    /// Readings of all seqs, those of batches that policies made among them.
    pub rows: u64,
    /// The source's position.
    pub position: u64,
}

/// A batch that the source has not been acknowledged.
#[derive(Debug)]
pub struct Offer {
    pub first: u64,
    pub last: u64,
    pub stream: usize,
    pub samples: Vec<(&'static str, Sample)>,
    /// What their values stand for.
    pub boxes: Boxes,
    /// The start of the machine in which they were taken.
    pub boot: BootId,
    /// How far the wall clock was ahead of the monotonic one.
    pub ahead_ns: i64,
    pub believed: bool,
}

impl Made {
    /// The newest seq.
    pub fn head(&self) -> u64 {
        self.seqs.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Damage to the newest records cannot be told from a write that was torn.
    pub fn end_at(&mut self, head: Seq, position: u64) -> RangeSet {
        self.position = self.position.min(position);
        let mut cut = RangeSet::new();
        for batch in self.seqs.split_off(&(head.get() + 1)).into_values() {
            self.rows -= batch.values.len() as u64;
            batch.values.into_iter().for_each(|value| cut.insert(value, value));
        }
        cut
    }

    pub fn take(&mut self, seq: Seq, offer: &Offer) {
        self.values.insert(offer.first, offer.last);
        self.position = offer.last;
        let values = (offer.first..=offer.last).collect();
        self.put(seq.get(), Batch { values, stream: offer.stream });
    }

    /// A policy made a batch of others, which are given up.
    pub fn thin(&mut self, seq: u64, values: Vec<u64>, dropped: &RangeSet) -> Result<(), String> {
        let given_up = || self.seqs.iter().filter(|(seq, _)| dropped.contains(**seq)).map(|(_, batch)| batch);
        let streams = values.iter().map(|value| given_up().find(|batch| batch.values.contains(value)));
        let streams: BTreeSet<Option<usize>> = streams.map(|batch| batch.map(|batch| batch.stream)).collect();
        match Vec::from_iter(streams).as_slice() {
            [Some(stream)] => {
                self.put(seq, Batch { values, stream: *stream });
                Ok(())
            }
            other => Err(format!(
                "INV-3: seq {seq} stands for others of one stream, and has {values:?} of streams {other:?}"
            )),
        }
    }

    fn put(&mut self, seq: u64, batch: Batch) {
        self.rows += batch.values.len() as u64;
        self.seqs.insert(seq, batch);
    }
}

/// Takes over into the model what batches hold that policies made. Not of a disk that is damaged: there
/// no policy makes any, and seqs that are new to the model are of a journal that was lost.
pub fn read_thinned(spool: &mut Spool, made: &mut Made) -> Result<(), String> {
    for seq in made.head() + 1..spool.head().get() {
        let first = Seq::new(seq);
        let read = spool.load_run(first, first, usize::MAX, u64::MAX).map_err(|error| error.to_string())?;
        let run = read.ok_or_else(|| format!("INV-3: seq {seq} was made by a policy and is not held"))?;
        let decoded = block::decode(&run.block, &run.rows, first).map_err(|error| error.to_string())?;
        let words = decoded.columns.iter().flat_map(|column| &column.values);
        let values = words.map(|word| value_of(*word, &decoded.boxes)).collect::<Result<_, _>>()?;
        made.thin(seq, values, &spool.settlement().dropped)?;
    }
    Ok(())
}
