//! Which batches go next: alarms, states, fresh readings, old ones, each with a share that the
//! others cannot take, and old ones within a budget.

use super::{
    BACKFILL_RUN_BYTES, BACKFILL_WINDOW_MAX, BACKFILL_WINDOW_MIN, BACKFILL_WINDOW_START, BackfillBudget,
    HOLE_SEQS_MAX, LIVE_RUN_BYTES, QUEUE_DELAY_NS, RUN_RANGES_MAX, RUNS_IN_FLIGHT_MAX, URGENT_IN_FLIGHT_MAX,
    agent::Ahead,
};
use crate::ranges::RangeSet;
use crate::wire::{Lane, RUN_SEQS_MAX};

/// Lanes from the most urgent on, and the part of the bytes sent, in percent, that each is owed by
/// those before it.
const LANES: [(Lane, u64); 4] = [(Lane::Alarm, 0), (Lane::State, 10), (Lane::Live, 10), (Lane::Backfill, 5)];
/// What a lane is owed before it is served out of turn.
const OWED_BYTES: u64 = 8 * 1024;
/// Backfill that the budget allows after it was not used for long, as time.
const BURST_NS: u64 = 1_000_000_000;
/// Least stored bytes that a backfill run is packed from.
const RUN_BYTES_MIN: u64 = 16 * 1024;

/// What the next run is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pick {
    pub lane: Lane,
    pub seqs: RangeSet,
    pub bytes_max: usize,
}

/// A run on the way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    lane: Lane,
    first: u64,
    bytes: u64,
    at_ns: u64,
}

/// The order in which an agent sends. Times are those of its monotonic clock.
#[derive(Debug)]
pub(super) struct Lanes {
    live_from: u64,
    alarm: RangeSet,
    state: RangeSet,
    waiting: [bool; 4],
    owed: [u64; 4],
    sent: Vec<Sent>,
    budget: Budget,
    window: Window,
}

impl Lanes {
    pub fn new(now_ns: u64, live_from: u64, budget: BackfillBudget) -> Self {
        Self {
            live_from,
            alarm: RangeSet::new(),
            state: RangeSet::new(),
            waiting: [false; 4],
            owed: [0; 4],
            sent: Vec::new(),
            budget: Budget::new(now_ns, budget),
            window: Window::default(),
        }
    }

    /// The first seq that is fresh.
    pub const fn live_from(&self) -> u64 {
        self.live_from
    }

    /// The seqs of alarms and of states that are held.
    pub fn set_urgent(&mut self, alarm: RangeSet, state: RangeSet) {
        (self.alarm, self.state) = (alarm, state);
    }

    /// The next run, of the seqs that are `missing` at the hub and not on the way; its lane has room.
    /// What may not go `ahead` is as old readings.
    pub fn pick(&mut self, now_ns: u64, missing: &RangeSet, room: u64, ahead: Ahead) -> Option<Pick> {
        let waiting = self.split(missing, ahead);
        self.waiting = waiting.each_ref().map(|seqs| !seqs.is_empty());
        self.budget.refill(now_ns);
        let owed = self.owed.iter().rposition(|owed| *owed >= OWED_BYTES);
        // Out of turn first, then in order of urgency.
        let order = owed.into_iter().chain(0..LANES.len());
        order.filter_map(|at| self.pick_of(at, waiting.get(at)?, room)).next()
    }

    fn pick_of(&self, at: usize, seqs: &RangeSet, room: u64) -> Option<Pick> {
        let (lane, _) = *LANES.get(at)?;
        let bytes_max = match lane {
            Lane::Backfill => self.backfill_room(room)?,
            _ if self.on_the_way(|sent| sent.lane != Lane::Backfill).count() >= URGENT_IN_FLIGHT_MAX => {
                return None;
            }
            _ => room.min(LIVE_RUN_BYTES as u64),
        };
        let seqs = near(seqs.iter());
        (!seqs.is_empty() && bytes_max > 0).then(|| Pick {
            lane,
            seqs,
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        })
    }

    /// Old readings leave enough credit for one fresh run.
    fn backfill_room(&self, room: u64) -> Option<u64> {
        let room = room.checked_sub(LIVE_RUN_BYTES as u64)?;
        let sent: Vec<u64> =
            self.on_the_way(|sent| sent.lane == Lane::Backfill).map(|sent| sent.bytes).collect();
        let window = self.window.bytes.saturating_sub(sent.iter().sum());
        if sent.len() >= RUNS_IN_FLIGHT_MAX || window == 0 {
            return None;
        }
        let least = window.max(RUN_BYTES_MIN);
        Some(self.budget.room()?.max(RUN_BYTES_MIN).min(least).min(room).min(BACKFILL_RUN_BYTES as u64))
    }

    fn on_the_way(&self, of: impl Fn(&Sent) -> bool) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| of(sent))
    }

    /// What of `missing` goes in each lane; of old readings, of which there may be very many ranges, as much
    /// as one run can take.
    fn split(&self, missing: &RangeSet, ahead: Ahead) -> [RangeSet; 4] {
        let all = ahead == Ahead::All;
        let of = |urgent: &RangeSet| if all { missing.intersect(urgent) } else { RangeSet::new() };
        let (alarm, mut state) = (of(&self.alarm), of(&self.state));
        state.remove_set(&alarm);
        let plain = |lo: u64, hi: u64| {
            let mut plain = RangeSet::of(lo, hi);
            plain.remove_set(&alarm.within(lo, hi));
            plain.remove_set(&state.within(lo, hi));
            plain
        };
        let mut live = RangeSet::new();
        for (lo, hi) in missing.within(self.live_from, u64::MAX).iter() {
            live.insert_set(&plain(lo, hi));
        }
        let mut old = RangeSet::new();
        for (lo, hi) in missing.iter().take_while(|(lo, _)| *lo < self.live_from) {
            if old.range_count() > RUN_RANGES_MAX {
                break;
            }
            old.insert_set(&plain(lo, hi.min(self.live_from - 1)));
        }
        [alarm, state, live, old]
    }

    /// A run of the pick went out.
    pub fn sent(&mut self, now_ns: u64, lane: Lane, first: u64, bytes: u64) {
        self.sent.push(Sent { lane, first, bytes, at_ns: now_ns });
        let at = LANES.iter().position(|(other, _)| *other == lane).unwrap_or(0);
        for (i, ((_, percent), owed)) in LANES.iter().zip(&mut self.owed).enumerate() {
            match i.cmp(&at) {
                std::cmp::Ordering::Equal => *owed = owed.saturating_sub(bytes.max(OWED_BYTES)),
                std::cmp::Ordering::Greater if self.waiting.get(i) == Some(&true) => {
                    *owed = owed.saturating_add(bytes.saturating_mul(*percent) / 100);
                }
                _ => {}
            }
        }
        if lane == Lane::Backfill {
            self.budget.spend(bytes);
            let on_the_way = self.on_the_way(|sent| sent.lane == Lane::Backfill);
            self.window.filled |= on_the_way.map(|sent| sent.bytes).sum::<u64>() * 2 > self.window.bytes;
        }
    }

    /// Of the runs on the way, those that `arrived` says are settled.
    pub fn settled(&mut self, now_ns: u64, arrived: impl Fn(u64) -> bool) {
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for sent in self.sent.drain(..) {
            if arrived(sent.first) { gone.push(sent) } else { left.push(sent) }
        }
        self.sent = left;
        for sent in gone.into_iter().filter(|sent| sent.lane == Lane::Backfill) {
            self.budget.served(now_ns, sent.at_ns);
            self.window.arrived(now_ns, &sent);
        }
    }

    /// A round trip without anything behind which it had to wait.
    pub fn round_trip(&mut self, trip_ns: u64) {
        self.window.base_ns = self.window.base_ns.min(trip_ns);
    }
}

/// Of ranges of seqs, the first ones that are near enough to each other for one run.
fn near(ranges: impl Iterator<Item = (u64, u64)>) -> RangeSet {
    let (mut out, mut first, mut last) = (RangeSet::new(), None, 0_u64);
    for (lo, hi) in ranges {
        let first = *first.get_or_insert(lo);
        let far = last > 0 && lo - last > HOLE_SEQS_MAX || lo - first >= RUN_SEQS_MAX;
        if far || out.range_count() == RUN_RANGES_MAX {
            break;
        }
        last = hi.min(first + RUN_SEQS_MAX - 1);
        out.insert(lo, last);
    }
    out
}

/// How much backfill the operator allows: bytes a second, and a part of the time in which the link
/// is busy with it. The time is measured, run by run, from the run before it to its ack.
#[derive(Debug)]
struct Budget {
    limits: BackfillBudget,
    at_ns: u64,
    bytes: i128,
    time_ns: i128,
    last_ack_ns: u64,
}

impl Budget {
    fn new(now_ns: u64, limits: BackfillBudget) -> Self {
        let mut budget = Self { limits, at_ns: now_ns, bytes: 0, time_ns: 0, last_ack_ns: now_ns };
        budget.add(BURST_NS);
        budget
    }

    fn refill(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.at_ns);
        self.at_ns = now_ns;
        self.add(passed);
    }

    fn add(&mut self, passed_ns: u64) {
        let bytes = |ns: u64| i128::from(self.limits.bytes_per_s) * i128::from(ns);
        let time = |ns: u64| i128::from(self.limits.share_percent) * i128::from(ns) / 100;
        // Bytes are counted in parts of 1e-9, so that short times are not lost.
        self.bytes = (self.bytes + bytes(passed_ns)).min(bytes(BURST_NS));
        self.time_ns = (self.time_ns + time(passed_ns)).min(time(BURST_NS));
    }

    /// Bytes that may be sent now; `None` when there are none.
    fn room(&self) -> Option<u64> {
        if self.limits.share_percent < 100 && self.time_ns <= 0 {
            return None;
        }
        match self.limits.bytes_per_s {
            0 => Some(u64::MAX),
            _ => u64::try_from(self.bytes / 1_000_000_000).ok().filter(|bytes| *bytes > 0),
        }
    }

    fn spend(&mut self, bytes: u64) {
        self.bytes -= i128::from(bytes) * 1_000_000_000;
    }

    fn served(&mut self, now_ns: u64, sent_ns: u64) {
        self.time_ns -= i128::from(now_ns.saturating_sub(sent_ns.max(self.last_ack_ns)));
        self.last_ack_ns = now_ns;
    }
}

/// Backfill on the way: as much as the link takes without a queue that fresh readings would have to
/// wait behind, found by delay as in LEDBAT (RFC 6817).
#[derive(Debug)]
struct Window {
    bytes: u64,
    base_ns: u64,
    // The window was in use: a link with nothing to carry says nothing of its width.
    filled: bool,
    shrunk_ns: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: BACKFILL_WINDOW_START, base_ns: u64::MAX, filled: false, shrunk_ns: 0 }
    }
}

impl Window {
    fn arrived(&mut self, now_ns: u64, sent: &Sent) {
        let trip_ns = now_ns.saturating_sub(sent.at_ns);
        self.base_ns = self.base_ns.min(trip_ns);
        if trip_ns.saturating_sub(self.base_ns) > QUEUE_DELAY_NS {
            // Once a round trip: what was sent before is answered by the last change.
            if sent.at_ns >= self.shrunk_ns {
                self.shrunk_ns = now_ns;
                self.bytes = (self.bytes / 2).max(BACKFILL_WINDOW_MIN);
            }
        } else if std::mem::take(&mut self.filled) {
            self.bytes = self.bytes.saturating_add(sent.bytes.max(RUN_BYTES_MIN)).min(BACKFILL_WINDOW_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const ROOM: u64 = 16 * 1024 * 1024;

    fn lanes(budget: BackfillBudget) -> Lanes {
        let mut lanes = Lanes::new(0, 100, budget);
        lanes.set_urgent(RangeSet::of(50, 50), RangeSet::of(60, 61));
        lanes
    }

    #[test]
    fn alarms_go_before_states_before_fresh_before_old() {
        let mut lanes = lanes(BackfillBudget::default());
        let mut missing = RangeSet::of(1, 110);
        let mut order = Vec::new();
        while let Some(pick) = lanes.pick(1, &missing, ROOM, Ahead::All) {
            lanes.sent(1, pick.lane, pick.seqs.iter().next().unwrap().0, 100);
            missing.remove_set(&pick.seqs);
            order.push((pick.lane, pick.seqs.iter().collect::<Vec<_>>()));
        }
        let old = vec![(1, 49), (51, 59), (62, 99)];
        assert_eq!(
            order,
            [
                (Lane::Alarm, vec![(50, 50)]),
                (Lane::State, vec![(60, 61)]),
                (Lane::Live, vec![(100, 110)]),
                (Lane::Backfill, old),
            ]
        );
    }

    #[test]
    fn with_too_many_holes_already_nothing_goes_ahead() {
        let mut lanes = lanes(BackfillBudget::default());
        let pick = lanes.pick(1, &RangeSet::of(1, 99), ROOM, Ahead::Fresh).unwrap();
        assert_eq!((pick.lane, pick.seqs), (Lane::Backfill, RangeSet::of(1, 99)));
    }

    #[test]
    fn a_flood_of_fresh_readings_leaves_the_old_ones_their_share() {
        let mut lanes = lanes(BackfillBudget::default());
        let missing = RangeSet::of(62, 200);
        let (mut live, mut old) = (0_u64, 0_u64);
        for step in 0..10_000 {
            let pick = lanes.pick(step, &missing, ROOM, Ahead::All).unwrap();
            let bytes = (pick.bytes_max as u64).min(10_000);
            lanes.sent(step, pick.lane, step, bytes);
            lanes.settled(step, |_| true);
            *if pick.lane == Lane::Live { &mut live } else { &mut old } += bytes;
        }
        assert!((4..=6).contains(&(old * 100 / live)), "{old} of {live}");
    }

    #[test]
    fn backfill_stays_within_its_bytes_a_second() {
        let mut lanes = lanes(BackfillBudget { bytes_per_s: 50_000, share_percent: 100 });
        let missing = RangeSet::of(1, 40);
        let mut sent = 0;
        for ms in 0..20_000 {
            if let Some(pick) = lanes.pick(ms * MS, &missing, ROOM, Ahead::All) {
                let bytes = pick.bytes_max as u64;
                lanes.sent(ms * MS, pick.lane, ms, bytes);
                sent += bytes;
            }
            lanes.settled(ms * MS, |_| true);
        }
        assert!((1_000_000..=1_080_000).contains(&sent), "{sent} bytes in 20 s");
    }

    #[test]
    fn backfill_keeps_to_its_share_of_the_time_that_the_link_takes_for_it() {
        let mut lanes = lanes(BackfillBudget { bytes_per_s: 0, share_percent: 30 });
        let missing = RangeSet::of(1, 40);
        // Each run takes 20 ms; one at a time.
        let (mut busy, mut until) = (0_u64, None);
        for ms in 0..60_000_u64 {
            if until.is_some_and(|end| ms >= end) {
                until = None;
                lanes.settled(ms * MS, |_| true);
            }
            if until.is_none()
                && let Some(pick) = lanes.pick(ms * MS, &missing, ROOM, Ahead::All)
            {
                lanes.sent(ms * MS, pick.lane, ms, 30_000);
                until = Some(ms + 20);
            }
            busy += u64::from(until.is_some());
        }
        assert!((17_000..=20_000).contains(&busy), "busy for {busy} of 60,000 ms");
    }

    #[test]
    fn the_window_finds_what_a_slow_link_carries_without_a_long_queue() {
        let mut lanes = lanes(BackfillBudget::default());
        lanes.round_trip(100 * MS);
        let missing = RangeSet::of(1, 40);
        // 100 kB/s and 100 ms.
        let (mut queue, mut free_at, mut longest) = (Vec::new(), 0_u64, 0_u64);
        for ms in 0..60_000_u64 {
            while let Some(pick) = lanes.pick(ms * MS, &missing, ROOM, Ahead::All) {
                let bytes = pick.bytes_max as u64;
                lanes.sent(ms * MS, pick.lane, ms, bytes);
                free_at = free_at.max(ms) + bytes / 100;
                queue.push((free_at + 100, ms));
                if ms > 20_000 {
                    longest = longest.max(free_at - ms);
                }
            }
            let arrived: Vec<u64> =
                queue.iter().filter(|(at, _)| *at <= ms).map(|(_, first)| *first).collect();
            queue.retain(|(at, _)| *at > ms);
            lanes.settled(ms * MS, |first| arrived.contains(&first));
        }
        assert!(longest < 1_500, "a fresh reading would have waited {longest} ms");
        assert!(free_at > 55_000, "the link was idle: busy until {free_at}");
    }

    #[test]
    fn one_run_spans_short_holes_only() {
        let mut seqs = RangeSet::of(1, 5);
        seqs.insert(7, 9);
        seqs.insert(9 + HOLE_SEQS_MAX + 2, 1 << 40);
        assert_eq!(near(seqs.iter()).iter().collect::<Vec<_>>(), [(1, 5), (7, 9)]);
        assert_eq!(near([(3, 1 << 40)].into_iter()).len(), RUN_SEQS_MAX);
        assert!(near(std::iter::empty()).is_empty());
        let mut sparse = RangeSet::new();
        (1..=2 * RUN_RANGES_MAX as u64).for_each(|n| sparse.insert(n * 2, n * 2));
        assert_eq!(near(sparse.iter()).range_count(), RUN_RANGES_MAX);
    }
}
