//! A link over bounded channels, for transports that are no stream of their own: a task, its
//! driver, holds the [`Line`] and moves the bytes.
//!
//! ```text
//! FrameSender ──▶ Outgoing ──▶ Line::next      driver ──▶ wire
//! FrameReceiver ◀── chunks ◀── Line::deliver   driver ◀── wire
//! LinkHandle::close ─────────▶ Line::closing
//! LinkHandle::closed ◀──────── Line::end
//! ```
//!
//! What the driver delivers are pieces of the peer's stream of frames: any cut will do, order and
//! wholeness are the driver's to keep. Nothing here starts a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{Decoder, Frame};
use tokio::sync::{mpsc, oneshot, watch};

use super::{CLOSE_DONE, Either, Link, LinkError, LinkStats, Transport};

/// Most frames that wait for the driver: with the one it works on, and the longest frame at 4 MiB, as
/// much as a QUIC link has on its way to a peer that does not read.
pub const OUTGOING_MAX: usize = 2;
/// Most delivered pieces that wait for a reader.
pub const DELIVERED_MAX: usize = 16;

/// Who is at the other end, by what the transport has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The agent.
    pub agent: AgentId,
    /// SHA-256 of its public key.
    pub key_sha256: [u8; 32],
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Outgoing {
    /// One encoded frame, to be sent after those before.
    Frame(Bytes),
    /// No frame follows: answer once the peer has all of them.
    Finish(oneshot::Sender<()>),
}

/// Why this end closes a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// See [`super::LinkHandle::close`].
    pub code: u32,
    /// For people.
    pub reason: String,
}

/// The driver's end. Dropping it ends the link.
#[derive(Debug)]
pub struct Line {
    outgoing: mpsc::Receiver<Outgoing>,
    // `None` after the peer's last frame.
    incoming: Option<mpsc::Sender<Bytes>>,
    closing: watch::Receiver<Option<Closing>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Transport,
    remote: SocketAddr,
    closing: watch::Sender<Option<Closing>>,
    ended: watch::Sender<Option<LinkError>>,
    rtt_us: AtomicU64,
    sent_bytes: AtomicU64,
    recv_bytes: AtomicU64,
}

impl Shared {
    fn close(&self, code: u32, reason: &str) {
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert_with(|| Closing { code, reason: reason.to_owned() });
            first
        });
    }

    /// The first reason stays.
    fn end(&self, error: LinkError) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(error);
            first
        });
    }

    fn error(&self) -> LinkError {
        self.ended.borrow().clone().unwrap_or_else(gone)
    }
}

fn gone() -> LinkError {
    LinkError::Lost { reason: "its driver is gone".into() }
}

/// Held by everything on the session's side: with the last of them the link closes.
#[derive(Debug)]
struct Near(Arc<Shared>);

impl Drop for Near {
    fn drop(&mut self) {
        self.0.close(CLOSE_DONE, "dropped");
        self.0.end(LinkError::Closed);
    }
}

/// The session's side, before it is split.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) handle: LineHandle,
    pub(super) sender: LineSender,
    pub(super) receiver: LineReceiver,
    pub(super) peer: Option<Peer>,
}

/// A link, and the line that its driver works with. `remote` is the peer, or the broker between;
/// `peer` is who it has proved to be.
#[must_use]
pub fn link(transport: Transport, remote: SocketAddr, peer: Option<Peer>) -> (Link, Line) {
    let (send, outgoing) = mpsc::channel(OUTGOING_MAX);
    let (incoming, chunks) = mpsc::channel(DELIVERED_MAX);
    let (closing, closing_seen) = watch::channel(None);
    let shared = Arc::new(Shared {
        transport,
        remote,
        closing,
        ended: watch::Sender::new(None),
        rtt_us: AtomicU64::new(0),
        sent_bytes: AtomicU64::new(0),
        recv_bytes: AtomicU64::new(0),
    });
    let near = Arc::new(Near(Arc::clone(&shared)));
    let ends = Ends {
        sender: LineSender {
            outgoing: send,
            pending: Bytes::new(),
            finish: Finish::Open,
            near: Arc::clone(&near),
        },
        receiver: LineReceiver { chunks, decoder: Decoder::new(), near: Arc::clone(&near) },
        handle: LineHandle(near),
        peer,
    };
    let line = Line { outgoing, incoming: Some(incoming), closing: closing_seen, shared };
    (Link(Either::Line(ends)), line)
}

impl Line {
    /// What to do next; `None` once nobody can send any more. Cancel safe.
    pub async fn next(&mut self) -> Option<Outgoing> {
        self.outgoing.recv().await
    }

    /// Resolves when this end closes the link, with the reason to tell the peer. Cancel safe.
    pub async fn closing(&mut self) -> Closing {
        match self.closing.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(closing)) => closing.clone(),
            // Not met: the sender is in what this end shares with the other.
            _ => Closing { code: CLOSE_DONE, reason: String::new() },
        }
    }

    /// Whether [`Self::closing`] has resolved.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Hands the next piece of the peer's stream to the reader; waits while that does not read.
    /// Not cancel safe: dropped, the piece may be lost, and the link with it.
    ///
    /// # Errors
    /// The reader is gone, or [`Self::deliver_end`] was called.
    pub async fn deliver(&self, piece: Bytes) -> Result<(), LinkError> {
        let incoming = self.incoming.as_ref().ok_or(LinkError::Closed)?;
        incoming.send(piece).await.map_err(|_| LinkError::Closed)
    }

    /// Another way to [`Self::deliver`], for a driver that must not wait: a place for one piece.
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`Self::deliver`].
    pub async fn place(&self) -> Result<mpsc::OwnedPermit<Bytes>, LinkError> {
        let incoming = self.incoming.clone().ok_or(LinkError::Closed)?;
        incoming.reserve_owned().await.map_err(|_| LinkError::Closed)
    }

    /// The peer has sent its last frame.
    pub fn deliver_end(&mut self) {
        self.incoming = None;
    }

    /// Ends the link for this reason; what was delivered can still be read. The first reason stays.
    pub fn end(&mut self, error: LinkError) {
        self.shared.end(error);
        self.incoming = None;
        self.outgoing.close();
    }

    /// Counts bytes of the transport.
    pub fn count(&self, sent: u64, received: u64) {
        self.shared.sent_bytes.fetch_add(sent, Ordering::Relaxed);
        self.shared.recv_bytes.fetch_add(received, Ordering::Relaxed);
    }

    /// Notes a measured round trip.
    pub fn note_round_trip(&self, rtt_us: u64) {
        self.shared.rtt_us.store(rtt_us, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.end(gone());
    }
}

#[derive(Debug, Clone)]
pub(super) struct LineHandle(Arc<Near>);

impl LineHandle {
    pub(super) fn transport(&self) -> Transport {
        self.0.0.transport
    }

    pub(super) fn stats(&self) -> LinkStats {
        let shared = &self.0.0;
        LinkStats {
            rtt_us: shared.rtt_us.load(Ordering::Relaxed),
            lost_packets: 0,
            sent_packets: 0,
            sent_bytes: shared.sent_bytes.load(Ordering::Relaxed),
            recv_bytes: shared.recv_bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn remote_addr(&self) -> SocketAddr {
        self.0.0.remote
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.0.0.close(code, reason);
        self.0.0.end(LinkError::Closed);
    }

    pub(super) async fn closed(&self) -> LinkError {
        let mut ended = self.0.0.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            _ => gone(),
        }
    }
}

#[derive(Debug)]
enum Finish {
    Open,
    Asked(oneshot::Receiver<()>),
    Done,
}

#[derive(Debug)]
pub(super) struct LineSender {
    outgoing: mpsc::Sender<Outgoing>,
    // The last frame, while the channel has not taken it.
    pending: Bytes,
    finish: Finish,
    near: Arc<Near>,
}

impl LineSender {
    pub(super) async fn send_bytes(&mut self, frame: Bytes) -> Result<(), LinkError> {
        self.flush().await?;
        self.pending = frame;
        self.flush().await
    }

    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        if self.pending.is_empty() {
            return self.alive();
        }
        let frame = self.pending.clone();
        self.place().await?.send(Outgoing::Frame(frame));
        self.pending = Bytes::new();
        Ok(())
    }

    pub(super) async fn finish(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        if matches!(self.finish, Finish::Open) {
            let (answer, asked) = oneshot::channel();
            self.place().await?.send(Outgoing::Finish(answer));
            self.finish = Finish::Asked(asked);
        }
        if let Finish::Asked(asked) = &mut self.finish {
            if asked.await.is_err() {
                return Err(self.near.0.error());
            }
            self.finish = Finish::Done;
        }
        Ok(())
    }

    fn alive(&self) -> Result<(), LinkError> {
        let ended = self.near.0.ended.borrow().clone();
        ended.map_or(Ok(()), Err)
    }

    /// A place in the channel, for as long as the link lives.
    async fn place(&self) -> Result<mpsc::Permit<'_, Outgoing>, LinkError> {
        self.alive()?;
        let handle = LineHandle(Arc::clone(&self.near));
        tokio::select! {
            place = self.outgoing.reserve() => place.map_err(|_| self.near.0.error()),
            error = handle.closed() => Err(error),
        }
    }
}

#[derive(Debug)]
pub(super) struct LineReceiver {
    chunks: mpsc::Receiver<Bytes>,
    decoder: Decoder,
    near: Arc<Near>,
}

impl LineReceiver {
    pub(super) async fn recv(&mut self) -> Result<Option<Frame>, LinkError> {
        let handle = LineHandle(Arc::clone(&self.near));
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            tokio::select! {
                // What arrived before the end is read before it.
                biased;
                chunk = self.chunks.recv() => match chunk {
                    Some(chunk) => self.decoder.push(&chunk),
                    None => {
                        let ended = self.near.0.ended.borrow().clone();
                        return ended.map_or(Ok(None), Err);
                    }
                },
                error = handle.closed() => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
