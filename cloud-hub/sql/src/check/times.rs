//! Times in a statement, in a form that Polars reads as they are meant.
//!
//! `now()` it does not know; a text beyond the years of nanoseconds it wraps around, so that `time < '9999-12-31'` would be
//! true of nothing; and RFC 3339, as the hub itself writes times, it takes for no time.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Query, Spanned as _, Visit as _, Visitor};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use crate::literals::{instant_ns, text as quoted};

/// Columns of texts: what is compared with one is no time.
const TEXTS: [&str; 14] = [
    "device", "point", "unit", "text", "quality", "id", "title", "profile", "firmware", "vendor", "model",
    "site", "state", "software",
];

/// A time as Polars reads it to the nanosecond; the least number of all it does not read.
fn literal(ns: i64) -> String {
    format!("CAST({} AS TIMESTAMP(9))", ns.max(-i64::MAX))
}

/// Puts the time in the place of `now()` and `CURRENT_TIMESTAMP`, which Polars does not know.
pub fn with_time(text: &str, tokens: &[TokenWithSpan], now_ns: i64) -> String {
    let literal = literal(now_ns);
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let mut real: Vec<&TokenWithSpan> = Vec::new();
    real.extend(tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))));
    for (at, token) in real.iter().enumerate() {
        let after = |no: usize| real.get(at + no).map(|token| &token.token);
        let Token::Word(word) = &token.token else { continue };
        let follows_dot =
            at.checked_sub(1).and_then(|at| real.get(at)).is_some_and(|t| t.token == Token::Period);
        if word.quote_style.is_some() || follows_dot {
            continue;
        }
        let called = matches!((after(1), after(2)), (Some(Token::LParen), Some(Token::RParen)));
        let last = match word.value.to_ascii_lowercase().as_str() {
            "now" if called => real.get(at + 2),
            "current_timestamp" => real.get(if called { at + 2 } else { at }),
            _ => None,
        };
        let Some(last) = last else { continue };
        let (from, to) = (offset(text, token.span.start), offset(text, last.span.end));
        out.push_str(text.get(copied..from).unwrap_or_default());
        out.push_str(&literal);
        copied = to;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// The byte at which a place in the text begins.
fn offset(text: &str, place: Location) -> usize {
    let line_no = usize::try_from(place.line).unwrap_or(usize::MAX).saturating_sub(1);
    let column = usize::try_from(place.column).unwrap_or(usize::MAX).saturating_sub(1);
    let start = text.match_indices('\n').map(|(at, _)| at + 1).nth(line_no.wrapping_sub(1));
    let start = if line_no == 0 { 0 } else { start.unwrap_or(text.len()) };
    let rest = text.get(start..).unwrap_or_default();
    start + rest.char_indices().map(|(at, _)| at).nth(column).unwrap_or(rest.len())
}

/// Puts the times that texts stand for in their place, where they are compared with something and Polars would not read them,
/// or not as they are meant; none where there are none.
pub fn with_instants(text: &str, query: &Query) -> Option<String> {
    let mut found = Instants::default();
    let _whole = query.visit(&mut found);
    let mut found = found.0;
    found.sort_by_key(|(span, _)| (span.start.line, span.start.column));
    found.dedup_by_key(|(span, _)| *span);
    let (mut out, mut copied) = (String::with_capacity(text.len()), 0);
    for (span, ns) in &found {
        out.push_str(text.get(copied..offset(text, span.start))?);
        out.push_str(&literal(*ns));
        copied = offset(text, span.end);
    }
    out.push_str(text.get(copied..)?);
    (!found.is_empty()).then_some(out)
}

/// Where texts stand that are such times, and which.
#[derive(Default)]
struct Instants(Vec<(Span, i64)>);

impl Instants {
    fn look(&mut self, with: &Expr, at: &Expr) {
        let column = match with {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(names) => names.last(),
            _ => None,
        };
        if column.is_some_and(|name| TEXTS.iter().any(|text| name.value.eq_ignore_ascii_case(text))) {
            return;
        }
        let Expr::Value(value) = at else { return };
        if let Some(ns) = quoted(at).and_then(instant_ns) {
            self.0.push((value.span(), ns));
        }
    }
}

impl Visitor for Instants {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { left, op, right } if compares(op) => {
                self.look(left, right);
                self.look(right, left);
            }
            Expr::Between { expr, low, high, .. } => {
                self.look(expr, low);
                self.look(expr, high);
            }
            Expr::InList { expr, list, .. } => list.iter().for_each(|item| self.look(expr, item)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

const fn compares(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Gt | GtEq | Lt | LtEq)
}
