//! Series of devices that their agent may not write for. One wrong id among an agent's sources, or a device that is behind
//! another agent by now, must not keep all its other readings from the hub: batches are immutable and hold several devices.
//! Such series are kept as points of the agent's own device, `aside/DEVICE/POINT`, and become those of the device from when it
//! is the agent's.

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::{
    AgentId, DeviceId, Epoch, ID_BYTES_MAX, NAME_BYTES_MAX, PointId, SeriesDef, SeriesNo,
};
use tideline_protocol::wire::{RefuseCode, Series};
use tideline_store::StoreError;

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

/// Gives the series of devices that are the agent's by now to those. Called when it signs on.
///
/// # Errors
/// The registry or the store failed.
pub(super) async fn settle(hub: &App, agent: &AgentId, epoch: Epoch) -> Result<(), Ended> {
    let own = agent.clone();
    let freed = hub.blocking(move |hub| freed(hub, &own, epoch)).await?;
    if freed.is_empty() {
        return Ok(());
    }
    for series in runs(&freed) {
        match hub.store.rename_series(agent.clone(), epoch, series).await {
            // A store that was restored from a backup does not know the entry: the agent is about to define it.
            Ok(()) | Err(StoreError::Series { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    tracing::info!(%agent, series = freed.len(), "series that were set aside are their devices' from now on");
    let keys: Vec<String> = freed.keys().map(|no| key(agent, epoch, *no)).collect();
    let step = move |changes: &mut Changes| {
        keys.iter().try_for_each(|key| changes.remove::<AsideRecord>(key).map(drop))
    };
    hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
    Ok(())
}

/// Has an agent sign on again where series of this device are aside: it has just become the agent's.
///
/// # Errors
/// The registry failed.
pub async fn given(hub: &App, agent: AgentId, device: DeviceId) -> Result<(), MetadataError> {
    let work = move |hub: &Hub| {
        let aside = hub.metadata.list_from::<AsideRecord>(&format!("{agent}/"))?;
        if aside.iter().any(|(_, record)| record.def.device == device) {
            let reason = format!("device {device} is behind {agent} now; sign on again");
            hub.fleet.cut(&agent, (RefuseCode::Unavailable, reason));
        }
        Ok(())
    };
    hub.blocking(work).await
}

/// What is aside of an epoch and may be written by now. Records of other epochs go: their agent has left those.
fn freed(hub: &Hub, agent: &AgentId, epoch: Epoch) -> Result<BTreeMap<SeriesNo, SeriesDef>, MetadataError> {
    let all = hub.metadata.list_from::<AsideRecord>(&format!("{agent}/"))?;
    if all.is_empty() {
        return Ok(BTreeMap::new());
    }
    let prefix = format!("{agent}/{epoch}/");
    let (here, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| key.starts_with(&prefix));
    if !left.is_empty() {
        hub.metadata.change(|changes: &mut Changes| {
            left.iter().try_for_each(|(key, _)| changes.remove::<AsideRecord>(key).map(drop))
        })?;
    }
    let told = registry::admit_each(hub, agent, here.iter().map(|(_, record)| &record.def.device))?;
    let barred: BTreeSet<&DeviceId> = told.barred.iter().map(Barred::device).collect();
    let numbered = here
        .iter()
        .filter(|(_, record)| !barred.contains(&record.def.device))
        .filter_map(|(key, record)| Some((key.strip_prefix(&prefix)?.parse().ok()?, record.def.clone())));
    Ok(numbered.collect())
}

/// Entries that stand beside each other, as one each.
fn runs(freed: &BTreeMap<SeriesNo, SeriesDef>) -> Vec<Series> {
    let mut runs: Vec<Series> = Vec::new();
    for (no, def) in freed {
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
