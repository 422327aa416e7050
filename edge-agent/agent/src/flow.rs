//! Pipelines in a running agent: what stands between the sources and the spool.
//!
//! ```text
//! sources ─ chunks ─▶ intake ─▶ Flow::run ──┐
//!                     ticker ─▶ Flow::tick ─┴▶ portions ─▶ one append: results on all their streams,
//!                                                          positions of sources, state of the pipelines
//! ```
//! A flow belongs to an intake, and takes what comes there in the order in which it comes. All streams that never block
//! have one intake, so that a pipeline puts together what comes on any of them; a stream that blocks has its own.
//!
//! Invariant: results, positions and state of one moment are durable together or not at all. So a source that reads again
//! after a kill finds each window as it was at its position, and what was in none is read into none twice.

pub mod actions;
mod calls;
mod kept;
mod memory;
mod shown;
#[cfg(test)]
mod tests;
pub mod trace;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tideline_pipeline::{Action, Change, Event, Now, Outcome, Pipelines, STEP_NS, Setting};
use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::time::Clock;
use tideline_protocol::value::{Quality, Value, ValueKind};
use tokio::sync::watch;

use self::memory::Memory;
pub use self::memory::part_names;
use self::shown::Shown;
use self::trace::Traced;
use crate::cards::CardsSeen;
use crate::clock::Ahead;
use crate::config::Plan;
use crate::config::alarms::PREFIX;
use crate::intake::Chunk;
use crate::spooler::{Portion, Position, SeriesRows};
use crate::status::Board;

/// Most devices of which is known where their readings go; results of others go where those of a chunk without a source do.
const ORIGINS_MAX: usize = 20_000;

/// What a flow is made of.
pub struct Parts {
    /// What its state is kept under.
    pub key: String,
    /// The stream of what comes from no source.
    pub home: Arc<str>,
    /// All streams that the spool has.
    pub streams: BTreeSet<Arc<str>>,
    /// The agent's clock.
    pub clock: Arc<dyn Clock>,
    /// The id of this start of the machine.
    pub boot: [u8; 16],
    /// What is to run.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// Of which profiles devices are.
    pub cards: CardsSeen,
    /// Who is traced.
    pub traced: watch::Receiver<Option<Arc<Traced>>>,
    /// Where it is shown.
    pub board: Board,
}

/// The pipelines of an intake, as they run.
pub struct Flow {
    parts: Parts,
    /// How the clock was set when it was last looked at.
    setting: Option<Setting>,
    plan: Arc<Plan>,
    pipelines: Pipelines,
    /// The streams of events, by pipeline.
    events: HashMap<String, Arc<str>>,
    /// The streams that the readings of devices go to.
    origins: HashMap<DeviceId, Arc<str>>,
    memory: Memory,
    shown: Shown,
    actions: Vec<Action>,
}

impl Flow {
    /// One that has run nothing; [`Self::begin`] is next.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            setting: None,
            plan: Arc::default(),
            pipelines: Pipelines::default(),
            events: HashMap::new(),
            origins: HashMap::new(),
            memory: Memory::default(),
            shown: Shown::default(),
            actions: Vec::new(),
        }
    }

    /// What its state is kept under.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.parts.key
    }

    /// Takes up what is planned, with the state that is durable and the parts beside it, which have [`part_names`].
    pub fn begin(&mut self, state: Option<&[u8]>, parts: &[Vec<u8>]) {
        self.apply();
        let lost = self.memory.take_back(state.unwrap_or_default(), parts, &mut self.pipelines);
        lost.iter().for_each(|what| self.told(what));
        self.show();
    }

    fn told(&self, error: &str) {
        tracing::error!(error, "pipelines");
        self.parts.board.update(|status| status.last_error = Some(error.to_owned()));
    }

    /// Whether there are any pipelines; without, chunks pass as they are.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !self.pipelines.is_empty()
    }

    /// Resolves when there is something else to be planned or traced. Cancel safe.
    pub async fn changed(&mut self) {
        let ended = tokio::select! {
            changed = self.parts.plan.changed() => changed.is_err(),
            changed = self.parts.traced.changed() => changed.is_err(),
        };
        if ended {
            // Who could change anything has gone.
            std::future::pending().await
        }
    }

    /// Takes up what is planned and traced now. Pipelines that did not change go on as they are.
    pub fn apply(&mut self) {
        let plan = Arc::clone(&self.parts.plan.borrow_and_update());
        if *plan != *self.plan {
            match Pipelines::compile(&plan.definitions) {
                Ok(next) => self.change(plan, next),
                // The configuration was checked before it came here.
                Err(problems) => self.told(&format!("pipelines stay as they are: {problems}")),
            }
        }
        let traced = self.parts.traced.borrow_and_update().clone();
        self.pipelines.trace(traced.as_ref().map(|traced| &traced.device));
    }

    fn change(&mut self, plan: Arc<Plan>, next: Pipelines) {
        let named = |plan: &Plan, name: &str| {
            plan.definitions.iter().find(|definition| definition.name == *name).cloned()
        };
        let same = |name: &str| named(&self.plan, name) == named(&plan, name);
        self.shown.carry(&self.pipelines, same);
        for gone in self.pipelines.change(next, same) {
            let (stage, windows) = (&gone.stage, gone.windows);
            tracing::warn!(pipeline = &*gone.pipeline, stage, windows, "open windows were given up");
        }
        let events = plan.definitions.iter().filter_map(|definition| {
            Some((definition.name.clone(), Arc::from(definition.events.as_deref()?)))
        });
        self.events = events.collect();
        self.plan = plan;
        self.memory.begin_anew();
        self.limit();
        self.show();
    }

    /// Says to pipelines of profiles which devices are of them.
    fn limit(&mut self) {
        let mut all = memory::Devices::new();
        for (pipeline, kin) in &self.plan.kin {
            let mut devices = self.parts.cards.of_profile(&kin.profile);
            devices.extend(kin.devices.iter().cloned());
            all.insert(pipeline.clone(), devices.iter().cloned().collect());
            self.pipelines.limit(pipeline, devices);
        }
        self.memory.limit(all);
    }

    /// Runs a chunk through the pipelines that take of it; gives what is to be made durable.
    pub fn run(&mut self, chunk: Chunk) -> Vec<Portion> {
        let Chunk { source, stream, rows, boxes, clock, position, durable: _ } = chunk;
        let stream = stream.unwrap_or_else(|| Arc::clone(&self.parts.home));
        let positions = position.into_iter().collect();
        let base = Portion { source, clock, positions, stream: Some(stream), ..Portion::default() };
        // What is handed on after a change meets it.
        if self.parts.plan.has_changed().unwrap_or(false) {
            self.apply();
        }
        if !self.is_active() {
            return vec![Portion { rows, boxes, ..base }];
        }
        if !self.plan.kin.is_empty() && self.parts.cards.has_changed() {
            self.limit();
        }
        self.note(&rows, &base);
        let (now, clock) = (self.now(), clock.map(|clock| clock.setting(self.parts.boot)));
        self.memory.note(now, clock, (&rows, &boxes), &mut self.pipelines);
        let outcome = self.pipelines.run(now, tideline_pipeline::Chunk { rows, boxes, clock });
        self.portions(outcome, base, true)
    }

    /// Time has passed.
    pub fn tick(&mut self) -> Vec<Portion> {
        if !self.is_active() {
            return Vec::new();
        }
        let now = self.now();
        let outcome = self.pipelines.tick(now);
        self.memory.note_tick(now, &outcome);
        let base = Portion { stream: Some(Arc::clone(&self.parts.home)), ..Portion::default() };
        let mut portions = self.portions(outcome, base, false);
        portions.retain(|portion| !portion.rows.is_empty());
        self.show();
        portions
    }

    /// Notes where the readings of devices go, for what follows from them later.
    fn note(&mut self, rows: &[SeriesRows], base: &Portion) {
        let Some(stream) = &base.stream else { return };
        let mut last = None;
        for (def, _) in rows {
            if last.replace(&def.device) == Some(&def.device) {
                continue;
            }
            let known = self.origins.get(&def.device);
            if known.is_some_and(|known| known == stream) {
                continue;
            }
            if known.is_some() || self.origins.len() < ORIGINS_MAX {
                self.origins.insert(def.device.clone(), Arc::clone(stream));
            }
        }
    }

    /// What goes on, by stream and clock, and what else came of it. Results of a chunk are of its stream, and those of a tick
    /// of that which the device's readings had. The clock of each is the one that its readings had, so that a correction by
    /// the hub fits both.
    fn portions(&mut self, outcome: Outcome, base: Portion, is_chunk: bool) -> Vec<Portion> {
        let Outcome { rows, mut boxes, letters, letters_more, events, actions, trace, trace_more } = outcome;
        self.trace(&trace, trace_more);
        let placed = |flow: &Self, wanted: Option<Arc<str>>, device: &DeviceId, clock: Option<Setting>| {
            let origin = flow.origins.get(device).filter(|_| !is_chunk);
            let wanted = wanted.filter(|stream| flow.has(stream)).or_else(|| origin.cloned());
            let clock = clock.map(|clock| Ahead::from_setting(clock, flow.parts.boot));
            (wanted.or_else(|| base.stream.clone()), clock)
        };
        let mut parts = vec![Portion { rows: Vec::with_capacity(rows.len()), ..base.clone() }];
        for row in rows {
            let place = placed(self, row.stream, &row.series.device, row.clock);
            put(&mut parts, place, (row.series, row.samples));
        }
        for event in &events {
            self.tell(event);
            let is_alarm = self.plan.kin.get(&*event.pipeline).is_some_and(|kin| kin.is_alarms);
            match event_series(event, is_alarm) {
                Ok(series) => {
                    let value = boxes.word(Value::Bool(event.change == Change::Fired), Quality::Good);
                    let sample = tideline_protocol::model::Sample { time_ns: event.time_ns, value };
                    let wanted = self.events.get(&*event.pipeline).cloned();
                    let place = placed(self, wanted, &event.device, event.clock);
                    put(&mut parts, place, (series, vec![sample]));
                }
                Err(reason) => {
                    self.blame(&event.pipeline, &event.rule, (&event.device, &event.point), &reason)
                }
            }
        }
        parts.iter_mut().for_each(|part| part.boxes = boxes.clone());
        self.shown.letters(&self.parts.board, letters, letters_more);
        self.actions.extend(actions);
        parts
    }

    fn has(&self, stream: &Arc<str>) -> bool {
        let has = self.parts.streams.contains(stream);
        if !has {
            // That it needs a restart is told where the configuration is.
            tracing::debug!(%stream, "results go to another stream until there is this one");
        }
        has
    }

    fn tell(&self, event: &Event) {
        let Event { pipeline, rule, device, point, change, severity, message, .. } = event;
        let (change, severity) = (change.as_str(), severity.as_str());
        tracing::info!(%pipeline, %rule, %device, %point, change, severity, %message, "rule");
    }

    fn trace(&self, steps: &[tideline_pipeline::Step], more: u64) {
        if steps.is_empty() && more == 0 {
            return;
        }
        if let Some(traced) = self.parts.traced.borrow().as_ref() {
            steps.iter().for_each(|step| traced.tell(step));
            traced.leave_out(more);
        }
    }

    /// What a stage asked for could not be done.
    fn blame(&mut self, pipeline: &str, stage: &str, of: (&DeviceId, &PointId), reason: &str) {
        self.pipelines.blame(pipeline, stage, 1);
        self.shown.letter(&self.parts.board, pipeline, stage, of, self.parts.clock.wall_ns(), reason);
    }

    /// A write that a stage asked for did not come to a good end.
    pub fn failed(&mut self, action: &Action, reason: &str) {
        let Action { pipeline, stage, device, point, .. } = action;
        self.blame(pipeline, stage, (device, point), reason);
        self.show();
    }

    /// The time now, and that the clock was set.
    fn now(&mut self) -> Now {
        let setting = Ahead::of(self.parts.clock.as_ref()).setting(self.parts.boot);
        let mono_ns = i64::try_from(self.parts.clock.mono_ns()).unwrap_or(i64::MAX);
        if let Some(before) = self.setting.replace(setting) {
            let by_ns = setting.offset_ns.saturating_sub(before.offset_ns);
            if by_ns.saturating_abs() > STEP_NS {
                tracing::warn!(by_s = by_ns / 1_000_000_000, "the clock was set; open windows are cut off");
            }
        }
        Now { setting, mono_ns }
    }

    /// The time by the clock that gave an action its own, in ns since 1970.
    pub fn time_by(&mut self, action: &Action) -> i64 {
        self.now().by(action.clock)
    }

    /// What was to be written since this was last asked.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// What has to be durable with all that came so far: the state or a part beside it. Nothing when that is durable already.
    pub fn state(&mut self) -> Vec<Position> {
        let now = self.now();
        self.memory.news(&self.parts.key, now, &self.pipelines, &self.plan.definitions)
    }

    /// Nothing comes any more: the next [`Self::state`] is whole, so that whatever version starts next finds it so.
    pub fn rest(&mut self) {
        if self.is_active() {
            self.memory.rest();
        }
    }

    /// The last [`Self::state`] is durable.
    pub fn saved(&mut self) {
        self.memory.saved(!self.is_active());
        self.show();
    }

    fn show(&self) {
        self.shown.show(&self.parts.board, &self.parts.key, &self.pipelines);
    }
}

/// Adds a row to what goes to a stream with a clock.
fn put(parts: &mut Vec<Portion>, (stream, clock): (Option<Arc<str>>, Option<Ahead>), row: SeriesRows) {
    if let Some(part) = parts.iter_mut().find(|part| part.stream == stream && part.clock == clock) {
        return part.rows.push(row);
    }
    let source = parts.first().map(|part| part.source.clone()).unwrap_or_default();
    parts.push(Portion { source, rows: vec![row], stream, clock, ..Portion::default() });
}

/// The series that tells the hub of a rule: `pipeline/rule/point` of the device, or `alarm/rule` of one of a profile's alarms;
/// true from when it fires until it clears.
fn event_series(event: &Event, is_alarm: bool) -> Result<SeriesDef, String> {
    let Event { pipeline, rule, device, point, message, .. } = event;
    let told = if is_alarm { format!("{PREFIX}{rule}") } else { format!("{pipeline}/{rule}/{point}") };
    let id = PointId::parse(&told).map_err(|error| format!("the hub is not told of it: {error}"))?;
    let fits = message.len() <= tideline_protocol::model::NAME_BYTES_MAX;
    let name = if fits { message } else { "" };
    Ok(SeriesDef::new(device.clone(), id, String::new()).of_kind(ValueKind::Bool).named(name))
}
