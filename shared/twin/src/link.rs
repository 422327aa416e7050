//! How two ends come to agree on one twin: a state machine for each peer.
//!
//! At a session's begin make a [`Link`]; hand it each message by [`Link::handle`], write the record that comes of it, and send
//! what [`Link::poll`] gives until it gives none, after each message, each edit, and each record that became durable.
//! Messages may be lost, doubled and late: what is missing is asked for again, and what is there twice changes nothing. A
//! line that loses messages needs a new link now and then, as after each reconnect.

use std::collections::BTreeSet;

use automerge::ChangeHash;

use crate::actor::{Generation, Side};
use crate::limits::{CHANGES_BYTES_MAX, CHANGES_PER_MESSAGE_MAX, HEADS_MAX, PEER_BYTES_MAX};
use crate::message::Message;
use crate::receive::Refusal;
use crate::twin::{Record, Twin};

/// One end of the agreement on one twin.
#[derive(Debug, Clone)]
pub struct Link {
    peer: String,
    generation: Generation,
    /// What the peer certainly has; `None` until it said so.
    have: Option<BTreeSet<ChangeHash>>,
    peer_generation: Option<Generation>,
    ask: bool,
    /// It is asked twice in the beginning.
    ask_again: bool,
    base: bool,
    confirm: bool,
    /// The peer confirmed what has not come yet: it is asked again when it has.
    early: bool,
    /// The peer has said what it has in this session.
    asked: bool,
    /// Of what the peer has said that it has, what is not here yet.
    awaited: Vec<ChangeHash>,
}

impl Link {
    /// Begins a session with a peer, whose name is cut to [`PEER_BYTES_MAX`].
    #[must_use]
    pub fn new(peer: &str, twin: &Twin) -> Self {
        let mut name = peer.to_owned();
        while name.len() > PEER_BYTES_MAX {
            name.pop();
        }
        Self {
            peer: name,
            generation: twin.generation(),
            have: None,
            peer_generation: None,
            ask: true,
            ask_again: false,
            base: false,
            confirm: false,
            early: false,
            asked: false,
            awaited: Vec::new(),
        }
    }

    /// As [`Link::new`], within a session in which the peer has said already what it has, and was not heard. It says that once, and
    /// confirms what it has when it is asked for the second time.
    #[must_use]
    pub fn anew(peer: &str, twin: &Twin) -> Self {
        Self { ask_again: true, ..Self::new(peer, twin) }
    }

    /// Takes a message. The record that comes of it is to be written before anything is told to the peer; [`Link::poll`]
    /// sees to that.
    ///
    /// # Errors
    /// The message is refused, and twin and link are as they were.
    pub fn handle(&mut self, twin: &mut Twin, message: &Message) -> Result<Option<Record>, Refusal> {
        self.handle_at(twin, message, None)
    }

    /// As [`Link::handle`], and says when that is, in milliseconds since 1970, where the clock of this end is to be trusted more
    /// than those of others: changes which say that they are of later are of now. The times are kept with the twin.
    ///
    /// # Errors
    /// As there.
    pub fn handle_at(
        &mut self,
        twin: &mut Twin,
        message: &Message,
        now_ms: Option<i64>,
    ) -> Result<Option<Record>, Refusal> {
        match message {
            Message::State { generation, heads, shared } => {
                self.state(twin, *generation, heads, shared);
                Ok(None)
            }
            Message::Changes { generation, changes } => {
                if !self.is_same(twin, *generation) {
                    return Ok(None);
                }
                let received = twin.receive(&self.peer, changes, now_ms)?;
                self.ask |= received.missing || std::mem::take(&mut self.early);
                self.add_have(twin, &received.there);
                // Also for what was known: the peer sends it since it missed the confirmation.
                self.confirm = true;
                if !self.awaited.is_empty() && self.awaited.iter().all(|head| twin.document.knows(head)) {
                    self.awaited.clear();
                    twin.meet(&self.peer);
                }
                Ok(received.record)
            }
            Message::Confirm { generation, heads } => {
                if !self.is_same(twin, *generation) {
                    return Ok(None);
                }
                // It has these, also where what it said in the beginning was not heard.
                self.have.get_or_insert_with(|| twin.document.base.iter().copied().collect());
                self.add_have(twin, heads);
                let knows_all = heads.iter().all(|head| twin.document.knows(head));
                if knows_all {
                    twin.meet(&self.peer);
                }
                self.early = !knows_all;
                Ok(twin.confirm(&self.peer, heads))
            }
            Message::Base { generation, changes, included } => {
                if *generation <= twin.generation() {
                    self.base |= *generation < twin.generation();
                    self.confirm |= *generation == twin.generation();
                    return Ok(None);
                }
                let record = twin.adopt(*generation, changes, included)?;
                self.restart(twin);
                self.peer_generation = Some(*generation);
                self.have = Some(twin.document.base.iter().copied().collect());
                // It has not said yet what it has beside the base.
                self.confirm = true;
                Ok(Some(record))
            }
        }
    }

    fn state(
        &mut self,
        twin: &mut Twin,
        generation: Generation,
        heads: &[ChangeHash],
        shared: &[ChangeHash],
    ) {
        self.peer_generation = Some(generation);
        self.restart_if_moved(twin);
        if generation < twin.generation() {
            self.base = true;
        } else if generation > twin.generation() {
            self.ask = true;
        } else {
            // Only what the peer says itself: it may have forgotten what it had.
            self.have = Some(twin.document.base.iter().copied().collect());
            self.add_have(twin, heads);
            self.add_have(twin, shared);
            // Asked once more, it may be for what was confirmed too early.
            self.confirm |= std::mem::replace(&mut self.asked, true);
            self.awaited = heads.iter().filter(|head| !twin.document.knows(head)).copied().collect();
            if self.awaited.is_empty() {
                twin.meet(&self.peer);
            }
        }
    }

    /// Whether a message is of the twin's generation; if not, one end needs the other's base.
    fn is_same(&mut self, twin: &Twin, generation: Generation) -> bool {
        self.peer_generation = Some(generation);
        self.base |= generation < twin.generation();
        self.ask |= generation > twin.generation();
        generation == twin.generation()
    }

    fn add_have(&mut self, twin: &Twin, hashes: &[ChangeHash]) {
        if let Some(have) = &mut self.have {
            twin.document.add_had(have, hashes);
        }
    }

    fn restart_if_moved(&mut self, twin: &Twin) {
        if self.generation != twin.generation() {
            self.restart(twin);
            self.base = self.peer_generation.is_some_and(|peer| peer < twin.generation());
        }
    }

    fn restart(&mut self, twin: &Twin) {
        self.generation = twin.generation();
        self.have = None;
        self.base = false;
        self.ask = true;
        self.awaited.clear();
    }

    /// The twin has taken another name, see [`Twin::part`]: the ends tell each other what they have once more.
    pub fn handle_parted(&mut self, twin: &Twin) {
        let knows = self.have.is_some();
        self.restart(twin);
        // The peer says what it has at a session's begin only; what it has already changes nothing.
        self.have = knows.then(|| twin.document.base.iter().copied().collect());
    }

    /// The next message to send, of durable changes only.
    pub fn poll(&mut self, twin: &Twin) -> Option<Message> {
        self.restart_if_moved(twin);
        if !twin.has_durable_base() {
            return None;
        }
        let generation = twin.generation();
        if std::mem::take(&mut self.ask) {
            self.ask = std::mem::take(&mut self.ask_again);
            let mut heads = twin.document.am.get_heads();
            heads.truncate(HEADS_MAX);
            let shared = twin.shared.get(&self.peer).cloned().unwrap_or_default();
            return Some(Message::State { generation, heads, shared });
        }
        if std::mem::take(&mut self.base) {
            self.peer_generation = Some(generation);
            self.have = Some(twin.document.base.iter().copied().collect());
            // A hub that takes a base has forgotten, and waits for all that there is beside it.
            self.ask = twin.actor().side() != Some(Side::Hub);
            return Some(base(twin));
        }
        if self.confirm && twin.is_durable() {
            self.confirm = false;
            let mut heads = twin.document.am.get_heads();
            heads.truncate(HEADS_MAX);
            return Some(Message::Confirm { generation, heads });
        }
        self.changes(twin)
    }

    fn changes(&mut self, twin: &Twin) -> Option<Message> {
        let have = self.have.as_mut()?;
        if twin.document.am.get_heads().iter().all(|head| have.contains(head)) {
            return None;
        }
        let known: Vec<_> = have.iter().copied().collect();
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for change in twin.durable_since(&known)? {
            let raw = change.raw_bytes();
            bytes += raw.len();
            if !changes.is_empty() && (bytes > CHANGES_BYTES_MAX || changes.len() >= CHANGES_PER_MESSAGE_MAX)
            {
                break;
            }
            changes.push(raw.to_vec());
            for dep in change.deps() {
                have.remove(dep);
            }
            have.insert(change.hash());
        }
        let generation = twin.generation();
        (!changes.is_empty()).then_some(Message::Changes { generation, changes })
    }
}

fn base(twin: &Twin) -> Message {
    let document = &twin.document;
    let of = document.base.iter().filter(|hash| **hash != document.genesis);
    let changes = of.filter_map(|hash| Some(document.change(hash).ok()?.raw_bytes().to_vec())).collect();
    Message::Base { generation: document.generation, changes, included: twin.included.clone() }
}
