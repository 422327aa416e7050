//! A device that is a script of this package, in a process of its own.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::{WAIT_MAX, peer, python};

/// A device that runs until it is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Where it answers.
    pub address: String,
}

impl Peer {
    /// Starts a script, and waits until it says `ready ADDRESS`. `None` without the library that it needs.
    ///
    /// # Errors
    /// It does not get ready, or lacks its library where that must not be.
    pub async fn start(script: &str, library: &str, args: &[&str]) -> Result<Option<Self>> {
        let Some(python) = python(library)? else { return Ok(None) };
        let mut child = Command::new(python)
            .arg(peer(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let line = timeout(WAIT_MAX, lines.next_line()).await.context("the device does not start")??;
        let line = line.context("the device ended")?;
        let address = line.strip_prefix("ready ").with_context(|| format!("the device says {line:?}"))?;
        Ok(Some(Self { child, address: address.to_owned() }))
    }

    /// Kills it, as a device that loses its power.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill")
    }
}
