//! What the profiles of devices say of how long readings are kept, as the hub was told last.
//!
//! Nothing of it is written here: whoever opens a store tells it, and a sealed file knows its own. So a change holds for what is
//! sealed from then on.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tideline_protocol::keep::{Keep, KeepRule, keep_of};
use tideline_protocol::model::DeviceId;

/// The rules of all devices that have some.
#[derive(Debug, Default)]
pub struct Keeps(RwLock<HashMap<String, Arc<[KeepRule]>>>);

impl Keeps {
    /// Puts the rules of a device in the place of those before.
    pub fn tell(&self, device: &DeviceId, rules: &[KeepRule]) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if rules.is_empty() {
            all.remove(device.as_str());
        } else {
            all.insert(device.as_str().to_owned(), rules.into());
        }
    }

    /// Whether no device has any.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What is kept of a series.
    pub fn of(&self, device: &str, point: &str) -> Keep {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner).get(device).map(Arc::clone);
        rules.map_or(Keep::HUB, |rules| keep_of(&rules, point))
    }
}
