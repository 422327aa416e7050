//! What a job has given and counted, and how much it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::Serialize;
use tideline_protocol::model::{DeviceId, PointId};

use super::asked::Statement;
use super::join::Join;
use super::key::{Fired, Need, Weight};
use crate::check::Job;
use crate::event::{Cause, Column, Key, Output, SideRow, What, WindowResult};
use crate::spec::Limits;

/// Readings, of a device or of all. Of `rows` those that are in none of the others but `late` were taken in: they are
/// held, or were part of a window or of a join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Counts {
    /// Came in.
    #[n(0)]
    pub rows: u64,
    /// Held back by a filter.
    #[n(1)]
    pub filtered: u64,
    /// Not finite, too great, or too far from 1970, before or after the stages; left readings of pairs without a
    /// value.
    #[n(2)]
    pub unusable: u64,
    /// Further ahead of the hub's clock than is allowed.
    #[n(3)]
    pub ahead: u64,
    /// No kept window took them; with `update` their windows are aggregated again.
    #[n(4)]
    pub too_late: u64,
    /// There was no room, or no name.
    #[n(5)]
    pub refused: u64,
    /// Came behind the watermark.
    #[n(6)]
    pub late: u64,
    /// Left readings of a join without a match.
    #[n(7)]
    pub unmatched: u64,
}

/// What a job did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Totals {
    /// Readings of all devices, also of those that are forgotten or were never let in.
    #[n(0)]
    pub counts: Counts,
    /// Results that were given.
    #[n(1)]
    pub results: u64,
    /// Those of them that late readings caused.
    #[n(2)]
    pub late_results: u64,
    /// Those of them that were aggregated from the history.
    #[n(3)]
    pub refilled: u64,
    /// Sessions that were withdrawn.
    #[n(4)]
    pub withdrawn: u64,
    /// Readings in the side output.
    #[n(5)]
    pub side: u64,
}

/// A window: device, point, start.
pub type WantedKey = (DeviceId, Option<PointId>, i64);

#[derive(Debug, Clone, PartialEq)]
pub struct Books {
    job: Arc<str>,
    limits: Limits,
    next: u64,
    pub totals: Totals,
    /// Windows to be aggregated again, and the readings that came too late for each.
    pub wanted: BTreeMap<WantedKey, u64>,
    pub weight: Weight,
    /// The readings that a join of two devices holds.
    pub pair: Join,
    /// Up to where both of them are.
    pub pair_watermark_ns: i64,
    /// The windows of a statement.
    pub statement: Statement,
    /// Empty between events.
    outputs: Vec<Output>,
}

impl Books {
    pub fn new(job: &Job) -> Self {
        Self {
            job: Arc::clone(&job.name),
            limits: job.spec().limits.clone(),
            next: 1,
            totals: Totals::default(),
            wanted: BTreeMap::new(),
            weight: Weight::default(),
            pair: Join::default(),
            pair_watermark_ns: i64::MIN,
            statement: Statement::default(),
            outputs: Vec::new(),
        }
    }

    /// The books of a job that has given `last` outputs.
    pub fn restore(job: &Job, last: u64, totals: Totals, wanted: BTreeMap<WantedKey, u64>) -> Self {
        let weight = Weight { wanted: wanted.len() as u64, ..Weight::default() };
        Self { next: last.saturating_add(1), totals, wanted, weight, ..Self::new(job) }
    }

    pub const fn last_number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Gives an output, and its number.
    pub fn put(&mut self, what: What) -> u64 {
        let number = self.next;
        self.outputs.push(Output { job: Arc::clone(&self.job), number, what });
        self.next = self.next.saturating_add(1);
        number
    }

    pub const fn count_result(&mut self, late: bool) {
        self.totals.results = self.totals.results.saturating_add(1);
        self.totals.late_results = self.totals.late_results.saturating_add(late as u64);
    }

    /// Gives what a key gave.
    pub fn fired(&mut self, key: Key, fired: Fired) {
        match fired {
            Fired::Window { start_ns, end_ns, late, values } => {
                self.count_result(late);
                let revision = if late { self.next } else { 0 };
                self.put(What::Result(WindowResult { key, start_ns, end_ns, revision, values }));
            }
            Fired::Wanted(start_ns) => self.want(&key.device, &key.point, &[start_ns]),
            Fired::Unwanted(start_ns) => {
                self.wanted.remove(&(key.device, key.point, start_ns));
                self.weight.wanted = self.wanted.len() as u64;
            }
            Fired::Withdrawn { start_ns, end_ns } => {
                self.totals.withdrawn = self.totals.withdrawn.saturating_add(1);
                self.put(What::Withdrawn { key, start_ns, end_ns });
            }
        }
    }

    /// Puts a reading aside.
    pub fn side(&mut self, row: SideRow) {
        self.totals.side = self.totals.side.saturating_add(1);
        self.put(What::Side(row));
    }

    /// Refuses the readings of a device that is not let in.
    pub fn refuse_all(&mut self, column: &Column<'_>, cause: Cause) {
        for sample in column.samples {
            self.totals.counts.rows = self.totals.counts.rows.saturating_add(1);
            self.totals.counts.refused = self.totals.counts.refused.saturating_add(1);
            self.side(SideRow {
                device: column.device.clone(),
                point: column.point.clone(),
                time_ns: sample.time_ns,
                value: sample.value,
                cause,
            });
        }
    }

    /// Whether there is room for so many keys and so much more.
    pub fn room(&self, keys: u64, need: Need) -> Result<(), Cause> {
        self.room_for(Weight { keys, held: need, ..Weight::default() })
    }

    /// Whether there is room for so much more, with windows that are wanted.
    pub fn room_with(
        &self,
        need: Need,
        device: &DeviceId,
        point: &Option<PointId>,
        starts: &[i64],
    ) -> Result<(), Cause> {
        let is_new = |start: &&i64| !self.wanted.contains_key(&(device.clone(), point.clone(), **start));
        let wanted = starts.iter().filter(is_new).count() as u64;
        self.room_for(Weight { wanted, held: need, ..Weight::default() })
    }

    fn room_for(&self, more: Weight) -> Result<(), Cause> {
        let cells = self.weight.held.cells.saturating_add(more.held.cells);
        if more.held.cells > 0 && cells > self.limits.open_windows {
            return Err(Cause::OpenWindows);
        }
        let bytes = more.bytes();
        if bytes > 0 && self.weight.bytes().saturating_add(bytes) > self.limits.state_bytes {
            return Err(Cause::StateBytes);
        }
        Ok(())
    }

    /// Notes that a reading came too late for these windows.
    pub fn want(&mut self, device: &DeviceId, point: &Option<PointId>, starts: &[i64]) {
        for start in starts {
            let rows = self.wanted.entry((device.clone(), point.clone(), *start)).or_default();
            *rows = rows.saturating_add(1);
        }
        self.weight.wanted = self.wanted.len() as u64;
    }

    /// Whether a window is still wanted, and whether no readings came since it was asked for; else it goes on being
    /// wanted.
    pub fn answer(&mut self, key: &Key, start_ns: i64, rows: u64) -> Option<bool> {
        let wanted = (key.device.clone(), key.point.clone(), start_ns);
        let is_same = *self.wanted.get(&wanted)? == rows;
        if is_same {
            self.wanted.remove(&wanted);
            self.weight.wanted = self.wanted.len() as u64;
        }
        Some(is_same)
    }

    /// Forgets what is wanted of a device.
    pub fn forget(&mut self, device: &DeviceId) {
        self.wanted.retain(|(wanted, _, _), _| wanted != device);
        self.weight.wanted = self.wanted.len() as u64;
    }
}
