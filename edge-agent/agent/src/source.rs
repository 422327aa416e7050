//! Sources: where readings come from.
//!
//! A source is a future that reads until it is told to stop; each runs in a task of its own, which its
//! supervisor starts, watches and starts again ([`crate::supervise`]). It is told what is wrong with the
//! outside by answers of its own, and by nothing else: another source that hangs, fails or panics
//! does not concern it.

pub mod coap;
pub mod context;
mod deliveries;
pub mod directory;
pub mod editions;
pub mod host;
pub mod http;
mod introduction;
pub mod modbus;
pub mod mqtt;
pub mod opcua;
mod outlets;
pub(crate) mod pulse;
pub mod readings;
pub mod reads;
pub mod replay;
pub mod rows;
pub mod serial;
pub mod sheets;
pub(crate) mod sources;
pub mod sparkplug;
pub mod statistics;
pub mod stdin;
mod subject;
pub mod tail;
pub mod unchanged;
pub mod writes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::model::PointId;

pub use self::context::{Context, Ticks};
use self::editions::Editions;
pub use self::outlets::Outlets;
pub use self::readings::{Device, Reading, Readings};
pub use self::sources::{Shared, Sources};
pub use self::writes::{Patience, TIMEOUT as WRITE_TIMEOUT, Values, Write, WriteError, Writes};
use crate::config::{SourceConfig, SourceKind};

/// Why a source ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It was told to.
    #[error("it was told to stop")]
    Stopped,
    /// It cannot go on; it is started again after a rest.
    #[error("{0}")]
    Failed(String),
}

impl SourceError {
    /// It cannot go on for this reason.
    #[must_use]
    pub fn failed(reason: impl std::fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// Something that yields readings.
pub trait Source: Send + 'static {
    /// Reads until there is nothing left, until it fails, or until a function of the context says that it is to
    /// stop. It may be dropped wherever it waits.
    ///
    /// # Errors
    /// It cannot go on, or was told to stop.
    fn run(&mut self, context: &mut Context) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// A future that is sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any source, as it is kept in lists.
pub trait AnySource: Send {
    /// As [`Source::run`].
    fn run_boxed<'a>(&'a mut self, context: &'a mut Context) -> BoxFuture<'a, Result<(), SourceError>>;
}

impl<S: Source> AnySource for S {
    fn run_boxed<'a>(&'a mut self, context: &'a mut Context) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.run(context))
    }
}

/// Makes a source anew for each attempt: what a panic leaves behind is not used again.
pub type Make = Arc<dyn Fn() -> Box<dyn AnySource> + Send + Sync>;

/// How sources of a configuration are made; one that is the program's own is not among them.
fn maker(config: &SourceConfig, editions: &Editions) -> Option<Make> {
    let config = editions.of_source(config);
    Some(match config.kind.clone() {
        SourceKind::Custom => return None,
        SourceKind::Host { interval_ms } => Arc::new(move || Box::new(host::HostSource { interval_ms })),
        SourceKind::Replay { path, rate, rows } => {
            let source = replay::ReplaySource { path, rate, rows };
            Arc::new(move || Box::new(source.clone()))
        }
        SourceKind::Tail { path, interval_ms, from_end, rows } => {
            let interval = Duration::from_millis(interval_ms);
            let source = tail::TailSource { path, interval, from_end, rows };
            Arc::new(move || Box::new(source.clone()))
        }
        SourceKind::Stdin { rows } => {
            let source = stdin::StdinSource { rows };
            Arc::new(move || Box::new(source.clone()))
        }
        SourceKind::Http(door) => {
            let source = http::HttpSource::new(door, config.devices.clone());
            Arc::new(move || Box::new(source.clone()))
        }
        SourceKind::Modbus { line, timeout_ms } => {
            let (timeout, devices) = (timeout_ms.map(Duration::from_millis), config.devices.clone());
            let source = modbus::ModbusSource { line, timeout, devices };
            Arc::new(move || Box::new(source.clone()))
        }
        SourceKind::Mqtt { broker, families } => {
            let directory = directory::Directory::new(&config.devices, &families);
            let directory = directory.map(|directory| directory.with(editions, &config.name));
            let source = mqtt::MqttSource::new(broker, directory);
            Arc::new(move || Box::new(source.again()))
        }
        SourceKind::Sparkplug { broker, groups, family } => {
            let nodes = sparkplug::nodes::Nodes::new(groups, &config.devices, &family);
            let nodes = nodes.map(|nodes| nodes.with(editions, &config.name));
            let source = mqtt::MqttSource::new(broker, nodes);
            Arc::new(move || Box::new(source.again()))
        }
        SourceKind::Coap => {
            let source = coap::CoapSource { devices: config.devices.clone() };
            Arc::new(move || Box::new(source.clone()))
        }
        SourceKind::OpcUa { server } => {
            let source = opcua::OpcUaSource::new(server, config.devices.clone());
            Arc::new(move || Box::new(source.again()))
        }
        SourceKind::Serial { path, given } => {
            let source = serial::SerialSource::new(path, given, &config.devices);
            Arc::new(move || Box::new(source.again()))
        }
    })
}

/// A point id made of free text: what is not allowed becomes '-'.
#[must_use]
pub fn point_id(text: &str) -> Option<PointId> {
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-/".contains(c) { c } else { '-' };
    let text: String = text.trim().chars().map(clean).take(64).collect();
    PointId::parse(&text).ok()
}
