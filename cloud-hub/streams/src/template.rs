//! Names of derived series: text in which `{…}` stands for something of the result.

use std::fmt::Write as _;

/// What a template may name.
pub const PLACEHOLDERS: [&str; 4] = ["device", "point", "aggregate", "job"];

/// A checked template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(&'static str),
}

impl Template {
    /// Takes a text apart.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a `{` without a `}`")?;
            let known = PLACEHOLDERS.iter().find(|known| **known == name);
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Name(known.ok_or_else(|| format!("the unknown {{{name}}}"))?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let bad = parts.iter().find_map(|part| match part {
            Part::Text(text) => text.chars().find(|c| !allowed(*c)),
            Part::Name(_) => None,
        });
        bad.map_or(Ok(Self(parts)), |c| Err(format!("the character {c:?}")))
    }

    /// Whether it names this.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Name(found) if *found == name))
    }

    /// The text with all names filled in.
    pub(crate) fn fill(&self, value: impl Fn(&str) -> String) -> String {
        self.0.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Text(plain) => text.push_str(plain),
                // Writing to a string cannot fail.
                Part::Name(name) => drop(write!(text, "{}", value(name))),
            }
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_what_is_wrong_is_told() {
        let template = Template::parse("{point}/{aggregate}-1m").unwrap();
        assert!(template.names("point") && !template.names("device"));
        assert_eq!(template.fill(|name| name.to_uppercase()), "POINT/AGGREGATE-1m");
        assert_eq!(Template::parse("x").unwrap().fill(|_| String::new()), "x");
        assert_eq!(Template::parse("{unit}").unwrap_err(), "the unknown {unit}");
        assert_eq!(Template::parse("a{point").unwrap_err(), "a `{` without a `}`");
        assert_eq!(Template::parse("a b").unwrap_err(), "the character ' '");
        assert_eq!(Template::parse("a}").unwrap_err(), "the character '}'");
    }
}
