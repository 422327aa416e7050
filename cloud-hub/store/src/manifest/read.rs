//! Reads all of the manifest. Its series and dictionaries may be millions of rows: they go row by row to where they stay.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableError};
use tideline_protocol::model::{AgentId, Epoch};

use super::entries::{self, EpochEntry};
use super::{Contents, DICTIONARY, EPOCHS, EXPIRED, FILES, GONE, META, SERIES, cold, fail};
use crate::config::StoreError;
use crate::log::{Dictionary, Ledgers};
use crate::names::{Age, Named};

/// All that it says.
pub fn read(db: &Database) -> Result<Contents, StoreError> {
    let txn = db.begin_read().map_err(fail)?;
    let mut out = Contents::default();
    let meta = txn.open_table(META).map_err(fail)?;
    out.checkpoint.oldest_segment =
        meta.get("oldest_segment").map_err(fail)?.map_or(0, |value| value.value());
    out.flushed = meta.get("flushed").map_err(fail)?.map_or(0, |value| value.value());
    for row in txn.open_table(EPOCHS).map_err(fail)?.iter().map_err(fail)? {
        let (key, value) = row.map_err(fail)?;
        let (agent, epoch) = key.value();
        let entry: EpochEntry = minicbor::decode(value.value()).map_err(fail)?;
        let agent = AgentId::parse(agent).map_err(fail)?;
        entry.restore(out.checkpoint.ledgers.epoch_mut(&agent, Epoch::from_bytes(epoch)));
    }
    read_dictionary(&txn, &mut out.checkpoint.ledgers)?;
    for row in txn.open_table(SERIES).map_err(fail)?.iter().map_err(fail)? {
        let (key, value) = row.map_err(fail)?;
        let (text, stats, revised) = entries::read_series(value.value())?;
        let named = out.names.name(&text, Age::Newest).map_err(fail)?;
        if named != Named::Changed(key.value()) {
            return Err(fail("its list of series has a hole, or one of them twice"));
        }
        out.stats.put(key.value(), &stats);
        out.revised.extend(revised.then_some(key.value()));
    }
    for row in txn.open_table(FILES).map_err(fail)?.iter().map_err(fail)? {
        out.files.push(minicbor::decode(row.map_err(fail)?.1.value()).map_err(fail)?);
    }
    out.files.sort_by_key(|file| file.order);
    if out.flushed == 0 {
        // A manifest from before it was kept.
        out.flushed = out.files.iter().map(|file| file.number).max().unwrap_or(0);
    }
    for row in txn.open_table(GONE).map_err(fail)?.iter().map_err(fail)? {
        out.gone.push(row.map_err(fail)?.0.value());
    }
    out.cold = cold::read(&txn)?;
    let expired = match txn.open_table(EXPIRED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(out),
        table => table.map_err(fail)?,
    };
    for row in expired.iter().map_err(fail)? {
        out.expired.push(minicbor::decode(row.map_err(fail)?.1.value()).map_err(fail)?);
    }
    Ok(out)
}

fn read_dictionary(txn: &redb::ReadTransaction, ledgers: &mut Ledgers) -> Result<(), StoreError> {
    // Those of an epoch stand together.
    let mut open: Option<(AgentId, Epoch, Dictionary)> = None;
    let mut close = |read: Option<(AgentId, Epoch, Dictionary)>| {
        if let Some((agent, epoch, dictionary)) = read {
            ledgers.epoch_mut(&agent, epoch).dictionary = dictionary;
        }
    };
    for row in txn.open_table(DICTIONARY).map_err(fail)?.iter().map_err(fail)? {
        let (key, value) = row.map_err(fail)?;
        let (agent, epoch, no) = key.value();
        let epoch = Epoch::from_bytes(epoch);
        if open.as_ref().is_none_or(|(of, at, _)| (of.as_str(), *at) != (agent, epoch)) {
            let agent = AgentId::parse(agent).map_err(fail)?;
            close(open.replace((agent, epoch, Dictionary::default())));
        }
        if let Some((_, _, dictionary)) = &mut open {
            if no as usize != dictionary.len() {
                return Err(fail("a dictionary has a hole"));
            }
            dictionary.push(&entries::read_def(value.value())?);
        }
    }
    close(open);
    Ok(())
}
