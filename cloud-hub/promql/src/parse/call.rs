//! What begins with a name: an aggregation, a function, or a selector.

use super::{Parser, Tall};
use crate::ast::{Aggregate, AggregateOp, Call, Expr, Grouping, Type};
use crate::functions::{self, Function};
use crate::lex::{Fault, Kind};

/// The aggregations, and what type the parameter of each has.
const AGGREGATES: [(&str, AggregateOp, Option<Type>); 12] = [
    ("sum", AggregateOp::Sum, None),
    ("avg", AggregateOp::Avg, None),
    ("count", AggregateOp::Count, None),
    ("min", AggregateOp::Min, None),
    ("max", AggregateOp::Max, None),
    ("group", AggregateOp::Group, None),
    ("stddev", AggregateOp::Stddev, None),
    ("stdvar", AggregateOp::Stdvar, None),
    ("topk", AggregateOp::Topk, Some(Type::Scalar)),
    ("bottomk", AggregateOp::Bottomk, Some(Type::Scalar)),
    ("count_values", AggregateOp::CountValues, Some(Type::Text)),
    ("quantile", AggregateOp::Quantile, Some(Type::Scalar)),
];
/// Words that begin no operand.
const RESERVED: [&str; 7] = ["and", "or", "unless", "atan2", "bool", "offset", "ignoring"];

impl Parser {
    pub(super) fn named(&mut self, word: &str) -> Result<Tall, Fault> {
        let at = self.at();
        let lower = word.to_ascii_lowercase();
        let opens = matches!(self.peek_after(), Kind::Sign("("));
        let groups = matches!(self.peek_after(), Kind::Word(w)
            if w.eq_ignore_ascii_case("by") || w.eq_ignore_ascii_case("without"));
        let aggregate = AGGREGATES.iter().find(|(name, ..)| *name == lower);
        if let Some((_, op, param)) = aggregate.filter(|_| opens || groups) {
            self.next += 1;
            return self.aggregate(&lower, *op, *param, at);
        }
        if opens {
            self.next += 1;
            let function = functions::find(word).map_err(|what| Fault::new(at, what))?;
            return self.call(function, at);
        }
        if RESERVED.contains(&lower.as_str()) {
            return Err(self.unexpected("the query", "an expression"));
        }
        self.next += 1;
        Ok(Tall { expr: self.selector(Some(word.to_owned()))?, height: 1 })
    }

    /// `(a, b)`, with the height of the highest.
    fn arguments(&mut self, place: &str) -> Result<(Vec<(Expr, usize)>, usize), Fault> {
        self.expect("(", place)?;
        let (mut out, mut height) = (Vec::new(), 1);
        if self.takes(")") {
            return Ok((out, height));
        }
        loop {
            let at = self.at();
            let tall = self.tall(0)?;
            height = height.max(tall.height + 1);
            out.push((tall.expr, at));
            if !self.takes(",") {
                self.expect(")", place)?;
                return Ok((out, height));
            }
            if matches!(self.peek(), Kind::Sign(")")) {
                return Err(Fault::new(self.at(), "trailing commas not allowed in function call args"));
            }
        }
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, Fault> {
        if self.takes_word("by") {
            return Ok(Some(Grouping::Only(self.labels()?)));
        }
        if self.takes_word("without") {
            return Ok(Some(Grouping::Without(self.labels()?)));
        }
        Ok(None)
    }

    fn aggregate(
        &mut self,
        name: &str,
        op: AggregateOp,
        param: Option<Type>,
        at: usize,
    ) -> Result<Tall, Fault> {
        let before = self.grouping()?;
        let (args, height) = self.arguments("aggregation")?;
        let grouping = match before {
            None => self.grouping()?,
            before => before,
        };
        let wanted = 1 + usize::from(param.is_some());
        if args.len() != wanted {
            let what = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(Fault::new(at, what));
        }
        let mut args = args.into_iter();
        let mut next = |kind: Type, place: &str| {
            let (expr, at) = args.next().ok_or_else(|| Fault::new(at, "no arguments"))?;
            expect_type(&expr, kind, place, at)?;
            Ok(expr)
        };
        let param = param.map(|kind| next(kind, "aggregation parameter")).transpose()?;
        let expr = next(Type::Vector, "aggregation expression")?;
        if let (AggregateOp::CountValues, Some(Expr::Text(label))) = (op, &param)
            && label.is_empty()
        {
            return Err(Fault::new(at, format!("invalid label name {label:?} in {name}")));
        }
        let grouping = grouping.unwrap_or(Grouping::Only(Vec::new()));
        Ok(Tall { expr: Expr::Aggregate(Box::new(Aggregate { op, grouping, param, expr })), height })
    }

    fn call(&mut self, function: &'static Function, at: usize) -> Result<Tall, Fault> {
        let (args, height) = self.arguments("function call")?;
        let name = function.name;
        let count = args.len();
        let (least, most) = (function.args.len() - function.optional, function.most_args());
        if count < least || most.is_some_and(|most| count > most) {
            let bound = match most {
                Some(most) if most == least => format!("{least}"),
                _ if count < least => format!("at least {least}"),
                most => format!("at most {}", most.unwrap_or(least)),
            };
            let what = format!("expected {bound} argument(s) in call to {name:?}, got {count}");
            return Err(Fault::new(at, what));
        }
        let kinds = function.args.iter().chain(function.args.last().into_iter().cycle());
        for ((expr, at), kind) in args.iter().zip(kinds) {
            expect_type(expr, *kind, &format!("call to function {name:?}"), *at)?;
        }
        let args = args.into_iter().map(|(expr, _)| expr).collect();
        Ok(Tall { expr: Expr::Call(Call { function, args }), height })
    }
}

fn expect_type(expr: &Expr, wanted: Type, place: &str, at: usize) -> Result<(), Fault> {
    let kind = expr.kind();
    if kind == wanted {
        return Ok(());
    }
    Err(Fault::new(at, format!("expected type {} in {place}, got {}", wanted.name(), kind.name())))
}
