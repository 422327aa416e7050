//! What was done to a twin, by pages: from the oldest step on, or from the newest back.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Key, Section, Step};

use super::super::devices::{PAGE_DEFAULT, PAGE_MAX};
use super::super::problem::{ApiError, Problem};
use super::super::shapes::{TwinHistory, TwinStep};
use super::{of, side, time_ms};
use crate::hub::{App, Hub};

/// Which part of the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    from: Option<String>,
    to: Option<String>,
    key: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    order: Order,
}

/// Which steps come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Oldest,
    Newest,
}

/// Which leaf a key of a request means: `desired/motor/speed`, or what is below `desired/motor`, or all of `desired`.
struct Leaves(Option<(Section, Option<Key>)>);

impl Leaves {
    fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = text else { return Ok(Self(None)) };
        let (section, key) = text.split_once('/').map_or((text, None), |(section, key)| (section, Some(key)));
        let section = Section::parse(section).ok_or_else(|| {
            let allowed = Section::ALL.map(Section::name).join(", ");
            ApiError::bad("bad-key", format!("{text:?} begins with no section; allowed are {allowed}"))
        })?;
        let key = key.map(Key::parse).transpose().map_err(|e| ApiError::bad("bad-key", e.to_string()))?;
        Ok(Self(Some((section, key))))
    }

    fn have(&self, step: &Step) -> bool {
        let Some((section, key)) = &self.0 else { return true };
        let below = |key: &Key| {
            let rest = step.key.as_str().strip_prefix(key.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        step.section == *section && key.as_ref().is_none_or(below)
    }
}

/// What was done to a twin
///
/// Its history is cut off every two thousand changes; what was before is kept for `twins.history_days`. Steps stand by `taken_ms` where there is
/// one and else by `time_ms`, but none before one that its author had read, whatever the clock there said, nor before history was cut
/// off if it came after that.
#[utoipa::path(get, path = "/api/v1/devices/{id}/twin/history", operation_id = "twinHistory",
    params(("id" = String, Path, description = "The device"), ("from" = Option<String>, Query, description = "From this time on, by `taken_ms` where there is one and else by `time_ms`: RFC 3339, Unix ms, or relative as -6h"), ("to" = Option<String>, Query, description = "Before this time"), ("key" = Option<String>, Query, description = "Of this leaf or those below it, as desired/motor/speed or desired"), ("limit" = Option<usize>, Query, description = "Most steps, 1 to 1000"), ("cursor" = Option<String>, Query, description = "From the page before, in the same order"), ("order" = Option<String>, Query, description = "Which come first: `oldest`, the default, or `newest`")),
    responses((status = 200, description = "A page", body = TwinHistory), (status = 400, description = "`bad-time`, `bad-key`, `bad-limit`, `bad-cursor`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn history(
    State(hub): State<App>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<TwinHistory>, ApiError> {
    let (document, _) = of(&hub, &id)?;
    steps(&hub, document, &asked).await
}

pub(super) async fn steps(
    hub: &App,
    document: DocumentId,
    asked: &Asked,
) -> Result<Json<TwinHistory>, ApiError> {
    let from = time_ms(hub, asked.from.as_deref())?.unwrap_or(i64::MIN);
    let to = time_ms(hub, asked.to.as_deref())?.unwrap_or(i64::MAX);
    let leaves = Leaves::parse(asked.key.as_deref())?;
    let limit = asked.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {PAGE_MAX}")));
    }
    let (order, cursor) = (asked.order, begin(asked.cursor.as_deref())?);
    let is_wanted = move |step: &Step| (from..to).contains(&step.at_ms()) && leaves.have(step);
    let page = hub.blocking(move |hub| pages(hub, &document, (order, cursor), limit, is_wanted, from));
    page.await.map(Json)
}

/// A page of the steps that are wanted, over all generations that are kept. `cursor` is the first step of the page: its
/// generation, and its place in it.
fn pages(
    hub: &Hub,
    document: &DocumentId,
    (order, cursor): (Order, Option<(u64, usize)>),
    limit: usize,
    is_wanted: impl Fn(&Step) -> bool,
    from: i64,
) -> Result<TwinHistory, ApiError> {
    let mut all = hub.twins.chapters(document, from)?;
    if order == Order::Newest {
        all.reverse();
    }
    let first = cursor.map(|(first, _)| first);
    if let Some(first) = first {
        all.retain(|number| if order == Order::Newest { *number <= first } else { *number >= first });
    }
    if first.is_some() && all.first() != first.as_ref() {
        return Err(ApiError::bad(
            "bad-cursor",
            "what comes after the page before is not kept any more; begin again",
        ));
    }
    let mut steps = Vec::new();
    for number in all {
        let Some(chapter) = hub.twins.chapter(document, number)? else { continue };
        let at = cursor.filter(|(first, _)| *first == number).map(|(_, at)| at);
        let mut all: Vec<&Step> = chapter.steps.iter().collect();
        if order == Order::Newest {
            all.reverse();
        }
        // What came meanwhile may stand before the page: its first step is where it was.
        let here = all.into_iter().skip_while(|step| at.is_some_and(|at| step.place != at));
        for step in here.filter(|step| is_wanted(step)) {
            if steps.len() == limit {
                return Ok(TwinHistory { steps, next: Some(format!("{number}.{}", step.place)) });
            }
            steps.push(shown(step));
        }
    }
    Ok(TwinHistory { steps, next: None })
}

/// Where a page begins: a generation, and a step in it.
fn begin(cursor: Option<&str>) -> Result<Option<(u64, usize)>, ApiError> {
    let Some(cursor) = cursor else { return Ok(None) };
    let parts = cursor.split_once('.').and_then(|(of, at)| Some((of.parse().ok()?, at.parse().ok()?)));
    let bad = || ApiError::bad("bad-cursor", "a cursor is what the page before gave as next");
    parts.ok_or_else(bad).map(Some)
}

fn shown(step: &Step) -> TwinStep {
    TwinStep {
        time_ms: step.time_ms,
        taken_ms: step.taken_ms,
        author: step.author.clone(),
        side: side(step.actor).unwrap_or_default(),
        section: step.section.to_string(),
        key: step.key.to_string(),
        value: step.value.clone(),
    }
}
