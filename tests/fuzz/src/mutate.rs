//! A small mutator for the short run: the same inputs for the same seed, on every machine.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// Values at which code goes wrong more often than elsewhere.
const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x1b, 0x9f, 0x20];

impl Random {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap_or(usize::MAX).checked_rem(end).unwrap_or(0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a random byte")]
    fn byte(&mut self) -> u8 {
        match self.below(3) {
            0 => TELLING.get(self.below(TELLING.len())).copied().unwrap_or(0),
            _ => self.next() as u8,
        }
    }
}

/// A changed copy of one of `pool`, no longer than `bytes_max`.
pub fn mutated(pool: &[Vec<u8>], random: &mut Random, bytes_max: usize) -> Vec<u8> {
    let pick = |random: &mut Random| pool.get(random.below(pool.len())).cloned().unwrap_or_default();
    let mut out = pick(random);
    for _ in 0..=random.below(6) {
        let at = random.below(out.len().max(1));
        let end = at.saturating_add(1 + random.below(16)).min(out.len());
        match random.below(7) {
            0 => out.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << random.below(8)),
            1 | 2 => out.get_mut(at).into_iter().for_each(|byte| *byte = random.byte()),
            3 => drop(out.drain(at.min(end)..end)),
            4 => {
                let more: Vec<u8> = (0..=random.below(8)).map(|_| random.byte()).collect();
                out.splice(at.min(end)..at.min(end), more);
            }
            5 => {
                let again: Vec<u8> = out.get(at..end).unwrap_or_default().to_vec();
                let to = random.below(out.len().max(1)).min(out.len());
                out.splice(to..to, again);
            }
            _ => {
                // The head of this one and the tail of another.
                let other = pick(random);
                out.truncate(at);
                out.extend_from_slice(other.get(random.below(other.len().max(1))..).unwrap_or_default());
            }
        }
    }
    out.truncate(bytes_max);
    out
}
