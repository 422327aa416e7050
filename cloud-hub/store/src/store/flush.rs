//! A flush: cut the log, seal what was decoded before the cut, commit, let the log go.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use super::Inner;
use super::threads::Command;
use crate::config::StoreError;
use crate::hot::Hot;
use crate::log::{Checkpoint, Holding, lock};
use crate::manifest::{Change, FileEntry};
use crate::metrics::add;
use crate::tables::{read, sealed_paths, write};

/// All that the log held before a cut.
#[derive(Debug)]
pub struct Cut {
    /// Where the log goes on.
    pub checkpoint: Checkpoint,
    /// Which seqs were stored since the cut before.
    pub holdings: Vec<Holding>,
    /// Their rows.
    pub hot: Arc<Hot>,
}

/// Length and CRC-32C of a file.
pub fn fingerprint(path: &Path) -> io::Result<(u64, u32)> {
    let bytes = fs::read(path)?;
    Ok((bytes.len() as u64, crc32c::crc32c(&bytes)))
}

impl Inner {
    /// Returns when all commands sent before are carried out and their runs decoded.
    pub(super) fn barrier(&self) -> Result<(), StoreError> {
        // The second round carries out the refusals that the first one brought to light.
        for _ in 0..2 {
            let (reply, answer) = mpsc::channel();
            self.commands.send(Command::Barrier { reply }).map_err(|_| StoreError::Closed)?;
            answer.recv().map_err(|_| StoreError::Closed)?;
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut unfinished = lock(&self.unfinished);
        let cut = match unfinished.take() {
            Some(cut) => cut,
            None => {
                let (reply, answer) = mpsc::channel();
                self.commands.send(Command::Cut { reply }).map_err(|_| StoreError::Closed)?;
                answer.recv().map_err(|_| StoreError::Closed)??
            }
        };
        // A refusal of a run before the cut must be in the log after it, or else the run would
        // count as stored once its segment is gone.
        let oldest_segment = cut.checkpoint.oldest_segment;
        let sealed = self.barrier().and_then(|()| {
            write(&self.shared.tables).sealing = true;
            self.seal(&cut)
        });
        write(&self.shared.tables).sealing = false;
        self.shared.signal.changed.notify_all();
        if let Err(error) = sealed {
            *unfinished = Some(cut);
            return Err(error);
        }
        add(&self.shared.counters.flushes, 1);
        let _ = self.commands.send(Command::Trim { oldest_segment });
        Ok(())
    }

    fn seal(&self, cut: &Cut) -> Result<(), StoreError> {
        let mut stats = read(&self.shared.tables).sealed_stats.clone();
        let series = read(&self.shared.registry).metas().len();
        stats.resize_with(series, Default::default);
        for (stats, id) in stats.iter_mut().zip(0_u32..) {
            stats.merge(&cut.hot.stats(id));
        }
        let file = if cut.hot.rows() == 0 { None } else { Some(self.write_file(cut)?) };
        let entries = self.shared.series_entries(&stats);
        self.manifest.commit(&Change {
            checkpoint: &cut.checkpoint,
            series: &entries,
            added: file.as_ref(),
            removed: &[],
        })?;
        let mut tables = write(&self.shared.tables);
        if let Some(file) = file {
            Arc::make_mut(&mut tables.files).push(Arc::new(file));
        }
        tables.sealed_stats = stats;
        tables.flushing = None;
        Ok(())
    }

    fn write_file(&self, cut: &Cut) -> Result<FileEntry, StoreError> {
        let number = read(&self.shared.tables).files.last().map_or(1, |file| file.number + 1);
        let (raw, rollup) = sealed_paths(&self.shared.dir, number);
        let (raw_tmp, rollup_tmp) = (raw.with_extension("tmp"), rollup.with_extension("tmp"));
        let places = self.format.write(&cut.hot, &raw_tmp, &rollup_tmp).map_err(StoreError::Sealed)?;
        let finish = || -> io::Result<[(u64, u32); 2]> {
            let prints = [fingerprint(&raw_tmp)?, fingerprint(&rollup_tmp)?];
            for (tmp, path) in [(&raw_tmp, &raw), (&rollup_tmp, &rollup)] {
                File::open(tmp)?.sync_all()?;
                fs::rename(tmp, path)?;
            }
            File::open(self.shared.dir.join("sealed"))?.sync_all()?;
            Ok(prints)
        };
        let [raw, rollup] = finish().map_err(StoreError::io("writing a sealed file"))?;
        Ok(FileEntry { number, raw, rollup, places, holdings: cut.holdings.iter().map(Into::into).collect() })
    }
}
