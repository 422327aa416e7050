//! The two directions of a link, and the streams of each.
//!
//! ```text
//! first stream, bidirectional   hello, dictionary, live runs, gaps, reports   ⇄   welcome, acks
//! backfill, agent → hub         backfill runs; opened with the first of them
//! ```
//! Backfill has a stream of its own so that a live frame neither queues behind it in the sender nor
//! waits at the hub for a lost packet of it. Within a stream frames keep their order; between the two
//! there is none, and the session needs none.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tideline_protocol::wire::{Decoder, Frame, Lane, Message, encode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::LinkError;

/// Most bytes taken from a stream at a time; bounds what one read adds to a decoder's buffer.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Of the backfill stream; the first has 0.
const BACKFILL_PRIORITY: i32 = -1;
/// Backfill frames that wait for the stream to take them. The session's window keeps fewer runs than
/// these on the way; beyond them a send waits.
const BACKFILL_QUEUE_MAX: usize = 16;

/// The sending direction.
#[derive(Debug)]
pub struct FrameSender {
    connection: Connection,
    stream: SendStream,
    // What of the last frame was not yet taken by the stream.
    pending: Bytes,
    backfill: Backfill,
}

/// Where backfill frames go.
#[derive(Debug)]
enum Backfill {
    /// There was none yet.
    Unopened,
    /// To a task that owns the stream, so that a full stream holds up no live frame.
    Open { queue: Option<mpsc::Sender<Bytes>>, writer: JoinHandle<Result<(), LinkError>> },
    /// It was finished, or has failed.
    Ended(Result<(), LinkError>),
}

impl FrameSender {
    pub(super) fn new(connection: Connection, stream: SendStream) -> Self {
        Self { connection, stream, pending: Bytes::new(), backfill: Backfill::Unopened }
    }

    /// Sends a frame; waits while the peer does not read. A backfill run goes by the backfill stream
    /// and is only handed over here: it waits for room with that stream, not with the caller.
    ///
    /// Cancel safe: a frame whose sending was broken off goes out before the next one, whole; a
    /// backfill run that was not handed over is not sent.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), LinkError> {
        match &frame.message {
            Message::Run(run) if run.envelope.lane == Lane::Backfill => {
                self.send_backfill(Bytes::from(encode(frame))).await
            }
            _ => self.send_bytes(Bytes::from(encode(frame))).await,
        }
    }

    /// Sends an encoded frame by the first stream, as [`Self::send`] does.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn send_bytes(&mut self, frame: Bytes) -> Result<(), LinkError> {
        self.flush().await?;
        self.pending = frame;
        self.flush().await
    }

    /// Hands what a broken-off send left to the first stream. Cancel safe.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.pending.is_empty() {
            self.stream.write_chunks(std::slice::from_mut(&mut self.pending)).await?;
        }
        Ok(())
    }

    async fn send_backfill(&mut self, frame: Bytes) -> Result<(), LinkError> {
        if matches!(self.backfill, Backfill::Unopened) {
            let (queue, frames) = mpsc::channel(BACKFILL_QUEUE_MAX);
            let writer = tokio::spawn(write_backfill(self.connection.clone(), frames));
            self.backfill = Backfill::Open { queue: Some(queue), writer };
        }
        if let Backfill::Open { queue: Some(queue), .. } = &self.backfill
            && queue.send(frame).await.is_ok()
        {
            return Ok(());
        }
        // The writer takes no more only when the stream has failed or was finished.
        self.finish_backfill().await?;
        Err(LinkError::Closed)
    }

    /// Ends the backfill stream and waits until the peer has all of it. Cancel safe.
    async fn finish_backfill(&mut self) -> Result<(), LinkError> {
        let ended = match &mut self.backfill {
            Backfill::Unopened => Ok(()),
            Backfill::Open { queue, writer } => {
                *queue = None;
                writer.await.map_err(LinkError::lost).flatten()
            }
            Backfill::Ended(ended) => ended.clone(),
        };
        self.backfill = Backfill::Ended(ended.clone());
        ended
    }

    /// Says that no frame follows, and waits until the peer has all of them. May be called again.
    ///
    /// # Errors
    /// The link ended first.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        // The end of the first stream is the end of the link's frames: it comes last.
        self.finish_backfill().await?;
        finish(&mut self.stream).await
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        // What was not sent is not to be sent by a task that nobody knows of.
        if let Backfill::Open { writer, .. } = &self.backfill {
            writer.abort();
        }
    }
}

async fn finish(stream: &mut SendStream) -> Result<(), LinkError> {
    // It fails only when already finished or stopped by the peer; `stopped` tells which.
    let _ = stream.finish();
    match stream.stopped().await? {
        None => Ok(()),
        Some(code) => Err(LinkError::Lost { reason: format!("peer stopped reading with code {code}") }),
    }
}

/// Opens the backfill stream and writes to it until the queue is closed and the peer has all.
async fn write_backfill(connection: Connection, mut frames: mpsc::Receiver<Bytes>) -> Result<(), LinkError> {
    let mut stream = connection.open_uni().await?;
    stream.set_priority(BACKFILL_PRIORITY).map_err(LinkError::lost)?;
    while let Some(frame) = frames.recv().await {
        stream.write_chunk(frame).await?;
    }
    finish(&mut stream).await
}

/// The receiving direction.
#[derive(Debug)]
pub struct FrameReceiver {
    connection: Connection,
    first: Incoming,
    backfill: Option<Incoming>,
}

/// A stream that is read, with what has arrived of its next frame.
#[derive(Debug)]
struct Incoming {
    stream: RecvStream,
    decoder: Decoder,
    ended: bool,
}

impl Incoming {
    fn new(stream: RecvStream) -> Self {
        Self { stream, decoder: Decoder::new(), ended: false }
    }

    /// Takes what has arrived, or notes the stream's end. Cancel safe.
    async fn read(&mut self) -> Result<(), LinkError> {
        match self.stream.read_chunk(READ_BYTES_MAX, true).await? {
            Some(chunk) => self.decoder.push(&chunk.bytes),
            None => self.ended = true,
        }
        Ok(())
    }
}

impl FrameReceiver {
    pub(super) fn new(connection: Connection, stream: RecvStream) -> Self {
        Self { connection, first: Incoming::new(stream), backfill: None }
    }

    /// The next frame of either stream, those of the first before backfill, or `None` after the peer's
    /// last one.
    ///
    /// Cancel safe: what has arrived of a frame is kept for the next call.
    ///
    /// # Errors
    /// The link has ended, or the peer sent what is no frame; either way it is of no more use.
    pub async fn recv(&mut self) -> Result<Option<Frame>, LinkError> {
        loop {
            if let Some(frame) = self.first.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let Some(backfill) = &mut self.backfill else {
                if !self.wait_first().await? {
                    return Ok(None);
                }
                continue;
            };
            // What of a live frame has arrived goes first, and so it is looked for before each frame.
            let live = if self.first.ended { None } else { at_once(self.first.read()).await };
            if let Some(read) = live {
                read?;
            } else if let Some(frame) = backfill.decoder.next_frame()? {
                return Ok(Some(frame));
            } else if backfill.ended {
                self.backfill = None;
            } else {
                tokio::select! {
                    biased;
                    read = self.first.read(), if !self.first.ended => read?,
                    read = backfill.read() => read?,
                }
            }
        }
    }

    /// Waits for the first stream, or for a backfill stream to open; false after the last frame.
    async fn wait_first(&mut self) -> Result<bool, LinkError> {
        if self.first.ended {
            // The peer ends its first stream only when all of its backfill has arrived here.
            let Some(opened) = at_once(self.connection.accept_uni()).await else { return Ok(false) };
            self.backfill = Some(Incoming::new(opened?));
            return Ok(true);
        }
        tokio::select! {
            biased;
            read = self.first.read() => read?,
            opened = self.connection.accept_uni() => self.backfill = Some(Incoming::new(opened?)),
        }
        Ok(true)
    }
}

/// What the future gives without waiting.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
