//! Prometheus remote write, versions 1 and 2, decompressed.
//!
//! After the two specifications at prometheus.io and their protobuf definitions, of which this knows what
//! has to do with samples: labels, values, times. Time series are decoded one by one, so that no count in a
//! request makes it allocate more than one of them. Exemplars and metadata are passed over; a native
//! histogram is refused, and so is a series without a name; marks that a series has ended are counted.

use std::borrow::Cow;
use std::collections::HashMap;

use prost::Message as _;
use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Value, ValueKind};

use crate::gather::Gather;
use crate::names::{Pairs, point_of_metric};
use crate::when::RANGE;
use crate::{FormatError, LABELS_MAX, Mapping, SERIES_BYTES_MAX, SYMBOLS_MAX, Taken, excerpt};

/// The label that holds a metric's name.
const METRIC: &[u8] = b"__name__";
/// The bits of the NaN by which Prometheus says that a series has ended.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
const NS_PER_MS: i64 = 1_000_000;

/// Which messages a request is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// The version that a Content-Type names; none for what is no remote write.
    #[must_use]
    pub fn of_content_type(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let message = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("proto"));
        match message.map(|(_, message)| message.trim().trim_matches('"')) {
            None | Some("prometheus.WriteRequest") => Some(Self::V1),
            Some("io.prometheus.write.v2.Request") => Some(Self::V2),
            Some(_) => None,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Point {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    time_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SeriesV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    histograms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SeriesV2 {
    // Numbers in the table of symbols: name, value, name, value.
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    histograms: Vec<Vec<u8>>,
}

/// Parses a request.
///
/// # Errors
/// It is no such request, or longer than a limit allows. What is wrong with single time series is among the
/// problems.
pub fn parse(bytes: &[u8], version: Version, mapping: &mut Mapping<'_>) -> Result<Taken, FormatError> {
    crate::body::within(bytes.len())?;
    let mut parser = Parser { gather: Gather::default(), mapping, admitted: HashMap::new() };
    match version {
        Version::V1 => parser.v1(bytes)?,
        Version::V2 => parser.v2(bytes)?,
    }
    Ok(parser.gather.finish())
}

struct Parser<'m, 'f> {
    gather: Gather,
    mapping: &'m mut Mapping<'f>,
    admitted: HashMap<DeviceId, Result<(), String>>,
}

impl Parser<'_, '_> {
    fn v1(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let mut number = 0;
        for field in Fields(bytes) {
            let (1, series) = field? else { continue };
            number += 1;
            let series =
                SeriesV1::decode(bounded(series, number)?).map_err(|error| malformed(number, &error))?;
            let pair = |label: Label| (Cow::Owned(label.name), Cow::Owned(label.value));
            let labels = series.labels.into_iter().map(pair).collect();
            self.series(number, labels, &series.samples, series.histograms.len())?;
        }
        Ok(())
    }

    fn v2(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let mut symbols: Vec<&[u8]> = Vec::new();
        for field in Fields(bytes) {
            let (4, symbol) = field? else { continue };
            if symbols.len() >= SYMBOLS_MAX {
                return Err(FormatError::too_much("symbols", SYMBOLS_MAX));
            }
            symbols.push(symbol);
        }
        let mut number = 0;
        for field in Fields(bytes) {
            let (5, series) = field? else { continue };
            number += 1;
            let series =
                SeriesV2::decode(bounded(series, number)?).map_err(|error| malformed(number, &error))?;
            match labels_of(&series.labels, &symbols) {
                Ok(labels) => self.series(number, labels, &series.samples, series.histograms.len())?,
                Err(why) => self.gather.taken.problems.refused(number, || why),
            }
        }
        Ok(())
    }

    fn series(
        &mut self,
        number: u64,
        mut labels: Pairs<'_>,
        samples: &[Point],
        histograms: usize,
    ) -> Result<(), FormatError> {
        // A label without a value is the same as none.
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort();
        if histograms > 0 {
            self.gather.taken.problems.refused(number, || {
                format!("{}: native histograms cannot be kept; allowed are samples", shown(&labels))
            });
        }
        if samples.is_empty() {
            return Ok(());
        }
        let name = shown(&labels);
        let (device, point) = match self.names(labels) {
            Ok(names) => names,
            Err(why) => {
                self.gather.taken.problems.refused(number, || format!("{name}: {why}"));
                return Ok(());
            }
        };
        let column = self.gather.column(&device, point, ValueKind::Float)?;
        for Point { value, time_ms } in samples {
            if value.to_bits() == STALE_BITS {
                self.gather.taken.stale_markers += 1;
                continue;
            }
            match time_ms.checked_mul(NS_PER_MS) {
                Some(time_ns) => self.gather.push(column, time_ns, Value::Float(*value))?,
                None => self.gather.taken.problems.refused(number, || {
                    format!("{name}: the time {time_ms} ms is out of range; {RANGE} is allowed")
                }),
            }
        }
        Ok(())
    }

    fn names(
        &mut self,
        mut labels: Pairs<'_>,
    ) -> Result<(DeviceId, tideline_protocol::model::PointId), String> {
        if labels.len() > LABELS_MAX {
            return Err(format!("it has {} labels; allowed are {LABELS_MAX}", labels.len()));
        }
        let twice = labels.windows(2).find(|two| matches!(two, [(one, _), (other, _)] if one == other));
        if let Some([(name, _), ..]) = twice {
            return Err(format!("label {} is there twice", excerpt(name)));
        }
        if labels.iter().any(|(name, _)| name.is_empty()) {
            return Err("a label has no name".to_owned());
        }
        let metric =
            labels.iter().position(|(name, _)| name.as_ref() == METRIC).map(|at| labels.remove(at).1);
        let metric = metric.ok_or("it has no label __name__")?;
        let name = self.mapping.device(&mut labels, "label")?;
        let (device, port) = name.parse_with_port()?;
        if !self.admitted.contains_key(&device) {
            let admitted = (self.mapping.admit)(&device);
            self.admitted.insert(device.clone(), admitted);
        }
        if let Some(Err(why)) = self.admitted.get(&device) {
            return Err(why.clone());
        }
        // Taking the device out has moved one.
        labels.sort();
        let point = point_of_metric(&metric, &labels, port)?;
        Ok((device, point))
    }
}

/// A series as its sender calls it, cut.
fn shown(labels: &Pairs<'_>) -> String {
    let metric = labels.iter().find(|(name, _)| name.as_ref() == METRIC).map_or(&b""[..], |(_, value)| value);
    excerpt(metric)
}

fn labels_of<'a>(refs: &[u32], symbols: &[&'a [u8]]) -> Result<Pairs<'a>, String> {
    let symbol = |no: u32| {
        let found = symbols.get(no as usize).copied();
        found.ok_or_else(|| format!("a label is symbol {no}, and there are {}", symbols.len()))
    };
    let pair = |two: &[u32]| match two {
        [name, value] => Ok((Cow::Borrowed(symbol(*name)?), Cow::Borrowed(symbol(*value)?))),
        _ => Err("its labels are no pairs of names and values".to_owned()),
    };
    if refs.len() > 2 * LABELS_MAX {
        return Err(format!("it has {} labels; allowed are {LABELS_MAX}", refs.len() / 2));
    }
    refs.chunks(2).map(pair).collect()
}

fn bounded(series: &[u8], number: u64) -> Result<&[u8], FormatError> {
    if series.len() > SERIES_BYTES_MAX {
        return Err(FormatError::Malformed(format!(
            "time series {number} has {} bytes; allowed are {SERIES_BYTES_MAX}",
            series.len()
        )));
    }
    Ok(series)
}

fn malformed(number: u64, error: &prost::DecodeError) -> FormatError {
    FormatError::Malformed(format!("time series {number} is malformed: {error}"))
}

/// The fields of a message that have a length, each with its number; the others are passed over.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn field(&mut self) -> Option<(u64, Option<&'b [u8]>)> {
        let tag = self.varint()?;
        let skipped = match tag & 7 {
            0 => self.varint().map(|_| None),
            1 => self.take(8).map(|_| None),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                self.take(len).map(Some)
            }
            5 => self.take(4).map(|_| None),
            // Groups are of older versions of protobuf than these messages.
            _ => None,
        };
        skipped.map(|found| (tag >> 3, found))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, &'b [u8]), FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.field() {
                Some((number, Some(bytes))) => return Some(Ok((number, bytes))),
                Some((_, None)) => {}
                None => {
                    self.0 = &[];
                    let text =
                        "the body is no remote write request: a field is cut short or of an unknown kind";
                    return Some(Err(FormatError::Malformed(text.to_owned())));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
