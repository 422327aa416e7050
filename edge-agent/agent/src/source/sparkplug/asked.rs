//! What a node or device was told to do, until it shows that it has. No I/O.
//!
//! Sparkplug has commands sent without acknowledgement (QoS 0), so that nobody but the device says how one ended: by
//! telling the value that it was to have.

use std::sync::Arc;

use tideline_protocol::value::Value;

use crate::source::Write;

/// Most commands of one device that nothing has shown yet (INV-6).
pub const ASKED_MAX: usize = 64;

/// A command that was sent.
#[derive(Debug)]
struct One {
    metric: Arc<str>,
    value: Value,
    write: Write,
}

/// What one node or device was told to do.
#[derive(Debug, Default)]
pub struct Asked(Vec<One>);

impl Asked {
    /// Whether there is room for one more.
    pub fn has_room(&mut self) -> bool {
        self.0.retain(|one| one.write.is_awaited());
        self.0.len() < ASKED_MAX
    }

    /// A command was sent by which this metric is to have this value.
    pub fn push(&mut self, metric: Arc<str>, value: Value, write: Write) {
        self.0.push(One { metric, value, write });
    }

    /// The device tells this value, as one that it has now.
    pub fn see(&mut self, metric: &str, value: &Value) {
        let is_shown = |one: &mut One| &*one.metric == metric && one.value == *value;
        self.0.extract_if(.., is_shown).for_each(|one| one.write.done());
    }

    /// Nothing will show any more how they ended.
    pub fn give_up(&mut self, why: &str) {
        self.0.drain(..).for_each(|one| one.write.unknown(why));
    }
}
