//! Which schedules begin a run, and when. A core: no clock, no disk, no tasks.
//!
//! A driver calls `handle_*` and carries out the steps that it is given in their order; a `Commit` is durable before the next step
//! is carried out.
//!
//! 1. Up to which of its times a schedule has been dealt with is durable, as its *mark*, before what is due begins. So a kill
//!    neither has a time run twice nor forgets that it began: it is [`RunState::Interrupted`] then, and not begun again.
//! 2. A schedule runs once at a time. What comes due meanwhile is looked at when it has ended.
//! 3. Without a time that can be trusted nothing is due, and nothing is missed.
//! 4. A clock that was ahead and is set back by no more than [`BACK_MS`] repeats nothing. By more than that its marks are of times
//!    that never were, and are set back too, but for what has one time of its own: once it was dealt with, it stays so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tideline_protocol::timing::Timing;

/// By how much a clock is set back where that is a correction.
pub const BACK_MS: i64 = 60 * 60 * 1000;
/// Most times that were missed and are made up for; older ones are given up.
pub const MISSED_MAX: usize = 32;
/// Most runs at a time; what is due beyond them begins when one has ended.
pub const RUNNING_MAX: usize = 4;
/// Most runs that are known of, beside the last one of each schedule.
pub const RUNS_MAX: usize = 500;
/// How long a run is known of that is not the last one.
pub const RUNS_KEEP_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Most marks, those of schedules that are there no more among them: they may come again.
pub const MARKS_MAX: usize = 512;

/// What becomes of times at which the agent did not run, was busy, or did not know the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// One run for all of them.
    RunOnce,
    /// A run for each, up to [`MISSED_MAX`].
    RunAll,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// What it does: a kind of command.
    pub kind: String,
    /// When.
    pub timing: Timing,
    /// What becomes of times that were missed.
    pub missed: Missed,
    /// How long after its time something may begin and was not missed, ms.
    pub within_ms: i64,
}

/// How a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It was begun.
    Running,
    /// It is done.
    Succeeded,
    /// It is not, or is not known to be.
    Failed,
    /// The agent ended while it ran.
    Interrupted,
}

impl RunState {
    /// The stable name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A run of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Of which.
    pub schedule: String,
    /// What is done: a kind of command. Older journals do not say.
    #[serde(default)]
    pub kind: String,
    /// For which of its times, Unix ms.
    pub due_ms: i64,
    /// When it was begun, Unix ms.
    pub began_ms: i64,
    /// When it ended, Unix ms.
    pub ended_ms: Option<i64>,
    /// How it is.
    pub state: RunState,
    /// Why it failed.
    pub error: Option<String>,
    /// What came of it, or the end of what it put out.
    pub result: Option<String>,
}

/// A change of what is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Up to which time the schedule has been dealt with.
    Mark(String, i64),
    /// The schedule's mark is of no use any more.
    Unmark(String),
    /// The run of that number.
    Run(u64, Run),
    /// The run of that number is forgotten.
    Forget(u64),
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make these changes durable together.
    Commit(Vec<Change>),
    /// Begin the run of that number, and call [`Schedules::handle_ended`] once.
    Begin(u64, Run),
}

/// The schedules of an agent.
#[derive(Debug, Default)]
pub struct Schedules {
    all: BTreeMap<String, Schedule>,
    marks: BTreeMap<String, i64>,
    runs: BTreeMap<u64, Run>,
    running: BTreeMap<String, u64>,
    // The last run of each.
    last: BTreeMap<String, u64>,
    // When each is due after its mark, found once.
    next: BTreeMap<String, (i64, Option<i64>)>,
    last_number: u64,
    // What is durable may once have been more.
    may_have_run: bool,
}

impl Schedules {
    /// Those of a start of the agent, with what is durable; what was begun then has been interrupted, unless `is_done` says of its
    /// number that the start was what it wanted.
    #[must_use]
    pub fn open(
        marks: BTreeMap<String, i64>,
        mut runs: BTreeMap<u64, Run>,
        is_done: impl Fn(&Run) -> bool,
    ) -> (Self, Vec<Step>) {
        let mut changes = Vec::new();
        for (number, run) in runs.iter_mut().filter(|(_, run)| run.state == RunState::Running) {
            run.state = if is_done(run) { RunState::Succeeded } else { RunState::Interrupted };
            changes.push(Change::Run(*number, run.clone()));
        }
        let last_number = runs.last_key_value().map_or(0, |(number, _)| *number);
        let last = runs.iter().map(|(number, run)| (run.schedule.clone(), *number)).collect();
        let steps = if changes.is_empty() { Vec::new() } else { vec![Step::Commit(changes)] };
        (Self { marks, runs, last, last_number, ..Self::default() }, steps)
    }

    /// What was durable is lost in part: what has one time of its own, and is not known, may have run.
    pub const fn handle_lost(&mut self) {
        self.may_have_run = true;
    }

    /// These are the schedules from now on. What runs goes on.
    pub fn configure(&mut self, all: impl IntoIterator<Item = Schedule>) {
        self.all = all.into_iter().map(|schedule| (schedule.name.clone(), schedule)).collect();
        self.next.clear();
    }

    /// The runs that are known of, the newest first.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().rev()
    }

    /// Each schedule with when it is due next, as far as the time is known, and its last run.
    pub fn list(&self, now_ms: Option<i64>) -> impl Iterator<Item = (&Schedule, Option<i64>, Option<&Run>)> {
        self.all.values().map(move |schedule| {
            let next = now_ms.and_then(|now_ms| {
                let mark_ms = self.marks.get(&schedule.name).copied().unwrap_or(now_ms);
                match self.next.get(&schedule.name) {
                    // The times of a calendar are not looked for at each look at many schedules.
                    Some((of_ms, next)) if *of_ms == mark_ms && next.is_none_or(|next| next > now_ms) => {
                        *next
                    }
                    _ => schedule.timing.next(mark_ms.max(now_ms)),
                }
            });
            let last = self.last.get(&schedule.name).and_then(|number| self.runs.get(number));
            (schedule, next, last)
        })
    }

    /// Time has passed; `now_ms` is the time where it can be trusted.
    pub fn handle_time(&mut self, now_ms: Option<i64>) -> Vec<Step> {
        let Some(now_ms) = now_ms else { return Vec::new() };
        let mut steps = Vec::new();
        let names: Vec<String> = self.all.keys().cloned().collect();
        for name in names {
            if self.running.len() >= RUNNING_MAX {
                break;
            }
            if !self.running.contains_key(&name) {
                self.look(&name, now_ms, &mut steps);
            }
        }
        let forgotten = self.forget(now_ms);
        if !forgotten.is_empty() {
            steps.push(Step::Commit(forgotten));
        }
        steps
    }

    fn look(&mut self, name: &str, now_ms: i64, steps: &mut Vec<Step>) {
        let Some(schedule) = self.all.get(name) else { return };
        let mark_ms = match self.marks.get(name).copied() {
            Some(mark_ms) if mark_ms <= now_ms.saturating_add(BACK_MS) => mark_ms,
            // What is done once is done, whatever the clock was.
            Some(mark_ms) if matches!(schedule.timing, Timing::At(at_ms) if at_ms <= mark_ms) => mark_ms,
            // One that is new was never missed, but for what has a time of its own.
            known => {
                let begin_ms = match (known, &schedule.timing) {
                    (None, Timing::At(at_ms)) if !self.may_have_run => now_ms.min(at_ms.saturating_sub(1)),
                    _ => now_ms,
                };
                self.marks.insert(name.to_owned(), begin_ms);
                steps.push(Step::Commit(vec![Change::Mark(name.to_owned(), begin_ms)]));
                begin_ms
            }
        };
        if self.next.get(name).is_none_or(|(of_ms, _)| *of_ms != mark_ms) {
            self.next.insert(name.to_owned(), (mark_ms, schedule.timing.next(mark_ms)));
        }
        if self.next.get(name).and_then(|(_, next_ms)| *next_ms).is_none_or(|next_ms| next_ms > now_ms) {
            return;
        }
        let Some(last_ms) = schedule.timing.last(now_ms).filter(|last_ms| *last_ms > mark_ms) else { return };
        let is_late = now_ms.saturating_sub(last_ms) >= schedule.within_ms;
        match schedule.missed {
            Missed::Skip if is_late => {
                self.marks.insert(name.to_owned(), last_ms);
                steps.push(Step::Commit(vec![Change::Mark(name.to_owned(), last_ms)]));
            }
            Missed::Skip | Missed::RunOnce => self.begin(name, last_ms, now_ms, steps),
            Missed::RunAll => {
                let before = |due_ms: &i64| {
                    schedule.timing.last(due_ms.saturating_sub(1)).filter(|before_ms| *before_ms > mark_ms)
                };
                let first = std::iter::successors(Some(last_ms), before).take(MISSED_MAX).last();
                self.begin(name, first.unwrap_or(last_ms), now_ms, steps);
            }
        }
    }

    fn begin(&mut self, name: &str, due_ms: i64, now_ms: i64, steps: &mut Vec<Step>) {
        self.last_number += 1;
        let (number, schedule) = (self.last_number, name.to_owned());
        let kind = self.all.get(name).map(|schedule| schedule.kind.clone()).unwrap_or_default();
        let (ended_ms, state, error, result) = (None, RunState::Running, None, None);
        let run = Run { schedule, kind, due_ms, began_ms: now_ms, ended_ms, state, error, result };
        self.marks.insert(name.to_owned(), due_ms);
        self.running.insert(name.to_owned(), number);
        self.last.insert(name.to_owned(), number);
        self.runs.insert(number, run.clone());
        let mark = Change::Mark(name.to_owned(), due_ms);
        steps.push(Step::Commit(vec![mark, Change::Run(number, run.clone())]));
        steps.push(Step::Begin(number, run));
    }

    /// A run has ended; the time is by the clock by which it began.
    pub fn handle_ended(
        &mut self,
        ended_ms: i64,
        number: u64,
        ended: Result<Option<String>, String>,
    ) -> Vec<Step> {
        let Some(run) = self.runs.get_mut(&number) else { return Vec::new() };
        run.ended_ms = Some(ended_ms);
        (run.state, run.error, run.result) = match ended {
            Ok(result) => (RunState::Succeeded, None, result),
            Err(error) => (RunState::Failed, Some(error), None),
        };
        self.running.remove(&run.schedule);
        vec![Step::Commit(vec![Change::Run(number, run.clone())])]
    }

    /// Forgets runs that are too old or too many, and marks of schedules that went long ago. The last run of a schedule stays with
    /// its mark: others that run often would take it away.
    fn forget(&mut self, now_ms: i64) -> Vec<Change> {
        let is_last = |number: &u64, run: &Run| {
            self.last.get(&run.schedule) == Some(number) && self.marks.contains_key(&run.schedule)
        };
        let old: Vec<u64> = self
            .runs
            .iter()
            .filter(|(number, run)| run.state != RunState::Running && !is_last(number, run))
            .enumerate()
            .take_while(|(at, (_, run))| {
                self.runs.len() - at > RUNS_MAX || run.began_ms.saturating_add(RUNS_KEEP_MS) <= now_ms
            })
            .map(|(_, (number, _))| *number)
            .collect();
        let mut changes: Vec<_> = old.iter().map(|number| Change::Forget(*number)).collect();
        old.iter().for_each(|number| drop(self.runs.remove(number)));
        while self.marks.len() > MARKS_MAX {
            let gone = self.marks.iter().filter(|(name, _)| !self.all.contains_key(*name));
            let Some(name) = gone.min_by_key(|(_, mark_ms)| **mark_ms).map(|(name, _)| name.clone()) else {
                break;
            };
            self.marks.remove(&name);
            self.last.remove(&name);
            changes.push(Change::Unmark(name));
        }
        changes
    }
}

#[cfg(test)]
mod tests;
