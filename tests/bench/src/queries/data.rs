//! What is stored and asked about: the walk, the fleet, one series over a year, a month that comes late, and a million series.

use std::fmt::Write as _;

use crate::workload::{FIELDS, Fleet, START_NS, TRUCKS, Walk, truck};

/// Series of the walk, and of each of its devices.
pub const WALK: u32 = 1_000;
const PER_DEVICE: u32 = 250;
const SECOND_NS: i64 = 1_000_000_000;
/// Agents of the many series, how many each has, and how many of these are of one device.
pub const MANY_AGENTS: u32 = 10;
pub const MANY: u32 = 100_000;
const PER_GATEWAY: u32 = 1_000;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1,000 series at 1 Hz.
    Walk,
    /// 100 trucks with 10 fields every 10 s.
    Fleet,
    /// One series at 1 Hz.
    Year,
    /// The walk, spread over the month before it: one frame every 26 s.
    Late,
    /// A million series of ten agents, every minute.
    Many,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Fleet => "fleet",
            Self::Year => "year",
            Self::Late => "late",
            Self::Many => "many",
        }
    }

    pub fn of(name: &str) -> anyhow::Result<Self> {
        let all = [Self::Walk, Self::Fleet, Self::Year, Self::Late, Self::Many];
        all.into_iter().find(|kind| kind.name() == name).ok_or_else(|| anyhow::anyhow!("no workload {name}"))
    }

    /// How many agents it comes from.
    pub const fn agents(self) -> u32 {
        if matches!(self, Self::Many) { MANY_AGENTS } else { 1 }
    }

    /// Device and point of each series of one of its agents.
    pub fn series(self, agent: u32) -> Vec<(String, String)> {
        match self {
            Self::Many => {
                (0..MANY).map(|i| (format!("many-{agent}-{}", i / PER_GATEWAY), format!("p{i}"))).collect()
            }
            Self::Walk | Self::Late => {
                (0..WALK).map(|i| (format!("walk-{}", i / PER_DEVICE), format!("p{i}"))).collect()
            }
            Self::Fleet => {
                (0..TRUCKS).flat_map(|i| FIELDS.map(|field| (device_of_truck(i), field.to_owned()))).collect()
            }
            Self::Year => vec![("meter".to_owned(), "level".to_owned())],
        }
    }

    /// Nanoseconds from a frame to the next.
    pub const fn step_ns(self) -> i64 {
        match self {
            Self::Walk | Self::Year => SECOND_NS,
            Self::Fleet => 10 * SECOND_NS,
            Self::Late => 26 * SECOND_NS,
            Self::Many => 60 * SECOND_NS,
        }
    }

    /// The time of the first frame. Days begin with one.
    pub const fn begin_ns(self) -> i64 {
        const DAY_NS: i64 = 86_400 * SECOND_NS;
        match self {
            Self::Walk | Self::Many => START_NS,
            Self::Fleet => START_NS - START_NS % DAY_NS,
            Self::Year => START_NS - 365 * DAY_NS,
            Self::Late => START_NS - 31 * DAY_NS,
        }
    }
}

/// As its fleet and model tell: `south.f150.truck-17`.
pub fn device_of_truck(number: u32) -> String {
    let (fleet, model) = truck(number);
    format!("{fleet}.{model}.truck-{number}")
}

enum Values {
    Walk(Box<Walk>),
    Fleet(Box<Fleet>),
}

/// The frames of a workload, one value for each series.
pub struct Source {
    kind: Kind,
    values: Values,
    next_ns: i64,
}

impl Source {
    pub fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Walk | Kind::Late => Values::Walk(Box::new(Walk::new(WALK))),
            Kind::Year => Values::Walk(Box::new(Walk::new(1))),
            Kind::Many => Values::Walk(Box::new(Walk::new(MANY))),
            Kind::Fleet => Values::Fleet(Box::new(Fleet::new())),
        };
        Self { kind, values, next_ns: kind.begin_ns() }
    }

    pub fn frame(&mut self) -> (i64, Vec<f64>) {
        let time_ns = self.next_ns;
        self.next_ns += self.kind.step_ns();
        let values = match &mut self.values {
            Values::Walk(walk) => walk.step(),
            Values::Fleet(fleet) => fleet.step(),
        };
        (time_ns, values)
    }

    /// Leaves out so many frames.
    pub fn skip(&mut self, frames: u64) {
        (0..frames).for_each(|_| drop(self.frame()));
    }
}

/// Frames as line protocol: for the peers with tags and one field or ten a line, for the hub as its mapping reads devices and
/// points.
pub fn lines(kind: Kind, time_ns: i64, values: &[f64], ours: bool, out: &mut String) {
    // Writing to a String cannot fail.
    let _ok = match (kind, ours) {
        (_, true) => kind.series(0).iter().zip(values).try_for_each(|((device, point), value)| {
            writeln!(out, "{point},host={device} value={value} {time_ns}")
        }),
        (Kind::Fleet, false) => (0..TRUCKS).zip(values.chunks(FIELDS.len())).try_for_each(|(i, fields)| {
            let (fleet, model) = truck(i);
            write!(out, "truck,name=truck-{i},fleet={fleet},model={model} ")?;
            for (at, (name, value)) in FIELDS.iter().zip(fields).enumerate() {
                write!(out, "{}{name}={value}", if at == 0 { "" } else { "," })?;
            }
            writeln!(out, " {time_ns}")
        }),
        (_, false) => (0..).zip(values).try_for_each(|(i, value): (u32, &f64)| {
            writeln!(out, "walk,device=walk-{},p=p{i} v={value} {time_ns}", i / PER_DEVICE)
        }),
    };
}
