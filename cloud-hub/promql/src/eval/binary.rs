//! Operators between numbers and vectors
//! (<https://prometheus.io/docs/prometheus/latest/querying/operators/>).

use std::collections::{HashMap, HashSet};

use super::{Error, Evaluator, Grid, Row, merged, same_labels};
use crate::ast::{Binary, BinaryOp, Cardinality, Grouping, Type};
use crate::labels::Labels;
use crate::source::Source;

/// The result, and for a comparison whether it holds; it then yields its left side.
#[expect(clippy::float_cmp, reason = "PromQL compares floats as they are")]
fn applied(op: BinaryOp, left: f64, right: f64) -> (f64, bool) {
    match op {
        BinaryOp::Add => (left + right, true),
        BinaryOp::Sub => (left - right, true),
        BinaryOp::Mul => (left * right, true),
        BinaryOp::Div => (left / right, true),
        BinaryOp::Mod => (left % right, true),
        BinaryOp::Pow => (left.powf(right), true),
        BinaryOp::Atan2 => (left.atan2(right), true),
        BinaryOp::Equal => (left, left == right),
        BinaryOp::NotEqual => (left, left != right),
        BinaryOp::Greater => (left, left > right),
        BinaryOp::Less => (left, left < right),
        BinaryOp::GreaterEqual => (left, left >= right),
        BinaryOp::LessEqual => (left, left <= right),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => (left, true),
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

pub(super) fn of_scalars(op: BinaryOp, left: f64, right: f64) -> f64 {
    let (value, holds) = applied(op, left, right);
    if op.compares() { truth(holds) } else { value }
}

impl Binary {
    /// The value at a step, or none where a comparison does not hold.
    fn value(&self, left: f64, right: f64) -> Option<f64> {
        let (value, holds) = applied(self.op, left, right);
        if self.returns_bool { Some(truth(holds)) } else { holds.then_some(value) }
    }

    /// What is no longer the metric has no longer its name.
    fn drops_name(&self) -> bool {
        self.returns_bool || !(self.op.compares() || self.op.is_set())
    }

    /// The labels that say which series meet.
    fn signature(&self, labels: &Labels) -> Labels {
        match &self.matching {
            Grouping::Only(names) => labels.only(names),
            Grouping::Without(names) => labels.nameless().without(names),
        }
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let kept = if self.drops_name() { many.nameless() } else { many.clone() };
        match (&self.cardinality, &self.matching) {
            (Cardinality::Plain, Grouping::Only(names)) => kept.only(names),
            (Cardinality::Plain, Grouping::Without(names)) => kept.without(names),
            (Cardinality::ManyToOne(lent) | Cardinality::OneToMany(lent), _) => {
                lent.iter().fold(kept, |labels, name| labels.with(name, one.value(name)))
            }
        }
    }
}

impl<S: Source> Evaluator<'_, S> {
    pub(super) fn binary(&self, operation: &Binary, grid: Grid) -> Result<Vec<Row>, Error> {
        let Binary { op, left, right, .. } = operation;
        match (left.kind(), right.kind()) {
            (Type::Vector, Type::Scalar) => {
                let (rows, numbers) = (self.vector(left, grid)?, self.scalar(right, grid)?);
                with_numbers(operation, rows, &numbers, |vector, number| (vector, number))
            }
            (Type::Scalar, Type::Vector) => {
                let (numbers, rows) = (self.scalar(left, grid)?, self.vector(right, grid)?);
                with_numbers(operation, rows, &numbers, |vector, number| (number, vector))
            }
            _ => {
                let (left, right) = (self.vector(left, grid)?, self.vector(right, grid)?);
                if op.is_set() {
                    return self.set(operation, left, right, grid);
                }
                match operation.cardinality {
                    Cardinality::OneToMany(_) => self.matched(operation, &right, &left, grid),
                    _ => self.matched(operation, &left, &right, grid),
                }
            }
        }
    }

    fn set(
        &self,
        operation: &Binary,
        left: Vec<Row>,
        right: Vec<Row>,
        grid: Grid,
    ) -> Result<Vec<Row>, Error> {
        let mut signatures = Signatures::default();
        let lefts = signatures.of(operation, &left);
        let rights = signatures.of(operation, &right);
        self.spend_points(signatures.count(), grid)?;
        let present = |rows: &[Row], places: &[usize]| {
            let mut present = vec![vec![false; grid.steps]; signatures.count()];
            for (row, place) in rows.iter().zip(places) {
                let Some(present) = present.get_mut(*place) else { continue };
                present.iter_mut().zip(&row.values).for_each(|(p, v)| *p |= v.is_some());
            }
            present
        };
        let keep = |mut rows: Vec<Row>, places: &[usize], present: &[Vec<bool>], wanted: bool| {
            for (row, place) in rows.iter_mut().zip(places) {
                let Some(present) = present.get(*place) else { continue };
                for (value, _) in row.values.iter_mut().zip(present).filter(|(_, p)| **p != wanted) {
                    *value = None;
                }
            }
            rows
        };
        match operation.op {
            BinaryOp::Or => {
                let present = present(&left, &lefts);
                let right = keep(right, &rights, &present, false);
                merged(left.into_iter().chain(right).collect())
            }
            op => {
                let present = present(&right, &rights);
                Ok(keep(left, &lefts, &present, op == BinaryOp::And))
            }
        }
    }

    /// Arithmetic and comparisons between the series that meet; `many` is the left side unless
    /// `group_right` turned them round.
    fn matched(&self, operation: &Binary, many: &[Row], one: &[Row], grid: Grid) -> Result<Vec<Row>, Error> {
        let mut signatures = Signatures::default();
        let manys = signatures.of(operation, many);
        let ones = signatures.of(operation, one);
        let plain = operation.cardinality == Cardinality::Plain;
        let swapped = matches!(operation.cardinality, Cardinality::OneToMany(_));
        let mut results = Results::default();
        let mut used: HashSet<(usize, usize)> = HashSet::new();
        for step in 0..grid.steps {
            self.check()?;
            let mut partners: Vec<Option<usize>> = vec![None; signatures.count()];
            for (at, (row, place)) in one.iter().zip(&ones).enumerate() {
                if row.value(step).is_none() {
                    continue;
                }
                let Some(partner) = partners.get_mut(*place) else { continue };
                if let Some(other) = partner.and_then(|other: usize| one.get(other)) {
                    return Err(duplicate(operation, swapped, row, other));
                }
                *partner = Some(at);
            }
            used.clear();
            for (at, (row, place)) in many.iter().zip(&manys).enumerate() {
                let Some(mine) = row.value(step) else { continue };
                let Some(partner) = partners.get(*place).copied().flatten() else { continue };
                let Some(other) = one.get(partner) else { continue };
                let Some(theirs) = other.value(step) else { continue };
                let (place_out, is_new) = results.place(operation, (at, row), (partner, other), grid);
                if is_new {
                    self.spend_points(1, grid)?;
                }
                // Of one group only one may meet, or their results must differ in labels.
                if !used.insert((*place, if plain { 0 } else { place_out })) {
                    return Err(Error::Execution(if plain {
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".to_owned()
                    } else {
                        "multiple matches for labels: grouping labels must ensure unique matches".to_owned()
                    }));
                }
                let (left, right) = if swapped { (theirs, mine) } else { (mine, theirs) };
                if let Some(value) = operation.value(left, right) {
                    results.set(place_out, step, value)?;
                }
            }
        }
        Ok(results.rows)
    }
}

fn duplicate(operation: &Binary, swapped: bool, a: &Row, b: &Row) -> Error {
    let side = if swapped { "left" } else { "right" };
    let group = operation.signature(&a.labels);
    let (mut first, mut second) = (a.labels.to_string(), b.labels.to_string());
    if first > second {
        std::mem::swap(&mut first, &mut second);
    }
    Error::Execution(format!(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: \
         [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
    ))
}

fn with_numbers(
    operation: &Binary,
    mut rows: Vec<Row>,
    numbers: &[f64],
    sides: impl Fn(f64, f64) -> (f64, f64),
) -> Result<Vec<Row>, Error> {
    for row in &mut rows {
        if operation.drops_name() {
            row.labels = row.labels.nameless();
        }
        for (place, number) in row.values.iter_mut().zip(numbers) {
            let Some(vector) = *place else { continue };
            let (left, right) = sides(vector, *number);
            *place = operation.value(left, right);
            // A comparison filters the vector, whichever side it stands on.
            if operation.op.compares() && !operation.returns_bool {
                *place = place.map(|_| vector);
            }
        }
    }
    merged(rows)
}

/// Numbers for signatures, the same on both sides.
#[derive(Default)]
struct Signatures {
    places: HashMap<Labels, usize>,
}

impl Signatures {
    fn of(&mut self, operation: &Binary, rows: &[Row]) -> Vec<usize> {
        let mut place = |row: &Row| {
            let next = self.places.len();
            *self.places.entry(operation.signature(&row.labels)).or_insert(next)
        };
        rows.iter().map(&mut place).collect()
    }

    fn count(&self) -> usize {
        self.places.len()
    }
}

/// The rows that come out, by their labels.
#[derive(Default)]
struct Results {
    rows: Vec<Row>,
    by_labels: HashMap<Labels, usize>,
    by_pair: HashMap<(usize, usize), usize>,
}

impl Results {
    /// Where the result of a pair goes, and whether that row is new.
    fn place(
        &mut self,
        operation: &Binary,
        many: (usize, &Row),
        one: (usize, &Row),
        grid: Grid,
    ) -> (usize, bool) {
        if let Some(place) = self.by_pair.get(&(many.0, one.0)) {
            return (*place, false);
        }
        let labels = operation.result_labels(&many.1.labels, &one.1.labels);
        let next = self.rows.len();
        let place = *self.by_labels.entry(labels.clone()).or_insert(next);
        self.by_pair.insert((many.0, one.0), place);
        if place == next {
            self.rows.push(Row { labels, values: vec![None; grid.steps] });
        }
        (place, place == next)
    }

    fn set(&mut self, place: usize, step: usize, value: f64) -> Result<(), Error> {
        let Some(row) = self.rows.get_mut(place) else { return Ok(()) };
        if row.value(step).is_some() {
            return Err(same_labels(&row.labels));
        }
        row.set(step, value);
        Ok(())
    }
}
