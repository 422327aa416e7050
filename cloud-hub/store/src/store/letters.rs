//! Dead letters of an open store: looked at, taken in again, thrown away.

use std::path::PathBuf;

use tideline_protocol::model::AgentId;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Run;

use super::Store;
use super::threads::Command;
use crate::config::StoreError;
use crate::dead::{self, Head, LetterId};
use crate::decode;
use crate::files::FileSystem;
use crate::log::lock;

/// What the ledger says of the readings in a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterState {
    /// They are counted as refused.
    Refused,
    /// They are stored: the letter was taken in, and only its file is left.
    Stored,
    /// The ledger knows nothing of them, as in a store that was restored.
    Unknown,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What is known without its block.
    pub head: Head,
    /// What the ledger says.
    pub state: LetterState,
    /// Its readings.
    pub rows: u64,
}

impl Store {
    fn files(&self) -> &dyn FileSystem {
        self.inner.shared.files.as_ref()
    }

    fn dead(&self) -> PathBuf {
        self.inner.shared.dir.join("dead")
    }

    fn letter(&self, head: Head) -> DeadLetter {
        let ledgers = lock(&self.inner.shared.ledgers);
        let settled = ledgers.epoch(&head.id.agent, head.id.epoch).map(|state| state.settled().clone());
        let settled = settled.unwrap_or_default();
        let state = if !settled.refused.intersect(&head.taken).is_empty() {
            LetterState::Refused
        } else if !settled.stored.intersect(&head.taken).is_empty() {
            LetterState::Stored
        } else {
            LetterState::Unknown
        };
        let rows = head.envelope.rows.total_in(head.envelope.first, &head.taken);
        DeadLetter { head, state, rows }
    }

    /// All dead letters that are kept, by id, and the names of files among them that are none.
    /// Blocks the thread.
    ///
    /// # Errors
    /// The disk failed.
    pub fn dead_letters(&self) -> Result<(Vec<DeadLetter>, Vec<String>), StoreError> {
        let (heads, bad) =
            dead::list((self.files(), &self.dead())).map_err(StoreError::io("listing the dead letters"))?;
        Ok((heads.into_iter().map(|head| self.letter(head)).collect(), bad))
    }

    /// One dead letter with its block. Blocks the thread.
    ///
    /// # Errors
    /// It is damaged, or the disk failed.
    pub fn dead_letter(&self, id: &LetterId) -> Result<Option<(DeadLetter, Vec<u8>)>, StoreError> {
        let found = dead::find((self.files(), &self.dead()), id.clone())
            .map_err(StoreError::io(format!("dead letter {id}")))?;
        Ok(found.map(|(head, run)| (self.letter(head), run.block)))
    }

    /// Tries to decode a dead letter again, and stores its readings: durably and once, however often it
    /// is asked for and whenever it is cut off. Gives how many readings went from refused to stored, or
    /// `None` where there is no such letter. Its file is removed. Blocks the thread.
    ///
    /// # Errors
    /// [`StoreError::Undecodable`] when it still cannot be decoded; the store takes no more.
    pub fn replay_dead_letter(&self, id: &LetterId) -> Result<Option<u64>, StoreError> {
        let found = dead::find((self.files(), &self.dead()), id.clone())
            .map_err(StoreError::io(format!("dead letter {id}")))?;
        let Some((head, run)) = found else { return Ok(None) };
        decode::probe(&self.inner.shared, &id.agent, &run, &head.taken).map_err(StoreError::Undecodable)?;
        let (agent, taken) = (id.agent.clone(), head.taken);
        let rows =
            self.inner.urge(|reply| Command::Revive(Box::new(Revival { agent, taken, run, reply })))?;
        // What it holds is in the log now; one that is cut off here is replayed once more and changes
        // nothing.
        dead::remove((self.files(), &self.dead()), id).map_err(StoreError::io("removing a dead letter"))?;
        Ok(Some(rows))
    }

    /// Throws a dead letter away; its readings stay counted as refused. Says whether there was one.
    /// Blocks the thread.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove_dead_letter(&self, id: &LetterId) -> Result<bool, StoreError> {
        dead::remove((self.files(), &self.dead()), id).map_err(StoreError::io("removing a dead letter"))
    }
}

/// A run that was refused and can be decoded now.
pub struct Revival {
    pub agent: AgentId,
    pub taken: RangeSet,
    pub run: Run,
    /// The rows that were stored by it.
    pub reply: std::sync::mpsc::Sender<Result<u64, StoreError>>,
}
