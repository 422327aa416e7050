//! What the log asks of a disk, and the real one.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::{FileHandle, FileSystem, Files, OpenMode};

/// Numbered segments, of which the newest is written. A write is durable after [`LogDisk::sync`];
/// the others are durable when they return.
pub trait LogDisk {
    /// The numbers of all segments, in any order.
    ///
    /// # Errors
    /// As the disk's.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// All bytes of a segment.
    ///
    /// # Errors
    /// As the disk's.
    fn read(&self, segment: u64) -> io::Result<Vec<u8>>;
    /// Returns when all that is read of a segment would survive a power cut: a process that was killed before its sync
    /// leaves what is in the system's memory only.
    ///
    /// # Errors
    /// As the disk's.
    fn settle(&mut self, segment: u64) -> io::Result<()>;
    /// Makes an empty segment, which becomes the one that is written.
    ///
    /// # Errors
    /// As the disk's; the segment that was written before is still the one that is.
    fn create(&mut self, segment: u64) -> io::Result<()>;
    /// Adds bytes to the segment that is written.
    ///
    /// # Errors
    /// As the disk's; how much was written is unknown.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all appended bytes would survive a power cut.
    ///
    /// # Errors
    /// As the disk's; what is durable is unknown.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts a segment down to `len` bytes, durably. What is cut off should be kept aside, unless it
    /// was appended to the segment that is written: then it is what a failed write left.
    ///
    /// # Errors
    /// As the disk's.
    fn truncate(&mut self, segment: u64, len: u64) -> io::Result<()>;
    /// Removes a segment.
    ///
    /// # Errors
    /// As the disk's.
    fn remove(&mut self, segment: u64) -> io::Result<()>;
}

impl<D: LogDisk + ?Sized> LogDisk for Box<D> {
    fn list(&self) -> io::Result<Vec<u64>> {
        (**self).list()
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        (**self).read(segment)
    }

    fn settle(&mut self, segment: u64) -> io::Result<()> {
        (**self).settle(segment)
    }

    fn create(&mut self, segment: u64) -> io::Result<()> {
        (**self).create(segment)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }

    fn truncate(&mut self, segment: u64, len: u64) -> io::Result<()> {
        (**self).truncate(segment, len)
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        (**self).remove(segment)
    }
}

/// Segments as files `NNNNNNNN.log` in a folder.
#[derive(Debug)]
pub struct RealDisk {
    files: Files,
    dir: PathBuf,
    quarantine: PathBuf,
    current: Option<(u64, Box<dyn FileHandle>)>,
}

/// The number of the segment with this path, if it is one.
pub(crate) fn segment_number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

/// The numbers of the segments in a folder.
pub fn segments(files: &dyn FileSystem, dir: &Path) -> io::Result<Vec<u64>> {
    Ok(files.list(dir)?.iter().filter_map(|path| segment_number(path)).collect())
}

impl RealDisk {
    /// The log in `dir`; cut off bytes go to `quarantine`. Both folders are created.
    ///
    /// # Errors
    /// A folder cannot be created.
    pub fn open(files: Files, dir: PathBuf, quarantine: PathBuf) -> io::Result<Self> {
        files.create_dir_all(&dir)?;
        files.create_dir_all(&quarantine)?;
        Ok(Self { files, dir, quarantine, current: None })
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:08}.log"))
    }
}

impl LogDisk for RealDisk {
    fn list(&self) -> io::Result<Vec<u64>> {
        segments(self.files.as_ref(), &self.dir)
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        self.files.read(&self.path(segment))
    }

    fn settle(&mut self, segment: u64) -> io::Result<()> {
        self.files.open(&self.path(segment), OpenMode::Read)?.sync_data()
    }

    fn create(&mut self, segment: u64) -> io::Result<()> {
        let path = self.path(segment);
        // An attempt that failed may have left it, empty as it was.
        if self.files.stat(&path).is_ok_and(|found| found.len == 0) {
            self.files.remove(&path)?;
        }
        let file = self.files.open(&path, OpenMode::CreateNew)?;
        self.files.sync_dir(&self.dir)?;
        self.current = Some((segment, file));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.current.as_mut().ok_or(io::ErrorKind::NotFound)?.1.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.current.as_ref().ok_or(io::ErrorKind::NotFound)?.1.sync_data()
    }

    fn truncate(&mut self, segment: u64, len: u64) -> io::Result<()> {
        // The open file needs no new descriptor, of which there may be none left.
        if let Some((_, file)) = self.current.as_ref().filter(|(number, _)| *number == segment) {
            file.set_len(len)?;
            return file.sync_all();
        }
        let path = self.path(segment);
        if self.files.stat(&path)?.len <= len {
            return Ok(());
        }
        let bytes = self.files.read(&path)?;
        let cut = usize::try_from(len).ok().and_then(|len| bytes.get(len..)).unwrap_or(&[]);
        let aside = self.quarantine.join(format!("{segment:08}.log.from-{len}"));
        // A full disk must not keep the store from starting.
        let kept = self.files.open(&aside, OpenMode::Create).and_then(|mut file| file.write_all(cut));
        if let Err(error) = kept {
            tracing::warn!(path = %aside.display(), %error, "what is cut off a log segment cannot be kept");
        }
        let file = self.files.open(&path, OpenMode::Cut)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.files.remove(&self.path(segment))?;
        self.files.sync_dir(&self.dir)
    }
}
