//! A job at work: one loop that reads on, commits, and delivers.
//!
//! ```text
//! log ─▶ feed ─▶ engine ─▶ results ─▶ save (state, place, results: one file) ─▶ deliver ─▶ store
//!                  ▲ history of late windows; answers of a statement
//! ```
//! The state, the place in the log and the results that follow from both are saved together before a result is shown to
//! anybody. A kill before that undoes all three, and they are made again; a kill after it undoes nothing, and what was
//! not delivered is. So clocks may differ from run to run: nothing depends on two runs giving the same.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tideline_protocol::model::{AgentId, DeviceId, PointId};
use tideline_store::{LogPlace, StoreError};
use tideline_streams::{Answered, Asked, Came, Engine, Event, Job, StateError};
use tokio::sync::watch;
use tokio::task::JoinError;

use super::RESULTS_PER_SECOND_MAX;
use super::delivery::{Delivery, Trouble};
use super::feed::Feed;
use super::history;
use super::results::{Results, Row};
use super::saved::{self, Outbox, Saved, Tally};
use super::statement::{self, Done};
use super::view::View;
use crate::api::shapes::LiveResult;
use crate::hub::{App, Hub};
use crate::live::Happening;
use crate::when;

/// How long a job waits for more to come after the first, so that many small batches cost one step.
const PACE: Duration = Duration::from_millis(50);
/// How often a job looks at the clock while nothing comes.
const TICK: Duration = Duration::from_millis(500);
/// How soon it is tried again after a trouble.
const RETRY: Duration = Duration::from_secs(1);
/// Least time between two commits with results.
const COMMIT_NS: u64 = 500_000_000;
/// The same where the job has read on and gave nothing: what a kill costs is to read that again.
const QUIET_COMMIT_NS: u64 = 10_000_000_000;
/// Of the time at most a twentieth goes into saving, and into what is shown: with a large state both are done less often.
const SHARE: u64 = 20;
/// Outputs that wait for a commit no longer.
const WAITING_MAX: usize = 100_000;
/// Time passes for the engine so often.
const TICK_NS: u64 = 1_000_000_000;

/// What a job computes with; it is in the hands of a blocking thread while it does.
#[derive(Debug)]
struct Core {
    engine: Engine,
    feed: Feed,
    results: Results,
    tally: Tally,
    // Whether there was more to read than could be at once: time does not pass meanwhile.
    behind: bool,
    ticked_ns: u64,
}

/// A job that can be run.
#[derive(Debug)]
pub struct Task {
    name: String,
    path: PathBuf,
    core: Option<Box<Core>>,
    delivery: Delivery,
    live: Vec<Row>,
    // Whether the statement of a window was run since.
    has_asked: bool,
    // What was last saved; and whether that is the newest, and delivered.
    place: LogPlace,
    is_saved: bool,
    is_delivered: bool,
    saved_ns: u64,
    save_took_ns: u64,
    rest_until_ns: u64,
    shown_ns: u64,
    show_took_ns: u64,
    held: Arc<AtomicU64>,
    view: Arc<Mutex<View>>,
}

impl Task {
    /// Goes on from what was saved. Blocks the thread.
    ///
    /// # Errors
    /// There is nothing, or it is damaged; the text says so.
    pub fn open(hub: &Hub, path: PathBuf, agent: AgentId, job: Job) -> Result<Self, String> {
        let saved = saved::load(&path)?;
        let saved = saved.ok_or_else(|| format!("its state {} is gone", path.display()))?;
        let (engine, is_same) = match Engine::restore(job.clone(), &saved.engine) {
            Ok(engine) => (engine, true),
            // Its windows would be other ones: it begins anew where it was.
            Err(StateError::OtherJob) => (Engine::new(job), false),
            Err(error) => return Err(format!("its state {} cannot be used: {error}", path.display())),
        };
        let (rows, side) = if is_same { (saved.rows, saved.side) } else { Default::default() };
        let results = Results::going_on(rows, side);
        let core = Core {
            engine,
            feed: Feed::new(saved.place, saved.seen),
            results,
            tally: saved.tally,
            behind: true,
            ticked_ns: 0,
        };
        Ok(Self::with(hub, path, core, Delivery::new(agent, saved.outbox)))
    }

    /// A job that has seen nothing and begins there in the log. It is to be saved before it is run.
    pub fn begin(hub: &Hub, path: PathBuf, agent: AgentId, job: Job, place: LogPlace) -> Self {
        let core = Core {
            engine: Engine::new(job),
            feed: Feed::new(place, Vec::new()),
            results: Results::default(),
            tally: Tally::default(),
            behind: false,
            ticked_ns: 0,
        };
        Self::with(hub, path, core, Delivery::new(agent, None))
    }

    fn with(hub: &Hub, path: PathBuf, core: Core, delivery: Delivery) -> Self {
        let place = core.feed.place();
        let view = View::of(hub, &core.engine, &core.feed, core.tally);
        let view = View { rows: rows_of(&core.results), side: side_of(&core.results), ..view };
        Self {
            name: core.engine.job().spec().name.clone(),
            path,
            core: Some(Box::new(core)),
            is_delivered: delivery.outbox.is_none(),
            delivery,
            live: Vec::new(),
            has_asked: false,
            place,
            is_saved: true,
            saved_ns: 0,
            save_took_ns: 0,
            rest_until_ns: 0,
            shown_ns: 0,
            show_took_ns: 0,
            held: Arc::new(AtomicU64::new(place.segment)),
            view: Arc::new(Mutex::new(view)),
        }
    }

    /// What is shown of it, and the segment of the log that it needs.
    pub fn shared(&self) -> (Arc<Mutex<View>>, Arc<AtomicU64>) {
        (Arc::clone(&self.view), Arc::clone(&self.held))
    }

    /// Saves it as it is. Blocks the thread.
    ///
    /// # Errors
    /// The disk failed.
    pub fn save_now(&mut self) -> io::Result<()> {
        let Some(core) = &self.core else { return Ok(()) };
        saved::save(&self.path, &core.saved(self.delivery.outbox.clone()).map_err(io::Error::other)?)
            .map(drop)
    }

    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Trouble> {
        let core = self.core.take();
        let mut core = core.ok_or_else(|| Trouble::Lasting("it was interrupted before".to_owned()))?;
        let work = move || {
            let done = work(&mut core);
            (core, done)
        };
        let (core, done) = tokio::task::spawn_blocking(work).await.map_err(interrupted)?;
        self.core = Some(core);
        Ok(done)
    }

    /// One turn; says whether there is more to do at once.
    async fn turn(
        &mut self,
        hub: &App,
        stopping: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, Trouble> {
        if !self.is_delivered {
            self.settle(hub).await?;
        }
        let app = Arc::clone(hub);
        let stepped = self.work(move |core| core.step(&app, stopping)).await?.map_err(Trouble::from)?;
        let now_ns = hub.clock.mono_ns();
        let outputs = stepped.outputs as u64;
        let cost_ns = outputs.saturating_mul(1_000_000_000 / RESULTS_PER_SECOND_MAX);
        self.rest_until_ns = self.rest_until_ns.max(now_ns).saturating_add(cost_ns);
        let moved = stepped.place != self.place || stepped.waiting > 0 || self.has_asked;
        if self.is_due(now_ns, moved, stepped.waiting) || (stopping && moved) {
            self.commit(hub).await?;
        }
        if stopping || now_ns.saturating_sub(self.shown_ns) >= self.show_took_ns.saturating_mul(SHARE) {
            let started_ns = hub.clock.mono_ns();
            self.show(hub).await?;
            self.shown_ns = hub.clock.mono_ns();
            self.show_took_ns = self.shown_ns.saturating_sub(started_ns);
        }
        let asks = !stopping && self.ask(hub, stop).await?;
        Ok(asks || !stepped.at_end)
    }

    /// Has the statement run for the oldest window that is due, unless the job is to stop first; says whether it did. A run
    /// that is cut off is asked for again.
    async fn ask(&mut self, hub: &App, stop: &mut watch::Receiver<bool>) -> Result<bool, Trouble> {
        let Some(core) = &self.core else { return Ok(false) };
        let Some(asked) = core.engine.asked(1).pop() else { return Ok(false) };
        let job = core.engine.job().clone();
        let done = tokio::select! {
            done = statement::run(hub, &job, self.delivery.agent(), &asked) => done?,
            _ = stop.changed() => {
                // It is looked at again where the job's loop begins.
                stop.mark_changed();
                return Ok(false);
            }
        };
        if matches!(done, Done::Later) {
            return Ok(false);
        }
        let now_ns = hub.clock.wall_ns();
        self.work(move |core| core.answer(now_ns, &asked, done)).await?;
        self.has_asked = true;
        Ok(true)
    }

    async fn show(&mut self, hub: &App) -> Result<(), Trouble> {
        let shown = Arc::clone(&self.view);
        let app = Arc::clone(hub);
        self.work(move |core| {
            let view = View::of(&app, &core.engine, &core.feed, core.tally);
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            let (rows, side) = (Arc::clone(&shown.rows), Arc::clone(&shown.side));
            let (saved_ms, saved_bytes, troubles) = (shown.saved_ms, shown.saved_bytes, shown.troubles);
            *shown = View { rows, side, saved_ms, saved_bytes, troubles, ..view };
        })
        .await
    }

    fn is_due(&self, now_ns: u64, moved: bool, waiting: usize) -> bool {
        let least = self.save_took_ns.saturating_mul(SHARE);
        let pause = if waiting > 0 { COMMIT_NS } else { QUIET_COMMIT_NS };
        let rested = now_ns.saturating_sub(self.saved_ns) >= pause.max(least);
        waiting >= WAITING_MAX || (moved && rested)
    }

    async fn commit(&mut self, hub: &App) -> Result<(), Trouble> {
        let readings = self.core.as_ref().map_or(0, |core| core.results.readings());
        let place = if readings > 0 { Some(self.delivery.place(hub).await?) } else { None };
        let Some(core) = &mut self.core else { return Ok(()) };
        let (chunks, live) = core.results.take();
        self.live = live;
        self.delivery.outbox = place.map(|(epoch, first)| Outbox { epoch, first, chunks });
        (self.is_saved, self.is_delivered) = (false, false);
        self.settle(hub).await
    }

    /// Brings the last commit to its end, wherever it was cut off.
    async fn settle(&mut self, hub: &App) -> Result<(), Trouble> {
        if !self.is_saved {
            self.save(hub).await?;
        }
        if !self.delivery.readdress(hub).await? {
            self.is_saved = false;
            self.save(hub).await?;
        }
        self.delivery.deliver(hub).await?;
        self.is_delivered = true;
        let rows = std::mem::take(&mut self.live);
        if !rows.is_empty() {
            let job = &self.name;
            hub.live
                .publish(Happening::Results(rows.into_iter().map(|row| LiveResult::of(job, row)).collect()));
        }
        Ok(())
    }

    async fn save(&mut self, hub: &App) -> Result<(), Trouble> {
        let (path, outbox) = (self.path.clone(), self.delivery.outbox.clone());
        let started_ns = hub.clock.mono_ns();
        let saved = self.work(move |core| {
            let saved = core.saved(outbox).map_err(|error| Trouble::Lasting(error.to_string()))?;
            let bytes = saved::save(&path, &saved);
            let bytes = bytes.map_err(|error| Trouble::Passing(format!("{}: {error}", path.display())))?;
            Ok::<_, Trouble>((saved.place, bytes, rows_of(&core.results), side_of(&core.results)))
        });
        let (place, bytes, rows, side) = saved.await??;
        self.saved_ns = hub.clock.mono_ns();
        self.save_took_ns = self.saved_ns.saturating_sub(started_ns);
        (self.place, self.is_saved, self.has_asked) = (place, true, false);
        self.held.store(place.segment, Ordering::Release);
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        (view.rows, view.side) = (rows, side);
        (view.saved_ms, view.saved_bytes) = (Some(hub.now_ms()), bytes);
        Ok(())
    }

    fn note(&self, trouble: String) {
        tracing::warn!(job = self.name, trouble, "a job cannot go on for now");
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.troubles = view.troubles.saturating_add(1);
        view.trouble = Some(trouble);
    }
}

fn rows_of(results: &Results) -> Arc<Vec<Row>> {
    Arc::new(results.rows.iter().cloned().collect())
}

fn side_of(results: &Results) -> Arc<Vec<super::results::SideRow>> {
    Arc::new(results.side.iter().cloned().collect())
}

fn interrupted(error: JoinError) -> Trouble {
    let Ok(panic) = error.try_into_panic() else { return Trouble::Closing };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text");
    Trouble::Lasting(format!("it panicked: {text}"))
}

/// What a step came to.
struct Stepped {
    at_end: bool,
    outputs: usize,
    waiting: usize,
    place: LogPlace,
}

impl Core {
    fn saved(&self, outbox: Option<Outbox>) -> Result<Saved, StateError> {
        Ok(Saved {
            place: self.feed.place(),
            engine: self.engine.save()?,
            seen: self.feed.seen(),
            outbox,
            rows: self.results.rows.iter().cloned().collect(),
            side: self.results.side.iter().cloned().collect(),
            tally: self.tally,
        })
    }

    /// Reads on, unless it is to stop. Blocks the thread.
    fn step(&mut self, hub: &Hub, stopping: bool) -> Result<Stepped, StoreError> {
        #[cfg(test)]
        assert_ne!(self.engine.job().spec().name, "panics", "told to");
        let mut outputs = 0;
        let mut at_end = true;
        if !stopping {
            let now_ns = hub.clock.wall_ns();
            let step = self.feed.step(&hub.store, &mut self.engine, now_ns)?;
            self.tally.missed = self.tally.missed.saturating_add(u64::from(step.missed));
            self.tally.undecodable = self.tally.undecodable.saturating_add(step.undecodable);
            outputs += self.take(step.outputs);
            at_end = step.at_end;
            self.behind |= !at_end;
            if at_end {
                outputs += self.pass_time(hub);
                let mut refilled = history::Refilled::default();
                let read = history::refill(hub, &mut self.engine, now_ns, &mut refilled);
                self.tally.refused = self.tally.refused.saturating_add(refilled.refused);
                outputs += self.take(refilled.outputs);
                read?;
                at_end = !refilled.more;
            }
        }
        self.tally.refused = self.tally.refused.saturating_add(std::mem::take(&mut self.results.unnamed));
        let (waiting, place) = (self.results.waiting(), self.feed.place());
        Ok(Stepped { at_end, outputs, waiting, place })
    }

    /// Time passes only for who has read all that came: a device whose readings wait is not silent.
    fn pass_time(&mut self, hub: &Hub) -> usize {
        let (now_ns, mono_ns) = (hub.clock.wall_ns(), hub.clock.mono_ns());
        if std::mem::take(&mut self.behind) {
            let outputs = self.engine.handle(now_ns, Event::Resumed);
            return self.take(outputs);
        }
        if mono_ns.saturating_sub(self.ticked_ns) < TICK_NS {
            return 0;
        }
        self.ticked_ns = mono_ns;
        let outputs = self.engine.handle(now_ns, Event::Tick);
        self.take(outputs)
    }

    /// Takes in what came of a statement.
    fn answer(&mut self, now_ns: i64, asked: &Asked, done: Done) {
        let Asked { start_ns, again, .. } = *asked;
        let given = if again { self.results.given_at(start_ns) } else { Vec::new() };
        let mut gone: BTreeSet<(DeviceId, PointId)> = given.into_iter().collect();
        let came = match &done {
            Done::Rows(rows, stored) => {
                gone.extend(stored.iter().cloned());
                let job = self.engine.job();
                let derived = rows.iter().filter_map(|row| job.derive_row(start_ns, row).ok()).flatten();
                let has: BTreeSet<_> = derived.map(|one| (one.device, one.point)).collect();
                gone.retain(|series| !has.contains(series));
                Came::Rows(rows)
            }
            Done::Later => return,
            Done::Failed(reason) => Came::Failed(reason),
            Done::Lost(reason) => Came::Lost(reason),
        };
        if let Done::Failed(reason) | Done::Lost(reason) = &done {
            let (job, at) = (&self.engine.job().spec().name, when::show_ns(start_ns));
            tracing::warn!(job, window = at, reason, "the statement of a window failed");
        }
        let outputs = self.engine.handle(now_ns, Event::Answered(Answered { asked, came }));
        // None come of a window that nobody waits for.
        if self.take(outputs) > 0 && again {
            gone.into_iter().for_each(|series| self.results.take_back(series, start_ns));
        }
    }

    fn take(&mut self, outputs: Vec<tideline_streams::Output>) -> usize {
        let count = outputs.len();
        self.results.add(self.engine.job(), outputs);
        count
    }
}

/// Runs a job until it is told to stop; all that it took in is saved then.
///
/// # Errors
/// It cannot go on; the text says why.
pub async fn run(hub: App, mut task: Task, mut stop: watch::Receiver<bool>) -> Result<(), String> {
    let mut end = hub.store.log_end();
    loop {
        end.mark_unchanged();
        let stopping = *stop.borrow_and_update();
        let pause = match task.turn(&hub, stopping, &mut stop).await {
            Err(Trouble::Closing) => return Ok(()),
            Err(Trouble::Lasting(reason)) => return Err(reason),
            Ok(_) if stopping => return Ok(()),
            Err(Trouble::Passing(text)) if stopping => {
                task.note(text);
                return Ok(());
            }
            Err(Trouble::Passing(text)) => {
                task.note(text);
                RETRY
            }
            Ok(more) => {
                // A burst of a second is free.
                let over_ns =
                    task.rest_until_ns.saturating_sub(hub.clock.mono_ns()).saturating_sub(1_000_000_000);
                let rest = Duration::from_nanos(over_ns);
                if !more && rest.is_zero() {
                    tokio::select! {
                        _ = stop.changed() => continue,
                        _ = end.changed() => PACE,
                        () = tokio::time::sleep(TICK) => Duration::ZERO,
                    }
                } else {
                    rest
                }
            }
        };
        if !pause.is_zero() {
            tokio::select! {
                _ = stop.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
