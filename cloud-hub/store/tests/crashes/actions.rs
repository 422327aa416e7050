//! What histories are made of.

/// One step of a history.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// A run of some seqs of an agent, with seqs that came before.
    Append(usize),
    /// Runs of both agents, some in one group commit.
    Both,
    /// A run of many rows, over some hours.
    Dense(usize),
    /// A run whose seqs leave out one that comes later.
    Ahead(usize),
    /// What was left out.
    Late,
    /// A run that came before.
    Repeat(usize),
    /// A run that cannot be decoded.
    Letter(usize),
    /// A seq that the agent gives up.
    GiveUp(usize),
    Flush,
    Compact,
    Retain,
    /// A series of the second agent is another's from here on, or is its own again.
    Rename,
    /// So many hours go by.
    Age(u64),
    Backup,
    Reopen,
}
