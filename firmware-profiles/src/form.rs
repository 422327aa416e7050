//! What a profile's file says, section by section, as it is written.
//!
//! These types are the format: the reader fills them, and the JSON Schema for editors is made of them. They judge
//! nothing beyond types; what has to hold between keys is checked where they become a [`crate::Profile`].

pub mod point;
pub mod protocol;
pub mod section;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::point::PointForm;
use self::protocol::{
    CoapTable, HostTable, HttpTable, ModbusTable, MqttTable, NmeaTable, OpcUaTable, SparkplugTable,
    SunSpecTable,
};
use self::section::{Alarm, Board, Collection, Command, Delivery, Firmware, Identity, Others};

/// The version of the format that this reads.
pub const FORMAT: u32 = 1;

/// A profile: what Tideline has to know of a device family.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Tideline firmware profile")]
pub struct File {
    /// The version of this format: 1.
    pub format: Option<u32>,
    /// The name of the family, as devices name their profile.
    pub name: Option<String>,
    /// Which devices are meant.
    pub identity: Option<Identity>,
    /// Metrics of the agent's own host.
    pub host: Option<HostTable>,
    /// Registers and coils of Modbus.
    pub modbus: Option<ModbusTable>,
    /// Models of SunSpec over Modbus.
    pub sunspec: Option<SunSpecTable>,
    /// Topics of MQTT.
    pub mqtt: Option<MqttTable>,
    /// Metrics of Sparkplug B.
    pub sparkplug: Option<SparkplugTable>,
    /// Nodes of OPC UA.
    pub opcua: Option<OpcUaTable>,
    /// Resources of CoAP.
    pub coap: Option<CoapTable>,
    /// Bodies of HTTP requests.
    pub http: Option<HttpTable>,
    /// Sentences of NMEA 0183.
    pub nmea: Option<NmeaTable>,
    /// What the devices measure and take, by id. An id that ends in /* stands for all below it.
    pub points: BTreeMap<String, PointForm>,
    /// What becomes of what a device tells and no point names.
    pub others: Option<Others>,
    /// What is collected together, by name; the group "default" has what no other has.
    pub collection: BTreeMap<String, Collection>,
    /// How readings travel and are kept, by name.
    pub delivery: BTreeMap<String, Delivery>,
    /// Limits that devices of this family begin with, by name.
    pub alarms: BTreeMap<String, Alarm>,
    /// What a device's page shows.
    pub board: Option<Board>,
    /// What devices can be told, by name.
    pub commands: BTreeMap<String, Command>,
    /// How devices get new firmware.
    pub firmware: Option<Firmware>,
    /// What agents do with the readings of these devices before they keep them: stages that filter, scale, put together
    /// and judge. The agent reads them as those of its own configuration, but that patterns name points alone.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub pipeline: Opaque,
    /// What differs in some firmware versions or hardware revisions.
    pub overlays: Vec<Overlay>,
}

/// What others read.
pub type Opaque = serde::de::IgnoredAny;

/// What differs in some firmware versions or hardware revisions: whatever stands here takes the place of what stands above.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Overlay {
    /// Of which versions it speaks, as ">=1.2, <2"; of any when only hardware is given.
    pub versions: String,
    /// Of which hardware revisions it speaks, as ["B", "C"]; of any when not given.
    pub hardware: Vec<String>,
    /// What these versions lack, as "points.voltage" or "alarms.hot".
    pub remove: Vec<String>,
    /// Other metrics of the agent's own host.
    pub host: Option<HostTable>,
    /// Other registers and coils of Modbus.
    pub modbus: Option<ModbusTable>,
    /// Other models of SunSpec.
    pub sunspec: Option<SunSpecTable>,
    /// Other topics of MQTT.
    pub mqtt: Option<MqttTable>,
    /// Other metrics of Sparkplug B.
    pub sparkplug: Option<SparkplugTable>,
    /// Other nodes of OPC UA.
    pub opcua: Option<OpcUaTable>,
    /// Other resources of CoAP.
    pub coap: Option<CoapTable>,
    /// Other bodies of HTTP requests.
    pub http: Option<HttpTable>,
    /// Other sentences of NMEA 0183.
    pub nmea: Option<NmeaTable>,
    /// Points that differ or are added.
    pub points: BTreeMap<String, PointForm>,
    /// What becomes of what no point names.
    pub others: Option<Others>,
    /// Groups that differ or are added.
    pub collection: BTreeMap<String, Collection>,
    /// Deliveries that differ or are added.
    pub delivery: BTreeMap<String, Delivery>,
    /// Alarms that differ or are added.
    pub alarms: BTreeMap<String, Alarm>,
    /// Another board.
    pub board: Option<Board>,
    /// Commands that differ or are added.
    pub commands: BTreeMap<String, Command>,
    /// Another way to new firmware.
    pub firmware: Option<Firmware>,
}
