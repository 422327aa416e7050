//! Several files as one: series by series, sorted by time, and among equal times in the order of the files.

use std::ops::Range;
use std::sync::Arc;

use tideline_protocol::value::Boxes;

use super::write::SegmentWriter;
use super::{BlockEntry, Directory, Level};
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId};

/// A block of one of the files, with the numbers that its batches have in the new file.
pub struct Piece {
    /// Times and values.
    pub rows: Rows,
    /// As many numbers.
    pub numbers: Vec<u32>,
}

/// The blocks of one series in one file.
struct Source<'a> {
    file: usize,
    directory: &'a Directory,
    // Numbers of blocks.
    blocks: Range<usize>,
    piece: Piece,
    at: usize,
}

impl Source<'_> {
    fn time(&self) -> Option<i64> {
        self.piece.rows.times.get(self.at).copied()
    }

    /// Goes on to the next block when this one is used up; says whether there is one.
    fn refill(
        &mut self,
        read: &mut impl FnMut(usize, &BlockEntry) -> Result<Piece, StoreError>,
    ) -> Result<bool, StoreError> {
        while self.at >= self.piece.rows.times.len() {
            let Some(no) = self.blocks.next() else { return Ok(false) };
            let Some(block) = self.directory.block(no) else { continue };
            self.piece = read(self.file, &block)?;
            self.at = 0;
        }
        Ok(true)
    }

    /// Rows up to `end_ns`, that time included when `ties` says so.
    fn take(&mut self, end_ns: i64, ties: bool) -> (&[i64], &[f64], &Boxes, &[u32]) {
        let times = self.piece.rows.times.get(self.at..).unwrap_or(&[]);
        let len = times.partition_point(|time| *time < end_ns || (ties && *time == end_ns));
        let span = self.at..self.at + len;
        self.at = span.end;
        let Piece { rows, numbers } = &self.piece;
        (
            rows.times.get(span.clone()).unwrap_or(&[]),
            rows.values.get(span.clone()).unwrap_or(&[]),
            &rows.boxes,
            numbers.get(span).unwrap_or(&[]),
        )
    }
}

/// Writes all rows of the files with these directories, which are in order of arrival; `read` gives a block of
/// one of them. What is in memory is a block of each file.
///
/// # Errors
/// As `read`, or as the disk's.
pub fn merge(
    directories: &[Arc<Directory>],
    writer: &mut SegmentWriter,
    mut read: impl FnMut(usize, &BlockEntry) -> Result<Piece, StoreError>,
) -> Result<(), StoreError> {
    let mut ids: Vec<SeriesId> =
        directories.iter().flat_map(|directory| directory.ids().iter().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let mut sources = Vec::new();
        for (file, directory) in directories.iter().enumerate() {
            let Some(entry) = directory.find(id) else { continue };
            let blocks = directory.blocks_within(&entry, Level::Raw, (i64::MIN, i64::MAX));
            let piece = Piece { rows: Rows::default(), numbers: Vec::new() };
            let mut source = Source { file, directory, blocks, piece, at: 0 };
            if source.refill(&mut read)? {
                sources.push(source);
            }
        }
        // The one whose next row is the earliest gives all that is before the others'.
        while let Some((first, _)) =
            sources.iter().enumerate().min_by_key(|(at, source)| (source.time(), *at))
        {
            let others = sources.iter().enumerate().filter(|(at, _)| *at != first);
            let next = others.filter_map(|(at, source)| Some((source.time()?, at))).min();
            let Some(source) = sources.get_mut(first) else { break };
            let (times, values, boxes, numbers) = match next {
                Some((end_ns, at)) => source.take(end_ns, first < at),
                None => source.take(i64::MAX, true),
            };
            writer
                .push(id, times, values, boxes, numbers)
                .map_err(StoreError::io("writing a sealed file"))?;
            if !source.refill(&mut read)? {
                sources.remove(first);
            }
        }
    }
    Ok(())
}
