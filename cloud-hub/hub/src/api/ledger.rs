//! The ledgers of agents: what the store knows of each epoch, as the API shows it.

use axum::Json;
use axum::extract::{Path, State};
use tideline_protocol::model::{AgentId, DeviceId, Gap};
use tideline_protocol::wire::Restamp;
use tideline_store::DeviceInfo;

use std::collections::BTreeMap;

use super::devices::last_seen;
use super::problem::{ApiError, Problem};
use super::shapes::{
    DeviceLedger, DeviceReadings, EpochLedger, FleetEntry, FleetLedger, LateRange, Ledger, LedgerGap,
    QueryGap, Restamped,
};
use crate::hub::{App, Hub};
use crate::lateness::LateSpan;
use crate::metadata::DeviceRecord;
use crate::when;

/// Of readings that were dropped without a gap that says why.
const UNKNOWN_CAUSE: &str = "unknown";

/// The ledger of a device's agent by epoch
#[utoipa::path(get, path = "/api/v1/devices/{id}/ledger", operation_id = "deviceLedger",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "The ledger", body = DeviceLedger), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn of_device(
    State(hub): State<App>,
    Path(id): Path<String>,
) -> Result<Json<DeviceLedger>, ApiError> {
    let record: DeviceRecord = hub.metadata.find(&id)?.ok_or_else(|| ApiError::not_found("device", &id))?;
    let agent = AgentId::parse(&record.agent).map_err(|e| ApiError::internal(&e))?;
    let own = hub.metadata.find(agent.as_str())?.unwrap_or_else(|| record.clone());
    let seen = last_seen(&hub, &agent, &own);
    let epochs = hub
        .store
        .ledger(&agent)
        .iter()
        .map(|e| EpochLedger { epoch: e.epoch.to_string(), ledger: of_epoch(e, seen) })
        .collect();
    let known = hub.store.devices();
    let behind = hub.metadata.list::<DeviceRecord>()?.into_iter().filter(|(_, r)| r.agent == record.agent);
    Ok(Json(DeviceLedger {
        device: id,
        devices: behind.map(|(device, _)| readings_of(device, &known)).collect(),
        epochs,
        total: total(&hub, &agent, seen),
        agent: record.agent,
    }))
}

/// The ledger of every agent
#[utoipa::path(get, path = "/api/v1/ledger", operation_id = "ledger",
    responses((status = 200, description = "The ledgers", body = FleetLedger), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn of_fleet(State(hub): State<App>) -> Result<Json<FleetLedger>, ApiError> {
    let known = hub.store.devices();
    let records = hub.metadata.list::<DeviceRecord>()?;
    let mut behind: BTreeMap<&str, Vec<DeviceReadings>> = BTreeMap::new();
    for (device, record) in &records {
        behind.entry(&record.agent).or_default().push(readings_of(device.clone(), &known));
    }
    let mut devices = Vec::with_capacity(behind.len());
    for (id, own) in records.iter().filter(|(id, record)| *id == record.agent) {
        let Ok(agent) = AgentId::parse(id) else { continue };
        devices.push(FleetEntry {
            device: id.clone(),
            devices: behind.remove(id.as_str()).unwrap_or_default(),
            ledger: total(&hub, &agent, last_seen(&hub, &agent, own)),
        });
    }
    Ok(Json(FleetLedger { devices }))
}

fn readings_of(device: String, known: &BTreeMap<DeviceId, DeviceInfo>) -> DeviceReadings {
    let info = DeviceId::parse(&device).ok().and_then(|id| known.get(&id));
    DeviceReadings { readings: info.map_or(0, |info| info.readings), device }
}

fn of_epoch(epoch: &tideline_store::EpochLedger, seen: Option<i64>) -> Ledger {
    let gaps = epoch.gaps.iter().map(|gap| LedgerGap {
        epoch: epoch.epoch.to_string(),
        first: gap.first.get(),
        last: gap.last().get(),
        rows: gap.rows.total(),
        from_ms: when::ms(gap.from_ns),
        to_ms: when::ms(gap.to_ns),
        cause: gap.cause.as_str().to_owned(),
    });
    Ledger {
        produced: epoch.produced,
        stored: epoch.stored,
        pending: epoch.pending,
        dropped: epoch.dropped,
        dropped_by: by_cause(epoch),
        refused: epoch.refused,
        duplicates: epoch.duplicates,
        lost: epoch.lost,
        restamped: epoch.restamped,
        uncertain: epoch.uncertain,
        gaps: gaps.collect(),
        balanced: epoch.balanced,
        as_of_ms: epoch.reported.and(seen),
    }
}

/// The dropped rows by the name of their cause, as many as are dropped.
fn by_cause(epoch: &tideline_store::EpochLedger) -> BTreeMap<String, u64> {
    let known = epoch.dropped_by.iter().map(|(cause, rows)| (cause.as_str().to_owned(), *rows));
    let mut sums: BTreeMap<String, u64> = known.collect();
    let rest = epoch.dropped.saturating_sub(sums.values().sum());
    if rest > 0 {
        sums.insert(UNKNOWN_CAUSE.to_owned(), rest);
    }
    sums
}

fn added(mut sums: BTreeMap<String, u64>, more: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    for (cause, rows) in more {
        let sum = sums.entry(cause).or_default();
        *sum = sum.saturating_add(rows);
    }
    sums
}

/// The ledger of an agent over all its epochs.
pub fn total(hub: &Hub, agent: &AgentId, seen: Option<i64>) -> Ledger {
    let start = Ledger { balanced: true, ..Ledger::default() };
    hub.store.ledger(agent).iter().map(|e| of_epoch(e, seen)).fold(start, |sum, one| Ledger {
        produced: sum.produced.saturating_add(one.produced),
        stored: sum.stored.saturating_add(one.stored),
        pending: sum.pending.saturating_add(one.pending),
        dropped: sum.dropped.saturating_add(one.dropped),
        dropped_by: added(sum.dropped_by, one.dropped_by),
        refused: sum.refused.saturating_add(one.refused),
        duplicates: sum.duplicates.saturating_add(one.duplicates),
        lost: sum.lost.saturating_add(one.lost),
        restamped: sum.restamped.saturating_add(one.restamped),
        uncertain: sum.uncertain.saturating_add(one.uncertain),
        gaps: [sum.gaps, one.gaps].concat(),
        balanced: sum.balanced && one.balanced,
        as_of_ms: sum.as_of_ms.max(one.as_of_ms),
    })
}

/// A gap as queries and the live feed show it.
#[must_use]
pub fn query_gap(device: &str, gap: &Gap) -> QueryGap {
    QueryGap {
        device: device.to_owned(),
        from_ms: when::ms(gap.from_ns),
        to_ms: when::ms(gap.to_ns),
        rows: gap.rows.total(),
        cause: gap.cause.as_str().to_owned(),
    }
}

/// A correction of times as queries show it.
#[must_use]
pub fn query_restamp(device: &str, restamp: &Restamp) -> Restamped {
    Restamped {
        device: device.to_owned(),
        from_ms: when::ms(restamp.from_ns),
        to_ms: when::ms(restamp.to_ns),
        shift_ms: restamp.shift_ns.map(when::ms),
    }
}

/// What came late as queries show it.
#[must_use]
pub fn query_late(device: &str, span: LateSpan) -> LateRange {
    let LateSpan { from_ms, to_ms, rows, delay_ms, came_from_ms, came_to_ms } = span;
    LateRange { device: device.to_owned(), from_ms, to_ms, rows, delay_ms, came_from_ms, came_to_ms }
}
