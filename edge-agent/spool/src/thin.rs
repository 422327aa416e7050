//! Batches that stand for older ones of their stream: the newest reading of each series, or the few
//! of each bucket that a chart shows. Batches that a hub may have are left out: it would store their
//! readings a second time.

use std::collections::BTreeMap;

use redb::ReadableTable as _;
use tideline_protocol::block;
use tideline_protocol::clocks::Stamp;
use tideline_protocol::model::{DropCause, RowCounts, Sample, Seq, SeriesNo};

use crate::append::{EncodedBatch, encode_batch};
use crate::blob::{self, BLOB_HEADER_LEN, Header, cost};
use crate::room::{Room, Verdict};
use crate::spool::SpoolError;
use crate::streams::StreamNo;

/// Most readings that are decoded for one batch made of several.
const ROWS_MAX: u64 = 100_000;
/// A made batch that saves less than a quarter is not worth its seq.
const WORTH: (u64, u64) = (3, 4);
const NS_PER_S: i64 = 1_000_000_000;

type Readings = BTreeMap<SeriesNo, Vec<Sample>>;

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
        let (mut latest, mut seqs, mut before): (BTreeMap<SeriesNo, Sample>, _, _) =
            (BTreeMap::new(), Vec::new(), 0);
        let mut clock = Clock::default();
        let mut pending = Vec::new();
        self.spool.streams.map.each_of(no, &self.books.pending, |seq| pending.push(seq));
        let free = |seq: &u64| *seq <= self.spool.books.head && !self.spool.sent.contains(*seq);
        for seq in pending.into_iter().filter(free) {
            // A damaged one cannot tell what it holds; it is left for whoever reads it next.
            let Some((header, columns, bytes)) = self.readings(seq)? else { continue };
            // One batch has one clock: of several, those before another one have to go on their own.
            if !clock.is_also(header.stamp) {
                break;
            }
            seqs.push(seq);
            before += bytes;
            for (series, samples) in columns {
                latest.extend(samples.last().map(|last| (series, *last)));
            }
        }
        let kept: Readings = latest.into_iter().map(|(series, sample)| (series, vec![sample])).collect();
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
        let (mut all, mut seqs, mut before, mut rows) = (Readings::new(), Vec::new(), 0, 0);
        let (mut next, mut clock) = (self.next_pending(no, oldest), Clock::default());
        while let Some(seq) = next {
            let Some((header, columns, bytes)) = self.readings(seq)? else { break };
            rows += u64::from(header.rows);
            if header.thinned || !clock.is_also(header.stamp) || (rows > ROWS_MAX && !seqs.is_empty()) {
                break;
            }
            seqs.push(seq);
            before += bytes;
            for (series, samples) in columns {
                all.entry(series).or_default().extend(samples);
            }
            next = self.next_pending(no, seq + 1);
        }
        let bucket_ns = i64::from(bucket_s.max(1)) * NS_PER_S;
        let thin: Readings =
            all.into_iter().map(|(series, samples)| (series, m4(samples, bucket_ns))).collect();
        let packed = pack(&thin, no).map(|batch| batch.stamped(clock.stamp()));
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
        Ok(Some((header, columns.collect(), cost(value.value().len()))))
    }
}

fn pack(readings: &Readings, no: StreamNo) -> Option<EncodedBatch> {
    let items: Vec<_> = readings.iter().map(|(series, samples)| (*series, samples.as_slice())).collect();
    encode_batch(&items).ok().filter(|batch| batch.rows > 0).map(|batch| batch.on(no))
}

fn worth(batch: &EncodedBatch, before: u64) -> bool {
    let after = cost(BLOB_HEADER_LEN + batch.bytes());
    after.saturating_mul(WORTH.1) <= before.saturating_mul(WORTH.0)
}

/// The first, lowest, highest and last reading of each bucket: what a line chart needs of it (M4,
/// Jugel et al., VLDB 2014). They stay as they were measured.
fn m4(mut samples: Vec<Sample>, bucket_ns: i64) -> Vec<Sample> {
    // Stable: readings of one time keep their order.
    samples.sort_by_key(|sample| sample.time_ns);
    let mut kept = Vec::new();
    for bucket in samples.chunk_by(|a, b| a.time_ns.div_euclid(bucket_ns) == b.time_ns.div_euclid(bucket_ns))
    {
        let by = |one: &(usize, &Sample), other: &(usize, &Sample)| one.1.value.total_cmp(&other.1.value);
        let lowest = bucket.iter().enumerate().min_by(by).map(|(at, _)| at);
        let highest = bucket.iter().enumerate().max_by(by).map(|(at, _)| at);
        let mut places: Vec<usize> =
            [Some(0), lowest, highest, Some(bucket.len() - 1)].into_iter().flatten().collect();
        places.sort_unstable();
        places.dedup();
        kept.extend(places.into_iter().filter_map(|at| bucket.get(at)).copied());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_bucket_the_first_lowest_highest_and_last_are_kept_as_they_were() {
        let values = [5.0, 1.0, 3.0, 9.0, 4.0, 7.0, 7.0];
        let samples = values.iter().zip([0, 1, 2, 3, 9, 10, 25]);
        let samples: Vec<Sample> =
            samples.map(|(value, time_ns)| Sample { time_ns, value: *value }).collect();
        let kept: Vec<(i64, f64)> = m4(samples, 10).iter().map(|s| (s.time_ns, s.value)).collect();
        assert_eq!(kept, [(0, 5.0), (1, 1.0), (3, 9.0), (9, 4.0), (10, 7.0), (25, 7.0)]);
    }
}
