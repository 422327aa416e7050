//! Joins of two devices, worked out by hand, each history also with a restart before every step.

use tideline_streams::spec::{
    Aggregate::{Count, Sum},
    Combine, Direction, JobSpec, Join, Window,
};
use tideline_streams::{Engine, Job};

use super::rig::{MS, Step, TEN, device, engine, joined_by, lines, restart, run, spec};

fn pairs(direction: Direction, window: Window) -> JobSpec {
    let aggregates: &[_] = if window == Window::Each { &[] } else { &[Count, Sum] };
    let mut spec = spec(window, aggregates);
    let join = joined_by(direction, Combine::Difference, 5);
    spec.join = Some(Join {
        left_device: Some("pump-1".to_owned()),
        right_device: Some("tank-2".to_owned()),
        ..join
    });
    spec
}

fn left(now: i64, rows: &[(i64, f64)]) -> Step {
    Step::Readings(now, vec![("pump-1", "t", rows.to_vec())])
}

fn right(now: i64, rows: &[(i64, f64)]) -> Step {
    Step::Readings(now, vec![("tank-2", "u", rows.to_vec())])
}

fn check(spec: &JobSpec, steps: &[Step], wanted: &[&str]) {
    assert_eq!(run(&mut engine(spec), steps), wanted);
    for cut in 0..=steps.len() {
        let mut job = engine(spec);
        let mut found = run(&mut job, &steps[..cut]);
        found.extend(run(&mut restart(&job), &steps[cut..]));
        assert_eq!(found, wanted, "restarted after {cut} steps");
    }
}

#[test]
fn a_reading_is_paired_with_one_of_another_device_once_both_have_come_so_far() {
    let steps = [
        left(1, &[(0, 10.0), (5, 20.0), (9, 30.0)]),
        // Other series of both are not read.
        Step::Readings(1, vec![("pump-1", "u", vec![(50, 1.0)]), ("tank-2", "t", vec![(50, 1.0)])]),
        right(1, &[(3, 1.0), (4, 2.0), (4, 3.0)]),
        right(2, &[(8, 4.0), (20, 5.0)]),
        left(3, &[(12, 40.0), (24, 50.0)]),
        // Behind its own device, but not behind both.
        left(3, &[(22, 60.0)]),
        left(3, &[(11, 0.0)]),
        right(4, &[(40, 6.0)]),
        Step::Drain(5),
    ];
    let wanted = [
        // 0 has no right reading before it. Of two of one time the later one to arrive.
        "pump-1/t [5,5] left=20 right=3 value=17",
        "pump-1/t [9,9] left=30 right=4 value=26",
        "pump-1/t [12,12] left=40 right=4 value=36",
        "side pump-1/t 11=0 late",
        "pump-1/t [22,22] left=60 right=5 value=55",
        "pump-1/t [24,24] left=50 right=5 value=45",
    ];
    let each = pairs(Direction::Backward, Window::Each);
    check(&each, &steps, &wanted);
    let mut job = engine(&each);
    run(&mut job, &steps);
    assert_eq!(job.totals().counts.unmatched, 1);
    let wanted = [
        "pump-1/t [0,10) count=2 sum=43",
        "pump-1/t [10,20) count=1 sum=36",
        "side pump-1/t 11=0 late",
        "pump-1/t [20,30) count=2 sum=100",
    ];
    check(&pairs(Direction::Backward, TEN), &steps, &wanted);
}

#[test]
fn the_nearest_of_another_device_is_waited_for_on_both_sides() {
    let steps = [
        left(1, &[(10, 1.0), (30, 2.0)]),
        right(1, &[(8, 5.0)]),
        right(1, &[(11, 7.0)]),
        // Up to 15 something nearer to 10 may come.
        right(1, &[(14, 9.0)]),
        right(1, &[(15, 9.0)]),
        right(1, &[(16, 9.0)]),
        Step::Drain(2),
    ];
    let wanted = ["pump-1/t [10,10] left=1 right=7 value=-6"];
    check(&pairs(Direction::Nearest, Window::Each), &steps, &wanted);
}

#[test]
fn a_silent_device_holds_up_the_other_until_its_time_out() {
    let mut idle = pairs(Direction::Backward, Window::Each);
    idle.time.idle_timeout_ms = Some(100);
    let mut job = engine(&idle);
    // The right one was never heard.
    assert_eq!(run(&mut job, &[left(1_000, &[(950, 1.0)]), Step::Tick(1_050)]), [""; 0]);
    assert_eq!(lines(&mut job, &left(1_090, &[(1_000, 2.0)])), [""; 0]);
    job = restart(&job);
    assert_eq!(lines(&mut job, &Step::Tick(1_101)), [""; 0]);
    assert_eq!((job.totals().counts.unmatched, job.devices().count()), (1, 2));
    assert_eq!(run(&mut job, &[right(1_110, &[(1_000, 5.0), (1_005, 1.0)])]), [""; 0]);
    let found = run(&mut job, &[left(1_120, &[(1_006, 3.0)])]);
    assert_eq!(found, ["pump-1/t [1000,1000] left=2 right=5 value=-3"]);
    // Without one it is waited for until it is forgotten.
    let mut job = engine(&pairs(Direction::Backward, Window::Each));
    let steps = [right(1, &[(1, 5.0)]), left(1, &[(3, 1.0)]), right(2, &[(2, 4.0)]), Step::Tick(900_000)];
    assert_eq!(run(&mut job, &steps), [""; 0]);
    job = restart(&job);
    let found = lines(&mut job, &Step::Forget(900_000, "tank-2"));
    assert_eq!(found, ["pump-1/t [3,3] left=1 right=4 value=-3"]);
    assert_eq!(restart(&job).device(&device("tank-2")), None);
}

#[test]
fn both_devices_find_room_or_none_does() {
    let mut small = pairs(Direction::Backward, Window::Each);
    small.limits.devices = 1;
    let mut job = engine(&small);
    assert_eq!(run(&mut job, &[left(1, &[(1, 1.0)])]), ["side pump-1/t 1=1 devices"]);
    assert_eq!(job.devices().count(), 0);
    small.limits.devices = 2;
    let mut job = engine(&small);
    assert_eq!(run(&mut job, &[left(1, &[(1, 1.0)])]), [""; 0]);
    assert_eq!(job.state_bytes(), restart(&job).state_bytes());
}

#[test]
fn devices_of_a_join_that_cannot_be_are_told() {
    let told = |left: Option<&str>, right: Option<&str>| {
        let mut spec = pairs(Direction::Backward, Window::Each);
        spec.source.devices = vec!["pump-*".to_owned(), "tank-*".to_owned()];
        let join = spec.join.take().unwrap();
        let (left_device, right_device) = (left.map(str::to_owned), right.map(str::to_owned));
        spec.join = Some(Join { left_device, right_device, ..join });
        Job::check(spec).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(told(Some("pump-1"), Some("tank-2")), Ok(()));
    assert!(told(Some("pump-1"), None).unwrap_err().starts_with("/join/right_device is left out"));
    assert!(told(None, Some("pump-1")).unwrap_err().starts_with("/join/left_device is left out"));
    assert!(
        told(Some("pump-1"), Some("pump-1")).unwrap_err().starts_with("/join/right_device is \"pump-1\"")
    );
    assert!(told(Some("fan"), Some("tank-2")).unwrap_err().contains("devices that fit source.devices"));
    assert!(told(Some("a b"), Some("tank-2")).unwrap_err().contains("ids of devices"));
    // One point of two devices is a pair too.
    let mut same = pairs(Direction::Backward, Window::Each);
    let join = same.join.take().unwrap();
    same.join = Some(Join { right: "t".to_owned(), ..join });
    let mut job: Engine = engine(&same);
    let steps = [left(1, &[(2, 9.0)]), Step::Readings(1, vec![("tank-2", "t", vec![(1, 4.0), (7, 1.0)])])];
    assert_eq!(run(&mut job, &steps), [""; 0]);
    assert_eq!(lines(&mut job, &left(1, &[(3, 1.0)])), ["pump-1/t [2,2] left=9 right=4 value=5"]);
    assert_eq!(job.device(&device("tank-2")).unwrap().watermark_ns, 7 * MS);
}
