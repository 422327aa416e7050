//! From what a file says of a point to a [`Point`].

use std::collections::BTreeMap;

use tideline_protocol::model::{ID_BYTES_MAX, NAME_BYTES_MAX, PointId, UNIT_BYTES_MAX};
use tideline_protocol::pattern::matches;
use tideline_protocol::units;
use tideline_protocol::value::{VALUE_TEXT_BYTES_MAX, ValueKind};

use super::Contents;
use crate::allowed::{Allowed, Whose};
use crate::conversion::{Conversion, NO_BIT};
use crate::encoding::Encoding;
use crate::form::PointForm;
use crate::form::point::Simulate;
use crate::form::protocol::{Blocks, ModbusTable, Protocol, SunSpecTable};
use crate::form::section::Collection;
use crate::json;
use crate::modbus::{self, Register};
use crate::nmea;
use crate::number::Number;
use crate::opcua;
use crate::point::{Place, Point};
use crate::read::{Entry, Reader};
use crate::sunspec::{self, ModelRegister, Spot};

/// The group of points that no group names.
pub const DEFAULT_GROUP: &str = "default";

/// Keys that only numbers have, and those that only texts have.
const OF_NUMBERS: [&str; 7] = ["unit", "min", "max", "scale", "scale_from", "offset", "deadband"];
const OF_TEXTS: [&str; 3] = ["values", "bytes_max", "bits"];
/// Keys that say how bits of a register are read.
const OF_REGISTERS: [&str; 5] = ["byte_order", "word_order", "mask", "shift", "scale_from"];

type Form = Entry<PointForm>;

/// A point; none when something is wrong with it, which is then told.
pub fn point(reader: &mut Reader<'_>, contents: &Contents, id: &str, entry: &Form) -> Option<Point> {
    let form = &entry.form;
    let before = reader.count();
    if let Err(error) = PointId::parse(id.strip_suffix("/*").unwrap_or(id)) {
        reader.problem(entry.at, &format!("{}: {error}", entry.path));
    }
    if form.kind.is_none() && entry.says("type") {
        return None;
    }
    let kind = form.kind.unwrap_or_default();
    check_keys(reader, entry, kind);
    check_name(reader, entry, id);
    check_unit(reader, entry);
    let allowed = allowed(reader, entry, kind);
    let place = place(reader, &contents.protocol, id, entry);
    let conversion = conversion(reader, entry, kind, place.as_ref());
    let (group, collection) = group(reader, &contents.collection, id, entry);
    if form.interval_ms == Some(0) {
        reader.problem_of(entry, "interval_ms", "must be 1 or more");
    }
    if let Some(Simulate { low: Some(low), high: Some(high), .. }) = form.simulate
        && (low > high || !low.is_finite() || !high.is_finite())
    {
        reader.problem_of(entry, "simulate", &format!("low {low} is above high {high}"));
    }
    let simulated = form.simulate.as_ref().and_then(|simulate| simulate.value.as_ref());
    if let (Some(value), Some(allowed)) = (simulated, &allowed)
        && let Err(error) =
            allowed.judge(&Whose { profile: &contents.name, point: id, unit: "" }, value.value())
    {
        reader.problem_of(entry, "simulate", &error.to_string());
    }
    let deadband = form.deadband.or(collection.deadband);
    if deadband.is_some_and(|deadband| !deadband.is_finite() || deadband < 0.0) {
        reader.problem_of(entry, "deadband", "must be 0 or more");
    }
    (reader.count() == before).then_some(Point {
        unit: form.unit.clone().unwrap_or_default(),
        name: form.name.clone().unwrap_or_default(),
        allowed: allowed?,
        access: form.access.unwrap_or_default(),
        place: place?,
        conversion,
        group,
        interval_ms: form.interval_ms.unwrap_or(collection.interval_ms),
        deadband: deadband.filter(|_| matches!(kind, ValueKind::Float | ValueKind::Int)),
        on_change: collection.on_change,
        simulate: form.simulate.clone().unwrap_or_default(),
    })
}

/// Keys that make no sense for this kind.
fn check_keys(reader: &mut Reader<'_>, entry: &Form, kind: ValueKind) {
    let number = matches!(kind, ValueKind::Float | ValueKind::Int);
    for key in OF_NUMBERS.into_iter().filter(|key| entry.says(key) && !number) {
        reader.problem_of(
            entry,
            key,
            &format!("is for points of type float and int; this one is of type {kind}"),
        );
    }
    for key in OF_TEXTS.into_iter().filter(|key| entry.says(key) && kind != ValueKind::Text) {
        reader.problem_of(entry, key, &format!("is for points of type text; this one is of type {kind}"));
    }
}

fn check_name(reader: &mut Reader<'_>, entry: &Form, id: &str) {
    let name = entry.form.name.as_deref().unwrap_or_default();
    // `*` becomes a part of an id.
    let room = if name.contains('*') { ID_BYTES_MAX } else { 0 };
    let max = NAME_BYTES_MAX - room;
    if name.len() > max {
        reader.problem_of(entry, "name", &format!("has {} bytes; allowed are {max}", name.len()));
    }
    if name.contains('*') && !id.ends_with("/*") {
        reader.problem_of(entry, "name", "* is allowed for points that end in /*");
    }
}

/// A unit is a code of UCUM: what pipelines convert, and charts put on one axis.
fn check_unit(reader: &mut Reader<'_>, entry: &Form) {
    let Some(unit) = &entry.form.unit else { return };
    if unit.len() > UNIT_BYTES_MAX {
        let must =
            format!("must be a UCUM code of 1 to {UNIT_BYTES_MAX} letters and signs, as Cel, kW.h or 1");
        reader.problem_of(entry, "unit", &must);
    } else if let Err(unknown) = units::known(unit) {
        reader.problem_of(entry, "unit", &unknown);
    }
}

fn allowed(reader: &mut Reader<'_>, entry: &Form, kind: ValueKind) -> Option<Allowed> {
    match kind {
        ValueKind::Float => {
            let (min, max) = range(reader, entry, |number| Some(number.float()), "must be a number")?;
            Some(Allowed::Float { min, max })
        }
        ValueKind::Int => {
            let (min, max) = range(reader, entry, Number::whole, "must be a whole number of 64 bits")?;
            Some(Allowed::Int { min, max })
        }
        ValueKind::Bool => Some(Allowed::Bool),
        ValueKind::Text => Some(texts(reader, entry)),
    }
}

/// `min` and `max`, and with them `unit`, are needed of numbers.
fn range<N: PartialOrd + std::fmt::Display>(
    reader: &mut Reader<'_>,
    entry: &Form,
    read: fn(Number) -> Option<N>,
    must: &str,
) -> Option<(N, N)> {
    if ["unit", "min", "max"].into_iter().any(|key| !entry.says(key)) {
        reader.problem(entry.at, &format!("{}: unit, min and max are needed", entry.path));
    }
    let mut bound = |key: &str, number: Option<Number>| {
        let read = read(number?);
        if read.is_none() {
            reader.problem_of(entry, key, must);
        }
        read
    };
    let (min, max) = (bound("min", entry.form.min), bound("max", entry.form.max));
    let (min, max) = (min?, max?);
    if min > max {
        reader.problem_of(entry, "min", &format!("{min} is above max {max}"));
    }
    Some((min, max))
}

fn texts(reader: &mut Reader<'_>, entry: &Form) -> Allowed {
    let form = &entry.form;
    let bytes_max = form.bytes_max.map_or(VALUE_TEXT_BYTES_MAX, usize::from);
    if !(1..=VALUE_TEXT_BYTES_MAX).contains(&bytes_max) {
        reader.problem_of(
            entry,
            "bytes_max",
            &format!("must be a whole number from 1 to {VALUE_TEXT_BYTES_MAX}"),
        );
    }
    let named = form.names.as_ref().map(|names| names.values().cloned().collect::<Vec<_>>());
    let values = form.values.clone().or(named).unwrap_or_default();
    if entry.says("values") && form.values.as_ref().is_some_and(Vec::is_empty) {
        reader.problem_of(entry, "values", "must be a list of texts, at least one");
    }
    if values.iter().any(|value| value.len() > bytes_max) {
        reader.problem_of(entry, "values", &format!("must be texts of at most {bytes_max} bytes"));
    }
    if let (Some(given), Some(names)) = (&form.values, &form.names) {
        for name in names.values().filter(|name| !given.contains(name)) {
            reader.problem_of(entry, "enum", &format!("{name:?} is not among values"));
        }
    }
    Allowed::Text { values, bytes_max }
}

/// Where it stands, by the profile's protocol.
/// Whether an address can be meant in a protocol.
pub fn check_address(protocol: &Protocol, address: &str) -> Result<(), String> {
    match protocol {
        Protocol::Modbus(table) => {
            modbus::address(address, table.function).map(drop).map_err(|error| error.to_string())
        }
        Protocol::SunSpec(_) => sunspec::address(address).map(drop),
        Protocol::Mqtt(table) => json::place(address, &table.root).map(drop),
        Protocol::Coap(table) => json::place(address, &table.root).map(drop),
        Protocol::Http(table) => json::place(address, &table.root).map(drop),
        Protocol::OpcUa(_) => opcua::check(address),
        Protocol::Nmea(_) => nmea::address(address).map(drop),
        _ => Ok(()),
    }
}

fn place(reader: &mut Reader<'_>, protocol: &Protocol, id: &str, entry: &Form) -> Option<Place> {
    let needs = !matches!(protocol, Protocol::None | Protocol::Host(_));
    let Some(address) = entry.form.address.as_deref().filter(|_| needs) else {
        if needs && !entry.says("address") {
            let what =
                format!("{}: address is needed, as the profile is of {}", entry.path, protocol.as_str());
            reader.problem(entry.at, &what);
        }
        if !needs && entry.says("address") {
            reader.problem_of(entry, "address", "is for profiles with a protocol, as [modbus]");
        }
        return (!needs).then_some(Place::Id);
    };
    let registers = matches!(protocol, Protocol::Modbus(_) | Protocol::SunSpec(_));
    if matches!(protocol, Protocol::Modbus(_)) && id.contains('*') {
        reader.problem(entry.at, &format!("{}: /* has no meaning for registers", entry.path));
    }
    for key in OF_REGISTERS.into_iter().filter(|key| !registers && entry.says(key)) {
        reader.problem_of(entry, key, "is for registers");
    }
    let placed = match protocol {
        Protocol::Modbus(table) => return register(reader, table, entry, address).map(Place::Register),
        Protocol::SunSpec(table) => return model(reader, table, id, entry, address).map(Place::Model),
        Protocol::Mqtt(table) => json::place(address, &table.root),
        Protocol::Coap(table) => json::place(address, &table.root),
        Protocol::Http(table) => json::place(address, &table.root),
        Protocol::OpcUa(_) => opcua::check(address).map(|()| Place::Name(address.to_owned())),
        Protocol::Nmea(_) => nmea::address(address).map(|(sentence, field)| Place::Field { sentence, field }),
        _ => Ok(Place::Name(address.to_owned())),
    };
    placed.map_err(|what| reader.problem_of(entry, "address", &what)).ok()
}

fn register(reader: &mut Reader<'_>, table: &ModbusTable, entry: &Form, address: &str) -> Option<Register> {
    let form = &entry.form;
    let found = modbus::address(address, table.function);
    let (function, start) =
        found.map_err(|error| reader.problem_of(entry, "address", &error.to_string())).ok()?;
    let encoding = encoding(reader, entry, function.is_bits())?;
    let power = match &form.scale_from {
        None => None,
        Some(text) => match modbus::address(text, function) {
            Ok((of, power)) if of == function => Some(power),
            Ok(_) => {
                reader.problem_of(
                    entry,
                    "scale_from",
                    &format!("must be of {}, as the point", function.as_str()),
                );
                return None;
            }
            Err(error) => {
                reader.problem_of(entry, "scale_from", &error.to_string());
                return None;
            }
        },
    };
    let byte_order = form.byte_order.unwrap_or(table.byte_order);
    let word_order = form.word_order.unwrap_or(table.word_order);
    let register = Register { function, start, encoding, byte_order, word_order, power };
    let max = if function.is_bits() { table.bits_max } else { table.registers_max };
    if register.count() > max || u32::from(start) + u32::from(register.count()) > 0x1_0000 {
        let count = register.count();
        reader.problem_of(
            entry,
            "address",
            &format!("it takes {count} registers; allowed are {max}, up to 65535"),
        );
        return None;
    }
    if form.access.unwrap_or_default().writes() && !function.writes() {
        let what = format!("{} cannot be written; allowed are coil and holding", function.as_str());
        reader.problem_of(entry, "access", &what);
    }
    Some(register)
}

fn model(
    reader: &mut Reader<'_>,
    table: &SunSpecTable,
    id: &str,
    entry: &Form,
    address: &str,
) -> Option<ModelRegister> {
    let parsed = sunspec::address(address);
    let (models, spot) = parsed.map_err(|what| reader.problem_of(entry, "address", &what)).ok()?;
    let encoding = encoding(reader, entry, false)?;
    let power = match entry.form.scale_from.as_deref().map(sunspec::scale_address) {
        None => None,
        Some(Ok(spot)) => Some(spot),
        Some(Err(what)) => {
            reader.problem_of(entry, "scale_from", &what);
            return None;
        }
    };
    let in_block = |spot: Spot| matches!(spot, Spot::Block(_));
    let repeats = in_block(spot);
    // Its number is the only part of its name that follows a slash: that is how it is known again.
    let is_numbered = id.strip_suffix(sunspec::NUMBERED).is_some_and(|root| !root.contains('/'));
    if repeats && !is_numbered || !repeats && id.contains('*') {
        let what = "points of blocks, as 160:*:11, end in /* with no other / before, and no others do";
        reader.problem_of(entry, "address", what);
        return None;
    }
    if !repeats && power.is_some_and(in_block) {
        reader.problem_of(entry, "scale_from", "stands in blocks, and the point does not");
        return None;
    }
    let blocks: BTreeMap<u16, Blocks> =
        table.blocks().filter(|(model, _)| models.contains(model)).map(|(id, it)| (id, it.clone())).collect();
    if let Some(model) = models.iter().find(|model| repeats && !blocks.contains_key(model)) {
        reader.problem_of(
            entry,
            "address",
            &format!("[sunspec] says nothing of the blocks of model {model}"),
        );
        return None;
    }
    Some(ModelRegister { models, blocks, spot, encoding, power })
}

/// How it is written in registers; a coil or an input needs no word for it.
fn encoding(reader: &mut Reader<'_>, entry: &Form, bits: bool) -> Option<Encoding> {
    match entry.form.encoding {
        None if bits => Some(Encoding::Bool),
        Some(Encoding::Bool) if bits => Some(Encoding::Bool),
        Some(_) if bits => {
            reader.problem_of(entry, "encoding", "must be bool, as coils and inputs are");
            None
        }
        None => {
            if !entry.says("encoding") {
                reader.problem(entry.at, &format!("{}: encoding is needed, as u16 or f32", entry.path));
            }
            None
        }
        Some(encoding) if encoding.registers().is_none() => {
            reader.problem_of(entry, "encoding", &format!("{encoding} cannot stand in registers"));
            None
        }
        encoding => encoding,
    }
}

fn conversion(reader: &mut Reader<'_>, entry: &Form, kind: ValueKind, place: Option<&Place>) -> Conversion {
    let form = &entry.form;
    let scale = form.scale.unwrap_or(1.0);
    if !scale.is_normal() {
        reader.problem_of(entry, "scale", "must be a number other than 0");
    }
    let offset = form.offset.unwrap_or(0.0);
    if !offset.is_finite() {
        reader.problem_of(entry, "offset", "must be a number");
    }
    let encoding = match place {
        Some(Place::Register(register)) => Some(register.encoding),
        Some(Place::Model(register)) => Some(register.encoding),
        _ => None,
    };
    let whole = encoding.is_none_or(Encoding::is_whole);
    for key in ["mask", "shift", "bits"].into_iter().filter(|key| !whole && entry.says(key)) {
        reader.problem_of(entry, key, "is for whole numbers");
    }
    if form.mask == Some(0) {
        reader.problem_of(entry, "mask", "must be other than 0");
    }
    if form.shift.is_some_and(|shift| shift > 63) {
        reader.problem_of(entry, "shift", "must be a whole number from 0 to 63");
    }
    let text = matches!(encoding, Some(Encoding::Text { .. }));
    let plain = form.names.is_none() && form.bits.is_none();
    if encoding.is_some() && plain && text != (kind == ValueKind::Text) {
        let what =
            if text { "is a text; type must be text" } else { "is a number; type text needs enum or bits" };
        reader.problem_of(entry, "encoding", what);
    }
    // SunSpec says of each encoding which number means that there is no value.
    let invalid = match place {
        Some(Place::Model(register)) if form.invalid.is_none() => sunspec::invalid(register.encoding),
        _ => form.invalid.clone().unwrap_or_default(),
    };
    let width = encoding.and_then(Encoding::registers).map_or(64, |registers| (registers * 16).min(64));
    check_encoding(reader, entry, kind, place);
    Conversion {
        encoding: encoding.or(form.encoding),
        mask: form.mask,
        shift: form.shift.unwrap_or(0),
        width: u8::try_from(width).unwrap_or(64),
        scale,
        offset,
        names: names(reader, entry, whole && encoding.is_some()),
        bits: bits(reader, entry),
        invalid,
    }
}

/// Beyond registers only angles of NMEA are written in more than one way.
fn check_encoding(reader: &mut Reader<'_>, entry: &Form, kind: ValueKind, place: Option<&Place>) {
    let Some(encoding) = entry.form.encoding else { return };
    let angle = matches!(encoding, Encoding::Latitude | Encoding::Longitude);
    match place {
        Some(Place::Field { .. }) if !angle => {
            reader.problem_of(entry, "encoding", "must be latitude or longitude; fields have no other");
        }
        Some(Place::Field { .. }) if kind != ValueKind::Float => {
            reader.problem_of(entry, "encoding", "is for points of type float");
        }
        Some(Place::Id | Place::Message { .. } | Place::Name(_)) => {
            reader.problem_of(entry, "encoding", "is for registers and fields of sentences");
        }
        _ => {}
    }
}

fn names(reader: &mut Reader<'_>, entry: &Form, whole: bool) -> BTreeMap<String, String> {
    let names = entry.form.names.clone().unwrap_or_default();
    for raw in names.keys().filter(|raw| whole && raw.parse::<i64>().map_or(true, |n| n.to_string() != **raw))
    {
        reader.problem_of(
            entry,
            "enum",
            &format!("{raw:?} is no raw number; allowed are whole numbers, as 3"),
        );
    }
    if entry.says("enum") && names.is_empty() && entry.form.names.is_some() {
        reader.problem_of(entry, "enum", "must have at least one raw number with its text");
    }
    names
}

fn bits(reader: &mut Reader<'_>, entry: &Form) -> BTreeMap<u8, String> {
    let mut bits = BTreeMap::new();
    for (bit, name) in entry.form.bits.clone().unwrap_or_default() {
        match bit.parse::<u8>() {
            Ok(bit) if bit < 64 && name != NO_BIT && !name.is_empty() && !name.contains(", ") => {
                bits.insert(bit, name);
            }
            Ok(bit) if bit < 64 => {
                reader.problem_of(
                    entry,
                    "bits",
                    &format!("{name:?} is no name; it must be other than {NO_BIT:?}"),
                );
            }
            _ => reader.problem_of(entry, "bits", &format!("{bit:?} is no bit; allowed are 0 to 63")),
        }
    }
    bits
}

/// The group that it names, or the first whose patterns have it, or the default one.
fn group(
    reader: &mut Reader<'_>,
    groups: &BTreeMap<String, Collection>,
    id: &str,
    entry: &Form,
) -> (String, Collection) {
    let has = |group: &&Collection| group.points.iter().any(|pattern| matches(pattern, id));
    let found = match &entry.form.group {
        Some(name) => {
            let found = groups.get_key_value(name);
            if found.is_none() && name != DEFAULT_GROUP {
                let known: Vec<&str> = groups.keys().map(String::as_str).collect();
                let what = format!("there is no [collection.{name}]; allowed are {}", known.join(", "));
                reader.problem_of(entry, "group", &what);
            }
            found
        }
        None => groups.iter().find(|(_, group)| has(group)),
    };
    match found.or_else(|| groups.get_key_value(DEFAULT_GROUP)) {
        Some((name, group)) => (name.clone(), group.clone()),
        None => (DEFAULT_GROUP.to_owned(), Collection::default()),
    }
}
