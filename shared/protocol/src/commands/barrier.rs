//! Holds steps back until what they rest on is durable.

use std::collections::VecDeque;

/// Steps in their order, each behind the commit that it rests on. There is one commit at a time.
#[derive(Debug)]
pub(super) struct Barrier<S> {
    // They rest on what is not in a commit yet.
    waiting: Vec<S>,
    // They rest on the commit that is being made.
    covered: Option<Vec<S>>,
    ready: VecDeque<S>,
}

impl<S> Default for Barrier<S> {
    fn default() -> Self {
        Self { waiting: Vec::new(), covered: None, ready: VecDeque::new() }
    }
}

impl<S> Barrier<S> {
    /// Takes a step; `dirty` says whether something is in no commit yet.
    pub fn push(&mut self, step: S, dirty: bool) {
        if dirty || self.covered.is_some() {
            self.waiting.push(step);
        } else {
            self.ready.push_back(step);
        }
    }

    /// Whether a commit may begin now.
    pub const fn may_commit(&self) -> bool {
        self.covered.is_none()
    }

    /// A commit begins with all that has changed.
    pub fn begin(&mut self) {
        self.covered = Some(std::mem::take(&mut self.waiting));
    }

    /// The commit is durable.
    pub fn done(&mut self, dirty: bool) {
        self.ready.extend(self.covered.take().into_iter().flatten());
        if !dirty {
            self.ready.extend(self.waiting.drain(..));
        }
    }

    /// The next step that may be carried out.
    pub fn pop(&mut self) -> Option<S> {
        self.ready.pop_front()
    }

    /// Leaves out the steps that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&S) -> bool) {
        self.waiting.retain(&wanted);
        self.ready.retain(&wanted);
        if let Some(covered) = &mut self.covered {
            covered.retain(&wanted);
        }
    }
}
