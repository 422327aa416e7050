//! A job at work: events in, outputs out.

mod asked;
mod books;
mod device;
mod fixed;
mod join;
mod key;
mod session;
mod sliding;
mod state;

use std::collections::BTreeMap;

use tideline_protocol::model::DeviceId;

use crate::aggregate::{Row, is_usable};
use crate::check::{Job, Shape};
use crate::event::{Asked, Cause, Column, Event, Key, Output, Refill, Wanted};
use crate::limits::DEVICE_BYTES;

use books::Books;
use device::Device;
use key::Need;

pub use asked::{FailedWindow, StatementView};
pub use books::{Counts, Totals};
pub(crate) use fixed::Lengths;
pub use state::StateError;

/// A job with its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    job: Job,
    /// The latest of all times that came in: time never goes back for a core (INV-8).
    now_ns: i64,
    devices: BTreeMap<DeviceId, Device>,
    books: Books,
}

/// What is known of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceView {
    /// No reading before this time is expected; none was seen yet where it is `i64::MIN`.
    pub watermark_ns: i64,
    /// The newest time of its readings.
    pub newest_ns: i64,
    /// When its last reading came, by the hub's clock.
    pub heard_ns: i64,
    /// Its readings.
    pub counts: Counts,
}

impl Engine {
    /// A job that has seen nothing.
    #[must_use]
    pub fn new(job: Job) -> Self {
        let books = Books::new(&job);
        Self { job, now_ns: i64::MIN, devices: BTreeMap::new(), books }
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> &Job {
        &self.job
    }

    /// Takes an event in at a time of the hub's clock, and gives what follows.
    ///
    /// Outputs that are not kept are lost: whoever calls this commits them with the state that is saved
    /// afterwards, or neither.
    #[must_use = "outputs that are not kept are lost"]
    pub fn handle(&mut self, now_ns: i64, event: Event<'_>) -> Vec<Output> {
        self.now_ns = self.now_ns.max(now_ns);
        match event {
            Event::Readings(columns) => self.take_in(columns),
            Event::Tick => self.tick(),
            Event::Resumed => {
                let now_ns = self.now_ns;
                self.devices.values_mut().for_each(|device| device.hear(now_ns));
            }
            Event::Refill(refill) => self.refill(refill),
            Event::Answered(what) => asked::answered(&mut self.books, what, self.now_ns),
            Event::Forget(device) => self.forget(device),
            Event::Drain => {
                for (id, device) in &mut self.devices {
                    device.advance(i64::MAX, id, &self.job, &mut self.books);
                }
                self.close();
            }
        }
        self.books.take_outputs()
    }

    /// The windows that are to be aggregated again, at most so many, in the order of their keys. For each of
    /// them the history is wanted as [`Event::Refill`]; it is named until that has come, so there is nothing to
    /// remember.
    #[must_use]
    pub fn wanted(&self, most: usize) -> Vec<Wanted> {
        let window = |((device, point, start_ns), rows): (&books::WantedKey, &u64)| {
            let windows = self.devices.get(device)?.windows(point)?;
            let (from_ns, end_ns) = windows.extent(*start_ns, &self.job)?;
            let key = Key { device: device.clone(), point: point.clone() };
            Some(Wanted { key, start_ns: from_ns, end_ns, rows: *rows, called_ns: *start_ns })
        };
        self.books.wanted.iter().filter_map(window).take(most).collect()
    }

    /// The windows whose statement is to be run now, at most so many, the oldest first. Each is named until
    /// [`Event::Answered`] has come for it, so there is nothing to remember. The times at which failed ones are run again
    /// are of the clock of the events.
    #[must_use]
    pub fn asked(&self, most: usize) -> Vec<Asked> {
        let of = self.job.lengths().filter(|_| self.job.has_statement());
        of.map_or_else(Vec::new, |of| self.books.statement.asked(of, self.now_ns).take(most).collect())
    }

    /// What is known of the job's statement, if it has one.
    #[must_use]
    pub fn statement(&self) -> Option<StatementView> {
        let of = self.job.lengths().filter(|_| self.job.has_statement())?;
        Some(self.books.statement.view(of))
    }

    /// What the job did so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.books.totals
    }

    /// The number of the last output; 0 before the first.
    #[must_use]
    pub const fn last_number(&self) -> u64 {
        self.books.last_number()
    }

    /// Bytes of state, as the limit counts them.
    #[must_use]
    pub const fn state_bytes(&self) -> u64 {
        self.books.weight.bytes()
    }

    /// Slices of windows and sessions that are held.
    #[must_use]
    pub const fn open_windows(&self) -> u64 {
        self.books.weight.held.cells
    }

    /// The devices that it knows.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, DeviceView)> {
        self.devices.iter().map(|(id, device)| (id, device.view()))
    }

    /// One device.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<DeviceView> {
        self.devices.get(id).map(Device::view)
    }

    fn take_in(&mut self, columns: &[Column<'_>]) {
        let mut heard: Vec<&DeviceId> = Vec::new();
        for column in columns {
            if column.samples.is_empty() || !self.job.selects(column.device, column.point) {
                continue;
            }
            if let Err(cause) = self.let_in(column.device) {
                self.books.refuse_all(column, cause);
                continue;
            }
            let Some(device) = self.devices.get_mut(column.device) else { continue };
            device.take_in(column, self.now_ns, &self.job, &mut self.books);
            if heard.last() != Some(&column.device) {
                heard.push(column.device);
            }
        }
        heard.sort_unstable();
        heard.dedup();
        // The least watermark of all moves only with one that was not above it.
        let mut closes = self.job.joined_devices().is_some();
        for id in heard {
            if let Some(device) = self.devices.get_mut(id) {
                closes |= device.view().watermark_ns <= self.books.statement.watermark_ns();
                let to = device.due(&self.job);
                device.advance(to, id, &self.job, &mut self.books);
            }
        }
        if closes {
            self.close();
        }
    }

    /// Gives what all devices close together: the windows of a statement, pairs of two devices.
    fn close(&mut self) {
        if let Some((left, right)) = self.job.joined_devices() {
            let of =
                |id: &DeviceId| self.devices.get(id).map_or(i64::MIN, |device| device.view().watermark_ns);
            let to_ns = of(left).min(of(right)).max(self.books.pair_watermark_ns);
            self.books.pair_watermark_ns = to_ns;
            if let Some(device) = self.devices.get_mut(left) {
                device.advance_pairs(to_ns, left, &self.job, &mut self.books);
            }
        }
        if !self.job.has_statement() {
            return;
        }
        if let Some(least_ns) = self.devices.values().map(|device| device.view().watermark_ns).min() {
            asked::close(&mut self.books, least_ns, &self.job);
        }
    }

    /// Makes room for a device, and for the one that it is joined with: that is waited for from now on.
    fn let_in(&mut self, id: &DeviceId) -> Result<(), Cause> {
        if self.devices.contains_key(id) {
            return Ok(());
        }
        let both =
            self.job.joined_devices().map_or_else(|| vec![id.clone()], |(a, b)| vec![a.clone(), b.clone()]);
        let new: Vec<DeviceId> = both.into_iter().filter(|id| !self.devices.contains_key(id)).collect();
        let (count, limits) = (new.len() as u64, &self.job.spec().limits);
        if (self.devices.len() as u64).saturating_add(count) > limits.devices {
            return Err(Cause::Devices);
        }
        if self.state_bytes().saturating_add(DEVICE_BYTES.saturating_mul(count)) > limits.state_bytes {
            return Err(Cause::StateBytes);
        }
        self.books.weight.devices += count;
        for id in new {
            self.devices.entry(id).or_default().hear(self.now_ns);
        }
        Ok(())
    }

    fn tick(&mut self) {
        let Some(idle_ns) = self.job.idle_ns else { return };
        let silent_since = self.now_ns.saturating_sub(idle_ns);
        let to = silent_since.saturating_sub(self.job.bound_ns);
        for (id, device) in &mut self.devices {
            let view = device.view();
            if view.heard_ns <= silent_since && view.watermark_ns < to {
                device.advance(to, id, &self.job, &mut self.books);
            }
        }
        self.close();
    }

    fn refill(&mut self, refill: Refill<'_>) {
        let Wanted { key, start_ns, end_ns, rows, called_ns } = refill.wanted;
        let windows = self.devices.get(&key.device).and_then(|device| device.windows(&key.point));
        let extent = windows.and_then(|windows| windows.extent(*called_ns, &self.job));
        // Where sessions are changes with what comes.
        if extent != Some((*start_ns, *end_ns)) {
            return;
        }
        match self.books.answer(key, *called_ns, *rows) {
            None => return,
            // All that is wanted of these is given together.
            Some(false) if self.job.lengths().is_none() => return,
            Some(_) => {}
        }
        let mut found: Vec<Row> = Vec::new();
        for column in refill.columns {
            let is_its = *column.device == key.device && self.job.point_of(column.point) == key.point;
            if !is_its || !self.job.selects(column.device, column.point) {
                continue;
            }
            for sample in column.samples {
                let row = (sample.time_ns, sample.value);
                let staged = self.job.staged(column.point, row.1).map(|value| (row.0, value));
                let inside = (*start_ns..*end_ns).contains(&row.0) && is_usable(row);
                found.extend(staged.filter(|row| inside && is_usable(*row)));
            }
        }
        found.sort_by_key(|row| row.0);
        if let Some(device) = self.devices.get_mut(&key.device) {
            device.refill(key, *called_ns, &found, &self.job, &mut self.books);
        }
    }

    /// Makes the pairs of two devices with what there is, and holds none any more.
    fn forget_pair(&mut self) {
        let Some((left, _)) = self.job.joined_devices() else { return };
        if let Some(device) = self.devices.get_mut(left) {
            device.advance_pairs(i64::MAX, left, &self.job, &mut self.books);
        }
        let held = std::mem::take(&mut self.books.pair).held();
        self.books.weight.replace(held, Need::default());
        self.books.pair_watermark_ns = i64::MIN;
    }

    fn forget(&mut self, id: &DeviceId) {
        if self.devices.contains_key(id) {
            self.forget_pair();
        }
        let Some(mut device) = self.devices.remove(id) else { return };
        device.advance(i64::MAX, id, &self.job, &mut self.books);
        self.books.weight.devices = self.books.weight.devices.saturating_sub(1);
        device.unweigh(&mut self.books);
        self.books.forget(id);
        self.close();
    }
}

/// The windows of a time that are no longer kept; only tumbling and hopping ones can be told.
fn expired(job: &Job, time_ns: i64, watermark_ns: i64) -> Vec<i64> {
    let Shape::Fixed { length_ns, hop_ns } = job.shape else { return Vec::new() };
    Lengths { length_ns, hop_ns }.expired(time_ns, watermark_ns, job.allowed_ns).collect()
}
