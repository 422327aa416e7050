//! Sentences of NMEA 0183 on a serial line.
//!
//! Nothing is asked: devices speak. A line that falls silent, and a port that goes away, make what was said null of bad
//! quality, once; a port that comes back is found by the next attempt.

pub mod lines;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_profiles::form::protocol::{Parity, Protocol, Serial};
use tideline_profiles::nmea::Mapping;
use tideline_protocol::value::Quality;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_serial::{DataBits, SerialPortBuilderExt as _, SerialStream, StopBits};

use self::lines::Lines;
use super::sheets::Sheets;
use super::subject::Subject;
use super::{Context, Device, Source, SourceError};
use crate::config::{DeviceConfig, SerialLine};

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;
/// A line is silent after this many times the longest interval that is expected of a point ...
const SILENT_INTERVALS: u32 = 5;
/// ... and not before this.
const SILENT_MIN: Duration = Duration::from_secs(10);

/// A talker on the line.
#[derive(Debug)]
struct Talker {
    subject: Subject,
    mapping: Mapping,
}

/// Reads a serial line.
pub struct SerialSource {
    path: PathBuf,
    given: SerialLine,
    // Outlives an attempt: what was said becomes null once, whenever the port goes away.
    talkers: Arc<Mutex<Vec<Talker>>>,
    serial: Result<Serial, String>,
    silent: Duration,
}

impl SerialSource {
    /// Of a port, set as the configuration says and else as the first device's profile does.
    #[must_use]
    pub fn new(path: PathBuf, given: SerialLine, devices: &[DeviceConfig]) -> Self {
        let talkers: Result<Vec<Talker>, String> =
            devices.iter().map(|config| talker(config, &path)).collect();
        let (talkers, problem) = match talkers {
            Ok(talkers) => (talkers, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let profiles = || devices.iter().filter_map(|config| config.family.as_ref());
        let usual = profiles().find_map(|profile| match profile.protocol() {
            Protocol::Nmea(table) => Some(table.serial.clone()),
            _ => None,
        });
        let serial = match problem {
            Some(problem) => Err(problem),
            None => usual.ok_or_else(|| "it has no device; a [[device]] says what is on the line".to_owned()),
        };
        let longest =
            profiles().flat_map(|profile| profile.points()).map(|(_, point)| point.interval_ms).max();
        let longest = Duration::from_millis(longest.unwrap_or_default().into());
        let silent = (longest * SILENT_INTERVALS).max(SILENT_MIN);
        Self { path, given, talkers: Arc::new(Mutex::new(talkers)), serial, silent }
    }

    /// The same for the next attempt.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            path: self.path.clone(),
            given: self.given,
            talkers: Arc::clone(&self.talkers),
            serial: self.serial.clone(),
            silent: self.silent,
        }
    }

    fn talkers(&self) -> MutexGuard<'_, Vec<Talker>> {
        self.talkers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<SerialStream, SourceError> {
        let usual = self.serial.clone().map_err(SourceError::Failed)?;
        let baud = self.given.baud.unwrap_or(usual.baud);
        let data_bits = self.given.data_bits.unwrap_or(usual.data_bits);
        let stop_bits = self.given.stop_bits.unwrap_or(usual.stop_bits);
        let port = tokio_serial::new(self.path.to_string_lossy(), baud)
            .data_bits(if data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
            .parity(match self.given.parity.unwrap_or(usual.parity) {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            })
            .stop_bits(if stop_bits == 2 { StopBits::Two } else { StopBits::One })
            .open_native_async();
        port.map_err(|error| SourceError::failed(format!("{}: {error}", self.path.display())))
    }

    /// All that was said is null.
    async fn silence(&self, context: &Context) -> Result<(), SourceError> {
        let mut sheets = Sheets::new(context);
        self.talkers().iter_mut().for_each(|talker| talker.subject.silence(|_| true, &mut sheets));
        sheets.hand_on(context, false).await
    }

    /// Reads until the port is gone; gives why.
    async fn read(&self, context: &Context) -> Result<String, SourceError> {
        let mut port = self.open()?;
        let (mut lines, mut bytes) = (Lines::default(), vec![0; READ_BYTES]);
        loop {
            let read = context.wait(timeout(self.silent, port.read(&mut bytes))).await?;
            let count = match read {
                Ok(Ok(0)) => return Ok("the port is gone".to_owned()),
                Ok(Ok(count)) => count,
                Ok(Err(error)) => return Ok(error.to_string()),
                Err(_) => {
                    context.statistics().timed_out(&format!("{}: nothing is said", self.path.display()));
                    self.silence(context).await?;
                    continue;
                }
            };
            let mut sheets = Sheets::new(context);
            for line in lines.push(bytes.get(..count).unwrap_or_default()) {
                match line {
                    Ok(line) => take(&mut self.talkers(), &line, &mut sheets),
                    Err(error) => sheets.reject(error.to_string()),
                }
            }
            sheets.hand_on(context, false).await?;
        }
    }
}

fn talker(config: &DeviceConfig, path: &Path) -> Result<Talker, String> {
    let profile = config.family.clone().ok_or_else(|| format!("{}: it has no profile", config.id))?;
    let mapping = Mapping::of(&profile).map_err(|error| format!("{}: {error}", config.id))?;
    let subject = Subject::new(
        Device::of(config.id.clone(), profile),
        config.stream.clone(),
        &format!("serial {}", path.display()),
    );
    Ok(Talker { subject, mapping })
}

/// Adds what a line says of all that are on it.
fn take(talkers: &mut [Talker], line: &[u8], sheets: &mut Sheets<'_>) {
    for Talker { subject, mapping } in talkers {
        match mapping.read(line) {
            Ok(said) => said.iter().for_each(|decoded| subject.say(decoded, None, Quality::Good, sheets)),
            // It is none for the others either.
            Err(error) => return sheets.reject(error.to_string()),
        }
    }
}

impl Source for SerialSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let ended = match self.read(context).await {
            Ok(reason) => SourceError::failed(format!("{}: {reason}", self.path.display())),
            Err(SourceError::Stopped) => return Err(SourceError::Stopped),
            Err(failed) => failed,
        };
        self.silence(context).await?;
        Err(ended)
    }
}
