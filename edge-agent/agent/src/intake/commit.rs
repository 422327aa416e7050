//! A batch, and how it becomes durable: all of it, with the state of the pipelines that made it.

use std::sync::Arc;

use tideline_spool::SpoolError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::RETRY;
use crate::flow::Flow;
use crate::spooler::{Appended, Portion, SpoolHandle};
use crate::status::Board;

/// Texts and the like with which a batch is complete, however few readings it has, in bytes: a run has room for them.
const BOXED_BYTES: usize = 1024 * 1024;
/// What is too much for a quota in one batch is tried in smaller ones, of no fewer readings than these.
const ROWS_MIN: u64 = 1_000;

/// What is made durable together.
#[derive(Debug, Default)]
pub struct Batch {
    portions: Vec<Arc<Portion>>,
    /// Readings that sources handed on, by source.
    pub handed: Vec<(String, u64)>,
    /// Who waits to be told.
    pub told: Vec<oneshot::Sender<()>>,
    count: u64,
    boxed: usize,
    rows_max: u64,
    /// When it is complete by time.
    pub due: Option<Instant>,
}

impl Batch {
    /// Adds portions, that wait no longer than until `due`; the first ones say how many readings it may have.
    pub fn gather(&mut self, portions: Vec<Portion>, rows_max: u64, due: Instant) {
        if self.portions.is_empty() {
            self.rows_max = rows_max;
        }
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
        for portion in portions {
            self.count += portion.count();
            self.boxed += portion.boxes.bytes();
            self.portions.push(Arc::new(portion));
        }
    }

    /// Whether it waits for nothing else. Who waits to be told does not.
    pub fn is_complete(&self) -> bool {
        let is_full = self.count >= self.rows_max || self.boxed >= BOXED_BYTES || !self.told.is_empty();
        self.due.is_some_and(|due| is_full || Instant::now() >= due)
    }
}

/// Makes a batch durable with the state of the pipelines after it, and tells who waits for that.
pub async fn commit(
    stream: &Arc<str>,
    spool: &SpoolHandle,
    board: &Board,
    batch: &mut Batch,
    mut flow: Option<&mut Flow>,
) {
    let Batch { mut portions, handed, told, rows_max, .. } = std::mem::take(batch);
    let positions = flow.as_mut().map(|flow| flow.state()).unwrap_or_default();
    let has_state = !positions.is_empty();
    if has_state {
        portions.push(Arc::new(Portion { positions, ..Portion::default() }));
    }
    if !portions.is_empty() {
        let is_whole = flow.as_ref().is_some_and(|flow| flow.is_active()) || has_state;
        let appending = Appending { stream, spool, board, rows_max: rows_max.max(1) };
        let rejected =
            if is_whole { appending.whole(portions).await } else { appending.parts(portions).await };
        for (source, readings) in handed {
            let lost: u64 = rejected.iter().filter(|(of, _)| *of == source).map(|(_, count)| count).sum();
            board.accepted(&source, readings.saturating_sub(lost));
        }
    }
    if let (Some(flow), true) = (flow, has_state) {
        flow.saved();
    }
    for waiting in told {
        // Who asked may have gone.
        let _ = waiting.send(());
    }
}

/// Readings that were rejected, by source.
type Rejected = Vec<(String, u64)>;

/// Where portions go.
struct Appending<'a> {
    stream: &'a Arc<str>,
    spool: &'a SpoolHandle,
    board: &'a Board,
    rows_max: u64,
}

impl Appending<'_> {
    /// Tries until all is durable or rejected: the sources wait meanwhile, and nothing accepted is lost.
    async fn parts(&self, portions: Vec<Arc<Portion>>) -> Rejected {
        let (mut todo, mut rejected) = (vec![portions], Rejected::new());
        while let Some(mut portions) = todo.pop() {
            match self.append(&portions, self.rows_max).await {
                Ok(appended) => rejected.extend(self.without_room(&portions, &appended)),
                // More than the quota takes at once: one after the other, as long as they are several.
                Err(_) if portions.len() > 1 => {
                    let later = portions.split_off(portions.len() / 2);
                    todo.extend([later, portions]);
                }
                Err(error) => {
                    rejected.extend(self.reject(&mut portions, &error));
                    todo.push(portions);
                }
            }
        }
        rejected
    }

    /// As [`Self::parts`], and nothing is durable before all is: positions and the state of pipelines are of one moment.
    /// What is more than a quota takes is tried in smaller batches, and what is beyond it even so is rejected.
    async fn whole(&self, mut portions: Vec<Arc<Portion>>) -> Rejected {
        let (mut rows_max, mut rejected) = (self.rows_max, Rejected::new());
        loop {
            match self.append(&portions, rows_max).await {
                Ok(appended) => {
                    rejected.extend(self.without_room(&portions, &appended));
                    return rejected;
                }
                Err(_) if rows_max > ROWS_MIN => rows_max = (rows_max / 4).max(ROWS_MIN),
                Err(error) => {
                    portions.sort_by_key(|portion| portion.count());
                    let mut largest = portions.pop().into_iter().collect();
                    rejected.extend(self.reject(&mut largest, &error));
                    portions.extend(largest);
                }
            }
        }
    }

    /// Appends; waits for room and for the storage, so that what fails is beyond a quota.
    async fn append(&self, portions: &[Arc<Portion>], rows_max: u64) -> Result<Appended, SpoolError> {
        let mut told = false;
        loop {
            match self.spool.append_to(Arc::clone(self.stream), portions.to_vec(), rows_max).await {
                Ok(appended) => return Ok(appended),
                Err(error @ SpoolError::OverQuota { .. }) => return Err(error),
                Err(error @ SpoolError::Full { .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "sources wait for room in the spool");
                    }
                    for portion in portions {
                        self.board.waits(&portion.source, &error.to_string());
                    }
                }
                Err(error) => tracing::error!(%error, "commit failed; trying again"),
            }
            sleep(RETRY).await;
        }
    }

    /// Leaves out the readings of portions. Their sources are beyond them all the same.
    fn reject(&self, portions: &mut Vec<Arc<Portion>>, error: &SpoolError) -> Rejected {
        let mut rejected = Rejected::new();
        for portion in portions {
            self.board.rejected(&portion.source, portion.count(), &error.to_string());
            rejected.push((portion.source.clone(), portion.count()));
            let (source, positions) = (portion.source.clone(), portion.positions.clone());
            *portion = Arc::new(Portion { source, positions, ..Portion::default() });
        }
        rejected
    }

    /// Tells the readings that the full dictionary had no room for.
    fn without_room(&self, portions: &[Arc<Portion>], appended: &Appended) -> Rejected {
        let mut all = Rejected::new();
        for portion in portions {
            let no_room = portion.rows.iter().filter(|(def, _)| appended.rejected.contains(def));
            let rejected: u64 = no_room.clone().map(|(_, samples)| samples.len() as u64).sum();
            if let Some((def, _)) = no_room.clone().next() {
                let error = SpoolError::TooManySeries { def: Box::new(def.clone()) };
                self.board.rejected(&portion.source, rejected, &error.to_string());
                all.push((portion.source.clone(), rejected));
            }
        }
        all
    }
}
