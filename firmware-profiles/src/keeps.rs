//! What a profile says of how long a hub keeps readings, as a hub is told it.

use tideline_protocol::keep::{Keep, KeepRule, Rollups};

use crate::Profile;
use crate::form::section::{Delivery, Rollup};

impl Profile {
    /// How long readings are kept, by points; empty when the profile says nothing of it.
    #[must_use]
    pub fn keeps(&self) -> Vec<KeepRule> {
        rules(self.delivery().values())
    }
}

impl Delivery {
    /// What is kept of its readings.
    #[must_use]
    pub fn keep(&self) -> Keep {
        let bits = |all: &Vec<Rollup>| all.iter().fold(Rollups::NONE, |known, one| known.with(bit(*one)));
        Keep { days: self.keep_days, rollups: self.rollups.as_ref().map(bits) }
    }
}

const fn bit(rollup: Rollup) -> Rollups {
    match rollup {
        Rollup::Minute => Rollups::MINUTE,
        Rollup::Hour => Rollups::HOUR,
        Rollup::Day => Rollups::DAY,
    }
}

/// Those of deliveries in their order, where one says something of it: another one counts where it is the first to name a point.
pub fn rules<'a>(deliveries: impl Iterator<Item = &'a Delivery>) -> Vec<KeepRule> {
    let rule = |one: &Delivery| KeepRule { points: one.points.clone(), keep: one.keep() };
    let rules: Vec<KeepRule> = deliveries.map(rule).collect();
    let is_said = rules.iter().any(|rule| rule.keep != Keep::HUB);
    if is_said { rules } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use tideline_protocol::keep::keep_of;

    use super::*;

    #[test]
    fn what_is_told_of_a_point_is_what_its_delivery_says() {
        let points = "name = \"pump\"\n[points]\nflow = { unit = \"l/s\", min = 0, max = 90 }\nstate = { type = \"text\" }\n\
            mode = { type = \"text\" }\n";
        for (deliveries, told) in [
            ("", 0),
            ("[delivery.a]\nclass = \"state\"\n", 0),
            ("[delivery.a]\npoints = [\"flow\"]\n[delivery.b]\nkeep_days = 9\n", 2),
            ("[delivery.a]\nkeep_days = 9\n[delivery.b]\npoints = [\"flow\"]\n", 2),
            ("[delivery.a]\npoints = [\"flow\"]\nrollups = []\n[delivery.b]\npoints = [\"mode\"]\n", 2),
            (
                "[delivery.a]\npoints = [\"flow\", \"m*\"]\nkeep_days = 1\nrollups = [\"1h\", \"1d\"]\n[delivery.b]\npoints = [\"mode\"]\nkeep_days = 3\n",
                2,
            ),
        ] {
            let profile = Profile::parse("pump.toml", &format!("{points}{deliveries}")).unwrap();
            let rules = profile.keeps();
            assert_eq!(rules.len(), told, "{deliveries}");
            for point in ["flow", "state", "mode", "else"] {
                let said = profile.delivery_of(point).map(Delivery::keep).unwrap_or_default();
                assert_eq!(keep_of(&rules, point), said, "{point} of {deliveries}");
            }
        }
        let profile = format!(
            "{points}[delivery.a]\nrollups = [\"1m\", \"1h\", \"1d\"]\n[delivery.b]\npoints = [\"flow\"]\nrollups = []\n"
        );
        let profile = Profile::parse("pump.toml", &profile).unwrap();
        let rollups = |point: &str| keep_of(&profile.keeps(), point).rollups;
        assert_eq!((rollups("state"), rollups("flow")), (Some(Rollups::ALL), Some(Rollups::NONE)));
    }

    #[test]
    fn what_no_hub_would_take_is_a_problem_of_the_profile() {
        let points = "name = \"pump\"\n[points]\n\"*\" = { type = \"text\" }\n";
        let long: Vec<String> = (0..200).map(|n| format!("\"point-{n:04}\"")).collect();
        for (said, problem) in [
            ("keep_days = 0".to_owned(), "1 to 36500"),
            ("keep_days = 36501".to_owned(), "1 to 36500"),
            (format!("keep_days = 9\npoints = [{}]", long.join(", ")), "at most 2048 are allowed"),
        ] {
            let found = Profile::parse("pump.toml", &format!("{points}[delivery.a]\n{said}\n"));
            let found = found.unwrap_err().to_string();
            assert!(found.contains(problem), "{said}: {found}");
        }
    }
}
