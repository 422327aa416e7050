//! The agent over HTTP: its status on its Unix socket and as a local page, commands on the socket.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::agreement::{AgreementReport, Auditor};
use crate::commands::CommandShown;
use crate::flow::trace::{self, Tracer};
use crate::page::{self, Shown};
use crate::source::Writes;
use crate::source::http::door;
use crate::status::{Board, Status};
use crate::sync::{SyncReport, Syncer, TIMEOUT_MAX};
use crate::{export, write};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much longer than it was told to wait an agent may take to say so.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// Where the socket of a data folder is.
#[must_use]
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("agent.sock")
}

fn router(board: Board) -> Router {
    Router::new()
        .route("/status", get(|State(board): State<Board>| async move { Json(board.read()) }))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(board)
}

async fn ready(State(board): State<Board>) -> Response {
    // Ready means that readings are kept; the hub may be away for months.
    if board.read().epoch.is_empty() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the spool is not open").into_response();
    }
    "ok".into_response()
}

async fn metrics(State(board): State<Board>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], board.read().metrics()).into_response()
}

/// A page elsewhere must not read the local page through a name that it controls.
async fn check_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let literal = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let origin_here = request.headers().get(header::ORIGIN).is_none_or(|origin| {
        origin.to_str().is_ok_and(|origin| origin.strip_prefix("http://") == Some(host))
    });
    if (literal || name == "localhost") && origin_here {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "the local page answers under its address or localhost only").into_response()
}

/// Serves the local page at `listen` until the task is dropped; gives its address, too.
///
/// # Errors
/// The address cannot be bound.
pub async fn page(listen: &str, board: Board) -> anyhow::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = bind_page(listen).await?;
    let addr = listener.local_addr()?;
    Ok((addr, page_on(listener, Shown::of(board), Router::new())))
}

/// Binds the address of the local page.
///
/// # Errors
/// It cannot be bound.
pub async fn bind_page(listen: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| format!("http.listen {listen}"))
}

/// Serves the local page and what else it has until the task is dropped. What writes there checks the page's token itself.
pub fn page_on(listener: TcpListener, shown: Shown, more: Router) -> tokio::task::JoinHandle<()> {
    let router =
        router(shown.board.clone()).merge(page::router(shown)).merge(more).layer(from_fn(check_host));
    tokio::spawn(async move {
        let served = async { door::local(listener.into_std()?, router).await };
        if let Err(error) = served.await {
            let error: std::io::Error = error;
            tracing::error!(%error, "the local page has ended");
        }
    })
}

/// Where the local page is, and what one has to know to write there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PageKey {
    /// Its address; none where there is no page.
    pub address: Option<SocketAddr>,
    /// Its token.
    pub token: String,
}

/// Tells the key, on the socket alone.
pub fn page_key(address: Option<SocketAddr>, token: Arc<str>) -> Router {
    let key = PageKey { address, token: token.to_string() };
    Router::new().route("/page", get(|State(key): State<PageKey>| async move { Json(key) })).with_state(key)
}

/// Asks a running agent for the key of its page.
///
/// # Errors
/// No agent runs on the folder, or it does not answer.
pub async fn ask_page_key(data: &Path) -> anyhow::Result<PageKey> {
    ask(data, Method::GET, "/page").await
}

/// Binds the socket of `data`, readable by its owner only.
///
/// # Errors
/// Another agent runs on the folder, or the socket cannot be made.
pub async fn bind_socket(data: &Path) -> anyhow::Result<UnixListener> {
    let path = socket_path(data);
    if UnixStream::connect(&path).await.is_ok() {
        anyhow::bail!("another agent runs on {}", data.display());
    }
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the socket and what else it has until the task is dropped. Commands are on it alone, never on the page: who may
/// open the socket owns the agent.
pub fn socket(
    listener: UnixListener,
    syncer: Syncer,
    auditor: Auditor,
    writes: Writes,
    tracer: Tracer,
    more: Router,
) -> tokio::task::JoinHandle<()> {
    let commands = Router::new().route("/sync", post(sync)).with_state(syncer.clone());
    let exports = Router::new().route("/export", post(export::answer)).with_state(syncer.spool.clone());
    let audits = Router::new().route("/agreement", post(agreement)).with_state(auditor);
    let writes = Router::new().route("/write", post(write::answer)).with_state(writes);
    let traces = Router::new().route("/pipeline/trace", post(trace::answer)).with_state(tracer);
    let router = router(syncer.board)
        .merge(commands)
        .merge(audits)
        .merge(exports)
        .merge(writes)
        .merge(traces)
        .merge(more);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the agent's socket has ended");
        }
    })
}

#[derive(Serialize, Deserialize)]
struct SyncQuery {
    timeout_ms: u64,
}

async fn sync(State(syncer): State<Syncer>, Query(query): Query<SyncQuery>) -> Json<SyncReport> {
    Json(syncer.run(Duration::from_millis(query.timeout_ms)).await)
}

async fn agreement(State(auditor): State<Auditor>) -> Response {
    match auditor.run().await {
        Ok(report) => Json(report).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")).into_response(),
    }
}

/// Has a running agent compare what it holds with what the hub holds.
///
/// # Errors
/// No agent runs on the folder, or it cannot ask its hub.
pub async fn ask_agreement(data: &Path) -> anyhow::Result<AgreementReport> {
    ask(data, Method::POST, "/agreement").await
}

/// Asks a running agent what it knows of commands.
///
/// # Errors
/// No agent runs on the folder, or it does not answer.
pub async fn ask_commands(data: &Path) -> anyhow::Result<Vec<CommandShown>> {
    ask(data, Method::GET, "/commands").await
}

/// Asks a running agent for its status.
///
/// # Errors
/// No agent runs on the folder, or it does not answer.
pub async fn ask_status(data: &Path) -> anyhow::Result<Status> {
    ask(data, Method::GET, "/status").await
}

/// Has a running agent bring what is pending to the hub, and waits for it at most `timeout`.
///
/// # Errors
/// No agent runs on the folder, or it does not answer.
pub async fn ask_sync(data: &Path, timeout: Duration) -> anyhow::Result<SyncReport> {
    let timeout_ms = timeout.min(TIMEOUT_MAX).as_millis();
    let uri = format!("/sync?timeout_ms={timeout_ms}");
    let asked = ask(data, Method::POST, &uri);
    let answer = tokio::time::timeout(timeout.min(TIMEOUT_MAX) + ANSWER_GRACE, asked);
    answer.await.context("the agent does not answer")?
}

/// Whether somebody answers on the socket of `data`.
pub async fn is_answered(data: &Path) -> bool {
    UnixStream::connect(socket_path(data)).await.is_ok()
}

/// Sends a request to a running agent. The answer's body comes as long as the connection is kept.
///
/// # Errors
/// No agent runs on the folder, or it does not answer.
pub async fn send(
    data: &Path,
    method: Method,
    uri: &str,
    body: Vec<u8>,
) -> anyhow::Result<(hyper::Response<Incoming>, SendRequest<Full<Bytes>>)> {
    let path = socket_path(data);
    let stream = UnixStream::connect(&path)
        .await
        .with_context(|| format!("no agent runs on {} (socket {})", data.display(), path.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(uri).header(header::HOST, "localhost");
    let request = request.header(header::TE, "trailers").header(header::CONTENT_TYPE, "application/json");
    let response = sender.send_request(request.body(Full::new(body.into()))?).await?;
    Ok((response, sender))
}

/// Reads an answer that is small.
///
/// # Errors
/// It is not, or is cut off.
pub async fn read(body: Incoming) -> anyhow::Result<Bytes> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| anyhow::anyhow!("agent's answer: {error}"))?.to_bytes())
}

async fn ask<T: DeserializeOwned>(data: &Path, method: Method, uri: &str) -> anyhow::Result<T> {
    let (response, _connection) = send(data, method, uri, Vec::new()).await?;
    let status = response.status();
    let bytes = read(response.into_body()).await?;
    // A command that cannot be carried out now says why in words of its own.
    anyhow::ensure!(status != StatusCode::SERVICE_UNAVAILABLE, "{}", String::from_utf8_lossy(&bytes));
    anyhow::ensure!(status.is_success(), "the agent answered {status}: {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).context("the agent's answer is not as expected")
}
