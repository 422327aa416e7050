//! How long to wait before the hub is tried again. It reads no clock and draws no randomness.
//!
//! Full jitter: each wait is drawn evenly from nothing to a bound that doubles with each failure up
//! to a maximum, so that agents that lost the hub together do not come back together. What counts
//! as success is not the welcome, as a hub may welcome an agent and then refuse all that it brings:
//! a session must have settled something, or lived for a while.

use tideline_protocol::wire::RefuseCode;

/// Bound of the first wait.
const BASE_MS: u64 = 100;
/// The greatest bound, so that a hub that is back sees its agents within a second.
const MAX_MS: u64 = 1_000;
/// Bound of the first wait after a refusal that only an operator can end.
const REFUSED_BASE_MS: u64 = 1_000;
/// The greatest bound after such refusals: each attempt costs both ends a TLS handshake and will
/// fail alike until somebody acts, who then should not have to wait longer than this.
const REFUSED_MAX_MS: u64 = 30_000;
/// A session that lived for this long was no failure, even when it had nothing to send.
pub const LONG_SESSION_NS: u64 = 10_000_000_000;

/// The failures so far.
#[derive(Debug, Default)]
pub struct BackOff {
    failures: u32,
    settled: bool,
}

impl BackOff {
    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        if self.settled { 0 } else { self.failures }
    }

    /// The hub has settled something in this session. That is a success, unless the session ends
    /// with a refusal: two agents with one identity would replace each other without end.
    pub const fn settled(&mut self) {
        self.settled = true;
    }

    /// A session has lived for long, or another hub is tried.
    pub const fn reset(&mut self) {
        *self = Self { failures: 0, settled: false };
    }

    /// Notes a failure and gives the wait before the next attempt, in ms.
    pub fn fail(&mut self, refused: Option<RefuseCode>, entropy: u64) -> u64 {
        if self.settled && refused.is_none() {
            self.failures = 0;
        }
        self.settled = false;
        let (base_ms, max_ms) = if refused.is_some_and(needs_operator) {
            (REFUSED_BASE_MS, REFUSED_MAX_MS)
        } else {
            (BASE_MS, MAX_MS)
        };
        let bound_ms = base_ms.saturating_mul(1 << self.failures.min(20)).min(max_ms);
        self.failures = self.failures.saturating_add(1);
        entropy % (bound_ms + 1)
    }
}

/// Whether trying again cannot help until somebody acts.
const fn needs_operator(code: RefuseCode) -> bool {
    match code {
        RefuseCode::Version | RefuseCode::Identity | RefuseCode::Revoked | RefuseCode::Protocol => true,
        RefuseCode::Unavailable | RefuseCode::Replaced => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits after `failures` failures, for entropies spread evenly.
    fn waits(failures: u32, refused: Option<RefuseCode>) -> Vec<u64> {
        let wait = |n: u64| {
            let mut back_off = BackOff { failures, settled: false };
            back_off.fail(refused, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11)
        };
        (0..10_000).map(wait).collect()
    }

    #[test]
    fn waits_are_spread_over_the_whole_bound_however_many_failures() {
        let revoked = Some(RefuseCode::Revoked);
        for (failures, refused, bound) in [
            (0, None, 100),
            (2, None, 400),
            (4, None, 1_000),
            (30, None, 1_000),
            (u32::MAX, None, 1_000),
            (30, Some(RefuseCode::Unavailable), 1_000),
            (0, revoked, 1_000),
            (3, revoked, 8_000),
            (30, revoked, 30_000),
        ] {
            let waits = waits(failures, refused);
            assert!(waits.iter().all(|wait| *wait <= bound), "{failures} {refused:?}");
            for tenth in 0..10 {
                let part = bound * tenth / 10..bound * (tenth + 1) / 10;
                let hits = waits.iter().filter(|wait| part.contains(wait)).count();
                assert!((800..1_200).contains(&hits), "{failures} {refused:?}: {hits} of 10000 in {part:?}");
            }
        }
    }

    #[test]
    fn only_what_was_achieved_ends_a_row_of_failures() {
        let mut back_off = BackOff::default();
        for failures in 1..=3 {
            back_off.fail(None, 0);
            assert_eq!(back_off.failures(), failures);
        }
        back_off.settled();
        assert_eq!(back_off.failures(), 0);
        back_off.fail(Some(RefuseCode::Replaced), 0);
        assert_eq!(back_off.failures(), 4, "a session that was refused in the end has failed");
        back_off.settled();
        back_off.fail(None, 0);
        assert_eq!(back_off.failures(), 1);
        back_off.reset();
        assert_eq!(back_off.failures(), 0);
    }
}
