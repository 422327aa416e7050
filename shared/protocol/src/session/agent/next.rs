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
            .or_else(|| if self.ahead() == Ahead::All { None } else { self.poll_report(now_ns) })
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

    /// What may go ahead now.
    fn ahead(&self) -> Ahead {
        match self.spread.ahead() {
            // Its hub folds nothing, and it has to come to an end.
            Ahead::Held if self.parted.is_some() => Ahead::Fresh,
            ahead => ahead,
        }
    }

    /// The readings that may be sent. With many ranges at the hub they wait for the gaps before them.
    fn may_go(&self, ahead: Ahead) -> RangeSet {
        let (gap, fresh) = (self.next_gap().unwrap_or(u64::MAX), self.lanes.live_from());
        if ahead != Ahead::Held {
            let mut may_go = self.missing.within(1, gap.saturating_sub(1));
            may_go.insert_set(&self.missing.within(fresh, u64::MAX));
            return may_go;
        }
        let oldest = self.missing.iter().next().filter(|(lo, _)| *lo < gap);
        let oldest = oldest.and_then(|(lo, hi)| Some((lo, hi.min(gap - 1).min(self.spread.oldest(lo)?))));
        let fresh = self.missing.within(fresh, u64::MAX);
        let follow = fresh.iter().find_map(|(lo, hi)| Some((lo, hi.min(self.spread.follows(lo)?))));
        let mut may_go = RangeSet::new();
        oldest.into_iter().chain(follow).for_each(|(lo, hi)| may_go.insert(lo, hi));
        may_go
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
        let oldest = self.missing.first().is_none_or(|reading| first < reading);
        let may = match self.ahead() {
            Ahead::All => true,
            Ahead::Fresh => oldest,
            Ahead::Held => oldest && self.spread.is_next(first),
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
        let (ahead, room) = (self.ahead(), self.credit - self.used);
        let pick = match ahead {
            Ahead::All => self.lanes.pick(now_ns, &self.missing, room, ahead),
            Ahead::Fresh | Ahead::Held => {
                let may_go = self.may_go(ahead);
                self.lanes.pick(now_ns, &may_go, room, ahead)
            }
        }?;
        self.loading = true;
        Some(AgentAction::LoadRun { lane: pick.lane, seqs: pick.seqs, bytes_max: pick.bytes_max })
    }

    /// Up to where the hub may fold what it holds: what it lacks of those seqs it never gets.
    fn known(&self) -> Seq {
        let gap = self.gaps.keys().next().copied();
        let open = [self.missing.first(), self.in_flight.first(), gap].into_iter().flatten().min();
        Seq::new(open.map_or(u64::MAX, |open| open.saturating_sub(1)).min(self.known.get()))
    }

    fn poll_report(&mut self, now_ns: u64) -> Option<AgentAction> {
        if now_ns < self.report_due_ns || self.parted.is_some() {
            return None;
        }
        let (account, known) = (self.account, self.spread.report(self.known()));
        if account == self.reported.0 && known <= self.reported.1 {
            return self.poll_know(now_ns);
        }
        self.report_due_ns = now_ns.saturating_add(REPORT_INTERVAL_NS);
        self.reported = (account, known);
        self.spread.reported(known);
        Some(AgentAction::Send(Message::Report(Report { account, head: Seq::new(self.head), known })))
    }

    /// What waits for the hub to fold may wait for a commit of the spool, which nothing else may bring.
    fn poll_know(&mut self, now_ns: u64) -> Option<AgentAction> {
        let waits = !self.missing.is_empty() || self.next_gap().is_some();
        let behind = self.settled.first_missing_from(1) > self.known.next().get();
        if self.ahead() == Ahead::All || !waits || !behind {
            return None;
        }
        self.report_due_ns = now_ns.saturating_add(REPORT_INTERVAL_NS);
        Some(AgentAction::Know)
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
