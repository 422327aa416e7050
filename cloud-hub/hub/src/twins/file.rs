//! Twins on disk: `twins.redb`, apart from the registry, so that an edit waits for no commit but those of twins.
//!
//! ```text
//! own     "actor"       15 random bytes: this hub as a replica, from when the file was made or restored
//!         "former"      those of the file that this one was restored from
//! whole   document      15 bytes of who saved it, then the document
//! since   document, n   what was appended since, in the order of n
//! past    document, n   generation n as it ended: 8 bytes of when (Unix ms), then the document
//! ```
//! It must never be opened by two hubs, nor be copied but by [`TwinFile::copy_to`]: two that write as one replica would take
//! each other's changes for their own.

use std::path::Path;

use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use tideline_protocol::wire::DocumentId;

use crate::redbfile::RedbFile;

/// The file in the data folder and in a backup.
pub const TWINS: &str = "twins.redb";

const OWN: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("own");
const WHOLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("whole");
const SINCE: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("since");
const PAST: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("past");
/// Pages of the file in memory, at most: documents that are used are there as documents.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
const ACTOR: &str = "actor";
const FORMER: &str = "former";

/// Random bytes of a replica.
pub type Entropy = [u8; 15];

/// What went wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another process has it open.
    #[error("another hub runs on this data folder")]
    InUse,
    /// It could not be read or written; a local fault.
    #[error("the file twins.redb failed")]
    Storage(#[source] Box<redb::Error>),
    /// A row has another form than it was written in; a local fault.
    #[error("row {key:?} of twins.redb does not read back")]
    Corrupt {
        /// Its key.
        key: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl<E: Into<redb::Error>> From<E> for FileError {
    fn from(error: E) -> Self {
        Self::Storage(Box::new(error.into()))
    }
}

/// What is there of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who saved it.
    pub actor: Entropy,
    /// The document as it was saved.
    pub whole: Vec<u8>,
    /// What was appended since.
    pub since: Vec<Vec<u8>>,
    /// The number of the next that is appended.
    pub next: u64,
}

/// What is to be written of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// The whole, in the place of all that is there.
    Whole(Vec<u8>),
    /// What came since, by its number.
    Since(u64, Vec<u8>),
    /// The whole of a new generation, and how the one before it ended.
    Begun(Vec<u8>, Past),
}

/// A generation that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its number.
    pub number: u64,
    /// When it ended (Unix ms).
    pub ended_ms: i64,
    /// The document as it was.
    pub whole: Vec<u8>,
    /// Those of the document that ended before this are let go of.
    pub keep_from_ms: i64,
}

/// Generations of a document that are kept, however young: two thousand changes each.
pub const PAST_MAX: u64 = 64;
/// Bytes of the generations of a document that are kept; the newest is, however long.
pub const PAST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The open file.
pub struct TwinFile {
    file: RedbFile<FileError>,
    actor: Entropy,
    former: Option<Entropy>,
}

impl TwinFile {
    /// Opens the file, or makes it. One that has no actor gets one: it is new, or a copy.
    ///
    /// # Errors
    /// The file cannot be opened, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = open(path)?;
        let transaction = file.begin_write()?;
        let (actor, former) = own(&transaction)?;
        transaction.commit()?;
        Ok(Self { file, actor, former })
    }

    /// Who this hub is as a replica.
    #[must_use]
    pub const fn actor(&self) -> Entropy {
        self.actor
    }

    /// Who it was before it was restored: documents may be elsewhere that it has forgotten.
    #[must_use]
    pub const fn former(&self) -> Option<Entropy> {
        self.former
    }

    /// How often the file was opened again after its disk had failed.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.file.reopened()
    }

    /// A document.
    ///
    /// # Errors
    /// The file fails, or a row is damaged.
    pub fn find(&self, document: &DocumentId) -> Result<Option<Found>, FileError> {
        let name = document.to_string();
        let transaction = self.file.begin_read()?;
        let row = transaction.open_table(WHOLE)?.get(name.as_str())?;
        let Some(row) = row else { return Ok(None) };
        let (actor, whole) = row
            .value()
            .split_first_chunk::<15>()
            .map(|(actor, whole)| (*actor, whole.to_vec()))
            .ok_or_else(|| FileError::Corrupt { key: name.clone() })?;
        let (mut since, mut next) = (Vec::new(), 0);
        for entry in transaction.open_table(SINCE)?.range((name.as_str(), 0)..=(name.as_str(), u64::MAX))? {
            let (key, bytes) = entry?;
            next = key.value().1.saturating_add(1);
            since.push(bytes.value().to_vec());
        }
        Ok(Some(Found { actor, whole, since, next }))
    }

    /// Whether there is such a document.
    ///
    /// # Errors
    /// The file fails.
    pub fn has(&self, document: &DocumentId) -> Result<bool, FileError> {
        let transaction = self.file.begin_read()?;
        Ok(transaction.open_table(WHOLE)?.get(document.to_string().as_str())?.is_some())
    }

    /// How many documents there are.
    ///
    /// # Errors
    /// The file fails.
    pub fn count(&self) -> Result<u64, FileError> {
        Ok(self.file.begin_read()?.open_table(WHOLE)?.len()?)
    }

    /// Writes all of it in one durable commit, in its order.
    ///
    /// # Errors
    /// The file fails; nothing of it is written then.
    pub fn write<'a>(
        &self,
        puts: impl IntoIterator<Item = (&'a DocumentId, &'a Put)>,
    ) -> Result<(), FileError> {
        let transaction = self.file.begin_write()?;
        {
            let (mut whole, mut since) = (transaction.open_table(WHOLE)?, transaction.open_table(SINCE)?);
            let mut ended = transaction.open_table(PAST)?;
            for (document, put) in puts {
                let name = document.to_string();
                if let Put::Begun(_, past) = put {
                    let row = [&past.ended_ms.to_be_bytes()[..], &past.whole].concat();
                    ended.insert((name.as_str(), past.number), row.as_slice())?;
                    let first = past.number.saturating_sub(PAST_MAX - 1);
                    let all = (name.as_str(), 0)..=(name.as_str(), u64::MAX);
                    let mut left = PAST_BYTES_MAX;
                    let mut fitting = past.number;
                    for row in ended.range(all.clone())?.rev() {
                        let (key, row) = row?;
                        let Some(rest) = left.checked_sub(row.value().len()) else { break };
                        (left, fitting) = (rest, key.value().1);
                    }
                    let first = first.max(fitting);
                    ended.retain_in(all, |(_, number), row| {
                        number >= first && ended_ms(row) >= Some(past.keep_from_ms)
                    })?;
                }
                match put {
                    Put::Since(number, bytes) => {
                        since.insert((name.as_str(), *number), bytes.as_slice())?;
                    }
                    Put::Whole(bytes) | Put::Begun(bytes, _) => {
                        let row = [&self.actor[..], bytes].concat();
                        whole.insert(name.as_str(), row.as_slice())?;
                        since.retain_in((name.as_str(), 0)..=(name.as_str(), u64::MAX), |_, _| false)?;
                    }
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// The generations of a document that have ended and are kept, with when they ended, the oldest first.
    ///
    /// # Errors
    /// The file fails.
    pub fn past(&self, document: &DocumentId) -> Result<Vec<(u64, i64)>, FileError> {
        let name = document.to_string();
        let transaction = self.file.begin_read()?;
        let mut found = Vec::new();
        for entry in transaction.open_table(PAST)?.range((name.as_str(), 0)..=(name.as_str(), u64::MAX))? {
            let (key, row) = entry?;
            found.extend(ended_ms(row.value()).map(|ended_ms| (key.value().1, ended_ms)));
        }
        Ok(found)
    }

    /// A generation as it ended.
    ///
    /// # Errors
    /// The file fails.
    pub fn ended(&self, document: &DocumentId, number: u64) -> Result<Option<Vec<u8>>, FileError> {
        let transaction = self.file.begin_read()?;
        let row = transaction.open_table(PAST)?.get((document.to_string().as_str(), number))?;
        Ok(row.and_then(|row| Some(row.value().split_first_chunk::<8>()?.1.to_vec())))
    }

    /// Lets go of all generations that ended before this; says of how many.
    ///
    /// # Errors
    /// The file fails.
    pub fn forget_past(&self, keep_from_ms: i64) -> Result<u64, FileError> {
        let transaction = self.file.begin_write()?;
        let (before, after) = {
            let mut ended = transaction.open_table(PAST)?;
            let before = ended.len()?;
            ended.retain(|_, row| ended_ms(row) >= Some(keep_from_ms))?;
            (before, ended.len()?)
        };
        transaction.commit()?;
        Ok(before.saturating_sub(after))
    }

    /// Writes all documents as they are at one moment to a new file. It has no actor: who opens it is another replica.
    ///
    /// # Errors
    /// The file fails, or the new one cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<(), FileError> {
        let from = self.file.begin_read()?;
        let copy = Database::create(path)?;
        let to = copy.begin_write()?;
        to.open_table(OWN)?.insert(FORMER, self.actor.as_slice())?;
        {
            let mut target = to.open_table(WHOLE)?;
            for entry in from.open_table(WHOLE)?.iter()? {
                let (key, bytes) = entry?;
                target.insert(key.value(), bytes.value())?;
            }
            let mut target = to.open_table(SINCE)?;
            for entry in from.open_table(SINCE)?.iter()? {
                let (key, bytes) = entry?;
                target.insert(key.value(), bytes.value())?;
            }
            let mut target = to.open_table(PAST)?;
            for entry in from.open_table(PAST)?.iter()? {
                let (key, bytes) = entry?;
                target.insert(key.value(), bytes.value())?;
            }
        }
        Ok(to.commit()?)
    }

    /// Makes the file of a restored hub one of another replica, whatever backup it came from. Where the backup has none, the
    /// hub has forgotten all its twins, and must not take itself for one that never had any.
    ///
    /// # Errors
    /// The file fails.
    pub fn restored(path: &Path) -> Result<(), FileError> {
        let file = open(path)?;
        let transaction = file.begin_write()?;
        {
            let mut table = transaction.open_table(OWN)?;
            let was = table.remove(ACTOR)?.map(|row| row.value().to_vec());
            match was {
                Some(was) => drop(table.insert(FORMER, was.as_slice())?),
                None if table.get(FORMER)?.is_some() => {}
                None => drop(table.insert(FORMER, random()?.as_slice())?),
            }
        }
        Ok(transaction.commit()?)
    }
}

/// When the generation of a row ended.
fn ended_ms(row: &[u8]) -> Option<i64> {
    row.first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes))
}

fn open(path: &Path) -> Result<RedbFile<FileError>, FileError> {
    // Nothing is kept in memory of it but documents, which a write that fails makes forgotten.
    RedbFile::open_within(path, CACHE_BYTES, |_| Ok(())).map_err(|error| match error {
        FileError::Storage(error) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => FileError::InUse,
        error => error,
    })
}

fn random() -> Result<Entropy, FileError> {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).map_err(FileError::Random)?;
    Ok(bytes)
}

/// Who the file is of, and was of; all tables are there then.
fn own(transaction: &WriteTransaction) -> Result<(Entropy, Option<Entropy>), FileError> {
    transaction.open_table(WHOLE)?;
    transaction.open_table(SINCE)?;
    transaction.open_table(PAST)?;
    let mut table = transaction.open_table(OWN)?;
    let read = |table: &redb::Table<'_, &str, &[u8]>, key: &str| match table.get(key)? {
        None => Ok(None),
        Some(row) => match row.value().try_into() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => Err(FileError::Corrupt { key: key.to_owned() }),
        },
    };
    let former = read(&table, FORMER)?;
    let actor = match read(&table, ACTOR)? {
        Some(actor) => actor,
        None => {
            let actor = random()?;
            table.insert(ACTOR, actor.as_slice())?;
            actor
        }
    };
    Ok((actor, former))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str) -> DocumentId {
        name.parse().unwrap()
    }

    #[test]
    fn what_was_appended_comes_back_in_order_until_the_whole_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, a, b) = (dir.path().join(TWINS), document("a"), document("b"));
        let file = TwinFile::open(&path).unwrap();
        let put = |document, put: Put| file.write([(document, &put)]).unwrap();
        assert_eq!(file.find(&a).unwrap(), None);
        put(&a, Put::Whole(vec![1]));
        put(&b, Put::Whole(vec![9]));
        for number in [0, 1, 300] {
            put(&a, Put::Since(number, vec![2, u8::try_from(number % 256).unwrap()]));
        }
        let found = file.find(&a).unwrap().unwrap();
        assert_eq!((found.actor, found.whole, found.next), (file.actor(), vec![1], 301));
        assert_eq!(found.since, [[2, 0], [2, 1], [2, 44]]);
        put(&a, Put::Whole(vec![3]));
        let actor = file.actor();
        drop(file);
        let file = TwinFile::open(&path).unwrap();
        let found = file.find(&a).unwrap().unwrap();
        assert_eq!((found.whole, found.since.len(), found.next), (vec![3], 0, 0));
        assert_eq!((file.actor(), file.former(), file.count().unwrap()), (actor, None, 2));
        assert!(file.has(&b).unwrap() && !file.has(&document("site/b")).unwrap());
    }

    #[test]
    fn generations_that_ended_are_kept_as_long_as_is_said_and_no_more_than_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let (path, a, b) = (dir.path().join(TWINS), document("a"), document("b"));
        let file = TwinFile::open(&path).unwrap();
        let begin = |document, number, ended_ms, keep_from_ms| {
            let past = Past { number, ended_ms, whole: vec![7], keep_from_ms };
            file.write([(document, &Put::Begun(vec![1], past))]).unwrap();
        };
        begin(&b, 0, 5, 0);
        for number in 0..3 {
            begin(&a, number, i64::try_from(number).unwrap() * 100, 0);
        }
        assert_eq!(file.past(&a).unwrap(), [(0, 0), (1, 100), (2, 200)]);
        assert_eq!(file.ended(&a, 1).unwrap(), Some(vec![7]));
        assert_eq!(file.find(&a).unwrap().unwrap().whole, [1]);
        begin(&a, 3, 300, 150);
        assert_eq!(file.past(&a).unwrap(), [(2, 200), (3, 300)]);
        begin(&a, 2 + PAST_MAX, 400, 150);
        assert_eq!(file.past(&a).unwrap(), [(3, 300), (2 + PAST_MAX, 400)]);
        // Long ones, of which not all fit: the oldest go.
        let c = document("c");
        for (number, part) in [(0, 3), (1, 3), (2, 2), (3, 1)] {
            let past =
                Past { number, ended_ms: 1, whole: vec![7; PAST_BYTES_MAX / part - 8], keep_from_ms: 0 };
            file.write([(&c, &Put::Begun(vec![1], past))]).unwrap();
            let kept: Vec<_> = file.past(&c).unwrap().into_iter().map(|(number, _)| number).collect();
            assert_eq!(kept, [&[0][..], &[0, 1], &[1, 2], &[3]][usize::try_from(number).unwrap()]);
        }
        file.copy_to(&dir.path().join("copy")).unwrap();
        let copy = TwinFile::open(&dir.path().join("copy")).unwrap();
        assert_eq!(copy.past(&a).unwrap(), file.past(&a).unwrap());
        assert_eq!((copy.forget_past(350).unwrap(), copy.past(&b).unwrap()), (3, vec![]));
    }

    #[test]
    fn a_copy_and_a_restored_file_are_other_replicas() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let file = TwinFile::open(&at("a")).unwrap();
        file.write([(&document("d"), &Put::Whole(vec![1]))]).unwrap();
        file.write([(&document("d"), &Put::Since(4, vec![2]))]).unwrap();
        file.copy_to(&at("b")).unwrap();
        TwinFile::restored(&at("b")).unwrap();
        let copy = TwinFile::open(&at("b")).unwrap();
        assert_eq!(copy.find(&document("d")).unwrap(), file.find(&document("d")).unwrap());
        assert_ne!(copy.actor(), file.actor());
        assert_eq!(copy.former(), Some(file.actor()));
        let was = file.actor();
        drop(file);
        TwinFile::restored(&at("a")).unwrap();
        let again = TwinFile::open(&at("a")).unwrap();
        assert_eq!((again.former(), again.actor() == was), (Some(was), false));
        // A backup of a hub that kept no twins yet.
        TwinFile::restored(&at("c")).unwrap();
        assert!(TwinFile::open(&at("c")).unwrap().former().is_some());
    }
}
