//! Programs and libraries of others that a test is run against, and what happens where one is missing: the test is left out and
//! says so; where `CI` is true it fails.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tideline_link::outln;

/// Names a file in which what is left out is noted, a line each: `make test` shows it at its end.
const NOTES: &str = "LEFT_OUT";

/// A test, or a part of it, is left out since this is missing.
///
/// # Errors
/// It has to be there.
pub fn left_out(what: &str) -> Result<()> {
    ensure!(std::env::var("CI").as_deref() != Ok("true"), "{what}");
    outln!("left out: {what}");
    if let Some(notes) = std::env::var_os(NOTES) {
        let mut file = OpenOptions::new().create(true).append(true).open(&notes).context("LEFT_OUT")?;
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        writeln!(file, "{test}: {what}")?;
    }
    Ok(())
}

/// The Python with this library, which `make setup` installs beside the target folder's programs. None without it, which is
/// said.
///
/// # Errors
/// It is not there and has to be, or the test's own program is nowhere.
pub fn python(library: &str) -> Result<Option<PathBuf>> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().map(|folder| folder.join("clients/bin/python")).find(|path| path.is_file());
    let has_library = |python: &PathBuf| {
        let import = ["-c", &format!("import {library}")];
        Command::new(python).args(import).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if let Some(python) = found.filter(has_library) {
        return Ok(Some(python));
    }
    left_out(&format!(
        "there is no Python with {library}: `make setup` installs it where python3 has a venv"
    ))?;
    Ok(None)
}
