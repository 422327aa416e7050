//! The thread's loop: what waits is carried out in memory, made durable by one commit, and only then told.

mod replicas;
mod talk;

use std::collections::BTreeSet;

use tideline_protocol::time::{Clock as _, NS_PER_MS};
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Record, Twin};
use tokio::sync::{mpsc, oneshot, watch};

use self::replicas::{Open, Replicas};
use self::talk::Talk;
use super::file::{Entry, TwinFile};
use super::{Edited, Look, Make, Parts, Request, Touched, TwinError, etag};
use crate::status::TwinStatus;

/// Most requests of one commit: the last of them waits for all.
const GROUP_MAX: usize = 128;
/// Records that nobody waits for, of what the hub has confirmed, beyond which they are written all the same.
const DEFERRED_MAX: usize = 256;

/// What is told once what came before it is durable.
type Told = Box<dyn FnOnce(Result<(), TwinError>) + Send>;

/// What the requests of one commit have left to be written and told.
#[derive(Default)]
pub struct Round {
    records: Vec<(DocumentId, Record)>,
    // Whether somebody waits for them.
    urgent: bool,
    told: Vec<Told>,
    // Documents that are other than they were.
    changed: BTreeSet<DocumentId>,
}

impl Round {
    /// To be written before anything is told of it.
    pub fn write(&mut self, document: &DocumentId, record: Record) {
        self.urgent = true;
        self.defer(document, record);
    }

    /// What was to be written of a document that goes.
    pub fn forget(&mut self, document: &DocumentId) {
        self.records.retain(|(of, _)| of != document);
    }

    /// To be written with something else: lost, it would come again.
    pub fn defer(&mut self, document: &DocumentId, record: Record) {
        self.records.push((document.clone(), record));
    }
}

pub struct Worker {
    parts: Parts,
    replicas: Replicas,
    talk: Talk,
    round: Round,
    status: TwinStatus,
    say: watch::Sender<u64>,
    change: watch::Sender<u64>,
    touched: Touched,
    // By how much the hub's wall clock is ahead of the monotonic one here.
    hub_ahead_ns: Option<i64>,
}

impl Worker {
    pub fn open(parts: Parts, say: watch::Sender<u64>, change: watch::Sender<u64>) -> anyhow::Result<Self> {
        let path = parts.path.clone();
        Self::open_with(parts, Box::new(move || TwinFile::open(&path)), say, change)
    }

    fn open_with(
        parts: Parts,
        open: Open,
        say: watch::Sender<u64>,
        change: watch::Sender<u64>,
    ) -> anyhow::Result<Self> {
        let replicas = Replicas::open(open, (parts.epoch)())?;
        let (talk, round, status) = (Talk::default(), Round::default(), TwinStatus::default());
        let touched = Touched::default();
        let worker = Self { parts, replicas, talk, round, status, say, change, touched, hub_ahead_ns: None };
        worker.show();
        Ok(worker)
    }

    /// Who is to hear of documents that change.
    pub fn touched(&self) -> Touched {
        self.touched.clone()
    }

    pub fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut closing = None;
        while let Some(first) = inbox.blocking_recv() {
            let mut next = Some(first);
            for _ in 0..GROUP_MAX {
                let Some(request) = next.take().or_else(|| inbox.try_recv().ok()) else { break };
                if let Request::Close(answer) = request {
                    closing = Some(answer);
                    break;
                }
                self.carry_out(request);
            }
            self.finish();
            if closing.is_some() {
                break;
            }
        }
        self.round.urgent = true;
        self.finish();
        drop(self);
        if let Some(answer) = closing {
            // Who asked may have gone.
            let _ = answer.send(());
        }
    }

    fn carry_out(&mut self, request: Request) {
        let epoch = (self.parts.epoch)();
        if !self.replicas.is_of(epoch) {
            self.round.urgent = true;
            self.finish();
            self.replicas.follow(epoch);
        }
        match request {
            Request::Look(document, look) => self.look(&document, look),
            Request::Edit(document, make, answer) => self.edit(&document, make, answer),
            Request::List(answer) => {
                // Who asked may have gone, here and below.
                let _ = answer.send(self.replicas.list());
            }
            Request::Begin(answer) => {
                let _ = answer.send(self.talk.begin(self.replicas.documents()));
            }
            Request::Receive(session, sync) => {
                // As when a site or a group is left: what somebody waits for is durable and answered before, and not thrown away untold.
                if sync.message.is_empty() {
                    self.finish();
                }
                self.talk.receive(session, &sync, &mut self.replicas, &self.parts.kin, &mut self.round);
            }
            Request::Take(session, answer) => {
                let _ = answer.send(self.talk.take(session, &mut self.replicas, &mut self.round));
            }
            Request::Time(ahead_ns) => self.hub_ahead_ns = Some(ahead_ns),
            Request::Met => self.talk.met(&mut self.replicas, &self.parts.kin, &mut self.round),
            Request::Rest => {
                self.round.urgent = true;
                self.replicas.rest();
            }
            Request::Close(_) => {}
        }
    }

    /// Whether a document may be here: the agent is that device or reads it, or has been it or read it; or the hub has told of the site
    /// or the group.
    fn admit(&self, document: &DocumentId) -> Result<(), TwinError> {
        match document {
            DocumentId::Device(device) if !self.parts.kin.holds(device) && !self.replicas.holds(document) => {
                Err(TwinError::NoDevice(device.clone()))
            }
            DocumentId::Site(_) | DocumentId::Group(_) if !self.replicas.holds(document) => {
                Err(TwinError::NotShared(document.clone()))
            }
            DocumentId::Device(_) | DocumentId::Site(_) | DocumentId::Group(_) => Ok(()),
        }
    }

    fn look(&mut self, document: &DocumentId, look: Look) {
        let twin = self.admit(document).and_then(|()| {
            if self.replicas.holds(document) {
                self.replicas.twin(document, &mut self.round).map(|twin| &*twin)
            } else {
                self.replicas.empty().map(|twin| &*twin)
            }
        });
        look(twin);
    }

    fn edit(
        &mut self,
        document: &DocumentId,
        make: Make,
        answer: oneshot::Sender<Result<Edited, TwinError>>,
    ) {
        let edited = self.edited(document, make);
        self.round.told.push(Box::new(move |durable| {
            // Who asked may have gone; the change is made all the same.
            let _ = answer.send(durable.and(edited));
        }));
    }

    fn edited(&mut self, document: &DocumentId, make: Make) -> Result<Edited, TwinError> {
        self.admit(document)?;
        let mut change = if self.replicas.holds(document) {
            make(self.replicas.twin(document, &mut self.round)?)?
        } else {
            make(self.replicas.empty()?)?
        };
        change.time_ms = change.time_ms.saturating_add(self.behind_ms());
        let twin = self.replicas.twin_or_new(document, &mut self.round)?;
        let record = twin.edit(&change)?;
        let (changed, etag) = (record.is_some(), etag(twin));
        if let Some(record) = record {
            self.round.write(document, record);
            self.round.changed.insert(document.clone());
            self.talk.touch(document);
        }
        Ok(Edited { changed, etag })
    }

    /// By how much the clock here is behind the hub's, as far as that is known: edits have the time that it is there.
    fn behind_ms(&self) -> i64 {
        let clock = &self.parts.clock;
        let hub_ns = self.hub_ahead_ns.map(|ahead_ns| ahead_ns.saturating_add_unsigned(clock.mono_ns()));
        hub_ns.map_or(0, |hub_ns| hub_ns.saturating_sub(clock.wall_ns()) / NS_PER_MS)
    }

    /// Makes durable what is to be, and tells whoever waits.
    fn finish(&mut self) {
        let due = self.round.urgent || self.round.records.len() > DEFERRED_MAX || self.replicas.is_crowded();
        let written = if due { self.commit() } else { Ok(()) };
        if let Err(error) = &written {
            tracing::error!(%error, "twins cannot be written; they are read again");
            self.round.records.clear();
            self.replicas.forget();
            self.talk.restart(self.replicas.documents());
        }
        self.round.urgent = false;
        for told in self.round.told.drain(..) {
            told(written.clone());
        }
        let mut changed = std::mem::take(&mut self.round.changed);
        changed.append(&mut self.talk.changed);
        if !changed.is_empty() {
            self.change.send_modify(|changes| *changes += 1);
            self.touched.add(&changed);
        }
        // Those with something to be written are not in the file.
        if self.round.records.is_empty() {
            self.replicas.evict();
        }
        self.show_agreement();
        self.show();
        if self.talk.has_something_to_say() {
            self.say.send_modify(|times| *times += 1);
        }
    }

    fn commit(&mut self) -> Result<(), TwinError> {
        if self.round.records.is_empty() && !self.replicas.is_renamed() {
            return Ok(());
        }
        self.replicas.fold(&mut self.round.records);
        let entries: Vec<_> = self
            .round
            .records
            .iter()
            .map(|(document, record)| Entry { document, write: &record.write })
            .collect();
        self.replicas.commit(&entries)?;
        self.status.commits += 1;
        for (document, record) in self.round.records.drain(..) {
            self.replicas.written(&document, &record);
            self.talk.touch(&document);
        }
        Ok(())
    }

    fn show_agreement(&mut self) {
        let is_agreed = self.replicas.unconfirmed() == 0;
        if std::mem::take(&mut self.talk.confirmed) && is_agreed {
            self.status.agreed_ms = Some(self.parts.clock.wall_ns() / NS_PER_MS);
        }
    }

    fn show(&self) {
        let (documents, in_memory) = self.replicas.counts();
        let (bytes_in_memory, largest_bytes) = self.replicas.bytes();
        let shown = TwinStatus {
            documents,
            in_memory,
            unconfirmed: self.replicas.unconfirmed(),
            messages_in: self.talk.counts.taken,
            messages_out: self.talk.counts.given,
            bytes_in: self.talk.counts.taken_bytes,
            bytes_out: self.talk.counts.given_bytes,
            bytes_in_memory,
            largest_bytes,
            refused: self.talk.counts.refused,
            last_refusal: self.talk.last_refusal.clone(),
            renamed: self.replicas.renames(),
            lost: self.talk.counts.lost,
            last_lost: self.talk.last_lost.clone(),
            ..self.status.clone()
        };
        self.parts.board.update(|status| status.twins = shown);
    }
}

/// An empty twin, for what was never written.
fn empty(entropy: super::file::Entropy) -> Result<Twin, TwinError> {
    Ok(Twin::new(tideline_twin::Actor::new(tideline_twin::Side::Agent, entropy))?)
}

#[cfg(test)]
mod tests;
