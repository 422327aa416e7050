//! The thread's loop: one request after the other, and what follows from each.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use tideline_protocol::wire::RUN_ROWS_MAX;
use tideline_spool::{Spool, SpoolConfig, SpoolError, sound};
use tokio::sync::{mpsc, oneshot, watch};

use super::appends::{Append, Appended, again, without_room, write};
use super::doubts::Doubts;
use super::{Answer, Loaded, Occasion, Request, Sending, SpoolState, private, state_of};
use crate::status::{Board, StreamStatus};

/// Readings beyond which no further append joins those that are made durable together: their
/// blocks are in memory beside each other.
const GROUP_ROWS_MAX: u64 = RUN_ROWS_MAX;
/// Readings of one run: decoded, to be packed anew by series, they take some ten bytes each.
const LOAD_ROWS_MAX: u64 = RUN_ROWS_MAX / 8;

pub fn open(path: &Path, config: SpoolConfig, occasion: Occasion) -> Result<Spool, SpoolError> {
    if occasion == Occasion::Damaged && path.exists() {
        let (spool, report) = Spool::repair(path, config)?;
        tracing::warn!(?report, "the spool was damaged and is repaired");
        private::keep(path)?;
        return Ok(spool);
    }
    private::prepare(path)?;
    let (spool, report) = if occasion == Occasion::Unsynced {
        Spool::open_file_unsynced(path, config)?
    } else {
        Spool::open_file(path, config)?
    };
    // What was put aside has made way for files that are as open as any.
    private::keep(path)?;
    if report.created {
        tracing::info!(epoch = %spool.epoch(), quarantined = ?report.quarantined, "a new spool epoch begins");
    }
    Ok(spool)
}

pub struct Worker {
    // None after a failed write, until it could be opened again.
    pub spool: Option<Spool>,
    // Why it would have to be opened.
    pub occasion: Occasion,
    pub open: Box<dyn FnMut(Occasion) -> Result<Spool, SpoolError> + Send>,
    pub board: Board,
    pub publish: watch::Sender<SpoolState>,
    // Appends that failed and may be in the spool all the same.
    pub doubts: Doubts,
}

impl Worker {
    pub fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
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
            status.spool.flash_day_bytes = stats.flash_day_bytes;
            status.spool.flash_bytes_per_day = stats.flash_bytes_per_day;
            status.spool.flash_pace = stats.pace.as_str().to_owned();
            status.spool.disk_full = stats.disk_full;
            status.drops = drops_by_cause(spool);
            status.uncounted_batches = spool.uncounted();
            status.streams = spool.stream_stats().iter().map(StreamStatus::of).collect();
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
                let run = spool.load_seqs(&seqs, bytes_max, LOAD_ROWS_MAX)?;
                Ok(run.map_or_else(|| Loaded::Gone(spool.gone(&seqs)), Loaded::Run))
            }),
            Request::Send(Sending { seqs, bytes_max, is_first }, answer) => self.answer(answer, |spool| {
                if is_first {
                    spool.forget_sent();
                }
                let run = spool.load_to_send(&seqs, bytes_max, LOAD_ROWS_MAX)?;
                Ok(run.map_or_else(|| Loaded::Gone(spool.gone(&seqs)), Loaded::Run))
            }),
            Request::BeginLife(id, answer) => self.answer(answer, |spool| spool.begin_life(id)),
            Request::Branch(at, answer) => self.answer(answer, |spool| spool.branch(at)),
            Request::Series(from, max, answer) => {
                self.answer(answer, |spool| Ok(spool.series_defs(from, max)))
            }
            Request::Settle(settlement, answer) => self.answer(answer, |spool| spool.settle(&settlement)),
            Request::Know(answer) => self.answer(answer, Spool::flush),
            Request::Held(answer) => {
                self.answer(answer, |spool| Ok((spool.held().clone(), spool.pending().clone())))
            }
            Request::Urgent(answer) => self.answer(answer, |spool| Ok(spool.urgent())),
            Request::GrowOlder(seconds, answer) => self.answer(answer, |spool| spool.grow_older(seconds)),
            Request::LearnTime(mono_ns, offset_ns, answer) => {
                self.answer(answer, |spool| spool.learn_time(mono_ns, offset_ns))
            }
            Request::Gaps(answer) => self.answer(answer, Spool::fresh_gaps),
            Request::Cursor(name, answer) => self.answer(answer, |spool| spool.cursor(&name)),
            Request::Close(answer) => return ControlFlow::Break(answer),
        }
        ControlFlow::Continue(())
    }

    pub fn answer<T>(&mut self, answer: Answer<T>, work: impl FnOnce(&mut Spool) -> Result<T, SpoolError>) {
        let result = sound(|| self.opened().and_then(work));
        self.take_note(result.as_ref().err());
        // The asker may have gone; what was asked is done all the same.
        let _ = answer.send(result);
    }

    /// Answers several appends with one sync; when one of them is at fault, each by itself.
    pub fn append(&mut self, group: Vec<Append>) {
        let opened = sound(|| self.opened().map(|spool| (spool.epoch(), spool.accepted())));
        let mut group = self.answer_landed(group);
        let written = match &opened {
            Ok(_) => sound(|| self.opened().and_then(|spool| write(spool, &group))),
            Err(error) => Err(again(error)),
        };
        match written {
            Ok(rejected) => {
                self.take_note(None);
                let head = self.publish.borrow().head;
                for (append, rejected) in group.into_iter().zip(rejected) {
                    let _ = append.answer.send(Ok(Appended { head, rejected }));
                }
            }
            Err(error) if group.len() > 1 && !is_of_storage(&error) => {
                group.drain(..).for_each(|append| self.append(vec![append]));
            }
            Err(error) => {
                if let (Ok((epoch, accepted)), true) = (opened, is_of_storage(&error)) {
                    self.doubts.failed(epoch, accepted, &group);
                }
                self.take_note(Some(&error));
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

    /// What follows from each request, before the answer: who has it sees what it did.
    fn take_note(&mut self, error: Option<&SpoolError>) {
        // What does not fit is for the asker to deal with, and to tell.
        let of_asker =
            |error: &&SpoolError| matches!(error, SpoolError::OverQuota { .. } | SpoolError::Full { .. });
        if let Some(error) = error.filter(|error| !of_asker(error)) {
            tracing::error!(%error, "spool request failed");
            self.board.update(|status| status.last_error = Some(error.to_string()));
            match error {
                SpoolError::Storage(_) | SpoolError::Poisoned => self.close(Occasion::Plain),
                SpoolError::Unsynced(_) => {
                    self.close(Occasion::Unsynced);
                    // It may have been the opening itself that failed to sync.
                    self.occasion = Occasion::Unsynced;
                }
                SpoolError::Corrupt(_) => self.close(Occasion::Damaged),
                _ => {}
            }
        }
        self.publish();
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
            self.occasion = Occasion::Plain;
            self.doubts.resolve(&spool);
            self.spool = Some(spool);
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
    error.is_of_storage() || matches!(error, SpoolError::Corrupt(_))
}

/// Rows given up in this epoch by cause; as `earlier` those of which only the hub knows why.
fn drops_by_cause(spool: &Spool) -> BTreeMap<String, u64> {
    let known = spool.drops().filter(|(_, rows)| *rows > 0);
    let mut drops: BTreeMap<String, u64> =
        known.map(|(cause, rows)| (cause.as_str().to_owned(), rows)).collect();
    let rest = spool.account().dropped.saturating_sub(drops.values().sum());
    if rest > 0 {
        drops.insert("earlier".to_owned(), rest);
    }
    drops
}
