//! Buckets of some series: which, and what is told of each.

use tideline_store::{
    BadCalendar, BucketAnswer, Calendar, FigureColumn, Figures, Parts, Quantile, SeriesId, SeriesInfo,
};

use super::{BUCKETS_MAX, BUCKETS_MIN, Beside, Cursor, RangeQuery, identity};
use crate::answers::Question;
use crate::api::aggregate::{count, refused};
use crate::api::problem::ApiError;
use crate::api::shapes::{BucketColumns, QueryAnswer, not_finite_by_name};
use crate::hub::App;
use crate::when;

/// Most quantiles of one query.
pub const QUANTILES_MAX: usize = 8;

impl RangeQuery {
    /// Which buckets are asked for, when any are.
    pub(super) fn parts(&self) -> Result<Option<Parts>, ApiError> {
        match (self.buckets, &self.every, &self.tz) {
            (Some(_), Some(_), _) => Err(ApiError::bad("bad-buckets", "buckets and every are both there")),
            (_, None, Some(_)) => {
                Err(ApiError::bad("bad-zone", "tz is for every=1d, 1w or 1mo, which is missing"))
            }
            (Some(n), None, None) if !(BUCKETS_MIN..=BUCKETS_MAX).contains(&n) => {
                let allowed = format!("buckets={n}; allowed are {BUCKETS_MIN} to {BUCKETS_MAX}");
                Err(ApiError::bad("bad-buckets", allowed))
            }
            (most, None, None) => Ok(most.map(Parts::Most)),
            (None, Some(every), tz) => calendar(every, tz.as_deref()).map(Parts::Calendar).map(Some),
        }
    }

    /// What buckets have besides.
    pub(super) fn aggregates(&self) -> Result<Aggregates, ApiError> {
        let Some(text) = &self.agg else { return Ok(Aggregates::default()) };
        let bad = |what: String| {
            let allowed = "allowed are twa and quantiles as p50, p95 or p99.9 besides min, max, mean, last and count, which are always there";
            ApiError::bad("bad-agg", format!("{what}; {allowed}"))
        };
        if self.buckets.is_none() && self.every.is_none() {
            return Err(ApiError::bad("bad-agg", "agg is for buckets or every, and neither is there"));
        }
        let mut out = Aggregates::default();
        for name in text.split(',').map(str::trim) {
            match (name, Quantile::parse(name)) {
                ("min" | "max" | "mean" | "last" | "count", _) => {}
                ("twa", _) => out.figures.time_weighted = true,
                (_, Some(quantile)) if !out.figures.quantiles.contains(&quantile) => {
                    out.figures.quantiles.push(quantile);
                    out.names.push(name.to_owned());
                }
                (_, Some(_)) => {}
                (_, None) => return Err(bad(format!("agg: {name:?} is none"))),
            }
        }
        if out.names.len() > QUANTILES_MAX {
            return Err(bad(format!("agg: {} quantiles; at most {QUANTILES_MAX}", out.names.len())));
        }
        Ok(out)
    }
}

/// What buckets have besides what they always have.
#[derive(Debug, Default)]
pub(super) struct Aggregates {
    figures: Figures,
    // Of the quantiles, as they were asked for.
    names: Vec<String>,
}

/// Days, weeks or months of a zone; of UTC when there is none.
///
/// # Errors
/// It is nothing that a calendar has, or there is no such zone.
pub fn calendar(every: &str, zone: Option<&str>) -> Result<Calendar, ApiError> {
    Calendar::parse(every, zone.unwrap_or("UTC")).map_err(|error| match error {
        BadCalendar::Width(_) => ApiError::bad("bad-width", error.to_string()),
        BadCalendar::Zone(_) => ApiError::bad("bad-zone", error.to_string()),
    })
}

/// A question about series in buckets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketQuestion {
    series: Vec<SeriesId>,
    range: (i64, i64),
    parts: Parts,
    figures: Figures,
}

impl Question for BucketQuestion {
    type Answer = BucketAnswer;

    fn range(&self) -> (i64, i64) {
        // A mean over time begins with the last reading before.
        let from_ns = if self.figures.time_weighted { i64::MIN } else { self.range.0 };
        (from_ns, self.range.1)
    }

    fn bytes(&self) -> usize {
        self.series.len() * size_of::<SeriesId>()
    }

    fn answer_bytes(answer: &BucketAnswer) -> usize {
        let figures = answer.figures.iter().map(FigureColumn::bytes).sum::<usize>();
        figures
            + answer.series.iter().map(|column| column.t_ns.len() * 48 + size_of_val(column)).sum::<usize>()
    }
}

/// The buckets of some series.
///
/// # Errors
/// Too much is asked for, or the store failed.
pub(super) async fn ask(
    hub: &App,
    infos: &[SeriesInfo],
    at: Cursor,
    (parts, aggregates): (Parts, Aggregates),
    beside: Beside,
) -> Result<QueryAnswer, ApiError> {
    let series = infos.iter().map(|info| info.id).collect();
    let question =
        BucketQuestion { series, range: (at.from_ns, at.to_ns), parts, figures: aggregates.figures };
    let timed = question.figures.time_weighted;
    let store = hub.store.clone();
    let compute = move |asked: &BucketQuestion, left: &(dyn Fn() -> bool + Sync)| {
        store.query_parts(&asked.series, asked.range, (&asked.parts, &asked.figures), left)
    };
    let (answer, how) = hub.buckets.ask(&hub.store, question, compute).await;
    count(hub, how);
    let answer = answer.map_err(refused)?;
    let series = answer.series.iter().enumerate().map(|(at, column)| {
        let figures = answer.figures.get(at);
        let quantiles = || {
            let columns = figures.into_iter().flat_map(|figures| &figures.quantiles);
            aggregates.names.iter().cloned().zip(columns.cloned()).collect()
        };
        let (id, unit, kind) = identity(infos, column.id);
        let names =
            [("min", &column.min), ("max", &column.max), ("mean", &column.mean), ("last", &column.last)];
        let twa = figures.map(|figures| ("twa", &figures.time_weighted)).filter(|_| timed);
        let asked = figures.into_iter().flat_map(|figures| &figures.quantiles);
        let asked = aggregates.names.iter().map(String::as_str).zip(asked);
        let not_finite = not_finite_by_name(
            &names.map(|(name, column)| (name, Some(column))),
            twa.into_iter().chain(asked),
        );
        BucketColumns {
            id,
            unit,
            kind: kind.to_string(),
            tier: column.tier.as_str().to_owned(),
            t: column.t_ns.iter().map(|ns| when::ms(*ns)).collect(),
            min: column.min.clone(),
            max: column.max.clone(),
            mean: column.mean.clone(),
            last: column.last.clone(),
            count: column.count.clone(),
            twa: figures.map(|figures| figures.time_weighted.clone()).filter(|_| timed),
            twa_near: figures.map(|figures| figures.near.clone()).filter(|near| near.contains(&true)),
            quantiles: (!aggregates.names.is_empty()).then(quantiles),
            quantiles_error: figures
                .map(|figures| figures.errors.clone())
                .filter(|_| !aggregates.names.is_empty()),
            figures_tier: figures.map(|figures| figures.tier.as_str().to_owned()),
            not_finite,
        }
    });
    let Beside { gaps, restamped, late, missing } = beside;
    let (partial, thinned_to) = (!missing.is_empty(), answer.thinned_to_ns.map(when::ms));
    Ok(QueryAnswer { series: series.collect(), partial, missing, thinned_to, gaps, restamped, late })
}
