//! Trials of pipelines over files, from the text of both to what is told.

use std::time::Duration;

use super::*;

const CONFIG: &str = r#"
[agent]
data_dir = "/nowhere"

[[pipeline]]
name = "boiler"
from = "boiler/*"

[[pipeline.stage]]
name = "sane"
kind = "range"
max = 150
otherwise = "drop"

[[pipeline.stage]]
name = "hot"
kind = "rule"
condition = "above"
limit = 90
message = "too hot"
write = { device = "valve", point = "open", fired = true }

[[pipeline.stage]]
name = "minutes"
kind = "window"
length_ms = 60_000
aggregates = ["max"]
wait_ms = 0

[[pipeline]]
name = "other"
from = "*/flow"
"#;

fn trial(input: (&str, &str), change: impl FnOnce(&mut Trial)) -> anyhow::Result<String> {
    let folder = tempfile::tempdir().unwrap();
    let (config, file) = (folder.path().join("agent.toml"), folder.path().join(input.0));
    std::fs::write(&config, CONFIG).unwrap();
    std::fs::write(&file, input.1).unwrap();
    let mut trial = Trial { config, input: file, ..Trial::default() };
    change(&mut trial);
    let mut out = Vec::new();
    test(&trial, &mut out)?;
    let text = String::from_utf8(out).unwrap();
    Ok(text.replace(&format!("{}/", folder.path().display()), ""))
}

const LONG: &str = "seq,device,point,unit,time_ns,value,quality
1,boiler,t,Cel,1700000000000000000,95.5,good
1,boiler,t,Cel,1700000030000000000,999,good
1,boiler,t,Cel,1700000031000000000,broken,good
1,boiler,mode,,1700000031000000000,on,good
1,boiler,t,Cel,1700000032000000000,7,good
1,boiler,t,Cel,noon,7,good
1,pump,t,Cel,1700000050000000000,1,good
1,boiler,t,Cel,1700000060000000000,,bad
";

#[test]
fn an_export_is_run_and_each_stage_tells_what_it_did() {
    let told = trial(("export.csv", LONG), |_| {}).unwrap();
    let wanted = r#"event    2023-11-14T22:13:20Z boiler.hot fired (warning) boiler/t = 95.5: too hot
event    2023-11-14T22:13:52Z boiler.hot cleared (warning) boiler/t = 7: too hot
write    2023-11-14T22:13:20Z boiler.hot valve/open = true
dead     1 of boiler/mode at boiler.sane: a text is no number; the first at 2023-11-14T22:13:51Z: "on"
dead     1 of boiler/t at boiler.sane: a text is no number; the first at 2023-11-14T22:13:51Z: "broken"
rejected export.csv:7: time_ns noon is no whole number
stage    boiler.sane (range): 6 in, 3 out, 1 dropped, 2 dead letters
stage    boiler.hot (rule): 3 in, 3 out, 2 events, 1 writes, 1 series kept
stage    boiler.minutes (window): 3 in, 1 out, 1 series kept, 1 windows open
readings 7 in, 2 out
"#;
    assert_eq!(told, wanted);
}

#[test]
fn a_device_is_traced_through_all_stages() {
    let told = trial(("export.csv", LONG), |trial| trial.trace = Some("boiler".parse().unwrap())).unwrap();
    let steps: Vec<&str> = told.lines().filter(|line| line.starts_with("trace")).collect();
    let wanted = [
        "trace    boiler/t 2023-11-14T22:13:20Z 95.5 Cel: boiler.sane -> 95.5 Cel",
        "trace    boiler/t 2023-11-14T22:13:20Z 95.5 Cel: boiler.hot -> 95.5 Cel",
        "trace    boiler/t 2023-11-14T22:13:20Z 95.5 Cel: boiler.minutes -> kept back",
        "trace    boiler/t 2023-11-14T22:13:50Z 999 Cel: boiler.sane -> kept back",
        "trace    boiler/t 2023-11-14T22:13:51Z \"broken\": boiler.sane -> dead letter: a text is no number",
    ];
    assert_eq!(steps[..5], wanted);
}

#[test]
fn columns_of_one_device_are_run_and_time_passes_afterwards() {
    let rows = "{\"timestamp\":\"2023-11-14T22:13:20Z\",\"t\":20.5,\"note\":\"x\"}\n{\"timestamp\":1700000010000,\"t\":30}\n";
    let told = trial(("rows.ndjson", rows), |trial| {
        trial.device = Some("boiler".parse().unwrap());
        (trial.then, trial.results) = (Duration::from_secs(600), true);
        trial.pipeline = Some("boiler".into());
    });
    let told = told.unwrap();
    assert!(told.contains("result   boiler/t/max 2023-11-14T22:13:00Z 30\n"), "{told}");
    assert!(told.contains("stage    boiler.minutes (window): 2 in, 1 out, 1 series kept\n"), "{told}");
    assert!(told.ends_with("readings 3 in, 1 out\n"), "{told}");
}

#[test]
fn a_report_is_json_when_that_is_asked_for() {
    let told = trial(("export.csv", LONG), |trial| (trial.json, trial.results) = (true, true)).unwrap();
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&report["readings"], &report["rejected"]), (&7.into(), &1.into()));
    assert_eq!(report["stages"][0]["dead_letters"], 2);
    assert_eq!(report["events"][0]["change"], "fired");
    assert_eq!(report["actions"][0]["device"], "valve");
    assert_eq!(report["dead_letters"][0]["reason"], "a text is no number");
}

#[test]
fn what_cannot_be_tried_out_is_told_with_what_is_allowed() {
    let told = |input, change: fn(&mut Trial)| trial(input, change).unwrap_err().to_string();
    let wrong = told(("export.csv", LONG), |trial| trial.pipeline = Some("boilr".into()));
    assert!(
        wrong.starts_with("there is no pipeline \"boilr\"") && wrong.ends_with("allowed are boiler, other")
    );
    assert!(told(("rows.txt", ""), |_| {}).ends_with("allowed are .csv and .ndjson"));
    assert!(told(("rows.csv", "timestamp,t\n1,2\n"), |_| {}).ends_with("give --device"));
    assert!(told(("rows.csv", ""), |_| {}).ends_with("it is empty"));
    let broken = told(("export.csv", LONG), |trial| {
        let text = CONFIG.replace("max = 150", "mx = 150");
        std::fs::write(&trial.config, text).unwrap();
    });
    assert!(broken.contains("agent.toml:12: pipeline boiler, stage sane, mx: is an unknown key"), "{broken}");
}
