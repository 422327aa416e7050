//! NMEA 0183: sentences of lines, by field.
//!
//! ```text
//! $GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47
//!  ──┬── ───┬──  field 1 is the first after the formatter       ─┬─
//!  talker and formatter                                   checksum, in hex
//! ```

use std::fmt::Write as _;

use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value, ValueKind};

use crate::Profile;
use crate::conversion::{BadValue, EncodeError, Raw, Reason};
use crate::encoding::Encoding;
use crate::form::protocol::Protocol;
use crate::modbus::{Decoded, PlanError};
use crate::point::{Place, Point};

/// Longest sentence in bytes, without the end of the line. The standard has 80; receivers of today are not so strict.
pub const SENTENCE_BYTES_MAX: usize = 256;
/// Most fields of a sentence: it has at most 82 characters.
pub const FIELDS_MAX: u8 = 40;

/// Takes an address apart: `GGA.9` is field 9 of the sentence GGA.
///
/// # Errors
/// It is none; says what is allowed.
pub fn address(text: &str) -> Result<(String, u8), String> {
    let wrong =
        || format!("{text:?} is no field; allowed are for example GGA.9, with fields from 1 to {FIELDS_MAX}");
    let (sentence, field) = text.split_once('.').ok_or_else(wrong)?;
    let is_formatter = sentence.len() == 3
        && sentence.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let field = field.parse().ok().filter(|field| (1..=FIELDS_MAX).contains(field));
    if is_formatter { Ok((sentence.to_owned(), field.ok_or_else(wrong)?)) } else { Err(wrong()) }
}

/// A sentence, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence<'s> {
    /// Who tells, as GP.
    pub talker: &'s str,
    /// What, as GGA.
    pub formatter: &'s str,
    fields: Vec<&'s str>,
}

impl Sentence<'_> {
    /// A field, counted from 1.
    #[must_use]
    pub fn field(&self, number: u8) -> Option<&str> {
        self.fields.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Why a line is no sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SentenceError {
    /// Too long.
    #[error("the line has {0} bytes; allowed are {SENTENCE_BYTES_MAX}")]
    TooLong(usize),
    /// Not of the form of a sentence.
    #[error(
        "{0:?} is no sentence; it begins with $ or !, talker and formatter, and ends in * and two digits of hex"
    )]
    NoSentence(String),
    /// Something changed on the way.
    #[error("the checksum is {found:02X}; the sentence says {said:02X}")]
    Checksum {
        /// Of the bytes that came.
        found: u8,
        /// What stands at its end.
        said: u8,
    },
}

/// Takes a sentence apart, with or without the end of the line.
///
/// # Errors
/// It is none, or its checksum is wrong.
pub fn decode(line: &[u8]) -> Result<Sentence<'_>, SentenceError> {
    if line.len() > SENTENCE_BYTES_MAX {
        return Err(SentenceError::TooLong(line.len()));
    }
    let none = || SentenceError::NoSentence(String::from_utf8_lossy(line).trim().chars().take(40).collect());
    let text = std::str::from_utf8(line).map_err(|_| none())?.trim_end_matches(['\r', '\n']);
    let body = text.strip_prefix(['$', '!']).ok_or_else(none)?;
    let (body, sum) = body.rsplit_once('*').ok_or_else(none)?;
    let is_hex = sum.len() == 2 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let said = u8::from_str_radix(sum, 16).ok().filter(|_| is_hex).ok_or_else(none)?;
    let found = checksum(body);
    if found != said {
        return Err(SentenceError::Checksum { found, said });
    }
    let mut fields = body.split(',');
    let address = fields.next().filter(|address| address.is_ascii() && address.len() > 3).ok_or_else(none)?;
    let (talker, formatter) = address.split_at(address.len() - 3);
    Ok(Sentence { talker, formatter, fields: fields.collect() })
}

/// The line of a sentence, with its checksum and the end of the line.
#[must_use]
pub fn encode(talker: &str, formatter: &str, fields: &[String]) -> String {
    let body = format!("{talker}{formatter},{}", fields.join(","));
    let sum = checksum(&body);
    format!("${body}*{sum:02X}\r\n")
}

fn checksum(body: &str) -> u8 {
    body.bytes().fold(0, |sum, byte| sum ^ byte)
}

/// Where a profile's points stand in sentences.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    profile: Profile,
    talkers: Vec<String>,
    points: Vec<(PointId, String, u8)>,
}

impl Mapping {
    /// Of a profile of NMEA 0183.
    ///
    /// # Errors
    /// It is of another protocol.
    pub fn of(profile: &Profile) -> Result<Self, PlanError> {
        let Protocol::Nmea(table) = profile.protocol() else {
            let (profile, found) = (profile.name().to_owned(), profile.protocol().as_str());
            return Err(PlanError::OtherProtocol { profile, found, needed: "nmea" });
        };
        let points = profile.points().filter_map(|(id, point)| match &point.place {
            Place::Field { sentence, field } => Some((PointId::parse(id).ok()?, sentence.clone(), *field)),
            _ => None,
        });
        Ok(Self { points: points.collect(), talkers: table.talkers.clone(), profile: profile.clone() })
    }

    /// The profile that it is of.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What a line says: nothing when its sentence is none of the profile's.
    ///
    /// # Errors
    /// It is no sentence.
    pub fn read(&self, line: &[u8]) -> Result<Vec<Decoded>, SentenceError> {
        let sentence = decode(line)?;
        if !self.talkers.is_empty() && !self.talkers.iter().any(|talker| talker == sentence.talker) {
            return Ok(Vec::new());
        }
        let own = self.points.iter().filter(|(_, formatter, _)| formatter == sentence.formatter);
        let decoded = own.filter_map(|(id, _, number)| {
            let point = self.profile.point(id.as_str())?;
            let field = sentence.field(*number).unwrap_or_default();
            let next = number.checked_add(1).and_then(|next| sentence.field(next)).unwrap_or_default();
            let bad = |reason| BadValue { reason, raw: field.chars().take(64).collect() };
            Some(Decoded { point: id.clone(), outcome: self.value(id, point, field, next).map_err(bad) })
        });
        Ok(decoded.collect())
    }

    fn value(
        &self,
        id: &PointId,
        point: &Point,
        field: &str,
        next: &str,
    ) -> Result<(Value, Quality), Reason> {
        if field.is_empty() {
            return Err(Reason::Absent);
        }
        let kind = point.allowed.kind();
        let no_number = || Reason::OtherType("no number".into());
        let raw = match point.conversion.encoding {
            Some(Encoding::Latitude) => Raw::Real(angle(field, next, 2, ["N", "S"]).ok_or_else(no_number)?),
            Some(Encoding::Longitude) => Raw::Real(angle(field, next, 3, ["E", "W"]).ok_or_else(no_number)?),
            _ if kind == ValueKind::Text || !point.conversion.names.is_empty() => Raw::Text(field.to_owned()),
            _ => match (field.parse::<i64>(), field.parse::<f64>()) {
                (Ok(whole), _) => Raw::Whole(i128::from(whole)),
                (_, Ok(real)) => Raw::Real(real),
                _ => return Err(no_number()),
            },
        };
        let value = point.conversion.value(raw, kind, 0)?;
        let value =
            self.profile.check(id.as_str(), value).map_err(|error| Reason::Rejected(Box::new(error)))?;
        Ok((value, Quality::Good))
    }

    /// The lines of a device that has these values.
    ///
    /// # Errors
    /// A value that the profile rules out, or which nothing means.
    pub fn lines(
        &self,
        values: &std::collections::BTreeMap<PointId, Value>,
    ) -> Result<Vec<String>, EncodeError> {
        let mut sentences: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
        for (id, formatter, number) in &self.points {
            let (Some(value), Some(point)) = (values.get(id), self.profile.point(id.as_str())) else {
                continue;
            };
            let fields = sentences.entry(formatter).or_default();
            let mut set = |number: u8, text: String| {
                let at = usize::from(number.saturating_sub(1));
                fields.resize(fields.len().max(at + 1), String::new());
                if let Some(field) = fields.get_mut(at) {
                    *field = text;
                }
            };
            let (field, next) = self.fields(id, point, value)?;
            set(*number, field);
            if let Some(next) = next {
                set(number.saturating_add(1), next);
            }
        }
        let talker = self.talkers.first().map_or("GP", String::as_str);
        Ok(sentences.into_iter().map(|(formatter, fields)| encode(talker, formatter, &fields)).collect())
    }

    fn fields(
        &self,
        id: &PointId,
        point: &Point,
        value: &Value,
    ) -> Result<(String, Option<String>), EncodeError> {
        let value = self.profile.check(id.as_str(), value.clone())?;
        if value == Value::Null {
            return Ok((String::new(), None));
        }
        let no_raw = |what| EncodeError::NoRaw { point: id.to_string(), value: value.to_string(), what };
        let raw = point.conversion.raw(&value, 0, false).map_err(no_raw)?;
        Ok(match (point.conversion.encoding, raw) {
            (Some(Encoding::Latitude), Raw::Real(degrees)) => angle_fields(degrees, 2, ["N", "S"]),
            (Some(Encoding::Longitude), Raw::Real(degrees)) => angle_fields(degrees, 3, ["E", "W"]),
            (_, Raw::Whole(whole)) => (whole.to_string(), None),
            (_, Raw::Real(real)) => (real.to_string(), None),
            (_, Raw::Bool(yes)) => (u8::from(yes).to_string(), None),
            (_, Raw::Text(text)) => {
                let is_plain =
                    text.bytes().all(|byte| (0x20..0x7F).contains(&byte) && !b",*$!\\^".contains(&byte));
                (is_plain.then_some(text).ok_or_else(|| no_raw("has signs that end a field"))?, None)
            }
        })
    }
}

/// Degrees of `ddmm.mmmm` and a hemisphere, rounded to what the minutes tell: 1e-9 degrees are 0.1 mm.
fn angle(field: &str, hemisphere: &str, digits: usize, names: [&str; 2]) -> Option<f64> {
    let (degrees, minutes) = field.split_at_checked(digits)?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !plain(degrees) || !plain(minutes) {
        return None;
    }
    let minutes: f64 = minutes.parse().ok().filter(|minutes| (0.0..60.0).contains(minutes))?;
    let degrees = degrees.parse::<u16>().ok().map(f64::from)? + minutes / 60.0;
    let degrees = (degrees * 1e9).round() / 1e9;
    match names.iter().position(|name| *name == hemisphere)? {
        0 => Some(degrees),
        _ => Some(-degrees),
    }
}

fn angle_fields(degrees: f64, digits: usize, names: [&str; 2]) -> (String, Option<String>) {
    // Minutes are made of the whole, so that 59.9999999 does not become 60.
    let minutes = (degrees.abs() * 60.0 * 1e7).round();
    let (whole, rest) = ((minutes / 60e7).trunc(), minutes % 60e7 / 1e7);
    let mut field = String::new();
    // Writing to a text does not fail.
    let _ = write!(field, "{whole:0digits$}{rest:010.7}");
    let [positive, negative] = names;
    (field, Some(if degrees < 0.0 { negative } else { positive }.to_owned()))
}

#[cfg(test)]
mod tests;
