//! The demo's child processes. They die with their guard; when the demo itself is killed, they end by
//! themselves, because their stdin does.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

/// Most times that a child that ended by itself is started again; beyond it something is wrong with
/// it that another start does not mend.
const RESTARTS_MAX: u32 = 5;

/// What tells a child to stop when the demo is gone.
pub const UNTIL_STDIN_ENDS: &str = "--until-stdin-ends";

/// How a child is started.
pub struct Start {
    /// Its name for people.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments; one of them must be [`UNTIL_STDIN_ENDS`] where it is one of ours.
    pub args: Vec<String>,
    /// Variables on top of the demo's own.
    pub env: Vec<(&'static str, String)>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A running child; dropped, it is killed.
pub struct Running {
    start: Start,
    child: Child,
    restarts: u32,
}

/// A program without the configuration that the demo's own shell has for a hub or an agent.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    let ours = |name: &String| name.starts_with("TIDELINE_") && name != "TIDELINE_LOG";
    std::env::vars().map(|(name, _)| name).filter(ours).for_each(|name| {
        command.env_remove(name);
    });
    command
}

fn spawn(start: &Start) -> Result<Child> {
    let out = OpenOptions::new().create(true).append(true).open(&start.log)?;
    let child = command(&start.program)
        .args(&start.args)
        .envs(start.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::piped())
        .stdout(out.try_clone()?)
        .stderr(out)
        .kill_on_drop(true)
        // Ctrl-C reaches the demo alone, which then ends the others in order.
        .process_group(0)
        .spawn();
    child.with_context(|| format!("{} cannot be started from {}", start.name, start.program.display()))
}

/// Starts a program.
///
/// # Errors
/// It cannot be started.
pub fn start(start: Start) -> Result<Running> {
    Ok(Running { child: spawn(&start)?, start, restarts: 0 })
}

/// Runs a program to its end and gives its stdout.
///
/// # Errors
/// It cannot be started or fails; the text has its stderr.
pub async fn finish(name: &str, program: &Path, args: &[String]) -> Result<String> {
    let output = command(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("{name} cannot be started from {}", program.display()))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

impl Running {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.start.name
    }

    /// Fails when the child has ended by itself.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status})", self.start.name),
        }
    }

    /// Starts the child again when it has ended by itself; says how it had ended.
    ///
    /// # Errors
    /// It ends again and again, or cannot be started.
    pub fn revive(&mut self) -> Result<Option<ExitStatus>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        if self.restarts >= RESTARTS_MAX {
            let log = self.start.log.display();
            bail!(
                "{} ended {} times by itself ({status}); its log is {log}",
                self.start.name,
                self.restarts + 1
            );
        }
        self.restarts += 1;
        self.child = spawn(&self.start)?;
        Ok(Some(status))
    }

    /// Sends SIGTERM and waits; kills after `patience`.
    ///
    /// # Errors
    /// It had to be killed, or ended with a failure.
    pub async fn terminate(&mut self, patience: Duration) -> Result<()> {
        if let Some(id) = self.child.id() {
            // `kill` of the system: sending a signal by hand would take unsafe code.
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await.context("kill")?;
        }
        let Ok(status) = tokio::time::timeout(patience, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("{} did not end within {} s and was killed", self.start.name, patience.as_secs());
        };
        let status = status?;
        if status.success() { Ok(()) } else { bail!("{} failed at its end ({status})", self.start.name) }
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
