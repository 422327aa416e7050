//! From a definition to a pipeline that can run; everything that is wrong is told at once.

mod graph;
mod operators;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tideline_protocol::time::NS_PER_MS;

use crate::definition::{Definition, ELSE, Kind, SOURCE, StageDefinition};
use crate::limits::{LENGTH_MS_MAX, NAME_BYTES_MAX, PATTERNS_MAX, STAGES_MAX};
use crate::outcome::Counts;
use crate::pattern::Pattern;
use crate::pipeline::{Pipeline, Port, Stage};
use crate::problem::Problems;
use crate::series::Registry;
use crate::state::fingerprint;

use self::graph::Graph;

/// Checks a definition and makes the pipeline.
pub(crate) fn compile(definition: &Definition) -> Result<Pipeline, Problems> {
    let mut checker = Checker { definition, problems: Problems::default() };
    if let Err(what) = name(&definition.name) {
        checker.problem(None, "name", what);
    }
    let from = checker.patterns();
    let ahead_max_ns = checker.ahead_max_ns();
    if definition.stages.len() > STAGES_MAX {
        let what = format!("has {} stages; allowed are {STAGES_MAX}", definition.stages.len());
        checker.problem(None, "stage", what);
        return checker.problems.or(None);
    }
    checker.names();
    let graph = Graph::of(&mut checker);
    let mut operators = Vec::new();
    for (at, stage) in definition.stages.iter().enumerate() {
        operators.push(operators::build(&mut checker, at, &stage.kind));
    }
    let operators: Option<Vec<_>> = operators.into_iter().collect();
    let made = graph.zip(operators).map(|(graph, operators)| {
        let stages = definition.stages.iter().zip(operators).map(|(stage, operator)| Stage {
            name: Arc::from(stage.name.as_str()),
            kind: stage.kind.as_str(),
            fingerprint: fingerprint(&stage.kind),
            operator,
            ports: ports(stage),
            merges: false,
            counts: Counts::default(),
            inbox: Vec::new(),
        });
        let (stages, entries) = graph.arrange(stages.collect());
        Pipeline {
            name: Arc::from(definition.name.as_str()),
            from,
            keep: definition.keep,
            watch: definition.watch,
            only: None,
            stages,
            entries,
            registry: Registry::default(),
            traced: None,
            ahead_max_ns,
            boot: None,
        }
    });
    checker.problems.or(made)
}

/// The names of a stage's ports; of a stage with one port that is empty.
fn port_names(stage: &StageDefinition) -> Vec<&str> {
    match &stage.kind {
        Kind::Branch(branch) => branch.cases.iter().map(|case| case.port.as_str()).chain([ELSE]).collect(),
        _ => vec![""],
    }
}

fn ports(stage: &StageDefinition) -> Vec<Port> {
    let stream = match &stage.kind {
        Kind::Output(output) => output.stream.as_deref().map(Arc::from),
        _ => None,
    };
    let port = |name: &str| Port { name: name.to_owned(), readers: Vec::new(), stream: stream.clone() };
    port_names(stage).into_iter().map(port).collect()
}

/// A definition that is being checked.
struct Checker<'d> {
    definition: &'d Definition,
    problems: Problems,
}

impl Checker<'_> {
    /// Notes what is wrong with a key of a stage, or of the pipeline.
    fn problem(&mut self, stage: Option<usize>, key: &str, what: impl Into<String>) {
        let definition = self.definition;
        let of =
            stage.and_then(|at| definition.stages.get(at)).map(|stage| format!(", stage {}", stage.name));
        let place = format!("pipeline {}{}, {key}", definition.name, of.unwrap_or_default());
        self.problems.add(definition.lines.of(stage, key), place, what);
    }

    fn ahead_max_ns(&mut self) -> i64 {
        let given = self.definition.ahead_max_ms;
        if given > LENGTH_MS_MAX {
            self.problem(None, "ahead_max_ms", format!("is {given}; allowed are 0 to {LENGTH_MS_MAX}"));
        }
        i64::try_from(given).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS)
    }

    fn patterns(&mut self) -> Vec<Pattern> {
        let given = &self.definition.from;
        if given.is_empty() || given.len() > PATTERNS_MAX {
            let what = format!("has {} patterns; allowed are 1 to {PATTERNS_MAX}", given.len());
            self.problem(None, "from", what);
        }
        let mut patterns = Vec::new();
        for text in given {
            match Pattern::parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(what) => self.problem(None, "from", what),
            }
        }
        patterns
    }

    fn names(&mut self) {
        let stages = &self.definition.stages;
        for (at, stage) in stages.iter().enumerate() {
            if let Err(what) = name(&stage.name) {
                self.problem(Some(at), "name", what);
            } else if stage.name == SOURCE {
                let what = format!("is {SOURCE:?}, which stands for the readings as they come");
                self.problem(Some(at), "name", what);
            } else if stages.iter().take(at).any(|other| other.name == stage.name) {
                self.problem(Some(at), "name", format!("{:?} is used twice", stage.name));
            }
        }
    }
}

/// Whether a text may be the name of a pipeline, a stage or a port.
fn name(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(fits) {
        return Err(format!("is {text:?}; allowed are 1 to {NAME_BYTES_MAX} letters, digits, '_' and '-'"));
    }
    Ok(())
}
