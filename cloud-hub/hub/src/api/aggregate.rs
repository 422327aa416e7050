//! Aggregates over groups of series.
//!
//! One step takes readings together, by group and by bucket of time. A filter leaves some of the buckets; a second step may
//! then take what is left together once more, so that "on how many trucks", "for how much of the day" and a mean of
//! means are asked for as what they are.

mod steps;

use axum::Json;
use axum::extract::State;
use tideline_store::{Figures, GroupAnswer, GroupQuestion, SeriesId, SeriesState, StoreError, Width};

use super::problem::{ApiError, Problem};
use super::query::{Beside, QUANTILES_MAX, beside};
use super::select::{Select, id_of, meant};
use super::shapes::{AggregateAnswer, AggregateRequest, FUNCTIONS, GroupBy, Having, ReadFrom, Told};
use crate::answers::{How, Question};
use crate::hub::App;
use crate::telemetry::Metric;
use crate::when;
use steps::{Bucket, Cells, Filter, Grouping, Of, Step};

impl Question for GroupQuestion {
    type Answer = GroupAnswer;

    fn range(&self) -> (i64, i64) {
        // A mean over time begins with the last reading before.
        let from_ns = if self.figures.time_weighted { i64::MIN } else { self.from_ns };
        (from_ns, self.to_ns)
    }

    fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.len() * size_of::<SeriesId>() + size_of_val(group)).sum()
    }

    fn answer_bytes(answer: &GroupAnswer) -> usize {
        answer.bytes()
    }
}

/// A request whose parts were checked.
struct Checked {
    select: Select,
    grouping: Grouping,
    width: Option<Width>,
    range: (i64, i64),
    steps: Vec<Step>,
    figures: Figures,
    // The width that the answer tells.
    told_ns: Option<i64>,
}

/// A width of so long, or with a time zone, or of months, one of a calendar.
fn width(text: Option<&str>, name: &str, zone: Option<&str>) -> Result<Option<Width>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    if zone.is_some() || text == "1mo" {
        return super::query::calendar(text, zone).map(Width::Calendar).map(Some);
    }
    let width = when::parse_span_ns(text).map_err(|e| ApiError::bad("bad-time", format!("{name}: {e}")))?;
    if width == 0 {
        return Err(ApiError::bad("bad-time", format!("{name}={text}; a bucket has a width, as 10m")));
    }
    Ok(Some(Width::Fixed(width)))
}

const fn fixed(width: Option<&Width>) -> Option<i64> {
    match width {
        Some(Width::Fixed(width_ns)) => Some(*width_ns),
        Some(Width::Calendar(_)) | None => None,
    }
}

fn functions(functions: &[Told], name: &str) -> Result<(), ApiError> {
    if functions.is_empty() {
        return Err(ApiError::bad("bad-functions", format!("{name} is empty; there are {FUNCTIONS}")));
    }
    Ok(())
}

/// Few enough quantiles, and no mean over time of what is no reading.
fn bounded(figures: &Figures, name: &str, of_readings: bool) -> Result<(), ApiError> {
    if figures.time_weighted && !of_readings {
        let why = format!("{name} are of values, not of readings: twa is for functions, having and then.of");
        return Err(ApiError::bad("bad-functions", why));
    }
    let asked = figures.quantiles.len();
    if asked > QUANTILES_MAX {
        let why = format!("{name}: {asked} quantiles; at most {QUANTILES_MAX}");
        return Err(ApiError::bad("bad-functions", why));
    }
    Ok(())
}

fn having(having: Option<&Having>) -> Result<(), ApiError> {
    if having.is_some_and(|having| having.below.is_none() && having.above.is_none()) {
        return Err(ApiError::bad("bad-having", "having says neither below nor above"));
    }
    Ok(())
}

fn check(hub: &App, mut request: AggregateRequest) -> Result<(Checked, ReadFrom), ApiError> {
    let devices = meant(hub, &mut request.select.devices)?;
    if let GroupBy::Groups(groups) = &mut request.group_by {
        for group in groups {
            let meant = meant(hub, &mut group.members)?;
            group.members.extend(meant);
        }
    }
    let now_ns = hub.clock.wall_ns();
    let range = super::query::range(request.from.as_deref(), request.to.as_deref(), now_ns)?;
    functions(&request.functions, "functions")?;
    having(request.having.as_ref())?;
    let zone = request.tz.as_deref();
    let then_width = request.then.as_ref().and_then(|then| then.width.as_ref());
    if zone.is_some() && request.width.is_none() && then_width.is_none() {
        return Err(ApiError::bad("bad-zone", "tz is for a width of 1d, 1w or 1mo, which is missing"));
    }
    let width_of = |text: Option<&str>, name: &str| width(text, name, zone);
    let width = width_of(request.width.as_deref(), "width")?;
    let mut told_ns = fixed(width.as_ref());
    let mut figures = Figures::default();
    let mut steps = vec![Step::Filter(request.having.map(|having| Filter::of(&having, &mut figures)))];
    if let Some(then) = request.then {
        functions(&then.functions, "then.functions")?;
        let width = width_of(then.width.as_deref(), "then.width")?;
        told_ns = fixed(width.as_ref());
        // What is told is told of values.
        let mut values = Figures::default();
        let of = Of::new(&then.of, &mut figures);
        let told = then.functions.iter().map(|told| Of::new(told, &mut values)).collect();
        bounded(&values, "then.functions", false)?;
        let grouping = Grouping::again(then.group_by)?;
        steps.push(Step::Again { of, grouping, width, quantiles: values.quantiles });
        steps.push(Step::Tell(told));
    } else {
        steps.push(Step::Tell(request.functions.iter().map(|told| Of::new(told, &mut figures)).collect()));
    }
    bounded(&figures, "functions", true)?;
    let select =
        Select::of(request.select.devices, request.select.points, request.select.series)?.meaning(devices)?;
    let grouping = Grouping::of(request.group_by)?;
    Ok((Checked { select, grouping, width, range, steps, figures, told_ns }, request.tier))
}

/// Aggregates over groups of series
///
/// A bucket holds the readings of all series of a group in it: its mean is their sum over their number, so that a series that
/// reads more often counts for more. For a mean of means, take each series for itself and `then` the groups. Buckets
/// begin at multiples of their width since 1970 (UTC). Where the range cuts a bucket, it holds the readings of the range
/// alone. With `from` or `to` relative to now, the range is rounded outwards to whole seconds.
#[utoipa::path(post, path = "/api/v1/aggregate", operation_id = "aggregate",
    request_body = AggregateRequest,
    responses((status = 200, description = "Columns by group", body = AggregateAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn aggregate(
    State(hub): State<App>,
    Json(request): Json<AggregateRequest>,
) -> Result<Json<AggregateAnswer>, ApiError> {
    let (checked, tier) = check(&hub, request)?;
    let shared = hub.clone();
    // With a million series, finding and sorting them takes a while.
    let found = tokio::task::spawn_blocking(move || {
        let found = checked.select.find(&shared)?;
        let (names, groups) = checked.grouping.group(&found);
        let beside = beside(&shared, found.iter().map(|state| state.meta.device.as_str()), checked.range)?;
        Ok::<_, ApiError>((checked, names, groups, beside))
    });
    let (checked, names, groups, beside) = found.await.map_err(|error| ApiError::internal(&error))??;
    let Checked { width, range: (from_ns, to_ns), steps, figures, told_ns, .. } = checked;
    let members: Vec<usize> = groups.iter().map(Vec::len).collect();
    let question = GroupQuestion { groups, from_ns, to_ns, width, raw: tier == ReadFrom::Raw, figures };
    let store = hub.store.clone();
    let compute =
        move |question: &GroupQuestion, left: &(dyn Fn() -> bool + Sync)| store.query_groups(question, left);
    let (answer, how) = hub.groups.ask(&hub.store, question, compute).await;
    count(&hub, how);
    let answer = answer.map_err(refused)?;
    let (tier, thinned_to) = (answer.tier.as_str().to_owned(), answer.thinned_to_ns.map(when::ms));
    let figured = answer.groups.iter().filter_map(|group| Some(group.figures.as_ref()?.tier)).max();
    let groups = tokio::task::spawn_blocking(move || {
        let cells = names.into_iter().zip(members).zip(&answer.groups);
        let cells =
            cells.map(|((name, members), group)| Cells { name, members, buckets: Bucket::all(group) });
        steps::run(cells.collect(), steps, from_ns)
    });
    let groups = groups.await.map_err(|error| ApiError::internal(&error))?;
    let width_ms = told_ns.map(when::ms);
    let Beside { gaps, restamped, late, missing } = beside;
    let partial = !missing.is_empty();
    let figures_tier = figured.map(|tier| tier.as_str().to_owned());
    Ok(Json(AggregateAnswer {
        tier,
        figures_tier,
        width_ms,
        groups,
        partial,
        missing,
        thinned_to,
        gaps,
        restamped,
        late,
    }))
}

/// Counts where an answer came from.
pub fn count(hub: &App, how: How) {
    let metric = match how {
        How::Kept => Metric::AnswersKept,
        How::Shared => Metric::AnswersShared,
        How::Computed => Metric::AnswersComputed,
    };
    hub.counters.add(metric, 1);
}

/// What the store refused, or could not do.
pub fn refused(error: StoreError) -> ApiError {
    match error {
        StoreError::Query(reason) => ApiError::bad("bad-query", reason),
        error => ApiError::internal(&error),
    }
}

impl Grouping {
    /// The names of the groups, and the series of each by name.
    fn group(&self, found: &[SeriesState]) -> (Vec<String>, Vec<Vec<SeriesId>>) {
        let mut named: Vec<(String, &SeriesState)> =
            found.iter().map(|state| (id_of(&state.meta), state)).collect();
        named.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let of = |(id, state): &(String, &SeriesState)| {
            let (device, point) = (state.meta.device.as_str(), state.meta.point.as_str());
            self.place(device, point, id)
        };
        let places = named.iter().map(|one| Some((of(one)?, one.1.id)));
        self.collect(places.flatten())
    }
}
