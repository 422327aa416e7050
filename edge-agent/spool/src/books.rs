//! The spool's books: which seqs are held, pending, settled, and how many rows each kind has.
//!
//! ```text
//! 1 ..= head = pending ∪ stored ∪ refused ∪ dropped      (disjoint)
//! held       = 1 ..= head less gone;  pending ⊆ held     (INV-3)
//! produced   = stored + pending + dropped + refused      (INV-4)
//! dropped   >= the sum of what was dropped by cause; the rest was confirmed by a hub that knew more
//! ```

use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{Account, DropCause, Epoch, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::FOLDED_FROM;
use tideline_protocol::wire::Settlement;

use crate::blob::cause_byte;
use crate::streams::StreamNo;

const CAUSES: usize = DropCause::ALL.len();

/// The books as of the last commit and the settlements since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    pub head: u64,
    pub account: Account,
    /// Cost of all batches ever appended.
    pub cost_in: u64,
    /// Cost of all batches freed since.
    pub cost_out: u64,
    pub settled: Settlement,
    pub held: RangeSet,
    pub pending: RangeSet,
    /// The lives of the spool in this epoch.
    pub lives: Vec<Life>,
    /// Where this epoch's first readings come from.
    pub moved: Option<Moved>,
    /// Cost of the held batches by stream.
    pub streams: Vec<u64>,
    /// Rows dropped by cause, in the causes' order.
    pub drops: [u64; CAUSES],
    /// Rows of `produced` that no source gave: batches made in place of others.
    pub made: u64,
    /// Dropped seqs, at most, that count as no rows because nobody knows how many they had.
    pub uncounted: u64,
    /// The last seq that may have been sent to a hub.
    pub sent_until: u64,
    /// The spool's age in seconds, see `age`.
    pub age_s: u64,
    /// The day of `age_s` that `worn` is of.
    pub wear_day: u64,
    /// Bytes written to flash in that day, as of the last commit.
    pub worn: u64,
    /// The streams of the seqs since the last commit.
    pub placed: Vec<(u64, StreamNo)>,
    /// Up to this seq all fates are known and in the tables, as of the last commit.
    pub known: u64,
}

/// What the header of the next batch continues.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    pub seq: u64,
    pub rows: u64,
    pub cost: u64,
}

/// Where the rows of a settled seq are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stored,
    Refused,
    Dropped,
}

impl Books {
    /// Cost of the held batches in bytes.
    pub const fn held_cost(&self) -> u64 {
        self.cost_in.saturating_sub(self.cost_out)
    }

    /// Held seqs that need no keeping.
    pub fn evictable(&self) -> RangeSet {
        let mut set = self.held.clone();
        set.remove_set(&self.pending);
        set
    }

    /// The first held seq, or the one after the newest.
    pub fn held_from(&self) -> u64 {
        self.held.iter().next().map_or(self.head + 1, |(lo, _)| lo)
    }

    /// Cost of the held batches of a stream.
    pub fn held_cost_of(&self, no: StreamNo) -> u64 {
        self.streams.get(usize::from(no)).copied().unwrap_or(0)
    }

    pub fn append(&mut self, stream: StreamNo, rows: u64, cost: u64) {
        self.head += 1;
        self.placed.push((self.head, stream));
        self.cost_of(stream, |all| all + cost);
        self.account.produced += rows;
        self.account.pending += rows;
        self.cost_in += cost;
        self.held.insert(self.head, self.head);
        self.pending.insert(self.head, self.head);
    }

    /// Changes the cost of the held batches of a stream.
    pub fn cost_of(&mut self, no: StreamNo, change: impl FnOnce(u64) -> u64) {
        let no = usize::from(no);
        if self.streams.len() <= no {
            self.streams.resize(no + 1, 0);
        }
        if let Some(cost) = self.streams.get_mut(no) {
            *cost = change(*cost);
        }
    }

    /// Batches that cannot be read back cost so much that the sum came to `cost_in`; nothing of it is
    /// held.
    pub fn pass_cost(&mut self, cost_in: u64) {
        self.cost_out += cost_in.saturating_sub(self.cost_in);
        self.cost_in = self.cost_in.max(cost_in);
    }

    /// A batch is given up as it comes.
    pub fn refuse(&mut self, stream: StreamNo, rows: u64, cause: DropCause) {
        self.append(stream, rows, 0);
        let seq = self.head;
        self.give_up(seq, rows, cause);
        self.free(seq, stream, 0);
    }

    pub const fn totals(&self) -> Totals {
        Totals { seq: self.head, rows: self.account.produced, cost: self.cost_in }
    }

    /// A pending batch is given up.
    pub fn give_up(&mut self, seq: u64, rows: u64, cause: DropCause) {
        self.leave_pending(seq, seq, rows, Fate::Dropped);
        self.count_drops(cause, rows);
    }

    pub fn count_drops(&mut self, cause: DropCause, rows: u64) {
        if let Some(count) = self.drops.get_mut(usize::from(cause_byte(cause))) {
            *count += rows;
        }
    }

    /// Pending seqs found their fate.
    pub fn leave_pending(&mut self, lo: u64, hi: u64, rows: u64, fate: Fate) {
        self.pending.remove(lo, hi);
        self.account.pending = self.account.pending.saturating_sub(rows);
        self.enter(lo, hi, rows, fate);
    }

    /// Seqs counted as dropped turn out to be at the hub.
    pub fn leave_dropped(&mut self, lo: u64, hi: u64, rows: u64, cause: DropCause, fate: Fate) {
        if let Some(count) = self.drops.get_mut(usize::from(cause_byte(cause))) {
            *count = count.saturating_sub(rows);
        }
        self.settled.dropped.remove(lo, hi);
        self.account.dropped = self.account.dropped.saturating_sub(rows);
        self.enter(lo, hi, rows, fate);
    }

    /// The tables hold no gap before `first_gap`, which the hub has not confirmed. Nobody asks any more which
    /// of the seqs before it were dropped: where drops and readings take turns, the books would grow with
    /// every one of them.
    pub fn know(&mut self, first_gap: Option<u64>) {
        let open = first_gap.into_iter().chain(self.pending.first()).min();
        self.known = open.map_or(self.head, |open| open.saturating_sub(1));
        if self.settled.dropped.range_count() > FOLDED_FROM {
            self.settled.fold(Seq::new(self.known));
        }
    }

    fn enter(&mut self, lo: u64, hi: u64, rows: u64, fate: Fate) {
        let (set, count) = match fate {
            Fate::Stored => (&mut self.settled.stored, &mut self.account.stored),
            Fate::Refused => (&mut self.settled.refused, &mut self.account.refused),
            Fate::Dropped => (&mut self.settled.dropped, &mut self.account.dropped),
        };
        set.insert(lo, hi);
        *count += rows;
    }

    pub fn free(&mut self, seq: u64, stream: StreamNo, cost: u64) {
        self.held.remove(seq, seq);
        self.cost_out += cost;
        self.cost_of(stream, |all| all.saturating_sub(cost));
    }

    /// The first breach of the laws above, if any.
    pub fn breach(&self) -> Option<String> {
        if !self.account.balances() {
            return Some(format!("INV-4: {:?} does not balance", self.account));
        }
        if self.drops.iter().sum::<u64>() > self.account.dropped {
            return Some(format!(
                "{:?} rows dropped by cause are more than {}",
                self.drops, self.account.dropped
            ));
        }
        if self.streams.iter().sum::<u64>() != self.held_cost() {
            return Some(format!("the streams hold {:?}, the spool {}", self.streams, self.held_cost()));
        }
        let missing = self.held.intersect(&self.pending);
        if missing != self.pending {
            return Some("INV-3: a pending batch is not held".into());
        }
        let mut all = self.settled.all();
        all.insert_set(&self.pending);
        let sum = self.settled.stored.len()
            + self.settled.refused.len()
            + self.settled.dropped.len()
            + self.pending.len();
        if sum != self.head || all != RangeSet::of(1, self.head) {
            return Some(format!("the fates of 1..={} overlap or leave a hole", self.head));
        }
        None
    }

    /// The bytes for the table `meta`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut gone = RangeSet::of(1, self.head);
        gone.remove_set(&self.held);
        let a = &self.account;
        let mut out = Vec::new();
        for n in [self.head, a.produced, a.stored, a.refused, a.dropped, self.cost_in, self.cost_out] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for set in [&self.settled.stored, &self.settled.refused, &self.settled.dropped, &gone] {
            out.extend_from_slice(&(set.range_count() as u64).to_le_bytes());
            for (lo, hi) in set.iter() {
                out.extend_from_slice(&lo.to_le_bytes());
                out.extend_from_slice(&hi.to_le_bytes());
            }
        }
        out.extend_from_slice(&(self.lives.len() as u64).to_le_bytes());
        for life in &self.lives {
            out.extend_from_slice(&life.id.to_le_bytes());
            out.extend_from_slice(&life.first.get().to_le_bytes());
        }
        out.extend_from_slice(&u64::from(self.moved.is_some()).to_le_bytes());
        if let Some(moved) = &self.moved {
            out.extend_from_slice(moved.epoch.as_bytes());
            out.extend_from_slice(&moved.rows.to_le_bytes());
        }
        out.extend_from_slice(&(self.streams.len() as u64).to_le_bytes());
        let figures = [self.made, self.uncounted, self.sent_until, self.age_s, self.wear_day, self.worn];
        for n in self.streams.iter().chain(&self.drops).chain(&figures) {
            out.extend_from_slice(&n.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads what [`Books::to_bytes`] wrote; `None` when it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut words = body.chunks(8).map(|chunk| chunk.try_into().ok().map(u64::from_le_bytes));
        let mut word = move || words.next().flatten();
        let (head, produced) = (word()?, word()?);
        let (stored, refused, dropped) = (word()?, word()?, word()?);
        let (cost_in, cost_out) = (word()?, word()?);
        let mut set = || -> Option<RangeSet> {
            let mut set = RangeSet::new();
            for _ in 0..word()? {
                set.insert(word()?, word()?);
            }
            Some(set)
        };
        let settled = Settlement { stored: set()?, refused: set()?, dropped: set()? };
        let gone = set()?;
        let lives = word()?;
        let lives = (0..lives).map(|_| Some(Life { id: word()?, first: Seq::new(word()?) }));
        let lives = lives.collect::<Option<Vec<Life>>>()?;
        let moved = match word()? {
            0 => None,
            _ => {
                let (high, low) = (word()?.to_le_bytes(), word()?.to_le_bytes());
                let epoch = <[u8; 16]>::try_from([high, low].concat()).ok()?;
                Some(Moved { epoch: Epoch::from_bytes(epoch), rows: word()? })
            }
        };
        let streams = word()?;
        let streams = (0..streams).map(|_| word()).collect::<Option<Vec<u64>>>()?;
        let mut drops = [0; CAUSES];
        for count in &mut drops {
            *count = word()?;
        }
        let (made, uncounted, sent_until) = (word()?, word()?, word()?);
        let (age_s, wear_day, worn) = (word()?, word()?, word()?);
        let mut held = RangeSet::of(1, head);
        held.remove_set(&gone);
        let mut pending = RangeSet::of(1, head);
        pending.remove_set(&settled.all());
        let pending_rows = produced.checked_sub(stored)?.checked_sub(refused)?.checked_sub(dropped)?;
        let account = Account { produced, stored, pending: pending_rows, dropped, refused };
        Some(Self {
            head,
            account,
            cost_in,
            cost_out,
            settled,
            held,
            pending,
            lives,
            moved,
            streams,
            drops,
            made,
            uncounted,
            sent_until,
            age_s,
            wear_day,
            worn,
            placed: Vec::new(),
            known: 0,
        })
    }
}
