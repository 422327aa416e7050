//! What the rows of the manifest's tables say.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};
use tideline_protocol::keep::Keep;
use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{AgentId, DropCause, Epoch, Gap, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::value::{Boxed, ValueKind};
use tideline_protocol::wire::{Report, Restamp};

use super::fail;
use super::ranges::{Ranges, RestampEntry, ranges, set_of};
use crate::config::StoreError;
use crate::hot::{Reading, SeriesStats};
use crate::log::{EpochState, Holding};
use crate::segment::Level;
use crate::segment::write::Written;
use crate::series::SeriesText;

/// What the manifest says of one sealed file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct FileEntry {
    /// Its number, under which no other file ever stands.
    #[n(0)]
    pub number: u64,
    /// Length and CRC-32C of the raw file.
    #[n(1)]
    pub raw: (u64, u32),
    /// Length and CRC-32C of the rollup.
    #[n(2)]
    pub rollup: (u64, u32),
    /// Its readings, also when only their rollups are left.
    #[n(3)]
    pub rows: u64,
    /// The earliest time in it, ns.
    #[n(5)]
    pub first_ns: i64,
    /// The latest time in it, ns.
    #[n(6)]
    pub last_ns: i64,
    /// Its place in the order of arrival: the number of the first file that is in it. Of equal times of a
    /// series the reading in the file with the lesser one is the earlier.
    #[n(7)]
    pub order: u64,
    /// Which seqs it holds, so that a lost file is refilled by exactly those; none of a file that is left without
    /// its readings.
    #[n(4)]
    pub holdings: Vec<HoldingEntry>,
    /// What is left of it: all, or its rollups from some level on, which then has all series.
    #[n(8)]
    #[cbor(default)]
    pub finest: Level,
    /// When the youngest flush that is in it wrote it, by the hub's clock, ns since 1970; none where that clock
    /// was not believed.
    #[n(9)]
    #[cbor(default)]
    pub sealed_ns: Option<i64>,
    /// What is kept of it, where that is not as much as of all.
    #[n(10)]
    pub keep: Option<Keep>,
}

impl FileEntry {
    /// An entry.
    #[must_use]
    pub fn new(
        number: u64,
        written: Written,
        order: u64,
        sealed_ns: Option<i64>,
        holdings: Vec<HoldingEntry>,
    ) -> Self {
        let Written { raw, rollup, rows, first_ns, last_ns } = written;
        let raw = raw.unwrap_or_default();
        let (finest, keep) = (Level::Raw, None);
        Self { number, raw, rollup, rows, first_ns, last_ns, order, holdings, finest, sealed_ns, keep }
    }

    /// An entry of a file without readings, whose finest level is `finest`.
    #[must_use]
    pub fn thinned(number: u64, written: Written, order: u64, sealed_ns: Option<i64>, finest: Level) -> Self {
        Self { finest, ..Self::new(number, written, order, sealed_ns, Vec::new()) }
    }

    /// The same with what is kept of it.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Self {
        Self { keep: Some(keep).filter(|keep| *keep != Keep::HUB), ..self }
    }

    /// What is kept of it.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.keep.unwrap_or(Keep::HUB)
    }

    /// Whether it has its readings.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.finest == Level::Raw
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.raw.0.saturating_add(self.rollup.0)
    }
}

/// The seqs of an epoch that a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct HoldingEntry {
    #[n(0)]
    agent: AgentId,
    #[n(1)]
    epoch: Epoch,
    #[n(2)]
    seqs: Ranges,
    #[n(3)]
    rows: u64,
}

impl HoldingEntry {
    /// An entry.
    #[must_use]
    pub fn new(agent: AgentId, epoch: Epoch, seqs: &RangeSet, rows: u64) -> Self {
        Self { agent, epoch, seqs: seqs.iter().collect(), rows }
    }

    /// Whose, of which epoch, which seqs, and their rows.
    #[must_use]
    pub fn parts(&self) -> (&AgentId, Epoch, RangeSet, u64) {
        (&self.agent, self.epoch, set_of(&self.seqs), self.rows)
    }
}

impl From<&Holding> for HoldingEntry {
    fn from(holding: &Holding) -> Self {
        Self {
            agent: holding.agent.clone(),
            epoch: holding.epoch,
            seqs: holding.seqs.iter().collect(),
            rows: holding.rows,
        }
    }
}

#[derive(Debug, Encode, Decode)]
#[cbor(array)]
pub(super) struct EpochEntry {
    #[n(0)]
    stored: Ranges,
    #[n(1)]
    refused: Ranges,
    #[n(2)]
    dropped: Ranges,
    #[n(3)]
    lost: Ranges,
    #[n(4)]
    rows: [u64; 5],
    #[n(5)]
    gaps: Vec<Gap>,
    #[n(13)]
    dropped_by: Vec<(DropCause, u64)>,
    #[n(6)]
    reported: Option<Report>,
    #[n(7)]
    lives: Vec<Life>,
    #[n(8)]
    moved: Option<Moved>,
    #[n(9)]
    opened: u64,
    #[n(10)]
    reported_by: Option<u64>,
    #[n(11)]
    restamps: Vec<RestampEntry>,
    // Corrected, uncertain.
    #[n(12)]
    restamped_rows: [u64; 2],
    #[n(14)]
    #[cbor(default)]
    folded: Seq,
}

impl From<&EpochState> for EpochEntry {
    fn from(state: &EpochState) -> Self {
        Self {
            stored: ranges(&state.settled.stored),
            refused: ranges(&state.settled.refused),
            dropped: ranges(&state.settled.dropped),
            lost: ranges(&state.lost),
            rows: [
                state.stored_rows,
                state.refused_rows,
                state.dropped_rows,
                state.duplicate_rows,
                state.lost_rows,
            ],
            gaps: state.gaps.clone(),
            dropped_by: state.dropped_by.clone(),
            reported: state.reported,
            lives: state.lives.clone(),
            moved: state.moved,
            opened: state.opened,
            reported_by: state.reported_by,
            restamps: state.restamps.iter().map(RestampEntry::from).collect(),
            restamped_rows: [state.restamped_rows, state.uncertain_rows],
            folded: state.folded,
        }
    }
}

impl EpochEntry {
    pub(super) fn restore(self, state: &mut EpochState) {
        state.settled.stored = set_of(&self.stored);
        state.settled.refused = set_of(&self.refused);
        state.settled.dropped = set_of(&self.dropped);
        state.lost = set_of(&self.lost);
        [state.stored_rows, state.refused_rows, state.dropped_rows, state.duplicate_rows, state.lost_rows] =
            self.rows;
        (state.gaps, state.dropped_by) = (self.gaps, self.dropped_by);
        state.reported = self.reported;
        (state.lives, state.moved, state.opened) = (self.lives, self.moved, self.opened);
        state.reported_by = self.reported_by;
        state.restamps = self.restamps.into_iter().map(Restamp::from).collect();
        [state.restamped_rows, state.uncertain_rows] = self.restamped_rows;
        state.folded = self.folded;
    }
}

/// A series of this hub and what the sealed files hold of it.
#[derive(Debug, Encode, Decode)]
#[cbor(array)]
struct SeriesRow<'b> {
    #[b(0)]
    device: &'b str,
    #[b(1)]
    point: &'b str,
    #[b(2)]
    unit: &'b str,
    #[n(3)]
    count: u64,
    #[n(4)]
    first_ns: Option<i64>,
    #[n(5)]
    last: Option<(i64, u64)>,
    // Of all that ever came: what is lost or given up does not change it.
    #[n(6)]
    #[cbor(default)]
    late: u64,
    #[n(7)]
    #[cbor(default)]
    kind: ValueKind,
    // Empty when it has none.
    #[b(8)]
    #[cbor(default)]
    name: &'b str,
    // What the word of the last reading stands for, when it is boxed.
    #[b(9)]
    boxed: Option<&'b ByteSlice>,
    // Of one that is not it is not there.
    #[n(10)]
    revised: Option<bool>,
}

/// Adds the row of a series, which may be revised.
pub fn write_series(
    text: &SeriesText<'_>,
    (stats, revised): (&SeriesStats, bool),
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let SeriesText { device, point, unit, kind, name } = *text;
    let SeriesStats { count, first_ns, ref last, late } = *stats;
    let boxed = last.as_ref().and_then(|last| last.boxed.as_ref()).map(|boxed| {
        let mut bytes = Vec::new();
        boxed.write(&mut bytes);
        bytes
    });
    let row = SeriesRow {
        device,
        point,
        unit,
        count,
        first_ns,
        last: last.as_ref().map(|last| (last.time_ns, last.word.to_bits())),
        late,
        kind,
        name,
        boxed: boxed.as_deref().map(Into::into),
        revised: Some(true).filter(|_| revised),
    };
    minicbor::encode(row, out).map_err(fail)
}

/// The row of a series, and whether it is revised.
pub fn read_series(row: &[u8]) -> Result<(SeriesText<'_>, SeriesStats, bool), StoreError> {
    let row: SeriesRow<'_> = minicbor::decode(row).map_err(fail)?;
    let SeriesRow { device, point, unit, count, first_ns, last, late, kind, name, boxed, revised } = row;
    let boxed = boxed.and_then(|bytes| Boxed::read(&mut &bytes[..])).map(Arc::new);
    let last = last.map(|(time_ns, bits)| Reading { time_ns, word: f64::from_bits(bits), boxed });
    let text = SeriesText { device, point, unit, kind, name };
    Ok((text, SeriesStats { count, first_ns, last, late }, revised == Some(true)))
}

/// An entry of a dictionary, as [`tideline_protocol::model::SeriesDef`] has it.
#[derive(Debug, Encode, Decode)]
#[cbor(array)]
struct DefRow<'b> {
    #[b(0)]
    device: &'b str,
    #[b(1)]
    point: &'b str,
    #[b(2)]
    unit: &'b str,
    #[n(3)]
    kind: Option<ValueKind>,
    #[b(4)]
    name: Option<&'b str>,
}

/// The row of an entry of a dictionary.
pub fn write_def(text: &SeriesText<'_>) -> Result<Vec<u8>, StoreError> {
    let SeriesText { device, point, unit, kind, name } = *text;
    let kind = Some(kind).filter(|kind| *kind != ValueKind::Float);
    let name = Some(name).filter(|name| !name.is_empty());
    minicbor::to_vec(DefRow { device, point, unit, kind, name }).map_err(fail)
}

/// What a row says of an entry of a dictionary.
pub fn read_def(row: &[u8]) -> Result<SeriesText<'_>, StoreError> {
    let DefRow { device, point, unit, kind, name } = minicbor::decode(row).map_err(fail)?;
    let (kind, name) = (kind.unwrap_or_default(), name.unwrap_or_default());
    Ok(SeriesText { device, point, unit, kind, name })
}

/// The holdings of several files as those of one.
pub fn gathered<'a>(holdings: impl Iterator<Item = &'a HoldingEntry>) -> Vec<HoldingEntry> {
    let mut all: BTreeMap<(&AgentId, Epoch), (RangeSet, u64)> = BTreeMap::new();
    for holding in holdings {
        let (seqs, rows) = all.entry((&holding.agent, holding.epoch)).or_default();
        seqs.insert_set(&set_of(&holding.seqs));
        *rows += holding.rows;
    }
    let entries = all.into_iter();
    entries
        .map(|((agent, epoch), (seqs, rows))| HoldingEntry::new(agent.clone(), epoch, &seqs, rows))
        .collect()
}
