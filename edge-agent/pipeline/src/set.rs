//! All pipelines of an agent: each reading goes to those that take its series, and on as it is where none does.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_protocol::model::{DeviceId, SeriesDef};

use crate::clock::Now;
use crate::definition::{self, Definition};
use crate::limits::{PIPELINES_MAX, SERIES_MAX};
use crate::outcome::{Chunk, Outcome, Row, StageStatus};
use crate::pipeline::Pipeline;
use crate::problem::Problems;
use crate::state::StateError;

/// Several pipelines. Their call order is that of one.
#[derive(Default)]
pub struct Pipelines {
    list: Vec<Pipeline>,
    /// Which pipelines take a series, a bit each.
    takers: HashMap<SeriesDef, u64>,
}

impl Pipelines {
    /// Reads and checks the `[[pipeline]]` tables of a TOML text; `file` names it in problems.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn read(file: &str, text: &str) -> Result<Self, Problems> {
        let definitions = definition::read(file, text)?;
        Self::compile(&definitions).map_err(|problems| Problems { file: file.to_owned(), ..problems })
    }

    /// Checks definitions and makes the pipelines.
    ///
    /// # Errors
    /// All that is wrong with all of them.
    pub fn compile(definitions: &[Definition]) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut list = Vec::new();
        if definitions.len() > PIPELINES_MAX {
            let what = format!("there are {}; allowed are {PIPELINES_MAX}", definitions.len());
            problems.add(0, "pipeline", what);
        }
        for (at, definition) in definitions.iter().enumerate() {
            let name = &definition.name;
            if definitions.iter().take(at).any(|other| other.name == *name) {
                let line = definition.lines.of(None, "name");
                problems.add(line, format!("pipeline {name}, name"), format!("{name:?} is used twice"));
            }
            match Pipeline::compile(definition) {
                Ok(pipeline) => list.push(pipeline),
                Err(found) => problems.list.extend(found.list),
            }
        }
        problems.or(Some(Self { list, takers: HashMap::new() }))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those of this name alone.
    pub fn retain(&mut self, name: &str) {
        self.list.retain(|pipeline| **pipeline.name() == *name);
        self.takers.clear();
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Pipeline> {
        self.list.iter()
    }

    /// Runs readings through all pipelines that take them; see [`Pipeline::run`]. A series that several take goes to
    /// each of them.
    pub fn run(&mut self, now: impl Into<Now>, chunk: Chunk) -> Outcome {
        let (now, clock) = (now.into(), chunk.clock);
        if let [only] = self.list.as_mut_slice() {
            return only.run(now, chunk);
        }
        let mut parts: Vec<Chunk> = self.list.iter().map(|_| Chunk::default()).collect();
        let mut rest = Outcome { boxes: chunk.boxes.clone(), ..Outcome::default() };
        for (def, samples) in chunk.rows {
            let takers = self.takers(&def);
            if takers & !self.onlookers() == 0 {
                if takers == 0 {
                    rest.rows.push(Row { stream: None, series: def, samples, clock });
                    continue;
                }
                rest.rows.push(Row { stream: None, series: def.clone(), samples: samples.clone(), clock });
            }
            let chosen = parts.iter_mut().enumerate().filter(|(at, _)| takers >> at & 1 == 1);
            chosen.for_each(|(_, part)| part.rows.push((def.clone(), samples.clone())));
        }
        for (pipeline, part) in self.list.iter_mut().zip(parts) {
            if !part.rows.is_empty() {
                // A pipeline adds to the table, and the words of the others must stay theirs.
                let part = Chunk { boxes: chunk.boxes.clone(), clock, ..part };
                let goes_on = pipeline.keep && !pipeline.watch;
                rest.append(pipeline.run_beside(now, part, goes_on));
            }
        }
        rest
    }

    /// Time has passed; see [`Pipeline::tick`].
    pub fn tick(&mut self, now: impl Into<Now>) -> Outcome {
        let now = now.into();
        let mut all = Outcome::default();
        for pipeline in &mut self.list {
            all.append(pipeline.tick(now));
        }
        all
    }

    /// Whether one that takes this series keeps anything of its readings; see [`Pipeline::keeps`].
    pub fn keeps(&mut self, def: &SeriesDef) -> bool {
        let takers = self.takers(def);
        self.list.iter().enumerate().any(|(at, pipeline)| takers >> at & 1 == 1 && pipeline.keeps())
    }

    /// Traces the readings of a device from now on, or of none.
    pub fn trace(&mut self, device: Option<&DeviceId>) {
        self.list.iter_mut().for_each(|pipeline| pipeline.trace(device.cloned()));
    }

    /// What each stage of each pipeline did.
    pub fn status(&self) -> impl Iterator<Item = (Arc<str>, StageStatus)> {
        self.list
            .iter()
            .flat_map(|pipeline| pipeline.status().map(|status| (Arc::clone(pipeline.name()), status)))
    }

    /// Has a pipeline take readings of these devices only; see [`Pipeline::limit`].
    pub fn limit(&mut self, name: &str, devices: impl IntoIterator<Item = DeviceId>) {
        if let Some(pipeline) = self.list.iter_mut().find(|pipeline| **pipeline.name() == *name) {
            pipeline.limit(devices);
            self.takers.clear();
        }
    }

    /// Counts readings of a stage that could not be taken after all; see [`Pipeline::blame`].
    pub fn blame(&mut self, name: &str, stage: &str, count: u64) {
        let of = self.list.iter_mut().filter(|pipeline| **pipeline.name() == *name);
        of.for_each(|pipeline| pipeline.blame(stage, count));
    }

    /// Goes on as `next`, of which nothing ran yet. Pipelines that are the `same` go on as they are; in others of a name
    /// that was there, stages whose definition did not change do. Gives up the windows of all other stages.
    pub fn change(&mut self, next: Self, same: impl Fn(&str) -> bool) -> Vec<GivenUp> {
        let mut old = std::mem::take(&mut self.list);
        let mut given_up = Vec::new();
        self.list = next.list;
        self.takers.clear();
        for pipeline in &mut self.list {
            let Some(at) = old.iter().position(|before| before.name() == pipeline.name()) else { continue };
            let before = old.swap_remove(at);
            if same(&before.name) {
                *pipeline = before;
                continue;
            }
            given_up.extend(GivenUp::of(&before, Some(pipeline)));
            // It is its own state, and stages that it does not fit were counted.
            let _ = pipeline.restore(&before.state());
        }
        given_up.extend(old.iter().flat_map(|gone| GivenUp::of(gone, None)));
        given_up
    }

    /// The states of all pipelines by name; see [`Pipeline::state`].
    #[must_use]
    pub fn states(&self) -> Vec<(String, Vec<u8>)> {
        self.list.iter().map(|pipeline| (pipeline.name().to_string(), pipeline.state())).collect()
    }

    /// Gives a pipeline its state back; see [`Pipeline::restore`]. One of a pipeline that is no longer there is left alone.
    ///
    /// # Errors
    /// The bytes are no state of it.
    pub fn restore(&mut self, name: &str, bytes: &[u8]) -> Result<Vec<String>, StateError> {
        let of = self.list.iter_mut().find(|pipeline| **pipeline.name() == *name);
        of.map_or(Ok(Vec::new()), |pipeline| pipeline.restore(bytes))
    }

    /// Pipelines that only look on, a bit each.
    fn onlookers(&self) -> u64 {
        self.list.iter().enumerate().fold(0, |all, (at, pipeline)| all | u64::from(pipeline.watch) << at)
    }

    fn takers(&mut self, def: &SeriesDef) -> u64 {
        if let Some(takers) = self.takers.get(def) {
            return *takers;
        }
        let each = self.list.iter().enumerate().filter(|(_, pipeline)| pipeline.takes(def));
        let takers = each.fold(0, |takers, (at, _)| takers | 1 << at);
        if self.takers.len() < SERIES_MAX {
            self.takers.insert(def.clone(), takers);
        }
        takers
    }
}

/// Windows that were open when their stage was changed or taken away: what they held is in no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The stage.
    pub stage: String,
    /// How many windows.
    pub windows: u64,
}

impl GivenUp {
    fn of<'p>(before: &'p Pipeline, next: Option<&'p Pipeline>) -> impl Iterator<Item = Self> + 'p {
        let name = Arc::clone(before.name());
        before.given_up(next).map(move |(stage, windows)| Self {
            pipeline: Arc::clone(&name),
            stage,
            windows,
        })
    }
}
