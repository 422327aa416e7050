//! Boards: what people put together of panels, kept in the metadata with their versions.
//!
//! A board that ships lies in dashboards/boards, is read-only, and is copied to be changed. Every change of a stored
//! board is a new version, made of the version that its author saw; taking one back stores an older one once more.

pub mod check;
pub mod form;
pub mod pattern;
pub mod profile;
pub mod resolve;
pub mod shares;
pub mod shipped;

use crate::hub::{App, Hub};
use crate::metadata::{BoardRecord, BoardShareRecord, BoardVersionRecord, Changes, MetadataError};
use crate::secret::{self, SecretError};

use form::Board;

/// Most boards; with all their versions they are some hundred megabytes at worst.
pub const BOARDS_MAX: u64 = 500;
/// Versions that are kept of a board, the newest among them.
pub const VERSIONS_MAX: u64 = 20;

/// Why something of a board cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// It is none; all that is wrong.
    #[error("{}", .0.join("\n"))]
    Form(Vec<String>),
    /// There is none of this id.
    #[error("there is no board {0:?}")]
    Unknown(String),
    /// There is none of this version any more, or not yet.
    #[error("board {id:?} has no version {version} any more; there are {oldest} to {newest}")]
    Version {
        /// The board.
        id: String,
        /// The version.
        version: u64,
        /// The oldest that is kept.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// It was changed since.
    #[error("board {id:?} is of version {found} by now, changed by {by}: look at it again, then change it")]
    Changed {
        /// The board.
        id: String,
        /// Its version.
        found: u64,
        /// Who made that.
        by: String,
    },
    /// It ships.
    #[error("board {0:?} ships with the product and stays as it is: copy it, and change the copy")]
    Shipped(String),
    /// There are as many as there may be.
    #[error("there are {0} boards, which is the limit: delete one")]
    Full(u64),
    /// A share cannot be made.
    #[error("{0}")]
    Share(String),
    /// The system gives no randomness.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The metadata failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// A board with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Itself.
    pub board: Board,
    /// What is kept beside it; none of one that ships.
    pub record: Option<BoardRecord>,
}

impl Found {
    /// Its version; those that ship stay the first.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.record.as_ref().map_or(1, |record| record.version)
    }
}

/// What a change is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// Whatever there is.
    Any,
    /// One of these versions.
    Versions(Vec<u64>),
}

fn checked(board: &Board) -> Result<(), BoardError> {
    let problems = check::problems(board);
    if problems.is_empty() { Ok(()) } else { Err(BoardError::Form(problems)) }
}

/// Versions sort as numbers do.
fn version_key(id: &str, version: u64) -> String {
    format!("{id}/{version:012}")
}

fn read(id: &str, text: &str) -> Result<Board, MetadataError> {
    serde_json::from_str(text).map_err(|source| MetadataError::Corrupt {
        table: "boards",
        key: id.to_owned(),
        source,
    })
}

fn written(board: &Board) -> Result<String, MetadataError> {
    serde_json::to_string(board).map_err(MetadataError::interrupted)
}

/// All boards: those that ship by their ids, then the stored ones by title.
///
/// # Errors
/// The metadata failed.
pub fn list(hub: &Hub) -> Result<Vec<Found>, BoardError> {
    let mut stored = Vec::new();
    for (id, record) in hub.metadata.list::<BoardRecord>()? {
        let board = read(&id, &record.definition)?;
        stored.push(Found { id, board, record: Some(record) });
    }
    stored.sort_by(|a, b| (&a.board.title, &a.id).cmp(&(&b.board.title, &b.id)));
    let shipped = shipped::all().map(|(id, board)| Found { id: id.to_owned(), board, record: None });
    Ok(shipped.chain(stored).collect())
}

/// The board of an id.
///
/// # Errors
/// There is none, or the metadata failed.
pub fn find(hub: &Hub, id: &str) -> Result<Found, BoardError> {
    if let Some(board) = shipped::named(id) {
        return Ok(Found { id: id.to_owned(), board, record: None });
    }
    let unknown = || BoardError::Unknown(id.to_owned());
    let record: BoardRecord = hub.metadata.find(id)?.ok_or_else(unknown)?;
    let board = read(id, &record.definition)?;
    Ok(Found { id: id.to_owned(), board, record: Some(record) })
}

/// Keeps a new board, durably.
///
/// # Errors
/// It is none, there are too many, or the metadata failed.
pub async fn create(hub: &App, board: Board, by: &str) -> Result<Found, BoardError> {
    checked(&board)?;
    let (id, now_ms) = (secret::random_id()?, hub.now_ms());
    let record = BoardRecord {
        definition: written(&board)?,
        version: 1,
        by: by.to_owned(),
        changed_ms: now_ms,
        created_ms: now_ms,
        restored: None,
    };
    let (key, kept) = (id.clone(), record.clone());
    hub.blocking(move |hub| {
        let found = hub.metadata.count::<BoardRecord>()?;
        if found >= BOARDS_MAX {
            return Err(BoardError::Full(found));
        }
        hub.metadata.change(|changes| put(changes, &key, &kept))
    })
    .await?;
    tracing::info!(board = id, title = board.title, by, "board made");
    Ok(Found { id, board, record: Some(record) })
}

/// Keeps the record, and the version that it is beside it; the oldest goes.
fn put(changes: &mut Changes, id: &str, record: &BoardRecord) -> Result<(), BoardError> {
    changes.put(id, record)?;
    let version = BoardVersionRecord {
        definition: record.definition.clone(),
        by: record.by.clone(),
        at_ms: record.changed_ms,
        restored: record.restored,
    };
    changes.put(&version_key(id, record.version), &version)?;
    if let Some(gone) = record.version.checked_sub(VERSIONS_MAX) {
        changes.remove::<BoardVersionRecord>(&version_key(id, gone))?;
    }
    Ok(())
}

/// The record of a stored board, of one of the versions that are meant.
fn current(changes: &Changes, id: &str, of: &Of) -> Result<BoardRecord, BoardError> {
    if shipped::named(id).is_some() {
        return Err(BoardError::Shipped(id.to_owned()));
    }
    let record: BoardRecord = changes.find(id)?.ok_or_else(|| BoardError::Unknown(id.to_owned()))?;
    match of {
        Of::Versions(versions) if !versions.contains(&record.version) => {
            Err(BoardError::Changed { id: id.to_owned(), found: record.version, by: record.by })
        }
        Of::Any | Of::Versions(_) => Ok(record),
    }
}

/// Keeps a board as its next version, durably.
///
/// # Errors
/// It is none, there is none of this id or of these versions, it ships, or the metadata failed.
pub async fn save(hub: &App, id: &str, board: Board, of: Of, by: &str) -> Result<Found, BoardError> {
    checked(&board)?;
    let definition = written(&board)?;
    let (key, author, now_ms) = (id.to_owned(), by.to_owned(), hub.now_ms());
    let step = move |changes: &mut Changes| {
        let old = current(changes, &key, &of)?;
        let next = BoardRecord {
            definition,
            version: old.version.saturating_add(1),
            by: author,
            changed_ms: now_ms,
            created_ms: old.created_ms,
            restored: None,
        };
        put(changes, &key, &next)?;
        Ok::<_, BoardError>(next)
    };
    let record = hub.blocking(move |hub| hub.metadata.change(step)).await?;
    // Who follows a series by a share that it shows no more is shut out at once.
    hub.sign_out();
    tracing::info!(board = id, version = record.version, by, "board changed");
    Ok(Found { id: id.to_owned(), board, record: Some(record) })
}

/// The versions that are kept of a stored board, newest first; none of one that ships.
///
/// # Errors
/// There is none of this id, or the metadata failed.
pub fn versions(hub: &Hub, id: &str) -> Result<Vec<(u64, BoardVersionRecord)>, BoardError> {
    if find(hub, id)?.record.is_none() {
        return Ok(Vec::new());
    }
    let prefix = format!("{id}/");
    let all = hub.metadata.list_from::<BoardVersionRecord>(&prefix)?;
    let numbered =
        all.into_iter().filter_map(|(key, record)| Some((key.strip_prefix(&prefix)?.parse().ok()?, record)));
    let mut out: Vec<_> = numbered.collect();
    out.reverse();
    Ok(out)
}

/// Makes an older version the newest once more, durably.
///
/// # Errors
/// As [`save`], or the version is not kept.
pub async fn restore(hub: &App, id: &str, version: u64, of: Of, by: &str) -> Result<Found, BoardError> {
    let (key, author, now_ms) = (id.to_owned(), by.to_owned(), hub.now_ms());
    let step = move |changes: &mut Changes| {
        let now = current(changes, &key, &of)?;
        let old: Option<BoardVersionRecord> = changes.find(&version_key(&key, version))?;
        let old = old.ok_or_else(|| BoardError::Version {
            id: key.clone(),
            version,
            oldest: now.version.saturating_sub(VERSIONS_MAX - 1).max(1),
            newest: now.version,
        })?;
        let next = BoardRecord {
            definition: old.definition,
            version: now.version.saturating_add(1),
            by: author,
            changed_ms: now_ms,
            created_ms: now.created_ms,
            restored: Some(version),
        };
        put(changes, &key, &next)?;
        Ok::<_, BoardError>(next)
    };
    let record = hub.blocking(move |hub| hub.metadata.change(step)).await?;
    hub.sign_out();
    tracing::info!(board = id, restored = version, version = record.version, by, "board restored");
    Ok(Found { id: id.to_owned(), board: read(id, &record.definition)?, record: Some(record) })
}

/// Deletes a stored board with its versions and its shares, durably.
///
/// # Errors
/// There is none of this id or of these versions, it ships, or the metadata failed.
pub async fn delete(hub: &App, id: &str, of: Of, by: &str) -> Result<(), BoardError> {
    let key = id.to_owned();
    let step = move |changes: &mut Changes| {
        let old = current(changes, &key, &of)?;
        for version in old.version.saturating_sub(VERSIONS_MAX).max(1)..=old.version {
            changes.remove::<BoardVersionRecord>(&version_key(&key, version))?;
        }
        changes.remove_where::<BoardShareRecord>(|_, share| share.board == key)?;
        changes.remove::<BoardRecord>(&key)?;
        Ok::<_, BoardError>(())
    };
    hub.blocking(move |hub| hub.metadata.change(step)).await?;
    // Whoever looks at it by a share is shut out at once.
    hub.sign_out();
    tracing::info!(board = id, by, "board deleted");
    Ok(())
}
