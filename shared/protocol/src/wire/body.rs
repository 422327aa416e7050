//! The bodies of the messages. They hold no bytes; `wire` alone turns them into some.

use minicbor::{Decode, Encode};

use crate::lives::{Life, Moved};
use crate::model::{Account, AgentId, Epoch, RowCounts, Seq, SeriesDef, SeriesNo};
use crate::ranges::RangeSet;

/// Which delivery class a run travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Lane {
    /// Alarms and replies to commands, of any age.
    #[n(0)]
    Alarm,
    /// States, of any age.
    #[n(1)]
    State,
    /// Taken since the session opened.
    #[n(2)]
    Live,
    /// Older than that.
    #[n(3)]
    Backfill,
}

/// The agent's first message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Hello {
    /// Protocol versions the agent speaks.
    #[n(0)]
    pub versions: Vec<u8>,
    /// Optional abilities by name.
    #[n(1)]
    pub capabilities: Vec<String>,
    /// Who speaks; must be who the certificate says.
    #[n(2)]
    pub agent: AgentId,
    /// The spool's epoch.
    #[n(3)]
    pub epoch: Epoch,
    /// A random id of this start of the machine.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub boot: [u8; 16],
    /// Nanoseconds since an arbitrary moment of this boot.
    #[n(5)]
    pub mono_ns: u64,
    /// What the agent takes for the time, ns since 1970.
    #[n(6)]
    pub wall_ns: i64,
    /// The newest seq.
    #[n(7)]
    pub head: Seq,
    /// Name and version of the software.
    #[n(8)]
    pub software: String,
    /// The agent's account of the epoch.
    #[n(9)]
    pub account: Account,
    /// The lives of the spool, oldest first, at most [`crate::lives::LIVES_MAX`].
    #[n(10)]
    pub lives: Vec<Life>,
    /// The epoch before this one, when its readings went on in this one.
    #[n(11)]
    pub moved: Option<Moved>,
}

/// The hub's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Welcome {
    /// The version chosen.
    #[n(0)]
    pub version: u8,
    /// Abilities that both have.
    #[n(1)]
    pub capabilities: Vec<String>,
    /// What the hub holds of the epoch.
    #[n(2)]
    pub settled: Settlement,
    /// How many dictionary entries of the epoch the hub holds.
    #[n(3)]
    pub series_known: u32,
    /// Run bytes that the agent may send in this session, in all.
    #[n(4)]
    pub credit: u64,
    /// The hub's time, ns since 1970.
    #[n(5)]
    pub wall_ns: i64,
    /// Version of the agent's configuration at the hub.
    #[n(6)]
    pub config_version: u64,
    /// Where the spool parted from another copy of it, see [`crate::lives`]: this session takes the
    /// seqs before it only, and after them the agent begins a new epoch.
    #[n(7)]
    pub parted: Option<Seq>,
}

/// What became of seqs at the hub; the three sets are disjoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Settlement {
    /// Durable at the hub.
    #[n(0)]
    pub stored: RangeSet,
    /// Kept as dead letters.
    #[n(1)]
    pub refused: RangeSet,
    /// Declared given up by the agent.
    #[n(2)]
    pub dropped: RangeSet,
}

impl Settlement {
    /// All seqs that need no more sending.
    #[must_use]
    pub fn all(&self) -> RangeSet {
        let mut all = self.stored.clone();
        all.insert_set(&self.refused);
        all.insert_set(&self.dropped);
        all
    }

    /// What it says of the seqs `first..=last`.
    #[must_use]
    pub fn within(&self, first: Seq, last: Seq) -> Self {
        let part = |set: &RangeSet| {
            if first <= last { set.within(first.get(), last.get()) } else { RangeSet::new() }
        };
        Self { stored: part(&self.stored), refused: part(&self.refused), dropped: part(&self.dropped) }
    }

    /// What it says of the seqs before `end`.
    #[must_use]
    pub fn before(&self, end: Seq) -> Self {
        self.within(Seq::FIRST, Seq::new(end.get().saturating_sub(1)))
    }

    /// Forgets which seqs up to `to` were dropped: from then on they count as stored. Where drops and
    /// readings take turns, each would be a range of its own for good.
    pub fn fold(&mut self, to: Seq) {
        let dropped = self.dropped.within(1, to.get());
        self.dropped.remove(1, to.get());
        self.stored.insert_set(&dropped);
    }

    /// Adds what `other` says.
    pub fn merge(&mut self, other: &Self) {
        self.stored.insert_set(&other.stored);
        self.refused.insert_set(&other.refused);
        self.dropped.insert_set(&other.dropped);
    }
}

/// Dictionary entries; contiguous from `first`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Series {
    /// The number of the first entry.
    #[n(0)]
    pub first: SeriesNo,
    /// The entries.
    #[n(1)]
    pub defs: Vec<SeriesDef>,
}

/// A correction of the times of some batches, which were stamped before their agent knew the time. The
/// batches stay as they are: whoever decodes them adds the shift, once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Restamp {
    /// Of which seqs; no other correction of the run has them.
    #[n(0)]
    pub seqs: RangeSet,
    /// The start of the machine in which they were taken.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub boot: [u8; 16],
    /// What to add to each time, ns; `None` when the clock was wrong and nobody knows by how much.
    #[n(2)]
    pub shift_ns: Option<i64>,
    /// The earliest time among the readings, corrected, ns since 1970.
    #[n(3)]
    pub from_ns: i64,
    /// The latest.
    #[n(4)]
    pub to_ns: i64,
}

/// The envelope of a run: seqs re-packed by series into one block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RunEnvelope {
    /// The spool's epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// The class it travels in; no part of its identity.
    #[n(1)]
    pub lane: Lane,
    /// The first seq.
    #[n(2)]
    pub first: Seq,
    /// The rows of each seq from `first` on. One without rows is not in the run: what went ahead in
    /// another lane leaves holes.
    #[n(3)]
    pub rows: RowCounts,
    /// One more than the highest series number used.
    #[n(4)]
    pub series_end: SeriesNo,
    /// Corrections of times, at most [`super::RESTAMPS_PER_RUN_MAX`].
    #[n(5)]
    pub restamps: Vec<Restamp>,
}

impl RunEnvelope {
    /// The seqs in the run.
    #[must_use]
    pub fn seqs(&self) -> RangeSet {
        self.rows.present(self.first)
    }

    /// The last seq.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq::new(self.first.get().saturating_add(self.rows.seqs()).saturating_sub(1))
    }
}

/// A run with its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is known without decoding the block.
    pub envelope: RunEnvelope,
    /// The columnar block, see [`crate::block`].
    pub block: Vec<u8>,
}

/// The hub's acknowledgement: what is durable, and how much more may be sent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Ack {
    /// What became of seqs since the last ack; repeating is harmless.
    #[n(0)]
    pub settled: Settlement,
    /// How many dictionary entries of the epoch the hub holds.
    #[n(1)]
    pub series_known: u32,
    /// Run bytes that the agent may send in this session, in all.
    #[n(2)]
    pub credit: u64,
}

/// The agent's account, sent when it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Report {
    /// The counters.
    #[n(0)]
    pub account: Account,
    /// The newest seq.
    #[n(1)]
    pub head: Seq,
    /// Of this seq and all before it the agent knows durably what became of them, and sends none any more:
    /// the hub need no longer tell dropped ones from stored ones. 0 when there is no need to say it.
    #[n(2)]
    #[cbor(default)]
    pub known: Seq,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Carrier {
    /// QUIC.
    #[n(0)]
    Quic,
    /// MQTT.
    #[n(1)]
    Mqtt,
}

/// What a circuit breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Breaker {
    /// Every attempt.
    #[n(0)]
    Closed,
    /// None for now.
    #[n(1)]
    Open,
    /// One at a time.
    #[n(2)]
    HalfOpen,
}

/// How one way to the hub fares, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct WayHealth {
    /// The address that the agent dials, at most [`super::ADDRESS_BYTES_MAX`].
    #[n(0)]
    pub address: String,
    /// By what.
    #[n(1)]
    pub carrier: Carrier,
    /// Whether this session is on it.
    #[n(2)]
    pub carries: bool,
    /// Its breaker.
    #[n(3)]
    pub breaker: Breaker,
    /// Failures since the last success.
    #[n(4)]
    pub failures: u32,
    /// The back-off's last wait, ms.
    #[n(5)]
    pub wait_ms: u32,
    /// Smoothed round trip, in microseconds.
    #[n(6)]
    pub rtt_us: Option<u32>,
    /// Lost packets in millionths.
    #[n(7)]
    pub loss_ppm: u32,
}

/// How the agent fares, sent when its ways change and now and then. It says nothing of readings.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Health {
    /// Its ways to the hub, the preferred one first, at most [`super::WAYS_MAX`].
    #[n(0)]
    pub ways: Vec<WayHealth>,
    /// How often it moved from one way to another since it started.
    #[n(1)]
    pub switches: u64,
    /// Bytes in its spool.
    #[n(2)]
    pub spool_bytes: u64,
    /// The spool's quota in bytes.
    #[n(3)]
    pub spool_quota_bytes: u64,
}

/// A probe of round trip and clock offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Ping {
    /// The sender's monotonic clock, ns; comes back in the pong.
    #[n(0)]
    pub mono_ns: u64,
    /// In how many ms the next one comes at the latest: who is not heard from by then is missing.
    #[n(1)]
    pub next_ms: u32,
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Pong {
    /// As in the ping.
    #[n(0)]
    pub mono_ns: u64,
    /// The answerer's wall clock, ns since 1970.
    #[n(1)]
    pub wall_ns: i64,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RefuseCode {
    /// No common version.
    #[n(0)]
    Version,
    /// The certificate does not speak for the agent named.
    #[n(1)]
    Identity,
    /// The device was revoked.
    #[n(2)]
    Revoked,
    /// A message that breaks the protocol.
    #[n(3)]
    Protocol,
    /// A hub that cannot take data now.
    #[n(4)]
    Unavailable,
    /// A newer session of the same agent took over.
    #[n(5)]
    Replaced,
}

/// The last message of a session that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Refuse {
    /// Why, for programs.
    #[n(0)]
    pub code: RefuseCode,
    /// Why, for people.
    #[n(1)]
    pub reason: String,
    /// Least time before the next attempt, ms; 0 leaves it to the other end.
    #[n(2)]
    pub retry_after_ms: u32,
}
