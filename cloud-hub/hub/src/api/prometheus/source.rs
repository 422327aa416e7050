//! The store's series and readings as metrics and samples.

use tideline_promql::{Labels, MatchOp, Matcher, NAME, Sample, Source, SourceError};
use tideline_protocol::model::DeviceId;
use tideline_store::{SeriesId, SeriesInfo, SeriesText, StoreError};

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

/// Whether a series fulfils all matchers; its labels are made only then.
fn fits(matchers: &[Matcher], SeriesText { device, point, unit, .. }: &SeriesText<'_>) -> bool {
    matchers.iter().all(|matcher| match matcher.name.as_str() {
        NAME => matcher.fits(&metric_name(point)),
        "device" => matcher.fits(device),
        "point" => matcher.fits(point),
        "unit" => matcher.fits(unit),
        _ => matcher.fits(""),
    })
}

/// The series of one device, when the matchers name one.
fn device_of(matchers: &[Matcher]) -> Option<&str> {
    let named = matchers.iter().find(|m| m.name == "device" && matches!(m.op, MatchOp::Equal));
    named.map(|m| m.value.as_str())
}

/// The series that fulfil all matchers.
pub fn find(hub: &Hub, matchers: &[Matcher]) -> Vec<(SeriesInfo, Labels)> {
    let found = match device_of(matchers).map(DeviceId::parse) {
        Some(Ok(device)) => {
            let mut found = hub.store.series(Some(&device));
            found.retain(|info| fits(matchers, &info.text()));
            found
        }
        // What is no name of a device is none's.
        Some(Err(_)) => Vec::new(),
        None => hub.store.series_where(|text| fits(matchers, text)),
    };
    let labelled = found.into_iter().map(|info| {
        let labels = labels_of(&info);
        (info, labels)
    });
    labelled.collect()
}

/// All readings of a hub.
pub struct Readings {
    hub: App,
}

impl Readings {
    pub const fn new(hub: App) -> Self {
        Self { hub }
    }
}

impl Source for Readings {
    type Id = SeriesId;

    fn select(&self, matchers: &[Matcher]) -> Result<Vec<(SeriesId, Labels)>, SourceError> {
        let found = find(&self.hub, matchers).into_iter();
        Ok(found.map(|(info, labels)| (info.id, labels)).collect())
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
