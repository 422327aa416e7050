//! What pipelines ask to be written to points: one write at a time for each device, in the order in which they came.
//!
//! A write is asked for when its reading comes, and does not wait for that to be durable. After a kill the reading may come
//! again, and so may the write: values are written, never steps.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tideline_pipeline::Action;
use tideline_protocol::model::DeviceId;
use tokio::task::JoinSet;

use crate::source::Writes;

/// Most writes that wait or are under way (INV-6).
pub const ACTIONS_MAX: usize = 256;
/// Longest that one may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A reading that is older moves nothing: a file of yesterday that is read again must not open valves today.
pub const AGE_MAX_NS: i64 = 60 * 1_000_000_000;

/// The writes of a flow.
pub struct Actions {
    writes: Writes,
    // A device has an entry as long as a write to it is under way.
    waiting: BTreeMap<DeviceId, VecDeque<Action>>,
    running: JoinSet<(Action, Result<(), String>)>,
}

impl Actions {
    /// None yet.
    #[must_use]
    pub fn new(writes: Writes) -> Self {
        Self { writes, waiting: BTreeMap::new(), running: JoinSet::new() }
    }

    /// Asks for a write.
    ///
    /// # Errors
    /// It is not to be done, and why.
    pub fn ask(&mut self, action: &Action, now_ns: i64) -> Result<(), String> {
        let age_ns = now_ns.saturating_sub(action.time_ns);
        if age_ns > AGE_MAX_NS {
            let (age_s, max_s) = (age_ns / 1_000_000_000, AGE_MAX_NS / 1_000_000_000);
            return Err(format!("not written: the reading is {age_s} s old; allowed are {max_s}"));
        }
        let count: usize = self.waiting.values().map(|queue| queue.len() + 1).sum();
        if count >= ACTIONS_MAX {
            return Err(format!("not written: {ACTIONS_MAX} writes wait already"));
        }
        match self.waiting.get_mut(&action.device) {
            Some(queue) => queue.push_back(action.clone()),
            None => {
                self.waiting.insert(action.device.clone(), VecDeque::new());
                self.start(action.clone());
            }
        }
        Ok(())
    }

    fn start(&mut self, action: Action) {
        let writes = self.writes.clone();
        self.running.spawn(async move {
            let Action { device, point, value, .. } = &action;
            let written = writes.write(device, point, value.clone(), TIMEOUT).await;
            let written = written.map_err(|error| error.to_string());
            (action, written)
        });
    }

    /// The next write that came to another end than a good one; waits for ever where none is under way. Cancel safe.
    pub async fn failed(&mut self) -> (Action, String) {
        loop {
            match self.running.join_next().await {
                None => std::future::pending().await,
                Some(Err(error)) => tracing::error!(%error, "a write has ended in a panic"),
                Some(Ok((action, written))) => {
                    self.go_on(&action.device);
                    if let Err(reason) = written {
                        return (action, reason);
                    }
                }
            }
        }
    }

    /// Begins the next write to a device.
    fn go_on(&mut self, device: &DeviceId) {
        match self.waiting.get_mut(device).and_then(VecDeque::pop_front) {
            Some(next) => self.start(next),
            None => drop(self.waiting.remove(device)),
        }
    }
}
