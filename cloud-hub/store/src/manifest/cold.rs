//! The list of the cold tier's files. A manifest from before there was any lacks it.

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};

use super::{Change, cbor, fail};
use crate::cold::ColdEntry;
use crate::config::StoreError;

pub const COLD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("cold");

/// Those that are listed, by number.
pub fn read(txn: &ReadTransaction) -> Result<Vec<ColdEntry>, StoreError> {
    let cold = match txn.open_table(COLD) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table.map_err(fail)?,
    };
    let rows = cold.iter().map_err(fail)?;
    rows.map(|row| minicbor::decode(row.map_err(fail)?.1.value()).map_err(fail)).collect()
}

/// Writes what a change says of them.
pub fn write(txn: &WriteTransaction, change: &Change<'_>) -> Result<(), StoreError> {
    if change.frozen.is_empty() && change.melted.is_empty() {
        return Ok(());
    }
    let mut cold = txn.open_table(COLD).map_err(fail)?;
    for entry in change.frozen {
        cold.insert(entry.number, cbor(entry)?.as_slice()).map_err(fail)?;
    }
    for number in change.melted {
        cold.remove(number).map_err(fail)?;
    }
    Ok(())
}
