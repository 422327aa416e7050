//! What is kept, and what is not said of times at which nobody looked.

use super::*;

const START_MS: i64 = 1_800_000_000_000;

fn at(ms: i64) -> Now {
    Now { mono_ms: u64::try_from(ms).unwrap(), wall_ms: START_MS + ms }
}

fn sight(device: &str, is_there: bool, readings: u64) -> Sight<'_> {
    Sight { device, is_agent: false, is_there, readings, last_ms: None }
}

fn hours(pulse: &Pulse, now_ms: i64, device: &str, dropped: Dropped) -> String {
    pulse.beats(START_MS + now_ms, [(device, dropped)]).pop().unwrap().hours
}

#[test]
fn a_slot_keeps_the_worst_of_its_moments_and_the_sum_of_what_came() {
    let pulse = Pulse::default();
    let sample = |online, backlog, stored, free| Sample {
        online,
        backlog,
        stored,
        free_bytes: Some(free),
        ..Sample::default()
    };
    pulse.note(at(0), &sample(5, 0, 1_000, 9), []);
    pulse.note(at(10_000), &sample(3, 7, 1_500, 8), []);
    pulse.note(at(20_000), &sample(4, 2, 1_700, 8), []);
    let noted = pulse.noted();
    assert_eq!(noted.since_ms, Some(START_MS));
    let [minute] = noted.minutes.as_slice() else { panic!("{noted:?}") };
    assert_eq!((minute.online, minute.backlog, minute.free_bytes), (3, 7, Some(8)));
    assert_eq!(
        (minute.stored, minute.watched_ms),
        (700, 20_000),
        "what came before the first look is not of now"
    );
    assert_eq!(noted.hours.len(), 1);
}

#[test]
fn rings_are_bounded_and_slots_without_a_look_are_not_there() {
    let pulse = Pulse::default();
    for minute in (0..400).filter(|minute| *minute != 390) {
        pulse.note(at(minute * MINUTE_MS), &Sample::default(), []);
    }
    let noted = pulse.noted();
    assert_eq!(noted.minutes.len(), MINUTES_MAX - 1);
    let missing = START_MS + 390 * MINUTE_MS;
    assert!(noted.minutes.iter().all(|slot| slot.from_ms != missing));
    assert_eq!(noted.minutes.last().unwrap().from_ms, START_MS + 399 * MINUTE_MS);
}

#[test]
fn a_clock_that_is_set_back_leaves_no_slots_ahead_of_it() {
    let pulse = Pulse::default();
    (0..5).for_each(|n| pulse.note(at(n * HOUR_MS), &Sample::default(), [sight("d", true, 1)]));
    pulse.note(at(HOUR_MS), &Sample::default(), [sight("d", true, 2)]);
    assert_eq!(pulse.noted().hours.len(), 2);
    assert_eq!(hours(&pulse, HOUR_MS, "d", Dropped::default()), format!("{}o", ".".repeat(23)));
}

#[test]
fn a_device_is_heard_of_by_its_readings_and_away_with_its_agent() {
    let pulse = Pulse::default();
    let note = |hour: i64, is_there, readings| {
        pulse.note(at(hour * HOUR_MS), &Sample::default(), [sight("valve", is_there, readings)]);
    };
    note(0, true, 10);
    note(1, true, 12);
    note(2, true, 12);
    note(3, false, 12);
    note(4, false, 12);
    note(4, true, 13);
    let mut dropped = Dropped::default();
    dropped.add(START_MS + 6 * HOUR_MS, START_MS + 3 * HOUR_MS, START_MS + 3 * HOUR_MS + 1);
    assert_eq!(hours(&pulse, 6 * HOUR_MS, "valve", Dropped::default()), format!("{}sosag..", ".".repeat(17)));
    assert_eq!(hours(&pulse, 6 * HOUR_MS, "valve", dropped), format!("{}sosxg..", ".".repeat(17)));
    assert_eq!(hours(&pulse, 0, "unknown", Dropped::default()), ".".repeat(24));
}

#[test]
fn an_agents_own_device_is_heard_of_while_its_agent_is_there() {
    let pulse = Pulse::default();
    let own = Sight { is_agent: true, ..sight("gw", true, 0) };
    pulse.note(at(0), &Sample::default(), [own]);
    assert!(hours(&pulse, 0, "gw", Dropped::default()).ends_with('o'));
}

#[test]
fn devices_that_are_gone_are_forgotten() {
    let pulse = Pulse::default();
    pulse.note(at(0), &Sample::default(), [sight("a", true, 1), sight("b", true, 1)]);
    pulse.note(at(1), &Sample::default(), [sight("b", true, 1)]);
    assert_eq!(pulse.inner().devices.len(), 1);
}

proptest::proptest! {
    #[test]
    fn the_slots_between_two_moments_are_those_that_overlap(now in 0_i64..400, from in -100_i64..500, long in 0_i64..200) {
        let bits = marks::between(now * 10, from * 10, (from + long) * 10, 10);
        for ago in 0..64_u32 {
            let slot = now - i64::from(ago);
            let overlaps = from <= slot && slot <= from + long;
            proptest::prop_assert_eq!((bits >> ago) & 1 == 1, overlaps, "slot {}", slot);
        }
    }

    #[test]
    fn no_moment_of_a_gap_is_too_far(now: i64, from: i64, to: i64) {
        let mut dropped = Dropped::default();
        dropped.add(now, from, to);
        proptest::prop_assert_eq!(Marks::default().text(now, 60, dropped.minutes).len(), 60);
    }
}
