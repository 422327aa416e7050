//! Overlays: what differs in some firmware versions.
//!
//! An overlay is a part of the file that is laid over the rest, key by key, before anything is made of it. So whatever
//! a file can say, an overlay can say otherwise, and what comes of it is checked as a file is.

mod varying;

use semver::{Version, VersionReq};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::varying::Varying;
use crate::form::Overlay;
use crate::read;

/// A range of firmware versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions(VersionReq);

impl Versions {
    /// Takes ranges such as `>=1.2, <2`, `1.4.x` or `*`.
    ///
    /// # Errors
    /// It is none; says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |error| {
            format!("{text:?} is no range of versions ({error}); allowed is for example \">=1.2, <2\"")
        };
        VersionReq::parse(text).map(Self).map_err(wrong)
    }

    /// Whether it has this version.
    #[must_use]
    pub fn have(&self, version: &Version) -> bool {
        self.0.matches(version)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Takes versions as makers write them: `v1.2`, `1.0.8-g8192345`, `14.2.0(release)`, `20240613-1312/1.3.3`: the first
/// numbers with a dot between them, or else the first number. What follows them is left out, so that a build of 1.3.0
/// counts as 1.3.0.
#[must_use]
pub fn version(text: &str) -> Option<Version> {
    let runs = text.split(|c: char| !(c.is_ascii_digit() || c == '.')).map(|run| run.trim_matches('.'));
    let runs: Vec<&str> = runs.filter(|run| !run.is_empty()).collect();
    let run = runs.iter().find(|run| run.contains('.')).or_else(|| runs.first())?;
    let mut numbers = run.split('.').take(3).map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().unwrap_or(Some(0));
    Some(Version::new(next()?, next()?, next()?))
}

/// The overlays of a file.
pub fn tables<'a, 't>(
    table: &'a DeTable<'t>,
) -> impl Iterator<Item = &'a Spanned<DeValue<'t>>> + use<'a, 't> {
    let items = table.get("overlays").and_then(|value| value.get_ref().as_array());
    items.into_iter().flat_map(|items| items.iter()).filter(|item| item.get_ref().is_table())
}

/// For which versions an overlay is, and where it says so.
pub fn versions(overlay: &Spanned<DeValue<'_>>) -> Option<(usize, Result<Versions, String>)> {
    let value = overlay.get_ref().as_table()?.get("versions")?;
    let versions =
        value.get_ref().as_str().ok_or_else(|| "must be a text".to_owned()).and_then(Versions::parse);
    Some((value.span().start, versions))
}

/// The ranges of all overlays.
pub fn all(table: &DeTable<'_>) -> Vec<Versions> {
    tables(table).filter_map(|overlay| versions(overlay)?.1.ok()).collect()
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
    let lies = |key: &str| known.contains(&key) && !matches!(key, "versions" | "remove");
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
