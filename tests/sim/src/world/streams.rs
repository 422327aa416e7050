//! The streams of a simulated agent: one of alarms, one of states and some of readings, each kept in its
//! own way.

use rand::RngExt as _;
use rand::rngs::StdRng;
use tideline_protocol::model::{Class, DropCause};
use tideline_spool::{Overflow, Policy, StreamConfig};

/// Most streams of plain readings.
const LIVE_MAX: u32 = 3;

/// Whether policies may put batches of fewer readings in the place of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinning {
    Allowed,
    /// Where disks are damaged or copied: what such a batch holds must be read back from them.
    No,
}

/// The streams of an agent.
pub fn drawn(thinning: Thinning, rng: &mut StdRng) -> Vec<StreamConfig> {
    let live = rng.random_range(1..=LIVE_MAX);
    let mut streams = vec![drawn_one("alarms", Class::Alarm, thinning, rng)];
    streams.push(drawn_one("states", Class::State, thinning, rng));
    streams.extend((0..live).map(|n| drawn_one(&format!("live-{n}"), Class::Live, thinning, rng)));
    streams
}

fn drawn_one(name: &str, class: Class, thinning: Thinning, rng: &mut StdRng) -> StreamConfig {
    let overflow = match rng.random_range(0..6_u32) {
        0 => Overflow::Block,
        1 => Overflow::DropNewest,
        2 if thinning == Thinning::Allowed => Overflow::KeepLatest,
        3 if thinning == Thinning::Allowed => Overflow::Downsample { bucket_s: 1 },
        _ => Overflow::DropOldest,
    };
    let quota_bytes = if rng.random_bool(0.3) { rng.random_range(600..4_000) } else { 0 };
    let keep_s = if rng.random_bool(0.2) { rng.random_range(2..8) } else { 0 };
    StreamConfig { name: name.to_owned(), class, policy: Policy { overflow, quota_bytes, keep_s } }
}

/// The stream that the next batch is of: most are plain readings.
pub fn pick(streams: &[StreamConfig], rng: &mut StdRng) -> usize {
    let class = match rng.random_range(0..20_u32) {
        0 => Class::Alarm,
        1 | 2 => Class::State,
        _ => Class::Live,
    };
    let of: Vec<usize> =
        streams.iter().enumerate().filter(|(_, stream)| stream.class == class).map(|(no, _)| no).collect();
    of.get(rng.random_range(0..of.len().max(1))).copied().unwrap_or(0)
}

/// Why readings of a stream may be given up.
pub fn may_drop(policy: Policy, cause: DropCause) -> bool {
    match cause {
        DropCause::Expired => policy.keep_s > 0,
        DropCause::Downsampled => matches!(policy.overflow, Overflow::Downsample { .. }),
        DropCause::Superseded => policy.overflow == Overflow::KeepLatest,
        DropCause::Quota | DropCause::Flash | DropCause::DiskFull => policy.overflow != Overflow::Block,
        DropCause::Damaged => false,
    }
}
