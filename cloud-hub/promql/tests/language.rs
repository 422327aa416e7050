//! The evaluator against files of queries with their answers, in the language of Prometheus' own tests
//! (<https://github.com/prometheus/prometheus/tree/main/promql/promqltest>): `load`, `clear`, `eval`.
//!
//! The answers in `tests/language` were worked out by hand. `PROMQLTEST=DIR` has the files of another
//! folder run too, such as Prometheus' `promql/promqltest/testdata`; what in them is of histograms, of
//! experimental functions or of annotations is passed over and counted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic")]

mod script;

use std::path::{Path, PathBuf};

use script::{Outcome, run};

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "test"));
    files.sort();
    assert!(!files.is_empty(), "{} has no *.test", dir.display());
    files
}

fn all_hold(dir: &Path) -> (usize, usize) {
    let (mut held, mut passed_over, mut wrong) = (0, 0, Vec::new());
    for path in files(dir) {
        let text = std::fs::read_to_string(&path).unwrap();
        for (line, outcome) in run(&text) {
            match outcome {
                Outcome::Holds => held += 1,
                Outcome::PassedOver(why) => {
                    println!("{}:{line}: passed over: {why}", path.display());
                    passed_over += 1;
                }
                Outcome::Wrong(what) => wrong.push(format!("{}:{line}: {what}", path.display())),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{held} hold, {passed_over} passed over, {} do not:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    (held, passed_over)
}

#[test]
fn every_answer_worked_out_by_hand_holds() {
    let (held, passed_over) = all_hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language"));
    assert!(held >= 100, "{held}");
    assert_eq!(passed_over, 0);
}

#[test]
fn every_answer_of_another_folder_holds() {
    let dir = std::env::var_os("PROMQLTEST").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language"));
    let (held, passed_over) = all_hold(&dir);
    println!("{}: {held} hold, {passed_over} passed over", dir.display());
    assert!(held > 0);
}

#[test]
fn a_wrong_answer_is_found() {
    let script = "load 1m\n  a 1 2 3\n\neval instant at 2m a\n  a 4\n\neval instant at 2m a\n  a 3\n";
    let outcomes: Vec<bool> = run(script).into_iter().map(|(_, o)| matches!(o, Outcome::Holds)).collect();
    assert_eq!(outcomes, [false, true]);
}
