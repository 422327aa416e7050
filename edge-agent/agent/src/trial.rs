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
mod tests {
    use super::*;

    const TRIAL_MS: u64 = 60_000;

    fn layer(rows: u64) -> Json {
        json!({"batch": {"rows_max": rows}})
    }

    fn fine(_: &HubLayer) -> Result<(), String> {
        Ok(())
    }

    fn unwell() -> Result<(), Unwell> {
        Err(Unwell::Alone("not connected".to_owned()))
    }

    fn rows(trials: &Trials) -> Option<u64> {
        trials.in_force().json()["batch"]["rows_max"].as_u64()
    }

    /// A start of the agent with what is durable.
    fn restart(trials: &Trials, now_ms: u64) -> Trials {
        let bytes = serde_json::to_vec(&trials.kept()).unwrap();
        Trials::open(&serde_json::from_slice(&bytes).unwrap(), TRIAL_MS, now_ms)
    }

    #[test]
    fn of_a_layer_that_is_refused_nothing_is_told_but_why_and_nothing_once_it_was_taken_back() {
        let secret = json!({"source": {"bus": {"kind": "mqtt", "url": "mqtt://u:secret@127.0.0.1:1883"}}});
        for layer in [secret, json!({"program": false, "x": "secret"}), json!("secret")] {
            let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
            assert!(trials.want(&layer, 0, fine));
            assert!(!trials.want(&layer, 1, fine), "it was refused");
            let told = trials.report(&[]);
            assert!(told["refused"]["reason"].is_string(), "{told}");
            let kept = serde_json::to_string(&trials.kept()).unwrap();
            assert!(
                !told.to_string().contains("secret@") && !told.to_string().contains("\"secret"),
                "{told}"
            );
            assert!(!kept.contains("secret@") && !kept.contains("\"secret"), "{kept}");
            assert!(trials.want(&Json::Null, 2, fine));
            assert_eq!(trials.report(&[]), Json::Null);
            // Wanted again, it is new.
            assert!(trials.want(&layer, 3, fine));
        }
        // As older agents kept it.
        let digest = "text {\"x\":\"secret\"}".to_owned();
        let refused = Some(Refused { digest, reason: "no".to_owned(), retries: None, is_gone: false });
        let mut trials = Trials::open(&Kept { refused, ..Kept::default() }, TRIAL_MS, 0);
        assert_eq!(trials.report(&[])["refused"]["version"].as_str().map(str::len), Some(16));
        assert!(!trials.want(&json!({"x": "secret"}), 0, fine), "it is known to be wrong");
    }

    #[test]
    fn a_layer_stays_when_the_agent_is_well_at_a_stretch() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        assert!(trials.want(&layer(1), 0, fine));
        assert!(!trials.want(&layer(1), 1, fine), "it is on trial");
        assert!(!trials.look(Ok(()), false, 5_000));
        assert!(!trials.look(unwell(), false, 14_000));
        assert!(!trials.look(Ok(()), false, 16_000));
        assert!(!trials.look(Ok(()), false, 25_999));
        assert_eq!(trials.report(&[])["state"], "trial");
        assert!(trials.look(Ok(()), false, 26_000));
        assert_eq!((rows(&trials), trials.is_on_trial()), (Some(1), false));
        assert_eq!(trials.report(&["http.listen".into()])["needs_restart"][0], "http.listen");
        assert_eq!(rows(&restart(&trials, 0)), Some(1));
    }

    #[test]
    fn a_layer_that_cuts_the_agent_off_is_taken_back_told_and_not_tried_again() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        trials.want(&layer(1), 0, fine);
        trials.look(Ok(()), false, 0);
        trials.look(Ok(()), false, WELL_MS);
        trials.want(&layer(2), 100_000, fine);
        assert!(!trials.look(unwell(), false, 100_000 + TRIAL_MS - 1));
        assert!(trials.look(unwell(), false, 100_000 + TRIAL_MS));
        assert_eq!(rows(&trials), Some(1));
        let refused = &trials.report(&[])["refused"];
        assert_eq!(refused["version"], HubLayer::read(&layer(2)).unwrap().digest());
        assert_eq!(refused["reason"], "within 60 s of its trial the agent was not well: not connected");
        assert!(!trials.want(&layer(2), 200_000, fine));
        assert!(!restart(&trials, 0).want(&layer(2), 0, fine), "nor after a start");
        assert!(trials.want(&layer(3), 200_000, fine));
        trials.look(Ok(()), false, 300_000);
        assert!(trials.look(Ok(()), false, 300_000 + WELL_MS));
        assert_eq!(trials.report(&[]).get("refused"), None);
    }

    #[test]
    fn what_had_no_connection_is_tried_again_and_not_often() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        assert!(trials.want(&layer(1), 0, fine));
        assert!(trials.look(unwell(), false, TRIAL_MS));
        let mut now_ms = TRIAL_MS;
        for well_ms in [TRIAL_MS, 2 * TRIAL_MS, 4 * TRIAL_MS, DAY_MS, DAY_MS] {
            // How long it was before the connection was lost again does not count.
            trials.look(Ok(()), false, now_ms);
            now_ms += well_ms - 1;
            trials.look(unwell(), false, now_ms);
            trials.look(Ok(()), false, now_ms);
            assert!(
                !trials.is_due(now_ms + well_ms - 1) && !trials.want(&layer(1), now_ms + well_ms - 1, fine)
            );
            now_ms += well_ms;
            trials.look(Ok(()), false, now_ms);
            assert!(trials.is_due(now_ms) && trials.want(&layer(1), now_ms, fine), "{well_ms}");
            assert!(trials.is_on_trial() && !trials.is_due(now_ms));
            now_ms += TRIAL_MS;
            // A start of the agent forgets nothing of how often.
            assert!(trials.look(unwell(), false, now_ms));
            trials = restart(&trials, now_ms);
        }
        trials.look(Ok(()), false, now_ms);
        trials.look(Ok(()), false, now_ms + DAY_MS);
        trials.want(&layer(1), now_ms + DAY_MS, fine);
        trials.look(Ok(()), false, now_ms + DAY_MS);
        assert!(trials.look(Ok(()), false, now_ms + DAY_MS + WELL_MS), "the hub is there this time");
        assert_eq!((rows(&trials), trials.kept().refused), (Some(1), None));
    }

    #[test]
    fn what_broke_something_is_tried_again_only_when_it_was_taken_away_and_is_set_again() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        trials.want(&layer(1), 0, fine);
        assert!(trials.look(Err(Unwell::Broken("source meter does not run".into())), false, TRIAL_MS));
        trials.look(Ok(()), false, TRIAL_MS);
        trials.look(Ok(()), false, 2 * DAY_MS);
        assert!(!trials.is_due(2 * DAY_MS) && !trials.want(&layer(1), 2 * DAY_MS, fine));
        assert!(trials.want(&Json::Null, 2 * DAY_MS, fine), "that it was taken away is to be kept");
        assert!(!trials.want(&Json::Null, 2 * DAY_MS, fine));
        let mut trials = restart(&trials, 0);
        assert_eq!(trials.report(&[]), Json::Null, "nothing of it is wanted any more");
        assert!(trials.want(&layer(1), 0, fine) && trials.is_on_trial());
        assert!(trials.look(unwell(), false, TRIAL_MS));
        assert_eq!(trials.kept().refused.unwrap().retries, Some(0), "it is counted anew");
    }

    #[test]
    fn what_waits_for_a_restart_is_not_proven_before_it() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        trials.want(&layer(1), 0, fine);
        for now_ms in [0, WELL_MS, TRIAL_MS, 10 * TRIAL_MS] {
            assert!(!trials.look(Ok(()), true, now_ms));
        }
        assert!(trials.is_on_trial());
        // A start that fails with it is one of those that are counted, until the last good one is in force.
        for _ in 0..=STARTS_MAX {
            trials = restart(&trials, 0);
        }
        assert_eq!((rows(&trials), trials.is_on_trial()), (None, false));
        // A start that goes well proves it.
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        trials.want(&layer(2), 0, fine);
        let subject = Subject { source: "meter".into(), device: "m1".into() };
        let marks = vec![Mark { subject, was: health::Was::Well }];
        trials.begin_with(marks.clone());
        let mut trials = restart(&trials, 0);
        assert_eq!(trials.marks(), marks);
        trials.look(Ok(()), false, 0);
        assert!(trials.look(Ok(()), false, WELL_MS));
        assert_eq!(rows(&trials), Some(2));
    }

    #[test]
    fn what_is_new_gets_the_time_of_the_trial_and_is_told_until_it_works() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        trials.want(&layer(1), 0, fine);
        for now_ms in [0, WELL_MS, TRIAL_MS - 1] {
            assert!(!trials.look(Err(Unwell::Pending), false, now_ms));
        }
        assert!(trials.look(Err(Unwell::Pending), false, TRIAL_MS));
        assert_eq!((rows(&trials), trials.is_on_trial()), (Some(1), false));
        let meter = Subject { source: "meter".into(), device: String::new() };
        trials.stays_with(&[(meter.clone(), "no such host".to_owned())]);
        let mut trials = restart(&trials, 0);
        assert_eq!(trials.report(&[])["unwell"], json!(["source meter: no such host"]));
        assert!(!trials.heal(|subject| *subject == meter));
        assert!(trials.heal(|_| false), "that it works is to be kept");
        assert_eq!(trials.report(&[]).get("unwell"), None);
        // What waits for a restart is not proven before that either.
        trials.want(&layer(2), 0, fine);
        assert!(!trials.look(Err(Unwell::Pending), true, TRIAL_MS) && trials.is_on_trial());
        assert!(!trials.look(Err(Unwell::Pending), false, 2 * TRIAL_MS - 1));
        assert!(trials.look(Err(Unwell::Pending), false, 2 * TRIAL_MS));
    }

    #[test]
    fn a_layer_that_is_wrong_is_never_in_force() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        assert!(trials.want(&json!({"cellar": {}}), 0, |_| Err("unknown section".into())));
        assert!(trials.in_force().is_empty() && !trials.is_on_trial());
        assert_eq!(trials.report(&[])["refused"]["reason"], "unknown section");
        assert!(trials.want(&json!([1]), 0, fine));
        assert_eq!(trials.report(&[])["refused"]["reason"], "the hub's layer: must be an object of sections");
        assert!(!trials.want(&json!([1]), 0, fine), "told once");
        assert!(trials.want(&Json::Null, 0, fine), "that it was taken away is to be kept");
        assert!(!trials.want(&Json::Null, 0, fine), "nothing is wanted and nothing is there");
    }

    #[test]
    fn starts_amid_a_trial_go_on_with_it_and_too_many_end_it() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        trials.want(&layer(1), 0, fine);
        for _ in 0..STARTS_MAX {
            trials = restart(&trials, 0);
            assert_eq!((rows(&trials), trials.is_on_trial()), (Some(1), true));
        }
        trials = restart(&trials, 0);
        assert_eq!((rows(&trials), trials.is_on_trial()), (None, false));
        assert!(trials.report(&[])["refused"]["reason"].as_str().unwrap().contains("started 3 times"));
    }

    #[test]
    fn what_is_taken_back_at_the_hub_needs_no_trial() {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        trials.want(&layer(1), 0, fine);
        assert!(trials.want(&Json::Null, 5, fine));
        assert!(trials.in_force().is_empty() && !trials.is_on_trial());
        // Another one amid a trial takes its place, and the good one stays what it was.
        trials.want(&layer(2), 10, fine);
        trials.want(&layer(3), 20, fine);
        assert!(trials.look(unwell(), false, 20 + TRIAL_MS));
        assert!(trials.in_force().is_empty());
    }
}
