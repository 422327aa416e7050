//! What has to hold within and between the other sections.

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::{Contents, named, plain};
use tideline_protocol::keep::{self, KEEP_DAYS_MAX};
use tideline_protocol::pattern::matches;
use tideline_protocol::value::ValueKind;

use crate::form::protocol::{
    BITS_MAX, ModbusTable, MqttTable, NmeaTable, OpcUaTable, Protocol, REGISTERS_MAX, Serial, SunSpecTable,
};
use crate::form::section::{
    Alarm, Board, Collection, Command, Delivery, Firmware, Identity, Others, UpdateMethod, VersionScheme,
};
use crate::opcua;
use crate::overlay::{self, Versions};
use crate::point::{Place, Point};
use crate::read::{Entry, Reader, meant};
use crate::sunspec::{LENGTH_MAX, Spot, scale_address};

/// Longest wait for an answer, and between two requests, in ms: who is waited for holds up all others of its bus.
const WAIT_MS_MAX: u32 = 60_000;
/// Most bits a second of a serial line.
const BAUD_MAX: u32 = 4_000_000;
/// Most points that a device may make by itself: as many as the agent's dictionary of series has places.
const OTHERS_MAX: u32 = 100_000;
/// Between which a command may take, in ms.
const COMMAND_MS: (u32, u32) = (10, 3_600_000);
/// Most digits of the first bytes of firmware.
const MAGIC_DIGITS_MAX: usize = 128;
/// Longest name of an alarm in bytes: with what its points begin and end with it is the id of a point.
const ALARM_NAME_BYTES_MAX: usize = 40;

fn check_number<T>(reader: &mut Reader<'_>, entry: &Entry<T>, key: &str, value: u32, (min, max): (u32, u32)) {
    if !(min..=max).contains(&value) {
        reader.problem_of(entry, key, &format!("must be a whole number from {min} to {max}"));
    }
}

fn check_serial<T>(reader: &mut Reader<'_>, entry: &Entry<T>, serial: &Serial) {
    let is_sound = (1..=BAUD_MAX).contains(&serial.baud)
        && matches!((serial.data_bits, serial.stop_bits), (7 | 8, 1 | 2));
    if !is_sound {
        let must = format!("must have a baud from 1 to {BAUD_MAX}, data_bits 7 or 8 and stop_bits 1 or 2");
        reader.problem_of(entry, "serial", &must);
    }
}

/// What is checked of a Modbus table.
pub fn check_modbus(reader: &mut Reader<'_>, entry: &Entry<ModbusTable>) {
    let table = &entry.form;
    check_number(reader, entry, "registers_max", table.registers_max.into(), (1, REGISTERS_MAX.into()));
    check_number(reader, entry, "bits_max", table.bits_max.into(), (1, BITS_MAX.into()));
    check_number(reader, entry, "timeout_ms", table.timeout_ms, (1, WAIT_MS_MAX));
    check_number(reader, entry, "pause_ms", table.pause_ms, (0, WAIT_MS_MAX));
    if let Some(serial) = &table.serial {
        check_serial(reader, entry, serial);
    }
}

/// What is checked of a table of NMEA 0183.
pub fn check_nmea(reader: &mut Reader<'_>, entry: &Entry<NmeaTable>) {
    check_serial(reader, entry, &entry.form.serial);
}

/// What is checked of a SunSpec table.
pub fn check_sunspec(reader: &mut Reader<'_>, entry: &Entry<SunSpecTable>) {
    check_number(reader, entry, "registers_max", entry.form.registers_max.into(), (2, REGISTERS_MAX.into()));
    check_number(reader, entry, "timeout_ms", entry.form.timeout_ms, (1, WAIT_MS_MAX));
    if entry.form.bases.is_empty() {
        reader.problem_of(entry, "bases", "must be a list of register numbers, at least one");
    }
    for (id, blocks) in &entry.form.blocks {
        let is_model = id.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == *id);
        let is_within = |number: u16, least: u16| (least..=LENGTH_MAX + 1).contains(&number);
        if !is_model || !is_within(blocks.first, 2) || !is_within(blocks.length, 1) {
            let must = format!(
                "{id} must be the number of a model, its first from 2 and its length from 1 to {}",
                LENGTH_MAX + 1
            );
            reader.problem_of(entry, "blocks", &must);
        }
        match blocks.count_from.as_deref().map(scale_address) {
            None | Some(Ok(Spot::Model(_))) => {}
            _ => reader.problem_of(entry, "blocks", &format!("{id}: count_from must be as :8")),
        }
    }
}

/// What is checked of a table of MQTT.
pub fn check_mqtt(reader: &mut Reader<'_>, entry: &Entry<MqttTable>) {
    let root = &entry.form.root;
    if root.contains(['+', '#']) || root.starts_with('/') || root.ends_with('/') {
        reader.problem_of(entry, "root", "must be a topic as \"shelly/{device}\", without + and #");
    }
}

/// What is checked of a table of OPC UA.
pub fn check_opcua(reader: &mut Reader<'_>, entry: &Entry<OpcUaTable>) {
    for what in entry.form.browse.iter().filter_map(|node| opcua::check(node).err()) {
        reader.problem_of(entry, "browse", &what);
    }
}

/// What is checked of groups.
pub fn check_collection(reader: &mut Reader<'_>, groups: &[(String, Entry<Collection>)], ids: &[String]) {
    for (_, entry) in groups {
        if !(10..=86_400_000).contains(&entry.form.interval_ms) {
            reader.problem_of(entry, "interval_ms", "must be a whole number from 10 to 86400000, a day");
        }
        check_patterns(reader, entry, "points", &entry.form.points, ids);
    }
}

/// Reads and checks what speaks of points.
pub fn rest(reader: &mut Reader<'_>, table: &DeTable<'_>, contents: &mut Contents, ids: &[String]) {
    let delivery = named::<Delivery>(reader, table, "delivery");
    for (_, entry) in &delivery {
        check_patterns(reader, entry, "points", &entry.form.points, ids);
        super::sense::check_expiry(reader, entry);
        if let Some(days) = entry.form.keep_days {
            check_number(reader, entry, "keep_days", days, (1, KEEP_DAYS_MAX));
        }
    }
    let rules = crate::keeps::rules(delivery.iter().map(|(_, entry)| &entry.form));
    if let (Some((_, first)), Err(what)) = (delivery.first(), keep::check(&rules)) {
        reader.problem(first.at, &format!("delivery: {what}"));
    }
    contents.delivery = plain(delivery);
    let alarms = named::<Alarm>(reader, table, "alarms");
    for (name, entry) in &alarms {
        check_alarm_name(reader, entry, name, ids);
        check_alarm(reader, entry, contents, ids);
        super::sense::check_alarm(reader, entry, contents);
    }
    contents.alarms = plain(alarms);
    let commands = named::<Command>(reader, table, "commands");
    for (_, entry) in &commands {
        check_command(reader, entry, contents, ids);
    }
    contents.commands = plain(commands);
    if let Some(entry) = table.get("board").and_then(|value| reader.entry::<Board>("board", value)) {
        for (at, panel) in entry.form.panels.iter().enumerate() {
            check_patterns(reader, &entry, &format!("panels.{at}.points"), &panel.points, ids);
        }
        contents.board = entry.form;
    }
    if let Some(entry) = table.get("identity").and_then(|value| reader.entry::<Identity>("identity", value)) {
        check_identity(reader, &entry, overlay::scheme(table), ids);
        check_detect(reader, &entry, &contents.protocol);
        contents.identity = entry.form;
    }
    if let Some(entry) = table.get("firmware").and_then(|value| reader.entry::<Firmware>("firmware", value)) {
        check_firmware(reader, &entry, contents, ids);
        contents.firmware = entry.form;
    }
    if let Some(entry) = table.get("others").and_then(|value| reader.entry::<Others>("others", value)) {
        if let Some(most) = entry.form.points_max {
            check_number(reader, &entry, "points_max", most, (0, OTHERS_MAX));
        }
        contents.others = Some(entry.form);
    }
    check_overlaps(reader, table, contents);
}

/// Whether an id is one of the profile's, or of one of its families, or of what it takes without a name.
fn is_known(id: &str, ids: &[String]) -> bool {
    let in_family = |known: &String| (known == "*" || known.ends_with("/*")) && matches(known, id);
    ids.iter().any(|known| known == id || in_family(known))
}

fn check_point<T>(reader: &mut Reader<'_>, entry: &Entry<T>, key: &str, id: &str, ids: &[String]) {
    if is_known(id, ids) {
        return;
    }
    let known: Vec<&str> = ids.iter().map(String::as_str).collect();
    let hint = meant(id, &known).map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    reader.problem_of(entry, key, &format!("there is no point {id:?}{hint}"));
}

fn check_patterns<T>(
    reader: &mut Reader<'_>,
    entry: &Entry<T>,
    key: &str,
    patterns: &[String],
    ids: &[String],
) {
    for pattern in patterns {
        if !ids.iter().any(|id| matches(pattern, id)) {
            check_point(reader, entry, key, pattern, ids);
        }
    }
}

/// An alarm is told of as a point of the device, and by a rule of its name.
fn check_alarm_name(reader: &mut Reader<'_>, entry: &Entry<Alarm>, name: &str, ids: &[String]) {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > ALARM_NAME_BYTES_MAX || !name.chars().all(fits) {
        let what = format!(
            "{}: its name must be 1 to {ALARM_NAME_BYTES_MAX} letters, digits, '_' and '-'",
            entry.path
        );
        reader.problem(entry.at, &what);
    }
    // Of several conditions each is a point of its own, as alarm/hot-above.
    let tells = |id: &&String| {
        let rest = id.strip_prefix("alarm/").and_then(|own| own.strip_prefix(name));
        rest.is_some_and(|rest| ["", "-above", "-below", "-equals", "-no-data"].contains(&rest))
    };
    if let Some(id) = ids.iter().find(tells) {
        let what = format!("{}: is told of as the point {id}, which is one of the profile's own", entry.path);
        reader.problem(entry.at, &what);
    }
}

/// After how long a point is silent at the soonest, in ms: what only changes may tell of is sent about every five readings,
/// or 50 s.
fn silent_ms(contents: &Contents, point: &Point) -> u64 {
    let interval_ms = u64::from(point.interval_ms);
    let group = contents.collection.get(&point.group);
    if group.is_some_and(|group| group.on_change || group.deadband.is_some()) {
        interval_ms.saturating_mul(6).max(60_000)
    } else {
        interval_ms
    }
}

fn check_alarm(reader: &mut Reader<'_>, entry: &Entry<Alarm>, contents: &Contents, ids: &[String]) {
    let alarm = &entry.form;
    check_point(reader, entry, "point", &alarm.point, ids);
    if !["above", "below", "equals", "no_data_s"].into_iter().any(|key| entry.says(key)) {
        reader
            .problem(entry.at, &format!("{}: one of above, below, equals, no_data_s is needed", entry.path));
    }
    if let (Some(silent_s), Some(point)) = (alarm.no_data_s, contents.points.get(&alarm.point)) {
        let least_ms = silent_ms(contents, point);
        if u64::from(silent_s) * 1_000 <= least_ms {
            let what =
                format!("must be more than {} s: so long may be between two readings", least_ms / 1_000);
            reader.problem_of(entry, "no_data_s", &what);
        }
    }
    if !alarm.hysteresis.is_finite() || alarm.hysteresis < 0.0 {
        reader.problem_of(entry, "hysteresis", "must be 0 or more");
    }
    if let (Some(above), Some(below)) = (alarm.above, alarm.below)
        && above < below
    {
        reader.problem_of(entry, "above", &format!("{above} is less than below {below}: it would never end"));
    }
}

fn check_command(reader: &mut Reader<'_>, entry: &Entry<Command>, contents: &Contents, ids: &[String]) {
    let command = &entry.form;
    check_point(reader, entry, "point", &command.point, ids);
    if let Some(point) = contents.points.get(&command.point)
        && !point.access.writes()
    {
        let what = format!("{} is not writable; its access must be write or read-write", command.point);
        reader.problem_of(entry, "point", &what);
    }
    if let (Some(min), Some(max)) = (command.min, command.max)
        && min.float() > max.float()
    {
        reader.problem_of(entry, "min", &format!("{min} is above max {max}"));
    }
    if let Some(timeout_ms) = command.timeout_ms {
        check_number(reader, entry, "timeout_ms", timeout_ms, COMMAND_MS);
    }
    for interlock in &command.interlocks {
        check_point(reader, entry, "interlocks", &interlock.point, ids);
        if interlock.values.is_empty() && interlock.min.is_none() && interlock.max.is_none() {
            reader.problem_of(entry, "interlocks", "one of values, min, max is needed");
        }
    }
}

fn check_identity(reader: &mut Reader<'_>, entry: &Entry<Identity>, scheme: VersionScheme, ids: &[String]) {
    let identity = &entry.form;
    if !identity.firmware.is_empty()
        && let Err(what) = Versions::parse(scheme, &identity.firmware)
    {
        reader.problem_of(entry, "firmware", &what);
    }
    if let Some(point) = &identity.firmware_point {
        check_point(reader, entry, "firmware_point", point, ids);
    }
    for document in &identity.documents {
        if !document.starts_with("https://") && !document.starts_with("http://") {
            reader.problem_of(
                entry,
                "documents",
                &format!("{document:?} is no address of a public document"),
            );
        }
    }
}

/// Rules that tell a family have to stand where its points could.
fn check_detect(reader: &mut Reader<'_>, entry: &Entry<Identity>, protocol: &Protocol) {
    for rule in &entry.form.detect {
        if let Err(what) = super::points::check_address(protocol, &rule.address) {
            reader.problem_of(entry, "detect", &what);
        }
        if let (Some(min), Some(max)) = (rule.min, rule.max)
            && min.float() > max.float()
        {
            reader.problem_of(entry, "detect", &format!("min {} is above max {}", min.float(), max.float()));
        }
    }
}

fn check_firmware(reader: &mut Reader<'_>, entry: &Entry<Firmware>, contents: &Contents, ids: &[String]) {
    let firmware = &entry.form;
    if let Some(point) = &firmware.url_point {
        check_point(reader, entry, "url_point", point, ids);
        let is_text = |point: &Point| point.access.writes() && point.allowed.kind() == ValueKind::Text;
        if contents.points.get(point).is_some_and(|point| !is_text(point)) {
            reader.problem_of(entry, "url_point", &format!("{point} must be a text that is written"));
        }
    }
    if (firmware.method == UpdateMethod::Url) != firmware.url_point.is_some() {
        let what = "method \"url\" and url_point belong together: the point is told where the firmware lies";
        reader.problem_of(entry, if firmware.url_point.is_some() { "url_point" } else { "method" }, what);
    }
    let is_hex = |text: &str| {
        (2..=MAGIC_DIGITS_MAX).contains(&text.len())
            && text.len().is_multiple_of(2)
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if firmware.magic.as_deref().is_some_and(|magic| !is_hex(magic)) {
        reader.problem_of(entry, "magic", "must be bytes in hex, as e903");
    }
    if firmware.suffixes.iter().any(|suffix| suffix.len() < 2 || suffix.contains(['/', '\\'])) {
        reader.problem_of(entry, "suffixes", "must be ends of names of files, as \".bin\"");
    }
    if firmware.bytes_max == Some(0) {
        reader.problem_of(entry, "bytes_max", "must be 1 or more");
    }
}

/// Two points that say to stand in the same field of the same place are one too many: what is told under one name would be
/// a reading of one of them only.
fn check_overlaps(reader: &mut Reader<'_>, table: &DeTable<'_>, contents: &Contents) {
    let (mut fields, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (id, point) in &contents.points {
        let bits = (point.conversion.mask, point.conversion.shift);
        let what = match &point.place {
            Place::Register(register)
                if point.access.reads() && !fields.insert((register.function, register.start, bits)) =>
            {
                "another point stands there; a mask keeps them apart"
            }
            Place::Name(name) if !names.insert(name) => {
                "another point has that name; allowed is one, of access read-write where it is also written"
            }
            _ => continue,
        };
        let entry = table.get("points").and_then(|points| points.get_ref().as_table()?.get(id.as_str()));
        reader.problem(entry.map_or(0, |entry| entry.span().start), &format!("points.{id}.address: {what}"));
    }
}
