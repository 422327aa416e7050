//! Profiles of device families as the hub knows them: those that ship, and those that operators gave it.
//!
//! Agents read devices by profiles of their own; the hub needs one for what people see of them: boards, commands, ranges. A profile that is given is kept
//! with the registry, each change as a version. What an agent says of a device names its profile and the digest of that, so that
//! the very version is found that the agent has, and one that the hub does not know is told as such and never taken for another without a
//! word.

use tideline_profiles::{Profile, shipped};

use crate::hub::{App, Hub};
use crate::metadata::{Card, Changes, DeviceRecord, MetadataError, ProfileRecord, ProfileVersionRecord};
use crate::secret::hex;

/// Most profiles that are kept: with all their versions they are some hundred megabytes at worst.
pub const PROFILES_MAX: u64 = 200;
/// Versions that are kept of a profile, the newest among them.
pub const VERSIONS_MAX: u64 = 20;
/// Longest profile in bytes, as the reader takes them.
pub const PROFILE_BYTES_MAX: usize = 1 << 20;

/// Why a profile is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is none; all that is wrong, one a line.
    #[error("{}", .0.join("\n"))]
    Form(Vec<String>),
    /// It is of another name than the place it is put to.
    #[error("the profile is called {found:?}, not {wanted:?}: its key name says so")]
    Name {
        /// As it calls itself.
        found: String,
        /// As it was put.
        wanted: String,
    },
    /// There is none of this name.
    #[error("there is no profile {0:?}")]
    Unknown(String),
    /// There is none of this version any more, or not yet.
    #[error("profile {name:?} has no version {version}; there are {oldest} to {newest}")]
    Version {
        /// The profile.
        name: String,
        /// The version.
        version: u64,
        /// The oldest that is kept.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// It ships, and nobody gave another one.
    #[error("profile {0:?} ships with the hub and stays")]
    Shipped(String),
    /// There are as many as there may be.
    #[error("there are {0} profiles, which is the limit: remove one")]
    Full(u64),
    /// The metadata failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Where a profile is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It ships with the hub.
    Shipped,
    /// An operator gave it.
    Given {
        /// Its version, counted from 1.
        version: u64,
        /// Who gave it.
        by: String,
        /// When, Unix ms.
        at_ms: i64,
    },
}

/// Whether hub and agent mean the same by the name of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// The hub has the very version that the agent reads the device by.
    Same,
    /// The agent has one that the hub does not have.
    Other,
    /// The agent does not say which one it has: it is of a version that does not tell.
    Untold,
}

/// A profile with where it is from.
#[derive(Debug, Clone)]
pub struct Found {
    /// Itself.
    pub profile: Profile,
    /// Where it is from.
    pub origin: Origin,
}

/// The digest of what a profile says, in hex.
#[must_use]
pub fn digest(profile: &Profile) -> String {
    hex(&profile.digest())
}

/// What was kept was read before it was; one that a later version no longer takes is told as damaged.
fn parsed(name: &str, text: &str) -> Result<Profile, ProfileError> {
    Profile::parse(&format!("{name}/profile.toml"), text).map_err(|error| ProfileError::Form(error.problems))
}

fn given(name: &str, record: ProfileRecord) -> Result<Found, ProfileError> {
    let ProfileRecord { text, version, by, at_ms, digest: _ } = record;
    Ok(Found { profile: parsed(name, &text)?, origin: Origin::Given { version, by, at_ms } })
}

fn shipping(name: &str) -> Result<Option<Found>, ProfileError> {
    let Some(shipped) = shipped::named(name) else { return Ok(None) };
    let profile = shipped.profile().map_err(|error| ProfileError::Form(error.problems))?;
    Ok(Some(Found { profile, origin: Origin::Shipped }))
}

/// Versions sort as numbers do.
fn version_key(name: &str, version: u64) -> String {
    format!("{name}/{version:012}")
}

/// The profile of a name: the newest that was given, or else the one that ships.
///
/// # Errors
/// There is none, or the metadata failed.
pub fn find(hub: &Hub, name: &str) -> Result<Found, ProfileError> {
    match hub.metadata.find::<ProfileRecord>(name)? {
        Some(record) => given(name, record),
        None => shipping(name)?.ok_or_else(|| ProfileError::Unknown(name.to_owned())),
    }
}

/// A version of a profile that was given.
///
/// # Errors
/// There is none of that name or version, or the metadata failed.
pub fn version(hub: &Hub, name: &str, version: u64) -> Result<Found, ProfileError> {
    let Some(now) = hub.metadata.find::<ProfileRecord>(name)? else {
        return Err(ProfileError::Unknown(name.to_owned()));
    };
    let kept = hub.metadata.find::<ProfileVersionRecord>(&version_key(name, version))?;
    let Some(ProfileVersionRecord { text, by, at_ms, .. }) = kept else {
        let (name, newest) = (name.to_owned(), now.version);
        let oldest = newest.saturating_sub(VERSIONS_MAX - 1).max(1);
        return Err(ProfileError::Version { name, version, oldest, newest });
    };
    Ok(Found { profile: parsed(name, &text)?, origin: Origin::Given { version, by, at_ms } })
}

/// The versions that are kept of a profile that was given, newest first.
///
/// # Errors
/// The metadata failed.
pub fn versions(hub: &Hub, name: &str) -> Result<Vec<(u64, ProfileVersionRecord)>, MetadataError> {
    let prefix = format!("{name}/");
    let all = hub.metadata.list_from::<ProfileVersionRecord>(&prefix)?;
    let numbered =
        all.into_iter().filter_map(|(key, record)| Some((key.strip_prefix(&prefix)?.parse().ok()?, record)));
    let mut out: Vec<_> = numbered.collect();
    out.reverse();
    Ok(out)
}

/// All names: those that ship and those that were given, sorted.
///
/// # Errors
/// The metadata failed.
pub fn names(hub: &Hub) -> Result<Vec<String>, MetadataError> {
    let mut all: Vec<String> = shipped::ALL.iter().map(|shipped| shipped.name.to_owned()).collect();
    all.extend(hub.metadata.list::<ProfileRecord>()?.into_iter().map(|(name, _)| name));
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The profile that a device is read by, as the hub knows it: the version that its agent has, or else the newest of its name. None
/// where the hub knows none of that name.
///
/// # Errors
/// The metadata failed.
pub fn of_card(hub: &Hub, card: &Card) -> Result<Option<(Found, Agreement)>, ProfileError> {
    let name = card.profile.as_str();
    let Some(wanted) = card.digest.as_deref() else {
        return match find(hub, name) {
            Ok(found) => Ok(Some((found, Agreement::Untold))),
            Err(ProfileError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        };
    };
    let kept = versions(hub, name)?.into_iter().find(|(_, kept)| kept.digest == wanted);
    if let Some((version, ProfileVersionRecord { text, by, at_ms, .. })) = kept {
        let found = Found { profile: parsed(name, &text)?, origin: Origin::Given { version, by, at_ms } };
        return Ok(Some((found, Agreement::Same)));
    }
    if let Some(found) = shipping(name)?.filter(|found| digest(&found.profile) == wanted) {
        return Ok(Some((found, Agreement::Same)));
    }
    match find(hub, name) {
        Ok(found) => Ok(Some((found, Agreement::Other))),
        Err(ProfileError::Unknown(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A profile as it is for the firmware that a device has; as it stands where that is not known or it is not for it.
#[must_use]
pub fn edition(profile: &Profile, card: &Card) -> Profile {
    let version = Some(card.firmware.as_str()).filter(|version| !version.is_empty());
    profile.for_firmware(version).unwrap_or_else(|_| profile.clone())
}

/// Which of these cards name a profile that the hub does not have as the agent has it, each name once.
///
/// # Errors
/// The metadata failed.
pub fn strange<'c>(hub: &Hub, cards: impl Iterator<Item = &'c Card>) -> Result<Vec<String>, MetadataError> {
    let told = cards.filter_map(|card| Some((card.profile.as_str(), card.digest.as_deref()?)));
    let mut told: Vec<(&str, &str)> = told.collect();
    told.sort_unstable();
    told.dedup();
    let mut strange = Vec::new();
    for (name, digest) in told {
        if !knows(hub, name, digest)? {
            strange.push(name.to_owned());
        }
    }
    strange.dedup();
    Ok(strange)
}

/// Whether the hub has this version of a profile.
///
/// # Errors
/// The metadata failed.
pub fn knows(hub: &Hub, name: &str, wanted: &str) -> Result<bool, MetadataError> {
    let ships = shipped::named(name).and_then(|shipped| shipped.profile().ok());
    Ok(ships.is_some_and(|profile| digest(&profile) == wanted)
        || versions(hub, name)?.iter().any(|(_, kept)| kept.digest == wanted))
}

/// How many devices name each profile, and how many of them one that the hub does not have as their agent has it.
///
/// # Errors
/// The metadata failed.
pub fn users(hub: &Hub) -> Result<std::collections::BTreeMap<String, (u64, u64)>, MetadataError> {
    let mut users = std::collections::BTreeMap::<String, (u64, u64)>::new();
    let mut known = std::collections::BTreeMap::<(String, String), bool>::new();
    for (_, record) in hub.metadata.list::<DeviceRecord>()? {
        let Some(card) = record.card.filter(|card| !card.profile.is_empty()) else { continue };
        let is_known = match card.digest {
            None => true,
            Some(digest) => {
                let key = (card.profile.clone(), digest);
                match known.get(&key) {
                    Some(is_known) => *is_known,
                    None => {
                        let is_known = knows(hub, &key.0, &key.1)?;
                        *known.entry(key).or_insert(is_known)
                    }
                }
            }
        };
        let (all, others) = users.entry(card.profile).or_default();
        *all += 1;
        *others += u64::from(!is_known);
    }
    Ok(users)
}

/// Keeps a profile, as a new version unless the newest says the same; durable then. Says whether it is new.
///
/// # Errors
/// It is none or of another name, there are too many, or the metadata failed.
pub async fn put(hub: &App, name: &str, text: String, by: &str) -> Result<(Found, bool), ProfileError> {
    let profile = parsed(name, &text)?;
    if profile.name() != name {
        return Err(ProfileError::Name { found: profile.name().to_owned(), wanted: name.to_owned() });
    }
    let (key, by, digest) = (name.to_owned(), by.to_owned(), digest(&profile));
    let work = move |hub: &Hub| {
        let at_ms = hub.now_ms();
        hub.metadata.change(|changes: &mut Changes| {
            let old = changes.find::<ProfileRecord>(&key)?;
            if let Some(old) = old.as_ref().filter(|old| old.digest == digest) {
                return Ok((old.clone(), false));
            }
            let found = changes.count::<ProfileRecord>()?;
            if old.is_none() && found >= PROFILES_MAX {
                return Err(ProfileError::Full(found));
            }
            let version = old.map_or(1, |old| old.version.saturating_add(1));
            let kept = ProfileVersionRecord { text, digest, by, at_ms };
            let ProfileVersionRecord { text, digest, by, .. } = kept.clone();
            let record = ProfileRecord { text, digest, version, by, at_ms };
            changes.put(&key, &record)?;
            changes.put(&version_key(&key, version), &kept)?;
            if let Some(gone) = version.checked_sub(VERSIONS_MAX) {
                changes.remove::<ProfileVersionRecord>(&version_key(&key, gone))?;
            }
            Ok((record, true))
        })
    };
    let (record, is_new) = hub.blocking(work).await?;
    if is_new {
        tracing::info!(profile = name, version = record.version, by = record.by, "profile kept");
    }
    let ProfileRecord { version, by, at_ms, .. } = record;
    Ok((Found { profile, origin: Origin::Given { version, by, at_ms } }, is_new))
}

/// Forgets a profile that was given, with all its versions; one that ships under the same name is in force again.
///
/// # Errors
/// There is none, it ships alone, or the metadata failed.
pub async fn remove(hub: &App, name: &str, by: &str) -> Result<(), ProfileError> {
    let key = name.to_owned();
    let step = move |changes: &mut Changes| {
        let Some(old) = changes.find::<ProfileRecord>(&key)? else {
            let is_shipped = shipped::named(&key).is_some();
            return Err(if is_shipped { ProfileError::Shipped(key) } else { ProfileError::Unknown(key) });
        };
        for version in old.version.saturating_sub(VERSIONS_MAX).max(1)..=old.version {
            changes.remove::<ProfileVersionRecord>(&version_key(&key, version))?;
        }
        changes.remove::<ProfileRecord>(&key)?;
        Ok(())
    };
    hub.blocking(move |hub| hub.metadata.change(step)).await?;
    tracing::info!(profile = name, by, "profile removed");
    Ok(())
}
