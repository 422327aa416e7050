//! Many seeds over all cores. It stops at the first seed that fails and never hides one: a panic of a
//! core, as a broken invariant is in debug builds, is the seed's failure like any other.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Canary, Outcome, Violation, run};

/// Runs the seeds on `threads` threads, in order as far as that goes, and tells `each` how many are
/// done after every one. The answer is the sum of what they did, or the lowest seed that failed.
///
/// # Errors
/// The failure of the lowest seed that failed; seeds after it may not have run.
pub fn campaign(
    seeds: Range<u64>,
    threads: usize,
    canary: Canary,
    each: impl Fn(u64) + Sync,
) -> Result<Outcome, Violation> {
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    // A thread that finds a failure lowers the end for all: seeds below it are still run.
    let end = AtomicU64::new(seeds.end);
    let sum = Mutex::new(Outcome::default());
    let failure: Mutex<Option<Violation>> = Mutex::new(None);
    let work = || {
        let mut own = Outcome::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                break;
            }
            match run_caught(seed, canary) {
                Ok(outcome) => own.add(&outcome),
                Err(violation) => {
                    end.fetch_min(seed, Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    if failure.as_ref().is_none_or(|known| known.seed > seed) {
                        *failure = Some(violation);
                    }
                }
            }
            each(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        sum.lock().unwrap_or_else(PoisonError::into_inner).add(&own);
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(violation) => Err(violation),
        None => Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// As [`run`], with a panic as a violation.
///
/// # Errors
/// What did not hold.
pub fn run_caught(seed: u64, canary: Canary) -> Result<Outcome, Violation> {
    catch_unwind(AssertUnwindSafe(|| run(seed, canary))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Violation { seed, step: None, what: text.unwrap_or("a panic without a text").to_owned() })
    })
}
