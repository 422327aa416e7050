//! Devices and their ledgers.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tideline_protocol::model::{AgentId, DeviceId, Gap};
use tideline_protocol::wire::RefuseCode;

use super::problem::{ApiError, Problem};
use super::shapes::{
    Device, DeviceLedger, DevicePage, DeviceState, EpochLedger, FleetEntry, FleetLedger, Ledger, LedgerGap,
    QueryGap,
};
use crate::hub::{App, Hub};
use crate::metadata::{DeviceRecord, MetadataError};
use crate::when;

/// Longest page of devices or series.
pub const PAGE_MAX: usize = 1000;
/// The page when no limit is asked for.
pub const PAGE_DEFAULT: usize = 200;

/// Which page of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Page {
    /// Cuts the page out of a list that is sorted by `id`; gives the cursor of the next one.
    ///
    /// # Errors
    /// The limit is not allowed.
    pub fn cut<T>(
        limit: Option<usize>,
        cursor: Option<&str>,
        all: Vec<T>,
        id: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, Option<String>), ApiError> {
        let limit = limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {PAGE_MAX}")));
        }
        let mut page: Vec<T> = all
            .into_iter()
            .filter(|item| cursor.is_none_or(|after| id(item) > after))
            .take(limit + 1)
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|item| id(item).to_owned());
        Ok((page, next))
    }
}

/// The fleet
#[utoipa::path(get, path = "/api/v1/devices", operation_id = "devices",
    params(("limit" = Option<usize>, Query, description = "Most devices, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = DevicePage), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>, Query(page): Query<Page>) -> Result<Json<DevicePage>, ApiError> {
    let (devices, next) = Page::cut(page.limit, page.cursor.as_deref(), views(&hub)?, |d| &d.id)?;
    Ok(Json(DevicePage { devices, next }))
}

/// One device
#[utoipa::path(get, path = "/api/v1/devices/{id}", operation_id = "device",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "The device", body = Device), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(hub): State<App>, Path(id): Path<String>) -> Result<Json<Device>, ApiError> {
    let record: DeviceRecord = hub.metadata.find(&id)?.ok_or_else(|| ApiError::not_found("device", &id))?;
    view(&hub, &id, &record).map(Json).ok_or_else(|| ApiError::not_found("device", &id))
}

/// The ledger of a device by epoch
#[utoipa::path(get, path = "/api/v1/devices/{id}/ledger", operation_id = "deviceLedger",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "The ledger", body = DeviceLedger), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn ledger(State(hub): State<App>, Path(id): Path<String>) -> Result<Json<DeviceLedger>, ApiError> {
    let record: DeviceRecord = hub.metadata.find(&id)?.ok_or_else(|| ApiError::not_found("device", &id))?;
    let agent = AgentId::parse(&record.agent).map_err(|e| ApiError::internal(&e))?;
    let seen = last_seen(&hub, &agent, &record);
    let epochs = hub
        .store
        .ledger(&agent)
        .iter()
        .map(|e| EpochLedger { epoch: e.epoch.to_string(), ledger: of_epoch(e, seen) })
        .collect();
    Ok(Json(DeviceLedger {
        device: id,
        agent: record.agent.clone(),
        epochs,
        total: total(&hub, &agent, seen),
    }))
}

/// The ledger of every device
#[utoipa::path(get, path = "/api/v1/ledger", operation_id = "ledger",
    responses((status = 200, description = "The ledgers", body = FleetLedger), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn fleet_ledger(State(hub): State<App>) -> Result<Json<FleetLedger>, ApiError> {
    let devices = views(&hub)?.into_iter().map(|d| FleetEntry { device: d.id, ledger: d.ledger }).collect();
    Ok(Json(FleetLedger { devices }))
}

/// Shut a device out for good
#[utoipa::path(post, path = "/api/v1/devices/{id}/revoke", operation_id = "revokeDevice",
    params(("id" = String, Path, description = "The device")),
    responses((status = 204, description = "Revoked"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke(State(hub): State<App>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let agent = hub.metadata.change::<DeviceRecord, _>(&id, |old| match old {
        Some(mut record) => {
            record.revoked = true;
            let agent = record.agent.clone();
            (Some(record), Some(agent))
        }
        None => (None, None),
    })?;
    let agent = agent.ok_or_else(|| ApiError::not_found("device", &id))?;
    if let Ok(agent) = AgentId::parse(&agent) {
        hub.fleet.cut(&agent, (RefuseCode::Revoked, "the device was revoked"));
    }
    tracing::info!(device = id, "device revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// All devices as the API shows them, by id.
///
/// # Errors
/// The registry cannot be read.
pub fn views(hub: &Hub) -> Result<Vec<Device>, MetadataError> {
    let records = hub.metadata.list::<DeviceRecord>()?;
    Ok(records.iter().filter_map(|(id, record)| view(hub, id, record)).collect())
}

fn view(hub: &Hub, id: &str, record: &DeviceRecord) -> Option<Device> {
    // Both were parsed before they were registered; a damaged record is left out, not a panic.
    let (device, agent) = (DeviceId::parse(id).ok()?, AgentId::parse(&record.agent).ok()?);
    let presence = hub.fleet.presence(&agent);
    let seen = last_seen(hub, &agent, record);
    let state = match &presence {
        Some(p) if p.online => DeviceState::Online,
        None if seen.is_none() => DeviceState::Never,
        _ => DeviceState::Offline,
    };
    let live = presence.as_ref().filter(|p| p.online);
    let ledger = total(hub, &agent, seen);
    Some(Device {
        id: id.to_owned(),
        agent: record.agent.clone(),
        state,
        transport: live.map(|_| "quic".to_owned()),
        software: presence.as_ref().map(|p| p.software.clone()),
        connected_ms: live.map(|p| p.connected_ms),
        last_seen_ms: seen,
        last_reading_ms: hub.store.series(Some(&device)).iter().filter_map(|s| s.last_ns).max().map(when::ms),
        rate: hub.fleet.rate(&device, hub.clock.mono_ns()),
        backlog: ledger.pending,
        ledger,
    })
}

fn last_seen(hub: &Hub, agent: &AgentId, record: &DeviceRecord) -> Option<i64> {
    hub.fleet.presence(agent).map(|p| p.last_seen_ms).max(record.last_seen_ms)
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
        refused: epoch.refused,
        duplicates: epoch.duplicates,
        lost: epoch.lost,
        gaps: gaps.collect(),
        balanced: epoch.balanced,
        as_of_ms: epoch.reported.and(seen),
    }
}

fn total(hub: &Hub, agent: &AgentId, seen: Option<i64>) -> Ledger {
    let start = Ledger { balanced: true, ..Ledger::default() };
    hub.store.ledger(agent).iter().map(|e| of_epoch(e, seen)).fold(start, |sum, one| Ledger {
        produced: sum.produced.saturating_add(one.produced),
        stored: sum.stored.saturating_add(one.stored),
        pending: sum.pending.saturating_add(one.pending),
        dropped: sum.dropped.saturating_add(one.dropped),
        refused: sum.refused.saturating_add(one.refused),
        duplicates: sum.duplicates.saturating_add(one.duplicates),
        lost: sum.lost.saturating_add(one.lost),
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
