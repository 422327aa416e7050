//! Overlays: what differs in some firmware versions, or hardware revisions.
//!
//! An overlay is a part of the file that is laid over the rest, key by key, before anything is made of it. So whatever
//! a file can say, an overlay can say otherwise, and what comes of it is checked as a file is.

mod varying;
mod versions;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::varying::Varying;
pub use self::versions::{Version, Versions};
use crate::form::Overlay;
use crate::form::section::VersionScheme;
use crate::read;

/// What a device is of its family, as far as somebody has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edition {
    /// Its firmware.
    pub firmware: Option<Version>,
    /// Its hardware revision.
    pub hardware: Option<String>,
}

/// For which devices an overlay is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// Those of these versions; of any when not said.
    pub versions: Option<Versions>,
    /// Those of these revisions; of any when not said.
    pub hardware: Option<Vec<String>>,
}

impl When {
    /// Whether it is for such a device. One of which it is not known is none.
    #[must_use]
    pub fn holds(&self, edition: &Edition) -> bool {
        let has_version =
            |versions: &Versions| edition.firmware.as_ref().is_some_and(|own| versions.have(own));
        let is_one_of =
            |revisions: &Vec<String>| edition.hardware.as_ref().is_some_and(|own| revisions.contains(own));
        self.versions.as_ref().is_none_or(has_version) && self.hardware.as_ref().is_none_or(is_one_of)
    }
}

/// The revisions that a text names, with commas.
pub fn revisions(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|revision| !revision.is_empty())
}

/// How the versions of a file are compared. What is wrong with it is told where the section is read.
pub fn scheme(table: &DeTable<'_>) -> VersionScheme {
    let firmware = table.get("firmware").and_then(|section| section.get_ref().as_table());
    let said = firmware.and_then(|section| section.get("versions")?.get_ref().as_str());
    said.and_then(VersionScheme::of).unwrap_or_default()
}

/// The overlays of a file.
pub fn tables<'a, 't>(
    table: &'a DeTable<'t>,
) -> impl Iterator<Item = &'a Spanned<DeValue<'t>>> + use<'a, 't> {
    let items = table.get("overlays").and_then(|value| value.get_ref().as_array());
    items.into_iter().flat_map(|items| items.iter()).filter(|item| item.get_ref().is_table())
}

/// For which devices an overlay is; with what is wrong with that, and where it stands.
pub fn when(overlay: &Spanned<DeValue<'_>>, scheme: VersionScheme) -> Result<When, (usize, String)> {
    let said = |key: &str| overlay.get_ref().as_table().and_then(|table| table.get(key));
    let (versions, hardware) = (said("versions"), said("hardware"));
    if versions.is_none() && hardware.is_none() {
        let what = "versions is needed, as \">=1.2, <2\", or hardware, as [\"B\"]".to_owned();
        return Err((overlay.span().start, what));
    }
    let versions = versions.map(|value| {
        let text = value.get_ref().as_str().ok_or_else(|| "must be a text".to_owned());
        let parsed = text.and_then(|text| Versions::parse(scheme, text));
        parsed.map_err(|what| (value.span().start, format!("versions: {what}")))
    });
    let hardware = hardware.map(|value| {
        let items = value.get_ref().as_array().map(|items| items.iter());
        let texts =
            items.map(|items| items.map(|item| item.get_ref().as_str().filter(|text| !text.is_empty())));
        let all: Option<Vec<String>> =
            texts.and_then(|texts| texts.map(|text| text.map(str::to_owned)).collect());
        let wrong =
            || (value.span().start, "hardware: must be a list of texts, as [\"B\", \"C\"]".to_owned());
        all.filter(|all| !all.is_empty()).ok_or_else(wrong)
    });
    Ok(When { versions: versions.transpose()?, hardware: hardware.transpose()? })
}

/// For which devices the overlays are.
pub fn all(table: &DeTable<'_>) -> Vec<When> {
    let scheme = scheme(table);
    tables(table).filter_map(|overlay| when(overlay, scheme).ok()).collect()
}

/// Lays an overlay over a file; says what of it makes no sense.
pub fn lay<'t>(table: &mut DeTable<'t>, overlay: &Spanned<DeValue<'t>>) -> Vec<(usize, String)> {
    table.remove("overlays");
    let Some(overlay) = overlay.get_ref().as_table() else { return Vec::new() };
    let mut problems = Vec::new();
    if let Some(removed) = overlay.get("remove") {
        let texts = removed.get_ref().as_array().map(|items| items.iter());
        for item in texts.into_iter().flatten() {
            let path = item.get_ref().as_str().unwrap_or_default();
            let section = path.split_once('.').and_then(|(section, name)| {
                let section = table.get_mut(section)?.get_mut();
                if let DeValue::Table(entries) = section { entries.remove(name) } else { None }
            });
            if section.is_none() {
                let what =
                    format!("overlays.remove: there is no {path:?}; allowed is for example \"points.flow\"");
                problems.push((item.span().start, what));
            }
        }
        if removed.get_ref().as_array().is_none() {
            problems.push((removed.span().start, "overlays.remove: must be a list of texts".to_owned()));
        }
    }
    let known = read::fields::<Overlay>();
    let lies = |key: &str| known.contains(&key) && !matches!(key, "versions" | "hardware" | "remove");
    let differ = overlay.iter().filter(|(key, _)| lies(key.get_ref()));
    for (key, value) in differ {
        put(table, key, value);
    }
    problems
}

/// Tables are laid over each other key by key; anything else takes the place of what was there.
fn put<'t>(table: &mut DeTable<'t>, key: &Spanned<std::borrow::Cow<'t, str>>, value: &Spanned<DeValue<'t>>) {
    if let DeValue::Table(over) = value.get_ref()
        && let Some(DeValue::Table(under)) = table.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut)
    {
        for (key, value) in over {
            put(under, key, value);
        }
        return;
    }
    // The key itself is taken along: it is where the value is told to be.
    table.remove(key.get_ref().as_ref());
    table.insert(key.clone(), value.clone());
}

#[cfg(test)]
mod tests;
