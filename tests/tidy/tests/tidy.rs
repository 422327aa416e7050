//! Runs the repository's rules on this checkout; each failure lists all breaches of one rule.

#![allow(clippy::expect_used, reason = "a test that cannot read the checkout has nothing to say")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tideline_tidy::manifest_rules::{self, Package};
use tideline_tidy::{Repository, Violation, document_rules, rust_rules, wire_rules};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout exists")
}

fn repository() -> Repository {
    Repository::load(&root()).expect("the checkout can be read")
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON");
    manifest_rules::packages(&metadata).expect("cargo metadata lists packages")
}

#[track_caller]
fn assert_none(violations: &[Violation]) {
    let list: String = violations.iter().map(|violation| format!("\n  {violation}")).collect();
    assert!(violations.is_empty(), "{} breaches of this rule:{list}", violations.len());
}

/// Without this, a listing that went wrong would pass every other rule.
#[test]
fn the_rules_see_the_whole_workspace() {
    let repository = repository();
    for package in packages() {
        assert!(repository.file(&package.manifest).is_some(), "{} is not listed by git", package.manifest);
        let folder = package.manifest.trim_end_matches("Cargo.toml");
        assert!(repository.rust().any(|file| file.path.starts_with(folder)), "no source under {folder}");
    }
}

#[test]
fn every_source_has_a_header() {
    assert_none(&rust_rules::headers(&repository()));
}

#[test]
fn no_file_is_too_long() {
    assert_none(&rust_rules::file_sizes(&repository()));
}

#[test]
fn no_function_is_too_long() {
    assert_none(&rust_rules::function_sizes(&repository()));
}

#[test]
fn clocks_are_read_in_one_place() {
    assert_none(&rust_rules::clocks(&repository()));
}

#[test]
fn the_store_touches_files_in_one_place() {
    assert_none(&rust_rules::files_of_the_store(&repository()));
}

#[test]
fn nothing_is_unfinished_or_skipped() {
    assert_none(&rust_rules::unfinished(&repository()));
}

#[test]
fn nothing_sleeps() {
    assert_none(&rust_rules::sleeps(&repository()));
}

#[test]
fn the_wire_format_has_one_home() {
    assert_none(&wire_rules::one_wire_format(&repository()));
}

#[test]
fn dependencies_point_from_rim_to_core() {
    assert_none(&manifest_rules::dependency_direction(&packages(), &repository()));
}

#[test]
fn every_package_shares_the_lints() {
    assert_none(&manifest_rules::shared_lints(&packages(), &repository()));
}

#[test]
fn documents_exist_and_name_the_commands() {
    assert_none(&document_rules::documents(&repository()));
}

#[test]
fn architecture_names_functions_that_exist() {
    assert_none(&document_rules::architecture(&repository()));
}

#[test]
fn lock_files_name_no_registry() {
    assert_none(&document_rules::lock_files(&repository()));
}
