//! Statements of SQL: each in a process of its own, which is fed what it may see and ended when it takes too much.
//!
//! ```text
//! check ──▶ its turn ──▶ plan: which series, how many rows ──▶ child ◀── blocks of rows, page by page
//!                                                               └──▶ head ──▶ the answer, as it comes
//! ```
//! The child is this program with another task, without environment, in `/`, with three pipes. It limits itself
//! ([`tideline_sql::worker`]); the time is kept here. Whoever drops the future or the answer ends the child.

mod feed;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use std::os::unix::process::ExitStatusExt as _;
use tideline_sql::feed::{HEAD_BYTES_MAX, Head};
use tideline_sql::{Format, Statement};
use tideline_store::{SeriesInfo, StoreError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::hub::App;
use crate::metadata::MetadataError;
use crate::telemetry::Metric;

/// How long a statement waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(5);
/// What is kept of what a child says before it ends.
const LAST_WORDS_MAX: usize = 4096;
/// Threads that compute in a child: a hub has other things to do.
const THREADS: u64 = 2;
/// Frames that wait for the child; each is a page of a series at most.
const FRAMES_MAX: usize = 4;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// It was not its turn in time.
    #[error("as many statements as are allowed are running; ask again when one has ended")]
    Busy,
    /// It reads too much.
    #[error(
        "the statement reads {rows} rows; allowed are {most}. Narrow it by time, device or point in its WHERE (as time >= now() - INTERVAL '1 day'), or take a rollup: rollups_1m, rollups_1h, rollups_1d"
    )]
    Input {
        /// How many rows, or at least how many.
        rows: String,
        /// How many are allowed.
        most: u64,
    },
    /// The answer has too many rows.
    #[error("the answer has more than {0} rows, which are allowed; narrow it, aggregate, or add a LIMIT")]
    Rows(u64),
    /// It took too much memory.
    #[error(
        "the statement took more than the {0} MB of memory that are allowed; narrow what it reads or joins"
    )]
    Memory(u64),
    /// It took too long.
    #[error("the statement took longer than the {0} s that are allowed; narrow what it reads or joins")]
    Time(u64),
    /// It cannot be answered.
    #[error("{0}")]
    Failed(String),
    /// The readings cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The child cannot be started or spoken to.
    #[error("the process of a statement: {0}")]
    Process(#[from] io::Error),
}

impl SqlError {
    /// Whether a limit ended it after it had begun.
    #[must_use]
    pub const fn is_limit(&self) -> bool {
        matches!(self, Self::Rows(_) | Self::Memory(_) | Self::Time(_))
    }
}

/// An answer that comes; dropped, it ends the child.
#[derive(Debug)]
pub struct Answer {
    /// How many rows.
    pub rows: usize,
    /// The last time, ns, of which a table that was read lacks rows, since readings are past their retention.
    pub thinned_to_ns: Option<i64>,
    child: Running,
}

/// A child at work.
#[derive(Debug)]
struct Running {
    child: Child,
    stdout: ChildStdout,
    // Nothing more is written; that it is open tells the child that somebody waits.
    stdin: ChildStdin,
    last_words: JoinHandle<Vec<u8>>,
    _turn: OwnedSemaphorePermit,
}

/// What a statement sees, and may answer, where that is not all.
#[derive(Clone)]
pub struct Scope {
    /// The series that are there for it.
    pub takes: Arc<dyn Fn(&SeriesInfo) -> bool + Send + Sync>,
    /// Rows that its answer may have, where all may have more.
    pub rows_max: u64,
}

/// Runs a statement up to the beginning of its answer.
///
/// # Errors
/// It is refused, it fails, or a limit ends it.
pub async fn run(hub: &App, statement: Statement, format: Format) -> Result<Answer, SqlError> {
    run_in(hub, statement, format, None).await
}

/// The same of a statement that sees no more than its scope.
///
/// # Errors
/// As [`run`].
pub async fn run_in(
    hub: &App,
    statement: Statement,
    format: Format,
    scope: Option<Scope>,
) -> Result<Answer, SqlError> {
    let turn = tokio::time::timeout(TURN_MAX, Arc::clone(&hub.statements).acquire_owned()).await;
    let turn = turn.ok().and_then(Result::ok).ok_or(SqlError::Busy)?;
    let limits = &hub.config.sql;
    let deadline = Instant::now() + Duration::from_secs(limits.time_max_s);
    let answered = async {
        let planning = Arc::clone(hub);
        let plan =
            tokio::task::spawn_blocking(move || feed::plan(&planning, &statement, format, scope.as_ref()));
        let plan = plan.await.map_err(io::Error::other)??;
        let rows_max = plan.rows_max();
        hub.counters.add(Metric::Statements, 1);
        let mut running = start(hub, turn)?;
        let thinned_to_ns = running.feed(hub, plan).await?;
        let rows = running.head(hub, rows_max).await?;
        Ok(Answer { rows, thinned_to_ns, child: running })
    };
    let answered = tokio::time::timeout_at(deadline, answered).await;
    answered.unwrap_or(Err(SqlError::Time(limits.time_max_s)))
}

fn start(hub: &App, turn: OwnedSemaphorePermit) -> io::Result<Running> {
    let limits = &hub.config.sql;
    let memory_bytes = limits.memory_mb.saturating_mul(1024 * 1024);
    let cpu_s = limits.time_max_s.saturating_mul(THREADS).saturating_add(1);
    let mut child = Command::new(&limits.program)
        .args(["sql-worker", "--memory-bytes", &memory_bytes.to_string(), "--cpu-s", &cpu_s.to_string()])
        .env_clear()
        .env("POLARS_MAX_THREADS", THREADS.to_string())
        // Each arena reserves addresses, of which a child has only so many.
        .env("MALLOC_ARENA_MAX", THREADS.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pipe = || io::Error::other("it has no pipe");
    let (stdin, stdout) = (child.stdin.take().ok_or_else(pipe)?, child.stdout.take().ok_or_else(pipe)?);
    let stderr = child.stderr.take().ok_or_else(pipe)?;
    let last_words = tokio::spawn(async move {
        let (mut said, mut stderr) = (Vec::new(), stderr);
        // All of it is read: a child that finds its stderr closed would panic. An error ends it, as its end does.
        while stderr.read_buf(&mut said).await.is_ok_and(|read| read > 0) {
            said.drain(..said.len().saturating_sub(LAST_WORDS_MAX));
        }
        said
    });
    Ok(Running { child, stdout, stdin, last_words, _turn: turn })
}

impl Running {
    /// Writes all that the statement reads; gives what [`feed::read`] does. A child that ends early is no error: its head or its end says why.
    async fn feed(&mut self, hub: &App, plan: feed::Plan) -> Result<Option<i64>, SqlError> {
        let (frames, mut coming) = mpsc::channel(FRAMES_MAX);
        let reading = Arc::clone(hub);
        let reader = tokio::task::spawn_blocking(move || feed::read(&reading, plan, &frames));
        while let Some(frame) = coming.recv().await {
            let frame: Vec<u8> = frame;
            if self.stdin.write_all(&frame).await.is_err() {
                return Ok(None);
            }
        }
        reader.await.map_err(io::Error::other)?
    }

    /// What the answer begins with.
    async fn head(&mut self, hub: &App, rows_max: u64) -> Result<usize, SqlError> {
        let limits = &hub.config.sql;
        match read_head(&mut self.stdout).await {
            Ok(Head::Rows(rows)) => Ok(rows),
            Ok(Head::TooManyRows) => Err(SqlError::Rows(rows_max)),
            Ok(Head::NoMemory) => Err(SqlError::Memory(limits.memory_mb)),
            Ok(Head::Failed(reason)) => Err(SqlError::Failed(reason)),
            Err(_) => {
                let status = self.child.wait().await?;
                let said = (&mut self.last_words).await.unwrap_or_default();
                Err(of_end(status, &String::from_utf8_lossy(&said), (limits.memory_mb, limits.time_max_s)))
            }
        }
    }
}

async fn read_head(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Head> {
    let len = from.read_u32_le().await?;
    if len > HEAD_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut head = vec![0; usize::try_from(len).unwrap_or(0)];
    from.read_exact(&mut head).await?;
    Ok(serde_json::from_slice(&head)?)
}

/// Why a child ended that said nothing.
fn of_end(status: ExitStatus, said: &str, (memory_mb, time_max_s): (u64, u64)) -> SqlError {
    const SIGKILL: i32 = 9;
    const SIGSEGV: i32 = 11;
    const SIGXCPU: i32 = 24;
    let memory =
        ["memory", "failed to spawn thread", "capacity overflow"].iter().any(|word| said.contains(word));
    match status.signal() {
        _ if memory => SqlError::Memory(memory_mb),
        Some(SIGXCPU) => SqlError::Time(time_max_s),
        // Linux kills who takes the last of the machine's memory; nobody else kills a child that is waited for.
        Some(SIGKILL) => SqlError::Memory(memory_mb),
        Some(SIGSEGV) => SqlError::Failed("the statement is too deep to be run".to_owned()),
        _ => {
            tracing::error!(%status, said, "the process of a statement ended without an answer");
            SqlError::Process(io::Error::other("it ended without an answer"))
        }
    }
}

impl Answer {
    /// The next part; none at the end of a whole answer. Cancel safe.
    ///
    /// # Errors
    /// The child ended before its answer did.
    pub async fn next(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut part = Vec::with_capacity(most);
        if self.child.stdout.read_buf(&mut part).await? > 0 {
            return Ok(Some(part));
        }
        let status = self.child.child.wait().await?;
        if status.success() { Ok(None) } else { Err(io::Error::other(format!("it ended with {status}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_child_is_told_as_the_limit_that_it_met() {
        let ended = |raw: i32, said: &str| of_end(ExitStatus::from_raw(raw), said, (512, 30));
        assert!(matches!(ended(6, "memory allocation of 17179869184 bytes failed"), SqlError::Memory(512)));
        assert!(matches!(ended(256, "cloud-hub: out of memory"), SqlError::Memory(512)));
        assert!(matches!(ended(9, ""), SqlError::Memory(512)));
        assert!(matches!(ended(24, ""), SqlError::Time(30)));
        assert!(matches!(ended(11, ""), SqlError::Failed(_)));
        assert!(matches!(ended(256, "something else"), SqlError::Process(_)));
    }
}
