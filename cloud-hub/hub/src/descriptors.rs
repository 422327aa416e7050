//! How many files the process may have open, and how many connections each door may hold of them.
//!
//! A connection holds a descriptor, and the store needs some too: whoever only holds connections open
//! must not take them all. So all doors together have half of them.

use rlimit::Resource;

use crate::places::Limits;

/// Most connections of the HTTP door, and of the HTTPS door: a few hundred viewers with six each.
const WEB_MAX: usize = 2048;
/// Most connections of an MQTT door; a quiet one takes about 60 KB.
const MQTT_MAX: usize = 4096;
/// The part of the descriptors that one door may take; four doors leave half to the store, the
/// command socket and QUIC.
const DOOR_PART: usize = 8;
/// The part of a door's connections that one address may take: an office or a site behind one router
/// fits, and three more do too.
const ADDRESS_PART: usize = 4;
/// Fewest connections of one address, however few descriptors there are: two browsers.
const ADDRESS_MIN: usize = 12;
/// The part of an MQTT door's connections that may be of clients that have not said who they are.
const STRANGER_PART: usize = 8;
/// Fewest of them of one address, however few descriptors there are.
const STRANGER_MIN: usize = 4;

/// How many files this process may have open; [`usize::MAX`] where nothing limits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors(usize);

impl Descriptors {
    /// Raises the soft limit to the hard one, which is there for this: a process that uses `select` could
    /// not stand more than 1,024, and this one does not.
    #[must_use]
    pub fn raised() -> Self {
        let raised = rlimit::increase_nofile_limit(rlimit::INFINITY).or_else(|error| {
            tracing::warn!(%error, "the limit of open files (RLIMIT_NOFILE) cannot be raised");
            Ok(Resource::NOFILE.get()?.0)
        });
        let most = raised.unwrap_or_else(|error: std::io::Error| {
            tracing::warn!(%error, "the limit of open files (RLIMIT_NOFILE) is not known");
            rlimit::INFINITY
        });
        let own = Self(usize::try_from(most).unwrap_or(usize::MAX));
        let fit = own.0 / DOOR_PART;
        if fit < MQTT_MAX {
            tracing::warn!(
                limit = most,
                connections = fit,
                "few files may be open (RLIMIT_NOFILE), and so few connections of each listener: raise the hard limit with `ulimit -Hn` or LimitNOFILE= of the service to {}",
                MQTT_MAX * DOOR_PART
            );
        }
        own
    }

    /// As if so many were allowed.
    #[cfg(test)]
    pub const fn of(most: usize) -> Self {
        Self(most)
    }

    /// The connections of the HTTP door, and as many of the HTTPS door.
    #[must_use]
    pub fn web(self) -> Limits {
        self.door(WEB_MAX)
    }

    /// The connections of an MQTT door.
    #[must_use]
    pub fn mqtt(self) -> Limits {
        self.door(MQTT_MAX)
    }

    /// Those of [`Self::mqtt`] whose client has not said who it is.
    #[must_use]
    pub fn mqtt_strangers(self) -> Limits {
        let all = self.mqtt().all / STRANGER_PART;
        Limits { all, each: (all / ADDRESS_PART).max(STRANGER_MIN) }
    }

    fn door(self, most: usize) -> Limits {
        let all = (self.0 / DOOR_PART).min(most);
        Limits { all, each: (all / ADDRESS_PART).max(ADDRESS_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_doors_together_leave_half_of_the_descriptors() {
        for most in [64, 256, 1024, 4096, 1 << 20, usize::MAX] {
            let own = Descriptors(most);
            assert!(2 * own.web().all + 2 * own.mqtt().all <= most / 2, "{most}");
            assert!(own.mqtt_strangers().all <= own.mqtt().all / 8, "{most}");
        }
        let usual = Descriptors(1024);
        assert_eq!(usual.web(), Limits { all: 128, each: 32 });
        assert_eq!((usual.mqtt(), usual.mqtt_strangers()), (usual.web(), Limits { all: 16, each: 4 }));
        assert_eq!(Descriptors(256).web(), Limits { all: 32, each: ADDRESS_MIN });
        let much = Descriptors(1 << 20);
        assert_eq!(much.web(), Limits { all: 2048, each: 512 });
        assert_eq!(much.mqtt(), Limits { all: 4096, each: 1024 });
        assert_eq!(much.mqtt_strangers(), Limits { all: 512, each: 128 });
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let (soft, hard) = Resource::NOFILE.get().unwrap();
        Resource::NOFILE.set(soft.min(256), hard).unwrap();
        assert_eq!(Descriptors::raised(), Descriptors(usize::try_from(hard).unwrap()));
        assert_eq!(Resource::NOFILE.get().unwrap(), (hard, hard));
    }
}
