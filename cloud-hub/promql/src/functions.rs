//! The functions: what each takes, yields and computes.
//!
//! Their meanings are those of <https://prometheus.io/docs/prometheus/latest/querying/functions/>.

mod math;
mod rates;
mod windows;

pub(crate) use math::{Kahan, Mean, quantile};

use crate::ast::Type;
use crate::civil::Civil;
use crate::source::{Of, Sample};

/// A function of the language.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments.
    pub args: &'static [Type],
    /// How many of the last arguments may be left out.
    pub optional: usize,
    /// Whether the last argument may come any number of times.
    pub(crate) repeats: bool,
    /// What it yields.
    pub returns: Type,
    pub(crate) run: Run,
}

impl Function {
    /// Most arguments; none when there is no bound.
    #[must_use]
    pub fn most_args(&self) -> Option<usize> {
        (!self.repeats).then_some(self.args.len())
    }

    /// What samples that stand for others are to say to it.
    pub(crate) fn of(&self) -> Of {
        match self.name {
            "min_over_time" => Of::Least,
            "max_over_time" => Of::Greatest,
            "sum_over_time" => Of::Sum,
            "count_over_time" => Of::Count,
            "avg_over_time" | "quantile_over_time" | "stddev_over_time" | "stdvar_over_time" => Of::Mean,
            // Who compares one with the next, as rates do, needs what was really read.
            _ => Of::Last,
        }
    }
}

/// The samples of a series in the span of a range selector, and when the question is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    /// By time; never empty.
    pub samples: &'a [Sample],
    /// The span is left-open: `after_ns < time ≤ to_ns`.
    pub after_ns: i64,
    pub to_ns: i64,
    /// The time of the evaluation, not moved by `offset` or `@`.
    pub now_ns: i64,
}

/// How a function computes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// Each value by itself.
    Each(fn(f64) -> f64),
    /// Each value as seconds since 1970, or the time of the evaluation.
    Date(fn(Civil) -> i64),
    /// The samples of each series in its span.
    Window(fn(Window) -> Option<f64>),
    /// The same, and the metric keeps its name.
    WindowNamed(fn(Window) -> Option<f64>),
    /// The samples of each series and a number.
    WindowWith(fn(Window, f64) -> Option<f64>),
    Absent,
    AbsentOverTime,
    Clamp,
    ClampMax,
    ClampMin,
    Count,
    LabelJoin,
    LabelReplace,
    Pi,
    Round,
    Scalar,
    Sort,
    SortDesc,
    Time,
    Timestamp,
    Vector,
}

const fn function(name: &'static str, args: &'static [Type], returns: Type, run: Run) -> Function {
    Function { name, args, optional: 0, repeats: false, returns, run }
}

const fn each(name: &'static str, run: fn(f64) -> f64) -> Function {
    function(name, &[Type::Vector], Type::Vector, Run::Each(run))
}

const fn date(name: &'static str, run: fn(Civil) -> i64) -> Function {
    Function { optional: 1, ..function(name, &[Type::Vector], Type::Vector, Run::Date(run)) }
}

const fn window(name: &'static str, run: fn(Window) -> Option<f64>) -> Function {
    function(name, &[Type::Matrix], Type::Vector, Run::Window(run))
}

const fn special(name: &'static str, args: &'static [Type], run: Run) -> Function {
    function(name, args, Type::Vector, run)
}

static FUNCTIONS: [Function; 66] = {
    use Type::{Matrix, Scalar, Text, Vector};
    [
        each("abs", f64::abs),
        each("acos", f64::acos),
        each("acosh", f64::acosh),
        each("asin", f64::asin),
        each("asinh", f64::asinh),
        each("atan", f64::atan),
        each("atanh", f64::atanh),
        each("ceil", f64::ceil),
        each("cos", f64::cos),
        each("cosh", f64::cosh),
        each("deg", f64::to_degrees),
        each("exp", f64::exp),
        each("floor", f64::floor),
        each("ln", f64::ln),
        each("log10", f64::log10),
        each("log2", f64::log2),
        each("rad", f64::to_radians),
        each("sgn", math::sign),
        each("sin", f64::sin),
        each("sinh", f64::sinh),
        each("sqrt", f64::sqrt),
        each("tan", f64::tan),
        each("tanh", f64::tanh),
        date("day_of_month", |t| t.day),
        date("day_of_week", |t| t.weekday()),
        date("day_of_year", |t| t.day_of_year()),
        date("days_in_month", |t| t.days_in_month()),
        date("hour", |t| t.second / 3600),
        date("minute", |t| t.second % 3600 / 60),
        date("month", |t| t.month),
        date("year", |t| t.year),
        window("avg_over_time", windows::avg),
        window("changes", windows::changes),
        function("count_over_time", &[Matrix], Vector, Run::Count),
        window("delta", rates::delta),
        window("deriv", rates::deriv),
        window("idelta", rates::idelta),
        window("increase", rates::increase),
        window("irate", rates::irate),
        window("max_over_time", windows::max),
        window("min_over_time", windows::min),
        window("present_over_time", |_| Some(1.0)),
        window("rate", rates::rate),
        window("resets", windows::resets),
        window("stddev_over_time", windows::stddev),
        window("stdvar_over_time", windows::stdvar),
        window("sum_over_time", windows::sum),
        special("first_over_time", &[Matrix], Run::WindowNamed(windows::first)),
        special("last_over_time", &[Matrix], Run::WindowNamed(windows::last)),
        special("predict_linear", &[Matrix, Scalar], Run::WindowWith(rates::predict_linear)),
        special("quantile_over_time", &[Scalar, Matrix], Run::WindowWith(windows::quantile_of)),
        special("absent", &[Vector], Run::Absent),
        special("absent_over_time", &[Matrix], Run::AbsentOverTime),
        special("clamp", &[Vector, Scalar, Scalar], Run::Clamp),
        special("clamp_max", &[Vector, Scalar], Run::ClampMax),
        special("clamp_min", &[Vector, Scalar], Run::ClampMin),
        Function {
            optional: 1,
            repeats: true,
            ..special("label_join", &[Vector, Text, Text, Text], Run::LabelJoin)
        },
        special("label_replace", &[Vector, Text, Text, Text, Text], Run::LabelReplace),
        function("pi", &[], Scalar, Run::Pi),
        Function { optional: 1, ..special("round", &[Vector, Scalar], Run::Round) },
        function("scalar", &[Vector], Scalar, Run::Scalar),
        special("sort", &[Vector], Run::Sort),
        special("sort_desc", &[Vector], Run::SortDesc),
        function("time", &[], Scalar, Run::Time),
        special("timestamp", &[Vector], Run::Timestamp),
        special("vector", &[Scalar], Run::Vector),
    ]
};

/// Functions of Prometheus that are not here, and why.
const UNSUPPORTED: [(&[&str], &str); 2] = [
    (
        &[
            "histogram_avg",
            "histogram_count",
            "histogram_fraction",
            "histogram_quantile",
            "histogram_quantiles",
            "histogram_stddev",
            "histogram_stdvar",
            "histogram_sum",
        ],
        "there are no histograms here",
    ),
    (
        &[
            "double_exponential_smoothing",
            "end",
            "holt_winters",
            "info",
            "integral",
            "mad_over_time",
            "max_of",
            "min_of",
            "range",
            "sort_by_label",
            "sort_by_label_desc",
            "start",
            "start_timestamp",
            "step",
            "ts_of_first_over_time",
            "ts_of_last_over_time",
            "ts_of_max_over_time",
            "ts_of_min_over_time",
        ],
        "experimental functions are not supported",
    ),
];

/// The function of this name, or why there is none.
///
/// # Errors
/// There is none: because nobody knows it, or because it is not supported.
pub fn find(name: &str) -> Result<&'static Function, String> {
    if let Some(function) = FUNCTIONS.iter().find(|f| f.name == name) {
        return Ok(function);
    }
    match UNSUPPORTED.iter().find(|(names, _)| names.contains(&name)) {
        Some((_, why)) => Err(format!("function {name:?} is not supported: {why}")),
        None if matches!(name, "limitk" | "limit_ratio") => {
            Err(format!("aggregation {name:?} is not supported: it is experimental"))
        }
        None => Err(format!("unknown function with name {name:?}")),
    }
}

/// The names of all functions, by kind.
pub fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|f| f.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_for_one_function() {
        let mut all: Vec<&str> = names().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_is_missing_is_told_apart_from_what_nobody_knows() {
        assert_eq!(find("nope").unwrap_err(), "unknown function with name \"nope\"");
        let known = find("histogram_quantile").unwrap_err();
        assert_eq!(known, "function \"histogram_quantile\" is not supported: there are no histograms here");
    }
}
