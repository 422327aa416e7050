//! Whether somebody still waits for an answer: work on another thread ends soon after its client has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Held by the future that waits; what it gave out becomes true when that is dropped.
#[derive(Debug, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// Whether the client has left, to be asked by the work.
    pub fn left(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let left = Arc::clone(&self.0);
        move || left.load(Ordering::Relaxed)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_sees_that_nobody_waits() {
        let leaving = Leaving::default();
        let left = leaving.left();
        assert!(!left());
        drop(leaving);
        assert!(left());
    }
}
