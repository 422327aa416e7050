//! Set-points: what a twin desires of points, `desired/points/<point>`, is written to the device when it changes; so is what the
//! documents desire that the device shares with others, see [`Shared`].
//!
//! This is the core: it reads a twin and says what is to be done next, and how what was done is told. No clock, no disk, no
//! device. That a write begins is in the twin, durably, before it begins: so a change is written at most once, whatever is killed.
//! How it ended is told in `reported/setpoints/<point>`, and what was written in `reported/points/<point>` beside what is desired.

pub mod driver;
mod shared;

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};
use tideline_profiles::RefusedWrite;
use tideline_protocol::model::PointId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Action, Change, Edit, Key, Leaf, Section, Twin};

pub use self::shared::{BELONGS, Shared, documents, of};
use crate::source::WriteError;
use crate::write::scalar;

/// Most set-points of a device: each is a few leaves of its twin.
pub const SETPOINTS_MAX: usize = 64;
/// The sections' members.
const POINTS: &str = "points";
const STATES: &str = "setpoints";
/// What a change of the agent's own is signed with.
const AUTHOR: &str = "edge-agent";
/// Longest reason that is told, in bytes.
const REASON_BYTES_MAX: usize = 512;
/// Changes that the hub has not seen, beyond which nothing is tried again: each time is two more, and the twin must take others
/// for as long as the agent is alone.
const RETRIES_UNCONFIRMED_MAX: u64 = 1_000;

/// A value that a point is to have.
#[derive(Debug, Clone, PartialEq)]
pub struct Setpoint {
    /// The point.
    pub point: String,
    /// Its leaf in `desired`, and in `reported`.
    key: Key,
    /// The value.
    pub value: Json,
    /// Names the change that wants it: another is another, also if it wants the same.
    version: String,
    /// The document of a group or a site that wants it; none for the device's own twin.
    from: Option<DocumentId>,
    /// Another leaf of the same point: `motor/speed` as one name, and as two.
    other: Option<Key>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nobody wants it any more: what is told of it goes.
    Forget(String),
    /// It is settled without the device.
    Settle(Setpoint, Ended),
    /// It is to be written.
    Write(Setpoint),
    /// It was tried before, and is not tried again now.
    Wait(Setpoint),
}

impl Setpoint {
    /// It is not to be tried now.
    #[must_use]
    pub fn waits(self) -> (String, String) {
        (self.point, self.version)
    }

    /// Two leaves of one point have one state: neither is written, and it is another change when one is taken back.
    fn join(&mut self, other: Self) {
        self.version = digest(&format!("{} {}", self.version, other.version));
        self.other = Some(other.key);
    }

    /// Whether the twin tells just this of it already.
    #[must_use]
    pub fn is_told_as(&self, twin: &Twin, ended: &Ended) -> bool {
        let reported = twin.json(Section::Reported);
        let told = |name| reported.get(STATES)?.get(&self.point)?.get(name)?.as_str();
        told("version") == Some(&self.version)
            && told("state") == Some(ended.state())
            && told("reason") == ended.reason()
    }
}

/// Set-points that are not to be tried now: the points, and the changes that want them.
pub type Waiting = BTreeSet<(String, String)>;

/// How far a set-point has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It is being written.
    Begun,
    /// The device has it.
    Done,
    /// It may not be written: it is not tried again before it changes.
    Refused(String),
    /// It was begun, and nobody has said how it ended: it is not tried again before it changes.
    Unknown(String),
    /// It was not begun, or the device or the way to it said no: it is tried again.
    Waits(String),
}

impl Ended {
    /// What a write's end means.
    #[must_use]
    pub fn of(outcome: Result<(), WriteError>) -> Self {
        let Err(error) = outcome else { return Self::Done };
        let reason = error.to_string();
        match error {
            WriteError::NoDevice(_)
            | WriteError::Busy(_)
            | WriteError::Late { .. }
            | WriteError::NotDone(_) => Self::Waits(reason),
            WriteError::Unknown(_) => Self::Unknown(reason),
            // What an interlock looks at is not known before the first reading, and may hold later.
            WriteError::Rejected(RefusedWrite::Locked { .. }) => Self::Waits(reason),
            WriteError::NoProfile(_) | WriteError::Rejected(_) => Self::Refused(reason),
        }
    }

    const fn state(&self) -> &'static str {
        match self {
            Self::Begun => "writing",
            Self::Done => "done",
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
            Self::Waits(_) => "waiting",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Begun | Self::Done => None,
            Self::Refused(reason) | Self::Unknown(reason) | Self::Waits(reason) => {
                reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX))
            }
        }
    }
}

/// What is to be done next for a device with this twin, but for what waits. What its own twin desires of a point goes before what
/// others do. None of its writes may be under way: one that is noted as begun was broken off by the agent's end.
#[must_use]
pub fn next(twin: &Twin, shared: &Shared, waiting: &Waiting) -> Option<Step> {
    let reported = twin.json(Section::Reported);
    let told = reported.get(STATES).and_then(Json::as_object);
    let mut wanted = BTreeSet::new();
    for setpoint in desired(twin, None).into_iter().chain(shared.setpoints().cloned()) {
        let is_first = wanted.insert(setpoint.point.clone());
        let state = |name| told?.get(&setpoint.point)?.get(name)?.as_str();
        let is_same = state("version") == Some(setpoint.version.as_str());
        // One that waited before another took its place is tried at once when that was taken back: what is told is of the other.
        let is_told = is_same || (shared.is_away && setpoint.from.is_some());
        if !is_first || (is_told && waiting.contains(&setpoint.clone().waits())) {
            continue;
        }
        match state("state").filter(|_| is_same) {
            Some("done" | "refused" | "unknown") => {}
            Some("writing") => {
                let why = "the agent ended while it was written".to_owned();
                return Some(Step::Settle(setpoint, Ended::Unknown(why)));
            }
            // Whether its device has such a point is not known.
            _ if shared.is_away && setpoint.from.is_some() => return Some(Step::Wait(setpoint)),
            _ if wanted.len() > SETPOINTS_MAX => {
                let why =
                    format!("the device has {SETPOINTS_MAX} set-points already, the most that it may have");
                return Some(Step::Settle(setpoint, Ended::Refused(why)));
            }
            Some("waiting") if twin.unconfirmed() > RETRIES_UNCONFIRMED_MAX => {
                return Some(Step::Wait(setpoint));
            }
            _ => return Some(judged(setpoint)),
        }
    }
    let left = told.into_iter().flat_map(Map::keys).find(|point| !wanted.contains(point.as_str()));
    left.map(|point| Step::Forget(point.clone()))
}

fn judged(setpoint: Setpoint) -> Step {
    let why = match (&setpoint.other, PointId::parse(&setpoint.point), scalar(&setpoint.value)) {
        (Some(other), _, _) => {
            let key = &setpoint.key;
            format!("{key} and {other} are both desired, and name one point; take one of them back")
        }
        (_, Err(error), _) => error.to_string(),
        (_, _, None) => "this is no value; allowed are true, false, numbers and texts".to_owned(),
        (_, Ok(_), Some(_)) => return Step::Write(setpoint),
    };
    Step::Settle(setpoint, Ended::Refused(why))
}

/// All set-points of a device's own twin, or `from` a document that it shares; one for each point.
fn desired(twin: &Twin, from: Option<&DocumentId>) -> Vec<Setpoint> {
    let desired = twin.json(Section::Desired);
    let mut found: Vec<Setpoint> = Vec::new();
    let mut open = vec![(vec![POINTS.to_owned()], desired.get(POINTS).unwrap_or(&Json::Null))];
    while let Some((path, value)) = open.pop() {
        match value {
            Json::Null => {}
            Json::Object(members) if is_branch(members) => {
                for (name, value) in members.iter().rev() {
                    open.push((path.iter().chain([name]).cloned().collect(), value));
                }
            }
            _ => {
                let Some(new) = setpoint(twin, &path, from) else { continue };
                match found.iter_mut().find(|there| there.point == new.point) {
                    Some(there) => there.join(new),
                    None => found.push(new),
                }
            }
        }
    }
    found
}

/// Values that merge have forms of one member that begins with a $.
fn is_branch(members: &Map<String, Json>) -> bool {
    !members.is_empty() && !members.keys().any(|name| name.starts_with('$'))
}

fn setpoint(twin: &Twin, path: &[String], from: Option<&DocumentId>) -> Option<Setpoint> {
    let point = path.get(1..).filter(|names| !names.is_empty())?.join("/");
    let key = Key::of_names(path.iter().map(String::as_str)).ok()?;
    // Nothing could be told of it, and no point has so long a name.
    put(&[STATES, &point, "version"], Action::Delete)?;
    let leaf = twin.leaf(Section::Desired, &key)?;
    let version = version(&leaf, from);
    Some(Setpoint { point, key, value: leaf.value, version, from: from.cloned(), other: None })
}

/// Names a change by who made it, when, and what it wants. Its number is left out: a change that is made again after history
/// was cut off has another. The same in another document is another change.
fn version(leaf: &Leaf, from: Option<&DocumentId>) -> String {
    let (time_ms, author) =
        leaf.origin.as_ref().map_or((0, ""), |origin| (origin.time_ms, origin.author.as_str()));
    let change = match from {
        None => json!([time_ms, author, leaf.value]),
        Some(document) => json!([time_ms, author, leaf.value, document.name()]),
    };
    digest(&change.to_string())
}

fn digest(text: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn put(names: &[&str], action: Action) -> Option<Edit> {
    // What is too long for a key is not told.
    Some(Edit { section: Section::Reported, key: Key::of_names(names.iter().copied()).ok()?, action })
}

/// Tells how far a set-point has come.
#[must_use]
pub fn told(setpoint: &Setpoint, ended: &Ended, time_ms: i64) -> Change {
    let of = |name, action| put(&[STATES, &setpoint.point, name], action);
    let text = |text: &str| Action::Put(text.into());
    let mut edits: Vec<Edit> = [of("version", text(&setpoint.version)), of("state", text(ended.state()))]
        .into_iter()
        .flatten()
        .collect();
    edits.extend(of("from", setpoint.from.as_ref().map_or(Action::Delete, |from| text(&from.name()))));
    edits.extend(of("reason", ended.reason().map_or(Action::Delete, text)));
    if *ended == Ended::Done {
        let action = Action::Put(setpoint.value.clone());
        edits.push(Edit { section: Section::Reported, key: setpoint.key.clone(), action });
    }
    Change { edits, author: AUTHOR.to_owned(), time_ms }
}

/// Tells what somebody else wrote to a point of which the twin tells what it was set to; none where it tells just that. What is desired
/// stays, and differs then.
#[must_use]
pub fn written(twin: &Twin, point: &str, value: &Json, time_ms: i64) -> Option<Change> {
    let reported = twin.json(Section::Reported);
    let (path, is) = find(vec![POINTS.to_owned()], reported.get(POINTS)?, point)?;
    let is_same = is == value || is.as_f64().is_some_and(|is| Some(is) == value.as_f64());
    let key = Key::of_names(path.iter().map(String::as_str)).ok().filter(|_| !is_same)?;
    let edits = vec![Edit { section: Section::Reported, key, action: Action::Put(value.clone()) }];
    Some(Change { edits, author: AUTHOR.to_owned(), time_ms })
}

/// The leaf of a point, which may be one name or several.
fn find<'v>(path: Vec<String>, value: &'v Json, point: &str) -> Option<(Vec<String>, &'v Json)> {
    match value {
        Json::Object(members) if is_branch(members) => members
            .iter()
            .find_map(|(name, value)| find(path.iter().chain([name]).cloned().collect(), value, point)),
        _ => (path.get(1..)?.join("/") == point).then_some((path, value)),
    }
}

/// Takes back what is told of a point; what it was set to stays what was written to it last.
#[must_use]
pub fn forgotten(point: &str, time_ms: i64) -> Change {
    let edits = put(&[STATES, point], Action::Delete).into_iter().collect();
    Change { edits, author: AUTHOR.to_owned(), time_ms }
}

#[cfg(test)]
pub(crate) mod tests;
