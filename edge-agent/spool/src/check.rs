//! What can be seen of a spool from outside: figures, and a full check of what is stored.

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};
use tideline_protocol::model::{Account, Epoch, RowCounts, Seq};

use crate::blob;
use crate::flash::Pace;
use crate::spool::{BATCHES, GAPS, Spool, SpoolError};

/// A snapshot of a spool's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The spool's epoch.
    pub epoch: Epoch,
    /// The newest seq.
    pub head: Seq,
    /// The account, in rows.
    pub account: Account,
    /// Bytes of held batches, as counted against the quota.
    pub bytes: u64,
    /// The quota in bytes.
    pub quota_bytes: u64,
    /// Held batches.
    pub batches: u64,
    /// Durable dictionary entries.
    pub series: u32,
    /// Bytes handed to the storage in this day of the spool's age.
    pub flash_day_bytes: u64,
    /// Most of them that are wanted; 0 = no limit.
    pub flash_bytes_per_day: u64,
    /// What is left of them.
    pub pace: Pace,
    /// Whether the disk was full, so that less is held than the quota allows.
    pub disk_full: bool,
}

/// What a full check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Batches read.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Gaps that the hub has not confirmed.
    pub gaps: u64,
    /// Everything that is not as it should be; empty when all is well.
    pub problems: Vec<String>,
}

/// Most problems that are listed; the rest is like them.
const PROBLEMS_MAX: usize = 100;

impl Spool {
    /// The spool's figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            epoch: self.epoch,
            head: self.head(),
            account: self.account(),
            bytes: self.books.held_cost(),
            quota_bytes: self.config.quota_bytes,
            batches: self.books.held.len(),
            series: self.series_count(),
            flash_day_bytes: self.worn(),
            flash_bytes_per_day: self.config.flash_bytes_per_day,
            pace: self.pace(),
            disk_full: self.cramped.is_some(),
        }
    }

    /// Reads and decodes everything and compares it with the books. Changes nothing.
    ///
    /// # Errors
    /// The storage failed.
    pub fn verify(&self) -> Result<VerifyReport, SpoolError> {
        let mut report = VerifyReport::default();
        report.problems.extend(self.books.breach());
        if self.journal_lost {
            let problem = "the journal is lost or was cut short: what was accepted since the last commit of the tables is lost, and nobody knows how much it was";
            report.problems.push(problem.to_owned());
        }
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        report.gaps = tx.open_table(GAPS).map_err(SpoolError::storage)?.len().map_err(SpoolError::storage)?;
        let table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
        let (mut pending_rows, mut damaged, mut bytes) = (0_u64, false, 0_u64);
        let mut look = |seq: u64, value: &[u8]| {
            bytes += blob::cost(value.len());
            report.batches += 1;
            match self.verify_batch(seq, value) {
                Ok(rows) => {
                    report.rows += u64::from(rows);
                    pending_rows += if self.books.pending.contains(seq) { u64::from(rows) } else { 0 };
                }
                Err(problem) => {
                    damaged = true;
                    report.problems.push(problem);
                }
            }
            report.problems.truncate(PROBLEMS_MAX);
        };
        for entry in table.iter().map_err(SpoolError::storage)? {
            let (seq, value) = entry.map_err(SpoolError::storage)?;
            look(seq.value(), value.value());
        }
        self.tail.iter().for_each(|(seq, value)| look(seq, value));
        if !damaged && pending_rows != self.books.account.pending {
            let counted = self.books.account.pending;
            report.problems.push(format!("{pending_rows} rows are pending, the account says {counted}"));
        }
        if report.batches != self.books.held.len() || bytes != self.books.held_cost() {
            let (held, cost) = (self.books.held.len(), self.books.held_cost());
            let found = report.batches;
            report
                .problems
                .push(format!("{found} batches of {bytes} bytes are held, the books say {held} of {cost}"));
        }
        Ok(report)
    }

    pub(crate) fn verify_batch(&self, seq: u64, value: &[u8]) -> Result<u32, String> {
        if !self.books.held.contains(seq) {
            return Err(format!("seq {seq} is stored, but not in the books"));
        }
        let (header, block) =
            blob::split(seq, value).ok_or_else(|| format!("seq {seq}: its checksum is wrong"))?;
        let decoded = tideline_protocol::block::decode(block, &RowCounts::one(header.rows), Seq::new(seq));
        decoded.map_err(|error| format!("seq {seq}: {error}"))?;
        Ok(header.rows)
    }
}
