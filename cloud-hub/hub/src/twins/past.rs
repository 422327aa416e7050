//! History beyond where it was cut off: each generation as it ended, for a time.
//!
//! It is the hub's alone. What was made again by an agent that was away while history was cut off is in the generation that it came
//! into, whenever it was made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tideline_protocol::wire::DocumentId;
use tideline_twin::{Actor, Record, Side, Step, Ticket, Twin, Write};

use super::file::{Past, Put};
use super::queue::{News, Written};
use super::sharing::sharers;
use super::shelf::{Slot, Warm};
use super::{TwinError, Twins, etag};
use crate::hub::{App, Hub};
use crate::metadata::MetadataError;
use crate::telemetry::Metric;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How often what is kept too long is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// From when on generations that ended are kept; none where they are not.
fn keep_from_ms(hub: &Hub) -> Option<i64> {
    let days = i64::try_from(hub.config.twin_history_days).ok().filter(|days| *days > 0)?;
    Some(hub.now_ms().saturating_sub(days.saturating_mul(DAY_MS)))
}

/// A generation that has ended.
fn end(hub: &Hub, twin: &mut Twin) -> Option<Past> {
    let keep_from_ms = keep_from_ms(hub)?;
    let (Write::Append(whole) | Write::Replace(whole)) = twin.save().write;
    Some(Past { number: twin.generation().number, ended_ms: hub.now_ms(), whole, keep_from_ms })
}

/// What is written of the one that follows it.
fn begin((ticket, put): (Ticket, Put), ended: Option<Past>) -> (Ticket, Put) {
    match (put, ended) {
        (Put::Whole(whole), Some(ended)) => (ticket, Put::Begun(whole, ended)),
        (put, _) => (ticket, put),
    }
}

/// Lets go of what is kept no longer, of documents too that have not changed since.
fn sweep(hub: &Hub) {
    match hub.twins.file.forget_past(keep_from_ms(hub).unwrap_or(i64::MAX)) {
        Ok(0) => {}
        Ok(parts) => tracing::info!(parts, "the oldest history of twins was let go of"),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the history of twins cannot be looked at"
            );
        }
    }
}

/// Sweeps now and every day, for ever.
pub async fn sweep_daily(hub: App) {
    let mut days = tokio::time::interval(SWEEP_EVERY);
    loop {
        days.tick().await;
        let swept = hub.blocking(|hub| {
            sweep(hub);
            Ok::<_, MetadataError>(())
        });
        if let Err(error) = swept.await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the history of twins is not looked at"
            );
        }
    }
}

fn tag() -> Option<[u8; 14]> {
    let mut tag = [0; 14];
    getrandom::fill(&mut tag).ok()?;
    Some(tag)
}

/// What was done in one generation.
#[derive(Debug)]
pub struct Chapter {
    /// The generation's number.
    pub number: u64,
    /// The steps, none before one that it builds on.
    pub steps: Vec<Step>,
}

impl Twins {
    /// Cuts the history of a document off when it has become long.
    pub(super) fn rebase_when_due(&self, hub: &Hub, slot: &Arc<Slot>, warm: &mut Warm) -> Option<Written> {
        if !warm.twin.is_rebase_due() {
            return None;
        }
        let peers = sharers(hub, slot.document());
        let peers: Vec<_> = peers.iter().map(String::as_str).collect();
        // Its time comes when all agents have told what this hub has forgotten.
        if !warm.twin.has_met(&peers) {
            return None;
        }
        let mut before = warm.twin.clone();
        let record: Record = match warm.twin.rebase_among(tag()?, &peers) {
            Ok(record) => record,
            Err(error) => {
                if self.unrebased.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(document = %slot.document(), %error, "the history of a twin cannot be cut off");
                }
                return None;
            }
        };
        hub.counters.add(Metric::TwinRebases, 1);
        tracing::info!(document = %slot.document(), generation = warm.twin.generation().number, "the history of a twin was cut off");
        let news = News::of(&[], etag(&warm.twin));
        let mut written = Written::default();
        let put = begin(warm.put(record), end(hub, &mut before));
        written.add(self.queue.push(slot, put, Some(news), None));
        Some(written)
    }

    /// A copy of a twin to try changes on. A full one takes none before it is cut off, as it will be.
    pub(super) fn copy_to_try(hub: &Hub, slot: &Arc<Slot>, twin: &Twin) -> Twin {
        let mut copy = twin.clone();
        if let Some(tag) = twin.is_full().then(tag).flatten() {
            let peers = sharers(hub, slot.document());
            let peers: Vec<_> = peers.iter().map(String::as_str).collect();
            // Where it cannot be, the copy is full as well, and says so.
            drop(copy.rebase_among(tag, &peers));
        }
        copy
    }

    fn ended(&self, document: &DocumentId, number: u64) -> Result<Option<Twin>, TwinError> {
        let Some(whole) = self.file.ended(document, number)? else { return Ok(None) };
        let damaged = |source| TwinError::Damaged { document: document.clone(), source };
        let actor = Actor::new(Side::Hub, self.file.actor());
        Ok(Some(Twin::load(actor, &whole, &[] as &[&[u8]]).map_err(damaged)?))
    }

    /// Looks at a document as it is at the end of the generation that a time is in.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn look_at<T>(
        &self,
        document: &DocumentId,
        at_ms: i64,
        work: impl FnOnce(&Twin) -> T,
    ) -> Result<T, TwinError> {
        let past = self.file.past(document)?.into_iter().find(|(_, ended_ms)| at_ms < *ended_ms);
        let then = past.map(|(number, _)| self.ended(document, number)).transpose()?.flatten();
        match then {
            Some(twin) => Ok(work(&twin)),
            None => self.look(document, work),
        }
    }

    /// The numbers of a document's generations that are kept and did not end before a time, that of now last.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn chapters(&self, document: &DocumentId, from_ms: i64) -> Result<Vec<u64>, TwinError> {
        let now = self.look(document, |twin| twin.generation().number)?;
        let past = self.file.past(document)?.into_iter();
        let kept = past.filter(|(number, ended_ms)| *ended_ms >= from_ms && *number < now);
        Ok(kept.map(|(number, _)| number).chain([now]).collect())
    }

    /// What was done in a generation; none where it is not kept any more.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn chapter(&self, document: &DocumentId, number: u64) -> Result<Option<Chapter>, TwinError> {
        let now =
            self.look(document, |twin| (twin.generation().number == number).then(|| twin.history(&[])))?;
        let steps = match now {
            Some(steps) => steps?,
            None => match self.ended(document, number)? {
                Some(twin) => twin.history(&[])?,
                None => return Ok(None),
            },
        };
        Ok(Some(Chapter { number, steps }))
    }
}
