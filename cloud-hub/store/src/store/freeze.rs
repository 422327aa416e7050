//! The cold tier at work: the readings of a sealed file, written as Parquet before they leave it; what of them is past
//! its own retention; and questions about them.
//!
//! All files are written and synced under unfinished names first. They get their names right before the commit that
//! lists them and takes the sealed file away, so that whoever reads the folders finds a reading once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use tideline_protocol::model::{DeviceId, PointId};

use super::compact::caught;
use super::{Inner, Store};
use crate::blocks::SealedFile;
use crate::cold::file::{ColdFile, ColdWriter};
use crate::cold::{ColdEntry, ColdUse, FOLDER, day_of, folder, name, unfinished};
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId, is_before};
use crate::log::lock;
use crate::manifest::{Change, FileEntry};
use crate::metrics::add;
use crate::query::RawColumn;
use crate::segment::{Directory, Level};
use crate::tables::{Shared, read, write};

/// Most days of one file that have a folder each: more have only clocks that are wrong.
const DAYS_MAX: usize = 4096;
/// Days that are written together, and about how many readings of them: each day has a file that is open and rows in memory.
const DAYS_TOGETHER: usize = 16;
const ROWS_TOGETHER: u64 = 1024 * 1024;

/// Days whose readings are written in one pass; none for all that have no folder of their own.
type Pass = Option<BTreeSet<i64>>;

/// Which days are written together. Those with the most readings have a folder.
fn passes(rows: &BTreeMap<i64, u64>) -> (BTreeSet<i64>, Vec<Pass>) {
    let mut days: Vec<(u64, i64)> = rows.iter().map(|(day, rows)| (*rows, *day)).collect();
    days.sort_unstable_by(|a, b| b.cmp(a));
    let named: BTreeSet<i64> = days.iter().take(DAYS_MAX).map(|(_, day)| *day).collect();
    let (mut out, mut open, mut together) = (Vec::new(), BTreeSet::new(), 0_u64);
    for day in &named {
        let own = rows.get(day).copied().unwrap_or_default();
        let full = open.len() >= DAYS_TOGETHER || together.saturating_add(own) > ROWS_TOGETHER;
        if full && !open.is_empty() {
            out.push(Some(std::mem::take(&mut open)));
            together = 0;
        }
        open.insert(*day);
        together = together.saturating_add(own);
    }
    out.extend((!open.is_empty()).then_some(Some(open)));
    out.extend((days.len() > named.len()).then_some(None));
    (named, out)
}

/// Shows the rows of each day.
fn each_day(
    rows: &Rows,
    mut show: impl FnMut(i64, (&[i64], &[f64])) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (mut times, mut words) = (rows.times.as_slice(), rows.values.as_slice());
    while let Some(first) = times.first() {
        let day = day_of(*first);
        let len = times.partition_point(|time| day_of(*time) == day);
        let (own, rest) = (times.split_at(len), words.split_at(len));
        show(day, (own.0, rest.0))?;
        (times, words) = (own.1, rest.1);
    }
    Ok(())
}

/// The files that are being written of one sealed file.
struct Freezing<'a> {
    shared: &'a Shared,
    order: u64,
    sealed_ns: Option<i64>,
    open: BTreeMap<Option<i64>, ColdWriter>,
    // All that there is something of on the disk.
    begun: Vec<PathBuf>,
    done: Vec<ColdEntry>,
}

impl Freezing<'_> {
    fn writer(&mut self, day: Option<i64>) -> Result<&mut ColdWriter, StoreError> {
        if self.open.get(&day).is_some_and(ColdWriter::is_full) {
            let full = self.open.remove(&day);
            self.done.extend(full.map(ColdWriter::finish).transpose()?);
        }
        match self.open.entry(day) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let Shared { files, dir, tables, .. } = self.shared;
                let number = write(tables).number();
                let path = unfinished(dir.join(name(number, day)));
                self.begun.push(path.clone());
                files
                    .create_dir_all(&dir.join(folder(day)))
                    .map_err(StoreError::io("making the folder of a cold file"))?;
                let of = (self.order, self.sealed_ns);
                Ok(place.insert(ColdWriter::create(files.as_ref(), &path, (number, day), of)?))
            }
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        for (_, writer) in std::mem::take(&mut self.open) {
            self.done.push(writer.finish()?);
        }
        Ok(())
    }
}

impl Inner {
    /// Writes the readings of a file as cold files, which count once they are listed; none where they are not kept.
    pub(super) fn freeze(&self, file: &FileEntry) -> Result<Vec<ColdEntry>, StoreError> {
        if !self.shared.retention.becomes_cold(file) {
            return Ok(Vec::new());
        }
        let (open, begun, done) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (order, sealed_ns) = (file.order, file.sealed_ns);
        let mut to = Freezing { shared: &self.shared, order, sealed_ns, open, begun, done };
        let written = caught(|| self.freeze_into(file, &mut to));
        let rows: u64 = to.done.iter().map(|entry| entry.rows).sum();
        let written = written.and_then(|()| {
            let told = || format!("{rows} of {} rows were written; nothing was changed", file.rows);
            if rows == file.rows { Ok(()) } else { Err(StoreError::Cold(told())) }
        });
        if let Err(error) = written {
            // A full disk would be fuller with each attempt.
            if let Err(error) = self.remove_cold(&to.begun) {
                tracing::error!(%error, "an unfinished cold file stays until the next start");
            }
            return Err(error);
        }
        Ok(to.done)
    }

    fn freeze_into(&self, file: &FileEntry, to: &mut Freezing<'_>) -> Result<(), StoreError> {
        let sealed = SealedFile { shared: &self.shared, format: self.format.as_ref(), file };
        let directory = sealed.directory()?;
        let (named, passes) = passes(&self.days(sealed, &directory)?);
        for pass in passes {
            let takes = |day: i64| match &pass {
                Some(days) => days.contains(&day),
                None => !named.contains(&day),
            };
            let begins = pass.as_ref().and_then(|days| days.first().copied()).unwrap_or(i64::MIN);
            let ends = pass.as_ref().and_then(|days| days.last().copied()).unwrap_or(i64::MAX);
            for id in directory.ids() {
                self.goes_on()?;
                let meta = read(&self.shared.registry).names().meta(*id);
                let meta = meta.ok_or_else(|| StoreError::Sealed(format!("there is no series {id}")))?;
                let Some(entry) = directory.find(*id) else { continue };
                for block in directory.blocks(&entry, Level::Raw) {
                    if day_of(block.last_ns) < begins || day_of(block.first_ns) > ends {
                        continue;
                    }
                    let rows = sealed.block_rows(&block)?;
                    each_day(&rows, |day, own| {
                        if !takes(day) {
                            return Ok(());
                        }
                        let day = Some(day).filter(|_| pass.is_some());
                        to.writer(day)?.push((*id, &meta), own, &rows.boxes)
                    })?;
                }
            }
            to.close()?;
        }
        Ok(())
    }

    /// The days of a file, and how many readings each has.
    fn days(&self, file: SealedFile<'_>, directory: &Directory) -> Result<BTreeMap<i64, u64>, StoreError> {
        let mut out: BTreeMap<i64, u64> = BTreeMap::new();
        for entry in directory.series() {
            self.goes_on()?;
            for block in directory.blocks(&entry, Level::Raw) {
                let (first, last) = (day_of(block.first_ns), day_of(block.last_ns));
                if first == last {
                    *out.entry(first).or_default() += u64::from(block.rows);
                    continue;
                }
                each_day(&file.block_rows(&block)?, |day, (times, _)| {
                    *out.entry(day).or_default() += times.len() as u64;
                    Ok(())
                })?;
            }
        }
        Ok(out)
    }

    /// Gives files their names; the commit that lists them comes next.
    pub(super) fn place_cold(&self, frozen: &[ColdEntry]) -> std::io::Result<()> {
        if frozen.is_empty() {
            return Ok(());
        }
        let (files, dir) = (self.shared.files.as_ref(), self.shared.dir.as_path());
        for entry in frozen {
            files.rename(&entry.unfinished(dir), &entry.path(dir))?;
        }
        let folders: BTreeSet<PathBuf> = frozen.iter().map(|entry| dir.join(folder(entry.day))).collect();
        folders.iter().try_for_each(|folder| files.sync_dir(folder))?;
        // They may be new, and so may be what they are in.
        files.sync_dir(&dir.join(FOLDER))?;
        files.sync_dir(dir)
    }

    /// Removes cold files for which no sealed file was given up, unless nobody knows yet whether one was.
    pub(super) fn thaw(&self, frozen: &[ColdEntry]) {
        if frozen.is_empty() || lock(&self.shared.unsettled).is_some() {
            return;
        }
        if let Err(error) = self.discard(frozen) {
            tracing::error!(%error, "an unlisted cold file stays until the next start");
        }
    }

    /// Removes cold files that are not listed, whatever they are called by now.
    pub(super) fn discard(&self, frozen: &[ColdEntry]) -> Result<(), StoreError> {
        let dir = self.shared.dir.as_path();
        let both = frozen.iter().flat_map(|entry| [entry.path(dir), entry.unfinished(dir)]);
        self.remove_cold(&both.collect::<Vec<_>>())
    }

    fn remove_cold(&self, paths: &[PathBuf]) -> Result<(), StoreError> {
        for path in paths {
            match self.shared.files.remove(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io("removing a cold file")(error));
                }
                _ => {}
            }
        }
        let folders: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
        for folder in folders {
            // It is not removed while there is something in it.
            let _left = self.shared.files.remove_dir(folder);
        }
        Ok(())
    }

    /// Lists those cold files no more that are past the retention of the cold tier; says whether there were any.
    pub(super) fn melt(&self, now_ns: i64) -> Result<bool, StoreError> {
        let cold = Arc::clone(&read(&self.shared.tables).cold);
        let gone = self.shared.retention.melts(&cold, now_ns);
        drop(cold);
        if gone.is_empty() {
            return Ok(false);
        }
        let melted: Vec<u64> = gone.iter().map(|entry| entry.number).collect();
        // A backup that is begun takes what was listed then. A commit that failed and is durable all the same is made
        // again, which changes nothing.
        let _no_flush = lock(&self.unfinished);
        self.manifest.commit(&Change { melted: &melted, ..Change::default() })?;
        let mut tables = write(&self.shared.tables);
        Arc::make_mut(&mut tables.cold).retain(|entry| !melted.contains(&entry.number));
        drop(tables);
        add(&self.shared.counters.melted_rows, gone.iter().map(|entry| entry.rows).sum());
        lock(&self.shared.melted).extend(gone);
        Ok(true)
    }

    /// Removes cold files that are listed no more and that nobody reads.
    pub(super) fn remove_melted(&self) -> Result<(), StoreError> {
        let mut melted = lock(&self.shared.melted);
        let (unread, read): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *melted).into_iter().partition(|entry| Arc::strong_count(entry) == 1);
        *melted = read;
        drop(melted);
        if unread.is_empty() {
            return Ok(());
        }
        let paths: Vec<PathBuf> = unread.iter().map(|entry| entry.path(&self.shared.dir)).collect();
        let removed = self.remove_cold(&paths);
        if removed.is_err() {
            lock(&self.shared.melted).extend(unread);
        }
        removed
    }
}

/// The readings of some series in the cold tier, a group of rows at a time: of each group by series, time and arrival. What
/// was in the cold tier when it was asked for is there until it is dropped.
pub struct ColdRows {
    shared: Arc<Shared>,
    // In order.
    series: Vec<SeriesId>,
    range: (i64, i64),
    // Those that are to be read, the next one last.
    files: Vec<Arc<ColdEntry>>,
    // The file that is being read, its next group, and its rows before that.
    open: Option<(Arc<ColdEntry>, ColdFile, usize, usize)>,
}

impl ColdRows {
    /// Most readings that there can be: all of the groups that may have some.
    #[must_use]
    pub fn most(&self) -> u64 {
        let groups = self.files.iter().flat_map(|entry| &entry.groups);
        groups.filter(|group| group.may_have(&self.series, self.range)).map(|group| group.rows).sum()
    }

    /// No reading of them is later, ns; none where there is nothing.
    #[must_use]
    pub fn last_ns(&self) -> Option<i64> {
        let groups = self.files.iter().flat_map(|entry| &entry.groups);
        let last =
            groups.filter(|group| group.may_have(&self.series, self.range)).map(|group| group.last_ns).max();
        last.map(|last| if is_before(last, self.range.1) { last } else { self.range.1.saturating_sub(1) })
    }

    /// The next ones; none at the end. Blocks the thread.
    ///
    /// # Errors
    /// A file is damaged, or cannot be read.
    pub fn next_columns(&mut self) -> Result<Option<Vec<RawColumn>>, StoreError> {
        loop {
            if self.open.is_none() {
                let Some(entry) = self.files.pop() else { return Ok(None) };
                let file = ColdFile::open((self.shared.files.as_ref(), &self.shared.dir), &entry)?;
                self.open = Some((entry, file, 0, 0));
            }
            let Some((entry, file, at, begin)) = &mut self.open else { continue };
            let Some(group) = entry.groups.get(*at).copied() else {
                self.open = None;
                continue;
            };
            let end = begin.saturating_add(usize::try_from(group.rows).unwrap_or(usize::MAX));
            let rows = std::mem::replace(begin, end)..end;
            *at += 1;
            if !group.may_have(&self.series, self.range) {
                continue;
            }
            let find = |device: &str, point: &str| {
                let (device, point) = (DeviceId::parse(device).ok()?, PointId::parse(point).ok()?);
                let id = read(&self.shared.registry).names().find(&device, &point)?;
                self.series.binary_search(&id).is_ok().then_some(id)
            };
            let found = file.columns(rows, self.range, &find)?;
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
    }
}

impl Store {
    /// The readings of these series in `from..to` (ns) that are in the cold tier, file by file. A `to` of `i64::MAX` means
    /// no end.
    #[must_use]
    pub fn cold_rows(&self, series: &[SeriesId], range: (i64, i64)) -> ColdRows {
        let shared = Arc::clone(&self.inner.shared);
        let mut series = series.to_vec();
        series.sort_unstable();
        series.dedup();
        let mut files = read(&shared.tables).cold.to_vec();
        files.retain(|entry| entry.groups.iter().any(|group| group.may_have(&series, range)));
        // The oldest first, and of one day what arrived first.
        files.sort_by_key(|entry| std::cmp::Reverse((entry.day, entry.number)));
        ColdRows { shared, series, range, files, open: None }
    }

    /// What the cold tier holds.
    #[must_use]
    pub fn cold(&self) -> ColdUse {
        let cold = Arc::clone(&read(&self.inner.shared.tables).cold);
        cold.iter().map(AsRef::as_ref).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_together_as_far_as_memory_goes() {
        let told = |rows: &[(i64, u64)]| passes(&rows.iter().copied().collect()).1;
        let days = |days: &[i64]| Some(days.iter().copied().collect::<BTreeSet<i64>>());
        assert_eq!(told(&[]), vec![]);
        assert_eq!(told(&[(5, 10), (3, 10)]), [days(&[3, 5])]);
        let much = ROWS_TOGETHER - 5;
        assert_eq!(told(&[(1, 9), (2, much), (3, 5), (4, 1)]), [days(&[1]), days(&[2, 3]), days(&[4])]);
        assert_eq!(told(&[(1, 9 * ROWS_TOGETHER), (2, 1)]), [days(&[1]), days(&[2])]);
    }

    #[test]
    fn of_too_many_days_those_with_few_readings_have_no_folder() {
        let days = i64::try_from(DAYS_MAX).unwrap() + 3;
        let rows = (0..days).map(|day| (day, if day % 1000 == 7 { 1 } else { 2 }));
        let (named, passes) = passes(&rows.collect());
        assert_eq!(named.len(), DAYS_MAX);
        let without: Vec<i64> = (0..days).filter(|day| !named.contains(day)).collect();
        assert_eq!(without, [7, 1007, 2007]);
        assert_eq!(passes.last(), Some(&None));
        assert_eq!(passes.iter().flatten().map(BTreeSet::len).sum::<usize>(), DAYS_MAX);
    }
}
