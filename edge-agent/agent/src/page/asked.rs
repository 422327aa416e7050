//! What other tasks and threads of the agent are asked for. They may be stuck, as with a disk that fails: the page waits a
//! moment, says that it does not know, and asks nothing more of them before they have answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tideline_protocol::block;
use tideline_protocol::ranges::RangeSet;
use tideline_twin::{Difference, Twin};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::html::cut;
use crate::commands::{Commands, Known};
use crate::spooler::{Loaded, SpoolHandle};
use crate::twin::TwinHandle;

/// Longest that a look at the page waits for another part of the agent: who looks is to see the rest.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Most twins whose state is shown.
const TWINS_MAX: usize = 8;
/// Most differences of a twin that are shown, and most characters of a value in one: it may have thousands.
pub const DELTA_MAX: usize = 20;
pub const VALUE_CHARS_MAX: usize = 120;
/// Bytes that are loaded to know how old the oldest readings are: a batch comes whole, however long it is.
const LOAD_BYTES_MAX: usize = 64 * 1024;

/// A part of the agent that is asked one question at a time.
#[derive(Debug, Clone)]
pub struct Part(Arc<Semaphore>);

impl Default for Part {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Part {
    /// The answer; none where it does not come in time. The question is not taken back then: one that is stuck has a
    /// single question before it, however often the page is looked at.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let asked = async {
            let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
            let answer = tokio::spawn(async move {
                let answer = question.await;
                drop(turn);
                answer
            });
            answer.await.ok()
        };
        timeout(ANSWER_MAX, asked).await.ok().flatten()
    }
}

/// The parts that are asked.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    commands: Part,
    twins: Part,
    spool: Part,
}

/// A twin as it is shown.
pub struct TwinShown {
    /// Its name.
    pub name: String,
    /// Changes made here that the hub has not confirmed.
    pub unconfirmed: u64,
    /// Leaves of which there are several values.
    pub conflicts: usize,
    /// What is wanted and not so: where, what is wanted, and what is.
    pub delta: Vec<[String; 3]>,
    /// How many differences are left out.
    pub delta_more: usize,
}

impl TwinShown {
    fn of(name: String, twin: &Twin) -> Self {
        let delta = twin.delta();
        let shown = |of: &Difference| [of.key.to_string(), leaf(&of.desired), leaf(&of.reported)];
        Self {
            name,
            unconfirmed: twin.unconfirmed(),
            conflicts: twin.conflicts().len(),
            delta: delta.iter().take(DELTA_MAX).map(shown).collect(),
            delta_more: delta.len().saturating_sub(DELTA_MAX),
        }
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cut(text, VALUE_CHARS_MAX),
        value => cut(&value.to_string(), VALUE_CHARS_MAX),
    }
}

impl Parts {
    /// What is known of commands; none where that is not known now.
    pub async fn commands(&self, commands: Option<Commands>) -> Option<Known> {
        let Some(commands) = commands else { return Some(Known::default()) };
        self.commands.ask(async move { commands.list().await }).await.flatten()
    }

    /// The first twins, and how many more there are; none where that is not known now.
    pub async fn twins(&self, twins: Option<TwinHandle>) -> Option<(Vec<TwinShown>, usize)> {
        let Some(twins) = twins else { return Some((Vec::new(), 0)) };
        let question = async move {
            let all = twins.list().await.ok()?;
            let mut shown = Vec::new();
            for listed in all.iter().take(TWINS_MAX) {
                let name = listed.document.name();
                let look = move |twin: &Twin| TwinShown::of(name, twin);
                shown.extend(twins.look(listed.document.clone(), look).await.ok());
            }
            Some((shown, all.len().saturating_sub(TWINS_MAX)))
        };
        self.twins.ask(question).await.flatten()
    }

    /// The time of the oldest reading of a batch, unless it is gone or cannot be read; none where that is not known now.
    pub async fn oldest_ns(&self, spool: SpoolHandle, seq: u64) -> Option<Option<i64>> {
        let question = async move {
            let Ok(Loaded::Run(run)) = spool.load(RangeSet::of(seq, seq), LOAD_BYTES_MAX).await else {
                return None;
            };
            let decoded = block::decode(&run.block, &run.rows, run.first).ok()?;
            decoded.columns.iter().flat_map(|column| &column.times).min().copied()
        };
        self.spool.ask(question).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;
    use tideline_spool::SpoolConfig;
    use tideline_twin::{Action, Actor, Change, Edit, Key, Section, Side};
    use tokio::sync::Notify;

    use super::*;
    use crate::status::Board;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_stuck_has_one_question_before_it_however_often_it_is_asked() {
        let (part, freed, begun) = (Part::default(), Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        let question = || {
            let (freed, begun) = (Arc::clone(&freed), Arc::clone(&begun));
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                freed.notified().await;
                7
            }
        };
        for _ in 0..5 {
            assert_eq!(part.ask(question()).await, None);
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        freed.notify_one();
        assert_eq!(part.ask(async { 8 }).await, Some(8), "it answers again");
    }

    #[tokio::test]
    async fn a_batch_that_is_gone_is_an_answer_and_a_spool_that_is_stuck_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), Board::default()).unwrap();
        let parts = Parts::default();
        assert_eq!(parts.oldest_ns(spool.clone(), 7).await, Some(None));
        // A question before this one is not answered.
        let _turn = Arc::clone(&parts.spool.0).acquire_owned().await.unwrap();
        tokio::time::pause();
        assert_eq!(parts.oldest_ns(spool, 7).await, None);
    }

    #[test]
    fn what_a_twin_wants_is_cut_in_number_and_length_and_what_is_left_out_is_counted() {
        let mut twin = Twin::new(Actor::new(Side::Agent, [7; 15])).unwrap();
        let edits = (0..DELTA_MAX + 5).map(|n| Edit {
            section: Section::Desired,
            key: Key::parse(&format!("k{n:02}")).unwrap(),
            action: Action::Put(if n == 0 { json!("é".repeat(4_000)) } else { json!(n) }),
        });
        let change = Change { edits: edits.collect(), author: "anna".to_owned(), time_ms: 1 };
        let _record = twin.edit(&change).unwrap().unwrap();
        let shown = TwinShown::of("pump-7".to_owned(), &twin);
        assert_eq!((shown.delta.len(), shown.delta_more), (DELTA_MAX, 5));
        let first = format!("{}…", "é".repeat(VALUE_CHARS_MAX));
        assert_eq!(shown.delta[0], ["k00".to_owned(), first, String::new()]);
        assert_eq!(shown.delta[1][1], "1");
    }
}
