//! A link whatever carries it: one session's frames in both directions, and handles to watch and
//! close it.
//!
//! ```text
//! quic::Link, over UDP or through a broker ──┐
//!                                            ├──▶ Link ──▶ FrameSender, FrameReceiver, LinkHandle
//! line::Line ◀── bounded channels ───────────┘
//!   └ a task that moves bytes over what is no stream by itself, as MQTT
//! ```
//!
//! Both kinds keep the same promises: frames arrive whole, once and in order, or the link ends. A
//! link that breaks is given up, never repaired. Nothing here knows what the frames mean.

pub mod line;

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{Frame, encode};

use self::line::{LineHandle, LineReceiver, LineSender, Proof};
use crate::identity::PeerCertificate;
use crate::quic;
pub use crate::quic::{CLOSE_DONE, CLOSE_FULL, CLOSE_IDENTITY, CLOSE_REPLACED, LinkError, LinkStats};

/// What carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A QUIC connection.
    Quic,
    /// MQTT, to the hub's own endpoint or through a broker.
    Mqtt,
}

impl Transport {
    /// As status and logs name it: `quic` or `mqtt`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Mqtt => "mqtt",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A working link. It closes when its halves and all handles are dropped.
#[derive(Debug)]
pub struct Link {
    either: Either,
    broker: Option<SocketAddr>,
}

#[derive(Debug)]
enum Either {
    Quic(quic::Link),
    Line(line::Ends),
}

impl From<quic::Link> for Link {
    fn from(link: quic::Link) -> Self {
        Self { either: Either::Quic(link), broker: None }
    }
}

impl Link {
    /// A QUIC link whose packets travel through an MQTT broker at this address.
    #[must_use]
    pub fn through_broker(link: quic::Link, broker: SocketAddr) -> Self {
        Self { either: Either::Quic(link), broker: Some(broker) }
    }

    fn of_line(ends: line::Ends) -> Self {
        Self { either: Either::Line(ends), broker: None }
    }

    /// What carries it.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.handle().transport()
    }

    /// The agent at the other end, as it has proved; `None` on the agent's own side.
    #[must_use]
    pub fn peer_agent(&self) -> Option<&AgentId> {
        match &self.either {
            Either::Quic(link) => link.peer_agent(),
            Either::Line(ends) => ends.peer.as_ref().map(|peer| &peer.agent),
        }
    }

    /// The agent's certificate, whose key tells a hub the one that it enrolled last from an older one that has not
    /// expired; `None` on the agent's own side, and for an agent that has proved itself by a token.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        match &self.either {
            Either::Quic(link) => link.peer_certificate(),
            Either::Line(ends) => match ends.peer.as_ref()?.proof {
                Proof::Certificate(shown) => Some(shown),
                Proof::Token => None,
            },
        }
    }

    /// A handle to watch and close the link with, also after [`Self::split`].
    #[must_use]
    pub fn handle(&self) -> LinkHandle {
        let of = match &self.either {
            Either::Quic(link) => HandleOf::Quic(link.handle()),
            Either::Line(ends) => HandleOf::Line(ends.handle.clone()),
        };
        LinkHandle { of, broker: self.broker }
    }

    /// The two directions, so that each can have its own task.
    #[must_use]
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        match self.either {
            Either::Quic(link) => {
                let (sender, receiver) = link.split();
                (FrameSender(SenderOf::Quic(sender)), FrameReceiver(ReceiverOf::Quic(receiver)))
            }
            Either::Line(ends) => {
                (FrameSender(SenderOf::Line(ends.sender)), FrameReceiver(ReceiverOf::Line(ends.receiver)))
            }
        }
    }

    /// See [`LinkHandle::stats`].
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        self.handle().stats()
    }

    /// See [`LinkHandle::close`].
    pub fn close(&self, code: u32, reason: &str) {
        self.handle().close(code, reason);
    }
}

/// Watches and closes a link; clones speak of the same one.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    of: HandleOf,
    broker: Option<SocketAddr>,
}

#[derive(Debug, Clone)]
enum HandleOf {
    Quic(quic::LinkHandle),
    Line(LineHandle),
}

impl LinkHandle {
    /// What carries the link.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match &self.of {
            HandleOf::Quic(_) if self.broker.is_some() => Transport::Mqtt,
            HandleOf::Quic(_) => Transport::Quic,
            HandleOf::Line(line) => line.transport(),
        }
    }

    /// The figures of this moment; what a transport cannot measure stays 0.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        match &self.of {
            HandleOf::Quic(handle) => handle.stats(),
            HandleOf::Line(line) => line.stats(),
        }
    }

    /// Where the peer is now, or the broker between; changes when a QUIC peer moves to another network.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        match &self.of {
            HandleOf::Quic(handle) => self.broker.unwrap_or_else(|| handle.remote_addr()),
            HandleOf::Line(line) => line.remote_addr(),
        }
    }

    /// Closes at once; what was not yet delivered is lost, so finish the sender first. `code`
    /// [`CLOSE_DONE`] reads as [`LinkError::Closed`] at the peer, any other as [`LinkError::Refused`]
    /// with `reason`, which is for people. Over MQTT the peer may see no more than a lost connection.
    pub fn close(&self, code: u32, reason: &str) {
        match &self.of {
            HandleOf::Quic(handle) => handle.close(code, reason),
            HandleOf::Line(line) => line.close(code, reason),
        }
    }

    /// Waits for the link's end and says why. Cancel safe.
    pub async fn closed(&self) -> LinkError {
        match &self.of {
            HandleOf::Quic(handle) => handle.closed().await,
            HandleOf::Line(line) => line.closed().await,
        }
    }
}

/// The sending direction.
#[derive(Debug)]
pub struct FrameSender(SenderOf);

#[derive(Debug)]
enum SenderOf {
    Quic(quic::FrameSender),
    Line(LineSender),
}

impl FrameSender {
    /// Sends a frame; waits while the peer does not read.
    ///
    /// Cancel safe: a frame whose sending was broken off goes out before the next one, whole.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), LinkError> {
        match &mut self.0 {
            // It sorts frames into streams by what they are.
            SenderOf::Quic(sender) => sender.send(frame).await,
            SenderOf::Line(sender) => sender.send_bytes(Bytes::from(encode(frame))).await,
        }
    }

    /// As [`Self::send`], for a frame that is already encoded.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn send_bytes(&mut self, frame: Bytes) -> Result<(), LinkError> {
        match &mut self.0 {
            SenderOf::Quic(sender) => sender.send_bytes(frame).await,
            SenderOf::Line(sender) => sender.send_bytes(frame).await,
        }
    }

    /// Hands what a broken-off send left to the transport. Cancel safe.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        match &mut self.0 {
            SenderOf::Quic(sender) => sender.flush().await,
            SenderOf::Line(sender) => sender.flush().await,
        }
    }

    /// Says that no frame follows, and waits until the peer has all of them. May be called again.
    ///
    /// # Errors
    /// The link ended first.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        match &mut self.0 {
            SenderOf::Quic(sender) => sender.finish().await,
            SenderOf::Line(sender) => sender.finish().await,
        }
    }
}

/// The receiving direction.
#[derive(Debug)]
pub struct FrameReceiver(ReceiverOf);

#[derive(Debug)]
enum ReceiverOf {
    Quic(quic::FrameReceiver),
    Line(LineReceiver),
}

impl FrameReceiver {
    /// The next frame, or `None` after the peer's last one.
    ///
    /// Cancel safe: what has arrived of a frame is kept for the next call.
    ///
    /// # Errors
    /// The link has ended, or the peer sent what is no frame; either way it is of no more use.
    pub async fn recv(&mut self) -> Result<Option<Frame>, LinkError> {
        match &mut self.0 {
            ReceiverOf::Quic(receiver) => receiver.recv().await,
            ReceiverOf::Line(receiver) => receiver.recv().await,
        }
    }
}
