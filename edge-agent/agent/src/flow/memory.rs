//! What is durable of a flow's pipelines: their state as of some moment, and what was asked of them since.

use std::collections::BTreeMap;

use tideline_pipeline::definition::{self, Definition};
use tideline_pipeline::{Now, Outcome, Pipelines, Setting};
use tideline_protocol::model::DeviceId;
use tideline_protocol::value::Boxes;

use super::calls::{self, Calls};
use super::kept::{Named, Whole};
use crate::spooler::{Position, SeriesRows};

/// The devices that pipelines of a profile take readings of, by pipeline.
pub type Devices = BTreeMap<String, Vec<DeviceId>>;

/// What is durable, and what is to become so.
#[derive(Debug, Default)]
pub struct Memory {
    calls: Calls,
    /// Whether there is anything under the name of the state.
    is_written: bool,
    devices: Devices,
}

/// The name of a part beside that of the state.
fn part_name(key: &str, number: u32) -> String {
    format!("{key}#{number}")
}

/// The names of all parts that there may be beside a state, in their order.
pub fn part_names(key: &str) -> impl Iterator<Item = String> {
    (1..=calls::PARTS_MAX).map(move |number| part_name(key, number))
}

impl Memory {
    /// Gives pipelines the state that is durable: those that were then are asked again what they were asked since it was
    /// written, and what they know thereafter goes to those that are now. Gives what is lost.
    pub fn take_back(&mut self, state: &[u8], parts: &[Vec<u8>], pipelines: &mut Pipelines) -> Vec<String> {
        self.is_written = !state.is_empty();
        if state.is_empty() {
            return Vec::new();
        }
        let (of, mut whole) = match Whole::read(state) {
            Ok(read) => read,
            Err(error) => {
                return vec![format!("the state of pipelines is lost, and open windows with it: {error}")];
            }
        };
        let mut lost = Vec::new();
        if let Err(error) = ask_again(of, &mut whole, parts) {
            lost.push(format!("some of what pipelines took in last is lost: {error}"));
        }
        for Named { name, state } in whole.states {
            match pipelines.restore(&name, &state) {
                Ok(unfit) if unfit.is_empty() => {}
                Ok(unfit) => tracing::info!(pipeline = name, stages = ?unfit, "changed stages begin anew"),
                Err(error) => lost.push(format!("the state of pipeline {name} is lost: {error}")),
            }
        }
        lost
    }

    /// Other pipelines run from now on.
    pub fn begin_anew(&mut self) {
        self.calls.begin_anew();
    }

    /// Nothing comes any more: what is to be durable is whole.
    pub fn rest(&mut self) {
        if !self.calls.is_whole() {
            self.calls.begin_anew();
        }
    }

    /// Pipelines of a profile take readings of these devices from now on.
    pub fn limit(&mut self, devices: Devices) {
        if self.devices != devices {
            self.devices = devices;
            self.calls.begin_anew();
        }
    }

    /// Notes readings that are about to be run.
    pub fn note(
        &mut self,
        now: Now,
        clock: Option<Setting>,
        (rows, boxes): (&[SeriesRows], &Boxes),
        pipelines: &mut Pipelines,
    ) {
        self.calls.note(now, clock, rows, boxes, |def| pipelines.keeps(def));
    }

    /// Notes that time passed, and what came of it.
    pub fn note_tick(&mut self, now: Now, outcome: &Outcome) {
        let Outcome { rows, letters, events, actions, .. } = outcome;
        let is_news = !(rows.is_empty() && letters.is_empty() && events.is_empty() && actions.is_empty());
        self.calls.note_tick(now, is_news);
    }

    /// What is to be made durable with all that came so far, as positions of the spool; nothing when it is.
    pub fn news(
        &mut self,
        key: &str,
        now: Now,
        pipelines: &Pipelines,
        definitions: &[Definition],
    ) -> Vec<Position> {
        if !self.calls.is_whole_due() {
            let part = self.calls.hand_part();
            return part.into_iter().map(|(number, bytes)| (part_name(key, number), bytes)).collect();
        }
        if pipelines.is_empty() {
            self.calls.hand_whole(0, 0);
            return if self.is_written { vec![(key.to_owned(), Vec::new())] } else { Vec::new() };
        }
        let states = pipelines.states().into_iter().map(|(name, state)| Named { name, state });
        let devices = |(name, devices): (&String, &Vec<DeviceId>)| {
            (name.clone(), devices.iter().map(ToString::to_string).collect())
        };
        // What cannot be said as a text is written whole each time.
        let text = definition::write(definitions).ok();
        let has_text = text.is_some();
        let whole = Whole {
            states: states.collect(),
            definitions: text.unwrap_or_default(),
            devices: self.devices.iter().map(devices).collect(),
            now: Some(now),
        };
        let (of, bytes) = whole.write();
        self.calls.hand_whole(of, bytes.len());
        if !has_text {
            self.calls.begin_anew();
        }
        vec![(key.to_owned(), bytes)]
    }

    /// The last [`Self::news`] are durable.
    pub fn saved(&mut self, is_empty: bool) {
        self.is_written = !is_empty;
        self.calls.saved();
    }
}

/// Asks pipelines as they were again, and puts the states that they then have in the place of those that were written.
fn ask_again(of: u64, whole: &mut Whole, parts: &[Vec<u8>]) -> Result<(), String> {
    if parts.is_empty() || whole.definitions.is_empty() {
        return Ok(());
    }
    let mut pipelines =
        Pipelines::read("the state", &whole.definitions).map_err(|problems| problems.to_string())?;
    for (name, devices) in &whole.devices {
        pipelines.limit(name, devices.iter().filter_map(|device| DeviceId::parse(device).ok()));
    }
    for Named { name, state } in &whole.states {
        pipelines.restore(name, state).map_err(|error| error.to_string())?;
    }
    let asked = calls::ask_again(of, parts, &mut pipelines);
    let states = pipelines.states().into_iter().map(|(name, state)| Named { name, state });
    whole.states = states.collect();
    if asked.lost > 0 {
        return Err(format!(
            "{} of {} parts are damaged",
            asked.lost,
            asked.parts.saturating_add(asked.lost)
        ));
    }
    Ok(())
}
