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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tideline_protocol::value::Value;

    use super::super::Expression;
    use super::*;

    /// Names of a reading: the first has values of any type, the others those of their own.
    const NAMES: [&str; 6] = ["value", "time_ms", "quality", "device", "point", "unit"];
    const KINDS: [ValueKind; 4] = [ValueKind::Float, ValueKind::Int, ValueKind::Bool, ValueKind::Text];

    fn expression() -> impl Strategy<Value = String> {
        let leaves = [
            "value", "value", "time_ms", "quality", "point", "2", "1.5", "true", "false", "'on'", "null",
            "[1.0]",
        ];
        prop::sample::select(leaves.to_vec()).prop_map(str::to_owned).prop_recursive(4, 24, 3, |part| {
            let operators =
                ["+", "-", "*", "/", "%", "&&", "||", "==", "!=", "<", "<=", ">", ">=", "in"];
            let of_one = [
                "!", "-", "size", "int", "uint", "double", "string", "bool", "math.abs", "math.sign", "math.round",
                "math.isNaN", "math.sqrt",
            ];
            let of_two = ["contains", "startsWith", "endsWith"];
            prop_oneof![
                4 => (part.clone(), prop::sample::select(operators.to_vec()), part.clone())
                    .prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
                2 => (prop::sample::select(of_one.to_vec()), part.clone()).prop_map(|(name, of)| format!("{name}({of})")),
                1 => (part.clone(), prop::sample::select(of_two.to_vec()), part.clone())
                    .prop_map(|(on, name, of)| format!("({on}).{name}({of})")),
                2 => (part.clone(), part.clone(), part.clone())
                    .prop_map(|(one, two, three)| format!("({one} ? {two} : {three})")),
                1 => (part.clone(), part).prop_map(|(one, two)| format!("[{one}, {two}]")),
            ]
        })
    }

    /// Whether a stage of this type gives a reading of such a value.
    const fn suits(value: &Value, kind: ValueKind) -> bool {
        match value {
            Value::Null => true,
            Value::Float(_) | Value::Int(_) => matches!(kind, ValueKind::Float | ValueKind::Int),
            Value::Bool(_) => matches!(kind, ValueKind::Bool),
            Value::Text(_) => matches!(kind, ValueKind::Text),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
        /// What is refused is a configuration that was taken before: none may be that worked for one reading.
        #[test]
        fn what_gives_one_value_of_a_type_is_never_refused_for_it(text in expression()) {
            let Ok(expression) = Expression::parse(&text, &NAMES) else { return Ok(()) };
            for value in [
                Value::Float(2.5), Value::Float(-1.0), Value::Int(3), Value::Int(1 << 60), Value::Bool(true), Value::Bool(false),
                Value::Text("on".into()), Value::Text("7".into()), Value::Text("true".into()), Value::Null,
            ] {
                let mut scope = expression.scope();
                scope.set(0, &value);
                scope.set_number(1, 1.7e12);
                ["good", "pump", "level", "Cel"].iter().zip(2..).for_each(|(name, at)| scope.set(at, &Value::Text((*name).into())));
                let Ok(given) = expression.value(&scope) else { continue };
                for kind in KINDS.into_iter().filter(|kind| suits(&given, *kind)) {
                    let told = expression.check_kind(kind, true);
                    prop_assert_eq!(told, Ok(()), "{} gives {:?} of {:?}", text, given, value);
                }
            }
        }
    }
}
