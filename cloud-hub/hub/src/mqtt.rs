//! MQTT: the hub's own endpoint, and its client at a broker of somebody else.
//!
//! ```text
//! device ── MQTT 3.1.1 or 5 ──▶ endpoint ─ a line of frames ──┐
//!                                                             ├──▶ ingest, as a QUIC link
//! agent ── broker ── datagrams ──▶ relay ─ QUIC, sealed ──────┘
//! ```
//!
//! The endpoint is no broker: it terminates the session of the device that is connected, and passes
//! nothing from one device to another. Topics and payloads are those of [`tideline_link::mqtt`].

mod access;
mod connection;
mod endpoint;
mod relay;
mod speech;

pub use self::endpoint::{Door, listen};
pub use self::relay::run as relay;

/// What every device token begins with, so that secret scanners can find one.
pub const DEVICE_TOKEN_PREFIX: &str = "tld_";
