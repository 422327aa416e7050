//! Trials as a hub makes them, with what becomes of each.

use super::*;

const TRIAL_MS: u64 = 60_000;

fn layer(rows: u64) -> Json {
    json!({"batch": {"rows_max": rows}})
}

fn fine(_: &HubLayer) -> Result<(), String> {
    Ok(())
}

fn unwell() -> Result<(), Unwell> {
    Err(Unwell::Alone("not connected".to_owned()))
}

fn rows(trials: &Trials) -> Option<u64> {
    trials.in_force().json()["batch"]["rows_max"].as_u64()
}

/// A start of the agent with what is durable.
fn restart(trials: &Trials, now_ms: u64) -> Trials {
    let bytes = serde_json::to_vec(&trials.kept()).unwrap();
    Trials::open(&serde_json::from_slice(&bytes).unwrap(), TRIAL_MS, now_ms)
}

#[test]
fn of_a_layer_that_is_refused_nothing_is_told_but_why_and_nothing_once_it_was_taken_back() {
    let secret = json!({"source": {"bus": {"kind": "mqtt", "url": "mqtt://u:secret@127.0.0.1:1883"}}});
    for layer in [secret, json!({"program": false, "x": "secret"}), json!("secret")] {
        let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
        assert!(trials.want(&layer, 0, fine));
        assert!(!trials.want(&layer, 1, fine), "it was refused");
        let told = trials.report(&[]);
        assert!(told["refused"]["reason"].is_string(), "{told}");
        let kept = serde_json::to_string(&trials.kept()).unwrap();
        assert!(!told.to_string().contains("secret@") && !told.to_string().contains("\"secret"), "{told}");
        assert!(!kept.contains("secret@") && !kept.contains("\"secret"), "{kept}");
        assert!(trials.want(&Json::Null, 2, fine));
        assert_eq!(trials.report(&[]), Json::Null);
        // Wanted again, it is new.
        assert!(trials.want(&layer, 3, fine));
    }
    // As older agents kept it.
    let digest = "text {\"x\":\"secret\"}".to_owned();
    let refused = Some(Refused { digest, reason: "no".to_owned(), retries: None, is_gone: false });
    let mut trials = Trials::open(&Kept { refused, ..Kept::default() }, TRIAL_MS, 0);
    assert_eq!(trials.report(&[])["refused"]["version"].as_str().map(str::len), Some(16));
    assert!(!trials.want(&json!({"x": "secret"}), 0, fine), "it is known to be wrong");
}

#[test]
fn a_layer_stays_when_the_agent_is_well_at_a_stretch() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    assert!(trials.want(&layer(1), 0, fine));
    assert!(!trials.want(&layer(1), 1, fine), "it is on trial");
    assert!(!trials.look(Ok(()), false, 5_000));
    assert!(!trials.look(unwell(), false, 14_000));
    assert!(!trials.look(Ok(()), false, 16_000));
    assert!(!trials.look(Ok(()), false, 25_999));
    assert_eq!(trials.report(&[])["state"], "trial");
    assert!(trials.look(Ok(()), false, 26_000));
    assert_eq!((rows(&trials), trials.is_on_trial()), (Some(1), false));
    assert_eq!(trials.report(&["http.listen".into()])["needs_restart"][0], "http.listen");
    assert_eq!(rows(&restart(&trials, 0)), Some(1));
}

#[test]
fn a_layer_that_cuts_the_agent_off_is_taken_back_told_and_not_tried_again() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    trials.want(&layer(1), 0, fine);
    trials.look(Ok(()), false, 0);
    trials.look(Ok(()), false, WELL_MS);
    trials.want(&layer(2), 100_000, fine);
    assert!(!trials.look(unwell(), false, 100_000 + TRIAL_MS - 1));
    assert!(trials.look(unwell(), false, 100_000 + TRIAL_MS));
    assert_eq!(rows(&trials), Some(1));
    let refused = &trials.report(&[])["refused"];
    assert_eq!(refused["version"], HubLayer::read(&layer(2)).unwrap().digest());
    assert_eq!(refused["reason"], "within 60 s of its trial the agent was not well: not connected");
    assert!(!trials.want(&layer(2), 200_000, fine));
    assert!(!restart(&trials, 0).want(&layer(2), 0, fine), "nor after a start");
    assert!(trials.want(&layer(3), 200_000, fine));
    trials.look(Ok(()), false, 300_000);
    assert!(trials.look(Ok(()), false, 300_000 + WELL_MS));
    assert_eq!(trials.report(&[]).get("refused"), None);
}

#[test]
fn what_had_no_connection_is_tried_again_and_not_often() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    assert!(trials.want(&layer(1), 0, fine));
    assert!(trials.look(unwell(), false, TRIAL_MS));
    let mut now_ms = TRIAL_MS;
    for well_ms in [TRIAL_MS, 2 * TRIAL_MS, 4 * TRIAL_MS, DAY_MS, DAY_MS] {
        // How long it was before the connection was lost again does not count.
        trials.look(Ok(()), false, now_ms);
        now_ms += well_ms - 1;
        trials.look(unwell(), false, now_ms);
        trials.look(Ok(()), false, now_ms);
        assert!(!trials.is_due(now_ms + well_ms - 1) && !trials.want(&layer(1), now_ms + well_ms - 1, fine));
        now_ms += well_ms;
        trials.look(Ok(()), false, now_ms);
        assert!(trials.is_due(now_ms) && trials.want(&layer(1), now_ms, fine), "{well_ms}");
        assert!(trials.is_on_trial() && !trials.is_due(now_ms));
        now_ms += TRIAL_MS;
        // A start of the agent forgets nothing of how often.
        assert!(trials.look(unwell(), false, now_ms));
        trials = restart(&trials, now_ms);
    }
    trials.look(Ok(()), false, now_ms);
    trials.look(Ok(()), false, now_ms + DAY_MS);
    trials.want(&layer(1), now_ms + DAY_MS, fine);
    trials.look(Ok(()), false, now_ms + DAY_MS);
    assert!(trials.look(Ok(()), false, now_ms + DAY_MS + WELL_MS), "the hub is there this time");
    assert_eq!((rows(&trials), trials.kept().refused), (Some(1), None));
}

#[test]
fn what_broke_something_is_tried_again_only_when_it_was_taken_away_and_is_set_again() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    trials.want(&layer(1), 0, fine);
    assert!(trials.look(Err(Unwell::Broken("source meter does not run".into())), false, TRIAL_MS));
    trials.look(Ok(()), false, TRIAL_MS);
    trials.look(Ok(()), false, 2 * DAY_MS);
    assert!(!trials.is_due(2 * DAY_MS) && !trials.want(&layer(1), 2 * DAY_MS, fine));
    assert!(trials.want(&Json::Null, 2 * DAY_MS, fine), "that it was taken away is to be kept");
    assert!(!trials.want(&Json::Null, 2 * DAY_MS, fine));
    let mut trials = restart(&trials, 0);
    assert_eq!(trials.report(&[]), Json::Null, "nothing of it is wanted any more");
    assert!(trials.want(&layer(1), 0, fine) && trials.is_on_trial());
    assert!(trials.look(unwell(), false, TRIAL_MS));
    assert_eq!(trials.kept().refused.unwrap().retries, Some(0), "it is counted anew");
}

#[test]
fn what_waits_for_a_restart_is_not_proven_before_it() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    trials.want(&layer(1), 0, fine);
    for now_ms in [0, WELL_MS, TRIAL_MS, 10 * TRIAL_MS] {
        assert!(!trials.look(Ok(()), true, now_ms));
    }
    assert!(trials.is_on_trial());
    // A start that fails with it is one of those that are counted, until the last good one is in force.
    for _ in 0..=STARTS_MAX {
        trials = restart(&trials, 0);
    }
    assert_eq!((rows(&trials), trials.is_on_trial()), (None, false));
    // A start that goes well proves it.
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    trials.want(&layer(2), 0, fine);
    let subject = Subject { source: "meter".into(), device: "m1".into() };
    let marks = vec![Mark { subject, was: health::Was::Well }];
    trials.begin_with(marks.clone());
    let mut trials = restart(&trials, 0);
    assert_eq!(trials.marks(), marks);
    trials.look(Ok(()), false, 0);
    assert!(trials.look(Ok(()), false, WELL_MS));
    assert_eq!(rows(&trials), Some(2));
}

#[test]
fn what_is_new_gets_the_time_of_the_trial_and_is_told_until_it_works() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    trials.want(&layer(1), 0, fine);
    for now_ms in [0, WELL_MS, TRIAL_MS - 1] {
        assert!(!trials.look(Err(Unwell::Pending), false, now_ms));
    }
    assert!(trials.look(Err(Unwell::Pending), false, TRIAL_MS));
    assert_eq!((rows(&trials), trials.is_on_trial()), (Some(1), false));
    let meter = Subject { source: "meter".into(), device: String::new() };
    trials.stays_with(&[(meter.clone(), "no such host".to_owned())]);
    let mut trials = restart(&trials, 0);
    assert_eq!(trials.report(&[])["unwell"], json!(["source meter: no such host"]));
    assert!(!trials.heal(|subject| *subject == meter));
    assert!(trials.heal(|_| false), "that it works is to be kept");
    assert_eq!(trials.report(&[]).get("unwell"), None);
    // What waits for a restart is not proven before that either.
    trials.want(&layer(2), 0, fine);
    assert!(!trials.look(Err(Unwell::Pending), true, TRIAL_MS) && trials.is_on_trial());
    assert!(!trials.look(Err(Unwell::Pending), false, 2 * TRIAL_MS - 1));
    assert!(trials.look(Err(Unwell::Pending), false, 2 * TRIAL_MS));
}

#[test]
fn a_layer_that_is_wrong_is_never_in_force() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    assert!(trials.want(&json!({"cellar": {}}), 0, |_| Err("unknown section".into())));
    assert!(trials.in_force().is_empty() && !trials.is_on_trial());
    assert_eq!(trials.report(&[])["refused"]["reason"], "unknown section");
    assert!(trials.want(&json!([1]), 0, fine));
    assert_eq!(trials.report(&[])["refused"]["reason"], "the hub's layer: must be an object of sections");
    assert!(!trials.want(&json!([1]), 0, fine), "told once");
    assert!(trials.want(&Json::Null, 0, fine), "that it was taken away is to be kept");
    assert!(!trials.want(&Json::Null, 0, fine), "nothing is wanted and nothing is there");
}

#[test]
fn starts_amid_a_trial_go_on_with_it_and_too_many_end_it() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    trials.want(&layer(1), 0, fine);
    for _ in 0..STARTS_MAX {
        trials = restart(&trials, 0);
        assert_eq!((rows(&trials), trials.is_on_trial()), (Some(1), true));
    }
    trials = restart(&trials, 0);
    assert_eq!((rows(&trials), trials.is_on_trial()), (None, false));
    assert!(trials.report(&[])["refused"]["reason"].as_str().unwrap().contains("started 3 times"));
}

#[test]
fn what_is_taken_back_at_the_hub_needs_no_trial() {
    let mut trials = Trials::open(&Kept::default(), TRIAL_MS, 0);
    trials.want(&layer(1), 0, fine);
    assert!(trials.want(&Json::Null, 5, fine));
    assert!(trials.in_force().is_empty() && !trials.is_on_trial());
    // Another one amid a trial takes its place, and the good one stays what it was.
    trials.want(&layer(2), 10, fine);
    trials.want(&layer(3), 20, fine);
    assert!(trials.look(unwell(), false, 20 + TRIAL_MS));
    assert!(trials.in_force().is_empty());
}
