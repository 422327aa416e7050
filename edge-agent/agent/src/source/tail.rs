//! A file that grows: its lines become readings as they are written, over restarts of the agent, and also when
//! it is rotated or truncated meanwhile.
//!
//! The position names the file by device and inode and by how it begins, so that another file under the same
//! name is seen as one. What was moved aside is read to its end before the new file is begun, also when that
//! happened while no agent ran, as long as it stands in the same folder under a name that begins alike.

mod follow;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use self::follow::{Follower, Turned};
use super::rows::{Gathered, RowReader};
use super::{Context, Readings, Source, SourceError};
use crate::config::{Rows, Timestamps};

/// Follows a file.
#[derive(Debug, Clone)]
pub struct TailSource {
    /// The file; it need not be there yet.
    pub path: PathBuf,
    /// Between two looks whether it has grown.
    pub interval: Duration,
    /// Whether a file that is met for the first time is read from its end on.
    pub from_end: bool,
    /// What its rows are.
    pub rows: Rows,
}

impl Source for TailSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let mut reader = RowReader::of(context, self.rows.clone()).await?;
        let position = context.position().await?;
        let mut follower = Follower::new(self.path.clone(), position.as_deref(), self.from_end);
        let mut told = position;
        let mut ticks = context.every(self.interval);
        loop {
            let is_stamped = self.rows.timestamps == Timestamps::Now;
            let readings = if is_stamped { context.readings() } else { Readings::of_own_times() };
            let now_ns = context.readings().time_ns();
            let step = context.blocking("reading a file", move || {
                let mut gathered = Gathered::into(readings);
                let turned = follower.read(&mut reader, now_ns, &mut gathered);
                (follower, reader, gathered, turned)
            });
            let (gathered, turned);
            (follower, reader, gathered, turned) = step.await?;
            let turned = match turned {
                Ok(turned) => turned,
                Err(error) => {
                    return Err(SourceError::failed(format!("{}: {error}", self.path.display())));
                }
            };
            if let Turned::Lost(what) = &turned {
                context.statistics().failed(what);
            }
            let is_news = !gathered.is_empty();
            let readings = reader.finish(gathered);
            let place = follower.position();
            // A file that was emptied and written anew may end where it did before.
            if is_news || place != told {
                told.clone_from(&place);
                context.emit(readings.at(place.unwrap_or_default())).await?;
            }
            if matches!(turned, Turned::AtEnd) {
                context.tick(&mut ticks).await?;
            }
        }
    }
}
