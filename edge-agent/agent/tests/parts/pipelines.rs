//! Pipelines in a running agent: what is killed, changed or silent in the middle.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use edge_agent::cards::Cards;
use edge_agent::clock::Ahead;
use edge_agent::config;
use edge_agent::flow::{self, Flow};
use edge_agent::intake::{Batching, Chunk, Intake, Piped, QUEUE_MAX};
use edge_agent::source::Writes;
use edge_agent::spooler::{Loaded, SpoolHandle};
use edge_agent::status::Board;
use tideline_protocol::block;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::time::Clock;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::hub::Hub;
use crate::process::{Agent, command, output, until};
use crate::profile::{Simulated, words};
use crate::{LONG, readings, spool};

const ROWS: u64 = 30_000;
const PER_WINDOW: u64 = 100;

fn write(path: &Path, hub: &Hub, pipelines: &str) {
    hub.enrol(path);
    let rows = path.join("rows.csv");
    let source = format!("[[source]]\nkind = \"replay\"\npath = {rows:?}\nrate = 6000\ndevice = \"pump\"\n");
    let rest = "[http]\nlisten = \"\"\n[uplink]\nhub = \"no port\"\n[batch]\nflush_interval_ms = 20\n";
    std::fs::write(path.join("agent.toml"), format!("{rest}{source}{pipelines}")).unwrap();
}

/// The exported readings by point: times in ms and values.
fn exported(path: &Path) -> BTreeMap<String, Vec<(u64, f64)>> {
    let said = output(path, &["store", "export", "--json"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let mut all: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for line in String::from_utf8(said.stdout).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let (ms, value) = (row["time_ns"].as_u64().unwrap() / 1_000_000, row["value"].as_f64().unwrap());
        all.entry(row["point"].as_str().unwrap().to_owned()).or_default().push((ms, value));
    }
    all.values_mut().for_each(|rows| rows.sort_by(|a, b| a.partial_cmp(b).unwrap()));
    all
}

const WINDOW: &str = "[[pipeline]]\nname = \"sums\"\nfrom = \"pump/flow\"\n[[pipeline.stage]]\nname = \"w\"\nkind = \"window\"\nlength_ms = 100\nwait_ms = 7\nidle_ms = 0\naggregates = [\"count\", \"sum\"]\n";
const OTHER: &str = "[[pipeline]]\nname = \"other\"\nfrom = \"pump/flow\"\nkeep = true\n[[pipeline.stage]]\nname = \"n\"\nkind = \"discard\"\n";

/// Rows of one ms each; the value of a row is its number.
#[tokio::test(flavor = "multi_thread")]
async fn each_window_is_there_once_whatever_is_killed_and_changed_in_the_middle_of_a_replay() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let path = folder.path();
    let mut rows = String::from("timestamp,flow\n");
    (0..ROWS).for_each(|row| writeln!(rows, "{row},{row}").unwrap());
    std::fs::write(path.join("rows.csv"), rows).unwrap();
    write(path, &hub, WINDOW);
    let mut agent = Agent(command(path, &["run"]).stderr(Stdio::null()).spawn().unwrap());
    let mut produced = 0;
    for kill in 1..=4 {
        until(path, |status| status.account.produced > produced + 20).await;
        if kill == 2 {
            // Changed pipelines begin anew; the one that stays goes on.
            write(path, &hub, &format!("{WINDOW}{OTHER}"));
            agent.signal("-HUP");
            until(path, |status| status.pipelines.len() == 2).await;
            write(path, &hub, WINDOW);
            agent.signal("-HUP");
            until(path, |status| status.pipelines.len() == 1).await;
        }
        agent.0.kill().unwrap();
        agent.0.wait().unwrap();
        agent = Agent(command(path, &["run"]).stderr(Stdio::null()).spawn().unwrap());
        produced = until(path, |status| !status.epoch.is_empty()).await.account.produced;
    }
    let status = until(path, |status| status.sources.values().any(|source| source.done)).await;
    assert_eq!(status.pipelines[0].stages[0].open_windows, 1, "{:?}", status.pipelines);
    agent.signal("-TERM");
    agent.ended().await;
    let found = exported(path);
    // The last one is open: nothing came after it.
    let windows = ROWS / PER_WINDOW - 1;
    let count: Vec<_> = (0..windows).map(|n| (n * PER_WINDOW, PER_WINDOW as f64)).collect();
    let sum = |n: u64| (n * PER_WINDOW..(n + 1) * PER_WINDOW).sum::<u64>() as f64;
    let sums: Vec<_> = (0..windows).map(|n| (n * PER_WINDOW, sum(n))).collect();
    assert_eq!(found.get("flow/count"), Some(&count));
    assert_eq!(found.get("flow/sum"), Some(&sums));
    // While there was another pipeline that keeps what it takes, some went on as they came, each once.
    let kept = found.get("flow").cloned().unwrap_or_default();
    assert!(kept.windows(2).all(|two| two[0].0 < two[1].0), "doubled");
}

/// A level that stays at 60, and three points that can be written.
const TANK: &str = r#"
format = 1
name = "tank"
[identity]
vendor = "any"
model = "any"
title = "Tank"
[modbus]
[collection.default]
interval_ms = 100
[points]
level = { type = "int", unit = "%", min = 0, max = 100, address = "input:0", encoding = "u16", simulate = { low = 60, high = 60 } }
mark = { unit = "%", min = 0, max = 100, address = "holding:0", encoding = "u16", scale = 0.1, access = "read-write", simulate = { low = 0, high = 0 } }
low = { unit = "%", min = 0, max = 50, address = "holding:1", encoding = "u16", access = "read-write", simulate = { low = 0, high = 0 } }
outlet = { type = "bool", address = "coil:0", access = "read-write" }
"#;

/// Half the level is written to one point, the level itself to one that does not take so much, and a rule opens the outlet.
const WRITES: &str = r#"
[[pipeline]]
name = "p"
from = "tank-1/level"
[[pipeline.stage]]
name = "half"
kind = "scale"
factor = 0.5
[[pipeline.stage]]
name = "marked"
kind = "write"
point = "mark"
[[pipeline.stage]]
name = "too-much"
kind = "write"
point = "low"
after = "from"
[[pipeline.stage]]
name = "high"
kind = "rule"
condition = "above"
limit = 50
write = { point = "outlet", fired = true, cleared = false }
after = "from"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_stages_write_is_in_the_registers_of_a_device_and_what_it_does_not_take_is_a_dead_letter() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let path = folder.path();
    let profile = path.join("tank.toml");
    std::fs::write(&profile, TANK).unwrap();
    let device = Simulated::start(profile.to_str().unwrap(), "1000");
    let mut other = device.connect();
    assert_eq!((words(&mut other, 3, 0, 2), coil(&mut other)), (vec![0, 0], false));
    hub.enrol(path);
    let source = format!(
        "[[source]]\nkind = \"modbus-tcp\"\nname = \"bus\"\naddress = {:?}\n[[device]]\nid = \"tank-1\"\nsource = \"bus\"\nprofile = {profile:?}\naddress = \"1\"\n",
        device.address
    );
    let rest = "[http]\nlisten = \"\"\n[uplink]\nhub = \"no port\"\n[batch]\nflush_interval_ms = 20\n";
    std::fs::write(path.join("agent.toml"), format!("{rest}{source}{WRITES}")).unwrap();
    let _agent = Agent(command(path, &["run"]).stderr(Stdio::null()).spawn().unwrap());
    // Whoever else asks the device finds it there.
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    let there = async {
        while words(&mut other, 3, 0, 1) != [300] || !coil(&mut other) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LONG, there).await.expect("it is never written");
    let status = until(path, |status| !status.dead_letters.is_empty()).await;
    let letter = &status.dead_letters[0];
    assert_eq!((letter.stage.as_str(), letter.point.as_str()), ("too-much", "low"), "{letter:?}");
    assert!(letter.reason.contains("50"), "{}", letter.reason);
    assert_eq!(words(&mut other, 3, 1, 1), [0]);
    let stage =
        |name: &str| status.pipelines[0].stages.iter().find(|stage| stage.stage == name).cloned().unwrap();
    assert_eq!((stage("marked").dead_letters, stage("high").events, stage("high").dead_letters), (0, 1, 0));
}

/// Whether the first coil is on.
fn coil(stream: &mut std::net::TcpStream) -> bool {
    crate::profile::ask(stream, 9, &[1, 0, 0, 0, 1]) == [1, 1, 1]
}

/// The machine's clock, as far as tests move it.
#[derive(Debug)]
struct Virtual(Instant);

impl Clock for Virtual {
    fn wall_ns(&self) -> i64 {
        1_700_000_000_000_000_000 + i64::try_from(self.mono_ns()).unwrap()
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap()
    }
}

fn intake(spool: &SpoolHandle, inbox: mpsc::Receiver<Chunk>, text: &str, board: &Board) -> Intake {
    let plan = config::parse("a.toml", text, &[]).unwrap().pipelines;
    let flow = Flow::new(flow::Parts {
        key: "pipelines".into(),
        home: "default".into(),
        streams: ["default".into()].into(),
        clock: Arc::new(Virtual(Instant::now())),
        boot: [7; 16],
        plan: watch::Sender::new(Arc::new(plan)).subscribe(),
        cards: Cards::default().seen(),
        traced: watch::channel(None).1,
        board: board.clone(),
    });
    let batching = Batching { flush_interval: std::time::Duration::from_millis(20), rows_max: 1_000 };
    Intake {
        stream: "default".into(),
        urgent: Default::default(),
        inbox,
        spool: spool.clone(),
        batching: watch::channel(batching).1,
        board: board.clone(),
        piped: Some(Piped { flow, writes: Writes::default() }),
    }
}

/// How many readings of each point are held.
async fn held(spool: &SpoolHandle) -> BTreeMap<String, usize> {
    let defs = spool.series(0, 99).await.unwrap();
    let mut all = BTreeMap::new();
    let head = spool.state().borrow().head.get();
    let Loaded::Run(run) = spool.load(RangeSet::of(1, head), 1 << 20).await.unwrap() else { return all };
    for column in block::decode(&run.block, &run.rows, run.first).unwrap().columns {
        let def = &defs[usize::try_from(column.series).unwrap()];
        *all.entry(def.point.to_string()).or_default() += column.times.len();
    }
    all
}

const ABSENCE: &str = "[[pipeline]]\nname = \"p\"\nfrom = \"*/flow\"\n[[pipeline.stage]]\nname = \"gone\"\nkind = \"rule\"\ncondition = \"absence\"\nfor_ms = 30_000\nwrite = { point = \"open\", fired = true }\n";

#[tokio::test(start_paused = true)]
async fn time_passes_for_pipelines_while_every_source_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let board = Board::default();
    let spool = spool(folder.path(), &board);
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let task = tokio::spawn(intake(&spool, inbox, ABSENCE, &board).run());
    let clock = Virtual(Instant::now());
    let mut rows = readings(1);
    rows[0].1[0].time_ns = clock.wall_ns();
    out.send(Chunk { rows, clock: Some(Ahead::of(&clock)), ..Chunk::default() }).await.unwrap();
    // Nothing comes any more, and the way in stays open.
    let mut state = spool.state();
    state.wait_for(|state| state.account.produced == 2).await.unwrap();
    assert_eq!(held(&spool).await, [("flow".to_owned(), 1), ("p/gone/flow".to_owned(), 1)].into());
    // No source writes to that device, which costs the write.
    let status = crate::until_shown(&board, |status| !status.dead_letters.is_empty()).await;
    assert!(status.dead_letters[0].reason.contains("no running source writes to device pump-7"));
    assert_eq!(status.pipelines[0].stages[0].dead_letters, 1);
    drop(out);
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_traced_while_the_agent_runs_and_dead_letters_can_be_read() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let path = folder.path();
    let text = "[[pipeline]]\nname = \"p\"\nfrom = \"pump/*\"\n[[pipeline.stage]]\nname = \"positive\"\nkind = \"expression\"\nvalue = \"value > 0.0 ? value : quality\"\n";
    let rows = (0..400_000).fold(String::from("timestamp,flow\n"), |mut text, row| {
        writeln!(text, "{row},{}", row % 2).unwrap();
        text
    });
    std::fs::write(path.join("rows.csv"), rows).unwrap();
    write(path, &hub, text);
    let _agent = Agent(command(path, &["run"]).stderr(Stdio::null()).spawn().unwrap());
    until(path, |status| !status.dead_letters.is_empty()).await;
    let said = output(path, &["pipeline", "dead"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("p.positive pump/flow") && said.contains("of another type"), "{said}");
    let mut trace =
        tokio::process::Command::from(command(path, &["pipeline", "trace", "pump", "--for", "1h"]));
    let mut trace = trace.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(trace.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.starts_with("trace    pump/flow ") && line.contains("p.positive -> "), "{line}");
    let second = output(path, &["pipeline", "trace", "pump", "--for", "1"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("pump is traced already"));
    trace.kill().await.unwrap();
    // Who reads it has gone, and so another may begin; it ends by itself.
    let ended = async {
        loop {
            let said = output(path, &["pipeline", "trace", "pump", "--for", "0"]);
            if said.status.success() {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, ended).await.unwrap();
}
