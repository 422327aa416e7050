//! Reads the directory and single blocks of a file. Whatever is not as it was written is an error: each block
//! and the directory have their checksums.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{BlockEntry, Directory, HEADER, Malformed, TRAILER_BYTES};
use crate::column::ColumnError;

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
pub fn directory(path: &Path, number: u64) -> Result<Directory, ReadError> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let end = len.checked_sub(TRAILER_BYTES as u64).ok_or(Malformed("it is too short"))?;
    let (mut header, mut trailer) = ([0; HEADER.len()], [0; TRAILER_BYTES]);
    file.read_exact_at(&mut header, 0)?;
    if header != HEADER {
        return Err(Malformed("its beginning is damaged, or of an unknown version").into());
    }
    file.read_exact_at(&mut trailer, end)?;
    let trailer = Directory::place(&trailer, len)?;
    if trailer.number != number {
        return Err(Malformed("it is the file of another number").into());
    }
    if trailer.bytes() > DIRECTORY_BYTES_MAX {
        return Err(Malformed("its directory is too long").into());
    }
    let mut bytes = vec![0; usize::try_from(trailer.bytes()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, trailer.offset)?;
    Ok(Directory::from_bytes(&bytes, &trailer)?)
}

/// Reads a block.
///
/// # Errors
/// It is damaged, or cannot be read now.
pub fn block(path: &Path, entry: &BlockEntry) -> Result<Vec<u8>, ReadError> {
    if entry.len > BLOCK_BYTES_MAX {
        return Err(Malformed("a block is too long").into());
    }
    let mut bytes = vec![0; entry.len as usize];
    File::open(path)?.read_exact_at(&mut bytes, entry.offset)?;
    if crc32c::crc32c(&bytes) != entry.crc {
        return Err(Malformed("a block is damaged").into());
    }
    Ok(bytes)
}
