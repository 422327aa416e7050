//! A file system that leaves files open that are read a block at a time: opening one costs more than reading a block of it.
//!
//! A file that is left open keeps its room on the disk after it is removed. So whatever makes a path mean another file, or
//! none, closes what was open under it, and a reader that opened it meanwhile does not leave it open.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use redb::{Builder, Database, DatabaseError};

use super::{FileHandle, FileSystem, Files, OpenMode, Stat};
use crate::log::lock;

/// Most files that are left open.
const OPEN_MAX: usize = 64;

/// Files that are read through it by [`FileSystem::read_exact_at`] stay open; all else is the file system's below.
#[derive(Debug)]
pub struct Opened {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<PathBuf, Arc<dyn FileHandle>>,
    // How often a path began to mean something else.
    changes: u64,
}

impl Opened {
    /// Over a file system.
    pub fn shared(files: Files) -> Files {
        Arc::new(Self { files, state: Mutex::default() })
    }

    fn handle(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        let changes = {
            let state = lock(&self.state);
            if let Some(handle) = state.open.get(path) {
                return Ok(Arc::clone(handle));
            }
            state.changes
        };
        let handle: Arc<dyn FileHandle> = Arc::from(self.files.open(path, OpenMode::Read)?);
        let mut state = lock(&self.state);
        if state.changes == changes {
            if state.open.len() >= OPEN_MAX {
                state.open.clear();
            }
            state.open.insert(path.to_owned(), Arc::clone(&handle));
        }
        Ok(handle)
    }

    fn close(&self, path: &Path) {
        let mut state = lock(&self.state);
        state.changes += 1;
        state.open.remove(path);
    }
}

impl FileSystem for Opened {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let opened = self.files.open(path, mode);
        if mode != OpenMode::Read {
            self.close(path);
        }
        opened
    }

    fn read_exact_at(&self, path: &Path, buf: &mut [u8], offset: u64) -> io::Result<()> {
        // After an error the next one begins with opening it.
        self.handle(path)?.read_exact_at(buf, offset).inspect_err(|_| self.close(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.files.stat(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.files.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir_all(dir)
    }

    fn create_private_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.create_private_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = self.files.rename(from, to);
        self.close(from);
        self.close(to);
        renamed
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let linked = self.files.link(from, to);
        self.close(to);
        linked
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files.remove(path);
        self.close(path);
        removed
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }

    fn database(&self, path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
        self.files.database(path, builder)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::files::RealFiles;

    fn read(files: &dyn FileSystem, path: &Path) -> String {
        let mut bytes = [0; 3];
        files
            .read_exact_at(path, &mut bytes, 0)
            .map_or_else(|error| error.kind().to_string(), |()| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Files of a folder that this process has open.
    fn open_in(dir: &Path) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|entry| {
            let target = entry.as_ref().ok().and_then(|entry| std::fs::read_link(entry.path()).ok());
            target.is_some_and(|target| target.starts_with(dir))
        })
        .count()
    }

    #[test]
    fn a_path_that_means_another_file_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        let files = Opened::shared(RealFiles::shared());
        std::fs::write(&a, "one").unwrap();
        std::fs::write(&b, "two").unwrap();
        assert_eq!((read(&*files, &a), read(&*files, &b)), ("one".into(), "two".into()));
        files.rename(&b, &a).unwrap();
        assert_eq!((read(&*files, &a), read(&*files, &b)), ("two".into(), "entity not found".into()));
        files.remove(&a).unwrap();
        assert_eq!(read(&*files, &a), "entity not found");
        files.open(&a, OpenMode::Create).unwrap().write_all(b"six").unwrap();
        assert_eq!(read(&*files, &a), "six");
    }

    #[test]
    fn what_is_removed_is_closed_and_few_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let files = Opened::shared(RealFiles::shared());
        let paths: Vec<PathBuf> = (0..OPEN_MAX + 9).map(|n| dir.path().join(n.to_string())).collect();
        for path in &paths {
            std::fs::write(path, "one").unwrap();
            assert_eq!((read(&*files, path), read(&*files, path)), ("one".into(), "one".into()));
            assert!((1..=OPEN_MAX).contains(&open_in(dir.path())));
        }
        assert_eq!(std::fs::metadata(&paths[0]).unwrap().nlink(), 1);
        for path in &paths {
            files.remove(path).unwrap();
        }
        assert_eq!(open_in(dir.path()), 0);
    }
}
