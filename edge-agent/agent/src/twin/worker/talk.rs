//! What the replicas and the hub say to each other in a session.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tideline_protocol::wire::{DocumentId, TwinSync};
use tideline_twin::{Link, Message, Refusal, Step, Twin};

use super::super::{Kin, TwinError};
use super::Round;
use super::replicas::Replicas;

/// The hub's name as a peer.
const PEER: &str = "hub";
/// Bytes of messages that are fetched at a time; one that is longer goes alone.
const TAKE_BYTES_MAX: usize = 256 * 1024;
/// Messages that are fetched at a time.
const TAKE_MAX: usize = 64;
/// Documents that the hub spoke of before their devices were known, of one session (INV-6).
const ASKED_MAX: usize = 1_000;
/// Times that one document takes another name in a session: a hub cannot make it do so for ever.
const PARTINGS_MAX: u32 = 2;
/// Documents of sites: a gateway's devices are at one or a few (INV-6).
const SITES_MAX: usize = 64;
/// Documents of groups: a device may be in 16, and a gateway's devices are mostly in the same ones (INV-6).
const GROUPS_MAX: usize = 64;
/// Characters of a refusal that are shown, and of what was lost.
const REFUSAL_CHARS_MAX: usize = 300;
/// Leaves that are named of those that were written in vain; the others are counted.
const LOST_NAMED_MAX: usize = 8;

/// Counts of all sessions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub taken: u64,
    pub given: u64,
    pub taken_bytes: u64,
    pub given_bytes: u64,
    pub refused: u64,
    /// Changes made here that went with what is shared no more.
    pub lost: u64,
}

#[derive(Default)]
struct Spoken {
    link: Option<Link>,
    partings: u32,
}

#[derive(Default)]
pub struct Talk {
    session: u64,
    spoken: HashMap<DocumentId, Spoken>,
    // Documents whose links may have something to say, each once.
    queue: VecDeque<DocumentId>,
    queued: BTreeSet<DocumentId>,
    // What the hub spoke of that is not known yet.
    asked: BTreeSet<DocumentId>,
    pub counts: Counts,
    pub last_refusal: Option<String>,
    /// What went last of it.
    pub last_lost: Option<String>,
    /// Documents that something changed which came.
    pub changed: BTreeSet<DocumentId>,
    /// Whether the hub confirmed anything.
    pub confirmed: bool,
}

impl Talk {
    /// Begins a session about these documents; one before it is over.
    pub fn begin(&mut self, documents: Vec<DocumentId>) -> u64 {
        self.session += 1;
        self.asked.clear();
        self.restart(documents);
        self.session
    }

    /// Begins to speak of these documents anew.
    pub fn restart(&mut self, documents: Vec<DocumentId>) {
        self.spoken.clear();
        self.queue.clear();
        self.queued.clear();
        if self.session > 0 {
            documents.iter().for_each(|document| self.touch(document));
        }
    }

    /// A document may have something to say.
    pub fn touch(&mut self, document: &DocumentId) {
        if self.session > 0 && self.queued.insert(document.clone()) {
            self.queue.push_back(document.clone());
        }
    }

    pub fn has_something_to_say(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes a message. What is wrong with it costs the message, and is counted.
    pub fn receive(
        &mut self,
        session: u64,
        sync: &TwinSync,
        replicas: &mut Replicas,
        kin: &Kin,
        round: &mut Round,
    ) {
        if session != self.session {
            return;
        }
        self.counts.taken += 1;
        self.counts.taken_bytes += sync.message.len() as u64;
        if let Err(reason) = self.take_in(sync, replicas, kin, round) {
            self.counts.refused += 1;
            let reason: String = reason.chars().take(REFUSAL_CHARS_MAX).collect();
            tracing::warn!(document = %sync.document, reason, "a message of the hub about a twin is refused");
            self.last_refusal = Some(format!("{}: {reason}", sync.document));
        }
    }

    fn take_in(
        &mut self,
        sync: &TwinSync,
        replicas: &mut Replicas,
        kin: &Kin,
        round: &mut Round,
    ) -> Result<(), String> {
        let (document, said) = (&sync.document, |error: TwinError| error.to_string());
        match document {
            DocumentId::Device(device) if !replicas.holds(document) && !kin.holds(device) => {
                // It may be known soon: a source has to find its device first.
                if self.asked.len() < ASKED_MAX {
                    self.asked.insert(document.clone());
                }
                return Err(said(TwinError::NoDevice(device.clone())));
            }
            DocumentId::Site(_) | DocumentId::Group(_) if sync.message.is_empty() => {
                return self.leave(document, replicas, round).map_err(said);
            }
            DocumentId::Site(_) if !replicas.holds(document) && replicas.alike(document) >= SITES_MAX => {
                return Err(format!("the agent keeps the documents of {SITES_MAX} sites already"));
            }
            DocumentId::Group(_) if !replicas.holds(document) && replicas.alike(document) >= GROUPS_MAX => {
                return Err(format!("the agent keeps the documents of {GROUPS_MAX} groups already"));
            }
            DocumentId::Device(_) | DocumentId::Site(_) | DocumentId::Group(_) => {}
        }
        let message = Message::from_bytes(&sync.message).map_err(|refusal| refusal.to_string())?;
        let twin = replicas.twin_or_new(document, round).map_err(said)?;
        let spoken = self.spoken.entry(document.clone()).or_default();
        let link = spoken.link.get_or_insert_with(|| Link::new(PEER, twin));
        let before = twin.heads();
        let taken = link.handle(twin, &message);
        let changed = twin.heads() != before;
        match taken {
            Ok(Some(record)) if matches!(message, Message::Confirm { .. }) => round.defer(document, record),
            Ok(Some(record)) => round.write(document, record),
            Ok(None) => {}
            Err(refusal) => self.part(document, &message, &refusal, replicas, round)?,
        }
        replicas.count(document);
        if changed {
            self.changed.insert(document.clone());
        }
        self.confirmed |= matches!(message, Message::Confirm { .. });
        self.touch(document);
        Ok(())
    }

    /// The hub says that none of the agent's devices is at the site or in the group any more.
    fn leave(
        &mut self,
        document: &DocumentId,
        replicas: &mut Replicas,
        round: &mut Round,
    ) -> Result<(), TwinError> {
        if !replicas.holds(document) {
            return Ok(());
        }
        let lost = lost(replicas.twin(document, round)?);
        tracing::info!(%document, "none of the agent's devices is there any more");
        replicas.leave(document)?;
        if let Some((unconfirmed, leaves)) = lost {
            tracing::warn!(%document, unconfirmed, leaves, "changes made here go with what is shared no more");
            self.counts.lost += unconfirmed;
            self.last_lost = Some(format!("{document}: {leaves}"));
        }
        round.forget(document);
        self.spoken.remove(document);
        self.queue.retain(|of| of != document);
        self.queued.remove(document);
        self.changed.insert(document.clone());
        Ok(())
    }

    /// Where a copy of this replica's file writes by its name, it takes another.
    fn part(
        &mut self,
        document: &DocumentId,
        message: &Message,
        refusal: &Refusal,
        replicas: &mut Replicas,
        round: &mut Round,
    ) -> Result<(), String> {
        let reason = refusal.to_string();
        let spoken = self.spoken.entry(document.clone()).or_default();
        if !matches!(refusal, Refusal::ReusedActor { .. }) || spoken.partings >= PARTINGS_MAX {
            return Err(reason);
        }
        spoken.partings += 1;
        let before = replicas.twin(document, round).map_err(|error| error.to_string())?.actor();
        let actor = replicas.other_name(before);
        let twin = replicas.twin(document, round).map_err(|error| error.to_string())?;
        let Some(record) = twin.part(actor, message).map_err(|error| error.to_string())? else {
            return Err(reason);
        };
        tracing::warn!(%document, "a copy of this agent's twins is in use elsewhere; it goes on by another name");
        if let Some(link) = &mut spoken.link {
            link.handle_parted(twin);
        }
        round.write(document, record);
        self.changed.insert(document.clone());
        Ok(())
    }

    /// What the hub spoke of is looked at again: a device may be known now.
    pub fn met(&mut self, replicas: &mut Replicas, kin: &Kin, round: &mut Round) {
        let now_known = |document: &DocumentId| matches!(document, DocumentId::Device(d) if kin.holds(d));
        let known: Vec<_> = self.asked.iter().filter(|document| now_known(document)).cloned().collect();
        for document in known {
            self.asked.remove(&document);
            match replicas.twin_or_new(&document, round) {
                Ok(_) => self.touch(&document),
                Err(error) => tracing::warn!(%document, %error, "a twin that the hub speaks of is not kept"),
            }
        }
    }

    /// What is to be said next.
    pub fn take(&mut self, session: u64, replicas: &mut Replicas, round: &mut Round) -> Vec<TwinSync> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        if session != self.session {
            return taken;
        }
        while taken.len() < TAKE_MAX && bytes < TAKE_BYTES_MAX {
            let Some(document) = self.queue.front().cloned() else { break };
            match self.next(&document, replicas, round) {
                Some(message) => {
                    bytes += message.len();
                    taken.push(TwinSync { document, message });
                }
                None => {
                    self.queue.pop_front();
                    self.queued.remove(&document);
                }
            }
        }
        self.counts.given += taken.len() as u64;
        self.counts.given_bytes += bytes as u64;
        taken
    }

    fn next(&mut self, document: &DocumentId, replicas: &mut Replicas, round: &mut Round) -> Option<Vec<u8>> {
        if !replicas.holds(document) {
            return None;
        }
        match replicas.twin(document, round) {
            Ok(twin) => {
                let spoken = self.spoken.entry(document.clone()).or_default();
                let link = spoken.link.get_or_insert_with(|| Link::new(PEER, twin));
                link.poll(twin).map(|message| message.to_bytes())
            }
            Err(error) => {
                tracing::error!(%document, %error, "a twin cannot be read, and nothing is said of it");
                None
            }
        }
    }
}

/// How many changes were made here that the hub has not confirmed, and which leaves the newest of them wrote and who did.
fn lost(twin: &Twin) -> Option<(u64, String)> {
    let unconfirmed = twin.unconfirmed();
    if unconfirmed == 0 {
        return None;
    }
    let named = LOST_NAMED_MAX.min(usize::try_from(unconfirmed).unwrap_or(LOST_NAMED_MAX));
    // Own changes come one after the other, each of them with a step or more: the newest steps are of such changes.
    let steps = twin.history(&[]).unwrap_or_default().into_iter().rev();
    let own = steps.filter(|step| step.actor == twin.actor()).take(named);
    let name = |step: Step| format!("{}/{} by {:?}", step.section, step.key, step.author);
    let leaves: Vec<_> = own.map(name).collect();
    Some((unconfirmed, leaves.join(", ").chars().take(REFUSAL_CHARS_MAX).collect()))
}
