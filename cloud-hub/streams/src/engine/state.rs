//! The state of a job as bytes.
//!
//! ```text
//! "TLSJ"  version u16  length u64  CRC-32C u32  payload
//!  4       2            8           4            CBOR, so many bytes
//! ```
//! Numbers are little-endian. The payload begins with what of the job's definition says how readings are put
//! together (`Grounds`): a state belongs to that and to nothing else. The other fields may change in between, and
//! hold from then on. A field that a later version adds must be left out of the JSON where it has its default, so
//! that states go on fitting.
//!
//! What is decoded is encoded again and compared (INV-7), and looked at for whether it can be a state at all, so
//! that damage that a checksum does not show is an error and no panic either.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use serde::Serialize;
use tideline_protocol::model::DeviceId;

use super::Engine;
use super::asked::Statement;
use super::books::{Books, Totals, WantedKey};
use super::device::Device;
use super::join::Join as Held;
use super::key::Need;
use crate::check::Job;
use crate::spec::{Aggregate, Group, JobSpec, Join, Source, Stage, Window};

const STATE_MAGIC: [u8; 4] = *b"TLSJ";
/// The version of the layout.
const STATE_VERSION: u16 = 1;
const STATE_HEADER_BYTES: usize = 18;

/// Why bytes are not the state of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// They do not begin as a state does.
    #[error("these are not the bytes of a job's state")]
    Foreign,
    /// A later version wrote them.
    #[error("the state has version {found}; allowed is {STATE_VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
    /// They are not as many as they say.
    #[error("the state has {found} bytes behind its header in place of {wanted}")]
    Length {
        /// What they say.
        wanted: u64,
        /// How many there are.
        found: u64,
    },
    /// The checksum is not theirs.
    #[error("the state's checksum is wrong")]
    Checksum,
    /// They are no state.
    #[error("the state is damaged: {0}")]
    Damaged(String),
    /// What it depends on has changed since.
    #[error("the state is that of a job with another source, stages, join, window, group, aggregates or sql")]
    OtherJob,
}

/// What a state depends on.
#[derive(Debug, Serialize)]
struct Grounds<'a> {
    source: &'a Source,
    stages: &'a [Stage],
    join: &'a Option<Join>,
    window: &'a Window,
    group: Group,
    aggregates: &'a [Aggregate],
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: &'a Option<String>,
}

#[derive(Debug, Encode)]
#[cbor(array)]
struct Saving<'a> {
    #[n(0)]
    grounds: String,
    #[n(1)]
    now_ns: i64,
    #[n(2)]
    last_number: u64,
    #[n(3)]
    totals: Totals,
    #[n(4)]
    wanted: &'a BTreeMap<WantedKey, u64>,
    #[n(5)]
    devices: &'a BTreeMap<DeviceId, Device>,
    #[n(6)]
    pair: Option<&'a Held>,
    #[n(7)]
    pair_watermark_ns: Option<i64>,
    #[n(8)]
    statement: Option<&'a Statement>,
}

/// What `Saving` wrote.
#[derive(Debug, Encode, Decode)]
#[cbor(array)]
struct Saved {
    #[n(0)]
    grounds: String,
    #[n(1)]
    now_ns: i64,
    #[n(2)]
    last_number: u64,
    #[n(3)]
    totals: Totals,
    #[n(4)]
    wanted: BTreeMap<WantedKey, u64>,
    #[n(5)]
    devices: BTreeMap<DeviceId, Device>,
    /// Left out but for joins of two devices, as is the next one.
    #[n(6)]
    pair: Option<Held>,
    #[n(7)]
    pair_watermark_ns: Option<i64>,
    /// Left out where the job has none, as it was before there were any.
    #[n(8)]
    statement: Option<Statement>,
}

impl Engine {
    /// The state as bytes. What is kept beside it must be the outputs up to [`Engine::last_number`] and the
    /// position in the stream of events.
    ///
    /// # Errors
    /// The state cannot be encoded, which no state of a checked job is known to do.
    pub fn save(&self) -> Result<Vec<u8>, StateError> {
        let saving = Saving {
            grounds: grounds(&self.job)?,
            now_ns: self.now_ns,
            last_number: self.last_number(),
            totals: self.totals(),
            wanted: &self.books.wanted,
            devices: &self.devices,
            statement: self.job.has_statement().then_some(&self.books.statement),
            pair: self.job.joined_devices().map(|_| &self.books.pair),
            pair_watermark_ns: self.job.joined_devices().map(|_| self.books.pair_watermark_ns),
        };
        let payload = minicbor::to_vec(&saving).map_err(|error| StateError::Damaged(error.to_string()))?;
        let mut bytes = Vec::with_capacity(STATE_HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&STATE_MAGIC);
        bytes.extend_from_slice(&STATE_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        Ok(bytes)
    }

    /// A job that goes on from a state.
    ///
    /// # Errors
    /// The bytes are not a whole and undamaged state of this job. One whose time, late, sinks, limits or name
    /// were changed goes on from its state.
    pub fn restore(job: Job, bytes: &[u8]) -> Result<Self, StateError> {
        let payload = payload(bytes)?;
        let damaged = |what: &str| StateError::Damaged(what.to_owned());
        let mut saved: Saved =
            minicbor::decode(payload).map_err(|error| StateError::Damaged(error.to_string()))?;
        if minicbor::to_vec(&saved).ok().as_deref() != Some(payload) {
            return Err(damaged("it has another form than it is written in"));
        }
        if saved.grounds != grounds(&job)? {
            return Err(StateError::OtherJob);
        }
        if !saved.devices.values_mut().all(|device| device.check(&job)) {
            return Err(damaged("its windows cannot be windows of the job"));
        }
        let of = job.lengths().filter(|_| job.has_statement());
        let statement = match (of, saved.statement.take()) {
            (Some(of), Some(mut statement)) => {
                if !statement.check(of) {
                    return Err(damaged("its windows cannot be those of the job's statement"));
                }
                statement
            }
            (None, None) => Statement::default(),
            _ => return Err(damaged("its windows cannot be those of the job's statement")),
        };
        let pair = (job.joined_devices(), saved.pair.take(), saved.pair_watermark_ns);
        let (pair, pair_watermark_ns) = match pair {
            (Some((left, _)), Some(pair), Some(watermark_ns)) => {
                let mut others = saved.devices.iter().filter(|(id, _)| *id != left);
                if !pair.check() || others.any(|(_, device)| device.has_windows()) {
                    return Err(damaged("its pairs cannot be pairs of the job"));
                }
                (pair, watermark_ns)
            }
            (None, None, None) => (Held::default(), i64::MIN),
            _ => return Err(damaged("its pairs cannot be pairs of the job")),
        };
        let mut books = Books::restore(&job, saved.last_number, saved.totals, saved.wanted);
        saved.devices.values().for_each(|device| device.weigh(&mut books));
        books.weight.replace(Need::default(), statement.held());
        books.weight.replace(Need::default(), pair.held());
        (books.statement, books.pair, books.pair_watermark_ns) = (statement, pair, pair_watermark_ns);
        Ok(Self { job, now_ns: saved.now_ns, devices: saved.devices, books })
    }
}

fn grounds(job: &Job) -> Result<String, StateError> {
    let JobSpec { source, stages, join, window, group, aggregates, sql, .. } = job.spec();
    let grounds = Grounds { source, stages, join, window, group: *group, aggregates, sql };
    serde_json::to_string(&grounds).map_err(|error| StateError::Damaged(error.to_string()))
}

fn payload(bytes: &[u8]) -> Result<&[u8], StateError> {
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(StateError::Foreign)?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(StateError::Foreign)?;
    if *magic != STATE_MAGIC {
        return Err(StateError::Foreign);
    }
    let version = u16::from_le_bytes(*version);
    if version != STATE_VERSION {
        return Err(StateError::Version { found: version });
    }
    let (length, rest) = rest.split_first_chunk::<8>().ok_or(StateError::Foreign)?;
    let (checksum, payload) = rest.split_first_chunk::<4>().ok_or(StateError::Foreign)?;
    let (wanted, found) = (u64::from_le_bytes(*length), payload.len() as u64);
    if wanted != found {
        return Err(StateError::Length { wanted, found });
    }
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(payload) {
        return Err(StateError::Checksum);
    }
    Ok(payload)
}
