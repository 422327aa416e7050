//! Looks at the fleet now and then, and notes what it sees.

use std::path::Path;
use std::time::Duration;

use sysinfo::Disks;
use tokio::time::MissedTickBehavior;

use super::{Disk, Sample, Sight};
use crate::hub::{App, Hub};
use crate::metadata::MetadataError;
use crate::picture;

/// How often it is looked: six times in the narrowest slot, so that a device that comes and goes is seen to.
const EVERY: Duration = Duration::from_secs(10);

/// Looks until the hub stops.
pub async fn watch(hub: App) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = hub.stopped() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = look(&hub).await {
            tracing::error!(%error, "the fleet could not be looked at; it is tried again");
        }
    }
}

/// Looks once.
///
/// # Errors
/// The registry cannot be read.
pub async fn look(hub: &App) -> Result<(), MetadataError> {
    let picture = picture::of(hub).await?;
    // A disk that hangs holds up nobody else.
    hub.blocking(move |hub| {
        let disk = disk(&hub.config.data_dir);
        let counts = &picture.counts;
        let sample = Sample {
            online: counts.online,
            away: counts.suspect + counts.flapping + counts.offline,
            fresh: picture.freshness.minute,
            backlog: picture.backlog,
            stored: hub.store.metrics().appended_rows,
            free_bytes: disk.map(|disk| disk.free_bytes),
        };
        hub.pulse.note_disk(disk);
        note(hub, &sample, picture.sights());
        Ok(())
    })
    .await
}

fn note<'a>(hub: &Hub, sample: &Sample, sights: impl Iterator<Item = Sight<'a>>) {
    hub.pulse.note(hub.now(), sample, sights);
}

/// The disk that a folder is on: that whose mount point is the longest beginning of its path.
fn disk(folder: &Path) -> Option<Disk> {
    let folder = folder.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list().ok()?;
    let on = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    on.max_by_key(|disk| disk.mount_point().as_os_str().len())
        .map(|disk| Disk { free_bytes: disk.available_space(), total_bytes: disk.total_space() })
}
