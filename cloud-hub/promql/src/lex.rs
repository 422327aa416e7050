//! Text into tokens.

use crate::{duration, number, text};

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A name or a word of the language; with a colon it can only be a metric.
    Word(String),
    /// A number.
    Number(f64),
    /// A duration, ns.
    Duration(i64),
    /// Quoted text, without its quotes.
    Text(String),
    /// A sign.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A piece of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it begins, in bytes.
    pub at: usize,
}

impl Token {
    /// How an error names it.
    pub fn shown(&self) -> String {
        match &self.kind {
            Kind::Word(word) => format!("{word:?}"),
            Kind::Number(n) => format!("number {}", number::shown(*n)),
            Kind::Duration(ns) => format!("duration of {} s", duration::seconds(*ns)),
            Kind::Text(value) => format!("string {}", text::quoted(value)),
            Kind::Sign(sign) => format!("{sign:?}"),
            Kind::End => "end of input".to_owned(),
        }
    }
}

/// What is wrong in the text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, in bytes.
    pub at: usize,
    /// What.
    pub what: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

/// The longer first, so that `=~` is not read as `=`.
const SIGNS: [&str; 26] = [
    "==", "!=", "=~", "!~", ">=", "<=", "(", ")", "{", "}", "[", "]", ",", ":", "=", ">", "<", "+", "-", "*",
    "/", "%", "^", "@", "|", "!",
];

/// All tokens of a text, with [`Kind::End`] last.
pub fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if first == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (kind, length) = token(rest, first, at)?;
        out.push(Token { kind, at });
        at += length;
    }
    out.push(Token { kind: Kind::End, at: text.len() });
    Ok(out)
}

fn token(rest: &str, first: char, at: usize) -> Result<(Kind, usize), Fault> {
    if matches!(first, '"' | '\'' | '`') {
        return string(rest, first, at);
    }
    let second = rest.chars().nth(1);
    if first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
        return numeric(rest, at);
    }
    // A metric may begin with a colon; one alone parts the range of a subquery from its step.
    let colon_name = first == ':' && second.is_some_and(is_name_start);
    if is_name_start(first) || colon_name {
        let end = rest.find(|c: char| !(is_name_start(c) || c.is_ascii_digit() || c == ':'));
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
        // `[5m:step]` is no metric, and a name does not end in a colon there either.
        let kind = match number::parse(word) {
            Some(n) => Kind::Number(n),
            None => Kind::Word(word.to_owned()),
        };
        return Ok((kind, word.len()));
    }
    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
    match sign {
        Some(sign) if !matches!(*sign, "|" | "!") => Ok((Kind::Sign(sign), sign.len())),
        _ => Err(Fault::new(at, format!("unexpected character: {first:?}"))),
    }
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn string(rest: &str, quote: char, at: usize) -> Result<(Kind, usize), Fault> {
    let open = Fault::new(at, "unterminated quoted string");
    let mut escaped = false;
    for (length, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            let inner = rest.get(1..length).unwrap_or_default();
            let value = if quote == '`' {
                inner.to_owned()
            } else {
                text::unescaped(inner).map_err(|why| Fault::new(at, format!("invalid string: {why}")))?
            };
            return Ok((Kind::Text(value), length + 1));
        }
        if c == '\n' && quote != '`' {
            return Err(open);
        }
        escaped = c == '\\' && !escaped && quote != '`';
    }
    Err(open)
}

fn numeric(rest: &str, at: usize) -> Result<(Kind, usize), Fault> {
    let mut end = 0;
    let mut before = ' ';
    let hex = rest.starts_with("0x") || rest.starts_with("0X");
    for (place, c) in rest.char_indices() {
        let exponent_sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E') && !hex;
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign) {
            break;
        }
        before = c;
        end = place + c.len_utf8();
    }
    let word = rest.get(..end).unwrap_or(rest);
    if let Some(ns) = duration::parse(word) {
        return Ok((Kind::Duration(ns), end));
    }
    match number::parse(word) {
        Some(n) => Ok((Kind::Number(n), end)),
        None => Err(Fault::new(at, format!("bad number or duration syntax: {word:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).unwrap().into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn text_becomes_tokens() {
        let word = |w: &str| Kind::Word(w.to_owned());
        assert_eq!(
            kinds("a:b{c=~'d'}[1h30m:5s] # x\n>= 1e-3 - 0x10"),
            [
                word("a:b"),
                Kind::Sign("{"),
                word("c"),
                Kind::Sign("=~"),
                Kind::Text("d".into()),
                Kind::Sign("}"),
                Kind::Sign("["),
                Kind::Duration(5_400_000_000_000),
                Kind::Sign(":"),
                Kind::Duration(5_000_000_000),
                Kind::Sign("]"),
                Kind::Sign(">="),
                Kind::Number(0.001),
                Kind::Sign("-"),
                Kind::Number(16.0),
                Kind::End,
            ]
        );
        assert_eq!(kinds("Inf"), [Kind::Number(f64::INFINITY), Kind::End]);
        assert_eq!(kinds("`a\\n`"), [Kind::Text("a\\n".into()), Kind::End]);
        assert_eq!(kinds(r#""a\"b""#), [Kind::Text("a\"b".into()), Kind::End]);
    }

    #[test]
    fn what_is_no_token_is_told_with_its_place() {
        for (text, at) in
            [("a $", 2), ("'x", 0), ("1 | 2", 2), ("  5mm", 2), ("\"a\nb\"", 0), ("!", 0), ("1e", 0)]
        {
            assert_eq!(tokens(text).map_err(|f| f.at), Err(at), "{text}");
        }
    }
}
