//! Expressions of the Common Expression Language (CEL), bounded in length, depth and work.
//!
//! There are no loops: the macros that make them (`all`, `exists`, `map`, `filter`) are not there, so what is evaluated
//! is each part of the expression once at most. Numbers are doubles throughout: `value * 2` is `value * 2.0`, although
//! CEL has no operators for an integer and a double; beside `%`, which is for integers, literals stay what they are.

mod kinds;
mod plain;

use std::sync::{Arc, OnceLock};

use cel::common::ast::{EntryExpr, Expr, LiteralValue, operators};
use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString, CelUInt, Kind};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::parser::{Expression as Node, PrattParser};
use cel::{Context, Env, ExecutionError};
use tideline_protocol::value::{Value, ValueKind};

use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX};
use crate::problem::hint;
use plain::Plain;

/// Functions besides the operators; what is after the dot of `math.abs` is called on the name `math`.
const FUNCTIONS: [&str; 9] =
    ["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool"];
/// Functions in the namespace `math`.
const MATH: [&str; 11] =
    ["abs", "ceil", "floor", "round", "trunc", "sqrt", "sign", "isNaN", "isInf", "isFinite", "bitAnd"];
const MATH_NAME: &str = "math";
/// Deepest recursion of the parser: parentheses count for it too.
const PARSER_DEPTH_MAX: u16 = 48;

/// A checked expression.
#[derive(Clone)]
pub(crate) struct Expression {
    root: Node,
    /// The same, where it is one of numbers and truth values alone.
    plain: Option<Plain>,
    names: Arc<[String]>,
    /// Which of the names it has.
    used: Arc<[bool]>,
}

/// What an expression's names stand for, in the order in which they were declared.
pub(crate) struct Scope {
    names: Arc<[String]>,
    slots: Vec<Slot>,
}

/// What a name stands for.
enum Slot {
    Number(CelDouble),
    Int(CelInt),
    Bool(CelBool),
    Text(Arc<str>),
    Null,
}

static NULL: CelNull = CelNull;

impl Scope {
    /// Says what a name stands for.
    pub fn set(&mut self, at: usize, value: &Value) {
        let slot = match value {
            Value::Null => Slot::Null,
            Value::Float(number) => Slot::Number(CelDouble::from(*number)),
            #[expect(clippy::cast_precision_loss, reason = "it is exact up to there")]
            Value::Int(integer) if integer.unsigned_abs() <= 1 << 53 => {
                Slot::Number(CelDouble::from(*integer as f64))
            }
            Value::Int(integer) => Slot::Int(CelInt::from(*integer)),
            Value::Bool(truth) => Slot::Bool(CelBool::from(*truth)),
            Value::Text(text) => Slot::Text(Arc::clone(text)),
        };
        self.put(at, slot);
    }

    /// The same for a plain number.
    pub fn set_number(&mut self, at: usize, number: f64) {
        self.put(at, Slot::Number(CelDouble::from(number)));
    }

    /// The finite number that a name stands for, if it is one.
    fn number(&self, at: usize) -> Option<f64> {
        match self.slots.get(at) {
            Some(Slot::Number(number)) => Some(*number.inner()).filter(|number| number.is_finite()),
            _ => None,
        }
    }

    fn put(&mut self, at: usize, value: Slot) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = value;
        }
    }
}

impl VariableResolver for Scope {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let at = self.names.iter().position(|known| known == name)?;
        Some(match self.slots.get(at)? {
            Slot::Number(number) => CowVal::Borrowed(number),
            Slot::Int(integer) => CowVal::Borrowed(integer),
            Slot::Bool(truth) => CowVal::Borrowed(truth),
            Slot::Text(text) => CowVal::owned(CelString::from(&**text)),
            Slot::Null => CowVal::Borrowed(&NULL),
        })
    }
}

/// The operators and functions, which all expressions share.
fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Env::default().with_optional_support(false).with_stdlib();
        // It fails only when it is added twice; without it `math` is unknown, as a test would show.
        let _ = env.add_extension(cel::extensions::math);
        Arc::new(env)
    })
}

impl Expression {
    /// Checks an expression of these names.
    ///
    /// # Errors
    /// Says what is wrong with it and what is allowed.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, String> {
        if text.len() > EXPRESSION_BYTES_MAX {
            let len = text.len();
            return Err(format!("the expression has {len} bytes; allowed are {EXPRESSION_BYTES_MAX}"));
        }
        let parser = PrattParser::new().max_recursion_depth(PARSER_DEPTH_MAX).error_reporting_limit(1);
        let mut root = parser.parse(text).map_err(|errors| {
            let first = errors.errors.first();
            let (what, (line, column)) =
                first.map_or(("it cannot be read", (1, 0)), |error| (error.msg.as_str(), error.pos));
            format!("the expression is no CEL: {what} (line {line}, column {column} of it)")
        })?;
        let mut nodes = 0;
        check(&root, names, 0, &mut nodes)?;
        make_doubles(&mut root, false);
        let used = names.iter().map(|name| has(&root, name)).collect();
        let plain = Plain::of(&root, names);
        Ok(Self { root, plain, names: names.iter().map(|name| (*name).to_owned()).collect(), used })
    }

    /// Whether it has this name, by its place among those that were declared. What others stand for need not be said.
    pub fn uses(&self, at: usize) -> bool {
        self.used.get(at).copied().unwrap_or(false)
    }

    /// What its names stand for is null until it is said.
    pub fn scope(&self) -> Scope {
        let slots = self.names.iter().map(|_| Slot::Null).collect();
        Scope { names: Arc::clone(&self.names), slots }
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// It has no value for these; the text is one of few, so that it can be counted by.
    pub fn value(&self, scope: &Scope) -> Result<Value, &'static str> {
        match self.plain.as_ref().and_then(|plain| plain.value(scope)) {
            Some(value) => Ok(value),
            None => self.with(scope, plain)?,
        }
    }

    /// Evaluates it as a condition.
    ///
    /// # Errors
    /// It has no value, or one that is neither true nor false.
    pub fn truth(&self, scope: &Scope) -> Result<bool, &'static str> {
        if let Some(Value::Bool(truth)) = self.plain.as_ref().and_then(|plain| plain.value(scope)) {
            return Ok(truth);
        }
        self.with(scope, |value| {
            value
                .downcast_ref::<CelBool>()
                .map(|truth| *truth.inner())
                .ok_or("the expression gives no truth value")
        })?
    }

    fn with<T>(&self, scope: &Scope, take: impl FnOnce(&dyn Val) -> T) -> Result<T, &'static str> {
        let mut context = Context::with_env(Arc::clone(environment()));
        context.set_variable_resolver(scope);
        let value = cel::Value::resolve_val(&self.root, &context).map_err(|error| reason(&error))?;
        Ok(take(value.as_ref()))
    }

    /// Tells an expression that fails for values of all types, or never gives what is wanted.
    ///
    /// # Errors
    /// With what it says of a number.
    pub fn try_out(&self, wants_truth: bool) -> Result<(), String> {
        let samples =
            [Value::Float(1.5), Value::Text("on".into()), Value::Bool(true), Value::Null, Value::Float(-3.0)];
        let mut first = None;
        for sample in &samples {
            let mut scope = self.scope();
            (0..self.names.len()).for_each(|at| scope.set(at, sample));
            let failed = if wants_truth {
                self.truth(&scope).err()
            } else {
                // That it divides by nothing here says nothing of elsewhere.
                self.value(&scope).err().filter(|failed| *failed != NO_NUMBER)
            };
            match failed {
                None => return Ok(()),
                Some(failed) => first = first.or(Some(failed)),
            }
        }
        let hint = match first {
            Some(NO_TYPE) if kinds::has_integers(&self.root) => {
                "; numbers are doubles, and % is for integers: int(value) % 2, int(value) / int(2), double(size(value)) / 2"
            }
            _ => "",
        };
        first.map_or(Ok(()), |failed| Err(format!("{failed}, whatever the type of its values{hint}")))
    }

    /// Tells an expression of a reading, or of inputs, that can never give a value of this type.
    ///
    /// # Errors
    /// With what it gives and the type that is for that.
    pub fn check_kind(&self, kind: ValueKind, of_reading: bool) -> Result<(), String> {
        kinds::check(&self.root, kind, of_reading)
    }
}

const NO_TYPE: &str = "the expression's types do not go together";
const NO_NUMBER: &str = "the expression divides by zero or overflows";

/// What went wrong, without the values.
fn reason(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..) => NO_NUMBER,
        ExecutionError::IndexOutOfBounds(_) | ExecutionError::NoSuchKey(_) => {
            "the expression asks for what is not there"
        }
        ExecutionError::FunctionError { .. } => "a function of the expression failed",
        _ => NO_TYPE,
    }
}

/// A value of CEL as one of ours.
fn plain(value: &dyn Val) -> Result<Value, &'static str> {
    if let Some(number) = value.downcast_ref::<CelDouble>() {
        return Ok(Value::Float(*number.inner()));
    }
    if let Some(truth) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*truth.inner()));
    }
    if let Some(integer) = value.downcast_ref::<CelInt>() {
        return Ok(Value::Int(*integer.inner()));
    }
    if let Some(integer) = value.downcast_ref::<CelUInt>() {
        return i64::try_from(*integer.inner()).map(Value::Int).map_err(|_| NO_NUMBER);
    }
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Ok(Value::Text(text.inner().into()));
    }
    match value.get_type().kind() {
        Kind::NullType => Ok(Value::Null),
        _ => Err("the expression gives a list or the like"),
    }
}

/// Whether all names and functions are known, and it is not too deep or too large.
fn check(node: &Node, names: &[&str], depth: usize, nodes: &mut usize) -> Result<(), String> {
    *nodes += 1;
    if depth > EXPRESSION_DEPTH_MAX {
        return Err(format!(
            "the expression is nested deeper than {EXPRESSION_DEPTH_MAX}; split it over stages"
        ));
    }
    if *nodes > EXPRESSION_NODES_MAX {
        return Err(format!(
            "the expression has more than {EXPRESSION_NODES_MAX} parts; split it over stages"
        ));
    }
    match &node.expr {
        Expr::Ident(name) if names.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) => {
            let near = hint(name, names.iter().copied());
            Err(format!("the expression names {name:?}; allowed are {}{near}", names.join(", ")))
        }
        Expr::Literal(_) => Ok(()),
        Expr::List(list) => list.elements.iter().try_for_each(|item| check(item, names, depth + 1, nodes)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => check(&entry.key, names, depth + 1, nodes)
                .and_then(|()| check(&entry.value, names, depth + 1, nodes)),
            EntryExpr::StructField(_) => {
                Err("the expression has a structure; allowed are numbers, truth values, texts and lists"
                    .into())
            }
        }),
        Expr::Call(call) => {
            let of_math = call
                .target
                .as_ref()
                .is_some_and(|on| matches!(&on.expr, Expr::Ident(name) if name == MATH_NAME));
            let name = call.func_name.as_str();
            let is_operator = !name.chars().all(|c| c.is_ascii_alphanumeric());
            let allowed: &[&str] = if of_math { &MATH } else { &FUNCTIONS };
            if !is_operator && !allowed.contains(&name) {
                let near = hint(name, allowed.iter().copied());
                let given = if of_math { format!("math.{name}") } else { name.to_owned() };
                let math = MATH.map(|name| format!("math.{name}")).join(", ");
                return Err(format!(
                    "the expression calls {given}(); allowed are {}, {math}{near}",
                    FUNCTIONS.join(", ")
                ));
            }
            let target = call.target.iter().filter(|_| !of_math).map(AsRef::as_ref);
            target.chain(&call.args).try_for_each(|part| check(part, names, depth + 1, nodes))
        }
        Expr::Select(_) | Expr::Struct(_) | Expr::Comprehension(_) | Expr::Unspecified => Err(
            "the expression has a field, a structure or a loop; allowed are names, operators and functions"
                .into(),
        ),
    }
}

/// Whether a name is anywhere in it.
fn has(node: &Node, name: &str) -> bool {
    match &node.expr {
        Expr::Ident(found) => found == name,
        Expr::List(list) => list.elements.iter().any(|item| has(item, name)),
        Expr::Map(map) => map.entries.iter().any(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => has(&entry.key, name) || has(&entry.value, name),
            EntryExpr::StructField(_) => true,
        }),
        Expr::Call(call) => {
            call.target.iter().map(AsRef::as_ref).chain(&call.args).any(|part| has(part, name))
        }
        // What was not let through has whatever it likes.
        Expr::Select(_) | Expr::Struct(_) | Expr::Comprehension(_) | Expr::Unspecified => true,
        Expr::Literal(_) => false,
    }
}

/// Makes doubles of integer literals, but beside `%` and as an index.
fn make_doubles(node: &mut Node, keep: bool) {
    match &mut node.expr {
        Expr::Literal(literal) if !keep => {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a literal of more digits is rounded as any double"
            )]
            let number = match literal {
                LiteralValue::Int(integer) => Some(*integer.inner() as f64),
                LiteralValue::UInt(integer) => Some(*integer.inner() as f64),
                _ => None,
            };
            if let Some(number) = number {
                *literal = LiteralValue::Double(CelDouble::from(number));
            }
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|item| make_doubles(item, keep)),
        Expr::Call(call) => {
            let whole = matches!(call.func_name.as_str(), operators::MODULO | operators::INDEX | "bitAnd");
            call.target.iter_mut().for_each(|on| make_doubles(on, whole));
            call.args.iter_mut().for_each(|part| make_doubles(part, whole));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eval(text: &str, value: &Value) -> Result<Value, &'static str> {
        let expression = Expression::parse(text, &["value"]).unwrap();
        let mut scope = expression.scope();
        scope.set(0, value);
        expression.value(&scope)
    }

    #[test]
    fn numbers_are_doubles_whether_written_with_a_point_or_not() {
        let three = Value::Float(3.0);
        assert_eq!(eval("value * 2 + 1", &three), Ok(Value::Float(7.0)));
        assert_eq!(eval("(value - 32) / 1.8", &Value::Float(50.0)), Ok(Value::Float(10.0)));
        assert_eq!(eval("value > 2 ? 1 : 0", &three), Ok(Value::Float(1.0)));
        assert_eq!(eval("int(value) % 2 == 1", &three), Ok(Value::Bool(true)));
        assert_eq!(eval("math.abs(value - 5)", &three), Ok(Value::Float(2.0)));
        assert_eq!(eval("value in [1, 3]", &three), Ok(Value::Bool(true)));
        assert_eq!(eval("value + 1", &Value::Int(2)), Ok(Value::Float(3.0)));
        assert_eq!(eval("value", &Value::Int(i64::MAX)), Ok(Value::Int(i64::MAX)));
    }

    #[test]
    fn values_of_other_types_are_compared_and_passed_on() {
        let text = Value::Text("fault".into());
        assert_eq!(eval("value == 'fault'", &text), Ok(Value::Bool(true)));
        assert_eq!(eval("value + '!'", &text), Ok(Value::Text("fault!".into())));
        assert_eq!(eval("value.startsWith('f') && size(value) == 5", &text), Ok(Value::Bool(true)));
        assert_eq!(eval("!value", &Value::Bool(true)), Ok(Value::Bool(false)));
        assert_eq!(eval("value == null", &Value::Null), Ok(Value::Bool(true)));
    }

    #[test]
    fn what_has_no_value_says_why_without_naming_values() {
        assert_eq!(eval("value + 1", &Value::Text("a".into())), Err(NO_TYPE));
        assert_eq!(eval("1 % int(value)", &Value::Float(0.0)), Err(NO_NUMBER));
        assert_eq!(eval("[value]", &Value::Null), Err("the expression gives a list or the like"));
        assert_eq!(eval("value > 1", &Value::Float(f64::NAN)), Err(NO_TYPE));
    }

    #[test]
    fn what_is_wrong_is_told_before_anything_runs() {
        let told = |text: &str| Expression::parse(text, &["value", "unit"]).err().unwrap();
        assert!(
            told("vlue + 1").contains("names \"vlue\"; allowed are value, unit; did you mean \"value\"?")
        );
        assert!(told("sizee(value)").contains("did you mean \"size\"?"));
        assert!(told("math.tan(value)").contains("calls math.tan(); allowed are"));
        assert!(told("value +").contains("is no CEL"));
        assert!(told("value.x").contains("a field"));
        assert!(told("[1, 2].map(x, x * 2)").contains("loop") || told("[1].all(x, x > 0)").contains("loop"));
        assert!(told(&"1 + ".repeat(400)).contains("bytes; allowed are"));
        assert!(told(&format!("1{}", " + 1".repeat(100))).contains("nested deeper"));
        assert!(told(&format!("{}1{}", "[".repeat(200), "]".repeat(200))).contains("is no CEL"));
        let wide = format!("[{}value]", "value, ".repeat(140));
        assert!(Expression::parse(&wide, &["value"]).is_ok());
        let wider = format!("[{}1]", "1,".repeat(250));
        assert!(told(&wider).contains("more than 200 parts"));
    }

    #[test]
    fn an_expression_that_never_fits_its_types_is_found_out() {
        let tried = |text: &str, truth| Expression::parse(text, &["value"]).unwrap().try_out(truth);
        assert!(tried("value * 2", false).is_ok() && tried("value == 'on'", true).is_ok());
        assert!(tried("value.contains('x')", true).is_ok());
        assert!(tried("value * 2", true).unwrap_err().contains("no truth value"));
        assert!(tried("'a' * 2", false).unwrap_err().contains("do not go together"));
    }

    #[test]
    fn a_type_that_can_never_be_is_found_out() {
        let told = |text: &str, kind| {
            let names = ["value", "quality", "time_ms", "device", "point", "unit"];
            let parsed = Expression::parse(text, &names).unwrap();
            parsed.try_out(false).unwrap();
            parsed.check_kind(kind, true)
        };
        for text in ["true", "value > 2", "!value", "value == 'on' || false", "value in [1]", "bool(value)"] {
            assert!(told(text, ValueKind::Float).unwrap_err().contains("type = \"bool\""), "{text}");
            assert_eq!(told(text, ValueKind::Bool), Ok(()), "{text}");
        }
        for text in ["'x'", "string(value)", "point", "unit + '!'", "value == 1 ? 'on' : 'off'"] {
            let error = told(text, ValueKind::Float).unwrap_err();
            assert!(error.contains("always gives a text, and the type is \"float\""), "{error}");
            assert_eq!(told(text, ValueKind::Text), Ok(()), "{text}");
        }
        for text in ["value * 2", "time_ms", "-value", "math.abs(value)", "size(string(value))"] {
            assert!(
                told(text, ValueKind::Bool).unwrap_err().contains("type = \"float\" or \"int\""),
                "{text}"
            );
            assert_eq!(told(text, ValueKind::Int), Ok(()), "{text}");
        }
        for text in ["value", "null", "value > 2 ? value : 'off'", "value > 2 ? 1 : 'off'", "value + value"] {
            for kind in [ValueKind::Float, ValueKind::Bool, ValueKind::Text] {
                assert_eq!(told(text, kind), Ok(()), "{text}");
            }
        }
        let input = Expression::parse("point", &["point"]).unwrap();
        assert_eq!(input.check_kind(ValueKind::Float, false), Ok(()), "an input of this name is of any type");
    }

    #[test]
    fn what_mixes_integers_and_doubles_is_told_how_it_is_written() {
        let tried = |text: &str| Expression::parse(text, &["value"]).unwrap().try_out(false);
        for text in ["value % 2", "int(value) / 2", "size('abc') * value"] {
            assert!(tried(text).unwrap_err().contains("int(value) % 2"), "{text}");
        }
        for text in ["int(value) % 2", "int(value) / int(2)", "double(size('abc')) / 2"] {
            assert_eq!(tried(text), Ok(()), "{text}");
        }
        assert!(!tried("'a' * 2").unwrap_err().contains("int("));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_it_panic(text in ".{0,100}", tokens in prop::collection::vec(
            prop::sample::select(vec![
                "value", "1", "2.5", "'a'", "(", ")", "[", "]", "+", "-", "*", "/", "%", "<", "==", "&&", "||", "!", "?",
                ":", ",", "math.abs(", "size(", "int(", "null", "true", "{", "}", ".", "in", "9223372036854775807", "u",
            ]),
            0..24,
        ), number in any::<f64>()) {
            for source in [text, tokens.join(" ")] {
                if let Ok(expression) = Expression::parse(&source, &["value"]) {
                    let mut scope = expression.scope();
                    for value in [Value::Float(number), Value::Null, Value::Text("x".into()), Value::Int(i64::MIN)] {
                        scope.set(0, &value);
                        let _ = expression.value(&scope);
                        let _ = expression.truth(&scope);
                    }
                    let _ = expression.try_out(true);
                }
            }
        }
    }
}
