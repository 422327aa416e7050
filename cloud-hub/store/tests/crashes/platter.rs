//! What a power cut leaves of a disk.
//!
//! Durable is what was synced: the bytes of a file by a sync of the file, a name by a sync of its folder. Of the
//! rest anything may be there, as ext4 and XFS allow and POSIX does: of writes single sectors, in any order; lengths
//! without the bytes, which are zero then; names in any combination. Only a rename is one change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::changes::{Change, Name, Node, NodeId, ROOT};
use crate::disk::Disk;

const SECTOR: usize = 512;

/// What of the things that were not synced survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survive {
    Nothing,
    /// In the order in which they came, up to one of them.
    First,
    Any,
    Everything,
}

fn draw(rng: &mut StdRng) -> Survive {
    match rng.random_range(0..8) {
        0 | 1 => Survive::Nothing,
        2 | 3 => Survive::First,
        4 => Survive::Everything,
        _ => Survive::Any,
    }
}

impl Survive {
    /// Which of so many changes survive.
    fn of(self, changes: usize, rng: &mut StdRng) -> Vec<bool> {
        let first = rng.random_range(0..=changes);
        (0..changes)
            .map(|at| match self {
                Self::Nothing => false,
                Self::First => at < first,
                Self::Any => rng.random_bool(0.5),
                Self::Everything => true,
            })
            .collect()
    }
}

/// What a broken disk does not do, though it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It syncs no file whose first name ends so.
    NoSync(&'static str),
    /// It syncs no folder.
    NoSyncDir,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Pending>,
    modified: u64,
}

impl Pending {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => data.resize(*len, 0),
            Self::Write { at, bytes } => put(data, *at, bytes),
        }
    }
}

fn put(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if data.len() < at + bytes.len() {
        data.resize(at + bytes.len(), 0);
    }
    data[at..at + bytes.len()].copy_from_slice(bytes);
}

impl File {
    fn after_cut(&self, survive: Survive, rng: &mut StdRng) -> Vec<u8> {
        let mut data = self.durable.clone();
        let kept = survive.of(self.pending.len(), rng);
        let mut torn = survive != Survive::Everything;
        for (pending, kept) in self.pending.iter().zip(&kept) {
            match pending {
                Pending::SetLen(_) if *kept => pending.apply(&mut data),
                Pending::Write { at, bytes } if survive == Survive::Any => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = (from + SECTOR - (at + from) % SECTOR).min(bytes.len());
                        if rng.random_bool(0.5) {
                            put(&mut data, at + from, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
                Pending::Write { .. } if *kept => pending.apply(&mut data),
                // The first that does not survive may be there in part.
                Pending::Write { at, bytes } if survive == Survive::First && torn => {
                    torn = false;
                    put(&mut data, *at, &bytes[..rng.random_range(0..=bytes.len())]);
                }
                _ => {}
            }
        }
        // Some systems keep lengths sooner than bytes.
        if survive == Survive::Any && rng.random_bool(0.25) {
            let mut live = self.durable.clone();
            self.pending.iter().for_each(|pending| pending.apply(&mut live));
            data.resize(live.len(), 0);
        }
        data
    }
}

/// What is durable of a disk, and what is on its way.
#[derive(Debug, Clone)]
pub struct Platter {
    files: BTreeMap<NodeId, File>,
    dirs: BTreeMap<NodeId, BTreeMap<OsString, NodeId>>,
    names: Vec<Vec<(Name, Option<NodeId>)>>,
    first_names: BTreeMap<NodeId, OsString>,
    lie: Option<Lie>,
    changes: usize,
}

impl Platter {
    /// All that is on the disk is durable.
    pub fn of(nodes: &[Node], lie: Option<Lie>) -> Self {
        let (mut files, mut dirs) = (BTreeMap::new(), BTreeMap::new());
        for (id, node) in nodes.iter().enumerate() {
            match node {
                Node::Dir(names) => drop(dirs.insert(id, names.clone())),
                Node::File { data, modified } => {
                    let (durable, modified) = (data.clone(), *modified);
                    files.insert(id, File { durable, modified, ..File::default() });
                }
            }
        }
        let mut first_names = BTreeMap::new();
        for names in dirs.values() {
            first_names.extend(names.iter().map(|(name, node): (&OsString, &NodeId)| (*node, name.clone())));
        }
        Self { files, dirs, names: Vec::new(), first_names, lie, changes: 0 }
    }

    fn lies_about(&self, node: NodeId) -> bool {
        let name = self.first_names.get(&node).and_then(|name| name.to_str()).unwrap_or_default();
        matches!(self.lie, Some(Lie::NoSync(end)) if name.ends_with(end))
    }

    /// Takes a change in.
    pub fn take(&mut self, change: &Change) {
        self.changes += 1;
        let lies = match change {
            Change::Sync { node } => self.lies_about(*node),
            Change::SyncDir { .. } => self.lie == Some(Lie::NoSyncDir),
            _ => false,
        };
        if lies {
            return;
        }
        match change {
            Change::Write { node, at, bytes } => {
                let file = self.files.entry(*node).or_default();
                file.modified = self.changes as u64;
                file.pending.push(Pending::Write { at: *at, bytes: bytes.clone() });
            }
            Change::SetLen { node, len } => {
                self.files.entry(*node).or_default().pending.push(Pending::SetLen(*len));
            }
            Change::Sync { node } => {
                let file = self.files.entry(*node).or_default();
                std::mem::take(&mut file.pending).iter().for_each(|pending| pending.apply(&mut file.durable));
            }
            // What it was to make durable is on its way still.
            Change::LostSync { .. } => {}
            Change::Names(changes) => {
                for ((_, name), node) in changes {
                    if let Some(node) = node {
                        self.first_names.entry(*node).or_insert_with(|| name.clone());
                    }
                }
                self.names.push(changes.clone());
            }
            Change::Dir { name, node } => {
                self.dirs.insert(*node, BTreeMap::new());
                self.names.push(vec![(name.clone(), Some(*node))]);
            }
            Change::SyncDir { dir } => {
                let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.names)
                    .into_iter()
                    .partition(|changes| changes.iter().any(|((of, _), _)| of == dir));
                self.names = later;
                now.iter().for_each(|changes| rename(&mut self.dirs, changes));
            }
        }
    }

    /// The disk after the power was cut.
    pub fn cut(&self, rng: &mut StdRng) -> Disk {
        let (of_files, of_names) = (draw(rng), draw(rng));
        let mut dirs = self.dirs.clone();
        let kept = of_names.of(self.names.len(), rng);
        for (changes, _) in self.names.iter().zip(kept).filter(|(_, kept)| *kept) {
            rename(&mut dirs, changes);
        }
        self.disk(&dirs, |file| file.after_cut(of_files, rng))
    }

    /// The disk after a kill: nothing is lost.
    pub fn kill(&self) -> Disk {
        let mut dirs = self.dirs.clone();
        self.names.iter().for_each(|changes| rename(&mut dirs, changes));
        self.disk(&dirs, |file| {
            let mut data = file.durable.clone();
            file.pending.iter().for_each(|pending| pending.apply(&mut data));
            data
        })
    }

    /// What is reachable, under new numbers.
    fn disk(
        &self,
        dirs: &BTreeMap<NodeId, BTreeMap<OsString, NodeId>>,
        mut data: impl FnMut(&File) -> Vec<u8>,
    ) -> Disk {
        let none = BTreeMap::new();
        let (mut order, mut seen) = (vec![ROOT], BTreeSet::from([ROOT]));
        let mut at = 0;
        while at < order.len() {
            for node in dirs.get(&order[at]).unwrap_or(&none).values() {
                if seen.insert(*node) {
                    order.push(*node);
                }
            }
            at += 1;
        }
        let number: BTreeMap<NodeId, NodeId> = order.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let nodes = order.iter().map(|id| {
            if let Some(names) = dirs.get(id) {
                return Node::Dir(names.iter().map(|(name, node)| (name.clone(), number[node])).collect());
            }
            let file = self.files.get(id).cloned().unwrap_or_default();
            Node::File { data: data(&file), modified: file.modified }
        });
        Disk::holding(nodes.collect())
    }
}

fn rename(dirs: &mut BTreeMap<NodeId, BTreeMap<OsString, NodeId>>, changes: &[(Name, Option<NodeId>)]) {
    for ((dir, name), node) in changes {
        let names = dirs.entry(*dir).or_default();
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}
