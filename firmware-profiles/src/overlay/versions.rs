//! Versions of firmware, as the makers of a family count them: which of two is later, and which are meant by a range.

use semver::{Comparator, Op, Prerelease, VersionReq};

use crate::form::section::VersionScheme;

/// The version that a device has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// Of numbers: the first, the second and the third count in this order.
    Numbers(semver::Version),
    /// A text, which is the same as another or is not.
    Text(String),
}

impl Version {
    /// Takes a version as a device of the family tells it; none when it is none.
    #[must_use]
    pub fn parse(scheme: VersionScheme, text: &str) -> Option<Self> {
        match scheme {
            VersionScheme::Semver => dotted(text).map(Self::Numbers),
            VersionScheme::Date => {
                let (date, time) = moment(text)?;
                Some(Self::Numbers(semver::Version::new(date, time.unwrap_or(0), 0)))
            }
            VersionScheme::Number => Some(Self::Numbers(semver::Version::new(number(text)?, 0, 0))),
            VersionScheme::Text => {
                Some(Self::Text(text.trim().to_owned())).filter(|_| !text.trim().is_empty())
            }
        }
    }
}

/// A range of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// Of numbers.
    Numbers(VersionReq),
    /// These alone.
    Texts(Vec<String>),
}

impl Versions {
    /// Takes ranges in the scheme of the family: `>=1.2, <2`, `1.4.x` or `*` of numbers with dots; `>=20240613, <20250101-1200` of
    /// dates; `>=7` of one number; `A17, A18`, any of these, of texts.
    ///
    /// # Errors
    /// It is none; says what is allowed.
    pub fn parse(scheme: VersionScheme, text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let allowed = match scheme {
                VersionScheme::Semver => ">=1.2, <2",
                VersionScheme::Date => ">=20240613, <20250101-1200",
                VersionScheme::Number => ">=7, <12",
                VersionScheme::Text => "A17, A18",
            };
            format!("{text:?} is no range of versions{why}; allowed is for example \"{allowed}\"")
        };
        if scheme == VersionScheme::Semver {
            return VersionReq::parse(text).map(Self::Numbers).map_err(|error| wrong(&format!(" ({error})")));
        }
        let mut parts = text.split(',').map(str::trim);
        if text.trim() == "*" {
            return Ok(Self::Numbers(VersionReq::STAR));
        }
        if parts.clone().any(str::is_empty) {
            return Err(wrong(""));
        }
        if scheme == VersionScheme::Text {
            return Ok(Self::Texts(parts.map(str::to_owned).collect()));
        }
        let comparators: Option<Vec<Comparator>> = parts.try_fold(Vec::new(), |mut all, part| {
            all.push(comparator(scheme, part)?);
            Some(all)
        });
        comparators.map(|comparators| Self::Numbers(VersionReq { comparators })).ok_or_else(|| wrong(""))
    }

    /// Whether it has this version.
    #[must_use]
    pub fn have(&self, version: &Version) -> bool {
        match (self, version) {
            (Self::Numbers(range), Version::Numbers(version)) => range.matches(version),
            (Self::Texts(all), Version::Text(text)) => all.contains(text),
            // Any is any.
            (Self::Numbers(range), Version::Text(_)) => range.comparators.is_empty(),
            (Self::Texts(_), Version::Numbers(_)) => false,
        }
    }
}

/// One limit of a range of dates or numbers; without a sign it is that version. A date without a time is the whole day.
fn comparator(scheme: VersionScheme, text: &str) -> Option<Comparator> {
    let signs =
        [(">=", Op::GreaterEq), ("<=", Op::LessEq), (">", Op::Greater), ("<", Op::Less), ("=", Op::Exact)];
    let signed = signs.into_iter().find_map(|(sign, op)| Some((op, text.strip_prefix(sign)?)));
    let (op, version) = signed.unwrap_or((Op::Exact, text));
    // What a device tells may have more around it; a limit has not.
    if !version.trim().starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (major, minor) = match scheme {
        VersionScheme::Date => moment(version)?,
        _ => (number(version)?, None),
    };
    Some(Comparator { op, major, minor, patch: None, pre: Prerelease::EMPTY })
}

/// Takes versions as makers write them: `v1.2`, `1.0.8-g8192345`, `14.2.0(release)`, `20240613-1312/1.3.3`: the first
/// numbers with a dot between them, or else the first number. What follows them is left out, so that a build of 1.3.0
/// counts as 1.3.0.
fn dotted(text: &str) -> Option<semver::Version> {
    let runs = text.split(|c: char| !(c.is_ascii_digit() || c == '.')).map(|run| run.trim_matches('.'));
    let runs: Vec<&str> = runs.filter(|run| !run.is_empty()).collect();
    let run = runs.iter().find(|run| run.contains('.')).or_else(|| runs.first())?;
    let mut numbers = run.split('.').take(3).map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().unwrap_or(Some(0));
    Some(semver::Version::new(next()?, next()?, next()?))
}

/// The first number of a text.
fn number(text: &str) -> Option<u64> {
    let mut runs = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.next()?.parse().ok()
}

/// The first date of a text, as 20240613 or 2024-06-13, and the time of day that follows it as HHMM or HHMMSS, each as a number.
fn moment(text: &str) -> Option<(u64, Option<u64>)> {
    let mut runs: Vec<&str> =
        text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()).collect();
    let whole = runs.iter().position(|run| run.len() == 8);
    let parted = runs
        .windows(3)
        .position(|three| matches!(three, [y, m, d] if y.len() == 4 && m.len() == 2 && d.len() == 2));
    let (date, rest) = match (whole, parted) {
        (Some(at), parted) if parted.is_none_or(|parted| at < parted) => {
            (runs.get(at)?.to_string(), runs.split_off(at + 1))
        }
        (_, Some(at)) => (runs.get(at..at + 3)?.concat(), runs.split_off(at + 3)),
        _ => return None,
    };
    let (month, day) = (date.get(4..6)?.parse::<u8>().ok()?, date.get(6..8)?.parse::<u8>().ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let time = match rest.as_slice() {
        [whole, ..] if matches!(whole.len(), 4 | 6) => Some((*whole).to_owned()),
        [hours, minutes, seconds, ..] if [hours, minutes, seconds].iter().all(|part| part.len() == 2) => {
            Some(format!("{hours}{minutes}{seconds}"))
        }
        [hours, minutes, ..] if hours.len() == 2 && minutes.len() == 2 => Some(format!("{hours}{minutes}")),
        _ => None,
    };
    // 1312 and 131200 are the same moment.
    let time =
        time.filter(|time| time.get(..2).is_some_and(|hours| hours < "24")).map(|time| format!("{time:0<6}"));
    Some((date.parse().ok()?, time.and_then(|time| time.parse().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_as_makers_write_them() {
        for (text, found) in [
            ("1.2.3", Some((1, 2, 3))),
            ("v1.2", Some((1, 2, 0))),
            ("7", Some((7, 0, 0))),
            ("14.2.0(release-tasmota)", Some((14, 2, 0))),
            ("20240613-132430/1.3.3-gbf8e2d7", Some((1, 3, 3))),
            ("FW 01.02.30.4", Some((1, 2, 30))),
            ("", None),
            ("beta", None),
            ("99999999999999999999999", None),
        ] {
            let expected = found.map(|(major, minor, patch)| semver::Version::new(major, minor, patch));
            assert_eq!(Version::parse(VersionScheme::Semver, text), expected.map(Version::Numbers), "{text}");
        }
    }

    #[test]
    fn each_scheme_has_its_own_order() {
        use VersionScheme::{Date, Number, Semver, Text};
        for (scheme, range, version, has) in [
            (Semver, ">=1.10", "1.9.2", false),
            (Date, ">=20240613", "20240613-0001", true),
            (Date, ">20240613", "20240613-2359", false),
            (Date, ">=20240613-1312", "20240613-131159", false),
            (Date, ">=20240613-1312", "fw_2024-06-13 13:12:00", true),
            (Date, "20240613", "20240613-132430/1.3.3-gbf8e2d7", true),
            (Date, ">=20240101, <20250101", "2025-01-01", false),
            (Number, ">=9, <100", "build 10", true),
            (Number, "10", "10.4", true),
            (Number, "<10", "r10", false),
            (Text, "A17, A18", "A18", true),
            (Text, "A17, A18", "a18", false),
            (Text, "*", "whatever", true),
            (Number, "*", "7", true),
        ] {
            let (range, found) = (Versions::parse(scheme, range).unwrap(), Version::parse(scheme, version));
            assert_eq!(found.map(|found| range.have(&found)), Some(has), "{scheme:?} {range:?} {version}");
        }
        for (scheme, range) in [
            (Date, ">=1.2"),
            (Date, ">=20241301"),
            (Date, ""),
            (Number, ">=new"),
            (Number, ">=7,"),
            (Text, ","),
            (Semver, "two"),
        ] {
            let error = Versions::parse(scheme, range).unwrap_err();
            assert!(
                error.contains("is no range of versions") && error.contains("allowed is for example"),
                "{error}"
            );
        }
        for (scheme, text) in [(Date, "1.2.3"), (Date, "20240000"), (Number, "new"), (Text, "  ")] {
            assert_eq!(Version::parse(scheme, text), None, "{scheme:?} {text}");
        }
    }
}
