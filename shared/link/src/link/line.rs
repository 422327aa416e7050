//! A link over bounded channels, for transports that are no stream of their own: a task, its
//! driver, holds the [`Line`] and moves the bytes.
//!
//! ```text
//! FrameSender ──▶ Outgoing ──▶ Departures::next     driver ──▶ wire
//! LinkHandle::close ─────────▶ Departures::closing
//! FrameReceiver ◀── pieces ◀── Arrivals::deliver    driver ◀── wire
//! LinkHandle::closed ◀──────── Control::end
//! ```
//!
//! What the driver delivers are pieces of the peer's stream of frames: any cut will do, order and
//! wholeness are the driver's to keep. Nothing here starts a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{Decoder, Frame};
use tokio::sync::{mpsc, oneshot, watch};

use super::{CLOSE_DONE, Link, LinkError, LinkStats, Transport};
use crate::identity::PeerCertificate;

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
    /// How it has proved that.
    pub proof: Proof,
}

/// How an agent has proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By this certificate.
    Certificate(PeerCertificate),
    /// By a token of the hub's, which the hub has checked.
    Token,
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

/// The driver's end. Its parts can go to different tasks; with the last of the first two the link ends.
#[derive(Debug)]
pub struct Line {
    /// What the session sends.
    pub departures: Departures,
    /// What the peer sends.
    pub arrivals: Arrivals,
    /// How it goes and why it ends.
    pub control: Control,
}

/// What the session sends.
#[derive(Debug)]
pub struct Departures {
    outgoing: mpsc::Receiver<Outgoing>,
    closing: watch::Receiver<Option<Closing>>,
    _far: Arc<Far>,
}

/// What the peer sends.
#[derive(Debug)]
pub struct Arrivals {
    incoming: mpsc::Sender<Bytes>,
    far: Arc<Far>,
}

/// Figures and the end of a link; clones speak of the same one.
#[derive(Debug, Clone)]
pub struct Control(Arc<Shared>);

/// Held by the driver's parts: with the last of them the link ends.
#[derive(Debug)]
struct Far(Arc<Shared>);

impl Drop for Far {
    fn drop(&mut self) {
        self.0.end(gone());
    }
}

#[derive(Debug)]
struct Shared {
    transport: Transport,
    remote: SocketAddr,
    closing: watch::Sender<Option<Closing>>,
    ended: watch::Sender<Option<LinkError>>,
    // Whether the peer has sent its last frame.
    all_arrived: AtomicBool,
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
        all_arrived: AtomicBool::new(false),
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
    let far = Arc::new(Far(Arc::clone(&shared)));
    let line = Line {
        departures: Departures { outgoing, closing: closing_seen, _far: Arc::clone(&far) },
        arrivals: Arrivals { incoming, far },
        control: Control(shared),
    };
    (Link::of_line(ends), line)
}

impl Departures {
    /// What to do next; `None` once nobody can send any more. Cancel safe.
    pub async fn next(&mut self) -> Option<Outgoing> {
        self.outgoing.recv().await
    }

    /// Resolves when this end closes the link, with the reason to tell the peer. Cancel safe.
    pub async fn closing(&mut self) -> Closing {
        match self.closing.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(closing)) => closing.clone(),
            // Not met: the sender is in what both ends share.
            _ => Closing { code: CLOSE_DONE, reason: String::new() },
        }
    }

    /// As [`Self::closing`], to be waited for elsewhere.
    pub fn watch_closing(&self) -> impl Future<Output = Closing> + Send + use<> {
        let mut closing = self.closing.clone();
        async move {
            match closing.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(closing)) => closing.clone(),
                _ => Closing { code: CLOSE_DONE, reason: String::new() },
            }
        }
    }
}

impl Arrivals {
    /// Hands the next piece of the peer's stream to the reader; waits while that does not read. Not
    /// cancel safe: dropped, the piece may be lost, and the stream with it.
    ///
    /// # Errors
    /// The reader is gone.
    pub async fn deliver(&self, piece: Bytes) -> Result<(), LinkError> {
        self.incoming.send(piece).await.map_err(|_| LinkError::Closed)
    }

    /// The peer has sent its last frame.
    pub fn end(self) {
        self.far.0.all_arrived.store(true, Ordering::Release);
    }
}

impl Control {
    /// Ends the link for this reason, and sending with it; what arrives can be read until the driver lets
    /// go of its [`Arrivals`]. The first reason stays.
    pub fn end(&self, error: LinkError) {
        self.0.end(error);
    }

    /// Counts bytes of the transport.
    pub fn count(&self, sent: usize, received: usize) {
        let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        self.0.sent_bytes.fetch_add(number(sent), Ordering::Relaxed);
        self.0.recv_bytes.fetch_add(number(received), Ordering::Relaxed);
    }

    /// Notes a measured round trip.
    pub fn note_round_trip(&self, rtt_us: u64) {
        self.0.rtt_us.store(rtt_us, Ordering::Relaxed);
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
    /// Ends when the driver has let go of its arrivals, so that what came before the end is read first.
    pub(super) async fn recv(&mut self) -> Result<Option<Frame>, LinkError> {
        let mut closing = self.near.0.closing.subscribe();
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            tokio::select! {
                biased;
                chunk = self.chunks.recv() => match chunk {
                    Some(chunk) => self.decoder.push(&chunk),
                    None => return self.end(),
                },
                _ = closing.wait_for(Option::is_some) => return Err(LinkError::Closed),
            }
        }
    }

    fn end(&self) -> Result<Option<Frame>, LinkError> {
        let ended = self.near.0.ended.borrow().clone();
        match ended {
            Some(error) => Err(error),
            None if self.near.0.all_arrived.load(Ordering::Acquire) => Ok(None),
            None => Err(gone()),
        }
    }
}

#[cfg(test)]
mod tests;
