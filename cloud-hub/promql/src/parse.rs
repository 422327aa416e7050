//! Tokens into a well-typed tree: precedence climbing, each rule one function.
//!
//! Written for what a hub may be sent: the depth of a tree is bounded while it is read, so that neither
//! the parser nor anything that walks the tree can run out of stack.

mod call;
mod selector;
mod vectors;

use crate::ast::{Binary, BinaryOp, Cardinality, Expr, Grouping, Selector, Subquery, Type};
use crate::duration;
use crate::error::Error;
use crate::lex::{Fault, Kind, Token, tokens};

/// Longest text of a query; a dashboard's are below a kilobyte.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Deepest nesting of a query: parentheses, calls and operands of operands.
const DEPTH_MAX: usize = 100;

/// Reads a query.
///
/// # Errors
/// The text is no PromQL, its types do not fit, or it is too long or too deeply nested.
pub fn parse(text: &str) -> Result<Expr, Error> {
    parsed(text, |parser| {
        let expr = parser.expr(0)?;
        parser.end()?;
        Ok(expr)
    })
}

/// Reads a series selector, as `match[]` takes it: matchers and nothing else.
///
/// # Errors
/// As [`parse`].
pub fn parse_selector(text: &str) -> Result<Selector, Error> {
    parsed(text, |parser| {
        let at = parser.at();
        let expr = parser.expr(0)?;
        parser.end()?;
        match expr {
            Expr::Selector(selector) if selector.shift == Default::default() => Ok(selector),
            _ => Err(Fault::new(at, "expected a series selector: a metric, or labels between braces")),
        }
    })
}

fn parsed<T>(text: &str, read: impl FnOnce(&mut Parser) -> Result<T, Fault>) -> Result<T, Error> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let what = format!("the query has {} bytes; allowed are {EXPRESSION_BYTES_MAX}", text.len());
        return Err(Error::TooMuch(what));
    }
    let whole = tokens(text).and_then(|tokens| read(&mut Parser { tokens, next: 0, depth: 0 }));
    whole.map_err(|fault| {
        let before = text.get(..fault.at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::Parse { line, column, what: fault.what }
    })
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

/// A tree with its height: a chain of operators grows to the left without any recursion of the parser.
struct Tall {
    expr: Expr,
    height: usize,
}

impl Parser {
    fn peek(&self) -> &Kind {
        self.tokens.get(self.next).map_or(&Kind::End, |token| &token.kind)
    }

    fn peek_after(&self) -> &Kind {
        self.tokens.get(self.next + 1).map_or(&Kind::End, |token| &token.kind)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |token| token.at)
    }

    fn advance(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.next += 1;
        kind
    }

    /// Takes the sign when it is next.
    fn takes(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Kind::Sign(s) if *s == sign);
        self.next += usize::from(is);
        is
    }

    /// Takes the word when it is next; words of the language are the same in capitals.
    fn takes_word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Kind::Word(w) if w.eq_ignore_ascii_case(word));
        self.next += usize::from(is);
        is
    }

    fn unexpected(&self, place: &str, expected: &str) -> Fault {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        let shown = token.map_or_else(String::new, Token::shown);
        Fault::new(self.at(), format!("unexpected {shown} in {place}, expected {expected}"))
    }

    fn expect(&mut self, sign: &str, place: &str) -> Result<(), Fault> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected(place, &format!("{sign:?}"))) }
    }

    fn end(&self) -> Result<(), Fault> {
        match self.peek() {
            Kind::End => Ok(()),
            _ => Err(self.unexpected("the query", "an operator or the end")),
        }
    }

    fn expr(&mut self, weakest: u8) -> Result<Expr, Fault> {
        Ok(self.tall(weakest)?.expr)
    }

    /// An expression whose operators bind at least as strongly as `weakest`.
    fn tall(&mut self, weakest: u8) -> Result<Tall, Fault> {
        self.depth += 1;
        let mut left = self.checked_height(self.depth)?.operand()?;
        while let Some((op, binds, right_first)) = self.operator() {
            if binds < weakest {
                break;
            }
            let at = self.at();
            self.next += 1;
            let modifiers = self.modifiers(op)?;
            let right = self.tall(if right_first { binds } else { binds + 1 })?;
            let height = left.height.max(right.height) + 1;
            self.checked_height(height)?;
            left = Tall { expr: binary(op, left.expr, right.expr, modifiers, at)?, height };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn checked_height(&mut self, height: usize) -> Result<&mut Self, Fault> {
        if height > DEPTH_MAX {
            let what = format!("the query is nested deeper than {DEPTH_MAX} levels");
            return Err(Fault::new(self.at(), what));
        }
        Ok(self)
    }

    /// The operator that is next, how strongly it binds, and whether its right end binds first.
    fn operator(&self) -> Option<(BinaryOp, u8, bool)> {
        let found = match self.peek() {
            Kind::Sign(sign) => match *sign {
                "^" => (BinaryOp::Pow, 6),
                "*" => (BinaryOp::Mul, 5),
                "/" => (BinaryOp::Div, 5),
                "%" => (BinaryOp::Mod, 5),
                "+" => (BinaryOp::Add, 4),
                "-" => (BinaryOp::Sub, 4),
                "==" => (BinaryOp::Equal, 3),
                "!=" => (BinaryOp::NotEqual, 3),
                ">" => (BinaryOp::Greater, 3),
                "<" => (BinaryOp::Less, 3),
                ">=" => (BinaryOp::GreaterEqual, 3),
                "<=" => (BinaryOp::LessEqual, 3),
                _ => return None,
            },
            Kind::Word(word) => match word.to_ascii_lowercase().as_str() {
                "atan2" => (BinaryOp::Atan2, 5),
                "and" => (BinaryOp::And, 2),
                "unless" => (BinaryOp::Unless, 2),
                "or" => (BinaryOp::Or, 1),
                _ => return None,
            },
            _ => return None,
        };
        Some((found.0, found.1, found.0 == BinaryOp::Pow))
    }

    /// A sign before an operand binds as `*` does: `-2 ^ 2` is -4.
    fn operand(&mut self) -> Result<Tall, Fault> {
        let at = self.at();
        let minus = self.takes("-");
        if !minus && !self.takes("+") {
            return self.postfix();
        }
        let inner = self.tall(6)?;
        let kind = inner.expr.kind();
        if !matches!(kind, Type::Scalar | Type::Vector) {
            let what = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                kind.name()
            );
            return Err(Fault::new(at, what));
        }
        let expr = match inner.expr {
            expr if !minus => expr,
            Expr::Number(n) => Expr::Number(-n),
            expr => Expr::Negate(Box::new(expr)),
        };
        Ok(Tall { expr, height: inner.height + 1 })
    }

    /// A primary with its ranges, offsets and times.
    fn postfix(&mut self) -> Result<Tall, Fault> {
        let mut tall = self.primary()?;
        loop {
            let at = self.at();
            if self.takes("[") {
                tall.expr = self.span(tall.expr, at)?;
                tall.height += 1;
                self.checked_height(tall.height)?;
            } else if self.takes_word("offset") {
                self.offset(&mut tall.expr, at)?;
            } else if self.takes("@") {
                self.at_time(&mut tall.expr, at)?;
            } else {
                return Ok(tall);
            }
        }
    }

    fn primary(&mut self) -> Result<Tall, Fault> {
        let leaf = |expr| Ok(Tall { expr, height: 1 });
        match self.peek().clone() {
            Kind::Number(n) => {
                self.next += 1;
                leaf(Expr::Number(n))
            }
            Kind::Duration(ns) => {
                self.next += 1;
                leaf(Expr::Number(duration::seconds(ns)))
            }
            Kind::Text(text) => {
                self.next += 1;
                leaf(Expr::Text(text))
            }
            Kind::Sign("(") => {
                self.next += 1;
                let inner = self.tall(0)?;
                self.expect(")", "paren expression")?;
                Ok(inner)
            }
            Kind::Sign("{") => leaf(self.selector(None)?),
            Kind::Word(word) => self.named(&word),
            _ => Err(self.unexpected("the query", "an expression")),
        }
    }

    fn span(&mut self, expr: Expr, at: usize) -> Result<Expr, Fault> {
        let range_ns = self.span_length("range")?;
        if !self.takes(":") {
            self.expect("]", "subquery or range")?;
            return selector::ranged(expr, range_ns, at);
        }
        let step_ns =
            if matches!(self.peek(), Kind::Sign("]")) { None } else { Some(self.span_length("subquery")?) };
        self.expect("]", "subquery selector")?;
        if expr.kind() != Type::Vector {
            let what =
                format!("subquery is only allowed on instant vector, got {} instead", expr.kind().name());
            return Err(Fault::new(at, what));
        }
        Ok(Expr::Subquery(Box::new(Subquery { expr, range_ns, step_ns, shift: Default::default() })))
    }

    /// A duration above zero.
    fn span_length(&mut self, place: &str) -> Result<i64, Fault> {
        let at = self.at();
        let ns = self.duration(place)?;
        if ns <= 0 {
            return Err(Fault::new(at, "duration must be greater than 0"));
        }
        Ok(ns)
    }

    fn duration(&mut self, place: &str) -> Result<i64, Fault> {
        let at = self.at();
        match *self.peek() {
            Kind::Duration(ns) => {
                self.next += 1;
                Ok(ns)
            }
            Kind::Number(seconds) => {
                self.next += 1;
                let ns = duration::from_seconds(seconds).filter(|ns| *ns <= duration::DURATION_NS_MAX);
                ns.ok_or_else(|| Fault::new(at, "duration out of range"))
            }
            _ => Err(self.unexpected(place, "a duration such as 5m")),
        }
    }
}

/// What may stand between a binary operator and its right operand.
struct Modifiers {
    returns_bool: bool,
    matching: Option<Grouping>,
    cardinality: Cardinality,
}

fn binary(op: BinaryOp, left: Expr, right: Expr, modifiers: Modifiers, at: usize) -> Result<Expr, Fault> {
    let Modifiers { returns_bool, matching, cardinality } = modifiers;
    for side in [&left, &right] {
        if !matches!(side.kind(), Type::Scalar | Type::Vector) {
            let what = "binary expression must contain only scalar and instant vector types";
            return Err(Fault::new(at, what));
        }
    }
    let scalars = [&left, &right].into_iter().filter(|side| side.kind() == Type::Scalar).count();
    let wrong = if scalars > 0 && op.is_set() {
        Some("set operator not allowed in binary scalar expression")
    } else if scalars > 0 && (matching.is_some() || cardinality != Cardinality::Plain) {
        Some("vector matching only allowed between instant vectors")
    } else if scalars == 2 && op.compares() && !returns_bool {
        Some("comparisons between scalars must use BOOL modifier")
    } else {
        None
    };
    if let Some(what) = wrong {
        return Err(Fault::new(at, what));
    }
    let kind = if scalars == 2 { Type::Scalar } else { Type::Vector };
    let matching = matching.unwrap_or(Grouping::Without(Vec::new()));
    Ok(Expr::Binary(Box::new(Binary { op, left, right, kind, returns_bool, matching, cardinality })))
}

#[cfg(test)]
mod tests;
