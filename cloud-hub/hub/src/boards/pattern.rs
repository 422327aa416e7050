//! The series that a board names: `DEVICE/POINT`, where DEVICE is an id, `$name`, `@site=…` or `@group=…`, and `*` stands
//! for any text. What is written is parsed once; with the values of its variables it says of any series whether it is meant.

use std::collections::BTreeMap;

use super::form::{Variable, VariableKind};
use crate::api::select::fits;
use crate::metadata::DeviceRecord;
use crate::registry::Filter;

/// Longest name of a series as it is written, in bytes.
pub const PATTERN_BYTES_MAX: usize = 200;
/// Most stars in it: each is another place to look for.
const STARS_MAX: usize = 8;
/// What stands for any value of a variable, as an empty text does.
const ANY: &str = "*";

/// The values of variables by name.
pub type Values = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Plain(String),
    Variable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Device(Text),
    Site(Text),
    Group(Text),
}

/// Series as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    who: Who,
    point: String,
}

/// Which devices are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// This one.
    One(String),
    /// Those whose ids fit.
    Like(String),
    /// Those of which the registry says so.
    Of(Filter),
}

impl Devices {
    /// Whether a device is meant, by what is said of it.
    #[must_use]
    pub fn have(&self, id: &str, site: &str, groups: &[String]) -> bool {
        match self {
            Self::One(one) => one == id,
            Self::Like(pattern) => fits(pattern, id),
            // What is written here names sites and groups only.
            Self::Of(filter) => {
                filter.site.as_ref().is_none_or(|wanted| wanted == site)
                    && filter.group.as_ref().is_none_or(|wanted| groups.contains(wanted))
            }
        }
    }
}

/// Series with the values of their variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// Of which devices.
    pub devices: Devices,
    /// Which points of them.
    pub point: String,
}

fn text(written: &str, kind: VariableKind, variables: &[Variable]) -> Result<Text, String> {
    let Some(name) = written.strip_prefix('$') else {
        return if written.is_empty() {
            Err("it is empty".to_owned())
        } else {
            Ok(Text::Plain(written.to_owned()))
        };
    };
    let found = variables.iter().find(|variable| variable.name == name && variable.kind == kind);
    let of_kind = || {
        let names: Vec<_> =
            variables.iter().filter(|v| v.kind == kind).map(|v| format!("${}", v.name)).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    match found {
        Some(_) => Ok(Text::Variable(name.to_owned())),
        None => Err(format!("${name} is no variable of this kind; there is {}", of_kind())),
    }
}

/// Whether a text is no longer than allowed.
fn sound(written: &str) -> Result<(), String> {
    let stars = written.bytes().filter(|byte| *byte == b'*').count();
    if written.len() <= PATTERN_BYTES_MAX && stars <= STARS_MAX {
        return Ok(());
    }
    let bytes = written.len();
    Err(format!("it has {bytes} bytes and {stars} stars; allowed are {PATTERN_BYTES_MAX} and {STARS_MAX}"))
}

/// Parses the site of a plan: its name, or `$name` of a variable.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub fn site(written: &str, variables: &[Variable]) -> Result<Site, String> {
    sound(written)?;
    Ok(Site(text(written, VariableKind::Site, variables)?))
}

/// A site as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site(Text);

impl Site {
    /// The site with the values of variables; none where nothing is chosen.
    #[must_use]
    pub fn with(&self, values: &Values) -> Option<String> {
        self.0.with(values)
    }
}

impl Text {
    /// None where any is meant.
    fn with(&self, values: &Values) -> Option<String> {
        match self {
            Self::Plain(text) => Some(text.clone()),
            Self::Variable(name) => values.get(name).filter(|v| !v.is_empty() && *v != ANY).cloned(),
        }
    }
}

impl Who {
    /// Parses the devices that are meant; none where it is not what is allowed.
    fn parse(written: &str, variables: &[Variable]) -> Result<Option<Self>, String> {
        Ok(Some(match written.split_once('=') {
            Some(("@site", site)) => Self::Site(text(site, VariableKind::Site, variables)?),
            Some(("@group", group)) => Self::Group(text(group, VariableKind::Group, variables)?),
            _ if written.starts_with('@') => return Ok(None),
            _ => Self::Device(text(written, VariableKind::Device, variables)?),
        }))
    }
}

impl Pattern {
    /// Parses what is written.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn parse(written: &str, variables: &[Variable]) -> Result<Self, String> {
        sound(written)?;
        let allowed = "a series is DEVICE/POINT, where DEVICE is an id, $name, @site=… or @group=…";
        let (who, point) = written.split_once('/').ok_or_else(|| format!("{written:?}: {allowed}"))?;
        if point.is_empty() {
            return Err(format!("{written:?} names no point: {allowed}"));
        }
        let who = Who::parse(who, variables)?.ok_or_else(|| format!("{written:?}: {allowed}"))?;
        Ok(Self { who, point: point.to_owned() })
    }

    /// Parses the devices of a map, which are written as the devices of series.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn devices(written: &str, variables: &[Variable]) -> Result<Self, String> {
        sound(written)?;
        let told = || format!("{written:?}: devices are an id, $name, @site=… or @group=…; ids have no /");
        let who = Who::parse(written, variables)?.ok_or_else(told)?;
        match &who {
            // Names of sites and groups are any text.
            Who::Device(_) if written.contains('/') => Err(told()),
            _ => Ok(Self { who, point: ANY.to_owned() }),
        }
    }

    /// With the values of variables; one that has none, an empty one or `*` stands for any.
    #[must_use]
    pub fn with(&self, values: &Values) -> Meant {
        let value = |text: &Text| text.with(values);
        let any = || Devices::Like(ANY.to_owned());
        let devices = match &self.who {
            Who::Device(Text::Plain(id)) if id.contains('*') => Devices::Like(id.clone()),
            Who::Device(text) => value(text).map_or_else(any, Devices::One),
            Who::Site(text) => value(text)
                .map_or_else(any, |site| Devices::Of(Filter { site: Some(site), ..Filter::default() })),
            Who::Group(text) => value(text)
                .map_or_else(any, |group| Devices::Of(Filter { group: Some(group), ..Filter::default() })),
        };
        Meant { devices, point: self.point.clone() }
    }
}

impl Meant {
    /// Whether the registry must be asked.
    #[must_use]
    pub fn needs_registry(&self) -> bool {
        matches!(self.devices, Devices::Of(_))
    }

    /// Whether a series is meant; `record` is what the registry says of the device.
    #[must_use]
    pub fn has(&self, device: &str, record: Option<&DeviceRecord>, point: &str) -> bool {
        let of_device = match &self.devices {
            Devices::One(id) => id == device,
            Devices::Like(pattern) => fits(pattern, device),
            Devices::Of(filter) => record.is_some_and(|record| filter.fits(device, record)),
        };
        of_device && fits(&self.point, point)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(name: &str, kind: VariableKind) -> Variable {
        Variable { name: name.to_owned(), kind, label: String::new(), default: String::new() }
    }

    fn values(of: &[(&str, &str)]) -> Values {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pattern_means_series_by_its_variables() {
        let variables = [variable("device", VariableKind::Device), variable("site", VariableKind::Site)];
        let mut north = DeviceRecord::behind("gw", 1);
        north.marks.site = "north".to_owned();
        let has = |written: &str, of: &[(&str, &str)], device: &str, point: &str| {
            let meant = Pattern::parse(written, &variables).unwrap().with(&values(of));
            meant.has(device, Some(&north), point)
        };
        assert!(has("pump-7/temperature", &[], "pump-7", "temperature"));
        assert!(!has("pump-7/temperature", &[], "pump-8", "temperature"));
        assert!(has("pump-*/power/*", &[], "pump-8", "power/l1"));
        assert!(has("$device/power/*", &[("device", "m")], "m", "power/l1"));
        assert!(!has("$device/power/*", &[("device", "m")], "n", "power/l1"));
        for any in [&[][..], &[("device", "")], &[("device", "*")]] {
            assert!(has("$device/power/*", any, "n", "power/l1"));
        }
        assert!(has("@site=$site/p", &[("site", "north")], "n", "p"));
        assert!(!has("@site=$site/p", &[("site", "south")], "n", "p"));
        assert!(has("@site=north/p", &[], "n", "p"));
        // A value is a name and not a pattern.
        assert!(!has("$device/p", &[("device", "n*")], "nn", "p"));
    }

    #[test]
    fn devices_of_a_map_may_be_of_a_site_whose_name_has_a_slash() {
        let site = |written: &str| match Pattern::devices(written, &[]).unwrap().with(&Values::new()).devices
        {
            Devices::Of(filter) => filter.site.or(filter.group),
            other => panic!("{other:?}"),
        };
        assert_eq!(site("@site=Halle/2"), Some("Halle/2".to_owned()));
        assert_eq!(site("@group=a/b"), Some("a/b".to_owned()));
        for written in ["pump-7/level", "@floor=2", "@site=", ""] {
            assert!(Pattern::devices(written, &[]).is_err(), "{written}");
        }
    }

    #[test]
    fn the_site_of_a_plan_is_a_name_of_any_kind_or_what_is_chosen() {
        let variables = [variable("where", VariableKind::Site), variable("who", VariableKind::Device)];
        let with = |written: &str, of: &[(&str, &str)]| site(written, &variables).unwrap().with(&values(of));
        assert_eq!(with("Hall A, North/2", &[]), Some("Hall A, North/2".to_owned()));
        assert_eq!(with("$where", &[("where", "north")]), Some("north".to_owned()));
        for any in [&[][..], &[("where", "")], &[("where", "*")]] {
            assert_eq!(with("$where", any), None);
        }
        for written in ["", "$who", "$nothing"] {
            assert!(site(written, &variables).is_err(), "{written}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_what_is_allowed() {
        let variables = [variable("site", VariableKind::Site)];
        for (written, told) in [
            ("pump-7", "a series is DEVICE/POINT"),
            ("pump-7/", "names no point"),
            ("/p", "it is empty"),
            ("$device/p", "$device is no variable of this kind; there is none"),
            ("@site=$where/p", "there is $site"),
            ("@floor=2/p", "@site=… or @group=…"),
            ("a/*********", "9 stars"),
        ] {
            let error = Pattern::parse(written, &variables).unwrap_err();
            assert!(error.contains(told), "{written}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(written in ".{0,300}") {
            if let Ok(pattern) = Pattern::parse(&written, &[variable("a", VariableKind::Device)]) {
                let _meant = pattern.with(&Values::new()).has("d", None, "p");
            }
        }
    }
}
