//! What carries set-points out: it follows the twins, writes to devices, and tells how that ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::time::{Clock as _, NS_PER_MS};
use tideline_protocol::value::Value;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, Twin};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Ended, Setpoint, Shared, Step, Waiting, documents, forgotten, next, of, told, written};
use crate::clock::AgentClock;
use crate::export::in_json;
use crate::source::{Patience, Values, WriteError, Writes};
use crate::twin::{TwinError, TwinHandle};
use crate::write::scalar;

/// Most devices that are written to at a time: one that is slow holds up no other, and a start with many is no flood.
const DEVICES_AT_ONCE: usize = 16;
/// When what could not be begun is tried again; each time it takes twice as long, to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(600);

/// The documents that hold for devices.
type Held = BTreeMap<DeviceId, Vec<DocumentId>>;

/// What a look at a device leaves.
#[derive(Default)]
struct Left {
    waiting: Waiting,
    documents: Vec<DocumentId>,
}

/// What is tried again.
struct Later {
    at: Instant,
    wait: Duration,
    waiting: Waiting,
}

/// Carries out what twins desire of points, for ever.
pub async fn run(twins: TwinHandle, writes: Writes) {
    let touched = twins.follow();
    let mut due = all(&twins).await;
    let mut later: BTreeMap<DeviceId, Later> = BTreeMap::new();
    let mut running: BTreeSet<DeviceId> = BTreeSet::new();
    let mut held = Held::new();
    // What was written to devices and their twins do not tell yet.
    let mut values = Values::new();
    let mut jobs = JoinSet::new();
    loop {
        let now = Instant::now();
        due.extend(later.iter().filter(|(_, later)| later.at <= now).map(|(device, _)| device.clone()));
        while jobs.len() < DEVICES_AT_ONCE
            && let Some(device) = due.iter().find(|device| !running.contains(*device)).cloned()
        {
            due.remove(&device);
            running.insert(device.clone());
            // A change of the twin, its own notes among them, is no reason to try again what waits.
            let waiting = later.get(&device).filter(|later| later.at > now);
            let waiting = waiting.map(|later| later.waiting.clone()).unwrap_or_default();
            let values = values.remove(&device).unwrap_or_default();
            jobs.spawn(one(twins.clone(), writes.clone(), device, values, waiting));
        }
        let first =
            later.iter().filter(|(device, _)| !running.contains(*device)).map(|(_, later)| later.at).min();
        tokio::select! {
            documents = touched.take() => due.extend(concerned(documents, &held, &running)),
            Some(ended) = jobs.join_next() => match ended {
                Ok((device, Left { waiting, documents })) => {
                    running.remove(&device);
                    held.insert(device.clone(), documents);
                    put_off(&mut later, device, waiting);
                }
                // Which one it was is not known: it is left out until the next start.
                Err(error) => tracing::error!(%error, "set-points of a device are not carried out"),
            },
            new = writes.written().take() => {
                due.extend(new.keys().cloned());
                new.into_iter().for_each(|(device, new)| values.entry(device).or_default().extend(new));
            }
            () = until(first) => {}
        }
    }
}

fn put_off(later: &mut BTreeMap<DeviceId, Later>, device: DeviceId, waiting: Waiting) {
    let now = Instant::now();
    match later.remove(&device) {
        _ if waiting.is_empty() => {}
        // Looked at before its time.
        Some(Later { at, wait, .. }) if at > now => {
            later.insert(device, Later { at, wait, waiting });
        }
        before => {
            let wait = before.map_or(RETRY_FIRST, |before| before.wait * 2).min(RETRY_LAST);
            later.insert(device, Later { at: now + wait, wait, waiting });
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn device(document: DocumentId) -> Option<DeviceId> {
    match document {
        DocumentId::Device(device) => Some(device),
        DocumentId::Site(_) | DocumentId::Group(_) => None,
    }
}

/// The devices for which documents hold that have changed. Those that are being looked at may have seen one as it was.
fn concerned(
    documents: BTreeSet<DocumentId>,
    held: &Held,
    running: &BTreeSet<DeviceId>,
) -> BTreeSet<DeviceId> {
    let mut found = BTreeSet::new();
    for document in documents {
        match document {
            DocumentId::Device(device) => drop(found.insert(device)),
            shared => {
                let holds = held.iter().filter(|(_, documents)| documents.contains(&shared));
                found.extend(holds.map(|(device, _)| device).chain(running).cloned());
            }
        }
    }
    found
}

/// What was desired when the agent ended is looked at once more.
async fn all(twins: &TwinHandle) -> BTreeSet<DeviceId> {
    let listed = twins.list().await.unwrap_or_default();
    listed.into_iter().filter_map(|twin| device(twin.document)).collect()
}

/// Does all that is to be done for a device now, but for what waits; gives all that waits then.
async fn one(
    twins: TwinHandle,
    writes: Writes,
    device: DeviceId,
    values: BTreeMap<PointId, Value>,
    waiting: Waiting,
) -> (DeviceId, Left) {
    let mut left = Left { waiting, documents: Vec::new() };
    for (point, value) in values {
        let document = DocumentId::Device(device.clone());
        let tell = move |twin: &Twin| written(twin, point.as_str(), &in_json(&value), now_ms());
        let told = match twins.look(document.clone(), tell).await {
            Ok(Some(change)) => twins.edit(document, move |_| Ok(change)).await.map(drop),
            told => told.map(drop),
        };
        if let Err(error) = told {
            tracing::warn!(%device, %error, "a twin does not tell what was written");
        }
    }
    match steps(&twins, &writes, &device, &mut left).await {
        Ok(()) | Err(TwinError::Stopped) => {}
        // As too many changes that the hub has not seen.
        Err(error) => {
            tracing::warn!(%device, %error, "set-points are not carried out: the twin cannot be written");
            left.waiting.insert(Default::default());
        }
    }
    (device, left)
}

/// What the documents desire that hold for a device, of the points that can be written to it.
async fn shared(
    twins: &TwinHandle,
    writes: &Writes,
    device: &DeviceId,
    documents: &[DocumentId],
) -> Result<Shared, TwinError> {
    let mut shared = Shared::of(!writes.serves(device));
    for document in documents {
        let name = document.clone();
        match twins.look(document.clone(), move |twin| of(twin, &name)).await {
            Ok(wanted) => shared.add(wanted, |point| writes.is_writable(device, point) != Some(false)),
            // The hub has not told of it yet, or none of the agent's devices is there any more.
            Err(TwinError::NotShared(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(shared)
}

async fn steps(
    twins: &TwinHandle,
    writes: &Writes,
    device: &DeviceId,
    left: &mut Left,
) -> Result<(), TwinError> {
    let document = DocumentId::Device(device.clone());
    let Left { waiting, documents: held } = left;
    loop {
        *held = twins.look(document.clone(), documents).await?;
        let shared = shared(twins, writes, device, held).await?;
        let past = waiting.clone();
        let Some(step) = twins.look(document.clone(), move |twin| next(twin, &shared, &past)).await? else {
            return Ok(());
        };
        let note = async |change: Change| {
            let edited = twins.edit(document.clone(), move |_| Ok(change)).await?;
            Ok::<_, TwinError>(edited.changed)
        };
        match step {
            // What changes nothing would be the next step again, for ever.
            Step::Forget(point) => {
                if !note(forgotten(&point, now_ms())).await? {
                    return Ok(());
                }
            }
            Step::Settle(setpoint, ended) => {
                if !note(told(&setpoint, &ended, now_ms())).await? {
                    waiting.insert(setpoint.waits());
                }
            }
            Step::Wait(setpoint) => {
                waiting.insert(setpoint.waits());
            }
            Step::Write(setpoint) if writes.serves(device) => {
                note(told(&setpoint, &Ended::Begun, now_ms())).await?;
                let ended = write(writes, device, &setpoint).await;
                tracing::info!(%device, point = setpoint.point, value = %setpoint.value, ?ended, "a set-point");
                note(told(&setpoint, &ended, now_ms())).await?;
                if matches!(ended, Ended::Waits(_)) {
                    waiting.insert(setpoint.waits());
                }
            }
            Step::Write(setpoint) => {
                // Told once and not with each look, since a device may be away for long.
                let ended = Ended::of(Err(WriteError::NoDevice(device.clone())));
                let change = told(&setpoint, &ended, now_ms());
                let is_told = setpoint.clone();
                if !twins.look(document.clone(), move |twin| is_told.is_told_as(twin, &ended)).await? {
                    note(change).await?;
                }
                waiting.insert(setpoint.waits());
            }
        }
    }
}

async fn write(writes: &Writes, device: &DeviceId, setpoint: &Setpoint) -> Ended {
    let (Ok(point), Some(value)) = (PointId::parse(&setpoint.point), scalar(&setpoint.value)) else {
        return Ended::Refused("this is no value of a point".to_owned());
    };
    Ended::of(writes.write(device, &point, value, Patience::usual()).await)
}

fn now_ms() -> i64 {
    AgentClock::default().wall_ns() / NS_PER_MS
}
