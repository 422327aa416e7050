//! Exchanges of sealed files whose commit failed: it may be durable all the same, and another file of the same readings would
//! then double them. So none is made before the manifest, opened again, has told which of both holds.

use std::sync::Arc;

use super::Inner;
use super::damage::Workshop;
use crate::cold::ColdEntry;
use crate::config::StoreError;
use crate::log::lock;
use crate::manifest::{FileEntry, HoldingEntry};
use crate::metrics::add;
use crate::tables::{Unsettled, write};

impl Inner {
    /// Takes over what the manifest says of the exchange whose commit failed, if one did. No flush may go on meanwhile.
    ///
    /// # Errors
    /// The manifest cannot be read yet, or what it does not list not be removed: it is to be asked again.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        // Not held meanwhile: who asks for the store's health must not wait for an ill disk.
        let Some(Unsettled { added, replaced, expired, frozen }) = lock(&self.shared.unsettled).clone()
        else {
            return Ok(());
        };
        let contents = self.manifest.read()?;
        // One commit: they all hold or none does.
        if replaced.iter().any(|old| contents.files.iter().any(|file| file.number == old.number)) {
            let numbers: Vec<u64> = added.iter().map(|file| file.number).collect();
            self.remove_files(&numbers)?;
            self.discard(&frozen)?;
        } else {
            if added.is_empty() {
                // A flush since then has counted what is gone.
                let workshop = Workshop {
                    dir: &self.shared.dir,
                    format: self.format.as_ref(),
                    manifest: &self.manifest,
                };
                let counted = workshop.count_again(&contents, &[])?;
                {
                    let mut tables = write(&self.shared.tables);
                    tables.sealed_stats = tables.sealed_stats.recounted(counted, contents.names.len());
                }
                // That flush wrote what was known of its series before, and the next one may be of others.
                write(&self.shared.registry).distrust();
            }
            self.exchanged(&added, &replaced, (&expired, &frozen));
        }
        *lock(&self.shared.unsettled) = None;
        tracing::info!(
            "the manifest told how the last exchange of sealed files ended; they are merged again"
        );
        Ok(())
    }

    /// Notes that files stand in the place of others, as the manifest has it.
    pub(super) fn exchanged(
        &self,
        added: &[FileEntry],
        replaced: &[Arc<FileEntry>],
        (expired, frozen): (&[HoldingEntry], &[ColdEntry]),
    ) {
        {
            let mut known = lock(&self.shared.expired);
            expired.iter().for_each(|entry| known.put(entry));
        }
        let removed: Vec<u64> = replaced.iter().map(|file| file.number).collect();
        let mut tables = write(&self.shared.tables);
        tables.replace(added.iter().cloned(), &removed);
        Arc::make_mut(&mut tables.cold).extend(frozen.iter().cloned().map(Arc::new));
        drop(tables);
        add(&self.shared.counters.frozen_rows, frozen.iter().map(|entry| entry.rows).sum());
        lock(&self.shared.replaced).extend(replaced.iter().map(Arc::clone));
    }

    /// Settles what is unsettled before files are chosen for the next exchange.
    pub(super) fn settled(&self) -> Result<(), StoreError> {
        if lock(&self.shared.unsettled).is_none() {
            return Ok(());
        }
        let _no_flush = lock(&self.unfinished);
        self.settle()
    }
}
