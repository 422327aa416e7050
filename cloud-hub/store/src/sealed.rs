//! Sealed files: readings sorted by (series, time), and their rollups in a file beside them.
//!
//! Rows of equal (series, time) stand in order of arrival. How the bytes stand is told in [`crate::segment`];
//! what is here is what the store asks of a format, so that tests can put one in its place that fails.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::batches::Batches;
use crate::buckets::Aggregate;
use crate::files::{FileSystem, Files, RealFiles};
use crate::hot::{Hot, Rows};
use crate::narrow::Narrow;
use crate::parts::Part;
use crate::segment::figures::{self, Figure};
use crate::segment::read::{self, ReadError};
use crate::segment::rolls::Roll;
use crate::segment::write::{Print, SegmentWriter, Written};
use crate::segment::{BlockEntry, Directory, Level, rolls, rows};

/// How sealed files are written and read.
pub trait SealedFormat: Send + Sync {
    /// What the files are on.
    fn files(&self) -> &dyn FileSystem;
    /// Begins a pair of files.
    ///
    /// # Errors
    /// As the disk's.
    fn create(&self, target: &Target) -> io::Result<SegmentWriter>;
    /// Writes the rows of a part of `hot`, which came in `batches`, and syncs the files.
    ///
    /// # Errors
    /// As the disk's.
    fn write(&self, (hot, part): (&Hot, &Part), batches: &Batches, target: &Target) -> io::Result<Written> {
        let mut writer = self.create(target)?;
        for (id, rows, numbers) in hot.sorted(part, batches) {
            writer.push(id, &rows.times, &rows.values, &rows.boxes, &numbers)?;
        }
        writer.finish()
    }
    /// Writes the rollup of a raw file again, and syncs it.
    ///
    /// # Errors
    /// The raw file cannot be read, or the rollup not written.
    fn roll_up(&self, number: u64, raw: &Path, rollup: &Path) -> Result<Print, ReadError>;
    /// What is in a file, and where.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    fn directory(&self, path: &Path, number: u64) -> Result<Directory, ReadError>;
    /// A block of readings.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    fn read_rows(&self, raw: &Path, block: &BlockEntry) -> Result<Rows, ReadError>;
    /// The values of a block of readings as integers of few bytes; none where they are not all decimals.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    fn read_narrow(&self, raw: &Path, block: &BlockEntry) -> Result<Option<Narrow>, ReadError> {
        let bytes = || read::block(self.files(), raw, block);
        guarded(|| Ok(rows::read_narrow(&bytes()?, block.rows as usize)?))
    }
    /// The numbers of the batches of a block of readings.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    fn read_numbers(&self, raw: &Path, block: &BlockEntry) -> Result<Vec<u32>, ReadError>;
    /// A block of a rollup: the starts of its buckets and what is known of each.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    fn read_rolls(
        &self,
        rollup: &Path,
        block: &BlockEntry,
        level: Level,
    ) -> Result<Vec<(i64, Aggregate)>, ReadError>;
    /// A block of a rollup with all that writing its buckets again needs.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    fn read_rolls_again(
        &self,
        rollup: &Path,
        block: &BlockEntry,
        level: Level,
    ) -> Result<Vec<Roll>, ReadError> {
        let len = block.rows as usize;
        guarded(|| Ok(rolls::read_again(&read::block(self.files(), rollup, block)?, len, level.width_ns())?))
    }
    /// A block of figures, with their sketches where these are asked for.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    fn read_figures(
        &self,
        rollup: &Path,
        block: &BlockEntry,
        sketched: bool,
    ) -> Result<Vec<Figure>, ReadError> {
        let len = block.rows as usize;
        guarded(|| Ok(figures::read(&read::block(self.files(), rollup, block)?, len, sketched)?))
    }
    /// Begins a file of rollups that stands for itself, see [`SegmentWriter::thinned`].
    ///
    /// # Errors
    /// As the disk's.
    fn create_thinned(&self, target: &Target, finest: Level) -> io::Result<SegmentWriter> {
        SegmentWriter::thinned(self.files(), target.number, &target.rollup, finest)
    }
}

/// A pair of files that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its number.
    pub number: u64,
    /// Where the readings go until they are whole.
    pub raw: PathBuf,
    /// Where their rollup goes until it is whole.
    pub rollup: PathBuf,
}

impl Target {
    /// Gives what was written and synced the names of the number; with a `finest` that is a rollup there are no
    /// readings.
    ///
    /// # Errors
    /// As the disk's.
    pub fn put_in_place(&self, files: &dyn FileSystem, finest: Level) -> io::Result<()> {
        if finest == Level::Raw {
            files.rename(&self.raw, &self.raw.with_extension(""))?;
        }
        files.rename(&self.rollup, &self.rollup.with_extension(""))
    }
}

/// The store's own files.
#[derive(Debug, Clone)]
pub struct SegmentFormat(pub Files);

impl Default for SegmentFormat {
    fn default() -> Self {
        Self(RealFiles::shared())
    }
}

/// A codec may panic on a hostile file; that must cost the call and not the thread.
pub fn guarded<T>(call: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    let caught = catch_unwind(AssertUnwindSafe(call));
    caught.unwrap_or_else(|_| Err(ReadError::Damaged("the codec panicked".to_owned())))
}

impl SealedFormat for SegmentFormat {
    fn files(&self) -> &dyn FileSystem {
        self.0.as_ref()
    }

    fn create(&self, target: &Target) -> io::Result<SegmentWriter> {
        SegmentWriter::create(self.files(), target.number, Some(&target.raw), &target.rollup)
    }

    fn roll_up(&self, number: u64, raw: &Path, rollup: &Path) -> Result<Print, ReadError> {
        let directory = self.directory(raw, number)?;
        let mut writer = SegmentWriter::create(self.files(), number, None, rollup).map_err(ReadError::Io)?;
        for entry in directory.series() {
            for block in directory.blocks(&entry, Level::Raw) {
                let rows = self.read_rows(raw, &block)?;
                let numbers = vec![0; rows.times.len()];
                let pushed = writer.push(entry.series, &rows.times, &rows.values, &rows.boxes, &numbers);
                pushed.map_err(ReadError::Io)?;
            }
        }
        Ok(writer.finish().map_err(ReadError::Io)?.rollup)
    }

    fn directory(&self, path: &Path, number: u64) -> Result<Directory, ReadError> {
        guarded(|| read::directory(self.files(), path, number))
    }

    fn read_rows(&self, raw: &Path, block: &BlockEntry) -> Result<Rows, ReadError> {
        guarded(|| Ok(rows::read(&read::block(self.files(), raw, block)?, block.rows as usize)?))
    }

    fn read_numbers(&self, raw: &Path, block: &BlockEntry) -> Result<Vec<u32>, ReadError> {
        guarded(|| Ok(rows::read_numbers(&read::block(self.files(), raw, block)?, block.rows as usize)?))
    }

    fn read_rolls(
        &self,
        rollup: &Path,
        block: &BlockEntry,
        level: Level,
    ) -> Result<Vec<(i64, Aggregate)>, ReadError> {
        let len = block.rows as usize;
        guarded(|| Ok(rolls::read(&read::block(self.files(), rollup, block)?, len, level.width_ns())?))
    }
}
