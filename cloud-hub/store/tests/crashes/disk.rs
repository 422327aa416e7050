//! A file system in memory that keeps a record of all that changes it, so that a power cut can be tried after each
//! change, and that fails when told to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use redb::{Builder, Database, DatabaseError, StorageBackend};
use tideline_store::{FileHandle, FileSystem, OpenMode, Stat};

use crate::changes::{Change, Failure, Fault, Name, Node, NodeId, ROOT};

const KILLED: &str = "the process was killed";

#[derive(Debug, Default)]
struct Live {
    nodes: Vec<Node>,
    changes: Vec<Change>,
    calls: usize,
    fault: Option<Fault>,
    failed: usize,
    life: u64,
}

/// The disk as one process sees it.
#[derive(Debug, Clone)]
pub struct Disk {
    live: Arc<Mutex<Live>>,
    // Calls that wait for it.
    waiting: Arc<AtomicUsize>,
    life: u64,
}

/// Nothing is done on the disk while there is one.
pub struct Hold<'a> {
    _live: MutexGuard<'a, Live>,
    waiting: &'a AtomicUsize,
}

impl Hold<'_> {
    /// Returns when somebody waits for the disk, or nobody will.
    pub fn wait(&self, nobody: impl Fn() -> bool) {
        while self.waiting.load(Ordering::Acquire) == 0 && !nobody() {
            std::thread::yield_now();
        }
    }
}

impl Disk {
    /// One with nothing on it.
    pub fn new() -> Self {
        Self::holding(vec![Node::Dir(BTreeMap::new())])
    }

    /// One that holds these; the first is the root.
    pub fn holding(nodes: Vec<Node>) -> Self {
        let live = Arc::new(Mutex::new(Live { nodes, ..Live::default() }));
        Self { live, waiting: Arc::default(), life: 0 }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Live>> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let live = self.live();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        if live.life == self.life { Ok(live) } else { Err(io::Error::other(KILLED)) }
    }

    /// Kills the process: what it has open is dead. Gives the disk as the next process sees it.
    pub fn kill(&self) -> Self {
        let mut live = self.live();
        live.life += 1;
        live.fault = None;
        Self { live: Arc::clone(&self.live), waiting: Arc::clone(&self.waiting), life: live.life }
    }

    /// Has all that use the disk wait.
    pub fn hold(&self) -> Hold<'_> {
        Hold { _live: self.live(), waiting: &self.waiting }
    }

    /// All that is on it now.
    pub fn nodes(&self) -> Vec<Node> {
        self.live().nodes.clone()
    }

    /// How much has changed so far.
    pub fn changed(&self) -> usize {
        self.live().changes.len()
    }

    /// What has changed.
    pub fn changes(&self) -> Vec<Change> {
        self.live().changes.clone()
    }

    /// How many calls there were that change something or sync it.
    pub fn calls(&self) -> usize {
        self.live().calls
    }

    /// Has calls fail.
    pub fn fail(&self, fault: Fault) {
        self.live().fault = Some(fault);
    }

    /// How many calls have failed because they were told to.
    pub fn failed(&self) -> usize {
        self.live().failed
    }

    /// The names of all that is in a folder.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let live = self.live();
        let names = live.find(Path::new(dir)).and_then(|node| live.dir(node));
        names.unwrap().keys().map(|name| name.to_str().unwrap().to_owned()).collect()
    }
}

impl Live {
    /// Counts a call; the error that it is to fail with.
    fn call(&mut self) -> io::Result<()> {
        let at = self.calls;
        self.calls += 1;
        match self.fault {
            Some(fault) if (fault.at..fault.at.saturating_add(fault.calls)).contains(&at) => {
                self.failed += 1;
                Err(match fault.failure {
                    Failure::Disk(error) => error.into(),
                    Failure::Killed => io::Error::other(KILLED),
                })
            }
            _ => Ok(()),
        }
    }

    fn is_killed(&self) -> bool {
        self.failed > 0 && self.fault.is_some_and(|fault| fault.failure == Failure::Killed)
    }

    fn dir(&self, node: NodeId) -> io::Result<&BTreeMap<OsString, NodeId>> {
        match self.nodes.get(node) {
            Some(Node::Dir(names)) => Ok(names),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn data(&mut self, node: NodeId) -> io::Result<&mut Vec<u8>> {
        match self.nodes.get_mut(node) {
            Some(Node::File { data, .. }) => Ok(data),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                node = *self.dir(node)?.get(name).ok_or(ErrorKind::NotFound)?;
            }
        }
        Ok(node)
    }

    fn place(&self, path: &Path) -> io::Result<Name> {
        let (parent, name) = (path.parent(), path.file_name());
        let (Some(parent), Some(name)) = (parent, name) else { return Err(ErrorKind::InvalidInput.into()) };
        Ok((self.find(parent)?, name.to_owned()))
    }

    fn call_it(&mut self, (dir, name): &Name, node: Option<NodeId>) {
        if let Some(Node::Dir(names)) = self.nodes.get_mut(*dir) {
            match node {
                Some(node) => names.insert(name.clone(), node),
                None => names.remove(name),
            };
        }
    }

    fn rename(&mut self, changes: Vec<(Name, Option<NodeId>)>) {
        changes.iter().for_each(|(name, node)| self.call_it(name, *node));
        self.changes.push(Change::Names(changes));
    }

    fn make(&mut self, name: Name) -> NodeId {
        let node = self.nodes.len();
        self.nodes.push(Node::File { data: vec![], modified: 0 });
        self.rename(vec![(name, Some(node))]);
        node
    }

    fn write(&mut self, node: NodeId, at: usize, bytes: &[u8]) -> io::Result<()> {
        let now = self.calls as u64;
        let data = self.data(node)?;
        if data.len() < at + bytes.len() {
            data.resize(at + bytes.len(), 0);
        }
        data[at..at + bytes.len()].copy_from_slice(bytes);
        if let Some(Node::File { modified, .. }) = self.nodes.get_mut(node) {
            *modified = now;
        }
        self.changes.push(Change::Write { node, at, bytes: bytes.to_vec() });
        Ok(())
    }

    fn stat(&self, node: NodeId) -> Stat {
        let since = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        match &self.nodes[node] {
            Node::File { data, modified } => Stat { len: data.len() as u64, modified: since(*modified) },
            Node::Dir(_) => Stat { len: 0, modified: since(0) },
        }
    }
}

/// An open file.
#[derive(Debug)]
pub struct Open {
    disk: Disk,
    node: NodeId,
    // None: at the end, wherever that is.
    at: Option<usize>,
}

impl Open {
    fn put(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let mut live = self.disk.alive()?;
        if let Err(error) = live.call() {
            // Some of it may be there all the same.
            if !live.is_killed() {
                live.write(self.node, at, &bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        live.write(self.node, at, bytes)
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        let (mut live, len, node) = (self.disk.alive()?, usize::try_from(len).unwrap(), self.node);
        live.call()?;
        live.data(node)?.resize(len, 0);
        live.changes.push(Change::SetLen { node, len });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (mut live, node) = (self.disk.alive()?, self.node);
        let called = live.call();
        if !live.is_killed() {
            live.changes.push(if called.is_ok() { Change::Sync { node } } else { Change::LostSync { node } });
        }
        called
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.stat(self.node).len)
    }

    fn get(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut live = self.disk.alive()?;
        let data = live.data(self.node)?;
        let from = usize::try_from(offset).unwrap().min(data.len());
        let to = (from + buf.len()).min(data.len());
        buf[..to - from].copy_from_slice(&data[from..to]);
        Ok(to - from)
    }
}

impl Write for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.at.unwrap_or(usize::try_from(self.len()?).unwrap());
        self.put(at, bytes)?;
        self.at = self.at.map(|at| at + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileHandle for Open {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.disk.alive()?.stat(self.node))
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.get(buf, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.resize(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }
}

impl StorageBackend for Open {
    fn len(&self) -> io::Result<u64> {
        Self::len(self)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.get(out, offset)? == out.len() { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.resize(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.put(usize::try_from(offset).unwrap(), data)
    }
}

impl FileSystem for Disk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let mut live = self.alive()?;
        let found = live.find(path);
        let disk = self.clone();
        let open = |node, at| Box::new(Open { disk, node, at });
        let new = found.is_err();
        match mode {
            OpenMode::Read | OpenMode::Cut => {
                let node = found?;
                live.data(node)?;
                Ok(open(node, Some(0)))
            }
            _ if new => {
                live.call()?;
                let place = live.place(path)?;
                let at = (mode == OpenMode::Create).then_some(0);
                Ok(open(live.make(place), at))
            }
            OpenMode::Create => {
                live.call()?;
                let node = found?;
                live.data(node)?.clear();
                live.changes.push(Change::SetLen { node, len: 0 });
                Ok(open(node, Some(0)))
            }
            OpenMode::CreateNew | OpenMode::CreatePrivate => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let live = self.alive()?;
        live.find(path).map(|node| live.stat(node))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let live = self.alive()?;
        Ok(live.dir(live.find(dir)?)?.keys().map(|name| dir.join(name)).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if self.exists(dir) {
            return Ok(());
        }
        self.create_dir_all(dir.parent().ok_or(ErrorKind::NotFound)?)?;
        self.create_private_dir(dir)
    }

    fn create_private_dir(&self, dir: &Path) -> io::Result<()> {
        let mut live = self.alive()?;
        // `dir` may end in a slash.
        let place = live.place(&dir.components().collect::<PathBuf>())?;
        if live.find(dir).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        live.call()?;
        let node = live.nodes.len();
        live.nodes.push(Node::Dir(BTreeMap::new()));
        live.call_it(&place, Some(node));
        live.changes.push(Change::Dir { name: place, node });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut live = self.alive()?;
        let node = live.find(from)?;
        let names = vec![(live.place(from)?, None), (live.place(to)?, Some(node))];
        live.call()?;
        live.rename(names);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut live = self.alive()?;
        let node = live.find(from)?;
        if live.find(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let names = vec![(live.place(to)?, Some(node))];
        live.call()?;
        live.rename(names);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut live = self.alive()?;
        let node = live.find(path)?;
        live.data(node)?;
        let names = vec![(live.place(path)?, None)];
        live.call()?;
        live.rename(names);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut live = self.alive()?;
        let node = live.find(dir)?;
        if !live.dir(node)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let names = vec![(live.place(dir)?, None)];
        live.call()?;
        live.rename(names);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut live = self.alive()?;
        let dir = live.find(dir)?;
        live.call()?;
        live.changes.push(Change::SyncDir { dir });
        Ok(())
    }

    fn database(&self, path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
        let node = {
            let mut live = self.alive()?;
            match live.find(path) {
                Ok(node) => node,
                Err(_) => {
                    live.call()?;
                    let place = live.place(path)?;
                    live.make(place)
                }
            }
        };
        builder.create_with_backend(Open { disk: self.clone(), node, at: None })
    }
}
