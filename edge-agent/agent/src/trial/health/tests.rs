//! Who is blamed for what.

use super::*;
use crate::config::parse;

const BUS: &str = "[[source]]\nkind = \"modbus-tcp\"\nname = \"bus\"\naddress = \"10.0.0.1\"\n";

fn device(id: &str, source: &str, unit: u8) -> String {
    format!(
        "[[device]]\nid = {id:?}\nsource = {source:?}\nprofile = \"modbus-template\"\naddress = \"{unit}\"\n"
    )
}

fn sources(text: &str) -> Vec<SourceConfig> {
    parse("agent.toml", text, &[]).unwrap().sources
}

/// A status of sources that run, but for those that are named with what is wrong, and of their devices.
fn status(sources: &[(&str, &str)], devices: &[(&str, &str, &str, u64, u64)]) -> Status {
    let mut status = Status::default();
    for (name, error) in sources {
        let state = if error.is_empty() { SourceState::Running } else { SourceState::Retrying };
        let last_error = Some((*error).to_owned()).filter(|error| !error.is_empty());
        let source = status.sources.entry((*name).to_owned()).or_default();
        (source.name, source.state, source.last_error) = ((*name).to_owned(), state, last_error);
    }
    for (source, id, state, readings, bad_values) in devices {
        let shown = status.sources.get_mut(*source).unwrap().device(id).unwrap();
        (*state).clone_into(&mut shown.state);
        (shown.readings, shown.bad_values) = (*readings, *bad_values);
        shown.last_error = Some(format!("error of {id}"));
    }
    status
}

fn subject(source: &str, device: &str) -> Subject {
    Subject { source: source.to_owned(), device: device.to_owned() }
}

fn was(marks: &[Mark]) -> Vec<(&str, &str, Was)> {
    marks.iter().map(|mark| (mark.subject.source.as_str(), mark.subject.device.as_str(), mark.was)).collect()
}

fn names(of: &[Complaint]) -> Vec<String> {
    of.iter().map(|(subject, _)| subject.to_string()).collect()
}

#[test]
fn measured_is_what_differs_and_by_how_it_did_before() {
    let good = sources(&format!(
        "{BUS}{}{}{}{}{}[[source]]\nkind = \"host\"\nname = \"host\"\n",
        device("a", "bus", 1),
        device("b", "bus", 2),
        device("c", "bus", 3),
        device("d", "bus", 4),
        device("e", "bus", 5),
    ));
    let devices = [
        ("bus", "a", "answers", 9, 0),
        ("bus", "b", "silent", 9, 0),
        ("bus", "c", "refuses", 9, 2),
        ("bus", "d", "answers", 0, 0),
        ("bus", "e", "answers", 7, 7),
    ];
    let status = status(&[("bus", ""), ("host", "")], &devices);
    let measured = |wanted: &str, known: &[Mark]| {
        measure((&good, &sources(wanted)), known, &status, &Tallies::default())
    };
    // Another address of the bus touches all that is behind it; what is new is.
    let all = ["a", "b", "c", "d", "e", "f"].map(|id| device(id, "bus", id.as_bytes()[0] - 96)).concat();
    let wanted =
        format!("{}{all}[[source]]\nkind = \"host\"\nname = \"host\"\n", BUS.replace("10.0.0.1", "10.0.0.2"));
    let marks = measured(&wanted, &[]);
    assert_eq!(
        was(&marks),
        [
            ("bus", "", Was::Well),
            ("bus", "a", Was::Well),
            ("bus", "b", Was::Unwell),
            ("bus", "c", Was::Partly),
            ("bus", "d", Was::Quiet),
            ("bus", "e", Was::Partly),
            ("bus", "f", Was::New),
        ]
    );
    // Another unit of one device touches it, and the bus, which begins anew.
    let one = format!("{BUS}{}{}", device("a", "bus", 1), device("b", "bus", 9));
    assert_eq!(was(&measured(&one, &[])), [("bus", "", Was::Well), ("bus", "b", Was::Unwell)]);
    // Of one that moves it is known how it did where it was, and of what an earlier trial has broken how it did before that.
    let moved = format!("{}{}", BUS.replace("\"bus\"", "\"new\""), device("a", "new", 1));
    assert_eq!(was(&measured(&moved, &[])), [("new", "", Was::New), ("new", "a", Was::Well)]);
    let known = [Mark { subject: subject("bus", "b"), was: Was::Well }];
    assert_eq!(was(&measured(&one, &known)), [("bus", "", Was::Well), ("bus", "b", Was::Well)]);
    // What is not touched is not measured, whatever it does.
    assert!(measure((&good, &good), &[], &status, &Tallies::default()).is_empty());
}

#[test]
fn blamed_is_what_worked_and_does_not_and_nothing_else() {
    let mark = |device: &str, was| Mark { subject: subject("bus", device), was };
    let judged = |was, state: &str, readings, bad| {
        let status = status(&[("bus", "")], &[("bus", "a", state, readings, bad)]);
        let verdict =
            judge(&[mark("", Was::Well), mark("a", was)], &status, &Tallies::default(), &mut BTreeSet::new());
        (verdict.broken.len(), verdict.pending.len(), verdict.unwell.len())
    };
    let (fine, broken, pending, unwell) = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1));
    for (was, silent, refuses, nothing) in [
        (Was::Well, broken, broken, broken),
        (Was::Quiet, broken, broken, pending),
        (Was::Partly, broken, unwell, pending),
        (Was::Unwell, unwell, unwell, unwell),
        (Was::New, pending, pending, pending),
    ] {
        assert_eq!(judged(was, "answers", 5, 4), fine, "{was:?}");
        assert_eq!(judged(was, "silent", 5, 0), silent, "{was:?}");
        assert_eq!(judged(was, "refuses", 5, 0), refuses, "{was:?}");
        assert_eq!(judged(was, "answers", 5, 5), refuses, "{was:?}: all is ruled out");
        assert_eq!(judged(was, "", 0, 0), nothing, "{was:?}");
    }
}

#[test]
fn what_has_shown_that_it_works_is_not_blamed_for_what_comes_then() {
    let marks = [Mark { subject: subject("bus", "a"), was: Was::Well }];
    let mut proven = BTreeSet::new();
    let mut judge = |state: &str| {
        let status = status(&[("bus", "")], &[("bus", "a", state, 5, 0)]);
        super::judge(&marks, &status, &Tallies::default(), &mut proven)
    };
    assert_eq!(judge("silent").broken.len(), 1);
    assert_eq!(judge("answers"), Verdict::default());
    assert_eq!(judge("silent"), Verdict::default());
}

#[test]
fn a_source_that_fails_is_told_with_its_error_and_without_its_devices() {
    let marks = ["", "a", "b"].map(|device| Mark { subject: subject("bus", device), was: Was::Well });
    let status_of =
        |error| status(&[("bus", error)], &[("bus", "a", "silent", 1, 0), ("bus", "b", "answers", 1, 0)]);
    let judged = |error| judge(&marks, &status_of(error), &Tallies::default(), &mut BTreeSet::new());
    assert_eq!(told(&judged("no such port").broken), "source bus does not run: no such port");
    assert_eq!(
        told(&judged("").broken),
        "device a of source bus answered before and does not do now: error of a"
    );
    assert_eq!(names(&judged("").broken), ["device a of source bus"]);
    let many: Vec<Complaint> = (0..7).map(|at| (subject(&format!("s{at}"), ""), String::new())).collect();
    assert!(told(&many).ends_with("source s4 does not run; and 2 more"), "{}", told(&many));
    // One that was taken out of the configuration is told no more.
    assert!(is_unwell(&subject("bus", "a"), &status_of(""), &Tallies::default()));
    assert!(!is_unwell(&subject("gone", ""), &status_of(""), &Tallies::default()));
}

#[test]
fn what_a_device_has_said_lately_is_counted_anew_by_each_trial() {
    let at = |readings, bad| status(&[("bus", "")], &[("bus", "a", "answers", readings, bad)]);
    let mut tallies = Tallies::default();
    tallies.note(&at(100, 0), 60_000, 0);
    tallies.note(&at(100, 0), 60_000, 59_999);
    tallies.note(&at(100, 0), 60_000, 60_000);
    tallies.note(&at(100, 0), 60_000, 120_000);
    let subject = subject("bus", "a");
    assert_eq!(before_it(&subject, &at(100, 0), &tallies), Was::Quiet);
    assert_eq!(before_it(&subject, &at(101, 0), &tallies), Was::Well);
    tallies.begin(&at(101, 0), 130_000);
    assert!(matches!(doing(&subject, &at(105, 4), &tallies), Doing::Partly(_)));
    assert_eq!(doing(&subject, &at(106, 4), &tallies), Doing::Well);
}

#[test]
fn a_source_without_devices_that_gave_readings_has_to_give_some() {
    let at = |accepted, unchanged, spoke| {
        let mut status = status(&[("log", "")], &[]);
        let source = status.sources.get_mut("log").unwrap();
        (source.accepted, source.unchanged, source.spoke) = (accepted, unchanged, spoke);
        status
    };
    let log = subject("log", "");
    let mut tallies = Tallies::default();
    tallies.note(&at(100, 5, true), 60_000, 0);
    tallies.note(&at(100, 5, true), 60_000, 60_000);
    // What is silent anyway proves nothing.
    assert_eq!(before_it(&log, &at(100, 5, true), &tallies), Was::Quiet);
    assert_eq!(before_it(&log, &at(101, 5, true), &tallies), Was::Well);
    assert_eq!(before_it(&log, &at(100, 6, false), &tallies), Was::Well);
    let judged = |was, status: &Status| {
        let marks = [Mark { subject: log.clone(), was }];
        told(&judge(&marks, status, &tallies, &mut BTreeSet::new()).broken)
    };
    assert_eq!(judged(Was::Well, &at(101, 5, false)), "source log gives no reading, and did before");
    for (was, spoke) in [(Was::Well, true), (Was::Quiet, false), (Was::New, false), (Was::Unwell, false)] {
        assert_eq!(judged(was, &at(101, 5, spoke)), "", "{was:?}");
    }
    // With all read, it has nothing more to give.
    let mut ended = at(101, 5, false);
    ended.sources.get_mut("log").unwrap().state = SourceState::Ended;
    assert_eq!(judged(Was::Well, &ended), "");
    assert!(!is_unwell(&log, &at(101, 5, false), &tallies));
}
