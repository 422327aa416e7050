//! The demo's child processes. They die with their guard, whatever way the demo ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

/// A running child; dropped, it is killed.
pub struct Running {
    name: String,
    child: Child,
}

/// Starts a program whose output goes to `log`.
///
/// # Errors
/// It cannot be started.
pub fn start(
    name: &str,
    program: &Path,
    args: &[String],
    env: &[(&str, String)],
    log: &Path,
) -> Result<Running> {
    let out = File::create(log)?;
    let child = Command::new(program)
        .args(args)
        .envs(env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .kill_on_drop(true)
        // Ctrl-C reaches the demo alone, which then ends the others in order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("{name} cannot be started from {}", program.display()))?;
    Ok(Running { name: name.to_owned(), child })
}

/// Runs a program to its end and gives its stdout.
///
/// # Errors
/// It cannot be started or fails; the text has its stderr.
pub async fn finish(name: &str, program: &Path, args: &[String]) -> Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("{name} cannot be started from {}", program.display()))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

impl Running {
    /// Fails when the child has ended by itself.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status})", self.name),
        }
    }

    /// Sends SIGTERM and waits; kills after `patience`.
    ///
    /// # Errors
    /// It had to be killed, or ended with a failure.
    pub async fn terminate(mut self, patience: Duration) -> Result<()> {
        if let Some(id) = self.child.id() {
            // `kill` of the system: sending a signal by hand would take unsafe code.
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await.context("kill")?;
        }
        let Ok(status) = tokio::time::timeout(patience, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("{} did not end within {} s and was killed", self.name, patience.as_secs());
        };
        let status = status?;
        if status.success() { Ok(()) } else { bail!("{} failed at its end ({status})", self.name) }
    }
}

/// The agent's binary: beside the hub's, or on the path.
///
/// # Errors
/// There is none; the text says how to build it.
pub fn agent_binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.parent().map(|dir| dir.join("edge-agent"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = beside.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join("edge-agent")));
    let mut found = all.filter(|candidate| candidate.is_file());
    found.next().with_context(|| {
        format!("there is no edge-agent beside {} or on PATH; build both with `cargo build -p cloud-hub -p edge-agent`", own.display())
    })
}

/// A temporary folder that goes with its guard, unless the demo failed.
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it stays.
    pub keep: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left to the system's own cleaning.
            let _left = std::fs::remove_dir_all(&self.path);
        }
    }
}
