//! A copy of the manifest as it is at one moment, for a snapshot of the store.

use std::borrow::Borrow;
use std::path::Path;

use redb::{
    Builder, Key, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableHandle as _, Value, WriteTransaction,
};

use super::cold::COLD;
use super::{DICTIONARY, EPOCHS, EXPIRED, FILES, GONE, META, Manifest, SERIES, fail};
use crate::config::StoreError;
use crate::files::FileSystem;

/// What redb may keep in memory: by itself it would take a gigabyte.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Opens a manifest, or a copy of one.
pub fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

impl Manifest {
    /// Writes all that it says now to a new file.
    ///
    /// # Errors
    /// The manifest cannot be read, or the file cannot be written.
    pub fn copy_to(&self, files: &dyn FileSystem, path: &Path) -> Result<(), StoreError> {
        let from = self.look(|db| db.begin_read().map_err(fail))?;
        let copy = files.database(path, &builder()).map_err(fail)?;
        let to = copy.begin_write().map_err(fail)?;
        table(&from, &to, META)?;
        table(&from, &to, EPOCHS)?;
        table(&from, &to, DICTIONARY)?;
        table(&from, &to, SERIES)?;
        table(&from, &to, FILES)?;
        let tables: Vec<String> =
            from.list_tables().map_err(fail)?.map(|table| table.name().to_owned()).collect();
        let has = |name: &str| tables.iter().any(|table| table == name);
        if has(EXPIRED.name()) {
            table(&from, &to, EXPIRED)?;
        }
        if has(COLD.name()) {
            table(&from, &to, COLD)?;
        }
        // A snapshot has only what is listed.
        to.open_table(GONE).map_err(fail)?;
        to.commit().map_err(fail)
    }
}

fn table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<(), StoreError> {
    let source = from.open_table(definition).map_err(fail)?;
    let mut target = to.open_table(definition).map_err(fail)?;
    for row in source.iter().map_err(fail)? {
        let (key, value) = row.map_err(fail)?;
        target.insert(key.value().borrow(), value.value().borrow()).map_err(fail)?;
    }
    Ok(())
}
