//! The options of retention: lengths of time and sizes as people write them.

use tideline_store::{Limit, Retention};

use super::load::Fault;
use super::{Config, OptionDef, quoted};
use crate::when::parse_span_ns;

const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;
const SIZES: [(&str, u64); 3] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000)];
/// The least room that makes sense: a file takes up to an eighth of it.
const BYTES_MIN: u64 = 100_000_000;

const AGES: &str = "whole hours, days or weeks, as 12h, 90d or 52w; or forever";
const ROOMS: &str = "at least 100MB, as 500MB, 20GB or 2TB (powers of ten); or unlimited";

/// A length of time, or none for ever.
fn age_of(text: &str) -> Option<Option<i64>> {
    if text == "forever" {
        return Some(None);
    }
    parse_span_ns(text).ok().filter(|ns| *ns >= HOUR_NS && ns % HOUR_NS == 0).map(Some)
}

/// A size, or none without limit.
fn room_of(text: &str) -> Option<Option<u64>> {
    if text == "unlimited" {
        return Some(None);
    }
    let (unit, bytes) = SIZES.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(bytes).filter(|bytes| *bytes >= BYTES_MIN).map(Some)
}

/// How long a tier is kept, as it is written.
#[must_use]
pub fn shown_age(limit: Limit) -> String {
    match limit.age_ns {
        None => "forever".to_owned(),
        Some(ns) if ns % DAY_NS == 0 => format!("{}d", ns / DAY_NS),
        Some(ns) => format!("{}h", ns / HOUR_NS),
    }
}

/// In how much room a tier is kept, as it is written.
#[must_use]
pub fn shown_room(limit: Limit) -> String {
    let Some(bytes) = limit.bytes else { return "unlimited".to_owned() };
    let found = SIZES.into_iter().find(|(_, size)| bytes % size == 0);
    found.map_or_else(|| format!("{bytes}B"), |(unit, size)| format!("{}{unit}", bytes / size))
}

macro_rules! option {
    ($tier:ident, age, $name:literal, $meaning:literal) => {
        OptionDef {
            name: $name,
            meaning: $meaning,
            allowed: AGES,
            set: |c, t| age_of(t).map(|v| c.retention.$tier.age_ns = v),
            show: |c| quoted(&shown_age(c.retention.$tier)),
        }
    };
    ($tier:ident, size, $name:literal, $meaning:literal) => {
        OptionDef {
            name: $name,
            meaning: $meaning,
            allowed: ROOMS,
            set: |c, t| room_of(t).map(|v| c.retention.$tier.bytes = v),
            show: |c| quoted(&shown_room(c.retention.$tier)),
        }
    };
}

/// The options of retention.
pub const OPTIONS: [OptionDef; 12] = [
    option!(
        raw,
        age,
        "retention.raw_age",
        "how long readings are kept; a file of them goes when its newest reading is older, its rollups stay"
    ),
    option!(raw, size, "retention.raw_size", "the room that readings may take; the oldest go first"),
    option!(
        minute,
        age,
        "retention.minute_age",
        "how long rollups of a minute are kept; no shorter than readings"
    ),
    option!(
        minute,
        size,
        "retention.minute_size",
        "the room that rollups may take while they begin with those of a minute; the oldest of these go first"
    ),
    option!(
        hour,
        age,
        "retention.hour_age",
        "how long rollups of an hour are kept; no shorter than those of a minute"
    ),
    option!(
        hour,
        size,
        "retention.hour_size",
        "the room that rollups may take of which those of a minute are gone; the oldest of an hour go first"
    ),
    option!(
        day,
        age,
        "retention.day_age",
        "how long rollups of a day are kept; no shorter than those of an hour"
    ),
    option!(
        day,
        size,
        "retention.day_size",
        "the room that rollups may take of which those of a day alone are left; the oldest go first"
    ),
    OptionDef {
        name: "retention.profiles",
        meaning: "whether readings are kept no longer than the profile of their device says in [delivery] by keep_days, and only those of their rollups that it names; it never makes them stay longer than raw_age, and what goes by keep_days goes for good and never becomes cold; with false profiles are not asked",
        allowed: "true or false",
        set: |c, t| t.parse().ok().map(|v| c.retention.by_profile = v),
        show: |c| c.retention.by_profile.to_string(),
    },
    OptionDef {
        name: "retention.cold",
        meaning: "whether readings that go by raw_age or raw_size are kept as Parquet files by day, in store/cold of hub.data_dir, which SQL reads as the table cold; with false no more become cold",
        allowed: "true or false",
        set: |c, t| t.parse().ok().map(|v| c.retention.freezes = v),
        show: |c| c.retention.freezes.to_string(),
    },
    option!(
        cold,
        age,
        "retention.cold_age",
        "how long readings are kept there; a file goes when its newest reading is older; no shorter than raw_age, unless that is forever"
    ),
    option!(cold, size, "retention.cold_size", "the room that they may take there; the oldest go first"),
];

/// A tier that would go before a finer one.
pub fn contradiction(config: &Config) -> Option<Fault> {
    let Retention { raw, minute, hour, day, freezes, cold, by_profile: _ } = config.retention;
    let tiers = [("raw_age", raw), ("minute_age", minute), ("hour_age", hour), ("day_age", day)];
    let shorter = |limit: Limit, than: Limit| {
        limit.age_ns.is_some_and(|age_ns| than.age_ns.is_none_or(|than| age_ns < than))
    };
    let thaws = freezes && raw.age_ns.is_some() && shorter(cold, raw);
    if thaws {
        return Some(Fault {
            place: "retention.cold_age".to_owned(),
            text: format!(
                "{} is shorter than retention.raw_age = {}; allowed is as long or longer: what becomes cold is as old as that",
                shown_age(cold),
                shown_age(raw)
            ),
        });
    }
    tiers.iter().zip(tiers.iter().skip(1)).find(|((_, finer), (_, coarser))| shorter(*coarser, *finer)).map(
        |((finer, kept), (coarser, limit))| Fault {
            place: format!("retention.{coarser}"),
            text: format!(
                "{} is shorter than retention.{finer} = {}; allowed is as long or longer: a tier is made of the finer one",
                shown_age(*limit),
                shown_age(*kept)
            ),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_read_back_and_nonsense_does_not() {
        for (text, shown) in
            [("forever", "forever"), ("12h", "12h"), ("48h", "2d"), ("2w", "14d"), ("90d", "90d")]
        {
            let age_ns = age_of(text).unwrap();
            assert_eq!(shown_age(Limit { age_ns, bytes: None }), shown, "{text}");
        }
        for (text, shown) in [
            ("unlimited", "unlimited"),
            ("100MB", "100MB"),
            ("20GB", "20GB"),
            ("1500MB", "1500MB"),
            ("2000GB", "2TB"),
        ] {
            let bytes = room_of(text).unwrap();
            assert_eq!(shown_room(Limit { age_ns: None, bytes }), shown, "{text}");
        }
        for text in ["", "0d", "90", "90m", "-1d", "1.5d", "999999999w", "d"] {
            assert_eq!(age_of(text), None, "{text}");
        }
        for text in ["", "20", "20gb", "99MB", "GB", "-1GB", "99999999999TB", "1.5GB"] {
            assert_eq!(room_of(text), None, "{text}");
        }
    }
}
