//! What is still known where retention removed readings: which times are no more known by what, and the buckets that
//! stand for readings.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::blocks::SealedFile;
use crate::buckets::{Aggregate, Buckets, bucket_last, bucket_start};
use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::manifest::FileEntry;
use crate::sealed::SealedFormat;
use crate::segment::{LEVELS, Level};
use crate::tables::{Shared, read};

use super::newest::{Newest, hot_of};
use super::{Tier, add, check};

type Files = [Arc<FileEntry>];

/// A bucket that stands for readings of which some are gone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stand {
    /// The finest rollup that is left of them.
    pub tier: Tier,
    /// Where the bucket begins, ns.
    pub start_ns: i64,
    /// Its width, ns.
    pub width_ns: i64,
    /// What is known of all readings in it, also of those that are still there.
    pub part: Aggregate,
}

impl Stand {
    /// The last time that is in the bucket, ns.
    #[must_use]
    pub const fn end_ns(&self) -> i64 {
        bucket_last(self.start_ns, self.width_ns)
    }
}

/// The last time of a range of which a level does not know all readings, since they are past their retention.
pub fn thinned_to(
    shared: &Shared,
    format: &dyn SealedFormat,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    level: Level,
) -> Result<Option<i64>, StoreError> {
    check(shared, series)?;
    let files = Arc::clone(&read(&shared.tables).files);
    let mut out: Option<i64> = None;
    for file in files.iter().filter(|file| file.finest > level) {
        let sealed = SealedFile { shared, format, file };
        for id in series {
            let found = sealed.find(*id, (from_ns, to_ns))?;
            out = out.max(found.map(|entry| entry.last_ns.min(to_ns)));
        }
    }
    Ok(out)
}

/// The times of a series in a range and around it of which a level does not know all readings: from the first to the last
/// reading of each bucket of a file that has no level as fine. In order, and none touches another.
pub(super) fn unknown(
    shared: &Shared,
    format: &dyn SealedFormat,
    files: &Files,
    (id, level): (SeriesId, Level),
    range: (i64, i64),
) -> Result<Vec<(i64, i64)>, StoreError> {
    let mut all = Vec::new();
    for file in files.iter().filter(|file| file.finest > level) {
        let sealed = SealedFile { shared, format, file };
        let range = file.finest.widened(range);
        if sealed.find(id, range)?.is_some() {
            sealed.each_roll(id, file.finest, range, |_, part| all.push((part.first_ns, part.last_ns)))?;
        }
    }
    all.sort_unstable();
    all.dedup_by(|later, before| {
        let touches = later.0 <= before.1;
        before.1 = if touches { before.1.max(later.1) } else { before.1 };
        touches
    });
    Ok(all)
}

/// Whether one of these spans has a time of `from..=last`.
pub(super) fn touches(spans: &[(i64, i64)], (from_ns, last_ns): (i64, i64)) -> bool {
    let at = spans.partition_point(|span| span.1 < from_ns);
    spans.get(at).is_some_and(|span| span.0 <= last_ns)
}

/// The starts of the buckets that stand for readings, by level: those of a file's finest level that lie in none of a
/// coarser one.
fn starts(
    shared: &Shared,
    format: &dyn SealedFormat,
    files: &Files,
    (id, range): (SeriesId, (i64, i64)),
) -> Result<Vec<(Level, BTreeSet<i64>)>, StoreError> {
    let mut out: Vec<(Level, BTreeSet<i64>)> = Vec::new();
    for level in LEVELS.into_iter().rev().filter(|level| *level != Level::Raw) {
        let mut own = BTreeSet::new();
        for file in files.iter().filter(|file| file.finest == level) {
            let sealed = SealedFile { shared, format, file };
            if sealed.find(id, range)?.is_some() {
                sealed.each_roll(id, level, range, |start, _| {
                    own.insert(start);
                })?;
            }
        }
        own.retain(|start| {
            let covers = |(level, starts): &(Level, BTreeSet<i64>)| {
                starts.contains(&bucket_start(*start, level.width_ns()))
            };
            !out.iter().any(covers)
        });
        if !own.is_empty() {
            out.push((level, own));
        }
    }
    Ok(out)
}

/// Starts that follow each other by a width, as ranges.
fn runs(starts: &BTreeSet<i64>, width_ns: i64) -> Vec<(i64, i64)> {
    let mut out: Vec<(i64, i64)> = Vec::new();
    for start in starts {
        let end = start.saturating_add(width_ns);
        match out.last_mut() {
            Some(last) if last.1 == *start => last.1 = end,
            _ => out.push((*start, end)),
        }
    }
    out
}

/// See [`crate::Store::query_stands`].
pub fn stands(
    shared: &Shared,
    format: &dyn SealedFormat,
    id: SeriesId,
    range: (i64, i64),
) -> Result<Vec<Stand>, StoreError> {
    check(shared, &[id])?;
    // Whole days have whole hours, and these whole minutes: a bucket that is cut by the range lies in it then.
    let range = Level::Day.widened(range);
    loop {
        let files = Arc::clone(&read(&shared.tables).files);
        let starts = starts(shared, format, &files, (id, range))?;
        if starts.is_empty() {
            return Ok(Vec::new());
        }
        let mut levels = Vec::with_capacity(starts.len());
        let mut newest = None;
        {
            let tables = read(&shared.tables);
            // Files were read, and nobody had to wait for the tables meanwhile.
            if !Arc::ptr_eq(&tables.files, &files) {
                continue;
            }
            for (level, starts) in starts {
                let mut hot = Buckets::new(level.width_ns());
                if shared.revised.has(id) {
                    newest = Some(hot_of(&tables, id, range));
                    levels.push((level, starts, hot));
                    continue;
                }
                for part in tables.flushing.as_deref().into_iter().chain([&tables.active]) {
                    part.each(id, range.0, range.1, |times, values| hot.add_rows(times, values));
                }
                levels.push((level, starts, hot));
            }
        }
        let newest = newest.map(|hot| Newest { shared, format, id, files: &files, cold: &[], hot });
        let mut out = Vec::new();
        for (level, starts, hot) in levels {
            let mut parts = Buckets::new(level.width_ns());
            for run in runs(&starts, level.width_ns()) {
                if let Some(newest) = &newest {
                    newest.add((level, level), run, &mut parts)?;
                    continue;
                }
                for file in files.iter().filter(|file| file.finest <= level) {
                    let sealed = SealedFile { shared, format, file };
                    if let Some(entry) = sealed.find(id, run)? {
                        add(sealed, &entry, level, run, &mut parts)?;
                    }
                }
            }
            hot.iter().for_each(|(start, part)| parts.add(start, part));
            let (tier, width_ns) = (level.into(), level.width_ns());
            let own = parts.iter().filter(|(start, _)| starts.contains(start));
            out.extend(own.map(|(start_ns, part)| Stand { tier, start_ns, width_ns, part: *part }));
        }
        out.sort_unstable_by_key(|stand| stand.start_ns);
        return Ok(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_that_follow_each_other_are_one_range() {
        assert_eq!(runs(&BTreeSet::from([-10, 0, 10, 30]), 10), [(-10, 20), (30, 40)]);
        assert_eq!(runs(&BTreeSet::new(), 10), []);
    }

    #[test]
    fn a_bucket_touches_a_span_that_has_one_of_its_times() {
        let spans = [(10, 20), (40, 40)];
        let of = |from, last| touches(&spans, (from, last));
        assert_eq!(
            [of(0, 9), of(0, 10), of(20, 30), of(21, 39), of(40, 50), of(41, 99)],
            [false, true, true, false, true, false]
        );
        assert!(!touches(&[], (0, 9)));
    }
}
