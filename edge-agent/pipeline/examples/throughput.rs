//! How many readings a second pass three stages on one core, in chunks of several shapes.
//!
//! `cargo run --release -p tideline-pipeline --example throughput`, or with a word of a case and a number of readings a chunk
//! and series for that alone: `-- deadband 1`

use std::io::Write as _;

use tideline_pipeline::{Chunk, Pipelines};
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::time::{Clock as _, SystemClock};

const SERIES: usize = 1_000;
const READINGS: usize = 8_000_000;
const RUNS: usize = 5;
const SECOND_NS: i64 = 1_000_000_000;

/// Range, scale, deadband, as in the figure that the project names; then with an expression, with windows, with a rule.
const CASES: [(&str, &str); 4] = [
    ("range, scale, deadband", "kind = \"deadband\"\nabsolute = 0.02"),
    ("range, scale, expression", "kind = \"expression\"\nvalue = \"value * 1.8 + 32\""),
    ("range, scale, window", "kind = \"window\"\nlength_ms = 60000\naggregates = [\"mean\", \"max\"]"),
    ("range, scale, rule", "kind = \"rule\"\ncondition = \"above\"\nlimit = 80\nclear = 75\nfor_ms = 5000"),
];

/// The walk of the project's figures: a series rests or steps, in hundredths.
struct Walk {
    values: Vec<i64>,
    seed: u64,
}

impl Walk {
    fn next(&mut self, series: usize, second: i64) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let rests = (second / 50 + series as i64) % 2 == 0;
        let step = if rests { 0 } else { (self.seed % 9) as i64 - 4 };
        let Some(value) = self.values.get_mut(series) else { return 0.0 };
        *value = (*value + step).clamp(1_000, 9_000);
        *value as f64 / 100.0
    }
}

fn chunks(rows: usize) -> Vec<Chunk> {
    let mut walk = Walk { values: (0..SERIES).map(|n| 1_000 + (n as i64 * 37) % 8_000).collect(), seed: 42 };
    let def = |n: usize| {
        let (device, point) = (format!("device-{}", n / 10), format!("point/{}", n % 10));
        Some(SeriesDef::new(device.parse().ok()?, point.parse().ok()?, "Cel".into()))
    };
    let defs: Vec<SeriesDef> = (0..SERIES).filter_map(def).collect();
    let mut chunks = Vec::new();
    let mut second = 1_700_000_000_i64;
    for _ in 0..READINGS / SERIES / rows {
        let of = |(n, def): (usize, &SeriesDef)| {
            let each = (second..).take(rows);
            let samples =
                each.map(|at| Sample { time_ns: at * SECOND_NS, value: walk.next(n, at) }).collect();
            (def.clone(), samples)
        };
        let rows_of = defs.iter().enumerate().map(of).collect();
        second += rows as i64;
        chunks.push(Chunk { rows: rows_of, ..Chunk::default() });
    }
    chunks
}

/// The time that this thread has had a core for, in ns, which others on the machine do not add to; or else time as it
/// passes.
fn spent_ns(clock: &SystemClock) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = text.split(' ').next().and_then(|ns| ns.parse().ok());
    spent.unwrap_or_else(|| clock.mono_ns())
}

fn main() -> std::io::Result<()> {
    let clock = SystemClock::default();
    let mut out = std::io::stdout();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = arguments.first().cloned().unwrap_or_default();
    let only = arguments.get(1).and_then(|rows| rows.parse::<usize>().ok());
    for (name, stage) in CASES.into_iter().filter(|(name, _)| name.contains(&word)) {
        let text = format!(
            "[[pipeline]]\nname = \"p\"\nfrom = \"*/*\"\n\
             [[pipeline.stage]]\nname = \"range\"\nkind = \"range\"\nmin = -40\nmax = 150\n\
             [[pipeline.stage]]\nname = \"scale\"\nkind = \"scale\"\nfactor = 1.01\noffset = 0.5\n\
             [[pipeline.stage]]\nname = \"third\"\n{stage}\n"
        );
        for rows in [1, 10, 100].into_iter().filter(|rows| only.is_none_or(|only| only == *rows)) {
            let mut rates = Vec::new();
            let mut given = 0;
            for _ in 0..RUNS {
                let chunks = chunks(rows);
                let mut pipelines = Pipelines::read("throughput", &text).map_err(std::io::Error::other)?;
                given = 0;
                let begun_ns = spent_ns(&clock);
                for chunk in chunks {
                    let outcome = pipelines.run(i64::MAX, chunk);
                    given += outcome.count();
                }
                rates.push(READINGS as f64 * 1e3 / (spent_ns(&clock) - begun_ns) as f64);
            }
            rates.sort_by(f64::total_cmp);
            let median = rates.get(RUNS / 2).copied().unwrap_or_default();
            let best = rates.last().copied().unwrap_or_default();
            writeln!(
                out,
                "{name}: {median:.2} M readings/s on one core (the best of {RUNS} runs: {best:.2}), chunks of {SERIES} series with {rows} each, {given} of {READINGS} went on"
            )?;
        }
    }
    Ok(())
}
