//! Retention: how long each tier is kept, and in how much room.
//!
//! What is given up is always a whole tier of a whole file: first its readings, then its minutes, its hours and
//! its days. A file is as old as its newest reading; one that says to be of the future, as the last flush that brought a
//! reading into it: a device whose clock is ahead keeps nothing for ever. So a reading is kept for as long as is said, and
//! for longer where it came together with later ones; merges see to it that a file spans no more than an
//! eighth of what is kept ([`Bounds`]).
//!
//! Readings that are given up may go to the cold tier, which has limits of its own and whose files go whole.
//!
//! Under a limit of room the oldest files go first. The readings count for the tier of readings; a file of rollups
//! counts, whole, for the finest tier that is in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tideline_protocol::keep::{Keep, Rollups};
use tideline_protocol::time::Clock;

use crate::buckets::DAY_NS;
use crate::cold::ColdEntry;
use crate::manifest::FileEntry;
use crate::segment::{LEVELS, Level};

/// The part of what a tier keeps that one file may span or take.
const PART: u64 = 8;

/// How long one tier is kept, and in how much room; none is without end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Longest time since the newest reading of a file, ns.
    pub age_ns: Option<i64>,
    /// Most bytes of files.
    pub bytes: Option<u64>,
}

/// What is kept, tier by tier; all of it, for ever, unless told otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// The readings.
    pub raw: Limit,
    /// What is known of each minute.
    pub minute: Limit,
    /// What is known of each hour.
    pub hour: Limit,
    /// What is known of each day.
    pub day: Limit,
    /// Whether readings that are given up go to the cold tier.
    pub freezes: bool,
    /// What is in the cold tier.
    pub cold: Limit,
    /// Whether files are kept no longer than the profiles of their devices say. What these say of days goes for good and never
    /// becomes cold: it is how long the hub keeps a reading, wherever.
    pub by_profile: bool,
}

/// What is to be given up next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// These files.
    Remove(Vec<Arc<FileEntry>>),
    /// All of this file that is finer than the level.
    Thin(Arc<FileEntry>, Level),
}

/// The hub's clock as retention believes it: what an hour of nonsense removed would not come back.
#[derive(Debug, Default)]
pub struct Watch {
    // Wall time and monotonic time when it was first believed.
    base: Option<(i64, u64)>,
}

/// No clock that shows less is right: 2026-01-01.
pub const EARLIEST_NS: i64 = 1_767_225_600 * 1_000_000_000;
/// How far the wall time may run away from the monotonic one.
const LEAP_NS: i64 = 24 * 3_600_000_000_000;

impl Watch {
    /// The time now.
    ///
    /// # Errors
    /// The clock is not believed; says why.
    pub fn now(&mut self, clock: &dyn Clock) -> Result<i64, String> {
        let (wall_ns, mono_ns) = (clock.wall_ns(), clock.mono_ns());
        if !clock.is_believed() || wall_ns < EARLIEST_NS {
            return Err("the hub's clock is not right, so nothing is removed by its age".to_owned());
        }
        let (wall_base, mono_base) = *self.base.get_or_insert((wall_ns, mono_ns));
        let gone_ns = i64::try_from(mono_ns.saturating_sub(mono_base)).unwrap_or(i64::MAX);
        let leap_ns = wall_ns.saturating_sub(wall_base).saturating_sub(gone_ns);
        if leap_ns.saturating_abs() > LEAP_NS {
            return Err(format!(
                "the hub's clock leapt by {} hours, so nothing is removed by its age until a restart",
                leap_ns / 3_600_000_000_000
            ));
        }
        Ok(wall_ns)
    }
}

/// How far a file may grow by merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// From its first reading to its last, ns.
    pub span_ns: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// How old a file is, as the time it is of. When it was written counts only for one that says to be of the future:
/// the hub's clock may have been behind then.
fn age_of(last_ns: i64, sealed_ns: Option<i64>, now_ns: i64) -> i64 {
    let sealed_ns = sealed_ns.filter(|_| last_ns > now_ns);
    sealed_ns.map_or(last_ns, |sealed_ns| last_ns.min(sealed_ns))
}

fn time_of(file: &FileEntry, now_ns: i64) -> i64 {
    age_of(file.last_ns, file.sealed_ns, now_ns)
}

/// The bytes of a file that count for a level, when `finest` is what is left of it.
const fn share(file: &FileEntry, finest: Level, of: Level) -> u64 {
    match (of, finest) {
        (Level::Raw, Level::Raw) => file.raw.0,
        (Level::Minute, Level::Raw | Level::Minute)
        | (Level::Hour, Level::Hour)
        | (Level::Day, Level::Day) => file.rollup.0,
        _ => 0,
    }
}

impl Retention {
    /// That of a level.
    #[must_use]
    pub const fn limit(&self, level: Level) -> Limit {
        match level {
            Level::Raw => self.raw,
            Level::Minute => self.minute,
            Level::Hour => self.hour,
            Level::Day => self.day,
        }
    }

    /// What counts of what is kept of a file.
    const fn of(&self, keep: Keep) -> Keep {
        if self.by_profile { keep } else { Keep::HUB }
    }

    /// How long a level of a file is kept.
    fn age_ns(&self, keep: Keep, level: Level) -> Option<i64> {
        let age_ns = self.limit(level).age_ns;
        let own = self.of(keep).days.filter(|_| level == Level::Raw).map(|days| i64::from(days) * DAY_NS);
        // The profile may ask for less than the operator, and never gets more.
        [age_ns, own].into_iter().flatten().min()
    }

    /// How long readings are kept of which as much is kept, ns; without end when there is no limit.
    #[must_use]
    pub fn raw_age_ns(&self, keep: Keep) -> Option<i64> {
        self.age_ns(keep, Level::Raw)
    }

    /// Whether there are rollups of this level when the readings are gone.
    #[must_use]
    pub fn leaves(&self, keep: Keep, level: Level) -> bool {
        match level {
            Level::Raw => true,
            Level::Minute => self.of(keep).leaves(Rollups::MINUTE),
            Level::Hour => self.of(keep).leaves(Rollups::HOUR),
            Level::Day => self.of(keep).leaves(Rollups::DAY),
        }
    }

    /// Whether nothing of these files ever goes.
    #[must_use]
    pub fn is_endless(&self, files: &[Arc<FileEntry>]) -> bool {
        let own = self.by_profile && files.iter().any(|file| file.keep.is_some());
        !own && Self { by_profile: false, ..*self } == Self::default()
    }

    /// Whether the readings of a file go to the cold tier.
    #[must_use]
    pub fn becomes_cold(&self, file: &FileEntry) -> bool {
        self.freezes && file.is_whole() && self.of(file.keep()).days.is_none()
    }

    /// How far a file of which so much is kept may grow, whose finest level is this one.
    #[must_use]
    pub fn bounds(&self, keep: Keep, level: Level) -> Bounds {
        let Limit { bytes, .. } = self.limit(level);
        let age_ns = self.age_ns(keep, level);
        Bounds {
            span_ns: age_ns.map_or(u64::MAX, |age_ns| age_ns.unsigned_abs() / PART),
            bytes: bytes.map_or(u64::MAX, |bytes| bytes / PART),
        }
    }

    /// The finest level that may be kept of what is of this time; none when nothing may.
    fn kept(&self, keep: Keep, time_ns: i64, now_ns: i64) -> Option<Level> {
        let young = |level: &Level| {
            self.age_ns(keep, *level).is_none_or(|age_ns| time_ns >= now_ns.saturating_sub(age_ns))
        };
        LEVELS.into_iter().filter(|level| self.leaves(keep, *level)).find(young)
    }

    /// What is to be given up of the files of the cold tier.
    #[must_use]
    pub fn melts(&self, cold: &[Arc<ColdEntry>], now_ns: i64) -> Vec<Arc<ColdEntry>> {
        let Limit { age_ns, bytes } = self.cold;
        let time = |entry: &ColdEntry| age_of(entry.last_ns, entry.sealed_ns, now_ns);
        let old =
            |entry: &Arc<ColdEntry>| age_ns.is_some_and(|age_ns| time(entry) < now_ns.saturating_sub(age_ns));
        let (mut gone, mut kept): (Vec<_>, Vec<_>) = cold.iter().cloned().partition(old);
        let held: u64 = kept.iter().map(|entry| entry.print.0).sum();
        let mut over = held.saturating_sub(bytes.unwrap_or(u64::MAX));
        kept.sort_by_key(|entry| (time(entry), entry.number));
        for entry in kept {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(entry.print.0);
            gone.push(entry);
        }
        gone
    }

    /// What is to be given up next, of all files; those that are `waiting` count for what there is, and stay.
    #[must_use]
    pub fn due(&self, files: &[Arc<FileEntry>], now_ns: i64, waiting: &BTreeSet<u64>) -> Option<Step> {
        if self.is_endless(files) {
            return None;
        }
        let finest = |file: &FileEntry| {
            if waiting.contains(&file.number) {
                return Some(file.finest);
            }
            let kept = self.kept(file.keep(), time_of(file, now_ns), now_ns);
            kept.map(|level| level.max(file.finest))
        };
        let mut kept: Vec<(&Arc<FileEntry>, Option<Level>)> =
            files.iter().map(|file| (file, finest(file))).collect();
        kept.sort_by_key(|(file, _)| (time_of(file, now_ns), file.order));
        // One tier after the other: what the coarser one takes is known when the finer one is gone.
        for level in LEVELS {
            let Some(most) = self.limit(level).bytes else { continue };
            let held = |(file, finest): &(&Arc<FileEntry>, Option<Level>)| {
                finest.map_or(0, |finest| share(file, finest, level))
            };
            let mut over = kept.iter().map(held).sum::<u64>().saturating_sub(most);
            if over == 0 {
                continue;
            }
            for one in &mut kept {
                let bytes = held(one);
                if over > 0 && bytes > 0 && !waiting.contains(&one.0.number) {
                    let left = LEVELS.into_iter().filter(|coarser| *coarser > level);
                    one.1 = left.into_iter().find(|coarser| self.leaves(one.0.keep(), *coarser));
                    over = over.saturating_sub(bytes);
                }
            }
            break;
        }
        let gone = kept.iter().filter(|(_, finest)| finest.is_none()).map(|(file, _)| Arc::clone(file));
        let gone: Vec<_> = gone.collect();
        if !gone.is_empty() {
            return Some(Step::Remove(gone));
        }
        let thinner = kept.into_iter().find_map(|(file, finest)| {
            finest.filter(|finest| *finest > file.finest).map(|finest| (Arc::clone(file), finest))
        });
        thinner.map(|(file, finest)| Step::Thin(file, finest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::HOUR_NS;
    use crate::segment::write::Written;

    const NOW: i64 = 1_000 * DAY_NS;

    fn none() -> BTreeSet<u64> {
        BTreeSet::new()
    }

    fn file(number: u64, age_ns: i64, finest: Level) -> Arc<FileEntry> {
        let last_ns = NOW - age_ns;
        let raw = (finest == Level::Raw).then_some((1000, 0));
        let written = Written { raw, rollup: (100, 0), rows: 10, first_ns: last_ns - HOUR_NS, last_ns };
        Arc::new(FileEntry { finest, ..FileEntry::new(number, written, number, Some(NOW), Vec::new()) })
    }

    fn days(days: i64) -> Limit {
        Limit { age_ns: Some(days * DAY_NS), bytes: None }
    }

    fn room(bytes: u64) -> Limit {
        Limit { age_ns: None, bytes: Some(bytes) }
    }

    fn told(step: Option<Step>) -> (Vec<u64>, Option<Level>) {
        match step {
            None => (vec![], None),
            Some(Step::Remove(files)) => (files.iter().map(|file| file.number).collect(), None),
            Some(Step::Thin(file, level)) => (vec![file.number], Some(level)),
        }
    }

    #[test]
    fn without_limits_nothing_goes() {
        assert_eq!(Retention::default().due(&[file(1, 900 * DAY_NS, Level::Raw)], NOW, &none()), None);
    }

    #[test]
    fn what_a_profile_says_shortens_what_is_kept_and_never_lengthens_it() {
        let keep = |days, rollups| Keep { days, rollups };
        let of = |keep: Keep, age: i64| Arc::new((*file(1, age * DAY_NS, Level::Raw)).clone().keeping(keep));
        let retention =
            Retention { raw: days(10), minute: days(20), by_profile: true, ..Retention::default() };
        let hours = Some(Rollups::HOUR);
        for (keep, age, expected) in [
            (keep(Some(3), None), 3, (vec![], None)),
            (keep(Some(3), None), 4, (vec![1], Some(Level::Minute))),
            (keep(Some(30), None), 11, (vec![1], Some(Level::Minute))),
            (keep(None, hours), 9, (vec![], None)),
            (keep(None, hours), 11, (vec![1], Some(Level::Hour))),
            (keep(Some(3), Some(Rollups::NONE)), 4, (vec![1], None)),
            // Rollups of a minute alone go at the operator's age, and nothing is left of them.
            (keep(Some(3), Some(Rollups::MINUTE)), 21, (vec![1], None)),
        ] {
            assert_eq!(told(retention.due(&[of(keep, age)], NOW, &none())), expected, "{keep:?} at {age}");
            let own = Retention { by_profile: false, ..retention };
            let plain = told(own.due(&[of(Keep::HUB, age)], NOW, &none()));
            assert_eq!(
                told(own.due(&[of(keep, age)], NOW, &none())),
                plain,
                "{keep:?} at {age} by the operator alone"
            );
        }
        let alone = Retention { by_profile: true, ..Retention::default() };
        assert!(alone.is_endless(&[of(Keep::HUB, 900)]));
        assert_eq!(
            told(alone.due(&[of(keep(Some(3), None), 4)], NOW, &none())),
            (vec![1], Some(Level::Minute))
        );
        // Where there is no more room, what is left is what may stay.
        let full = Retention { raw: room(0), by_profile: true, ..Retention::default() };
        assert_eq!(told(full.due(&[of(keep(None, hours), 1)], NOW, &none())), (vec![1], Some(Level::Hour)));
        assert_eq!(told(full.due(&[of(keep(None, Some(Rollups::NONE)), 1)], NOW, &none())), (vec![1], None));
        let days_of =
            |days| alone.bounds(keep(Some(days), None), Level::Raw).span_ns / DAY_NS.cast_unsigned();
        assert_eq!((days_of(8), days_of(80)), (1, 10));
        let cold = Retention { freezes: true, ..retention };
        assert!(cold.becomes_cold(&of(keep(None, hours), 1)));
        assert!(!cold.becomes_cold(&of(keep(Some(3), None), 1)));
    }

    #[test]
    fn each_tier_goes_at_its_age() {
        let retention = Retention {
            raw: days(10),
            minute: days(20),
            hour: days(30),
            day: days(40),
            ..Retention::default()
        };
        for (age, finest, expected) in [
            (10, Level::Raw, (vec![], None)),
            (11, Level::Raw, (vec![1], Some(Level::Minute))),
            (11, Level::Minute, (vec![], None)),
            (21, Level::Minute, (vec![1], Some(Level::Hour))),
            (31, Level::Raw, (vec![1], Some(Level::Day))),
            (40, Level::Day, (vec![], None)),
            (41, Level::Day, (vec![1], None)),
            (41, Level::Raw, (vec![1], None)),
        ] {
            let step = retention.due(&[file(1, age * DAY_NS, finest), file(2, 0, Level::Raw)], NOW, &none());
            assert_eq!(told(step), expected, "{age} days, {finest:?}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_keeps_nothing_for_ever() {
        let retention = Retention { raw: days(10), ..Retention::default() };
        let ahead = |sealed_ns: i64| {
            let sealed_ns = Some(sealed_ns);
            let file =
                FileEntry { last_ns: NOW + 900 * DAY_NS, sealed_ns, ..(*file(1, 0, Level::Raw)).clone() };
            told(retention.due(&[Arc::new(file)], NOW, &none()))
        };
        assert_eq!(ahead(NOW - 10 * DAY_NS), (vec![], None));
        assert_eq!(ahead(NOW - 11 * DAY_NS), (vec![1], Some(Level::Minute)));
        // A hub whose clock was behind when it wrote the file.
        let file = FileEntry { sealed_ns: Some(NOW - 90 * DAY_NS), ..(*file(1, 0, Level::Raw)).clone() };
        assert_eq!(retention.due(&[Arc::new(file)], NOW, &none()), None);
    }

    #[test]
    fn under_a_limit_of_room_the_oldest_go_first() {
        let files: Vec<_> = [(1, 5), (2, 9), (3, 1), (4, 7)]
            .map(|(number, age)| file(number, age * DAY_NS, Level::Raw))
            .into();
        let raw = |bytes| Retention { raw: room(bytes), ..Retention::default() };
        assert_eq!(told(raw(4000).due(&files, NOW, &none())), (vec![], None));
        assert_eq!(told(raw(3999).due(&files, NOW, &none())), (vec![2], Some(Level::Minute)));
        // A file's rollups count for their finest tier, also where its readings are still there.
        let minute = |bytes| Retention { minute: room(bytes), ..Retention::default() };
        assert_eq!(told(minute(400).due(&files, NOW, &none())), (vec![], None));
        assert_eq!(told(minute(399).due(&files, NOW, &none())), (vec![2], Some(Level::Hour)));
        let thin: Vec<_> =
            (1..=4).map(|number| file(number, 10 - number.cast_signed(), Level::Day)).collect();
        let day = |bytes| Retention { day: room(bytes), ..Retention::default() };
        assert_eq!(told(day(250).due(&thin, NOW, &none())), (vec![1, 2], None));
    }

    #[test]
    fn of_the_cold_tier_the_oldest_go_first() {
        let entry = |number: u64, age_ns: i64, bytes: u64| {
            let (last_ns, sealed_ns) = (NOW - age_ns, Some(NOW - 20 * DAY_NS));
            let (day, print, groups) = (None, (bytes, 0), Vec::new());
            Arc::new(ColdEntry {
                number,
                day,
                print,
                rows: 1,
                first_ns: last_ns,
                last_ns,
                sealed_ns,
                groups,
                order: None,
            })
        };
        let all = [entry(1, 5 * DAY_NS, 10), entry(2, 9 * DAY_NS, 10), entry(3, DAY_NS, 10)];
        let told = |cold: Limit, files: &[Arc<ColdEntry>]| {
            let melts = Retention { cold, ..Retention::default() }.melts(files, NOW);
            melts.iter().map(|entry| entry.number).collect::<Vec<_>>()
        };
        assert_eq!(told(Limit::default(), &all), Vec::<u64>::new());
        assert_eq!(told(days(5), &all), [2]);
        assert_eq!(told(room(30), &all), Vec::<u64>::new());
        assert_eq!(told(room(29), &all), [2]);
        assert_eq!(told(room(5), &all), [2, 1, 3]);
        assert_eq!(told(Limit { bytes: Some(15), ..days(8) }, &all), [2, 1]);
        // One that says to be of the future is as old as its flush.
        assert_eq!(told(days(10), &[entry(4, -900 * DAY_NS, 1)]), [4]);
    }

    struct Hands(i64, u64);

    impl Clock for Hands {
        fn wall_ns(&self) -> i64 {
            self.0
        }

        fn mono_ns(&self) -> u64 {
            self.1
        }
    }

    #[test]
    fn a_clock_that_cannot_be_right_removes_nothing() {
        let mut watch = Watch::default();
        let hour = HOUR_NS.cast_unsigned();
        assert!(watch.now(&Hands(0, 0)).is_err(), "1970");
        // It is set for the first time.
        let set = EARLIEST_NS + DAY_NS;
        assert_eq!(watch.now(&Hands(set, hour)), Ok(set));
        assert_eq!(watch.now(&Hands(set + 3 * HOUR_NS, 2 * hour)), Ok(set + 3 * HOUR_NS));
        assert!(watch.now(&Hands(set + 300 * DAY_NS, 3 * hour)).unwrap_err().contains("leapt by 7198 hours"));
        let months = 300 * DAY_NS;
        assert_eq!(watch.now(&Hands(set + months, months.cast_unsigned())), Ok(set + months));
    }

    #[test]
    fn a_file_may_grow_to_a_part_of_what_is_kept() {
        let retention =
            Retention { raw: Limit { age_ns: Some(8 * DAY_NS), bytes: Some(800) }, ..Retention::default() };
        assert_eq!(
            retention.bounds(Keep::HUB, Level::Raw),
            Bounds { span_ns: DAY_NS.cast_unsigned(), bytes: 100 }
        );
        assert_eq!(retention.bounds(Keep::HUB, Level::Day), Bounds { span_ns: u64::MAX, bytes: u64::MAX });
    }
}
