//! How long to wait before something is tried again.
//!
//! Full jitter: each wait is drawn evenly from nothing to a bound that grows with each failure, so
//! that agents that lost the hub together do not come back together ("Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015).

/// The bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Bound of the first wait, in ms.
    pub base_ms: u64,
    /// How much greater the bound is after each failure.
    pub factor: u64,
    /// The greatest bound, and the longest wait, in ms.
    pub max_ms: u64,
}

impl Retry {
    /// `min(base·factor^failures, max)`, in ms.
    #[must_use]
    pub fn bound_ms(&self, failures: u32) -> u64 {
        self.base_ms.saturating_mul(self.factor.saturating_pow(failures)).min(self.max_ms)
    }

    /// A wait in ms, drawn from 0 to the bound and clamped after that.
    #[must_use]
    pub fn wait_ms(&self, failures: u32, entropy: u64) -> u64 {
        let drawn = match self.bound_ms(failures).checked_add(1) {
            Some(waits) => entropy % waits,
            None => entropy,
        };
        drawn.min(self.max_ms)
    }
}
