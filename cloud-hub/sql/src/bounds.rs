//! What a statement needs of a table at most: times, devices, points, rows.
//!
//! Taken are conditions that stand alone or between ANDs at the top of a WHERE, compare a column of the table with
//! something known, and let no row pass that they are not true of. So a row that is left out here is one that the
//! WHERE leaves out too, and the answer is the same: whatever is not understood narrows nothing.

use std::collections::{BTreeMap, BTreeSet};

use sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, JoinOperator, LimitClause, Query, Select, SelectItem, SetExpr,
    TableFactor,
};

use crate::literals::{text, time_ns, whole};
use crate::table::Table;

/// How far the times of two kinds of literals may be apart: Polars reads some to the microsecond.
const MARGIN_NS: i64 = 1_000_000_000;

/// What is needed of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Times from this one, ns; of a bucket, that of its start.
    pub from_ns: i64,
    /// Times before this one, ns; `i64::MAX` means no end.
    pub to_ns: i64,
    /// These devices only.
    pub devices: Option<BTreeSet<String>>,
    /// These points only.
    pub points: Option<BTreeSet<String>>,
    /// So many rows and no more: any will do.
    pub rows_max: Option<usize>,
}

impl Default for Use {
    fn default() -> Self {
        Self { from_ns: i64::MIN, to_ns: i64::MAX, devices: None, points: None, rows_max: None }
    }
}

impl Use {
    /// What is needed by either.
    fn or(self, other: Self) -> Self {
        let both = |a: Option<BTreeSet<String>>, b: Option<BTreeSet<String>>| Some(&a? | &b?);
        Self {
            from_ns: self.from_ns.min(other.from_ns),
            to_ns: self.to_ns.max(other.to_ns),
            devices: both(self.devices, other.devices),
            points: both(self.points, other.points),
            rows_max: None,
        }
    }

    fn and_from(&mut self, ns: i64) {
        self.from_ns = self.from_ns.max(ns.saturating_sub(MARGIN_NS));
    }

    fn and_to(&mut self, ns: i64) {
        self.to_ns = self.to_ns.min(ns.saturating_add(MARGIN_NS));
    }

    fn and_names(&mut self, column: &str, names: BTreeSet<String>) {
        let kept = if column == "device" { &mut self.devices } else { &mut self.points };
        *kept = Some(match kept.take() {
            Some(before) => &before & &names,
            None => names,
        });
    }
}

/// What a statement needs of each table that it names.
#[derive(Debug, Default)]
pub struct Uses {
    by_table: BTreeMap<Table, Use>,
    // How often a table was named, and how often that was understood.
    named: BTreeMap<Table, usize>,
    understood: BTreeMap<Table, usize>,
}

impl Uses {
    /// A table stands somewhere in the statement.
    pub fn name(&mut self, table: Table) {
        *self.named.entry(table).or_default() += 1;
    }

    /// A SELECT: what its WHERE says of the tables in its FROM.
    pub fn select(&mut self, select: &Select) {
        let alone = matches!(select.from.as_slice(), [one] if one.joins.is_empty());
        let joins = || select.from.iter().flat_map(|from| &from.joins);
        let inner = joins().all(|join| {
            matches!(
                join.join_operator,
                JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
            )
        });
        let factors = select.from.iter().map(|from| &from.relation).chain(joins().map(|join| &join.relation));
        for factor in factors {
            let TableFactor::Table { name, alias, .. } = factor else { continue };
            let Some(table) = base(name) else { continue };
            let called = alias.as_ref().map_or(table.name(), |alias| alias.name.value.as_str());
            let renamed = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
            let mut needed = Use::default();
            if inner && !renamed && table != Table::Devices {
                narrow(&mut needed, select.selection.as_ref(), &Columns { called, alone });
            }
            *self.understood.entry(table).or_default() += 1;
            let before = self.by_table.remove(&table);
            self.by_table.insert(table, before.map_or(needed.clone(), |before| before.or(needed)));
        }
    }

    /// What is needed. A table that was named where no SELECT was looked at is needed as a whole.
    pub fn finish(mut self, query: &Query) -> BTreeMap<Table, Use> {
        for (table, named) in &self.named {
            if self.understood.get(table) != Some(named) {
                self.by_table.insert(*table, Use::default());
            }
        }
        if let (Some(rows), [(_, only)]) =
            (first_rows(query), self.by_table.iter_mut().collect::<Vec<_>>().as_mut_slice())
        {
            only.rows_max = Some(rows);
        }
        self.by_table
    }
}

/// The table of a name that stands alone.
pub fn base(name: &sqlparser::ast::ObjectName) -> Option<Table> {
    match name.0.as_slice() {
        [part] => Table::of(&part.as_ident()?.value),
        _ => None,
    }
}

/// How the columns of a table are written.
struct Columns<'a> {
    called: &'a str,
    // No other table has columns here.
    alone: bool,
}

impl Columns<'_> {
    fn name<'e>(&self, expr: &'e Expr) -> Option<&'e str> {
        match expr {
            Expr::Identifier(column) if self.alone => Some(&column.value),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column] if table.value == self.called => Some(&column.value),
                _ => None,
            },
            Expr::Nested(inner) => self.name(inner),
            _ => None,
        }
    }
}

fn narrow(needed: &mut Use, selection: Option<&Expr>, columns: &Columns<'_>) {
    let mut left: Vec<&Expr> = selection.into_iter().collect();
    while let Some(expr) = left.pop() {
        match expr {
            Expr::Nested(inner) => left.push(inner),
            Expr::BinaryOp { left: a, op: BinaryOperator::And, right: b } => {
                left.extend([a.as_ref(), b.as_ref()])
            }
            Expr::BinaryOp { left, op, right } => {
                if let Some(column) = columns.name(left) {
                    compare(needed, column, op, right);
                } else if let (Some(column), Some(op)) = (columns.name(right), turned(op)) {
                    compare(needed, column, &op, left);
                }
            }
            Expr::Between { expr, negated: false, low, high } if columns.name(expr) == Some("time") => {
                if let (Some(low), Some(high)) = (time_ns(low), time_ns(high)) {
                    needed.and_from(low);
                    needed.and_to(high);
                }
            }
            Expr::InList { expr, list, negated: false } => {
                let names: Option<BTreeSet<String>> =
                    list.iter().map(|e| text(e).map(str::to_owned)).collect();
                if let (Some(column @ ("device" | "point")), Some(names)) = (columns.name(expr), names) {
                    needed.and_names(column, names);
                }
            }
            _ => {}
        }
    }
}

fn compare(needed: &mut Use, column: &str, op: &BinaryOperator, with: &Expr) {
    match (column, op) {
        ("device" | "point", BinaryOperator::Eq) => {
            if let Some(name) = text(with) {
                needed.and_names(column, [name.to_owned()].into());
            }
        }
        ("time", BinaryOperator::Gt | BinaryOperator::GtEq) => {
            time_ns(with).into_iter().for_each(|ns| needed.and_from(ns));
        }
        ("time", BinaryOperator::Lt | BinaryOperator::LtEq) => {
            time_ns(with).into_iter().for_each(|ns| needed.and_to(ns));
        }
        ("time", BinaryOperator::Eq) => {
            if let Some(ns) = time_ns(with) {
                needed.and_from(ns);
                needed.and_to(ns);
            }
        }
        _ => {}
    }
}

/// The operator that says the same of `b, a` as this one of `a, b`.
fn turned(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        BinaryOperator::Eq => BinaryOperator::Eq,
        _ => return None,
    })
}

/// How many rows are needed at most, when the statement takes columns of the first rows of one table as they are.
fn first_rows(query: &Query) -> Option<usize> {
    let Query { with: None, body, order_by: None, limit_clause: Some(limit), fetch: None, .. } = query else {
        return None;
    };
    let LimitClause::LimitOffset { limit: Some(limit), offset, limit_by } = limit else { return None };
    let SetExpr::Select(select) = body.as_ref() else { return None };
    let Select {
        distinct: None,
        selection: None,
        having: None,
        qualify: None,
        projection,
        from,
        group_by,
        ..
    } = select.as_ref()
    else {
        return None;
    };
    let ungrouped =
        matches!(group_by, GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty());
    let plain = projection.iter().all(|item| {
        matches!(
            item,
            SelectItem::Wildcard(_)
                | SelectItem::UnnamedExpr(Expr::Identifier(_))
                | SelectItem::ExprWithAlias { expr: Expr::Identifier(_), .. }
        )
    });
    let [one] = from.as_slice() else { return None };
    let offset = offset.as_ref().map_or(Some(0), |offset| whole(&offset.value))?;
    let is_table = matches!(&one.relation, TableFactor::Table { name, .. } if base(name).is_some());
    (is_table && ungrouped && plain && limit_by.is_empty() && one.joins.is_empty())
        .then(|| whole(limit)?.checked_add(offset))
        .flatten()
}
