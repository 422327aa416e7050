//! Backups: a folder with all that a hub needs to come back, and a list of its files with their
//! sizes and SHA-256.
//!
//! ```text
//! backup.json                 what is here; written last
//! hub.redb                    registry, users, tokens, presence
//! twins.redb                  twins of devices; whoever opens it is another replica
//! pki/ca.pem, ca.key          the authority that agents pin
//! store/manifest.redb         one moment of the store, and of its log all that was durable then
//! store/sealed/, cold/, log/, dead/
//! ```
//! A backup gets its name when all of it is on disk; what was cut off has a name that ends in
//! `.part`. It holds keys and password hashes: it is made for its owner alone. It must never hold up
//! ingest: the store is taken as links first, and read afterwards.

mod restore;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tideline_store::{Store, StoreError};

use crate::metadata::{Metadata, MetadataError};
use crate::secret::hex;
use crate::serve::STORE;
use crate::twins::{FileError, TWINS, TwinFile};
use crate::when;

pub use restore::{Restored, UNFINISHED, restore};

/// The list of a backup's files.
pub const LIST: &str = "backup.json";
/// The layout of a backup that this code writes and reads.
const FORMAT: u32 = 1;
/// The registry in the data folder and in a backup.
pub const REGISTRY: &str = "hub.redb";
const PKI: [&str; 2] = ["pki/ca.pem", "pki/ca.key"];
// In the data folder, where links to the store's files can be made.
const SCRATCH: &str = ".snapshot";
const COPY_BYTES: usize = 1024 * 1024;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target or the source is not what it has to be; the caller's fault.
    #[error("{0}")]
    Place(String),
    /// What the backup holds is not what its list says.
    #[error("{} is no good backup:{}", path.display(), problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// All that is wrong.
        problems: Vec<String>,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store gave no snapshot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The twins gave no copy.
    #[error(transparent)]
    Twins(#[from] FileError),
    /// The registry gave no copy.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}

#[derive(Debug, Serialize, Deserialize)]
struct List {
    format: u32,
    made_ms: i64,
    software: String,
    files: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    path: String,
    bytes: u64,
    sha256: String,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its folder.
    pub path: PathBuf,
    /// How many files it has, without the list.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What a backup is made of: a running hub, or the files of one that does not run.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The data folder.
    pub data: &'a Path,
    /// Its registry; it keeps a hub from starting meanwhile.
    pub metadata: &'a Metadata,
    /// The open file of twins, if it is.
    pub twins: Option<&'a TwinFile>,
    /// The open store, if it is.
    pub store: Option<&'a Store>,
}

impl Source<'_> {
    /// Puts the store as it is now into the new folder `to`.
    fn snapshot(&self, to: &Path) -> Result<(), StoreError> {
        match self.store {
            Some(store) => store.snapshot(to),
            None => tideline_store::snapshot(&self.data.join(STORE), to),
        }
    }

    /// Writes the twins as they are now to the new file `to`, if there are any.
    fn twins(&self, to: &Path) -> Result<(), FileError> {
        let path = self.data.join(TWINS);
        match self.twins {
            Some(twins) => twins.copy_to(to),
            None if path.exists() => TwinFile::open(&path)?.copy_to(to),
            None => Ok(()),
        }
    }

    /// Has `work` look at the store as it is now, and removes what was put there for it.
    ///
    /// # Errors
    /// The store gave no snapshot, or what `work` says.
    pub fn with_snapshot<T, E: From<BackupError>>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        let scratch = self.data.join(SCRATCH);
        remove_folder(&scratch).map_err(failed(&scratch))?;
        DirBuilder::new().mode(0o700).create(&scratch).map_err(failed(&scratch))?;
        let done = self.snapshot(&scratch.join(STORE)).map_err(BackupError::from);
        let done = done.map_err(E::from).and_then(|()| work(&scratch));
        // What is left is removed by the next one.
        let _left = remove_folder(&scratch);
        done
    }
}

/// Makes a backup named `to`, or, where `to` is a folder that is there, one in it that is named by
/// the time. Only one may be made of a hub at a time. Blocks the thread.
///
/// # Errors
/// There is something of that name, or the disk failed; nothing is left but what ends in `.part`.
pub fn make(source: Source<'_>, to: &Path, now_ms: i64) -> Result<Backup, BackupError> {
    let target = name_of(to, now_ms)?;
    let part = unfinished(&target);
    remove_folder(&part).map_err(failed(&part))?;
    let files = source.with_snapshot(|scratch| {
        source.metadata.copy_to(&scratch.join(REGISTRY))?;
        source.twins(&scratch.join(TWINS))?;
        DirBuilder::new().mode(0o700).create(&part).map_err(failed(&part))?;
        let mut files = Vec::new();
        for name in files_in(scratch).map_err(failed(scratch))? {
            files.push(put(scratch, &part, &name)?);
        }
        for name in PKI.iter().filter(|name| source.data.join(name).exists()) {
            files.push(put(source.data, &part, name)?);
        }
        Ok::<_, BackupError>(files)
    })?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    let made = Backup { path: target.clone(), files: files.len(), bytes };
    let software = concat!("cloud-hub ", env!("CARGO_PKG_VERSION")).to_owned();
    let list = List { format: FORMAT, made_ms: now_ms, software, files };
    write_list(&part, &list).map_err(failed(&part))?;
    fs::rename(&part, &target).and_then(|()| sync_parent(&target)).map_err(failed(&target))?;
    Ok(made)
}

fn name_of(to: &Path, now_ms: i64) -> Result<PathBuf, BackupError> {
    let target = if to.is_dir() {
        let time: String = when::show_ms(now_ms).chars().filter(char::is_ascii_alphanumeric).collect();
        to.join(format!("tideline-hub-{time}"))
    } else {
        to.to_owned()
    };
    let place = |what: String| Err(BackupError::Place(what));
    if target.exists() {
        return place(format!("{} is there already: name another folder", target.display()));
    }
    match target.parent() {
        Some(parent) if parent.as_os_str().is_empty() || parent.is_dir() => Ok(target),
        _ => place(format!("{} is in no folder that exists: make it first", target.display())),
    }
}

fn unfinished(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn write_list(part: &Path, list: &List) -> io::Result<()> {
    let path = part.join(LIST);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec_pretty(list)?)?;
    file.sync_all()?;
    let folders: std::collections::BTreeSet<PathBuf> = list
        .files
        .iter()
        .flat_map(|file| Path::new(&file.path).ancestors().skip(1))
        .map(|folder| part.join(folder))
        .collect();
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())?;
    File::open(part)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The files of a folder and those below, as paths from it, sorted.
fn files_in(folder: &Path) -> io::Result<Vec<String>> {
    let (mut out, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else {
                let name = path.to_str().ok_or_else(|| io::Error::other("a file name that is no UTF-8"))?;
                out.push(name.to_owned());
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Brings a file into the backup: as a link where it is never changed, or else as a copy.
fn put(from: &Path, to: &Path, name: &str) -> Result<Listed, BackupError> {
    let (source, target) = (from.join(name), to.join(name));
    let folder = target.parent().unwrap_or(to);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    let fixed = ["store/sealed/", "store/cold/"].iter().any(|folder| name.starts_with(folder));
    let (bytes, sha256) = if fixed && fs::hard_link(&source, &target).is_ok() {
        digest(&source).map_err(failed(&source))?
    } else {
        copy(&source, &target).map_err(failed(&target))?
    };
    Ok(Listed { path: name.to_owned(), bytes, sha256 })
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    pass(&mut File::open(path)?, &mut io::sink())
}

/// Copies a file durably, readable by its owner alone.
fn copy(from: &Path, to: &Path) -> io::Result<(u64, String)> {
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let passed = pass(&mut File::open(from)?, &mut target)?;
    target.sync_all()?;
    Ok(passed)
}

fn pass(from: &mut impl Read, to: &mut impl io::Write) -> io::Result<(u64, String)> {
    let (mut buffer, mut hash, mut bytes) = (vec![0; COPY_BYTES], Sha256::new(), 0_u64);
    loop {
        let read = from.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        to.write_all(part)?;
        bytes += part.len() as u64;
    }
    Ok((bytes, hex(&hash.finalize())))
}

#[cfg(test)]
mod tests;
