//! What was written to devices, for who tells of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::Value;
use tokio::sync::Notify;

/// The last value that was written to each point since somebody took them; there are no more of them than there are points. A clone
/// is of the same ones, of which one is to take them.
#[derive(Debug, Clone, Default)]
pub struct Written(Arc<(Mutex<Values>, Notify)>);

/// Values by device and point.
pub type Values = BTreeMap<DeviceId, BTreeMap<PointId, Value>>;

impl Written {
    /// The device has it.
    pub(super) fn add(&self, device: &DeviceId, point: &PointId, value: Value) {
        let mut values = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.entry(device.clone()).or_default().insert(point.clone(), value);
        drop(values);
        self.0.1.notify_one();
    }

    /// Those that were written; waits until there is one. Cancel safe.
    pub async fn take(&self) -> Values {
        loop {
            let taken = std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.0.1.notified().await;
        }
    }
}
