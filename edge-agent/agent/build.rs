//! Tells the agent when it was built, in Unix seconds: a floor for clocks that start in 1970.

use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

fn main() {
    // Nothing of git's is watched: a floor that is some commits old does its work as well, and a
    // build that begins anew with each commit does not.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    match build_s() {
        Ok(build_s) => println!("cargo::rustc-env=TIDELINE_BUILD_S={build_s}"),
        Err(error) => println!("cargo::error={error}"),
    }
}

/// SOURCE_DATE_EPOCH, so that builds can be repeated to the byte; else the newest commit, which is
/// the same for all who build it; else now.
fn build_s() -> Result<u64, String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.trim().parse().map_err(|_| format!("SOURCE_DATE_EPOCH={given} is not in Unix seconds"));
    }
    let now_s = file_clock_s()?;
    // A commit of the future would make the floor outlive certificates.
    Ok(commit_s().map_or(now_s, |commit_s| commit_s.min(now_s)))
}

fn commit_s() -> Option<u64> {
    let output = Command::new("git").args(["log", "-1", "--format=%ct"]).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()?.trim().parse().ok())?
}

/// The time of a file written now.
fn file_clock_s() -> Result<u64, String> {
    let folder = std::env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
    let path = Path::new(&folder).join("built");
    let written = std::fs::write(&path, b"").and_then(|()| std::fs::metadata(&path)?.modified());
    let modified = written.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
