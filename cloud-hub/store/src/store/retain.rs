//! Retention at work: readings of files that are too old, or that there is no room for, are given up, and
//! what is known of their minutes, hours and days stays as long as it may.
//!
//! A file that loses a level is written again without it, as by a merge; one of which nothing is left is
//! listed no more. In the same commit the seqs whose readings go are noted as expired: they stay stored by the
//! ledger, no agent is asked for them again, and agreement leaves them out.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use tideline_protocol::value::NULL;

use super::Inner;
use super::compact::caught;
use super::damage::Workshop;
use crate::blocks::{Figured, SealedFile};
use crate::buckets::{Aggregate, bucket_start};
use crate::cold::ColdEntry;
use crate::config::StoreError;
use crate::held::Held;
use crate::hot::{SeriesId, SeriesStats};
use crate::log::lock;
use crate::manifest::{FileEntry, HoldingEntry, SeriesRows};
use crate::metrics::add;
use crate::retention::{Step, Watch};
use crate::segment::rolls::Roll;
use crate::segment::write::{SegmentWriter, Written};
use crate::segment::{Directory, Level};
use crate::sketch::{FINE_BINS, Sketch};
use crate::tables::{Shared, read, write};

impl Shared {
    /// What is expired of the epochs of these holdings when these are.
    pub(super) fn with_expired<'a>(
        &self,
        holdings: impl Iterator<Item = &'a HoldingEntry>,
    ) -> Vec<HoldingEntry> {
        lock(&self.expired).with(holdings)
    }
}

impl Inner {
    /// The time by which retention goes; none while the clock is not believed.
    pub(super) fn now(&self, watch: &mut Watch) -> Option<i64> {
        if self.shared.retention.is_endless(&read(&self.shared.tables).files) {
            return None;
        }
        let now = watch.now(self.shared.clock.as_ref());
        *lock(&self.shared.retention_error) = now.as_ref().err().cloned();
        now.ok()
    }

    /// Gives up what is due next, but for the files that are `failing`, to which it adds; says whether there was
    /// anything.
    pub(super) fn retain(
        &self,
        now_ns: Option<i64>,
        failing: &mut BTreeSet<u64>,
    ) -> Result<bool, StoreError> {
        let Some(now_ns) = now_ns else { return Ok(false) };
        self.settled()?;
        // First what makes room for what becomes cold.
        if self.melt(now_ns)? {
            return Ok(true);
        }
        let mut files: Vec<Arc<FileEntry>> = read(&self.shared.tables).files.to_vec();
        files.retain(|file| !failing.contains(&file.number));
        let mut waiting = BTreeSet::new();
        let step = loop {
            let Some(step) = self.shared.retention.due(&files, now_ns, &waiting) else { return Ok(false) };
            let waits = self.mending(|| self.outlived(&files, &step))?;
            if waits.is_empty() {
                break step;
            }
            waiting.extend(waits);
        };
        drop(files);
        let (of, done) = match step {
            Step::Remove(gone) => {
                let of = gone.iter().map(|file| file.number).collect();
                (of, self.mending(|| self.give_up(&gone)))
            }
            Step::Thin(file, finest) => (vec![file.number], self.mending(|| self.thin(&file, finest))),
        };
        if done.is_err() {
            failing.extend(of);
        }
        done.map(|()| true)
    }

    /// Those files of a step whose revised series have times in common with an earlier file that keeps its readings: without
    /// what put them right, these would count again. They go with it.
    fn outlived(&self, files: &[Arc<FileEntry>], step: &Step) -> Result<Vec<u64>, StoreError> {
        let gone = match step {
            Step::Remove(gone) => gone.as_slice(),
            Step::Thin(file, _) => std::slice::from_ref(file),
        };
        if self.shared.revised.is_empty() {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        for file in gone.iter().filter(|file| file.is_whole()) {
            let stays = |other: &&Arc<FileEntry>| {
                let overlaps = other.first_ns <= file.last_ns && file.first_ns <= other.last_ns;
                other.is_whole() && other.order < file.order && overlaps && !gone.contains(other)
            };
            for other in files.iter().filter(stays) {
                if self.share_times(file, other, &|id| self.shared.revised.has(id))? {
                    out.push(file.number);
                    break;
                }
            }
        }
        Ok(out)
    }

    fn thin(&self, file: &Arc<FileEntry>, finest: Level) -> Result<(), StoreError> {
        let inputs = std::slice::from_ref(file);
        let frozen = self.freeze(file)?;
        let done = self.exchange(inputs, &frozen, |number| {
            let written = self.thinned(number, inputs, finest)?;
            Ok(FileEntry::thinned(number, written, file.order, file.sealed_ns, finest).keeping(file.keep()))
        });
        if !matches!(done, Ok(true)) {
            self.thaw(&frozen);
        }
        let done = done?;
        if done && file.is_whole() {
            add(&self.shared.counters.expired_rows, file.rows);
        }
        Ok(())
    }

    /// Lists these files no more, and counts again what is known of each series.
    fn give_up(&self, gone: &[Arc<FileEntry>]) -> Result<(), StoreError> {
        let mut frozen = Vec::new();
        let done = gone
            .iter()
            .try_for_each(|file| self.freeze(file).map(|own| frozen.extend(own)))
            .and_then(|()| self.give_up_frozen(gone, &frozen));
        if done.is_err() {
            self.thaw(&frozen);
        }
        done
    }

    fn give_up_frozen(&self, gone: &[Arc<FileEntry>], frozen: &[ColdEntry]) -> Result<(), StoreError> {
        let _no_flush = lock(&self.unfinished);
        let listed = Arc::clone(&read(&self.shared.tables).files);
        let there = |file: &&Arc<FileEntry>| listed.contains(file);
        if !frozen.is_empty() && !gone.iter().all(|file| there(&file)) {
            // What was lost meanwhile must come again, and not from the cold tier.
            return Err(StoreError::Sealed("a file was lost while it was given up".to_owned()));
        }
        let gone: Vec<Arc<FileEntry>> = gone.iter().filter(there).map(Arc::clone).collect();
        drop(listed);
        let mut contents = self.manifest.read()?;
        let workshop =
            Workshop { dir: &self.shared.dir, format: self.format.as_ref(), manifest: &self.manifest };
        let numbers: Vec<u64> = gone.iter().map(|file| file.number).collect();
        let stats = workshop.count_again(&contents, &numbers)?;
        contents.stats = contents.stats.recounted(stats, contents.names.len());
        let expired = self.shared.with_expired(gone.iter().flat_map(|file| &file.holdings));
        let (ids, row) = (contents.ids(), |id: SeriesId, out: &mut Vec<u8>| contents.write_series(id, out));
        self.place_cold(frozen).map_err(StoreError::io("writing a cold file"))?;
        self.list(Some(&SeriesRows { ids: &ids, write: &row }), (&[], &gone), (&expired, frozen))?;
        write(&self.shared.tables).sealed_stats = contents.stats;
        let rows = gone.iter().filter(|file| file.is_whole()).map(|file| file.rows).sum();
        add(&self.shared.counters.expired_rows, rows);
        add(&self.shared.counters.expired_files, gone.len() as u64);
        Ok(())
    }

    /// Writes what these files, which are in order of arrival, have of a level and of coarser ones.
    pub(super) fn thinned(
        &self,
        number: u64,
        inputs: &[Arc<FileEntry>],
        finest: Level,
    ) -> Result<Written, StoreError> {
        let (shared, format) = (&self.shared, self.format.as_ref());
        let files: Vec<_> =
            inputs.iter().map(|file| SealedFile { shared, format, file: file.as_ref() }).collect();
        let directories = files.iter().map(SealedFile::directory).collect::<Result<Vec<_>, _>>()?;
        let mut ids: Vec<SeriesId> =
            directories.iter().flat_map(|directory| directory.ids().iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        caught(|| {
            let target = shared.target(number);
            let created = format.create_thinned(&target, finest);
            let mut writer = created.map_err(StoreError::io("writing a sealed file"))?;
            for id in ids {
                self.goes_on()?;
                match (files.as_slice(), directories.as_slice()) {
                    ([file], [directory]) if file.file.is_whole() => {
                        self.push_readings((*file, directory), id, &mut writer)?;
                    }
                    _ => push_rolls(&files, &directories, (id, finest), &mut writer)?,
                }
            }
            writer.finish().map_err(StoreError::io("writing a sealed file"))
        })
    }

    /// All readings of a series, of which the rollups are made. Of a revised one those that are not the newest of their time are
    /// no numbers any more, so that they are counted and in no bucket.
    fn push_readings(
        &self,
        (file, directory): (SealedFile<'_>, &Directory),
        id: SeriesId,
        writer: &mut SegmentWriter,
    ) -> Result<(), StoreError> {
        let Some(entry) = directory.find(id) else { return Ok(()) };
        let revised = self.shared.revised.has(id);
        let mut blocks = directory.blocks(&entry, Level::Raw).peekable();
        while let Some(block) = blocks.next() {
            let mut rows = file.block_rows(&block)?;
            if revised {
                let next_ns = blocks.peek().map(|next| next.first_ns);
                for at in self.replaced_rows((file, id), &rows.times, next_ns)? {
                    rows.values.get_mut(at).into_iter().for_each(|word| *word = NULL);
                }
            }
            let numbers = vec![0; rows.times.len()];
            let pushed = writer.push(id, &rows.times, &rows.values, &rows.boxes, &numbers);
            pushed.map_err(StoreError::io("writing a sealed file"))?;
        }
        Ok(())
    }

    /// The places of those rows of a block of a file for whose time something came later: in the file, whose next block begins
    /// with `next_ns`, in later ones, or in memory.
    fn replaced_rows(
        &self,
        (file, id): (SealedFile<'_>, SeriesId),
        times: &[i64],
        next_ns: Option<i64>,
    ) -> Result<BTreeSet<usize>, StoreError> {
        let (Some(first_ns), Some(last_ns)) = (times.first().copied(), times.last().copied()) else {
            return Ok(BTreeSet::new());
        };
        let followed = times.iter().zip(times.iter().skip(1).map(Some).chain([next_ns.as_ref()]));
        let mut out: BTreeSet<usize> =
            followed.enumerate().filter(|(_, (time, next))| *next == Some(time)).map(|(at, _)| at).collect();
        if next_ns == Some(last_ns) {
            out.extend(times.partition_point(|time| *time < last_ns)..times.len());
        }
        let mut note = |later: &[i64]| {
            for time in later {
                let from = times.partition_point(|known| known < time);
                out.extend((from..times.len()).take_while(|at| times.get(*at) == Some(time)));
            }
        };
        let range = (first_ns, last_ns.saturating_add(1));
        let files = {
            let tables = read(&self.shared.tables);
            for part in tables.flushing.as_deref().into_iter().chain([&tables.active]) {
                part.each(id, range.0, range.1, |times, _| note(times));
            }
            Arc::clone(&tables.files)
        };
        for later in files.iter().filter(|later| later.is_whole() && later.order > file.file.order) {
            let later = SealedFile { file: later, ..file };
            if let Some(entry) = later.find(id, range)? {
                later.each_rows(&entry, range, |times, _, _| {
                    note(times);
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(out)
    }
}

/// Of each file its finest level, which has all readings of all series, and its figures as those of the level at which
/// the file that is written has them.
fn push_rolls(
    files: &[SealedFile<'_>],
    directories: &[Arc<Directory>],
    (id, finest): (SeriesId, Level),
    writer: &mut SegmentWriter,
) -> Result<(), StoreError> {
    let (mut rolls, mut stats) = (Vec::<Roll>::new(), SeriesStats::default());
    let level = files.first().map_or(Level::Raw, |file| file.file.finest);
    let mut figures = Figures::new(finest.figured());
    for (file, directory) in files.iter().zip(directories) {
        let Some(entry) = directory.find(id) else { continue };
        stats.merge(&directory.stats(&entry));
        let begun = rolls.len();
        for block in directory.blocks(&entry, level) {
            rolls.extend(file.block_rolls(&block, level)?);
        }
        let own = file.figures(id, (i64::MIN, i64::MAX), true)?.unwrap_or_default();
        figures.add(rolls.get(begun..).unwrap_or_default(), own);
    }
    // Stable: those of one start stay in order of arrival.
    rolls.sort_by_key(|roll| roll.start_ns);
    writer
        .push_rolls(id, level, (&rolls, figures.finish()), &stats)
        .map_err(StoreError::io("writing a sealed file"))
}

/// The figures of files without readings, as those of the buckets of one level.
struct Figures {
    width_ns: i64,
    known: BTreeMap<i64, (Vec<Held>, Sketch)>,
    // Of a part of these nothing is known.
    unknown: BTreeSet<i64>,
}

impl Figures {
    const fn new(level: Level) -> Self {
        Self { width_ns: level.width_ns(), known: BTreeMap::new(), unknown: BTreeSet::new() }
    }

    /// Adds those of a file, which has these buckets of the series; an older one has none.
    fn add(&mut self, rolls: &[Roll], figured: Figured) {
        let start = |part: &Aggregate| bucket_start(part.first_ns, self.width_ns);
        let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
        rolls.iter().for_each(|roll| *counts.entry(start(&roll.part)).or_default() += roll.part.count);
        for (part, figure) in figured {
            let count = counts.entry(start(&part)).or_default();
            *count = count.saturating_sub(part.count);
            let (held, sketch) = self.known.entry(start(&part)).or_default();
            held.push(figure.held(&part));
            sketch.merge(&figure.sketch, FINE_BINS);
        }
        self.unknown.extend(counts.into_iter().filter(|(_, left)| *left > 0).map(|(start, _)| start));
    }

    /// Where some overlap the mean over time is near: their readings are gone.
    fn finish(mut self) -> BTreeMap<i64, (Held, Sketch)> {
        self.known.retain(|start, _| !self.unknown.contains(start));
        let one = |(start, (held, sketch)): (i64, (Vec<Held>, Sketch))| {
            let Ok(held) = Held::all(&held, |_, _| Ok::<_, Infallible>(None));
            Some((start, (held?, sketch)))
        };
        self.known.into_iter().filter_map(one).collect()
    }
}
