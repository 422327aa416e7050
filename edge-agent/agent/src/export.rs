//! Export of held readings: by the running agent over its socket, or from the spool's files when none
//! runs. However much is held, little of it is in memory at a time.

use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use anyhow::Context as _;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tideline_protocol::block;
use tideline_protocol::model::SeriesDef;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::value::{Quality, Value};
use tideline_spool::LoadedRun;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::serve;
use crate::spooler::{Loaded, SpoolHandle};

/// Stored bytes that are read at a time.
pub const BYTES_AT_A_TIME: usize = 256 * 1024;
/// Bytes of text that are sent together, and how many such pieces wait for whoever reads them.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_MAX: usize = 4;
/// Beside the readings the answer says how many batches are not among them; without it, it was cut off.
const MISSING: &str = "tideline-missing";

/// What is exported, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// As JSON lines in place of CSV (RFC 4180).
    pub json: bool,
    /// Of these series only, as device/point; all when there is none.
    pub series: Vec<String>,
    /// Not earlier than this, in ns since 1970.
    pub from_ns: Option<i64>,
    /// Earlier than this, in ns since 1970.
    pub to_ns: Option<i64>,
}

impl Selection {
    fn has_series(&self, def: &SeriesDef) -> bool {
        let id = || format!("{}/{}", def.device, def.point);
        self.series.is_empty() || self.series.contains(&id())
    }

    fn has_time(&self, time_ns: i64) -> bool {
        self.from_ns.is_none_or(|from_ns| time_ns >= from_ns)
            && self.to_ns.is_none_or(|to_ns| time_ns < to_ns)
    }

    /// Fails when it names a series that is none of `defs`.
    ///
    /// # Errors
    /// It does.
    pub fn check(&self, defs: &[SeriesDef]) -> anyhow::Result<()> {
        for id in &self.series {
            let one = Self { series: vec![id.clone()], ..Self::default() };
            anyhow::ensure!(
                defs.iter().any(|def| one.has_series(def)),
                "the spool has no series {id:?}; allowed is device/point of one that it has"
            );
        }
        Ok(())
    }
}

/// Writes the selected readings of the `held` seqs, one JSON object or CSV line each; gives how many
/// batches could not be had: they are damaged, or were freed meanwhile.
///
/// # Errors
/// The spool fails, or `out` cannot be written.
pub fn write(
    selection: &Selection,
    defs: &[SeriesDef],
    held: RangeSet,
    mut load: impl FnMut(&RangeSet) -> anyhow::Result<Loaded>,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    if !selection.json {
        writeln!(out, "seq,device,point,unit,time_ns,value,quality")?;
    }
    let (mut left, mut missing) = (held, 0);
    let next = |left: &RangeSet| left.iter().next().map(|(first, _)| first);
    while let Some(first) = next(&left) {
        match load(&left)? {
            Loaded::Run(run) => {
                write_run(selection, defs, &run, out)?;
                left.remove(first, run.first.get().saturating_add(run.rows.seqs()).saturating_sub(1));
            }
            Loaded::Gone(mut gone) => {
                gone.insert(first, first);
                missing += gone.len();
                left.remove_set(&gone);
            }
        }
    }
    out.flush()?;
    Ok(missing)
}

fn write_run(
    selection: &Selection,
    defs: &[SeriesDef],
    run: &LoadedRun,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if selection.json {
        return each_reading(selection, defs, run, |seq, def, time_ns, (value, quality)| {
            let SeriesDef { device, point, unit, .. } = def;
            let value = in_json(&value);
            let mut row = json!({
                "seq": seq, "device": device, "point": point, "unit": unit, "time_ns": time_ns, "value": value
            });
            if let (Some(row), true) = (row.as_object_mut(), quality != Quality::Good) {
                row.insert("quality".into(), quality.as_str().into());
            }
            Ok(writeln!(out, "{row}")?)
        });
    }
    // A unit and a text may hold what a CSV has to quote.
    let mut rows = csv::Writer::from_writer(out);
    each_reading(selection, defs, run, |seq, def, time_ns, (value, quality)| {
        let (seq, time_ns, value) = (seq.to_string(), time_ns.to_string(), value.to_string());
        let (device, point) = (def.device.as_str(), def.point.as_str());
        Ok(rows.write_record([seq.as_str(), device, point, &def.unit, &time_ns, &value, quality.as_str()])?)
    })?;
    Ok(rows.flush()?)
}

/// A number, a truth value, a text or null; what JSON has no number for is null.
pub(crate) fn in_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Float(number) => (*number).into(),
        Value::Int(integer) => (*integer).into(),
        Value::Bool(truth) => (*truth).into(),
        Value::Text(text) => text.as_ref().into(),
    }
}

fn each_reading(
    selection: &Selection,
    defs: &[SeriesDef],
    run: &LoadedRun,
    mut take: impl FnMut(u64, &SeriesDef, i64, (Value, Quality)) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let decoded = block::decode(&run.block, &run.rows, run.first)?;
    for column in decoded.columns {
        let Some(def) = usize::try_from(column.series).ok().and_then(|n| defs.get(n)) else { continue };
        if !selection.has_series(def) {
            continue;
        }
        let seqs = column.rows_per_seq.iter().zip(run.first.get()..);
        let seqs = seqs.flat_map(|(rows, seq)| std::iter::repeat_n(seq, *rows as usize));
        for ((time_ns, value), seq) in column.times.iter().zip(&column.values).zip(seqs) {
            if selection.has_time(*time_ns) {
                take(seq, def, *time_ns, decoded.boxes.value(*value, def.kind()))?;
            }
        }
    }
    Ok(())
}

/// What an export needs to know of the spool before it begins.
///
/// # Errors
/// The spool fails, or has no such series.
pub(crate) async fn begin(
    spool: &SpoolHandle,
    selection: &Selection,
) -> anyhow::Result<(Vec<SeriesDef>, RangeSet)> {
    let defs = spool.series(0, usize::MAX).await?;
    selection.check(&defs)?;
    let (held, _) = spool.held().await?;
    Ok((defs, held))
}

/// Answers a command on the socket with the readings, as they are read.
pub async fn answer(State(spool): State<SpoolHandle>, Json(selection): Json<Selection>) -> Response {
    let (defs, held) = match begin(&spool, &selection).await {
        Ok(begun) => begun,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error:#}")).into_response(),
    };
    let (pieces, inbox) = mpsc::channel(PIECES_MAX);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let load = |seqs: &RangeSet| -> anyhow::Result<Loaded> {
            Ok(runtime.block_on(spool.load(seqs.clone(), BYTES_AT_A_TIME))?)
        };
        let mut out = io::BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone()));
        let last = write(&selection, &defs, held, load, &mut out).map(|missing| {
            let mut trailers = HeaderMap::new();
            trailers.insert(MISSING, HeaderValue::from(missing));
            Frame::trailers(trailers)
        });
        // Who asked may have gone.
        let _ = pieces.blocking_send(last.map_err(|error| io::Error::other(format!("{error:#}"))));
    });
    ([(header::TRAILER, MISSING)], Body::new(Inbox::new(inbox))).into_response()
}

/// A part of an answer.
pub type Piece = io::Result<Frame<Bytes>>;

/// Where the pieces of an answer are written.
struct Pieces(mpsc::Sender<Piece>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Frame::data(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer's body, which comes as whoever reads it has room.
pub struct Inbox(mpsc::Receiver<Piece>);

impl Inbox {
    /// Of what comes there.
    #[must_use]
    pub const fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self(pieces)
    }
}

impl hyper::body::Body for Inbox {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Piece>> {
        self.0.poll_recv(cx)
    }
}

/// Has a running agent export what is selected to `out`; gives how many batches are not in it, or `None`
/// when no agent runs on the folder.
///
/// # Errors
/// The agent refuses or breaks off, or `out` cannot be written.
pub async fn ask(data: &Path, selection: &Selection, out: &mut impl Write) -> anyhow::Result<Option<u64>> {
    if !serve::is_answered(data).await {
        return Ok(None);
    }
    let body = serde_json::to_vec(selection)?;
    let (response, _connection) = serve::send(data, Method::POST, "/export", body).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let text = serve::read(body).await?;
        anyhow::bail!("the agent answered {status}: {}", String::from_utf8_lossy(&text));
    }
    let mut missing = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the agent broke the export off")?;
        match frame.into_data() {
            Ok(piece) => out.write_all(&piece)?,
            Err(other) => {
                let trailers = other.into_trailers().ok();
                let told =
                    trailers.as_ref().and_then(|trailers| trailers.get(MISSING)?.to_str().ok()?.parse().ok());
                missing = told.or(missing);
            }
        }
    }
    out.flush()?;
    missing.map(Some).context("the agent broke the export off")
}
