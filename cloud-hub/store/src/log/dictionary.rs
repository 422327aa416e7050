//! The dictionaries of epochs: entries come in order, and one that is known never changes.

use tideline_protocol::model::{SERIES_PER_EPOCH_MAX, SeriesDef};
use tideline_protocol::wire::Series;

/// The entries of `series` that `known` lacks, or what does not fit.
pub fn fresh_entries(known: &[SeriesDef], series: &Series) -> Result<Option<Series>, String> {
    let first = series.first as usize;
    if first > known.len() {
        return Err(format!("the entries begin at {first}, but only {} are known before them", known.len()));
    }
    if first.saturating_add(series.defs.len()) > SERIES_PER_EPOCH_MAX as usize {
        return Err(format!("an epoch has at most {SERIES_PER_EPOCH_MAX} series"));
    }
    let overlap = known.get(first..).unwrap_or(&[]);
    if let Some(at) = overlap.iter().zip(&series.defs).position(|(old, new)| old != new) {
        return Err(format!("entry {} is already another series", first + at));
    }
    let fresh = series.defs.get(overlap.len()..).unwrap_or(&[]);
    let first = u32::try_from(known.len()).unwrap_or(u32::MAX);
    Ok((!fresh.is_empty()).then(|| Series { first, defs: fresh.to_vec() }))
}
