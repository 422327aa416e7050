//! `edge-agent store verify --against-hub`: whether agent and hub hold the same batches.
//!
//! The agent digests what its spool holds, has the hub digest the same seqs from its own files, and
//! compares: by ranges first, then by seq where a range differs. What either end no longer holds or does
//! not hold yet is told and is no difference.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tideline_protocol::block;
use tideline_protocol::digest::{SeriesKey, Summer, each_reading};
use tideline_protocol::model::Epoch;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::ranks::Ranks;
use tideline_protocol::wire::{Agreement, Audit, DIGESTS_MAX, Digest};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::spooler::{Loaded, SpoolHandle};
use crate::status::Board;

/// Seqs that are compared at a time: bounds what is remembered of them.
const SLICE_SEQS: u64 = 65_536;
/// Ranges that are asked for at a time: bounds the question.
const SLICE_RANGES: usize = 8192;
/// Bytes that are read from the spool at a time.
const LOAD_BYTES: usize = 1024 * 1024;
/// Longest wait for an answer: the hub reads whole files, for one agent after the other.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementReport {
    /// Whether nothing differs.
    pub ok: bool,
    /// The epoch that was compared.
    pub epoch: String,
    /// Batches that were compared.
    pub batches: u64,
    /// Their readings.
    pub readings: u64,
    /// Batches that the spool holds no more: settled, or given up.
    pub not_held: u64,
    /// Held batches that are not at the hub yet.
    pub pending: u64,
    /// Held batches that the hub refused, or takes for dropped.
    pub not_stored: u64,
    /// Batches that both hold, but not the same readings of.
    pub differing: u64,
    /// Held batches that the hub had acknowledged and does not have; they go to it again.
    pub lacking: u64,
    /// The first batch that differs or is lacking.
    pub first: Option<Difference>,
}

/// A batch that is not the same at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its seq.
    pub seq: u64,
    /// Readings that the spool holds of it.
    pub readings_here: u64,
    /// Readings that the hub holds of it; none when it lacks the batch.
    pub readings_at_hub: Option<u64>,
    /// The devices that it is of.
    pub devices: Vec<String>,
    /// The earliest time in it as it was sent, ns since 1970.
    pub from_ns: i64,
    /// The latest time in it.
    pub to_ns: i64,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at_hub = self.readings_at_hub.map_or("none".to_owned(), |rows| rows.to_string());
        write!(
            f,
            "seq {}: {} readings here, {at_hub} at the hub; of {} from {} to {} (Unix ns)",
            self.seq,
            self.readings_here,
            self.devices.join(", "),
            self.from_ns,
            self.to_ns
        )
    }
}

impl std::fmt::Display for AgreementReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.ok { "the same at both ends" } else { "NOT the same at both ends" };
        write!(f, "{} batches of {} readings: {verdict}", self.batches, self.readings)?;
        let counts = [
            (self.differing, "differ"),
            (self.lacking, "were acknowledged and are not at the hub"),
            (self.pending, "are not at the hub yet"),
            (self.not_stored, "were refused or given up at the hub"),
            (self.not_held, "were settled or given up and are held here no more, so nobody can compare them"),
        ];
        for (count, what) in counts {
            if count > 0 {
                write!(f, "\n{count} batches {what}")?;
            }
        }
        match &self.first {
            Some(first) => write!(f, "\nthe first is {first}"),
            None => Ok(()),
        }
    }
}

/// A question to the hub, and where the answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub audit: Audit,
    /// Dropped when the session cannot ask, or ends before the answer.
    pub answer: oneshot::Sender<Agreement>,
}

/// The questions that wait for a session.
#[derive(Debug, Clone)]
pub struct Questions {
    waiting: Arc<Mutex<mpsc::Receiver<Question>>>,
}

impl Questions {
    /// The next one, when there is one; cancel safe.
    pub async fn next(&self) -> Question {
        match self.waiting.lock().await.recv().await {
            Some(question) => question,
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }
}

/// Compares the spool with the hub, one call after the other.
#[derive(Clone)]
pub struct Auditor {
    spool: SpoolHandle,
    board: Board,
    questions: mpsc::Sender<Question>,
    turn: Arc<Mutex<u64>>,
}

/// Batches in the order of their seqs, each with what it holds.
struct Slice {
    seqs: RangeSet,
    sums: HashMap<u64, Summer>,
}

impl Slice {
    fn digest(&self, seqs: impl Iterator<Item = u64>) -> Digest {
        let mut all = Summer::default();
        seqs.filter_map(|seq| self.sums.get(&seq)).for_each(|sum| all.merge(sum));
        all.digest()
    }
}

impl Auditor {
    /// An auditor, and the questions that sessions are to ask for it.
    #[must_use]
    pub fn new(spool: SpoolHandle, board: Board) -> (Self, Questions) {
        let (questions, waiting) = mpsc::channel(1);
        let waiting = Arc::new(Mutex::new(waiting));
        (Self { spool, board, questions, turn: Arc::default() }, Questions { waiting })
    }

    /// Compares all that the spool holds now.
    ///
    /// # Errors
    /// The hub cannot be reached, the session ends before it has answered, or the spool fails.
    pub async fn run(&self) -> anyhow::Result<AgreementReport> {
        let mut id = self.turn.lock().await;
        anyhow::ensure!(
            self.board.read().connected,
            "the agent is not connected to a hub; `edge-agent status` says why"
        );
        let epoch = self.spool.state().borrow().epoch;
        let (held, pending) = self.spool.held().await?;
        let gone = self.spool.state().borrow().head.get().saturating_sub(held.len());
        let mut report =
            AgreementReport { epoch: epoch.to_string(), not_held: gone, ..AgreementReport::default() };
        let keys: Vec<SeriesKey> =
            self.spool.series(0, usize::MAX).await?.iter().map(SeriesKey::from).collect();
        for seqs in slices(&held) {
            let slice = self.load(seqs, &keys, &mut report).await?;
            self.compare(&slice, &pending, epoch, &mut id, &mut report).await?;
        }
        report.ok = report.differing == 0 && report.lacking == 0;
        if let Some(first) = &mut report.first {
            self.describe(first).await?;
        }
        Ok(report)
    }

    /// Reads batches; those that were given up meanwhile are left out.
    async fn load(
        &self,
        seqs: RangeSet,
        keys: &[SeriesKey],
        report: &mut AgreementReport,
    ) -> anyhow::Result<Slice> {
        let (mut left, mut sums) = (seqs, HashMap::<u64, Summer>::new());
        let mut held = RangeSet::new();
        while !left.is_empty() {
            match self.spool.load(left.clone(), LOAD_BYTES).await? {
                Loaded::Gone(gone) => {
                    report.not_held += gone.intersect(&left).len();
                    left.remove_set(&gone);
                }
                Loaded::Run(run) => {
                    let seqs = run.rows.present(run.first);
                    let decoded = block::decode(&run.block, &run.rows, run.first)?;
                    let key = |no| usize::try_from(no).ok().and_then(|no| keys.get(no).copied());
                    each_reading(&decoded, run.first.get(), key, |seq, key, time_ns, value| {
                        sums.entry(seq).or_default().add(seq, key, time_ns, value);
                    });
                    anyhow::ensure!(!seqs.intersect(&left).is_empty(), "the spool gave other batches");
                    left.remove_set(&seqs);
                    held.insert_set(&seqs);
                }
            }
        }
        Ok(Slice { seqs: held, sums })
    }

    async fn compare(
        &self,
        slice: &Slice,
        pending: &RangeSet,
        epoch: Epoch,
        id: &mut u64,
        report: &mut AgreementReport,
    ) -> anyhow::Result<()> {
        if slice.seqs.is_empty() {
            return Ok(());
        }
        let found = self.ask(slice.seqs.clone(), slice.seqs.len().div_ceil(DIGESTS_MAX as u64), id).await?;
        anyhow::ensure!(self.spool.state().borrow().epoch == epoch, "the spool began a new epoch meanwhile");
        let (stored, per) = (found.settled.stored.clone(), slice.seqs.len().div_ceil(DIGESTS_MAX as u64));
        let mut others = slice.seqs.clone();
        others.remove_set(&stored);
        let mut lacking = others.clone();
        lacking.remove_set(pending);
        lacking.remove_set(&found.settled.all());
        report.not_stored += others.intersect(&found.settled.all()).len();
        report.lacking += lacking.len();
        report.pending += others.len() - lacking.len() - others.intersect(&found.settled.all()).len();
        if let Some((seq, _)) = lacking.iter().next() {
            first(report, seq, slice.digest(std::iter::once(seq)).rows, None);
        }
        report.batches += stored.len();
        for (group, theirs) in groups(&stored, per).zip(&found.digests) {
            let ours = slice.digest(group.iter().flat_map(|(lo, hi)| lo..=hi));
            report.readings += ours.rows;
            if ours != *theirs {
                self.narrow(slice, group, id, report).await?;
            }
        }
        anyhow::ensure!(
            found.digests.len() as u64 == stored.len().div_ceil(per),
            "the hub gave {} digests for {} batches",
            found.digests.len(),
            stored.len()
        );
        Ok(())
    }

    /// Finds the batches of a group that differ.
    async fn narrow(
        &self,
        slice: &Slice,
        group: RangeSet,
        id: &mut u64,
        report: &mut AgreementReport,
    ) -> anyhow::Result<()> {
        let found = self.ask(group, 1, id).await?;
        let seqs = found.settled.stored.iter().flat_map(|(lo, hi)| lo..=hi);
        for (seq, theirs) in seqs.zip(&found.digests) {
            let ours = slice.digest(std::iter::once(seq));
            if ours != *theirs {
                report.differing += 1;
                first(report, seq, ours.rows, Some(theirs.rows));
            }
        }
        Ok(())
    }

    async fn ask(&self, seqs: RangeSet, per: u64, id: &mut u64) -> anyhow::Result<Agreement> {
        *id += 1;
        let (answer, wait) = oneshot::channel();
        let question = Question { audit: Audit { id: *id, seqs, per }, answer };
        let asked = async {
            self.questions.send(question).await.map_err(|_| anyhow::anyhow!("the uplink has ended"))?;
            wait.await.context("the session with the hub ended before its answer; ask again")
        };
        tokio::time::timeout(ANSWER_MAX, asked)
            .await
            .with_context(|| format!("the hub has not answered within {} s", ANSWER_MAX.as_secs()))?
    }

    /// Says of a batch what it is about.
    async fn describe(&self, difference: &mut Difference) -> anyhow::Result<()> {
        let seqs = RangeSet::of(difference.seq, difference.seq);
        let Loaded::Run(run) = self.spool.load(seqs, LOAD_BYTES).await? else { return Ok(()) };
        let (defs, decoded) =
            (self.spool.series(0, usize::MAX).await?, block::decode(&run.block, &run.rows, run.first)?);
        let columns = || decoded.columns.iter();
        let def = |no| usize::try_from(no).ok().and_then(|no| defs.get(no));
        difference.devices =
            columns().filter_map(|column| Some(def(column.series)?.device.to_string())).collect();
        difference.devices.dedup();
        let times = || columns().flat_map(|column| column.times.iter().copied());
        difference.from_ns = times().min().unwrap_or(0);
        difference.to_ns = times().max().unwrap_or(0);
        Ok(())
    }
}

fn first(report: &mut AgreementReport, seq: u64, readings_here: u64, readings_at_hub: Option<u64>) {
    if report.first.as_ref().is_none_or(|first| seq < first.seq) {
        let devices = Vec::new();
        report.first =
            Some(Difference { seq, readings_here, readings_at_hub, devices, from_ns: 0, to_ns: 0 });
    }
}

/// Parts of a set that are small enough to compare.
fn slices(set: &RangeSet) -> Vec<RangeSet> {
    let (mut out, mut part) = (Vec::new(), RangeSet::new());
    for (mut lo, hi) in set.iter() {
        while lo <= hi {
            let end = hi.min(lo.saturating_add(SLICE_SEQS - part.len() - 1));
            part.insert(lo, end);
            if part.len() >= SLICE_SEQS || part.range_count() >= SLICE_RANGES {
                out.push(std::mem::take(&mut part));
            }
            let Some(next) = end.checked_add(1) else { break };
            lo = next;
        }
    }
    out.extend((!part.is_empty()).then_some(part));
    out
}

/// The seqs of each digest: `per` after `per` of a set.
fn groups(set: &RangeSet, per: u64) -> impl Iterator<Item = RangeSet> + '_ {
    let ranks = Ranks::new(set);
    (0..ranks.len().div_ceil(per)).map(move |n| {
        let place = |at: u64| ranks.value(at.min(ranks.len() - 1)).unwrap_or(u64::MAX);
        set.within(place(n * per), place(n * per + per - 1))
    })
}
