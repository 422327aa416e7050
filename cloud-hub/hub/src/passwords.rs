//! The work of hashing passwords, bounded: each hash takes 19 MiB and tens of milliseconds, and
//! anybody may ask for one by signing in.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::metadata::MetadataError;

/// Hashes at once: they take 40 MiB and leave a small machine a core for its readings.
const HASHES_MAX: usize = 2;
/// Sign-ins that wait for their turn, which is a second or two at the end of the queue.
const WAITING_MAX: usize = 32;
/// When it makes sense to come again after the queue was full.
pub const RETRY_AFTER_S: u64 = 2;

/// The queue before the hashing.
#[derive(Debug)]
pub struct Passwords {
    queue: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
}

/// Why a password was not worked on.
#[derive(Debug, thiserror::Error)]
pub enum NotHashed {
    /// Too many wait.
    #[error("{WAITING_MAX} others wait for their password to be checked; try again in {RETRY_AFTER_S} s")]
    Busy,
    /// The work did not come to its end.
    #[error(transparent)]
    Failed(#[from] MetadataError),
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            queue: Arc::new(Semaphore::new(HASHES_MAX + WAITING_MAX)),
            hashing: Arc::new(Semaphore::new(HASHES_MAX)),
        }
    }
}

impl Passwords {
    /// Does `work` when its turn comes. Who goes away while it runs keeps its place until it is done.
    ///
    /// # Errors
    /// Too many wait already, or the work panicked.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotHashed> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| NotHashed::Busy)?;
        // Closed it is never; an error would mean that nobody hashes any more.
        let turn = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| NotHashed::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((turn, place));
            done
        });
        done.await.map_err(|error| NotHashed::Failed(MetadataError::interrupted(error)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn two_hash_at_once_some_wait_and_the_rest_is_sent_away() {
        let (passwords, at_once) = (Arc::new(Passwords::default()), Arc::new(AtomicUsize::new(0)));
        let most = Arc::new(AtomicUsize::new(0));
        let mut all = JoinSet::new();
        let mut releases = Vec::new();
        for _ in 0..HASHES_MAX + WAITING_MAX + 7 {
            let (release, released) = mpsc::channel::<()>();
            releases.push(release);
            let (passwords, at_once, most) =
                (Arc::clone(&passwords), Arc::clone(&at_once), Arc::clone(&most));
            all.spawn(async move {
                let hash = move || {
                    most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // An error is the release: the test lets go of all at once.
                    let _released = released.recv();
                    at_once.fetch_sub(1, Ordering::SeqCst);
                };
                passwords.work(hash).await.is_ok()
            });
        }
        let mut sent_away = 0;
        while sent_away < 7 {
            assert!(!all.join_next().await.unwrap().unwrap(), "nothing is done yet");
            sent_away += 1;
        }
        drop(releases);
        assert_eq!(all.join_all().await, vec![true; HASHES_MAX + WAITING_MAX]);
        assert!(most.load(Ordering::SeqCst) <= HASHES_MAX);
    }
}
