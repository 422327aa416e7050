//! Answers from files and hot columns as one.

use std::sync::Arc;

use crate::buckets::{Buckets, MINUTE_NS, bucket_start, width_for};
use crate::config::StoreError;
use crate::hot::{Hot, Rows, SeriesId};
use crate::manifest::FileEntry;
use crate::sealed::{Place, SealedFormat};
use crate::tables::{Shared, read};

/// Most buckets that one query may ask for.
const BUCKETS_MAX: usize = 100_000;

/// Where an answer was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The readings.
    Raw,
    /// The rollups of one minute, and the readings of the minutes that the range cuts.
    Minute,
}

impl Tier {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "1m",
        }
    }
}

/// Raw rows of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct RawColumn {
    /// The series.
    pub id: SeriesId,
    /// Times in ns since 1970, ascending; equal ones in order of arrival.
    pub times: Vec<i64>,
    /// As many values.
    pub values: Vec<f64>,
}

/// A page of raw rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawPage {
    /// The series that have rows in the page, in the order asked for.
    pub series: Vec<RawColumn>,
    /// Where the next page begins, when there is more.
    pub next_offset: Option<usize>,
}

/// The buckets of one series; empty ones are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketColumn {
    /// The series.
    pub id: SeriesId,
    /// Where it was read from.
    pub tier: Tier,
    /// The start of each bucket, ns since 1970.
    pub t_ns: Vec<i64>,
    /// The smallest value.
    pub min: Vec<f64>,
    /// The largest value.
    pub max: Vec<f64>,
    /// The mean of the readings.
    pub mean: Vec<f64>,
    /// The value with the greatest time.
    pub last: Vec<f64>,
    /// How many readings.
    pub count: Vec<u64>,
}

/// Buckets of one width.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketAnswer {
    /// The width of each, ns.
    pub width_ns: i64,
    /// One column per series asked for.
    pub series: Vec<BucketColumn>,
}

/// What one moment holds of one series; later arrivals come later.
struct View {
    files: Arc<Vec<Arc<FileEntry>>>,
    hot: Rows,
}

fn view(shared: &Shared, id: SeriesId, from_ns: i64, to_ns: i64) -> View {
    let mut hot = Rows::default();
    let copy = |part: &Hot, hot: &mut Rows| part.copy(id, from_ns, to_ns, hot);
    let tables = read(&shared.tables);
    let files = Arc::clone(&tables.files);
    if let Some(flushing) = &tables.flushing {
        copy(flushing, &mut hot);
    }
    copy(&tables.active, &mut hot);
    View { files, hot }
}

fn place_of(file: &FileEntry, id: SeriesId, from_ns: i64, to_ns: i64) -> Option<&Place> {
    let at = file.places.binary_search_by_key(&id, |place| place.series).ok()?;
    file.places.get(at).filter(|place| place.first_ns < to_ns && place.last_ns >= from_ns)
}

fn file_rows(
    shared: &Shared,
    format: &dyn SealedFormat,
    (file, place): (&FileEntry, &Place),
    from_ns: i64,
    to_ns: i64,
) -> Result<Rows, StoreError> {
    let (_, mut rows) =
        format.read_rows(&shared.paths(file.number).0, place.row, place.rows).map_err(StoreError::Sealed)?;
    rows.keep(from_ns, to_ns);
    Ok(rows)
}

/// The rows of one series in order of (time, arrival).
fn sorted_rows(
    shared: &Shared,
    format: &dyn SealedFormat,
    id: SeriesId,
    from_ns: i64,
    to_ns: i64,
) -> Result<Rows, StoreError> {
    let view = view(shared, id, from_ns, to_ns);
    let mut out = Rows::default();
    for file in view.files.iter() {
        if let Some(place) = place_of(file, id, from_ns, to_ns) {
            let rows = file_rows(shared, format, (file, place), from_ns, to_ns)?;
            out.extend(&rows.times, &rows.values);
        }
    }
    out.extend(&view.hot.times, &view.hot.values);
    out.sort();
    Ok(out)
}

fn check(shared: &Shared, series: &[SeriesId]) -> Result<(), StoreError> {
    let registry = read(&shared.registry);
    match series.iter().find(|id| registry.meta(**id).is_none()) {
        None => Ok(()),
        Some(id) => Err(StoreError::Query(format!("there is no series {id}"))),
    }
}

/// Rows `offset..offset + limit` of `from..to`, by (series as asked, time, arrival).
pub fn raw(
    shared: &Shared,
    format: &dyn SealedFormat,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    (offset, limit): (usize, usize),
) -> Result<RawPage, StoreError> {
    check(shared, series)?;
    let mut page = RawPage::default();
    let (mut skip, mut left) = (offset, limit);
    for id in series {
        let rows = sorted_rows(shared, format, *id, from_ns, to_ns)?;
        if rows.times.len() <= skip {
            skip -= rows.times.len();
            continue;
        }
        let end = rows.times.len().min(skip.saturating_add(left));
        let taken = end - skip;
        if taken > 0 {
            page.series.push(RawColumn {
                id: *id,
                times: rows.times.get(skip..end).unwrap_or(&[]).to_vec(),
                values: rows.values.get(skip..end).unwrap_or(&[]).to_vec(),
            });
        }
        left -= taken;
        skip = 0;
        if end < rows.times.len() {
            page.next_offset = Some(offset.saturating_add(limit));
            break;
        }
    }
    Ok(page)
}

/// At most `buckets_max` buckets of one width over `from..to`.
pub fn buckets(
    shared: &Shared,
    format: &dyn SealedFormat,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    buckets_max: usize,
) -> Result<BucketAnswer, StoreError> {
    check(shared, series)?;
    if !(2..=BUCKETS_MAX).contains(&buckets_max) {
        return Err(StoreError::Query(format!("{buckets_max} buckets; allowed are 2 to {BUCKETS_MAX}")));
    }
    let width_ns = width_for(from_ns, to_ns, buckets_max);
    let tier = if width_ns % MINUTE_NS == 0 { Tier::Minute } else { Tier::Raw };
    let mut out = BucketAnswer { width_ns, series: Vec::with_capacity(series.len()) };
    for id in series {
        let view = view(shared, *id, from_ns, to_ns);
        let mut parts = Buckets::new(width_ns);
        for file in view.files.iter() {
            let Some(place) = place_of(file, *id, from_ns, to_ns) else { continue };
            match tier {
                Tier::Minute => add_minutes(shared, format, (file, place), (from_ns, to_ns), &mut parts)?,
                Tier::Raw => {
                    let rows = file_rows(shared, format, (file, place), from_ns, to_ns)?;
                    parts.add_rows(&rows.times, &rows.values);
                }
            }
        }
        parts.add_rows(&view.hot.times, &view.hot.values);
        out.series.push(column(*id, tier, &parts));
    }
    Ok(out)
}

/// Whole minutes come from the rollup, those that the range cuts from the readings.
fn add_minutes(
    shared: &Shared,
    format: &dyn SealedFormat,
    (file, place): (&FileEntry, &Place),
    (from_ns, to_ns): (i64, i64),
    parts: &mut Buckets,
) -> Result<(), StoreError> {
    let floor = bucket_start(from_ns, MINUTE_NS);
    let whole_from = if floor == from_ns { from_ns } else { floor.saturating_add(MINUTE_NS) };
    let whole_to = bucket_start(to_ns, MINUTE_NS);
    let overlaps = |from: i64, to: i64| from < to && place.first_ns < to && place.last_ns >= from;
    let head = (from_ns, whole_from.min(to_ns));
    let tail = (whole_to.max(head.1), to_ns);
    for (from, to) in [head, tail] {
        if overlaps(from, to) {
            let rows = file_rows(shared, format, (file, place), from, to)?;
            parts.add_rows(&rows.times, &rows.values);
        }
    }
    if overlaps(whole_from, whole_to) {
        let minutes = format
            .read_rollup(&shared.paths(file.number).1, place.minute, place.minutes)
            .map_err(StoreError::Sealed)?;
        for (_, start, part) in minutes.iter().filter(|(_, start, _)| (whole_from..whole_to).contains(start))
        {
            parts.add(*start, part);
        }
    }
    Ok(())
}

fn column(id: SeriesId, tier: Tier, parts: &Buckets) -> BucketColumn {
    let mut out = BucketColumn {
        id,
        tier,
        t_ns: Vec::new(),
        min: Vec::new(),
        max: Vec::new(),
        mean: Vec::new(),
        last: Vec::new(),
        count: Vec::new(),
    };
    for (start, part) in parts.iter() {
        out.t_ns.push(start);
        out.min.push(part.min);
        out.max.push(part.max);
        #[expect(clippy::cast_precision_loss, reason = "no bucket holds 2^53 readings")]
        out.mean.push(part.sum / part.count as f64);
        out.last.push(part.last);
        out.count.push(part.count);
    }
    out
}
