//! The rules one by one, and all of them with kills at every step and clocks that jump.

use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;

fn schedule(name: &str, timing: Timing, missed: Missed) -> Schedule {
    Schedule { name: name.to_owned(), kind: "sync".to_owned(), timing, missed, within_ms: MINUTE }
}

/// What is durable, and the core on it.
#[derive(Default)]
struct World {
    marks: BTreeMap<String, i64>,
    runs: BTreeMap<u64, Run>,
    core: Schedules,
    // The times that were begun, in order.
    begun: Vec<i64>,
    open: Vec<u64>,
}

impl World {
    fn new(schedule: &Schedule) -> Self {
        let mut world = Self::default();
        world.core.configure([schedule.clone()]);
        world
    }

    /// Carries out so many of the steps; a kill comes before the others.
    fn carry_out(&mut self, steps: Vec<Step>, most: usize) {
        for step in steps.into_iter().take(most) {
            match step {
                Step::Commit(changes) => changes.into_iter().for_each(|change| self.apply(change)),
                Step::Begin(number, run) => {
                    assert_eq!(self.runs.get(&number), Some(&run), "it is durable before it begins");
                    self.begun.push(run.due_ms);
                    self.open.push(number);
                }
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Mark(name, ms) => drop(self.marks.insert(name, ms)),
            Change::Unmark(name) => drop(self.marks.remove(&name)),
            Change::Run(number, run) => drop(self.runs.insert(number, run)),
            Change::Forget(number) => drop(self.runs.remove(&number)),
        }
    }

    fn kill(&mut self, schedule: &Schedule) {
        self.open.clear();
        let (core, steps) = Schedules::open(self.marks.clone(), self.runs.clone(), |_| false);
        self.core = core;
        self.core.configure([schedule.clone()]);
        self.carry_out(steps, usize::MAX);
    }

    fn pass(&mut self, now_ms: i64) {
        let steps = self.core.handle_time(Some(now_ms));
        self.carry_out(steps, usize::MAX);
    }

    fn end(&mut self, now_ms: i64) {
        if let Some(number) = self.open.pop() {
            let steps = self.core.handle_ended(now_ms, number, Ok(None));
            self.carry_out(steps, usize::MAX);
        }
    }
}

#[test]
fn a_new_schedule_has_missed_nothing_and_runs_at_its_times() {
    let every = schedule("a", Timing::Every(10 * MINUTE), Missed::RunAll);
    let mut world = World::new(&every);
    world.pass(25 * MINUTE);
    assert_eq!(world.begun, [0_i64; 0]);
    for minute in 26..52 {
        world.pass(minute * MINUTE);
        world.end(minute * MINUTE);
    }
    assert_eq!(world.begun, [30 * MINUTE, 40 * MINUTE, 50 * MINUTE]);
}

#[test]
fn what_was_missed_is_skipped_or_made_up_for_once_or_each() {
    for (missed, expected) in [
        (Missed::Skip, vec![]),
        (Missed::RunOnce, vec![120 * MINUTE]),
        (Missed::RunAll, (4..=12).map(|n| n * 10 * MINUTE).collect()),
    ] {
        let every = schedule("a", Timing::Every(10 * MINUTE), missed);
        let mut world = World::new(&every);
        world.pass(35 * MINUTE);
        world.kill(&every);
        for _ in 0..20 {
            world.pass(125 * MINUTE);
            world.end(125 * MINUTE);
        }
        assert_eq!(world.begun, expected, "{missed:?}");
        // Within its time it is not missed, whatever is said.
        world.kill(&every);
        world.pass(130 * MINUTE + 59_000);
        assert_eq!(world.begun.last(), Some(&(130 * MINUTE)), "{missed:?}");
    }
    let every = schedule("a", Timing::Every(MINUTE), Missed::RunAll);
    let mut world = World::new(&every);
    world.pass(0);
    for _ in 0..100 {
        world.pass(1_000 * MINUTE);
        world.end(1_000 * MINUTE);
    }
    assert_eq!((world.begun.len(), world.begun[0]), (MISSED_MAX, (1_001 - MISSED_MAX as i64) * MINUTE));
}

#[test]
fn once_is_once_also_when_its_time_was_over_before_it_was_known() {
    for (missed, late) in [(Missed::Skip, 0), (Missed::RunOnce, 1), (Missed::RunAll, 1)] {
        let at = schedule("a", Timing::At(100 * MINUTE), missed);
        let mut world = World::new(&at);
        (99..103).for_each(|minute| world.pass(minute * MINUTE));
        world.end(103 * MINUTE);
        world.pass(104 * MINUTE);
        world.kill(&at);
        world.pass(105 * MINUTE);
        assert_eq!(world.begun, [100 * MINUTE]);
        let mut world = World::new(&at);
        world.pass(200 * MINUTE);
        assert_eq!(world.begun.len(), late, "{missed:?}");
    }
}

#[test]
fn once_is_once_also_when_the_clock_was_far_ahead_or_what_was_known_is_lost() {
    let at = schedule("a", Timing::At(100 * MINUTE), Missed::RunOnce);
    let mut world = World::new(&at);
    world.pass(900 * MINUTE);
    world.end(900 * MINUTE);
    (99..102).for_each(|minute| world.pass(minute * MINUTE));
    assert_eq!(world.begun, [100 * MINUTE]);
    for (first, times) in [(200 * MINUTE, 0), (99 * MINUTE, 1)] {
        let mut world = World::new(&at);
        world.core.handle_lost();
        world.pass(first);
        world.pass(201 * MINUTE);
        assert_eq!(world.begun.len(), times);
    }
}

#[test]
fn without_a_trusted_time_nothing_runs_and_a_clock_that_was_far_ahead_blocks_nothing() {
    let every = schedule("a", Timing::Every(10 * MINUTE), Missed::RunOnce);
    let mut world = World::new(&every);
    assert_eq!(world.core.handle_time(None), []);
    let years = 10 * 365 * 24 * 60 * MINUTE;
    world.pass(years);
    world.pass(years + 10 * MINUTE);
    world.end(years + 10 * MINUTE);
    // Set right: nothing of the years that never were is made up for, and it goes on.
    world.pass(15 * MINUTE);
    world.pass(20 * MINUTE);
    world.end(20 * MINUTE);
    assert_eq!(world.begun, [years + 10 * MINUTE, 20 * MINUTE]);
    // A small correction repeats nothing.
    world.pass(18 * MINUTE);
    world.pass(20 * MINUTE + 5);
    assert_eq!(world.begun.len(), 2);
}

#[test]
fn a_run_that_was_under_way_when_the_agent_was_killed_is_told_and_not_begun_again() {
    let every = schedule("a", Timing::Every(10 * MINUTE), Missed::RunAll);
    let mut world = World::new(&every);
    world.pass(9 * MINUTE);
    world.pass(10 * MINUTE);
    world.kill(&every);
    world.pass(10 * MINUTE + 1);
    assert_eq!(world.begun, [10 * MINUTE]);
    assert_eq!(world.runs.values().map(|run| run.state).collect::<Vec<_>>(), [RunState::Interrupted]);
}

#[test]
fn no_more_run_at_a_time_than_may_and_what_is_known_of_them_is_bounded() {
    let mut core = Schedules::default();
    core.configure((0..9).map(|n| schedule(&format!("s{n}"), Timing::Every(MINUTE), Missed::Skip)));
    core.handle_time(Some(0));
    let mut open = Vec::new();
    let mut most = 0;
    for minute in 1..800 {
        for step in core.handle_time(Some(minute * MINUTE)) {
            if let Step::Begin(number, _) = step {
                open.push(number);
            }
        }
        most = most.max(open.len());
        for number in open.drain(..) {
            core.handle_ended(minute * MINUTE, number, Err("no".into()));
        }
    }
    assert_eq!(most, RUNNING_MAX);
    assert!(core.runs().count() <= RUNS_MAX + 9);
}

#[test]
fn the_last_run_of_a_rare_schedule_is_known_beside_many_of_another_also_after_a_restart() {
    let (rare, often) = (
        schedule("rare", Timing::At(1), Missed::Skip),
        schedule("often", Timing::Every(MINUTE), Missed::Skip),
    );
    let mut world = World::default();
    world.core.configure([rare.clone(), often.clone()]);
    world.pass(0);
    for minute in 1..=RUNS_MAX as i64 * 2 {
        world.pass(minute * MINUTE);
        world.end(minute * MINUTE);
        world.end(minute * MINUTE);
    }
    let last = |core: &Schedules| {
        let list =
            core.list(Some(0)).map(|(schedule, _, last)| (schedule.name.clone(), last.map(|run| run.due_ms)));
        list.collect::<Vec<_>>()
    };
    let known = last(&world.core);
    assert_eq!(known[1], ("rare".to_owned(), Some(1)));
    assert!(world.runs.len() <= RUNS_MAX + 2, "{}", world.runs.len());
    // Those of documents are not there yet.
    world.kill(&often);
    world.pass((RUNS_MAX as i64 * 2 + 1) * MINUTE);
    world.core.configure([rare, often]);
    assert_eq!(last(&world.core)[1], known[1]);
}

proptest! {
    #[test]
    fn no_time_is_begun_twice_whatever_is_killed_and_none_is_lost_that_is_to_be_made_up_for(
        steps in proptest::collection::vec((0..6_u8, 1..900_i64, 0..3_usize), 1..60),
        every_s in 5..300_i64,
    ) {
        let every = schedule("a", Timing::Every(every_s * 1_000), Missed::RunAll);
        let (mut world, mut now_ms) = (World::new(&every), 1_000_000_000);
        let begin_ms = now_ms;
        world.pass(now_ms);
        for (what, by, most) in steps {
            match what {
                0 => world.end(now_ms),
                1 => world.kill(&every),
                // Killed in the middle of what it was about to do.
                2 => {
                    let steps = world.core.handle_time(Some(now_ms));
                    world.carry_out(steps, most);
                    world.kill(&every);
                }
                _ => {
                    now_ms += by * 100;
                    world.pass(now_ms);
                }
            }
        }
        // At rest each of its times was begun, or noted as begun when it was killed.
        for _ in 0..200 {
            world.end(now_ms);
            world.pass(now_ms);
        }
        let mut once = world.begun.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), world.begun.len(), "{:?}", world.begun);
        let all = (1..).map(|n| (begin_ms / (every_s * 1_000) + n) * every_s * 1_000).take_while(|due| *due <= now_ms);
        let all: Vec<i64> = all.collect();
        let noted: Vec<i64> = world.runs.values().map(|run| run.due_ms).collect();
        // More than may be made up for at once are given up.
        if now_ms - begin_ms < every_s * 1_000 * i64::try_from(MISSED_MAX).unwrap() {
            prop_assert_eq!(noted, all);
        }
    }
}
