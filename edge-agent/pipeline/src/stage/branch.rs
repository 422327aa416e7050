//! Branches, filters and discards: where readings go on, by expressions. Readings of all qualities are tried; `quality`
//! is a name of the expression.

use tideline_protocol::model::Sample;

use super::compute::OfSeries;
use super::{Io, Operator};
use crate::expression::Expression;
use crate::series::Column;

/// A branch: the port of a reading is that of the first expression that is true, or the one behind them all.
pub(crate) struct BranchStage {
    pub cases: Vec<Expression>,
}

impl Operator for BranchStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        let Column { series, clock, .. } = column;
        let def = io.registry.def(series);
        let mut cases: Vec<OfSeries<'_>> = self.cases.iter().map(|case| OfSeries::new(case, def)).collect();
        let mut ports: Vec<Vec<Sample>> = vec![Vec::new(); cases.len() + 1];
        for sample in column.samples {
            match port(&mut cases, sample, io) {
                Ok(port) => ports.get_mut(port).into_iter().for_each(|samples| samples.push(sample)),
                Err(reason) => io.letter(series, sample, reason),
            }
        }
        for (port, samples) in ports.into_iter().enumerate() {
            io.give(port, Column { series, samples, clock });
        }
    }
}

fn port(cases: &mut [OfSeries<'_>], sample: Sample, io: &Io<'_>) -> Result<usize, &'static str> {
    for (port, case) in cases.iter_mut().enumerate() {
        if case.truth(io.boxes, sample.time_ns, sample.value)? {
            return Ok(port);
        }
    }
    Ok(cases.len())
}

/// A filter: what is not true is left out.
pub(crate) struct FilterStage {
    pub when: Expression,
}

impl Operator for FilterStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let (series, before) = (column.series, column.samples.len());
        let mut when = OfSeries::new(&self.when, io.registry.def(series));
        let mut dead = 0;
        column.samples.retain(|sample| match when.truth(io.boxes, sample.time_ns, sample.value) {
            Ok(passes) => passes,
            Err(reason) => {
                io.letter(series, *sample, reason);
                dead += 1;
                false
            }
        });
        io.drop(before - column.samples.len() - dead);
        io.give(0, column);
    }
}

/// The end of a path.
pub(crate) struct DiscardStage;

impl Operator for DiscardStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        io.drop(column.samples.len());
    }
}
