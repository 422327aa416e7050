//! Child processes: started with a log, killed when dropped.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::{Child, Command};

/// Longest run of a command that ends by itself.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// How much of a log is shown when its process failed, in lines.
const LOG_LINES: usize = 20;

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl Said {
    /// The stdout of a command that ended well.
    ///
    /// # Errors
    /// It ended otherwise.
    pub fn good(self) -> Result<String> {
        ensure!(self.code == Some(0), "ended with {:?}: {}", self.code, self.err);
        Ok(self.out)
    }
}

/// A process that runs until it is ended.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Where a binary of this workspace is: beside this executable, or, as tests are one folder deeper,
/// beside its folder.
///
/// # Errors
/// It has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not beside {}: run `make build` first", own.display()))
}

fn command(name: &str, args: &[&str]) -> Result<Command> {
    prepared(Command::new(binary(name)?), args)
}

/// As [`command`], with so many descriptors that the process may have open.
fn command_with_descriptors(name: &str, args: &[&str], most: u32) -> Result<Command> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(binary(name)?);
    prepared(shell, args)
}

fn prepared(mut command: Command, args: &[&str]) -> Result<Command> {
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("TIDELINE_")) {
        command.env_remove(variable);
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started or does not end.
pub async fn run(name: &str, args: &[&str]) -> Result<Said> {
    let output = tokio::time::timeout(COMMAND_MAX, command(name, args)?.output());
    let output = output.await.with_context(|| format!("{name} {args:?} did not end"))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

/// Runs a program of the system to its end.
///
/// # Errors
/// It cannot be started or does not end.
pub async fn run_system(path: &Path, args: &[&str]) -> Result<Said> {
    let output = tokio::time::timeout(COMMAND_MAX, prepared(Command::new(path), args)?.output());
    let output = output.await.with_context(|| format!("{} {args:?} did not end", path.display()))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

impl Running {
    /// Starts a process whose output is added to `log`.
    ///
    /// # Errors
    /// The binary is missing or cannot be started.
    pub fn start(name: &str, args: &[&str], env: &[(&str, String)], log: &Path) -> Result<Self> {
        Self::spawn(name, command(name, args)?, env, log)
    }

    /// As [`Self::start`], for a program of the system.
    ///
    /// # Errors
    /// It is not installed.
    pub fn start_system(path: &Path, args: &[&str], log: &Path) -> Result<Self> {
        Self::spawn(&path.display().to_string(), prepared(Command::new(path), args)?, &[], log)
    }

    /// As [`Self::start`], with so many descriptors that the process may have open.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_descriptors(
        name: &str,
        args: &[&str],
        env: &[(&str, String)],
        log: &Path,
        most: u32,
    ) -> Result<Self> {
        Self::spawn(name, command_with_descriptors(name, args, most)?, env, log)
    }

    /// As [`Self::start`], inside a network namespace that `ip netns` has made.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in_namespace(namespace: &str, name: &str, args: &[&str], log: &Path) -> Result<Self> {
        // `ip` becomes the program that it is given, so that the number is the program's.
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", namespace]).arg(binary(name)?);
        Self::spawn(name, prepared(ip, args)?, &[], log)
    }

    fn spawn(name: &str, mut command: Command, env: &[(&str, String)], log: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        command.envs(env.iter().map(|(name, value)| (*name, value))).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its number, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The end of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(LOG_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has ended; the text has the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log_end()),
        }
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// It had ended before by itself.
    pub async fn kill(&mut self) -> Result<()> {
        self.check()?;
        Ok(self.child.kill().await?)
    }

    /// Asks it to end with SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It does not end in time, or not with exit code 0.
    pub async fn terminate(&mut self, longest: Duration) -> Result<()> {
        self.check()?;
        let id = self.child.id().context("the process is gone")?.to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await?;
        ensure!(sent.success(), "SIGTERM could not be sent");
        let ended = tokio::time::timeout(longest, self.child.wait()).await;
        let status = ended
            .with_context(|| format!("{} did not end after SIGTERM:\n{}", self.name, self.log_end()))??;
        ensure!(status.success(), "{} ended with {status}:\n{}", self.name, self.log_end());
        Ok(())
    }
}
