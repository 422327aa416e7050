//! Questions about many series at once, and whether their answers still hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use tideline_protocol::model::{DeviceId, PointId};

use super::Store;
use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::query::{self, FigureColumn, Figures, GroupAnswer, GroupQuestion, Rollups, Tier};
use crate::tables::{DeviceInfo, Registry, SeriesInfo, SeriesMeta, SeriesState, Tables, read};

fn state(registry: &Registry, tables: &Tables, id: SeriesId) -> Option<SeriesState> {
    let meta = Arc::clone(registry.meta(id)?);
    let stats = tables.stats(id);
    Some(SeriesState { id, meta, count: stats.count, last: stats.last })
}

impl Store {
    /// The series that are `wanted`, by number, each with its last reading: nothing of the disk is read. `wanted` is
    /// called with all series, and holds the decoder up while it thinks.
    #[must_use]
    pub fn states(&self, mut wanted: impl FnMut(&SeriesMeta) -> bool) -> Vec<SeriesState> {
        let registry = read(&self.inner.shared.registry);
        let tables = read(&self.inner.shared.tables);
        let found = registry.metas().iter().zip(0_u32..).filter(|(meta, _)| wanted(meta));
        found.filter_map(|(_, id)| state(&registry, &tables, id)).collect()
    }

    /// The devices that are `wanted` and have a series, with what is known without reading them: a walk over all series, which looks
    /// at those of the wanted ones alone.
    #[must_use]
    pub fn devices_that(&self, wanted: impl Fn(&DeviceId) -> bool) -> BTreeMap<DeviceId, DeviceInfo> {
        let registry = read(&self.inner.shared.registry);
        let tables = read(&self.inner.shared.tables);
        let mut out: BTreeMap<DeviceId, DeviceInfo> = BTreeMap::new();
        let mut ids = 0_u32..;
        // The series of a device mostly stand together.
        for run in registry.metas().chunk_by(|a, b| a.device == b.device) {
            let ids = ids.by_ref().take(run.len());
            let Some(meta) = run.first().filter(|meta| wanted(&meta.device)) else {
                ids.for_each(drop);
                continue;
            };
            let mut info = out.get(&meta.device).copied().unwrap_or_default();
            for stats in ids.map(|id| tables.stats(id)) {
                info.readings += stats.count;
                info.late += stats.late;
                info.last_ns = info.last_ns.max(stats.last_ns());
            }
            out.insert(meta.device.clone(), info);
        }
        out
    }

    /// A series by its name, as [`Self::states`] gives it.
    #[must_use]
    pub fn state(&self, device: &DeviceId, point: &PointId) -> Option<SeriesState> {
        let registry = read(&self.inner.shared.registry);
        let id = registry.find(device, point)?;
        let tables = read(&self.inner.shared.tables);
        state(&registry, &tables, id)
    }

    /// A series by its name, with all that is known without reading it.
    #[must_use]
    pub fn info(&self, device: &DeviceId, point: &PointId) -> Option<SeriesInfo> {
        let registry = read(&self.inner.shared.registry);
        let id = registry.find(device, point)?;
        let tables = read(&self.inner.shared.tables);
        registry.meta(id).map(|meta| SeriesInfo::new(id, meta, tables.stats(id)))
    }

    /// Aggregates over groups of series, see [`GroupQuestion`]. Blocks the thread, and another one beside it when
    /// there is much to read; it ends soon after `canceled` says so.
    ///
    /// # Errors
    /// A series is unknown, the answer would be too large, it was canceled, or a file cannot be read.
    pub fn query_groups(
        &self,
        question: &GroupQuestion,
        canceled: &(dyn Fn() -> bool + Sync),
    ) -> Result<GroupAnswer, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| query::groups(shared, format, question, canceled))
    }

    /// As [`Self::query_rollups`], with figures of the same buckets.
    ///
    /// # Errors
    /// As there, or too many readings would have to be read.
    pub fn query_figured_rollups(
        &self,
        series: SeriesId,
        tier: Tier,
        range: (i64, i64),
        figures: &Figures,
    ) -> Result<(Rollups, FigureColumn), StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| query::figured_rollups(shared, format, (series, tier), range, figures))
    }

    /// How often readings came or went, for [`Self::stands`]: to be asked for before the question whose answer is kept.
    #[must_use]
    pub fn version(&self) -> u64 {
        read(&self.inner.shared.tables).history.changes()
    }

    /// Whether every question about readings in `from..=to` (ns) still has the answer that it had at that version.
    #[must_use]
    pub fn stands(&self, version: u64, from_ns: i64, to_ns: i64) -> bool {
        read(&self.inner.shared.tables).history.stands(version, from_ns, to_ns)
    }
}
