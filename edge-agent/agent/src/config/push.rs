//! Doors that others push readings through, and what they must show there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use tideline_profiles::Profile;
use tideline_profiles::form::protocol::Protocol;
use tideline_profiles::json::Mapping;
use tideline_protocol::model::DeviceId;

use super::sources::Check;
use super::{DeviceConfig, Families, SourceKind};

/// Paths that take forms of their own, and so are no device's.
pub const OWN_PATHS: [&str; 3] = ["readings", "write", "api/v2/write"];

/// When whoever pushes readings is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// When they are durable.
    Durable,
    /// When they are on their way there.
    Accepted,
}

/// What a sender must show. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// None for an empty text.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }

    /// Whether this is it; how long that takes does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        given.as_bytes().ct_eq(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and what leads from it to the authority, PEM, leaf first.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// A door for readings that others push.
#[derive(Debug, Clone, PartialEq)]
pub struct PushDoor {
    /// Where it listens.
    pub listen: String,
    /// What senders must show.
    pub token: Option<Token>,
    /// What these devices must show in place of it.
    pub tokens: BTreeMap<DeviceId, Token>,
    /// When senders are answered.
    pub answered: Answered,
    /// For HTTPS in place of HTTP.
    pub certificate: Option<CertificateFiles>,
    /// Whose devices are taken as they appear.
    pub families: Vec<Arc<Profile>>,
}

impl Check<'_, '_, '_> {
    /// A door for HTTP.
    pub fn push_door(&mut self, families: Families<'_>) -> PushDoor {
        let (listen, token) = (self.text("listen"), Token::new(self.text("token")));
        match listen.parse::<SocketAddr>() {
            Err(_) => {
                self.problem(&format!(
                    "source.listen: {listen:?} is none; allowed is an address as 127.0.0.1:8091"
                ));
            }
            Ok(address) if !address.ip().is_loopback() && token.is_none() => {
                self.problem(&format!("source.token: needed, as others can reach {address}"));
            }
            Ok(_) => {}
        }
        let files = (self.text("cert_file"), self.text("key_file"));
        let certificate = match files {
            (certificate, key) if certificate.is_empty() && key.is_empty() => None,
            (certificate, key) => {
                if certificate.is_empty() || key.is_empty() {
                    self.problem(
                        "source.cert_file and source.key_file: one is given alone; HTTPS needs both, HTTP none",
                    );
                }
                Some(CertificateFiles { certificate: certificate.into(), key: key.into() })
            }
        };
        let answered = if self.text("answer") == "accepted" { Answered::Accepted } else { Answered::Durable };
        let families = self.families("http", families);
        for profile in families.iter().filter(|profile| !is_wide(profile)) {
            self.problem(&format!(
                "source.profiles: no path of {} has a place for {{device}}; a [[device]] can be told of it",
                profile.name()
            ));
        }
        PushDoor { listen, token, tokens: BTreeMap::new(), answered, certificate, families }
    }
}

/// Whether devices of a profile can be told from each other by their paths.
fn is_wide(profile: &Profile) -> bool {
    // Without a place for it the paths of two devices are the same.
    Mapping::of(profile).is_ok_and(|mapping| mapping.topics(Some("a")) != mapping.topics(Some("b")))
}

/// Whether a device can post to a door. One whose profile is of no HTTP uses the forms of the door's own.
pub fn fits(device: &DeviceConfig) -> Result<(), String> {
    if device.stream.is_some() {
        // What comes together is durable together, and so goes to one stream.
        return Err("device.stream: kind \"http\" has one stream for all".into());
    }
    let is_posted = |profile: &&Arc<Profile>| matches!(profile.protocol(), Protocol::Http(_));
    let Some(profile) = device.family.as_ref().filter(is_posted) else { return Ok(()) };
    let address = device.address.as_str();
    if address.starts_with('/') || address.contains(['?', '#', '+']) {
        return Err(format!(
            "device.address: {address:?} is no part of a path; allowed is what stands for the device there, without a \
             slash before it and without ?, # and +"
        ));
    }
    let mapping = Mapping::of(profile).map_err(|error| format!("device.profile: {error}"))?;
    let paths = mapping.topics(Some(if address.is_empty() { device.id.as_str() } else { address }));
    match paths.iter().find(|path| OWN_PATHS.contains(&path.as_str())) {
        Some(path) => {
            Err(format!("device.address: /{path} takes a form of its own; allowed is another path"))
        }
        None => Ok(()),
    }
}

/// Gives a device a token of its own.
pub fn entrust(kind: &mut SourceKind, device: &DeviceId, text: String) -> Result<(), String> {
    let name = kind.name();
    let SourceKind::Http(door) = kind else {
        return Err(format!("device.token: kind {name:?} asks devices for none"));
    };
    // A token says who sends.
    let of_another =
        door.tokens.iter().find(|(_, token)| token.is(&text)).map(|(other, _)| other.to_string());
    let of_all = door.token.as_ref().filter(|token| token.is(&text)).map(|_| "all, source.token".to_owned());
    if let Some(whose) = of_another.or(of_all) {
        return Err(format!("device.token: it is that of {whose} too; each device needs another"));
    }
    door.tokens.extend(Token::new(text).map(|token| (device.clone(), token)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{SourceKind, parse};

    const DOOR: &str =
        "[[source]]\nkind = \"http\"\nname = \"door\"\nlisten = \"0.0.0.0:8091\"\ntoken = \"s3cret\"\n";

    #[test]
    fn a_door_is_as_it_is_written_and_shows_no_token() {
        let text = format!(
            "{DOOR}cert_file = \"c.pem\"\nkey_file = \"k.pem\"\nprofiles = [\"json-http\"]\n\
             [[device]]\nid = \"pump\"\nsource = \"door\"\nprofile = \"json-http\"\naddress = \"hall/pump\"\ntoken = \"s3same\"\n\
             [[device]]\nid = \"box\"\nsource = \"door\"\n"
        );
        let config = parse("a.toml", &text, &[]).unwrap();
        let SourceKind::Http(door) = &config.sources[0].kind else { panic!() };
        assert!(door.token.as_ref().unwrap().is("s3cret") && !door.token.as_ref().unwrap().is("s3cre"));
        assert!(door.tokens[&"pump".parse().unwrap()].is("s3same") && door.tokens.len() == 1);
        assert_eq!(door.certificate.as_ref().unwrap().key.to_str(), Some("k.pem"));
        assert_eq!(door.families[0].name(), "json-http");
        let shown = format!("{config:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("s3same"), "{shown}");
    }

    #[test]
    fn all_that_is_wrong_with_a_door_is_told_at_once() {
        let device = |id: &str, more: &str| {
            format!("[[device]]\nid = \"{id}\"\nsource = \"door\"\nprofile = \"json-http\"\n{more}\n")
        };
        let text = [
            DOOR,
            "cert_file = \"c.pem\"\nprofiles = [\"json-mqtt\"]\n",
            &device("a", "address = \"/x\""),
            &device("readings", ""),
            &device("b", "token = \"s3cret\""),
            &device("c", "token = \"one\""),
            &device("d", "token = \"one\""),
            &device("e", "stream = \"default\""),
            "[[source]]\nkind = \"host\"\nname = \"own\"\n[[device]]\nid = \"f\"\nsource = \"own\"\ntoken = \"x\"\n",
        ]
        .concat();
        let error = parse("a.toml", &text, &[]).unwrap_err();
        let wanted = [
            "a.toml:1: source.cert_file and source.key_file: one is given alone",
            "a.toml:1: source.profiles: profile json-mqtt is of mqtt; needed is one of http",
            "a.toml:8: device.address: \"/x\" is no part of a path",
            "a.toml:13: device.address: /readings takes a form of its own",
            "a.toml:18: device.token: it is that of all, source.token too",
            "a.toml:28: device.token: it is that of c too",
            "a.toml:33: device.stream: kind \"http\" has one stream for all",
            "a.toml:41: device.token: kind \"host\" asks devices for none",
        ];
        assert_eq!(error.problems.len(), wanted.len(), "{error}");
        for (problem, part) in error.problems.iter().zip(wanted) {
            assert!(problem.starts_with(part), "{problem}: {part}");
        }
    }
}
