//! The twin of a device: state that both ends write and that merges.
//!
//! A [`Twin`] is one replica: `desired`, `reported`, `tags` and `notes`, kept in an automerge document of flat keys. A [`Link`]
//! brings two replicas to agree over messages of ours. History is cut off by the hub in generations.
//!
//! Nothing here does I/O: no task is started, no clock read, no randomness drawn. Times and random bytes come in as arguments.

mod actor;
mod agreed;
mod base;
mod check;
mod chunk;
mod condition;
mod count;
mod document;
mod edit;
mod history;
mod key;
mod late;
pub mod limits;
mod link;
mod message;
mod numbers;
mod part;
mod receive;
mod replaced;
mod replay;
mod secret;
mod section;
mod stamp;
mod store;
mod text;
mod touched;
mod twice;
mod twin;
mod value;
mod view;
mod write;

pub use actor::{Actor, Generation, Side};
pub use check::ForeignOp;
pub use chunk::ChunkError;
pub use condition::{BadIfMatch, if_match};
pub use document::{EngineError, Origin};
pub use edit::{Action, Change, Edit, PatchError, merge_patch};
pub use history::Step;
pub use key::{Key, KeyError, escape, shortened};
pub use link::Link;
pub use message::Message;
pub use numbers::{Inexact, exact};
pub use receive::Refusal;
pub use secret::{has_user, secret_of_request};
pub use section::Section;
pub use store::LoadError;
pub use twin::{Record, Ticket, Twin, Write};
pub use value::ValueError;
pub use view::{Conflict, Difference, Leaf};
pub use write::EditError;
