//! Carries out what the core of schedules asks for: its clock, its place in the journal of commands, and what runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tideline_protocol::commands::{Ended, Repeat};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock as _;
use tideline_protocol::wire::{Command, CommandId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};

use super::core::{Run, RunState, Schedule, Schedules, Step};
use super::shared::Plan;
use crate::clock::AgentClock;
use crate::commands::journal::{Journal, Scheduled};
use crate::commands::kinds::{self, Hands};
use crate::commands::{CommandShown, News};
use crate::config::{self, Jobs};

/// Pieces of output that wait.
const NEWS_MAX: usize = 16;
/// How much is kept of the end of what a run puts out, and of what comes of it, in bytes.
const RESULT_BYTES_MAX: usize = 2 * 1024;

/// A schedule as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleShown {
    /// What it does.
    pub kind: String,
    /// When it is due next, Unix ms; none where nobody knows the time, or never.
    pub next_ms: Option<i64>,
    /// Its last run.
    pub last: Option<Run>,
    /// Its last run that has ended, as far as this agent has seen one end or found one at its start.
    #[serde(skip)]
    pub ended: Option<Run>,
}

/// All schedules as they are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    /// By name; those of twins and documents by the names that [`Plan::runs`] has.
    pub all: BTreeMap<String, ScheduleShown>,
    /// What these are in the twins; none until these were looked at.
    pub plan: Option<Arc<Plan>>,
}

/// Says which schedules there are by twins; none until these were looked at.
pub(crate) type Planned = watch::Receiver<Option<Arc<Plan>>>;

/// A run that is under way.
struct Begun {
    number: u64,
    began_ms: i64,
    mono_ns: u64,
}

impl Begun {
    /// When it has ended, by the clock that it began by: the machine's may be another, and be set meanwhile.
    fn ended_ms(&self, mono_ns: u64) -> i64 {
        self.began_ms.saturating_add_unsigned(mono_ns.saturating_sub(self.mono_ns) / 1_000_000)
    }
}

/// The schedules of a running agent. They are a part of the task that has the commands.
pub(crate) struct Scheduler {
    core: Schedules,
    journal: Arc<Journal>,
    clock: AgentClock,
    own: DeviceId,
    jobs: watch::Receiver<Arc<Jobs>>,
    planned: Planned,
    // As the core knows them.
    all: Arc<Jobs>,
    plan: Option<Arc<Plan>>,
    hands: Arc<Hands>,
    running: BTreeMap<Id, Begun>,
    runs: JoinSet<Result<Option<String>, String>>,
    told: watch::Sender<Shown>,
}

impl Scheduler {
    /// Those of a start of the agent.
    pub async fn open(
        journal: Arc<Journal>,
        held: Scheduled,
        hands: Arc<Hands>,
        own: DeviceId,
        told: watch::Sender<Shown>,
        planned: Planned,
    ) -> Self {
        let mut jobs = hands.jobs.clone();
        let all = Arc::clone(&jobs.borrow_and_update());
        let kind_of = |run: &Run| {
            let all = all.schedules.iter().find(|one| one.schedule.name == run.schedule);
            all.filter(|_| run.kind.is_empty()).map_or_else(|| run.kind.clone(), |one| one.kind.clone())
        };
        let is_done = |run: &Run| kinds::repeat(&kind_of(run)) == Repeat::Done;
        let (mut core, steps) = Schedules::open(held.marks, held.runs, is_done);
        if held.is_replacement {
            core.handle_lost();
        }
        core.configure(all.schedules.iter().map(|one| one.schedule.clone()));
        let (clock, running, runs) = (AgentClock::default(), BTreeMap::new(), JoinSet::new());
        let plan = None;
        let mut scheduler =
            Self { core, journal, clock, own, jobs, planned, all, plan, hands, running, runs, told };
        scheduler.carry_out(steps).await;
        scheduler
    }

    /// Time has passed; `hub_ms` is the hub's clock, where it was heard since the machine started. Otherwise the machine's own is
    /// trusted, unless it is before what it cannot be before.
    pub async fn look(&mut self, hub_ms: Option<i64>) {
        // Both are asked: each is taken when it was seen.
        if self.jobs.has_changed().unwrap_or(false) | self.planned.has_changed().unwrap_or(false) {
            self.all = Arc::clone(&self.jobs.borrow_and_update());
            self.plan = self.planned.borrow_and_update().clone();
            let all: Vec<Schedule> = self.scheduled().map(|one| one.schedule.clone()).collect();
            self.core.configure(all);
        }
        let own_ms = || self.clock.is_believed().then(|| self.clock.wall_ns() / 1_000_000);
        let now_ms = hub_ms.or_else(own_ms);
        let steps = self.core.handle_time(now_ms);
        self.carry_out(steps).await;
        self.tell(now_ms);
    }

    /// What there is to be done, of the configuration and of twins.
    fn scheduled(&self) -> impl Iterator<Item = &config::Scheduled> {
        let planned = self.plan.iter().flat_map(|plan| &plan.runs);
        self.all.schedules.iter().chain(planned)
    }

    fn find(&self, name: &str) -> Option<&config::Scheduled> {
        self.scheduled().find(|one| one.schedule.name == name)
    }

    /// Returns when a run has ended; for ever where there is none. Cancel safe.
    pub async fn ended(&mut self) -> (Id, Result<Option<String>, String>) {
        match self.runs.join_next_with_id().await {
            Some(Ok((task, ended))) => (task, ended),
            Some(Err(error)) => (error.id(), Err(error.to_string())),
            None => std::future::pending().await,
        }
    }

    /// Takes what [`Scheduler::ended`] gave.
    pub async fn handle_ended(&mut self, (task, ended): (Id, Result<Option<String>, String>)) {
        let Some(begun) = self.running.remove(&task) else { return };
        let steps = self.core.handle_ended(begun.ended_ms(self.clock.mono_ns()), begun.number, ended);
        self.carry_out(steps).await;
    }

    /// The runs that are known of, the newest first.
    pub fn list(&self) -> impl Iterator<Item = CommandShown> + '_ {
        self.core.runs().map(move |run| {
            let one = self.find(&run.schedule);
            let device = one.and_then(|one| one.device.clone()).unwrap_or_else(|| self.own.clone());
            CommandShown {
                id: format!("{}@{}", run.schedule, run.due_ms),
                device: device.to_string(),
                kind: one.map_or_else(|| run.kind.clone(), |one| one.kind.clone()),
                state: run.state.name().to_owned(),
                author: author(&run.schedule),
                deadline_ms: one.map_or(run.due_ms, |one| run.due_ms.saturating_add(one.schedule.within_ms)),
                error: run.error.clone(),
            }
        })
    }

    fn tell(&self, now_ms: Option<i64>) {
        let all = {
            let before = self.told.borrow();
            let all = self.core.list(now_ms).map(|(schedule, next_ms, last)| {
                let (kind, last) = (schedule.kind.clone(), last.cloned());
                let ended = match &last {
                    Some(run) if run.state != RunState::Running => last.clone(),
                    _ => before.all.get(&schedule.name).and_then(|before| before.ended.clone()),
                };
                (schedule.name.clone(), ScheduleShown { kind, next_ms, last, ended })
            });
            all.collect()
        };
        let shown = Shown { all, plan: self.plan.clone() };
        self.told.send_if_modified(|told| {
            let differs = *told != shown;
            *told = shown;
            differs
        });
    }

    async fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    let changes = Arc::new(changes);
                    let work = move |journal: &Journal| journal.schedule(&changes);
                    self.journal.until_done("schedules could not be noted", work).await;
                }
                Step::Begin(number, run) => self.begin(number, &run),
            }
        }
    }

    fn begin(&mut self, number: u64, run: &Run) {
        let Some(one) = self.find(&run.schedule).cloned() else { return };
        let within = u64::try_from(one.schedule.within_ms).unwrap_or_default();
        let device = one.device.unwrap_or_else(|| self.own.clone());
        tracing::info!(schedule = run.schedule, kind = one.kind, %device, "a schedule begins");
        let mut random = [0; 10];
        // It names files and processes of the run; two of the same name would be of the same ms.
        let _entropy = getrandom::fill(&mut random);
        let command = Command {
            id: CommandId::made(run.began_ms, random),
            device,
            kind: one.kind,
            input: one.input.into_bytes(),
            priority: 0,
            deadline_ms: run.due_ms.saturating_add(one.schedule.within_ms),
            author: author(&run.schedule),
            attempt: 1,
        };
        let (hands, left) = (Arc::clone(&self.hands), Duration::from_millis(within));
        let task = self.runs.spawn(carry_out(command, left, hands));
        let begun = Begun { number, began_ms: run.began_ms, mono_ns: self.clock.mono_ns() };
        self.running.insert(task.id(), begun);
    }
}

fn author(schedule: &str) -> String {
    format!("schedule {schedule}")
}

/// Carries one out, and keeps the end of what it says.
async fn carry_out(command: Command, left: Duration, hands: Arc<Hands>) -> Result<Option<String>, String> {
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    let (_nobody_aborts, aborted) = oneshot::channel();
    let run = kinds::Run { command, left, aborted: Some(aborted), news };
    let work = run.carry_out(&hands);
    tokio::pin!(work);
    let mut end = Vec::new();
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            Some(said) = heard.recv() => keep(&mut end, &said),
        }
    };
    while let Ok(said) = heard.try_recv() {
        keep(&mut end, &said);
    }
    match ended {
        Ended::Succeeded(result) => {
            let told = if end.is_empty() { result.unwrap_or_default() } else { end };
            let mut text = String::from_utf8_lossy(&told).into_owned();
            text.truncate(text.floor_char_boundary(RESULT_BYTES_MAX));
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        Ended::Failed(error) => Err(format!("{}: {}", error.code, error.text)),
        Ended::Aborted => Err("it was broken off".to_owned()),
    }
}

fn keep(end: &mut Vec<u8>, said: &News) {
    let News::Output(_, bytes) = said else { return };
    end.extend_from_slice(bytes);
    end.drain(..end.len().saturating_sub(RESULT_BYTES_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_by_the_clock_that_it_began_by() {
        let begun = Begun { number: 1, began_ms: 1_900_000_000_000, mono_ns: 7_000_000 };
        assert_eq!(begun.ended_ms(1_507_999_999), 1_900_000_001_500);
        assert_eq!(begun.ended_ms(7_000_000), 1_900_000_000_000);
        assert_eq!(begun.ended_ms(0), 1_900_000_000_000, "never before it began");
    }
}
