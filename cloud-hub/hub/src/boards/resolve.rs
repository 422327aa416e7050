//! Which series there are of what a board names. Nothing of the disk is read.

use std::collections::{BTreeMap, HashMap, HashSet};

use tideline_protocol::model::DeviceId;
use tideline_store::SeriesInfo;

use super::form::{Board, Panel, Variable};
use super::pattern::{Devices, Meant, Pattern, Values};
use crate::hub::Hub;
use crate::metadata::{DeviceRecord, MetadataError};

/// Most series of one name as it is written: more than a panel can show.
pub const SERIES_PER_PATTERN_MAX: usize = 64;

/// The series of one name as it is written.
#[derive(Debug, Default)]
pub struct Matched {
    /// By device and point.
    pub series: Vec<SeriesInfo>,
    /// How many more there are.
    pub left_off: u64,
}

/// The names that a board has, each once, in order.
#[must_use]
pub fn patterns(board: &Board) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for written in board.panels.iter().flat_map(|panel| panel.show.series()) {
        if !out.contains(written) {
            out.push(written.clone());
        }
    }
    out
}

/// The values of variables: those that are given, and the defaults of the others.
#[must_use]
pub fn values(variables: &[Variable], given: &Values) -> Values {
    let of = |variable: &Variable| {
        let value = given.get(&variable.name).unwrap_or(&variable.default).clone();
        (variable.name.clone(), value)
    };
    variables.iter().map(of).collect()
}

/// What the names of a board mean; one that is none means nothing, which a check has told before.
#[must_use]
pub fn meant(written: &[String], variables: &[Variable], values: &Values) -> Vec<Option<Meant>> {
    written.iter().map(|one| Some(Pattern::parse(one, variables).ok()?.with(values))).collect()
}

/// What the devices of a panel that is a map mean.
#[must_use]
pub fn placed(board: &Board, panel: &Panel, values: &Values) -> Vec<Meant> {
    let written = panel.show.devices().iter();
    written.filter_map(|one| Some(Pattern::devices(one, &board.variables).ok()?.with(values))).collect()
}

/// What the registry says of devices, where a name asks for it.
///
/// # Errors
/// The registry failed.
pub fn records(hub: &Hub, meant: &[Option<Meant>]) -> Result<HashMap<String, DeviceRecord>, MetadataError> {
    if meant.iter().flatten().any(Meant::needs_registry) {
        Ok(hub.metadata.list::<DeviceRecord>()?.into_iter().collect())
    } else {
        Ok(HashMap::new())
    }
}

/// The series of each name, in their order; of `only` these devices where that is given.
///
/// # Errors
/// The registry failed.
pub fn resolve(
    hub: &Hub,
    meant: &[Option<Meant>],
    only: Option<&HashSet<String>>,
) -> Result<Vec<Matched>, MetadataError> {
    let records = records(hub, meant)?;
    let mut out: Vec<Matched> = meant.iter().map(|_| Matched::default()).collect();
    let allowed = |device: &str| only.is_none_or(|only| only.contains(device));
    for (meant, matched) in meant.iter().zip(&mut out) {
        let Some(Meant { devices: Devices::One(id), .. }) = meant else { continue };
        let Some(device) = DeviceId::parse(id).ok().filter(|device| allowed(device.as_str())) else {
            continue;
        };
        let fits = |info: &SeriesInfo| meant.as_ref().is_some_and(|m| m.has(id, None, info.point.as_str()));
        matched.series = hub.store.series(Some(&device)).into_iter().filter(fits).collect();
        sort_and_cut(matched);
    }
    let many: Vec<(usize, &Meant)> = meant
        .iter()
        .enumerate()
        .filter_map(|(n, meant)| Some((n, meant.as_ref()?)))
        .filter(|(_, meant)| !matches!(meant.devices, Devices::One(_)))
        .collect();
    if many.is_empty() {
        return Ok(out);
    }
    // One look at all series, however many names there are. What is beyond the limit is counted and not gathered.
    let mut found: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
    let infos = hub.store.series_where(|text| {
        let device = text.device;
        let mut wanted = false;
        for (n, meant) in &many {
            if allowed(device) && meant.has(device, records.get(device), text.point) {
                let (taken, left_off) = found.entry(*n).or_default();
                if *taken < SERIES_PER_PATTERN_MAX {
                    *taken += 1;
                    wanted = true;
                } else {
                    *left_off += 1;
                }
            }
        }
        wanted
    });
    for (n, meant) in many {
        let Some(matched) = out.get_mut(n) else { continue };
        let fits = |info: &&SeriesInfo| {
            let device = info.device.as_str();
            meant.has(device, records.get(device), info.point.as_str())
        };
        let (taken, left_off) = found.get(&n).copied().unwrap_or_default();
        // Another name may have wanted what was beyond the limit of this one.
        matched.series = infos.iter().filter(fits).take(taken).cloned().collect();
        matched.left_off = left_off;
        sort_and_cut(matched);
    }
    Ok(out)
}

fn sort_and_cut(matched: &mut Matched) {
    matched.series.sort_by(|a, b| (&a.device, &a.point).cmp(&(&b.device, &b.point)));
    let surplus = matched.series.len().saturating_sub(SERIES_PER_PATTERN_MAX);
    matched.left_off += surplus as u64;
    matched.series.truncate(SERIES_PER_PATTERN_MAX);
}
