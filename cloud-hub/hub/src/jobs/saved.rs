//! What a job is saved as: one file, replaced as a whole.
//!
//! ```text
//! "TLJB"  version u16  segment u64  bytes u64  length u64  CRC-32C u32  payload
//!  4       2            8            8          8           4            CBOR, so many bytes
//! ```
//! Numbers are little-endian; the checksum is of what is before it and of the payload. The place in the log stands
//! in front, so that a start learns what of the log is needed without reading states.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_store::LogPlace;

use super::results::{Row, SideRow};

const MAGIC: [u8; 4] = *b"TLJB";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 34;
/// Of them those that the checksum covers.
const CHECKED_BYTES: usize = 30;

/// Readings of a derived series.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Derived {
    #[n(0)]
    pub device: DeviceId,
    #[n(1)]
    pub point: PointId,
    /// In ns.
    #[n(2)]
    pub times: Vec<i64>,
    /// As many.
    #[n(3)]
    pub values: Vec<f64>,
}

/// Results that are to become batches, each chunk one, with the seqs from `first` on.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Outbox {
    #[n(0)]
    pub epoch: Epoch,
    #[n(1)]
    pub first: Seq,
    #[n(2)]
    pub chunks: Vec<Vec<Derived>>,
}

/// What the runner counts, beside the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Tally {
    /// Places of the log that could not be read any more.
    #[n(0)]
    pub missed: u64,
    /// Runs that could not be decoded.
    #[n(1)]
    pub undecodable: u64,
    /// Results without a name for their series, and windows that were too large to be aggregated again.
    #[n(2)]
    pub refused: u64,
}

/// All of a job that must be of one moment.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Saved {
    #[cbor(skip)]
    pub place: Place,
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub engine: Vec<u8>,
    #[n(1)]
    pub seen: Vec<(AgentId, Epoch, RangeSet)>,
    #[n(2)]
    pub outbox: Option<Outbox>,
    #[n(3)]
    pub rows: Vec<Row>,
    #[n(4)]
    pub side: Vec<SideRow>,
    #[n(5)]
    pub tally: Tally,
}

/// Up to where the log was taken in.
pub type Place = LogPlace;

/// Where a job's file is.
pub fn path_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.state"))
}

/// Puts the file in the place of the one before, durably; gives its bytes.
///
/// # Errors
/// The disk failed; the one before is still there.
pub fn save(path: &Path, saved: &Saved) -> io::Result<u64> {
    let payload = minicbor::to_vec(saved).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&saved.place.segment.to_le_bytes());
    head.extend_from_slice(&saved.place.bytes.to_le_bytes());
    head.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), &payload);
    head.extend_from_slice(&checksum.to_le_bytes());
    let unfinished = path.with_extension("tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(&head)?;
    file.write_all(&payload)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok((head.len() + payload.len()) as u64)
}

/// What was saved; none when there is no file.
///
/// # Errors
/// It cannot be read, or is damaged; the text says so.
pub fn load(path: &Path) -> Result<Option<Saved>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("its state {} cannot be read: {error}", path.display())),
    };
    parse(&bytes).map(Some).map_err(|reason| format!("its state {} is damaged: {reason}", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Saved, String> {
    let (place, length, checksum) = head(bytes)?;
    let payload = bytes.get(HEAD_BYTES..).unwrap_or(&[]);
    if payload.len() as u64 != length {
        return Err(format!("it has {} bytes behind its head in place of {length}", payload.len()));
    }
    let found = crc32c::crc32c(bytes.get(..CHECKED_BYTES).unwrap_or(&[]));
    if crc32c::crc32c_append(found, payload) != checksum {
        return Err("its checksum is wrong".to_owned());
    }
    let saved: Saved = minicbor::decode(payload).map_err(|error| error.to_string())?;
    Ok(Saved { place, ..saved })
}

fn head(bytes: &[u8]) -> Result<(Place, u64, u32), String> {
    let short = || "it ends within its head".to_owned();
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    if *magic != MAGIC {
        return Err("it does not begin as the state of a job".to_owned());
    }
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(format!("version {version} is unknown; this code knows {VERSION}"));
    }
    let (segment, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (offset, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (checksum, _) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let place = Place { segment: u64::from_le_bytes(*segment), bytes: u64::from_le_bytes(*offset) };
    Ok((place, u64::from_le_bytes(*length), u32::from_le_bytes(*checksum)))
}

/// The oldest segment of the log that a job in `dir` still has to read; `u64::MAX` when there is none.
///
/// # Errors
/// The folder cannot be read.
pub fn oldest_segment(dir: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(u64::MAX),
        Err(error) => return Err(error),
    };
    let mut oldest = u64::MAX;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "state") {
            continue;
        }
        let mut bytes = Vec::new();
        File::open(&path)?.take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
        // One that is damaged is told when its job is started.
        if let Ok((place, ..)) = head(&bytes) {
            oldest = oldest.min(place.segment);
        }
    }
    Ok(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let (device, point) = (DeviceId::parse("pump").unwrap(), PointId::parse("t-mean").unwrap());
        let derived = Derived { device, point, times: vec![1, 2], values: vec![0.1, 1e-300] };
        Saved {
            place: Place { segment: 7, bytes: 99 },
            engine: vec![1, 2, 3],
            seen: vec![(AgentId::parse("a").unwrap(), Epoch::from_bytes([3; 16]), RangeSet::of(4, 9))],
            outbox: Some(Outbox {
                epoch: Epoch::from_bytes([5; 16]),
                first: Seq::new(12),
                chunks: vec![vec![derived]],
            }),
            rows: Vec::new(),
            side: Vec::new(),
            tally: Tally { missed: 1, undecodable: 2, refused: 3 },
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_every_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_of(dir.path(), "j");
        assert_eq!(load(&path), Ok(None));
        assert_eq!(oldest_segment(&dir.path().join("none")).unwrap(), u64::MAX);
        save(&path, &saved()).unwrap();
        assert_eq!(load(&path), Ok(Some(saved())));
        assert_eq!(oldest_segment(dir.path()).unwrap(), 7);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(parse(&flipped).is_err(), "byte {at}");
            assert!(parse(&bytes[..at]).is_err(), "cut at {at}");
        }
        fs::write(&path, &bytes[..20]).unwrap();
        assert!(load(&path).unwrap_err().contains("damaged"));
        assert_eq!(oldest_segment(dir.path()).unwrap(), u64::MAX);
    }
}
