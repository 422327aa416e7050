//! What the hub holds, for an agent that wants to compare it with what it holds itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tideline_protocol::model::Epoch;
use tideline_protocol::wire::{Agreement, Audit};
use tideline_store::StoreError;
use tokio::task::JoinSet;

use super::{Driver, Ended, aside};

/// The audit of a session that is under way: a session has one at a time.
pub(super) type Audits = JoinSet<Result<Agreement, Ended>>;

/// Becomes true when the session is gone.
#[derive(Debug, Default)]
pub(super) struct Cancelled(Arc<AtomicBool>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Driver {
    /// Begins to read what is stored of these seqs.
    pub(super) fn audit(&mut self, epoch: Epoch, asked: Audit) {
        let (hub, agent) = (Arc::clone(&self.hub), self.agent.clone());
        let cancelled = Arc::clone(&self.audit_cancelled.0);
        self.audits.spawn(async move {
            // One agent after the other: it reads whole files. The turn ends with the reading, which goes
            // on for a moment when the session is gone.
            let turn = Arc::clone(&hub.audits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
            let Audit { id, seqs, per } = asked;
            let found = hub.blocking(move |hub| {
                let _turn = turn;
                let otherwise = aside::otherwise(hub, &agent, epoch)?;
                let seqs = (&seqs, per);
                Ok::<_, Ended>(hub.store.audit_named(&agent, epoch, seqs, &otherwise, &cancelled)?)
            });
            let (settled, digests) = found.await?;
            Ok(Agreement { id, settled, digests })
        });
    }
}
