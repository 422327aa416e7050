//! Expressions of numbers and truth values alone, which most are, without CEL: there each step puts its result on the heap.
//!
//! It knows finite doubles only, which CEL computes with as here. Of whatever else comes up, on the way too, it says nothing, and CEL
//! is asked: what a value is and why there is none is CEL's word alone.

use cel::common::ast::{Expr, LiteralValue, operators};
use cel::parser::Expression as Node;
use tideline_protocol::value::Value;

use super::Scope;

/// An expression of one type.
#[derive(Debug, Clone)]
pub enum Plain {
    /// Of numbers.
    Number(Number),
    /// Of truth values.
    Truth(Truth),
}

/// What gives a number.
#[derive(Debug, Clone)]
pub enum Number {
    Literal(f64),
    /// A name by its place.
    Name(usize),
    Negated(Box<Number>),
    Computed(Operation, Box<(Number, Number)>),
    Chosen(Box<(Truth, Number, Number)>),
}

/// What gives a truth value.
#[derive(Debug, Clone)]
pub enum Truth {
    Literal(bool),
    Compared(Comparison, Box<(Number, Number)>),
    Not(Box<Truth>),
    Both(Box<(Truth, Truth)>),
    Either(Box<(Truth, Truth)>),
    Chosen(Box<(Truth, Truth, Truth)>),
}

#[derive(Debug, Clone, Copy)]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Debug, Clone, Copy)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Plain {
    /// The same expression; none where anything in it is of another kind.
    pub fn of(node: &Node, names: &[&str]) -> Option<Self> {
        let number = Number::of(node, names).map(Self::Number);
        number.or_else(|| Truth::of(node, names).map(Self::Truth))
    }

    /// Its value, if that is found with finite numbers alone.
    pub fn value(&self, scope: &Scope) -> Option<Value> {
        match self {
            Self::Number(number) => number.value(scope).map(Value::Float),
            Self::Truth(truth) => truth.value(scope).map(Value::Bool),
        }
    }
}

/// The operands of a call that is no method, with its name.
fn operands(node: &Node) -> Option<(&str, &[Node])> {
    match &node.expr {
        Expr::Call(call) if call.target.is_none() => Some((call.func_name.as_str(), &call.args)),
        _ => None,
    }
}

impl Number {
    fn of(node: &Node, names: &[&str]) -> Option<Self> {
        match &node.expr {
            Expr::Literal(LiteralValue::Double(number)) => return Some(Self::Literal(*number.inner())),
            Expr::Ident(name) => return names.iter().position(|known| known == name).map(Self::Name),
            _ => {}
        }
        let part = |node| Self::of(node, names);
        match operands(node)? {
            (operators::NEGATE, [one]) => Some(Self::Negated(Box::new(part(one)?))),
            (operators::CONDITIONAL, [when, then, otherwise]) => {
                Some(Self::Chosen(Box::new((Truth::of(when, names)?, part(then)?, part(otherwise)?))))
            }
            (name, [left, right]) => {
                let operation = match name {
                    operators::ADD => Operation::Add,
                    operators::SUBSTRACT => Operation::Subtract,
                    operators::MULTIPLY => Operation::Multiply,
                    operators::DIVIDE => Operation::Divide,
                    _ => return None,
                };
                Some(Self::Computed(operation, Box::new((part(left)?, part(right)?))))
            }
            _ => None,
        }
    }

    fn value(&self, scope: &Scope) -> Option<f64> {
        let value = match self {
            Self::Literal(number) => *number,
            Self::Name(at) => return scope.number(*at),
            Self::Negated(number) => -number.value(scope)?,
            Self::Computed(operation, parts) => {
                let (left, right) = (parts.0.value(scope)?, parts.1.value(scope)?);
                match operation {
                    Operation::Add => left + right,
                    Operation::Subtract => left - right,
                    Operation::Multiply => left * right,
                    Operation::Divide => left / right,
                }
            }
            Self::Chosen(parts) => {
                let (when, then, otherwise) = &**parts;
                if when.value(scope)? { then.value(scope)? } else { otherwise.value(scope)? }
            }
        };
        value.is_finite().then_some(value)
    }
}

impl Truth {
    fn of(node: &Node, names: &[&str]) -> Option<Self> {
        if let Expr::Literal(LiteralValue::Boolean(truth)) = &node.expr {
            return Some(Self::Literal(*truth.inner()));
        }
        let part = |node| Self::of(node, names);
        match operands(node)? {
            (operators::LOGICAL_NOT, [one]) => Some(Self::Not(Box::new(part(one)?))),
            (operators::LOGICAL_AND, [left, right]) => {
                Some(Self::Both(Box::new((part(left)?, part(right)?))))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                Some(Self::Either(Box::new((part(left)?, part(right)?))))
            }
            (operators::CONDITIONAL, [when, then, otherwise]) => {
                Some(Self::Chosen(Box::new((part(when)?, part(then)?, part(otherwise)?))))
            }
            (name, [left, right]) => {
                let comparison = match name {
                    operators::LESS => Comparison::Less,
                    operators::LESS_EQUALS => Comparison::LessOrEqual,
                    operators::GREATER => Comparison::Greater,
                    operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
                    operators::EQUALS => Comparison::Equal,
                    operators::NOT_EQUALS => Comparison::NotEqual,
                    _ => return None,
                };
                let sides = (Number::of(left, names)?, Number::of(right, names)?);
                Some(Self::Compared(comparison, Box::new(sides)))
            }
            _ => None,
        }
    }

    #[expect(clippy::float_cmp, reason = "an expression that asks whether numbers are equal means just that")]
    fn value(&self, scope: &Scope) -> Option<bool> {
        Some(match self {
            Self::Literal(truth) => *truth,
            Self::Compared(comparison, sides) => {
                let (left, right) = (sides.0.value(scope)?, sides.1.value(scope)?);
                match comparison {
                    Comparison::Less => left < right,
                    Comparison::LessOrEqual => left <= right,
                    Comparison::Greater => left > right,
                    Comparison::GreaterOrEqual => left >= right,
                    Comparison::Equal => left == right,
                    Comparison::NotEqual => left != right,
                }
            }
            Self::Not(truth) => !truth.value(scope)?,
            Self::Both(parts) => parts.0.value(scope)? && parts.1.value(scope)?,
            Self::Either(parts) => parts.0.value(scope)? || parts.1.value(scope)?,
            Self::Chosen(parts) => {
                let (when, then, otherwise) = &**parts;
                if when.value(scope)? { then.value(scope)? } else { otherwise.value(scope)? }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Expression, plain};
    use super::*;

    const NAMES: [&str; 2] = ["value", "other"];

    fn expression(text: &str) -> Expression {
        Expression::parse(text, &NAMES).unwrap()
    }

    #[test]
    fn expressions_of_numbers_and_truth_values_are_plain_and_no_others() {
        for text in [
            "value * 1.8 + 32",
            "-(value - 5) / 9",
            "value > 80",
            "value >= 10 && !(other < 3 || value == other)",
            "value != 0 ? other / value : 0",
            "true ? value > 1 : false",
        ] {
            assert!(expression(text).plain.is_some(), "{text}");
        }
        for text in [
            "value == 'on'",
            "math.abs(value) > 1",
            "value in [1, 2]",
            "int(value) % 2 == 1",
            "value && true",
        ] {
            assert!(expression(text).plain.is_none(), "{text}");
        }
    }

    fn numbers() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec!["value", "other", "0", "1", "2.5", "1e308", "-3", "0.1"]);
        leaf.prop_map(str::to_owned).prop_recursive(3, 16, 3, |inner| {
            let operator = prop::sample::select(vec!["+", "-", "*", "/"]);
            let compare = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
            prop_oneof![
                (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
                inner.clone().prop_map(|a| format!("-({a})")),
                (inner.clone(), compare, inner.clone(), inner)
                    .prop_map(|(a, c, b, d)| format!("({a} {c} {b} ? {a} : {d})")),
            ]
        })
    }

    fn truths() -> impl Strategy<Value = String> {
        let compare = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
        let leaf = prop_oneof![
            3 => (numbers(), compare, numbers()).prop_map(|(a, c, b)| format!("({a} {c} {b})")),
            1 => prop::sample::select(vec!["true", "false"]).prop_map(str::to_owned),
        ];
        leaf.prop_recursive(2, 6, 3, |inner| {
            let joined = prop::sample::select(vec!["&&", "||"]);
            prop_oneof![
                (inner.clone(), joined, inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
                inner.clone().prop_map(|a| format!("!{a}")),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            ]
        })
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => any::<f64>().prop_map(Value::Float),
            4 => (-100..100_i64).prop_map(Value::Int),
            1 => Just(Value::Int(i64::MAX)),
            1 => Just(Value::Null),
            1 => any::<bool>().prop_map(Value::Bool),
            1 => Just(Value::Text("x".into())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_without_cel_is_what_cel_says(
            text in prop_oneof![numbers(), truths()], value in values(), other in values(),
        ) {
            // Some are too deep or too long to be taken.
            if let Ok(expression) = Expression::parse(&text, &NAMES) {
                prop_assert!(expression.plain.is_some(), "{}", text);
                let mut scope = expression.scope();
                scope.set(0, &value);
                scope.set(1, &other);
                let by_cel = expression.with(&scope, plain).and_then(|value| value);
                // Bits, so that zeros are told apart.
                let bits = |value: &Result<Value, &'static str>| match value {
                    Ok(Value::Float(number)) => Ok(Value::Int(number.to_bits().cast_signed())),
                    value => value.clone(),
                };
                prop_assert_eq!(bits(&expression.value(&scope)), bits(&by_cel), "{}", text);
                if let Ok(Value::Bool(truth)) = by_cel {
                    prop_assert_eq!(expression.truth(&scope), Ok(truth), "{}", text);
                }
            }
        }
    }
}
