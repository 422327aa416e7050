//! Every limit of a twin, with its reason. What is beyond one is refused with an error that names it.

/// Leaves of a document, elements of sets among them: a twin is state, not a table.
pub const KEYS_MAX: usize = 1_000;
/// Longest path of a leaf in bytes, with escapes and the mark of its kind.
pub const KEY_BYTES_MAX: usize = 256;
/// Most names in a path.
pub const DEPTH_MAX: usize = 16;
/// Longest text, list in JSON or note in bytes.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Keys and values of a whole document in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// What a document may grow to by merging: each end keeps to the limits by itself, and what two ends wrote at once
/// must be taken, or they would never agree.
pub const MERGED_FACTOR: usize = 4;
/// Edits of one change.
pub const EDITS_PER_CHANGE_MAX: usize = 256;
/// Operations that one received change may hold; a note of [`TEXT_BYTES_MAX`] has one for each character.
pub const OPS_PER_CHANGE_MAX: usize = 16 * 1024;
/// Operations that all changes of a base may hold.
pub const OPS_PER_BASE_MAX: usize = 256 * 1024;
/// Own changes that no peer has confirmed; beyond it edits are refused, so that a device that is away for months keeps a
/// bounded document.
pub const UNCONFIRMED_MAX: u64 = 10_000;
/// Changes of one message.
pub const CHANGES_PER_MESSAGE_MAX: usize = 256;
/// Bytes of all changes of one message.
pub const CHANGES_BYTES_MAX: usize = 128 * 1024;
/// Bytes of one change.
pub const CHANGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one change as it is edited: what is left to [`CHANGE_BYTES_MAX`] is for what it has to name when it is made again.
pub const EDITED_CHANGE_BYTES_MAX: usize = CHANGE_BYTES_MAX - 4 * 1024;
/// Replicas of which a change that is made again says what its author knew: those that a restored hub has forgotten.
pub const BEYOND_MAX: usize = 16;
/// Bytes of a whole message; a base is the longest.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of all changes of a base, beside the names of the replicas in it.
pub const BASE_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 64 * 1024;
/// Heads that a message names: one for each replica that writes at once.
pub const HEADS_MAX: usize = 256;
/// Changes of a base: one, and one more for each value that a conflict keeps.
pub const BASE_CHANGES_MAX: usize = 16;
/// Replicas that ever wrote to a document, each wiped or restored one anew.
pub const ACTORS_MAX: usize = 1_024;
/// Longest name of an author in bytes.
pub const AUTHOR_BYTES_MAX: usize = 64;
/// Longest name of a peer in bytes.
pub const PEER_BYTES_MAX: usize = 64;
/// Peers whose agreement is kept.
pub const PEERS_MAX: usize = 4_096;
/// Changes after which a document is due to be rebased: with them an agent's replica stays below 4 MB.
pub const REBASE_AFTER: usize = 2_000;
/// Bytes of changes after which it is too, of no fewer changes than [`REBASE_AFTER_LEAST`]: few changes may be long ones, and a
/// base is as long as what it holds.
pub const REBASE_AFTER_BYTES: usize = 2 * 1024 * 1024;
/// See [`REBASE_AFTER_BYTES`].
pub const REBASE_AFTER_LEAST: usize = 64;
/// Operations after which it is too: a text that is written anew has two for each character, and those that are gone are gone over
/// with each further change of it.
pub const REBASE_AFTER_OPS: u64 = 256 * 1024;
/// Bytes of changes with which a document takes no more edits, as of one that is away for months and is written long texts.
pub const EDITED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of changes that a replica takes between two bases, whoever wrote them: what may be edited, beside what the other end
/// has not cut off yet. A value that was replaced stays in memory until then.
pub const HISTORY_BYTES_MAX: usize = 2 * EDITED_BYTES_MAX;
/// How far a generation's number may be ahead: more was made up, and would leave no room for a later one.
pub const GENERATIONS_AHEAD_MAX: u64 = 1 << 32;
/// Changes that a replica takes between two bases, whoever wrote them.
pub const CHANGES_MAX: usize = 4 * 10_000;
/// How far a change may be before what its author had read: clocks differ, and more is no clock.
pub const CLOCK_BEHIND_MS_MAX: i64 = 60 * 60 * 1000;
/// Highest number of a change: one that was made up leaves room for those that follow.
pub const NUMBER_MAX: u64 = 1 << 53;
