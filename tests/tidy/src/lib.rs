//! Repository rules as tests: sizes, headers, dependency direction, time, bans, documents.
//!
//! Each rule is a function from a [`Repository`] to a list of [`Violation`]s, so that the rule
//! itself is tested on small good and bad snippets; `tests/tidy.rs` runs all of them on the
//! checkout. Nothing here changes a file.

pub mod document_rules;
pub mod lexer;
pub mod manifest_rules;
pub mod repository;
pub mod rust_rules;
pub mod wire_rules;

pub use repository::{Repository, SourceFile};

/// One breach of a rule; its text is all that a reader gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path from the repository's root.
    pub path: String,
    /// Line, counted from 1.
    pub line: usize,
    /// What was found and what is allowed.
    pub message: String,
}

impl Violation {
    /// A breach at a line (counted from 1).
    pub fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}
