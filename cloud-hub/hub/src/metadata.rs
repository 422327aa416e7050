//! The hub's metadata in `hub.redb`: agents, enrol tokens, users, API tokens and sessions.
//!
//! Secrets are never kept: passwords as argon2id, everything random as SHA-256. Each change is one
//! durable commit. It must never hold readings or received ranges; those are the store's.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What went wrong with the metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The file could not be read or written; a local fault.
    #[error("the metadata file hub.redb failed")]
    Storage(#[source] Box<redb::Error>),
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

/// What a principal may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reading.
    Viewer,
}

impl Role {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

/// A record kind with a table of its own.
pub trait Record: Serialize + DeserializeOwned + Clone {
    /// The table's name.
    const TABLE: &'static str;
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident in $table:literal { $($(#[$fdoc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$fdoc])* pub $field: $kind,)* }
        impl Record for $name { const TABLE: &'static str = $table; }
    };
}

record! {
    /// A registered device, by its id.
    DeviceRecord in "devices" {
        /// The agent that may write for it.
        agent: String,
        /// SHA-256 of the public key in the agent's certificate, in hex.
        key_hash: String,
        /// When it was enrolled, Unix ms.
        enrolled_ms: i64,
        /// Whether it may no longer connect.
        revoked: bool,
        /// When it was last connected, Unix ms.
        last_seen_ms: Option<i64>,
    }
}
record! {
    /// A token that lets one key enrol one device, by its id.
    EnrolRecord in "enrol_tokens" {
        /// The device.
        device: String,
        /// SHA-256 of the secret, in hex.
        secret_hash: String,
        /// When it ends, Unix ms.
        expires_ms: i64,
        /// SHA-256 of the first key that used it, in hex.
        key_hash: Option<String>,
    }
}
record! {
    /// A person, by name.
    UserRecord in "users" {
        /// The password as a PHC string.
        password: String,
        /// What they may do.
        role: Role,
        /// When they were made, Unix ms.
        created_ms: i64,
    }
}
record! {
    /// A program's token, by its id.
    TokenRecord in "api_tokens" {
        /// What it is for.
        name: String,
        /// What it may do.
        role: Role,
        /// SHA-256 of the secret, in hex.
        secret_hash: String,
        /// When it was made, Unix ms.
        created_ms: i64,
    }
}
record! {
    /// A browser session, by SHA-256 of its cookie in hex.
    SessionRecord in "sessions" {
        /// Whose it is.
        user: String,
        /// When it ends, Unix ms.
        expires_ms: i64,
    }
}

/// The open file; cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    database: Arc<Database>,
}

impl Metadata {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// The file cannot be opened, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, MetadataError> {
        let database = Database::create(path)?;
        let transaction = database.begin_write()?;
        for name in [
            DeviceRecord::TABLE,
            EnrolRecord::TABLE,
            UserRecord::TABLE,
            TokenRecord::TABLE,
            SessionRecord::TABLE,
        ] {
            transaction.open_table(definition(name))?;
        }
        transaction.commit()?;
        Ok(Self { database: Arc::new(database) })
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// The file fails or the record is damaged.
    pub fn find<R: Record>(&self, key: &str) -> Result<Option<R>, MetadataError> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(definition(R::TABLE))?;
        table.get(key)?.map(|bytes| parse(key, bytes.value())).transpose()
    }

    /// All records in the order of their keys.
    ///
    /// # Errors
    /// The file fails or a record is damaged.
    pub fn list<R: Record>(&self) -> Result<Vec<(String, R)>, MetadataError> {
        let transaction = self.database.begin_read()?;
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

    /// Writes a record durably.
    ///
    /// # Errors
    /// The file fails.
    pub fn put<R: Record>(&self, key: &str, record: &R) -> Result<(), MetadataError> {
        self.change::<R, _>(key, |_| (Some(record.clone()), ()))
    }

    /// Removes a record durably; says whether there was one.
    ///
    /// # Errors
    /// The file fails.
    pub fn remove<R: Record>(&self, key: &str) -> Result<bool, MetadataError> {
        self.change::<R, _>(key, |old| {
            let was = old.is_some();
            (None, was)
        })
    }

    /// Changes the record of `key` in one transaction: `step` gets the old one and gives the new
    /// one (none: removed) and an answer.
    ///
    /// # Errors
    /// The file fails or the record is damaged.
    pub fn change<R: Record, A>(
        &self,
        key: &str,
        step: impl FnOnce(Option<R>) -> (Option<R>, A),
    ) -> Result<A, MetadataError> {
        let transaction = self.database.begin_write()?;
        let answer = {
            let mut table = transaction.open_table(definition(R::TABLE))?;
            let old = table.get(key)?.map(|bytes| parse(key, bytes.value())).transpose()?;
            let (new, answer) = step(old);
            match new {
                Some(record) => {
                    let bytes = serde_json::to_vec(&record).map_err(|source| corrupt::<R>(key, source))?;
                    table.insert(key, bytes.as_slice())?;
                }
                None => {
                    table.remove(key)?;
                }
            }
            answer
        };
        transaction.commit()?;
        Ok(answer)
    }
}

const fn definition(name: &'static str) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

fn corrupt<R: Record>(key: &str, source: serde_json::Error) -> MetadataError {
    MetadataError::Corrupt { table: R::TABLE, key: key.to_owned(), source }
}

fn parse<R: Record>(key: &str, bytes: &[u8]) -> Result<R, MetadataError> {
    serde_json::from_slice(bytes).map_err(|source| corrupt::<R>(key, source))
}
