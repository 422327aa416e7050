//! Making room, in the commit that needs it: settled batches go first, oldest first; then the
//! policies of the streams say what is given up. Weaker streams pay before stronger ones.

use std::collections::{BTreeMap, VecDeque};

use redb::{ReadableTable as _, Table, WriteTransaction};
use tideline_protocol::model::{Class, DropCause};

use crate::append::EncodedBatch;
use crate::blob::{Header, cost};
use crate::books::Books;
use crate::gaps::{Dropped, Gaps};
use crate::journal::JOURNAL_BYTES;
use crate::settle::rows_of_damaged;
use crate::spool::{BATCHES, Spool, SpoolError};
use crate::streams::{Overflow, StreamNo};
use crate::tail::Held;

/// Room is made this part of a quota ahead, but no more than the journal takes until its next
/// commit: so that not every append makes some.
const SLACK_DIVISOR: u64 = 32;
/// Seqs that are looked up together.
const LOOK_AHEAD: usize = 1024;

/// What comes of a batch that needs room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused(DropCause),
}

impl Overflow {
    /// Whether it gives up older readings for newer ones.
    pub const fn drops_older(self) -> bool {
        matches!(self, Self::DropOldest | Self::KeepLatest | Self::Downsample { .. })
    }
}

fn slack(quota: u64) -> u64 {
    (quota / SLACK_DIVISOR).min(JOURNAL_BYTES)
}

/// One commit in which room is made and batches are placed.
pub struct Room<'a, 't> {
    pub spool: &'a Spool,
    pub books: &'a mut Books,
    gaps: &'a mut Gaps,
    tx: &'t WriteTransaction,
    pub batches: Table<'t, u64, &'static [u8]>,
    dropped: Vec<(Dropped, DropCause)>,
    queues: BTreeMap<StreamNo, Queue>,
}

/// The oldest pending seqs of a stream, as far as they are looked up.
#[derive(Default)]
struct Queue {
    seqs: VecDeque<u64>,
    from: u64,
    ended: bool,
}

impl<'a, 't> Room<'a, 't> {
    pub fn new(
        spool: &'a Spool,
        tx: &'t WriteTransaction,
        books: &'a mut Books,
        gaps: &'a mut Gaps,
    ) -> Result<Self, SpoolError> {
        let batches = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        Ok(Self { spool, books, gaps, tx, batches, dropped: Vec::new(), queues: BTreeMap::new() })
    }

    /// Makes room for a batch of `stream` that costs `bytes`, under its own quota and the spool's.
    ///
    /// # Errors
    /// The stream's policy is to block, or the storage failed.
    pub fn make(&mut self, stream: StreamNo, bytes: u64) -> Result<Verdict, SpoolError> {
        let policy = self.spool.streams.policy(stream);
        let own = policy.quota_bytes;
        if own > 0 && self.books.held_cost_of(stream) + bytes > own {
            let goal = own.saturating_sub(slack(own)).max(bytes);
            self.evict(Some(stream), |books| books.held_cost_of(stream) + bytes <= goal)?;
            while policy.overflow.drops_older() && self.books.held_cost_of(stream) + bytes > goal {
                let Some(seq) = self.oldest(stream) else { break };
                self.shrink(stream, seq, DropCause::Quota)?;
            }
            if self.books.held_cost_of(stream) + bytes > own {
                return self.refuse(stream, DropCause::Quota);
            }
        }
        let (quota, cause) = self.spool.limit();
        if self.books.held_cost() + bytes > quota {
            let goal = quota.saturating_sub(slack(quota)).max(bytes);
            self.evict(None, |books| books.held_cost() + bytes <= goal)?;
            while self.books.held_cost() + bytes > goal {
                let Some((victim, seq)) = self.victim(stream) else { break };
                self.shrink(victim, seq, cause)?;
            }
            if self.books.held_cost() + bytes > quota {
                return self.refuse(stream, cause);
            }
        }
        Ok(Verdict::Accepted)
    }

    fn refuse(&self, stream: StreamNo, cause: DropCause) -> Result<Verdict, SpoolError> {
        match self.spool.streams.policy(stream).overflow {
            Overflow::Block => Err(self.spool.full(stream, cause)),
            _ => Ok(Verdict::Refused(cause)),
        }
    }

    /// Frees settled batches, oldest first, until there is `enough`.
    fn evict(&mut self, of: Option<StreamNo>, enough: impl Fn(&Books) -> bool) -> Result<(), SpoolError> {
        let evictable = self.books.evictable();
        for seq in evictable.iter().flat_map(|(lo, hi)| lo..=hi) {
            if enough(self.books) {
                break;
            }
            let stream = self.spool.streams.map.of(seq);
            if of.is_none_or(|no| no == stream) {
                let removed = self.batches.remove(seq).map_err(SpoolError::storage)?;
                self.books.free(seq, stream, removed.map_or(0, |value| cost(value.value().len())));
            }
        }
        Ok(())
    }

    /// Who pays for a batch of `stream`: the oldest of the weakest class.
    fn victim(&mut self, stream: StreamNo) -> Option<(StreamNo, u64)> {
        let payers = self.spool.payers(stream);
        let mut best: Option<(Class, u64, StreamNo)> = None;
        for (no, class) in payers {
            let Some(seq) = self.oldest(no) else { continue };
            if best.is_none_or(|(weakest, oldest, _)| class > weakest || class == weakest && seq < oldest) {
                best = Some((class, seq, no));
            }
        }
        best.map(|(_, seq, no)| (no, seq))
    }

    /// The oldest pending seq of a stream that was there before this commit.
    pub fn oldest(&mut self, no: StreamNo) -> Option<u64> {
        let (pending, before) = (&self.books.pending, self.spool.books.head);
        let queue = self.queues.entry(no).or_default();
        while queue.seqs.front().is_some_and(|seq| !pending.contains(*seq)) {
            queue.seqs.pop_front();
        }
        if queue.seqs.is_empty() && !queue.ended {
            for (lo, hi) in pending.iter() {
                let (mut next, hi) = (lo.max(queue.from), hi.min(before));
                while queue.seqs.len() < LOOK_AHEAD
                    && let Some(seq) = self.spool.streams.map.next_of(no, next, hi)
                {
                    queue.seqs.push_back(seq);
                    next = seq + 1;
                }
                queue.from = queue.from.max(next);
                if queue.seqs.len() >= LOOK_AHEAD {
                    break;
                }
            }
            queue.ended = queue.seqs.len() < LOOK_AHEAD;
        }
        queue.seqs.front().copied()
    }

    /// Gives something of a stream up, by its policy; `seq` is its oldest.
    fn shrink(&mut self, no: StreamNo, seq: u64, cause: DropCause) -> Result<(), SpoolError> {
        match self.spool.streams.policy(no).overflow {
            Overflow::KeepLatest => self.keep_latest(no, seq, cause),
            Overflow::Downsample { bucket_s } => self.downsample(no, seq, bucket_s, cause),
            Overflow::Block | Overflow::DropNewest | Overflow::DropOldest => self.give_up(seq, cause),
        }
    }

    /// Gives up a pending batch.
    pub fn give_up(&mut self, seq: u64, cause: DropCause) -> Result<(), SpoolError> {
        let found = self.batches.get(seq).map_err(SpoolError::storage)?;
        let (header, freed) =
            found.map_or((None, 0), |value| (Header::read(value.value()), cost(value.value().len())));
        let drop = match header {
            Some(header) => Dropped::from_header(seq, &header),
            None => {
                let held = Held { tail: &self.spool.tail, table: &self.batches };
                Dropped { seq, rows: rows_of_damaged(&held, self.books, seq)?, t_min: 0, t_max: 0 }
            }
        };
        self.batches.remove(seq).map_err(SpoolError::storage)?;
        self.books.give_up(seq, u64::from(drop.rows), cause);
        self.books.free(seq, self.spool.streams.map.of(seq), freed);
        self.dropped.push((drop, cause));
        Ok(())
    }

    /// Places a batch at the next seq, or the gap that it leaves.
    pub fn place(&mut self, batch: &EncodedBatch, verdict: Verdict) -> Result<(), SpoolError> {
        let value = self.spool.value_of(&mut self.books.totals(), batch, verdict);
        let (rows, stream) = (u64::from(batch.rows), batch.stream);
        match verdict {
            Verdict::Accepted => {
                self.books.append(stream, rows, cost(value.len()));
                self.batches.insert(self.books.head, value.as_slice()).map_err(SpoolError::storage)?;
            }
            Verdict::Refused(cause) => {
                self.books.refuse(stream, rows, cause);
                let (seq, t_min, t_max) = (self.books.head, batch.t_min, batch.t_max);
                self.dropped.push((Dropped { seq, rows: batch.rows, t_min, t_max }, cause));
            }
        }
        Ok(())
    }

    /// Records the gaps.
    pub fn finish(mut self) -> Result<(), SpoolError> {
        self.dropped.sort_by_key(|(drop, _)| drop.seq);
        self.gaps.record_each(self.tx, &self.dropped)
    }
}

impl Spool {
    pub(crate) fn full(&self, stream: StreamNo, cause: DropCause) -> SpoolError {
        let stream = self.streams.all.get(usize::from(stream)).map_or("", |stream| stream.name.as_str());
        SpoolError::Full { stream: stream.to_owned(), cause }
    }

    /// The streams that give readings up for those of `stream` when the spool is full: all weaker
    /// ones that do so at all, and those as strong when it does so itself.
    pub(crate) fn payers(&self, stream: StreamNo) -> Vec<(StreamNo, Class)> {
        let (class, own) = (self.streams.class(stream), self.streams.policy(stream).overflow);
        let all = (0..).zip(&self.streams.all);
        let pays = all.filter(|(no, other)| {
            let weaker = other.class > class || other.class == class && own.drops_older();
            weaker && other.policy.overflow.drops_older() && self.books.held_cost_of(*no) > 0
        });
        pays.map(|(no, other)| (no, other.class)).collect()
    }
}
