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
    /// What has to be between two readings for the second to be kept.
    pub deadband: Option<f64>,
    /// Whether only changes are kept.
    pub on_change: bool,
    /// How it moves in a simulated device.
    pub simulate: Simulate,
}
