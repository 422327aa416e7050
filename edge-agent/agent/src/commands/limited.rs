//! `edge-agent limited`: becomes another program after it has limited itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::Context as _;
use nix::sys::resource::{Resource, setrlimit};

/// What it is to become, and its limits.
#[derive(Debug, clap::Args)]
pub struct Limited {
    /// Most bytes of memory
    #[arg(long)]
    memory: u64,
    /// The program and its arguments
    #[arg(required = true, last = true)]
    program: Vec<OsString>,
}

/// Becomes the program; gives why it did not.
///
/// # Errors
/// Always: it returns only then.
pub fn become_it(limited: &Limited) -> anyhow::Result<()> {
    let (path, args) = limited.program.split_first().context("no program is named")?;
    setrlimit(Resource::RLIMIT_AS, limited.memory, limited.memory)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let error = std::process::Command::new(path).args(args).exec();
    Err(anyhow::Error::from(error).context(path.display().to_string()))
}
