//! The profiles that ship with the product.

use crate::{Profile, ProfileError};

/// One profile, as it stands in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// The name of the family, and of its folder.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Its samples by name.
    pub samples: &'static [(&'static str, &'static str)],
}

impl Shipped {
    /// Parses it.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        Profile::parse(&format!("{}/profile.toml", self.name), self.text)
    }
}

macro_rules! shipped {
    ($($name:literal [$($sample:literal),*]),* $(,)?) => {
        [$(Shipped {
            name: $name,
            text: include_str!(concat!("../", $name, "/profile.toml")),
            samples: &[$(($sample, include_str!(concat!("../", $name, "/samples/", $sample, ".toml")))),*],
        }),*]
    };
}

/// All of them, by name, each with its samples.
pub const ALL: &[Shipped] = &shipped![
    "coap-sensor" ["room"],
    "eastron-sdm120" ["home"],
    "eastron-sdm630" ["three-phases"],
    "json-http" ["message"],
    "json-mqtt" ["message"],
    "linux-host" ["values"],
    "modbus-template" ["newer", "running"],
    "nmea-gps" ["fix", "no-fix"],
    "opcua-server" ["variables"],
    "shelly-plus-plug" ["announce", "on", "sensor-fault"],
    "sparkplug-node" ["birth"],
    "sunspec-inverter" ["modules", "noon"],
    "sunspec-inverter-float" ["modules", "noon"],
    "tasmota-plug" ["telemetry"],
    "zigbee2mqtt-temperature" ["reading"],
];

/// The one of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|shipped| shipped.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_read_and_have_the_name_of_their_folder() {
        for shipped in ALL {
            let profile = shipped.profile().unwrap();
            assert_eq!(profile.name(), shipped.name);
            assert!(
                shipped.name == "linux-host" || !profile.identity().documents.is_empty(),
                "{}",
                shipped.name
            );
            assert!(!profile.board().panels.is_empty(), "{}", shipped.name);
        }
        assert!(ALL.is_sorted_by_key(|shipped| shipped.name));
    }
}
