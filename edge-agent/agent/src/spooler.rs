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

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tideline_protocol::model::{Account, DropCause, Epoch, Gap, Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::SpoolView;
use tideline_protocol::wire::{RUN_ROWS_MAX, Settlement};
use tideline_spool::{LoadedRun, Spool, SpoolConfig, SpoolError, sound};
use tokio::sync::{mpsc, oneshot, watch};

use self::appends::{Append, again, without_room, write};
pub use self::appends::{Appended, Portion};
use self::doubts::Doubts;
pub use self::private::narrow;
use crate::status::Board;

/// Readings beyond which no further append joins those that are made durable together: their
/// blocks are in memory beside each other.
const GROUP_ROWS_MAX: u64 = RUN_ROWS_MAX;
/// Most requests that wait for the spool (INV-6).
const QUEUE_MAX: usize = 16;

/// The readings of one series.
pub type SeriesRows = (SeriesDef, Vec<Sample>);
/// A source's position: its name and its bytes.
pub type Position = (String, Vec<u8>);

/// What the others see of the spool without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolState {
    /// The spool's epoch.
    pub epoch: Epoch,
    /// The newest seq.
    pub head: Seq,
    /// Durable dictionary entries.
    pub series: SeriesNo,
    /// The oldest seq that is neither settled nor given up; the one after the newest when there is
    /// none.
    pub pending_from: Seq,
    /// The account.
    pub account: Account,
}

/// On what occasion the spool is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// At the start, or after the storage failed.
    Plain,
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

type Answer<T> = oneshot::Sender<Result<T, SpoolError>>;

enum Request {
    Append(Append),
    View(Answer<SpoolView>),
    Load(RangeSet, usize, Answer<Loaded>),
    Series(SeriesNo, usize, Answer<Vec<SeriesDef>>),
    Branch(Seq, Answer<()>),
    BeginLife(u64, Answer<()>),
    Settle(Settlement, Answer<()>),
    Gaps(Answer<Vec<Gap>>),
    Cursor(String, Answer<Option<Vec<u8>>>),
    Close(oneshot::Sender<()>),
}

/// A handle to the spool's thread. Clones share it; the thread ends with the last.
#[derive(Clone)]
pub struct SpoolHandle {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<SpoolState>,
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
        Self::start_with(move |occasion| open(&path, config, occasion), board)
    }

    /// As [`SpoolHandle::start`], with another way to open the spool.
    ///
    /// # Errors
    /// As `open`.
    pub fn start_with(
        mut open: impl FnMut(Occasion) -> Result<Spool, SpoolError> + Send + 'static,
        board: Board,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        let mut spool = open(Occasion::Plain)?;
        let (requests, inbox) = mpsc::channel(QUEUE_MAX);
        let (publish, state) = watch::channel(state_of(&spool));
        // Before any session, which would have to be told of each gap by itself.
        let gaps = sound(|| spool.gaps_unconfirmed())?;
        let dropped = spool.account().dropped;
        count_drops_so_far(&board, &gaps, dropped);
        let (occasion, open) = (Occasion::Plain, Box::new(open));
        let doubts = Doubts::default();
        let worker = Worker { spool: Some(spool), occasion, open, board, publish, dropped, doubts };
        let thread = std::thread::Builder::new().name("spool".into()).spawn(move || worker.run(inbox))?;
        Ok((Self { requests, state }, thread))
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
        self.ask(|answer| Request::Append(Append { portions, rows_max, answer })).await
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

    /// Dictionary entries.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn series(&self, from: SeriesNo, max: usize) -> Result<Vec<SeriesDef>, SpoolError> {
        self.ask(|answer| Request::Series(from, max, answer)).await
    }

    /// Takes over the hub's word.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn settle(&self, settlement: Settlement) -> Result<(), SpoolError> {
        self.ask(|answer| Request::Settle(settlement, answer)).await
    }

    /// Gaps made since this was last asked.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn fresh_gaps(&self) -> Result<Vec<Gap>, SpoolError> {
        self.ask(Request::Gaps).await
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
    /// was not closed has all its pages checked at the next start.
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
        head: spool.head(),
        series: spool.series_count(),
        pending_from: pending.map_or(spool.head().next(), |(first, _)| Seq::new(first)),
        account: spool.account(),
    }
}

fn open(path: &Path, config: SpoolConfig, occasion: Occasion) -> Result<Spool, SpoolError> {
    if occasion == Occasion::Damaged && path.exists() {
        let (spool, report) = Spool::repair(path, config)?;
        tracing::warn!(?report, "the spool was damaged and is repaired");
        private::keep(path)?;
        return Ok(spool);
    }
    private::prepare(path)?;
    let (spool, report) = Spool::open_file(path, config)?;
    // What was put aside has made way for files that are as open as any.
    private::keep(path)?;
    if report.created {
        tracing::info!(epoch = %spool.epoch(), quarantined = ?report.quarantined, "a new spool epoch begins");
    }
    Ok(spool)
}

struct Worker {
    // None after a failed write, until it could be opened again.
    spool: Option<Spool>,
    // Why it would have to be opened.
    occasion: Occasion,
    open: Box<dyn FnMut(Occasion) -> Result<Spool, SpoolError> + Send>,
    board: Board,
    publish: watch::Sender<SpoolState>,
    // Rows given up, as far as they are counted by cause.
    dropped: u64,
    // Appends that failed and may be in the spool all the same.
    doubts: Doubts,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        self.publish();
        let (mut closing, mut next) = (None, None);
        while let Some(request) = next.take().or_else(|| inbox.blocking_recv()) {
            if let Request::Append(append) = request {
                let (group, after) = gather(append, &mut inbox);
                next = after;
                self.append(group);
            } else if let ControlFlow::Break(answer) = self.carry_out(request) {
                closing = Some(answer);
                break;
            }
        }
        if let Some(spool) = &mut self.spool
            && let Err(error) = sound(|| spool.flush())
        {
            tracing::warn!(%error, "last flush of the spool failed; the hub will repeat what it settled");
        }
        self.close(Occasion::Plain);
        if let Some(answer) = closing {
            // Who asked may have gone.
            let _ = answer.send(());
        }
    }

    fn publish(&self) {
        let Some(spool) = &self.spool else { return };
        let (state, stats) = (state_of(spool), spool.stats());
        self.board.update(|status| {
            status.epoch = stats.epoch.to_string();
            status.account = stats.account;
            status.head = stats.head.get();
            status.backlog_rows = stats.account.pending;
            status.spool.bytes = stats.bytes;
            status.spool.quota_bytes = stats.quota_bytes;
            status.spool.flash_bytes = spool.bytes_written();
        });
        // Last: who waits for it finds the status as new.
        self.publish.send_if_modified(|old| std::mem::replace(old, state) != state);
    }

    /// Breaks off when the spool is to be closed.
    fn carry_out(&mut self, request: Request) -> ControlFlow<oneshot::Sender<()>> {
        match request {
            Request::Append(append) => self.append(vec![append]),
            Request::View(answer) => self.answer(answer, Spool::view),
            Request::Load(seqs, bytes_max, answer) => self.answer(answer, |spool| {
                let run = spool.load_seqs(&seqs, bytes_max, RUN_ROWS_MAX)?;
                Ok(run.map_or_else(|| Loaded::Gone(spool.gone(&seqs)), Loaded::Run))
            }),
            Request::BeginLife(id, answer) => self.answer(answer, |spool| spool.begin_life(id)),
            Request::Branch(at, answer) => self.answer(answer, |spool| spool.branch(at)),
            Request::Series(from, max, answer) => {
                self.answer(answer, |spool| Ok(spool.series_defs(from, max)))
            }
            Request::Settle(settlement, answer) => self.answer(answer, |spool| spool.settle(&settlement)),
            Request::Gaps(answer) => self.answer(answer, Spool::fresh_gaps),
            Request::Cursor(name, answer) => self.answer(answer, |spool| spool.cursor(&name)),
            Request::Close(answer) => return ControlFlow::Break(answer),
        }
        ControlFlow::Continue(())
    }

    fn answer<T>(&mut self, answer: Answer<T>, work: impl FnOnce(&mut Spool) -> Result<T, SpoolError>) {
        let result = sound(|| self.opened().and_then(work));
        self.take_note(result.as_ref().err(), DropCause::Damaged);
        // The asker may have gone; what was asked is done all the same.
        let _ = answer.send(result);
    }

    /// Answers several appends with one sync; when one of them is at fault, each by itself.
    fn append(&mut self, group: Vec<Append>) {
        let opened = sound(|| self.opened().map(|spool| (spool.epoch(), spool.account().produced)));
        let mut group = self.answer_landed(group);
        let written = match &opened {
            Ok(_) => sound(|| self.opened().and_then(|spool| write(spool, &group))),
            Err(error) => Err(again(error)),
        };
        match written {
            Ok(rejected) => {
                self.take_note(None, DropCause::Quota);
                let head = self.publish.borrow().head;
                for (append, rejected) in group.into_iter().zip(rejected) {
                    let _ = append.answer.send(Ok(Appended { head, rejected }));
                }
            }
            Err(error) if group.len() > 1 && !is_of_storage(&error) => {
                group.drain(..).for_each(|append| self.append(vec![append]));
            }
            Err(error) => {
                if let (Ok((epoch, produced)), true) = (opened, is_of_storage(&error)) {
                    self.doubts.failed(epoch, produced, &group);
                }
                self.take_note(Some(&error), DropCause::Quota);
                for append in group {
                    let _ = append.answer.send(Err(again(&error)));
                }
            }
        }
    }

    /// Answers those that failed once and were found in the spool; gives the others.
    fn answer_landed(&mut self, group: Vec<Append>) -> Vec<Append> {
        let (landed, group): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|append| self.doubts.take_landed(append));
        for append in landed {
            let rejected =
                self.spool.as_mut().map_or_else(Default::default, |spool| without_room(spool, &append));
            self.publish();
            let head = self.publish.borrow().head;
            let _ = append.answer.send(Ok(Appended { head, rejected }));
        }
        group
    }

    /// What follows from each request, before the answer: who has it sees what it did. Rows that it
    /// gave up were so for `cause`.
    fn take_note(&mut self, error: Option<&SpoolError>, cause: DropCause) {
        self.count_drops(cause);
        // What does not fit is for the asker to deal with, and to tell.
        if let Some(error) = error.filter(|error| !matches!(error, SpoolError::OverQuota { .. })) {
            tracing::error!(%error, "spool request failed");
            self.board.update(|status| status.last_error = Some(error.to_string()));
            match error {
                SpoolError::Storage(_) | SpoolError::Poisoned => self.close(Occasion::Plain),
                SpoolError::Corrupt(_) => self.close(Occasion::Damaged),
                _ => {}
            }
        }
        self.publish();
    }

    fn count_drops(&mut self, cause: DropCause) {
        let Some(spool) = &mut self.spool else { return };
        let now = spool.account().dropped;
        let more = now.saturating_sub(std::mem::replace(&mut self.dropped, now));
        if spool.epoch() != self.publish.borrow().epoch {
            // No session of it has begun, so that none misses what is read here.
            let gaps = sound(|| spool.gaps_unconfirmed()).unwrap_or_default();
            count_drops_so_far(&self.board, &gaps, now);
        } else if more > 0 {
            self.board.update(|status| *status.drops.entry(cause.as_str().to_owned()).or_default() += more);
        }
    }

    fn close(&mut self, occasion: Occasion) {
        // An open that fails says nothing new of what is in the file.
        if let Some(spool) = self.spool.take() {
            self.occasion = occasion;
            // Closing writes, and so it may meet the damage again.
            let _ = sound(|| {
                drop(spool);
                Ok::<_, SpoolError>(())
            });
        }
    }

    fn opened(&mut self) -> Result<&mut Spool, SpoolError> {
        if self.spool.is_none() {
            let spool = (self.open)(self.occasion)?;
            self.doubts.resolve(&spool);
            self.spool = Some(spool);
            self.count_drops(DropCause::Damaged);
            tracing::info!("spool opened again");
        }
        self.spool.as_mut().ok_or(SpoolError::Poisoned)
    }
}

/// The append and those that wait right behind it, and what came after them.
fn gather(first: Append, inbox: &mut mpsc::Receiver<Request>) -> (Vec<Append>, Option<Request>) {
    let mut rows = first.count();
    let mut group = vec![first];
    while rows < GROUP_ROWS_MAX {
        match inbox.try_recv() {
            Ok(Request::Append(append)) => {
                rows += append.count();
                group.push(append);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}

/// Whether it says nothing of the request.
const fn is_of_storage(error: &SpoolError) -> bool {
    matches!(error, SpoolError::Storage(_) | SpoolError::Poisoned | SpoolError::Corrupt(_))
}

/// Shows what an epoch has given up so far: by cause what the hub has not confirmed, as only that is
/// on record, and the rest as earlier.
fn count_drops_so_far(board: &Board, gaps: &[Gap], dropped: u64) {
    board.update(|status| {
        let mut rest = dropped;
        status.drops.clear();
        for gap in gaps {
            let rows = gap.rows.total();
            *status.drops.entry(gap.cause.as_str().to_owned()).or_default() += rows;
            rest = rest.saturating_sub(rows);
        }
        if rest > 0 {
            status.drops.insert("earlier".to_owned(), rest);
        }
    });
}
