//! The variables that are read of a server, and what has been said of them. A core without I/O; what was said outlives a
//! connection, so that it can be taken back when that is lost.

use std::collections::{BTreeMap, BTreeSet};

use opcua_types::{DataChangeNotification, DataValue, NodeId, StatusCode};
use tideline_profiles::names::Names;
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::values::{self, Type};
use crate::source::Device;
use crate::source::introduction::Introduction;
use crate::source::sheets::Sheets;

/// Clocks that are no further apart count as one, in ns: an answer takes its time.
const APART_NS: i64 = 2_000_000_000;

/// A device behind the server.
#[derive(Debug, Clone)]
pub struct Party {
    /// What it is.
    pub device: Device,
    /// The stream that its readings go to in place of the source's.
    pub stream: Option<String>,
    /// Its points by their names in the profile.
    pub names: Names,
}

/// A variable of a device.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Which device's.
    pub party: usize,
    /// Its node.
    pub node: NodeId,
    /// Its name in the profile, or its path.
    pub name: String,
    /// Its point.
    pub point: PointId,
    /// What its values are.
    pub of: Type,
    /// The built-in type that they have at the server, as far as it is known.
    pub data_type: Option<u32>,
    /// How often the server is to look at it.
    pub sampling_ms: u32,
    /// Whether it is read at all: some points are written only.
    pub is_read: bool,
}

/// A point that the server has nothing for.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Which device's.
    pub party: usize,
    /// Which.
    pub point: PointId,
    /// Why.
    pub reason: String,
}

/// What was said of the points of all devices, over all connections.
#[derive(Debug, Default)]
pub struct Memory {
    said: BTreeMap<(usize, PointId), ValueKind>,
    kinds: BTreeMap<(usize, PointId), ValueKind>,
    // What the registry is told of each device.
    introductions: Vec<Introduction>,
    // How far the server's clock is ahead of ours.
    ahead_ns: i64,
    // When what was said was taken back, by the clock that values have their times of.
    silent_ns: Option<i64>,
}

impl Memory {
    /// Forgets the kinds of points that there are no more: a server may name its variables anew each time.
    pub fn keep(&mut self, variables: &Variables) {
        let all: BTreeSet<(usize, &PointId)> =
            variables.all().iter().map(|variable| (variable.party, &variable.point)).collect();
        self.kinds.retain(|(party, point), _| all.contains(&(*party, point)));
    }

    /// Says who the devices are from now on, in their order; what they say of themselves comes on top.
    pub fn introduce(&mut self, introductions: Vec<Introduction>, sheets: &mut Sheets<'_>) {
        self.introductions = introductions;
        self.introductions.iter_mut().for_each(|introduction| sheets.tell(introduction.news()));
    }

    /// Notes what the server says that the time is.
    pub fn compare(&mut self, server_ns: i64, now_ns: i64) {
        let ahead_ns = server_ns.saturating_sub(now_ns);
        self.ahead_ns = if ahead_ns.saturating_abs() < APART_NS { 0 } else { ahead_ns };
    }

    /// Takes back all that was said: it is null of bad quality, once. The time is of the server's clock, as those of the
    /// values before and after it.
    pub fn silence(&mut self, parties: &[Party], sheets: &mut Sheets<'_>) {
        let silent_ns = sheets.now_ns().saturating_add(self.ahead_ns);
        let time_ns = (self.ahead_ns != 0).then_some(silent_ns);
        for ((party, point), kind) in std::mem::take(&mut self.said) {
            let Some(party) = parties.get(party) else { continue };
            let to = (&party.device, party.stream.as_deref());
            sheets.miss(to, &point, kind, time_ns);
            sheets.heard(&party.device.id).is_silent = true;
            self.silent_ns = Some(silent_ns);
        }
    }

    /// Says that the server has nothing for a point.
    pub fn miss(&mut self, missing: &Missing, parties: &[Party], sheets: &mut Sheets<'_>) {
        let Some(party) = parties.get(missing.party) else { return };
        let (device, point) = (&party.device, &missing.point);
        sheets.heard(&device.id).failures += 1;
        sheets.reject_of(&device.id, format!("{}/{point}: {}", device.id, missing.reason));
        let known = device.profile.as_ref().and_then(|profile| profile.point(point.as_str()));
        if let Some(known) = known {
            let to = (device, party.stream.as_deref());
            sheets.miss(to, point, known.allowed.kind(), None);
        }
    }
}

/// The variables of a connection.
#[derive(Debug)]
pub struct Variables {
    all: Vec<Variable>,
    // Whether it has told a value on this connection.
    told: Vec<bool>,
}

impl Variables {
    /// These; their places in the list, counted from 1, are their handles.
    pub fn new(all: Vec<Variable>) -> Self {
        let told = vec![false; all.len()];
        Self { all, told }
    }

    /// All of them.
    pub fn all(&self) -> &[Variable] {
        &self.all
    }

    /// Adds what the server tells.
    pub fn take(
        &mut self,
        change: &DataChangeNotification,
        parties: &[Party],
        memory: &mut Memory,
        sheets: &mut Sheets<'_>,
    ) {
        for item in change.monitored_items.iter().flatten() {
            let place = usize::try_from(item.client_handle).unwrap_or(0).wrapping_sub(1);
            let (Some(variable), Some(told)) = (self.all.get_mut(place), self.told.get_mut(place)) else {
                sheets.reject(format!(
                    "the server tells of a variable {} that was not asked for",
                    item.client_handle
                ));
                continue;
            };
            let Some(party) = parties.get(variable.party) else { continue };
            let is_first = !std::mem::replace(told, true);
            let time_ns = time_ns(&item.value, memory.silent_ns.filter(|_| is_first));
            if let Some(variant) = item.value.value.as_ref().filter(|_| variable.of == Type::Any) {
                variable.data_type = variant.scalar_type_id().map(|id| id as u32);
            }
            say(variable, &item.value, time_ns, (party, memory), sheets);
        }
    }
}

/// When a value was. The first one after a silence may be old, and must not come before it: then it is of when the server
/// looked, or of now.
fn time_ns(value: &DataValue, silent_ns: Option<i64>) -> Option<i64> {
    let time_ns = values::time_ns(value);
    let Some(silent_ns) = silent_ns else { return time_ns };
    let later = |time_ns: &i64| *time_ns > silent_ns;
    time_ns.filter(later).or_else(|| values::server_time_ns(value).filter(later))
}

fn say(
    variable: &Variable,
    told: &DataValue,
    time_ns: Option<i64>,
    (party, memory): (&Party, &mut Memory),
    sheets: &mut Sheets<'_>,
) {
    let status = told.status.unwrap_or(StatusCode::Good);
    let at = || format!("{}/{}", party.device.id, variable.point);
    if values::follows_a_gap(status) {
        sheets.reject(format!("{}: the server had no room for values before this one", at()));
    }
    let key = (variable.party, variable.point.clone());
    let quality = values::quality(status);
    let known = party.names.profile().point(variable.point.as_str()).map(|point| point.allowed.kind());
    let usual = known.or(match variable.of {
        Type::Of(kind) => Some(kind),
        _ => memory.kinds.get(&key).copied(),
    });
    // What is bad is to be ignored, whatever it is (Part 4, "StatusCode").
    let variant = told.value.as_ref().filter(|_| quality != Quality::Bad);
    let value = variant.map_or(Ok(Value::Null), values::value).and_then(|value| match (known, usual) {
        (None, Some(usual)) => values::of_kind(value, usual),
        _ => Ok(value),
    });
    let (value, quality) = match value {
        Ok(Value::Null) => (Value::Null, quality),
        Ok(value) => match party.names.read(&variable.name, &value) {
            Some(decoded) => {
                if let Err(bad) = &decoded.outcome {
                    sheets.heard(&party.device.id).bad_values += 1;
                    sheets.reject_of(&party.device.id, format!("{}: {bad}", at()));
                }
                let (value, found) = decoded.reading();
                (value, found.max(quality))
            }
            None => return,
        },
        Err(reason) => {
            sheets.heard(&party.device.id).bad_values += 1;
            sheets.reject_of(&party.device.id, format!("{}: {reason}", at()));
            (Value::Null, Quality::Bad)
        }
    };
    if let Some(introduction) = memory.introductions.get_mut(variable.party) {
        introduction.hear(&party.device, &variable.point, &value);
        sheets.tell(introduction.news());
    }
    let kind = usual.or_else(|| value.kind());
    if value != Value::Null
        && let Some(kind) = kind
    {
        memory.said.insert(key.clone(), kind);
        memory.kinds.insert(key, kind);
    }
    let to = (&party.device, party.stream.as_deref());
    sheets.add(to, &variable.point, kind.unwrap_or_default(), time_ns, (value, quality));
}

#[cfg(test)]
mod tests;
