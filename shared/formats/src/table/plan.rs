//! A mapping and the columns of a file: which cell of a row is what.

use jiff::tz::TimeZone;
use tideline_protocol::model::{DeviceId, PointId, UNIT_BYTES_MAX};

use super::cell::Linear;
use super::mapping::{Mapping, PointMap, ValueMap};
use super::times::{Times, Written};

/// What a column holds, as far as the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text; all columns of CSV.
    Text,
    /// Numbers.
    Number,
    /// Yes and no.
    Bool,
    /// Times.
    Time,
    /// What no reading is made of; its name.
    Other(String),
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// A mapping does not fit, or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(String);

/// Where the device of a row comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Device {
    Column(usize),
    One(DeviceId),
}

/// Where the name of a point or of a unit comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name<T> {
    Column(usize),
    One(T),
}

/// A column that is a point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PointColumn {
    pub column: usize,
    pub point: PointId,
    pub unit: String,
    pub linear: Linear,
}

/// The columns that an export has beside the value: together they say what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beside {
    pub kind: usize,
    pub int: usize,
    pub text: usize,
    pub quality: usize,
    pub doubtful: usize,
}

/// What a row has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// One value.
    Long { point: Name<PointId>, value: usize, unit: Name<String>, linear: Linear, beside: Option<Beside> },
    /// One for each of these.
    Wide(Vec<PointColumn>),
}

/// Which cell of a row is what.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub(super) columns: Vec<String>,
    pub(super) time: usize,
    pub(super) times: Times,
    pub(super) device: Device,
    pub(super) shape: Shape,
    pub(super) nulls: Vec<String>,
    // Whether a text that was measured may be empty: where the file itself tells nulls, and nothing else was said.
    pub(super) has_empty_texts: bool,
    pub(super) decimal_comma: bool,
}

/// What columns are called when nothing is said of them.
const TIMES: [&str; 2] = ["time", "timestamp"];
/// Of a file of readings, no points: what is said of each beside its value.
const BESIDE: [&str; 5] = ["unit", "text", "int", "bool", "quality"];

fn wrong<T>(text: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError(text.into()))
}

/// The columns of a file, while they are looked for.
struct Columns<'a>(&'a [FileColumn]);

impl Columns<'_> {
    fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column.name == name)
    }

    fn named(&self, what: &str, name: &str) -> Result<usize, PlanError> {
        match self.find(name) {
            Some(at) => Ok(at),
            None => {
                let all: Vec<&str> = self.0.iter().take(40).map(|column| column.name.as_str()).collect();
                let more = if self.0.len() > all.len() { " …" } else { "" };
                wrong(format!(
                    "the file has no column {name:?} for {what}; it has {}{more}; a mapping says which is what",
                    all.join(", ")
                ))
            }
        }
    }

    /// A column that a mapping names, or one that is called so.
    fn one_of(&self, what: &str, named: Option<&str>, usual: &[&str]) -> Result<usize, PlanError> {
        match (named, usual.iter().find_map(|name| self.find(name))) {
            (Some(name), _) => self.named(what, name),
            (None, Some(at)) => Ok(at),
            (None, None) => self.named(what, usual.first().copied().unwrap_or_default()),
        }
    }

    fn usable(&self, at: usize) -> Result<usize, PlanError> {
        match self.0.get(at) {
            Some(FileColumn { name, kind: ColumnKind::Other(kind) }) => wrong(format!(
                "column {name:?} is of type {kind}; allowed are texts, numbers, booleans and timestamps"
            )),
            _ => Ok(at),
        }
    }
}

impl Mapping {
    /// What a row of a file with these columns is; `device` is that of all its rows, if it was said beside the mapping.
    ///
    /// # Errors
    /// A column is missing or of no use, or the mapping contradicts itself.
    pub fn plan(&self, columns: &[FileColumn], device: Option<&DeviceId>) -> Result<Plan, PlanError> {
        let found = Columns(columns);
        if let Some(twice) = columns.iter().enumerate().find_map(|(at, column)| {
            columns.iter().take(at).any(|other| other.name == column.name).then_some(&column.name)
        }) {
            return wrong(format!("the file has two columns {twice:?}; each needs a name of its own"));
        }
        let time = found.usable(found.one_of("the time", self.time.column.as_deref(), &TIMES)?)?;
        let device = self.device(&found, device)?;
        let shape = self.shape(&found, time, &device)?;
        Ok(Plan {
            columns: columns.iter().map(|column| column.name.clone()).collect(),
            time,
            times: self.times()?,
            device,
            shape,
            nulls: self.nulls.clone().unwrap_or_else(|| vec![String::new()]),
            has_empty_texts: self.nulls.is_none() && columns.iter().any(|c| c.kind != ColumnKind::Text),
            decimal_comma: self.decimal_comma,
        })
    }

    /// The byte that parts the fields of CSV.
    ///
    /// # Errors
    /// It is none.
    pub fn delimiter(&self) -> Result<u8, PlanError> {
        match self.delimiter.as_deref().unwrap_or(",").as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0) => Ok(*byte),
            _ => wrong(format!(
                "delimiter {:?}; allowed is one character of ASCII but quotes and ends of lines, as \";\" or \"\\t\"",
                self.delimiter.as_deref().unwrap_or_default()
            )),
        }
    }

    fn times(&self) -> Result<Times, PlanError> {
        let written = Written::parse(self.time.format.as_deref()).map_err(PlanError)?;
        let zone = match self.time.zone.as_deref() {
            None | Some("UTC") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|error| {
                PlanError(format!("zone {name:?}: {error}; allowed are names as Europe/Berlin"))
            })?,
        };
        Ok(Times { written, zone })
    }

    fn device(&self, found: &Columns<'_>, beside: Option<&DeviceId>) -> Result<Device, PlanError> {
        let id = match (&self.device.id, beside) {
            (Some(id), Some(beside)) if id != beside.as_str() => {
                return wrong(format!("the mapping names device {id}, and --device {beside}"));
            }
            (Some(id), _) => Some(DeviceId::parse(id).map_err(|error| PlanError(error.to_string()))?),
            (None, beside) => beside.cloned(),
        };
        match (id, self.device.column.as_deref()) {
            (Some(id), None) => Ok(Device::One(id)),
            (Some(id), Some(column)) => wrong(format!(
                "the device is {id}, and column {column:?} names it too; allowed is one of them"
            )),
            (None, column) => found.one_of("the device", column, &["device"]).map(Device::Column).map_err(
                |PlanError(text)| {
                    PlanError(format!("{text}, and --device ID says the one device of all rows"))
                },
            ),
        }
    }

    fn shape(&self, found: &Columns<'_>, time: usize, device: &Device) -> Result<Shape, PlanError> {
        match (&self.value, self.point.as_slice()) {
            (Some(_), [_, ..]) => wrong(
                "the mapping has [value] and [[point]]; allowed is one value in a row, or columns of points",
            ),
            (Some(value), []) => long(found, value),
            (None, points @ [_, ..]) => wide(found, points),
            (None, []) if found.find("value").is_some() => long(found, &ValueMap::default()),
            (None, []) => every_other(found, time, device),
        }
    }
}

fn linear(what: &str, scale: Option<f64>, offset: Option<f64>) -> Result<Linear, PlanError> {
    let linear = Linear { scale: scale.unwrap_or(1.0), offset: offset.unwrap_or(0.0) };
    if linear.scale == 0.0 || !linear.scale.is_finite() || !linear.offset.is_finite() {
        return wrong(format!("{what}: scale and offset are to be finite, and scale is not to be 0"));
    }
    Ok(linear)
}

fn unit(text: Option<&str>) -> Result<String, PlanError> {
    let text = text.unwrap_or_default();
    if text.len() > UNIT_BYTES_MAX {
        return wrong(format!("unit {text:?} has {} bytes; allowed are {UNIT_BYTES_MAX}", text.len()));
    }
    Ok(text.to_owned())
}

fn point(text: &str) -> Result<PointId, PlanError> {
    PointId::parse(text).map_err(|error| PlanError(format!("{error}; `point` says another name")))
}

fn long(found: &Columns<'_>, map: &ValueMap) -> Result<Shape, PlanError> {
    let value = found.usable(found.one_of("the value", map.column.as_deref(), &["value"])?)?;
    let point = match (&map.point, &map.point_column) {
        (Some(_), Some(_)) => return wrong("[value] has point and point_column; allowed is one of them"),
        (Some(text), None) => Name::One(point(text)?),
        (None, column) => Name::Column(found.one_of("the point", column.as_deref(), &["point"])?),
    };
    let unit = match (&map.unit, &map.unit_column) {
        (Some(_), Some(_)) => return wrong("[value] has unit and unit_column; allowed is one of them"),
        (None, Some(column)) => Name::Column(found.named("the unit", column)?),
        (None, None) if found.find("unit").is_some() => Name::Column(found.find("unit").unwrap_or_default()),
        (text, None) => Name::One(unit(text.as_deref())?),
    };
    let beside = || {
        Some(Beside {
            kind: found.find("type")?,
            int: found.find("int")?,
            text: found.find("text")?,
            quality: found.find("quality")?,
            doubtful: found.find("doubtful")?,
        })
    };
    let linear = linear("[value]", map.scale, map.offset)?;
    Ok(Shape::Long { point, value, unit, linear, beside: beside() })
}

fn wide(found: &Columns<'_>, points: &[PointMap]) -> Result<Shape, PlanError> {
    let one = |map: &PointMap| {
        let what = format!("[[point]] {:?}", map.column);
        Ok(PointColumn {
            column: found.usable(found.named("a point", &map.column)?)?,
            point: point(map.point.as_ref().unwrap_or(&map.column))?,
            unit: unit(map.unit.as_deref())?,
            linear: linear(&what, map.scale, map.offset)?,
        })
    };
    points.iter().map(one).collect::<Result<_, _>>().map(Shape::Wide)
}

/// Each column is a point but those of the time and the device.
fn every_other(found: &Columns<'_>, time: usize, device: &Device) -> Result<Shape, PlanError> {
    let mut points = Vec::new();
    for (at, column) in found.0.iter().enumerate() {
        let told = at == time || *device == Device::Column(at) || BESIDE.contains(&column.name.as_str());
        if told || !matches!(column.kind, ColumnKind::Text | ColumnKind::Number | ColumnKind::Bool) {
            continue;
        }
        points.push(PointColumn {
            column: at,
            point: point(&column.name)
                .map_err(|PlanError(text)| PlanError(format!("{text}, in [[point]] of a mapping")))?,
            unit: String::new(),
            linear: Linear::NONE,
        });
    }
    if points.is_empty() {
        return wrong("the file has no column of values beside the time and the device");
    }
    Ok(Shape::Wide(points))
}

impl Plan {
    /// The columns that are looked at, in the order of the file.
    #[must_use]
    pub fn used(&self) -> Vec<usize> {
        let mut used = vec![self.time];
        if let Device::Column(at) = self.device {
            used.push(at);
        }
        match &self.shape {
            Shape::Long { point, value, unit, beside, .. } => {
                used.push(*value);
                used.extend(beside.iter().flat_map(|b| [b.kind, b.int, b.text, b.quality, b.doubtful]));
                used.extend([column_of(point), column_of(unit)].into_iter().flatten());
            }
            Shape::Wide(points) => used.extend(points.iter().map(|point| point.column)),
        }
        used.sort_unstable();
        used.dedup();
        used
    }

    /// How many columns the file has.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.columns.len()
    }
}

const fn column_of<T>(name: &Name<T>) -> Option<usize> {
    match name {
        Name::Column(at) => Some(*at),
        Name::One(_) => None,
    }
}
