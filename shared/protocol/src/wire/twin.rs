//! What carries the messages about one twin. What they say is the business of the crate `tideline-twin`; here they are bytes.

use std::fmt;
use std::str::FromStr;

use minicbor::decode::Error;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::WireError;
use crate::model::{DeviceId, GroupId, ModelError, SiteId};

/// The ability of both ends to speak of twins, as named in hello and welcome.
pub const TWIN_ABILITY: &str = "twin";
/// The ability of both ends to speak of the documents of groups, beside [`TWIN_ABILITY`]. An end without it takes such a message for
/// none at all, and ends the session.
pub const GROUPS_ABILITY: &str = "groups";
/// Longest message about a twin in bytes; a whole base is the longest.
pub const TWIN_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest body of a frame that carries one: the message, the document's name and their heads.
pub(super) const TWIN_BODY_MAX: usize = TWIN_BYTES_MAX + 128;

/// Which document: the twin of a device, or one that the devices of a site or of a group share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentId {
    /// A device's twin.
    Device(DeviceId),
    /// A site's document.
    Site(SiteId),
    /// A group's document.
    Group(GroupId),
}

const DEVICE: u8 = 0;
const SITE: u8 = 1;
const GROUP: u8 = 2;

impl DocumentId {
    /// What people call it: a device by its id alone, the others as `site/hall-2` and `group/pumps`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Device(device) => device.to_string(),
            Self::Site(_) | Self::Group(_) => self.to_string(),
        }
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "device/{device}"),
            Self::Site(site) => write!(f, "site/{site}"),
            Self::Group(group) => write!(f, "group/{group}"),
        }
    }
}

impl FromStr for DocumentId {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text.split_once('/') {
            Some(("site", name)) => Ok(Self::Site(SiteId::parse(name)?)),
            Some(("group", name)) => Ok(Self::Group(GroupId::parse(name)?)),
            Some(("device", name)) => Ok(Self::Device(DeviceId::parse(name)?)),
            _ => Ok(Self::Device(DeviceId::parse(text)?)),
        }
    }
}

impl<C> Encode<C> for DocumentId {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?;
        match self {
            Self::Device(device) => e.u8(DEVICE)?.encode_with(device, ctx)?,
            Self::Site(site) => e.u8(SITE)?.encode_with(site, ctx)?,
            Self::Group(group) => e.u8(GROUP)?.encode_with(group, ctx)?,
        };
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for DocumentId {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        if d.array()? != Some(2) {
            return Err(Error::message("a document is named by its kind and its name"));
        }
        match d.u8()? {
            DEVICE => Ok(Self::Device(d.decode_with(ctx)?)),
            SITE => Ok(Self::Site(d.decode_with(ctx)?)),
            GROUP => Ok(Self::Group(d.decode_with(ctx)?)),
            _ => Err(Error::message("a document is a device's (0), a site's (1) or a group's (2)")),
        }
    }
}

/// A message about one document, either way. Messages may be lost with a session: the next one begins with what each end has.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct TwinSync {
    /// Which document.
    #[n(0)]
    pub document: DocumentId,
    /// A message of the crate `tideline-twin`, at most [`TWIN_BYTES_MAX`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub message: Vec<u8>,
}

pub(super) fn check_twin(sync: &TwinSync) -> Result<(), WireError> {
    let found = sync.message.len();
    if found > TWIN_BYTES_MAX {
        return Err(WireError::TooLong { what: "message about a twin", found, max: TWIN_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_reads_back_from_its_name() {
        let device = DocumentId::Device(DeviceId::parse("pump-7").unwrap());
        let site = DocumentId::Site(SiteId::parse("hall-2").unwrap());
        let group = DocumentId::Group(GroupId::parse("pumps").unwrap());
        let all = [&device, &site, &group];
        assert_eq!(all.map(ToString::to_string), ["device/pump-7", "site/hall-2", "group/pumps"]);
        assert_eq!(all.map(DocumentId::name), ["pump-7", "site/hall-2", "group/pumps"]);
        for document in all {
            assert_eq!(document.to_string().parse().as_ref(), Ok(document));
            assert_eq!(document.name().parse().as_ref(), Ok(document));
        }
        assert_eq!("pump-7".parse(), Ok(device));
        assert!("room/hall-2".parse::<DocumentId>().is_err());
    }
}
