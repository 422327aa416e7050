//! Other series in the place of those that a dictionary has: what an agent calls by a number becomes another series' from
//! then on.

use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::wire::Series;

use super::dictionary::renameable;
use super::record::Record;
use super::{LogCore, LogDisk, LogError, lock};

impl<D: LogDisk> LogCore<D> {
    /// Puts entries in the place of known ones, durably.
    ///
    /// # Errors
    /// Some are not known, or the disk failed.
    pub fn rename_series(
        &mut self,
        agent: &AgentId,
        epoch: Epoch,
        series: &[Series],
    ) -> Result<(), LogError> {
        let known = lock(&self.ledgers).dictionary(agent, epoch);
        series.iter().try_for_each(|run| renameable(&known, run)).map_err(|reason| LogError::Series {
            agent: agent.clone(),
            epoch,
            reason,
        })?;
        drop(known);
        let records = series.iter().map(|series| Record::Renamed { agent, epoch, series });
        self.write(&records.collect::<Vec<_>>())?;
        lock(&self.ledgers).epoch_mut(agent, epoch).rename(series);
        Ok(())
    }
}
