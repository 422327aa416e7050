//! Batches that stand for older ones of their stream: the newest reading of each series, or the few
//! of each bucket that a chart shows. Batches that a hub may have are left out: it would store their
//! readings a second time.

use std::collections::BTreeMap;

use redb::ReadableTable as _;
use tideline_protocol::block;
use tideline_protocol::clocks::Stamp;
use tideline_protocol::model::{DropCause, RowCounts, Sample, Seq, SeriesNo};
use tideline_protocol::value::Boxes;
use tideline_protocol::wire::RUN_BYTES_MAX;

use crate::append::{EncodedBatch, encode_boxed};
use crate::blob::{self, BLOB_HEADER_LEN, Header, cost};
use crate::room::{Room, Verdict};
use crate::spool::SpoolError;
use crate::streams::StreamNo;

/// Most readings that are decoded for one batch made of several.
const ROWS_MAX: u64 = 100_000;
/// A made batch that saves less than a quarter is not worth its seq.
const WORTH: (u64, u64) = (3, 4);
const NS_PER_S: i64 = 1_000_000_000;

/// Readings by series, whose values are words of the table.
#[derive(Default)]
struct Readings {
    series: BTreeMap<SeriesNo, Vec<Sample>>,
    boxes: Boxes,
}

impl Readings {
    /// Adds samples whose values are words of `boxes`.
    fn add(&mut self, series: SeriesNo, samples: &[Sample], boxes: &Boxes) {
        let mut words: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        self.boxes.adopt(&mut words, boxes);
        let adopted = samples.iter().zip(words).map(|(sample, value)| Sample { value, ..*sample });
        self.series.entry(series).or_default().extend(adopted);
    }

    /// Lets go of the texts of samples that are not here any more, once they are many.
    fn compact(&mut self) {
        if self.boxes.bytes() <= RUN_BYTES_MAX {
            return;
        }
        let old = std::mem::take(self);
        for (series, samples) in old.series {
            self.add(series, &samples, &old.boxes);
        }
    }
}

/// The clock of all batches that become one.
#[derive(Default)]
struct Clock(Option<Option<Stamp>>);

impl Clock {
    fn is_also(&mut self, stamp: Option<Stamp>) -> bool {
        *self.0.get_or_insert(stamp) == stamp
    }

    fn stamp(&self) -> Option<Stamp> {
        self.0.flatten()
    }
}

impl Room<'_, '_> {
    /// All pending batches of a stream that were not sent become one with the newest reading of each series, in the
    /// order in which they were appended.
    pub fn keep_latest(&mut self, no: StreamNo, oldest: u64, cause: DropCause) -> Result<(), SpoolError> {
        let (mut kept, mut seqs, mut before) = (Readings::default(), Vec::new(), 0);
        let mut clock = Clock::default();
        let mut pending = Vec::new();
        self.spool.streams.map.each_of(no, &self.books.pending, |seq| pending.push(seq));
        let free = |seq: &u64| *seq <= self.spool.books.head && !self.spool.sent.contains(*seq);
        for seq in pending.into_iter().filter(free) {
            // A damaged one cannot tell what it holds; it is left for whoever reads it next.
            let Some((header, readings, bytes)) = self.readings(seq)? else { continue };
            // One batch has one clock: of several, those before another one have to go on their own.
            if !clock.is_also(header.stamp) {
                break;
            }
            seqs.push(seq);
            before += bytes;
            for (series, samples) in readings.series {
                let last = samples.last().map(std::slice::from_ref).unwrap_or_default();
                kept.series.remove(&series);
                kept.add(series, last, &readings.boxes);
            }
            kept.compact();
        }
        let packed = pack(&kept, no).map(|batch| batch.stamped(clock.stamp()));
        match packed.filter(|batch| seqs.len() > 1 && worth(batch, before)) {
            Some(batch) => self.replace(&seqs, &batch, DropCause::Superseded),
            None => self.give_up(oldest, cause),
        }
    }

    /// The oldest batches of a stream that were neither sent nor made by downsampling become one that was.
    pub fn downsample(
        &mut self,
        no: StreamNo,
        oldest: u64,
        bucket_s: u32,
        cause: DropCause,
    ) -> Result<(), SpoolError> {
        let (mut all, mut seqs, mut before, mut rows) = (Readings::default(), Vec::new(), 0, 0);
        let (mut next, mut clock) = (self.next_pending(no, oldest), Clock::default());
        while let Some(seq) = next {
            let Some((header, readings, bytes)) = self.readings(seq)? else { break };
            rows += u64::from(header.rows);
            if header.thinned
                || !clock.is_also(header.stamp)
                || ((rows > ROWS_MAX || all.boxes.bytes() > RUN_BYTES_MAX) && !seqs.is_empty())
            {
                break;
            }
            seqs.push(seq);
            before += bytes;
            for (series, samples) in readings.series {
                all.add(series, &samples, &readings.boxes);
            }
            next = self.next_pending(no, seq + 1);
        }
        let bucket_ns = i64::from(bucket_s.max(1)) * NS_PER_S;
        let Readings { series, boxes } = all;
        let series = series.into_iter().map(|(no, samples)| (no, m4(samples, &boxes, bucket_ns))).collect();
        let packed = pack(&Readings { series, boxes }, no).map(|batch| batch.stamped(clock.stamp()));
        match packed.filter(|batch| worth(batch, before)) {
            Some(mut batch) => {
                batch.thinned = true;
                self.replace(&seqs, &batch, DropCause::Downsampled)
            }
            None => self.give_up(oldest, cause),
        }
    }

    fn replace(&mut self, seqs: &[u64], by: &EncodedBatch, cause: DropCause) -> Result<(), SpoolError> {
        seqs.iter().try_for_each(|seq| self.give_up(*seq, cause))?;
        self.books.made += u64::from(by.rows);
        self.place(by, Verdict::Accepted)
    }

    /// The first pending seq of a stream from `from` on that was not sent.
    fn next_pending(&self, no: StreamNo, from: u64) -> Option<u64> {
        let (before, mut from) = (self.spool.books.head, from);
        loop {
            let ranges = self.books.pending.iter().filter(|(_, hi)| *hi >= from);
            let found = ranges
                .map(|(lo, hi)| self.spool.streams.map.next_of(no, lo.max(from), hi.min(before)))
                .find_map(|found| found)?;
            match self.spool.sent.first_missing_from(found) {
                free if free == found => return Some(found),
                free => from = free,
            }
        }
    }

    /// Header, readings and cost of a stored batch, when it can be read.
    fn readings(&self, seq: u64) -> Result<Option<(Header, Readings, u64)>, SpoolError> {
        let Some(value) = self.batches.get(seq).map_err(SpoolError::storage)? else { return Ok(None) };
        let Some((header, block)) = blob::split(seq, value.value()) else { return Ok(None) };
        let Ok(decoded) = block::decode(block, &RowCounts::one(header.rows), Seq::new(seq)) else {
            return Ok(None);
        };
        let columns = decoded.columns.into_iter().map(|column| {
            let samples = column.times.into_iter().zip(column.values);
            (column.series, samples.map(|(time_ns, value)| Sample { time_ns, value }).collect())
        });
        let readings = Readings { series: columns.collect(), boxes: decoded.boxes };
        Ok(Some((header, readings, cost(value.value().len()))))
    }
}

fn pack(readings: &Readings, no: StreamNo) -> Option<EncodedBatch> {
    let items: Vec<_> =
        readings.series.iter().map(|(series, samples)| (*series, samples.as_slice())).collect();
    encode_boxed(&items, &readings.boxes).ok().filter(|batch| batch.rows > 0).map(|batch| batch.on(no))
}

fn worth(batch: &EncodedBatch, before: u64) -> bool {
    let after = cost(BLOB_HEADER_LEN + batch.bytes());
    after.saturating_mul(WORTH.1) <= before.saturating_mul(WORTH.0)
}

/// The first, lowest, highest and last reading of each bucket: what a line chart needs of it (M4,
/// Jugel et al., VLDB 2014). What is no number has no height: of those, texts, nulls and what is not of good
/// quality, the first of each that are the same one after the other stays, and so does the number that ends them.
/// All stay as they were measured.
fn m4(mut samples: Vec<Sample>, boxes: &Boxes, bucket_ns: i64) -> Vec<Sample> {
    // Stable: readings of one time keep their order.
    samples.sort_by_key(|sample| sample.time_ns);
    let mut kept = Vec::new();
    for bucket in samples.chunk_by(|a, b| a.time_ns.div_euclid(bucket_ns) == b.time_ns.div_euclid(bucket_ns))
    {
        let numbers = || {
            let all = bucket.iter().map(|sample| boxes.number(sample.value)).enumerate();
            all.filter(|(_, number)| !number.is_nan())
        };
        let by = |one: &(usize, f64), other: &(usize, f64)| one.1.total_cmp(&other.1);
        let lowest = numbers().min_by(by).map(|(at, _)| at);
        let highest = numbers().max_by(by).map(|(at, _)| at);
        let mut places: Vec<usize> =
            [Some(0), lowest, highest, Some(bucket.len() - 1)].into_iter().flatten().collect();
        places.extend(changes(bucket, boxes));
        places.sort_unstable();
        places.dedup();
        kept.extend(places.into_iter().filter_map(|at| bucket.get(at)).copied());
    }
    kept
}

/// Where a bucket goes over from one value that is no number to another, or to numbers and back.
fn changes<'b>(bucket: &'b [Sample], boxes: &'b Boxes) -> impl Iterator<Item = usize> + 'b {
    let state = |sample: &Sample| boxes.number(sample.value).is_nan().then(|| boxes.print(sample.value));
    let mut before = bucket.first().and_then(state);
    let changed = bucket.iter().map(state).enumerate();
    changed.filter(move |(_, state)| std::mem::replace(&mut before, *state) != *state).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tideline_protocol::value::{Quality, Value, ValueKind};

    use super::*;

    fn samples(words: impl IntoIterator<Item = f64>, times: impl IntoIterator<Item = i64>) -> Vec<Sample> {
        words.into_iter().zip(times).map(|(value, time_ns)| Sample { time_ns, value }).collect()
    }

    #[test]
    fn of_each_bucket_the_first_lowest_highest_and_last_are_kept_as_they_were() {
        let all = samples([5.0, 1.0, 3.0, 9.0, 4.0, 7.0, 7.0], [0, 1, 2, 3, 9, 10, 25]);
        let kept = m4(all, &Boxes::new(), 10);
        let kept: Vec<(i64, f64)> = kept.iter().map(|s| (s.time_ns, s.value)).collect();
        assert_eq!(kept, [(0, 5.0), (1, 1.0), (3, 9.0), (9, 4.0), (10, 7.0), (25, 7.0)]);
    }

    #[test]
    fn of_each_bucket_every_change_of_what_is_no_number_is_kept() {
        let mut boxes = Boxes::new();
        let mut text = |text: &str| boxes.word(Value::Text(text.into()), Quality::Good);
        let (on, off) = (text("on"), text("off"));
        let bad = boxes.word(Value::Float(99.0), Quality::Bad);
        let all = samples([on, on, off, off, off, on, on, on], 0..);
        let times = |kept: Vec<Sample>| kept.iter().map(|s| s.time_ns).collect::<Vec<i64>>();
        assert_eq!(times(m4(all, &boxes, 100)), [0, 2, 5, 7]);
        // A bad 99 is no height, but it is seen that there was one.
        let all = samples([3.0, 2.0, 3.0, bad, bad, 3.0, 4.0, 3.0, 3.0], 0..);
        assert_eq!(times(m4(all, &boxes, 100)), [0, 1, 3, 5, 6, 8]);
    }

    fn values() -> impl Strategy<Value = (Value, Quality)> {
        let value = prop_oneof![
            4 => (-4_i32..4).prop_map(|n| Value::Float(f64::from(n))),
            1 => Just(Value::Null),
            1 => prop_oneof![Just(i64::MAX), Just(i64::MIN)].prop_map(Value::Int),
            2 => "[ab]{1}".prop_map(|text| Value::Text(text.into())),
        ];
        (value, prop_oneof![4 => Just(Quality::Good), 1 => Just(Quality::Uncertain), 1 => Just(Quality::Bad)])
    }

    proptest! {
        #[test]
        fn thinning_loses_no_height_and_no_state_and_makes_nothing_up(
            rows in prop::collection::vec((0_i64..60, values()), 1..60),
        ) {
            let mut boxes = Boxes::new();
            let all = rows.into_iter().map(|(time_ns, (value, quality))| {
                Sample { time_ns, value: boxes.word(value, quality) }
            });
            let mut all: Vec<Sample> = all.collect();
            all.sort_by_key(|sample| sample.time_ns);
            let kept = m4(all.clone(), &boxes, 10);
            let seen = |sample: &Sample| (sample.time_ns, boxes.print(sample.value));
            // In order, and each once: a subsequence.
            let mut left = all.iter().map(seen);
            prop_assert!(kept.iter().map(seen).all(|one| left.any(|other| other == one)));
            // Numbers are one state: what a chart shows between two of them is a line.
            let states = |rows: &[Sample]| {
                let mut states: Vec<_> = rows.iter().map(|sample| {
                    let (value, quality) = boxes.value(sample.value, ValueKind::Float);
                    let number = !boxes.number(sample.value).is_nan();
                    (!number).then(|| (value.to_string(), value.kind(), quality))
                }).collect();
                states.dedup();
                states
            };
            let of = |rows: &[Sample], n: i64| -> Vec<Sample> {
                rows.iter().filter(|sample| sample.time_ns.div_euclid(10) == n).copied().collect()
            };
            for bucket in 0..6 {
                let (before, after) = (of(&all, bucket), of(&kept, bucket));
                prop_assert_eq!(states(&before), states(&after));
                prop_assert_eq!(before.first().map(seen), after.first().map(seen));
                prop_assert_eq!(before.last().map(seen), after.last().map(seen));
                let heights = |rows: &[Sample]| {
                    let numbers = rows.iter().map(|sample| boxes.number(sample.value));
                    numbers.fold((f64::NAN, f64::NAN), |(low, high), n| (low.min(n), high.max(n)))
                };
                let ((low, high), (low_kept, high_kept)) = (heights(&before), heights(&after));
                prop_assert_eq!((low.to_bits(), high.to_bits()), (low_kept.to_bits(), high_kept.to_bits()));
            }
        }
    }
}
