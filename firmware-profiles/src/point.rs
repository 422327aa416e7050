//! A point as it is used: checked, and with its address taken apart.

use crate::allowed::Allowed;
use crate::conversion::Conversion;
use crate::form::point::{Access, Simulate};
use crate::json::Pointer;
use crate::modbus::Register;
use crate::sunspec::ModelRegister;

/// Where a point stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// Under its own id.
    Id,
    /// In registers, coils or inputs.
    Register(Register),
    /// In a model of SunSpec.
    Model(ModelRegister),
    /// In a message of a topic, or of a path.
    Message {
        /// The topic or path, in which `{device}` stands for the device.
        topic: String,
        /// Where in the payload; the whole of it when there is none.
        pointer: Option<Pointer>,
    },
    /// Under a name of the protocol: a metric, a node.
    Name(String),
    /// In a field of a sentence.
    Field {
        /// The formatter, as GGA.
        sentence: String,
        /// Counted from 1.
        field: u8,
    },
}

/// One point of a device family. A name that ends in `/*` stands for all points below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The unit as a UCUM code; empty when it has none.
    pub unit: String,
    /// The name for people, in which `*` stands for what the point's id has in its place; empty when it has none.
    pub name: String,
    /// What is allowed of its values.
    pub allowed: Allowed,
    /// Whether it is read, written or both.
    pub access: Access,
    /// Where it stands.
    pub place: Place,
    /// How what stands there becomes a value.
    pub conversion: Conversion,
    /// The group that it is collected with.
    pub group: String,
    /// How often it is expected.
    pub interval_ms: u32,
    /// What a number has to be away from the last that was sent to be sent, too. See [`Point::band`].
    pub deadband: Option<f64>,
    /// Whether only changes are sent.
    pub on_change: bool,
    /// How it moves in a simulated device.
    pub simulate: Simulate,
}

/// What is collected at least this often, in ms, is shown as live; the web app calls a newest value of over a minute ago stale.
const LIVE_MS: u32 = 10_000;
/// Of so many readings that say the same one is sent; of what is live that is one in 50 seconds.
const HEARTBEAT_READINGS: u64 = 5;

impl Point {
    /// How far a number may be from the last that was sent and is not sent for that; whatever is no number has to be the
    /// same. None when all readings are sent.
    #[must_use]
    pub fn band(&self) -> Option<f64> {
        let deadband = self.deadband.filter(|deadband| *deadband > 0.0);
        deadband.or(self.on_change.then_some(0.0))
    }

    /// A reading that comes so long after the last that was sent, in ms, is sent though it says the same.
    #[must_use]
    pub fn heartbeat_ms(&self) -> u64 {
        // Half an interval early: polls are never quite on time.
        HEARTBEAT_READINGS * u64::from(self.interval_ms.max(LIVE_MS)) - u64::from(self.interval_ms / 2)
    }
}
