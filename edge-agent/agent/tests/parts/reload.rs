//! A configuration that changes under a running agent.

use std::fmt::Write as _;
use std::path::PathBuf;

use edge_agent::cards::Cards;
use edge_agent::config::Layers;
use edge_agent::identity::IdentityFile;
use edge_agent::intake::{self, Batching, QUEUE_MAX};
use edge_agent::reload::{Live, Reloader};
use edge_agent::source::{Shared, Sources};
use edge_agent::spooler::SpoolHandle;
use edge_agent::status::Board;
use edge_agent::uplink::routes::Routes;
use tideline_link::link::Transport;
use tideline_protocol::model::{AgentId, DeviceId};
use tokio::sync::{mpsc, watch};

use crate::{spool, until, until_shown};

const ROWS: u64 = 5_000;

pub struct Bench {
    pub folder: tempfile::TempDir,
    pub board: Board,
    pub spool: SpoolHandle,
    pub batching: watch::Receiver<Batching>,
    routes: watch::Receiver<Routes>,
    pub reloader: Reloader,
}

impl Bench {
    pub async fn start(config: &str) -> Self {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let lines = (0..ROWS).fold(String::from("timestamp,flow\n"), |mut text, row| {
            writeln!(text, "{row},{row}").unwrap();
            text
        });
        std::fs::write(folder.path().join("rows.csv"), lines).unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, filled(config, &folder)).unwrap();
        let layers = Layers { file: Some(file), ..Layers::default() };
        let config = layers.load().unwrap();
        let spool = spool(folder.path(), &board);
        let (out, inbox) = mpsc::channel(QUEUE_MAX);
        let (batching, batching_now) = watch::channel(Batching::of(&config));
        let enrolled = IdentityFile {
            agent: AgentId::parse("pump-7").unwrap(),
            quic: "enrolled:1".into(),
            mqtt: Some("enrolled:2".into()),
            server_name: "localhost".into(),
            floor_s: 0,
        };
        let (routes, routes_now) = watch::channel(Routes::of(&config, &enrolled));
        tokio::spawn(intake::run(inbox, spool.clone(), batching_now.clone(), board.clone()));
        let own_device = DeviceId::parse("pump-7").unwrap();
        let (board_shown, cards) = (board.clone(), Cards::default());
        let shared = Shared {
            own_device,
            out: out.into(),
            board: board_shown,
            spool: spool.clone(),
            cards,
            writes: Default::default(),
        };
        let sources = Sources::new(shared);
        let (pipelines, jobs) = (Default::default(), Default::default());
        let live = Live { batching, pipelines, jobs, routes, enrolled, sources };
        let reloader = Reloader::start(layers, config, live, board.clone()).await;
        Self { folder, board, spool, batching: batching_now, routes: routes_now, reloader }
    }

    /// The addresses in force, with commas.
    pub fn hubs(&self) -> String {
        let routes = self.routes.borrow();
        let quic = routes.paths.iter().filter(|path| path.transport == Transport::Quic);
        quic.map(|path| path.hub.as_str()).collect::<Vec<_>>().join(",")
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("agent.toml")
    }

    /// Writes the file and looks until it is taken over.
    pub async fn change(&mut self, config: &str) {
        std::fs::write(self.file(), filled(config, &self.folder)).unwrap();
        self.reloader.look().await;
        self.reloader.look().await;
    }
}

fn filled(config: &str, folder: &tempfile::TempDir) -> String {
    let path = |name: &str| folder.path().join(name).display().to_string();
    config.replace("CSV", &path("rows.csv")).replace("EMPTY", &path("empty"))
}

pub const IDLE: &str =
    "[[source]]\nkind = \"replay\"\nname = \"idle\"\nformat = \"ndjson\"\npath = \"EMPTY\"\n";
const REPLAY: &str = "[[source]]\nkind = \"replay\"\nname = \"rows\"\npath = \"CSV\"\n";

#[tokio::test]
async fn what_can_change_does_and_the_rest_is_named() {
    let mut bench = Bench::start(IDLE).await;
    bench
        .change(&format!(
            "[batch]\nflush_interval_ms = 20\n[uplink]\nhub = \"other:2\"\n[spool]\nquota_mb = 9\n[http]\nlisten = \"\"\n{IDLE}"
        ))
        .await;
    assert_eq!(bench.batching.borrow().flush_interval.as_millis(), 20);
    assert_eq!(bench.hubs(), "other:2");
    let status = bench.board.read().config;
    assert_eq!(status.needs_restart, ["spool.quota_mb", "http.listen"]);
    assert_eq!(status.file, Some(bench.file().display().to_string()));
    bench.change(&format!("[uplink]\nhubs = [\"one:1\", \"two:2\"]\nprobe_interval_s = 9\n{IDLE}")).await;
    assert_eq!(bench.hubs(), "one:1,two:2");
    assert_eq!(bench.routes.borrow().probe_every.as_secs(), 9);
    let all = |bench: &Bench| -> Vec<String> {
        bench.routes.borrow().paths.iter().map(ToString::to_string).collect()
    };
    assert_eq!(all(&bench), ["quic one:1", "mqtt enrolled:2", "quic two:2"]);
    bench.change(&format!("[uplink]\nmqtt = \"three:3, four:4\"\n{IDLE}")).await;
    assert_eq!(all(&bench), ["quic enrolled:1", "mqtt three:3", "mqtt four:4"]);
    bench.change(&format!("[uplink]\nmqtt = \"off\"\n{IDLE}")).await;
    assert_eq!(all(&bench), ["quic enrolled:1"]);
    bench.change(IDLE).await;
    assert_eq!(bench.hubs(), "enrolled:1", "without an address the enrolled one counts again");
    assert!(bench.board.read().config.needs_restart.is_empty());
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_is_told_until_it_is_right() {
    let mut bench = Bench::start(IDLE).await;
    bench.change(&format!("[uplink]\nhub = \"other:2\"\n[batch]\nrows_max = 0\nrows = 1\n{IDLE}")).await;
    let error = bench.board.read().config.error.unwrap();
    assert!(error.contains("agent.toml:4: batch.rows_max") && error.contains("agent.toml:5:"), "{error}");
    assert_eq!(bench.hubs(), "enrolled:1");
    std::fs::remove_file(bench.file()).unwrap();
    bench.reloader.reload().await;
    assert!(bench.board.read().config.error.unwrap().contains("agent.toml"));
    bench.change(&format!("[uplink]\nhub = \"third:3\"\n{IDLE}")).await;
    assert_eq!(bench.hubs(), "third:3");
    assert_eq!(bench.board.read().config.error, None);
}

#[tokio::test]
async fn an_emptied_file_changes_nothing_and_is_told_until_it_says_something() {
    let mut bench = Bench::start(&format!("[uplink]\nhub = \"own:1\"\n{IDLE}")).await;
    for nothing in ["", "# [uplink]\n\n"] {
        bench.change(nothing).await;
        let error = bench.board.read().config.error.unwrap();
        assert!(error.contains("agent.toml: sets nothing"), "{error}");
        assert_eq!(bench.hubs(), "own:1");
        let names: Vec<_> = bench.board.read().sources.into_keys().collect();
        assert_eq!(names, ["idle"], "the default source of a file without any does not begin");
    }
    bench.change(&format!("[uplink]\nhub = \"other:2\"\n{IDLE}")).await;
    assert_eq!(bench.hubs(), "other:2");
    assert_eq!(bench.board.read().config.error, None);
}

#[tokio::test]
async fn an_agent_that_began_with_an_empty_file_takes_one_until_it_has_said_something() {
    let mut bench = Bench::start("").await;
    bench.change("# nothing yet\n").await;
    assert_eq!(bench.board.read().config.error, None);
    bench.change(IDLE).await;
    assert_eq!(bench.board.read().config.error, None);
    bench.change("").await;
    assert!(bench.board.read().config.error.unwrap().contains("sets nothing"));
}

#[tokio::test]
async fn a_file_that_is_still_written_is_left_alone() {
    let mut bench = Bench::start(IDLE).await;
    std::fs::write(bench.file(), "[uplink]\nhub = \"half:1\"\n").unwrap();
    bench.reloader.look().await;
    assert_eq!(bench.hubs(), "enrolled:1");
    std::fs::write(bench.file(), format!("[uplink]\nhub = \"whole:1\"\n{IDLE}")).unwrap();
    bench.reloader.look().await;
    assert_eq!(bench.hubs(), "enrolled:1");
    bench.reloader.look().await;
    assert_eq!(bench.hubs(), "whole:1");
}

#[tokio::test]
async fn sources_come_change_and_go_without_a_reading_lost_or_doubled() {
    let mut bench = Bench::start(IDLE).await;
    bench.change(&format!("{IDLE}{REPLAY}rate = 1000\n")).await;
    until(&bench.spool, |state| state.account.produced > 0).await;
    // In its middle the source begins again, under its name, faster and with another prefix.
    bench.change(&format!("{IDLE}{REPLAY}point_prefix = \"new/\"\n")).await;
    let before = bench.spool.state().borrow().account.produced;
    assert!((1..ROWS).contains(&before), "{before}");
    until_shown(&bench.board, |status| status.sources.get("rows").is_some_and(|rows| rows.done)).await;
    bench.change(IDLE).await;
    let names: Vec<_> = bench.board.read().sources.into_keys().collect();
    assert_eq!(names, ["idle"]);
    assert_eq!(bench.spool.state().borrow().account.produced, ROWS);
    let defs = bench.spool.series(0, 9).await.unwrap();
    let points: Vec<_> = defs.iter().map(|def| def.point.as_str()).collect();
    assert_eq!(points, ["flow", "new/flow"]);
    bench.reloader.stop();
}
