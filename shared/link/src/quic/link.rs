//! A link: streams of frames, with handles to watch and close it.

use std::net::SocketAddr;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tideline_protocol::model::AgentId;

use super::error::LinkError;
use super::streams::{FrameReceiver, FrameSender};
use crate::identity::PeerCertificate;

/// A working link. It closes when its halves and all handles are dropped.
#[derive(Debug)]
pub struct Link {
    handle: LinkHandle,
    send: SendStream,
    recv: RecvStream,
    peer: Option<Peer>,
}

/// Who is at the other end, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) agent: AgentId,
    pub(super) certificate: PeerCertificate,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        send: SendStream,
        recv: RecvStream,
        peer: Option<Peer>,
    ) -> Self {
        Self { handle: LinkHandle { connection }, send, recv, peer }
    }

    /// The agent at the other end, by its certificate; `None` on the agent's own side.
    #[must_use]
    pub fn peer_agent(&self) -> Option<&AgentId> {
        self.peer.as_ref().map(|peer| &peer.agent)
    }

    /// The agent's certificate; `None` on the agent's own side.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        self.peer.as_ref().map(|peer| peer.certificate)
    }

    /// A handle to watch and close the link with, also after [`Self::split`].
    #[must_use]
    pub fn handle(&self) -> LinkHandle {
        self.handle.clone()
    }

    /// The two directions, so that each can have its own task.
    #[must_use]
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        let sender = FrameSender::new(self.handle.connection.clone(), self.send);
        let receiver = FrameReceiver::new(self.handle.connection, self.recv);
        (sender, receiver)
    }

    /// See [`LinkHandle::stats`].
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        self.handle.stats()
    }

    /// See [`LinkHandle::close`].
    pub fn close(&self, code: u32, reason: &str) {
        self.handle.close(code, reason);
    }
}

/// What can be measured of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Smoothed round trip in microseconds.
    pub rtt_us: u64,
    /// Packets taken for lost since the link opened.
    pub lost_packets: u64,
    /// Packets sent since the link opened, so that a share can be told.
    pub sent_packets: u64,
    /// Bytes sent in UDP datagrams, all overhead above IP and UDP included.
    pub sent_bytes: u64,
    /// Bytes received in UDP datagrams.
    pub recv_bytes: u64,
}

/// Watches and closes a link; clones speak of the same one.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    connection: Connection,
}

impl LinkHandle {
    /// The figures of this moment.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let stats = self.connection.stats();
        LinkStats {
            rtt_us: u64::try_from(stats.path.rtt.as_micros()).unwrap_or(u64::MAX),
            lost_packets: stats.path.lost_packets,
            sent_packets: stats.path.sent_packets,
            sent_bytes: stats.udp_tx.bytes,
            recv_bytes: stats.udp_rx.bytes,
        }
    }

    /// Where the peer is now; changes when it moves to another network.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Closes at once; what was not yet delivered is lost, so finish the sender first. `code`
    /// [`super::CLOSE_DONE`] reads as [`LinkError::Closed`] at the peer, any other as
    /// [`LinkError::Refused`] with `reason`, which is for people.
    pub fn close(&self, code: u32, reason: &str) {
        self.connection.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits for the link's end and says why. Cancel safe.
    pub async fn closed(&self) -> LinkError {
        self.connection.closed().await.into()
    }
}
