//! What is durable at both ends, as far as one of them knows.

use std::collections::BTreeSet;

use automerge::ChangeHash;

use crate::actor::Actor;
use crate::limits::{HEADS_MAX, PEERS_MAX};
use crate::store;
use crate::twin::{Record, Twin, Write};

impl Twin {
    /// Own changes that no peer has confirmed.
    #[must_use]
    pub const fn unconfirmed(&self) -> u64 {
        self.unconfirmed
    }

    /// Whether all that is here is durable, and known to be so at a peer: what is desired has arrived.
    #[must_use]
    pub fn is_agreed(&self, peer: &str) -> bool {
        let shared = self.shared.get(peer).map_or(&[][..], Vec::as_slice);
        !shared.is_empty() && self.is_durable() && self.document.am.get_changes_meta(shared).is_empty()
    }

    /// Whether a replica has met those that share its document, so that it may cut history off; one that was never restored has
    /// nothing to meet them for.
    #[must_use]
    pub fn has_met(&self, peers: &[&str]) -> bool {
        let met_all = !self.met.is_empty() && peers.iter().all(|peer| self.met.contains(*peer));
        self.former.is_empty() || met_all
    }

    /// What is durable at a peer that has sent these, with what they build on; it confirms only what it was sent.
    pub(crate) fn has_sent(&mut self, peer: &str, hashes: &[ChangeHash]) -> Option<Vec<ChangeHash>> {
        let mut shared: BTreeSet<_> = self.shared.get(peer).into_iter().flatten().copied().collect();
        self.document.add_had(&mut shared, hashes);
        let shared = shared.into_iter().take(HEADS_MAX).collect();
        self.share(peer, shared)
    }

    /// Keeps what is durable at a peer, if that is news.
    fn share(&mut self, peer: &str, shared: Vec<ChangeHash>) -> Option<Vec<ChangeHash>> {
        let full = self.shared.len() >= PEERS_MAX && !self.shared.contains_key(peer);
        if shared.is_empty() || full || self.shared.get(peer) == Some(&shared) {
            return None;
        }
        self.shared.insert(peer.to_owned(), shared.clone());
        self.count_unconfirmed();
        Some(shared)
    }

    /// What a peer says is durable there, as far as this end knows it.
    pub(crate) fn confirm(&mut self, peer: &str, heads: &[ChangeHash]) -> Option<Record> {
        let known: Vec<_> = heads.iter().filter(|head| self.document.knows(head)).copied().collect();
        let mut shared = if known.len() == heads.len() {
            known
        } else {
            let before = self.shared.get(peer).cloned().unwrap_or_default();
            known.into_iter().chain(before).collect()
        };
        shared.sort_unstable();
        shared.dedup();
        shared.truncate(HEADS_MAX);
        let shared = self.share(peer, shared)?;
        let bytes = store::appended(self.document.generation, &[], Some((peer, &shared)), &[]);
        Some(self.record(Write::Append(bytes), Some(Vec::new())))
    }

    /// A peer has told all that it has, and it is here.
    pub(crate) fn meet(&mut self, peer: &str) {
        if !self.former.is_empty() && self.met.len() < PEERS_MAX {
            self.met.insert(peer.to_owned());
        }
    }

    pub(crate) fn count_unconfirmed(&mut self) {
        let shared: Vec<_> = self.shared.values().flatten().copied().collect();
        let left = self.document.am.get_changes_meta(&shared);
        let own = left.iter().filter(|meta| Actor::of(&meta.actor) == Some(self.actor));
        self.unconfirmed = own.count() as u64;
    }
}
