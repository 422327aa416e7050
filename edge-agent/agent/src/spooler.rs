//! The spool's own thread: fsync must never block the runtime.
//!
//! Requests come over a bounded channel and are answered one after the other, but for appends that
//! wait together: one sync makes them durable. Before each answer the state is published. When the storage fails, the spool is opened again before the next request;
//! when it was found damaged, it is repaired first.

mod appends;
mod doubts;
mod private;
#[cfg(test)]
mod tests;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::model::{Account, Epoch, Gap, Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{SpoolView, Urgent};
use tideline_protocol::wire::{RUN_ROWS_MAX, Settlement};
use tideline_spool::{DEFAULT_STREAM, LoadedRun, Pace, Spool, SpoolConfig, SpoolError, StreamConfig};
use tokio::sync::{mpsc, oneshot, watch};

use self::appends::Append;
pub use self::appends::{Appended, Portion};
use self::doubts::Doubts;
pub use self::private::narrow;
use self::worker::{Worker, open};
use crate::clock;
use crate::status::Board;

/// Most requests that wait for the spool (INV-6). Those that append become durable with one sync: many
/// that bring one reading each are worth as much as a few that bring a hundred.
const QUEUE_MAX: usize = 512;

/// How long readings wait to become durable together when the day's budget of flash is short: as long as
/// may be configured, and no longer.
pub const SPARING_INTERVAL: Duration = Duration::from_secs(60);

/// The readings of one series.
pub type SeriesRows = (SeriesDef, Vec<Sample>);
/// A source's position: its name and its bytes.
pub type Position = (String, Vec<u8>);

/// What the others see of the spool without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolState {
    /// The spool's epoch.
    pub epoch: Epoch,
    /// The newest of its lives: another one after the spool was opened again.
    pub life: Option<u64>,
    /// The newest seq.
    pub head: Seq,
    /// Durable dictionary entries.
    pub series: SeriesNo,
    /// The oldest seq that is neither settled nor given up; the one after the newest when there is
    /// none.
    pub pending_from: Seq,
    /// Up to this seq it knows durably what became of each.
    pub known: Seq,
    /// The account.
    pub account: Account,
    /// Changes whenever batches of alarm or state streams were appended; see [`SpoolHandle::urgent`].
    pub urgent_appends: u64,
    /// The latest time that a hub has ever told, ns since 1970.
    pub time_floor_ns: i64,
    /// What is left of the day's budget of bytes written to flash.
    pub pace: Pace,
}

/// On what occasion the spool is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// At the start, or after the storage failed.
    Plain,
    /// After a sync failed: what reads show may not be on the disk.
    Unsynced,
    /// After it was found damaged.
    Damaged,
}

/// A run, or how far there is nothing.
#[derive(Debug)]
pub enum Loaded {
    /// The run.
    Run(LoadedRun),
    /// Nothing is held up to this seq.
    Gone(RangeSet),
}

/// What is loaded to be sent.
#[derive(Debug)]
pub struct Sending {
    /// The seqs.
    pub seqs: RangeSet,
    /// Most bytes.
    pub bytes_max: usize,
    /// Whether it is the first since a hub's welcome was settled.
    pub is_first: bool,
}

type Answer<T> = oneshot::Sender<Result<T, SpoolError>>;

enum Request {
    Append(Append),
    View(Answer<SpoolView>),
    Load(RangeSet, usize, Answer<Loaded>),
    Send(Sending, Answer<Loaded>),
    Series(SeriesNo, usize, Answer<Vec<SeriesDef>>),
    Branch(Seq, Answer<()>),
    BeginLife(u64, Answer<()>),
    Settle(Settlement, Answer<()>),
    Know(Answer<()>),
    Gaps(Answer<Vec<Gap>>),
    Urgent(Answer<Urgent>),
    Held(Answer<(RangeSet, RangeSet)>),
    GrowOlder(u64, Answer<()>),
    LearnTime(u64, i64, Answer<()>),
    Cursor(String, Answer<Option<Vec<u8>>>),
    Close(oneshot::Sender<()>),
}

/// A handle to the spool's thread. Clones share it; the thread ends with the last.
#[derive(Clone)]
pub struct SpoolHandle {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<SpoolState>,
    unhindered: bool,
}

impl SpoolHandle {
    /// Opens the spool at `path` and starts its thread.
    ///
    /// # Errors
    /// The spool cannot be opened.
    pub fn start(
        path: PathBuf,
        config: SpoolConfig,
        board: Board,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        Self::start_streams(path, config, Vec::new(), board)
    }

    /// As [`SpoolHandle::start`], with streams beside the default one.
    ///
    /// # Errors
    /// The spool cannot be opened, or has too many streams.
    pub fn start_streams(
        path: PathBuf,
        config: SpoolConfig,
        streams: Vec<StreamConfig>,
        board: Board,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        let open = move |occasion| {
            let mut spool = open(&path, config, occasion)?;
            streams.iter().try_for_each(|stream| spool.stream(stream).map(drop))?;
            spool.begin_boot(clock::boot().id)?;
            Ok(spool)
        };
        Self::start_with(open, board)
    }

    /// As [`SpoolHandle::start`], with another way to open the spool.
    ///
    /// # Errors
    /// As `open`.
    pub fn start_with(
        mut open: impl FnMut(Occasion) -> Result<Spool, SpoolError> + Send + 'static,
        board: Board,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        let spool = open(Occasion::Plain)?;
        let (requests, inbox) = mpsc::channel(QUEUE_MAX);
        let (publish, state) = watch::channel(state_of(&spool));
        let (occasion, open) = (Occasion::Plain, Box::new(open));
        let doubts = Doubts::default();
        let worker = Worker { spool: Some(spool), occasion, open, board, publish, doubts };
        let thread = std::thread::Builder::new().name("spool".into()).spawn(move || worker.run(inbox))?;
        Ok((Self { requests, state, unhindered: false }, thread))
    }

    /// The same for a stream that is not slowed down to spare the flash.
    #[must_use]
    pub fn unhindered(self) -> Self {
        Self { unhindered: true, ..self }
    }

    /// How long readings are to wait for others to become durable with.
    #[must_use]
    pub fn flush_interval(&self, wanted: Duration) -> Duration {
        match self.state.borrow().pace {
            Pace::Short | Pace::Spent if !self.unhindered => wanted.max(SPARING_INTERVAL),
            _ => wanted,
        }
    }

    /// The published state.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SpoolState> {
        self.state.clone()
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, SpoolError> {
        let (answer, wait) = oneshot::channel();
        let gone = || SpoolError::Storage("the spool's thread has ended".into());
        self.requests.send(request(answer)).await.map_err(|_| gone())?;
        wait.await.map_err(|_| gone())?
    }

    /// Makes readings and positions durable, as few batches as there can be.
    ///
    /// # Errors
    /// None of them is durable.
    pub async fn append(
        &self,
        rows: Vec<SeriesRows>,
        positions: Vec<Position>,
    ) -> Result<Appended, SpoolError> {
        let portion = Portion { rows, positions, ..Portion::default() };
        self.append_portions(vec![Arc::new(portion)], RUN_ROWS_MAX).await
    }

    /// Makes all portions durable, or none, in batches of at most `rows_max` readings in time order.
    ///
    /// # Errors
    /// None of them is durable.
    pub async fn append_portions(
        &self,
        portions: Vec<Arc<Portion>>,
        rows_max: u64,
    ) -> Result<Appended, SpoolError> {
        self.append_to(DEFAULT_STREAM.into(), portions, rows_max).await
    }

    /// As [`SpoolHandle::append_portions`], to another stream than the default one.
    ///
    /// # Errors
    /// None of them is durable; [`SpoolError::Full`] when the stream blocks.
    pub async fn append_to(
        &self,
        stream: Arc<str>,
        portions: Vec<Arc<Portion>>,
        rows_max: u64,
    ) -> Result<Appended, SpoolError> {
        self.ask(|answer| Request::Append(Append { stream, portions, rows_max, answer })).await
    }

    /// What goes ahead of live readings.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn urgent(&self) -> Result<Urgent, SpoolError> {
        self.ask(Request::Urgent).await
    }

    /// The seqs that are held, and those of them that are not settled.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn held(&self) -> Result<(RangeSet, RangeSet), SpoolError> {
        self.ask(Request::Held).await
    }

    /// What a session needs to start.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn view(&self) -> Result<SpoolView, SpoolError> {
        self.ask(Request::View).await
    }

    /// A run from `first` on.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn load(&self, seqs: RangeSet, bytes_max: usize) -> Result<Loaded, SpoolError> {
        self.ask(|answer| Request::Load(seqs, bytes_max, answer)).await
    }

    /// A run to be sent, see [`Spool::load_to_send`].
    ///
    /// # Errors
    /// The storage failed.
    pub async fn load_to_send(&self, sending: Sending) -> Result<Loaded, SpoolError> {
        self.ask(|answer| Request::Send(sending, answer)).await
    }

    /// Dictionary entries.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn series(&self, from: SeriesNo, max: usize) -> Result<Vec<SeriesDef>, SpoolError> {
        self.ask(|answer| Request::Series(from, max, answer)).await
    }

    /// A hub has told the time: at `mono_ns` the wall clock should have been `offset_ns` ahead of the
    /// monotonic one.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn learn_time(&self, mono_ns: u64, offset_ns: i64) -> Result<(), SpoolError> {
        self.ask(|answer| Request::LearnTime(mono_ns, offset_ns, answer)).await
    }

    /// Takes over the hub's word.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn settle(&self, settlement: Settlement) -> Result<(), SpoolError> {
        self.ask(|answer| Request::Settle(settlement, answer)).await
    }

    /// Makes durable what the hub said of seqs.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn know(&self) -> Result<(), SpoolError> {
        self.ask(Request::Know).await
    }

    /// Gaps made since this was last asked.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn fresh_gaps(&self) -> Result<Vec<Gap>, SpoolError> {
        self.ask(Request::Gaps).await
    }

    /// Counts the spool's age, see [`Spool::grow_older`].
    ///
    /// # Errors
    /// The storage failed.
    pub async fn grow_older(&self, seconds: u64) -> Result<(), SpoolError> {
        self.ask(|answer| Request::GrowOlder(seconds, answer)).await
    }

    /// Begins a life of the spool, see [`Spool::begin_life`].
    ///
    /// # Errors
    /// The storage failed.
    pub async fn begin_life(&self, id: u64) -> Result<(), SpoolError> {
        self.ask(|answer| Request::BeginLife(id, answer)).await
    }

    /// Goes on in the branch that parted at `at`, see [`Spool::branch`].
    ///
    /// # Errors
    /// The storage failed.
    pub async fn branch(&self, at: Seq) -> Result<(), SpoolError> {
        self.ask(|answer| Request::Branch(at, answer)).await
    }

    /// A source's last durable position.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn cursor(&self, name: &str) -> Result<Option<Vec<u8>>, SpoolError> {
        self.ask(|answer| Request::Cursor(name.to_owned(), answer)).await
    }

    /// Closes the spool in order and ends its thread; whoever asks later is told so. A spool that
    /// was not closed has to read its journal at the next start.
    pub async fn close(&self) {
        let (answer, wait) = oneshot::channel();
        if self.requests.send(Request::Close(answer)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

fn state_of(spool: &Spool) -> SpoolState {
    let pending = spool.pending().iter().next();
    SpoolState {
        epoch: spool.epoch(),
        life: spool.lives().last().map(|life| life.id),
        head: spool.head(),
        series: spool.series_count(),
        pending_from: pending.map_or(spool.head().next(), |(first, _)| Seq::new(first)),
        known: spool.known(),
        account: spool.account(),
        urgent_appends: spool.urgent_appends(),
        time_floor_ns: spool.time_floor_ns(),
        pace: spool.pace(),
    }
}
