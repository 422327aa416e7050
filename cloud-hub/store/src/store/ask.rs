//! Questions about many series at once, and whether their answers still hold.

use std::collections::BTreeMap;

use tideline_protocol::keep::{Keep, KeepRule};
use tideline_protocol::model::{DeviceId, PointId};

use super::Store;
use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::query::{
    self, FigureColumn, Figures, GroupAnswer, GroupQuestion, RawCursor, RawPage, Rollups, Stand, Tier,
};
use crate::registry::Registry;
use crate::tables::{DeviceInfo, SeriesInfo, SeriesState, SeriesText, Shared, Tables, read};

fn state(registry: &Registry, tables: &Tables, id: SeriesId) -> Option<SeriesState> {
    let meta = registry.names().meta(id)?;
    let stats = tables.stats(id);
    Some(SeriesState { id, meta, count: stats.count, last: stats.last })
}

fn info(registry: &Registry, tables: &Tables, id: SeriesId) -> Option<SeriesInfo> {
    registry.names().meta(id).map(|meta| SeriesInfo::new(id, meta, tables.stats(id)))
}

impl Store {
    /// Says what the profile of a device says of how long its readings are kept, in the place of what was said before. It holds for
    /// what is sealed from then on, until the store is closed.
    pub fn tell_keeps(&self, device: &DeviceId, rules: &[KeepRule]) {
        self.inner.shared.keeps.tell(device, rules);
    }

    /// What is kept of a series that is sealed now: what its device's profile says, unless the store is not to go by that.
    #[must_use]
    pub fn keep(&self, device: &str, point: &str) -> Keep {
        let Shared { retention, keeps, .. } = self.inner.shared.as_ref();
        if retention.by_profile { keeps.of(device, point) } else { Keep::HUB }
    }

    /// All series, or those of a device, by number.
    #[must_use]
    pub fn series(&self, device: Option<&DeviceId>) -> Vec<SeriesInfo> {
        let registry = read(&self.inner.shared.registry);
        let tables = read(&self.inner.shared.tables);
        let names = registry.names();
        let info = |id| info(&registry, &tables, id);
        match device {
            Some(device) => names.of_device(device).filter_map(info).collect(),
            None => (0..).take(names.len()).filter_map(info).collect(),
        }
    }

    /// The series that are `wanted`, by number, as [`Self::series`] gives them. `wanted` is called as for [`Self::states`].
    #[must_use]
    pub fn series_where(&self, mut wanted: impl FnMut(&SeriesText<'_>) -> bool) -> Vec<SeriesInfo> {
        let registry = read(&self.inner.shared.registry);
        let found: Vec<SeriesId> =
            registry.names().iter().filter(|(_, text)| wanted(text)).map(|(id, _)| id).collect();
        let tables = read(&self.inner.shared.tables);
        found.into_iter().filter_map(|id| info(&registry, &tables, id)).collect()
    }

    /// The first of the series that are `wanted`, of a device or of all, by their names as device/point: at most `most` of
    /// those behind `after`, which need not be the name of one. `wanted` is called with all series that may be among them,
    /// and holds who defines new ones up while it thinks.
    #[must_use]
    pub fn first_series(
        &self,
        device: Option<&DeviceId>,
        after: Option<&str>,
        most: usize,
        wanted: impl FnMut(&SeriesText<'_>) -> bool,
    ) -> Vec<SeriesInfo> {
        let registry = read(&self.inner.shared.registry);
        let found = registry.names().first(device, after, most, wanted);
        let tables = read(&self.inner.shared.tables);
        found.into_iter().filter_map(|id| info(&registry, &tables, id)).collect()
    }

    /// All devices that have a series, with what is known without reading them. One pass.
    #[must_use]
    pub fn devices(&self) -> BTreeMap<DeviceId, DeviceInfo> {
        self.devices_that(|_| true)
    }

    /// The devices that are `wanted` and have a series, with what is known without reading them: it looks at the series of
    /// the wanted ones alone.
    #[must_use]
    pub fn devices_that(&self, wanted: impl Fn(&DeviceId) -> bool) -> BTreeMap<DeviceId, DeviceInfo> {
        let registry = read(&self.inner.shared.registry);
        let tables = read(&self.inner.shared.tables);
        let found = registry.names().devices().filter(|(device, _)| wanted(device));
        let all = found.map(|(device, series)| {
            let mut info = DeviceInfo::default();
            for stats in series.map(|id| tables.stats(id)) {
                info.readings += stats.count;
                info.late += stats.late;
                info.last_ns = info.last_ns.max(stats.last_ns());
            }
            (device.clone(), info)
        });
        all.collect()
    }

    /// How many series there are.
    #[must_use]
    pub fn series_count(&self) -> usize {
        read(&self.inner.shared.registry).names().len()
    }

    /// The series that are `wanted`, by number, each with its last reading: nothing of the disk is read. `wanted` is
    /// called with all series, and holds who defines new ones up while it thinks.
    #[must_use]
    pub fn states(&self, mut wanted: impl FnMut(&SeriesText<'_>) -> bool) -> Vec<SeriesState> {
        let registry = read(&self.inner.shared.registry);
        let found: Vec<SeriesId> =
            registry.names().iter().filter(|(_, text)| wanted(text)).map(|(id, _)| id).collect();
        let tables = read(&self.inner.shared.tables);
        found.into_iter().filter_map(|id| state(&registry, &tables, id)).collect()
    }

    /// A series by its name, as [`Self::states`] gives it.
    #[must_use]
    pub fn state(&self, device: &DeviceId, point: &PointId) -> Option<SeriesState> {
        let registry = read(&self.inner.shared.registry);
        let id = registry.names().find(device, point)?;
        let tables = read(&self.inner.shared.tables);
        state(&registry, &tables, id)
    }

    /// A series by its name, with all that is known without reading it.
    #[must_use]
    pub fn info(&self, device: &DeviceId, point: &PointId) -> Option<SeriesInfo> {
        let registry = read(&self.inner.shared.registry);
        let id = registry.names().find(device, point)?;
        let tables = read(&self.inner.shared.tables);
        info(&registry, &tables, id)
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

    /// As [`Self::query_raw`], but with the readings that are in the cold tier, each in its place; it ends soon after `canceled`
    /// says so. What becomes cold between two pages moves none of them.
    ///
    /// # Errors
    /// As there, a file of the cold tier is damaged, or it was canceled.
    pub fn query_page(
        &self,
        series: &[SeriesId],
        range: (i64, i64),
        (after, limit): (Option<RawCursor>, usize),
        canceled: &dyn Fn() -> bool,
    ) -> Result<RawPage, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| query::raw(shared, format, series, range, (after, limit, true), canceled))
    }

    /// The last time of `from..to` (ns) of which a tier does not know all readings of these series, since they are past
    /// their retention: what is known of coarser buckets may still be there.
    ///
    /// # Errors
    /// A series is unknown, or a file cannot be read.
    pub fn thinned_to(
        &self,
        series: &[SeriesId],
        range: (i64, i64),
        tier: Tier,
    ) -> Result<Option<i64>, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| query::thinned_to(shared, format, series, range, query::level_of(tier)))
    }

    /// The buckets of a series around `from..to` (ns) that stand for readings of which some are gone, in order, each of the
    /// finest rollup that is left and with all readings in it; none overlaps another. Readings outside of them are
    /// all there. What retention removed with all that was known of it has none.
    ///
    /// # Errors
    /// The series is unknown, or a file cannot be read.
    pub fn query_stands(&self, series: SeriesId, range: (i64, i64)) -> Result<Vec<Stand>, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| query::stands(shared, format, series, range))
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
