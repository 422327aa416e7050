//! Pages of raw rows that stay right while readings arrive, whatever their age.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use tideline_protocol::value::Boxes;

use super::goes_on;
use super::newest::{Newest, hot_of};
use super::sources::{Cold, sources};
use super::thinned::thinned_to;
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId};
use crate::sealed::SealedFormat;
use crate::segment::Level;
use crate::tables::{Shared, read};

/// Where a page begins: after so many rows of one time in one of the series asked for.
///
/// Rows that arrive later stand behind those of the same time, and never move this place. To others
/// it is a text without spaces, made by `to_string` and read back by `parse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawCursor {
    series: usize,
    time_ns: i64,
    // Rows of this very time that were given already.
    given: usize,
}

impl fmt::Display for RawCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.series, self.time_ns, self.given)
    }
}

/// A text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the cursor of a page")]
pub struct BadCursor;

impl FromStr for RawCursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(BadCursor);
        let (series, time, given) = (next()?, next()?, next()?);
        let cursor = Self {
            series: series.parse().map_err(|_| BadCursor)?,
            time_ns: time.parse().map_err(|_| BadCursor)?,
            given: given.parse().map_err(|_| BadCursor)?,
        };
        if parts.next().is_none() { Ok(cursor) } else { Err(BadCursor) }
    }
}

/// Raw rows of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct RawColumn {
    /// The series.
    pub id: SeriesId,
    /// Times in ns since 1970, ascending; equal ones in order of arrival.
    pub times: Vec<i64>,
    /// As many values, as words of `boxes`.
    pub values: Vec<f64>,
    /// What the boxed words stand for.
    pub boxes: Boxes,
}

/// A page of raw rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawPage {
    /// The series that have rows in the page, in the order asked for.
    pub series: Vec<RawColumn>,
    /// Where the next page begins, when there is more.
    pub next: Option<RawCursor>,
    /// The last time of the range, ns, at which readings may be missing here since they are past their
    /// retention: what is known of their minutes, hours or days may still be there.
    pub thinned_to_ns: Option<i64>,
}

/// The first `most` rows of a series in `from..to`, by (time, arrival). No more are held than that of
/// any file, and those in memory.
pub(super) fn first_rows(
    shared: &Shared,
    format: &dyn SealedFormat,
    id: SeriesId,
    range: (i64, i64),
    most: usize,
) -> Result<Rows, StoreError> {
    rows_of((shared, format), id, range, (most, false), &|| false)
}

/// The same, with those in the cold tier where these are wanted, as all of them were at one moment.
fn rows_of(
    (shared, format): (&Shared, &dyn SealedFormat),
    id: SeriesId,
    (from_ns, to_ns): (i64, i64),
    (most, with_cold): (usize, bool),
    canceled: &dyn Fn() -> bool,
) -> Result<Rows, StoreError> {
    let revised = shared.revised.has(id);
    let mut hot = Rows::default();
    let (files, cold) = {
        let tables = read(&shared.tables);
        if revised {
            hot = hot_of(&tables, id, (from_ns, to_ns));
        } else {
            if let Some(flushing) = &tables.flushing {
                flushing.copy(id, from_ns, to_ns, most, &mut hot);
            }
            tables.active.copy(id, from_ns, to_ns, most, &mut hot);
        }
        let cold = if with_cold { Arc::clone(&tables.cold) } else { Cold::default() };
        (Arc::clone(&tables.files), cold)
    };
    if revised {
        return Newest { shared, format, id, files: &files, cold: &cold, hot }
            .first_rows((from_ns, to_ns), most);
    }
    let mut out = Rows::default();
    let mut end_ns = to_ns;
    for source in sources((shared, format), &files, &cold) {
        goes_on(canceled)?;
        let mut left = most;
        let any = source.each_rows(id, (from_ns, end_ns), |times, words, boxes| {
            let taken = times.len().min(left);
            out.extend(times.get(..taken).unwrap_or(&[]), words.get(..taken).unwrap_or(&[]), boxes);
            left -= taken;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !any {
            continue;
        }
        out.sort();
        out.truncate(most);
        // What later files hold of the last time and after it comes too late.
        if out.times.len() == most && most > 0 {
            end_ns = out.times.last().copied().unwrap_or(end_ns);
        }
    }
    out.extend(&hot.times, &hot.values, &hot.boxes);
    out.sort();
    out.truncate(most);
    Ok(out)
}

/// Most bytes of texts of a page beside those of one row: an answer has some of its own for each.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many rows after the first `passed` fit into a page by their texts; one at least.
fn within(rows: &Rows, passed: usize) -> usize {
    if rows.boxes.bytes() <= TEXT_BYTES_MAX {
        return usize::MAX - passed;
    }
    let mut left = TEXT_BYTES_MAX;
    let fits = |word: &&f64| {
        let room = left.checked_sub(rows.boxes.get(**word).map_or(0, |boxed| boxed.text_bytes()));
        left = room.unwrap_or(left);
        room.is_some()
    };
    rows.values.iter().skip(passed).take_while(fits).count().max(1)
}

/// At most `limit` rows, or fewer long texts, of `from..to`, by (series as asked, time, arrival), from `after` on; with those in
/// the cold tier where these are wanted.
pub fn raw(
    shared: &Shared,
    format: &dyn SealedFormat,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    (after, limit, with_cold): (Option<RawCursor>, usize, bool),
    canceled: &dyn Fn() -> bool,
) -> Result<RawPage, StoreError> {
    let begin = after.unwrap_or(RawCursor { series: 0, time_ns: from_ns, given: 0 });
    let thinned_to_ns = thinned_to(shared, format, series, (from_ns, to_ns), Level::Raw)?;
    let mut page = RawPage { thinned_to_ns, ..RawPage::default() };
    let mut left = limit;
    for (at, id) in series.iter().enumerate().skip(begin.series) {
        goes_on(canceled)?;
        let resumed = at == begin.series && begin.time_ns >= from_ns;
        let (start_ns, given) = if resumed { (begin.time_ns, begin.given) } else { (from_ns, 0) };
        // One more than is given says whether there is more.
        let most = given.saturating_add(left).saturating_add(1);
        let mut rows = rows_of((shared, format), *id, (start_ns, to_ns), (most, with_cold), canceled)?;
        // Of a file that was lost between two pages nothing is left to pass over.
        let passed = rows.times.iter().take(given).take_while(|time| **time == start_ns).count();
        let end = rows.times.len().min(passed.saturating_add(left)).min(passed + within(&rows, passed));
        let more = rows.times.len() > end;
        rows.truncate(end);
        if more {
            let time_ns = rows.times.last().copied().unwrap_or(start_ns);
            let given = rows.times.iter().rev().take_while(|time| **time == time_ns).count();
            page.next = Some(RawCursor { series: at, time_ns, given });
        }
        if end > passed {
            left -= (end - passed).min(left);
            rows.times.drain(..passed);
            rows.values.drain(..passed);
            let Rows { times, values, boxes } = rows;
            page.series.push(RawColumn { id: *id, times, values, boxes });
        }
        if more {
            break;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nonsense_does_not() {
        for cursor in [(0, i64::MIN, 0), (63, -5, 7), (1, i64::MAX, usize::MAX)] {
            let cursor = RawCursor { series: cursor.0, time_ns: cursor.1, given: cursor.2 };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
            assert!(!cursor.to_string().contains(' '));
        }
        for text in ["", "1", "1:2", "1:2:3:4", "-1:2:3", "1:2:-3", "a:b:c", "1:99999999999999999999:0"] {
            assert_eq!(text.parse::<RawCursor>(), Err(BadCursor), "{text}");
        }
    }
}
