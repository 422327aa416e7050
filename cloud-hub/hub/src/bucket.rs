//! A token bucket per address: what slows down guessing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Most addresses that are remembered; beyond it the fullest are forgotten, which forgives those
/// that tried least.
const ADDRESSES_MAX: usize = 10_000;

/// How much is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Tries at once.
    pub burst: u32,
    /// Nanoseconds until one more try is allowed.
    pub refill_ns: u64,
}

/// The buckets of all addresses.
#[derive(Debug)]
pub struct Buckets {
    allowance: Allowance,
    // Address to the moment when its bucket is full again, in monotonic ns.
    full_at: Mutex<HashMap<IpAddr, u64>>,
}

impl Buckets {
    /// Full buckets.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, full_at: Mutex::new(HashMap::new()) }
    }

    /// Takes one try of `address` at `now_ns` (monotonic).
    ///
    /// # Errors
    /// The bucket is empty: the seconds until the next try.
    pub fn take(&self, address: IpAddr, now_ns: u64) -> Result<(), u64> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity_ns = self.allowance.refill_ns.saturating_mul(u64::from(self.allowance.burst));
        let next =
            full_at.get(&address).copied().unwrap_or(0).max(now_ns).saturating_add(self.allowance.refill_ns);
        let over = next.saturating_sub(now_ns).saturating_sub(capacity_ns);
        if over > 0 {
            return Err(over.div_ceil(1_000_000_000));
        }
        if full_at.len() >= ADDRESSES_MAX {
            full_at.retain(|_, at| *at > now_ns);
            if full_at.len() >= ADDRESSES_MAX {
                full_at.clear();
            }
        }
        full_at.insert(address, next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let buckets = Buckets::new(Allowance { burst: 3, refill_ns: 2_000_000_000 });
        let one = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..3 {
            assert_eq!(buckets.take(one, 5), Ok(()));
        }
        assert_eq!(buckets.take(one, 5), Err(2));
        assert_eq!(buckets.take(IpAddr::from([10, 0, 0, 2]), 5), Ok(()));
        assert_eq!(buckets.take(one, 2_000_000_005), Ok(()));
        assert!(buckets.take(one, 2_000_000_005).is_err());
    }
}
