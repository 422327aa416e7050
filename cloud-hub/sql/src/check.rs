//! What a statement may say. All that is not on a list here is refused, with what is allowed instead.
//!
//! Names are those of tables, or of the statement's own WITH; what Polars could open besides, a file or another
//! source, has no way to be named. Everything runs in a thread with room for a tree as deep as the text could make it.

mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    Cte, Expr, Function, FunctionArguments, ObjectName, Query, Select, SetExpr, Statement as Ast, TableAlias,
    TableFactor, Visit as _, Visitor,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserOptions};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use crate::bounds::{Use, Uses, base};
use crate::functions;
use crate::table::{FIGURES, Table};

/// Longest text of a statement.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Most words, numbers and signs: chains of operators make a tree as deep as they are long.
const TOKENS_MAX: usize = 4_000;
/// Deepest parentheses and CASEs. The parser tries some of them in several ways, so that each level may cost four
/// times as much as the one within.
const NESTING_MAX: usize = 10;
/// Deepest expression.
const DEPTH_MAX: usize = 200;
/// For the deepest tree that the tokens can make.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// A statement that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What runs: the text, with the time in the place of `now()`.
    pub text: String,
    /// What it needs of each table that it names.
    pub uses: BTreeMap<Table, Use>,
    /// Which texts it may name, and which figures it does.
    pub texts: BTreeSet<&'static str>,
}

/// Why a statement may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// A stable code.
    pub code: &'static str,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl Refusal {
    fn not_allowed(detail: impl Into<String>) -> Self {
        Self { code: "sql-not-allowed", detail: detail.into() }
    }

    fn too_long(detail: String) -> Self {
        Self { code: "sql-too-long", detail }
    }

    fn syntax(error: impl std::fmt::Display) -> Self {
        Self { code: "sql-syntax", detail: error.to_string() }
    }
}

/// Takes a statement apart and says whether it may run, and what it needs. `now_ns` is what `now()` stands for.
///
/// # Errors
/// It may not, or cannot be read.
pub fn check(text: &str, now_ns: i64) -> Result<Statement, Refusal> {
    if text.len() > TEXT_BYTES_MAX {
        let detail = format!("the statement has {} bytes; allowed are {TEXT_BYTES_MAX}", text.len());
        return Err(Refusal::too_long(detail));
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql-check".to_owned()).stack_size(STACK_BYTES);
        let checked =
            thread.spawn_scoped(scope, || checked(text, now_ns)).map(std::thread::ScopedJoinHandle::join);
        match checked {
            Ok(Ok(checked)) => checked,
            _ => Err(Refusal::syntax("the statement cannot be taken apart")),
        }
    })
}

fn checked(text: &str, now_ns: i64) -> Result<Statement, Refusal> {
    let tokens = Tokenizer::new(&GenericDialect, text).tokenize_with_location().map_err(Refusal::syntax)?;
    bounded(&tokens)?;
    let mut text = times::with_time(text, &tokens, now_ns);
    // As Polars does it, so that both see the same statement.
    let options = ParserOptions { trailing_commas: true, ..ParserOptions::default() };
    let parse = |text: &str| {
        let parser = Parser::new(&GenericDialect).with_options(options.clone());
        parser.try_with_sql(text).and_then(|mut parser| parser.parse_statements()).map_err(Refusal::syntax)
    };
    let mut statements = parse(&text)?;
    if let [Ast::Query(query)] = statements.as_slice()
        && let Some(read) = times::with_instants(&text, query)
    {
        statements = parse(&read)?;
        text = read;
    }
    let query = match statements.as_slice() {
        [Ast::Query(query)] => query,
        [] => return Err(Refusal::syntax("there is no statement; send one SELECT")),
        [_] => {
            return Err(Refusal::not_allowed(
                "only SELECT is allowed, also with WITH, UNION, INTERSECT and EXCEPT",
            ));
        }
        more => {
            let detail = format!("there are {} statements; one is allowed", more.len());
            return Err(Refusal::not_allowed(detail));
        }
    };
    let mut names = Names::default();
    let _whole = query.visit(&mut names);
    let mut judge = Judge { ctes: names.0, depth: 0, uses: Uses::default() };
    if let ControlFlow::Break(refusal) = query.visit(&mut judge) {
        return Err(*refusal);
    }
    let uses = judge.uses.finish(query);
    Ok(Statement { uses, texts: texts(&tokens), text })
}

/// Bounds what comes next by what is cheap to count.
fn bounded(tokens: &[TokenWithSpan]) -> Result<(), Refusal> {
    let count = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if count > TOKENS_MAX {
        let detail = format!("the statement has {count} words and signs; allowed are {TOKENS_MAX}");
        return Err(Refusal::too_long(detail));
    }
    // What is open, and whether it is a CASE: an END closes nothing else.
    let (mut open, mut before) = (Vec::new(), &Token::EOF);
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => open.push(false),
            Token::RParen | Token::RBracket | Token::RBrace => {
                let last = open.iter().rposition(|is_case| !is_case);
                open.truncate(last.unwrap_or(open.len()));
            }
            Token::Word(word) if is(word, &["case"]) => open.push(true),
            Token::Word(word) if is(word, &["end"]) && ends(before) && open.last() == Some(&true) => {
                open.pop();
            }
            _ => {}
        }
        before = token;
        if open.len() > NESTING_MAX {
            let detail = format!("parentheses and CASEs are more than {NESTING_MAX} deep");
            return Err(Refusal::too_long(detail));
        }
    }
    Ok(())
}

fn is(word: &Word, names: &[&str]) -> bool {
    word.quote_style.is_none() && names.iter().any(|name| word.value.eq_ignore_ascii_case(name))
}

/// Whether an expression may end with this; an END elsewhere is a name, and ends nothing.
fn ends(token: &Token) -> bool {
    match token {
        Token::Word(word) => !is(
            word,
            &["as", "case", "when", "then", "else", "and", "or", "not", "between", "in", "like", "is"],
        ),
        Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen | Token::RBracket => true,
        _ => false,
    }
}

/// Which columns of texts are needed: those whose name stands anywhere, and all where a star or the like may mean
/// them.
fn texts(tokens: &[TokenWithSpan]) -> BTreeSet<&'static str> {
    let all = ["device", "point", "unit", "text", "quality"];
    let counted = |at: usize| {
        let before =
            |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at)).map(|token| &token.token);
        matches!(before(1), Some(Token::LParen))
            && matches!(before(2), Some(Token::Word(word)) if word.value.eq_ignore_ascii_case("count"))
    };
    let any = tokens.iter().enumerate().any(|(at, token)| match &token.token {
        Token::Mul => !counted(at),
        Token::Word(word) => {
            word.value.eq_ignore_ascii_case("natural")
                || word.value.eq_ignore_ascii_case("as") && renames(tokens, at)
        }
        _ => false,
    });
    let named = |name| tokens.iter().any(|token| matches!(&token.token, Token::Word(w) if w.value == name));
    let figures = FIGURES.iter().map(|(name, _)| *name).filter(|name| named(*name));
    all.into_iter().filter(|name| any || named(name)).chain(figures).collect()
}

/// Whether columns may be renamed by their place here: `AS r(a, b)`.
fn renames(tokens: &[TokenWithSpan], at: usize) -> bool {
    let mut after =
        tokens.iter().skip(at + 1).map(|t| &t.token).filter(|t| !matches!(t, Token::Whitespace(_)));
    matches!((after.next(), after.next()), (Some(Token::Word(_)), Some(Token::LParen)))
}

/// The names that a statement gives by WITH.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(ctes.map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }
}

/// Goes through the tree and stops at the first thing that is not allowed.
struct Judge {
    ctes: BTreeSet<String>,
    depth: usize,
    uses: Uses,
}

type Verdict = ControlFlow<Box<Refusal>>;

fn refuse(detail: impl Into<String>) -> Verdict {
    ControlFlow::Break(Box::new(Refusal::not_allowed(detail)))
}

fn refuse_if(wrong: bool, what: &str) -> Verdict {
    if wrong { refuse(format!("{what} is not allowed")) } else { ControlFlow::Continue(()) }
}

/// The beginning of a text, for an error.
fn short(text: &dyn std::fmt::Display) -> String {
    text.to_string().chars().take(60).collect()
}

/// Polars keeps aliases and names in one place, where a table of that name would not be found any more.
fn alias_is_free(alias: &TableAlias, of: Option<Table>) -> Verdict {
    let name = &alias.name.value;
    let taken = Table::of(name).filter(|table| of != Some(*table));
    taken.map_or(ControlFlow::Continue(()), |_| {
        refuse(format!("{name} is the name of a table; something else cannot be called so"))
    })
}

impl Visitor for Judge {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &Query) -> Verdict {
        let Query {
            with,
            body,
            order_by: _,
            limit_clause: _,
            fetch: _,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        refuse_if(!locks.is_empty(), "FOR UPDATE")?;
        refuse_if(for_clause.is_some(), "FOR")?;
        refuse_if(settings.is_some(), "SETTINGS")?;
        refuse_if(format_clause.is_some(), "FORMAT")?;
        refuse_if(!pipe_operators.is_empty(), "|>")?;
        if let Some(with) = with {
            refuse_if(with.recursive, "WITH RECURSIVE")?;
            for Cte { alias, from, .. } in &with.cte_tables {
                alias_is_free(alias, None)?;
                refuse_if(from.is_some() || !alias.columns.is_empty(), "WITH name(columns)")?;
            }
        }
        let mut left = vec![body.as_ref()];
        while let Some(part) = left.pop() {
            match part {
                // What is in them is looked at when it is its turn.
                SetExpr::Select(_) | SetExpr::Query(_) => {}
                SetExpr::SetOperation { left: a, right: b, .. } => left.extend([a.as_ref(), b.as_ref()]),
                _ => return refuse("only SELECT is allowed, also with WITH, UNION, INTERSECT and EXCEPT"),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Verdict {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct: _,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection: _,
            exclude: _,
            into,
            from: _,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by: _,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        refuse_if(into.is_some(), "INTO")?;
        refuse_if(!lateral_views.is_empty(), "LATERAL VIEW")?;
        refuse_if(prewhere.is_some(), "PREWHERE")?;
        refuse_if(!connect_by.is_empty(), "CONNECT BY")?;
        refuse_if(!cluster_by.is_empty() || !distribute_by.is_empty() || !sort_by.is_empty(), "CLUSTER BY")?;
        refuse_if(top.is_some(), "TOP; LIMIT is: TOP")?;
        refuse_if(!optimizer_hints.is_empty() || select_modifiers.is_some(), "a hint")?;
        refuse_if(value_table_mode.is_some(), "SELECT AS")?;
        self.uses.select(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Verdict {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                if args.is_some() {
                    return refuse(format!(
                        "{} is a table function; allowed are the tables {}",
                        short(name),
                        tables()
                    ));
                }
                let plain = with_hints.is_empty()
                    && version.is_none()
                    && !with_ordinality
                    && partitions.is_empty()
                    && json_path.is_none()
                    && sample.is_none()
                    && index_hints.is_empty();
                refuse_if(!plain, "what stands behind the name of a table")?;
                let table = base(name);
                table.into_iter().for_each(|table| self.uses.name(table));
                alias.as_ref().map_or(ControlFlow::Continue(()), |alias| alias_is_free(alias, table))
            }
            TableFactor::Derived { lateral, sample, alias, .. } => {
                refuse_if(*lateral || sample.is_some(), "LATERAL or SAMPLE")?;
                alias.as_ref().map_or(ControlFlow::Continue(()), |alias| alias_is_free(alias, None))
            }
            TableFactor::NestedJoin { alias, .. } => {
                alias.as_ref().map_or(ControlFlow::Continue(()), |alias| alias_is_free(alias, None))
            }
            other => refuse(format!(
                "{} is not allowed in FROM; allowed are the tables {}, subqueries and joins",
                short(other),
                tables()
            )),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Verdict {
        let known = base(name).is_some()
            || matches!(name.0.as_slice(), [one] if one.as_ident().is_some_and(|name| self.ctes.contains(&name.value)));
        if known {
            ControlFlow::Continue(())
        } else {
            refuse(format!("there is no table {}; there are {}", short(name), tables()))
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Verdict {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let detail = format!("an expression is more than {DEPTH_MAX} deep; for many values there is IN");
            return ControlFlow::Break(Box::new(Refusal::too_long(detail)));
        }
        match expr {
            Expr::Function(function) => function_is_allowed(function),
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::RLike { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::Cast { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Case { .. }
            | Expr::Subquery(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => ControlFlow::Continue(()),
            Expr::Exists { .. } => refuse("EXISTS is not allowed; IN (SELECT …) is"),
            other => refuse(format!("{} is not allowed", short(other))),
        }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> Verdict {
        self.depth = self.depth.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _: &Ast) -> Verdict {
        refuse("a statement within a statement is not allowed")
    }
}

fn tables() -> String {
    Table::ALL.map(Table::name).join(", ")
}

fn function_is_allowed(function: &Function) -> Verdict {
    let Function { name, uses_odbc_syntax, parameters, args, .. } = function;
    let known = match name.0.as_slice() {
        [one] => one.as_ident().is_some_and(|name| functions::is_allowed(&name.value)),
        _ => false,
    };
    if !known {
        return refuse(format!("there is no function {}; there are {}, now", short(name), functions::list()));
    }
    refuse_if(*uses_odbc_syntax || *parameters != FunctionArguments::None, "this way to call a function")?;
    refuse_if(matches!(args, FunctionArguments::Subquery(_)), "a subquery as the argument of a function")
}

#[cfg(test)]
mod tests;
