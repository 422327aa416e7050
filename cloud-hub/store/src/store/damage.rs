//! Sealed files that cannot be trusted. A rollup is computed again from its readings; readings that
//! are gone leave the received ranges, so that the agents send them again. Files are put aside and
//! never deleted, and what is lost is never hidden.

use std::io;
use std::path::Path;

use super::{Inner, Quarantined};
use crate::config::StoreError;
use crate::files::{FileSystem, OpenMode};
use crate::hot::SeriesId;
use crate::log::lock;
use crate::manifest::{Change, Contents, FileEntry, Manifest, SeriesRows, lose};
use crate::metrics::add;
use crate::sealed::SealedFormat;
use crate::segment::read::ReadError;
use crate::stats::Stats;
use crate::tables::{Shared, read, sealed_paths, write};

/// What is wrong with a sealed file, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The readings cannot be trusted.
    Raw(String),
    /// The readings are good, their rollup is not.
    Rollup(String),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raw(reason) => write!(f, "its readings: {reason}"),
            Self::Rollup(reason) => write!(f, "its rollup: {reason}"),
        }
    }
}

/// Bytes of a file that are in memory while it is compared.
const FINGERPRINT_BYTES: usize = 256 * 1024;

/// Length and CRC-32C of a file.
pub fn fingerprint(files: &dyn FileSystem, path: &Path) -> io::Result<(u64, u32)> {
    let file = files.open(path, OpenMode::Read)?;
    let (mut len, mut crc, mut part) = (0, 0, vec![0; FINGERPRINT_BYTES]);
    loop {
        let read = match file.read_at(&mut part, len) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = part.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok((len, crc));
        }
        len += read as u64;
        crc = crc32c::crc32c_append(crc, bytes);
    }
}

/// Compares the length of a file and its rollup with the manifest, and the checksums if `whole`.
///
/// # Errors
/// The file cannot be read now, as without a free descriptor, without the right to, or on a failing
/// disk: that says nothing about its bytes, and nothing may be given up for it.
pub fn find(
    files: &dyn FileSystem,
    dir: &Path,
    file: &FileEntry,
    whole: bool,
) -> Result<Option<Damage>, StoreError> {
    let (raw, rollup) = sealed_paths(dir, file.number);
    if file.is_whole()
        && let Some(reason) = compare(files, &raw, file.raw, whole)?
    {
        return Ok(Some(Damage::Raw(reason)));
    }
    Ok(compare(files, &rollup, file.rollup, whole)?.map(Damage::Rollup))
}

/// What is wrong with a file that is listed with this length and checksum.
///
/// # Errors
/// As for [`find`].
pub fn compare(
    files: &dyn FileSystem,
    path: &Path,
    listed: (u64, u32),
    whole: bool,
) -> Result<Option<String>, StoreError> {
    let found = files.stat(path).and_then(|found| match found.len {
        len if whole && len == listed.0 => fingerprint(files, path),
        len => Ok((len, listed.1)),
    });
    match found {
        Ok((len, _)) if len != listed.0 => Ok(Some(format!("it has {len} bytes, listed are {}", listed.0))),
        Ok((_, crc)) if crc != listed.1 => Ok(Some("its checksum does not match".to_owned())),
        Ok(_) => Ok(None),
        // There is no such file.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(StoreError::io(format!("reading {}", path.display()))(error)),
    }
}

/// Moves a file to the quarantine. That it is gone already is no error.
pub fn put_aside(
    (files, dir): (&dyn FileSystem, &Path),
    path: &Path,
    reason: &str,
    aside: &mut Vec<Quarantined>,
) -> Result<(), StoreError> {
    aside.push(Quarantined { path: path.to_owned(), reason: reason.to_owned() });
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let quarantine = dir.join("quarantine");
    // The same name may have been put aside before.
    let target = (0_u32..)
        .map(|n| quarantine.join(if n == 0 { name.to_owned() } else { format!("{name}.{n}") }))
        .find(|target| !files.exists(target));
    match target {
        Some(target) if files.exists(path) => {
            files.rename(path, &target).map_err(StoreError::io("putting a file aside"))
        }
        _ => Ok(()),
    }
}

/// What mending works on.
#[derive(Clone, Copy)]
pub struct Workshop<'a> {
    pub dir: &'a Path,
    pub format: &'a dyn SealedFormat,
    pub manifest: &'a Manifest,
}

impl Workshop<'_> {
    /// Makes the manifest true again; says whether the readings of the file are lost.
    pub fn mend(
        &self,
        contents: &mut Contents,
        file: &FileEntry,
        damage: Damage,
        aside: &mut Vec<Quarantined>,
    ) -> Result<bool, StoreError> {
        let reason = match damage {
            Damage::Raw(reason) => reason,
            // There is nothing that it could be computed from: no agent is asked for what has expired.
            Damage::Rollup(reason) if !file.is_whole() => reason,
            Damage::Rollup(reason) => match self.rebuild(contents, file, &reason, aside) {
                Ok(()) => return Ok(false),
                // A full disk is no reason to give good readings up.
                Err(error) => match find(self.format.files(), self.dir, file, true)? {
                    Some(Damage::Raw(reason)) => reason,
                    _ => return Err(error),
                },
            },
        };
        let (raw, rollup) = sealed_paths(self.dir, file.number);
        let stats = self.count_again(contents, &[file.number])?;
        let lost = lose(&mut contents.checkpoint.ledgers, file);
        if file.is_whole() {
            put_aside(
                (self.format.files(), self.dir),
                &raw,
                &format!("{reason}; {lost} rows are wanted again"),
                aside,
            )?;
            put_aside((self.format.files(), self.dir), &rollup, "it belongs to a damaged file", aside)?;
        } else {
            let rows = file.rows;
            let told = format!("{reason}; what was known of {rows} readings past their retention is lost");
            put_aside((self.format.files(), self.dir), &rollup, &told, aside)?;
        }
        contents.files.retain(|other| other.number != file.number);
        contents.stats = contents.stats.recounted(stats, contents.names.len());
        self.commit(contents, &[], &[file.number])?;
        Ok(true)
    }

    fn commit(&self, contents: &Contents, added: &[FileEntry], removed: &[u64]) -> Result<(), StoreError> {
        let (ids, row) = (contents.ids(), |id: SeriesId, out: &mut Vec<u8>| contents.write_series(id, out));
        let (checkpoint, series) = (Some(&contents.checkpoint), SeriesRows { ids: &ids, write: &row });
        self.manifest.commit(&Change {
            checkpoint,
            series: Some(&series),
            added,
            removed,
            ..Change::default()
        })
    }

    fn rebuild(
        &self,
        contents: &mut Contents,
        file: &FileEntry,
        reason: &str,
        aside: &mut Vec<Quarantined>,
    ) -> Result<(), StoreError> {
        let (raw, rollup) = sealed_paths(self.dir, file.number);
        let tmp = rollup.with_extension("tmp");
        let print = self.format.roll_up(file.number, &raw, &tmp);
        let print = print.map_err(|error| StoreError::Sealed(error.to_string()))?;
        put_aside(
            (self.format.files(), self.dir),
            &rollup,
            &format!("{reason}; it is computed again from its readings"),
            aside,
        )?;
        let files = self.format.files();
        files
            .rename(&tmp, &rollup)
            .and_then(|()| files.sync_dir(&self.dir.join("sealed")))
            .map_err(StoreError::io("writing a rollup"))?;
        let entry = FileEntry { rollup: print, ..file.clone() };
        self.commit(contents, std::slice::from_ref(&entry), &[])?;
        contents.files.iter_mut().filter(|other| other.number == file.number).for_each(|other| {
            *other = entry.clone();
        });
        Ok(())
    }

    /// Counts again what is known of each series, of all files but some. Another damaged one will be mended when
    /// its turn comes, and what it has counts for nothing until then.
    ///
    /// # Errors
    /// A file cannot be read now.
    pub fn count_again(&self, contents: &Contents, without: &[u64]) -> Result<Stats, StoreError> {
        let mut stats = Stats::default();
        for file in contents.files.iter().filter(|file| !without.contains(&file.number)) {
            let (raw, rollup) = sealed_paths(self.dir, file.number);
            let path = if file.is_whole() { raw } else { rollup };
            let directory = match self.format.directory(&path, file.number) {
                Ok(directory) => directory,
                Err(ReadError::Damaged(_)) => continue,
                // It says nothing of what is in the file.
                Err(ReadError::Io(error)) => return Err(StoreError::io("reading a sealed file")(error)),
            };
            for entry in directory.series() {
                if (entry.series as usize) < contents.names.len() {
                    stats.merge(entry.series, &directory.stats(&entry));
                }
            }
        }
        Ok(stats)
    }
}

impl Shared {
    /// Compares the checksums of a whole file, once since the start: what queries read of it has its own.
    ///
    /// # Errors
    /// It is damaged, and noted to be mended.
    pub fn trust(&self, file: &FileEntry) -> Result<(), StoreError> {
        if !lock(&self.unchecked).contains(&file.number) {
            return Ok(());
        }
        match find(self.files.as_ref(), &self.dir, file, true)? {
            None => {
                lock(&self.unchecked).remove(&file.number);
                Ok(())
            }
            Some(Damage::Raw(reason) | Damage::Rollup(reason)) => Err(self.distrust(file.number)(reason)),
        }
    }

    /// Notes that a file cannot be read.
    pub fn distrust(&self, number: u64) -> impl FnOnce(String) -> StoreError {
        lock(&self.suspects).insert(number);
        StoreError::Sealed
    }
}

impl Inner {
    /// Asks, and asks again when a damaged file was the reason for no answer and has been mended.
    pub(super) fn mending<T>(&self, ask: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        // One more chance where nothing was wrong: a file may have been mended while it was read.
        let mut chances = 1;
        loop {
            let answer = ask();
            if !matches!(answer, Err(StoreError::Sealed(_))) {
                return answer;
            }
            if !self.mend_suspects()? {
                if chances == 0 {
                    return answer;
                }
                chances -= 1;
            }
        }
    }

    /// Compares the checksums of the files that nobody has read since the start, until the store is
    /// closed: damage must be found while the agents still hold what is lost.
    pub(super) fn check(&self, number: u64) -> Result<(), StoreError> {
        let file = read(&self.shared.tables).files.iter().find(|file| file.number == number).cloned();
        match file.map(|file| self.shared.trust(&file)) {
            Some(Err(_)) => self.mend_suspects().map(drop),
            _ => Ok(()),
        }
    }

    /// Whether anything was mended.
    fn mend_suspects(&self) -> Result<bool, StoreError> {
        // No flush meanwhile: both would move the manifest on from what they read.
        let mut unfinished = lock(&self.unfinished);
        // A file that was replaced after all is not to be asked for again.
        self.settle()?;
        let suspects = std::mem::take(&mut *lock(&self.shared.suspects));
        let mut mended = false;
        for number in suspects {
            let listed = read(&self.shared.tables).files.iter().find(|file| file.number == number).cloned();
            // Another asker may have mended it.
            let Some(file) = listed else {
                mended = true;
                continue;
            };
            let Some(damage) = find(self.shared.files.as_ref(), &self.shared.dir, &file, true)? else {
                continue;
            };
            let mut contents = self.manifest.read()?;
            let workshop =
                Workshop { dir: &self.shared.dir, format: self.format.as_ref(), manifest: &self.manifest };
            let mut aside = Vec::new();
            let lost = workshop.mend(&mut contents, &file, damage, &mut aside)?;
            self.shared.blocks.forget(number);
            if lost {
                lose(&mut lock(&self.shared.ledgers), &file);
                if let Some(cut) = unfinished.as_mut() {
                    lose(&mut cut.checkpoint.ledgers, &file);
                }
            }
            let mut tables = write(&self.shared.tables);
            tables.sealed_stats = contents.stats;
            tables.files = contents.files.into_iter().map(Into::into).collect::<Vec<_>>().into();
            tables.history.note(file.first_ns, file.last_ns);
            drop(tables);
            lock(&self.shared.unchecked).remove(&number);
            add(&self.shared.counters.damaged_files, 1);
            for entry in aside {
                tracing::error!(path = %entry.path.display(), reason = entry.reason, "put aside");
            }
            if lost {
                self.shared.note_change();
            }
            mended = true;
        }
        Ok(mended)
    }
}
