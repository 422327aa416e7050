//! A start: check what the manifest lists, replay the log, start the threads. It always succeeds
//! on a folder that can be used; what cannot be trusted is put aside, reported, and asked for
//! again from the agents.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock, mpsc as std_mpsc};

use tideline_protocol::time::Clock;
use tokio::sync::{Semaphore, broadcast, mpsc};

use super::flush::fingerprint;
use super::threads::{DECODE_QUEUE_MAX, Decoder, Writer, run_flusher};
use super::{Inner, OpenReport, Quarantined, Store};
use crate::config::{StoreConfig, StoreError};
use crate::decode;
use crate::log::{LogCore, RealDisk, Replay, lock};
use crate::manifest::{Change, Contents, FileEntry, Manifest, lose};
use crate::metrics::Counters;
use crate::sealed::ParquetFormat;
use crate::tables::{Registry, Shared, Signal, Tables, read, sealed_paths};

pub fn open(config: StoreConfig, clock: &dyn Clock) -> Result<(Store, OpenReport), StoreError> {
    let started = clock.mono_ns();
    let mut report = OpenReport::default();
    for sub in ["log", "sealed", "dead", "quarantine"] {
        fs::create_dir_all(config.dir.join(sub)).map_err(StoreError::io("creating the store's folders"))?;
    }
    let (manifest, mut contents) = open_manifest(&config.dir, &mut report)?;
    check_files(&config, &manifest, &mut contents, &mut report)?;
    let disk = RealDisk::open(config.dir.join("log"), config.dir.join("quarantine"))
        .map_err(StoreError::io("opening the log's folder"))?;
    let Contents { checkpoint, series, files } = contents;
    let (core, replay) = LogCore::open(disk, checkpoint)?;
    let mut core = core.with_segment_bytes_max(config.log_segment_bytes_max);
    for (segment, reason) in &replay.problems {
        let path = config.dir.join("log").join(format!("{segment:08}.log"));
        report.quarantined.push(Quarantined { path, reason: reason.clone() });
    }
    let mut registry = Registry::default();
    for entry in &series {
        registry.intern(&tideline_protocol::model::SeriesDef {
            device: entry.device.clone(),
            point: entry.point.clone(),
            unit: entry.unit.clone(),
        });
    }
    let ledgers = core.ledgers();
    for (agent, epoch, state) in lock(&ledgers).iter() {
        registry.learn(agent, epoch, state.dictionary());
    }
    let tables = Tables {
        files: Arc::new(files.into_iter().map(Arc::new).collect()),
        sealed_stats: series.iter().map(crate::manifest::SeriesEntry::stats).collect(),
        ..Tables::default()
    };
    let shared = Arc::new(Shared {
        dir: config.dir.clone(),
        hot_rows_max: config.hot_rows_max.max(1),
        ledgers,
        registry: RwLock::new(registry),
        tables: RwLock::new(tables),
        counters: Counters::default(),
        signal: Signal::default(),
    });
    take_in_replay(&shared, &mut core, &replay)?;
    count(&shared, &replay, &mut report);
    report.took_ns = clock.mono_ns().saturating_sub(started);
    for entry in &report.quarantined {
        tracing::warn!(path = %entry.path.display(), reason = entry.reason, "put aside");
    }
    Ok((start(&config, shared, manifest, core)?, report))
}

fn count(shared: &Shared, replay: &Replay, report: &mut OpenReport) {
    let tables = read(&shared.tables);
    report.agents = lock(&shared.ledgers).agents().len();
    report.series = read(&shared.registry).metas().len();
    report.sealed_files = tables.files.len();
    report.sealed_rows = tables.files.iter().map(|file| file.rows()).sum();
    report.replayed_records = replay.records;
    report.replayed_rows = tables.active.rows() as u64;
}

fn take_in_replay(shared: &Shared, core: &mut LogCore<RealDisk>, replay: &Replay) -> Result<(), StoreError> {
    for batch in &replay.batches {
        if let Err(refusal) = decode::take_in(shared, &batch.agent, &batch.run, &batch.taken) {
            core.refuse(&refusal.agent, refusal.envelope.epoch, &refusal.taken, refusal.rows())?;
        }
    }
    Ok(())
}

/// A manifest that cannot be read is put aside with all files that only it could explain.
fn open_manifest(dir: &Path, report: &mut OpenReport) -> Result<(Manifest, Contents), StoreError> {
    let path = dir.join("manifest.redb");
    let opened =
        Manifest::open(&path).and_then(|manifest| manifest.read().map(|contents| (manifest, contents)));
    let reason = match opened {
        Ok(good) => return Ok(good),
        Err(StoreError::Manifest(reason))
            if reason.contains("already open") || reason.contains("version") =>
        {
            return Err(StoreError::Manifest(reason));
        }
        Err(error) => error.to_string(),
    };
    put_aside(dir, &path, &reason, report)?;
    let manifest = Manifest::open(&path)?;
    let contents = manifest.read()?;
    for entry in fs::read_dir(dir.join("sealed")).map_err(StoreError::io("listing the sealed files"))? {
        let path = entry.map_err(StoreError::io("listing the sealed files"))?.path();
        put_aside(dir, &path, "the manifest that lists it is lost", report)?;
    }
    Ok((manifest, contents))
}

fn put_aside(dir: &Path, path: &Path, reason: &str, report: &mut OpenReport) -> Result<(), StoreError> {
    report.quarantined.push(Quarantined { path: path.to_owned(), reason: reason.to_owned() });
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let quarantine = dir.join("quarantine");
    // The same name may have been put aside before.
    let target = (0_u32..)
        .map(|n| quarantine.join(if n == 0 { name.to_owned() } else { format!("{name}.{n}") }))
        .find(|target| !target.exists());
    match target {
        Some(target) if path.exists() => {
            fs::rename(path, target).map_err(StoreError::io("putting a file aside"))
        }
        _ => Ok(()),
    }
}

fn damage(config: &StoreConfig, file: &FileEntry) -> Option<String> {
    let (raw, rollup) = sealed_paths(&config.dir, file.number);
    [(raw, file.raw), (rollup, file.rollup)].into_iter().find_map(|(path, listed)| {
        if config.check_files_on_open {
            return match fingerprint(&path) {
                Ok(found) if found == listed => None,
                Ok(found) if found.0 != listed.0 => {
                    Some(format!("it has {} bytes, listed are {}", found.0, listed.0))
                }
                Ok(_) => Some("its checksum does not match".to_owned()),
                Err(error) => Some(error.to_string()),
            };
        }
        match fs::metadata(&path) {
            Ok(found) if found.len() == listed.0 => None,
            Ok(found) => Some(format!("it has {} bytes, listed are {}", found.len(), listed.0)),
            Err(error) => Some(error.to_string()),
        }
    })
}

/// Puts damaged files aside, whose seqs are wanted again, and removes files that no manifest
/// lists: the log still has what they hold.
fn check_files(
    config: &StoreConfig,
    manifest: &Manifest,
    contents: &mut Contents,
    report: &mut OpenReport,
) -> Result<(), StoreError> {
    let mut removed = Vec::new();
    for file in &contents.files {
        if let Some(reason) = damage(config, file) {
            let (raw, rollup) = sealed_paths(&config.dir, file.number);
            let lost = lose(&mut contents.checkpoint.ledgers, file);
            put_aside(&config.dir, &raw, &format!("{reason}; {lost} rows are wanted again"), report)?;
            put_aside(&config.dir, &rollup, "it belongs to a damaged file", report)?;
            removed.push(file.number);
        }
    }
    contents.files.retain(|file| !removed.contains(&file.number));
    if !removed.is_empty() {
        let change = Change {
            checkpoint: &contents.checkpoint,
            series: &contents.series,
            added: None,
            removed: &removed,
        };
        manifest.commit(&change)?;
    }
    let listed: Vec<_> = contents
        .files
        .iter()
        .flat_map(|file| {
            let (raw, rollup) = sealed_paths(&config.dir, file.number);
            [raw, rollup]
        })
        .collect();
    for entry in
        fs::read_dir(config.dir.join("sealed")).map_err(StoreError::io("listing the sealed files"))?
    {
        let path = entry.map_err(StoreError::io("listing the sealed files"))?.path();
        if !listed.contains(&path) {
            fs::remove_file(&path).map_err(StoreError::io("removing an unlisted file"))?;
        }
    }
    Ok(())
}

fn start(
    config: &StoreConfig,
    shared: Arc<Shared>,
    manifest: Manifest,
    core: LogCore<RealDisk>,
) -> Result<Store, StoreError> {
    let (commands, queue) = mpsc::unbounded_channel();
    let (work, works) = std_mpsc::sync_channel(DECODE_QUEUE_MAX);
    let (live, _) = broadcast::channel(config.live_queue_max.max(1));
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let writer = Writer { core, shared: Arc::clone(&shared), work, refusals: Arc::clone(&refusals) };
    let decoder =
        Decoder { shared: Arc::clone(&shared), live: live.clone(), commands: commands.downgrade(), refusals };
    let inner = Arc::new(Inner {
        shared: Arc::clone(&shared),
        format: Arc::new(ParquetFormat),
        manifest,
        commands,
        room: Arc::new(Semaphore::new(config.queue_max.max(1))),
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
    let threads = vec![
        spawn("store-flush", Box::new(move || run_flusher(&shared, &weak, interval)))?,
        spawn("store-log", Box::new(move || writer.run(queue)))?,
        spawn("store-decode", Box::new(move || decoder.run(&works)))?,
    ];
    *lock(&inner.threads) = threads;
    Ok(Store { inner })
}
