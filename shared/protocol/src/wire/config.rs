//! What an agent says of its configuration: all values in force, each with where it comes from.
//!
//! The twin has no room for it: some hundred options of an agent with a few sources would be most of a document's leaves, and
//! each would have a history that nobody asks for. So an agent says in each session what names the values, and all of them
//! when the hub asks, which it does where it does not have these: a reconnect costs some twenty bytes.

use minicbor::{Decode, Encode};

use super::WireError;

/// The ability of both ends to speak of the agent's configuration, as named in hello and welcome.
pub const CONFIG_ABILITY: &str = "config";
/// Most options in one message.
pub const CONFIG_OPTIONS_MAX: usize = 4096;
/// Longest value in bytes of JSON.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4096;
/// Longest name of a section or an option, and of where a value comes from, in bytes.
pub const CONFIG_NAME_BYTES_MAX: usize = 256;
/// Most bytes of all texts of one message: the hub keeps it for each agent.
pub const CONFIG_BYTES_MAX: usize = 256 * 1024;

/// Which layer a value comes from, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum ConfigSource {
    /// Nobody has set it.
    #[n(0)]
    Default,
    /// The agent's file.
    #[n(1)]
    File,
    /// The environment.
    #[n(2)]
    Environment,
    /// The hub, by the twin.
    #[n(3)]
    Hub,
    /// The command line.
    #[n(4)]
    Flag,
}

impl ConfigSource {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Hub => "hub",
            Self::Flag => "flag",
        }
    }
}

/// One option in force.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ConfigOption {
    /// The section, with the item's name where there may be several: `source/meter`.
    #[n(0)]
    pub section: String,
    /// The option.
    #[n(1)]
    pub name: String,
    /// Its value as JSON; of a secret only that it is set.
    #[n(2)]
    pub value: String,
    /// Which layer it comes from.
    #[n(3)]
    pub source: ConfigSource,
    /// The environment's variable, or the flag; empty for the others.
    #[n(4)]
    pub from: String,
}

impl ConfigOption {
    fn bytes(&self) -> usize {
        [&self.section, &self.name, &self.value, &self.from].into_iter().map(String::len).sum()
    }

    /// Whether a message may carry it.
    #[must_use]
    pub fn fits(&self) -> bool {
        let names = [&self.section, &self.name, &self.from];
        names.into_iter().all(|text| text.len() <= CONFIG_NAME_BYTES_MAX)
            && self.value.len() <= CONFIG_VALUE_BYTES_MAX
    }
}

/// What is in force at an agent. Said in each session and when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ConfigInForce {
    /// Names the values: another digest, another value.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub digest: [u8; 16],
    /// Options that are in force and not told, as there are too many.
    #[n(1)]
    pub left_out: u32,
    /// All others, at most [`CONFIG_OPTIONS_MAX`] with [`CONFIG_BYTES_MAX`]; none where only the digest is told.
    #[n(2)]
    pub options: Option<Vec<ConfigOption>>,
}

impl ConfigInForce {
    /// Of these options as many as a message may carry, in their order.
    #[must_use]
    pub fn of(digest: [u8; 16], all: impl IntoIterator<Item = ConfigOption>) -> Self {
        let (mut options, mut bytes, mut left_out) = (Vec::new(), 0_usize, 0_u32);
        for option in all {
            let with_it = bytes.saturating_add(option.bytes());
            if option.fits() && with_it <= CONFIG_BYTES_MAX && options.len() < CONFIG_OPTIONS_MAX {
                bytes = with_it;
                options.push(option);
            } else {
                left_out = left_out.saturating_add(1);
            }
        }
        Self { digest, left_out, options: Some(options) }
    }

    /// The same, of which only the digest is told.
    #[must_use]
    pub const fn named(&self) -> Self {
        Self { digest: self.digest, left_out: self.left_out, options: None }
    }
}

/// The hub does not have the values of this digest, and asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ConfigAsked {
    /// As the agent has said it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub digest: [u8; 16],
}

pub(super) fn check_config(told: &ConfigInForce) -> Result<(), WireError> {
    let options = told.options.as_deref().unwrap_or_default();
    let over = |what, found, max| Err(WireError::TooLong { what, found, max });
    if options.len() > CONFIG_OPTIONS_MAX {
        return over("list of options", options.len(), CONFIG_OPTIONS_MAX);
    }
    let names = options.iter().flat_map(|option| [&option.section, &option.name, &option.from]);
    let longest = names.map(String::len).max().unwrap_or(0);
    if longest > CONFIG_NAME_BYTES_MAX {
        return over("name of an option", longest, CONFIG_NAME_BYTES_MAX);
    }
    let longest = options.iter().map(|option| option.value.len()).max().unwrap_or(0);
    if longest > CONFIG_VALUE_BYTES_MAX {
        return over("value of an option", longest, CONFIG_VALUE_BYTES_MAX);
    }
    let all = options.iter().map(ConfigOption::bytes).sum();
    if all > CONFIG_BYTES_MAX {
        return over("list of options", all, CONFIG_BYTES_MAX);
    }
    Ok(())
}
