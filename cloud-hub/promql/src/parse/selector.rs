//! Selectors: `name{label="value"}`, their ranges, offsets and times.

use super::Parser;
use crate::ast::{At, Expr, RangeSelector, Selector, Shift};
use crate::duration;
use crate::labels::NAME;
use crate::lex::{Fault, Kind};
use crate::matcher::Matcher;

/// A selector becomes a range selector; nothing else does.
pub fn ranged(expr: Expr, range_ns: i64, at: usize) -> Result<Expr, Fault> {
    let Expr::Selector(selector) = expr else {
        return Err(Fault::new(at, "ranges only allowed for vector selectors"));
    };
    if selector.shift.offset_ns.is_some() {
        return Err(Fault::new(at, "no offset modifiers allowed before range"));
    }
    if selector.shift.at.is_some() {
        return Err(Fault::new(at, "no @ modifiers allowed before range"));
    }
    Ok(Expr::Range(RangeSelector { selector, range_ns }))
}

/// What can be moved in time.
fn shift<'a>(expr: &'a mut Expr, what: &str, at: usize) -> Result<&'a mut Shift, Fault> {
    match expr {
        Expr::Selector(selector) => Ok(&mut selector.shift),
        Expr::Range(range) => Ok(&mut range.selector.shift),
        Expr::Subquery(subquery) => Ok(&mut subquery.shift),
        _ => {
            let what = format!(
                "{what} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
            );
            Err(Fault::new(at, what))
        }
    }
}

impl Parser {
    /// `name` and what stands between braces; a metric that the text names becomes a matcher.
    pub(super) fn selector(&mut self, name: Option<String>) -> Result<Expr, Fault> {
        let start = self.at();
        let mut matchers: Vec<Matcher> = name.map(|name| Matcher::equal(NAME, name)).into_iter().collect();
        let named = !matchers.is_empty();
        if self.takes("{") {
            while !self.takes("}") {
                let at = self.at();
                let matcher = self.matcher()?;
                if named && matcher.name == NAME {
                    return Err(Fault::new(at, "metric name must not be set twice"));
                }
                matchers.push(matcher);
                if !self.takes(",") {
                    self.expect("}", "label matching")?;
                    break;
                }
            }
        }
        // Otherwise it would select whatever lacks some labels: mostly everything.
        if matchers.iter().all(|matcher| matcher.fits("")) {
            return Err(Fault::new(start, "vector selector must contain at least one non-empty matcher"));
        }
        Ok(Expr::Selector(Selector { matchers, shift: Shift::default() }))
    }

    fn matcher(&mut self) -> Result<Matcher, Fault> {
        let at = self.at();
        let name = match self.advance() {
            // A quoted name alone is the metric's.
            Kind::Text(name) if matches!(self.peek(), Kind::Sign("," | "}")) => {
                return Ok(Matcher::equal(NAME, name));
            }
            Kind::Text(name) => name,
            Kind::Word(name) if !name.contains(':') => name,
            Kind::Number(_) | Kind::Word(_) | Kind::Sign(_) | Kind::Duration(_) | Kind::End => {
                self.next -= 1;
                return Err(self.unexpected("label matching", "a label name or \"}\""));
            }
        };
        let op = match *self.peek() {
            Kind::Sign(op @ ("=" | "!=" | "=~" | "!~")) => op,
            _ => return Err(self.unexpected("label matching", "\"=\", \"!=\", \"=~\" or \"!~\"")),
        };
        self.next += 1;
        let Kind::Text(value) = self.peek().clone() else {
            return Err(self.unexpected("label matching", "a string"));
        };
        self.next += 1;
        Matcher::new(name, op, value).map_err(|error| Fault::new(at, error.to_string()))
    }

    /// What follows `offset`.
    pub(super) fn offset(&mut self, expr: &mut Expr, at: usize) -> Result<(), Fault> {
        let ahead = self.takes("-");
        if !ahead {
            self.takes("+");
        }
        let ns = self.duration("offset")?;
        let shift = shift(expr, "offset", at)?;
        if shift.offset_ns.is_some() {
            return Err(Fault::new(at, "offset may not be set multiple times"));
        }
        shift.offset_ns = Some(if ahead { -ns } else { ns });
        Ok(())
    }

    /// What follows `@`.
    pub(super) fn at_time(&mut self, expr: &mut Expr, at: usize) -> Result<(), Fault> {
        let edge =
            [("start", At::Start), ("end", At::End)].into_iter().find(|(word, _)| self.takes_word(word));
        let time = if let Some((word, time)) = edge {
            self.expect("(", word)?;
            self.expect(")", word)?;
            time
        } else {
            let minus = self.takes("-");
            if !minus {
                self.takes("+");
            }
            let seconds = match *self.peek() {
                Kind::Number(seconds) => seconds,
                Kind::Duration(ns) => duration::seconds(ns),
                _ => return Err(self.unexpected("@", "a timestamp in seconds, start() or end()")),
            };
            let seconds = if minus { -seconds } else { seconds };
            let ns = duration::from_seconds(seconds);
            let out = || Fault::new(self.at(), format!("timestamp out of bounds for @ modifier: {seconds}"));
            let ns = ns.ok_or_else(out)?;
            self.next += 1;
            At::Time(ns)
        };
        let shift = shift(expr, "@", at)?;
        if shift.at.is_some() {
            return Err(Fault::new(at, "@ <timestamp> may not be set multiple times"));
        }
        shift.at = Some(time);
        Ok(())
    }
}
