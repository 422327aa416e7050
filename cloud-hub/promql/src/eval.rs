//! The tree over the source: each expression yields its values at all steps of a grid at once.
//!
//! A row is a series with one value or none per step. What does not depend on the step (which series
//! belong together, what labels the result has) is found once per row, not once per step.

mod aggregate;
mod binary;
mod call;
mod labels;
mod select;
mod shift;

use std::cell::Cell;
use std::collections::HashMap;

use crate::NS_PER_MS;
use crate::ast::{Expr, Type};
use crate::error::Error;
use crate::labels::Labels;
use crate::number;
use crate::source::{Of, Sample, Source};

/// What one query may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Series that one selector may find.
    pub series: usize,
    /// Samples read from the source, all selectors together.
    pub samples: usize,
    /// Values computed on the way, all expressions together; 16 bytes each while they live.
    pub points: usize,
    /// Steps of a range query.
    pub steps: usize,
}

impl Default for Limits {
    /// Prometheus' 11,000 steps; the rest for a hub of half a gigabyte that answers two at a time.
    fn default() -> Self {
        Self { series: 50_000, samples: 10_000_000, points: 10_000_000, steps: 11_000 }
    }
}

/// What a query is asked of.
pub struct Query<'a, S> {
    /// Who holds the series.
    pub source: &'a S,
    /// What it may cost.
    pub limits: Limits,
    /// Whether the caller has left; asked between steps and series.
    pub canceled: &'a dyn Fn() -> bool,
}

/// The times of a range query: the start and all that follow by the step, up to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first, ns since 1970.
    pub start_ns: i64,
    /// None is later.
    pub end_ns: i64,
    /// How far apart.
    pub step_ns: i64,
}

/// A series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// By time.
    pub samples: Vec<Sample>,
}

/// What a query yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A number at a time.
    Scalar(Sample),
    /// Text.
    Text(String),
    /// One value per series, all of the same time; in the order asked for, if any was.
    Vector(Vec<(Labels, f64)>),
    /// The values of series, by their labels.
    Matrix(Vec<Series>),
}

/// Evaluates at one time.
///
/// # Errors
/// See [`Error`].
pub fn instant<S: Source>(query: &Query<S>, expr: &Expr, at_ns: i64) -> Result<Answer, Error> {
    let grid = Grid { start_ns: at_ns, step_ns: NS_PER_MS, steps: 1 };
    let evaluator = Evaluator::new(query, (at_ns, at_ns));
    match expr.kind() {
        Type::Scalar => {
            let value = evaluator.scalar(expr, grid)?.first().copied().unwrap_or(f64::NAN);
            Ok(Answer::Scalar(Sample { time_ns: at_ns, value }))
        }
        Type::Text => match expr {
            Expr::Text(text) => Ok(Answer::Text(text.clone())),
            _ => Err(misplaced(expr)),
        },
        Type::Vector => {
            let rows = evaluator.vector(expr, grid)?;
            let present = rows.into_iter().filter_map(|row| {
                let value = row.values.first().copied().flatten()?;
                Some((row.labels, value))
            });
            Ok(Answer::Vector(present.collect()))
        }
        Type::Matrix => {
            let mut out = Vec::new();
            evaluator.each_span(expr, grid, Of::Mean, |labels, spans| {
                let samples = spans.window(0).map_or_else(Vec::new, |w| w.samples.to_vec());
                if !samples.is_empty() {
                    out.push(Series { labels, samples });
                }
                Ok(())
            })?;
            out.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(Answer::Matrix(out))
        }
    }
}

/// Evaluates at each time of a range; the answer is a matrix.
///
/// # Errors
/// See [`Error`]; also when the expression yields neither a scalar nor an instant vector.
pub fn range<S: Source>(query: &Query<S>, expr: &Expr, range: Range) -> Result<Answer, Error> {
    let Range { start_ns, end_ns, step_ns } = range;
    if step_ns <= 0 {
        let what = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Error::Invalid(what.to_owned()));
    }
    if end_ns < start_ns {
        return Err(Error::Invalid("end timestamp must not be before start time".to_owned()));
    }
    let steps = steps_of(start_ns, end_ns, step_ns);
    // Prometheus counts the distances and not the points: one more goes through.
    if steps > query.limits.steps.saturating_add(1) {
        return Err(Error::Invalid(format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
            query.limits.steps
        )));
    }
    let grid = Grid { start_ns, step_ns, steps };
    let evaluator = Evaluator::new(query, (start_ns, end_ns));
    let rows = match expr.kind() {
        Type::Scalar => {
            let values = evaluator.scalar(expr, grid)?.into_iter().map(Some).collect();
            vec![Row { labels: Labels::default(), values }]
        }
        Type::Vector => evaluator.vector(expr, grid)?,
        kind => {
            let what = format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                kind.name()
            );
            return Err(Error::Invalid(what));
        }
    };
    let mut out: Vec<Series> = rows.into_iter().map(|row| row.series(grid)).collect();
    out.retain(|series| !series.samples.is_empty());
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Answer::Matrix(out))
}

/// The times at which an expression is evaluated.
#[derive(Debug, Clone, Copy)]
struct Grid {
    start_ns: i64,
    step_ns: i64,
    steps: usize,
}

impl Grid {
    fn time(self, step: usize) -> i64 {
        let steps = i64::try_from(step).unwrap_or(i64::MAX);
        self.start_ns.saturating_add(self.step_ns.saturating_mul(steps))
    }
}

/// How many times there are from a start by a step up to an end.
fn steps_of(start_ns: i64, end_ns: i64, step_ns: i64) -> usize {
    if end_ns < start_ns {
        return 0;
    }
    let whole = (i128::from(end_ns) - i128::from(start_ns)) / i128::from(step_ns.max(1));
    usize::try_from(whole).unwrap_or(usize::MAX).saturating_add(1)
}

/// A series over a grid.
#[derive(Debug, Clone)]
struct Row {
    labels: Labels,
    values: Vec<Option<f64>>,
}

impl Row {
    fn value(&self, step: usize) -> Option<f64> {
        self.values.get(step).copied().flatten()
    }

    fn set(&mut self, step: usize, value: f64) {
        if let Some(place) = self.values.get_mut(step) {
            *place = Some(value);
        }
    }

    fn series(self, grid: Grid) -> Series {
        let samples = self.values.into_iter().enumerate();
        let samples = samples.filter_map(|(i, v)| Some(Sample { time_ns: grid.time(i), value: v? }));
        Series { labels: self.labels, samples: samples.collect() }
    }
}

/// Puts rows with the same labels together: they may have been told apart by what they lost, as their
/// names, and must not have values at the same step.
fn merged(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(have) = places.get(&row.labels).and_then(|at| out.get_mut(*at)) else {
            places.insert(row.labels.clone(), out.len());
            out.push(row);
            continue;
        };
        for (mine, other) in have.values.iter_mut().zip(row.values) {
            if mine.is_some() && other.is_some() {
                return Err(same_labels(&row.labels));
            }
            *mine = mine.or(other);
        }
    }
    Ok(out)
}

fn same_labels(labels: &Labels) -> Error {
    Error::Execution(format!("vector cannot contain metrics with the same labelset: {labels}"))
}

/// The parser puts each type only where it belongs; a tree that was made otherwise may not.
fn misplaced(expr: &Expr) -> Error {
    Error::Execution(format!("{} is not allowed here", expr.kind().name()))
}

struct Evaluator<'a, S> {
    query: &'a Query<'a, S>,
    /// What `start()` and `end()` are.
    edges: (i64, i64),
    samples: Cell<usize>,
    points: Cell<usize>,
}

impl<'a, S: Source> Evaluator<'a, S> {
    fn new(query: &'a Query<'a, S>, edges: (i64, i64)) -> Self {
        Self { query, edges, samples: Cell::new(0), points: Cell::new(0) }
    }

    fn check(&self) -> Result<(), Error> {
        if (self.query.canceled)() { Err(Error::Canceled) } else { Ok(()) }
    }

    /// Says that so many values are to be computed, before they take memory.
    fn spend_points(&self, rows: usize, grid: Grid) -> Result<(), Error> {
        self.check()?;
        let points = self.points.get().saturating_add(rows.saturating_mul(grid.steps));
        self.points.set(points);
        if points > self.query.limits.points {
            return Err(Error::TooMuch(format!(
                "the query would compute more than {} values; take fewer series or a larger step",
                self.query.limits.points
            )));
        }
        Ok(())
    }

    fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, Error> {
        self.spend_points(1, grid)?;
        match expr {
            Expr::Number(n) => Ok(vec![*n; grid.steps]),
            Expr::Negate(inner) => {
                let mut values = self.scalar(inner, grid)?;
                values.iter_mut().for_each(|v| *v = -*v);
                Ok(values)
            }
            Expr::Binary(operation) => {
                let left = self.scalar(&operation.left, grid)?;
                let right = self.scalar(&operation.right, grid)?;
                Ok(left.into_iter().zip(right).map(|(l, r)| binary::of_scalars(operation.op, l, r)).collect())
            }
            Expr::Call(call) => self.scalar_call(call, grid),
            _ => Err(misplaced(expr)),
        }
    }

    fn vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Row>, Error> {
        self.check()?;
        match expr {
            Expr::Selector(selector) => self.selected(selector, grid),
            Expr::Negate(inner) => {
                let mut rows = self.vector(inner, grid)?;
                for row in &mut rows {
                    row.labels = row.labels.nameless();
                    row.values.iter_mut().flatten().for_each(|v| *v = -*v);
                }
                merged(rows)
            }
            Expr::Binary(operation) => self.binary(operation, grid),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, grid),
            Expr::Call(call) => self.vector_call(call, grid),
            _ => Err(misplaced(expr)),
        }
    }

    /// How many, from a scalar, where a whole number is needed.
    fn whole(value: f64) -> Result<usize, Error> {
        #[expect(clippy::cast_precision_loss, reason = "a bound")]
        let fits = value < i64::MAX as f64 && value > i64::MIN as f64;
        if value.is_nan() {
            return Err(Error::Execution("Parameter value is NaN".to_owned()));
        }
        if !fits {
            let what = format!("Scalar value {} overflows int64", number::plain(value));
            return Err(Error::Execution(what));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below zero is none")]
        Ok(value.max(0.0) as usize)
    }
}
