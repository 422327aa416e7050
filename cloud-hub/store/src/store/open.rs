//! A start: check what the manifest lists, replay the log, start the threads. It always succeeds
//! on a folder that can be used; what cannot be trusted is put aside, reported, and asked for
//! again from the agents.

use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, Weak, mpsc as std_mpsc};

use tideline_protocol::time::Clock;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};

use super::compact::{remove, run_compactor};
use super::damage::{self, Damage, Workshop, put_aside};
use super::flush::run_flusher;
use super::reopen::run_reopener;
use super::tail::Tail;
use super::threads::{Core, DECODE_BYTES_MAX, DECODE_QUEUE_MAX, Decoder, Writer, run_checker};
use super::unkept::Unkept;
use super::{Inner, OpenReport, QUEUE_KIB_MAX, Quarantined, Store};
use crate::blocks::BlockCache;
use crate::cold;
use crate::config::{StoreConfig, StoreError};
use crate::decode;
use crate::files::{FileSystem, Opened};
use crate::hot::SeriesId;
use crate::keeps::Keeps;
use crate::log::{Ledgers, LogCore, LogDisk, RealDisk, Renaming, Replay, lock};
use crate::manifest::{Contents, Manifest, OpenError};
use crate::metrics::{Counters, add};
use crate::names::{Age, Names};
use crate::registry::Registry;
use crate::revised::Revised;
use crate::sealed::{SealedFormat, SegmentFormat};
use crate::tables::{Budget, Expired, Load, Shared, Signal, Tables, read, sealed_paths};

/// Opens a store of the store's own files.
pub fn open_own(mut config: StoreConfig, clock: Arc<dyn Clock>) -> Result<(Store, OpenReport), StoreError> {
    // What reads blocks and what removes files have to know of each other.
    config.files = Opened::shared(config.files);
    let format = Arc::new(SegmentFormat(Arc::clone(&config.files)));
    open(config, clock, format)
}

pub fn open(
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    format: Arc<dyn SealedFormat>,
) -> Result<(Store, OpenReport), StoreError> {
    open_on(config, clock, format, |disk| Box::new(disk))
}

/// As [`open`], with something between the log and its disk.
pub fn open_on(
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    format: Arc<dyn SealedFormat>,
    between: impl FnOnce(RealDisk) -> Box<dyn LogDisk + Send>,
) -> Result<(Store, OpenReport), StoreError> {
    let (started, mut report) = (clock.mono_ns(), OpenReport::default());
    create_dirs(&config)?;
    let (manifest, mut contents) = open_manifest((config.files.as_ref(), &config.dir), &mut report)?;
    let manifest = manifest.healing(&config.files, &config.dir.join(MANIFEST));
    // What follows is acknowledged on the word of a manifest whose name must not go with a power cut.
    config.files.sync_dir(&config.dir).map_err(StoreError::io("syncing the store's folder"))?;
    let workshop = Workshop { dir: &config.dir, format: format.as_ref(), manifest: &manifest };
    let next_file = next_number(&contents);
    remove_gone((config.files.as_ref(), &config.dir), &manifest, &mut contents)?;
    check_files(&config, workshop, &mut contents, &mut report)?;
    let damaged =
        cold::tidy((config.files.as_ref(), &config.dir), (&contents, manifest.is_new()), &mut report)?;
    let Contents { checkpoint, names, stats, revised, files, expired, cold, .. } = contents;
    let (sealed, oldest) = (checkpoint.ledgers.clone(), checkpoint.oldest_segment);
    let (core, replay) =
        LogCore::open_keeping(between(log_disk(&config)?), checkpoint, config.keep_log_from)?;
    let mut core = core.with_segment_bytes_max(config.log_segment_bytes_max);
    for (segment, reason) in &replay.problems {
        let path = config.dir.join("log").join(format!("{segment:08}.log"));
        report.quarantined.push(Quarantined { path, reason: reason.clone() });
    }
    let ledgers = core.ledgers();
    let registry = registry_of((&config, names, revised), &sealed, &lock(&ledgers), &replay.renamings);
    let unchecked =
        if config.check_files_on_open { BTreeSet::new() } else { files.iter().map(|f| f.number).collect() };
    let (files, cold) = (listed(files), listed(cold));
    let tables = Tables { next_file, files, cold, sealed_stats: stats, ..Tables::default() };
    let shared = Arc::new(Shared {
        files: Arc::clone(&config.files),
        dir: config.dir.clone(),
        hot_rows_max: config.hot_rows_max.max(1),
        retention: config.retention,
        keeps: Keeps::default(),
        clock: Arc::clone(&clock),
        expired: Mutex::new(Expired::of(&expired)),
        retention_error: Mutex::default(),
        ledgers,
        revised: registry.revised(),
        registry: RwLock::new(registry),
        tables: RwLock::new(tables),
        counters: Counters::default(),
        unchecked: Mutex::new(unchecked),
        suspects: Mutex::default(),
        flush_error: Mutex::default(),
        merge_error: Mutex::default(),
        replaced: Mutex::default(),
        melted: Mutex::default(),
        unsettled: Mutex::default(),
        unwritten: Mutex::default(),
        changes: watch::Sender::new(0),
        on_the_way: Budget::new(DECODE_BYTES_MAX),
        load: Load::default(),
        tail: Tail::new(core.end(), oldest.min(config.keep_log_from), config.keep_log_from),
        blocks: BlockCache::new(config.cache_bytes),
        signal: Signal::default(),
    });
    let unkept = take_in_replay(&shared, &mut core, &replay)?;
    count(&shared, (&replay, damaged), &mut report);
    report.took_ns = clock.mono_ns().saturating_sub(started);
    for entry in &report.quarantined {
        tracing::warn!(path = %entry.path.display(), reason = entry.reason, "put aside");
    }
    Ok((start(&config, shared, manifest, (core, unkept), format)?, report))
}

fn listed<T>(entries: Vec<T>) -> Arc<Vec<Arc<T>>> {
    Arc::new(entries.into_iter().map(Arc::new).collect())
}

/// Makes the folders of the store; that of the store itself durably, also when a start before this one was killed
/// between making it and that. The names in it are made durable with that of the manifest.
fn create_dirs(config: &StoreConfig) -> Result<(), StoreError> {
    let files = config.files.as_ref();
    let mut subs = ["log", "sealed", "dead", "quarantine"].iter();
    let made = subs.try_for_each(|sub| files.create_dir_all(&config.dir.join(sub)));
    made.map_err(StoreError::io("creating the store's folders"))?;
    let parent = config.dir.parent().unwrap_or(&config.dir);
    match files.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }) {
        // Who may not read it has not made anything in it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(StoreError::io("syncing the folder that the store is in")),
    }
}

fn log_disk(config: &StoreConfig) -> Result<RealDisk, StoreError> {
    let (log, quarantine) = (config.dir.join("log"), config.dir.join("quarantine"));
    let disk = RealDisk::open(Arc::clone(&config.files), log, quarantine);
    disk.map_err(StoreError::io("opening the log's folder"))
}

fn count(shared: &Shared, (replay, damaged): (&Replay, u64), report: &mut OpenReport) {
    add(&shared.counters.damaged_files, damaged);
    let tables = read(&shared.tables);
    report.agents = lock(&shared.ledgers).agents().len();
    report.series = read(&shared.registry).names().len();
    report.sealed_files = tables.files.len();
    report.sealed_rows = tables.files.iter().map(|file| file.rows).sum();
    report.replayed_records = replay.records;
    report.replayed_rows = tables.active.rows() as u64;
}

/// Gives the dead letters that cannot be written yet; more of them than memory may hold end the start.
fn take_in_replay(shared: &Shared, core: &mut Core, replay: &Replay) -> Result<Unkept, StoreError> {
    let mut unkept = Unkept::default();
    for batch in &replay.batches {
        let Err(letter) =
            decode::take_in(shared, (&batch.agent, batch.place), &batch.run, &batch.taken, false)
        else {
            continue;
        };
        let mut refusals = Vec::new();
        unkept.add(letter);
        let kept = unkept.keep(shared, &mut refusals);
        for refusal in refusals {
            core.refuse(&refusal.agent, refusal.envelope.epoch, &refusal.taken, refusal.rows())?;
        }
        if unkept.is_full() {
            kept?;
        }
    }
    Ok(unkept)
}

const MANIFEST: &str = "manifest.redb";

/// A manifest that cannot be read is put aside with all files that only it could explain.
fn open_manifest(
    (files, dir): (&dyn FileSystem, &Path),
    report: &mut OpenReport,
) -> Result<(Manifest, Contents), StoreError> {
    let path = dir.join(MANIFEST);
    let (manifest, contents) = match Manifest::open(files, &path) {
        Err(OpenError::Damaged(reason)) => {
            put_aside((files, dir), &path, &reason, &mut report.quarantined)?;
            Manifest::open(files, &path)?
        }
        opened => opened?,
    };
    if manifest.is_new() {
        for path in sealed_files(files, dir)? {
            put_aside((files, dir), &path, "the manifest that lists it is lost", &mut report.quarantined)?;
        }
    }
    Ok((manifest, contents))
}

/// A number that no file has had.
fn next_number(contents: &Contents) -> u64 {
    let listed = contents.files.iter().map(|file| file.number);
    let listed = listed.chain(contents.cold.iter().map(|entry| entry.number));
    let known = listed.chain(contents.gone.iter().copied()).chain([contents.flushed]);
    known.max().map_or(1, |number| number + 1)
}

/// Removes what a compaction left, whichever of the old files and the new one it is. What cannot be removed now
/// stays noted.
fn remove_gone(
    (files, dir): (&dyn FileSystem, &Path),
    manifest: &Manifest,
    contents: &mut Contents,
) -> Result<(), StoreError> {
    let (mut removed, mut left) = (Vec::new(), Vec::new());
    for number in std::mem::take(&mut contents.gone) {
        match remove(files, dir, number) {
            Ok(()) => removed.push(number),
            Err(error) => {
                tracing::error!(%error, number, "a sealed file that was replaced cannot be removed for now");
                left.push(number);
            }
        }
    }
    contents.gone = left;
    if removed.is_empty() {
        return Ok(());
    }
    let synced = files.sync_dir(&dir.join("sealed"));
    synced.map_err(StoreError::io("removing a sealed file"))?;
    manifest.forget_gone(&removed)
}

fn sealed_files(files: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    files.list(&dir.join("sealed")).map_err(StoreError::io("listing the sealed files"))
}

/// Mends what is damaged, and removes what a flush left that never was committed.
fn check_files(
    config: &StoreConfig,
    workshop: Workshop<'_>,
    contents: &mut Contents,
    report: &mut OpenReport,
) -> Result<(), StoreError> {
    let files = config.files.as_ref();
    for file in contents.files.clone() {
        match damage::find(files, &config.dir, &file, config.check_files_on_open) {
            Ok(None) => {}
            Ok(Some(damage @ Damage::Raw(_))) => {
                // One that cannot be mended for now stays listed; who asks for it has it tried again.
                if let Err(error) = workshop.mend(contents, &file, damage, &mut report.quarantined) {
                    tracing::error!(%error, file = file.number, "a damaged file cannot be put aside for now");
                }
            }
            // Its readings stand; queries compute the rollup again once there is room for it.
            Ok(Some(damage @ Damage::Rollup(_))) => {
                if let Err(error) = workshop.mend(contents, &file, damage, &mut report.quarantined) {
                    tracing::error!(%error, file = file.number, "a rollup cannot be computed again for now");
                }
            }
            Err(error) => tracing::error!(%error, "a sealed file stays listed and cannot be read for now"),
        }
    }
    let paths = |number| {
        let (raw, rollup) = sealed_paths(&config.dir, number);
        [raw, rollup]
    };
    let numbers = contents.files.iter().map(|file| file.number).chain(contents.gone.iter().copied());
    let listed: Vec<PathBuf> = numbers.flat_map(paths).collect();
    for path in sealed_files(files, &config.dir)?.into_iter().filter(|path| !listed.contains(path)) {
        // The log still has what a flush was sealing when it was cut off. Files of merges have been noted.
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if path.extension().is_some_and(|end| end == "tmp")
            || number.is_some_and(|number| number > contents.flushed)
        {
            files.remove(&path).map_err(StoreError::io("removing an unfinished file"))?;
        } else {
            put_aside((files, &config.dir), &path, "the manifest does not list it", &mut report.quarantined)?;
        }
    }
    Ok(())
}

/// The series as they were before the start: numbers never change, and the newest unit counts.
fn registry_of(
    (config, names, revised): (&StoreConfig, Names, HashSet<SeriesId>),
    sealed: &Ledgers,
    all: &Ledgers,
    renamings: &[Renaming],
) -> Registry {
    let mut registry = Registry::of(names, Revised::by(config.revised_by.clone(), revised));
    // The manifest knows the newest unit, and the dictionaries of older epochs have older ones.
    for (agent, epoch, state) in sealed.iter() {
        registry.learn((agent, epoch), state.dictionary(), Age::Older);
    }
    for (agent, epoch, state) in all.iter() {
        // What is read before an entry was renamed is what the entry was then.
        let mut first = state.dictionary().clone();
        let own = renamings.iter().filter(|renaming| (&renaming.agent, renaming.epoch) == (agent, epoch));
        for Renaming { series, were, .. } in own.rev() {
            first.replace(&(series.first as usize..).zip(were.entries_from(0)).collect());
        }
        registry.learn((agent, epoch), &first, Age::Newest);
    }
    for Renaming { agent, epoch, series, place, .. } in renamings {
        registry.rename((agent, *epoch), std::slice::from_ref(series), *place);
    }
    registry
}

fn start(
    config: &StoreConfig,
    shared: Arc<Shared>,
    manifest: Manifest,
    (core, unkept): (Core, Unkept),
    format: Arc<dyn SealedFormat>,
) -> Result<Store, StoreError> {
    let (commands, queue) = mpsc::unbounded_channel();
    let (urgent, urgent_queue) = std_mpsc::channel();
    let (work, works) = std_mpsc::sync_channel(DECODE_QUEUE_MAX);
    let (live, _) = broadcast::channel(config.live_queue_max.max(1));
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let writer = Writer {
        core,
        shared: Arc::clone(&shared),
        urgent: urgent_queue,
        work,
        refusals: Arc::clone(&refusals),
    };
    let decoder = Decoder {
        shared: Arc::clone(&shared),
        live: live.clone(),
        commands: commands.downgrade(),
        refusals,
        unkept,
    };
    let inner = Arc::new(Inner {
        shared: Arc::clone(&shared),
        format,
        manifest,
        commands,
        urgent,
        room: Arc::new(Semaphore::new(config.queue_max.max(1))),
        room_kib: Semaphore::new(QUEUE_KIB_MAX as usize),
        live,
        unfinished: Mutex::new(None),
        threads: Mutex::new(Vec::new()),
    });
    let weak = Arc::downgrade(&inner);
    let interval = config.flush_interval;
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(StoreError::io("starting a thread"))
    };
    let (checked, checker) = (Arc::clone(&shared), Weak::clone(&weak));
    let (watched, reopener, pause) = (Arc::clone(&shared), Weak::clone(&weak), config.log_retry_min);
    let (compacted, compactor) = (Arc::clone(&shared), Weak::clone(&weak));
    let mut threads = vec![
        spawn("store-reopen", Box::new(move || run_reopener(&watched, &reopener, pause)))?,
        spawn("store-check", Box::new(move || run_checker(&checked, &checker)))?,
        spawn("store-flush", Box::new(move || run_flusher(&shared, &weak, interval)))?,
        spawn("store-log", Box::new(move || writer.run(queue)))?,
        spawn("store-decode", Box::new(move || decoder.run(&works)))?,
    ];
    if config.compact {
        threads.push(spawn("store-compact", Box::new(move || run_compactor(&compacted, &compactor)))?);
    }
    *lock(&inner.threads) = threads;
    Ok(Store { inner })
}
