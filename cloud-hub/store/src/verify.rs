//! Whether what a store holds can be trusted: its manifest, files, log, ranges and dead letters
//! against each other. It reads everything and changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId};
use tideline_protocol::ranges::RangeSet;

use crate::cold::{self, file::ColdFile};
use crate::config::StoreError;
use crate::dead::{self, Dead};
use crate::decode;
use crate::files::{FileSystem, Files, RealFiles};
use crate::inspect::{contents, verify_file};
use crate::log::{Ledgers, Replay, look};
use crate::manifest::{Contents, FileEntry, HoldingEntry};
use crate::sealed::{SealedFormat as _, SegmentFormat};
use crate::store::damage;
use crate::tables::sealed_paths;

/// What a check of a store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Sealed files read.
    pub files: usize,
    /// Rows read from them.
    pub rows: u64,
    /// Files of the cold tier read.
    pub cold_files: usize,
    /// Rows read from them.
    pub cold_rows: u64,
    /// Records of the log read.
    pub log_records: u64,
    /// Rows of the log that are in no sealed file yet.
    pub log_rows: u64,
    /// Dead letters read.
    pub letters: usize,
    /// What is wrong, for people; empty when all is well.
    pub problems: Vec<String>,
    /// What a kill or a hostile agent may leave and a start clears away, for people.
    pub notes: Vec<String>,
}

/// Reads all of a closed store, or of a snapshot: compares checksums, computes rollups again (INV-9),
/// and compares what the ledgers say is stored with what files and log hold (INV-2).
///
/// # Errors
/// There is no store, it is open elsewhere, its manifest is damaged, or the disk failed.
pub fn verify(dir: &Path) -> Result<Verification, StoreError> {
    verify_on(RealFiles::shared(), dir)
}

/// As [`verify`], on a file system of one's own.
///
/// # Errors
/// As there.
pub fn verify_on(files: Files, dir: &Path) -> Result<Verification, StoreError> {
    let format = SegmentFormat(files);
    let files = format.files();
    let mut out = Verification::default();
    let contents = contents(files, dir)?;
    for file in &contents.files {
        out.files += 1;
        out.rows += file.rows;
        let problem = match damage::find(files, dir, file, true) {
            Ok(Some(damage)) => Some(damage.to_string()),
            Ok(None) => verify_file(&format, dir, file).err(),
            Err(error) => Some(error.to_string()),
        };
        out.problems.extend(problem.map(|problem| format!("sealed file {:08}: {problem}", file.number)));
    }
    unlisted((files, dir), &contents, &mut out)?;
    cold((files, dir), &contents, &mut out)?;
    let Contents { checkpoint, files: sealed, expired, .. } = contents;
    let (ledgers, replay) = look(files, &dir.join("log"), checkpoint)?;
    log(&ledgers, &replay, &mut out);
    ranges(&ledgers, &replay, (&sealed, &expired), &mut out);
    letters((files, &dir.join("dead")), &mut out)?;
    Ok(out)
}

fn unlisted(
    (files, dir): (&dyn FileSystem, &Path),
    contents: &Contents,
    out: &mut Verification,
) -> Result<(), StoreError> {
    let listed = |path: &Path| {
        contents.files.iter().any(|file| {
            let (raw, rollup) = sealed_paths(dir, file.number);
            (path == raw && file.is_whole()) || path == rollup
        })
    };
    let entries = match files.list(&dir.join("sealed")) {
        // A store that has not sealed anything, as one restored from a young backup, may have no folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(StoreError::io("listing the sealed files"))?,
    };
    for path in entries {
        if !listed(&path) {
            out.notes.push(format!("{} is not listed in the manifest", path.display()));
        }
    }
    Ok(())
}

/// Whether each cold file is what the manifest says, and has the rows of a day.
fn cold(
    (files, dir): (&dyn FileSystem, &Path),
    contents: &Contents,
    out: &mut Verification,
) -> Result<(), StoreError> {
    let find = |device: &str, point: &str| {
        contents.names.find(&DeviceId::parse(device).ok()?, &PointId::parse(point).ok()?)
    };
    for entry in &contents.cold {
        out.cold_files += 1;
        out.cold_rows += entry.rows;
        let problem = match entry.damage((files, dir), true) {
            Ok(None) => ColdFile::open((files, dir), entry).and_then(|file| file.verify(entry, &find)).err(),
            Ok(Some(reason)) => Some(StoreError::Cold(reason)),
            Err(error) => Some(error),
        };
        out.problems.extend(problem.map(|problem| format!("{}: {problem}", entry.name().display())));
    }
    for path in cold::unlisted((files, dir), &contents.cold)? {
        out.notes.push(format!("{} is not listed in the manifest", path.display()));
    }
    Ok(())
}

fn log(ledgers: &Ledgers, replay: &Replay, out: &mut Verification) {
    out.log_records = replay.records;
    let newest = replay.newest;
    for (segment, reason) in &replay.problems {
        let text = format!("log segment {segment:08}: {reason}");
        // A kill in the middle of a write leaves this, and none of it was acknowledged.
        let cut_off = *segment == newest && reason.starts_with("torn");
        if cut_off { &mut out.notes } else { &mut out.problems }.push(text);
    }
    for batch in &replay.batches {
        let envelope = &batch.run.envelope;
        out.log_rows += envelope.rows.total_in(envelope.first, &batch.taken);
        let series = ledgers.epoch(&batch.agent, envelope.epoch).map_or(0, |state| state.dictionary().len());
        if let Err(reason) = decode::guarded(&batch.run, &batch.taken, series) {
            let (agent, first) = (&batch.agent, envelope.first);
            out.notes.push(format!("run {first} of agent {agent} will be a dead letter: {reason}"));
        }
    }
}

/// What files and log hold of an epoch.
#[derive(Default)]
struct Held {
    seqs: RangeSet,
    rows: u64,
}

fn ranges(
    ledgers: &Ledgers,
    replay: &Replay,
    (files, expired): (&[FileEntry], &[HoldingEntry]),
    out: &mut Verification,
) {
    let mut held: BTreeMap<(AgentId, Epoch), Held> = BTreeMap::new();
    let mut add = |agent: &AgentId, epoch: Epoch, seqs: &RangeSet, rows: u64, place: &dyn Fn() -> String| {
        let entry = held.entry((agent.clone(), epoch)).or_default();
        let twice = entry.seqs.intersect(seqs);
        entry.seqs.insert_set(seqs);
        entry.rows += rows;
        (!twice.is_empty()).then(|| {
            format!(
                "seqs {} of agent {agent}, epoch {epoch}, stand twice: again in {}",
                list(&twice),
                place()
            )
        })
    };
    for entry in expired {
        let (agent, epoch, seqs, rows) = entry.parts();
        let place = || "what is past its retention".to_owned();
        out.problems.extend(add(agent, epoch, &seqs, rows, &place));
    }
    for file in files.iter().filter(|file| file.is_whole()) {
        let place = || format!("sealed file {:08}", file.number);
        let holdings: Vec<_> = file.holdings.iter().map(|holding| holding.parts()).collect();
        for (agent, epoch, seqs, rows) in &holdings {
            out.problems.extend(add(agent, *epoch, seqs, *rows, &place));
        }
        let rows: u64 = holdings.iter().map(|(_, _, _, rows)| rows).sum();
        if rows != file.rows {
            out.problems.push(format!("{} has {} rows, its ranges are of {rows}", place(), file.rows));
        }
    }
    for batch in &replay.batches {
        let envelope = &batch.run.envelope;
        let rows = envelope.rows.total_in(envelope.first, &batch.taken);
        let twice = add(&batch.agent, envelope.epoch, &batch.taken, rows, &|| "the log".to_owned());
        out.problems.extend(twice);
    }
    for (agent, epoch, state) in ledgers.iter() {
        let found = held.remove(&(agent.clone(), epoch)).unwrap_or_default();
        let who = format!("agent {agent}, epoch {epoch}");
        let stored = &state.settled().stored;
        let (mut absent, mut unlisted) = (stored.clone(), found.seqs.clone());
        absent.remove_set(&found.seqs.intersect(stored));
        // Of those that were folded the rows tell.
        absent.remove(1, state.folded().get());
        unlisted.remove_set(&stored.intersect(&found.seqs));
        if !absent.is_empty() {
            out.problems.push(format!("{who}: seqs {} are acknowledged and nowhere", list(&absent)));
        }
        if !unlisted.is_empty() {
            out.problems.push(format!("{who}: seqs {} are held and not acknowledged", list(&unlisted)));
        }
        let rows = state.stored_rows();
        if found.rows != rows {
            out.problems.push(format!("{who}: {rows} rows are acknowledged, {} are held", found.rows));
        }
    }
    for (agent, epoch) in held.into_keys() {
        out.problems.push(format!("agent {agent}, epoch {epoch}: seqs are held, and there is no ledger"));
    }
}

/// The first ranges of a set, for people.
fn list(set: &RangeSet) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = set.iter().take(SHOWN).map(|(lo, hi)| format!("{lo}–{hi}")).collect();
    let more = if set.range_count() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn letters(folder: Dead<'_>, out: &mut Verification) -> Result<(), StoreError> {
    let (letters, bad) = dead::list(folder).map_err(StoreError::io("listing the dead letters"))?;
    out.letters = letters.len();
    out.problems.extend(bad.into_iter().map(|name| format!("dead letter {name}: it cannot be read")));
    for head in letters {
        if let Err(error) = dead::find(folder, head.id.clone()) {
            out.problems.push(format!("dead letter {}: {error}", head.id));
        }
    }
    Ok(())
}
