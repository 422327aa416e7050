//! Dead letters: runs that are durable and cannot be decoded, kept for people to look at and to take
//! in again.
//!
//! ```text
//! dead/AGENT-EPOCH-FIRST-LAST.run: "TLDEAD01", u32 length of the header, u32 CRC-32C of the header,
//!     u32 CRC-32C of the block, header: CBOR [envelope, taken, reason], the block as it came
//! ```
//! A device must not be able to fill the disk with them: of each agent the newest are kept, and the
//! newest of all, within limits. What is removed is counted; the ledger counts all that was refused,
//! kept or not.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tideline_protocol::model::{AgentId, Epoch, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Run, RunEnvelope};

use crate::files::{FileHandle, FileSystem, OpenMode};

/// Most files that are kept of an agent: enough to see what is wrong with its blocks.
pub const DEAD_FILES_MAX: usize = 64;
/// Most bytes that are kept of an agent.
pub const DEAD_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most bytes that are kept of all agents.
pub const DEAD_BYTES_ALL_MAX: u64 = 1024 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"TLDEAD01";
/// What stands before the header.
const FIXED_BYTES: u64 = 8 + 3 * 4;
/// Longest header: an envelope within the limits of the wire, and a reason.
const HEADER_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Longest reason that is kept, in characters.
const REASON_MAX: usize = 400;

/// The folder of the letters, and what it is on.
pub type Dead<'a> = (&'a dyn FileSystem, &'a Path);

/// Which letter: the run that it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    /// Whose.
    pub agent: AgentId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// Its first seq.
    pub first: Seq,
    /// Its last.
    pub last: Seq,
}

impl LetterId {
    fn of(agent: &AgentId, envelope: &RunEnvelope) -> Self {
        Self { agent: agent.clone(), epoch: envelope.epoch, first: envelope.first, last: envelope.last() }
    }

    /// Reads what its `Display` wrote: an agent's id may hold hyphens, what follows it has none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(4, '-');
        let (last, first, epoch, agent) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            agent: AgentId::parse(agent).ok()?,
            epoch: epoch.parse().ok()?,
            first: Seq::new(first.parse().ok()?),
            last: Seq::new(last.parse().ok()?),
        })
    }

    fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.run"))
    }
}

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}-{}", self.agent, self.epoch, self.first, self.last)
    }
}

/// What is known of a letter without its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which.
    pub id: LetterId,
    /// The run's envelope.
    pub envelope: RunEnvelope,
    /// The seqs of it that were stored, and then refused.
    pub taken: RangeSet,
    /// Why it cannot be decoded.
    pub reason: String,
    /// Bytes of the block.
    pub bytes: u64,
    /// When it was put here last, Unix ms.
    pub kept_ms: Option<i64>,
    block_at: u64,
    crc: u32,
}

/// Writes a run to `dir`, durably, and removes the oldest beyond the limits; gives how many were
/// removed.
///
/// # Errors
/// As the disk's.
pub fn keep(
    (files, dir): Dead<'_>,
    agent: &AgentId,
    run: &Run,
    taken: &RangeSet,
    reason: &str,
) -> io::Result<u64> {
    files.create_dir_all(dir)?;
    let reason: String = reason.chars().take(REASON_MAX).collect();
    let header = minicbor::to_vec((&run.envelope, taken, reason)).map_err(io::Error::other)?;
    let len = u32::try_from(header.len()).map_err(io::Error::other)?;
    let path = LetterId::of(agent, &run.envelope).path(dir);
    let part = dir.join("part.tmp");
    let mut file = files.open(&part, OpenMode::Create)?;
    file.write_all(&MAGIC)?;
    for number in [len, crc32c::crc32c(&header), crc32c::crc32c(&run.block)] {
        file.write_all(&number.to_be_bytes())?;
    }
    file.write_all(&header)?;
    file.write_all(&run.block)?;
    file.sync_all()?;
    files.rename(&part, &path)?;
    let removed = remove_oldest((files, dir), agent)?;
    files.sync_dir(dir)?;
    Ok(removed)
}

/// All letters by id, and the names of files that are none.
///
/// # Errors
/// As the disk's.
pub fn list((files, dir): Dead<'_>) -> io::Result<(Vec<Head>, Vec<String>)> {
    let (mut letters, mut bad) = (Vec::new(), Vec::new());
    let entries = match files.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((letters, bad)),
        Err(error) => return Err(error),
    };
    for path in entries {
        let Some(name) = path.file_name() else { continue };
        let name = name.to_string_lossy().into_owned();
        if name == "part.tmp" {
            continue;
        }
        match name.strip_suffix(".run").and_then(LetterId::parse).map(|id| head((files, dir), id)) {
            Some(Ok(Some((head, _)))) => letters.push(head),
            // Removed meanwhile.
            Some(Ok(None)) => {}
            Some(Err(_)) | None => bad.push(name),
        }
    }
    letters.sort_by(|a, b| a.id.cmp(&b.id));
    Ok((letters, bad))
}

/// A letter with its run, if it is there.
///
/// # Errors
/// It is damaged, or as the disk's.
pub fn find(dead: Dead<'_>, id: LetterId) -> io::Result<Option<(Head, Run)>> {
    let Some((head, file)) = head(dead, id)? else { return Ok(None) };
    let len = usize::try_from(head.bytes).map_err(io::Error::other)?;
    let mut block = vec![0; len];
    file.read_exact_at(&mut block, head.block_at)?;
    if crc32c::crc32c(&block) != head.crc {
        return Err(damaged("the checksum of the block does not match"));
    }
    let run = Run { envelope: head.envelope.clone(), block };
    Ok(Some((head, run)))
}

/// Removes a letter durably; says whether there was one.
///
/// # Errors
/// As the disk's.
pub fn remove((files, dir): Dead<'_>, id: &LetterId) -> io::Result<bool> {
    match files.remove(&id.path(dir)) {
        Ok(()) => files.sync_dir(dir).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn head((files, dir): Dead<'_>, id: LetterId) -> io::Result<Option<(Head, Box<dyn FileHandle>)>> {
    let file = match files.open(&id.path(dir), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut magic, mut numbers) = ([0; 8], [[0; 4]; 3]);
    file.read_exact_at(&mut magic, 0)?;
    for (number, at) in numbers.iter_mut().zip((8..).step_by(4)) {
        file.read_exact_at(number, at)?;
    }
    let [len, header_crc, crc] = numbers.map(u32::from_be_bytes);
    if magic != MAGIC || len > HEADER_BYTES_MAX {
        return Err(damaged("it does not begin as a dead letter"));
    }
    let mut header = vec![0; len as usize];
    file.read_exact_at(&mut header, FIXED_BYTES)?;
    if crc32c::crc32c(&header) != header_crc {
        return Err(damaged("the checksum of the header does not match"));
    }
    let (envelope, taken, reason): (RunEnvelope, RangeSet, String) =
        minicbor::decode(&header).map_err(|_| damaged("its header makes no sense"))?;
    if id != LetterId::of(&id.agent, &envelope) {
        return Err(damaged("it holds another run than its name says"));
    }
    let found = file.stat()?;
    let kept = found.modified.duration_since(UNIX_EPOCH).ok();
    let kept_ms = kept.and_then(|since| i64::try_from(since.as_millis()).ok());
    let block_at = FIXED_BYTES + u64::from(len);
    let bytes = found.len.saturating_sub(block_at);
    Ok(Some((Head { id, envelope, taken, reason, bytes, kept_ms, block_at, crc }, file)))
}

fn remove_oldest((files, dir): Dead<'_>, agent: &AgentId) -> io::Result<u64> {
    let mut letters: Vec<(SystemTime, PathBuf, u64, bool)> = Vec::new();
    for path in files.list(dir)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.strip_suffix(".run")).and_then(LetterId::parse);
        if let Some(id) = id {
            let found = files.stat(&path)?;
            letters.push((found.modified, path, found.len, id.agent == *agent));
        }
    }
    letters.sort_unstable();
    let own = letters.iter().filter(|letter| letter.3);
    let (mut left, mut bytes) = own.fold((0, 0), |(n, bytes), letter| (n + 1, bytes + letter.2));
    let mut all: u64 = letters.iter().map(|letter| letter.2).sum();
    let mut removed = 0;
    for (_, path, len, is_own) in letters {
        let over = left > DEAD_FILES_MAX || bytes > DEAD_BYTES_MAX;
        // The newest of the agent stays, whatever its size.
        if (is_own && over && left > 1) || (!is_own && all > DEAD_BYTES_ALL_MAX) {
            files.remove(&path)?;
            (all, removed) = (all - len, removed + 1);
            if is_own {
                (left, bytes) = (left - 1, bytes - len);
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tideline_protocol::model::RowCounts;
    use tideline_protocol::wire::Lane;

    use super::*;
    use crate::files::RealFiles;

    fn run(seq: u64, bytes: usize) -> Run {
        let (epoch, first) = (Epoch::from_bytes([7; 16]), Seq::new(seq));
        let (lane, rows) = (Lane::Live, RowCounts::one(1));
        let envelope = RunEnvelope { epoch, lane, first, rows, series_end: 1, restamps: vec![] };
        Run { envelope, block: vec![0; bytes] }
    }

    fn keep(dir: &Path, agent: &AgentId, run: &Run) -> u64 {
        super::keep((&RealFiles, dir), agent, run, &RangeSet::of(1, 1), "why").unwrap()
    }

    fn count(dir: &Path, agent: &AgentId) -> usize {
        list((&RealFiles, dir)).unwrap().0.iter().filter(|head| head.id.agent == *agent).count()
    }

    #[test]
    fn the_newest_files_of_each_agent_are_kept_within_the_limits() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["pump", "pump-7"].map(|name| AgentId::parse(name).unwrap());
        assert_eq!(keep(dir.path(), &other, &run(1, 10)), 0);
        let removed: u64 =
            (1..=DEAD_FILES_MAX as u64 + 5).map(|seq| keep(dir.path(), &one, &run(seq, 10))).sum();
        assert_eq!((removed, count(dir.path(), &one), count(dir.path(), &other)), (5, DEAD_FILES_MAX, 1));
        // The same run again, as a start may refuse it, takes no other's place.
        assert_eq!(keep(dir.path(), &one, &run(DEAD_FILES_MAX as u64 + 5, 10)), 0);
        let large = usize::try_from(DEAD_BYTES_MAX / 4).unwrap();
        for seq in 200..=210 {
            keep(dir.path(), &one, &run(seq, large));
        }
        assert_eq!(count(dir.path(), &one), 3);
        let newest = format!("pump-{}-210-210.run", Epoch::from_bytes([7; 16]));
        assert!(dir.path().join(newest).exists());
    }

    #[test]
    fn a_letter_is_found_as_it_was_kept_and_a_damaged_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let agent = AgentId::parse("pump-7").unwrap();
        let run = run(3, 100);
        keep(dir.path(), &agent, &run);
        let id = LetterId::of(&agent, &run.envelope);
        assert_eq!(LetterId::parse(&id.to_string()), Some(id.clone()));
        assert_eq!(LetterId::parse("../../etc-1-2-3"), None);
        let (head, found) = find((&RealFiles, dir.path()), id.clone()).unwrap().unwrap();
        assert_eq!((found, head.reason.as_str(), head.bytes), (run, "why", 100));
        let path = id.path(dir.path());
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(find((&RealFiles, dir.path()), id.clone()).is_err(), "byte {at}");
        }
        assert_eq!(
            list((&RealFiles, dir.path())).unwrap().0.len(),
            1,
            "the block is read when it is asked for"
        );
        assert!(
            remove((&RealFiles, dir.path()), &id).unwrap() && !remove((&RealFiles, dir.path()), &id).unwrap()
        );
    }
}
