//! How long a hub keeps readings where the profile of their device says so, and what outlives them.
//!
//! An agent tells it with what it knows of a device, since profiles are on its side alone.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::pattern::matches;

/// Longest time that a profile may ask for, days: a hundred years, of which no sum with a time of today overflows.
pub const KEEP_DAYS_MAX: u32 = 36_500;
/// Most rules of one device.
pub const KEEP_RULES_MAX: usize = 32;
/// Most bytes of the patterns of one device, each counted with two more: as many devices as one message tells of fit into it.
pub const KEEP_PATTERN_BYTES_MAX: usize = 2_048;

/// Which rollups stay when their readings are gone.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Rollups(#[n(0)] u8);

impl Rollups {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Those of a minute.
    pub const MINUTE: Self = Self(1);
    /// Those of an hour.
    pub const HOUR: Self = Self(2);
    /// Those of a day.
    pub const DAY: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    /// These and others.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether these have all of others.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    const fn is_known(self) -> bool {
        self.0 <= Self::ALL.0
    }
}

/// What is kept of readings; by default as much as the hub keeps of all.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(array)]
#[serde(default)]
pub struct Keep {
    /// Days that the readings stay at most.
    #[n(0)]
    pub days: Option<u32>,
    /// What stays of them afterwards.
    #[n(1)]
    pub rollups: Option<Rollups>,
}

impl Keep {
    /// As much as the hub keeps of all.
    pub const HUB: Self = Self { days: None, rollups: None };

    /// The least that is no less than either.
    #[must_use]
    pub fn or_longer(self, other: Self) -> Self {
        let days = self.days.zip(other.days).map(|(a, b)| a.max(b));
        Self { days, rollups: self.rollups.zip(other.rollups).map(|(a, b)| a.with(b)) }
    }

    /// Whether rollups of this kind may stay.
    #[must_use]
    pub fn leaves(&self, rollups: Rollups) -> bool {
        self.rollups.is_none_or(|kept| kept.has(rollups))
    }
}

/// What is kept of some points of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct KeepRule {
    /// The points, where * stands for anything; those that no other rule names when there are none.
    #[n(0)]
    pub points: Vec<String>,
    /// What is kept of them.
    #[n(1)]
    pub keep: Keep,
}

/// What is kept of a point: the first rule that names it says so, or else the first without points.
#[must_use]
pub fn keep_of(rules: &[KeepRule], point: &str) -> Keep {
    let named = rules.iter().find(|rule| rule.points.iter().any(|pattern| matches(pattern, point)));
    let found = named.or_else(|| rules.iter().find(|rule| rule.points.is_empty()));
    found.map(|rule| rule.keep).unwrap_or_default()
}

/// What is wrong with the rules of a device.
///
/// # Errors
/// They are too many or too long, or one asks for what is not allowed.
pub fn check(rules: &[KeepRule]) -> Result<(), String> {
    if rules.len() > KEEP_RULES_MAX {
        return Err(format!("{} rules of retention; at most {KEEP_RULES_MAX} are allowed", rules.len()));
    }
    let bytes: usize = rules.iter().flat_map(|rule| &rule.points).map(|pattern| pattern.len() + 2).sum();
    if bytes > KEEP_PATTERN_BYTES_MAX {
        return Err(format!(
            "the points of rules of retention take {bytes} bytes; at most {KEEP_PATTERN_BYTES_MAX} are allowed, and * stands for any text"
        ));
    }
    for Keep { days, rollups } in rules.iter().map(|rule| rule.keep) {
        if let Some(days) = days.filter(|days| !(1..=KEEP_DAYS_MAX).contains(days)) {
            return Err(format!("readings kept for {days} days; allowed are 1 to {KEEP_DAYS_MAX}"));
        }
        if rollups.is_some_and(|rollups| !rollups.is_known()) {
            return Err("rollups that nobody knows".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(points: &[&str], days: Option<u32>) -> KeepRule {
        let points = points.iter().map(|point| (*point).to_owned()).collect();
        KeepRule { points, keep: Keep { days, rollups: None } }
    }

    #[test]
    fn the_first_rule_that_names_a_point_counts_and_one_without_points_after_all_others() {
        let rules = [rule(&[], Some(9)), rule(&["raw/*", "flow"], Some(1)), rule(&["flow"], Some(2))];
        let days = |point: &str| keep_of(&rules, point).days;
        assert_eq!((days("raw/a"), days("flow"), days("state")), (Some(1), Some(1), Some(9)));
        assert_eq!(keep_of(&rules[1..], "state"), Keep::HUB);
    }

    #[test]
    fn of_two_the_longer_is_no_less_than_either() {
        let keep = |days, rollups| Keep { days, rollups };
        let hours = Some(Rollups::HOUR);
        let both = keep(Some(3), hours).or_longer(keep(Some(9), Some(Rollups::DAY)));
        assert_eq!(both, keep(Some(9), Some(Rollups::HOUR.with(Rollups::DAY))));
        assert_eq!(both.or_longer(keep(None, hours)), keep(None, both.rollups));
        assert_eq!(both.or_longer(Keep::HUB), Keep::HUB);
        assert!(both.leaves(Rollups::DAY) && !both.leaves(Rollups::MINUTE) && Keep::HUB.leaves(Rollups::ALL));
    }

    #[test]
    fn rules_are_bounded() {
        assert_eq!(check(&vec![rule(&["a"], Some(KEEP_DAYS_MAX)); KEEP_RULES_MAX]), Ok(()));
        let unknown =
            KeepRule { keep: Keep { days: None, rollups: Some(Rollups(8)) }, ..KeepRule::default() };
        for (rules, said) in [
            (vec![rule(&[], None); KEEP_RULES_MAX + 1], "33 rules"),
            (vec![rule(&["p"; 683], None)], "2049 bytes"),
            (vec![rule(&[], Some(0))], "for 0 days"),
            (vec![rule(&[], Some(KEEP_DAYS_MAX + 1))], "for 36501 days"),
            (vec![unknown], "nobody knows"),
        ] {
            let found = check(&rules).unwrap_err();
            assert!(found.contains(said), "{found}");
        }
    }
}
