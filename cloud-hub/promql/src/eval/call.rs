//! Functions over rows.

use super::{Error, Evaluator, Grid, Row, merged, misplaced};
use crate::NS_PER_S;
use crate::ast::{Call, Expr, Selector};
use crate::civil::Civil;
use crate::duration::time_seconds;
use crate::functions::{Run, Window};
use crate::labels::{Labels, NAME};
use crate::matcher::MatchOp;
use crate::source::{Of, Source};

fn argument(call: &Call, at: usize) -> Result<&Expr, Error> {
    call.args.get(at).ok_or_else(|| Error::Execution(format!("{} lacks an argument", call.function.name)))
}

impl<S: Source> Evaluator<'_, S> {
    pub(super) fn scalar_call(&self, call: &Call, grid: Grid) -> Result<Vec<f64>, Error> {
        match call.function.run {
            Run::Pi => Ok(vec![std::f64::consts::PI; grid.steps]),
            Run::Time => Ok((0..grid.steps).map(|step| time_seconds(grid.time(step))).collect()),
            Run::Scalar => {
                let rows = self.vector(argument(call, 0)?, grid)?;
                let only = |step| {
                    let mut present = rows.iter().filter_map(|row| row.value(step));
                    present.next().filter(|_| present.next().is_none()).unwrap_or(f64::NAN)
                };
                Ok((0..grid.steps).map(only).collect())
            }
            _ => Err(misplaced(&Expr::Call(call.clone()))),
        }
    }

    pub(super) fn vector_call(&self, call: &Call, grid: Grid) -> Result<Vec<Row>, Error> {
        let number = |at: usize| self.scalar(argument(call, at)?, grid);
        match call.function.run {
            Run::Each(of) => self.each_value(call, grid, |v, _| Some(of(v))),
            Run::Date(of) => self.dates(call, grid, of),
            Run::Window(of) => self.windows((call, 0), grid, false, |w, _| of(w)),
            Run::WindowNamed(of) => self.windows((call, 0), grid, true, |w, _| of(w)),
            // What a sample of a selector counts it says itself; a subquery has no readings.
            Run::Count if matches!(argument(call, 0)?, Expr::Range(_)) => {
                self.windows((call, 0), grid, false, |w, _| Some(w.samples.iter().map(|s| s.value).sum()))
            }
            #[expect(clippy::cast_precision_loss, reason = "a window holds less than 2^53 samples")]
            Run::Count => self.windows((call, 0), grid, false, |w, _| Some(w.samples.len() as f64)),
            Run::WindowWith(of) => {
                // Of the two arguments one is the number; which one differs by function.
                let is_span = |expr: &Expr| matches!(expr, Expr::Range(_) | Expr::Subquery(_));
                let (span, with) = if is_span(argument(call, 0)?) { (0, 1) } else { (1, 0) };
                let with = number(with)?;
                let number = |step: usize| with.get(step).copied().unwrap_or(f64::NAN);
                self.windows((call, span), grid, false, |w, step| of(w, number(step)))
            }
            Run::Clamp => self.clamped(call, grid, number(1)?, number(2)?),
            Run::ClampMax => self.clamped(call, grid, vec![f64::NEG_INFINITY; grid.steps], number(1)?),
            Run::ClampMin => self.clamped(call, grid, number(1)?, vec![f64::INFINITY; grid.steps]),
            Run::Round => {
                let nearest = if call.args.len() > 1 { number(1)? } else { vec![1.0; grid.steps] };
                self.each_value(call, grid, |value, step| {
                    // Halves go up; multiplied with the inverse, as Prometheus does, to lose less.
                    let inverse = 1.0 / nearest.get(step).copied().unwrap_or(1.0);
                    Some((value * inverse + 0.5).floor() / inverse)
                })
            }
            Run::Absent | Run::AbsentOverTime => self.absent(argument(call, 0)?, grid),
            Run::LabelJoin => self.label_join(call, grid),
            Run::LabelReplace => self.label_replace(call, grid),
            Run::Sort => self.sorted(argument(call, 0)?, grid, false),
            Run::SortDesc => self.sorted(argument(call, 0)?, grid, true),
            Run::Timestamp => self.timestamps(argument(call, 0)?, grid),
            Run::Vector => {
                let values = number(0)?.into_iter().map(Some).collect();
                Ok(vec![Row { labels: Labels::default(), values }])
            }
            Run::Pi | Run::Scalar | Run::Time => Err(misplaced(&Expr::Call(call.clone()))),
        }
    }

    /// Each value of the first argument by itself, with its step.
    fn each_value(
        &self,
        call: &Call,
        grid: Grid,
        of: impl Fn(f64, usize) -> Option<f64>,
    ) -> Result<Vec<Row>, Error> {
        let mut rows = self.vector(argument(call, 0)?, grid)?;
        for row in &mut rows {
            self.check()?;
            row.labels = row.labels.nameless();
            for (step, place) in row.values.iter_mut().enumerate() {
                *place = place.and_then(|value| of(value, step));
            }
        }
        merged(rows)
    }

    /// The samples of each series as the window of an argument moves.
    fn windows(
        &self,
        (call, span): (&Call, usize),
        grid: Grid,
        named: bool,
        of: impl Fn(Window<'_>, usize) -> Option<f64>,
    ) -> Result<Vec<Row>, Error> {
        let mut out = Vec::new();
        self.each_span(argument(call, span)?, grid, call.function.of(), |labels, spans| {
            self.spend_points(1, grid)?;
            let mut row = Row { labels, values: Vec::with_capacity(grid.steps) };
            for step in 0..grid.steps {
                self.check()?;
                row.values.push(spans.window(step).and_then(|window| of(window, step)));
            }
            if !named {
                row.labels = row.labels.nameless();
            }
            if row.values.iter().any(Option::is_some) {
                out.push(row);
            }
            Ok(())
        })?;
        merged(out)
    }

    fn clamped(&self, call: &Call, grid: Grid, least: Vec<f64>, most: Vec<f64>) -> Result<Vec<Row>, Error> {
        self.each_value(call, grid, |value, step| {
            let bound = |bounds: &[f64]| bounds.get(step).copied().unwrap_or(f64::NAN);
            let (least, most) = (bound(&least), bound(&most));
            if most < least {
                return None;
            }
            let any_nan = value.is_nan() || least.is_nan() || most.is_nan();
            Some(if any_nan { f64::NAN } else { value.min(most).max(least) })
        })
    }

    fn dates(&self, call: &Call, grid: Grid, of: fn(Civil) -> i64) -> Result<Vec<Row>, Error> {
        #[expect(clippy::cast_precision_loss, reason = "a day, an hour or a year")]
        let part = |seconds: i64| of(Civil::of(seconds)) as f64;
        if call.args.is_empty() {
            self.spend_points(1, grid)?;
            let seconds = |step| grid.time(step).div_euclid(NS_PER_S);
            let values = (0..grid.steps).map(|step| Some(part(seconds(step)))).collect();
            return Ok(vec![Row { labels: Labels::default(), values }]);
        }
        #[expect(clippy::cast_possible_truncation, reason = "no calendar reaches that far")]
        self.each_value(call, grid, |value, _| Some(if value.is_nan() { value } else { part(value as i64) }))
    }

    /// 1 where the argument has nothing, with the labels that it would have had.
    fn absent(&self, expr: &Expr, grid: Grid) -> Result<Vec<Row>, Error> {
        self.spend_points(1, grid)?;
        let mut values = vec![Some(1.0); grid.steps];
        let labels = match expr {
            Expr::Range(range) => told_labels(&range.selector),
            Expr::Selector(selector) => told_labels(selector),
            _ => Labels::default(),
        };
        if matches!(expr, Expr::Range(_) | Expr::Subquery(_)) {
            self.each_span(expr, grid, Of::Mean, |_, spans| {
                for (step, value) in values.iter_mut().enumerate() {
                    if spans.window(step).is_some() {
                        *value = None;
                    }
                }
                Ok(())
            })?;
        } else {
            for row in self.vector(expr, grid)? {
                let present = values.iter_mut().zip(&row.values).filter(|(_, v)| v.is_some());
                present.for_each(|(value, _)| *value = None);
            }
        }
        Ok(vec![Row { labels, values }])
    }

    fn sorted(&self, expr: &Expr, grid: Grid, downwards: bool) -> Result<Vec<Row>, Error> {
        let mut rows = self.vector(expr, grid)?;
        // Over a range there is no one value to sort by.
        if grid.steps == 1 {
            rows.retain(|row| row.value(0).is_some());
            rows.sort_by(|a, b| {
                let (a, b) = (a.value(0).unwrap_or(f64::NAN), b.value(0).unwrap_or(f64::NAN));
                let by_value = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                let nan_last = a.is_nan().cmp(&b.is_nan());
                nan_last.then(if downwards { by_value.reverse() } else { by_value })
            });
        }
        Ok(rows)
    }

    /// When the newest samples of a selector were taken; of any other expression, when it is evaluated.
    fn timestamps(&self, expr: &Expr, grid: Grid) -> Result<Vec<Row>, Error> {
        let mut rows = match expr {
            Expr::Selector(selector) => self.newest(selector, grid, |s| time_seconds(s.time_ns))?,
            expr => {
                let mut rows = self.vector(expr, grid)?;
                for row in &mut rows {
                    for (step, value) in row.values.iter_mut().enumerate() {
                        *value = value.map(|_| time_seconds(grid.time(step)));
                    }
                }
                rows
            }
        };
        rows.iter_mut().for_each(|row| row.labels = row.labels.nameless());
        merged(rows)
    }
}

/// The labels that a selector demands to be equal to a value, those that it names more than once left out.
fn told_labels(selector: &Selector) -> Labels {
    let of = |name: &str| selector.matchers.iter().filter(|m| m.name == name).count();
    let told = selector
        .matchers
        .iter()
        .filter(|m| m.name != NAME && matches!(m.op, MatchOp::Equal) && of(&m.name) == 1);
    Labels::new(told.map(|m| (m.name.as_str(), m.value.as_str())))
}
