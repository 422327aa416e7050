//! The samples that ship, and what tests of samples tell.

use super::*;
use crate::shipped;

#[test]
fn all_samples_that_ship_are_as_expected() {
    for shipped in shipped::ALL {
        let profile = shipped.profile().unwrap();
        let mut agreed = BTreeSet::new();
        for (name, text) in shipped.samples {
            let sample = Sample::parse(name, text).unwrap();
            assert!(!sample.about.is_empty(), "{}/{name}", shipped.name);
            let report = test(&profile, &sample);
            assert_eq!(report.problems, Vec::<String>::new(), "{}/{name}", shipped.name);
            assert!(!report.agreed.is_empty(), "{}/{name}", shipped.name);
            agreed.extend(report.agreed);
        }
        let untested: Vec<String> = points(&profile).difference(&agreed).cloned().collect();
        assert!(untested.is_empty(), "{} has points without a sample: {}", shipped.name, untested.join(", "));
    }
}

#[test]
fn whatever_is_not_as_expected_is_told() {
    let text = "name = \"x\"\n[modbus]\n[points]\n\
        a = { unit = \"V\", min = 0, max = 9, address = \"input:0\", encoding = \"u16\" }\n\
        b = { unit = \"V\", min = 0, max = 9, address = \"input:1\", encoding = \"u16\" }\n\
        c = { unit = \"V\", min = 0, max = 9, address = \"input:2\", encoding = \"u16\" }\n\
        d = { unit = \"V\", min = 0, max = 9, address = \"input:3\", encoding = \"u32\" }\n";
    let profile = Profile::parse("x.toml", text).unwrap();
    let sample = "about = \"x\"\nbad = [\"a\", \"d\"]\n[[came]]\nregisters = \"input:0\"\nhex = \"0001 0002 000a 0000\"\n\
        [expected]\nb = 3\nd = 1\n";
    let report = test(&profile, &Sample::parse("s.toml", sample).unwrap());
    let expected = [
        "b is 2 (good); expected is 3",
        "d has no reading; expected is 1",
        "a is 1; expected is no value",
        "c c is 10 V; profile x allows 0 to 9 (raw 000a)",
        "d has no reading; expected is one without a value",
    ];
    assert_eq!(report.problems, expected);
}

#[test]
fn what_is_wrong_with_a_sample_is_told() {
    let error =
        Sample::parse("s.toml", "about = 1\nexpects = {}\n[[came]]\nregister = \"input:0\"\n").unwrap_err();
    let said = error.to_string();
    for part in [
        "s.toml:1: sample.about: must be a text",
        "s.toml:2: sample.expects: unknown key; did you mean expected?",
        "s.toml:4: sample.came.0.register: unknown key; did you mean registers?",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let profile = Profile::parse("x.toml", "name = \"x\"\n[modbus]\n[points]\n").unwrap();
    for (came, part) in [
        ("registers = \"inputs:0\"\nhex = \"00\"", "is no address"),
        ("registers = \"input:0\"\nhex = \"00\"", "four digits"),
        ("registers = \"input:0\"\nhex = \"+123\"", "four digits"),
        ("registers = \"input:65535\"\nhex = \"00000000\"", "beyond register 65535"),
        ("topic = \"x\"", "registers and hex are needed"),
    ] {
        let sample = Sample::parse("s.toml", &format!("[[came]]\n{came}\n")).unwrap();
        let report = test(&profile, &sample);
        assert!(report.problems.concat().contains(part), "{:?}", report.problems);
    }
}
