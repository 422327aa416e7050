//! The tables of protocols: how a profile's addresses are meant.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The most significant part, as Modbus has it for the bytes of a register.
    #[default]
    Big,
    /// The least significant part.
    Little,
}

/// What a Modbus address is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Bits that are read (1) and written (5, 15).
    Coil,
    /// Bits that are read (2).
    Discrete,
    /// Registers that are read (4).
    Input,
    /// Registers that are read (3) and written (6, 16).
    #[default]
    Holding,
}

impl Function {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Coil, Self::Discrete, Self::Input, Self::Holding];

    /// Its name in addresses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
        }
    }

    /// The code of the request that reads it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::Discrete => 2,
            Self::Holding => 3,
            Self::Input => 4,
        }
    }

    /// Whether it is of bits, not of registers.
    #[must_use]
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// Whether it can be written.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Coil | Self::Holding)
    }
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// No bit for it.
    #[default]
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// A serial line as devices of the family come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Serial {
    /// Bits a second.
    pub baud: u32,
    /// Bits of a character.
    #[schemars(range(min = 7, max = 8))]
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// Bits that end a character.
    #[schemars(range(min = 1, max = 2))]
    pub stop_bits: u8,
}

impl Default for Serial {
    fn default() -> Self {
        Self { baud: 9600, data_bits: 8, parity: Parity::None, stop_bits: 1 }
    }
}

/// Most registers of one request, by the specification.
pub const REGISTERS_MAX: u16 = 125;
/// Most bits of one request, by the specification.
pub const BITS_MAX: u16 = 2000;

/// `[modbus]`: addresses are `input:0`, `holding:0x28`, `coil:3`, `discrete:1`, counted from 0 as in requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModbusTable {
    /// What an address is of that is just a number.
    pub function: Function,
    /// The order of the two bytes of a register.
    pub byte_order: Order,
    /// The order of the registers of a number.
    pub word_order: Order,
    /// Most registers of one request.
    #[schemars(range(min = 1, max = 125))]
    pub registers_max: u16,
    /// Most coils or inputs of one request.
    #[schemars(range(min = 1, max = 2000))]
    pub bits_max: u16,
    /// Registers between two points that are read along for one request less; some devices refuse those.
    pub gap_max: u16,
    /// The unit's number as devices come.
    pub unit: u8,
    /// The port as devices come, over TCP.
    pub port: u16,
    /// The line as devices come, over RTU.
    pub serial: Option<Serial>,
    /// Least time between an answer and the next request.
    pub pause_ms: u32,
    /// Longest that an answer takes.
    pub timeout_ms: u32,
}

impl Default for ModbusTable {
    fn default() -> Self {
        Self {
            function: Function::Holding,
            byte_order: Order::Big,
            word_order: Order::Big,
            registers_max: REGISTERS_MAX,
            bits_max: BITS_MAX,
            gap_max: 0,
            unit: 1,
            port: 502,
            serial: None,
            pause_ms: 0,
            timeout_ms: 1000,
        }
    }
}

/// `[sunspec]`: addresses are `101|102|103:14`, the models and the register within, counted from the model's id. Those of
/// points in blocks that repeat are `160:*:11`, counted from the first register of each block; such a point ends in `/*`,
/// where the block's number stands, from 1 on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SunSpecTable {
    /// Holding registers where the mark "SunS" is looked for.
    pub bases: Vec<u16>,
    /// Most registers of one request.
    #[schemars(range(min = 1, max = 125))]
    pub registers_max: u16,
    /// The unit's number as devices come.
    pub unit: u8,
    /// The port as devices come.
    pub port: u16,
    /// Longest that an answer takes.
    pub timeout_ms: u32,
    /// The models whose registers end in blocks that repeat.
    pub blocks: BTreeMap<String, Blocks>,
    /// The models of a simulated device, with their lengths.
    pub simulated: BTreeMap<String, u16>,
}

/// The blocks of a model, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Blocks {
    /// The first register of the first block, counted from the model's id.
    pub first: u16,
    /// How many registers each has.
    pub length: u16,
    /// Where the model says how many it has, as :8; as many as there is room for when it does not.
    pub count_from: Option<String>,
}

impl SunSpecTable {
    /// The models with blocks.
    pub fn blocks(&self) -> impl Iterator<Item = (u16, &Blocks)> {
        self.blocks.iter().filter_map(|(id, blocks)| Some((id.parse().ok()?, blocks)))
    }
}

impl Default for SunSpecTable {
    fn default() -> Self {
        Self {
            bases: vec![40_000, 50_000, 0],
            registers_max: REGISTERS_MAX,
            unit: 1,
            port: 502,
            timeout_ms: 1000,
            blocks: BTreeMap::new(),
            simulated: BTreeMap::new(),
        }
    }
}

/// What a time is counted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds since 1970, with a fraction if need be.
    #[default]
    S,
    /// Milliseconds since 1970.
    Ms,
    /// A text as 2026-01-31T12:00:00Z.
    Rfc3339,
}

/// Where a message says of when it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeAt {
    /// As of a point.
    pub address: String,
    /// How it is counted.
    #[serde(default)]
    pub unit: TimeUnit,
}

/// `[mqtt]`: addresses are `topic#/pointer`, or `topic` alone when the whole payload is the value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MqttTable {
    /// What the topics of points begin with that do not name {device} themselves.
    pub root: String,
    /// Where messages say of when they are.
    pub times: Vec<TimeAt>,
}

impl Default for MqttTable {
    fn default() -> Self {
        Self { root: "{device}".into(), times: Vec::new() }
    }
}

/// `[sparkplug]`: addresses are names of metrics.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SparkplugTable {
    /// What topics begin with.
    pub namespace: String,
}

impl Default for SparkplugTable {
    fn default() -> Self {
        Self { namespace: "spBv1.0".into() }
    }
}

/// `[opcua]`: addresses are node ids (`ns=2;s=Pump.Flow`, `nsu=urn:maker;i=7`) or paths of browse names below the
/// folder Objects (`/2:Pump/2:Flow`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpcUaTable {
    /// The node below which others are looked for.
    pub browse: Vec<String>,
    /// How many levels deep.
    pub depth_max: u8,
    /// How often the server is to sample.
    pub sampling_ms: u32,
}

impl Default for OpcUaTable {
    fn default() -> Self {
        Self { browse: vec!["i=85".into()], depth_max: 8, sampling_ms: 1000 }
    }
}

/// `[coap]`: addresses are `path#/pointer`, or `path` alone when the whole payload is the value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CoapTable {
    /// What paths begin with.
    pub root: String,
    /// The port as devices come.
    pub port: u16,
    /// Whether changes are asked for (RFC 7641) where a device can.
    pub observe: bool,
    /// Where payloads say of when they are.
    pub times: Vec<TimeAt>,
}

impl Default for CoapTable {
    fn default() -> Self {
        Self { root: String::new(), port: 5683, observe: true, times: Vec::new() }
    }
}

/// `[http]`: addresses are `path#/pointer`, or `#/pointer` of the root alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpTable {
    /// What the paths of points begin with that do not name {device} themselves.
    pub root: String,
    /// Where bodies say of when they are.
    pub times: Vec<TimeAt>,
}

impl Default for HttpTable {
    fn default() -> Self {
        Self { root: "{device}".into(), times: Vec::new() }
    }
}

/// `[nmea]`: addresses are `GGA.9`: the sentence's formatter and the field, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NmeaTable {
    /// The line as devices come.
    pub serial: Serial,
    /// Whose sentences are taken, as GP or GN; all where there are none.
    pub talkers: Vec<String>,
}

impl Default for NmeaTable {
    fn default() -> Self {
        let serial = Serial { baud: 4800, ..Serial::default() };
        Self { serial, talkers: Vec::new() }
    }
}

/// `[host]`: points are named as the agent names its host's metrics, and have no addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostTable {}

/// How a profile's addresses are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Protocol {
    /// There are none: rows of files and the like.
    #[default]
    None,
    /// Metrics of the agent's own host.
    Host(HostTable),
    /// Registers and coils.
    Modbus(ModbusTable),
    /// Models over Modbus.
    SunSpec(SunSpecTable),
    /// Topics.
    Mqtt(MqttTable),
    /// Metrics.
    Sparkplug(SparkplugTable),
    /// Nodes.
    OpcUa(OpcUaTable),
    /// Resources.
    Coap(CoapTable),
    /// Bodies of requests.
    Http(HttpTable),
    /// Sentences.
    Nmea(NmeaTable),
}

impl Protocol {
    /// The names of their tables.
    pub const TABLES: [&str; 9] =
        ["host", "modbus", "sunspec", "mqtt", "sparkplug", "opcua", "coap", "http", "nmea"];

    /// The name of its table.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host(_) => "host",
            Self::Modbus(_) => "modbus",
            Self::SunSpec(_) => "sunspec",
            Self::Mqtt(_) => "mqtt",
            Self::Sparkplug(_) => "sparkplug",
            Self::OpcUa(_) => "opcua",
            Self::Coap(_) => "coap",
            Self::Http(_) => "http",
            Self::Nmea(_) => "nmea",
        }
    }
}
