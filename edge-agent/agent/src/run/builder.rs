//! The agent as a library: what a program of somebody else builds and runs.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Custom, Process, run_until};
use crate::config::{Layers, SourceConfig, SourceKind};
use crate::source::{AnySource, Source};

/// An agent that is put together. What is not said here is as its configuration says.
///
/// ```no_run
/// # struct Pump;
/// # impl edge_agent::source::Source for Pump {
/// #     async fn run(&mut self, _: &mut edge_agent::source::Context) -> Result<(), edge_agent::source::SourceError> {
/// #         Ok(())
/// #     }
/// # }
/// # async fn example() -> anyhow::Result<()> {
/// let agent = edge_agent::Agent::new().data("/var/lib/pump").source("pump", || Pump);
/// agent.run(async { drop(tokio::signal::ctrl_c().await) }).await
/// # }
/// ```
#[derive(Default)]
pub struct Agent {
    layers: Layers,
    custom: Vec<Custom>,
}

impl Agent {
    /// One with defaults, changed by the environment as for the command. It must be enrolled
    /// ([`crate::enroll::enroll`]) before it runs.
    #[must_use]
    pub fn new() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { layers: Layers { env, ..Layers::default() }, custom: Vec::new() }
    }

    /// With this configuration file, which is read again when it changes.
    #[must_use]
    pub fn config(mut self, file: impl Into<PathBuf>) -> Self {
        self.layers.file = Some(file.into());
        self
    }

    /// With this folder of identity, spool and socket.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.layers.data_dir = Some(folder.into());
        self
    }

    /// With these addresses of the hub in place of the enrolled one, as host:port with commas.
    #[must_use]
    pub fn hub(mut self, addresses: impl Into<String>) -> Self {
        self.layers.hub = Some(addresses.into());
        self
    }

    /// With a source of the program's own, whose readings go to the default stream. `make` makes it anew for each
    /// attempt: it is supervised as all sources are.
    #[must_use]
    pub fn source<S: Source>(self, name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        self.source_as(SourceConfig::plain(name, SourceKind::Custom), make)
    }

    /// As [`Self::source`], with another stream or patience.
    #[must_use]
    pub fn source_as<S: Source>(
        mut self,
        config: SourceConfig,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        let boxed = move || -> Box<dyn AnySource> { Box::new(make()) };
        let config = SourceConfig { kind: SourceKind::Custom, ..config };
        self.custom.push((config, Arc::new(boxed)));
        self
    }

    /// Runs until `stop` resolves, and then sends what is left, but for no longer than ten seconds.
    ///
    /// # Errors
    /// It cannot start: not enrolled, spool or address in use, or a wrong configuration.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        run_until(self.layers, self.custom, Process::default(), stop).await
    }
}
