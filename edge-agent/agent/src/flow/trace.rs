//! Tracing one device while the agent runs: what becomes of each of its readings at each stage, as lines of text.
//!
//! One trace at a time. It ends by itself: when its time is up, and when who reads it has gone.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame};
use serde::{Deserialize, Serialize};
use tideline_pipeline::Step;
use tideline_protocol::model::DeviceId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::export::Inbox;
use crate::pipeline::step_text;
use crate::serve;
use crate::status::Board;

/// Longest trace: nobody looks at one for longer, and readings of the device take more work meanwhile.
pub const FOR_MAX: Duration = Duration::from_secs(3_600);
/// Most lines that wait for whoever reads them; further ones are counted.
const LINES_MAX: usize = 4_096;
/// Most pieces of the answer that wait.
const PIECES_MAX: usize = 4;

/// The device that is traced, and who reads what.
#[derive(Debug)]
pub struct Traced {
    /// The device.
    pub device: DeviceId,
    lines: mpsc::Sender<String>,
    left_out: AtomicU64,
}

impl Traced {
    /// Tells what became of a reading at a stage. A reader who is too slow misses some, and is told how many.
    pub fn tell(&self, step: &Step) {
        if self.lines.try_send(step_text(step)).is_err() {
            self.leave_out(1);
        }
    }

    /// Counts steps that are not told.
    pub fn leave_out(&self, steps: u64) {
        self.left_out.fetch_add(steps, Ordering::Relaxed);
    }
}

/// Begins traces; a clone begins the same ones.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    traced: watch::Sender<Option<Arc<Traced>>>,
    board: Board,
}

/// A trace that runs, until it is dropped.
struct Running {
    tracer: Tracer,
    traced: Arc<Traced>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tracer.traced.send_replace(None);
    }
}

impl Tracer {
    /// One of the pipelines that are shown there.
    #[must_use]
    pub fn new(board: Board) -> Self {
        Self { traced: watch::Sender::new(None), board }
    }

    /// What is traced, for a flow.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Traced>>> {
        self.traced.subscribe()
    }

    fn begin(&self, device: DeviceId) -> Result<(Running, mpsc::Receiver<String>), String> {
        if self.board.read().pipelines.is_empty() {
            return Err("no pipeline runs".to_owned());
        }
        let (lines, inbox) = mpsc::channel(LINES_MAX);
        let traced = Arc::new(Traced { device, lines, left_out: AtomicU64::new(0) });
        let mut other = None;
        self.traced.send_if_modified(|now| {
            other = now.as_ref().map(|now| now.device.clone());
            if other.is_none() {
                *now = Some(Arc::clone(&traced));
            }
            other.is_none()
        });
        match other {
            Some(other) => Err(format!("device {other} is traced already; one can be at a time")),
            None => Ok((Running { tracer: self.clone(), traced }, inbox)),
        }
    }
}

/// What is traced for how long.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wanted {
    device: DeviceId,
    for_ms: u64,
}

/// Answers a command on the socket with the trace, line by line as it comes.
pub async fn answer(State(tracer): State<Tracer>, Query(wanted): Query<Wanted>) -> Response {
    let (running, lines) = match tracer.begin(wanted.device) {
        Ok(begun) => begun,
        Err(reason) => return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    };
    let until = Instant::now() + Duration::from_millis(wanted.for_ms).min(FOR_MAX);
    let (pieces, inbox) = mpsc::channel(PIECES_MAX);
    tokio::spawn(pump(running, lines, until, pieces));
    Body::new(Inbox::new(inbox)).into_response()
}

async fn pump(
    running: Running,
    mut lines: mpsc::Receiver<String>,
    until: Instant,
    pieces: mpsc::Sender<io::Result<Frame<Bytes>>>,
) {
    loop {
        let line = tokio::select! {
            () = pieces.closed() => return,
            line = timeout_at(until, lines.recv()) => line,
        };
        let Ok(Some(mut text)) = line else { break };
        text.push('\n');
        // A slow reader holds up nobody: lines beyond the limit are counted.
        match timeout_at(until, pieces.send(Ok(Frame::data(text.into())))).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    let left_out = running.traced.left_out.load(Ordering::Relaxed);
    if left_out > 0 {
        let text = format!("trace    {left_out} further steps\n");
        // Who reads may have gone.
        let _ = pieces.send(Ok(Frame::data(text.into()))).await;
    }
}

/// Has a running agent trace a device, and writes the lines as they come.
///
/// # Errors
/// No agent runs on the folder, it runs no pipelines, or it breaks off.
pub async fn ask(
    data: &Path,
    device: &DeviceId,
    length: Duration,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let for_ms = length.min(FOR_MAX).as_millis();
    let uri = format!("/pipeline/trace?device={device}&for_ms={for_ms}");
    let (response, _connection) = serve::send(data, Method::POST, &uri, Vec::new()).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let text = serve::read(body).await?;
        anyhow::bail!("{}", String::from_utf8_lossy(&text));
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the agent broke the trace off")?;
        if let Ok(piece) = frame.into_data() {
            out.write_all(&piece)?;
            out.flush()?;
        }
    }
    Ok(())
}
