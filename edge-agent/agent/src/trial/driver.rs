//! What carries trials out: the file that keeps them, and the twin that says what the hub wants and hears what became of it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, Key, Section, Twin, merge_patch};
use tokio::sync::watch;

use super::health::{self, Mark, Subject, Tallies, Verdict};
use super::{Kept, Trials, Unwell};
use crate::config::{Config, HubLayer, Layers, attributed};
use crate::identity::write_file;
use crate::status::Status;
use crate::twin::{TwinError, TwinHandle, news};

/// The name of the file in the data folder.
const FILE: &str = "hub-config.json";
/// What a change of the agent's own is signed with.
const AUTHOR: &str = "edge-agent";
/// Where the twin has it.
const KEY: &str = "config";

/// The clock by which trials are timed.
pub type SharedClock = Arc<dyn Clock + Send + Sync>;

/// The hub's layer of a running agent.
pub struct HubConfig {
    path: PathBuf,
    trials: Trials,
    trial_ms: u64,
    clock: SharedClock,
    tallies: Tallies,
    /// Devices that have shown that they work under the layer on trial.
    proven: BTreeSet<Subject>,
    twin: Option<(TwinHandle, DocumentId, watch::Receiver<u64>)>,
    /// The end of a trial that is not on disk yet.
    unsaved: bool,
    /// Why the last good layer is not in force.
    broken: Option<String>,
    told: Option<Json>,
}

/// Loads the configuration with the hub's layer that is in force; one that cannot be loaded is taken back.
///
/// # Errors
/// What the device itself sets is wrong, or the file with the hub's cannot be written.
pub fn begin(layers: &Layers, clock: SharedClock) -> anyhow::Result<(Config, HubConfig)> {
    let own = layers.load()?;
    let path = own.data_dir.join(FILE);
    let mut hub = HubConfig {
        trials: Trials::open(&read(&path), own.trial_ms, now_ms(&clock)),
        path,
        trial_ms: own.trial_ms,
        clock,
        tallies: Tallies::default(),
        proven: BTreeSet::new(),
        twin: None,
        unsaved: false,
        broken: None,
        told: None,
    };
    if hub.trials.is_on_trial() {
        save(&hub.path, &hub.trials)?;
    }
    Ok((hub.load(layers, own)?, hub))
}

/// The hub's layer that is in force with this data folder.
#[must_use]
pub fn in_force(data_dir: &Path) -> HubLayer {
    let Kept { good, trial, .. } = read(&data_dir.join(FILE));
    HubLayer::read(&trial.map_or(good, |on_trial| on_trial.layer)).unwrap_or_default()
}

/// A file that cannot be read is as none: the hub's layer comes again with the twin.
fn read(path: &Path) -> Kept {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Kept::default(),
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "what the hub has configured cannot be read");
            return Kept::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(%error, path = %path.display(), "what the hub has configured cannot be read");
        Kept::default()
    })
}

fn save(path: &Path, trials: &Trials) -> anyhow::Result<()> {
    let text = serde_json::to_string(&trials.kept())?;
    write_file(path, &text, 0o600).context("what the hub has configured")
}

fn now_ms(clock: &SharedClock) -> u64 {
    clock.mono_ns() / 1_000_000
}

impl HubConfig {
    /// Hears from the twin what the hub wants.
    pub fn follow(&mut self, twins: &TwinHandle, device: &DeviceId) {
        self.twin = Some((twins.clone(), DocumentId::Device(device.clone()), twins.changes()));
    }

    /// Resolves when a twin has changed; never where none is followed. Cancel safe.
    pub async fn changed(&mut self) {
        let changed = match &mut self.twin {
            Some((_, _, changes)) => changes.changed().await,
            None => return std::future::pending().await,
        };
        if changed.is_err() {
            self.twin = None;
        }
    }

    /// What of the hub is in force.
    #[must_use]
    pub fn layer(&self) -> HubLayer {
        if self.broken.is_some() { HubLayer::default() } else { self.trials.in_force().clone() }
    }

    /// What is to be in force now, over what the device itself sets. A layer that cannot be loaded any more is taken back.
    ///
    /// # Errors
    /// What was taken back cannot be written.
    pub fn load(&mut self, layers: &Layers, own: Config) -> anyhow::Result<Config> {
        match layers.load_under(Some(self.trials.in_force())) {
            Ok(config) => {
                self.broken = None;
                Ok(config)
            }
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::error!(reason, "the hub's configuration cannot be loaded");
                if !self.trials.fail(&reason) {
                    self.broken = Some(reason);
                    return Ok(own);
                }
                save(&self.path, &self.trials)?;
                Ok(layers.load_under(Some(self.trials.in_force())).unwrap_or(own))
            }
        }
    }

    /// The agent does not even start with the layer on trial, and why. False where none is.
    ///
    /// # Errors
    /// What was taken back cannot be written.
    pub fn end_trial(&mut self, reason: &str) -> anyhow::Result<bool> {
        let is_ended = self.trials.fail(reason);
        if is_ended {
            save(&self.path, &self.trials)?;
        }
        Ok(is_ended)
    }

    /// Looks what the hub wants. True when another layer is to be in force now, and that is durable.
    ///
    /// # Errors
    /// It cannot be made durable.
    pub async fn want(&mut self, layers: &Layers, status: &Status) -> anyhow::Result<bool> {
        let Some((twins, document, _)) = &self.twin else { return Ok(false) };
        let looked = twins.look(document.clone(), |twin| (twin.json(Section::Desired), origins(twin))).await;
        let (wanted, origins) = match looked {
            Ok((desired, origins)) => (desired.get(KEY).cloned().unwrap_or(Json::Null), origins),
            Err(error) => {
                tracing::error!(%error, "what the hub wants cannot be read");
                return Ok(false);
            }
        };
        // What is not durable is not tried, and must not be proven by the agent's being well with what it has.
        let mut next = self.trials.clone();
        let changed = next.want(&wanted, now_ms(&self.clock), |layer| {
            layers.load_under(Some(layer)).map(|_| ()).map_err(|error| format!("{error:#}"))
        });
        if !changed {
            return Ok(false);
        }
        if next.refused != self.trials.refused {
            let options = origins.iter().map(|(option, who)| (option.as_str(), who.as_str()));
            next.attribute(|reason| attributed(reason, options.clone()));
        }
        let differs = next.in_force() != self.trials.in_force();
        if differs && next.is_on_trial() {
            next.begin_with(self.measure(layers, &next, status));
        }
        save(&self.path, &next)?;
        self.trials = next;
        if differs {
            self.proven.clear();
            self.tallies.begin(status, now_ms(&self.clock));
        }
        Ok(differs)
    }

    /// Who is touched by what is to be tried, and how they do without it.
    fn measure(&self, layers: &Layers, next: &Trials, status: &Status) -> Vec<Mark> {
        let sources = |layer| layers.load_under(Some(layer)).map(|config| config.sources);
        // A good one that does not load any more is not in force: all that is wanted is new then.
        let good = sources(next.good()).unwrap_or_default();
        let wanted = sources(next.in_force()).unwrap_or_default();
        health::measure((&good, &wanted), self.trials.marks(), status, &self.tallies)
    }

    /// Whether what the hub wants is to be looked at again though the twin has not changed.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.trials.is_due(now_ms(&self.clock))
    }

    /// Looks how the agent does with what is on trial. True when another layer is to be in force now. Going back does not wait
    /// for the disk, which is written again with the next look: a start before that only tries once more.
    pub fn look(&mut self, status: &Status) -> bool {
        let (before, now_ms) = (self.trials.in_force().clone(), now_ms(&self.clock));
        let verdict = health::judge(self.trials.marks(), status, &self.tallies, &mut self.proven);
        let waits = !status.config.needs_restart.is_empty();
        if self.trials.look(well(status, &verdict), waits, now_ms) {
            self.unsaved = true;
            if *self.trials.in_force() == before {
                let Verdict { pending, unwell, .. } = verdict;
                self.trials.stays_with(&[pending, unwell].concat());
            }
        } else if !self.trials.is_on_trial() {
            self.unsaved |= self.trials.heal(|subject| health::is_unwell(subject, status, &self.tallies));
            self.tallies.note(status, self.trial_ms, now_ms);
        }
        if self.unsaved {
            match save(&self.path, &self.trials) {
                Ok(()) => self.unsaved = false,
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the end of a trial is not kept yet")
                }
            }
        }
        *self.trials.in_force() != before
    }

    /// Tells the hub by the twin, when there is something new.
    pub async fn tell(&mut self, needs_restart: &[String]) {
        let Some((twins, document, _)) = &self.twin else { return };
        let mut report = self.trials.report(needs_restart);
        if let (Some(reason), Some(members)) = (&self.broken, report.as_object_mut()) {
            members.insert("state".to_owned(), json!("failed"));
            members.insert("reason".to_owned(), json!(reason));
        }
        if self.told.as_ref() == Some(&report) {
            return;
        }
        let time_ms = self.clock.wall_ns() / 1_000_000;
        let to_tell = report.clone();
        let told = twins.edit(document.clone(), move |twin| patch(twin, &to_tell, time_ms)).await;
        match told {
            Ok(_) => self.told = Some(report),
            // It is tried again with the next look.
            Err(error) => tracing::warn!(%error, "the hub cannot be told of its configuration"),
        }
    }
}

/// The options that the hub wants, by their names with dots, and whose word each is.
fn origins(twin: &Twin) -> Vec<(String, String)> {
    let desired = twin.json(Section::Desired);
    let (mut found, mut open) = (Vec::new(), vec![(vec![KEY], desired.get(KEY).unwrap_or(&Json::Null))]);
    while let Some((path, value)) = open.pop() {
        let members = value
            .as_object()
            .filter(|members| !members.is_empty() && !members.keys().any(|name| name.starts_with('$')));
        if let Some(members) = members {
            open.extend(members.iter().map(|(name, value)| ([&path[..], &[name.as_str()]].concat(), value)));
            continue;
        }
        let key = Key::of_names(path.iter().copied()).ok();
        let origin = key.and_then(|key| twin.leaf(Section::Desired, &key)).and_then(|leaf| leaf.origin);
        if let Some(author) = origin.map(|origin| origin.author).filter(|author| !author.is_empty()) {
            let who = if author.starts_with("template ") { author } else { format!("set by {author}") };
            found.push((path.iter().skip(1).copied().collect::<Vec<_>>().join("."), who));
        }
    }
    found
}

/// Writes the report whole: what it no longer has goes.
fn patch(twin: &Twin, report: &Json, time_ms: i64) -> Result<Change, TwinError> {
    let reported = twin.json(Section::Reported);
    let mut wanted = report.clone();
    if let (Some(there), Some(members)) =
        (reported.get(KEY).and_then(Json::as_object), wanted.as_object_mut())
    {
        for name in there.keys() {
            members.entry(name).or_insert(Json::Null);
        }
    }
    let news = news(Some(&reported), json!({ KEY: wanted })).unwrap_or_else(|| json!({}));
    let edits = merge_patch(Section::Reported, &reported, &news)?;
    Ok(Change { edits, author: AUTHOR.to_owned(), time_ms })
}

/// Whether the agent does as well as before the trial.
fn well(status: &Status, verdict: &Verdict) -> Result<(), Unwell> {
    if !status.connected {
        let why = status.last_error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
        return Err(Unwell::Alone(format!("no hub is connected{why}")));
    }
    if !verdict.broken.is_empty() {
        return Err(Unwell::Broken(health::told(&verdict.broken)));
    }
    match &status.config.error {
        Some(error) => Err(Unwell::Broken(error.clone())),
        None if !verdict.pending.is_empty() => Err(Unwell::Pending),
        None => Ok(()),
    }
}
