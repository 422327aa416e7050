//! Appending for several askers at once: what waits becomes batches that one sync makes durable.
//!
//! However much came, all of a request is in the spool or nothing of it: its batches go in together
//! with its positions, so that a kill leaves no part of a chunk behind that would be read again.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tideline_protocol::model::{Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::value::Boxes;
use tideline_spool::{EncodedBatch, Spool, SpoolError, StreamNo, encode_boxed};

use super::{Answer, Position, SeriesRows};
use crate::clock::Ahead;

/// A clock that goes this far apart from the monotonic one was set.
const STEP_NS: u64 = 500_000_000;

/// Readings with the positions of their source behind them.
#[derive(Debug, Clone, Default)]
pub struct Portion {
    /// The source's name in status.
    pub source: String,
    /// The readings by series, their values words of `boxes`; a series may come several times.
    pub rows: Vec<SeriesRows>,
    /// What values stand for that are no plain numbers.
    pub boxes: Boxes,
    /// The clock that gave the times; none when they are the source's own.
    pub clock: Option<Ahead>,
    /// Positions that are durable with them.
    pub positions: Vec<Position>,
    /// The stream that they go to in place of that of the append.
    pub stream: Option<Arc<str>>,
}

impl Portion {
    /// How many readings.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rows.iter().map(|(_, samples)| samples.len() as u64).sum()
    }
}

/// What an append came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The newest seq of the spool.
    pub head: Seq,
    /// Series that the full dictionary had no room for: their readings are not in the spool.
    pub rejected: HashSet<SeriesDef>,
}

/// What one asker wants to be durable.
pub struct Append {
    /// The stream that it goes to.
    pub stream: Arc<str>,
    pub portions: Vec<Arc<Portion>>,
    /// Most readings in one batch.
    pub rows_max: u64,
    pub answer: Answer<Appended>,
}

impl Append {
    pub fn count(&self) -> u64 {
        self.portions.iter().map(|portion| portion.count()).sum()
    }
}

/// The series of an append that the full dictionary has no room for.
pub fn without_room(spool: &mut Spool, append: &Append) -> HashSet<SeriesDef> {
    let rows = append.portions.iter().flat_map(|portion| &portion.rows);
    rows.filter(|(def, _)| spool.series_no(def).is_err()).map(|(def, _)| def.clone()).collect()
}

/// Readings of several portions of a stream that one clock gave the times of.
struct Together<'a> {
    stream: StreamNo,
    clock: Option<Ahead>,
    items: Vec<(SeriesNo, Cow<'a, [Sample]>)>,
    boxes: Boxes,
}

impl<'a> Together<'a> {
    const fn new(stream: StreamNo, clock: Option<Ahead>) -> Self {
        Self { stream, clock, items: Vec::new(), boxes: Boxes::new() }
    }

    /// Adds readings whose values are words of `boxes`: each portion has a table of its own.
    fn push(&mut self, series: SeriesNo, samples: &'a [Sample], boxes: &Boxes) {
        let mut samples = Cow::Borrowed(samples);
        if samples.iter().any(|sample| sample.value.is_nan()) {
            let mut words: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
            self.boxes.adopt(&mut words, boxes);
            samples.to_mut().iter_mut().zip(words).for_each(|(sample, word)| sample.value = word);
        }
        self.items.push((series, samples));
    }
}

/// Whether readings of the two may be in one batch: between them the clock was not set.
fn is_same(one: Option<Ahead>, other: Option<Ahead>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one.believed == other.believed
                && one.earlier == other.earlier
                && one.offset_ns.abs_diff(other.offset_ns) <= STEP_NS
        }
        _ => false,
    }
}

/// Makes all of them durable, or none; the answers are in their order.
pub fn write(spool: &mut Spool, group: &[Append]) -> Result<Vec<HashSet<SeriesDef>>, SpoolError> {
    let (mut batches, mut all_rejected) = (Vec::new(), Vec::with_capacity(group.len()));
    // The last word of a source counts.
    let mut positions = BTreeMap::new();
    for append in group {
        let (mut all, mut rejected): (Vec<Together<'_>>, _) = (Vec::new(), HashSet::new());
        for portion in &append.portions {
            let stream = spool.stream_named(portion.stream.as_ref().unwrap_or(&append.stream))?;
            // Of each stream the newest: older ones are of another time of the clock.
            let newest = all.iter().rposition(|known| known.stream == stream);
            let newest =
                newest.filter(|at| all.get(*at).is_some_and(|known| is_same(known.clock, portion.clock)));
            let mut together = match newest {
                Some(at) => all.remove(at),
                None => Together::new(stream, portion.clock),
            };
            for (def, samples) in &portion.rows {
                match spool.series_no(def) {
                    Ok(series) => together.push(series, samples, &portion.boxes),
                    Err(SpoolError::TooManySeries { def }) => drop(rejected.insert(*def)),
                    Err(error) => return Err(error),
                }
            }
            all.push(together);
            let named = portion.positions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
            positions.extend(named);
        }
        for Together { stream, clock, items, boxes } in all {
            let items: Vec<_> = items.iter().map(|(series, samples)| (*series, samples.as_ref())).collect();
            let mut encoded = Vec::new();
            encode(&items, &boxes, append.rows_max.max(1), &mut encoded)?;
            let stamp = clock.and_then(|clock| match clock.earlier {
                None => spool.stamp(clock.offset_ns, clock.believed),
                Some(boot) => spool.stamp_of(boot, clock.offset_ns, clock.believed),
            });
            batches.extend(encoded.into_iter().map(|batch| batch.on(stream).stamped(stamp)));
        }
        all_rejected.push(rejected);
    }
    let positions: Vec<(&str, &[u8])> = positions.into_iter().collect();
    spool.append_group(&batches, &positions)?;
    Ok(all_rejected)
}

/// Encodes readings as one batch, or as several in time order when they are too many for one or
/// too many bytes.
fn encode(
    items: &[(SeriesNo, &[Sample])],
    boxes: &Boxes,
    rows_max: u64,
    into: &mut Vec<EncodedBatch>,
) -> Result<(), SpoolError> {
    let rows: u64 = items.iter().map(|(_, samples)| samples.len() as u64).sum();
    let mut parts = rows.div_ceil(rows_max);
    if parts <= 1 {
        match encode_boxed(items, boxes) {
            Err(SpoolError::TooLarge { .. }) if rows > 1 => parts = 2,
            encoded => {
                into.push(encoded?);
                return Ok(());
            }
        }
    }
    let mut all: Vec<(SeriesNo, Sample)> = Vec::with_capacity(usize::try_from(rows).unwrap_or(0));
    for (series, samples) in items {
        all.extend(samples.iter().map(|sample| (*series, *sample)));
    }
    // Stable: readings of one time keep the order in which they came.
    all.sort_by_key(|(_, sample)| sample.time_ns);
    let rows_in_part = usize::try_from(rows.div_ceil(parts)).unwrap_or(usize::MAX);
    for part in all.chunks(rows_in_part.max(1)) {
        let mut series: BTreeMap<SeriesNo, Vec<Sample>> = BTreeMap::new();
        part.iter().for_each(|(number, sample)| series.entry(*number).or_default().push(*sample));
        let items: Vec<_> = series.iter().map(|(number, samples)| (*number, samples.as_slice())).collect();
        encode(&items, boxes, rows_max, into)?;
    }
    Ok(())
}

/// The same error for one more asker.
pub fn again(error: &SpoolError) -> SpoolError {
    match error {
        SpoolError::Poisoned => SpoolError::Poisoned,
        SpoolError::Corrupt(reason) => SpoolError::Corrupt(reason.clone()),
        SpoolError::Storage(reason) => SpoolError::Storage(reason.clone()),
        SpoolError::Unsynced(reason) => SpoolError::Unsynced(reason.clone()),
        SpoolError::OverQuota { bytes, quota_bytes } => {
            SpoolError::OverQuota { bytes: *bytes, quota_bytes: *quota_bytes }
        }
        SpoolError::Full { stream, cause } => SpoolError::Full { stream: stream.clone(), cause: *cause },
        other => SpoolError::Storage(other.to_string()),
    }
}
