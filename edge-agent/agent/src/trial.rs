//! A configuration that the hub sets is on trial first: it stays when the agent is connected and as well as before within
//! the trial's time, and is taken back otherwise. A mistake at the hub can so cut off no device for ever.
//!
//! [`Trials`] is the state machine: no clock, no file. What [`Trials::kept`] gives is to be durable before what was decided is
//! carried out, so that a start amid a trial goes on with it, and a configuration with which the agent does not even start is
//! taken back after [`STARTS_MAX`] of them.
//!
//! What failed since no hub was connected may be no fault of the layer: the hub may have been away just then. It is tried again
//! once the agent was connected for as long as a trial at a stretch, then for twice and four times as long, and after [`RETRIES_MAX`] of these
//! after a day. So one that does cut the agent off does so a few times a day at most.
//!
//! Which sources are its fault is judged in [`health`].

pub mod driver;
pub mod health;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use self::health::{Complaint, Mark, Subject};
use crate::config::HubLayer;

/// How long the agent has to be well at a stretch, in ms: a source that a new configuration breaks fails within that.
pub const WELL_MS: u64 = 10_000;
/// Starts of the agent within one trial: one is the restart that some options need.
pub const STARTS_MAX: u32 = 3;
/// How often a trial that had no connection is made again before it takes a day.
pub const RETRIES_MAX: u32 = 3;
/// How long the agent has to be connected then, in ms.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest reason that is told, in bytes.
const REASON_BYTES_MAX: usize = 1024;
/// Most sources and devices that are told as not working under a layer that stays.
const UNWELL_MAX: usize = 20;
/// Longest text of one of them, in bytes.
const UNWELL_BYTES_MAX: usize = 200;

/// What is durable of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The last layer that proved itself; null for none.
    pub good: Json,
    /// The one on trial.
    pub trial: Option<OnTrial>,
    /// The last one that did not.
    pub refused: Option<Refused>,
    /// What the good one touches and did not work with it, nor before, nor since.
    #[serde(default)]
    pub unwell: Vec<NotWell>,
}

/// A source or device that does not work under a layer that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotWell {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// What was wrong when the layer had proven itself.
    pub error: String,
}

/// A layer on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    /// The layer.
    pub layer: Json,
    /// How often the agent was started with it.
    pub starts: u32,
    /// What it touches, and how that did before it.
    #[serde(default)]
    pub marks: Vec<Mark>,
}

/// A layer that did not prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its [`HubLayer::digest`].
    pub digest: String,
    /// Why.
    pub reason: String,
    /// How often it was tried again, where it is: it had no connection.
    #[serde(default)]
    pub retries: Option<u32>,
    /// The hub has wanted something else since: when it wants it again, that is new.
    #[serde(default)]
    pub is_gone: bool,
}

/// Why the agent is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwell {
    /// No hub is connected.
    Alone(String),
    /// Something of its own does not do.
    Broken(String),
    /// What is new has not shown itself yet: it gets the time of the trial for it, and then the layer stays.
    Pending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clocked {
    begun_ms: u64,
    well_since_ms: Option<u64>,
}

/// What is in force, and what is on trial.
#[derive(Debug, Clone)]
pub struct Trials {
    good: HubLayer,
    trial: Option<(HubLayer, u32, Clocked)>,
    marks: Vec<Mark>,
    unwell: Vec<NotWell>,
    refused: Option<Refused>,
    trial_ms: u64,
    // Since when it is at a stretch, while there is no trial.
    connected_since_ms: Option<u64>,
}

impl Trials {
    /// Goes on with what was kept, at a start of the agent. Layers that do not read are as none.
    #[must_use]
    pub fn open(kept: &Kept, trial_ms: u64, now_ms: u64) -> Self {
        let good = HubLayer::read(&kept.good).unwrap_or_default();
        let (mut refused, unwell) = (kept.refused.clone(), kept.unwell.clone());
        // Older agents kept, and told, the text itself of what did not read.
        for digest in refused.iter_mut().map(|refused| &mut refused.digest) {
            if let Some(text) = digest.strip_prefix("text ") {
                let json = serde_json::from_str(text).unwrap_or_else(|_| Json::from(text));
                *digest = HubLayer::digest_of(&json);
            }
        }
        let mut trials = Self {
            good,
            trial: None,
            marks: Vec::new(),
            unwell,
            refused,
            trial_ms,
            connected_since_ms: None,
        };
        if let Some(on_trial) = &kept.trial
            && let Ok(layer) = HubLayer::read(&on_trial.layer)
        {
            let clocked = Clocked { begun_ms: now_ms, well_since_ms: None };
            let starts = on_trial.starts.saturating_add(1);
            trials.trial = Some((layer, starts, clocked));
            trials.marks.clone_from(&on_trial.marks);
            if starts > STARTS_MAX {
                trials.take_back(&format!("the agent was started {STARTS_MAX} times and was not well"), None);
            }
        }
        trials
    }

    /// To be made durable.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let trial = self.trial.as_ref();
        Kept {
            good: self.good.json(),
            trial: trial.map(|(layer, starts, _)| OnTrial {
                layer: layer.json(),
                starts: *starts,
                marks: self.marks.clone(),
            }),
            refused: self.refused.clone(),
            unwell: self.unwell.clone(),
        }
    }

    /// The layer that is to be in force.
    #[must_use]
    pub fn in_force(&self) -> &HubLayer {
        self.trial.as_ref().map_or(&self.good, |(layer, ..)| layer)
    }

    /// The last layer that proved itself.
    #[must_use]
    pub const fn good(&self) -> &HubLayer {
        &self.good
    }

    /// What the one on trial touches, and how that did before it; nothing where none is.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        if self.trial.is_some() { &self.marks } else { &[] }
    }

    /// A trial begins with this.
    pub fn begin_with(&mut self, marks: Vec<Mark>) {
        self.marks = marks;
    }

    /// What the layer touches that has just proven itself, and does not work.
    pub fn stays_with(&mut self, unwell: &[Complaint]) {
        let one = |(subject, error): &Complaint| NotWell {
            subject: subject.clone(),
            error: short(error, UNWELL_BYTES_MAX),
        };
        self.unwell = unwell.iter().take(UNWELL_MAX).map(one).collect();
    }

    /// Lets go of what works by now, or is there no more. True where that is to be kept.
    pub fn heal(&mut self, is_unwell: impl Fn(&Subject) -> bool) -> bool {
        let before = self.unwell.len();
        self.unwell.retain(|one| is_unwell(&one.subject));
        self.unwell.len() != before
    }

    /// Whether one is on trial.
    #[must_use]
    pub const fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// The hub wants this layer. True if another one is in force now, or something else is to be kept: keep that, then load what
    /// is in force. `check` says what is wrong with a layer, if anything.
    pub fn want(
        &mut self,
        json: &Json,
        now_ms: u64,
        check: impl FnOnce(&HubLayer) -> Result<(), String>,
    ) -> bool {
        let read = HubLayer::read_new(json);
        // By which what does not read is told as well: it may have a secret in it.
        let digest = HubLayer::digest_of(json);
        let refused = self.refused.as_mut().filter(|refused| refused.digest != digest);
        let is_gone = refused.is_some_and(|refused| !std::mem::replace(&mut refused.is_gone, true));
        if *json == self.in_force().json() || (json.is_null() && self.in_force().is_empty()) {
            return is_gone;
        }
        if !self.may_try(&digest, now_ms) {
            return false;
        }
        let checked = read.map_err(|what| format!("the hub's layer: {what}")).and_then(|layer| {
            check(&layer)?;
            Ok(layer)
        });
        match checked {
            Err(reason) => self.refuse(digest, &reason, None),
            // Back to what is known to be good needs no trial.
            Ok(layer) if layer == self.good => self.trial = None,
            Ok(layer) => {
                self.trial = Some((layer, 0, Clocked { begun_ms: now_ms, well_since_ms: None }));
            }
        }
        true
    }

    fn may_try(&self, digest: &str, now_ms: u64) -> bool {
        let Some(refused) = self.refused.as_ref().filter(|refused| refused.digest == digest) else {
            return true;
        };
        refused.is_gone || (self.trial.is_none() && self.is_to_be_retried(refused, now_ms))
    }

    fn is_to_be_retried(&self, refused: &Refused, now_ms: u64) -> bool {
        let (Some(retries), Some(since_ms)) = (refused.retries, self.connected_since_ms) else {
            return false;
        };
        let needed_ms = if retries < RETRIES_MAX { self.trial_ms << retries } else { DAY_MS };
        now_ms.saturating_sub(since_ms) >= needed_ms
    }

    /// Whether what the hub wants is to be looked at again: what was refused may be tried again.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        let refused = self.refused.as_ref().filter(|refused| self.trial.is_none() && !refused.is_gone);
        refused.is_some_and(|refused| self.is_to_be_retried(refused, now_ms))
    }

    /// What is in force could not be loaded, as the file has changed or a file that it names.
    pub fn fail(&mut self, reason: &str) -> bool {
        let fails = self.trial.is_some();
        self.take_back(reason, None);
        fails
    }

    /// How the agent is: connected, and nothing fails by the layer. True when a trial has ended by that. Where part of the layer
    /// `waits` for a restart, the trial goes on until then: it is not proven that the agent starts with it.
    pub fn look(&mut self, well: Result<(), Unwell>, waits: bool, now_ms: u64) -> bool {
        let Some((_, _, clocked)) = &mut self.trial else {
            let is_alone = matches!(well, Err(Unwell::Alone(_)));
            self.connected_since_ms = self.connected_since_ms.or(Some(now_ms)).filter(|_| !is_alone);
            return false;
        };
        self.connected_since_ms = None;
        match well {
            Ok(()) => {
                let since_ms = *clocked.well_since_ms.get_or_insert(now_ms);
                if now_ms.saturating_sub(since_ms) < WELL_MS {
                    return false;
                }
                if waits {
                    // From then on it counts how long the agent is not well at a stretch.
                    clocked.begun_ms = now_ms;
                    return false;
                }
                self.accept();
                true
            }
            Err(unwell) => {
                if unwell != Unwell::Pending {
                    clocked.well_since_ms = None;
                }
                if now_ms.saturating_sub(clocked.begun_ms) < self.trial_ms {
                    return false;
                }
                let seconds = self.trial_ms / 1000;
                let (reason, retries) = match &unwell {
                    Unwell::Alone(reason) => (reason, Some(self.retries())),
                    Unwell::Broken(reason) => (reason, None),
                    Unwell::Pending => return self.end_pending(waits, now_ms),
                };
                let reason = format!("within {seconds} s of its trial the agent was not well: {reason}");
                self.take_back(&reason, retries);
                true
            }
        }
    }

    /// What is new has had its time: the layer stays.
    fn end_pending(&mut self, waits: bool, now_ms: u64) -> bool {
        let Some((_, _, clocked)) = &mut self.trial else { return false };
        if waits {
            clocked.begun_ms = now_ms;
            return false;
        }
        self.accept();
        true
    }

    fn accept(&mut self) {
        if let Some((layer, ..)) = self.trial.take() {
            self.good = layer;
            (self.refused, self.marks, self.unwell) = (None, Vec::new(), Vec::new());
        }
    }

    /// How often the layer on trial has been tried again.
    fn retries(&self) -> u32 {
        let digest = self.trial.as_ref().map(|(layer, ..)| layer.digest());
        let before = self
            .refused
            .as_ref()
            .filter(|refused| Some(&refused.digest) == digest.as_ref() && !refused.is_gone);
        before.and_then(|refused| refused.retries).map_or(0, |retries| retries.saturating_add(1))
    }

    fn take_back(&mut self, reason: &str, retries: Option<u32>) {
        if let Some((layer, ..)) = self.trial.take() {
            self.refuse(layer.digest(), reason, retries);
        }
    }

    /// Says whose word is at each place that the last refusal names.
    pub fn attribute(&mut self, attributed: impl Fn(&str) -> String) {
        if let Some(refused) = self.refused.as_mut().filter(|refused| !refused.is_gone) {
            refused.reason = short(&attributed(&refused.reason), REASON_BYTES_MAX);
        }
    }

    fn refuse(&mut self, digest: String, reason: &str, retries: Option<u32>) {
        self.refused =
            Some(Refused { digest, reason: short(reason, REASON_BYTES_MAX), retries, is_gone: false });
    }

    /// What the hub is told: `reported/config`; nothing where it has set nothing.
    #[must_use]
    pub fn report(&self, needs_restart: &[String]) -> Json {
        let refused = self.refused.as_ref().filter(|refused| !refused.is_gone);
        if self.in_force().is_empty() && self.trial.is_none() && refused.is_none() {
            return Json::Null;
        }
        let mut report = json!({
            "version": self.in_force().digest(),
            "state": if self.trial.is_some() { "trial" } else { "applied" },
        });
        if let (Some(members), Some(refused)) = (report.as_object_mut(), refused) {
            members
                .insert("refused".to_owned(), json!({ "version": refused.digest, "reason": refused.reason }));
        }
        if let (Some(members), false) = (report.as_object_mut(), needs_restart.is_empty()) {
            members.insert("needs_restart".to_owned(), json!(needs_restart));
        }
        if let (Some(members), None, false) = (report.as_object_mut(), &self.trial, self.unwell.is_empty()) {
            let texts = self.unwell.iter().map(|NotWell { subject, error }| format!("{subject}: {error}"));
            members.insert("unwell".to_owned(), texts.collect());
        }
        report
    }
}

fn short(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
