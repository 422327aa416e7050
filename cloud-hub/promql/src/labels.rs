//! The labels of a series.

use std::fmt;
use std::sync::Arc;

use crate::text::quoted;

/// The label that holds the name of the metric.
pub const NAME: &str = "__name__";

/// Names and values, sorted by name, each name once; an empty value is no label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Labels of these pairs; of pairs with one name the last counts.
    #[must_use]
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut all: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for (name, value) in pairs {
            let (name, value) = (name.into(), value.into());
            match all.binary_search_by(|(have, _)| have.cmp(&name)) {
                Ok(at) => {
                    if let Some(pair) = all.get_mut(at) {
                        pair.1 = value;
                    }
                }
                Err(at) => all.insert(at, (name, value)),
            }
        }
        all.retain(|(_, value)| !value.is_empty());
        Self(all.into())
    }

    /// The value of a label; empty when there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.find(name).map_or("", |(_, value)| value)
    }

    /// Each name and value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// These labels with one set; an empty value takes it away.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let others = self.0.iter().filter(|(have, _)| &**have != name).cloned();
        Self::new(others.chain([(Arc::from(name), Arc::from(value))]))
    }

    /// These labels without the name of the metric.
    #[must_use]
    pub fn nameless(&self) -> Self {
        if self.find(NAME).is_none() { self.clone() } else { self.filtered(|name| name != NAME) }
    }

    /// Those of the labels whose names are listed.
    #[must_use]
    pub fn only(&self, names: &[String]) -> Self {
        self.filtered(|name| names.iter().any(|n| n == name))
    }

    /// Those of the labels whose names are not listed.
    #[must_use]
    pub fn without(&self, names: &[String]) -> Self {
        self.filtered(|name| names.iter().all(|n| n != name))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    fn find(&self, name: &str) -> Option<&(Arc<str>, Arc<str>)> {
        self.0.binary_search_by(|(have, _)| (**have).cmp(name)).ok().and_then(|at| self.0.get(at))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name}={}", if at == 0 { "" } else { ", " }, quoted(value))?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_single_and_never_empty() {
        let labels = Labels::new([("b", "2"), ("a", "1"), ("b", "3"), ("c", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(labels.value("b"), "3");
        assert_eq!(labels.value("c"), "");
        assert_eq!(labels.with("a", "").iter().collect::<Vec<_>>(), [("b", "3")]);
        assert_eq!(labels.only(&["a".into()]), Labels::new([("a", "1")]));
        assert_eq!(labels.without(&["a".into()]), Labels::new([("b", "3")]));
    }

    #[test]
    fn labels_are_shown_as_selectors() {
        let labels = Labels::new([(NAME, "up"), ("job", "a\"b")]);
        assert_eq!(labels.to_string(), r#"{__name__="up", job="a\"b"}"#);
        assert_eq!(Labels::default().to_string(), "{}");
    }
}
