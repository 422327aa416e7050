//! Restoring a backup into a data folder.
//!
//! Everything is checked before anything is touched. The files are made in a folder within the data
//! folder, whose being there keeps a hub from starting; what the data folder held is moved aside, the
//! new files are moved in, and that folder goes last. So a restore that is cut off can be run again.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use super::{BackupError, FORMAT, LIST, List, Listed, REGISTRY, copy, digest, failed, files_in, sync_parent};
use crate::metadata::{
    BoardShareRecord, Changes, EnrolRecord, Metadata, MetadataError, SessionRecord, TokenRecord, UserRecord,
};
use crate::twins::{TWINS, TwinFile};
use crate::when;

/// The folder of a restore in the data folder: while it is there, no hub starts.
pub const UNFINISHED: &str = ".restoring";
/// Longest list of a backup: a million files.
const LIST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was made, Unix ms.
    pub made_ms: i64,
    /// How many files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Where what the data folder held is now.
    pub aside: Option<PathBuf>,
    /// Enrolment tokens that were not used yet and are ended: they may have been used since.
    pub tokens_ended: usize,
    /// Links to boards that were ended, all there were.
    pub shares_ended: usize,
    /// Users and API tokens, which are as they were.
    pub users: usize,
    /// API tokens.
    pub api_tokens: usize,
}

/// Restores the backup in `from` into the data folder. One that holds something is refused unless
/// `force`; what it holds is then moved aside. Blocks the thread.
///
/// # Errors
/// The backup is not good, the folder holds something, a hub runs on it, or the disk failed.
pub fn restore(from: &Path, data: &Path, force: bool, now_ms: i64) -> Result<Restored, BackupError> {
    let list = read_list(from)?;
    check(from, &list)?;
    let held = held_in(data)?;
    let unfinished = data.join(UNFINISHED);
    let again = unfinished.exists();
    if !held.is_empty() && !force && !again {
        return Err(BackupError::Place(format!(
            "{} is not empty: name an empty folder, or say --force to move aside what it holds",
            data.display()
        )));
    }
    let locked = held.iter().any(|name| name == REGISTRY).then(|| lock(data)).transpose()?;
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed(data))?;
    begin(&unfinished).map_err(failed(&unfinished))?;
    for file in &list.files {
        bring(from, &unfinished, file)?;
    }
    let prepared = prepare(&unfinished.join(REGISTRY), &list)?;
    TwinFile::restored(&unfinished.join(TWINS))?;
    sync_folders(&unfinished).map_err(failed(&unfinished))?;
    drop(locked);
    let aside = move_aside(data, &held, now_ms).map_err(failed(data))?;
    move_in(&unfinished, data).map_err(failed(data))?;
    Ok(Restored { aside, ..prepared })
}

fn read_list(from: &Path) -> Result<List, BackupError> {
    let path = from.join(LIST);
    let place = |what: String| BackupError::Place(what);
    let len = fs::metadata(&path)
        .map_err(|error| place(format!("{} is no backup: it has no {LIST} ({error})", from.display())))?;
    if len.len() > LIST_BYTES_MAX {
        return Err(place(format!("{} is longer than {LIST_BYTES_MAX} bytes", path.display())));
    }
    let bytes = fs::read(&path).map_err(failed(&path))?;
    let damaged = |problem: String| BackupError::Damaged { path: from.to_owned(), problems: vec![problem] };
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| damaged(format!("{LIST}: {error}")))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            return Err(place(format!(
                "{} has format {format}; this cloud-hub reads format {FORMAT}",
                from.display()
            )));
        }
        None => return Err(damaged(format!("{LIST} names no format"))),
    }
    serde_json::from_value(value).map_err(|error| damaged(format!("{LIST}: {error}")))
}

/// Compares all files with the list, and says all that is wrong.
fn check(from: &Path, list: &List) -> Result<(), BackupError> {
    let mut problems = Vec::new();
    for file in &list.files {
        // A list that somebody else wrote must not reach out of the folder.
        let inside = !file.path.is_empty()
            && Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            problems.push(format!("{:?} is no path within a backup", file.path));
            continue;
        }
        match digest(&from.join(&file.path)) {
            Ok((bytes, _)) if bytes != file.bytes => {
                problems.push(format!("{} has {bytes} bytes, listed are {}", file.path, file.bytes));
            }
            Ok((_, sha256)) if sha256 != file.sha256 => {
                problems.push(format!("{} has another SHA-256 than is listed", file.path));
            }
            Ok(_) => {}
            Err(error) => problems.push(format!("{}: {error}", file.path)),
        }
    }
    for needed in [REGISTRY, "store/manifest.redb"] {
        if !list.files.iter().any(|file| file.path == needed) {
            problems.push(format!("{needed} is not listed"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(BackupError::Damaged { path: from.to_owned(), problems })
}

/// What the data folder holds, but for an earlier restore that was cut off.
fn held_in(data: &Path) -> Result<Vec<String>, BackupError> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(data)(error)),
    };
    let mut held = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed(data))?.file_name();
        let name = name.to_str().ok_or_else(|| {
            BackupError::Place(format!("{} holds {name:?}, whose name is no UTF-8", data.display()))
        })?;
        // A new file system has the latter.
        if name != UNFINISHED && name != "lost+found" {
            held.push(name.to_owned());
        }
    }
    Ok(held)
}

/// Keeps a hub off the folder; there is none there, unless it cannot be kept off.
fn lock(data: &Path) -> Result<Option<Metadata>, BackupError> {
    match Metadata::open(&data.join(REGISTRY)) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(MetadataError::InUse) => {
            Err(BackupError::Place(format!("a hub runs on {}: stop it first", data.display())))
        }
        // A damaged registry may be why somebody restores.
        Err(_) => Ok(None),
    }
}

/// Makes the folder of this restore, or empties that of one that was cut off. It stays there: what the
/// data folder holds may be half of a backup.
fn begin(unfinished: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(unfinished)?;
    for entry in fs::read_dir(unfinished)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    sync_parent(unfinished)
}

fn bring(from: &Path, to: &Path, file: &Listed) -> Result<(), BackupError> {
    let target = to.join(&file.path);
    let folder = target.parent().unwrap_or(to);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    let (bytes, sha256) = copy(&from.join(&file.path), &target).map_err(failed(&target))?;
    if (bytes, &sha256) == (file.bytes, &file.sha256) {
        return Ok(());
    }
    let problems = vec![format!("{} changed while it was read", file.path)];
    Err(BackupError::Damaged { path: from.to_owned(), problems })
}

/// Ends what may have been used up or ended since the backup, as nobody can know.
fn prepare(registry: &Path, list: &List) -> Result<Restored, BackupError> {
    let metadata = Metadata::open(registry)?;
    let (tokens_ended, shares_ended) = metadata.change::<_, MetadataError>(|changes: &mut Changes| {
        changes.remove_where::<SessionRecord>(|_, _| true)?;
        let tokens = changes.remove_where::<EnrolRecord>(|_, token| token.key_hash.is_none())?;
        // One that was ended since must not show a board to its holder again.
        Ok((tokens, changes.remove_where::<BoardShareRecord>(|_, _| true)?))
    })?;
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Ok(Restored {
        made_ms: list.made_ms,
        files: list.files.len(),
        bytes: list.files.iter().map(|file| file.bytes).sum(),
        aside: None,
        tokens_ended,
        shares_ended,
        users: count(metadata.count::<UserRecord>()?),
        api_tokens: count(metadata.count::<TokenRecord>()?),
    })
}

fn sync_folders(folder: &Path) -> io::Result<()> {
    let names = files_in(folder)?;
    // Days of the cold tier are folders in one that has no file.
    let folders: BTreeSet<&Path> =
        names.iter().flat_map(|name| Path::new(name).ancestors().skip(1)).collect();
    folders.iter().try_for_each(|own| File::open(folder.join(own))?.sync_all())?;
    File::open(folder)?.sync_all()
}

fn move_aside(data: &Path, held: &[String], now_ms: i64) -> io::Result<Option<PathBuf>> {
    if held.is_empty() {
        return Ok(None);
    }
    let time: String = when::show_ms(now_ms).chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = data.join(format!("before-restore-{time}"));
    DirBuilder::new().mode(0o700).create(&aside)?;
    for name in held.iter().filter(|name| !name.starts_with("before-restore-")) {
        fs::rename(data.join(name), aside.join(name))?;
    }
    File::open(&aside)?.sync_all()?;
    File::open(data)?.sync_all()?;
    Ok(Some(aside))
}

fn move_in(unfinished: &Path, data: &Path) -> io::Result<()> {
    for entry in fs::read_dir(unfinished)? {
        let entry = entry?;
        fs::rename(entry.path(), data.join(entry.file_name()))?;
    }
    File::open(data)?.sync_all()?;
    fs::remove_dir(unfinished)?;
    File::open(data)?.sync_all()
}
