//! Clocks that are set, back and forth, and readings whose time cannot be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use tideline_pipeline::{Change, Chunk, Counts, Now, Outcome, Pipelines, Setting};
use tideline_protocol::model::{Sample, SeriesDef};

const S: i64 = 1_000_000_000;
const NOW: i64 = 1_700_000_000 * S;
const HOUR: i64 = 3_600;

/// A machine that stamps readings.
struct Machine {
    pipelines: Pipelines,
    boot: u8,
    mono_s: i64,
    /// How far the wall clock is ahead of `NOW` and what passed since.
    wrong_s: i64,
    believed: bool,
    passed_s: i64,
}

impl Machine {
    fn new(stage: &str) -> Self {
        let text =
            format!("[[pipeline]]\nname = \"p\"\nfrom = \"a/*\"\n[[pipeline.stage]]\nname = \"s\"\n{stage}");
        let pipelines = Pipelines::read("test.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        Self { pipelines, boot: 1, mono_s: 500, wrong_s: 0, believed: true, passed_s: 0 }
    }

    fn now(&self) -> Now {
        let wall_ns = NOW + (self.passed_s + self.wrong_s) * S;
        let (boot, believed) = ([self.boot; 16], self.believed);
        let setting = Setting { boot, offset_ns: wall_ns - self.mono_s * S, believed };
        Now { setting, mono_ns: self.mono_s * S }
    }

    fn pass(&mut self, seconds: i64) {
        self.mono_s += seconds;
        self.passed_s += seconds;
    }

    /// The next second, with a reading of it.
    fn read(&mut self, value: f64) -> Outcome {
        self.pass(1);
        let now = self.now();
        self.give(now.wall_ns(), value, Some(now.setting))
    }

    fn give(&mut self, time_ns: i64, value: f64, clock: Option<Setting>) -> Outcome {
        let series = SeriesDef::new("a".parse().unwrap(), "t".parse().unwrap(), "Cel".into());
        let rows = vec![(series, vec![Sample { time_ns, value }])];
        self.pipelines.run(self.now(), Chunk { rows, clock, ..Chunk::default() })
    }

    fn tick(&mut self, seconds: i64) -> Outcome {
        self.pass(seconds);
        self.pipelines.tick(self.now())
    }

    /// Another start of the machine, `off_s` later.
    fn boot(&mut self, off_s: i64, believed: bool) {
        (self.boot, self.mono_s, self.believed) = (self.boot + 1, 5, believed);
        self.passed_s += off_s;
    }

    fn counts(&self) -> Counts {
        self.pipelines.status().next().unwrap().1.counts
    }
}

/// Point, seconds after `NOW`, value.
fn out(outcome: &Outcome) -> Vec<String> {
    let shown = |row: &tideline_pipeline::Row, sample: &Sample| {
        let (value, quality) = outcome.boxes.value(sample.value, row.series.kind());
        format!("{} {} {value} {quality}", row.series.point, (sample.time_ns - NOW) / S)
    };
    outcome.rows.iter().flat_map(|row| row.samples.iter().map(|sample| shown(row, sample))).collect()
}

fn changes(outcome: &Outcome) -> Vec<Change> {
    outcome.events.iter().map(|event| event.change).collect()
}

// NOW is 20 s into a minute.
const MINUTES: &str =
    "kind = \"window\"\nlength_ms = 60_000\nwait_ms = 0\naggregates = [\"mean\", \"count\"]\n";
const RULE: &str = "kind = \"rule\"\ncondition = \"above\"\nlimit = 10\nfor_ms = 10_000\n";

#[test]
fn a_clock_that_is_set_back_closes_what_is_open_and_windows_go_on_at_once() {
    let mut machine = Machine::new(MINUTES);
    machine.wrong_s = HOUR;
    (0..30).for_each(|_| drop(machine.read(1.0)));
    let before = machine.now().setting;
    machine.wrong_s = 0;
    let outcome = machine.read(2.0);
    // It has the time of its start by the clock that its readings had, so that a correction of theirs fits it.
    assert_eq!(
        out(&outcome),
        [format!("t/mean {} 1 uncertain", HOUR - 20), format!("t/count {} 30 good", HOUR - 20)]
    );
    assert!(outcome.rows.iter().all(|row| row.clock == Some(before)));
    assert_eq!((machine.counts().cut, machine.counts().dead_letters), (1, 0));
    (0..8).for_each(|_| drop(machine.read(2.0)));
    assert_eq!(out(&machine.read(2.0)), ["t/mean -20 2 good", "t/count -20 9 good"]);
}

#[test]
fn a_clock_that_is_set_by_less_than_a_step_is_disorder() {
    let mut machine = Machine::new(&MINUTES.replace("wait_ms = 0", "wait_ms = 5_000"));
    (0..10).for_each(|_| drop(machine.read(1.0)));
    machine.wrong_s = -5;
    (0..39).for_each(|_| assert_eq!(machine.read(1.0).count(), 0));
    assert_eq!(out(&machine.read(1.0)), ["t/mean -20 1 good", "t/count -20 44 good"]);
    assert_eq!((machine.counts().cut, machine.counts().dead_letters), (0, 0));
}

#[test]
fn a_machine_that_wakes_without_the_time_closes_what_is_open_and_starts_anew() {
    let mut machine = Machine::new(MINUTES);
    (0..5).for_each(|_| drop(machine.read(1.0)));
    machine.boot(60, false);
    machine.wrong_s = -1_000 * 24 * HOUR;
    assert_eq!(out(&machine.read(3.0)), ["t/mean -20 1 uncertain", "t/count -20 5 good"]);
    let before = machine.now().setting;
    // It learns the time.
    (machine.wrong_s, machine.believed) = (0, true);
    let outcome = machine.read(4.0);
    assert_eq!(out(&outcome).len(), 2);
    assert!(outcome.rows.iter().all(|row| row.clock == Some(before)));
    assert_eq!(machine.counts().dead_letters, 0);
    // A third start finds the time right: what is open goes on.
    machine.boot(3, true);
    assert_eq!(machine.read(6.0).count(), 0);
    machine.passed_s += 60;
    let outcome = machine.read(0.0);
    assert_eq!(out(&outcome)[1], "t/count 40 2 good");
}

#[test]
fn windows_of_a_start_that_never_knew_the_time_are_closed_by_silence_too() {
    let mut machine = Machine::new(MINUTES);
    machine.believed = false;
    machine.read(1.0);
    machine.boot(60, true);
    machine.wrong_s = -HOUR;
    assert_eq!(machine.tick(1).count(), 0);
    assert_eq!(out(&machine.tick(60)), ["t/mean -20 1 uncertain", "t/count -20 1 good"]);
}

#[test]
fn silence_closes_windows_whatever_becomes_of_the_clock_meanwhile() {
    for clock in [true, false] {
        let mut machine = Machine::new(MINUTES);
        machine.pass(1);
        let now = machine.now();
        machine.give(now.wall_ns(), 1.0, clock.then_some(now.setting));
        machine.boot(3, true);
        machine.tick(1);
        machine.wrong_s = -24 * HOUR;
        assert_eq!(machine.tick(98).count(), 0);
        assert_eq!(out(&machine.tick(1)), ["t/mean -20 1 good", "t/count -20 1 good"]);
    }
}

#[test]
fn rules_judge_on_at_once_when_the_clock_was_set_back() {
    let mut machine = Machine::new(RULE);
    machine.wrong_s = HOUR;
    (0..5).for_each(|_| assert_eq!(machine.read(11.0).events, []));
    machine.wrong_s = 0;
    // It has held for five seconds, whatever the clock said.
    (0..5).for_each(|_| assert_eq!(machine.read(11.0).events, []));
    assert_eq!(changes(&machine.read(11.0)), [Change::Fired]);
    assert_eq!(machine.counts().skipped, 0);
}

#[test]
fn a_clock_that_is_set_forward_is_no_time_that_passed() {
    let mut machine = Machine::new(RULE);
    machine.read(11.0);
    machine.wrong_s = HOUR;
    assert_eq!((machine.read(11.0).events, machine.tick(1).events), (vec![], vec![]));
    assert_eq!(changes(&machine.tick(8)), [Change::Fired]);
    let mut machine = Machine::new("kind = \"rule\"\ncondition = \"absence\"\nfor_ms = 30_000\n");
    machine.read(1.0);
    machine.wrong_s = HOUR;
    assert_eq!((machine.tick(1).events, machine.tick(28).events), (vec![], vec![]));
    let fired = machine.tick(5);
    assert_eq!(changes(&fired), [Change::Fired]);
    assert_eq!((fired.events[0].time_ns - NOW) / S, HOUR + 31, "when it was, by the clock as it is set now");
}

#[test]
fn a_rate_over_a_clock_that_is_set_is_what_it_was() {
    let mut machine = Machine::new("kind = \"rule\"\ncondition = \"rate\"\nlimit = 5\n");
    machine.read(0.0);
    machine.wrong_s = -HOUR;
    assert_eq!(changes(&machine.read(6.0)), [Change::Fired]);
    machine.wrong_s = HOUR;
    assert_eq!(changes(&machine.read(7.0)), [Change::Cleared]);
}

#[test]
fn rate_limits_and_deadbands_pass_readings_on_at_once_when_the_clock_was_set_back() {
    for stage in [
        "kind = \"rate_limit\"\nreadings = 1\nper_ms = 10_000\n",
        "kind = \"deadband\"\nabsolute = 1\nsilence_max_ms = 10_000\n",
    ] {
        let mut machine = Machine::new(stage);
        machine.wrong_s = HOUR;
        let mut passed: Vec<u64> = (0..3).map(|_| machine.read(1.0).count()).collect();
        machine.wrong_s = 0;
        passed.extend((0..20).map(|_| machine.read(1.0).count()));
        let later: u64 = passed[3..].iter().sum();
        assert!((2..=3).contains(&later), "{stage}: {passed:?}");
    }
}

#[test]
fn one_reading_from_the_future_costs_itself_and_holds_up_nothing() {
    let derive =
        "kind = \"derive\"\ninputs = { t = \"a/t\" }\nvalue = \"t\"\ndevice = \"a\"\npoint = \"d\"\n";
    for stage in [
        MINUTES,
        &RULE.replace("for_ms = 10_000", ""),
        "kind = \"rate_limit\"\nreadings = 1\nper_ms = 1_000\n",
        "kind = \"deadband\"\nabsolute = 1\nsilence_max_ms = 1_000\n",
        derive,
    ] {
        let mut machine = Machine::new(stage);
        let of = |machine: &mut Machine, time_s: i64| {
            machine.pass(70);
            let outcome = machine.give(machine.now().wall_ns() + time_s * S, 11.0, None);
            (outcome.events.len() as u64 + outcome.rows.len() as u64, outcome.letters)
        };
        of(&mut machine, 0);
        let (_, letters) = of(&mut machine, 2 * HOUR);
        assert_eq!(letters[0].reason, "the time is too far ahead of the clock", "{stage}");
        let (given, letters) = of(&mut machine, 0);
        assert!(given > 0 && letters.is_empty(), "{stage}: {letters:?}");
        assert_eq!(machine.counts().dead_letters, 1);
    }
}

#[test]
fn what_came_from_the_future_before_the_clock_was_set_is_not_waited_for() {
    let mut machine = Machine::new(RULE);
    machine.believed = false;
    // Nobody can say that it is from the future.
    assert!(machine.give(NOW + 1_000 * HOUR * S, 1.0, None).letters.is_empty());
    machine.believed = true;
    machine.give(NOW + S, 11.0, None);
    machine.pass(20);
    assert_eq!(changes(&machine.give(NOW + 21 * S, 11.0, None)), [Change::Fired]);
    assert_eq!(machine.counts().skipped, 0);
}

#[test]
fn what_a_rule_does_not_judge_as_it_is_older_is_counted() {
    let mut machine = Machine::new(RULE);
    machine.give(NOW + 30 * S, 1.0, None);
    machine.give(NOW, 1.0, None);
    assert_eq!((machine.counts().skipped, machine.counts().given), (1, 2));
}

#[test]
fn how_far_ahead_a_reading_may_be_can_be_said() {
    let text = "[[pipeline]]\nname = \"p\"\nfrom = \"a/*\"\nahead_max_ms = 86_400_000\n[[pipeline.stage]]\nname = \"s\"\nkind = \"rate_limit\"\nreadings = 1\nper_ms = 1_000\n";
    let mut machine = Machine::new(MINUTES);
    machine.pipelines = Pipelines::read("test.toml", text).unwrap();
    assert_eq!(machine.give(NOW + 24 * HOUR * S, 1.0, None).count(), 1);
    assert_eq!(machine.give(NOW + 25 * HOUR * S, 1.0, None).count(), 0);
}
