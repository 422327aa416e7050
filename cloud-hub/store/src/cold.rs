//! The cold tier: readings that retention takes from the sealed files, as Parquet that others read.
//!
//! ```text
//! cold/day=2026-11-20/00000042.parquet    readings of a day (UTC), by series and time; columns as in `export`
//! cold/day=__HIVE_DEFAULT_PARTITION__/    those of a file that has readings of too many days
//! ```
//! Folders are named as Hive does, so that DuckDB, pandas and Polars read all of it with one call. A file is written
//! once and never changed. The commit of the manifest that lists it is the one by which its readings leave the sealed
//! files: they are in one of both at any time, and never in both. What is not listed counts for nothing, and a start
//! removes it.

pub mod file;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use crate::buckets::DAY_NS;
use crate::config::StoreError;
use crate::files::FileSystem;
use crate::hot::{SeriesId, is_before};
use crate::manifest::Contents;
use crate::store::damage::{compare, put_aside};
use crate::store::{OpenReport, Quarantined};

/// The folder of a store.
pub const FOLDER: &str = "cold";
/// What readers of Hive's folders take for no day at all.
const NO_DAY: &str = "__HIVE_DEFAULT_PARTITION__";
const ENDING: &str = ".parquet";
const UNFINISHED: &str = ".tmp";

/// The day of a time.
#[must_use]
pub const fn day_of(time_ns: i64) -> i64 {
    time_ns.div_euclid(DAY_NS)
}

/// What the manifest says of one file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ColdEntry {
    /// Its number, under which no other file ever stands.
    #[n(0)]
    pub number: u64,
    /// Days from 1970 to that of its readings; none where they are of several.
    #[n(1)]
    pub day: Option<i64>,
    /// Its length and CRC-32C.
    #[n(2)]
    pub print: (u64, u32),
    /// Its readings.
    #[n(3)]
    pub rows: u64,
    /// The earliest time in it, ns.
    #[n(4)]
    pub first_ns: i64,
    /// The latest time in it, ns.
    #[n(5)]
    pub last_ns: i64,
    /// When the youngest flush that is in it was, see [`crate::manifest::FileEntry`].
    #[n(6)]
    pub sealed_ns: Option<i64>,
    /// Its groups of rows, in their order.
    #[n(7)]
    pub groups: Vec<ColdGroup>,
    /// The place in the order of arrival of the file that its readings were in; none of what became cold before that was kept.
    #[n(8)]
    pub order: Option<u64>,
}

/// Rows of a file that are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ColdGroup {
    /// How many.
    #[n(0)]
    pub rows: u64,
    /// The first of their series, by number.
    #[n(1)]
    pub first: SeriesId,
    /// The last of their series.
    #[n(2)]
    pub last: SeriesId,
    /// Their earliest time, ns.
    #[n(3)]
    pub first_ns: i64,
    /// Their latest time, ns.
    #[n(4)]
    pub last_ns: i64,
}

impl ColdGroup {
    /// Whether it may have readings in `from..to` of one of these series, which are in order.
    #[must_use]
    pub fn may_have(&self, series: &[SeriesId], (from_ns, to_ns): (i64, i64)) -> bool {
        let next = series.get(series.partition_point(|id| *id < self.first));
        is_before(self.first_ns, to_ns) && self.last_ns >= from_ns && next.is_some_and(|id| *id <= self.last)
    }
}

impl ColdEntry {
    /// Its place in the order of arrival; what nobody knows it of came before all else.
    #[must_use]
    pub fn order(&self) -> u64 {
        self.order.unwrap_or_default()
    }

    /// Where it is in the folder of the store.
    #[must_use]
    pub fn name(&self) -> PathBuf {
        name(self.number, self.day)
    }

    /// Where it is in the store `dir`.
    #[must_use]
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.name())
    }

    /// Where it is in the store `dir` until it is listed.
    #[must_use]
    pub fn unfinished(&self, dir: &Path) -> PathBuf {
        unfinished(self.path(dir))
    }

    /// What is wrong with it: its length, or its checksum if it is read as a `whole`.
    ///
    /// # Errors
    /// It cannot be read now, which says nothing of its bytes.
    pub fn damage(
        &self,
        (files, dir): (&dyn FileSystem, &Path),
        whole: bool,
    ) -> Result<Option<String>, StoreError> {
        compare(files, &self.path(dir), self.print, whole)
    }
}

/// What a file is called until it is listed.
#[must_use]
pub fn unfinished(path: PathBuf) -> PathBuf {
    let mut name = path.into_os_string();
    name.push(UNFINISHED);
    name.into()
}

/// The folder of a day in that of the store.
#[must_use]
pub fn folder(day: Option<i64>) -> PathBuf {
    let date = day.and_then(|day| jiff::Timestamp::from_second(day.checked_mul(86_400)?).ok());
    let date = date.map(|date| date.to_zoned(jiff::tz::TimeZone::UTC).date().to_string());
    Path::new(FOLDER).join(format!("day={}", date.as_deref().unwrap_or(NO_DAY)))
}

/// The file of a number in the folder of the store.
#[must_use]
pub fn name(number: u64, day: Option<i64>) -> PathBuf {
    folder(day).join(format!("{number:08}{ENDING}"))
}

/// What the cold tier holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColdUse {
    /// Its files.
    pub files: u64,
    /// Their readings.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The earliest time in them, ns.
    pub first_ns: Option<i64>,
    /// The latest time in them, ns.
    pub last_ns: Option<i64>,
}

impl<'a> FromIterator<&'a ColdEntry> for ColdUse {
    fn from_iter<T: IntoIterator<Item = &'a ColdEntry>>(entries: T) -> Self {
        let mut out = Self::default();
        for entry in entries {
            out.files += 1;
            out.rows += entry.rows;
            out.bytes += entry.print.0;
            out.first_ns = Some(out.first_ns.map_or(entry.first_ns, |first| first.min(entry.first_ns)));
            out.last_ns = out.last_ns.max(Some(entry.last_ns));
        }
        out
    }
}

/// Whether a file is called as those of the cold tier are; what else somebody has put there is not touched.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.strip_suffix(UNFINISHED).unwrap_or(name).strip_suffix(ENDING);
    number.is_some_and(|number| number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The files in the folders of days that the manifest does not list.
///
/// # Errors
/// A folder cannot be read.
pub fn unlisted(
    (files, dir): (&dyn FileSystem, &Path),
    listed: &[ColdEntry],
) -> Result<Vec<PathBuf>, StoreError> {
    let listed: Vec<PathBuf> = listed.iter().map(|entry| entry.path(dir)).collect();
    let mut out = Vec::new();
    for folder in folders((files, dir))? {
        let found = files.list(&folder).map_err(StoreError::io("listing the cold files"))?;
        out.extend(found.into_iter().filter(|path| is_ours(path) && !listed.contains(path)));
    }
    Ok(out)
}

fn folders((files, dir): (&dyn FileSystem, &Path)) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = match files.list(&dir.join(FOLDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(StoreError::io("listing the cold tier"))?,
    };
    // A file of somebody's that is called so is no folder.
    let is_day = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("day=") && files.list(path).is_ok()
    };
    found.retain(is_day);
    Ok(found)
}

/// Removes what a kill has left, and tells of what is damaged, which stays listed: there is no other place that it
/// could come from. Gives how many files are damaged. Of a manifest that was `lost` nobody knows what it listed.
///
/// # Errors
/// The disk failed.
pub fn tidy(
    (files, dir): (&dyn FileSystem, &Path),
    (contents, lost): (&Contents, bool),
    report: &mut OpenReport,
) -> Result<u64, StoreError> {
    for path in unlisted((files, dir), &contents.cold)? {
        let aside: &mut Vec<Quarantined> = &mut report.quarantined;
        if lost {
            put_aside((files, dir), &path, "the manifest that lists it is lost", aside)?;
        } else {
            files.remove(&path).map_err(StoreError::io("removing an unfinished cold file"))?;
        }
    }
    for folder in folders((files, dir))? {
        // It is not removed while there is something in it.
        let _left = files.remove_dir(&folder);
    }
    let mut damaged = 0;
    for entry in &contents.cold {
        let problem = match entry.damage((files, dir), false) {
            Ok(None) => continue,
            Ok(Some(reason)) => reason,
            Err(error) => error.to_string(),
        };
        damaged += 1;
        tracing::error!(file = %entry.name().display(), problem, "a cold file stays listed and cannot be read");
    }
    Ok(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_folder_as_hive_names_it() {
        let shown = |time_ns: i64| name(42, Some(day_of(time_ns))).display().to_string();
        assert_eq!(shown(0), "cold/day=1970-01-01/00000042.parquet");
        assert_eq!(shown(-1), "cold/day=1969-12-31/00000042.parquet");
        assert_eq!(shown(i64::MIN), "cold/day=1677-09-21/00000042.parquet");
        assert_eq!(shown(i64::MAX), "cold/day=2262-04-11/00000042.parquet");
        assert_eq!(folder(None).display().to_string(), "cold/day=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(folder(Some(i64::MAX)), folder(None));
    }

    #[test]
    fn only_what_is_called_as_our_files_is_ours() {
        let ours = |name: &str| is_ours(&Path::new("day=2026-11-20").join(name));
        assert!(ours("00000042.parquet") && ours("00000042.parquet.tmp") && ours("123456789.parquet"));
        for name in ["", "42.parquet", "notes.txt", "0000004x.parquet", "00000042.csv", "00000042.tmp"] {
            assert!(!ours(name), "{name}");
        }
    }

    #[test]
    fn a_group_may_have_what_lies_between_its_ends() {
        let group = ColdGroup { rows: 1, first: 3, last: 5, first_ns: 10, last_ns: 20 };
        let all = (i64::MIN, i64::MAX);
        assert!(group.may_have(&[1, 4, 9], all) && group.may_have(&[5], all));
        assert!(!group.may_have(&[1, 2, 6], all) && !group.may_have(&[], all));
        assert!(group.may_have(&[3], (20, 21)) && group.may_have(&[3], (0, 11)));
        assert!(!group.may_have(&[3], (21, i64::MAX)) && !group.may_have(&[3], (0, 10)));
    }
}
