//! The dictionaries of epochs: entries come in order, and one that is known never changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tideline_protocol::model::{SERIES_PER_EPOCH_MAX, SeriesDef};
use tideline_protocol::value::ValueKind;
use tideline_protocol::wire::Series;

use crate::column::{read_varint, write_varint};
use crate::series::SeriesText;

/// The entries of one epoch by number, back to back: of each its kind, then device, point, unit and name with their lengths
/// before them. Cloning one copies nothing before something is added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dictionary(Arc<Packed>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Packed {
    bytes: Vec<u8>,
    // Where each ends.
    ends: Vec<u32>,
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(read_varint(bytes).ok()?).ok()?;
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

fn read(mut bytes: &[u8]) -> Option<SeriesText<'_>> {
    let kind = *ValueKind::ALL.get(usize::try_from(read_varint(&mut bytes).ok()?).ok()?)?;
    let mut text = || take(&mut bytes);
    Some(SeriesText { device: text()?, point: text()?, unit: text()?, kind, name: text()? })
}

impl Dictionary {
    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// The entries from a number on.
    pub fn entries_from(&self, first: usize) -> impl Iterator<Item = SeriesText<'_>> {
        let Packed { bytes, ends } = self.0.as_ref();
        let begin = first.checked_sub(1).and_then(|at| ends.get(at)).copied().unwrap_or(0);
        let mut begin = begin as usize;
        ends.get(first..).unwrap_or(&[]).iter().filter_map(move |end| {
            let end = *end as usize;
            bytes.get(std::mem::replace(&mut begin, end)..end).and_then(read)
        })
    }

    /// Adds one at the end.
    pub fn push(&mut self, SeriesText { device, point, unit, kind, name }: &SeriesText<'_>) {
        let Packed { bytes, ends } = Arc::make_mut(&mut self.0);
        let at = ValueKind::ALL.iter().position(|known| known == kind).unwrap_or_default();
        write_varint(bytes, at as u64);
        for text in [device, point, unit, name] {
            write_varint(bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
        // An epoch has 100,000 of them at most, of some hundred bytes.
        ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }

    /// Puts others in the place of some entries. Takes time with the size of the dictionary.
    pub fn replace(&mut self, others: &BTreeMap<usize, SeriesText<'_>>) {
        let mut changed = Self::default();
        for (no, known) in self.entries_from(0).enumerate() {
            changed.push(others.get(&no).unwrap_or(&known));
        }
        *self = changed;
    }
}

impl<'a> Extend<&'a SeriesDef> for Dictionary {
    fn extend<T: IntoIterator<Item = &'a SeriesDef>>(&mut self, defs: T) {
        defs.into_iter().for_each(|def| self.push(&SeriesText::of(def)));
    }
}

/// The entries of `series` that `known` lacks, or what does not fit.
pub fn fresh_entries(known: &Dictionary, series: &Series) -> Result<Option<Series>, String> {
    let first = series.first as usize;
    if first > known.len() {
        return Err(format!("the entries begin at {first}, but only {} are known before them", known.len()));
    }
    if first.saturating_add(series.defs.len()) > SERIES_PER_EPOCH_MAX as usize {
        return Err(format!("an epoch has at most {SERIES_PER_EPOCH_MAX} series"));
    }
    let overlap = known.entries_from(first);
    if let Some(at) = overlap.zip(&series.defs).position(|(old, new)| old != SeriesText::of(new)) {
        return Err(format!("entry {} is already another series", first + at));
    }
    let fresh = series.defs.get(known.len() - first..).unwrap_or(&[]);
    let first = u32::try_from(known.len()).unwrap_or(u32::MAX);
    Ok((!fresh.is_empty()).then(|| Series { first, defs: fresh.to_vec() }))
}

/// Entries by their numbers.
pub fn numbered(series: &[Series]) -> BTreeMap<usize, SeriesText<'_>> {
    series.iter().flat_map(|run| (run.first as usize..).zip(run.defs.iter().map(SeriesText::of))).collect()
}

/// Whether all entries of `series` stand in the place of known ones.
///
/// # Errors
/// How many are known.
pub fn renameable(known: &Dictionary, series: &Series) -> Result<(), String> {
    let end = (series.first as usize).saturating_add(series.defs.len());
    if end > known.len() {
        return Err(format!("the entries end at {end}, but only {} are known", known.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tideline_protocol::model::{DeviceId, PointId};

    use super::*;

    #[test]
    fn entries_come_back_as_they_were_added_from_any_of_them_on() {
        let defs: Vec<SeriesDef> = (0..300_usize)
            .map(|no| {
                let device = DeviceId::parse(&format!("d{}", no / 100)).unwrap();
                let point = PointId::parse(&"p".repeat(no % 64 + 1)).unwrap();
                let unit = if no % 3 == 0 { "Cel" } else { "" };
                let kind = ValueKind::ALL[no % 4];
                SeriesDef::new(device, point, unit.to_owned()).of_kind(kind).named(&"é".repeat(no % 90))
            })
            .collect();
        let mut dictionary = Dictionary::default();
        dictionary.extend(&defs[..200]);
        let before = dictionary.clone();
        dictionary.extend(&defs[200..]);
        assert_eq!((before.len(), dictionary.len()), (200, 300));
        for from in [0, 1, 199, 200, 299, 300, 301] {
            let expected: Vec<SeriesText<'_>> = defs.iter().skip(from).map(SeriesText::of).collect();
            assert_eq!(dictionary.entries_from(from).collect::<Vec<_>>(), expected);
        }
        assert_eq!(before.entries_from(0).count(), 200);

        let mut renamed = dictionary.clone();
        let runs = [(299, 1), (7, 2)].map(|(first, to)| Series { first, defs: defs[..to].to_vec() });
        renamed.replace(&numbered(&runs));
        let mut expected = defs.clone();
        (expected[7], expected[8], expected[299]) = (defs[0].clone(), defs[1].clone(), defs[0].clone());
        let expected: Vec<SeriesText<'_>> = expected.iter().map(SeriesText::of).collect();
        assert_eq!(renamed.entries_from(0).collect::<Vec<_>>(), expected);
        for (first, is_known) in [(0, true), (299, true), (300, false)] {
            let series = Series { first, defs: defs[..1].to_vec() };
            assert_eq!(renameable(&dictionary, &series).is_ok(), is_known);
        }
    }
}
