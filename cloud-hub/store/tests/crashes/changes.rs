//! What a disk holds, what may happen to it, and what may fail.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;

/// A file or a folder, whatever it is called.
pub type NodeId = usize;
pub const ROOT: NodeId = 0;

/// A name in a folder.
pub type Name = (NodeId, OsString);

#[derive(Debug, Clone)]
pub enum Node {
    File { data: Vec<u8>, modified: u64 },
    Dir(BTreeMap<OsString, NodeId>),
}

/// A change, in the order in which they were asked for.
#[derive(Clone)]
pub enum Change {
    Write {
        node: NodeId,
        at: usize,
        bytes: Vec<u8>,
    },
    SetLen {
        node: NodeId,
        len: usize,
    },
    /// All that was written to the file before is durable.
    Sync {
        node: NodeId,
    },
    /// It failed: nothing that was written before is durable by it.
    LostSync {
        node: NodeId,
    },
    /// Names that change together.
    Names(Vec<(Name, Option<NodeId>)>),
    /// A new folder.
    Dir {
        name: Name,
        node: NodeId,
    },
    SyncDir {
        dir: NodeId,
    },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { node, at, bytes } => write!(f, "{} bytes at {at} of {node}", bytes.len()),
            Self::SetLen { node, len } => write!(f, "{node} has {len} bytes"),
            Self::Sync { node } => write!(f, "{node} synced"),
            Self::LostSync { node } => write!(f, "{node} not synced"),
            Self::Names(names) => write!(f, "names {names:?}"),
            Self::Dir { name, node } => write!(f, "folder {name:?} is {node}"),
            Self::SyncDir { dir } => write!(f, "folder {dir} synced"),
        }
    }
}

/// What becomes of a call that is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The disk does a part of it, or nothing, and says so.
    Disk(ErrorKind),
    /// The process was killed before.
    Killed,
}

/// Which calls are to fail, of all that change something or sync it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The first.
    pub at: usize,
    /// How many one after the other; a kill ends it.
    pub calls: usize,
    pub failure: Failure,
}
