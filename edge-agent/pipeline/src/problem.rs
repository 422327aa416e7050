//! What is wrong with a definition: all of it at once, each with its line and what is allowed.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the file, from 1; 0 when the definition was not read from one.
    pub line: usize,
    /// What it is of, such as `pipeline boiler, stage sane, min`.
    pub place: String,
    /// What is wrong and what is allowed.
    pub what: String,
}

/// All that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The file that was read; empty when there was none.
    pub file: String,
    /// In the order of the definition.
    pub list: Vec<Problem>,
}

impl Problems {
    pub(crate) fn add(&mut self, line: usize, place: impl Into<String>, what: impl Into<String>) {
        self.list.push(Problem { line, place: place.into(), what: what.into() });
    }

    /// The value, when nothing is wrong.
    pub(crate) fn or<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => {
                self.list.sort_by_key(|problem| problem.line);
                Err(self)
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { line, place, what }) in self.list.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            match (self.file.as_str(), line) {
                ("", _) | (_, 0) => write!(f, "{end}{place}: {what}")?,
                (file, line) => write!(f, "{end}{file}:{line}: {place}: {what}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The nearest of the names, as a question; empty when none is near.
pub(crate) fn hint<'n>(found: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let near = names.into_iter().map(|name| (distance(found, name), name)).min();
    match near {
        Some((steps, name)) if steps <= 2 && steps < name.len() => format!("; did you mean {name:?}?"),
        _ => String::new(),
    }
}

/// How many characters have to be put in, left out or changed to make one text of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, c) in a.chars().take(64).enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, other) in row.iter_mut().skip(1).zip(&b) {
            let changed = diagonal + usize::from(c != *other);
            diagonal = *cell;
            left = changed.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_asked_for_and_a_far_one_is_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("abc", "abc")), (3, 3, 0));
        assert_eq!(hint("mim", ["min", "max", "otherwise"]), "; did you mean \"min\"?");
        assert_eq!(hint("limit", ["min", "max"]), "");
    }

    #[test]
    fn each_problem_is_a_line_with_its_place() {
        let mut problems = Problems { file: "a.toml".into(), ..Problems::default() };
        problems.add(7, "pipeline b", "is wrong");
        problems.add(3, "pipeline a", "is wrong too");
        let told = problems.or::<()>(None).unwrap_err().to_string();
        assert_eq!(told, "a.toml:3: pipeline a: is wrong too\na.toml:7: pipeline b: is wrong");
    }
}
