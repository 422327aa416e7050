//! The workloads: always the same numbers from the same seed.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_protocol::model::{Sample, SeriesNo};

/// Seconds of a spell in which a series rests or moves.
const SPELL_S: usize = 50;
const STEPS: [f64; 4] = [0.005, 0.01, 0.03, 0.1];
/// The time of the first reading of every workload.
pub const START_NS: i64 = 1_763_719_200_000_000_000;

/// One batch: series and their samples.
pub type Batch = Vec<(SeriesNo, Vec<Sample>)>;

/// A standard normal number, by Box and Muller.
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// The walk: `series` series at 1 Hz for `seconds`, one batch a second.
pub fn walk(series: u32, seconds: usize) -> Vec<Batch> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut levels: Vec<f64> = (0..series).map(|_| rng.random_range(10.0..90.0)).collect();
    let sigmas: Vec<f64> = (0..series).map(|i| STEPS.get(i as usize % 4).copied().unwrap_or(0.01)).collect();
    let mut resting = vec![false; levels.len()];
    let mut batches = Vec::with_capacity(seconds);
    for second in 0..seconds {
        if second % SPELL_S == 0 {
            resting.iter_mut().for_each(|rests| *rests = rng.random_bool(0.5));
        }
        let time_ns = START_NS + i64::try_from(second).unwrap_or(0) * 1_000_000_000;
        let mut batch = Batch::with_capacity(levels.len());
        for (((no, level), sigma), rests) in (0_u32..).zip(&mut levels).zip(&sigmas).zip(&resting) {
            if !rests {
                *level += sigma * normal(&mut rng);
            }
            batch.push((no, vec![Sample { time_ns, value: (*level * 100.0).round() / 100.0 }]));
        }
        batches.push(batch);
    }
    batches
}

/// The values of a NAB series every five minutes as batches of `rows`, or `None` where the data is absent.
pub fn nab(name: &str, rows: usize) -> Option<Vec<Batch>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/nab").join(name);
    let mut reader = csv::Reader::from_path(path).ok()?;
    let values: Vec<f64> = reader.records().filter_map(|r| r.ok()?.get(1)?.parse().ok()).collect();
    let samples: Vec<Sample> = (0_i64..)
        .zip(values)
        .map(|(i, value)| Sample { time_ns: START_NS + i * 300_000_000_000, value })
        .collect();
    Some(samples.chunks(rows).map(|chunk| vec![(0, chunk.to_vec())]).collect())
}

/// The host metrics: their names, and 64 readings a second, as an agent gives them.
pub fn host(seconds: usize) -> (Vec<String>, Vec<Batch>) {
    let mut rng = StdRng::seed_from_u64(2);
    let kinds = [
        ("cpu", 18),
        ("temperature", 6),
        ("load", 3),
        ("memory", 9),
        ("disk", 12),
        ("network", 15),
        ("uptime", 1),
    ];
    let points: Vec<(&str, u32)> = kinds.iter().flat_map(|(kind, n)| (0..*n).map(|i| (*kind, i))).collect();
    let mut levels: Vec<f64> = points.iter().map(|_| rng.random_range(0.05..0.95)).collect();
    let mut batches = Vec::with_capacity(seconds);
    for second in 0..seconds {
        let time_ns = START_NS + i64::try_from(second).unwrap_or(0) * 1_000_000_000;
        let mut batch = Batch::with_capacity(points.len());
        for (((kind, _), level), no) in points.iter().zip(&mut levels).zip(0_u32..) {
            *level = (*level + 0.02 * normal(&mut rng)).clamp(0.0, 1.0);
            let value = match *kind {
                // Percent and degrees to a tenth, load to a hundredth, memory and disks in pages,
                // networks in bytes a second, at times none.
                "cpu" | "temperature" => (*level * 1_000.0).round() / 10.0,
                "load" => (*level * 400.0).round() / 100.0,
                "memory" => (*level * 16e9 / 4096.0).round() * 4096.0,
                "disk" => (*level * 512e9 / 4096.0).round() * 4096.0,
                "network" => (((*level - 0.3).max(0.0) * 10.0).exp_m1() * 200.0).round(),
                _ => 86_400.0 + second as f64,
            };
            batch.push((no, vec![Sample { time_ns, value }]));
        }
        batches.push(batch);
    }
    (points.iter().map(|(kind, i)| format!("{kind}/{i}")).collect(), batches)
}
