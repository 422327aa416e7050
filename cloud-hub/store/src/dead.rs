//! Dead letters: runs that are durable and cannot be decoded, kept for people to look at.
//!
//! A device must not be able to fill the disk with them: of each agent the newest are kept, within
//! limits. What is removed is counted; the ledger counts all that was refused, kept or not.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tideline_protocol::model::AgentId;
use tideline_protocol::wire::Run;

/// Most files that are kept of an agent: enough to see what is wrong with its blocks.
pub const DEAD_FILES_MAX: usize = 64;
/// Most bytes that are kept of an agent.
pub const DEAD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Writes a run to `dir`, durably, and removes the oldest of the same agent beyond the limits; gives
/// how many were removed.
///
/// # Errors
/// As the disk's.
pub fn keep(dir: &Path, agent: &AgentId, run: &Run) -> io::Result<u64> {
    let envelope = &run.envelope;
    fs::create_dir_all(dir)?;
    let name = format!("{agent}-{}-{}-{}.run", envelope.epoch, envelope.first, envelope.last());
    let header = minicbor::to_vec(envelope).map_err(io::Error::other)?;
    let mut file = File::create(dir.join(name))?;
    file.write_all(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_be_bytes())?;
    file.write_all(&header)?;
    file.write_all(&run.block)?;
    file.sync_all()?;
    let removed = remove_oldest(dir, agent)?;
    File::open(dir)?.sync_all()?;
    Ok(removed)
}

/// Of which agent a file is: its id may hold hyphens, what follows it has none.
fn agent_of(name: &str) -> Option<&str> {
    name.strip_suffix(".run")?.rsplitn(4, '-').nth(3)
}

fn remove_oldest(dir: &Path, agent: &AgentId) -> io::Result<u64> {
    let mut files: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().and_then(agent_of) == Some(agent.as_str()) {
            let found = entry.metadata()?;
            files.push((found.modified()?, entry.path(), found.len()));
        }
    }
    files.sort_unstable();
    let mut bytes: u64 = files.iter().map(|(_, _, len)| len).sum();
    let mut left = files.len();
    let mut removed = 0;
    for (_, path, len) in files {
        // The newest stays, whatever its size.
        if left <= 1 || (left <= DEAD_FILES_MAX && bytes <= DEAD_BYTES_MAX) {
            break;
        }
        fs::remove_file(path)?;
        (left, bytes, removed) = (left - 1, bytes - len, removed + 1);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use tideline_protocol::model::{Epoch, RowCounts, Seq};
    use tideline_protocol::wire::{Lane, RunEnvelope};

    use super::*;

    fn run(seq: u64, bytes: usize) -> Run {
        let (epoch, first) = (Epoch::from_bytes([7; 16]), Seq::new(seq));
        let envelope = RunEnvelope { epoch, lane: Lane::Live, first, rows: RowCounts::one(1), series_end: 1 };
        Run { envelope, block: vec![0; bytes] }
    }

    fn count(dir: &Path, agent: &AgentId) -> usize {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| agent_of(name.to_str().unwrap()) == Some(agent.as_str())).count()
    }

    #[test]
    fn the_newest_files_of_each_agent_are_kept_within_the_limits() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["pump", "pump-7"].map(|name| AgentId::parse(name).unwrap());
        assert_eq!(keep(dir.path(), &other, &run(1, 10)).unwrap(), 0);
        let removed: u64 =
            (1..=DEAD_FILES_MAX as u64 + 5).map(|seq| keep(dir.path(), &one, &run(seq, 10)).unwrap()).sum();
        assert_eq!((removed, count(dir.path(), &one), count(dir.path(), &other)), (5, DEAD_FILES_MAX, 1));
        // The same run again, as a start may refuse it, takes no other's place.
        assert_eq!(keep(dir.path(), &one, &run(DEAD_FILES_MAX as u64 + 5, 10)).unwrap(), 0);
        let large = usize::try_from(DEAD_BYTES_MAX / 4).unwrap();
        for seq in 200..=210 {
            keep(dir.path(), &one, &run(seq, large)).unwrap();
        }
        assert_eq!(count(dir.path(), &one), 3);
        let newest = format!("pump-{}-210-210.run", Epoch::from_bytes([7; 16]));
        assert!(dir.path().join(newest).exists());
    }
}
