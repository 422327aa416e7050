//! Lists of labels, and what says how two vectors meet.

use super::{Modifiers, Parser};
use crate::ast::{BinaryOp, Cardinality, Grouping};
use crate::lex::{Fault, Kind};

impl Parser {
    /// `(a, b)`; a comma may stand at the end.
    pub(super) fn labels(&mut self) -> Result<Vec<String>, Fault> {
        let place = "grouping opts";
        self.expect("(", place)?;
        let mut out = Vec::new();
        while !self.takes(")") {
            match self.peek().clone() {
                Kind::Text(name) if !name.is_empty() => out.push(name),
                Kind::Word(name) if !name.contains(':') => out.push(name),
                _ => return Err(self.unexpected(place, "a label")),
            }
            self.next += 1;
            if !self.takes(",") {
                self.expect(")", place)?;
                break;
            }
        }
        Ok(out)
    }

    /// `bool`, `on (…)`, `ignoring (…)`, `group_left (…)`, `group_right (…)`.
    pub(super) fn modifiers(&mut self, op: BinaryOp) -> Result<Modifiers, Fault> {
        let at = self.at();
        let returns_bool = self.takes_word("bool");
        if returns_bool && !op.compares() {
            return Err(Fault::new(at, "bool modifier can only be used on comparison operators"));
        }
        let matching = if self.takes_word("on") {
            Some(Grouping::Only(self.labels()?))
        } else if self.takes_word("ignoring") {
            Some(Grouping::Without(self.labels()?))
        } else {
            None
        };
        let at = self.at();
        let left = matching.is_some() && self.takes_word("group_left");
        let right = matching.is_some() && !left && self.takes_word("group_right");
        if !left && !right {
            return Ok(Modifiers { returns_bool, matching, cardinality: Cardinality::Plain });
        }
        if op.is_set() {
            return Err(Fault::new(at, "no grouping allowed for set operations"));
        }
        let labels = if matches!(self.peek(), Kind::Sign("(")) { self.labels()? } else { Vec::new() };
        if let Some(Grouping::Only(on)) = &matching
            && let Some(label) = labels.iter().find(|label| on.contains(label))
        {
            let what = format!("label {label:?} must not occur in ON and GROUP clause at once");
            return Err(Fault::new(at, what));
        }
        let cardinality = if left { Cardinality::ManyToOne(labels) } else { Cardinality::OneToMany(labels) };
        Ok(Modifiers { returns_bool, matching, cardinality })
    }
}
