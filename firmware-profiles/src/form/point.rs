//! The keys of a point.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use tideline_protocol::value::ValueKind;

use crate::encoding::Encoding;
use crate::form::protocol::Order;
use crate::form::section::Scalar;
use crate::number::Number;

/// What may be done with a point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// It is read.
    #[default]
    Read,
    /// It is written, and tells nothing.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// Whether it can be read.
    #[must_use]
    pub const fn reads(self) -> bool {
        !matches!(self, Self::Write)
    }

    /// Whether it can be written.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }
}

/// One point.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PointForm {
    /// What its values are: float (if nothing else is said), int, bool or text.
    #[serde(rename = "type")]
    #[schemars(with = "Option<Type>")]
    pub kind: Option<ValueKind>,
    /// Its name for people. In that of points below /* a * stands for what follows.
    pub name: Option<String>,
    /// What it is, in a sentence.
    pub about: Option<String>,
    /// The unit of a number as a UCUM code.
    pub unit: Option<String>,
    /// The least number that can be true.
    pub min: Option<Number>,
    /// The greatest number that can be true.
    pub max: Option<Number>,
    /// The only texts that there are.
    pub values: Option<Vec<String>>,
    /// Most bytes of a text.
    pub bytes_max: Option<u16>,
    /// Where it stands, in the terms of the protocol: input:0x34, status/switch:0#/apower, GGA.9.
    pub address: Option<String>,
    /// How it is written there.
    pub encoding: Option<Encoding>,
    /// The order of the bytes of a register, where it is not that of the profile.
    pub byte_order: Option<Order>,
    /// The order of the registers of a number, where it is not that of the profile.
    pub word_order: Option<Order>,
    /// The bits of a whole number that are meant.
    pub mask: Option<u64>,
    /// By how many bits what the mask leaves is moved down.
    pub shift: Option<u8>,
    /// What the raw number is multiplied with.
    pub scale: Option<f64>,
    /// Where a power of ten stands that the raw number is multiplied with.
    pub scale_from: Option<String>,
    /// What is added after that.
    pub offset: Option<f64>,
    /// Texts for raw numbers.
    #[serde(rename = "enum")]
    pub names: Option<BTreeMap<String, String>>,
    /// Names for bits, counted from 0, the least; the value is a text of those that are set.
    pub bits: Option<BTreeMap<String, String>>,
    /// Raw numbers that mean that there is no value.
    pub invalid: Option<Vec<Number>>,
    /// Whether it is read, written or both.
    pub access: Option<Access>,
    /// How often it is expected, where that is not as its group.
    pub interval_ms: Option<u32>,
    /// The group that it is collected with.
    pub group: Option<String>,
    /// A number that is no further than this from the last one that was sent is not sent, as with on_change; 0 is none.
    pub deadband: Option<f64>,
    /// How it moves in a simulated device.
    pub simulate: Option<Simulate>,
}

/// How a point moves in a simulated device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Simulate {
    /// Not below this; the point's min when not said.
    pub low: Option<f64>,
    /// Not above this; the point's max when not said.
    pub high: Option<f64>,
    /// Whether it only grows, from `low` on.
    pub counts: bool,
    /// What it is all the time.
    pub value: Option<Scalar>,
}

/// The kinds of values, for the schema.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Type {
    Float,
    Int,
    Bool,
    Text,
}
