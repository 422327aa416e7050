//! The devices of the fleet: agents, and field devices behind them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tideline_link::identity::PeerCertificate;
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::session::CREDIT_BYTES;
use tideline_protocol::wire::{Breaker, Carrier, Health, RefuseCode, WayHealth};
use tideline_store::DeviceInfo;

use super::ledger::total;
use super::problem::{ApiError, Problem};
use super::select;
use super::shapes::{
    About, CertificateView, Device, DeviceEvents, DevicePage, DevicePosition, DeviceRequest, DeviceState,
    Ledger, PlanSpot, SessionView, Uplink, Way,
};
use crate::fleet::Came;
use crate::hub::{App, Hub};
use crate::ingest::moved;
use crate::metadata::{Card, Changes, DeviceRecord, MetadataError};
use crate::position::Measured;
use crate::presence::{PresenceEvent, Shown, State as PresenceState};
use crate::registry::{DEVICES_MAX, Filter};
use crate::secret::hex;
use crate::when;
use crate::writes::reserved;

/// Longest page of devices or series.
pub const PAGE_MAX: usize = 1000;
/// The page when no limit is asked for.
pub const PAGE_DEFAULT: usize = 200;

/// How lists are cut into pages.
pub struct Page;

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

/// Which devices of the fleet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
    agent: Option<String>,
    site: Option<String>,
    group: Option<String>,
    profile: Option<String>,
    tag: Option<String>,
    q: Option<String>,
}

/// The fleet
#[utoipa::path(get, path = "/api/v1/devices", operation_id = "devices",
    params(("limit" = Option<usize>, Query, description = "Most devices, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before"), ("agent" = Option<String>, Query, description = "Those behind this agent, and its own"), ("site" = Option<String>, Query, description = "Those of this site"), ("group" = Option<String>, Query, description = "Those in this group"), ("profile" = Option<String>, Query, description = "Those of this profile"), ("tag" = Option<String>, Query, description = "Those with these tags, as key or key=value with commas"), ("q" = Option<String>, Query, description = "Those with this text in their id, title, maker or model")),
    responses((status = 200, description = "A page", body = DevicePage), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(hub): State<App>,
    Query(listing): Query<Listing>,
) -> Result<Json<DevicePage>, ApiError> {
    let Listing { limit, cursor, agent, site, group, profile, tag, q } = listing;
    let tags = select::listed(tag.as_deref()).map(|tag| match tag.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (tag, None),
    });
    let filter = Filter { agent, site, group, profile, tags: tags.collect(), text: q };
    let work = move |hub: &Hub| {
        let mut records = hub.metadata.list::<DeviceRecord>()?;
        records.retain(|(id, record)| filter.fits(id, record));
        let (records, next) = Page::cut(limit, cursor.as_deref(), records, |(id, _)| id)?;
        Ok::<_, ApiError>(DevicePage { devices: views(hub, &records)?, next })
    };
    hub.blocking(work).await.map(Json)
}

/// Register a field device behind an agent
#[utoipa::path(post, path = "/api/v1/devices", operation_id = "addDevice", request_body = DeviceRequest,
    responses((status = 201, description = "Registered: the agent may write for it", body = Device), (status = 400, description = "`bad-device`, `bad-agent`", body = Problem, content_type = "application/problem+json"), (status = 404, description = "The agent is not enrolled", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`device-exists`, `not-an-agent`, `device-revoked`, `too-many`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn add(
    State(hub): State<App>,
    Json(request): Json<DeviceRequest>,
) -> Result<(StatusCode, Json<Device>), ApiError> {
    let conflict = |code, detail: String| ApiError::new(StatusCode::CONFLICT, code, detail);
    let device = DeviceId::parse(&request.id).map_err(|e| ApiError::bad("bad-device", e.to_string()))?;
    let agent = AgentId::parse(&request.agent).map_err(|e| ApiError::bad("bad-agent", e.to_string()))?;
    if agent.own_device() == device {
        return Err(ApiError::bad(
            "bad-agent",
            format!("{agent} is its own device already; name another id"),
        ));
    }
    let owner: DeviceRecord =
        hub.metadata.find(agent.as_str())?.ok_or_else(|| ApiError::not_found("agent", agent.as_str()))?;
    if owner.agent != agent.as_str() {
        return Err(conflict(
            "not-an-agent",
            format!("{agent} is itself a field device behind {}", owner.agent),
        ));
    }
    if owner.revoked {
        return Err(conflict("device-revoked", format!("agent {agent} was revoked")));
    }
    not_reserved(device.as_str())?;
    if hub.metadata.count::<DeviceRecord>()? >= DEVICES_MAX {
        return Err(conflict(
            "too-many",
            format!("{DEVICES_MAX} devices are registered; more are not allowed"),
        ));
    }
    let record = DeviceRecord::behind(agent.to_string(), hub.now_ms());
    let (id, new) = (device.to_string(), record.clone());
    let step = move |changes: &mut Changes| match changes.find::<DeviceRecord>(&id)? {
        Some(old) => Ok(Some(old)),
        None => changes.put(&id, &new).map(|()| None),
    };
    let old = hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
    if let Some(old) = old {
        let place = if old.agent == device.as_str() {
            "an agent".to_owned()
        } else {
            format!("behind {}", old.agent)
        };
        return Err(conflict("device-exists", format!("{device} is registered already: it is {place}")));
    }
    tracing::info!(%device, %agent, "field device registered");
    hub.twins.moved(&hub, device.clone());
    moved(&hub, &device, None, agent).await;
    Ok((StatusCode::CREATED, Json(one(&hub, device.as_str(), &record)?)))
}

/// Refuses ids that only the hub's own writers have.
///
/// # Errors
/// It is one of them.
pub(super) fn not_reserved(id: &str) -> Result<(), ApiError> {
    let taken = |detail| ApiError::new(StatusCode::CONFLICT, "reserved-id", detail);
    reserved(id).map_or(Ok(()), |detail| Err(taken(detail)))
}

/// One device
#[utoipa::path(get, path = "/api/v1/devices/{id}", operation_id = "device",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "The device", body = Device), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(hub): State<App>, Path(id): Path<String>) -> Result<Json<Device>, ApiError> {
    let work = move |hub: &Hub| {
        let record: DeviceRecord =
            hub.metadata.find(&id)?.ok_or_else(|| ApiError::not_found("device", &id))?;
        one(hub, &id, &record)
    };
    hub.blocking(work).await.map(Json)
}

/// When a device's agent came and went
#[utoipa::path(get, path = "/api/v1/devices/{id}/events", operation_id = "deviceEvents",
    params(("id" = String, Path, description = "The device")),
    responses((status = 200, description = "The last events, oldest first", body = DeviceEvents), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn events(State(hub): State<App>, Path(id): Path<String>) -> Result<Json<DeviceEvents>, ApiError> {
    let record: DeviceRecord = hub.metadata.find(&id)?.ok_or_else(|| ApiError::not_found("device", &id))?;
    let agent = AgentId::parse(&record.agent).map_err(|e| ApiError::internal(&e))?;
    Ok(Json(DeviceEvents { device: id, agent: record.agent, events: hub.presences.events(&agent) }))
}

/// Shut an agent and all devices behind it out for good
#[utoipa::path(post, path = "/api/v1/devices/{id}/revoke", operation_id = "revokeDevice",
    params(("id" = String, Path, description = "The agent's own device")),
    responses((status = 204, description = "Revoked, and its session cut"), (status = 409, description = "`field-device`: it has no key of its own", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke(State(hub): State<App>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let key = id.clone();
    let step = move |changes: &mut Changes| {
        let Some(mut record) = changes.find::<DeviceRecord>(&key)? else { return Ok(None) };
        // A field device has no key that could be shut out.
        if record.agent == key && !record.revoked {
            record.revoked = true;
            changes.put(&key, &record)?;
        }
        Ok(Some(record.agent))
    };
    let agent = hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
    let agent = agent.ok_or_else(|| ApiError::not_found("device", &id))?;
    if agent != id {
        let detail = format!("{id} has no key of its own: it is behind {agent}; revoke that");
        return Err(ApiError::new(StatusCode::CONFLICT, "field-device", detail));
    }
    if let Ok(agent) = AgentId::parse(&agent) {
        hub.fleet.cut(&agent, (RefuseCode::Revoked, revoked_text(&agent)));
    }
    hub.sign_out();
    tracing::info!(device = id, "device revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// What an agent is told that was shut out.
#[must_use]
pub fn revoked_text(agent: &AgentId) -> String {
    format!(
        "device {agent} was revoked: enrol it under another id, with a token of `cloud-hub enroll-token create --device ID`"
    )
}

/// All devices as the API shows them, by id.
///
/// # Errors
/// The registry cannot be read.
pub fn all_views(hub: &Hub) -> Result<Vec<Device>, MetadataError> {
    let records = hub.metadata.list::<DeviceRecord>()?;
    shown(hub, &records, &hub.store.devices(), &hub.positions.all(&hub.store))
}

/// Some devices as the API shows them, in the order given: what it costs is by how many they are, and not by how many there are.
///
/// # Errors
/// The registry cannot be read.
pub fn views(hub: &Hub, records: &[(String, DeviceRecord)]) -> Result<Vec<Device>, MetadataError> {
    let ids: HashSet<DeviceId> = records.iter().filter_map(|(id, _)| DeviceId::parse(id).ok()).collect();
    let known = hub.store.devices_that(|device| ids.contains(device));
    shown(hub, records, &known, &hub.positions.of(&hub.store, &ids))
}

fn shown(
    hub: &Hub,
    records: &[(String, DeviceRecord)],
    known: &BTreeMap<DeviceId, DeviceInfo>,
    measured: &HashMap<DeviceId, Measured>,
) -> Result<Vec<Device>, MetadataError> {
    let mut agents: HashMap<&str, AgentView> = HashMap::new();
    let mut out = Vec::with_capacity(records.len());
    for (id, record) in records {
        // Both were parsed before they were registered; a damaged record is left out, not a panic.
        let (Ok(device), Ok(agent)) = (DeviceId::parse(id), AgentId::parse(&record.agent)) else { continue };
        // The ledger is taken once, however many devices are behind the agent.
        let agent = match agents.entry(&record.agent) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if record.agent == *id => entry.insert(AgentView::of(hub, &agent, record)),
            Entry::Vacant(entry) => {
                let Some(own) = hub.metadata.find(agent.as_str())? else { continue };
                entry.insert(AgentView::of(hub, &agent, &own))
            }
        };
        let info = known.get(&device).copied().unwrap_or_default();
        let position = DevicePosition::of(record.marks.position, measured.get(&device).copied());
        out.push(Device { position, ..view(hub, &device, record, agent, info) });
    }
    Ok(out)
}

pub(super) fn one(hub: &Hub, id: &str, record: &DeviceRecord) -> Result<Device, ApiError> {
    let mut all = views(hub, &[(id.to_owned(), record.clone())])?;
    all.pop().ok_or_else(|| ApiError::not_found("device", id))
}

/// What the devices behind an agent share.
struct AgentView {
    state: DeviceState,
    last: Option<PresenceEvent>,
    revoked: bool,
    software: Option<String>,
    uplink: Option<Uplink>,
    // Of a session that has not ended: by what, since when, and how it does.
    connected: Option<(&'static str, i64, SessionView)>,
    seen: Option<i64>,
    ledger: Ledger,
}

impl AgentView {
    fn of(hub: &Hub, agent: &AgentId, own: &DeviceRecord) -> Self {
        let presence = hub.fleet.presence(agent);
        let seen = last_seen(hub, agent, own);
        let ledger = total(hub, agent, seen);
        let shown = hub.presences.shown(agent);
        let state = match &shown {
            Some(shown) if shown.flapping => DeviceState::Flapping,
            Some(Shown { state: PresenceState::Online, .. }) => DeviceState::Online,
            Some(Shown { state: PresenceState::Suspect, .. }) => DeviceState::Suspect,
            // A hub that was killed has not noted the sessions that it had; the ledger tells.
            None if seen.is_none() && ledger.produced == 0 => DeviceState::Never,
            _ => DeviceState::Offline,
        };
        Self {
            state,
            last: shown.and_then(|shown| shown.last),
            revoked: own.revoked,
            connected: presence
                .as_ref()
                .filter(|p| p.online)
                .map(|p| (p.came.transport.as_str(), p.connected_ms, session(&p.came))),
            uplink: presence
                .as_ref()
                .and_then(|p| p.health.as_ref())
                .map(|(as_of_ms, h)| uplink(*as_of_ms, h)),
            software: presence.map(|p| p.came.software),
            seen,
            ledger,
        }
    }
}

fn uplink(as_of_ms: i64, health: &Health) -> Uplink {
    let way = |way: &WayHealth| Way {
        address: way.address.clone(),
        transport: match way.carrier {
            Carrier::Quic => "quic".to_owned(),
            Carrier::Mqtt => "mqtt".to_owned(),
        },
        carries: way.carries,
        breaker: match way.breaker {
            Breaker::Closed => "closed".to_owned(),
            Breaker::Open => "open".to_owned(),
            Breaker::HalfOpen => "half-open".to_owned(),
        },
        failures: way.failures,
        wait_ms: way.wait_ms,
        rtt_ms: way.rtt_us.map(|us| f64::from(us) / 1_000.0),
        loss: f64::from(way.loss_ppm) / 1_000_000.0,
    };
    Uplink {
        as_of_ms,
        ways: health.ways.iter().map(way).collect(),
        switches: health.switches,
        spool_bytes: health.spool_bytes,
        spool_quota_bytes: health.spool_quota_bytes,
    }
}

fn session(came: &Came) -> SessionView {
    let certificate = |shown: PeerCertificate| CertificateView {
        sha256: hex(&shown.sha256),
        not_before_ms: shown.not_before_s.saturating_mul(1000),
        not_after_ms: shown.not_after_s.saturating_mul(1000),
    };
    let waiting_bytes = came.flow.bytes();
    SessionView {
        remote: came.remote.to_string(),
        certificate: came.certificate.map(certificate),
        waiting_bytes,
        waiting_batches: came.flow.appends(),
        credit_bytes: CREDIT_BYTES.saturating_sub(waiting_bytes),
        credit_most_bytes: CREDIT_BYTES,
    }
}

fn about(card: Card) -> About {
    let Card { profile, firmware, vendor, model, via, keeps: _, digest: _ } = card;
    About { profile, firmware, vendor, model, via }
}

fn view(hub: &Hub, device: &DeviceId, record: &DeviceRecord, agent: &AgentView, info: DeviceInfo) -> Device {
    Device {
        id: device.to_string(),
        agent: record.agent.clone(),
        title: record.marks.title.clone(),
        // Of a device that its agent knows by its name alone there is nothing to tell.
        about: record.card.clone().filter(|card| *card != Card::default()).map(about),
        site: record.marks.site.clone(),
        groups: record.marks.groups.iter().cloned().collect(),
        tags: record.marks.tags.clone(),
        position: None,
        spot: record.marks.spot.map(PlanSpot::from),
        state: agent.state,
        state_since_ms: agent.last.as_ref().map(|event| event.at_ms),
        state_reason: agent.last.as_ref().map(|event| event.reason),
        revoked: agent.revoked,
        transport: agent.connected.as_ref().map(|(transport, _, _)| (*transport).to_owned()),
        uplink: agent.uplink.clone(),
        session: agent.connected.as_ref().map(|(_, _, session)| session.clone()),
        software: agent.software.clone(),
        connected_ms: agent.connected.as_ref().map(|(_, connected_ms, _)| *connected_ms),
        last_seen_ms: agent.seen,
        last_reading_ms: info.last_ns.map(when::ms),
        rate: hub.fleet.rate(device, hub.clock.mono_ns()),
        readings: info.readings,
        late: info.late,
        backlog: agent.ledger.pending,
        ledger: agent.ledger.clone(),
    }
}

/// When the agent whose own record this is was last heard of, Unix ms.
#[must_use]
pub fn last_seen(hub: &Hub, agent: &AgentId, own: &DeviceRecord) -> Option<i64> {
    let heard = hub.fleet.presence(agent).map(|p| p.last_seen_ms);
    heard.max(hub.writers.last_seen_ms(agent)).max(own.last_seen_ms)
}
