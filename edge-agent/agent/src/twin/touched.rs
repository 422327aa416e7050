//! Which twins have changed, for who carries out what they desire.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tideline_protocol::wire::DocumentId;
use tokio::sync::Notify;

/// Twins that have changed since somebody last took them, each once; there are no more of them than there are twins. A clone is
/// of the same ones, of which one is to be followed.
#[derive(Clone, Default)]
pub struct Touched(Arc<(Mutex<BTreeSet<DocumentId>>, Notify)>);

impl Touched {
    /// These have changed, durably.
    pub(super) fn add(&self, documents: BTreeSet<DocumentId>) {
        if !documents.is_empty() {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner).extend(documents);
            self.0.1.notify_one();
        }
    }

    /// Those that have changed; waits until there is one. Cancel safe.
    pub async fn take(&self) -> BTreeSet<DocumentId> {
        loop {
            let taken = std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.0.1.notified().await;
        }
    }
}
