//! What may be merged where files are kept for different times: only those of which as much is kept become one, or else retention
//! could not give up whole files.
//!
//! A file that becomes one with an older one takes its place in the order of arrival, before files of other classes that stood
//! between them. Where one of these has readings of the same series and times that would turn the order of equal times around, so
//! they are left apart; but for a crowd of files, which would grow without bound.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tideline_protocol::keep::Keep;

use super::Inner;
use super::compact::{CROWD, plan};
use crate::blocks::SealedFile;
use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::manifest::FileEntry;

/// Files of which as much is kept, in their order.
type Class<'a> = Cow<'a, [Arc<FileEntry>]>;

fn classes(files: &[Arc<FileEntry>]) -> Vec<Class<'_>> {
    let first = files.first().map(|file| file.keep());
    if files.iter().all(|file| Some(file.keep()) == first) {
        return vec![Cow::Borrowed(files)];
    }
    let mut classes: BTreeMap<Keep, Vec<Arc<FileEntry>>> = BTreeMap::new();
    files.iter().for_each(|file| classes.entry(file.keep()).or_default().push(Arc::clone(file)));
    classes.into_values().map(Cow::Owned).collect()
}

impl Inner {
    /// The next files that should become one, of all in their order.
    pub(super) fn planned(
        &self,
        files: &[Arc<FileEntry>],
    ) -> Result<Option<Vec<Arc<FileEntry>>>, StoreError> {
        for class in classes(files) {
            let mut runs = vec![&*class];
            while let Some(run) = runs.pop() {
                let Some(found) = plan(run, &self.shared.retention) else { continue };
                let crossed = if class.len() < CROWD { self.crossed(found, files)? } else { None };
                let Some(order) = crossed else { return Ok(Some(found.to_vec())) };
                let (before, behind) = run.split_at(run.partition_point(|file| file.order < order));
                runs.extend([behind, before]);
            }
        }
        Ok(None)
    }

    /// The place of a file of another class that has a time of a series in common with one that would come before it.
    fn crossed(
        &self,
        inputs: &[Arc<FileEntry>],
        files: &[Arc<FileEntry>],
    ) -> Result<Option<u64>, StoreError> {
        let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else { return Ok(None) };
        let others = files
            .iter()
            .filter(|file| file.keep() != first.keep() && (first.order..last.order).contains(&file.order));
        for other in others {
            for later in inputs.iter().filter(|file| file.order > other.order) {
                let apart = later.first_ns > other.last_ns || other.first_ns > later.last_ns;
                if !apart && self.share_times(later, other, &|_| true)? {
                    return Ok(Some(other.order));
                }
            }
        }
        Ok(None)
    }

    /// Whether two files have times of one of these series that overlap.
    pub(super) fn share_times(
        &self,
        a: &FileEntry,
        b: &FileEntry,
        of: &dyn Fn(SeriesId) -> bool,
    ) -> Result<bool, StoreError> {
        let (shared, format) = (self.shared.as_ref(), self.format.as_ref());
        let directory = |file| SealedFile { shared, format, file }.directory();
        let (a, b) = (directory(a)?, directory(b)?);
        let shares = a.series().filter(|entry| of(entry.series)).any(|entry| {
            let other = b.find(entry.series);
            other.is_some_and(|other| other.first_ns <= entry.last_ns && entry.first_ns <= other.last_ns)
        });
        Ok(shares)
    }
}
