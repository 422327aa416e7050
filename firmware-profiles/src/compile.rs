//! From what a file says to a [`Profile`]: what has to hold between keys and sections is checked here.

mod points;
mod sections;
mod sense;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use tideline_protocol::model::DeviceId;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::form::protocol::Protocol;
use crate::form::section::{Alarm, Board, Collection, Command, Delivery, Firmware, Identity, Others};
use crate::form::{FORMAT, File, Overlay, PointForm};
use crate::overlay::{self, Edition, Varying, When};
use crate::point::Point;
use crate::read::{self, Entry, Reader};
use crate::{Profile, ProfileError, Source};

/// Largest file in bytes: a device with hundreds of points has 100 KB.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Most points of a profile.
const POINTS_MAX: usize = 4096;

/// All that a profile says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    pub name: String,
    pub identity: Identity,
    pub protocol: Protocol,
    pub points: BTreeMap<String, Point>,
    pub others: Option<Others>,
    pub collection: BTreeMap<String, Collection>,
    pub delivery: BTreeMap<String, Delivery>,
    pub alarms: BTreeMap<String, Alarm>,
    pub board: Board,
    pub commands: BTreeMap<String, Command>,
    pub firmware: Firmware,
    pub overlays: Vec<When>,
    /// What differs between firmware versions, and between hardware revisions.
    pub varying: Varying,
    pub by_hardware: Varying,
}

/// A profile of a file, with whatever is wrong with it.
pub fn profile(file: &str, text: &str) -> Result<Profile, ProfileError> {
    let mut reader = Reader::new(file, text);
    let Some(table) = parsed(&mut reader, text) else { return reader.finish(None) };
    let mut contents = compile(&mut reader, file, &table);
    let made = check_overlays(&mut reader, file, &table, contents.as_ref());
    if let Some(contents) = &mut contents {
        (contents.varying, contents.by_hardware) = made;
    }
    let source = Arc::new(Source { file: file.to_owned(), text: text.to_owned(), digest: OnceLock::new() });
    reader.finish(contents.map(|contents| Profile {
        contents: Arc::new(contents),
        source,
        made_for: Edition::default(),
    }))
}

/// The profile of a file with its overlays for such devices.
pub fn for_edition(source: &Source, edition: &Edition) -> Result<Contents, ProfileError> {
    let mut reader = Reader::new(&source.file, &source.text);
    let Some(table) = parsed(&mut reader, &source.text) else { return reader.finish(None) };
    let (mut merged, scheme) = (table.clone(), overlay::scheme(&table));
    for overlay in overlay::tables(&table) {
        if overlay::when(overlay, scheme).is_ok_and(|when| when.holds(edition)) {
            let _ = overlay::lay(&mut merged, overlay);
        }
    }
    let contents = compile(&mut reader, &source.file, &merged);
    reader.finish(contents)
}

/// The file as a table; none when it is no TOML, which is then told.
fn parsed<'t>(reader: &mut Reader<'t>, text: &'t str) -> Option<DeTable<'t>> {
    if text.len() > FILE_BYTES_MAX {
        reader.problem(0, &format!("the file has {} bytes; allowed are {FILE_BYTES_MAX}", text.len()));
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.problem(at, &format!("no TOML: {}", error.message()));
    }
    errors.is_empty().then(|| table.into_inner())
}

/// Each overlay alone has to make a profile; gives what differs in those of versions, and in those of revisions.
fn check_overlays(
    reader: &mut Reader<'_>,
    file: &str,
    table: &DeTable<'_>,
    base: Option<&Contents>,
) -> (Varying, Varying) {
    let (mut varying, mut by_hardware) = (Varying::default(), Varying::default());
    match table.get("overlays").map(|value| (value.span(), value.get_ref())) {
        None | Some((_, DeValue::Array(_))) => {}
        Some((span, _)) => reader.problem(span.start, "overlays: must be written as [[overlays]]"),
    }
    let scheme = overlay::scheme(table);
    for overlay in overlay::tables(table) {
        let known = read::fields::<Overlay>();
        let keys = overlay.get_ref().as_table().into_iter().flat_map(|table| table.keys());
        for key in keys.filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let what = read::unknown(key.get_ref(), known);
            reader.problem(key.span().start, &format!("overlays.{what}"));
        }
        let when = overlay::when(overlay, scheme);
        match &when {
            Ok(when) => check_when(reader, overlay, when, base),
            Err((at, what)) if what.starts_with("versions is") => {
                reader.problem(*at, &format!("overlays: {what}"))
            }
            Err((at, what)) => reader.problem(*at, &format!("overlays.{what}")),
        }
        let mut merged = table.clone();
        for (at, what) in overlay::lay(&mut merged, overlay) {
            reader.problem(at, &what);
        }
        let Some((base, made)) = base.zip(compile(reader, file, &merged)) else { continue };
        let when = when.ok();
        if when.as_ref().is_some_and(|when| when.versions.is_some()) {
            varying.add((&base.protocol, &base.points), (&made.protocol, &made.points));
        }
        if when.is_some_and(|when| when.hardware.is_some()) {
            by_hardware.add((&base.protocol, &base.points), (&made.protocol, &made.points));
        }
        if base.firmware.versions != made.firmware.versions {
            let what =
                "overlays: firmware.versions says how versions are compared, and may not differ in one";
            reader.problem(overlay.span().start, what);
        }
        // Which overlay is right is read there.
        if let Some(point) = base.identity.firmware_point.as_deref().filter(|point| varying.has(point)) {
            let what =
                format!("overlays: {point} says which version a device has, and may not differ in one");
            reader.problem(overlay.span().start, &what);
        }
    }
    (varying, by_hardware)
}

/// An overlay of a revision that the file is for as it stands would say otherwise of it than the file does.
fn check_when(reader: &mut Reader<'_>, overlay: &Spanned<DeValue<'_>>, when: &When, base: Option<&Contents>) {
    let own = base.map(|base| base.identity.hardware.as_str()).unwrap_or_default();
    let (None, Some(revisions)) = (&when.versions, &when.hardware) else { return };
    if let Some(both) = overlay::revisions(own).find(|own| revisions.iter().any(|revision| revision == own)) {
        let what = format!(
            "overlays.hardware: {both:?} is one that the file is for as it stands, by identity.hardware"
        );
        reader.problem(overlay.span().start, &what);
    }
}

/// What a table says. None when there is so much wrong with it that nothing can be said.
fn compile(reader: &mut Reader<'_>, file: &str, table: &DeTable<'_>) -> Option<Contents> {
    let before = reader.count();
    let known = read::fields::<File>();
    for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
        reader.problem(key.span().start, &read::unknown(key.get_ref(), known));
    }
    check_format(reader, table);
    let mut contents = Contents { name: name(reader, file, table), ..Contents::default() };
    if let Some(protocol) = protocol(reader, table) {
        contents.protocol = protocol;
    }
    let collection = named::<Collection>(reader, table, "collection");
    let mut forms = named::<PointForm>(reader, table, "points");
    if let Some((_, extra)) = forms.get(POINTS_MAX) {
        reader.problem(extra.at, &format!("points: there are {}; allowed are {POINTS_MAX}", forms.len()));
        forms.truncate(POINTS_MAX);
    }
    let mut ids: Vec<String> = forms.iter().map(|(id, _)| id.clone()).collect();
    if table.contains_key("others") {
        // What is not named here may have any name.
        ids.push("*".to_owned());
    }
    sections::check_collection(reader, &collection, &ids);
    contents.collection = plain(collection);
    for (id, form) in forms {
        if let Some(point) = points::point(reader, &contents, &id, &form) {
            contents.points.insert(id, point);
        }
    }
    sense::check_points(reader, table, &contents);
    sections::rest(reader, table, &mut contents, &ids);
    contents.overlays = overlay::all(table);
    (reader.count() == before).then_some(contents)
}

fn check_format(reader: &mut Reader<'_>, table: &DeTable<'_>) {
    let Some(value) = table.get("format") else { return };
    let found = value.get_ref().as_integer().and_then(|number| number.as_str().parse::<u32>().ok());
    if found != Some(FORMAT) {
        reader.problem(
            value.span().start,
            &format!("format: must be {FORMAT}, the one that this version reads"),
        );
    }
}

fn name(reader: &mut Reader<'_>, file: &str, table: &DeTable<'_>) -> String {
    let Some(value) = table.get("name") else { return file.to_owned() };
    let Some(name) = value.get_ref().as_str() else {
        reader.problem(value.span().start, "name: must be a text");
        return file.to_owned();
    };
    // It stands in configurations, addresses of pages and labels, as names of devices do.
    if let Err(error) = DeviceId::parse(name) {
        reader.problem(value.span().start, &format!("name: {}", error.to_string().replace("device id ", "")));
    }
    name.to_owned()
}

/// The one table of a protocol.
fn protocol(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Option<Protocol> {
    let mut given = Protocol::TABLES.into_iter().filter_map(|name| Some((name, table.get(name)?)));
    let (name, value) = given.next()?;
    for (other, value) in given {
        reader.problem(
            value.span().start,
            &format!("{other}: there is {name} already; allowed is one protocol"),
        );
    }
    fn form<T: DeserializeOwned>(
        reader: &mut Reader<'_>,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        check: fn(&mut Reader<'_>, &Entry<T>),
    ) -> Option<T> {
        let entry = reader.entry(name, value)?;
        check(reader, &entry);
        Some(entry.form)
    }
    Some(match name {
        "host" => Protocol::Host(form(reader, name, value, |_, _| {})?),
        "modbus" => Protocol::Modbus(form(reader, name, value, sections::check_modbus)?),
        "sunspec" => Protocol::SunSpec(form(reader, name, value, sections::check_sunspec)?),
        "mqtt" => Protocol::Mqtt(form(reader, name, value, sections::check_mqtt)?),
        "sparkplug" => Protocol::Sparkplug(form(reader, name, value, |_, _| {})?),
        "opcua" => Protocol::OpcUa(form(reader, name, value, sections::check_opcua)?),
        "coap" => Protocol::Coap(form(reader, name, value, |_, _| {})?),
        "http" => Protocol::Http(form(reader, name, value, |_, _| {})?),
        _ => Protocol::Nmea(form(reader, name, value, sections::check_nmea)?),
    })
}

/// The entries of a section, by name.
fn named<T: DeserializeOwned>(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    section: &str,
) -> Vec<(String, Entry<T>)> {
    table.get(section).map_or_else(Vec::new, |value| reader.entries(section, value))
}

fn plain<T>(entries: Vec<(String, Entry<T>)>) -> BTreeMap<String, T> {
    entries.into_iter().map(|(name, entry)| (name, entry.form)).collect()
}
