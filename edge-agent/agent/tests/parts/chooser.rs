//! The choice of the way, against simulated networks with a clock of their own.

use std::collections::BTreeMap;

use edge_agent::uplink::chooser::{Advice, Chooser};
use edge_agent::uplink::routes::Path;
use proptest::prelude::*;
use tideline_link::link::Transport;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const PROBE: u64 = 30 * SECOND;
/// How long a dial into nothing takes.
const DIAL: u64 = 5 * SECOND;
const STEP: u64 = 50 * MS;

/// One path of the simulated network.
#[derive(Debug, Clone, Default)]
struct Line {
    // Moments at which it changes between up and down; it begins up.
    changes: Vec<u64>,
    rtt: u64,
    loss_ppm: u32,
}

impl Line {
    fn up(rtt: u64) -> Self {
        Self { rtt, ..Self::default() }
    }

    fn is_up(&self, now: u64) -> bool {
        self.changes.iter().filter(|at| **at <= now).count() % 2 == 0
    }
}

/// The world around a chooser: lines, dials on their way, and the session.
struct World {
    now: u64,
    lines: Vec<Line>,
    chooser: Chooser,
    // When each dial ends, and whether it has the line up all the while.
    dials: BTreeMap<usize, u64>,
    session: Option<usize>,
    taken: Vec<(u64, usize)>,
    drops: usize,
    // The session hears nothing more, whatever its line does.
    stalled: bool,
    pending: bool,
    entropy: u64,
}

impl World {
    fn new(lines: Vec<Line>) -> Self {
        let path = |n: usize| Path {
            hub: format!("hub-{}:1", n / 2),
            transport: if n.is_multiple_of(2) { Transport::Quic } else { Transport::Mqtt },
        };
        let chooser = Chooser::new((0..lines.len()).map(path).collect(), PROBE);
        let (dials, taken) = (BTreeMap::new(), Vec::new());
        Self {
            now: 0,
            lines,
            chooser,
            dials,
            session: None,
            taken,
            drops: 0,
            stalled: false,
            pending: true,
            entropy: 1,
        }
    }

    fn entropy(&mut self) -> u64 {
        self.entropy = self.entropy.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.entropy >> 13
    }

    fn step(&mut self) {
        self.now += STEP;
        self.chooser.handle_pending(self.now, self.pending);
        self.end_dials();
        if let Some(at) = self.session
            && self.lines[at].is_up(self.now)
            && !self.stalled
        {
            // Acks come all the time, and each settles something.
            self.chooser.handle_heard(self.now);
            if self.now.is_multiple_of(SECOND) {
                self.chooser.handle_achieved();
                let line = &self.lines[at];
                self.chooser.handle_measured(Some(line.rtt / 1_000), Some(line.loss_ppm));
            }
        }
        let entropy = self.entropy();
        while let Some(advice) = self.chooser.poll(self.now, entropy) {
            match advice {
                Advice::Dial(at) => assert_eq!(self.dials.insert(at, self.now), None, "two dials of {at}"),
                Advice::Drop(_) => self.drops += 1,
                Advice::Take(at) => {
                    (self.session, self.stalled) = (Some(at), false);
                    self.taken.push((self.now, at));
                }
            }
        }
        assert_eq!(self.chooser.carries(), self.session);
    }

    fn end_dials(&mut self) {
        let begun: Vec<(usize, u64)> = self.dials.iter().map(|(at, since)| (*at, *since)).collect();
        for (at, since) in begun {
            let line = &self.lines[at];
            // Knocks: it answers a round trip after the line is up, if that is in time.
            if line.is_up(self.now)
                && line.is_up(self.now.saturating_sub(line.rtt))
                && self.now >= since + line.rtt
            {
                let rtt = line.rtt / 1_000;
                self.dials.remove(&at);
                self.chooser.handle_dialled(self.now, at, rtt);
            } else if self.now >= since + DIAL {
                self.dials.remove(&at);
                let entropy = self.entropy();
                self.chooser.handle_dial_failed(self.now, at, None, entropy);
            }
        }
    }

    fn run_to(&mut self, end: u64) {
        while self.now < end {
            self.step();
        }
    }

    /// The session's link ends by itself.
    fn lose(&mut self) {
        self.session = None;
        let entropy = self.entropy();
        self.chooser.handle_ended(self.now, None, entropy);
    }

    fn carries_data(&self) -> bool {
        self.session.is_some_and(|at| self.lines[at].is_up(self.now))
    }
}

fn two(quic: Line, mqtt: Line) -> World {
    World::new(vec![quic, mqtt])
}

#[test]
fn quic_carries_where_both_get_through() {
    let mut world = two(Line::up(40 * MS), Line::up(80 * MS));
    world.run_to(600 * SECOND);
    assert_eq!(world.taken.len(), 1);
    assert_eq!((world.session, world.taken[0].1, world.drops), (Some(0), 0, 0));
}

#[test]
fn blocked_udp_leads_to_mqtt_in_time_and_back_when_it_is_open_again() {
    for rtt in [MS, 50 * MS, 600 * MS] {
        let (block, open) = (60 * SECOND, 300 * SECOND);
        let quic = Line { changes: vec![block, open], ..Line::up(rtt) };
        let mut world = two(quic, Line::up(4 * rtt));
        world.run_to(block);
        assert_eq!(world.session, Some(0));
        world.run_to(block + 10 * SECOND);
        assert_eq!(world.session, Some(1), "{rtt}: {:?}", world.taken);
        world.run_to(open);
        assert_eq!(world.session, Some(1));
        world.run_to(open + PROBE + 3 * SECOND + 5 * rtt + DIAL);
        assert_eq!(world.session, Some(0), "{rtt}: {:?}", world.taken);
        assert_eq!(world.taken.len(), 3, "{:?}", world.taken);
        assert_eq!(world.chooser.switches(), 2);
    }
}

#[test]
fn udp_that_is_blocked_from_the_start_costs_seconds() {
    let mut world = two(Line { changes: vec![0], ..Line::up(20 * MS) }, Line::up(80 * MS));
    world.run_to(10 * SECOND);
    assert_eq!(world.session, Some(1));
}

#[test]
fn a_line_that_comes_back_is_used_a_round_trip_later_whenever_that_is() {
    for moment in 0..40 {
        let (cut, back) = (60 * SECOND, 90 * SECOND + moment * 370 * MS);
        let mut world = World::new(vec![Line { changes: vec![cut, back], ..Line::up(40 * MS) }]);
        world.run_to(cut);
        assert_eq!(world.session, Some(0));
        // The session's own retries are seconds apart by now; its path is dialled anew all the while.
        world.stalled = true;
        world.run_to(back + 40 * MS + 2 * STEP);
        assert!(world.taken.len() == 2 && world.carries_data(), "{moment}: {:?}", world.taken);
    }
}

#[test]
fn first_packets_are_the_further_apart_the_longer_a_way_is_silent() {
    let cut = 60 * SECOND;
    let mut world =
        two(Line { changes: vec![cut], ..Line::up(40 * MS) }, Line { changes: vec![0], ..Line::up(MS) });
    world.run_to(cut);
    let knocks = |world: &World, at: usize| world.chooser.knock_every_ns(world.now, at) / MS;
    assert_eq!((knocks(&world, 0), knocks(&world, 1)), (250, 900), "the other was never heard");
    for (silent, wanted) in [(30, 250..=251), (60, 500..=501), (90, 750..=751), (3_600, 900..=900)] {
        world.run_to(cut + silent * SECOND);
        assert!(wanted.contains(&knocks(&world, 0)), "{silent}: {}", knocks(&world, 0));
    }
}

#[test]
fn without_readings_a_silent_hub_is_left_alone() {
    let mut world = two(Line { changes: vec![60 * SECOND], ..Line::up(40 * MS) }, Line::up(80 * MS));
    world.run_to(50 * SECOND);
    world.pending = false;
    world.run_to(120 * SECOND);
    assert_eq!(world.session, Some(0), "keep-alive tells whether it is gone, not the lack of answers");
    // With the first reading it is found out.
    world.pending = true;
    world.run_to(130 * SECOND);
    assert_eq!(world.session, Some(1));
}

#[test]
fn a_way_that_flaps_is_held_back_longer_each_time() {
    // Up for 45 s, down for 15 s, for an hour.
    let changes = (0..60).flat_map(|n| [(60 * n + 45) * SECOND, (60 * n + 60) * SECOND]).collect();
    let mut world = two(Line { changes, ..Line::up(40 * MS) }, Line::up(80 * MS));
    world.run_to(3_600 * SECOND);
    let switches = world.chooser.switches();
    assert!((2..=20).contains(&switches), "{switches} switches in an hour: {:?}", world.taken);
    world.lines[0].changes.clear();
    world.run_to(3_600 * SECOND + 640 * SECOND);
    assert_eq!(world.session, Some(0), "it is not held back for ever");
}

#[test]
fn a_lossy_way_is_left_for_one_that_costs_less_than_half_and_not_for_one_that_does_not() {
    for (mqtt_rtt, wanted) in [(50 * MS, 1), (150 * MS, 0)] {
        let quic = Line { loss_ppm: 150_000, ..Line::up(50 * MS) };
        let mut world = two(quic, Line::up(mqtt_rtt));
        world.run_to(120 * SECOND);
        assert_eq!(world.session, Some(wanted), "{mqtt_rtt}: {:?}", world.taken);
    }
}

#[test]
fn milliseconds_near_a_hub_are_no_reason_to_stay_and_loss_is_one() {
    // Blocked for a while; its round trip is many times that of the other way, and nobody feels it.
    let quic = |loss_ppm| Line { changes: vec![0, 20 * SECOND], loss_ppm, ..Line::up(20 * MS) };
    let mut world = two(quic(0), Line::up(MS));
    world.run_to(20 * SECOND);
    assert_eq!(world.session, Some(1));
    world.run_to(100 * SECOND);
    assert_eq!(world.session, Some(0), "{:?}", world.taken);
    let mut world = two(Line { loss_ppm: 150_000, ..Line::up(4 * MS) }, Line::up(MS));
    world.run_to(200 * SECOND);
    assert_eq!(world.session, Some(1), "{:?}", world.taken);
    // What is known of a loss fades; then it is tried again, and held back for longer each time.
    world.run_to(3_600 * SECOND);
    assert!(world.chooser.switches() <= 20, "{:?}", world.taken);
}

#[test]
fn hubs_are_tried_in_order() {
    let down = || Line { changes: vec![0], ..Line::up(20 * MS) };
    let mut world = World::new(vec![down(), down(), down(), Line::up(20 * MS)]);
    world.run_to(15 * SECOND);
    assert_eq!(world.session, Some(3));
    world.lines[1].changes.clear();
    world.run_to(60 * SECOND);
    assert_eq!(world.session, Some(1));
}

#[test]
fn other_paths_keep_what_is_known_of_those_that_stay() {
    let mut world = two(Line { changes: vec![0], ..Line::up(20 * MS) }, Line::up(20 * MS));
    world.run_to(10 * SECOND);
    let paths: Vec<Path> = (0..2).map(|at| world.chooser.path(at).unwrap().clone()).collect();
    let failures = |world: &World, at: usize| world.chooser.view().nth(at).unwrap().circuit.failures;
    assert!(failures(&world, 0) > 0);
    assert!(world.chooser.set_paths(vec![paths[1].clone(), paths[0].clone()], PROBE));
    assert_eq!(world.chooser.carries(), Some(0));
    assert!(failures(&world, 1) > 0);
    assert!(!world.chooser.set_paths(vec![paths[0].clone()], PROBE), "the session's path is gone");
    assert_eq!(world.chooser.carries(), None);
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let changes = prop::collection::vec(1_u64..500, 0..8);
    let line = (changes, 1_u64..600).prop_map(|(mut changes, rtt)| {
        changes.sort_unstable();
        let changes = changes.into_iter().map(|at| at * SECOND).collect();
        Line { changes, ..Line::up(rtt * MS) }
    });
    prop::collection::vec(line, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_lines_do_data_flows_where_one_has_been_up_for_a_while(
        lines in lines(), ends in prop::collection::vec(1_u64..500, 0..4), seed in any::<u64>(),
    ) {
        let mut world = World::new(lines);
        world.entropy = seed;
        // Long enough for every path before it to be found dead, and for the breaker's wait.
        let patience = 12 * SECOND + 4 * SECOND * world.lines.len() as u64;
        let mut up_since = vec![0_u64; world.lines.len()];
        let mut starved = 0_u64;
        while world.now < 600 * SECOND {
            world.step();
            let now = world.now;
            if ends.iter().any(|end| end * SECOND == now) && world.session.is_some() {
                world.lose();
            }
            for (at, line) in world.lines.iter().enumerate() {
                if !line.is_up(now) {
                    up_since[at] = now;
                }
            }
            let could = up_since.iter().any(|since| now - since > patience);
            starved = if could && !world.carries_data() { starved + STEP } else { 0 };
            prop_assert!(starved <= patience, "{} s: nothing carries: {:?}", now / SECOND, world.taken);
        }
    }
}
