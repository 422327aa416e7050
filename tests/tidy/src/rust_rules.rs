//! Rules about Rust sources: headers, sizes, clocks, and what must not be left in.

use std::ops::RangeInclusive;

use crate::lexer::{functions, line_at, path_ending, test_modules, uses, words};
use crate::{Repository, SourceFile, Violation};

/// Longest file in lines, without its test modules: what one reader keeps in mind.
pub const FILE_LINES_MAX: usize = 500;
/// Longest function in lines, from `fn` to the closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;
/// The one file that reads clocks.
pub const CLOCK_FILE: &str = "shared/protocol/src/time.rs";

/// The one file of the store that knows the operating system's files.
pub const FILES_FILE: &str = "cloud-hub/store/src/files.rs";

/// All ways in this workspace to read the operating system's clock.
const CLOCK_READS: [&str; 4] = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];

/// Each source starts with `//!`: what it is for and what it must never do.
#[must_use]
pub fn headers(repository: &Repository) -> Vec<Violation> {
    let bare = repository.rust().filter(|file| !file.text.starts_with("//!"));
    bare.map(|file| {
        Violation::new(
            &file.path,
            1,
            "the file has no header; line 1 must be a `//!` that says what it is for",
        )
    })
    .collect()
}

/// No source has more than [`FILE_LINES_MAX`] lines outside its test modules.
#[must_use]
pub fn file_sizes(repository: &Repository) -> Vec<Violation> {
    let counted = repository.files.iter().filter(|file| {
        let script = [".ts", ".mjs", ".svelte"].iter().any(|suffix| file.path.ends_with(suffix));
        (file.is_rust() || script) && !is_unit_test_file(&file.path)
    });
    counted
        .filter_map(|file| {
            let tests: usize = test_modules(&file.code).into_iter().map(Iterator::count).sum();
            let lines = file.text.lines().count().saturating_sub(tests);
            (lines > FILE_LINES_MAX).then(|| {
                let message = format!(
                    "the file has {lines} lines without its test modules; allowed are {FILE_LINES_MAX}: split it by noun"
                );
                Violation::new(&file.path, FILE_LINES_MAX + 1, message)
            })
        })
        .collect()
}

/// No function has more than [`FUNCTION_LINES_MAX`] lines.
#[must_use]
pub fn function_sizes(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in repository.rust() {
        for function in functions(&file.code) {
            let lines = function.lines.clone().count();
            if lines > FUNCTION_LINES_MAX {
                let message =
                    format!("fn {} has {lines} lines; allowed are {FUNCTION_LINES_MAX}", function.name);
                found.push(Violation::new(&file.path, *function.lines.start(), message));
            }
        }
    }
    found
}

/// Clocks are read in [`CLOCK_FILE`] only; tokio's `Instant` is virtual in tests and allowed.
#[must_use]
pub fn clocks(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in repository.rust().filter(|file| file.path != CLOCK_FILE) {
        for read in CLOCK_READS {
            for at in words(&file.code, read) {
                let path = path_ending(&file.code, at, read.len());
                if read == "Instant::now" && is_tokio(file, path) {
                    continue;
                }
                let message = format!(
                    "`{path}` reads a clock; only {CLOCK_FILE} may: take `now` as an argument or use tideline_protocol::time::Clock"
                );
                found.push(Violation::new(&file.path, line_at(&file.code, at), message));
            }
        }
    }
    found
}

/// What touches a file without the store's `FileSystem`. A handle's own methods need one of these to get it.
const FILE_USES: [&str; 9] = [
    "std::fs",
    "fs::",
    "File::",
    "OpenOptions",
    "DirBuilder",
    "tempfile",
    ".exists()",
    ".is_file()",
    ".is_dir()",
];

/// The store touches files in [`FILES_FILE`] only, so that tests can put a file system that fails in its place; its
/// own tests may do as they like.
#[must_use]
pub fn files_of_the_store(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    let of_store = |file: &&SourceFile| {
        file.path.starts_with("cloud-hub/store/src/")
            && !file.path.contains("/tests/")
            && !is_unit_test_file(&file.path)
            && file.path != FILES_FILE
    };
    for file in repository.rust().filter(of_store) {
        let tests = test_modules(&file.code);
        let mut lines: Vec<(usize, &str)> = Vec::new();
        for what in FILE_USES {
            for (at, _) in file.code.match_indices(what) {
                let before = file.code.get(..at).and_then(|code| code.chars().next_back());
                let inside = what.starts_with(char::is_alphabetic)
                    && before.is_some_and(|c| c.is_alphanumeric() || c == '_');
                let line = line_at(&file.code, at);
                let known = inside
                    || tests.iter().any(|lines| lines.contains(&line))
                    || lines.iter().any(|(other, _)| *other == line);
                if !known {
                    lines.push((line, what));
                }
            }
        }
        found.extend(lines.into_iter().map(|(line, what)| {
            let message = format!(
                "`{what}` touches a file; only {FILES_FILE} may: take a `&dyn FileSystem`, so that a test can let it fail"
            );
            Violation::new(&file.path, line, message)
        }));
    }
    found
}

/// Nothing unfinished, no test that is skipped.
#[must_use]
pub fn unfinished(repository: &Repository) -> Vec<Violation> {
    let bans = [
        ("todo!(", "finish it, or return an error that names what is not supported"),
        ("unimplemented!(", "finish it, or return an error that names what is not supported"),
        ("#[ignore", "a test runs or is deleted"),
    ];
    let mut found = Vec::new();
    for file in repository.rust() {
        for (ban, advice) in bans {
            for (at, _) in file.code.match_indices(ban) {
                let message = format!("`{ban}` is not allowed: {advice}");
                found.push(Violation::new(&file.path, line_at(&file.code, at), message));
            }
        }
    }
    for file in repository.files.iter().filter(|file| is_script_test(&file.path)) {
        for ban in ["it.skip(", "it.only(", "test.skip(", "test.only(", "describe.skip(", "describe.only("] {
            for (at, _) in file.text.match_indices(ban) {
                let message = format!("`{ban}` is not allowed: a test runs or is deleted");
                found.push(Violation::new(&file.path, line_at(&file.text, at), message));
            }
        }
    }
    found
}

/// No thread ever sleeps, and no test waits for time instead of for an event.
#[must_use]
pub fn sleeps(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in repository.rust() {
        for at in words(&file.code, "thread::sleep") {
            let message = "`thread::sleep` is not allowed: wait for an event or use the driver's timer";
            found.push(Violation::new(&file.path, line_at(&file.code, at), message));
        }
        let tests = test_modules(&file.code);
        for at in task_sleeps(&file.code) {
            let line = line_at(&file.code, at);
            if is_test_code(&file.path, &tests, line) {
                let message = "tokio's `sleep` is not allowed in tests: wait for the event under a `timeout`, or poll it on an `interval`";
                found.push(Violation::new(&file.path, line, message));
            }
        }
    }
    found
}

fn is_tokio(file: &SourceFile, path: &str) -> bool {
    if path.starts_with("tokio::") {
        return true;
    }
    // `Instant::now` after `use tokio::time::{…, Instant}`, `time::Instant::now` after `use tokio::time`.
    let item = path.split("::").next().unwrap_or_default();
    uses(&file.code).any(|(_, text)| {
        words(text, "tokio").next().is_some()
            && words(text, "time").next().is_some()
            && words(text, item).next().is_some()
    })
}

fn task_sleeps(code: &str) -> Vec<usize> {
    let calls = ["time::sleep", "time::sleep_until"]
        .into_iter()
        .flat_map(|call| words(code, call).collect::<Vec<_>>());
    let imports = uses(code).filter(|(_, text)| {
        text.contains("tokio") && text.contains('{') && words(text, "sleep").next().is_some()
    });
    calls.chain(imports.map(|(at, _)| at)).collect()
}

fn is_unit_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || is_script_test(path)
}

fn is_script_test(path: &str) -> bool {
    path.ends_with(".test.ts")
}

/// A benchmark measures over time and may wait for it.
fn is_test_code(path: &str, tests: &[RangeInclusive<usize>], line: usize) -> bool {
    if path.starts_with("tests/bench/") {
        return false;
    }
    path.starts_with("tests/")
        || path.contains("/tests/")
        || is_unit_test_file(path)
        || tests.iter().any(|lines| lines.contains(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(violations: &[Violation]) -> Vec<usize> {
        violations.iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_source_without_header_is_found() {
        let good = Repository::of(&[("a/src/lib.rs", "//! What it is.\n"), ("a/notes.txt", "x")]);
        assert_eq!(headers(&good), vec![]);
        let bad = Repository::of(&[("a/src/lib.rs", "// A comment.\n//! Too late.\n")]);
        assert_eq!(lines(&headers(&bad)), vec![1]);
    }

    #[test]
    fn a_long_file_is_found_and_its_test_module_does_not_count() {
        let body = "//! Head.\n".to_owned() + &"const A: u8 = 1;\n".repeat(499);
        let tested = body.clone() + "#[cfg(test)]\nmod tests {\n" + &"// more\n".repeat(300) + "}\n";
        assert_eq!(file_sizes(&Repository::of(&[("a/src/lib.rs", &tested)])), vec![]);
        let long = body + "const B: u8 = 1;\n";
        assert_eq!(file_sizes(&Repository::of(&[("a/src/lib.rs", &long)])).len(), 1);
        assert_eq!(file_sizes(&Repository::of(&[("a/src/lib/tests.rs", &long)])), vec![]);
        assert_eq!(file_sizes(&Repository::of(&[("dashboards/src/app.ts", &"x;\n".repeat(501))])).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_where_it_starts() {
        let of = |lines: usize| format!("//! Head.\nfn long() {{\n{}}}\n", "    // }\n".repeat(lines - 2));
        assert_eq!(function_sizes(&Repository::of(&[("a.rs", &of(70))])), vec![]);
        let found = function_sizes(&Repository::of(&[("a.rs", &of(71))]));
        assert_eq!(lines(&found), vec![2]);
        assert!(found.iter().all(|violation| violation.message.contains("fn long has 71 lines")));
    }

    #[test]
    fn reading_a_clock_outside_its_file_is_found() {
        let read = "fn a() { let _ = std::time::Instant::now(); }\n";
        assert_eq!(clocks(&Repository::of(&[(CLOCK_FILE, read)])), vec![]);
        assert_eq!(lines(&clocks(&Repository::of(&[("a.rs", read)]))), vec![1]);
        for bad in
            ["\nuse std::time::SystemTime;\nfn a() { SystemTime::now(); }", "\n\njiff::Timestamp::now()"]
        {
            assert_eq!(lines(&clocks(&Repository::of(&[("a.rs", bad)]))), vec![3], "{bad}");
        }
        for good in [
            "fn a() { tokio::time::Instant::now(); } // SystemTime::now",
            "use tokio::time::{Duration, Instant};\nfn a() { Instant::now(); }",
            "use tokio::{net, time};\nfn a() { time::Instant::now(); }",
        ] {
            assert_eq!(clocks(&Repository::of(&[("a.rs", good)])), vec![], "{good}");
        }
    }

    #[test]
    fn a_file_that_is_touched_past_the_file_system_of_the_store_is_found() {
        let touch = "use std::fs;\nfn a(path: &Path) { let _ = path.exists(); SealedFile::new(); }\n\
                     fn b() { std::fs::File::open(p); }\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(
            lines(&files_of_the_store(&Repository::of(&[("cloud-hub/store/src/log.rs", touch)]))),
            vec![1, 3, 2]
        );
        for path in [FILES_FILE, "cloud-hub/store/src/store/tests/rig.rs", "cloud-hub/hub/src/backup.rs"] {
            assert_eq!(files_of_the_store(&Repository::of(&[(path, touch)])), vec![], "{path}");
        }
        let good = "fn a(files: &dyn FileSystem) { files.exists(p); files.open(p, OpenMode::Read); BlockFile::x(); }\n";
        assert_eq!(files_of_the_store(&Repository::of(&[("cloud-hub/store/src/log.rs", good)])), vec![]);
    }

    #[test]
    fn unfinished_code_and_skipped_tests_are_found() {
        let bad = "fn a() { todo!(); }\nfn b() { unimplemented!(\"x\") }\n#[ignore = \"slow\"]\n";
        let mut found = lines(&unfinished(&Repository::of(&[("a.rs", bad)])));
        found.sort_unstable();
        assert_eq!(found, vec![1, 2, 3]);
        assert_eq!(
            unfinished(&Repository::of(&[("a.rs", "// todo!( is banned\nlet a = \"#[ignore\";")])),
            vec![]
        );
        assert_eq!(unfinished(&Repository::of(&[("a.test.ts", "it.only('x')")])).len(), 1);
    }

    #[test]
    fn sleeping_is_found_in_tests_and_threads() {
        let thread = "fn a() { std::thread::sleep(d); }";
        assert_eq!(sleeps(&Repository::of(&[("a/src/b.rs", thread)])).len(), 1);
        let task = "async fn a() { tokio::time::sleep(d).await; }";
        assert_eq!(sleeps(&Repository::of(&[("a/src/b.rs", task), ("tests/bench/src/b.rs", task)])), vec![]);
        assert_eq!(sleeps(&Repository::of(&[("tests/e2e/src/b.rs", task)])).len(), 1);
        assert_eq!(
            sleeps(&Repository::of(&[("a/tests/b.rs", "use tokio::time::{sleep, timeout};")])).len(),
            1
        );
        let module = format!("fn b() {{}}\n#[cfg(test)]\nmod tests {{\n{task}\n}}\n");
        assert_eq!(lines(&sleeps(&Repository::of(&[("a/src/b.rs", &module)]))), vec![4]);
    }
}
