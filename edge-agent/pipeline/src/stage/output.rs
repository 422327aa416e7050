//! Output: readings under another name. The pipeline knows the stream that they go to.

use tideline_protocol::model::SeriesDef;

use super::{Io, Operator};
use crate::series::{Column, Outlets};
use crate::template::Place;

/// An output.
pub(crate) struct OutputStage {
    pub place: Place,
    pub outlets: Outlets,
}

impl Operator for OutputStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let place = &self.place;
        let outlet = self.outlets.of(column.series, io.registry, |def| {
            let (device, point) = place.fill(def, "")?;
            // A name for people is of the point that it was given to.
            let is_same = device == def.device && point == def.point;
            if is_same {
                return Ok(def.clone());
            }
            Ok(SeriesDef::new(device, point, def.unit.clone()).of_kind(def.kind()))
        });
        match outlet {
            Ok(series) => {
                column.series = series;
                io.give(0, column);
            }
            Err(reason) => io.letters(column.series, &column.samples, &reason),
        }
    }
}
