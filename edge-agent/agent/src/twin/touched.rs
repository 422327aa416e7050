//! Which twins have changed, for those who carry out what they desire.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tideline_protocol::wire::DocumentId;
use tokio::sync::Notify;

/// Who is to hear of changes; a clone has the same followers.
#[derive(Clone, Default)]
pub struct Touched(Arc<Mutex<Vec<Weak<Since>>>>);

/// What has changed since somebody last took it.
#[derive(Default)]
struct Since {
    documents: Mutex<BTreeSet<DocumentId>>,
    more: Notify,
}

/// Twins that have changed since they were last taken here, each once; there are no more of them than there are twins.
pub struct Followed(Arc<Since>);

impl Touched {
    /// These have changed, durably.
    pub(super) fn add(&self, documents: &BTreeSet<DocumentId>) {
        let mut followers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has gone is forgotten.
        followers.retain(|follower| {
            let Some(since) = follower.upgrade() else { return false };
            since.documents.lock().unwrap_or_else(PoisonError::into_inner).extend(documents.iter().cloned());
            since.more.notify_one();
            true
        });
    }

    /// Tells of all changes from now on.
    #[must_use]
    pub fn follow(&self) -> Followed {
        let since = Arc::new(Since::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&since));
        Followed(since)
    }
}

impl Followed {
    /// Those that have changed; waits until there is one. Cancel safe.
    pub async fn take(&self) -> BTreeSet<DocumentId> {
        loop {
            let taken = std::mem::take(&mut *self.0.documents.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.0.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_follower_hears_of_all_changes_since_it_last_asked() {
        let touched = Touched::default();
        let of = |name: &str| BTreeSet::from([name.parse::<DocumentId>().unwrap()]);
        let (first, gone) = (touched.follow(), touched.follow());
        drop(gone);
        touched.add(&of("pump"));
        let second = touched.follow();
        touched.add(&of("group/wet"));
        assert_eq!(first.take().await, &of("pump") | &of("group/wet"));
        assert_eq!(second.take().await, of("group/wet"));
        assert_eq!(touched.0.lock().unwrap().len(), 2, "who has gone is forgotten");
    }
}
