//! Write: each good reading's value is asked to be written to a point; all readings go on.

use tideline_protocol::model::SeriesDef;
use tideline_protocol::value::{Quality, Value};

use super::{Io, Operator};
use crate::series::{Column, shown};
use crate::template::Place;

/// A local action for each reading.
pub(crate) struct WriteStage {
    pub place: Place,
}

impl Operator for WriteStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        let kind = io.registry.def(column.series).map(SeriesDef::kind).unwrap_or_default();
        for sample in &column.samples {
            let (value, quality) = shown(io.boxes, sample.value, kind);
            // What is not to be trusted moves nothing.
            if quality != Quality::Good || value == Value::Null {
                continue;
            }
            if let Err(reason) = io.action(&self.place, column.series, (sample.time_ns, column.clock), value)
            {
                io.letter(column.series, *sample, &reason);
            }
        }
        io.give(0, column);
    }
}
