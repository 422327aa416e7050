//! Streams: a batch belongs to exactly one, which says how urgent its readings are and what is
//! given up when room is short.
//!
//! A stream is known by its name and class and has a number, given out as the dictionary's are.
//! Number 0 is the default stream. Class and number are durable; policies are the configuration's.

mod map;

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use tideline_protocol::model::Class;
use tideline_protocol::session::Urgent;

pub use self::map::StreamMap;
use crate::blob::{class_byte, class_of};
use crate::books::Books;
use crate::spool::{Spool, SpoolError};
use crate::sums::{numbered, summed};

pub const STREAMS: TableDefinition<'static, u8, &[u8]> = TableDefinition::new("streams");
/// Runs of stream numbers by chunk of seqs, see [`StreamMap`].
pub const STREAM_OF: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("stream_of");

/// The number of a stream within one spool.
pub type StreamNo = u8;
/// Most streams of a spool, those of former configurations among them: each may have an open batch
/// in memory.
pub const STREAMS_MAX: usize = 64;
/// Longest name of a stream in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 64;
/// The name of the stream that a spool begins with.
pub const DEFAULT_STREAM: &str = "default";

/// What happens to a stream's readings when a limit is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The append is refused, and who asked has to wait: nothing accepted is given up.
    Block,
    /// The new readings are given up.
    DropNewest,
    /// The oldest unsettled batches are given up.
    #[default]
    DropOldest,
    /// Of each series only the newest unsettled reading is kept.
    KeepLatest,
    /// Of each series the first, lowest, highest and last reading of each bucket are kept, in place
    /// of the oldest batches; batches that were made so are given up when that is not enough.
    Downsample {
        /// Width of a bucket in seconds.
        bucket_s: u32,
    },
}

/// How a stream is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// What happens when a limit is reached.
    pub overflow: Overflow,
    /// Most bytes of held batches of this stream; 0 = the spool's quota alone.
    pub quota_bytes: u64,
    /// Longest that a reading is kept, in seconds of the agent's running; 0 = as long as there is room.
    pub keep_s: u64,
}

/// A stream as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Its name.
    pub name: String,
    /// How urgent its readings are.
    pub class: Class,
    /// How it is kept.
    pub policy: Policy,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { name: DEFAULT_STREAM.to_owned(), class: Class::Live, policy: Policy::default() }
    }
}

/// A snapshot of a stream's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStats {
    /// Its name.
    pub name: String,
    /// How urgent its readings are.
    pub class: Class,
    /// Bytes of its held batches.
    pub bytes: u64,
    /// Its own quota; 0 = the spool's alone.
    pub quota_bytes: u64,
}

/// All streams of a spool.
#[derive(Debug)]
pub struct Streams {
    pub all: Vec<StreamConfig>,
    /// How many of them are durable.
    pub durable: usize,
    pub map: StreamMap,
    /// Counts appends to streams that are not live.
    pub urgent_appends: u64,
    // What a name stands for: another class under the same name is another stream.
    named: BTreeMap<String, StreamNo>,
}

impl Default for Streams {
    fn default() -> Self {
        let named = BTreeMap::from([(DEFAULT_STREAM.to_owned(), 0)]);
        let all = vec![StreamConfig::default()];
        Self { all, durable: 1, map: StreamMap::default(), urgent_appends: 0, named }
    }
}

impl Streams {
    pub fn class(&self, no: StreamNo) -> Class {
        self.all.get(usize::from(no)).map_or(Class::Live, |stream| stream.class)
    }

    pub fn policy(&self, no: StreamNo) -> Policy {
        self.all.get(usize::from(no)).map_or_else(Policy::default, |stream| stream.policy)
    }

    /// The number of a stream, which gets `config`'s policy.
    fn define(&mut self, config: &StreamConfig) -> Result<StreamNo, SpoolError> {
        let same = |stream: &StreamConfig| stream.name == config.name && stream.class == config.class;
        if let Some((stream, no)) = self.all.iter_mut().zip(0..).find(|(stream, _)| same(stream)) {
            stream.policy = config.policy;
            self.named.insert(config.name.clone(), no);
            return Ok(no);
        }
        let too_large = |what, found: usize, max: usize| SpoolError::TooLarge {
            what,
            found: found as u64,
            max: max as u64,
        };
        if config.name.len() > STREAM_NAME_BYTES_MAX {
            return Err(too_large("bytes in a stream's name", config.name.len(), STREAM_NAME_BYTES_MAX));
        }
        let found = self.all.len() + 1;
        let no = StreamNo::try_from(self.all.len()).ok().filter(|_| found <= STREAMS_MAX);
        let no = no.ok_or_else(|| too_large("streams", found, STREAMS_MAX))?;
        self.all.push(config.clone());
        self.named.insert(config.name.clone(), no);
        Ok(no)
    }

    /// Writes the streams that are new, and where seqs were placed since the last commit.
    pub fn write(&self, tx: &WriteTransaction, books: &Books) -> Result<(), SpoolError> {
        if self.durable < self.all.len() {
            let mut table = tx.open_table(STREAMS).map_err(SpoolError::storage)?;
            for (no, stream) in (0..).zip(&self.all).skip(self.durable) {
                let mut bytes = vec![class_byte(stream.class)];
                bytes.extend_from_slice(stream.name.as_bytes());
                let value = summed(u64::from(no).to_le_bytes(), &bytes);
                table.insert(no, value.as_slice()).map_err(SpoolError::storage)?;
            }
        }
        let chunks = self.map.changed(&books.placed);
        let mut stale = self.map.chunks_before(books.held_from()).peekable();
        if !chunks.is_empty() || stale.peek().is_some() {
            let mut table = tx.open_table(STREAM_OF).map_err(SpoolError::storage)?;
            for (number, bytes) in chunks {
                let value = summed(number.to_le_bytes(), &bytes);
                table.insert(number, value.as_slice()).map_err(SpoolError::storage)?;
            }
            for number in stale {
                table.remove(number).map_err(SpoolError::storage)?;
            }
        }
        Ok(())
    }

    /// What was written is durable.
    pub fn written(&mut self, books: &mut Books) {
        self.durable = self.all.len();
        books.placed.drain(..).for_each(|(seq, no)| self.map.set(seq, no));
        self.map.forget_before(books.held_from());
    }

    pub fn read(tx: &ReadTransaction) -> Result<Self, SpoolError> {
        let mut streams = Self::default();
        let table = tx.open_table(STREAMS).map_err(SpoolError::storage)?;
        for entry in table.iter().map_err(SpoolError::storage)? {
            let (no, value) = entry.map_err(SpoolError::storage)?;
            let corrupt = || SpoolError::Corrupt(format!("stream {} is not as written", no.value()));
            let value = numbered("stream", no.value().into(), value.value())?;
            let (class, name) = value.split_first().ok_or_else(corrupt)?;
            let name = std::str::from_utf8(name).map_err(|_| corrupt())?.to_owned();
            let class = class_of(*class).ok_or_else(corrupt)?;
            let policy = Policy::default();
            if streams.define(&StreamConfig { name, class, policy })? != no.value() {
                return Err(corrupt());
            }
        }
        streams.durable = streams.all.len();
        let table = tx.open_table(STREAM_OF).map_err(SpoolError::storage)?;
        for entry in table.iter().map_err(SpoolError::storage)? {
            let (number, value) = entry.map_err(SpoolError::storage)?;
            let value = numbered("streams of chunk", number.value(), value.value())?;
            let known = streams.map.read_chunk(number.value(), &value);
            known.ok_or_else(|| SpoolError::Corrupt(format!("streams of chunk {}", number.value())))?;
        }
        Ok(streams)
    }
}

impl Spool {
    /// The number of a stream, which is kept as `config` says from now on; a new one becomes durable
    /// with its first append.
    ///
    /// # Errors
    /// There are too many, or its name is too long.
    pub fn stream(&mut self, config: &StreamConfig) -> Result<StreamNo, SpoolError> {
        self.streams.define(config)
    }

    /// The number of the stream that was last defined under `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn stream_named(&self, name: &str) -> Result<StreamNo, SpoolError> {
        let found = self.streams.named.get(name).copied();
        found.ok_or_else(|| SpoolError::UnknownStream { name: name.to_owned() })
    }

    /// The figures of all streams, in the order of their numbers.
    #[must_use]
    pub fn stream_stats(&self) -> Vec<StreamStats> {
        let bytes = |no: usize| self.books.streams.get(no).copied().unwrap_or(0);
        let stats = self.streams.all.iter().enumerate().map(|(no, stream)| StreamStats {
            name: stream.name.clone(),
            class: stream.class,
            bytes: bytes(no),
            quota_bytes: stream.policy.quota_bytes,
        });
        stats.collect()
    }

    /// The pending seqs of alarm and state streams.
    #[must_use]
    pub fn urgent(&self) -> Urgent {
        let mut urgent = Urgent::default();
        for (no, stream) in (0..).zip(&self.streams.all) {
            let set = match stream.class {
                Class::Alarm => &mut urgent.alarm,
                Class::State => &mut urgent.state,
                Class::Live => continue,
            };
            self.streams.map.each_of(no, &self.books.pending, |seq| set.insert(seq, seq));
        }
        urgent
    }

    /// A number that changes whenever batches of alarm or state streams were appended.
    #[must_use]
    pub const fn urgent_appends(&self) -> u64 {
        self.streams.urgent_appends
    }
}
