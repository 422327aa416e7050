//! The readings of a revised series, see [`crate::revised`]: of each time the newest, from files and memory as they were at
//! one moment.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::blocks::SealedFile;
use crate::buckets::Buckets;
use crate::cold::ColdEntry;
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId};
use crate::manifest::FileEntry;
use crate::revised::keep_newest;
use crate::sealed::SealedFormat;
use crate::segment::Level;
use crate::tables::{Shared, Tables};

use super::add;
use super::sources::sources;

/// Times that are read together: some files may have as many rows in memory at once.
const TOGETHER: usize = 256 * 1024;
/// How far back the last reading is looked for first, ns: an hour.
const BACK_NS: i64 = 3_600_000_000_000;

/// What is in memory of a series in a range: of each time the newest, in order.
pub fn hot_of(tables: &Tables, id: SeriesId, (from_ns, to_ns): (i64, i64)) -> Rows {
    let mut rows = Rows::default();
    for part in tables.flushing.as_deref().into_iter().chain([&tables.active]) {
        part.copy(id, from_ns, to_ns, usize::MAX, &mut rows);
    }
    rows.sort();
    keep_newest(&mut rows, 0);
    rows
}

/// A revised series as at one moment.
pub struct Newest<'a> {
    pub shared: &'a Shared,
    pub format: &'a dyn SealedFormat,
    pub id: SeriesId,
    pub files: &'a [Arc<FileEntry>],
    /// Where they are asked for.
    pub cold: &'a [Arc<ColdEntry>],
    /// What is in memory of the range that is asked for, as [`hot_of`] gives it.
    pub hot: Rows,
}

impl Newest<'_> {
    /// The rows of the first `most` times in a range. No more are held than these of any two files, and those in memory.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn first_rows(&self, (from_ns, to_ns): (i64, i64), most: usize) -> Result<Rows, StoreError> {
        let (mut out, mut end_ns) = (Rows::default(), to_ns);
        for source in sources((self.shared, self.format), self.files, self.cold) {
            let mut own = Rows::default();
            source.each_rows(self.id, (from_ns, end_ns), |times, words, boxes| {
                let known = own.times.len();
                own.extend(times, words, boxes);
                keep_newest(&mut own, known);
                // With one time more than is wanted all of the last of these is there.
                if own.times.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if own.times.is_empty() {
                continue;
            }
            own.truncate(most);
            out.extend(&own.times, &own.values, &own.boxes);
            out.sort();
            keep_newest(&mut out, 0);
            out.truncate(most);
            // What later files have of the last time takes its place, and what they have after it comes too late.
            if out.times.len() == most && most > 0 {
                end_ns = out.times.last().map_or(end_ns, |last| end_ns.min(last.saturating_add(1)));
            }
        }
        let (times, values) = self.hot.within((from_ns, end_ns));
        out.extend(times, values, &self.hot.boxes);
        out.sort();
        keep_newest(&mut out, 0);
        out.truncate(most);
        Ok(out)
    }

    /// Shows all rows in a range in order of time, some at a time, with what is a number of their values, until told to stop.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn each(
        &self,
        (from_ns, to_ns): (i64, i64),
        mut visit: impl FnMut(&[i64], &[f64]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut begin_ns = from_ns;
        loop {
            let rows = self.first_rows((begin_ns, to_ns), TOGETHER)?;
            let stops = visit(&rows.times, &rows.boxes.numbers(&rows.values)).is_break();
            match rows.times.last().and_then(|last| last.checked_add(1)) {
                Some(next_ns) if !stops && rows.times.len() == TOGETHER => begin_ns = next_ns,
                _ => return Ok(()),
            }
        }
    }

    /// Adds the rows in a range to buckets, and of files without readings what is left of them, where it is no coarser than
    /// `coarsest`; says the coarsest level of which there was something.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn add(
        &self,
        (level, coarsest): (Level, Level),
        range: (i64, i64),
        parts: &mut Buckets,
    ) -> Result<Level, StoreError> {
        let mut found = Level::Raw;
        for file in self.files.iter().filter(|file| !file.is_whole() && file.finest <= coarsest) {
            let sealed = SealedFile { shared: self.shared, format: self.format, file };
            if let Some(entry) = sealed.find(self.id, range)? {
                found = add(sealed, &entry, level, range, parts)?.max(found);
            }
        }
        self.each(range, |times, values| {
            parts.add_rows(times, values);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The last number before a time, and its time; of what is left of a file that of its last bucket.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn before(&self, time_ns: i64) -> Result<Option<(i64, f64)>, StoreError> {
        let mut back_ns = BACK_NS;
        loop {
            // Readings of many years are not read for the last of them.
            let from_ns = if back_ns == i64::MAX { i64::MIN } else { time_ns.saturating_sub(back_ns) };
            let mut parts = Buckets::whole(i64::MIN);
            self.add((Level::Day, Level::Day), (from_ns, time_ns), &mut parts)?;
            let found = parts.iter().next().map(|(_, part)| (part.last_ns, part.last));
            if found.is_some() || from_ns == i64::MIN {
                return Ok(found);
            }
            back_ns = back_ns.saturating_mul(8);
        }
    }
}
