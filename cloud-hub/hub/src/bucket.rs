//! A token bucket per address: what slows down guessing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Most addresses that are remembered; beyond it the one that tried least or longest ago is
/// forgotten. All of them take about half a megabyte.
const ADDRESSES_MAX: usize = 10_000;
/// The part of an IPv6 address that one customer gets: within it they may choose as they like.
const V6_NETWORK: u128 = !0 << 64;

/// Whom an address counts for: itself, or its /64 network with IPv6.
#[must_use]
pub fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & V6_NETWORK)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

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

    /// Takes one try of `address`, or of its network with IPv6, at `now_ns` (monotonic).
    ///
    /// # Errors
    /// The bucket is empty: the seconds until the next try.
    pub fn take(&self, address: IpAddr, now_ns: u64) -> Result<(), u64> {
        let address = party(address);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity_ns = self.allowance.refill_ns.saturating_mul(u64::from(self.allowance.burst));
        let next =
            full_at.get(&address).copied().unwrap_or(0).max(now_ns).saturating_add(self.allowance.refill_ns);
        let over = next.saturating_sub(now_ns).saturating_sub(capacity_ns);
        if over > 0 {
            return Err(over.div_ceil(1_000_000_000));
        }
        if full_at.len() >= ADDRESSES_MAX && !full_at.contains_key(&address) {
            full_at.retain(|_, at| *at > now_ns);
            let fullest = full_at.iter().min_by_key(|(_, at)| **at).map(|(fullest, _)| *fullest);
            if let Some(fullest) = fullest.filter(|_| full_at.len() >= ADDRESSES_MAX) {
                full_at.remove(&fullest);
            }
        }
        full_at.insert(address, next);
        Ok(())
    }
}

/// One bucket for all together, that gives those who come too early a time each to come again: a
/// fleet that lost the hub at once comes back at its pace, and not all at the same moment again.
#[derive(Debug)]
pub struct Pace {
    allowance: Allowance,
    // When the bucket is full again, and the last moment that somebody was told; monotonic ns.
    state: Mutex<(u64, u64)>,
}

/// Nobody is told to stay away for longer: what is behind that comes to nothing and asks again.
const TOLD_NS_MAX: u64 = 15_000_000_000;

impl Pace {
    /// A full bucket.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, state: Mutex::new((0, 0)) }
    }

    /// Takes one at `now_ns` (monotonic); `entropy` spreads those who are told to come again.
    ///
    /// # Errors
    /// The bucket is empty: how long to stay away, ns.
    pub fn take(&self, now_ns: u64, entropy: u64) -> Result<(), u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (full_at, told) = *state;
        let every = self.allowance.refill_ns;
        let next = full_at.max(now_ns).saturating_add(every);
        let over = (next - now_ns).saturating_sub(every.saturating_mul(u64::from(self.allowance.burst)));
        if over == 0 {
            *state = (next, told);
            return Ok(());
        }
        let told = told.max(now_ns.saturating_add(over)).saturating_add(every);
        let told = told.min(now_ns.saturating_add(TOLD_NS_MAX));
        *state = (full_at, told);
        let wait = told - now_ns;
        // A quarter more at most: times that were given out side by side are not kept to the letter.
        Err(wait + entropy % (wait / 4 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_let_in_at_the_pace_and_those_told_to_come_again_are_spread() {
        const SECOND: u64 = 1_000_000_000;
        let pace = Pace::new(Allowance { burst: 100, refill_ns: SECOND / 50 });
        // Everybody comes at once, and each again when it was told to.
        let mut due: std::collections::BTreeSet<(u64, u64)> = (0..1_000).map(|agent| (0, agent)).collect();
        let (mut admitted, mut asked) = (Vec::new(), 0);
        while let Some((now, agent)) = due.pop_first() {
            asked += 1;
            match pace.take(now, agent.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                Ok(()) => admitted.push(now),
                Err(wait) => {
                    assert!(wait > 0 && wait <= TOLD_NS_MAX + TOLD_NS_MAX / 4);
                    due.insert((now + wait, agent));
                }
            }
        }
        assert_eq!(admitted.len(), 1_000);
        for (n, at) in admitted.iter().enumerate() {
            let within = admitted[n..].iter().filter(|other| **other < at + SECOND).count();
            assert!(within <= 151, "{within} within a second");
        }
        let last = admitted.last().unwrap() / SECOND;
        assert!((18..=30).contains(&last), "the last came after {last} s, 18 s at the best");
        assert!(asked <= 3_000, "{asked} knocks of a thousand agents");
    }

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
    #[test]
    fn an_ipv6_network_is_one_party_and_a_mapped_address_is_its_ipv4() {
        let buckets = Buckets::new(Allowance { burst: 1, refill_ns: 1_000_000_000 });
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(buckets.take(of("2001:db8:1:2::1"), 0), Ok(()));
        assert!(buckets.take(of("2001:db8:1:2:ffff::9"), 0).is_err());
        assert_eq!(buckets.take(of("2001:db8:1:3::1"), 0), Ok(()));
        assert_eq!(buckets.take(of("10.0.0.1"), 0), Ok(()));
        assert!(buckets.take(of("::ffff:10.0.0.1"), 0).is_err());
    }

    #[test]
    fn many_addresses_do_not_make_a_busy_one_forgotten() {
        let buckets = Buckets::new(Allowance { burst: 3, refill_ns: 1_000_000_000 });
        let busy = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..3 {
            buckets.take(busy, 0).unwrap();
        }
        for n in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            buckets.take(IpAddr::V4((0x0b00_0000 + n).into()), 0).unwrap();
        }
        assert!(buckets.take(busy, 0).is_err());
        assert!(buckets.full_at.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
