//! Reads the directory and single blocks of a file. Whatever is not as it was written is an error: each block
//! and the directory have their checksums.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::{BlockEntry, Directory, Form, HEADER_BYTES, Malformed, TRAILER_BYTES, Trailer};
use crate::column::ColumnError;
use crate::files::{FileSystem, OpenMode};

/// Longest block that is read: more than any that is written.
const BLOCK_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Longest directory that is read.
const DIRECTORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not as it was written.
    #[error("{0}")]
    Damaged(String),
    /// It cannot be read now, which says nothing of its bytes.
    #[error("{0}")]
    Io(io::Error),
}

impl From<Malformed> for ReadError {
    fn from(error: Malformed) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<ColumnError> for ReadError {
    fn from(error: ColumnError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // There is no such file, or it is too short.
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

/// Reads the directory of the file of a number.
///
/// # Errors
/// It is damaged, or cannot be read now.
pub fn directory(files: &dyn FileSystem, path: &Path, number: u64) -> Result<Directory, ReadError> {
    let file = files.open(path, OpenMode::Read)?;
    let len = file.stat()?.len;
    let end = len.checked_sub(TRAILER_BYTES as u64).ok_or(Malformed("it is too short"))?;
    let (mut header, mut trailer) = ([0; HEADER_BYTES], [0; TRAILER_BYTES]);
    file.read_exact_at(&mut header, 0)?;
    let unknown = Malformed("its beginning is damaged, or of an unknown version");
    let form = Form::of(header).ok_or(unknown)?;
    file.read_exact_at(&mut trailer, end)?;
    let trailer = Trailer::read(&trailer, len)?;
    if trailer.number != number {
        return Err(Malformed("it is the file of another number").into());
    }
    if trailer.len > DIRECTORY_BYTES_MAX {
        return Err(Malformed("its directory is too long").into());
    }
    let mut bytes = vec![0; usize::try_from(trailer.len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, trailer.offset)?;
    Ok(Directory::from_bytes(&bytes, &trailer, form)?)
}

/// Reads a block.
///
/// # Errors
/// It is damaged, or cannot be read now.
pub fn block(files: &dyn FileSystem, path: &Path, entry: &BlockEntry) -> Result<Vec<u8>, ReadError> {
    if entry.len > BLOCK_BYTES_MAX {
        return Err(Malformed("a block is too long").into());
    }
    let mut bytes = vec![0; entry.len as usize];
    files.read_exact_at(path, &mut bytes, entry.offset)?;
    if crc32c::crc32c(&bytes) != entry.crc {
        return Err(Malformed("a block is damaged").into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use tideline_protocol::value::Boxes;

    use super::*;
    use crate::buckets::{Aggregate, MINUTE_NS};
    use crate::files::RealFiles;
    use crate::hot::Rows;
    use crate::segment::write::SegmentWriter;
    use crate::segment::{BLOCK_ROWS, LEVELS, Level, rolls, rows};

    /// What is in a pair of files, by series.
    type All = Vec<(u32, Rows, Vec<u32>, Vec<(Level, Vec<(i64, Aggregate)>)>)>;

    fn all(raw: &Path, rollup: &Path) -> Result<All, ReadError> {
        let (readings, rolled) = (directory(&RealFiles, raw, 7)?, directory(&RealFiles, rollup, 7)?);
        assert_eq!(readings.ids(), rolled.ids());
        let both = readings.series().zip(rolled.series());
        both.map(|(entry, of_rolls)| {
            let of = (readings.stats(&entry), rolled.stats(&of_rolls));
            assert!(of.0 == of.1 || of.0.last.as_ref().unwrap().word.is_nan());
            assert_eq!(entry.series, of_rolls.series);
            let (mut out, mut numbers, mut levels) = (Rows::default(), Vec::new(), Vec::new());
            for found in readings.blocks(&entry, Level::Raw) {
                let (bytes, len) = (block(&RealFiles, raw, &found)?, found.rows as usize);
                let part = rows::read(&bytes, len)?;
                assert_eq!(
                    part.times.first().zip(part.times.last()),
                    Some((&found.first_ns, &found.last_ns))
                );
                out.extend(&part.times, &part.values, &part.boxes);
                numbers.extend(rows::read_numbers(&bytes, len)?);
            }
            for level in LEVELS.into_iter().filter(|level| of_rolls.has(*level)) {
                let mut all = Vec::new();
                for found in rolled.blocks(&of_rolls, level) {
                    all.extend(rolls::read(
                        &block(&RealFiles, rollup, &found)?,
                        found.rows as usize,
                        level.width_ns(),
                    )?);
                }
                levels.push((level, all));
            }
            Ok((entry.series, out, numbers, levels))
        })
        .collect()
    }

    /// A long series by the second and a short one.
    fn write(dir: &Path, rows: usize) -> (std::path::PathBuf, std::path::PathBuf) {
        let (raw, rollup) = (dir.join("raw"), dir.join("rollup"));
        let mut writer = SegmentWriter::create(&RealFiles, 7, Some(&raw), &rollup).unwrap();
        let times: Vec<i64> = (0..rows as i64).map(|n| n * 1_000_000_000).collect();
        let values: Vec<f64> = (0..rows).map(|n| (n % 97) as f64 / 4.0).collect();
        let numbers: Vec<u32> = (0..u32::try_from(rows).unwrap()).collect();
        for part in 0..3 {
            let span = part * rows / 3..(part + 1) * rows / 3;
            writer
                .push(3, &times[span.clone()], &values[span.clone()], &Boxes::new(), &numbers[span])
                .unwrap();
        }
        writer.push(9, &[-5, -5, 8], &[1.0, f64::NAN, 3.0], &Boxes::new(), &[4, 1, 4]).unwrap();
        let written = writer.finish().unwrap();
        assert_eq!((written.rows, written.first_ns), (rows as u64 + 3, -5));
        assert_eq!(written.raw.unwrap().0, std::fs::metadata(&raw).unwrap().len());
        (raw, rollup)
    }

    #[test]
    fn what_was_written_is_read_and_tiers_are_there_where_they_condense() {
        let dir = tempfile::tempdir().unwrap();
        let rows = 12 * BLOCK_ROWS + 5;
        let (raw, rollup) = write(dir.path(), rows);
        let found = all(&raw, &rollup).unwrap();
        let (series, long, numbers, levels) = &found[0];
        assert_eq!(
            (*series, long.times.len(), numbers[rows - 1]),
            (3, rows, u32::try_from(rows - 1).unwrap())
        );
        assert!(long.times.iter().zip(0_i64..).all(|(time, n)| *time == n * 1_000_000_000));
        assert!(long.values.iter().zip(0_usize..).all(|(value, n)| *value == (n % 97) as f64 / 4.0));
        let sizes: Vec<_> = levels.iter().map(|(level, rolls)| (*level, rolls.len())).collect();
        assert_eq!(sizes, [(Level::Minute, rows.div_ceil(60)), (Level::Hour, rows.div_ceil(3600))]);
        let (start, part) = levels[0].1[3];
        let of = |n: usize| long.values[180 + n];
        assert_eq!((start, part.count, part.first, part.last), (3 * MINUTE_NS, 60, of(0), of(59)));
        assert_eq!(part.sum, (0..60).map(of).sum::<f64>());
        let (series, short, numbers, levels) = &found[1];
        assert_eq!(
            (*series, &short.times[..], &numbers[..], levels.len()),
            (9, &[-5, -5, 8][..], &[4, 1, 4][..], 0)
        );
        assert!(short.values[1].is_nan());
        assert!(
            matches!(directory(&RealFiles, &raw, 8), Err(ReadError::Damaged(why)) if why.contains("another number"))
        );
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, rollup) = write(dir.path(), 3_000);
        assert!(all(&raw, &rollup).is_ok());
        for path in [&raw, &rollup] {
            let bytes = std::fs::read(path).unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            for at in 0..bytes.len() {
                file.write_all_at(&[bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
                assert!(
                    matches!(all(&raw, &rollup), Err(ReadError::Damaged(_))),
                    "byte {at} of {}",
                    bytes.len()
                );
                file.write_all_at(&bytes[at..=at], at as u64).unwrap();
            }
            for len in (0..bytes.len()).step_by(11) {
                file.set_len(len as u64).unwrap();
                assert!(matches!(all(&raw, &rollup), Err(ReadError::Damaged(_))), "{len} of {}", bytes.len());
            }
            std::fs::write(path, &bytes).unwrap();
            assert!(all(&raw, &rollup).is_ok());
        }
    }
}
