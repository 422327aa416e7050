//! Series of devices that their agent may not write for. One wrong id among an agent's sources, or a device that is behind
//! another agent by now, must not keep all its other readings from the hub: batches are immutable and hold several devices.
//! Such series are kept as points of the agent's own device, `aside/DEVICE/POINT`, and become those of the device from when it
//! is the agent's.
//!
//! What counts is when a reading comes. Those that came from an agent while a device was its own stay the device's when it is
//! moved; those that it delivers from then on are aside, whenever they were taken: its clock does not say who had the device,
//! and the device's history is the new agent's to write.

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::{
    AgentId, DeviceId, Epoch, ID_BYTES_MAX, NAME_BYTES_MAX, PointId, SeriesDef, SeriesNo,
};
use tideline_protocol::wire::{RefuseCode, Series};
use tokio::sync::{Mutex, MutexGuard};

use super::Ended;
use crate::hub::{App, Hub};
use crate::metadata::{AsideRecord, Changes, MetadataError};
use crate::registry::{self, Barred};
use crate::telemetry::Metric;

/// Most series of an agent that are set aside; with more its session is refused. Each is a record of some hundred bytes.
pub const ASIDE_MAX: usize = 10_000;

/// Registers the devices that are new, and gives the entries as they are to be stored.
///
/// # Errors
/// The registry failed; or, within, the first device that the agent may not write for, where too much is aside already.
pub fn admit(
    hub: &Hub,
    agent: &AgentId,
    epoch: Epoch,
    series: Series,
) -> Result<Result<Series, Barred>, MetadataError> {
    let own = agent.own_device();
    let devices: BTreeSet<&DeviceId> =
        series.defs.iter().map(|def| &def.device).filter(|device| **device != own).collect();
    let told = registry::admit_each(hub, agent, devices)?;
    if told.registered > 0 {
        tracing::info!(%agent, devices = told.registered, "devices registered that it writes for");
    }
    if told.barred.is_empty() {
        return Ok(Ok(series));
    }
    let first_no = series.first;
    let barred: BTreeMap<&DeviceId, &Barred> =
        told.barred.iter().map(|barred| (barred.device(), barred)).collect();
    let (mut defs, mut records) = (Vec::with_capacity(series.defs.len()), BTreeMap::new());
    for (no, def) in (first_no..).zip(series.defs) {
        let Some(barred) = barred.get(&def.device) else {
            defs.push(def);
            continue;
        };
        defs.push(alias(&own, &def));
        records.insert(key(agent, epoch, no), AsideRecord { def, reason: barred.to_string() });
    }
    let added = records.len();
    let Some(first) = told.barred.into_iter().next() else { return Ok(Ok(Series { first: first_no, defs })) };
    if hub.metadata.list_from::<AsideRecord>(&format!("{agent}/"))?.len() + added > ASIDE_MAX {
        return Ok(Err(first));
    }
    hub.metadata.change::<_, MetadataError>(|changes| {
        records.iter().try_for_each(|(key, record)| changes.put(key, record))
    })?;
    hub.counters.add(Metric::SeriesAside, added as u64);
    tracing::warn!(%agent, series = added, %first, "series are set aside, as points of the agent's own device");
    Ok(Ok(Series { first: first_no, defs }))
}

/// Who says at a time which series of an agent are aside: what was read of the registry holds until the dictionary says so
/// too. Of two agents one may wait for the other now and then.
#[derive(Debug)]
pub struct Turns([Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    /// The turn of an agent, until it is dropped.
    pub(super) async fn of(&self, agent: &AgentId) -> Option<MutexGuard<'_, ()>> {
        let at = crc32c::crc32c(agent.as_str().as_bytes()) as usize % self.0.len();
        Some(self.0.get(at)?.lock().await)
    }
}

/// Makes the dictionary of an agent say what the registry does: series of devices that are not the agent's any more go aside,
/// those that were aside go to their devices where these are the agent's by now. What is stored stays where it is.
///
/// First the records of what goes aside, then the dictionary, then the records of what comes back: wherever that is broken
/// off, the next call finds what is left to be done. Within is the first device that the agent may not write for, where too
/// much would be aside.
///
/// # Errors
/// The registry or the store failed.
pub(super) async fn settle(hub: &App, agent: &AgentId, epoch: Epoch) -> Result<Result<(), Barred>, Ended> {
    let _turn = hub.asides.of(agent).await;
    let own = agent.clone();
    let Settling { renamed, freed, added, full } = hub.blocking(move |hub| begin(hub, &own, epoch)).await?;
    if !renamed.is_empty() {
        hub.store.rename_series(agent.clone(), epoch, runs(&renamed)).await?;
    }
    if added > 0 {
        hub.counters.add(Metric::SeriesAside, added);
        tracing::warn!(%agent, series = added, "series of devices that are another agent's are set aside");
    }
    if !freed.is_empty() {
        tracing::info!(%agent, series = freed.len(), "series that were set aside are their devices' from now on");
        let step = move |changes: &mut Changes| {
            freed.iter().try_for_each(|key| changes.remove::<AsideRecord>(key).map(drop))
        };
        hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
    }
    Ok(full.map_or(Ok(()), Err))
}

/// Has the readings of a device that was moved, or is registered since, go to the device from the agent that has it now, and
/// aside from the one that had it. What fails of it is done when the agent signs on, as it has to then.
pub async fn moved(hub: &App, device: &DeviceId, from: Option<AgentId>, to: AgentId) {
    for agent in from.into_iter().chain([to]) {
        // One that has never been here has defined nothing.
        let Some(epoch) = hub.store.newest_epoch(&agent) else { continue };
        let cut = match settle(hub, &agent, epoch).await {
            Ok(Ok(())) => continue,
            Ok(Err(barred)) => (RefuseCode::Identity, barred.to_string()),
            Err(error) => {
                tracing::error!(%agent, %device, %error, "its series could not be renamed");
                (RefuseCode::Unavailable, format!("device {device} was moved; sign on again"))
            }
        };
        hub.fleet.cut(&agent, cut);
    }
}

/// Series that the agent calls otherwise than they are stored, now or at some time: each as it is stored, and as the agent
/// has it.
///
/// # Errors
/// The registry failed.
pub(super) fn otherwise(
    hub: &Hub,
    agent: &AgentId,
    epoch: Epoch,
) -> Result<Vec<(SeriesDef, SeriesDef)>, MetadataError> {
    let own = agent.own_device();
    let aside = hub.metadata.list_from::<AsideRecord>(&format!("{agent}/{epoch}/"))?;
    let defined = hub.store.defined_devices(agent, epoch);
    let others = defined.iter().filter(|device| **device != own).collect();
    let theirs = hub.store.definitions(agent, epoch, &others).into_values();
    let all = theirs.chain(aside.into_iter().map(|(_, record)| record.def));
    Ok(all.map(|def| (alias(&own, &def), def)).collect())
}

/// What is to be done to a dictionary.
struct Settling {
    renamed: BTreeMap<SeriesNo, SeriesDef>,
    // Keys of records that are to go when that is done.
    freed: Vec<String>,
    added: u64,
    full: Option<Barred>,
}

/// What is to be done, with the records of what goes aside. Records of other epochs go: their agent has left those.
fn begin(hub: &Hub, agent: &AgentId, epoch: Epoch) -> Result<Settling, MetadataError> {
    let (own, prefix) = (agent.own_device(), format!("{agent}/{epoch}/"));
    let all = hub.metadata.list_from::<AsideRecord>(&format!("{agent}/"))?;
    let (here, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| key.starts_with(&prefix));
    if !left.is_empty() {
        hub.metadata.change(|changes: &mut Changes| {
            left.iter().try_for_each(|(key, _)| changes.remove::<AsideRecord>(key).map(drop))
        })?;
    }
    let told = registry::admit_each(hub, agent, here.iter().map(|(_, record)| &record.def.device))?;
    let barred: BTreeSet<&DeviceId> = told.barred.iter().map(Barred::device).collect();
    // A store that was restored from a backup may not know the entry: the agent is about to define it.
    let known = hub.store.agent_state(agent, epoch).series_known;
    let (mut renamed, mut freed) = (BTreeMap::new(), Vec::new());
    for (key, record) in here.iter().filter(|(_, record)| !barred.contains(&record.def.device)) {
        let no = key.strip_prefix(&prefix).and_then(|no| no.parse::<SeriesNo>().ok());
        renamed.extend(no.filter(|no| *no < known).map(|no| (no, record.def.clone())));
        freed.push(key.clone());
    }
    let defined = hub.store.defined_devices(agent, epoch);
    let others = registry::elsewhere(hub, agent, defined.iter().filter(|device| **device != own))?;
    let reasons: BTreeMap<&DeviceId, String> =
        others.iter().map(|barred| (barred.device(), barred.to_string())).collect();
    let taken = hub.store.definitions(agent, epoch, &reasons.keys().copied().collect());
    let noted: BTreeSet<&str> = here.iter().map(|(key, _)| key.as_str()).collect();
    let keyed: BTreeMap<String, (SeriesNo, SeriesDef)> =
        taken.into_iter().map(|(no, def)| (key(agent, epoch, no), (no, def))).collect();
    let new = keyed.keys().filter(|key| !noted.contains(key.as_str())).count();
    let mut settling = Settling { renamed, freed, added: 0, full: None };
    if here.len() - settling.freed.len() + new > ASIDE_MAX {
        settling.full = others.into_iter().next();
        return Ok(settling);
    }
    if !keyed.is_empty() {
        hub.metadata.change::<_, MetadataError>(|changes| {
            keyed.iter().try_for_each(|(key, (_, def))| {
                let reason = reasons.get(&def.device).cloned().unwrap_or_default();
                changes.put(key, &AsideRecord { def: def.clone(), reason })
            })
        })?;
    }
    settling.added = keyed.len() as u64;
    settling.renamed.extend(keyed.into_values().map(|(no, def)| (no, alias(&own, &def))));
    Ok(settling)
}

/// Entries that stand beside each other, as one each.
fn runs(entries: &BTreeMap<SeriesNo, SeriesDef>) -> Vec<Series> {
    let mut runs: Vec<Series> = Vec::new();
    for (no, def) in entries {
        match runs.last_mut() {
            Some(run) if run.first as usize + run.defs.len() == *no as usize => run.defs.push(def.clone()),
            _ => runs.push(Series { first: *no, defs: vec![def.clone()] }),
        }
    }
    runs
}

fn key(agent: &AgentId, epoch: Epoch, no: SeriesNo) -> String {
    format!("{agent}/{epoch}/{no:010}")
}

/// The point of the agent's own device in the place of a series.
pub(super) fn alias(own: &DeviceId, def: &SeriesDef) -> SeriesDef {
    let SeriesDef { device, point, unit, .. } = def;
    let mut id = format!("aside/{device}/{point}");
    if id.len() > ID_BYTES_MAX {
        let sum = format!("-{:08x}", crc32c::crc32c(id.as_bytes()));
        id.truncate(ID_BYTES_MAX - sum.len());
        id.push_str(&sum);
    }
    let what = if def.name().is_empty() { point.as_str() } else { def.name() };
    let mut name = format!("{what} of {device}, which is not {own}'s");
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    // Its characters are those of ids, and its length was seen to.
    let point = PointId::parse(&id).unwrap_or_else(|_| point.clone());
    SeriesDef::new(own.clone(), point, unit.clone()).of_kind(def.kind()).named(&name)
}
