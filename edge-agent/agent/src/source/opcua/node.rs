//! How nodes are named in profiles and configurations, and what those names are at one server.

use std::collections::HashMap;

use opcua_types::{ByteString, Guid, Identifier, NodeId, QualifiedName};
use tideline_profiles::opcua;

/// The folder Objects, below which paths begin.
pub const OBJECTS: u32 = 85;

/// A name of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Name {
    /// Its id.
    Id {
        /// Its namespace.
        space: Space,
        /// The rest of it.
        identifier: Identifier,
    },
    /// Browse names, beginning below a node that is known.
    Path(Vec<QualifiedName>),
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// By its number, which a server may change when it starts.
    Index(u16),
    /// By its URI.
    Uri(String),
}

/// Reads a name, as [`opcua::parse`] allows them.
///
/// # Errors
/// It is none; says what is allowed.
pub fn parse(text: &str) -> Result<Name, String> {
    let step = |(index, name): (u16, &str)| QualifiedName::new(index, name);
    Ok(match opcua::parse(text)? {
        opcua::Name::Path(path) => Name::Path(path.into_iter().map(step).collect()),
        opcua::Name::Id { space, identifier } => Name::Id {
            space: match space {
                opcua::Space::Index(index) => Space::Index(index),
                opcua::Space::Uri(uri) => Space::Uri(uri.to_owned()),
            },
            identifier: match identifier {
                opcua::Identifier::Number(number) => Identifier::Numeric(number),
                opcua::Identifier::Text(text) => Identifier::String(text.into()),
                opcua::Identifier::Guid(bytes) => Identifier::Guid(guid(bytes)),
                opcua::Identifier::Bytes(bytes) => Identifier::ByteString(ByteString::from(bytes)),
            },
        },
    })
}

/// A GUID of bytes in the order of its digits: the crate takes them as they are sent (Part 6, "Guid"), where the numbers
/// before the last eight bytes are little-endian.
fn guid([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [u8; 16]) -> Guid {
    Guid::from_bytes([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

/// The id at a server that has these namespaces.
///
/// # Errors
/// It has no such namespace; says which it has.
pub fn resolve(
    space: &Space,
    identifier: &Identifier,
    spaces: &HashMap<String, u16>,
) -> Result<NodeId, String> {
    let namespace = match space {
        Space::Index(index) => *index,
        Space::Uri(uri) => *spaces.get(uri).ok_or_else(|| {
            let mut known: Vec<&str> = spaces.keys().map(String::as_str).collect();
            known.sort_unstable();
            format!("the server has no namespace {uri:?}; it has {}", known.join(", "))
        })?,
    };
    Ok(NodeId { namespace, identifier: identifier.clone() })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    #[test]
    fn names_are_ids_of_a_namespace_or_paths() {
        let id = |space, identifier| Ok(Name::Id { space, identifier });
        assert_eq!(parse("i=85"), id(Space::Index(0), Identifier::Numeric(85)));
        assert_eq!(parse("ns=2;s=Pump;Flow"), id(Space::Index(2), Identifier::String("Pump;Flow".into())));
        assert_eq!(
            parse("nsu=http://maker.example/a=b;i=7"),
            id(Space::Uri("http://maker.example/a=b".into()), Identifier::Numeric(7))
        );
        let bytes = Identifier::ByteString(ByteString::from(vec![1, 2, 3]));
        assert_eq!(parse("ns=1;b=AQID"), id(Space::Index(1), bytes));
        let guid = Guid::from_str("09087e75-8e5e-499b-954f-f2a9603db28a").unwrap();
        assert_eq!(
            parse("g=09087E75-8e5e-499b-954f-f2a9603db28a"),
            id(Space::Index(0), Identifier::Guid(guid))
        );
        let path = vec![QualifiedName::new(2, "Pump"), QualifiedName::new(0, "Flow:raw")];
        assert_eq!(parse("/2:Pump/Flow:raw"), Ok(Name::Path(path)));
        for wrong in ["", "/", "ns=1;g=no-guid", "ns=1;b=*", "s=", "Pump"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_namespace_is_found_by_its_uri_whatever_its_number_is() {
        let spaces = HashMap::from([("urn:a".to_owned(), 3), ("urn:b".to_owned(), 2)]);
        let at = |uri: &str| resolve(&Space::Uri(uri.into()), &Identifier::Numeric(7), &spaces);
        assert_eq!(at("urn:a"), Ok(NodeId::new(3, 7_u32)));
        assert_eq!(at("urn:c"), Err("the server has no namespace \"urn:c\"; it has urn:a, urn:b".into()));
    }
}
