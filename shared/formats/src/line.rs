//! InfluxDB line protocol.
//!
//! ```text
//! measurement[,tag=value…] field=value[,field=value…] [time]
//! ```
//! After InfluxData's description, which versions 1, 2 and 3 share. In names and tags `\` takes the meaning
//! from a following comma, space or equals sign and stands for itself otherwise; a text in quotes may hold
//! line breaks; lines that begin with `#` are comments. A line that is no line protocol is left out as a
//! whole; of others each field is taken or refused by itself.

use std::borrow::Cow;
use std::collections::HashMap;

use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{VALUE_TEXT_BYTES_MAX, Value};

use crate::gather::{ColumnNo, Gather};
use crate::names::{DeviceName, Pairs, point_of_field};
use crate::when::RANGE;
use crate::{FormatError, LABELS_MAX, LINES_MAX, Mapping, READINGS_MAX, Taken, excerpt};

/// The unit of a request's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Nanoseconds.
    Nanos,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Minutes; version 1 only.
    Minutes,
    /// Hours; version 1 only.
    Hours,
}

impl Precision {
    /// What `precision=` says; nanoseconds when it is left out.
    ///
    /// # Errors
    /// The name is unknown; the text says which are not.
    pub fn parse(text: Option<&str>) -> Result<Self, FormatError> {
        match text.unwrap_or("ns") {
            "" | "n" | "ns" => Ok(Self::Nanos),
            "u" | "us" | "µ" => Ok(Self::Micros),
            "ms" => Ok(Self::Millis),
            "s" => Ok(Self::Seconds),
            "m" => Ok(Self::Minutes),
            "h" => Ok(Self::Hours),
            other => Err(FormatError::Malformed(format!(
                "precision={}; allowed are ns, us, ms, s, m and h",
                excerpt(other.as_bytes())
            ))),
        }
    }

    const fn ns(self) -> i64 {
        match self {
            Self::Nanos => 1,
            Self::Micros => 1_000,
            Self::Millis => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
        }
    }
}

/// Parses a request; lines without a time are of `now_ns`.
///
/// # Errors
/// It is longer than a limit allows. What is wrong with single lines is among the problems.
pub fn parse(
    bytes: &[u8],
    precision: Precision,
    now_ns: i64,
    mapping: &mut Mapping<'_>,
) -> Result<Taken, FormatError> {
    parse_within(bytes, precision, now_ns, READINGS_MAX, mapping)
}

/// As [`parse`], for who has less memory than a hub: of no more than so many readings.
///
/// # Errors
/// As there.
pub fn parse_within(
    bytes: &[u8],
    precision: Precision,
    now_ns: i64,
    readings_max: usize,
    mapping: &mut Mapping<'_>,
) -> Result<Taken, FormatError> {
    crate::body::within(bytes.len())?;
    let mut parser = Parser {
        gather: Gather::within(readings_max),
        mapping,
        precision,
        now_ns,
        keys: HashMap::new(),
        admitted: HashMap::new(),
    };
    let (mut rest, mut number) = (bytes, 1_u64);
    while !rest.is_empty() {
        let end = line_end(rest);
        let (line, after) = rest.split_at(end);
        if number > LINES_MAX {
            return Err(FormatError::TooMuch { what: "lines", max: LINES_MAX });
        }
        parser.line(number, line)?;
        // A text in quotes may be of several lines.
        number += 1 + line.iter().filter(|byte| **byte == b'\n').count() as u64;
        rest = after.get(1..).unwrap_or_default();
    }
    Ok(parser.gather.finish())
}

/// Where a line ends: at a line break that is in no quotes. Quotes that are never closed quote nothing.
fn line_end(bytes: &[u8]) -> usize {
    let (mut fields, mut quoted, mut broken, mut at) = (false, false, None, 0);
    let mut before = b' ';
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if bytes.get(at + 1).is_some_and(|next| *next != b'\n') => at += 1,
            b'\n' if !quoted => return at,
            b'\n' => broken = broken.or(Some(at)),
            b' ' | b'\t' if !quoted && at > 0 => fields = true,
            b'"' if quoted => quoted = false,
            b'"' if fields && before == b'=' => quoted = true,
            _ => {}
        }
        before = *byte;
        at += 1;
    }
    if quoted { broken.unwrap_or(bytes.len()) } else { bytes.len() }
}

/// A series key of the request, which many lines share: its device and tags, or why it is refused.
type Key<'b> = Result<Series<'b>, String>;

struct Series<'b> {
    device: DeviceId,
    measurement: Cow<'b, [u8]>,
    tags: Pairs<'b>,
    columns: HashMap<&'b [u8], Result<ColumnNo, String>>,
}

struct Parser<'b, 'm, 'f> {
    gather: Gather,
    mapping: &'m mut Mapping<'f>,
    precision: Precision,
    now_ns: i64,
    keys: HashMap<&'b [u8], Key<'b>>,
    admitted: HashMap<DeviceId, Result<(), String>>,
}

/// A field as it stands in its line.
struct Field<'b> {
    // As written, escapes and all.
    name: &'b [u8],
    value: &'b [u8],
}

impl<'b> Parser<'b, '_, '_> {
    fn line(&mut self, number: u64, line: &'b [u8]) -> Result<(), FormatError> {
        let line = trimmed(line);
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let parts = match split(line) {
            Ok(parts) => parts,
            Err(why) => {
                self.gather.taken.problems.malformed(number, || why);
                return Ok(());
            }
        };
        let time_ns = match parts.time {
            None => Ok(self.now_ns),
            Some(text) => self.time(text),
        };
        let values: Result<Vec<_>, String> =
            parts.fields.iter().map(|field| Ok((field.name, value(field)?))).collect();
        if !self.keys.contains_key(parts.key) {
            match key(parts.key) {
                Ok((measurement, tags)) => {
                    let series = self.series(measurement, tags);
                    self.keys.insert(parts.key, series);
                }
                Err(why) => {
                    self.gather.taken.problems.malformed(number, || why);
                    return Ok(());
                }
            }
        }
        let (time_ns, values) = match (time_ns, values) {
            (Ok(time_ns), Ok(values)) => (time_ns, values),
            (Err(why), _) | (_, Err(why)) => {
                self.gather.taken.problems.malformed(number, || why);
                return Ok(());
            }
        };
        self.fields(number, parts.key, time_ns, values)
    }

    fn time(&self, text: &[u8]) -> Result<i64, String> {
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        let Some(number) = number else {
            return Err(format!("{} is no time; it is a whole number of 64 bits", excerpt(text)));
        };
        number.checked_mul(self.precision.ns()).ok_or_else(|| {
            format!("the time {number} is out of range; {RANGE} is allowed, and precision= says its unit")
        })
    }

    fn series(&mut self, measurement: Cow<'b, [u8]>, mut tags: Pairs<'b>) -> Key<'b> {
        let device: DeviceName<'_> = self.mapping.device(&mut tags, "tag")?;
        let device = device.parse()?;
        if !self.admitted.contains_key(&device) {
            let admitted = (self.mapping.admit)(&device);
            self.admitted.insert(device.clone(), admitted);
        }
        if let Some(Err(why)) = self.admitted.get(&device) {
            return Err(why.clone());
        }
        // Taking the device out has moved one.
        tags.sort();
        Ok(Series { device, measurement, tags, columns: HashMap::new() })
    }

    fn fields(
        &mut self,
        number: u64,
        key: &'b [u8],
        time_ns: i64,
        values: Vec<(&'b [u8], Result<Value, String>)>,
    ) -> Result<(), FormatError> {
        let Some(series) = self.keys.get_mut(key) else { return Ok(()) };
        let problems = |gather: &mut Gather, why: String| gather.taken.problems.refused(number, || why);
        let series = match series {
            Ok(series) => series,
            Err(why) => {
                problems(&mut self.gather, why.clone());
                return Ok(());
            }
        };
        for (name, value) in values {
            let value = match value {
                Ok(value) => value,
                Err(why) => {
                    problems(&mut self.gather, format!("field {}: {why}", excerpt(name)));
                    continue;
                }
            };
            let column = match series.columns.get(name) {
                Some(known) => known.clone(),
                None => {
                    let made = match point_of_field(&series.measurement, &unescaped(name), &series.tags) {
                        Ok(point) => {
                            let kind = value.kind().unwrap_or_default();
                            Ok(self.gather.column(&series.device, point, kind)?)
                        }
                        Err(why) => Err(why),
                    };
                    series.columns.insert(name, made.clone());
                    made
                }
            };
            match column {
                Ok(column) => self.gather.push(column, time_ns, value)?,
                Err(why) => problems(&mut self.gather, why),
            }
        }
        Ok(())
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.trim_ascii()
}

struct Parts<'b> {
    key: &'b [u8],
    fields: Vec<Field<'b>>,
    time: Option<&'b [u8]>,
}

/// The three parts of a line, and the fields one by one.
fn split(line: &[u8]) -> Result<Parts<'_>, String> {
    let end = unescaped_at(line, is_space).ok_or_else(|| {
        format!("{}: there are no fields; a line is measurement,tag=value field=value time", excerpt(line))
    })?;
    let (key, mut rest) =
        (line.get(..end).unwrap_or_default(), line.get(end..).unwrap_or_default().trim_ascii_start());
    let mut fields = Vec::new();
    loop {
        let equals = unescaped_at(rest, |byte| matches!(byte, b'=' | b',') || is_space(byte))
            .filter(|at| rest.get(*at) == Some(&b'='));
        let Some(equals) = equals else {
            return Err(format!("{}: a field has no value; it is name=value", excerpt(rest)));
        };
        let (name, value) =
            (rest.get(..equals).unwrap_or_default(), rest.get(equals + 1..).unwrap_or_default());
        if name.is_empty() {
            return Err(format!("{}: a field has no name", excerpt(rest)));
        }
        let end = value_end(value)?;
        fields.push(Field { name, value: value.get(..end).unwrap_or_default() });
        rest = value.get(end..).unwrap_or_default();
        match rest.strip_prefix(b",") {
            Some(more) => rest = more,
            None => break,
        }
    }
    let time = rest.trim_ascii();
    Ok(Parts { key, fields, time: (!time.is_empty()).then_some(time) })
}

/// Where the value of a field ends that begins here.
fn value_end(value: &[u8]) -> Result<usize, String> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return Ok(value.iter().position(|byte| *byte == b',' || is_space(*byte)).unwrap_or(value.len()));
    };
    let mut at = 0;
    while let Some(byte) = quoted.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => return Ok(at + 2),
            _ => {}
        }
        at += 1;
    }
    Err(format!("{}: a text has no closing quote", excerpt(value)))
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The first byte that is looked for and has no `\` before it.
fn unescaped_at(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'\\' && bytes.get(at + 1).is_some_and(|next| is_escapable(*next)) {
            at += 1;
        } else if wanted(*byte) {
            return Some(at);
        }
        at += 1;
    }
    None
}

const fn is_escapable(byte: u8) -> bool {
    matches!(byte, b',' | b'=' | b' ')
}

/// A name or tag without its escapes.
fn unescaped(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.contains(&b'\\') {
        return Cow::Borrowed(bytes);
    }
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((first, tail)) = rest.split_first() {
        match tail.split_first() {
            Some((next, after)) if *first == b'\\' && is_escapable(*next) => {
                out.push(*next);
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(out)
}

/// The measurement and the tags, these in the order of their names.
fn key(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, Pairs<'_>), String> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(comma) = unescaped_at(rest, |byte| byte == b',') {
        parts.push(rest.get(..comma).unwrap_or_default());
        rest = rest.get(comma + 1..).unwrap_or_default();
        if parts.len() > LABELS_MAX {
            return Err(format!("{}: it has more than {LABELS_MAX} tags", excerpt(bytes)));
        }
    }
    parts.push(rest);
    let mut parts = parts.into_iter();
    let measurement = unescaped(parts.next().unwrap_or_default());
    if measurement.is_empty() {
        return Err(format!("{}: it has no measurement", excerpt(bytes)));
    }
    let mut tags: Pairs<'_> = Vec::new();
    for tag in parts {
        let pair =
            unescaped_at(tag, |byte| byte == b'=').and_then(|at| Some((tag.get(..at)?, tag.get(at + 1..)?)));
        let pair = pair.filter(|(name, value)| !name.is_empty() && !value.is_empty());
        let Some((name, value)) = pair else {
            return Err(format!("tag {}: a tag is name=value, and neither is empty", excerpt(tag)));
        };
        tags.push((unescaped(name), unescaped(value)));
    }
    tags.sort();
    let twice = tags.windows(2).find_map(|two| match two {
        [(one, _), (other, _)] if one == other => Some(one),
        _ => None,
    });
    match twice {
        Some(name) => Err(format!("tag {} is there twice", excerpt(name))),
        None => Ok((measurement, tags)),
    }
}

/// What a field holds; what is right and cannot be kept is the second kind of error.
fn value(field: &Field<'_>) -> Result<Result<Value, String>, String> {
    let name = excerpt(field.name);
    let wrong = || {
        format!(
            "field {name}: {} is no value; allowed are numbers as 1.5, 1i and 1u, true and false, and \"texts\"",
            excerpt(field.value)
        )
    };
    if let Some(quoted) = field.value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
        return Ok(text(quoted));
    }
    match field.value {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => return Ok(Ok(Value::Bool(true))),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => return Ok(Ok(Value::Bool(false))),
        _ => {}
    }
    let text = std::str::from_utf8(field.value).map_err(|_| wrong())?;
    if let Some(digits) = text.strip_suffix('i') {
        return digits.parse().map(|number| Ok(Value::Int(number))).map_err(|_| wrong());
    }
    if let Some(digits) = text.strip_suffix('u') {
        let number = digits.parse::<u64>().map_err(|_| wrong())?;
        let max = i64::MAX;
        let beyond = |_| format!("{number} cannot be kept; whole numbers go up to {max}");
        return Ok(i64::try_from(number).map(Value::Int).map_err(beyond));
    }
    // Rust would take `inf` and `nan` as well.
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let number = text.parse::<f64>().ok().filter(|number| plain && number.is_finite()).ok_or_else(wrong)?;
    Ok(Ok(Value::Float(number)))
}

/// A text without its quotes; in it `\` takes the meaning from a quote and from itself.
fn text(quoted: &[u8]) -> Result<Value, String> {
    let (mut out, mut rest) = (Vec::with_capacity(quoted.len()), quoted);
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.first().copied().filter(|next| *first == b'\\' && matches!(next, b'"' | b'\\'));
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(1..).unwrap_or_default() } else { tail };
    }
    if out.len() > VALUE_TEXT_BYTES_MAX {
        return Err(format!("its text has {} bytes; allowed are {VALUE_TEXT_BYTES_MAX}", out.len()));
    }
    let text = String::from_utf8(out).map_err(|_| "its text is not UTF-8".to_owned())?;
    Ok(Value::Text(text.into()))
}

#[cfg(test)]
mod tests;
