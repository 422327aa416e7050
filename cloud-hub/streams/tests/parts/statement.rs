//! Windows of a statement, each history also with a restart before every step.

use tideline_streams::limits::{ATTEMPTS_MAX, FAILURES_MAX};
use tideline_streams::spec::{JobSpec, Later, Window};
use tideline_streams::{Answered, Asked, Came, Engine, Event, Job, StatementRow};

use super::rig::{self, MS, Series, Step, TEN, device, engine, line, lines, one, restart};

const SECOND: i64 = 1_000;

fn spec(window: Window) -> JobSpec {
    let mut spec = rig::spec(window, &[]);
    spec.sql = Some("SELECT device, count(*) AS n FROM readings GROUP BY device".to_owned());
    spec.time.idle_timeout_ms = Some(100);
    spec
}

/// Readings of several devices.
fn of(at: i64, rows: &[(&'static str, i64)]) -> Step {
    let series = |(device, ms): &(&'static str, i64)| -> Series { (*device, "t", vec![(*ms, 1.0)]) };
    Step::Readings(at, rows.iter().map(series).collect())
}

fn row(count: f64) -> StatementRow {
    let numbers = vec![("n".to_owned(), count)];
    StatementRow { device: device("pump"), point: None, numbers, texts: Vec::new() }
}

fn windows(job: &Engine) -> Vec<(i64, i64, bool)> {
    let of = |asked: &Asked| (asked.start_ns / MS, asked.end_ns / MS, asked.again);
    job.asked(usize::MAX).iter().map(of).collect()
}

/// Answers one window at a time of the hub's clock.
fn answer(job: &mut Engine, at: i64, asked: &Asked, came: Came<'_>) -> Vec<String> {
    let outputs = job.handle(at * MS, Event::Answered(Answered { asked, came }));
    outputs.iter().map(line).collect()
}

/// Answers all windows that are asked for with a row each.
fn answer_all(job: &mut Engine, at: i64, count: f64) -> Vec<String> {
    let asked = job.asked(usize::MAX);
    asked.iter().flat_map(|asked| answer(job, at, asked, Came::Rows(&[row(count)]))).collect()
}

#[test]
fn a_window_is_asked_for_once_no_device_has_readings_for_it_any_more() {
    let mut job = engine(&spec(TEN));
    for step in [of(1, &[("a", 3), ("b", 4)]), of(2, &[("a", 35)])] {
        assert_eq!(lines(&mut job, &step), [""; 0]);
        job = restart(&job);
        assert_eq!(windows(&job), []);
    }
    // The slower one is at 12: the first window is closed, and the one in which nothing was is not asked for.
    assert_eq!(lines(&mut job, &of(3, &[("b", 12)])), [""; 0]);
    assert_eq!(windows(&restart(&job)), [(0, 10, false)]);
    assert_eq!(answer_all(&mut job, 3, 2.0), ["row pump [0,10) n=2"]);
    assert_eq!(windows(&job), []);
    // One that is silent for a while holds up nobody.
    rig::run(&mut job, &[of(90, &[("a", 60)]), Step::Tick(150)]);
    assert_eq!(windows(&restart(&job)), [(10, 20, false), (30, 40, false)]);
    assert_eq!(answer_all(&mut job, 150, 1.0), ["row pump [10,20) n=1", "row pump [30,40) n=1"]);
    let view = job.statement().unwrap();
    assert_eq!((view.watermark_ns / MS, view.answered, view.again, view.due), (50, 3, 0, 0));
}

#[test]
fn a_late_reading_has_its_windows_asked_for_again_and_no_others() {
    let mut late = spec(Window::Hopping { length_ms: 20, hop_ms: 10 });
    late.late.allowed_ms = 10;
    late.time.idle_timeout_ms = Some(1_000_000);
    let mut job = engine(&late);
    rig::run(&mut job, &[of(1, &[("a", 5)]), of(2, &[("a", 15)]), of(3, &[("a", 30)])]);
    assert_eq!(windows(&job), [(-10, 10, false), (0, 20, false), (10, 30, false)]);
    assert_eq!(answer_all(&mut job, 4, 1.0).len(), 3);
    // Of the windows of 12, [0,20) is no longer kept, and of those of 5 none is.
    let found = lines(&mut job, &of(5, &[("a", 12), ("a", 5)]));
    assert_eq!(found, ["side a/t 5=1 late"]);
    assert_eq!(windows(&job), [], "late readings are gathered");
    job = restart(&job);
    rig::run(&mut job, &[Step::Tick(5 + SECOND)]);
    assert_eq!(windows(&job), [(10, 30, true)]);
    let asked = job.asked(1);
    // What comes while it is run has it run again.
    lines(&mut job, &of(6 + SECOND, &[("a", 13)]));
    let found = answer(&mut job, 7 + SECOND, &asked[0], Came::Rows(&[row(2.0), row(3.0)]));
    assert_eq!(found, ["void [10,30)", "late row pump [10,30) n=2", "late row pump [10,30) n=3"]);
    rig::run(&mut job, &[Step::Tick(8 + 2 * SECOND)]);
    assert_eq!(windows(&restart(&job)), [(10, 30, true)]);
    let asked = job.asked(1);
    assert_eq!(answer(&mut job, 9 + 2 * SECOND, &asked[0], Came::Rows(&[])), ["void [10,30)"]);
    let (view, totals) = (job.statement().unwrap(), job.totals());
    assert_eq!((view.answered, view.again, view.due), (5, 2, 0));
    assert_eq!((totals.results, totals.late_results, totals.counts.late), (5, 2, 3));
}

#[test]
fn with_update_readings_of_any_age_have_their_windows_asked_for_again() {
    let mut update = spec(TEN);
    update.late.then = Later::Update;
    let mut job = engine(&update);
    rig::run(&mut job, &[one("t", &[(5, 1.0)]), one("t", &[(1_000, 1.0)])]);
    assert_eq!(answer_all(&mut job, 1, 1.0).len(), 1);
    assert_eq!(lines(&mut job, &one("t", &[(-500, f64::NAN), (7, 1.0)])), [""; 0]);
    rig::run(&mut job, &[Step::Tick(50)]);
    assert_eq!(windows(&job), []);
    rig::run(&mut restart(&job), &[Step::Tick(SECOND + 50)]);
    rig::run(&mut job, &[Step::Resumed(SECOND + 50)]);
    assert_eq!(windows(&job), [(-500, -490, true), (0, 10, true)]);
}

#[test]
fn a_run_that_fails_is_tried_again_so_often_and_then_told() {
    let mut job = engine(&spec(TEN));
    rig::run(&mut job, &[of(1, &[("a", 5)]), of(2, &[("a", 15)]), of(2, &[("a", 25)])]);
    let asked = job.asked(usize::MAX);
    assert_eq!(asked.len(), 2);
    let mut at = 10;
    for attempt in 1..ATTEMPTS_MAX {
        assert_eq!(answer(&mut job, at, &asked[0], Came::Failed("too slow")), [""; 0]);
        job = restart(&job);
        let view = job.statement().unwrap();
        let waiting = &view.waiting[0];
        assert_eq!((waiting.start_ns, waiting.attempts, &*waiting.reason), (0, attempt, "too slow"));
        assert_eq!(windows(&job), [(10, 20, false)], "the other does not wait for it");
        at = waiting.at_ns / MS;
        rig::run(&mut job, &[Step::Resumed(at)]);
        assert_eq!(windows(&job), [(0, 10, false), (10, 20, false)]);
    }
    assert_eq!(answer(&mut job, at, &asked[0], Came::Failed("too slow")), [""; 0]);
    assert_eq!(answer(&mut job, at, &asked[1], Came::Lost("gone")), [""; 0]);
    let view = restart(&job).statement().unwrap();
    let told =
        |at: usize| (view.failures[at].start_ns / MS, view.failures[at].attempts, &*view.failures[at].reason);
    assert_eq!((told(0), told(1)), ((0, ATTEMPTS_MAX, "too slow"), (10, 1, "gone")));
    assert_eq!((view.failed, view.retried, view.due), (2, u64::from(ATTEMPTS_MAX) - 1, 0));
    // An answer that nobody waits for any more changes nothing.
    assert_eq!(answer(&mut job, at, &asked[0], Came::Rows(&[row(1.0)])), [""; 0]);
}

#[test]
fn the_windows_that_were_given_up_of_which_is_told_are_the_newest() {
    let mut job = engine(&spec(TEN));
    for start in 0..=i64::try_from(FAILURES_MAX).unwrap() + 1 {
        rig::run(&mut job, &[of(1, &[("a", start * 10)])]);
    }
    for asked in job.asked(usize::MAX) {
        answer(&mut job, 2, &asked, Came::Lost("gone"));
    }
    let view = restart(&job).statement().unwrap();
    assert_eq!((view.failed, view.failures.len()), (FAILURES_MAX as u64 + 1, FAILURES_MAX));
    assert_eq!(view.failures[0].start_ns, 10 * MS);
}

#[test]
fn windows_that_wait_count_for_the_limit() {
    let mut small = spec(Window::Hopping { length_ms: 20, hop_ms: 10 });
    small.limits.open_windows = 3;
    let mut job = engine(&small);
    assert_eq!(rig::run(&mut job, &[of(1, &[("a", 5)]), of(1, &[("a", 9)])]), [""; 0]);
    assert_eq!(job.open_windows(), 2);
    assert_eq!(lines(&mut job, &of(1, &[("a", 12)])), ["side a/t 12=1 open_windows"]);
    // It moved the watermark all the same, and what that closed is to be answered.
    assert_eq!((job.open_windows(), restart(&job).open_windows()), (2, 2));
    rig::run(&mut job, &[of(1, &[("a", 40)])]);
    assert_eq!(windows(&job), [(-10, 10, false), (0, 20, false)]);
    answer_all(&mut job, 1, 1.0);
    assert_eq!(job.open_windows(), 0);
}

#[test]
fn what_a_statement_does_not_go_with_is_told() {
    let told = |change: &dyn Fn(&mut JobSpec)| {
        let mut spec = spec(TEN);
        change(&mut spec);
        Job::check(spec).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        told(&|spec| spec.window = Window::Session { gap_ms: 5 }),
        "/window/kind is another one; allowed are tumbling and hopping with sql"
    );
    assert!(told(&|spec| spec.time.idle_timeout_ms = None).starts_with("/time/idle_timeout_ms is null"));
    assert!(told(&|spec| spec.sql = Some(" ".to_owned())).starts_with("/sql is 1 bytes long"));
    let hops = Window::Hopping { length_ms: 610, hop_ms: 10 };
    assert!(told(&|spec| spec.window = hops.clone()).contains("1 to 60 times window.hop_ms with sql"));
    let other = spec(TEN);
    let saved = engine(&other).save().unwrap();
    let changed = JobSpec { sql: Some("SELECT 1".to_owned()), ..other };
    assert!(Engine::restore(Job::check(changed).unwrap(), &saved).is_err());
}
