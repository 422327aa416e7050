//! Until when the readings of an agent have all come, as far as the hub can know.
//!
//! An agent says in its hello and in every report how far its batches go. Where all of them are
//! settled, nothing is missing up to that moment; where one is not, nothing is missing up to the
//! last moment at which none was. Times are the hub's. It must never call more complete than it is:
//! what it does not know is `None`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tideline_protocol::model::{AgentId, Epoch, Seq};
use tideline_protocol::ranges::RangeSet;

/// How late an agent reports what it has: one second between two reports, and the way to the hub.
const REPORT_LAG_MS: i64 = 2_000;

#[derive(Debug, Clone, Copy)]
struct Arrival {
    epoch: Epoch,
    head: Seq,
    // All that was read before this has come.
    complete_ms: Option<i64>,
}

/// How far an agent's readings have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Come {
    /// All that the agent has told of.
    All,
    /// All until this moment (Unix ms); unknown when it was never all.
    Until(Option<i64>),
}

/// What agents said of themselves.
#[derive(Debug, Default)]
pub struct Arrivals {
    agents: Mutex<HashMap<AgentId, Arrival>>,
}

fn all(settled: &RangeSet, head: Seq) -> bool {
    settled.missing(Seq::FIRST.get(), head.get()).is_empty()
}

impl Arrivals {
    /// A session opened. `seen_ms` is when the agent was last heard of before, `settled` what of
    /// the epoch is settled.
    pub fn hello(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        head: Seq,
        settled: &RangeSet,
        seen_ms: Option<i64>,
        now_ms: i64,
    ) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let before = agents.get(agent).copied();
        let complete_ms = if all(settled, head) {
            Some(now_ms.saturating_sub(REPORT_LAG_MS))
        } else {
            // Only in the same epoch do the seqs of the report before mean anything now.
            match before.filter(|b| b.epoch == epoch) {
                Some(before) if all(settled, before.head) => seen_ms.max(before.complete_ms),
                Some(before) => before.complete_ms,
                None => before.and_then(|b| b.complete_ms),
            }
        };
        agents.insert(agent.clone(), Arrival { epoch, head, complete_ms });
    }

    /// The agent reported how far its batches go.
    pub fn report(&self, agent: &AgentId, epoch: Epoch, head: Seq, settled: &RangeSet, now_ms: i64) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(arrival) = agents.get_mut(agent).filter(|a| a.epoch == epoch) else { return };
        if all(settled, arrival.head) {
            arrival.complete_ms = arrival.complete_ms.max(Some(now_ms.saturating_sub(REPORT_LAG_MS)));
        }
        arrival.head = head;
    }

    /// How far the readings of the agent have come; none when it has not been heard of since the
    /// hub started. `settled` gives what of an epoch is settled.
    pub fn come(&self, agent: &AgentId, settled: impl FnOnce(Epoch) -> RangeSet) -> Option<Come> {
        let arrival = self.agents.lock().unwrap_or_else(PoisonError::into_inner).get(agent).copied()?;
        Some(if all(&settled(arrival.epoch), arrival.head) {
            Come::All
        } else {
            Come::Until(arrival.complete_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

    #[test]
    fn what_has_come_is_known_from_reports_and_never_overstated() {
        let (arrivals, agent) = (Arrivals::default(), AgentId::parse("a").unwrap());
        let come = |settled: RangeSet| arrivals.come(&agent, |_| settled);
        assert_eq!(come(RangeSet::default()), None);
        // It comes with a backlog that the hub knows nothing of.
        arrivals.hello(&agent, EPOCH, Seq::new(10), &RangeSet::default(), None, 100_000);
        assert_eq!(come(RangeSet::of(9, 10)), Some(Come::Until(None)));
        assert_eq!(come(RangeSet::of(1, 10)), Some(Come::All));
        arrivals.report(&agent, EPOCH, Seq::new(12), &RangeSet::of(1, 10), 110_000);
        assert_eq!(come(RangeSet::of(1, 11)), Some(Come::Until(Some(108_000))));
        // The backlog does not move the moment, however much of what is new comes.
        arrivals.report(&agent, EPOCH, Seq::new(13), &RangeSet::of(1, 11), 120_000);
        assert_eq!(come(RangeSet::of(1, 11)), Some(Come::Until(Some(108_000))));
    }

    #[test]
    fn after_an_outage_it_was_all_until_the_agent_was_last_seen() {
        let (arrivals, agent) = (Arrivals::default(), AgentId::parse("a").unwrap());
        arrivals.hello(&agent, EPOCH, Seq::new(5), &RangeSet::of(1, 5), None, 100_000);
        arrivals.hello(&agent, EPOCH, Seq::new(90), &RangeSet::of(1, 5), Some(160_000), 200_000);
        assert_eq!(arrivals.come(&agent, |_| RangeSet::of(1, 6)), Some(Come::Until(Some(160_000))));
        // A new spool: what was known of the old one stands.
        let wiped = Epoch::from_bytes([8; 16]);
        arrivals.hello(&agent, wiped, Seq::new(3), &RangeSet::default(), Some(300_000), 310_000);
        assert_eq!(arrivals.come(&agent, |_| RangeSet::default()), Some(Come::Until(Some(160_000))));
    }
}
