//! The command line, as an installer types it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tideline_spool::{Spool, SpoolConfig, encode_boxed, journal_path};

struct Said {
    good: bool,
    out: String,
    err: String,
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-agent"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("TIDELINE_") {
            command.env_remove(variable);
        }
    }
    command.args(args).arg("--data").arg(folder).env_remove("RUST_LOG");
    // A hub's variable must not reach the agent.
    command.env("TIDELINE_HTTP_LISTEN", "no address");
    command
}

fn run(folder: &Path, args: &[&str]) -> Said {
    let output = command(folder, args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { good: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

fn json(said: &Said) -> serde_json::Value {
    serde_json::from_str(&said.out).unwrap()
}

/// Three batches of four readings.
fn fill(spool: &mut Spool) {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef::new(device, point, "l/s".into())).unwrap();
    for batch in 0..3 {
        let samples: Vec<_> = (0..4).map(|row| Sample { time_ns: batch * 10 + row, value: 2.5 }).collect();
        spool.append(&[(series, &samples)], &[]).unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn store_commands_look_at_a_spool_and_leave_it_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.redb");
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    fill(&mut spool);
    let epoch = spool.epoch().to_string();
    let files = [path.clone(), journal_path(&path)];
    let read = || files.each_ref().map(|file| std::fs::read(file).unwrap());
    let killed = read();
    spool.flush().unwrap();
    drop(spool);
    for (bytes, closed_cleanly) in [(read(), true), (killed, false)] {
        files.iter().zip(&bytes).for_each(|(file, bytes)| std::fs::write(file, bytes).unwrap());
        let found = json(&run(folder.path(), &["store", "inspect", "--json"]));
        assert_eq!((&found["epoch"], &found["batches"]), (&epoch.clone().into(), &3.into()));
        assert_eq!(found["closed_cleanly"], closed_cleanly);
        let said = run(folder.path(), &["store", "inspect"]);
        assert!(said.good && said.out.contains("closed cleanly"), "{}", said.out);
        let found = json(&run(folder.path(), &["store", "verify", "--json"]));
        assert_eq!((&found["ok"], &found["rows"]), (&true.into(), &12.into()));
        let said = run(folder.path(), &["store", "export"]);
        assert_eq!(said.out.lines().count(), 13, "{}", said.out);
        assert!(said.out.contains("\n3,pump-7,flow,l/s,23,2.5,good\n"), "{}", said.out);
        let args = ["store", "export", "--series", "pump-7/flow", "--from", "1970-01-01T00:00:00.000000023Z"];
        assert_eq!(run(folder.path(), &args).out.lines().count(), 2, "the header and the last reading");
        let args = ["store", "export", "--to", "0"];
        assert_eq!(run(folder.path(), &args).out.lines().count(), 1, "the header");
        let said = run(folder.path(), &["store", "export", "--series", "pump-7/flaw"]);
        assert!(!said.good && said.err.contains("no series \"pump-7/flaw\""), "{}", said.err);
        assert!(read() == bytes);
        assert_eq!(names(folder.path()), ["spool.journal", "spool.redb"]);
    }
}

#[test]
fn an_export_quotes_what_a_csv_has_to_quote() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open_file(&folder.path().join("spool.redb"), SpoolConfig::default()).unwrap();
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let unit = "\"l\",\ns".to_owned();
    let series = spool.series_no(&SeriesDef::new(device, point, unit.clone())).unwrap();
    spool.append(&[(series, &[Sample { time_ns: -1, value: 1e21 }])], &[]).unwrap();
    spool.flush().unwrap();
    drop(spool);
    let said = run(folder.path(), &["store", "export"]);
    assert!(
        said.out.ends_with("\n1,pump-7,flow,\"\"\"l\"\",\ns\",-1,1000000000000000000000,good\n"),
        "{}",
        said.out
    );
    let mut rows = csv::Reader::from_reader(said.out.as_bytes());
    let row = rows.records().next().unwrap().unwrap();
    assert_eq!((row.len(), row.get(3)), (7, Some(unit.as_str())));
}

#[test]
fn an_export_shows_values_of_all_kinds_with_their_quality() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open_file(&folder.path().join("spool.redb"), SpoolConfig::default()).unwrap();
    let device = DeviceId::parse("pump-7").unwrap();
    let mut boxes = Boxes::new();
    let batch: Vec<_> = [
        (ValueKind::Int, Value::Int(i64::MIN), Quality::Good),
        (ValueKind::Bool, Value::Bool(true), Quality::Good),
        (ValueKind::Text, Value::Text("a, \"b\"".into()), Quality::Good),
        (ValueKind::Float, Value::Float(7.5), Quality::Bad),
        (ValueKind::Int, Value::Null, Quality::Uncertain),
    ]
    .into_iter()
    .zip(0..)
    .map(|((kind, value, quality), n)| {
        let point = PointId::parse(&format!("p{n}")).unwrap();
        let def = SeriesDef::new(device.clone(), point, String::new()).of_kind(kind);
        (spool.series_no(&def).unwrap(), [Sample { time_ns: n, value: boxes.word(value, quality) }])
    })
    .collect();
    let items: Vec<_> = batch.iter().map(|(series, samples)| (*series, &samples[..])).collect();
    spool.append_encoded(&encode_boxed(&items, &boxes).unwrap(), &[]).unwrap();
    drop(spool);
    let said = run(folder.path(), &["store", "export"]);
    let rows: Vec<&str> = said.out.lines().collect();
    assert_eq!(
        rows,
        [
            "seq,device,point,unit,time_ns,value,quality",
            "1,pump-7,p0,,0,-9223372036854775808,good",
            "1,pump-7,p1,,1,true,good",
            "1,pump-7,p2,,2,\"a, \"\"b\"\"\",good",
            "1,pump-7,p3,,3,7.5,bad",
            "1,pump-7,p4,,4,,uncertain",
        ]
    );
    let said = run(folder.path(), &["store", "export", "--json"]);
    let rows: Vec<serde_json::Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<_> = rows.iter().map(|row| (&row["value"], row.get("quality"))).collect();
    let (bad, uncertain) = (json!("bad"), json!("uncertain"));
    assert_eq!(
        shown,
        [
            (&json!(i64::MIN), None),
            (&json!(true), None),
            (&json!("a, \"b\""), None),
            (&json!(7.5), Some(&bad)),
            (&json!(null), Some(&uncertain)),
        ]
    );
}

#[test]
fn an_unreadable_spool_is_told_and_only_repair_touches_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.redb");
    std::fs::write(&path, "this is no database").unwrap();
    for command in ["inspect", "verify", "export"] {
        let said = run(folder.path(), &["store", command]);
        assert!(!said.good && said.err.contains("cannot be read"), "{}", said.err);
        assert!(said.err.contains("`edge-agent store repair`"), "{}", said.err);
        assert_eq!(names(folder.path()), ["spool.redb"]);
    }
    let said = run(folder.path(), &["store", "repair", "--json"]);
    assert!(said.good, "{}", said.err);
    let found = json(&said);
    assert_eq!((&found["new_epoch"], &found["head"]), (&true.into(), &0.into()));
    let aside = found["quarantined"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "this is no database");
    assert!(run(folder.path(), &["store", "verify"]).good);
    let again = run(folder.path(), &["store", "repair"]);
    assert!(again.good && again.out.contains("new epoch       no"), "{}", again.out);
}

#[test]
fn a_damaged_batch_is_left_out_of_an_export_and_repaired_to_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.redb");
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    fill(&mut spool);
    let (head, one) = (spool.head(), tideline_protocol::model::Seq::new(2));
    let block = spool.load_run(one, one, 1 << 20, 100).unwrap().unwrap().block;
    spool.flush().unwrap();
    drop(spool);
    let mut bytes = std::fs::read(&path).unwrap();
    // Blocks are alike but for their times; the pages of former states hold them, too.
    for at in 0..bytes.len() - block.len() {
        if bytes[at..at + block.len()] == block {
            bytes[at + block.len() / 2] ^= 1;
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    let said = run(folder.path(), &["store", "export"]);
    assert!(!said.good && said.err.contains("1 batches cannot be read"), "{}", said.err);
    assert_eq!(said.out.lines().count(), 9, "{}", said.out);
    let said = run(folder.path(), &["store", "verify"]);
    assert!(!said.good && said.out.contains("seq 2: its checksum is wrong"), "{}", said.out);
    assert!(std::fs::read(&path).unwrap() == bytes);
    let found = json(&run(folder.path(), &["store", "repair", "--json"]));
    assert_eq!((&found["given_up_seqs"], &found["new_epoch"]), (&serde_json::json!([2]), &false.into()));
    assert_eq!((&found["head"], &found["account"]["dropped"]), (&head.get().into(), &4.into()));
    assert!(run(folder.path(), &["store", "verify"]).good);
}

#[test]
fn without_a_spool_or_beside_an_agent_they_say_so() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["inspect", "verify", "export", "repair"] {
        let said = run(folder.path(), &["store", command]);
        assert!(!said.good && said.err.contains("spool.redb does not exist"), "{}", said.err);
    }
    assert!(names(folder.path()).is_empty());
    let _agents = Spool::open_file(&folder.path().join("spool.redb"), SpoolConfig::default()).unwrap();
    for command in ["inspect", "verify", "export", "repair"] {
        let said = run(folder.path(), &["store", command]);
        assert!(!said.good && said.err.contains("an agent runs on"), "{}", said.err);
    }
    for command in ["status", "sync"] {
        let said = run(folder.path(), &[command]);
        assert!(!said.good && said.err.contains("no agent runs on"), "{}", said.err);
    }
}

#[test]
fn a_configuration_is_told_all_that_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "[batch]\nrows_max = 0\n\n[http]\nport = 1\n[[source]]\nkind = \"modem\"\n")
        .unwrap();
    let said = run(folder.path(), &["config", "check", "--config", file.to_str().unwrap()]);
    assert!(!said.good);
    for part in [
        "agent.toml:2: batch.rows_max: must be a whole number from 1 to 500000",
        "agent.toml:5: http.port: unknown key; allowed are listen",
        "agent.toml:7: source.kind: must be one of host, replay",
    ] {
        assert!(said.err.contains(part), "{part} is not in {}", said.err);
    }
    assert_eq!(said.err.matches("source.kind").count(), 1, "{}", said.err);
    let said = run(folder.path(), &["config", "print"]);
    assert!(said.good && said.out.contains("TIDELINE_AGENT_HTTP_LISTEN"), "{}", said.out);
    let said = run(folder.path(), &["sync", "--timeout", "soon"]);
    assert!(!said.good && said.err.contains("allowed is for example 30s"), "{}", said.err);
}

#[test]
fn an_output_that_nobody_reads_ends_quietly_and_an_error_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open_file(&folder.path().join("spool.redb"), SpoolConfig::default()).unwrap();
    fill(&mut spool);
    drop(spool);
    for args in [&["config", "print"][..], &["store", "inspect"], &["store", "export"], &["store", "verify"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(folder.path(), args).stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(141), ""), "{args:?}");
    }
    let output = command(folder.path(), &["status"]).env("RUST_BACKTRACE", "1").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("edge-agent: no agent runs on ") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_lost_journal_is_told_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.redb");
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    fill(&mut spool);
    drop(spool);
    std::fs::write(journal_path(&path), b"").unwrap();
    let said = run(folder.path(), &["store", "verify"]);
    assert!(!said.good && said.out.contains("the journal is lost"), "{}", said.out);
    assert!(said.err.contains("the spool has problems") && !said.err.contains('\u{1b}'), "{}", said.err);
    let found = json(&run(folder.path(), &["store", "inspect", "--json"]));
    assert!(found["uncounted_batches"].as_u64() >= Some(3), "{found}");
}

#[test]
fn a_program_gets_no_more_memory_than_it_may_have() {
    let fill = "x=$(head -c 50000000 /dev/zero | tr '\\0' a) && echo ${#x}";
    for (megabytes, fits) in [(32_u64, false), (4_096, true)] {
        let memory = (megabytes << 20).to_string();
        let mut limited = Command::new(env!("CARGO_BIN_EXE_edge-agent"));
        let output =
            limited.args(["limited", "--memory", &memory, "--", "/bin/sh", "-c", fill]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((output.status.success(), said == "50000000\n"), (fits, fits), "{megabytes} MB: {said}");
    }
}
