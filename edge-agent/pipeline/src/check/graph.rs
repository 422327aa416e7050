//! Which stage reads which, and an order in which each comes after those that it reads.

use super::{Checker, port_names};
use crate::definition::SOURCE;
use crate::pipeline::Stage;
use crate::problem::hint;

/// What a stage reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// The readings as they come.
    Source,
    /// A port of a stage.
    Port(usize, usize),
}

/// The stages of a pipeline as a graph without cycles.
pub(super) struct Graph {
    inputs: Vec<Vec<Input>>,
    /// The numbers of the stages in the order in which they run.
    order: Vec<usize>,
}

impl Graph {
    /// The graph of a definition; none when there is something wrong with it.
    pub fn of(checker: &mut Checker<'_>) -> Option<Self> {
        let stages = &checker.definition.stages;
        let mut inputs = Vec::new();
        let mut is_right = true;
        for (at, stage) in stages.iter().enumerate() {
            let mut of = Vec::new();
            if stage.after.is_empty() {
                match at.checked_sub(1) {
                    None => of.push(Input::Source),
                    Some(before) => of.extend(checker.read(at, &stages.get(before)?.name)),
                }
            }
            for text in &stage.after {
                match checker.read(at, text) {
                    Some(input) if of.contains(&input) => {
                        checker.problem(Some(at), "after", format!("names {text:?} twice"));
                    }
                    input => of.extend(input),
                }
            }
            is_right &= !of.is_empty();
            inputs.push(of);
        }
        if !is_right {
            return None;
        }
        let order = order(&inputs);
        if order.len() < inputs.len() {
            let caught: Vec<usize> = (0..inputs.len()).filter(|at| !order.contains(at)).collect();
            let names: Vec<&str> =
                caught.iter().filter_map(|at| stages.get(*at)).map(|stage| stage.name.as_str()).collect();
            let what = format!("stages wait for each other: {}", names.join(", "));
            checker.problem(caught.first().copied(), "after", what);
            return None;
        }
        Some(Self { inputs, order })
    }

    /// Puts stages in the order in which they run, with their readers; gives also those that read the sources.
    pub fn arrange(self, stages: Vec<Stage>) -> (Vec<Stage>, Vec<usize>) {
        let place = |of: usize| self.order.iter().position(|at| *at == of);
        let mut entries = Vec::new();
        let mut slots: Vec<Option<Stage>> = stages.into_iter().map(Some).collect();
        let taken = self.order.iter().filter_map(|at| slots.get_mut(*at).and_then(Option::take));
        let mut arranged: Vec<Stage> = taken.collect();
        for (reader, inputs) in self.inputs.iter().enumerate() {
            let Some(reader) = place(reader) else { continue };
            arranged.get_mut(reader).into_iter().for_each(|stage| stage.merges = inputs.len() > 1);
            for input in inputs {
                match input {
                    Input::Source => entries.push(reader),
                    Input::Port(of, port) => {
                        let stage = place(*of).and_then(|at| arranged.get_mut(at));
                        let port = stage.and_then(|stage| stage.ports.get_mut(*port));
                        port.into_iter().for_each(|port| port.readers.push(reader));
                    }
                }
            }
        }
        (arranged, entries)
    }
}

impl Checker<'_> {
    /// What a text of `after` names.
    fn read(&mut self, at: usize, text: &str) -> Option<Input> {
        if text == SOURCE {
            return Some(Input::Source);
        }
        let stages = &self.definition.stages;
        let (name, port) = text.split_once('.').unwrap_or((text, ""));
        let Some(of) = stages.iter().position(|stage| stage.name == name) else {
            let names: Vec<&str> =
                stages.iter().map(|stage| stage.name.as_str()).filter(|name| !name.is_empty()).collect();
            let near = hint(name, names.iter().copied());
            let what = format!("names {text:?}; allowed are {SOURCE}, {}{near}", names.join(", "));
            self.problem(Some(at), "after", what);
            return None;
        };
        let ports = stages.get(of).map(port_names).unwrap_or_default();
        if let Some(port) = ports.iter().position(|known| *known == port) {
            return Some(Input::Port(of, port));
        }
        let what = if ports == [""] {
            format!("names {text:?}, and {name} has no ports; allowed is {name:?}")
        } else {
            let allowed: Vec<String> = ports.iter().map(|port| format!("{name}.{port}")).collect();
            let given = text.split_once('.').map_or_else(
                || format!("is the branch {name} without a port"),
                |_| format!("names {text:?}"),
            );
            format!("{given}; allowed are {}", allowed.join(", "))
        };
        self.problem(Some(at), "after", what);
        None
    }
}

/// Each stage after all that it reads, and else in the order of the definition (Kahn, 1962); those that wait for each
/// other are left out.
fn order(inputs: &[Vec<Input>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    loop {
        let is_ready = |at: &usize| {
            let reads = inputs.get(*at).into_iter().flatten();
            let mut waits = reads.filter_map(|input| match input {
                Input::Source => None,
                Input::Port(of, _) => Some(of),
            });
            !order.contains(at) && waits.all(|of| order.contains(of))
        };
        let Some(next) = (0..inputs.len()).find(is_ready) else { return order };
        order.push(next);
    }
}
