//! The tree of a query. What the parser gives is well typed: each place holds what it takes.

use crate::functions::Function;
use crate::matcher::Matcher;

/// What an expression yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A number.
    Scalar,
    /// Series with one value each.
    Vector,
    /// Series with the samples of a span.
    Matrix,
    /// Text.
    Text,
}

impl Type {
    /// As Prometheus names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Text => "string",
        }
    }
}

/// An expression.
#[derive(Debug, Clone)]
pub enum Expr {
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
    /// The newest samples of series.
    Selector(Selector),
    /// The samples of series in a span.
    Range(RangeSelector),
    /// An expression, evaluated again and again over a span.
    Subquery(Box<Subquery>),
    /// A function.
    Call(Call),
    /// An aggregation over series.
    Aggregate(Box<Aggregate>),
    /// Two operands.
    Binary(Box<Binary>),
    /// The other sign.
    Negate(Box<Expr>),
}

impl Expr {
    /// What it yields.
    #[must_use]
    pub fn kind(&self) -> Type {
        match self {
            Self::Number(_) => Type::Scalar,
            Self::Text(_) => Type::Text,
            Self::Selector(_) | Self::Aggregate(_) => Type::Vector,
            Self::Range(_) | Self::Subquery(_) => Type::Matrix,
            Self::Call(call) => call.function.returns,
            Self::Binary(binary) => binary.kind,
            Self::Negate(inner) => inner.kind(),
        }
    }
}

/// The time that `@` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The start of the query's range.
    Start,
    /// Its end.
    End,
    /// This time, ns since 1970.
    Time(i64),
}

/// How the time of a selector or a subquery is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift {
    /// How far back; negative is ahead.
    pub offset_ns: Option<i64>,
    /// The time that stands in for that of the evaluation.
    pub at: Option<At>,
}

/// Which series.
#[derive(Debug, Clone)]
pub struct Selector {
    /// All must fit; one names the metric where the text does.
    pub matchers: Vec<Matcher>,
    /// When.
    pub shift: Shift,
}

/// Which series, and how long back.
#[derive(Debug, Clone)]
pub struct RangeSelector {
    /// Which series.
    pub selector: Selector,
    /// How long back.
    pub range_ns: i64,
}

/// An expression over a span.
#[derive(Debug, Clone)]
pub struct Subquery {
    /// Yields an instant vector.
    pub expr: Expr,
    /// How long back.
    pub range_ns: i64,
    /// How far apart the evaluations are; the default when the text names none.
    pub step_ns: Option<i64>,
    /// When.
    pub shift: Shift,
}

/// A function with its arguments.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Of the types that the function takes.
    pub args: Vec<Expr>,
}

/// Which labels remain, or say which series belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// These: `by`, `on`.
    Only(Vec<String>),
    /// All but these: `without`, `ignoring`.
    Without(Vec<String>),
}

/// How series are aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateOp {
    /// The sum.
    Sum,
    /// The mean.
    Avg,
    /// How many.
    Count,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// 1.
    Group,
    /// The standard deviation of the population.
    Stddev,
    /// Its variance.
    Stdvar,
    /// The k largest, with their labels.
    Topk,
    /// The k smallest, with their labels.
    Bottomk,
    /// How many of each value.
    CountValues,
    /// The φ-quantile.
    Quantile,
}

/// An aggregation.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Of which kind.
    pub op: AggregateOp,
    /// Into which groups.
    pub grouping: Grouping,
    /// The k, the φ or the label, where the kind takes one.
    pub param: Option<Expr>,
    /// Of what.
    pub expr: Expr,
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `>=`
    GreaterEqual,
    /// `<=`
    LessEqual,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// Whether it compares.
    #[must_use]
    pub const fn compares(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Greater | Less | GreaterEqual | LessEqual)
    }

    /// Whether it works on sets of series.
    #[must_use]
    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// How many series of one side meet how many of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cardinality {
    /// One meets one; of set operators, many meet many.
    Plain,
    /// Many on the left meet one on the right, which lends these labels: `group_left`.
    ManyToOne(Vec<String>),
    /// One on the left, which lends these labels, meets many on the right: `group_right`.
    OneToMany(Vec<String>),
}

/// An operation on two operands.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left operand.
    pub left: Expr,
    /// The right operand.
    pub right: Expr,
    /// What it yields.
    pub kind: Type,
    /// A comparison yields 0 or 1 and lets all series through.
    pub returns_bool: bool,
    /// Which labels say that two series meet.
    pub matching: Grouping,
    /// How many meet how many.
    pub cardinality: Cardinality,
}
