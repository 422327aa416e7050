//! The form of one record of the journal: what is said of its batches stands in it twice, each time
//! with a checksum of its own, so that damage to a batch does not take its count of readings with it.
//!
//! ```text
//! record:  head | summary | batches | summary again | tail                     (little-endian)
//! head:    4 "TLJR" | 8 hash of epoch and generation | 8 generation | 4 length of the summary
//!          | 4 length of the batches | 4 CRC-32C of all before and of the summary
//! summary: CBOR: the news, the rows of seqs before, and length, rows and CRC-32C of each batch
//! tail:    the last 12 bytes of the head | 4 "TLJE"
//! ```
//! A head does not go over the end of a sector of 512 bytes; where the rest of a record does, the
//! next sector begins with a stamp, the first 4 bytes of the hash. A disk writes a sector whole or not
//! at all, so a record that was torn lacks the stamp of a sector, and one that was damaged lacks none:
//! the one was never durable, the other may have been.

use std::io;

use minicbor::{Decode, Encode};
use tideline_protocol::model::{Epoch, RowCounts};

pub const MAGIC: [u8; 4] = *b"TLJR";
const TAIL_MAGIC: [u8; 4] = *b"TLJE";
pub const HEAD_BYTES: usize = 32;
const MARK_BYTES: usize = 20;
/// The part of the mark that tells it from those of other generations.
const TELLING_BYTES: usize = 12;
const TAIL_BYTES: usize = 16;
const STAMP_BYTES: usize = 4;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Bits in which a stamp or mark may differ and is still taken for what was written; those that are left
/// from before differ in half of them.
const FLIPPED_BITS_MAX: u32 = 2;

/// What an append says beside its batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct News {
    /// The seq of the first batch.
    #[n(0)]
    pub first: u64,
    /// Positions of sources by name.
    #[n(1)]
    pub cursors: Vec<(String, minicbor::bytes::ByteVec)>,
    /// The last seq that may be sent to a hub from here on; 0 when that is not said.
    #[n(2)]
    #[cbor(default)]
    pub sent_until: u64,
}

#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
struct Part {
    #[n(0)]
    len: u32,
    #[n(1)]
    rows: u32,
    #[n(2)]
    crc: u32,
}

#[derive(Debug, Clone, Encode, Decode)]
struct Summary {
    #[n(0)]
    news: News,
    #[n(1)]
    before: RowCounts,
    #[n(2)]
    batches: Vec<Part>,
}

/// A batch as the tables take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its readings.
    pub rows: u32,
    /// The stored value; none when it is damaged.
    pub value: Option<Vec<u8>>,
}

/// One durable append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// What came with the batches.
    pub news: News,
    /// The rows of the seqs before the first batch, the last of them last.
    pub before: RowCounts,
    /// The batches in seq order.
    pub batches: Vec<Stored>,
}

/// A record as it was found.
pub struct Found {
    pub record: Record,
    /// Where it ends in the file.
    pub end: usize,
    /// Whether all of it was written: if not, it was torn, unless there are others behind it.
    pub whole: bool,
}

pub type Mark = [u8; MARK_BYTES];

/// How every record of an epoch and generation begins.
pub fn mark(epoch: Epoch, generation: u64) -> Mark {
    let mut mark = [0; MARK_BYTES];
    let parts = MAGIC.into_iter().chain(hash(epoch, generation)).chain(generation.to_le_bytes());
    mark.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    mark
}

/// The generation that the record at `at` says it is of.
pub fn generation_at(file: &[u8], at: usize) -> Option<u64> {
    file.get(at + TELLING_BYTES..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// Half of its bits change with every generation.
fn hash(epoch: Epoch, generation: u64) -> [u8; 8] {
    let words = epoch.as_bytes().chunks_exact(8).filter_map(|word| word.first_chunk());
    let mixed = words.fold(splitmix(generation), |sum, word| splitmix(sum ^ u64::from_le_bytes(*word)));
    mixed.to_le_bytes()
}

/// The output function of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where a record may begin that comes behind `end`.
pub const fn begin(end: usize) -> usize {
    let room = SECTOR_BYTES - end % SECTOR_BYTES;
    if room < HEAD_BYTES { end + room } else { end }
}

/// The bytes of a record that begins at `at`, with the stamps of the sectors that it goes over.
pub fn encode(
    mark: &Mark,
    news: &News,
    before: &RowCounts,
    batches: &[(u32, Vec<u8>)],
    at: usize,
) -> io::Result<Vec<u8>> {
    let length = |len: usize| u32::try_from(len).map_err(io::Error::other);
    let mut parts = Vec::with_capacity(batches.len());
    for (rows, value) in batches {
        parts.push(Part { len: length(value.len())?, rows: *rows, crc: crc32c::crc32c(value) });
    }
    let summary = Summary { news: news.clone(), before: before.clone(), batches: parts };
    let summary = minicbor::to_vec(&summary).map_err(io::Error::other)?;
    let bytes: usize = batches.iter().map(|(_, value)| value.len()).sum();
    let mut out = Vec::with_capacity(HEAD_BYTES + 2 * summary.len() + bytes + TAIL_BYTES);
    out.extend_from_slice(mark);
    out.extend_from_slice(&length(summary.len())?.to_le_bytes());
    out.extend_from_slice(&length(bytes)?.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&out), &summary);
    out.extend_from_slice(&sum.to_le_bytes());
    let tail = out.get(MARK_BYTES..).unwrap_or_default().to_vec();
    out.extend_from_slice(&summary);
    batches.iter().for_each(|(_, value)| out.extend_from_slice(value));
    out.extend_from_slice(&summary);
    out.extend_from_slice(&tail);
    out.extend_from_slice(&TAIL_MAGIC);
    Ok(stamped(&out, mark, at))
}

/// What stands at the begin of each sector but the first of a record.
fn stamp(mark: &Mark) -> [u8; STAMP_BYTES] {
    mark.get(MAGIC.len()..).and_then(|hash| hash.first_chunk()).copied().unwrap_or_default()
}

fn stamped(bytes: &[u8], mark: &Mark, at: usize) -> Vec<u8> {
    let (first, rest) = bytes.split_at(bytes.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 100 + SECTOR_BYTES);
    out.extend_from_slice(first);
    for part in rest.chunks(SECTOR_BYTES - STAMP_BYTES) {
        out.extend_from_slice(&stamp(mark));
        out.extend_from_slice(part);
    }
    out
}

/// A record without its stamps.
struct Plain {
    bytes: Vec<u8>,
    end: usize,
    whole: bool,
}

/// Takes the stamps out of `len` bytes of a record that begins at `at`, or of as many as there are.
fn plain(file: &[u8], at: usize, len: usize, mark: &Mark) -> Plain {
    let mut out = Plain { bytes: Vec::new(), end: at, whole: true };
    let mut room = SECTOR_BYTES - at % SECTOR_BYTES;
    while out.bytes.len() < len {
        let take = room.min(len - out.bytes.len());
        let part = file.get(out.end..file.len().min(out.end + take)).unwrap_or_default();
        out.bytes.extend_from_slice(part);
        out.end += part.len();
        if part.len() < take {
            break;
        }
        if out.bytes.len() < len {
            let found = file.get(out.end..out.end + STAMP_BYTES).unwrap_or_default();
            out.whole &= alike(found, &stamp(mark));
            out.end += STAMP_BYTES;
            room = SECTOR_BYTES - STAMP_BYTES;
        }
    }
    out
}

/// Whether it is what was written, but for a few flipped bits.
pub fn alike(found: &[u8], written: &[u8]) -> bool {
    let bits: u32 = found.iter().zip(written).map(|(one, other)| (one ^ other).count_ones()).sum();
    found.len() == written.len() && bits <= FLIPPED_BITS_MAX
}

/// Whether a record was begun at `at`, readable or not.
pub fn is_begun(file: &[u8], at: usize, mark: &Mark) -> bool {
    let telling = mark.get(..TELLING_BYTES).unwrap_or_default();
    file.get(at..at + TELLING_BYTES).is_some_and(|found| alike(found, telling))
}

/// The record that begins at `at`, as far as it can be read.
pub fn read(file: &[u8], at: usize, mark: &Mark) -> Option<Found> {
    if !is_begun(file, at, mark) {
        return None;
    }
    read_by_head(file, at, mark).or_else(|| read_by_tail(file, at, mark))
}

/// Lengths of the summary and the batches, and the checksum, of a head or a tail.
fn fixed(bytes: &[u8]) -> Option<(usize, usize, u32)> {
    let len = |at| usize::try_from(u32_at(bytes, at)?).ok();
    Some((len(0)?, len(4)?, u32_at(bytes, 8)?))
}

fn record_len(summary: usize, batches: usize) -> Option<usize> {
    let fixed = HEAD_BYTES + TAIL_BYTES;
    summary.checked_mul(2)?.checked_add(batches)?.checked_add(fixed)
}

fn read_by_head(file: &[u8], at: usize, mark: &Mark) -> Option<Found> {
    let (summary_len, batches_len, sum) = fixed(file.get(at + MARK_BYTES..at + HEAD_BYTES)?)?;
    let len = record_len(summary_len, batches_len)?;
    if len > file.len() {
        return None;
    }
    let plain = plain(file, at, len, mark);
    let summary = summary_of(plain.bytes.get(HEAD_BYTES..)?, summary_len, batches_len, sum, mark)?;
    found(plain, summary, summary_len)
}

fn read_by_tail(file: &[u8], at: usize, mark: &Mark) -> Option<Found> {
    let rest = plain(file, at, file.len(), mark);
    memchr::memmem::find_iter(&rest.bytes, &TAIL_MAGIC).find_map(|magic| {
        let fixed_at = magic.checked_sub(TAIL_BYTES - TAIL_MAGIC.len())?;
        let (summary_len, batches_len, sum) = fixed(rest.bytes.get(fixed_at..)?)?;
        let len = magic + TAIL_MAGIC.len();
        if record_len(summary_len, batches_len)? != len {
            return None;
        }
        let summary = rest.bytes.get(fixed_at.checked_sub(summary_len)?..)?;
        let summary = summary_of(summary, summary_len, batches_len, sum, mark)?;
        found(plain(file, at, len, mark), summary, summary_len)
    })
}

fn summary_of(bytes: &[u8], len: usize, batches_len: usize, sum: u32, mark: &Mark) -> Option<Summary> {
    let bytes = bytes.get(..len)?;
    let mut head = mark.to_vec();
    head.extend_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
    head.extend_from_slice(&u32::try_from(batches_len).ok()?.to_le_bytes());
    let right = crc32c::crc32c_append(crc32c::crc32c(&head), bytes) == sum;
    if right { minicbor::decode(bytes).ok() } else { None }
}

fn found(plain: Plain, summary: Summary, summary_len: usize) -> Option<Found> {
    let Summary { news, before, batches } = summary;
    let mut rest = plain.bytes.get(HEAD_BYTES + summary_len..)?;
    let mut record = Record { news, before, batches: Vec::with_capacity(batches.len()) };
    for Part { len, rows, crc } in batches {
        let (value, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        let value = (crc32c::crc32c(value) == crc).then(|| value.to_vec());
        record.batches.push(Stored { rows, value });
        rest = after;
    }
    let whole = plain.whole || record.batches.iter().all(|batch| batch.value.is_some());
    Some(Found { record, end: plain.end, whole })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().copied().map(u32::from_le_bytes)
}
