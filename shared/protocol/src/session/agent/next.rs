//! What an open session does next, the most urgent first.

use super::{AgentAction, AgentSession, Ahead, State};
use crate::model::Seq;
use crate::ranges::RangeSet;
use crate::session::{GAPS_IN_FLIGHT_MAX, PING_IDLE_NS, PING_SENDING_NS, REPORT_INTERVAL_NS};
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
            .or_else(|| if self.spread.ahead() == Ahead::All { None } else { self.poll_report(now_ns) })
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

    /// The readings that may be sent. The hub can fold only what it knows of: with many ranges there, they
    /// wait for the gaps before them.
    fn may_go(&self, ahead: Ahead, gap: u64) -> RangeSet {
        let mut old = self.missing.within(1, gap.saturating_sub(1));
        if ahead == Ahead::Held {
            let first = old.iter().next().filter(|(lo, _)| self.spread.goes_on_with_reading(*lo));
            old = first.map_or_else(RangeSet::new, |(lo, hi)| RangeSet::of(lo, hi));
        }
        old.insert_set(&self.missing.within(self.lanes.live_from(), u64::MAX));
        old
    }

    /// The first gap that is not on the way. They are sent in their order, each once a session; a lost
    /// answer is asked for again by the next session's list.
    fn next_gap(&self) -> Option<u64> {
        self.gaps.keys().find(|first| !self.gaps_sent.contains(first)).copied()
    }

    fn poll_gap(&mut self) -> Option<AgentAction> {
        if self.gaps_sent.len() >= GAPS_IN_FLIGHT_MAX {
            return None;
        }
        let first = self.next_gap()?;
        let (ahead, before) = (self.spread.ahead(), self.missing.first().is_some_and(|seq| seq < first));
        let may = match ahead {
            Ahead::All => true,
            Ahead::Fresh => !before,
            Ahead::Held => !before && self.spread.goes_on_with_gap(first),
        };
        if !may {
            return None;
        }
        let gap = self.gaps.get(&first)?.clone();
        self.in_flight.insert(first, gap.last().get());
        self.gaps_sent.insert(first);
        self.spread.gap(&gap);
        Some(AgentAction::Send(Message::Gap(gap)))
    }

    fn poll_run(&mut self, now_ns: u64) -> Option<AgentAction> {
        // The hub takes a run only when the dictionary that it uses is durable there.
        let ready = !self.loading && self.knows_time && self.series_known >= self.series;
        if !ready || self.used >= self.credit {
            return None;
        }
        let (ahead, room) = (self.spread.ahead(), self.credit - self.used);
        let pick = match (ahead, self.next_gap()) {
            (Ahead::All, _) | (Ahead::Fresh, None) => self.lanes.pick(now_ns, &self.missing, room, ahead),
            (_, gap) => {
                let may_go = self.may_go(ahead, gap.unwrap_or(u64::MAX));
                self.lanes.pick(now_ns, &may_go, room, ahead)
            }
        }?;
        self.loading = true;
        Some(AgentAction::LoadRun { lane: pick.lane, seqs: pick.seqs, bytes_max: pick.bytes_max })
    }

    fn poll_report(&mut self, now_ns: u64) -> Option<AgentAction> {
        let (account, known) = (self.account, self.spread.report(self.known));
        if now_ns < self.report_due_ns
            || (account == self.reported.0 && known <= self.reported.1)
            || self.parted.is_some()
        {
            return None;
        }
        self.report_due_ns = now_ns.saturating_add(REPORT_INTERVAL_NS);
        self.reported = (account, known);
        self.spread.reported(known);
        Some(AgentAction::Send(Message::Report(Report { account, head: Seq::new(self.head), known })))
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
