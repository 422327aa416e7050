//! Since when leaves of `desired` are not reported so.
//!
//! What is there does not tell it: each new value that is still wrong is a newer write. So it is kept, and followed with each change.

use std::collections::BTreeMap;

use automerge::legacy::{Key as OpKey, Op};
use serde_json::Value as Json;

use crate::check::section_of;
use crate::document::Document;
use crate::key::{self, Key};
use crate::section::Section;
use crate::view;

/// What is wanted, and since when it is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub since_ms: i64,
    /// Of the value, so that the same one wanted again changes nothing.
    pub digest: u64,
}

/// Of each leaf that is not as it is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Late(pub BTreeMap<Key, Wanted>);

impl Late {
    /// Looks at the leaves that a change wrote, which the document has.
    pub fn note(&mut self, document: &Document, operations: &[Op], time_ms: i64) {
        let keys = operations.iter().filter_map(|op| {
            let section = section_of(&op.obj)?;
            let OpKey::Map(flat) = &op.key else { return None };
            if !matches!(section, Section::Desired | Section::Reported) {
                return None;
            }
            Some(key::read(flat)?.0)
        });
        let keys: std::collections::BTreeSet<Key> = keys.collect();
        for key in keys {
            let desired = view::value(document, Section::Desired, &key);
            let is = view::value(document, Section::Reported, &key);
            self.look(key, desired.as_ref(), is.as_ref(), time_ms);
        }
    }

    fn look(&mut self, key: Key, desired: Option<&Json>, is: Option<&Json>, time_ms: i64) {
        let Some(wanted) = desired.filter(|wanted| Some(*wanted) != is) else {
            self.0.remove(&key);
            return;
        };
        let digest = digest(wanted);
        if self.0.get(&key).is_none_or(|before| before.digest != digest) {
            self.0.insert(key, Wanted { since_ms: time_ms, digest });
        }
    }

    /// Looks at all leaves, of a document that came as a whole: what is not known to be late is so since the newer of the two writes.
    pub fn settle(&mut self, document: &Document) {
        let before = std::mem::take(self);
        for late in view::delta(document, &before) {
            let since_ms = late.since_ms.unwrap_or_default();
            self.0.insert(late.key, Wanted { since_ms, digest: digest(&late.desired) });
        }
    }

    pub fn since(&self, key: &Key, desired: &Json) -> Option<i64> {
        let late = self.0.get(key)?;
        (late.digest == digest(desired)).then_some(late.since_ms)
    }
}

/// FNV-1a, the same in all versions: it is kept.
fn digest(value: &Json) -> u64 {
    let text = value.to_string();
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
