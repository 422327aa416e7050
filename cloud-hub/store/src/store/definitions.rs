//! What agents call series by: the entries of their dictionaries, and those that became others.

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, SeriesDef, SeriesNo};
use tideline_protocol::wire::Series;

use super::Store;
use super::threads::Command;
use crate::config::StoreError;
use crate::log::{Dictionary, lock};

impl Store {
    /// Puts other series in the place of known dictionary entries, durably: what is appended from now on belongs to those, and
    /// what was before stays where it is, also where it is read again after a kill. A dead letter from before that is stored
    /// after all is appended then. A call that is cancelled may still take effect, and of one that was killed some of the runs.
    ///
    /// # Errors
    /// Some of the entries are not known, or the store takes no more.
    pub async fn rename_series(
        &self,
        agent: AgentId,
        epoch: Epoch,
        series: Vec<Series>,
    ) -> Result<(), StoreError> {
        self.ask(|reply| Command::Rename { agent, epoch, series, reply }).await
    }

    /// The epoch that an agent is with, as far as is known.
    #[must_use]
    pub fn newest_epoch(&self, agent: &AgentId) -> Option<Epoch> {
        lock(&self.inner.shared.ledgers).newest_epoch(agent)
    }

    fn entries(&self, agent: &AgentId, epoch: Epoch) -> Dictionary {
        lock(&self.inner.shared.ledgers).dictionary(agent, epoch)
    }

    /// The devices that a dictionary has series of. Takes time with its size.
    #[must_use]
    pub fn defined_devices(&self, agent: &AgentId, epoch: Epoch) -> BTreeSet<DeviceId> {
        let (entries, mut found) = (self.entries(agent, epoch), BTreeSet::new());
        let mut recent = "";
        for text in entries.entries_from(0) {
            // Series of a device mostly stand beside each other.
            if text.device != recent {
                recent = text.device;
                found.extend(DeviceId::parse(recent));
            }
        }
        found
    }

    /// What a dictionary has of some devices, by number. Takes time with its size.
    #[must_use]
    pub fn definitions(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        devices: &BTreeSet<&DeviceId>,
    ) -> BTreeMap<SeriesNo, SeriesDef> {
        let names: BTreeSet<&str> = devices.iter().map(|device| device.as_str()).collect();
        let entries = self.entries(agent, epoch);
        let found = (0..).zip(entries.entries_from(0)).filter(|(_, text)| names.contains(text.device));
        let defs = found.filter_map(|(no, text)| {
            let (device, point) = (DeviceId::parse(text.device).ok()?, PointId::parse(text.point).ok()?);
            let def = SeriesDef::new(device, point, text.unit.to_owned());
            Some((no, def.of_kind(text.kind).named(text.name)))
        });
        defs.collect()
    }
}
