//! A small mutator for the short run: the same inputs for the same seed, on every machine.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Values at which code goes wrong more often than elsewhere.
const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x1b, 0x9f, 0x20];

fn below(random: &mut StdRng, end: usize) -> usize {
    random.random_range(0..end.max(1))
}

fn telling(random: &mut StdRng) -> u8 {
    match random.random_range(0..3) {
        0 => TELLING.get(below(random, TELLING.len())).copied().unwrap_or(0),
        _ => random.random(),
    }
}

/// A changed copy of one of `pool`, no longer than `bytes_max`.
pub fn mutated(pool: &[Vec<u8>], random: &mut StdRng, bytes_max: usize) -> Vec<u8> {
    let pick = |random: &mut StdRng| pool.get(below(random, pool.len())).cloned().unwrap_or_default();
    let mut out = pick(random);
    for _ in 0..=below(random, 6) {
        let at = below(random, out.len().max(1));
        let end = at.saturating_add(1 + below(random, 16)).min(out.len());
        match below(random, 7) {
            0 => out.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << below(random, 8)),
            1 | 2 => out.get_mut(at).into_iter().for_each(|byte| *byte = telling(random)),
            3 => drop(out.drain(at.min(end)..end)),
            4 => {
                let more: Vec<u8> = (0..=below(random, 8)).map(|_| telling(random)).collect();
                out.splice(at.min(end)..at.min(end), more);
            }
            5 => {
                let again: Vec<u8> = out.get(at..end).unwrap_or_default().to_vec();
                let to = below(random, out.len().max(1)).min(out.len());
                out.splice(to..to, again);
            }
            _ => {
                // The head of this one and the tail of another.
                let other = pick(random);
                out.truncate(at);
                out.extend_from_slice(other.get(below(random, other.len().max(1))..).unwrap_or_default());
            }
        }
    }
    out.truncate(bytes_max);
    out
}
