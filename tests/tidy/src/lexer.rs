//! Just enough of Rust's lexical grammar to find code without being fooled by comments and text.
//!
//! It is no parser: a macro may build anything. The rules need function bodies, test modules and
//! paths, and those it finds in all code that rustfmt has formatted.

use std::ops::RangeInclusive;

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// From the line of `fn` to the line of the closing brace, counted from 1.
    pub lines: RangeInclusive<usize>,
}

/// Blanks comments, strings and character literals with spaces. Byte offsets and lines stay.
#[must_use]
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let blank = comment_len(rest).or_else(|| literal_len(rest, previous));
        let (token, tail) = rest.split_at(blank.unwrap_or(first.len_utf8()));
        if blank.is_some() {
            token.chars().for_each(|c| match c {
                '\n' => masked.push('\n'),
                other => (0..other.len_utf8()).for_each(|_| masked.push(' ')),
            });
            previous = ' ';
        } else {
            masked.push(first);
            previous = first;
        }
        rest = tail;
    }
    masked
}

/// The line of a byte offset, counted from 1.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// All functions with a body, in order; takes masked code.
#[must_use]
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let rest = tail(code, at + 2);
        let named = rest.trim_start();
        let name: String = named.chars().take_while(|c| is_word(*c)).collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = block_end(rest) {
            found.push(Function { name, lines: line_at(code, at)..=line_at(code, at + 2 + end) });
        }
    }
    found
}

/// The lines of all `#[cfg(test)] mod name { … }`, attribute included; takes masked code.
#[must_use]
pub fn test_modules(code: &str) -> Vec<RangeInclusive<usize>> {
    let starts = code.match_indices("#[cfg(test)]").chain(code.match_indices("#[cfg(all(test"));
    let mut found = Vec::new();
    for (at, _) in starts {
        let item = without_attributes(tail(code, at));
        let opened = item.strip_prefix("pub ").unwrap_or(item);
        if !opened.starts_with("mod ") {
            continue;
        }
        if let Some(end) = block_end(item) {
            let closed = code.len() - item.len() + end;
            found.push(line_at(code, at)..=line_at(code, closed));
        }
    }
    found
}

/// Byte offsets at which `word` stands with no letter, digit or `_` on either side.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code.get(..*at).and_then(|head| head.chars().next_back());
        let after = tail(code, at + word.len()).chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The whole path (`a::b::c`) that ends with the text at `at..at + len`.
#[must_use]
pub fn path_ending(code: &str, at: usize, len: usize) -> &str {
    let head = code.get(..at).unwrap_or_default();
    let start = head.trim_end_matches(|c: char| is_word(c) || c == ':').len();
    code.get(start..at + len).unwrap_or_default()
}

/// The `use` statements, each as its offset and its text.
pub fn uses(code: &str) -> impl Iterator<Item = (usize, &str)> {
    words(code, "use").map(|at| (at, tail(code, at).split(';').next().unwrap_or_default()))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tail(code: &str, at: usize) -> &str {
    code.get(at..).unwrap_or_default()
}

fn without_attributes(code: &str) -> &str {
    let mut rest = code.trim_start();
    while rest.starts_with("#[") {
        let mut depth = 0_usize;
        let closing = rest.char_indices().find(|(_, c)| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                _ => return false,
            }
            depth == 0
        });
        let Some((end, _)) = closing else { return "" };
        rest = tail(rest, end + 1).trim_start();
    }
    rest
}

/// The offset of the brace that closes the item's block; `None` when a `;` ends the item first.
fn block_end(code: &str) -> Option<usize> {
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn comment_len(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    // Block comments nest.
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = tail(rest, at);
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

fn literal_len(rest: &str, previous: char) -> Option<usize> {
    if rest.starts_with('\'') {
        return char_len(rest);
    }
    // The `b` of `grab"` is no prefix.
    if is_word(previous) && !rest.starts_with('"') {
        return None;
    }
    let unprefixed = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.chars().take_while(|c| *c == '#').count();
        let opened = tail(raw, hashes).strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let len = opened.find(&close).map_or(opened.len(), |at| at + close.len());
        return Some(rest.len() - opened.len() + len);
    }
    let opened = unprefixed.strip_prefix('"')?;
    Some(rest.len() - opened.len() + quoted_len(opened, '"'))
}

/// `None` for a lifetime or a label.
fn char_len(rest: &str) -> Option<usize> {
    let opened = tail(rest, 1);
    let first = opened.chars().next()?;
    if first == '\\' {
        return Some(1 + quoted_len(opened, '\''));
    }
    tail(opened, first.len_utf8()).starts_with('\'').then_some(1 + first.len_utf8() + 1)
}

/// Length up to and with the closing quote.
fn quoted_len(opened: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = opened.char_indices().find(|(_, c)| {
        let closes = !escaped && *c == quote;
        escaped = !escaped && *c == '\\';
        closes
    });
    end.map_or(opened.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_offsets_stay() {
        let text =
            "let a = \"fn x() { \\\" é\"; // fn y()\n/* a /* b */ fn z() */ let c = '{'; let d = b'\\'';\n";
        let masked = mask(text);
        assert_eq!(masked.len(), text.len());
        assert!(!masked.contains("fn") && !masked.contains('{'), "{masked}");
        assert!(masked.contains("let a =") && masked.contains("let c =") && masked.contains("let d ="));
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let masked = mask("let a = r##\"quote \"# fn inner\"##; let b = br\"\\\"; let r#type = 1;");
        assert!(!masked.contains("inner"));
        assert!(masked.contains("let b =") && masked.contains("let r#type = 1;"), "{masked}");
    }

    #[test]
    fn lifetimes_are_code() {
        let code = "fn a<'a>(x: &'a str) -> &'static str { 'outer: loop { break 'outer; } }";
        assert_eq!(mask(code), code);
    }

    #[test]
    fn functions_are_found_with_their_lines() {
        let code = "trait A { fn declared(&self) -> [u8; 4]; }\nfn one(f: fn(u8) -> u8) -> [u8; 4] {\n  if x {}\n}\n\nfn two() {}\n";
        let found = functions(&mask(code));
        let expected = [("one", 2..=4), ("two", 6..=6)];
        assert_eq!(found.len(), expected.len());
        for (function, (name, lines)) in found.iter().zip(expected) {
            assert_eq!((function.name.as_str(), function.lines.clone()), (name, lines));
        }
    }

    #[test]
    fn test_modules_include_attributes_between() {
        let code = "fn a() {}\n#[cfg(test)]\n#[allow(unused, reason = \"]\")]\nmod tests {\n  fn b() {}\n}\n#[cfg(test)]\nmod elsewhere;\n#[cfg(test)]\nfn helper() {}\n";
        assert_eq!(test_modules(&mask(code)), vec![2..=6]);
    }

    #[test]
    fn words_do_not_match_inside_words() {
        assert_eq!(words("fn fnord a_fn fn", "fn").collect::<Vec<_>>(), vec![0, 14]);
        assert_eq!(path_ending("x = std::time::Instant::now()", 15, 12), "std::time::Instant::now");
    }
}
