//! The store's series and readings as metrics and samples.

use std::cell::RefCell;
use std::collections::BTreeSet;

use tideline_promql::{Coarse, Labels, MatchOp, Matcher, NAME, Of, Sample, Samples, Source, SourceError};
use tideline_protocol::model::DeviceId;
use tideline_store::buckets::DAY_NS;
use tideline_store::{Aggregate, SeriesId, SeriesInfo, SeriesText, Stand, StoreError, Tier};

use crate::hub::{App, Hub};
use crate::when;

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

/// Up to when readings of an answer are gone, ns, and what stood in for them.
#[derive(Debug, Default)]
struct Gone {
    to_ns: i64,
    tiers: BTreeSet<Tier>,
}

/// All readings of a hub. Where retention removed some, the rollups that are left of them stand in: one sample for each
/// bucket, at the time of its last reading.
pub struct Readings {
    hub: App,
    gone: RefCell<Gone>,
}

impl Readings {
    pub fn new(hub: App) -> Self {
        Self { hub, gone: RefCell::default() }
    }

    /// What is to be said of the samples that were read.
    pub fn warning(&self) -> Option<String> {
        let gone = self.gone.borrow();
        let shown = |tier: &Tier| match tier {
            Tier::Raw => "readings",
            Tier::Minute => "1 min",
            Tier::Hour => "1 h",
            Tier::Day => "1 d",
        };
        let tiers: Vec<&str> = gone.tiers.iter().map(shown).collect();
        (!tiers.is_empty()).then(|| {
            let (time, tiers) = (when::show_ns(gone.to_ns), tiers.join(" and "));
            format!("readings up to {time} are past their retention; rollups of {tiers} stand in for them")
        })
    }

    /// The readings of a series from one time to before another, as far as there may be so many.
    fn read(
        &self,
        id: SeriesId,
        (from_ns, to_ns): (i64, i64),
        most: usize,
    ) -> Result<Vec<Sample>, StoreError> {
        let mut out: Vec<Sample> = Vec::new();
        let mut after = None;
        loop {
            let rows = ROWS_MAX.min(most.saturating_sub(out.len()));
            let page = self.hub.store.query_raw(&[id], from_ns, to_ns, after, rows)?;
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

/// What a bucket says of its readings.
fn said(part: &Aggregate, of: Of) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no bucket holds 2^53 readings")]
    let count = part.count as f64;
    match of {
        Of::Newest | Of::Mean => part.sum / count,
        Of::Least => part.min,
        Of::Greatest => part.max,
        Of::Sum => part.sum,
        Of::Count => count,
        Of::Last => part.last,
    }
}

/// The readings that are in none of these buckets, and a sample for each bucket that is asked for.
fn with_stands(
    mut readings: Vec<Sample>,
    stands: &[Stand],
    (after_ns, to_ns): (i64, i64),
    of: Of,
) -> Samples {
    readings.retain(|reading| {
        let at = stands.partition_point(|stand| stand.end_ns() < reading.time_ns);
        stands.get(at).is_none_or(|stand| reading.time_ns < stand.start_ns)
    });
    let (mut all, mut coarse) = (readings, Vec::new());
    for stand in stands {
        let time_ns = stand.part.last_ns;
        // The next one has a reading by the end of its bucket, or the series had a break.
        let until_ns = stand.end_ns().saturating_add(stand.width_ns);
        let reaches = time_ns > after_ns || (of == Of::Newest && until_ns > after_ns);
        if reaches && time_ns <= to_ns {
            all.push(Sample { time_ns, value: said(&stand.part, of) });
            coarse.push(Coarse { time_ns, until_ns });
        }
    }
    all.sort_by_key(|sample| sample.time_ns);
    Samples { all, coarse }
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
        (after_ns, to_ns): (i64, i64),
        most: usize,
        of: Of,
    ) -> Result<Samples, SourceError> {
        let failed = |error: StoreError| {
            tracing::error!(%error, "readings cannot be read for a query");
            SourceError("the hub failed; its log says why".to_owned())
        };
        let (from_ns, end_ns) = (after_ns.saturating_add(1), to_ns.saturating_add(1));
        let mut readings = self.read(*id, (from_ns, end_ns), most).map_err(failed)?;
        if of == Of::Count {
            readings.iter_mut().for_each(|reading| reading.value = 1.0);
        }
        // After the readings: what goes meanwhile is in a bucket then.
        let around = (from_ns.saturating_sub(2 * DAY_NS), end_ns);
        let stands = self.hub.store.query_stands(*id, around).map_err(failed)?;
        if stands.is_empty() {
            return Ok(readings.into());
        }
        let mut out = with_stands(readings, &stands, (after_ns, to_ns), of);
        out.all.truncate(most);
        let mut gone = self.gone.borrow_mut();
        for stand in &stands {
            if out.coarse.binary_search_by_key(&stand.part.last_ns, |one| one.time_ns).is_ok() {
                gone.to_ns = gone.to_ns.max(stand.part.last_ns);
                gone.tiers.insert(stand.tier);
            }
        }
        Ok(out)
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
