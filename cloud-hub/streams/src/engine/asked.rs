//! Windows that a statement is computed of: which have readings, and for which the statement is to be run.
//!
//! What is computed stands elsewhere; here is only what must survive a restart. A window is asked for until what came of
//! it is known, so that no run is left out, and none is told twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minicbor::{Decode, Encode};

use super::books::Books;
use super::fixed::Lengths;
use super::key::Need;
use crate::check::Job;
use crate::event::{Answered, Asked, Came, Cause, What};
use crate::limits::{ATTEMPTS_MAX, FAILURES_MAX, GATHER_NS, REASON_CHARS_MAX, RETRY_NS};
use crate::spec::Later;

/// The windows of a job with a statement.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Statement {
    /// The least watermark of all devices; never goes back.
    #[n(0)]
    watermark_ns: i64,
    /// The starts of hops that have readings and a window that is not closed.
    #[n(1)]
    hops: BTreeSet<i64>,
    /// The windows that are closed and to be computed, by their start.
    #[n(2)]
    due: BTreeMap<i64, Due>,
    /// Those that were given up, the newest last.
    #[n(3)]
    failures: VecDeque<FailedWindow>,
    #[n(4)]
    tally: Tally,
    /// Windows that are not closed, counted for each of their hops.
    #[cbor(skip)]
    open: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Tally {
    #[n(0)]
    answered: u64,
    #[n(1)]
    again: u64,
    #[n(2)]
    retried: u64,
    #[n(3)]
    failed: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(array)]
struct Due {
    /// Late readings that came for it.
    #[n(0)]
    rows: u64,
    /// Whether they are why it is due.
    #[n(1)]
    again: bool,
    /// Runs that failed.
    #[n(2)]
    attempts: u32,
    /// When it may be run, by the hub's clock.
    #[n(3)]
    from_ns: i64,
    /// Why the last run failed.
    #[n(4)]
    reason: Option<String>,
}

/// A window that was given up, or whose statement failed and is to be run again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct FailedWindow {
    /// Its start in ns.
    #[n(0)]
    pub start_ns: i64,
    /// Its end in ns, exclusive.
    #[n(1)]
    pub end_ns: i64,
    /// How often the statement was run for it.
    #[n(2)]
    pub attempts: u32,
    /// When it was given up, or is run again, by the hub's clock in ns.
    #[n(3)]
    pub at_ns: i64,
    /// Why the last run failed.
    #[n(4)]
    pub reason: String,
}

/// What is known of a job's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementView {
    /// The job's watermark; `i64::MIN` before there is one.
    pub watermark_ns: i64,
    /// Windows that it is to be run for.
    pub due: u64,
    /// Windows that it has answered, each as often as it did.
    pub answered: u64,
    /// Those of them that late readings caused.
    pub again: u64,
    /// Runs that failed and were, or are, tried again.
    pub retried: u64,
    /// Windows that were given up.
    pub failed: u64,
    /// Windows whose last run failed and that are tried again; the oldest of them.
    pub waiting: Vec<FailedWindow>,
    /// The newest of those that were given up and have not been answered since.
    pub failures: Vec<FailedWindow>,
}

impl Default for Statement {
    fn default() -> Self {
        Self {
            watermark_ns: i64::MIN,
            hops: BTreeSet::new(),
            due: BTreeMap::new(),
            failures: VecDeque::new(),
            tally: Tally::default(),
            open: 0,
        }
    }
}

impl Statement {
    pub const fn watermark_ns(&self) -> i64 {
        self.watermark_ns
    }

    /// A hop counts as the windows that may come of it.
    pub fn held(&self) -> Need {
        Need { cells: self.open.saturating_add(self.due.len() as u64), rows: 0 }
    }

    /// The windows of a hop that are not closed.
    fn open_of(slice: i64, watermark_ns: i64, of: Lengths) -> u64 {
        of.starts(slice).filter(|start| of.end(*start) > watermark_ns).count() as u64
    }

    /// Whether this can be a state; counts what is in it.
    pub fn check(&mut self, of: Lengths) -> bool {
        let sound = self.hops.iter().chain(self.due.keys()).all(|start| of.slice(*start) == *start);
        if sound {
            self.open = self.hops.iter().map(|slice| Self::open_of(*slice, self.watermark_ns, of)).sum();
        }
        sound
    }

    /// The windows to be computed that may be now, the oldest first.
    pub fn asked(&self, of: Lengths, now_ns: i64) -> impl Iterator<Item = Asked> {
        let ready = self.due.iter().filter(move |(_, due)| due.from_ns <= now_ns);
        ready.map(move |(start, due)| Asked {
            start_ns: *start,
            end_ns: of.end(*start),
            again: due.again,
            rows: due.rows,
        })
    }

    pub fn view(&self, of: Lengths) -> StatementView {
        let Tally { answered, again, retried, failed } = self.tally;
        let waiting = self.due.iter().filter_map(|(start, due)| {
            let reason = due.reason.clone()?;
            let (start_ns, end_ns) = (*start, of.end(*start));
            Some(FailedWindow { start_ns, end_ns, attempts: due.attempts, at_ns: due.from_ns, reason })
        });
        StatementView {
            watermark_ns: self.watermark_ns,
            due: self.due.len() as u64,
            answered,
            again,
            retried,
            failed,
            waiting: waiting.take(FAILURES_MAX).collect(),
            failures: self.failures.iter().cloned().collect(),
        }
    }

    fn fail(&mut self, window: FailedWindow) {
        self.tally.failed = self.tally.failed.saturating_add(1);
        self.failures.retain(|other| other.start_ns != window.start_ns);
        if self.failures.len() >= FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back(window);
    }
}

/// Takes a reading of this time in.
///
/// # Errors
/// No window takes it, or there is no room for one.
pub fn take(books: &mut Books, time_ns: i64, now_ns: i64, job: &Job) -> Result<(), Cause> {
    let Some(of) = job.lengths() else { return Ok(()) };
    let updates = job.spec().late.then == Later::Update;
    let (slice, watermark_ns) = (of.slice(time_ns), books.statement.watermark_ns);
    let kept = |start: &i64| updates || of.end(*start).saturating_add(job.allowed_ns) > watermark_ns;
    let windows: Vec<i64> = of.starts(slice).filter(kept).collect();
    if windows.is_empty() {
        return Err(Cause::Late);
    }
    let statement = &books.statement;
    let closed = |start: &&i64| of.end(**start) <= watermark_ns;
    let new = windows.iter().filter(closed).filter(|start| !statement.due.contains_key(start)).count() as u64;
    let opens = of.end(slice) > watermark_ns && !statement.hops.contains(&slice);
    let open = if opens { Statement::open_of(slice, watermark_ns, of) } else { 0 };
    let cells = new.saturating_add(open);
    books.room(0, Need { cells, rows: 0 })?;
    let before = books.statement.held();
    if opens {
        books.statement.hops.insert(slice);
        books.statement.open = books.statement.open.saturating_add(open);
    }
    for start in windows.iter().filter(closed) {
        let due = books.statement.due.entry(*start).or_insert_with(|| Due {
            again: true,
            from_ns: now_ns.saturating_add(GATHER_NS),
            ..Due::default()
        });
        // What was tried in vain was tried with other readings.
        due.attempts = 0;
        due.rows = due.rows.saturating_add(1);
    }
    books.weight.replace(before, books.statement.held());
    Ok(())
}

/// Moves the job's watermark, which never goes back, and notes what it closes.
pub fn close(books: &mut Books, to_ns: i64, job: &Job) {
    let Some(of) = job.lengths() else { return };
    let before = books.statement.held();
    let Statement { watermark_ns, hops, due, open, .. } = &mut books.statement;
    let to_ns = to_ns.max(*watermark_ns);
    let from_ns = std::mem::replace(watermark_ns, to_ns);
    // Only the hops whose first window ends by now have closed any.
    let ended = hops.range(..=to_ns.saturating_sub(of.hop_ns)).copied().collect::<Vec<i64>>();
    for slice in ended {
        let closes = |start: &i64| (from_ns.saturating_add(1)..=to_ns).contains(&of.end(*start));
        for start in of.starts(slice).filter(closes) {
            due.entry(start).or_default();
        }
        let of_hop = |watermark_ns| Statement::open_of(slice, watermark_ns, of);
        *open = open.saturating_add(of_hop(to_ns)).saturating_sub(of_hop(from_ns));
        if of.end(slice) <= to_ns {
            hops.remove(&slice);
        }
    }
    books.weight.replace(before, books.statement.held());
}

/// Takes in what came of a window's statement. A window that late readings came for since it was asked for stays due.
pub fn answered(books: &mut Books, answered: Answered<'_>, now_ns: i64) {
    let Answered { asked, came } = answered;
    let Asked { start_ns, end_ns, again, rows } = *asked;
    let before = books.statement.held();
    let Some(due) = books.statement.due.get_mut(&start_ns) else { return };
    let is_same = due.rows == rows;
    match came {
        Came::Rows(found) => {
            if is_same {
                books.statement.due.remove(&start_ns);
            } else {
                let from_ns = now_ns.saturating_add(GATHER_NS);
                *due = Due { rows: due.rows, again: true, from_ns, ..Due::default() };
            }
            let tally = &mut books.statement.tally;
            tally.answered = tally.answered.saturating_add(1);
            tally.again = tally.again.saturating_add(u64::from(again));
            books.statement.failures.retain(|failed| failed.start_ns != start_ns);
            let revision = if again { books.put(What::Void { start_ns, end_ns }) } else { 0 };
            for row in found {
                let row = row.clone();
                books.count_result(again);
                books.put(What::Row { start_ns, end_ns, revision, row });
            }
        }
        Came::Failed(reason) | Came::Lost(reason) => {
            let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
            // Late readings begin the count anew.
            due.attempts = if is_same { due.attempts.saturating_add(1) } else { 1 };
            let attempts = due.attempts;
            if is_same && (attempts >= ATTEMPTS_MAX || matches!(came, Came::Lost(_))) {
                books.statement.due.remove(&start_ns);
                books.statement.fail(FailedWindow { start_ns, end_ns, attempts, at_ns: now_ns, reason });
            } else {
                let pause_ns = RETRY_NS.saturating_mul(10_i64.saturating_pow(attempts.saturating_sub(1)));
                (due.from_ns, due.reason) = (now_ns.saturating_add(pause_ns), Some(reason));
                let tally = &mut books.statement.tally;
                tally.retried = tally.retried.saturating_add(1);
            }
        }
    }
    books.weight.replace(before, books.statement.held());
}
