//! The manifest: one redb file that says what the other files of the store mean.
//!
//! One transaction commits a flush: it lists the new file, moves the settled ranges and counters
//! on, and lets the log segments go that the file replaces. Whatever is cut off before it never
//! happened, and the log still has it.

mod copy;
mod ranges;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use minicbor::{Decode, Encode};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};
use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{AgentId, DeviceId, DropCause, Epoch, Gap, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Report, Restamp};

use crate::config::StoreError;
use crate::hot::{SeriesId, SeriesStats};
use crate::log::{Checkpoint, EpochState, Holding, Ledgers};
use crate::sealed::Place;

use ranges::{Ranges, RestampEntry, ranges, set_of};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const EPOCHS: TableDefinition<'_, (&str, [u8; 16]), &[u8]> = TableDefinition::new("epochs");
const DICTIONARY: TableDefinition<'_, (&str, [u8; 16], u32), &[u8]> = TableDefinition::new("dictionary");
const SERIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("series");
const FILES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("files");

/// The version of the layout of all files of a store.
const VERSION: u64 = 1;

/// What the manifest says of one sealed file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct FileEntry {
    /// Its number; a greater one arrived later.
    #[n(0)]
    pub number: u64,
    /// Length and CRC-32C of the raw file.
    #[n(1)]
    pub raw: (u64, u32),
    /// Length and CRC-32C of the rollup.
    #[n(2)]
    pub rollup: (u64, u32),
    /// Where each series stands, series ascending.
    #[n(3)]
    pub places: Vec<Place>,
    /// Which seqs it holds, so that a lost file is refilled by exactly those.
    #[n(4)]
    pub holdings: Vec<HoldingEntry>,
}

impl FileEntry {
    /// Rows of the raw file.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.places.iter().map(|place| place.rows).sum()
    }

    /// Where a series stands in it.
    #[must_use]
    pub fn place(&self, series: SeriesId) -> Option<&Place> {
        let at = self.places.binary_search_by_key(&series, |place| place.series).ok()?;
        self.places.get(at)
    }

    /// Rows of the rollup.
    #[must_use]
    pub fn minutes(&self) -> u64 {
        self.places.iter().map(|place| place.minutes).sum()
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
struct EpochEntry {
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
    fn restore(self, state: &mut EpochState) {
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
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct SeriesEntry {
    /// The device.
    #[n(0)]
    pub device: DeviceId,
    /// The point.
    #[n(1)]
    pub point: PointId,
    /// The unit.
    #[n(2)]
    pub unit: String,
    #[n(3)]
    count: u64,
    #[n(4)]
    first_ns: Option<i64>,
    #[n(5)]
    last: Option<(i64, u64)>,
}

impl SeriesEntry {
    /// An entry.
    #[must_use]
    pub fn new(def: SeriesDef, stats: &SeriesStats) -> Self {
        Self {
            device: def.device,
            point: def.point,
            unit: def.unit,
            count: stats.count,
            first_ns: stats.first_ns,
            last: stats.last.map(|last| (last.time_ns, last.value.to_bits())),
        }
    }

    /// Replaces what the sealed files hold of it.
    pub fn restat(&mut self, stats: &SeriesStats) {
        self.count = stats.count;
        self.first_ns = stats.first_ns;
        self.last = stats.last.map(|last| (last.time_ns, last.value.to_bits()));
    }

    /// What the sealed files hold of it.
    #[must_use]
    pub fn stats(&self) -> SeriesStats {
        let last = self.last.map(|(time_ns, bits)| Sample { time_ns, value: f64::from_bits(bits) });
        SeriesStats { count: self.count, first_ns: self.first_ns, last }
    }
}

/// All that the manifest says.
#[derive(Debug, Default)]
pub struct Contents {
    /// Where the log goes on.
    pub checkpoint: Checkpoint,
    /// The series by id.
    pub series: Vec<SeriesEntry>,
    /// The sealed files by number.
    pub files: Vec<FileEntry>,
}

/// What one flush changes.
#[derive(Debug)]
pub struct Change<'a> {
    /// The log before this is in files now.
    pub checkpoint: &'a Checkpoint,
    /// All series by id.
    pub series: &'a [SeriesEntry],
    /// A new file.
    pub added: Option<&'a FileEntry>,
    /// Files that are no more.
    pub removed: &'a [u64],
}

/// The open manifest.
#[derive(Debug)]
pub struct Manifest {
    db: Database,
    created: bool,
}

/// Why a manifest cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Its bytes cannot be trusted; another start with the same file ends the same way.
    Damaged(String),
    /// It may well be good: it is open elsewhere, of another version, or cannot be read now.
    Refused(String),
}

impl From<OpenError> for StoreError {
    fn from((OpenError::Damaged(reason) | OpenError::Refused(reason)): OpenError) -> Self {
        Self::Manifest(reason)
    }
}

/// A full or failing disk says nothing about the bytes that are there.
fn judge(error: impl Into<redb::Error>) -> OpenError {
    let error = error.into();
    let refused = match &error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => true,
        // These a file gives that is too short, or that is no file.
        redb::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::IsADirectory
        ),
        _ => false,
    };
    if refused { OpenError::Refused(error.to_string()) } else { OpenError::Damaged(error.to_string()) }
}

fn fail(error: impl std::fmt::Display) -> StoreError {
    StoreError::Manifest(error.to_string())
}

fn cbor(body: impl Encode<()>) -> Result<Vec<u8>, StoreError> {
    minicbor::to_vec(body).map_err(fail)
}

impl Manifest {
    /// Opens the manifest and reads everything, or makes an empty one. All checksums are compared:
    /// the file is small, and a flipped bit in a range would cost readings without a word.
    ///
    /// # Errors
    /// The file is not a manifest of this version, is damaged, or is open elsewhere.
    pub fn open(path: &Path) -> Result<(Self, Contents), OpenError> {
        Self::open_with(|builder| builder.create(path))
    }

    fn open_with(
        create: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<(Self, Contents), OpenError> {
        // redb may panic where the checksums are right and the pages make no sense.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = create(Builder::new().set_check_integrity_on_open(true)).map_err(judge)?;
            let created = Self::prepare(&db)?;
            let manifest = Self { db, created };
            let contents = manifest.read().map_err(|error| OpenError::Damaged(error.to_string()))?;
            Ok((manifest, contents))
        }));
        opened.unwrap_or_else(|_| Err(OpenError::Damaged("the database engine panicked".to_owned())))
    }

    /// Whether there was none before.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.created
    }

    /// Checks the version, or makes the tables; says whether there were none.
    fn prepare(db: &Database) -> Result<bool, OpenError> {
        let found = match db.begin_read().map_err(judge)?.open_table(META) {
            Ok(meta) => meta.get("version").map_err(judge)?.map(|value| value.value()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(judge(error)),
        };
        match found {
            Some(VERSION) => return Ok(false),
            Some(found) => {
                let reason = format!("version {found} is unknown; this code knows {VERSION}");
                return Err(OpenError::Refused(reason));
            }
            None => {}
        }
        let txn = db.begin_write().map_err(judge)?;
        txn.open_table(META).map_err(judge)?.insert("version", VERSION).map_err(judge)?;
        txn.open_table(EPOCHS).map_err(judge)?;
        txn.open_table(DICTIONARY).map_err(judge)?;
        txn.open_table(SERIES).map_err(judge)?;
        txn.open_table(FILES).map_err(judge)?;
        txn.commit().map_err(judge)?;
        Ok(true)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(&self) -> Result<Contents, StoreError> {
        let txn = self.db.begin_read().map_err(fail)?;
        let mut out = Contents::default();
        let meta = txn.open_table(META).map_err(fail)?;
        out.checkpoint.oldest_segment =
            meta.get("oldest_segment").map_err(fail)?.map_or(0, |value| value.value());
        for row in txn.open_table(EPOCHS).map_err(fail)?.iter().map_err(fail)? {
            let (key, value) = row.map_err(fail)?;
            let (agent, epoch) = key.value();
            let entry: EpochEntry = minicbor::decode(value.value()).map_err(fail)?;
            let agent = AgentId::parse(agent).map_err(fail)?;
            entry.restore(out.checkpoint.ledgers.epoch_mut(&agent, Epoch::from_bytes(epoch)));
        }
        read_dictionary(&txn, &mut out.checkpoint.ledgers)?;
        for row in txn.open_table(SERIES).map_err(fail)?.iter().map_err(fail)? {
            let (key, value) = row.map_err(fail)?;
            if key.value() as usize != out.series.len() {
                return Err(fail("its list of series has a hole"));
            }
            out.series.push(minicbor::decode(value.value()).map_err(fail)?);
        }
        for row in txn.open_table(FILES).map_err(fail)?.iter().map_err(fail)? {
            out.files.push(minicbor::decode(row.map_err(fail)?.1.value()).map_err(fail)?);
        }
        Ok(out)
    }

    /// Commits a flush, durably and at once.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn commit(&self, change: &Change<'_>) -> Result<(), StoreError> {
        let txn = self.db.begin_write().map_err(fail)?;
        txn.open_table(META)
            .map_err(fail)?
            .insert("oldest_segment", change.checkpoint.oldest_segment)
            .map_err(fail)?;
        {
            let mut epochs = txn.open_table(EPOCHS).map_err(fail)?;
            let mut dictionary = txn.open_table(DICTIONARY).map_err(fail)?;
            for (agent, epoch, state) in change.checkpoint.ledgers.iter() {
                let (name, id) = (agent.as_str(), *epoch.as_bytes());
                epochs.insert((name, id), cbor(EpochEntry::from(state))?.as_slice()).map_err(fail)?;
                let last = dictionary.range((name, id, 0)..=(name, id, u32::MAX)).map_err(fail)?.next_back();
                let known = last.transpose().map_err(fail)?.map_or(0, |(key, _)| key.value().2 as usize + 1);
                for (def, no) in state.dictionary.iter().zip(0_u32..).skip(known) {
                    dictionary.insert((name, id, no), cbor(def)?.as_slice()).map_err(fail)?;
                }
            }
            let mut series = txn.open_table(SERIES).map_err(fail)?;
            for (entry, id) in change.series.iter().zip(0_u32..) {
                series.insert(id, cbor(entry)?.as_slice()).map_err(fail)?;
            }
            let mut files = txn.open_table(FILES).map_err(fail)?;
            if let Some(file) = change.added {
                files.insert(file.number, cbor(file)?.as_slice()).map_err(fail)?;
            }
            for number in change.removed {
                files.remove(number).map_err(fail)?;
            }
        }
        txn.commit().map_err(fail)
    }
}

fn read_dictionary(txn: &redb::ReadTransaction, ledgers: &mut Ledgers) -> Result<(), StoreError> {
    for row in txn.open_table(DICTIONARY).map_err(fail)?.iter().map_err(fail)? {
        let (key, value) = row.map_err(fail)?;
        let (agent, epoch, no) = key.value();
        let agent = AgentId::parse(agent).map_err(fail)?;
        let state = ledgers.epoch_mut(&agent, Epoch::from_bytes(epoch));
        if no as usize != state.dictionary.len() {
            return Err(fail("a dictionary has a hole"));
        }
        state.dictionary.push(minicbor::decode(value.value()).map_err(fail)?);
    }
    Ok(())
}

/// Takes the seqs of a lost file out of what is stored; gives their rows.
pub fn lose(ledgers: &mut Ledgers, file: &FileEntry) -> u64 {
    for holding in &file.holdings {
        ledgers.epoch_mut(&holding.agent, holding.epoch).lose(&set_of(&holding.seqs), holding.rows);
    }
    file.holdings.iter().map(|holding| holding.rows).sum()
}

#[cfg(test)]
mod tests;
