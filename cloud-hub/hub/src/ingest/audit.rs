//! What the hub holds, for an agent that wants to compare it with what it holds itself.

use std::sync::Arc;

use tideline_protocol::model::Epoch;
use tideline_protocol::wire::{Agreement, Audit};
use tideline_store::StoreError;
use tokio::task::JoinSet;

use super::{Driver, Ended};

/// The audit of a session that is under way: a session has one at a time.
pub(super) type Audits = JoinSet<Result<Agreement, Ended>>;

impl Driver {
    /// Begins to read what is stored of these seqs.
    pub(super) fn audit(&mut self, epoch: Epoch, asked: Audit) {
        let (hub, agent) = (Arc::clone(&self.hub), self.agent.clone());
        self.audits.spawn(async move {
            // One agent after the other: it reads whole files.
            let _turn = hub.audits.acquire().await.map_err(|_| StoreError::Closed)?;
            let Audit { id, seqs, per } = asked;
            let found = hub.blocking(move |hub| Ok::<_, Ended>(hub.store.audit(&agent, epoch, &seqs, per)?));
            let (settled, digests) = found.await?;
            Ok(Agreement { id, settled, digests })
        });
    }
}
