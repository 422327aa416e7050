//! A pipeline that runs: readings go from stage to stage, series by series.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tideline_protocol::model::{DeviceId, Sample, SeriesDef};
use tideline_protocol::value::Boxes;

use crate::check;
use crate::clock::{Now, Setting};
use crate::definition::Definition;
use crate::outcome::{Became, Chunk, Counts, Outcome, Row, StageStatus, Step};
use crate::pattern::Pattern;
use crate::problem::Problems;
use crate::series::{Column, Registry, SeriesNo, shown};
use crate::stage::{Io, Operator};
use crate::state::{Saved, SavedStage, StateError};

/// A pipeline that runs. Call order: [`Pipeline::compile`], perhaps [`Pipeline::restore`], then [`Pipeline::run`] for each
/// chunk and [`Pipeline::tick`] about every second; [`Pipeline::state`] whenever it is to be saved.
pub struct Pipeline {
    pub(crate) name: Arc<str>,
    pub(crate) from: Vec<Pattern>,
    pub(crate) keep: bool,
    pub(crate) watch: bool,
    /// The devices whose readings it takes; none for all.
    pub(crate) only: Option<HashSet<DeviceId>>,
    /// In an order in which each comes after those that it reads.
    pub(crate) stages: Vec<Stage>,
    /// The stages that read the sources.
    pub(crate) entries: Vec<usize>,
    /// How far ahead of the clock a reading may be where its time is kept, in ns.
    pub(crate) ahead_max_ns: i64,
    /// The start of the machine that monotonic times are of; none before the first call.
    pub(crate) boot: Option<[u8; 16]>,
    pub(crate) registry: Registry,
    pub(crate) traced: Option<DeviceId>,
}

/// A stage that runs.
pub(crate) struct Stage {
    pub name: Arc<str>,
    pub kind: &'static str,
    pub fingerprint: u64,
    pub operator: Box<dyn Operator>,
    pub ports: Vec<Port>,
    /// Whether it reads several, whose readings of one series are then put in the order of their times.
    pub merges: bool,
    pub counts: Counts,
    /// The readings that wait for it.
    pub inbox: Vec<Column>,
}

/// Where the readings of a port go on.
pub(crate) struct Port {
    pub name: String,
    /// The stages that read it; without any they leave the pipeline.
    pub readers: Vec<usize>,
    /// The stream that they then go to.
    pub stream: Option<Arc<str>>,
}

/// Why an operator is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Chunk,
    Tick,
}

impl Pipeline {
    /// Checks a definition and makes the pipeline.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn compile(definition: &Definition) -> Result<Self, Problems> {
        check::compile(definition)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it takes this series. The answer stays the same until [`Self::limit`] is called, so that it can be kept.
    #[must_use]
    pub fn takes(&self, series: &SeriesDef) -> bool {
        takes(&self.from, self.only.as_ref(), series)
    }

    /// Takes readings of these devices only, from now on.
    pub fn limit(&mut self, devices: impl IntoIterator<Item = DeviceId>) {
        self.only = Some(devices.into_iter().collect());
        self.registry.ask_again();
    }

    /// Counts readings that a stage could not take after all: what it asked for could not be done.
    pub fn blame(&mut self, stage: &str, count: u64) {
        if let Some(stage) = self.stages.iter_mut().find(|known| *known.name == *stage) {
            stage.counts.dead_letters = stage.counts.dead_letters.saturating_add(count);
        }
    }

    /// The stages with open windows that `next` does not take over, each with how many those are.
    pub(crate) fn given_up<'p>(&'p self, next: Option<&'p Self>) -> impl Iterator<Item = (String, u64)> + 'p {
        let stays = move |stage: &Stage| {
            let same = |other: &Stage| other.name == stage.name && other.fingerprint == stage.fingerprint;
            next.is_some_and(|next| next.stages.iter().any(same))
        };
        let open = |stage: &Stage| (stage.name.to_string(), stage.operator.held().1 as u64);
        self.stages.iter().filter(move |stage| !stays(stage)).map(open).filter(|(_, open)| *open > 0)
    }

    /// Runs readings through it. Those of series that it does not take go on as they are. What is wrong with
    /// a reading costs that reading and becomes a dead letter.
    pub fn run(&mut self, now: impl Into<Now>, chunk: Chunk) -> Outcome {
        let goes_on = self.keep || self.watch;
        self.run_beside(now.into(), chunk, goes_on)
    }

    /// Runs readings through it, which it gives on as they came, or not.
    pub(crate) fn run_beside(&mut self, now: Now, chunk: Chunk, goes_on: bool) -> Outcome {
        let clock = chunk.clock;
        let mut outcome = Outcome { boxes: chunk.boxes, ..Outcome::default() };
        outcome.rows.reserve(chunk.rows.len());
        for (def, samples) in chunk.rows {
            let series = self.registry.number(&def).filter(|series| self.is_taken(*series));
            let Some(series) = series else {
                outcome.rows.push(Row { stream: None, series: def, samples, clock });
                continue;
            };
            if goes_on {
                outcome.rows.push(Row { stream: None, series: def, samples: samples.clone(), clock });
            } else if let Some(known) = self.registry.known_mut(series) {
                known.spare = Some(def);
            }
            let column = Column { series, samples, clock };
            if self.entries.is_empty() {
                self.leave(None, column, &mut outcome);
            } else {
                deliver(&mut self.stages, &self.entries, column);
            }
        }
        self.pass(now, Occasion::Chunk, outcome)
    }

    /// Time has passed: closes windows of silent series and turns rules whose time is up.
    pub fn tick(&mut self, now: impl Into<Now>) -> Outcome {
        self.pass(now.into(), Occasion::Tick, Outcome::default())
    }

    /// Traces the readings of a device from now on, or of none.
    pub fn trace(&mut self, device: Option<DeviceId>) {
        self.traced = device;
    }

    /// What each stage did and holds, in the order in which they run.
    pub fn status(&self) -> impl Iterator<Item = StageStatus> {
        self.stages.iter().map(|stage| {
            let (series, open) = stage.operator.held();
            StageStatus {
                stage: stage.name.to_string(),
                kind: stage.kind,
                counts: stage.counts,
                series: series as u64,
                open_windows: open as u64,
            }
        })
    }

    /// Readings that were taken in and are in no result yet: how many windows are open.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.stages.iter().map(|stage| stage.operator.held().1).sum()
    }

    /// Whether it keeps anything of readings that must be known after a restart.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.stages.iter().any(|stage| stage.operator.keeps())
    }

    /// What must be known after a restart, as bytes; see the crate's documentation for when to save it.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let stages = self.stages.iter().map(|stage| SavedStage {
            name: stage.name.to_string(),
            fingerprint: stage.fingerprint,
            state: stage.operator.save(),
        });
        let stages: Vec<SavedStage> = stages.filter(|stage| !stage.state.is_empty()).collect();
        let defs = (0..).map_while(|series: SeriesNo| self.registry.def(series).cloned());
        // Numbers that nothing is known by stand for no series.
        let series = if stages.is_empty() { Vec::new() } else { defs.collect() };
        Saved { pipeline: self.name.to_string(), series, stages, boot: self.boot }.write()
    }

    /// Takes a state back, before anything is run. Gives the names of stages of which it had one that does not fit, as they
    /// were changed or are gone; those begin anew.
    ///
    /// # Errors
    /// The bytes are no state of this pipeline. It is then as if this had not been called.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<Vec<String>, StateError> {
        let saved = Saved::read(bytes)?;
        if saved.pipeline != *self.name {
            return Err(StateError::OtherPipeline { found: saved.pipeline });
        }
        let numbers: Option<Vec<SeriesNo>> =
            saved.series.iter().map(|def| self.registry.number(def)).collect();
        let numbers = numbers.ok_or_else(|| StateError::Damaged("it has too many series".into()))?;
        self.boot = saved.boot;
        let mut unfit = Vec::new();
        for SavedStage { name, fingerprint, state } in saved.stages {
            let of = self.stages.iter_mut().find(|stage| *stage.name == *name);
            match of.filter(|stage| stage.fingerprint == fingerprint) {
                Some(stage) => {
                    // Damage of one stage's part is no reason to lose the others.
                    if stage.operator.restore(&state, &numbers).is_err() {
                        unfit.push(name);
                    }
                }
                None => unfit.push(name),
            }
        }
        Ok(unfit)
    }

    fn is_taken(&mut self, series: SeriesNo) -> bool {
        let Self { from, only, registry, .. } = self;
        let Some(known) = registry.known_mut(series) else { return false };
        *known.is_taken.get_or_insert_with(|| takes(from, only.as_ref(), &known.def))
    }

    /// Readings leave the pipeline.
    fn leave(&mut self, stream: Option<Arc<str>>, column: Column, outcome: &mut Outcome) {
        if self.watch {
            return;
        }
        if let Some(series) = self.registry.leaving(column.series) {
            outcome.rows.push(Row { stream, series, samples: column.samples, clock: column.clock });
        }
    }

    /// Lets each stage do its work, in their order.
    fn pass(&mut self, now: Now, occasion: Occasion, mut outcome: Outcome) -> Outcome {
        if self.boot.replace(now.setting.boot).is_some_and(|boot| boot != now.setting.boot) {
            self.stages.iter_mut().for_each(|stage| stage.operator.begin_boot());
        }
        let ahead_max_ns = self.ahead_max_ns;
        let mut boxes = std::mem::take(&mut outcome.boxes);
        let mut out = Vec::new();
        for at in 0..self.stages.len() {
            let Self { stages, registry, name, traced, .. } = self;
            let Some(stage) = stages.get_mut(at) else { continue };
            let mut inbox = std::mem::take(&mut stage.inbox);
            if stage.merges {
                inbox = merged(inbox);
            }
            let mut run =
                Run { now, ahead_max_ns, registry, boxes: &mut boxes, pipeline: name, outcome: &mut outcome };
            run.stage(stage, inbox, occasion, traced.as_ref(), &mut out);
            for (port, column) in out.drain(..) {
                let Some(port) = self.stages.get(at).and_then(|stage| stage.ports.get(port)) else {
                    continue;
                };
                if port.readers.is_empty() {
                    let stream = port.stream.clone();
                    self.leave(stream, column, &mut outcome);
                } else {
                    let readers = port.readers.clone();
                    deliver(&mut self.stages, &readers, column);
                }
            }
        }
        outcome.boxes = boxes;
        outcome
    }
}

/// Whether a series fits one of the patterns and is of one of the devices.
fn takes(from: &[Pattern], only: Option<&HashSet<DeviceId>>, series: &SeriesDef) -> bool {
    only.is_none_or(|only| only.contains(&series.device)) && from.iter().any(|pattern| pattern.takes(series))
}

/// One column for each series, in the order of time. The ports of a branch would else be read one after the other, and
/// make each other's readings late.
fn merged(inbox: Vec<Column>) -> Vec<Column> {
    let mut merged: Vec<Column> = Vec::new();
    // Times by several clocks are in no order.
    let mut places: HashMap<(SeriesNo, Option<Setting>), usize> = HashMap::new();
    for mut column in inbox {
        let place = *places.entry((column.series, column.clock)).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(known) => known.samples.append(&mut column.samples),
            None => merged.push(column),
        }
    }
    merged.iter_mut().for_each(|column| column.samples.sort_by_key(|sample| sample.time_ns));
    merged
}

/// Puts readings before each of the stages.
fn deliver(stages: &mut [Stage], readers: &[usize], column: Column) {
    let Some((last, others)) = readers.split_last() else { return };
    for at in others {
        stages.get_mut(*at).into_iter().for_each(|stage| stage.inbox.push(column.clone()));
    }
    if let Some(stage) = stages.get_mut(*last) {
        stage.inbox.push(column);
    }
}

/// What the stages of one pass share.
struct Run<'a> {
    now: Now,
    ahead_max_ns: i64,
    registry: &'a mut Registry,
    boxes: &'a mut Boxes,
    pipeline: &'a Arc<str>,
    outcome: &'a mut Outcome,
}

impl Run<'_> {
    fn stage(
        &mut self,
        stage: &mut Stage,
        inbox: Vec<Column>,
        occasion: Occasion,
        traced: Option<&DeviceId>,
        out: &mut Vec<(usize, Column)>,
    ) {
        let Stage { name, operator, ports, counts, .. } = stage;
        let had_some = !inbox.is_empty();
        for column in inbox {
            counts.taken += column.samples.len() as u64;
            if traced.is_some() && self.registry.def(column.series).map(|def| &def.device) == traced {
                let Column { series, clock, samples } = column;
                for sample in samples {
                    let one = Column { series, samples: vec![sample], clock };
                    self.traced(operator.as_mut(), (name, ports), counts, (sample, one), out);
                }
            } else {
                operator.take(column, &mut self.io(name, counts, out));
            }
        }
        if had_some {
            operator.gather(&mut self.io(name, counts, out));
        }
        if occasion == Occasion::Tick {
            operator.tick(&mut self.io(name, counts, out));
        }
    }

    fn io<'b>(
        &'b mut self,
        stage: &'b Arc<str>,
        counts: &'b mut Counts,
        out: &'b mut Vec<(usize, Column)>,
    ) -> Io<'b> {
        Io {
            now: self.now,
            ahead_max_ns: self.ahead_max_ns,
            registry: self.registry,
            boxes: self.boxes,
            pipeline: self.pipeline,
            stage,
            counts,
            outcome: self.outcome,
            out,
            last_reason: None,
        }
    }

    /// Gives one reading to a stage and tells what became of it. That is the same as giving all at once, as a stage's
    /// work does not depend on how readings are spread over calls.
    fn traced(
        &mut self,
        operator: &mut dyn Operator,
        (name, ports): (&Arc<str>, &[Port]),
        counts: &mut Counts,
        (sample, one): (Sample, Column),
        out: &mut Vec<(usize, Column)>,
    ) {
        let (before, series) = (out.len(), one.series);
        let mut io = self.io(name, counts, out);
        operator.take(one, &mut io);
        let reason = io.last_reason.take();
        let Some(def) = self.registry.def(series).cloned() else { return };
        let mut came = Vec::new();
        for (port, column) in out.iter().skip(before) {
            let port = ports.get(*port).map(|port| port.name.clone()).unwrap_or_default();
            let Some(of) = self.registry.def(column.series) else { continue };
            for sample in &column.samples {
                let (value, quality) = shown(self.boxes, sample.value, of.kind());
                came.push((port.clone(), of.clone(), sample.time_ns, value, quality));
            }
        }
        let became = match reason {
            Some(reason) if came.is_empty() => Became::Dead(reason),
            _ if came.is_empty() => Became::Nothing,
            _ => Became::Out(came),
        };
        let (value, quality) = shown(self.boxes, sample.value, def.kind());
        let (pipeline, stage) = (Arc::clone(self.pipeline), Arc::clone(name));
        self.outcome.step(Step {
            pipeline,
            stage,
            series: def,
            time_ns: sample.time_ns,
            value,
            quality,
            became,
        });
    }
}
