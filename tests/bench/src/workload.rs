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

/// The walk, second by second.
pub struct Walk {
    rng: StdRng,
    levels: Vec<f64>,
    resting: Vec<bool>,
    second: usize,
}

impl Walk {
    /// So many series, at their first second.
    pub fn new(series: u32) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let levels: Vec<f64> = (0..series).map(|_| rng.random_range(10.0..90.0)).collect();
        let resting = vec![false; levels.len()];
        Self { rng, levels, resting, second: 0 }
    }

    /// The values of the next second, by series.
    pub fn step(&mut self) -> Vec<f64> {
        if self.second.is_multiple_of(SPELL_S) {
            let rng = &mut self.rng;
            self.resting.iter_mut().for_each(|rests| *rests = rng.random_bool(0.5));
        }
        self.second += 1;
        let sigmas = STEPS.iter().cycle();
        for ((level, sigma), rests) in self.levels.iter_mut().zip(sigmas).zip(&self.resting) {
            if !rests {
                *level += sigma * normal(&mut self.rng);
            }
        }
        self.levels.iter().map(|level| (level * 100.0).round() / 100.0).collect()
    }
}

/// The walk: `series` series at 1 Hz for `seconds`, one batch a second.
pub fn walk(series: u32, seconds: usize) -> Vec<Batch> {
    let mut walk = Walk::new(series);
    let batch = |second: usize| {
        let time_ns = START_NS + i64::try_from(second).unwrap_or(0) * 1_000_000_000;
        let samples = walk.step().into_iter().map(|value| vec![Sample { time_ns, value }]);
        (0_u32..).zip(samples).collect()
    };
    (0..seconds).map(batch).collect()
}

/// Trucks of the fleet, and what each reports every ten seconds.
pub const TRUCKS: u32 = 100;
/// What a truck reports.
pub const FIELDS: [&str; 10] = [
    "velocity",
    "heading",
    "elevation",
    "grade",
    "latitude",
    "longitude",
    "fuel",
    "load",
    "status",
    "consumption",
];
const FLEETS: [&str; 4] = ["east", "north", "south", "west"];
const MODELS: [&str; 3] = ["f150", "g2000", "h2"];

/// The fleet and the model of a truck.
pub fn truck(number: u32) -> (&'static str, &'static str) {
    let pick = |names: &'static [&'static str], at: u32| names.get(at as usize % names.len()).copied();
    (pick(&FLEETS, number).unwrap_or("none"), pick(&MODELS, number / 4).unwrap_or("none"))
}

/// A fleet of trucks, ten seconds after ten seconds.
pub struct Fleet {
    rng: StdRng,
    trucks: Vec<[f64; FIELDS.len()]>,
    step: usize,
}

impl Fleet {
    /// All trucks at the beginning of a day.
    pub fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(3);
        let mut of = || {
            let (lat, lon) = (rng.random_range(40.0..55.0), rng.random_range(0.0..20.0));
            let (fuel, load) = (rng.random_range(0.2..1.0), rng.random_range(0.0..4_000.0));
            [0.0, rng.random_range(0.0..360.0), 200.0, 0.0, lat, lon, fuel, load, 0.0, 20.0]
        };
        let trucks = (0..TRUCKS).map(|_| of()).collect();
        Self { rng, trucks, step: 0 }
    }

    /// The values of the next ten seconds, by truck and field.
    pub fn step(&mut self) -> Vec<f64> {
        const PLACES: [f64; FIELDS.len()] = [10.0, 10.0, 10.0, 10.0, 1e5, 1e5, 1e3, 1.0, 1.0, 10.0];
        let rng = &mut self.rng;
        for [velocity, heading, elevation, grade, lat, lon, fuel, load, status, used] in &mut self.trucks {
            // A spell of half an hour is driven, or stood.
            if self.step.is_multiple_of(180) {
                *status = f64::from(rng.random_range(0..3_i32));
                *load = if *status == 0.0 { rng.random_range(0.0..4_000.0) } else { *load };
            }
            *velocity = if *status == 0.0 { 0.0 } else { (*velocity + 3.0 * normal(rng)).clamp(20.0, 110.0) };
            *heading = (*heading + *velocity * 0.02 * normal(rng)).rem_euclid(360.0);
            *grade = (*grade + *velocity * 0.005 * normal(rng)).clamp(-9.0, 9.0);
            *elevation += *velocity * *grade / 360.0;
            *lat += *velocity / 4e4 * heading.to_radians().cos();
            *lon += *velocity / 3e4 * heading.to_radians().sin();
            *fuel = if *fuel < 0.05 { 1.0 } else { *fuel - *velocity * 1e-6 };
            *used = 15.0 + *velocity / 10.0 + normal(rng);
        }
        self.step += 1;
        let rounded = |truck: &[f64; FIELDS.len()]| {
            truck
                .iter()
                .zip(PLACES)
                .map(|(value, places)| (value * places).round() / places)
                .collect::<Vec<_>>()
        };
        self.trucks.iter().flat_map(rounded).collect()
    }
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
