//! A replica with its disk: what is written and not yet durable is gone when it is killed.

use std::collections::VecDeque;

use tideline_twin::{Actor, Record, Ticket, Twin, Write};

use crate::world::Break;

#[derive(Debug, Clone, Default)]
pub struct Disk {
    saved: Vec<u8>,
    appended: Vec<Vec<u8>>,
}

impl Disk {
    fn write(&mut self, write: Write) {
        match write {
            Write::Append(bytes) => self.appended.push(bytes),
            Write::Replace(bytes) => *self = Self { saved: bytes, appended: Vec::new() },
        }
    }

    pub fn load(&self, actor: Actor) -> Twin {
        Twin::load(actor, &self.saved, &self.appended).unwrap()
    }
}

pub struct Replica {
    pub twin: Twin,
    pub disk: Disk,
    queue: VecDeque<Record>,
    /// Edits that are not durable.
    volatile: Vec<(Ticket, usize)>,
    /// Durable edits since all was confirmed the last time.
    pub unsure: Vec<usize>,
    /// Durable edits that a copy of the hub's disk may lack.
    pub unbacked: Vec<usize>,
    /// The hub has forgotten since, perhaps what it had confirmed.
    pub forgotten: bool,
    broken: Break,
}

impl Replica {
    pub fn new(actor: Actor, broken: Break) -> Self {
        let twin = Twin::new(actor).unwrap();
        let mut replica = Self {
            twin,
            disk: Disk::default(),
            queue: VecDeque::new(),
            volatile: Vec::new(),
            unsure: Vec::new(),
            unbacked: Vec::new(),
            forgotten: false,
            broken,
        };
        replica.spoil();
        let record = replica.twin.save();
        replica.take(record);
        replica.sync_all();
        replica
    }

    fn spoil(&mut self) {
        if self.broken == Break::StampForgotten {
            self.twin.forget_stamps();
        }
    }

    pub fn take(&mut self, record: Record) {
        if self.broken == Break::EarlyConfirm {
            self.twin.handle_durable(record.ticket);
        }
        self.queue.push_back(record);
    }

    pub fn edited(&mut self, record: Record, edits: &[usize]) {
        self.volatile.extend(edits.iter().map(|edit| (record.ticket, *edit)));
        self.take(record);
    }

    /// Makes the oldest write durable.
    pub fn sync(&mut self) -> bool {
        let Some(record) = self.queue.pop_front() else { return false };
        self.disk.write(record.write);
        self.twin.handle_durable(record.ticket);
        let (durable, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.volatile).into_iter().partition(|(ticket, _)| *ticket <= record.ticket);
        self.unsure.extend(durable.iter().map(|(_, edit)| *edit));
        self.unbacked.extend(durable.into_iter().map(|(_, edit)| edit));
        self.volatile = left;
        true
    }

    pub fn sync_all(&mut self) {
        while self.sync() {}
    }

    /// Whether two replicas have the same on their disks.
    pub fn is_as(&self, other: &Self) -> bool {
        let same = |a: &Twin, b: &Twin| a.generation() == b.generation() && a.heads() == b.heads();
        self.queue.is_empty() && other.queue.is_empty() && same(&self.twin, &other.twin)
    }

    /// After anything that may have confirmed edits.
    pub fn settle(&mut self, agreed: bool) {
        if agreed && self.volatile.is_empty() && !self.forgotten {
            self.unsure.clear();
        }
    }

    /// What was never durable is gone; says which edits that were.
    pub fn kill(&mut self) -> Vec<usize> {
        let actor = self.twin.actor();
        self.restart(actor)
    }

    /// As after a kill, with another disk perhaps.
    pub fn restart(&mut self, actor: Actor) -> Vec<usize> {
        self.queue.clear();
        self.twin = self.disk.load(actor);
        self.spoil();
        self.volatile.drain(..).map(|(_, edit)| edit).collect()
    }
}
