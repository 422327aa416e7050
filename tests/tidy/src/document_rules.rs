//! Rules about what is read rather than compiled: documents that must stay true, and lock files.

use crate::lexer::{line_at, words};
use crate::{Repository, Violation};

/// Documents that every checkout has.
const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE"];

/// The documents exist, and README.md names the two commands that a newcomer needs.
#[must_use]
pub fn documents(repository: &Repository) -> Vec<Violation> {
    let missing = DOCUMENTS.iter().filter(|path| repository.file(path).is_none());
    let mut found: Vec<_> = missing
        .map(|path| Violation::new(*path, 1, "the file is missing; the repository's root must have it"))
        .collect();
    if let Some(readme) = repository.file("README.md") {
        for command in ["make demo", "make test"] {
            if !readme.text.contains(command) {
                let message = format!("`{command}` is not mentioned; the README must say what it does");
                found.push(Violation::new("README.md", 1, message));
            }
        }
    }
    found
}

/// Each `path/file.rs::function` in ARCHITECTURE.md exists, and each numbered step of the section
/// about the data path names at least one.
#[must_use]
pub fn architecture(repository: &Repository) -> Vec<Violation> {
    const PATH: &str = "ARCHITECTURE.md";
    let Some(file) = repository.file(PATH) else { return Vec::new() };
    let mut found = Vec::new();
    for (at, reference) in references(&file.text) {
        if let Some(message) = broken(repository, reference) {
            found.push(Violation::new(PATH, line_at(&file.text, at), message));
        }
    }
    let steps = data_path_steps(&file.text);
    if steps.is_empty() {
        let message = "no numbered step under a heading with \"data path\"; each step must be a line `N. … `path/file.rs::function``";
        found.push(Violation::new(PATH, 1, message));
    }
    for (line, step) in steps {
        if references(&step).is_empty() {
            let message =
                "this step of the data path names no function; write it as `path/file.rs::function`";
            found.push(Violation::new(PATH, line, message));
        }
    }
    found
}

/// No `package-lock.json` is tied to the registry address of the machine that wrote it.
#[must_use]
pub fn lock_files(repository: &Repository) -> Vec<Violation> {
    let locks =
        repository.files.iter().filter(|file| file.path.rsplit('/').next() == Some("package-lock.json"));
    locks
        .flat_map(|file| {
            let tied = file.text.lines().enumerate().filter(|(_, line)| {
                let compact: String = line.chars().filter(|c| !c.is_whitespace()).collect();
                compact.contains("\"resolved\":\"http")
            });
            tied.map(|(at, _)| {
                let message = "`resolved` holds an address; set `omit-lockfile-registry-resolved=true` in .npmrc and write the lock file again";
                Violation::new(&file.path, at + 1, message)
            })
            .collect::<Vec<_>>()
        })
        .collect()
}

/// Back-quoted `….rs::…`, each with its offset.
fn references(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (line_start, line) in lines_with_offsets(text) {
        let mut at = line_start;
        for (index, span) in line.split('`').enumerate() {
            if index % 2 == 1 && span.contains(".rs::") && !span.contains(char::is_whitespace) {
                found.push((at, span));
            }
            at += span.len() + 1;
        }
    }
    found
}

fn broken(repository: &Repository, reference: &str) -> Option<String> {
    let (stem, item) = reference.split_once(".rs::")?;
    let path = format!("{stem}.rs");
    let item = item.trim_end_matches("()");
    let Some(file) = repository.file(&path) else {
        return Some(format!(
            "`{reference}`: there is no file {path}; write the path from the repository's root"
        ));
    };
    let (owner, function) = item.rsplit_once("::").map_or((None, item), |(owner, name)| (Some(owner), name));
    let defined = words(&file.code, function).any(|at| {
        let before = file.code.get(..at).unwrap_or_default().trim_end();
        before.ends_with("fn") && words(before, "fn").last() == Some(before.len() - 2)
    });
    if !defined {
        return Some(format!(
            "`{reference}`: {path} has no `fn {function}`; name the function that takes this step"
        ));
    }
    let owner = owner?;
    words(&file.code, owner)
        .next()
        .is_none()
        .then(|| format!("`{reference}`: {path} does not know `{owner}`"))
}

/// The numbered items of the section, each with its first line's number and its whole text.
fn data_path_steps(text: &str) -> Vec<(usize, String)> {
    let mut steps: Vec<(usize, String)> = Vec::new();
    let (mut inside, mut open) = (false, false);
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            inside = line.to_lowercase().contains("data path");
            open = false;
        } else if inside && is_numbered(line) {
            steps.push((at + 1, line.to_owned()));
            open = true;
        } else if line.trim().is_empty() {
            open = false;
        } else if open && let Some((_, step)) = steps.last_mut() {
            step.push('\n');
            step.push_str(line);
        }
    }
    steps
}

fn is_numbered(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < line.len() && rest.starts_with(". ")
}

fn lines_with_offsets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |next, line| {
        let start = *next;
        *next += line.len();
        Some((start, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: (&str, &str) =
        ("a/src/b.rs", "//! Head.\nstruct Log;\nimpl Log {\n    pub async fn append(&self) {}\n}\n");

    fn check(text: &str) -> Vec<usize> {
        let repository = Repository::of(&[SOURCE, ("ARCHITECTURE.md", text)]);
        architecture(&repository).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn true_steps_pass() {
        let text = "# The data path\n\n1. It appends,\n   durably: `a/src/b.rs::append`.\n2. `a/src/b.rs::Log::append()`.\n";
        assert!(check(text).is_empty());
    }

    #[test]
    fn false_steps_are_found() {
        let head = "# The data path\n";
        assert_eq!(check(&format!("{head}1. `a/src/b.rs::appen`\n")), vec![2]);
        assert_eq!(check(&format!("{head}1. `a/src/b.rs::Spool::append`\n")), vec![2]);
        assert_eq!(check(&format!("{head}1. `src/b.rs::append`\n")), vec![2]);
        assert_eq!(check(&format!("{head}1. `a/src/b.rs::append`\n2. It sends.\n")), vec![3]);
        assert_eq!(check("# Data flow\n1. `a/src/b.rs::append`\n"), vec![1]);
        assert_eq!(
            check(&format!("{head}1. `a/src/b.rs::append`\n# Code map\nSee `a/src/b.rs::gone`.\n")),
            vec![4]
        );
    }

    #[test]
    fn missing_documents_and_commands_are_found() {
        let whole = [
            ("README.md", "make demo, make test"),
            ("ARCHITECTURE.md", ""),
            ("CHANGELOG.md", ""),
            ("LICENSE", ""),
        ];
        assert_eq!(documents(&Repository::of(&whole)), vec![]);
        assert_eq!(documents(&Repository::of(&[("README.md", "make demo")])).len(), 4);
    }

    #[test]
    fn registry_addresses_in_lock_files_are_found() {
        let good = ("web/package-lock.json", "{\n\"integrity\": \"sha512-x\"\n}");
        assert_eq!(lock_files(&Repository::of(&[good])), vec![]);
        let bad = ("web/package-lock.json", "{\n  \"resolved\": \"https://registry/x.tgz\"\n}");
        assert_eq!(lock_files(&Repository::of(&[bad])).first().map(|violation| violation.line), Some(2));
    }
}
