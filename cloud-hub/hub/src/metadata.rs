//! The hub's metadata in `hub.redb`: agents, enrol tokens, users, API tokens and sessions.
//!
//! Secrets are never kept: passwords as argon2id, everything random as SHA-256. Each change is one
//! durable commit, which waits for the disk: call what changes something through [`crate::hub::Hub::blocking`].
//! It must never hold readings or received ranges; those are the store's.

mod owners;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{
    AccessGuard, Database, ReadableTable, ReadableTableMetadata, StorageError, TableDefinition,
    WriteTransaction,
};

use crate::redbfile::RedbFile;
use owners::{Owned, Owners};
pub use records::{
    AsideRecord, BoardRecord, BoardShareRecord, BoardVersionRecord, Card, CommandIndexRecord,
    CommandKeyRecord, CommandOutputRecord, CommandRecord, ConfigRecord, DeviceRecord, DeviceTokenRecord,
    EnrolRecord, ImportRecord, JobRecord, Marks, OptionInForce, PlanImageRecord, PlanRecord, PresenceRecord,
    ProfileRecord, ProfileVersionRecord, Record, Role, SessionRecord, SiteRecord, TemplateRecord,
    TemplateVersion, TokenRecord, UserRecord, WriteTokenRecord, WriterRecord, WriterSeriesRecord,
};

/// What went wrong with the metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Another process has the file open.
    #[error("another hub runs on this data folder")]
    InUse,
    /// The file could not be read or written; a local fault.
    #[error("the metadata file hub.redb failed")]
    Storage(#[source] Box<redb::Error>),
    /// The work on it did not come to its end; a local fault.
    #[error("work on the metadata was interrupted: {reason}")]
    Interrupted {
        /// Why.
        reason: String,
    },
    /// A record does not read back; a local fault.
    #[error("record {key:?} of table {table} does not read back")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl<E: Into<redb::Error>> From<E> for MetadataError {
    fn from(error: E) -> Self {
        Self::Storage(Box::new(error.into()))
    }
}

impl MetadataError {
    /// Work on the metadata did not come to its end.
    #[must_use]
    pub fn interrupted(cause: impl std::fmt::Display) -> Self {
        Self::Interrupted { reason: cause.to_string() }
    }
}

const TABLES: [&str; 27] = [
    DeviceRecord::TABLE,
    AsideRecord::TABLE,
    EnrolRecord::TABLE,
    UserRecord::TABLE,
    TokenRecord::TABLE,
    WriteTokenRecord::TABLE,
    WriterRecord::TABLE,
    WriterSeriesRecord::TABLE,
    ImportRecord::TABLE,
    JobRecord::TABLE,
    DeviceTokenRecord::TABLE,
    SessionRecord::TABLE,
    PresenceRecord::TABLE,
    CommandRecord::TABLE,
    CommandIndexRecord::TABLE,
    CommandKeyRecord::TABLE,
    CommandOutputRecord::TABLE,
    BoardRecord::TABLE,
    BoardVersionRecord::TABLE,
    BoardShareRecord::TABLE,
    TemplateRecord::TABLE,
    SiteRecord::TABLE,
    PlanRecord::TABLE,
    PlanImageRecord::TABLE,
    ConfigRecord::TABLE,
    ProfileRecord::TABLE,
    ProfileVersionRecord::TABLE,
];

/// The open file; cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    file: Arc<RedbFile<MetadataError>>,
    owners: Arc<Mutex<Owners>>,
    // Held from a commit until the owners are as it left them.
    order: Arc<Mutex<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metadata {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// The file cannot be opened, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, MetadataError> {
        let owners = Arc::new(Mutex::new(Owners::default()));
        let read_again = Arc::clone(&owners);
        let file = RedbFile::open(path, move |database| {
            let found = prepare(database)?;
            *locked(&read_again) = found;
            Ok(())
        });
        let file = file.map_err(|error| match error {
            MetadataError::Storage(error) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => {
                MetadataError::InUse
            }
            error => error,
        })?;
        Ok(Self { file: Arc::new(file), owners, order: Arc::default() })
    }

    /// How often the file was opened again after its disk had failed.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.file.reopened()
    }

    /// The devices that an agent speaks for, its own among them, sorted; those of one that was revoked too.
    #[must_use]
    pub fn devices_of(&self, agent: &str) -> Vec<String> {
        locked(&self.owners).devices_of(agent)
    }

    /// The agents that have devices at a site, sorted.
    #[must_use]
    pub fn agents_at(&self, site: &str) -> Vec<String> {
        locked(&self.owners).agents_at(site)
    }

    /// The agents that have devices in a group, sorted.
    #[must_use]
    pub fn agents_in(&self, group: &str) -> Vec<String> {
        locked(&self.owners).agents_in(group)
    }

    /// The devices that share the document of a site, sorted.
    #[must_use]
    pub fn devices_at(&self, site: &str) -> Vec<String> {
        locked(&self.owners).devices_at(site)
    }

    /// The devices that share the document of a group, sorted.
    #[must_use]
    pub fn devices_in(&self, group: &str) -> Vec<String> {
        locked(&self.owners).devices_in(group)
    }

    /// The sites at which devices are, with how many.
    #[must_use]
    pub fn sites(&self) -> BTreeMap<String, usize> {
        locked(&self.owners).sites()
    }

    /// The sites of these devices, each time that one is at it.
    #[must_use]
    pub fn sites_among(&self, devices: &[String]) -> Vec<String> {
        let owners = locked(&self.owners);
        devices.iter().filter_map(|device| owners.site_of(device)).map(str::to_owned).collect()
    }

    /// Whether an agent has a device at a site.
    #[must_use]
    pub fn is_at(&self, agent: &str, site: &str) -> bool {
        locked(&self.owners).is_at(agent, site)
    }

    /// Whether an agent has a device in a group.
    #[must_use]
    pub fn is_in(&self, agent: &str, group: &str) -> bool {
        locked(&self.owners).is_in(agent, group)
    }

    /// The sites of an agent's devices, sorted.
    #[must_use]
    pub fn sites_of(&self, agent: &str) -> BTreeSet<String> {
        locked(&self.owners).sites_of(agent)
    }

    /// The groups of an agent's devices, sorted.
    #[must_use]
    pub fn groups_of(&self, agent: &str) -> BTreeSet<String> {
        locked(&self.owners).groups_of(agent)
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// The file fails or the record is damaged.
    pub fn find<R: Record>(&self, key: &str) -> Result<Option<R>, MetadataError> {
        let transaction = self.file.begin_read()?;
        let table = transaction.open_table(definition(R::TABLE))?;
        table.get(key)?.map(|bytes| parse(key, bytes.value())).transpose()
    }

    /// Two records of one key as they are at one moment; none where either is not there.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn find_both<A: Record, B: Record>(&self, key: &str) -> Result<Option<(A, B)>, MetadataError> {
        let transaction = self.file.begin_read()?;
        let first = transaction.open_table(definition(A::TABLE))?;
        let second = transaction.open_table(definition(B::TABLE))?;
        let (Some(first), Some(second)) = (first.get(key)?, second.get(key)?) else { return Ok(None) };
        Ok(Some((parse(key, first.value())?, parse(key, second.value())?)))
    }

    /// The records of these keys, in their order, as they are at one moment.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn find_each<'a, R: Record>(
        &self,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Option<R>>, MetadataError> {
        let transaction = self.file.begin_read()?;
        let table = transaction.open_table(definition(R::TABLE))?;
        let find = |key: &str| table.get(key)?.map(|bytes| parse(key, bytes.value())).transpose();
        keys.into_iter().map(find).collect()
    }

    /// All records in the order of their keys.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn list<R: Record>(&self) -> Result<Vec<(String, R)>, MetadataError> {
        let transaction = self.file.begin_read()?;
        let table = transaction.open_table(definition(R::TABLE))?;
        let mut out = Vec::new();
        for entry in table.iter()? {
            let (key, bytes) = entry?;
            let key = key.value().to_owned();
            let record = parse(&key, bytes.value())?;
            out.push((key, record));
        }
        Ok(out)
    }

    /// All records whose keys begin so, in the order of their keys.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn list_from<R: Record>(&self, prefix: &str) -> Result<Vec<(String, R)>, MetadataError> {
        let transaction = self.file.begin_read()?;
        let table = transaction.open_table(definition(R::TABLE))?;
        let mut out = Vec::new();
        for entry in table.range(prefix..)? {
            let (key, bytes) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let record = parse(key.value(), bytes.value())?;
            out.push((key.value().to_owned(), record));
        }
        Ok(out)
    }

    /// Hands out the records from `from` on and before `before`, the last first, until `each` says that it is enough.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn each_back<R: Record>(
        &self,
        from: &str,
        before: &str,
        mut each: impl FnMut(&str, R) -> ControlFlow<()>,
    ) -> Result<(), MetadataError> {
        if from >= before {
            return Ok(());
        }
        let transaction = self.file.begin_read()?;
        let table = transaction.open_table(definition(R::TABLE))?;
        for entry in table.range(from..before)?.rev() {
            let (key, bytes) = entry?;
            if each(key.value(), parse(key.value(), bytes.value())?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Writes all records as they are at one moment to a new file.
    ///
    /// # Errors
    /// The file fails, or the new one cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<(), MetadataError> {
        let from = self.file.begin_read()?;
        let copy = Database::create(path)?;
        let to = copy.begin_write()?;
        for name in TABLES {
            let (source, mut target) = (from.open_table(definition(name))?, to.open_table(definition(name))?);
            for entry in source.iter()? {
                let (key, bytes) = entry?;
                target.insert(key.value(), bytes.value())?;
            }
        }
        to.commit()?;
        Ok(())
    }

    /// How many records there are.
    ///
    /// # Errors
    /// The file fails.
    pub fn count<R: Record>(&self) -> Result<u64, MetadataError> {
        let transaction = self.file.begin_read()?;
        Ok(transaction.open_table(definition(R::TABLE))?.len()?)
    }

    /// Writes a record durably.
    ///
    /// # Errors
    /// The file fails.
    pub fn put<R: Record>(&self, key: &str, record: &R) -> Result<(), MetadataError> {
        self.change(|changes| changes.put(key, record))
    }

    /// Removes a record durably; says whether there was one.
    ///
    /// # Errors
    /// The file fails.
    pub fn remove<R: Record>(&self, key: &str) -> Result<bool, MetadataError> {
        self.change(|changes| changes.remove::<R>(key))
    }

    /// Makes all changes of `step` in one durable transaction, or none when it fails. A step that
    /// changes nothing costs no write.
    ///
    /// # Errors
    /// The file fails, a record is damaged, or what `step` says.
    pub fn change<A, E: From<MetadataError>>(
        &self,
        step: impl FnOnce(&mut Changes) -> Result<A, E>,
    ) -> Result<A, E> {
        let transaction = self.file.begin_write()?;
        let mut changes = Changes { transaction, changed: false, owners: Vec::new() };
        let answer = step(&mut changes)?;
        if changes.changed {
            let _order = locked(&self.order);
            changes.transaction.commit().map_err(MetadataError::from)?;
            let mut owners = locked(&self.owners);
            changes.owners.into_iter().for_each(|(device, owned)| owners.set(&device, owned));
        }
        Ok(answer)
    }
}

/// All tables are there then; gives who the devices are behind.
fn prepare(database: &Database) -> Result<Owners, MetadataError> {
    let transaction = database.begin_write()?;
    for name in TABLES {
        transaction.open_table(definition(name))?;
    }
    let mut owners = Owners::default();
    for entry in transaction.open_table(definition(DeviceRecord::TABLE))?.iter()? {
        let (key, bytes) = entry?;
        owners.set(key.value(), Some(owner(key.value(), bytes.value())?));
    }
    transaction.commit()?;
    Ok(owners)
}

/// A transaction that is being made; see [`Metadata::change`].
pub struct Changes {
    transaction: WriteTransaction,
    changed: bool,
    // Devices with the agents that they are behind now.
    owners: Vec<(String, Option<Owned>)>,
}

impl Changes {
    /// The record of `key`.
    ///
    /// # Errors
    /// The file fails or the record is damaged.
    pub fn find<R: Record>(&self, key: &str) -> Result<Option<R>, MetadataError> {
        let table = self.transaction.open_table(definition(R::TABLE))?;
        table.get(key)?.map(|bytes| parse(key, bytes.value())).transpose()
    }

    /// All records in the order of their keys.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn list<R: Record>(&self) -> Result<Vec<(String, R)>, MetadataError> {
        let table = self.transaction.open_table(definition(R::TABLE))?;
        let read = |entry: Result<(AccessGuard<'_, &str>, AccessGuard<'_, &[u8]>), StorageError>| {
            let (key, bytes) = entry?;
            Ok((key.value().to_owned(), parse(key.value(), bytes.value())?))
        };
        table.iter()?.map(read).collect()
    }

    /// How many records there are.
    ///
    /// # Errors
    /// The file fails.
    pub fn count<R: Record>(&self) -> Result<u64, MetadataError> {
        Ok(self.transaction.open_table(definition(R::TABLE))?.len()?)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The file fails.
    pub fn put<R: Record>(&mut self, key: &str, record: &R) -> Result<(), MetadataError> {
        let bytes = serde_json::to_vec(record).map_err(|source| corrupt::<R>(key, source))?;
        self.transaction.open_table(definition(R::TABLE))?.insert(key, bytes.as_slice())?;
        self.changed = true;
        if R::TABLE == DeviceRecord::TABLE {
            self.owners.push((key.to_owned(), Some(owner(key, &bytes)?)));
        }
        Ok(())
    }

    /// Removes a record; says whether there was one.
    ///
    /// # Errors
    /// The file fails.
    pub fn remove<R: Record>(&mut self, key: &str) -> Result<bool, MetadataError> {
        let was = self.transaction.open_table(definition(R::TABLE))?.remove(key)?.is_some();
        self.changed |= was;
        if R::TABLE == DeviceRecord::TABLE {
            self.owners.push((key.to_owned(), None));
        }
        Ok(was)
    }

    /// Removes every record of which `gone` is true; says how many.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn remove_where<R: Record>(
        &mut self,
        mut gone: impl FnMut(&str, &R) -> bool,
    ) -> Result<usize, MetadataError> {
        let mut keys = Vec::new();
        for entry in self.transaction.open_table(definition(R::TABLE))?.iter()? {
            let (key, bytes) = entry?;
            if gone(key.value(), &parse(key.value(), bytes.value())?) {
                keys.push(key.value().to_owned());
            }
        }
        for key in &keys {
            self.remove::<R>(key)?;
        }
        Ok(keys.len())
    }
}

const fn definition(name: &'static str) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

fn corrupt<R: Record>(key: &str, source: serde_json::Error) -> MetadataError {
    MetadataError::Corrupt { table: R::TABLE, key: key.to_owned(), source }
}

fn owner(key: &str, bytes: &[u8]) -> Result<Owned, MetadataError> {
    serde_json::from_slice(bytes).map_err(|source| corrupt::<DeviceRecord>(key, source))
}

fn parse<R: Record>(key: &str, bytes: &[u8]) -> Result<R, MetadataError> {
    serde_json::from_slice(bytes).map_err(|source| corrupt::<R>(key, source))
}
