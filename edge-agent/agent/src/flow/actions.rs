//! What pipelines ask to be written to points: one write at a time for each device, in the order in which they came.
//!
//! A write is asked for when its reading comes, and does not wait for that to be durable. After a kill the reading may come
//! again, and so may the write: values are written, never steps.

use std::collections::{BTreeMap, VecDeque};

use tideline_pipeline::Action;
use tideline_protocol::model::DeviceId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::source::{Patience, Writes};

/// Most writes that wait or are under way (INV-6).
pub const ACTIONS_MAX: usize = 256;
/// A reading that is older moves nothing: a file of yesterday that is read again must not open valves today.
pub const AGE_MAX_NS: i64 = 60 * 1_000_000_000;

/// The writes of a flow.
pub struct Actions {
    writes: Writes,
    // A device has an entry as long as a write to it is under way.
    waiting: BTreeMap<DeviceId, VecDeque<(Action, Instant)>>,
    running: JoinSet<(Action, Result<(), String>)>,
    // Those whose time was over before they could be begun.
    late: VecDeque<Action>,
}

impl Actions {
    /// None yet.
    #[must_use]
    pub fn new(writes: Writes) -> Self {
        Self { writes, waiting: BTreeMap::new(), running: JoinSet::new(), late: VecDeque::new() }
    }

    /// Asks for a write. `now_ns` is the time by the clock that stamped its reading, ns since 1970.
    ///
    /// # Errors
    /// It is not to be done, and why.
    pub fn ask(&mut self, action: &Action, now_ns: i64) -> Result<(), String> {
        let age_ns = now_ns.saturating_sub(action.time_ns);
        if age_ns.saturating_abs() > AGE_MAX_NS {
            let (apart_s, max_s) = (age_ns.saturating_abs() / 1_000_000_000, AGE_MAX_NS / 1_000_000_000);
            let which = if age_ns > 0 { "old" } else { "ahead of the clock" };
            return Err(format!("not written: the reading is {apart_s} s {which}; allowed are {max_s}"));
        }
        let count: usize = self.waiting.values().map(|queue| queue.len() + 1).sum();
        if count >= ACTIONS_MAX {
            return Err(format!("not written: {ACTIONS_MAX} writes wait already"));
        }
        match self.waiting.get_mut(&action.device) {
            Some(queue) => queue.push_back((action.clone(), Instant::now())),
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
            let written = writes.write(device, point, value.clone(), Patience::usual()).await;
            let written = written.map_err(|error| error.to_string());
            (action, written)
        });
    }

    /// The next write that came to another end than a good one; waits for ever where none is under way. Cancel safe.
    pub async fn failed(&mut self) -> (Action, String) {
        loop {
            if let Some(action) = self.late.pop_front() {
                let max_s = AGE_MAX_NS / 1_000_000_000;
                return (action, format!("not written: writes before it took longer than {max_s} s"));
            }
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
        while let Some((next, asked)) = self.waiting.get_mut(device).and_then(VecDeque::pop_front) {
            if i64::try_from(asked.elapsed().as_nanos()).is_ok_and(|waited_ns| waited_ns <= AGE_MAX_NS) {
                return self.start(next);
            }
            self.late.push_back(next);
        }
        self.waiting.remove(device);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tideline_protocol::model::PointId;
    use tideline_protocol::value::Value;

    use super::*;

    fn action(time_ns: i64) -> Action {
        Action {
            pipeline: "p".into(),
            stage: "s".into(),
            device: DeviceId::parse("valve").unwrap(),
            point: PointId::parse("open").unwrap(),
            value: Value::Bool(true),
            time_ns,
            clock: None,
        }
    }

    #[tokio::test]
    async fn readings_of_other_times_move_nothing() {
        let (mut actions, now_ns) = (Actions::new(Writes::default()), AGE_MAX_NS * 10);
        let told = |age_ns: i64, actions: &mut Actions| actions.ask(&action(now_ns - age_ns), now_ns);
        assert_eq!(told(AGE_MAX_NS, &mut actions), Ok(()));
        let old = told(AGE_MAX_NS + 1_000_000_000, &mut actions);
        assert_eq!(old, Err("not written: the reading is 61 s old; allowed are 60".to_owned()));
        let ahead = told(-AGE_MAX_NS - 1_000_000_000, &mut actions);
        assert_eq!(
            ahead,
            Err("not written: the reading is 61 s ahead of the clock; allowed are 60".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_waited_too_long_behind_others_is_not_begun() {
        let (writes, now_ns) = (Writes::default(), 0);
        let mut actions = Actions::new(writes);
        actions.ask(&action(0), now_ns).unwrap();
        actions.ask(&action(0), now_ns).unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
        // Nobody serves the device.
        assert_eq!(actions.failed().await.1, "no running source writes to device valve");
        assert_eq!(actions.failed().await.1, "not written: writes before it took longer than 60 s");
    }
}
