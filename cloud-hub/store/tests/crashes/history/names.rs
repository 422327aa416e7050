//! What series are called: the dictionaries, of which an entry may be another series for a while.

use std::collections::BTreeSet;

use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::wire::Series;
use tideline_store::{Store, StoreError};

use super::World;
use crate::batches::{EPOCH, agent, wait};
use crate::reference::{ASIDE, SERIES, kind_of, series_of};

impl World {
    /// Returns when the writer has done all that it was told to: it carries commands out in their order.
    pub(super) fn define(&self) -> Result<(), StoreError> {
        for no in 0..SERIES.len() {
            let defs = (0..3).map(|series| defined(series_of(no, series, self.aside))).collect();
            wait(self.store().define_series(agent(no), EPOCH, Series { first: 0, defs }))?;
        }
        Ok(())
    }

    /// What comes from here on of a series is another's; what came before stays where it is.
    pub(super) fn rename(&mut self) -> Result<(), StoreError> {
        let aside = !self.aside;
        self.mark.aside = None;
        self.note();
        let defs = vec![defined(series_of(1, ASIDE.0, aside))];
        wait(self.store().rename_series(agent(1), EPOCH, vec![Series { first: ASIDE.0, defs }]))?;
        (self.aside, self.mark.aside) = (aside, Some(aside));
        self.note();
        Ok(())
    }
}

fn defined((device, point): (&str, &str)) -> SeriesDef {
    let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
    let kind = kind_of(point.as_str());
    SeriesDef::new(device, point, String::new()).of_kind(kind)
}

/// Whether the series that may be another is.
pub fn is_aside(store: &Store) -> bool {
    let gate = defined(ASIDE.1).device;
    let found = store.definitions(&agent(1), EPOCH, &BTreeSet::from([&gate]));
    found.get(&ASIDE.0).is_some_and(|def| *def == defined(ASIDE.1))
}
