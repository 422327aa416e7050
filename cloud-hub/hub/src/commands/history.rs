//! What the disk holds of commands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tideline_protocol::commands::{HubChange, HubCommand};
use tideline_protocol::wire::CommandId;

use super::{keep_ms, stored};
use crate::hub::Hub;
use crate::metadata::{
    Changes, CommandIndexRecord, CommandKeyRecord, CommandOutputRecord, CommandRecord, Metadata,
    MetadataError,
};

/// Most commands that are forgotten in one transaction, which others wait for.
const PRUNED_AT_ONCE: usize = 256;

fn output_key(id: CommandId, attempt: u32, offset: u64) -> String {
    format!("{id}/{attempt:010}/{offset:010}")
}

/// Writes what the core has changed, in one transaction.
pub(super) fn write(metadata: &Metadata, changes: &[HubChange]) -> Result<(), MetadataError> {
    metadata.change(|into: &mut Changes| {
        for change in changes {
            match change {
                HubChange::Put(command) => {
                    into.put(&command.id.to_string(), &CommandRecord { command: command.as_ref().clone() })?;
                }
                HubChange::Output { id, attempt, offset, bytes } => {
                    let record = CommandOutputRecord { bytes: STANDARD.encode(bytes) };
                    into.put(&output_key(*id, *attempt, *offset), &record)?;
                }
            }
        }
        Ok(())
    })
}

/// A command, whether it has ended or not.
///
/// # Errors
/// The metadata cannot be read.
pub fn find(hub: &Hub, id: CommandId) -> Result<Option<HubCommand>, MetadataError> {
    let core = hub.commands.core();
    match core.find(id) {
        Some(command) => Ok(Some(command.clone())),
        None => stored(&hub.metadata, id),
    }
}

/// The commands of a device, the newest first, those older than `before`, and at most so many.
///
/// # Errors
/// The metadata cannot be read.
pub fn list(
    hub: &Hub,
    device: &str,
    before: Option<CommandId>,
    limit: usize,
) -> Result<Vec<HubCommand>, MetadataError> {
    let prefix = format!("{device}/");
    let keys = hub.metadata.list_from::<CommandIndexRecord>(&prefix)?;
    let ids = keys.iter().rev().filter_map(|(key, _)| key.strip_prefix(&prefix)?.parse().ok());
    let ids = ids.filter(|id| before.is_none_or(|before| *id < before));
    // One that was forgotten meanwhile takes no place: with it a page would seem to be the last.
    ids.filter_map(|id| find(hub, id).transpose()).take(limit).collect()
}

/// The output of a command's last attempt, as far as it came.
///
/// # Errors
/// The metadata cannot be read.
pub fn output(hub: &Hub, command: &HubCommand) -> Result<Vec<u8>, MetadataError> {
    let prefix = format!("{}/{:010}/", command.id, command.attempt);
    let mut whole = Vec::new();
    for (key, record) in hub.metadata.list_from::<CommandOutputRecord>(&prefix)? {
        // A hub that was killed may have written a piece before, from a little earlier on.
        let offset = key.rsplit('/').next().and_then(|offset| offset.parse().ok()).unwrap_or(whole.len());
        whole.truncate(offset);
        whole.extend(STANDARD.decode(&record.bytes).unwrap_or_default());
    }
    Ok(whole)
}

/// Forgets commands that ended too long ago; says how many.
pub(super) fn prune(hub: &Hub) -> Result<usize, MetadataError> {
    let before_ms = hub.now_ms().saturating_sub(keep_ms(hub));
    let is_old = |command: &HubCommand| command.ended_ms.is_some_and(|ended_ms| ended_ms < before_ms);
    let old: Vec<HubCommand> = hub
        .metadata
        .list::<CommandRecord>()?
        .into_iter()
        .map(|(_, record)| record.command)
        .filter(|command| command.state.is_final() && is_old(command))
        .collect();
    for some in old.chunks(PRUNED_AT_ONCE) {
        let outputs = some
            .iter()
            .map(|command| hub.metadata.list_from::<CommandOutputRecord>(&format!("{}/", command.id)));
        let outputs: Vec<_> = outputs.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        hub.metadata.change(|changes: &mut Changes| {
            for HubCommand { id, device, .. } in some {
                let index = format!("{device}/{id}");
                let keyed = changes.find::<CommandIndexRecord>(&index)?.and_then(|record| record.key);
                if let Some(key) = keyed {
                    changes.remove::<CommandKeyRecord>(&format!("{device}/{key}"))?;
                }
                changes.remove::<CommandIndexRecord>(&index)?;
                changes.remove::<CommandRecord>(&id.to_string())?;
            }
            outputs.iter().try_for_each(|(key, _)| changes.remove::<CommandOutputRecord>(key).map(drop))
        })?;
    }
    Ok(old.len())
}
