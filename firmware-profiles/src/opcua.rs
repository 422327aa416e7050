//! OPC UA: how nodes are named in profiles and configurations (Part 6 of the specification, "NodeId").

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Most characters of a text or bytes that identify a node (Part 3, "NodeId").
const IDENTIFIER_MAX: usize = 4_096;
/// Where the hyphens of a GUID stand, and how long it is.
const GUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];
const GUID_CHARS: usize = 36;

/// A name of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name<'t> {
    /// Its id.
    Id {
        /// Its namespace.
        space: Space<'t>,
        /// The rest of it.
        identifier: Identifier<'t>,
    },
    /// Browse names below a node that is known, each with the number of its namespace.
    Path(Vec<(u16, &'t str)>),
}

/// A namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space<'t> {
    /// By its number, which a server may change when it starts.
    Index(u16),
    /// By its URI.
    Uri(&'t str),
}

/// What a node is called in its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identifier<'t> {
    /// `i=7`
    Number(u32),
    /// `s=Pump.Flow`
    Text(&'t str),
    /// `g=09087e75-8e5e-499b-954f-f2a9603db28a`, its bytes in the order of its digits.
    Guid([u8; 16]),
    /// `b=AQID`
    Bytes(Vec<u8>),
}

/// Reads a name: a node id, or a path of browse names below the folder Objects.
///
/// # Errors
/// It is none; says which part is wrong, and what is allowed.
pub fn parse(text: &str) -> Result<Name<'_>, String> {
    named(text).map_err(|what| {
        format!(
            "{text:?} names no node{what}; allowed are for example ns=2;s=Pump.Flow, nsu=urn:maker;i=7 and /2:Pump/2:Flow"
        )
    })
}

/// Whether a text names a node.
///
/// # Errors
/// As [`parse`].
pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn named(text: &str) -> Result<Name<'_>, &'static str> {
    if let Some(path) = text.strip_prefix('/') {
        return path.split('/').map(step).collect::<Result<_, _>>().map(Name::Path);
    }
    let has_namespace = text.starts_with("ns=") || text.starts_with("nsu=");
    let (space, id) = match text.split_once(';').filter(|_| has_namespace) {
        Some((space, id)) => (namespace(space)?, id),
        None => (Space::Index(0), text),
    };
    identifier(id).map(|identifier| Name::Id { space, identifier })
}

fn namespace(text: &str) -> Result<Space<'_>, &'static str> {
    if let Some(index) = text.strip_prefix("ns=") {
        return number(index).map(Space::Index).ok_or(": ns= takes a number up to 65535");
    }
    text.strip_prefix("nsu=").filter(|uri| !uri.is_empty()).map(Space::Uri).ok_or("")
}

/// A browse name as `2:Flow`; without a number it is of the namespace 0.
fn step(text: &str) -> Result<(u16, &str), &'static str> {
    let parted = text.split_once(':').filter(|(index, _)| digits(index));
    let (index, name) = match parted {
        Some((index, name)) => (number(index).ok_or(": a namespace has a number up to 65535")?, name),
        None => (0, text),
    };
    if name.is_empty() { Err(": a browse name is empty") } else { Ok((index, name)) }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    if digits(text) { text.parse().ok() } else { None }
}

fn identifier(text: &str) -> Result<Identifier<'_>, &'static str> {
    let (form, id) = text.split_once('=').ok_or("")?;
    match form {
        "i" => number(id).map(Identifier::Number).ok_or(": i= takes a number up to 4294967295"),
        "s" if (1..=IDENTIFIER_MAX).contains(&id.chars().count()) => Ok(Identifier::Text(id)),
        "s" => Err(": s= takes a text of 1 to 4096 characters"),
        "g" => guid(id)
            .map(Identifier::Guid)
            .ok_or(": g= takes a GUID, as g=09087e75-8e5e-499b-954f-f2a9603db28a"),
        "b" => BASE64_STANDARD
            .decode(id)
            .ok()
            .filter(|bytes| (1..=IDENTIFIER_MAX).contains(&bytes.len()))
            .map(Identifier::Bytes)
            .ok_or(": b= takes 1 to 4096 bytes in base64 with its padding, as b=AQIDBA=="),
        _ => Err(""),
    }
}

/// Eight, three times four and twelve hexadecimal digits.
fn guid(text: &str) -> Option<[u8; 16]> {
    if text.len() != GUID_CHARS || !text.is_ascii() {
        return None;
    }
    let mut all = 0_u128;
    for (at, c) in text.chars().enumerate() {
        if GUID_HYPHENS.contains(&at) {
            if c != '-' {
                return None;
            }
            continue;
        }
        all = all << 4 | u128::from(c.to_digit(16)?);
    }
    Some(all.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nodes_are_named_by_ids_and_paths() {
        for text in [
            "i=85",
            "ns=2;s=Pump;Flow",
            "s=Pump;Flow",
            "nsu=urn:maker;i=7",
            "ns=3;g=09087e75-8e5e-499b-954f-F2A9603DB28A",
            "ns=1;b=AQIDBA==",
            "/2:a/2:b",
            "/Flow:raw",
            "/65535:a",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "/",
            "/a//b",
            "/2:",
            "/65536:a",
            "i=x",
            "i=+7",
            "i=4294967296",
            "ns=70000;i=1",
            "ns=;i=1",
            "x=1",
            "ns=2",
            "s=",
            "nsu=;i=1",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_malformed_guid_or_base64_is_refused_with_a_hint() {
        for text in [
            "ns=3;g=pump",
            "ns=3;g=",
            "g=09087e758e5e499b954ff2a9603db28a",
            "g={09087e75-8e5e-499b-954f-f2a9603db28a}",
            "g=09087e75-8e5e-499b-954f-f2a9603db28",
            "g=09087e75-8e5e-499b-954f-f2a9603db28g",
            "g=09087e75-8e5e-499b-954ff-2a9603db28a",
            "g=+9087e75-8e5e-499b-954f-f2a9603db28a",
            "g=09087e75-8e5e-499b-954f-f2a9603db2ä",
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains("g= takes a GUID, as g=09087e75-"), "{error}");
        }
        for text in ["ns=3;b=*", "b=", "b=AQIDBA", "b=AQIDBB==", "b=AQID\n", "b=A_-D"] {
            let error = check(text).unwrap_err();
            assert!(error.contains("base64 with its padding, as b=AQIDBA=="), "{error}");
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let id = |space, identifier| Ok(Name::Id { space, identifier });
        assert_eq!(parse("i=85"), id(Space::Index(0), Identifier::Number(85)));
        assert_eq!(
            parse("nsu=http://maker.example/a=b;s=x"),
            id(Space::Uri("http://maker.example/a=b"), Identifier::Text("x"))
        );
        let guid = parse("g=00112233-4455-6677-8899-aabbccddeeff");
        let bytes =
            [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(guid, id(Space::Index(0), Identifier::Guid(bytes)));
        assert_eq!(parse("b=AQID"), id(Space::Index(0), Identifier::Bytes(vec![1, 2, 3])));
        assert_eq!(parse("/2:Pump/Flow:raw"), Ok(Name::Path(vec![(2, "Pump"), (0, "Flow:raw")])));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", id in "(ns=[0-9]{0,6};)?[isgb]=[-0-9a-fA-F=+/]{0,48}") {
            let _read = (parse(&text), parse(&id));
        }
    }
}
