//! The file system as the store uses it: every operation on a file or a folder goes through [`FileSystem`], so
//! that a test can put one in its place that loses what was not synced, or fails at any step.
//!
//! What a power cut leaves is what was synced: the bytes of a file after [`FileHandle::sync_data`], names in a
//! folder after [`FileSystem::sync_dir`]. Nothing else in this crate may name the operating system's files;
//! tests/tidy looks after that.

mod opened;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use redb::{Builder, Database, DatabaseError};

pub use opened::Opened;

/// A file system that is shared by all that use one store.
pub type Files = Arc<dyn FileSystem>;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To be read.
    Read,
    /// To be cut; it has to be there.
    Cut,
    /// To be written from its beginning; what it held before is gone.
    Create,
    /// To be written at its end; there may be none of that name.
    CreateNew,
    /// As [`OpenMode::CreateNew`], for nobody but its owner.
    CreatePrivate,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its bytes.
    pub len: u64,
    /// When it was written last.
    pub modified: SystemTime,
}

/// An open file. What is written comes behind what was written before by the same handle.
pub trait FileHandle: Write + fmt::Debug + Send + Sync {
    /// What is known of it.
    ///
    /// # Errors
    /// As the disk's.
    fn stat(&self) -> io::Result<Stat>;
    /// Reads from a place on, fewer bytes than there is room for where the file ends or the system likes.
    ///
    /// # Errors
    /// As the disk's.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills all of `buf` from a place on.
    ///
    /// # Errors
    /// As the disk's; [`ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buf = buf.get_mut(read..).unwrap_or_default();
                    offset += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    /// Makes it so long; bytes that are new are zero.
    ///
    /// # Errors
    /// As the disk's.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when its bytes would survive a power cut.
    ///
    /// # Errors
    /// As the disk's; what is durable is unknown, also after a later call that succeeds.
    fn sync_data(&self) -> io::Result<()>;
    /// As [`FileHandle::sync_data`], with all that is known of it.
    ///
    /// # Errors
    /// As for that.
    fn sync_all(&self) -> io::Result<()>;
}

/// Files and folders by their paths.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// As the disk's.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>>;
    /// Fills all of `buf` from a place of a file on: how queries read the blocks of sealed files.
    ///
    /// # Errors
    /// As the disk's; [`ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_exact_at(&self, path: &Path, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.open(path, OpenMode::Read)?.read_exact_at(buf, offset)
    }
    /// All bytes of a file.
    ///
    /// # Errors
    /// As the disk's.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = usize::try_from(file.stat()?.len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
    /// What is known of a file.
    ///
    /// # Errors
    /// As the disk's.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Whether there is a file or a folder of that name that can be looked at.
    fn exists(&self, path: &Path) -> bool {
        self.stat(path).is_ok()
    }
    /// The paths of all that is in a folder, in any order.
    ///
    /// # Errors
    /// As the disk's.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes a folder, with those that it is to be in, where it is not there.
    ///
    /// # Errors
    /// As the disk's.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes a folder, which may not be there, for nobody but its owner.
    ///
    /// # Errors
    /// As the disk's.
    fn create_private_dir(&self, dir: &Path) -> io::Result<()>;
    /// Gives a file another name; one that has it is replaced.
    ///
    /// # Errors
    /// As the disk's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which may not be there.
    ///
    /// # Errors
    /// As the disk's, or it knows no links.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As the disk's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder that has nothing in it.
    ///
    /// # Errors
    /// As the disk's, or there is something in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Returns when the names in a folder would survive a power cut.
    ///
    /// # Errors
    /// As the disk's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a database file, or makes one.
    ///
    /// # Errors
    /// As redb's.
    fn database(&self, path: &Path, builder: &Builder) -> Result<Database, DatabaseError>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl RealFiles {
    /// To be shared.
    #[must_use]
    pub fn shared() -> Files {
        Arc::new(Self)
    }
}

fn stat(found: &fs::Metadata) -> io::Result<Stat> {
    Ok(Stat { len: found.len(), modified: found.modified()? })
}

impl FileHandle for File {
    fn stat(&self) -> io::Result<Stat> {
        stat(&self.metadata()?)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}

impl FileSystem for RealFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::Cut => options.write(true),
            OpenMode::Create => options.write(true).create(true).truncate(true),
            OpenMode::CreateNew => options.append(true).create_new(true),
            OpenMode::CreatePrivate => options.append(true).create_new(true).mode(0o600),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn read_exact_at(&self, path: &Path, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&File::open(path)?, buf, offset)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        stat(&fs::metadata(path)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn create_private_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn database(&self, path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create(path)
    }
}
