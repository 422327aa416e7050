//! What documents that devices share, those of groups and sites, desire of the points of one device.

use serde_json::Value as Json;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Section, Twin};

use super::{Setpoint, desired};

/// The leaf of a device's `tags` that names the documents which hold for it. The hub writes it as the registry has it, so that it is
/// known without the hub too.
pub const BELONGS: &str = "belongs_to";
/// Most of them: a device is in 16 groups at most, and at one site.
const DOCUMENTS_MAX: usize = 17;

/// The documents that hold for the device with this twin, in the order in which they go: groups by name, and then its site.
#[must_use]
pub fn documents(twin: &Twin) -> Vec<DocumentId> {
    let tags = twin.json(Section::Tags);
    let names = tags.get(BELONGS).and_then(Json::as_array).into_iter().flatten().take(DOCUMENTS_MAX);
    let named = names.filter_map(|name| name.as_str()?.parse::<DocumentId>().ok());
    let mut found: Vec<_> = named.filter(|document| rank(document).is_some()).collect();
    found.sort_by_cached_key(|document| (rank(document), document.name()));
    found.dedup();
    found
}

/// A device shares its own twin with nobody.
const fn rank(document: &DocumentId) -> Option<u8> {
    match document {
        DocumentId::Device(_) => None,
        DocumentId::Group(_) => Some(0),
        DocumentId::Site(_) => Some(1),
    }
}

/// What such documents desire of a device's points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shared {
    /// One for each point: a document that comes later says nothing of the points of an earlier one.
    setpoints: Vec<Setpoint>,
    /// No source speaks to the device now, and so nobody says which points it has: nothing is done, and nothing is taken back.
    pub is_away: bool,
}

impl Shared {
    /// Of no document yet.
    #[must_use]
    pub const fn of(is_away: bool) -> Self {
        Self { setpoints: Vec::new(), is_away }
    }

    /// Adds what the next of the documents desires, see [`of`], of points that the device has as writable ones: others may have what
    /// this one has not.
    pub fn add(&mut self, wanted: Vec<Setpoint>, is_writable: impl Fn(&str) -> bool) {
        for one in wanted {
            if is_writable(&one.point) && self.setpoints.iter().all(|there| there.point != one.point) {
                self.setpoints.push(one);
            }
        }
    }

    pub(super) fn setpoints(&self) -> impl Iterator<Item = &Setpoint> {
        self.setpoints.iter()
    }
}

/// What a document desires of points.
#[must_use]
pub fn of(twin: &Twin, document: &DocumentId) -> Vec<Setpoint> {
    desired(twin, Some(document))
}
