//! How many bytes pipelines hand to the storage: 1,000 series at 1 Hz, whose readings become durable once a second.
//!
//! `cargo run --release -p edge-agent --example pipeline_flash`, or with a number of seconds. Time is simulated; the spool is a
//! real one in a temporary folder, and its bytes are counted where it writes them. Nothing is acknowledged by a hub.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use edge_agent::cards::Cards;
use edge_agent::clock::Ahead;
use edge_agent::config;
use edge_agent::flow::{Flow, Parts};
use edge_agent::intake::Chunk;
use edge_agent::spooler::{Portion, SpoolHandle};
use edge_agent::status::Board;
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::time::{Clock as _, ManualClock};
use tideline_spool::SpoolConfig;
use tokio::sync::watch;

const SERIES: usize = 1_000;
const SECONDS: u64 = 1_800;
const NOW_NS: i64 = 1_700_000_000_000_000_000;

const WINDOW: &str = "[[pipeline.stage]]\nname = \"w\"\nkind = \"window\"\nlength_ms = 60_000\naggregates = [\"mean\", \"max\"]\n";
const RULE: &str = "[[pipeline.stage]]\nname = \"r\"\nkind = \"rule\"\ncondition = \"above\"\nlimit = 80\nclear = 75\nfor_ms = 5_000\n";

/// The walk of the project's figures: a series rests or steps, in hundredths.
struct Walk {
    values: Vec<i64>,
    seed: u64,
}

impl Walk {
    fn next(&mut self, series: usize, second: u64) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let rests = (second / 50 + series as u64).is_multiple_of(2);
        let step = if rests { 0 } else { (self.seed % 9) as i64 - 4 };
        let Some(value) = self.values.get_mut(series) else { return 0.0 };
        *value = (*value + step).clamp(1_000, 9_000);
        *value as f64 / 100.0
    }
}

/// Bytes a second.
async fn bytes(text: &str, seconds: u64) -> anyhow::Result<f64> {
    let (folder, board) = (tempfile::tempdir()?, Board::default());
    let (spool, _thread) =
        SpoolHandle::start(folder.path().join("spool.redb"), SpoolConfig::default(), board.clone())?;
    let plan = watch::Sender::new(Arc::new(config::parse("flash.toml", text, &[])?.pipelines));
    let clock = Arc::new(ManualClock::at(NOW_NS));
    let mut flow = Flow::new(Parts {
        key: "pipelines".into(),
        home: "default".into(),
        streams: ["default".into()].into(),
        clock: clock.clone(),
        boot: [1; 16],
        plan: plan.subscribe(),
        cards: Cards::default().seen(),
        traced: watch::channel(None).1,
        board: board.clone(),
    });
    flow.begin(None, &[]);
    let def = |n: usize| -> anyhow::Result<SeriesDef> {
        let (device, point) = (format!("device-{}", n / 10), format!("point/{}", n % 10));
        Ok(SeriesDef::new(device.parse()?, point.parse()?, "Cel".into()))
    };
    let defs: Vec<SeriesDef> = (0..SERIES).map(def).collect::<anyhow::Result<_>>()?;
    let mut walk = Walk { values: (0..SERIES).map(|n| 1_000 + (n as i64 * 37) % 8_000).collect(), seed: 42 };
    let mut before = 0;
    for second in 0..=seconds {
        clock.advance(Duration::from_secs(1));
        let time_ns = clock.wall_ns();
        let sample = |n: usize, walk: &mut Walk| Sample { time_ns, value: walk.next(n, second) };
        let rows = defs.iter().enumerate().map(|(n, def)| (def.clone(), vec![sample(n, &mut walk)]));
        let chunk =
            Chunk { rows: rows.collect(), clock: Some(Ahead::of(clock.as_ref())), ..Chunk::default() };
        let mut portions = flow.run(chunk);
        portions.extend(flow.tick());
        let positions = flow.state();
        portions.push(Portion { positions, ..Portion::default() });
        spool.append_portions(portions.into_iter().map(Arc::new).collect(), 10_000).await?;
        flow.saved();
        if second == 0 {
            before = board.read().spool.flash_bytes;
        }
    }
    let written = board.read().spool.flash_bytes - before;
    spool.close().await;
    Ok(written as f64 / seconds as f64)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(SECONDS), |text| text.parse())?;
    let with = |keep: bool, stages: &str| {
        format!("[[pipeline]]\nname = \"p\"\nfrom = \"*/*\"\nkeep = {keep}\n{stages}")
    };
    let cases = [
        ("no pipeline", String::new()),
        ("a window of 60 s, readings kept as well", with(true, WINDOW)),
        ("a window of 60 s in their place", with(false, WINDOW)),
        ("a rule", with(false, RULE)),
        (
            "a range check, which keeps nothing",
            with(false, "[[pipeline.stage]]\nname = \"c\"\nkind = \"range\"\nmax = 99\n"),
        ),
    ];
    let mut out = std::io::stdout();
    for (name, text) in cases {
        let rate = bytes(&text, seconds).await? / 1_000.0;
        writeln!(out, "{name}: {rate:.1} KB/s to the storage, {SERIES} series at 1 Hz over {seconds} s")?;
    }
    Ok(())
}
