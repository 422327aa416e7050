//! What the parser reads, refuses, and survives.

use proptest::prelude::*;

use super::*;
use crate::ast::{AggregateOp, At};
use crate::{NS_PER_S, parse};

fn told(text: &str) -> String {
    parse(text).map_or_else(|error| error.to_string(), |expr| format!("reads as {expr:?}"))
}

/// The tree as one would write it with all parentheses.
fn shape(expr: &Expr) -> String {
    match expr {
        Expr::Number(n) => n.to_string(),
        Expr::Selector(s) => s.matchers.first().map_or_else(String::new, |m| m.value.clone()),
        Expr::Negate(inner) => format!("-({})", shape(inner)),
        Expr::Binary(b) => format!("({} {:?} {})", shape(&b.left), b.op, shape(&b.right)),
        Expr::Call(call) => {
            format!("{}({})", call.function.name, call.args.iter().map(shape).collect::<Vec<_>>().join(","))
        }
        Expr::Range(range) => format!("range {}", range.range_ns / NS_PER_S),
        other => format!("{other:?}"),
    }
}

#[test]
fn operators_bind_as_in_prometheus() {
    let cases = [
        ("a + b * c", "(a Add (b Mul c))"),
        ("a - b - c", "((a Sub b) Sub c)"),
        ("a ^ b ^ c", "(a Pow (b Pow c))"),
        ("-a ^ 2", "-((a Pow 2))"),
        ("-a * b", "(-(a) Mul b)"),
        ("-2 ^ 2", "-((2 Pow 2))"),
        ("2 ^ -1", "(2 Pow -1)"),
        ("a or b and c", "(a Or (b And c))"),
        ("a unless b and c", "((a Unless b) And c)"),
        ("a == b + 1", "(a Equal (b Add 1))"),
        ("a > b == c", "((a Greater b) Equal c)"),
        ("a atan2 b + c", "((a Atan2 b) Add c)"),
        ("(a + b) * c", "((a Add b) Mul c)"),
        ("rate(a[5m]) / 2", "(rate(range 300) Div 2)"),
        ("+a", "a"),
        ("1m", "60"),
        ("a[300]", "range 300"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).map(|e| shape(&e)), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn a_selector_is_read_with_its_times() {
    let Ok(Expr::Range(range)) = parse("a{b!=\"c\",'d e'=~\"f\"}[5m] offset -1h @ end()") else {
        panic!("no range selector")
    };
    let names: Vec<&str> = range.selector.matchers.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["__name__", "b", "d e"]);
    assert_eq!(range.range_ns, 300 * NS_PER_S);
    assert_eq!(range.selector.shift.offset_ns, Some(-3600 * NS_PER_S));
    assert_eq!(range.selector.shift.at, Some(At::End));
    let Ok(Expr::Selector(quoted)) = parse("{\"the metric\", a=\"b\"} @ -1.5") else { panic!("no selector") };
    assert_eq!(quoted.matchers.first().map(|m| m.value.as_str()), Some("the metric"));
    assert_eq!(quoted.shift.at, Some(At::Time(-1_500_000_000)));
}

#[test]
fn words_of_the_language_can_be_metrics_and_labels() {
    for text in ["sum", "by", "on", "start", "end", "sum{by=\"on\"}", "sum(sum) by (sum, without)", "topk"] {
        assert!(parse(text).is_ok(), "{text}: {}", told(text));
    }
    let Ok(Expr::Aggregate(aggregate)) = parse("TOPK WITHOUT (a,) (3, b)") else { panic!("no aggregation") };
    assert_eq!(aggregate.op, AggregateOp::Topk);
    assert_eq!(aggregate.grouping, Grouping::Without(vec!["a".to_owned()]));
}

/// What is wrong, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    ("", "1:1: parse error: unexpected end of input in the query, expected an expression"),
    ("a b", "1:3: parse error: unexpected \"b\" in the query, expected an operator or the end"),
    (
        "sum(\n  a,\n  b)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2",
    ),
    ("a{b=c}", "1:5: parse error: unexpected \"c\" in label matching, expected a string"),
    ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    ("{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    ("a{__name__=\"b\"}", "1:3: parse error: metric name must not be set twice"),
    (
        "rate(a)",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    ),
    ("rate()", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 0"),
    ("round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3"),
    (
        "label_join(a, \"b\")",
        "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 2",
    ),
    ("rate(a[5m],)", "1:12: parse error: trailing commas not allowed in function call args"),
    ("nope(a)", "1:1: parse error: unknown function with name \"nope\""),
    (
        "histogram_quantile(0.9, a)",
        "1:1: parse error: function \"histogram_quantile\" is not supported: there are no histograms here",
    ),
    ("limitk(1, a)", "1:1: parse error: aggregation \"limitk\" is not supported: it is experimental"),
    ("1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
    ("1 and a", "1:3: parse error: set operator not allowed in binary scalar expression"),
    ("a + on(b) 1", "1:3: parse error: vector matching only allowed between instant vectors"),
    ("a + bool b", "1:5: parse error: bool modifier can only be used on comparison operators"),
    ("a and on(b) group_left c", "1:13: parse error: no grouping allowed for set operations"),
    (
        "a + on(b) group_left(b) c",
        "1:11: parse error: label \"b\" must not occur in ON and GROUP clause at once",
    ),
    ("a[5m] + 1", "1:7: parse error: binary expression must contain only scalar and instant vector types"),
    (
        "-a[5m]",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
    ),
    ("1[5m:]", "1:2: parse error: subquery is only allowed on instant vector, got scalar instead"),
    (
        "rate(a)[5m]",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    ),
    ("sum(a)[5m]", "1:7: parse error: ranges only allowed for vector selectors"),
    ("a offset 5m[5m]", "1:12: parse error: no offset modifiers allowed before range"),
    ("a[0s]", "1:3: parse error: duration must be greater than 0"),
    ("a offset 1m offset 1m", "1:13: parse error: offset may not be set multiple times"),
    (
        "1 offset 1m",
        "1:3: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    ),
    (
        "a @ foo",
        "1:5: parse error: unexpected \"foo\" in @, expected a timestamp in seconds, start() or end()",
    ),
    ("a{b=~\"(\"}", "1:3: parse error: invalid regular expression \"(\": error: unclosed group"),
    ("count_values(\"\", a)", "1:1: parse error: invalid label name \"\" in count_values"),
    ("a smoothed", "1:3: parse error: unexpected \"smoothed\" in the query, expected an operator or the end"),
];

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, expected) in WRONG {
        assert_eq!(told(text), *expected, "{text}");
    }
}

#[test]
fn numbers_that_no_time_holds_are_refused() {
    for text in [
        "a[1e300]",
        "a[-5]",
        "a[NaN]",
        "a[Inf]",
        "a offset 1e300",
        "a @ 1e300",
        "a @ Inf",
        "a[5m:1e300]",
        "a[200y]",
    ] {
        assert!(matches!(parse(text), Err(Error::Parse { .. })), "{text}: {}", told(text));
    }
}

#[test]
fn a_query_may_neither_be_long_nor_deep() {
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&nested(DEPTH_MAX - 1)).is_ok());
    for text in [
        nested(DEPTH_MAX),
        nested(8000),
        "-".repeat(8000) + "1",
        vec!["1"; 5000].join("+"),
        vec!["1"; 5000].join("^"),
        "sum(".repeat(3000),
        "a[1s:]".to_owned() + &"[1s:]".repeat(3000),
    ] {
        let error = parse(&text).map(|e| shape(&e)).unwrap_err().to_string();
        assert!(error.contains("nested deeper") || error.contains("subquery is only"), "{error}");
    }
    let long = " ".repeat(EXPRESSION_BYTES_MAX) + "1";
    assert!(matches!(parse(&long), Err(Error::TooMuch(_))));
}

#[test]
fn a_match_takes_a_selector_only() {
    for text in ["a", "{b=\"c\"}", "a{b=\"c\"}"] {
        assert!(parse_selector(text).is_ok(), "{text}");
    }
    for text in ["a[5m]", "1", "sum(a)", "a offset 5m", "a @ 1", "-a"] {
        assert!(parse_selector(text).is_err(), "{text}");
    }
}

proptest! {
    /// Whatever comes, the parser answers.
    #[test]
    fn no_text_ends_the_parser(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_order_of_tokens_ends_the_parser(words in proptest::collection::vec(
        prop::sample::select(vec![
            "a", "sum", "rate", "by", "without", "on", "ignoring", "group_left", "bool", "offset", "@", "start",
            "(", ")", "{", "}", "[", "]", ",", ":", "=", "=~", "!=", "+", "-", "*", "^", "==", "and", "or", "1",
            "5m", "1e300", "NaN", "\"b\"", "'.*'", "topk", "quantile_over_time", "label_replace", "vector", "time",
        ]),
        0..25,
    )) {
        let _ = parse(&words.join(" "));
    }
}
