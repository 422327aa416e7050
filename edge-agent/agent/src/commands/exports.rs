//! Exports of readings to a file of the device.
//!
//! One is written at a time, so that each knows what the others take of the folder. Another agent may have the same folder: who
//! writes a part has it locked. Nothing that was written whole is ever removed here: it is somebody's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::json;
use tideline_formats::when::parse_time;
use tideline_protocol::commands::{Ended, errors};
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::wire::{CommandError, CommandId};

use super::kinds::{Hands, Run};
use crate::export::{self, Selection};
use crate::spooler::SpoolHandle;

/// Largest file.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// What a file is called until it is whole.
const PART: &str = "part";

/// Held by who writes to a folder of exports, or looks how much is in it.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportInput {
    #[serde(default)]
    series: Vec<String>,
    from: Option<When>,
    to: Option<When>,
    format: Option<Format>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum When {
    Ms(i64),
    Text(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Csv,
    Json,
}

impl When {
    /// Relative times are those before the command was given, or the run of a schedule began: not before the device was there.
    fn ns(&self, name: &str, given_ns: i64) -> Result<i64, CommandError> {
        let found = match self {
            Self::Ms(ms) => parse_time(&ms.to_string(), given_ns),
            Self::Text(text) => parse_time(text, given_ns),
        };
        found.map_err(|error| CommandError::new(errors::BAD_INPUT, format!("{name}: {error}")))
    }
}

/// A file that takes no more than may be, and nothing once nobody wants it any more.
struct Bounded<W> {
    out: W,
    room: u64,
    left: u64,
    stopped: Arc<AtomicBool>,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(io::Error::other("it was broken off"));
        }
        let more = || io::Error::other(format!("there is more; allowed are {} bytes", self.room));
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(more)?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Ends the thread that writes when nobody waits for it.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Run {
    pub(super) async fn export(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let ExportInput { series, from, to, format } = self.input()?;
        let (folder, all_max) = {
            let jobs = hands.jobs.borrow();
            (jobs.export_dir.clone(), jobs.export_bytes)
        };
        let folder = folder.ok_or_else(|| {
            CommandError::new(
                errors::NOT_ALLOWED,
                "commands.export_dir is not set in the agent's configuration",
            )
        })?;
        let given_ns = self.command.id.made_ms().saturating_mul(NS_PER_MS);
        let ns = |when: Option<When>, name| when.map(|when| when.ns(name, given_ns)).transpose();
        let json = format == Some(Format::Json);
        let selection = Selection { json, series, from_ns: ns(from, "from")?, to_ns: ns(to, "to")? };
        let path = folder.join(format!("{}.{}", self.command.id, if json { "ndjson" } else { "csv" }));
        let stopped = Stop(Arc::new(AtomicBool::new(false)));
        let written =
            write(hands.syncer.spool.clone(), selection, (path.clone(), all_max), Arc::clone(&stopped.0))
                .await;
        let missing = written.map_err(|error| CommandError::new(errors::FAILED, format!("{error:#}")))?;
        let result = json!({"path": path, "missing_batches": missing});
        Ok(Ended::Succeeded(serde_json::to_vec(&result).ok()))
    }
}

async fn write(
    spool: SpoolHandle,
    selection: Selection,
    (path, all_max): (PathBuf, u64),
    stopped: Arc<AtomicBool>,
) -> anyhow::Result<u64> {
    let (defs, held) = export::begin(&spool, &selection).await?;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let room = room(path.parent().unwrap_or(Path::new(".")), all_max)?;
        // Under another name until it is whole, so that nobody takes a part of it for all.
        let part = path.with_extension(PART);
        let written = to_file(&part, (room, stopped), |out| {
            let load =
                |seqs: &_| Ok(runtime.block_on(spool.load(Clone::clone(seqs), export::BYTES_AT_A_TIME))?);
            export::write(&selection, &defs, held, load, out)
        });
        match written.and_then(|missing| Ok(std::fs::rename(&part, &path).map(|()| missing)?)) {
            Ok(missing) => Ok(missing),
            Err(error) => {
                let _none = std::fs::remove_file(&part);
                Err(error.context(path.display().to_string()))
            }
        }
    })
    .await?
}

fn to_file(
    path: &Path,
    (room, stopped): (u64, Arc<AtomicBool>),
    work: impl FnOnce(&mut Bounded<BufWriter<&File>>) -> anyhow::Result<u64>,
) -> anyhow::Result<u64> {
    let file = locked(path)?;
    let missing = work(&mut Bounded { out: BufWriter::new(&file), room, left: room, stopped })?;
    file.sync_all()?;
    Ok(missing)
}

/// A new part, which nobody else takes for one that was left behind.
fn locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.lock()?;
    // Another agent may have done so before it was locked.
    match std::fs::metadata(path) {
        Ok(found) if found.ino() == file.metadata()?.ino() => Ok(file),
        _ => Err(io::Error::other("another agent has just cleared the folder of exports; try again")),
    }
}

/// Removes what an agent left behind that was killed while it wrote.
pub(super) fn clear(folder: &Path) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = held(folder) {
        tracing::warn!(%error, folder = %folder.display(), "the folder of exports cannot be looked at");
    }
}

/// How long the next file may be: as long as one may, and no longer than what is left of all.
fn room(folder: &Path, all_max: u64) -> anyhow::Result<u64> {
    let held = held(folder)?;
    if all_max == 0 {
        return Ok(FILE_BYTES_MAX);
    }
    let left = all_max.saturating_sub(held);
    anyhow::ensure!(
        left > 0,
        "the exports in {} have {held} bytes, and commands.export_mb allows {all_max}: remove some",
        folder.display()
    );
    Ok(left.min(FILE_BYTES_MAX))
}

/// The bytes of all exports in a folder. Parts that nobody writes any more are removed.
fn held(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        // Whatever else is there is none of ours.
        if stem.parse::<CommandId>().is_err() {
            continue;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(PART) => bytes = bytes.saturating_add(unless_gone(part(&path))?),
            Some("csv" | "ndjson") => {
                let found = unless_gone(entry.metadata().map(|found| found.len()))?;
                bytes = bytes.saturating_add(found);
            }
            _ => {}
        }
    }
    Ok(bytes)
}

/// Another agent may remove a part, or give it its name, while the folder is looked at.
fn unless_gone(bytes: io::Result<u64>) -> io::Result<u64> {
    bytes.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(0) } else { Err(error) })
}

/// The bytes of a part that somebody writes; one that nobody does is removed.
fn part(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            std::fs::remove_file(path)?;
            tracing::warn!(path = %path.display(), "a part of an export is removed");
            Ok(0)
        }
        Err(TryLockError::WouldBlock) => Ok(file.metadata()?.len()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_before_the_command_was_given() {
        let given_ns = CommandId::made(7_200_000, [0; 10]).made_ms() * NS_PER_MS;
        for (when, ms) in [
            (json!("-1h"), 3_600_000),
            (json!("now"), 7_200_000),
            (json!("1970-01-01T00:00:01Z"), 1_000),
            (json!(5), 5),
            (json!(-5), -5),
        ] {
            let parsed: When = serde_json::from_value(when).unwrap();
            assert_eq!(parsed.ns("from", given_ns), Ok(ms * NS_PER_MS));
        }
        let error = When::Text("soon".to_owned()).ns("to", given_ns).unwrap_err();
        assert!(error.text.starts_with("to: \"soon\" is no time; allowed are"), "{error:?}");
    }

    #[test]
    fn a_part_that_another_agent_writes_stays_and_counts_and_one_that_nobody_writes_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: u8, kind: &str| {
            folder.path().join(CommandId::from_bytes([n; 16]).to_string()).with_extension(kind)
        };
        // As in another process: a lock is of the open file.
        let mut written = locked(&path(1, PART)).unwrap();
        written.write_all(&[0; 10]).unwrap();
        std::fs::write(path(2, PART), [0; 100]).unwrap();
        std::fs::write(path(3, "csv"), [0; 5]).unwrap();
        std::fs::write(folder.path().join("notes.part"), [0; 100]).unwrap();
        assert_eq!(held(folder.path()).unwrap(), 15);
        assert!(path(1, PART).exists() && !path(2, PART).exists());
        assert_eq!(room(folder.path(), 20).unwrap(), 5);
        // Killed, it writes no more.
        drop(written);
        assert_eq!(held(folder.path()).unwrap(), 5);
        assert!(!path(1, PART).exists() && folder.path().join("notes.part").exists());
    }
}
