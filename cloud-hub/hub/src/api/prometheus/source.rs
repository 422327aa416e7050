//! The store's series and readings as metrics and samples.

use std::cell::OnceCell;

use tideline_promql::{Labels, MatchOp, Matcher, NAME, Sample, Source, SourceError};
use tideline_protocol::model::DeviceId;
use tideline_store::{SeriesId, SeriesInfo, StoreError};

use crate::hub::{App, Hub};

/// Most rows read from the store at once; 16 MB.
const ROWS_MAX: usize = 1_000_000;

/// The name of a point as a metric: what Prometheus does not allow becomes `_`. A colon is for the names
/// of recording rules only.
pub fn metric_name(point: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = point.chars().map(legal).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The labels of a series.
pub fn labels_of(info: &SeriesInfo) -> Labels {
    let (device, point) = (info.device.as_str(), info.point.as_str());
    let name = metric_name(point);
    Labels::new([(NAME, name.as_str()), ("device", device), ("point", point), ("unit", &info.unit)])
}

/// Whether a series fulfils a matcher; its labels are made only when it fulfils all.
fn fits(matcher: &Matcher, info: &SeriesInfo) -> bool {
    match matcher.name.as_str() {
        NAME => matcher.fits(&metric_name(info.point.as_str())),
        "device" => matcher.fits(info.device.as_str()),
        "point" => matcher.fits(info.point.as_str()),
        "unit" => matcher.fits(&info.unit),
        _ => matcher.fits(""),
    }
}

fn fitting(all: &[SeriesInfo], matchers: &[Matcher]) -> Vec<(SeriesInfo, Labels)> {
    let found = all.iter().filter(|info| matchers.iter().all(|matcher| fits(matcher, info)));
    found.map(|info| (info.clone(), labels_of(info))).collect()
}

/// The series of one device, when the matchers name one.
fn device_of(matchers: &[Matcher]) -> Option<&str> {
    let named = matchers.iter().find(|m| m.name == "device" && matches!(m.op, MatchOp::Equal));
    named.map(|m| m.value.as_str())
}

/// The series that fulfil all matchers.
pub fn find(hub: &Hub, matchers: &[Matcher]) -> Vec<(SeriesInfo, Labels)> {
    match device_of(matchers).map(DeviceId::parse) {
        Some(Ok(device)) => fitting(&hub.store.series(Some(&device)), matchers),
        // What is no name of a device is none's.
        Some(Err(_)) => Vec::new(),
        None => fitting(&hub.store.series(None), matchers),
    }
}

/// All readings of a hub, as one query sees them.
pub struct Readings {
    hub: App,
    /// All series, once some selector needed to look at all.
    all: OnceCell<Vec<SeriesInfo>>,
}

impl Readings {
    pub fn new(hub: App) -> Self {
        Self { hub, all: OnceCell::new() }
    }
}

impl Source for Readings {
    type Id = SeriesId;

    fn select(&self, matchers: &[Matcher]) -> Result<Vec<(SeriesId, Labels)>, SourceError> {
        let found = if device_of(matchers).is_some() {
            find(&self.hub, matchers)
        } else {
            fitting(self.all.get_or_init(|| self.hub.store.series(None)), matchers)
        };
        Ok(found.into_iter().map(|(info, labels)| (info.id, labels)).collect())
    }

    fn samples(
        &self,
        id: &SeriesId,
        after_ns: i64,
        to_ns: i64,
        most: usize,
    ) -> Result<Vec<Sample>, SourceError> {
        let failed = |error: StoreError| {
            tracing::error!(%error, "readings cannot be read for a query");
            SourceError("the hub failed; its log says why".to_owned())
        };
        let (from_ns, end_ns) = (after_ns.saturating_add(1), to_ns.saturating_add(1));
        let mut out: Vec<Sample> = Vec::new();
        let mut after = None;
        loop {
            let rows = ROWS_MAX.min(most.saturating_sub(out.len()));
            let page = self.hub.store.query_raw(&[*id], from_ns, end_ns, after, rows).map_err(failed)?;
            for column in page.series {
                let numbers = column.boxes.numbers(&column.values);
                let rows = column.times.into_iter().zip(numbers.iter().copied());
                // A reading that is no number is no sample, as it is in no bucket.
                for (time_ns, value) in rows.filter(|(_, value)| !value.is_nan()) {
                    // Of readings with the same time the one that came last counts.
                    match out.last_mut() {
                        Some(last) if last.time_ns == time_ns => last.value = value,
                        _ => out.push(Sample { time_ns, value }),
                    }
                }
            }
            after = page.next;
            if after.is_none() || out.len() >= most {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_becomes_a_metric() {
        for (point, metric) in [
            ("temperature", "temperature"),
            ("oil.temp", "oil_temp"),
            ("ch-1/level", "ch_1_level"),
            ("3phase.u1", "_3phase_u1"),
            ("_x", "_x"),
        ] {
            assert_eq!(metric_name(point), metric);
        }
    }
}
