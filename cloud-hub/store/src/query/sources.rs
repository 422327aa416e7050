//! Where the rows of a series stand beside those in memory: sealed files and, where they are asked for, files of the cold tier,
//! in order of arrival.

use std::ops::ControlFlow;
use std::sync::Arc;

use tideline_protocol::value::Boxes;

use crate::blocks::SealedFile;
use crate::cold::ColdEntry;
use crate::config::StoreError;
use crate::hot::{SeriesId, is_before};
use crate::manifest::FileEntry;
use crate::sealed::SealedFormat;
use crate::tables::Shared;

/// Files of the cold tier, as they are listed.
pub type Cold = Arc<Vec<Arc<ColdEntry>>>;

/// A file with rows.
pub enum Source<'a> {
    Sealed(SealedFile<'a>),
    Cold(&'a Shared, &'a ColdEntry),
}

/// All of them in order of arrival. What becomes cold keeps the place of the file that it was in.
pub fn sources<'a>(
    (shared, format): (&'a Shared, &'a dyn SealedFormat),
    files: &'a [Arc<FileEntry>],
    cold: &'a [Arc<ColdEntry>],
) -> Vec<Source<'a>> {
    let sealed = |file: &'a Arc<FileEntry>| Source::Sealed(SealedFile { shared, format, file });
    if cold.is_empty() {
        return files.iter().map(sealed).collect();
    }
    let cold = cold.iter().map(|entry| ((entry.order(), entry.number), Source::Cold(shared, entry)));
    let files = files.iter().map(|file| ((file.order, file.number), sealed(file)));
    let mut all: Vec<_> = cold.chain(files).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, source)| source).collect()
}

impl Source<'_> {
    /// Shows the rows of a series in `from..to` in order, some at a time, until told to stop; says whether it may have any.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn each_rows(
        &self,
        id: SeriesId,
        (from_ns, to_ns): (i64, i64),
        mut visit: impl FnMut(&[i64], &[f64], &Boxes) -> ControlFlow<()>,
    ) -> Result<bool, StoreError> {
        let (shared, cold) = match self {
            Self::Sealed(file) => {
                let Some(entry) = file.find(id, (from_ns, to_ns))? else { return Ok(false) };
                file.each_rows(&entry, (from_ns, to_ns), visit)?;
                return Ok(true);
            }
            Self::Cold(shared, cold) => (*shared, *cold),
        };
        let mut any = false;
        for (no, group) in cold.groups.iter().enumerate() {
            if !group.may_have(&[id], (from_ns, to_ns)) {
                continue;
            }
            any = true;
            for column in shared.cold_group(cold, no)?.iter().filter(|column| column.id == id) {
                let lo = column.times.partition_point(|time| *time < from_ns);
                let hi = column.times.partition_point(|time| is_before(*time, to_ns)).max(lo);
                let own = (column.times.get(lo..hi), column.values.get(lo..hi));
                if let (Some(times), Some(words)) = own
                    && !times.is_empty()
                    && visit(times, words, &column.boxes).is_break()
                {
                    return Ok(true);
                }
            }
        }
        Ok(any)
    }
}
