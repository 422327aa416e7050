//! Signs of life of an attempt at a source, as its supervisor sees them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::supervise::watched::Signs;

/// Nothing was ever heard of it.
const NEVER: u64 = u64::MAX;

/// What an attempt tells of itself, in time since `base`.
#[derive(Debug)]
pub struct Pulse {
    base: Instant,
    last_ns: AtomicU64,
    // How many parts of it wait for something that may take as long as it wants.
    waits: AtomicU32,
    first: Notify,
}

impl Pulse {
    /// Of an attempt that is started now.
    pub fn new(base: Instant) -> Self {
        Self { base, last_ns: AtomicU64::new(NEVER), waits: AtomicU32::new(0), first: Notify::new() }
    }

    /// It is alive.
    pub fn beat(&self) {
        let now_ns = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(NEVER - 1);
        if self.last_ns.swap(now_ns, Ordering::SeqCst) == NEVER {
            self.first.notify_one();
        }
    }

    /// It waits until the guard is dropped.
    pub fn waits(&self) -> Waits<'_> {
        self.waits.fetch_add(1, Ordering::SeqCst);
        self.beat();
        Waits(self)
    }

    /// What is seen of it.
    pub fn signs(&self) -> Signs {
        if self.waits.load(Ordering::SeqCst) > 0 {
            return Signs::Waits;
        }
        match self.last_ns.load(Ordering::SeqCst) {
            NEVER => Signs::None,
            at_ns => Signs::At(at_ns),
        }
    }

    /// Resolves once with the first sign. Cancel safe.
    pub async fn first(&self) {
        self.first.notified().await;
    }
}

/// The time of a wait.
pub struct Waits<'p>(&'p Pulse);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::SeqCst);
        self.0.beat();
    }
}
