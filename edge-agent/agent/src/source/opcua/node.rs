//! How nodes are named in profiles and configurations, and what those names are at one server.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use opcua_types::{ByteString, Guid, Identifier, NodeId, QualifiedName, UAString};
use std::str::FromStr as _;

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

/// Reads a name, as [`tideline_profiles::opcua::check`] allows them.
///
/// # Errors
/// It is none; says what is allowed.
pub fn parse(text: &str) -> Result<Name, String> {
    tideline_profiles::opcua::check(text)?;
    if let Some(path) = text.strip_prefix('/') {
        return Ok(Name::Path(path.split('/').map(step).collect()));
    }
    let (space, id) = match text.split_once(';') {
        Some((space, id)) if space.starts_with("ns=") || space.starts_with("nsu=") => (space, id),
        _ => ("ns=0", text),
    };
    let space = match space.strip_prefix("ns=").map(str::parse) {
        Some(Ok(index)) => Space::Index(index),
        _ => Space::Uri(space.trim_start_matches("nsu=").to_owned()),
    };
    let identifier =
        identifier(id).ok_or_else(|| format!("{text:?} names no node: its last part is wrong"))?;
    Ok(Name::Id { space, identifier })
}

/// A browse name as `2:Flow`; without a number it is of the namespace 0.
fn step(text: &str) -> QualifiedName {
    let parted = text.split_once(':').and_then(|(index, name)| Some((index.parse::<u16>().ok()?, name)));
    let (index, name) = parted.unwrap_or((0, text));
    QualifiedName::new(index, name)
}

fn identifier(text: &str) -> Option<Identifier> {
    let (form, id) = text.split_once('=')?;
    Some(match form {
        "i" => Identifier::Numeric(id.parse().ok()?),
        "s" => Identifier::String(UAString::from(id)),
        "g" => Identifier::Guid(Guid::from_str(id).ok()?),
        "b" => Identifier::ByteString(ByteString::from(BASE64_STANDARD.decode(id).ok()?)),
        _ => return None,
    })
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
