//! The journal of commands on redb: what was accepted, what was begun, and how it ended.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use redb::{
    CommitError, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, TableError, TransactionError, WriteTransaction,
};
use tideline_protocol::commands::{AgentChange, Kept, Unreadable};
use tideline_protocol::wire::{CommandId, JournalId};
use tokio::time::sleep;

use crate::clock;
use crate::schedule::core::{Change, Run};

// Those that are open; the others are those that have ended, which the hub knows. Ids are in the order of their making.
const COMMANDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("commands");
const ENDED: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("ended");
// Records of those that have ended which do not read back, as they were.
const UNREADABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("unreadable");
// Up to when each schedule has been dealt with, and its runs, as JSON.
const MARKS: TableDefinition<'static, &str, i64> = TableDefinition::new("marks");
const RUNS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("runs");
const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");
const ID: &str = "id";
const FORGOTTEN_MS: &str = "forgotten_made_ms";
const BOOT: &str = "boot";
const OFFSET_NS: &str = "offset_ns";
const REPLACES: &str = "replaces_damaged";
/// Wait before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a journal held when it was opened.
pub struct Held {
    /// Which one it is.
    pub id: JournalId,
    /// Up to when commands were made that may be forgotten.
    pub forgotten_ms: i64,
    /// By how much the hub's clock was ahead, where that was learned since the machine started.
    pub offset_ns: Option<i64>,
    /// The commands that are open.
    pub kept: Vec<Kept>,
    /// Those that have ended.
    pub ended: Vec<Kept>,
    /// What is known of schedules.
    pub scheduled: Scheduled,
}

/// What a journal holds of schedules.
#[derive(Debug, Default)]
pub struct Scheduled {
    /// Up to when each has been dealt with, Unix ms.
    pub marks: BTreeMap<String, i64>,
    /// Their runs by number.
    pub runs: BTreeMap<u64, Run>,
    /// Whether it is in the place of one that was damaged, which may have known more.
    pub is_replacement: bool,
}

/// What is known of a command that has ended.
#[derive(Debug)]
pub enum Looked {
    /// Nothing: it was never there.
    None,
    /// This.
    Found(Box<Kept>),
    /// It was there, and its record does not read back.
    Unreadable,
}

/// The file. After a write that failed it is opened again: redb takes nothing more before.
pub struct Journal {
    path: PathBuf,
    database: Mutex<Option<Database>>,
}

impl Journal {
    /// Opens the file or makes it. One that is damaged is put aside: its hub tells what it had sent from a new one, and says of
    /// it that it may have run.
    ///
    /// # Errors
    /// It is in use, its disk fails, or a new one cannot be made.
    pub fn open(path: &Path) -> anyhow::Result<(Self, Held)> {
        // redb panics on some damaged files.
        let opened = std::panic::catch_unwind(|| Self::try_open(path));
        let problem = match opened {
            Ok(Ok(opened)) => return Ok(opened),
            // As in use, or on a disk that is full or fails: what it holds is not lost.
            Ok(Err(error)) if !is_damage(&error) => return Err(error.context(path.display().to_string())),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it cannot be read".to_owned(),
        };
        let aside = aside(path);
        std::fs::rename(path, &aside).with_context(|| path.display().to_string())?;
        tracing::error!(problem, aside = %aside.display(), "the journal of commands is damaged and was put aside");
        let (journal, mut held) = Self::try_open(path).with_context(|| path.display().to_string())?;
        journal.write(|transaction| {
            transaction.open_table(FACTS)?.insert(REPLACES, [1].as_slice())?;
            Ok(())
        })?;
        held.scheduled.is_replacement = true;
        Ok((journal, held))
    }

    fn try_open(path: &Path) -> anyhow::Result<(Self, Held)> {
        let database = Database::create(path)?;
        let transaction = database.begin_write()?;
        {
            transaction.open_table(COMMANDS)?;
            put_unreadable_aside(&transaction)?;
            transaction.open_table(MARKS)?;
            transaction.open_table(RUNS)?;
            let mut facts = transaction.open_table(FACTS)?;
            if facts.get(ID)?.is_none() {
                let mut id = [0_u8; 16];
                getrandom::fill(&mut id)?;
                facts.insert(ID, id.as_slice())?;
            }
        }
        transaction.commit()?;
        let held = read(&database)?;
        Ok((Self { path: path.to_owned(), database: Mutex::new(Some(database)) }, held))
    }

    /// Works with it on a thread that may wait.
    ///
    /// # Errors
    /// Those of the work, and that it panicked, as redb does on some damaged files.
    pub async fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let journal = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&journal)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => Err(error.into()),
            // Only the end of the runtime does that, and whoever waits here ends with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// As [`Journal::on_thread`], again and again until it succeeds.
    pub async fn until_done<T: Send + 'static>(
        self: &Arc<Self>,
        problem: &str,
        work: impl Fn(&Self) -> anyhow::Result<T> + Clone + Send + 'static,
    ) -> T {
        loop {
            match self.on_thread(work.clone()).await {
                Ok(done) => return done,
                Err(error) => tracing::error!(error = format!("{error:#}"), "{problem}; it is tried again"),
            }
            sleep(AGAIN).await;
        }
    }

    /// Makes changes durable, all or none.
    ///
    /// # Errors
    /// The disk fails.
    pub fn commit(&self, changes: &[AgentChange]) -> anyhow::Result<()> {
        self.write(|transaction| {
            let mut open = transaction.open_table(COMMANDS)?;
            let mut ended = transaction.open_table(ENDED)?;
            let mut facts = transaction.open_table(FACTS)?;
            for change in changes {
                match change {
                    AgentChange::Put(id, bytes) => {
                        ended.remove(id.as_bytes().as_slice())?;
                        open.insert(id.as_bytes().as_slice(), bytes.as_slice())?;
                    }
                    AgentChange::End(id, bytes) => {
                        open.remove(id.as_bytes().as_slice())?;
                        ended.insert(id.as_bytes().as_slice(), bytes.as_slice())?;
                    }
                    AgentChange::Forget(id) => {
                        ended.remove(id.as_bytes().as_slice())?;
                    }
                    AgentChange::Forgotten(ms) => {
                        facts.insert(FORGOTTEN_MS, ms.to_be_bytes().as_slice())?;
                    }
                }
            }
            Ok(())
        })
    }

    fn write(&self, work: impl FnOnce(&WriteTransaction) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            work(&transaction)?;
            Ok(transaction.commit()?)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut held = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match held.take() {
            Some(database) => database,
            None => Database::create(&self.path)?,
        };
        let done = work(&database)?;
        *held = Some(database);
        Ok(done)
    }

    /// Makes changes of schedules durable, all or none.
    ///
    /// # Errors
    /// The disk fails.
    pub fn schedule(&self, changes: &[Change]) -> anyhow::Result<()> {
        self.write(|transaction| {
            let (mut marks, mut runs) = (transaction.open_table(MARKS)?, transaction.open_table(RUNS)?);
            for change in changes {
                match change {
                    Change::Mark(name, ms) => drop(marks.insert(name.as_str(), ms)?),
                    Change::Unmark(name) => drop(marks.remove(name.as_str())?),
                    Change::Run(number, run) => {
                        runs.insert(number, serde_json::to_vec(run)?.as_slice())?;
                    }
                    Change::Forget(number) => drop(runs.remove(number)?),
                }
            }
            Ok(())
        })
    }

    /// The record of a command among those that have ended.
    ///
    /// # Errors
    /// The disk fails.
    pub fn ended(&self, id: CommandId) -> anyhow::Result<Looked> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let table = transaction.open_table(ENDED)?;
            if let Some(found) = table.get(id.as_bytes().as_slice())? {
                return Ok(
                    Kept::read(found.value()).map_or(Looked::Unreadable, |kept| Looked::Found(kept.into()))
                );
            }
            let aside = transaction.open_table(UNREADABLE)?;
            Ok(if aside.get(id.as_bytes().as_slice())?.is_some() { Looked::Unreadable } else { Looked::None })
        })
    }

    /// So many of those that have ended, the newest first.
    ///
    /// # Errors
    /// The disk fails.
    pub fn newest_ended(&self, most: usize) -> anyhow::Result<Vec<Kept>> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(ENDED)?;
            let mut all = Vec::new();
            for entry in table.iter()?.rev().take(most) {
                // One that does not read back has nothing to show.
                all.extend(Kept::read(entry?.1.value()));
            }
            Ok(all)
        })
    }

    /// Notes by how much the hub's clock is ahead in this start of the machine.
    ///
    /// # Errors
    /// The disk fails.
    pub fn note_time(&self, offset_ns: i64) -> anyhow::Result<()> {
        self.write(|transaction| {
            let mut facts = transaction.open_table(FACTS)?;
            facts.insert(BOOT, clock::boot().id.as_slice())?;
            facts.insert(OFFSET_NS, offset_ns.to_be_bytes().as_slice())?;
            Ok(())
        })
    }
}

/// Whether an error at the opening says that the file is damaged, and not that its disk fails or that it is in use.
fn is_damage(error: &anyhow::Error) -> bool {
    let storage = error.downcast_ref().or_else(|| match error.downcast_ref()? {
        DatabaseError::Storage(storage) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match error.downcast_ref()? {
        TableError::Storage(storage) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match error.downcast_ref()? {
        TransactionError::Storage(storage) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match error.downcast_ref()? {
        CommitError::Storage(storage) => Some(storage),
        _ => None,
    });
    match storage {
        Some(StorageError::Corrupted(_)) => true,
        Some(StorageError::Io(error)) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        }
        Some(_) => false,
        None => error.is::<Unreadable>() || error.is::<serde_json::Error>() || error.is::<NoId>(),
    }
}

/// A journal has to have one.
#[derive(Debug, thiserror::Error)]
#[error("it has no id")]
struct NoId;

/// Moves records of commands that have ended and do not read back: each costs itself, and not the journal.
fn put_unreadable_aside(transaction: &WriteTransaction) -> anyhow::Result<()> {
    let mut ended = transaction.open_table(ENDED)?;
    let mut aside = transaction.open_table(UNREADABLE)?;
    let mut unreadable = Vec::new();
    for entry in ended.iter()? {
        let (id, record) = entry?;
        if let Err(error) = Kept::read(record.value()) {
            unreadable.push((id.value().to_vec(), record.value().to_vec(), error));
        }
    }
    for (id, record, error) in unreadable {
        let name = id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        tracing::error!(id = name, %error, "what became of a command is not known any more");
        aside.insert(id.as_slice(), record.as_slice())?;
        ended.remove(id.as_slice())?;
    }
    Ok(())
}

fn aside(path: &Path) -> PathBuf {
    let free = |n: &u32| !path.with_extension(format!("damaged-{n}")).exists();
    let n = (1..u32::MAX).find(free).unwrap_or(u32::MAX);
    path.with_extension(format!("damaged-{n}"))
}

fn read(database: &Database) -> anyhow::Result<Held> {
    let transaction = database.begin_read()?;
    let facts = transaction.open_table(FACTS)?;
    let fact = |name: &str| -> anyhow::Result<Option<Vec<u8>>> {
        Ok(facts.get(name)?.map(|found| found.value().to_vec()))
    };
    let number = |bytes: Vec<u8>| bytes.try_into().map(i64::from_be_bytes).ok();
    let id: [u8; 16] = fact(ID)?.and_then(|bytes| bytes.try_into().ok()).ok_or(NoId)?;
    let this_boot = fact(BOOT)?.is_some_and(|boot| boot == clock::boot().id);
    let read = |table| -> anyhow::Result<Vec<Kept>> {
        transaction.open_table(table)?.iter()?.map(|entry| Ok(Kept::read(entry?.1.value())?)).collect()
    };
    let (kept, ended) = (read(COMMANDS)?, read(ENDED)?);
    let mut scheduled = Scheduled { is_replacement: fact(REPLACES)?.is_some(), ..Scheduled::default() };
    for entry in transaction.open_table(MARKS)?.iter()? {
        let (name, ms) = entry?;
        scheduled.marks.insert(name.value().to_owned(), ms.value());
    }
    for entry in transaction.open_table(RUNS)?.iter()? {
        let (number, run) = entry?;
        scheduled.runs.insert(number.value(), serde_json::from_slice(run.value())?);
    }
    Ok(Held {
        id: JournalId::from_bytes(id),
        forgotten_ms: fact(FORGOTTEN_MS)?.and_then(number).unwrap_or(i64::MIN),
        offset_ns: fact(OFFSET_NS)?.filter(|_| this_boot).and_then(number),
        kept,
        ended,
        scheduled,
    })
}
