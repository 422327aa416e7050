//! Conditions on labels.

use regex::{Regex, RegexBuilder};

use crate::labels::{Labels, NAME};

/// Most bytes that a compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// How a matcher compares.
#[derive(Debug, Clone)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex(Regex),
    /// `!~`
    NotRegex(Regex),
}

/// A condition on one label.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// How it is compared.
    pub op: MatchOp,
    /// With what.
    pub value: String,
}

/// A regular expression that cannot be read, or is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {text:?}: {why}")]
pub struct BadRegex {
    text: String,
    why: String,
}

/// A regular expression that has to match a whole text; `.` matches every character, as in Prometheus 3.
pub(crate) fn anchored(text: &str) -> Result<Regex, BadRegex> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    // By itself first: `a)|(b` must not close the group that anchors it.
    build(text).and_then(|_| build(&format!("^(?s:{text})$"))).map_err(|error| {
        // The last line says what; those before it draw where.
        let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        BadRegex { text: text.to_owned(), why }
    })
}

impl Matcher {
    /// A label has this value.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into() }
    }

    /// Reads `=`, `!=`, `=~` or `!~`.
    ///
    /// # Errors
    /// The value is no regular expression where one is needed.
    pub fn new(name: impl Into<String>, op: &str, value: impl Into<String>) -> Result<Self, BadRegex> {
        let value = value.into();
        let op = match op {
            "=~" => MatchOp::Regex(anchored(&value)?),
            "!~" => MatchOp::NotRegex(anchored(&value)?),
            "!=" => MatchOp::NotEqual,
            _ => MatchOp::Equal,
        };
        Ok(Self { name: name.into(), op, value })
    }

    /// Whether a value fulfils it.
    #[must_use]
    pub fn fits(&self, value: &str) -> bool {
        match &self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex(regex) => regex.is_match(value),
            MatchOp::NotRegex(regex) => !regex.is_match(value),
        }
    }

    /// Whether a series fulfils all.
    #[must_use]
    pub fn all_fit(matchers: &[Self], labels: &Labels) -> bool {
        matchers.iter().all(|m| m.fits(labels.value(&m.name)))
    }

    /// The metric's name when the matchers name one.
    #[must_use]
    pub fn metric_of(matchers: &[Self]) -> Option<&str> {
        let named = matchers.iter().find(|m| m.name == NAME && matches!(m.op, MatchOp::Equal));
        named.map(|m| m.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_expression_has_to_match_the_whole_value() -> Result<(), BadRegex> {
        let matcher = Matcher::new("job", "=~", "a|b.")?;
        for (value, fits) in [("a", true), ("bx", true), ("b\n", true), ("ab", false), ("", false)] {
            assert_eq!(matcher.fits(value), fits, "{value:?}");
        }
        let not = Matcher::new("job", "!~", "a.*")?;
        assert!(not.fits("b") && not.fits("") && !not.fits("ax"));
        Ok(())
    }

    #[test]
    fn a_bad_or_huge_regular_expression_is_refused() {
        assert!(Matcher::new("job", "=~", "a(").is_err());
        assert!(Matcher::new("job", "=~", "(((a{50}){50}){50}){50}").is_err());
        // What only closes the group around it is no way out of it.
        assert!(Matcher::new("job", "=~", "a)|(b").is_err());
    }
}
