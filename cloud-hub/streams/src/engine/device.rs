//! One device: its watermark, its join, its windows.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use tideline_protocol::model::{DeviceId, PointId, Sample};

use super::DeviceView;
use super::asked;
use super::books::{Books, Counts};
use super::expired;
use super::join::{Join, Pair};
use super::key::{Fired, Need, Windows};
use crate::aggregate::{Row, is_usable};
use crate::check::{Job, JoinPlan};
use crate::event::{Cause, Column, Field, Key, SideRow};
use crate::spec::{Group, Later, Window};

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Device {
    #[n(0)]
    newest_ns: i64,
    #[n(1)]
    watermark_ns: i64,
    #[n(2)]
    heard_ns: i64,
    #[n(3)]
    counts: Counts,
    /// By point; of a join by the left one, and by none where windows are of all points.
    #[n(4)]
    keys: BTreeMap<Option<PointId>, Windows>,
    #[n(5)]
    join: Join,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            newest_ns: i64::MIN,
            watermark_ns: i64::MIN,
            heard_ns: i64::MIN,
            counts: Counts::default(),
            keys: BTreeMap::new(),
            join: Join::default(),
        }
    }
}

impl Device {
    pub const fn view(&self) -> DeviceView {
        DeviceView {
            watermark_ns: self.watermark_ns,
            newest_ns: self.newest_ns,
            heard_ns: self.heard_ns,
            counts: self.counts,
        }
    }

    /// It was heard, or could not be.
    pub const fn hear(&mut self, now_ns: i64) {
        self.heard_ns = now_ns;
    }

    /// Where its readings say that the watermark is to be.
    pub const fn due(&self, job: &Job) -> i64 {
        self.newest_ns.saturating_sub(job.bound_ns)
    }

    /// Takes readings of one of its series; the watermark stays.
    pub fn take_in(&mut self, column: &Column<'_>, now_ns: i64, job: &Job, books: &mut Books) {
        self.hear(now_ns);
        let key = job.point_of(column.point);
        for sample in column.samples {
            self.count(books, |counts| &mut counts.rows);
            let Err(cause) = self.take(column, &key, *sample, now_ns, job, books) else { continue };
            self.put_aside(column, *sample, cause, books);
        }
    }

    fn count(&mut self, books: &mut Books, which: impl Fn(&mut Counts) -> &mut u64) {
        for counts in [&mut self.counts, &mut books.totals.counts] {
            let count = which(counts);
            *count = count.saturating_add(1);
        }
    }

    fn put_aside(&mut self, column: &Column<'_>, sample: Sample, cause: Cause, books: &mut Books) {
        self.count(books, |counts| match cause {
            Cause::Late => &mut counts.too_late,
            Cause::Ahead => &mut counts.ahead,
            Cause::Unusable => &mut counts.unusable,
            Cause::Devices | Cause::OpenWindows | Cause::StateBytes | Cause::Name => &mut counts.refused,
        });
        let (device, point) = (column.device.clone(), column.point.clone());
        books.side(SideRow { device, point, time_ns: sample.time_ns, value: sample.value, cause });
    }

    fn take(
        &mut self,
        column: &Column<'_>,
        key: &Option<PointId>,
        sample: Sample,
        now_ns: i64,
        job: &Job,
        books: &mut Books,
    ) -> Result<(), Cause> {
        // A statement sees readings as they are stored, numbers or not.
        let value = if job.has_statement() { 0.0 } else { sample.value };
        if !is_usable((sample.time_ns, value)) {
            return Err(Cause::Unusable);
        }
        if sample.time_ns > now_ns.saturating_add(job.ahead_ns) {
            return Err(Cause::Ahead);
        }
        self.newest_ns = self.newest_ns.max(sample.time_ns);
        // Windows of a statement are closed by the watermark of all devices, pairs of two devices by that of both.
        let closed_to_ns = match job.joined_devices() {
            Some(_) => books.pair_watermark_ns,
            None if job.has_statement() => books.statement.watermark_ns(),
            None => self.watermark_ns,
        };
        let is_late = sample.time_ns < closed_to_ns;
        if is_late {
            self.count(books, |counts| &mut counts.late);
        }
        if job.has_statement() {
            return asked::take(books, sample.time_ns, now_ns, job);
        }
        let Some(value) = job.staged(column.point, sample.value) else {
            self.count(books, |counts| &mut counts.filtered);
            return Ok(());
        };
        let row = (sample.time_ns, value);
        if !is_usable(row) {
            return Err(Cause::Unusable);
        }
        let Some(join) = &job.join else {
            if job.spec().window == Window::Each {
                return self.give(column.device, key, row.0, vec![(Field::Value, value)], job, books);
            }
            return self.put(column.device, key, row, self.watermark_ns, job, books);
        };
        if is_late {
            return Err(Cause::Late);
        }
        books.room(0, Need { cells: 0, rows: 1 })?;
        let held = if join.devices.is_some() { &mut books.pair } else { &mut self.join };
        let before = held.held();
        held.insert(row, join.is_left(column.device, column.point));
        let after = held.held();
        books.weight.replace(before, after);
        Ok(())
    }

    /// Gives a reading, or a pair, to its windows.
    fn put(
        &mut self,
        device: &DeviceId,
        key: &Option<PointId>,
        row: Row,
        watermark_ns: i64,
        job: &Job,
        books: &mut Books,
    ) -> Result<(), Cause> {
        self.open(device, key, job, books)?;
        let Some(windows) = self.keys.get_mut(key) else { return Ok(()) };
        let need = windows.need(row.0, watermark_ns, job);
        let updates = job.spec().late.then == Later::Update;
        let again = if updates { expired(job, row.0, watermark_ns) } else { Vec::new() };
        if updates && need.is_none() && again.is_empty() {
            let (need, start_ns) = windows.past_need(row.0, watermark_ns, job).ok_or(Cause::Late)?;
            books.room_with(need, device, key, &[start_ns])?;
        }
        // All of it or nothing: a reading that is refused must be in no window.
        books.room_with(need.unwrap_or_default(), device, key, &again)?;
        books.want(device, key, &again);
        let Some(_) = need else {
            if updates {
                let before = windows.held();
                windows.insert_past(row, watermark_ns, job);
                books.weight.replace(before, windows.held());
                let notes = windows.take_notes();
                notes.into_iter().for_each(|note| books.fired(key_of(device, key), note));
                self.count(books, |counts| &mut counts.too_late);
                return Ok(());
            }
            return Err(Cause::Late);
        };
        let before = windows.held();
        windows.insert(row, watermark_ns, job);
        books.weight.replace(before, windows.held());
        let notes = windows.take_notes();
        notes.into_iter().for_each(|note| books.fired(key_of(device, key), note));
        Ok(())
    }

    /// Gives a reading or pair as a result of its own.
    fn give(
        &mut self,
        device: &DeviceId,
        key: &Option<PointId>,
        time_ns: i64,
        values: Vec<(Field, f64)>,
        job: &Job,
        books: &mut Books,
    ) -> Result<(), Cause> {
        self.open(device, key, job, books)?;
        let end_ns = time_ns.saturating_add(1);
        books.fired(key_of(device, key), Fired::Window { start_ns: time_ns, end_ns, late: false, values });
        Ok(())
    }

    fn open(
        &mut self,
        device: &DeviceId,
        key: &Option<PointId>,
        job: &Job,
        books: &mut Books,
    ) -> Result<(), Cause> {
        if self.keys.contains_key(key) {
            return Ok(());
        }
        if !job.can_name(&key_of(device, key)) {
            return Err(Cause::Name);
        }
        books.room(1, Need::default())?;
        books.weight.keys += 1;
        self.keys.insert(key.clone(), Windows::new(job.shape));
        Ok(())
    }

    /// Moves the watermark on, or leaves it where it is, and gives what follows.
    pub fn advance(&mut self, to_ns: i64, id: &DeviceId, job: &Job, books: &mut Books) {
        let from_ns = self.watermark_ns;
        self.watermark_ns = to_ns.max(from_ns);
        let from_to = match &job.join {
            // The other one has a say too.
            Some(plan) if plan.devices.is_some() => return,
            Some(plan) => {
                let mut join = std::mem::take(&mut self.join);
                let from_to = self.pair((plan, &mut join), self.watermark_ns, id, job, books);
                self.join = join;
                from_to
            }
            None => (from_ns, self.watermark_ns),
        };
        self.close(from_to, id, job, books);
    }

    /// Makes the pairs with another device that are final now that both are there, and gives what follows.
    pub fn advance_pairs(&mut self, to_ns: i64, id: &DeviceId, job: &Job, books: &mut Books) {
        let Some(plan) = &job.join else { return };
        let mut join = std::mem::take(&mut books.pair);
        let from_to = self.pair((plan, &mut join), to_ns, id, job, books);
        books.pair = join;
        self.close(from_to, id, job, books);
    }

    fn close(&mut self, from_to: (i64, i64), id: &DeviceId, job: &Job, books: &mut Books) {
        for (key, windows) in &mut self.keys {
            let before = windows.held();
            windows.advance(from_to, job, |fired| books.fired(key_of(id, key), fired));
            books.weight.replace(before, windows.held());
        }
    }

    /// Makes the pairs that are final, and says from where to where.
    fn pair(
        &mut self,
        (plan, join): (&JoinPlan, &mut Join),
        watermark_ns: i64,
        id: &DeviceId,
        job: &Job,
        books: &mut Books,
    ) -> (i64, i64) {
        let before = join.held();
        let (pairs, from_to) = join.advance(plan, watermark_ns);
        books.weight.replace(before, join.held());
        let key = Some(plan.left.clone());
        for Pair { left, right } in pairs {
            let Some(right) = right else {
                self.count(books, |counts| &mut counts.unmatched);
                continue;
            };
            let row = (left.0, plan.value(left.1, right));
            let put = if !is_usable(row) {
                Err(Cause::Unusable)
            } else if job.spec().window == Window::Each {
                let values = vec![(Field::Left, left.1), (Field::Right, right), (Field::Value, row.1)];
                self.give(id, &key, row.0, values, job, books)
            } else {
                self.put(id, &key, row, from_to.0, job, books)
            };
            if let Err(cause) = put {
                let sample = Sample { time_ns: left.0, value: left.1 };
                let column = Column { device: id, point: &plan.left, samples: &[sample] };
                self.put_aside(&column, sample, cause, books);
            }
        }
        from_to
    }

    /// The windows of a key.
    pub fn windows(&self, point: &Option<PointId>) -> Option<&Windows> {
        self.keys.get(point)
    }

    /// Gives what the history says of a window.
    pub fn refill(&mut self, key: &Key, start_ns: i64, found: &[Row], job: &Job, books: &mut Books) {
        let Some(windows) = self.keys.get_mut(&key.point) else { return };
        let before = windows.held();
        windows.refill(start_ns, found, self.watermark_ns, job, |fired| {
            if matches!(fired, Fired::Window { .. }) {
                books.totals.refilled = books.totals.refilled.saturating_add(1);
            }
            books.fired(key.clone(), fired);
        });
        books.weight.replace(before, windows.held());
    }

    /// Whether it has windows.
    pub fn has_windows(&self) -> bool {
        !self.keys.is_empty()
    }

    fn held(&self) -> Need {
        let parts = self.keys.values().map(Windows::held).chain([self.join.held()]);
        parts.fold(Need::default(), |sum, part| Need {
            cells: sum.cells + part.cells,
            rows: sum.rows + part.rows,
        })
    }

    /// Takes what it holds out of the books.
    pub fn unweigh(&self, books: &mut Books) {
        books.weight.keys = books.weight.keys.saturating_sub(self.keys.len() as u64);
        books.weight.replace(self.held(), Need::default());
    }

    /// Puts what it holds into the books.
    pub fn weigh(&self, books: &mut Books) {
        books.weight.devices += 1;
        books.weight.keys += self.keys.len() as u64;
        books.weight.replace(Need::default(), self.held());
    }

    /// Whether this can be a state of such a job.
    pub fn check(&mut self, job: &Job) -> bool {
        let fits = |key: &Option<PointId>| match key {
            None => job.spec().group == Group::Device,
            Some(point) => job.point_of(point).as_ref() == Some(point),
        };
        let joins = job.join.as_ref().is_some_and(|plan| plan.devices.is_none());
        let joined = joins || self.join == Join::default();
        joined && self.join.check() && self.keys.keys().all(fits) && {
            self.keys.values_mut().all(|windows| windows.check(job))
        }
    }
}

fn key_of(device: &DeviceId, point: &Option<PointId>) -> Key {
    Key { device: device.clone(), point: point.clone() }
}
