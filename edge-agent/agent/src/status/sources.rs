//! What is shown of sources.

use serde::{Deserialize, Serialize};

use super::Board;

/// Rejections of a source that are told in the log; a bad file has millions like them.
const REJECTIONS_TOLD_MAX: u64 = 10;
/// Most devices of a source that are shown: as many as may appear by themselves. Readings of others are counted together.
pub const DEVICES_SHOWN_MAX: usize = crate::source::directory::APPEARING_MAX;

/// What a source is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// It was started and has not given a sign of life yet.
    #[default]
    Starting,
    /// It reads, or waits for something to read.
    Running,
    /// Its stream has no room for its readings.
    Waiting,
    /// It failed, and is started again after a rest.
    Retrying,
    /// It fails again and again, and is tried rarely.
    Degraded,
    /// It gave no sign of life, and is started again after a rest.
    Stalled,
    /// All is read.
    Ended,
}

impl SourceState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Waiting,
        Self::Retrying,
        Self::Degraded,
        Self::Stalled,
        Self::Ended,
    ];

    /// The stable name in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Degraded => "degraded",
            Self::Stalled => "stalled",
            Self::Ended => "ended",
        }
    }
}

/// How much later than planned polls have begun lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct JitterStatus {
    /// The most, in ms.
    pub max_ms: f64,
    /// What 99 % were not above, in ms.
    pub p99_ms: f64,
}

/// State of a device behind a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its id.
    pub id: String,
    /// "answers", "refuses" (some of what it is asked), "silent", or nothing as long as that is not known. One that
    /// speaks by itself answers while it does.
    pub state: String,
    /// Values that came of it, those that the profile rules out among them.
    #[serde(default)]
    pub readings: u64,
    /// When the last one came, in Unix ms by the agent's clock.
    #[serde(default)]
    pub last_reading_ms: Option<i64>,
    /// Polls that were begun.
    pub polls: u64,
    /// What failed but for time-outs.
    pub failures: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// Values that it gave and its profile rules out.
    pub bad_values: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// State of a source.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Readings that were made durable.
    pub accepted: u64,
    /// Readings or lines rejected.
    pub rejected: u64,
    /// Readings that were not sent because they say what was said before, as the profiles of their devices have it.
    #[serde(default)]
    pub unchanged: u64,
    /// Whether it has come to its end, with all its readings durable.
    pub done: bool,
    /// Whether it has given readings since it began, maybe with other options.
    #[serde(skip)]
    pub spoke: bool,
    /// What it is about.
    #[serde(default)]
    pub state: SourceState,
    /// Polls that were begun, of sources that poll.
    #[serde(default)]
    pub polls: u64,
    /// What failed: polls, connections, the source itself.
    #[serde(default)]
    pub failures: u64,
    /// Requests that were not answered in time.
    #[serde(default)]
    pub timeouts: u64,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u64,
    /// How often it gave no sign of life and was given up.
    #[serde(default)]
    pub stalls: u64,
    /// How long the last poll took, in ms.
    #[serde(default)]
    pub last_poll_ms: Option<f64>,
    /// How late polls begin.
    #[serde(default)]
    pub jitter: Option<JitterStatus>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// The devices behind it by their ids, 1,000 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceStatus>,
    /// Values of devices that are more than those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub readings_of_others: u64,
    /// How often some were rejected, for the log.
    #[serde(skip)]
    rejections: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl SourceStatus {
    /// It begins, maybe with other options: what was told of it and its devices says nothing of how it does now. What is counted
    /// goes on.
    pub fn begin(&mut self) {
        (self.state, self.done, self.last_error) = (SourceState::Starting, false, None);
        self.spoke = false;
        for device in &mut self.devices {
            device.state.clear();
            device.last_error = None;
        }
    }

    /// What is shown of a device; none when there are too many to show another.
    pub fn device(&mut self, id: &str) -> Option<&mut DeviceStatus> {
        let found = self.devices.binary_search_by(|device| device.id.as_str().cmp(id));
        let at = match found {
            Ok(at) => at,
            Err(_) if self.devices.len() >= DEVICES_SHOWN_MAX => return None,
            Err(at) => {
                self.devices.insert(at, DeviceStatus { id: id.to_owned(), ..DeviceStatus::default() });
                at
            }
        };
        self.devices.get_mut(at)
    }
}

impl Board {
    /// Changes the state of one source.
    pub fn source(&self, name: &str, change: impl FnOnce(&mut SourceStatus)) {
        self.update(|status| {
            let fresh = || SourceStatus { name: name.to_owned(), ..SourceStatus::default() };
            change(status.sources.entry(name.to_owned()).or_insert_with(fresh));
        });
    }

    /// As [`Self::source`], unless it was taken out of the configuration.
    pub fn known_source(&self, name: &str, change: impl FnOnce(&mut SourceStatus)) {
        self.update(|status| {
            if let Some(source) = status.sources.get_mut(name) {
                change(source);
            }
        });
    }

    /// Counts readings of a source that are durable now. A source that was taken out of the
    /// configuration is not shown again for its last ones.
    pub fn accepted(&self, name: &str, readings: u64) {
        self.update(|status| {
            if let Some(source) = status.sources.get_mut(name) {
                source.accepted += readings;
                if source.state == SourceState::Waiting {
                    source.state = SourceState::Running;
                }
            }
        });
    }

    /// Shows why a source has to wait.
    pub fn waits(&self, name: &str, error: &str) {
        self.update(|status| {
            if let Some(source) = status.sources.get_mut(name) {
                if source.state == SourceState::Running {
                    source.state = SourceState::Waiting;
                }
                source.last_error = Some(error.to_owned());
            }
        });
    }

    /// Counts readings or lines of a source that are not taken, and says why.
    pub fn rejected(&self, name: &str, readings: u64, error: &str) {
        let mut times = 0;
        self.update(|status| {
            if let Some(source) = status.sources.get_mut(name) {
                source.rejected += readings;
                source.last_error = Some(error.to_owned());
                source.rejections += 1;
                times = source.rejections;
            }
        });
        if times <= REJECTIONS_TOLD_MAX {
            tracing::warn!(source = name, error, readings, "rejected");
        } else {
            tracing::debug!(source = name, error, readings, "rejected");
        }
    }
}
