//! Which type an expression's value has, as far as its text alone tells: what could never be of the stage's type is told before
//! anything runs, and not of every reading.

use cel::common::ast::{Expr, LiteralValue, operators};
use cel::parser::Expression as Node;
use tideline_protocol::value::ValueKind;

/// Names that stand for one type always; what readings have is of any.
const TEXTS: [&str; 4] = ["quality", "device", "point", "unit"];
const NUMBERS: [&str; 1] = ["time_ms"];

/// What an expression gives, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    Number,
    Truth,
    Text,
}

/// Tells an expression of a reading (`of_reading`), or of inputs, that never gives a value of this type.
pub fn check(node: &Node, kind: ValueKind, of_reading: bool) -> Result<(), String> {
    let wanted = match kind {
        ValueKind::Float | ValueKind::Int => Gives::Number,
        ValueKind::Bool => Gives::Truth,
        ValueKind::Text => Gives::Text,
    };
    let (what, allowed) = match gives(node, of_reading) {
        Some(given) if given != wanted => match given {
            Gives::Number => ("a number", "\"float\" or \"int\""),
            Gives::Truth => ("a truth value", "\"bool\""),
            Gives::Text => ("a text", "\"text\""),
        },
        _ => return Ok(()),
    };
    Err(format!(
        "the expression always gives {what}, and the type is \"{}\"; allowed is type = {allowed}",
        kind.as_str()
    ))
}

/// Whether it has integers, which do not go together with the doubles that all other numbers are.
pub fn has_integers(node: &Node) -> bool {
    let Expr::Call(call) = &node.expr else { return false };
    matches!(call.func_name.as_str(), operators::MODULO | "int" | "uint" | "size" | "bitAnd")
        || call.target.iter().map(AsRef::as_ref).chain(&call.args).any(has_integers)
}

fn gives(node: &Node, of_reading: bool) -> Option<Gives> {
    let of = |part: &Node| gives(part, of_reading);
    match &node.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => Some(Gives::Truth),
        Expr::Literal(LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_)) => {
            Some(Gives::Number)
        }
        Expr::Literal(LiteralValue::String(_)) => Some(Gives::Text),
        Expr::Ident(name) if of_reading && TEXTS.contains(&name.as_str()) => Some(Gives::Text),
        Expr::Ident(name) if of_reading && NUMBERS.contains(&name.as_str()) => Some(Gives::Number),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, [_, then, otherwise]) => {
                of(then).filter(|then| of(otherwise) == Some(*then))
            }
            // Of two lists, too, of which nothing is known here.
            (operators::ADD, [left, right]) => of(left).or_else(|| of(right)),
            (
                operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO
                | operators::NEGATE
                | "int"
                | "uint"
                | "double"
                | "size",
                _,
            ) => Some(Gives::Number),
            (
                operators::LOGICAL_AND
                | operators::LOGICAL_OR
                | operators::LOGICAL_NOT
                | operators::EQUALS
                | operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
                | operators::IN
                | "bool"
                | "contains"
                | "startsWith"
                | "endsWith"
                | "isNaN"
                | "isInf"
                | "isFinite",
                _,
            ) => Some(Gives::Truth),
            ("string", _) => Some(Gives::Text),
            ("abs" | "ceil" | "floor" | "round" | "trunc" | "sqrt" | "sign" | "bitAnd", _) => {
                Some(Gives::Number)
            }
            _ => None,
        },
        _ => None,
    }
}
