//! Links over MQTT, where UDP does not get through.
//!
//! ```text
//!                 to the hub's own endpoint (TLS, the device's certificate)
//! agent ── tideline/v1/<agent>/up ──▶ hub         payload: a piece of the stream of frames
//! agent ◀── tideline/v1/<agent>/down ── hub
//!
//!                 through a broker that nobody trusts
//! agent ── tideline/v1/<agent>/sealed/up ──▶ broker ──▶ hub      payload: one QUIC datagram
//! agent ◀── tideline/v1/<agent>/sealed/down ── broker ◀── hub
//! ```
//!
//! **To the endpoint** the payloads of one direction, in order, are the stream of frames; a frame may
//! be cut anywhere, and no payload is longer than [`PIECE_BYTES_MAX`]. The agent publishes with QoS 1,
//! so that it knows what has arrived; the hub with QoS 0, because the connection is reliable and the
//! session's acknowledgements are the truth. A connection is a link: it begins with the subscription
//! and its first payload up, and what breaks it breaks the link.
//!
//! **Through a broker** the link is QUIC itself (RFC 9000), with MQTT in the place of UDP: each payload
//! is one datagram of at most [`tunnel::DATAGRAM_BYTES_MAX`]. So the frames are sealed end to end by
//! TLS 1.3 (RFC 9001) between the agent's certificate and the hub's: keys are of one connection and
//! forward secret, packet numbers only grow, and a packet that is replayed, forged, damaged or meant
//! for somebody else is dropped without a trace. Whoever may publish at the broker can at most waste
//! bandwidth, or disturb a handshake that it watches, as on any network; it reads nothing and speaks
//! for nobody. Lost, doubled and reordered messages are what QUIC is made for, so QoS 0 will do.
//!
//! rumqttc's own session state is never relied on: the session is always a clean one, and after any
//! error the client is dropped. Nothing here decides when to connect again.

mod client;
mod direct;
mod server;
pub mod tunnel;

use std::time::Duration;

use tideline_protocol::model::AgentId;

pub use self::direct::connect;
pub use self::server::{BrokerUrl, BrokerUrlError, Server};
pub use self::tunnel::{Relay, connect_sealed};

/// What the TLS handshake with the hub's endpoint may offer; RFC 7301 knows it by this name.
pub const ALPN: &str = "mqtt";
/// What all topics begin with.
pub const ROOT: &str = "tideline/v1";
/// Longest payload that either end sends: below the 128 KiB that the strictest brokers allow.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Longest packet that either end takes: a payload, its topic and its header.
pub const PACKET_BYTES_MAX: usize = PIECE_BYTES_MAX + 1024;
/// How often a silent connection is probed, as an idle session does; it is dead when a probe has no answer
/// until the next. Who has something to send does not wait for that.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most published payloads without an acknowledgement: 1 MiB on its way, which fills 100 ms of round
/// trip at 80 Mbit/s.
pub const INFLIGHT_MAX: u16 = 16;

/// What the topics of one agent begin with, the slash included; it may use no other.
#[must_use]
pub fn prefix(agent: &AgentId) -> String {
    format!("{ROOT}/{agent}/")
}

/// Where an agent sends frames to the hub's endpoint.
#[must_use]
pub fn up(agent: &AgentId) -> String {
    format!("{ROOT}/{agent}/up")
}

/// Where the hub's endpoint sends frames to an agent.
#[must_use]
pub fn down(agent: &AgentId) -> String {
    format!("{ROOT}/{agent}/down")
}

/// Where an agent sends sealed datagrams through a broker.
#[must_use]
pub fn sealed_up(agent: &AgentId) -> String {
    format!("{ROOT}/{agent}/sealed/up")
}

/// Where a hub sends sealed datagrams through a broker.
#[must_use]
pub fn sealed_down(agent: &AgentId) -> String {
    format!("{ROOT}/{agent}/sealed/down")
}

/// What a hub subscribes to at a broker: [`sealed_up`] of all agents.
pub const SEALED_UP_OF_ALL: &str = "tideline/v1/+/sealed/up";

/// Whose [`sealed_up`] a topic is; `None` when it is no such topic.
#[must_use]
pub fn agent_of_sealed_up(topic: &str) -> Option<AgentId> {
    let id = topic.strip_prefix(ROOT)?.strip_prefix('/')?.strip_suffix("/sealed/up")?;
    AgentId::parse(id).ok()
}

#[cfg(test)]
mod tests;
