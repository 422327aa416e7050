//! Against a reference that goes through the calendar minute by minute.

use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn shown(text: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (Cron::parse(text).unwrap(), zone(zone_name));
    let mut at = ms(from);
    let next = std::iter::repeat_with(|| {
        at = cron.next(&zone, at).unwrap();
        Timestamp::from_millisecond(at).unwrap().to_string()
    });
    next.take(count).collect()
}

#[test]
fn fields_are_numbers_ranges_lists_steps_and_names() {
    assert_eq!(
        shown("*/20 8-9 * * *", "UTC", "2026-01-01T08:30:00Z", 3),
        ["2026-01-01T08:40:00Z", "2026-01-01T09:00:00Z", "2026-01-01T09:20:00Z"]
    );
    assert_eq!(
        shown("0 0 1 jan,JUL *", "UTC", "2026-01-01T00:00:00Z", 2),
        ["2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"]
    );
    // Either day is enough; Sunday is 7 as well.
    assert_eq!(
        shown("0 12 13 * 7", "UTC", "2026-11-09T00:00:00Z", 3),
        ["2026-11-13T12:00:00Z", "2026-11-15T12:00:00Z", "2026-11-22T12:00:00Z"]
    );
    assert_eq!(shown("5/30 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:05:00Z"]);
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    for (text, part) in [
        ("* * * *", "has 4 fields; allowed are five"),
        ("60 * * * *", "minute: \"60\" is none; allowed are 0 to 59"),
        ("* 5-3 * * *", "hour: \"5-3\" ends before it begins"),
        ("* * * * mo", "day of the week: \"mo\" is none"),
        ("*/0 * * * *", "minute: \"*/0\" has no step"),
        ("0 0 31 2,4 *", "never comes"),
        (", * * * *", "minute: \"\" is none"),
    ] {
        let error = Cron::parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn times_of_a_day_run_once_where_clocks_change_and_patterns_follow_the_clock() {
    // Berlin: 02:00 to 03:00 is skipped on 29 March 2026, and comes twice on 25 October 2026.
    assert_eq!(
        shown("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        shown("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        shown("0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]
    );
    assert_eq!(
        shown("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3),
        ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]
    );
    // A whole day that was skipped.
    assert_eq!(
        shown("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 2),
        ["2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"]
    );
}

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"];

/// Every instant of some days, found minute by minute of the calendar, and of the clock for patterns.
fn reference(cron: &Cron, zone: &TimeZone, from_ms: i64, days: i64) -> Vec<i64> {
    let fits = |time: DateTime| {
        has(cron.minutes, time.minute()) && has(cron.hours, time.hour()) && cron.has_date(time.date())
    };
    let minutes = (0..days * 1440).map(|minute| from_ms + minute * 60_000);
    let mut all: Vec<i64> = if cron.any_hour {
        let local = |at: &i64| zone.to_datetime(Timestamp::from_millisecond(*at).unwrap());
        minutes.filter(|at| fits(local(at))).collect()
    } else {
        // Local times as if they were of UTC, so that each is there once.
        let local = |at: i64| TimeZone::UTC.to_datetime(Timestamp::from_millisecond(at).unwrap());
        let found = minutes.map(local).filter(|time| fits(*time));
        found.map(|time| zone.to_timestamp(time).unwrap().as_millisecond()).collect()
    };
    all.sort_unstable();
    all.dedup();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn next_and_last_are_those_of_the_reference(
        minute in prop_oneof![Just("*".to_owned()), (0..60_u32).prop_map(|n| n.to_string()), (1..40_u32).prop_map(|n| format!("*/{n}"))],
        hour in prop_oneof![Just("*".to_owned()), (0..24_u32).prop_map(|n| n.to_string()), (0..23_u32).prop_map(|n| format!("{n}-23/2")), (1..9_u32).prop_map(|n| format!("*/{n}"))],
        day in prop_oneof![4 => Just("*".to_owned()), 1 => (1..28_u32).prop_map(|n| format!("{n}-31/3"))],
        weekday in prop_oneof![4 => Just("*".to_owned()), 1 => (0..8_u32).prop_map(|n| n.to_string())],
        zone_at in 0..ZONES.len(),
        // Around a change of clocks in most of the zones, and others.
        start in prop_oneof![Just("2026-03-28"), Just("2026-10-24"), Just("2026-03-07"), Just("2026-10-31"), Just("2026-04-04"), Just("2011-12-29")],
        probe in 0..5 * 1440_i64,
    ) {
        let cron = Cron::parse(&format!("{minute} {hour} {day} * {weekday}")).unwrap();
        let zone = zone(ZONES[zone_at]);
        let start = ms(&format!("{start}T00:00:00Z")) - 3 * 86_400_000;
        let all = reference(&cron, &zone, start, 11);
        let at = start + 3 * 86_400_000 + probe * 60_000 + 30_000;
        // What is not within the reference's days says nothing.
        if let Some(next) = all.iter().copied().find(|time| *time > at).filter(|next| next - at < 2 * 86_400_000) {
            prop_assert_eq!(cron.next(&zone, at), Some(next));
        }
        if let Some(last) = all.iter().rev().copied().find(|time| *time <= at).filter(|last| at - last < 2 * 86_400_000) {
            prop_assert_eq!(cron.last(&zone, at), Some(last));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,40}") {
        let _ = Cron::parse(&text);
    }
}

#[test]
fn a_day_that_is_some_day_of_the_week_only_now_and_then_comes() {
    assert_eq!(
        shown("0 0 */31 2 mon", "UTC", "2026-01-01T00:00:00Z", 2),
        ["2027-02-01T00:00:00Z", "2038-02-01T00:00:00Z"]
    );
    // Where a century has no leap day it takes twelve years.
    assert_eq!(shown("0 0 */31 3 fri", "UTC", "2097-03-02T00:00:00Z", 1), ["2109-03-01T00:00:00Z"]);
}
