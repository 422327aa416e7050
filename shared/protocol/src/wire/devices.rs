//! What an agent says of the devices that it reads: the registry's half of a device profile.

use minicbor::{Decode, Encode};

use super::{KIND_DEVICES, WireError};
use crate::keep::{self, KeepRule};
use crate::model::{DeviceId, NAME_BYTES_MAX};

/// The ability of both ends to speak of devices, as named in hello and welcome.
pub const DEVICES_ABILITY: &str = "devices";
/// The ability of both ends to speak of what the profiles of devices say of retention, as named in hello and welcome.
pub const KEEP_ABILITY: &str = "keep";
/// The ability of both ends to speak of versions of profiles, as named in hello and welcome.
pub const PROFILE_ABILITY: &str = "profile";
/// Most cards in one message.
pub const CARDS_PER_MESSAGE_MAX: usize = 256;

/// What an agent knows of a device: its own host, or one behind it. An empty text is not known.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DeviceCard {
    /// The device.
    #[n(0)]
    pub device: DeviceId,
    /// The name of its profile.
    #[n(1)]
    pub profile: String,
    /// The version of its firmware, as it says it.
    #[n(2)]
    pub firmware: String,
    /// Who made it.
    #[n(3)]
    pub vendor: String,
    /// What the maker calls it.
    #[n(4)]
    pub model: String,
    /// How the agent reads it: the kind of its source and the address, without secrets.
    #[n(5)]
    pub via: String,
    /// What its profile says of how long its readings are kept, see [`crate::keep::keep_of`]; told to a hub that knows of it.
    #[n(6)]
    pub keeps: Option<Vec<KeepRule>>,
    /// Of what its profile says, so that two of one name can be told apart; told to a hub that knows of it.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub profile_digest: Option<[u8; 16]>,
}

impl DeviceCard {
    /// Of a device of which nothing else is known.
    #[must_use]
    pub const fn new(device: DeviceId) -> Self {
        Self {
            device,
            profile: String::new(),
            firmware: String::new(),
            vendor: String::new(),
            model: String::new(),
            via: String::new(),
            keeps: None,
            profile_digest: None,
        }
    }

    /// The same with every text cut to the [`NAME_BYTES_MAX`] bytes that a message may carry.
    #[must_use]
    pub fn cut(mut self) -> Self {
        for text in [&mut self.profile, &mut self.firmware, &mut self.vendor, &mut self.model, &mut self.via]
        {
            text.truncate(text.floor_char_boundary(NAME_BYTES_MAX));
        }
        self
    }

    fn longest(&self) -> usize {
        let texts = [&self.profile, &self.firmware, &self.vendor, &self.model, &self.via];
        texts.into_iter().map(String::len).max().unwrap_or(0)
    }
}

/// What the agent says of some of its devices. Said again in each session, and when it changes: what is lost with
/// a session comes with the next. A device that is left out stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Devices {
    /// At most [`CARDS_PER_MESSAGE_MAX`].
    #[n(0)]
    pub cards: Vec<DeviceCard>,
}

pub(super) fn check_devices(told: &Devices) -> Result<(), WireError> {
    let found = told.cards.len();
    if found > CARDS_PER_MESSAGE_MAX {
        return Err(WireError::TooLong { what: "list of devices", found, max: CARDS_PER_MESSAGE_MAX });
    }
    let found = told.cards.iter().map(DeviceCard::longest).max().unwrap_or(0);
    if found > NAME_BYTES_MAX {
        return Err(WireError::TooLong { what: "text of a device", found, max: NAME_BYTES_MAX });
    }
    for rules in told.cards.iter().filter_map(|card| card.keeps.as_deref()) {
        keep::check(rules).map_err(|reason| WireError::Malformed { kind: KIND_DEVICES, reason })?;
    }
    Ok(())
}
