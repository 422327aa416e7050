//! The spool's own thread: fsync must never block the runtime.
//!
//! Requests come over a bounded channel and are answered one after the other; before each answer
//! the state is published. When the storage fails, the spool is opened again before the next request;
//! when it was found damaged, it is repaired first.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tideline_protocol::model::{Account, Epoch, Gap, Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::session::SpoolView;
use tideline_protocol::wire::{RUN_ROWS_MAX, Settlement};
use tideline_spool::{LoadedRun, Spool, SpoolConfig, SpoolError, sound};
use tokio::sync::{mpsc, oneshot, watch};

use crate::status::Board;

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
    Gone(Seq),
}

type Answer<T> = oneshot::Sender<Result<T, SpoolError>>;

enum Request {
    Append(Vec<SeriesRows>, Vec<Position>, Answer<Seq>),
    View(Answer<SpoolView>),
    Load(Seq, Seq, usize, Answer<Loaded>),
    Series(SeriesNo, usize, Answer<Vec<SeriesDef>>),
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
        let spool = open(Occasion::Plain)?;
        let (requests, inbox) = mpsc::channel(QUEUE_MAX);
        let (publish, state) = watch::channel(state_of(&spool));
        let worker =
            Worker { spool: Some(spool), occasion: Occasion::Plain, open: Box::new(open), board, publish };
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

    /// Makes readings and positions durable.
    ///
    /// # Errors
    /// None of them is durable.
    pub async fn append(&self, rows: Vec<SeriesRows>, positions: Vec<Position>) -> Result<Seq, SpoolError> {
        self.ask(|answer| Request::Append(rows, positions, answer)).await
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
    pub async fn load(&self, first: Seq, last: Seq, bytes_max: usize) -> Result<Loaded, SpoolError> {
        self.ask(|answer| Request::Load(first, last, bytes_max, answer)).await
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
        return Ok(spool);
    }
    let (spool, report) = Spool::open_file(path, config)?;
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
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        self.publish();
        let mut closing = None;
        while let Some(request) = inbox.blocking_recv() {
            if let ControlFlow::Break(answer) = self.carry_out(request) {
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
            Request::Append(rows, positions, answer) => {
                self.answer(answer, |spool| append(spool, &rows, &positions))
            }
            Request::View(answer) => self.answer(answer, Spool::view),
            Request::Load(first, last, bytes_max, answer) => self.answer(answer, |spool| {
                let run = spool.load_run(first, last, bytes_max, RUN_ROWS_MAX)?;
                Ok(run.map_or_else(|| Loaded::Gone(spool.gone_through(first, last)), Loaded::Run))
            }),
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
        if let Err(error) = &result {
            tracing::error!(%error, "spool request failed");
            self.board.update(|status| status.last_error = Some(error.to_string()));
            match error {
                SpoolError::Storage(_) | SpoolError::Poisoned => self.close(Occasion::Plain),
                SpoolError::Corrupt(_) => self.close(Occasion::Damaged),
                _ => {}
            }
        }
        // Before the answer: who has it sees what it did.
        self.publish();
        // The asker may have gone; what was asked is done all the same.
        let _ = answer.send(result);
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
            self.spool = Some((self.open)(self.occasion)?);
            tracing::info!("spool opened again");
        }
        self.spool.as_mut().ok_or(SpoolError::Poisoned)
    }
}

fn append(spool: &mut Spool, rows: &[SeriesRows], positions: &[Position]) -> Result<Seq, SpoolError> {
    let mut items = Vec::with_capacity(rows.len());
    for (def, samples) in rows {
        items.push((spool.series_no(def)?, samples.as_slice()));
    }
    let positions: Vec<(&str, &[u8])> =
        positions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    spool.append(&items, &positions)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tideline_spool::testing::CrashBackend;

    use super::*;

    #[test]
    fn what_contradicts_itself_is_repaired_and_a_panic_is_no_end() {
        let occasions = Arc::new(Mutex::new(Vec::new()));
        let (disk, seen) = (CrashBackend::new(), Arc::clone(&occasions));
        let open = move |occasion| {
            seen.lock().unwrap().push(occasion);
            Spool::open(disk.crash(), SpoolConfig::default(), [1; 16])
        };
        let spool = open(Occasion::Plain).unwrap();
        let (publish, _state) = watch::channel(state_of(&spool));
        let mut worker = Worker {
            spool: Some(spool),
            occasion: Occasion::Plain,
            open: Box::new(open),
            board: Board::default(),
            publish,
        };
        let mut ask = |work: fn(&mut Spool) -> Result<u8, SpoolError>| {
            let (answer, mut wait) = oneshot::channel();
            worker.answer(answer, work);
            wait.try_recv().unwrap()
        };
        assert!(matches!(ask(|_| Err(SpoolError::Corrupt("a page".into()))), Err(SpoolError::Corrupt(_))));
        assert_eq!(ask(|_| Ok(1)).unwrap(), 1);
        assert!(matches!(ask(|_| panic!("as redb does on some damaged pages")), Err(SpoolError::Corrupt(_))));
        assert_eq!(ask(|_| Ok(2)).unwrap(), 2);
        assert!(ask(|_| Err(SpoolError::Storage("the disk".into()))).is_err());
        assert_eq!(ask(|_| Ok(3)).unwrap(), 3);
        let expected = [Occasion::Plain, Occasion::Damaged, Occasion::Damaged, Occasion::Plain];
        assert_eq!(*occasions.lock().unwrap(), expected);
    }
}
