//! What an open session does next, the most urgent first.

use super::{AgentAction, AgentSession, State};
use crate::model::Seq;
use crate::session::{
    GAPS_IN_FLIGHT_MAX, PING_IDLE_NS, PING_SENDING_NS, RANGES_AHEAD_MAX, REPORT_INTERVAL_NS,
};
use crate::wire::{Message, Ping, Report, SERIES_PER_MESSAGE_MAX};

impl AgentSession {
    pub(super) fn poll_open(&mut self, now_ns: u64) -> Option<AgentAction> {
        if let Some(at) = self.parted
            && self.settled.first_missing_from(1) > self.end()
            && self.gaps.is_empty()
        {
            self.state = State::Closed;
            return Some(AgentAction::Branch(at));
        }
        // The first ping goes ahead of all, so that it waits behind nothing.
        (!self.pinged)
            .then(|| self.poll_ping(now_ns))
            .flatten()
            .or_else(|| self.poll_series())
            .or_else(|| self.poll_readings(now_ns))
            .or_else(|| self.poll_report(now_ns))
            .or_else(|| self.poll_ping(now_ns))
    }

    fn poll_series(&mut self) -> Option<AgentAction> {
        if self.series_loading || self.series_sent >= self.series {
            return None;
        }
        self.series_loading = true;
        let max = SERIES_PER_MESSAGE_MAX.min((self.series - self.series_sent) as usize);
        Some(AgentAction::LoadSeries { from: self.series_sent, max })
    }

    /// Gaps and runs take turns: after weeks on a full disk there may be thousands of gaps, and each costs
    /// the hub a sync. Fresh readings must not wait behind them, nor they for ever behind readings.
    fn poll_readings(&mut self, now_ns: u64) -> Option<AgentAction> {
        self.gaps_turn = !self.gaps_turn;
        if self.gaps_turn {
            self.poll_gap().or_else(|| self.poll_run(now_ns))
        } else {
            self.poll_run(now_ns).or_else(|| self.poll_gap())
        }
    }

    fn poll_gap(&mut self) -> Option<AgentAction> {
        // They are sent in their order, each once a session; a lost answer is asked for again by the next
        // session's list.
        let sent = self.gaps.iter().take_while(|gap| self.in_flight.contains(gap.first.get())).count();
        if sent >= GAPS_IN_FLIGHT_MAX {
            return None;
        }
        let gap = self.gaps.get(sent)?.clone();
        self.in_flight.insert(gap.first.get(), gap.last().get());
        Some(AgentAction::Send(Message::Gap(gap)))
    }

    fn poll_run(&mut self, now_ns: u64) -> Option<AgentAction> {
        // The hub takes a run only when the dictionary that it uses is durable there.
        let ready = !self.loading && self.knows_time && self.series_known >= self.series;
        if !ready || self.used >= self.credit {
            return None;
        }
        let mut missing = self.settled.missing(1, self.end());
        missing.remove_set(&self.in_flight);
        let ahead = self.settled.range_count() < RANGES_AHEAD_MAX;
        let pick = self.lanes.pick(now_ns, &missing, self.credit - self.used, ahead)?;
        self.loading = true;
        Some(AgentAction::LoadRun { lane: pick.lane, seqs: pick.seqs, bytes_max: pick.bytes_max })
    }

    fn poll_report(&mut self, now_ns: u64) -> Option<AgentAction> {
        if now_ns < self.report_due_ns || self.account == self.reported || self.parted.is_some() {
            return None;
        }
        self.report_due_ns = now_ns.saturating_add(REPORT_INTERVAL_NS);
        self.reported = self.account;
        Some(AgentAction::Send(Message::Report(Report { account: self.account, head: Seq::new(self.head) })))
    }

    /// Any frame says that the agent lives; a ping also says when the hub will hear of it again, and
    /// measures the round trip.
    fn poll_ping(&mut self, now_ns: u64) -> Option<AgentAction> {
        let quiet_ns = now_ns.saturating_sub(self.sent_ns);
        let waiting = self.settled.first_missing_from(1) <= self.end();
        let due = match self.promised_ns {
            // Also when nothing may be sent yet: whether the line is dead shows by the answers.
            PING_IDLE_NS => self.sending || (waiting && !self.loading),
            promised_ns => quiet_ns >= promised_ns,
        };
        if !due && now_ns < self.ping_due_ns {
            return None;
        }
        let sending = std::mem::take(&mut self.sending) || waiting;
        self.promised_ns = if sending { PING_SENDING_NS } else { PING_IDLE_NS };
        self.ping_due_ns = now_ns.saturating_add(PING_IDLE_NS);
        (self.sent_ns, self.pinged) = (now_ns, true);
        let next_ms = u32::try_from(self.promised_ns / 1_000_000).unwrap_or(u32::MAX);
        Some(AgentAction::Send(Message::Ping(Ping { mono_ns: now_ns, next_ms })))
    }
}
